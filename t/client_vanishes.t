# A client that goes away: nothing half is ever delivered, and its node
# connection is not left behind.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $plain = $t->node('plain', ehlo => ['PIPELINING']);
my $slow = $t->node('slow', script => { eod => { delay => 0.3 } });
$t->keys(user => 'secret');
$t->certificates('localhost');

$t->start(<<'EOC');
stream {
    log_format  event  "$smtp_relay_event $smtp_relay_message_status";
    access_log  access.log  event;

    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;
    ssl_certificate       localhost.crt;
    ssl_certificate_key   localhost.key;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_plain%%;
        smtp_relay_pass  127.0.0.1:%%PORT_plain%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_slow%%;
        smtp_relay_pass  127.0.0.1:%%PORT_slow%%;
    }
}
EOC

my @contents = (
    '', 'half a line', "whole lines\r\n" x 10, "ends in CR\r",
    "ends in CRLF\r\n", "ends in a dot\r\n.", "nearly the end\r\n.\r",
    "large\r\n" x 20000,
);

for my $port ('smtp', 'smtps', 'to_plain') {
    my $n = $port eq 'to_plain' ? $plain : $node;

    for my $content (@contents) {
        for my $how ('close', 'reset', 'shut_write') {
            next if $how eq 'shut_write' && $port eq 'smtps';

            my $name = "$port, $how behind \"" . visible($content, 20) . '"';
            my $c = $t->session($port, tls => $port eq 'smtps');

            $c->envelope('a@b.example', 'c@d.example');
            $c->must('DATA', '354');
            my $connection = $n->connections();

            $c->send($content);
            $c->$how();

            like($n->ended($connection), qr/^(eof|reset)$/,
                 "$name: the node connection is closed");
        }
    }

    is($n->count(), 0, "$port: no message is delivered");
    is(scalar(() = $n->messages()), 0, "$port: nor is the end of one sent");
}

# in a chunk

for my $how ('close', 'reset') {
    for my $port ('smtp', 'to_plain') {
        my $n = $port eq 'smtp' ? $node : $plain;
        my $c = $t->session($port);

        $c->envelope('a@b.example', 'c@d.example');
        $c->send("BDAT 6\r\nwhole\n");
        $c->reply();
        my $connection = $n->connections();
        $c->send("BDAT 100 LAST\r\nhalf");
        $c->$how();

        like($n->ended($connection), qr/^(eof|reset)$/,
             "$port, $how in a chunk: the node connection is closed");
        is($n->count(), 0, "$port, $how in a chunk: nothing is delivered");
    }
}

# in the envelope, before and at login

for my $how ('close', 'reset') {
    my $c = $t->session('smtp');
    $c->envelope('a@b.example', 'c@d.example');
    my $connection = $node->connections();
    $c->$how();
    ok($node->released($connection),
       "$how in the envelope: the node is let go of");

    $c = $t->session('smtp');
    $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\nDATA\r\n");
    $c->$how();

    $c = $t->client('smtp');
    $c->$how();

    $c = $t->greeted('smtp');
    $c->send('AUTH PLA');
    $c->$how();

    $c = $t->greeted('smtp');
    $c->must('AUTH LOGIN', '334');
    $c->$how();
}

is($node->count(), 0, 'nothing is delivered');

# behind the end of data: the message is whole, the node decides

my $c = $t->session('to_slow');
$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
$c->send("whole\r\n.\r\n");
ok(wait_until { scalar(() = $slow->messages()) }, 'a whole message');
$c->close();
ok($slow->wait_messages(1), 'is delivered though its client has left');

# nothing is left behind

ok(wait_until { scalar(grep { /^session/ } $t->lines('access.log')) >= 60 },
   'every session is logged');
is((grep { /^message 250/ } $t->lines('access.log')) <= 1, 1,
   'and no message as delivered that was not');

is($t->session('smtp')->message("text\r\n") =~ /^250/, 1, 'nginx serves on');

done_testing();
