# Every silence of a client has an end: 421 4.4.2, and the connection closed.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ time sleep /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->node('late_node', script => { RCPT => { reply => '250 2.1.5 Ok',
                                            delay => 1.5 } });
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    log_format  event  "$smtp_relay_event $server_port $status";
    access_log  access.log  event;

    smtp_relay_hostname       relay.example;
    smtp_relay_starttls       off;
    smtp_relay_auth_file      keys;
    smtp_relay_login_timeout  10s;
    smtp_relay_timeout        10s;
    smtp_relay_data_timeout   10s;

    server {
        listen                    127.0.0.1:%%PORT_login%%;
        smtp_relay_pass           127.0.0.1:%%PORT_node%%;
        smtp_relay_login_timeout  600ms;
    }

    server {
        listen              127.0.0.1:%%PORT_command%%;
        smtp_relay_pass     127.0.0.1:%%PORT_node%%;
        smtp_relay_timeout  600ms;
    }

    server {
        listen              127.0.0.1:%%PORT_late%%;
        smtp_relay_pass     127.0.0.1:%%PORT_late_node%%;
        smtp_relay_timeout  600ms;
    }

    server {
        listen                   127.0.0.1:%%PORT_data%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_data_timeout  600ms;
    }

    # time enough for a step, not for all of them

    server {
        listen                   127.0.0.1:%%PORT_steps%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_timeout       2s;
        smtp_relay_data_timeout  2s;
    }
}
EOC

my $late = qr/\A421 4\.4\.2 relay\.example [^\n]+\z/;
my ($c, $start);

# login

$start = time();
$c = $t->client('login');
$c->must(undef, '220');
$c->expect($late, 'login_timeout: silence behind the greeting');
$c->expect_closed('closed');
took('login_timeout');

$start = time();
$c = $t->greeted('login');
my $reply = '';

while (time() - $start < patience(5)) {
    $c->line('NOOP') or last;
    $reply = $c->reply(0.5);
    last unless $reply =~ /^250/;
    sleep(0.05);
}

like($reply, $late, 'login_timeout: commands other than AUTH do not help');
took('login_timeout, with commands');

$start = time();
$c = $t->greeted('login');
$c->must('AUTH LOGIN', '334');
$c->expect($late, 'login_timeout: silence within AUTH');
$c->expect_closed('closed');
took('login_timeout, within AUTH');

$c = $t->session('login');
ok($c->is_silent(0.9), 'login_timeout: over after AUTH');
$c->try('NOOP', '250', 'the session goes on');

# commands

$c = $t->session('command');
$start = time();
$c->expect($late, 'timeout: silence after AUTH');
$c->expect_closed('closed');
took('timeout');

$c = $t->session('steps');

for (1 .. 10) {
    sleep(0.25);
    $c->must('NOOP', '250');
}

ok(1, 'timeout: each command starts it again');

$c = $t->session('command');

$c->send('NO');
$start = time();
$c->expect($late, 'timeout: silence within a line');
$c->expect_closed('closed');
took('timeout within a line');

$c = $t->session('command');
$c->envelope('a@b.example', 'c@d.example');
my $connection = $node->connections();
$c->expect($late, 'timeout: silence within an envelope');
$c->expect_closed('closed');
ok($node->released($connection), 'the node is let go of');

# it is the node that is late

$c = $t->session('late');
$c->must('MAIL FROM:<a@b.example>', '250');
$start = time();
$c->try('RCPT TO:<late@d.example>', '250',
        'timeout: not while the client waits for a reply');
cmp_ok(time() - $start, '>', 1, 'which came late');
$start = time();
$c->expect($late, 'timeout: silence behind the reply');
$c->expect_closed('closed');
took('timeout behind a late reply');

# data

for my $content ('', 'half', "lines\r\n" x 10, "lines\r\n.") {
    $c = $t->session('data');
    $c->envelope('a@b.example', 'c@d.example');
    $c->must('DATA', '354');
    $connection = $node->connections();
    $c->send($content);
    $start = time();
    $c->expect($late, 'data_timeout behind "' . visible($content, 20) . '"');
    $c->expect_closed('closed');
    took('data_timeout');
    like($node->ended($connection), qr/^(eof|reset)$/,
         'the node connection is closed');
}

$c = $t->session('steps');
$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');

for (1 .. 10) {
    sleep(0.25);
    $c->send("line\r\n");
}

$c->send(".\r\n");
$c->expect('250', 'data_timeout: each read starts it again');

$c = $t->session('data');
$c->envelope('a@b.example', 'c@d.example');
$c->send("BDAT 100\r\nhalf");
$c->expect($late, 'data_timeout: silence within a chunk');
$c->expect_closed('closed');

is($node->count(), 1, 'nothing half is delivered');

# the log

ok($t->wait_log(qr/\[info\].*timed out/), 'it is logged at info');
my $port = $t->port('command');
ok(wait_until { grep { $_ eq "session $port 408" } $t->lines('access.log') },
   '$status of the session is 408');

done_testing();


sub took {
    my ($name) = @_;

    my $time = time() - $start;
    ok($time > 0.4 && $time < patience(3), "$name: in time")
        or diag("after $time seconds");
}
