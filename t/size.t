# Sizes and numbers: of a message, of its recipients, of messages.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $small = $t->node('small', ehlo => ['SIZE 500', 'PIPELINING'], script => {
    MAIL => sub { $_[0] =~ /SIZE=(\d+)/ && $1 > 500
                  ? '552 5.3.4 Too big for me' : undef },
});
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname   relay.example;
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    server {
        listen                       127.0.0.1:%%PORT_size%%;
        smtp_relay_pass              127.0.0.1:%%PORT_node%%;
        smtp_relay_max_message_size  1000;
    }

    server {
        listen                       127.0.0.1:%%PORT_large%%;
        smtp_relay_pass              127.0.0.1:%%PORT_node%%;
        smtp_relay_max_message_size  100k;
    }

    server {
        listen                       127.0.0.1:%%PORT_unlimited%%;
        smtp_relay_pass              127.0.0.1:%%PORT_node%%;
        smtp_relay_max_message_size  0;
    }

    server {
        listen           127.0.0.1:%%PORT_to_small%%;
        smtp_relay_pass  127.0.0.1:%%PORT_small%%;
    }

    server {
        listen                     127.0.0.1:%%PORT_recipients%%;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
        smtp_relay_max_recipients  3;
    }

    server {
        listen                   127.0.0.1:%%PORT_messages%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_max_messages  2;
    }
}
EOC

# as announced

my $c = $t->session('size');
$c->try('MAIL FROM:<a@b.example> SIZE=1001', '552 5.3.4', 'SIZE= too big');
$c->try('RCPT TO:<c@d.example>', '503', 'no message was begun');
$c->try('MAIL FROM:<a@b.example> SIZE=99999999999999999999999',
        qr/^(552 5\.3\.4|501 5\.5\.4)/, 'SIZE= out of all numbers');
is($node->connections(), 0, 'no node was asked');
$c->try('MAIL FROM:<a@b.example> SIZE=1000', '250', 'SIZE= as big as allowed');
$c->try('RSET', '250', 'RSET');

# as sent

my @lines = map { 'x' x 98 . "\r\n" } 1 .. 10;

like($c->message(join '', @lines), qr/^250/, 'as big as allowed: taken');

my $count = $node->count();
$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
$c->send(join '', @lines, 'y');
ok($c->is_silent(), 'one octet too many: no reply before the end');
$c->send("\r\n.\r\nNOOP\r\n");
$c->expect('552 5.3.4', 'but then');
$c->expect('250', 'the session goes on');
is($node->count(), $count, 'it is not delivered');

like($c->message(join '', @lines), qr/^250/, 'a good one after it');
is($node->count(), $count + 1, 'is delivered');

like($c->message("..\r\n" x 10 . 'z' x 968 . "\r\n"), qr/^250/,
     'dots put on do not count');

# far too big

$count = $node->count();
$c = $t->session('large');
my $big = join '', map { "far too big $_\r\n" } 1 .. 60000;
is($c->message($big) =~ /^(552 5\.3\.4)/ && $1, '552 5.3.4',
   'far too big: read to its end');
$c->try('NOOP', '250', 'the session goes on');
is($node->count(), $count, 'it is not delivered');
my $last = $node->connections();
like($node->ended($last), qr/^(eof|reset)$/,
   'the node connection that had its start is closed');
unlike($node->received($last), qr/\r\n\.\r\n/, 'without an end of data');

# told by SIZE=, and lied

$c->must('MAIL FROM:<a@b.example> SIZE=10', '250');
$c->must('RCPT TO:<c@d.example>', '250');
$c->must('DATA', '354');
$c->send("$big.\r\n");
$c->expect('552 5.3.4', 'bigger than told and than allowed');

# in chunks

$c = $t->session('size');
$c->envelope('a@b.example', 'c@d.example');
$c->send('BDAT 600 LAST' . "\r\n" . 'x' x 598 . "\r\n");
$c->must(undef, '250');
$count = $node->count();
$c->envelope('a@b.example', 'c@d.example');
$c->send("BDAT 600\r\n" . 'x' x 598 . "\r\n");
$c->must(undef, '250');
$c->send("BDAT 600 LAST\r\n" . 'x' x 598 . "\r\n");
$c->expect('552 5.3.4', 'chunks that are too big together');
$c->try('NOOP', '250', 'the session goes on');
$c->must('RSET', '250');
$c->envelope('a@b.example', 'c@d.example');
$c->send("BDAT 5000\r\n" . "RSET\r\n" x 833 . "\r\n");
$c->expect('552 5.3.4', 'a chunk that is too big');
$c->try('NOOP', '250', 'its octets were no commands');
is($node->count(), $count, 'nothing of it is delivered');

# no limit

$c = $t->session('unlimited');
$c->try('MAIL FROM:<a@b.example> SIZE=99999999999', '250', 'any SIZE=');
$c->must('RSET', '250');
like($c->message($big), qr/^250/, 'any message');
is($node->last_message()->{data}, $big, 'is delivered');

# the node's limit

$c = $t->session('to_small');
$c->try('MAIL FROM:<a@b.example> SIZE=501', '552 5.3.4',
        "more than the node takes");
$c->must('RSET', '250');
$c->try('MAIL FROM:<a@b.example> SIZE=500', '250', 'what the node takes');

# recipients

$c = $t->session('recipients');
$c->must('MAIL FROM:<a@b.example>', '250');
$c->try("RCPT TO:<r$_\@d.example>", '250', "recipient $_") for 1 .. 3;
$c->try('RCPT TO:<r4@d.example>', '452 4.5.3', 'one too many');
$c->try('RCPT TO:<r5@d.example>', '452 4.5.3', 'another');
$c->must('DATA', '354');
$c->send("x\r\n.\r\n");
$c->expect('250', 'the message is taken');
is(scalar @{ $node->last_message()->{rcpt} }, 3, 'for the first three');
$c->must('MAIL FROM:<a@b.example>', '250');
$c->try('RCPT TO:<r6@d.example>', '250', 'the next message starts from none');

# messages

$c = $t->session('messages');
like($c->message("$_\r\n"), qr/^250/, "message $_") for 1 .. 2;
$count = $node->count();
$c->line('MAIL FROM:<a@b.example>');
like($c->drain(0.5, qr/\n/), qr/\A4(21 4\.[57]\.\d|5[12] 4\.\d\.\d)/,
     'a message more than smtp_relay_max_messages')
    or diag($c->dialogue());
is($node->count(), $count, 'is not delivered');

done_testing();
