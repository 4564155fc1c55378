# A session of many messages does not grow, nor does a large message.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

plan(skip_all => 'memory figures mean nothing here')
    if SMTPRelay::Test->is_instrumented();

my $t = SMTPRelay::Test->new();
my $node = $t->node('node', keep => 0);
$t->keys(user => 'secret');

spew($t->dir() . '/log_format.conf',
     slurp("$FindBin::Bin/../docs/examples/log_format.conf"));

$t->start(<<'EOC', log_level => 'notice');
stream {
    log_format  all  "$smtp_relay_event $smtp_relay_mail_from $upstream_addr "
                     "$smtp_relay_message_reply $mapped";

    include     log_format.conf;
    access_log  all.log  all;
    access_log  all.json  smtp_relay_json  buffer=32k;
    access_log  messages.log  smtp_relay_message  if=$smtp_relay_is_message;

    map $smtp_relay_mail_from $mapped {
        default  <$smtp_relay_mail_from>;
    }

    upstream nodes {
        server  127.0.0.1:%%PORT_node%%;
        server  127.0.0.1:%%PORT_node%%;
    }

    smtp_relay_starttls            off;
    smtp_relay_auth_file           keys;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    smtp_relay_max_errors          0;
    smtp_relay_max_message_size    0;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  nodes;
    }
}
EOC

my $c = $t->session('smtp');

# messages

my $one = "MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\nDATA\r\n";

messages(500);
my $before = $t->memory();
messages(4500);
my $after = $t->memory();

is($node->count(), 5000, '5000 messages');
cmp_ok($after - $before, '<=', 64,
       'memory from message 500 to message 5000, KB');

# the same for all else that a session can do over and over

my %repeated = (
    'commands' => "NOOP\r\n",
    'EHLO' => "EHLO client.example\r\n",
    'messages given up' => "MAIL FROM:<a\@b.example>\r\nRSET\r\n",
    'messages refused' => "MAIL FROM:<a\@b.example\r\n",
    'errors' => "XYZZY\r\n",
    'long lines' => 'x' x 20000 . "\r\n",
);

for my $name (sort keys %repeated) {
    repeat($repeated{$name}, 300);
    $before = $t->memory();
    repeat($repeated{$name}, 2000);
    cmp_ok($t->memory() - $before, '<=', 64, "memory over 2000 $name, KB");
}

$c = $t->greeted('smtp');

my $login = 'AUTH PLAIN ' . $c->plain('user', 'wrong') . "\r\n";
repeat($login, 300);
$before = $t->memory();
repeat($login, 2000);
cmp_ok($t->memory() - $before, '<=', 64, 'memory over 2000 failed logins, KB');

# large content: by the buffers, not by its size

$c = $t->session('smtp');
like($c->message("x\r\n" x 10000), qr/^250/, 'a message');
$before = $t->memory();

$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
my $block = join '', map { 'x' x 70 . "\r\n" } 1 .. 1000;
$c->send($block) for 1 .. 200;
cmp_ok($t->memory() - $before, '<=', 256, 'memory within a message of 14 MB');
$c->send(".\r\n");
$c->expect('250', 'it is taken');

# idle sessions hold no buffers of data

my @idle = map { $t->session('smtp') } 1 .. 20;
$before = $t->memory();
push @idle, map { $t->session('smtp') } 1 .. 100;
cmp_ok(($t->memory() - $before) / 100, '<=', 8,
       'memory of an idle session, KB');

done_testing();


# Sends messages, the end of one with the envelope of the next.

sub messages {
    my ($number) = @_;

    $c->send($one);

    for my $n (1 .. $number) {
        $c->must(undef, $_) for '250', '250', '354';
        $c->send("text\r\n.\r\n" . ($n < $number ? $one : ''));
        $c->must(undef, '250');
    }
}


sub repeat {
    my ($octets, $number) = @_;

    my $replies = () = $octets =~ /\r\n/g;

    for (1 .. $number) {
        $c->send($octets);
        $c->reply() for 1 .. $replies;
    }
}
