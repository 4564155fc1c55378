# Peers that do not read: whoever sends is held, nothing is heaped up, and
# every wait has an end.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ time /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node', script => {
    DATA => { hold => 'read' },
});
my $stuck = $t->node('stuck', script => {
    DATA => { hold => 'never' },
});
my $plain = $t->node('plain');
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_starttls          off;
    smtp_relay_auth_file         keys;
    smtp_relay_max_message_size  0;
    smtp_relay_max_errors        0;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                    127.0.0.1:%%PORT_to_stuck%%;
        smtp_relay_pass           127.0.0.1:%%PORT_stuck%%;
        smtp_relay_reply_timeout  500ms;
    }

    server {
        listen                    127.0.0.1:%%PORT_to_plain%%;
        smtp_relay_pass           127.0.0.1:%%PORT_plain%%;
        smtp_relay_timeout        500ms;
        smtp_relay_login_timeout  500ms;
    }
}
EOC

my $line = 'x' x 98 . "\r\n";
my $block = $line x 10000;              # a megabyte

# a node that stops reading

my $c = $t->session('smtp');
$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');

my $before = $t->memory();
my $sent = 0;

while ($sent < 100 * length $block) {
    my $n = $c->send_some($block, 0.3);
    $sent += $n;
    last if $n < length $block;
}

cmp_ok($sent, '<', 60 * length $block, 'a client is held when its node is');
cmp_ok($t->memory() - $before, '<=', 1024, 'memory meanwhile, KB')
    unless $t->is_instrumented();

my $other = $t->session('smtp');
$other->try('NOOP', '250', 'other sessions go on');

# it reads again: everything arrives, in order

my $rest = (length($block) - $sent % length $block) % length $block;
$node->open_gate('read');
ok($c->send(substr $block, length($block) - $rest), 'the client goes on');
$c->send(".\r\n");
$c->expect('250', 'the message is taken');
is(length $node->last_message()->{data}, $sent + $rest,
   'and it is whole, all octets');
ok($node->last_message()->{data} eq $line x (($sent + $rest) / length $line),
   'in their order');

# a node that never reads again

$c = $t->session('to_stuck');
$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
my $start = time();

# all that the client can send is read, so that it can see the reply
for (1 .. 60) {
    last unless $c->send_some($block, patience(2)) == length $block;
}

$c->send(".\r\n");
$c->expect(qr/^451 4\.4\.[12]/, 'a node that never reads: 451');
cmp_ok(time() - $start, '<', patience(9), 'in time');
$c->try('NOOP', '250', 'the session goes on');
is($stuck->count(), 0, 'nothing is delivered');

# a client that sends and never reads its replies

$c = $t->session('to_plain');
$before = $t->memory();
$sent = $c->send_some("HELP\r\n" x 3_000_000, 0.2);
cmp_ok($t->memory() - $before, '<=', 1024,
       'memory for replies that are not read, KB')
    unless $t->is_instrumented();
cmp_ok($sent, '<', 18_000_000, 'the client is held');
ok($t->wait_log(qr/\[info\].*timed out/), 'and closed in time');

my $got = $c->drain(1);
like($got, qr/\A(?:214[^\r\n]*\r\n)+/, 'what it got are replies');

# the same before AUTH

$c = $t->client('to_plain');
$c->send_some("EHLO a\r\n" x 1_000_000, 0.2);
my $state = time();
1 while $c->send_some("NOOP\r\n", 0.1) && time() - $state < patience(3);
ok(time() - $state < patience(3), 'login_timeout ends it as well');

is($t->session('to_plain')->message("x\r\n") =~ /^250/, 1, 'nginx serves on');

done_testing();
