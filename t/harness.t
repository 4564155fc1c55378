# The harness itself: the scripted node and auth service against the client,
# with no nginx between them.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

# a node without a script

my $node = $t->node('node');
my $c = $t->client('node');

$c->expect('220 node.example', 'node greets');
$c->try('EHLO a.example', qr/^250-node\.example\n.*250-CHUNKING\n.*250 SIZE$/s,
        'node offers extensions');
$c->try('MAIL FROM:<a@b>', '250 2.1.0', 'node takes a sender');
$c->try('RCPT TO:<c@d>', '250 2.1.5', 'node takes a recipient');
$c->try('DATA', '354', 'node takes data');
$c->send("..a\r\n.b\nc\r\r\n\n.\n\r\n.\r\nNOOP\r\n");
$c->expect('250 2.0.0 Ok: queued as 1-1', 'node takes a message');
$c->expect('250', 'node goes on behind a message');

my ($message) = $node->wait_messages(1);
is($message->{data}, ".a\r\nb\nc\r\r\n\n.\n\r\n",
   'node ends data at CRLF.CRLF only and takes dots off lines');
is($message->{mail}, 'FROM:<a@b>', 'node keeps the sender');
is_deeply($message->{rcpt}, ['TO:<c@d>'], 'node keeps recipients');

for my $at (0 .. 5) {
    $c->envelope('a@b', 'c@d')->must('DATA', '354');
    $c->send_cut("\r\n.\r\n", $at);
    $c->expect('250', "node finds the end of data cut at $at");
}

$c->envelope('a@b', 'c@d')->must('DATA', '354');
$c->send(".\r\n");
$c->expect('250', 'node takes an empty message');

$c->envelope('a@b', 'c@d');
$c->line('BDAT 3');
$c->send('abc');
$c->expect('250', 'node takes a chunk');
$c->line('BDAT 0 LAST');
$c->expect('250', 'node takes the last chunk');

$message = ($node->wait_messages(9))[8];
is($message->{data}, 'abc', 'node joins chunks');
is($message->{how}, 'BDAT', 'node tells how content came');

$c->try('QUIT', '221', 'node says goodbye');
$c->expect_closed('node closes');
is($node->ended(1), 'quit', 'end of a connection is known');
is($node->connections(), 1, 'connections are counted');
is(($node->commands(1))[0], 'EHLO a.example', 'commands are kept');
like($node->received(1), qr/\r\n\.b\nc\r\r\n/, 'octets are kept');

# a node with a script

$node = $t->node('odd',
    ehlo => [], split => 1,
    script => {
        connect => { pieces => ["220-a\r\n", "220 b\r\n"] },
        MAIL => ['250 ok', "451-4.3.0 a\n451 4.3.0 b", undef],
        RCPT => sub { $_[0] =~ /bad/ ? '550 no' : undef },
        DATA => { gate => 'data' },
        NOOP => ':silent',
        HELP => ':reset',
        RSET => { reply => '250 ok', then => ':close' },
    });

$c = $t->client('odd');
$c->expect("220-a\n220 b", 'scripted greeting');
$c->try('EHLO a', '250 node.example', 'no extensions');
$c->try('MAIL FROM:<>', '250 ok', 'first action of a list');
$c->try('MAIL FROM:<>', "451-4.3.0 a\n451 4.3.0 b", 'second action');
$c->try('RCPT TO:<bad>', '550', 'code decides');
$c->try('RCPT TO:<good>', '250 2.1.5', 'code leaves the usual reply');
$c->line('DATA');
ok($c->is_silent(), 'node waits at a gate');
$node->open_gate('data');
$c->expect('354', 'node passes an open gate');
$c->send(".\r\n");
$c->expect('250', 'and goes on');
$c->try('RSET', '250 ok', 'node replies, then closes');
$c->expect_closed('node has closed');

$c = $t->client('odd');
$c->reply();
$c->line('NOOP');
ok($c->is_silent(), 'silent node');
$c->close();
is($node->ended(2), 'eof', 'node sees the end of a connection');

$c = $t->client('odd');
$c->reply();
$c->line('HELP');
is($c->state(), 'reset', 'node resets a connection');

$c = $t->client('odd');
$c->reply();
$c->reset();
is($node->ended(4), 'reset', 'node sees a reset');

$node->stop();
ok(!eval { $t->client('odd') }, 'stopped node refuses connections');
$node->start();
$c = $t->client('odd');
$c->expect('220', 'node starts again on its port');
is($node->connections(), 5, 'and goes on counting');

# an auth service

my $auth = $t->auth_service('auth',
    users => { user => 'secret' },
    answer => sub {
        my ($request) = @_;

        return $request->{line} =~ m!/raw! ? "HTTP/1.0 500 No\r\n\r\n"
             : $request->{line} =~ m!/code! ? [401, { 'Auth-Wait' => 1 }]
             : $request->{line} =~ m!/close! ? ':close'
             : undef;
    });

my $whole = qr/\r\n\r\n/;

$c = $t->client('auth');
$c->send("GET / HTTP/1.1\r\nAuth-User: user\r\nAuth-Pass: secret\r\n\r\n");
like($c->drain(0.1, $whole), qr/^HTTP\/1\.1 200 .*\r\nAuth-Status: OK\r\n/s,
     'user is known');
$c->send("GET / HTTP/1.1\r\nAuth-User: user\r\nAuth-Pass: wrong\r\n\r\n");
like($c->drain(0.1, $whole), qr/\r\nAuth-Status: Invalid login/, 'bad secret');
$c->send("GET /raw HTTP/1.1\r\n\r\n");
is($c->drain(0.1, $whole), "HTTP/1.0 500 No\r\n\r\n", 'raw octets');
$c->send("GET /code HTTP/1.1\r\n\r\n");
like($c->drain(0.1, $whole), qr/^HTTP\/1\.1 401 .*\r\nAuth-Wait: 1\r\n/s,
     'status');
$c->send("GET /close HTTP/1.1\r\n\r\n");
$c->expect_closed('service closes');

my @requests = $auth->wait_requests(5);
is($requests[1]{headers}{'auth-pass'}, 'wrong', 'headers are kept');
is($requests[1]{number}, 2, 'number on the connection');
is($auth->connections(), 1, 'one connection');

# this test has no nginx to be ended

Test::More::done_testing();
