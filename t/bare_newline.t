# smtp_relay_bare_newline: a CR or LF on its own in content.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    server {
        listen           127.0.0.1:%%PORT_default%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_normalize%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_bare_newline  normalize;
    }

    server {
        listen                   127.0.0.1:%%PORT_reject%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_bare_newline  reject;
    }
}
EOC

my @cases = (
    ["a\nb\r\n", "a\r\nb\r\n", 'LF'],
    ["a\rb\r\n", "a\r\nb\r\n", 'CR'],
    ["a\r\r\nb\r\n", "a\r\n\r\nb\r\n", 'CR CR LF'],
    ["a\n\rb\r\n", "a\r\n\r\nb\r\n", 'LF CR'],
    ["\na\r\n", "\r\na\r\n", 'LF at the start'],
    ["\ra\r\n", "\r\na\r\n", 'CR at the start'],
    ["a\n\r\n", "a\r\n\r\n", 'LF at the end'],
    ["a\r\n\n.b\n\n\r\n", undef, 'several'],
);

for my $port ('default', 'normalize') {
    my $c = $t->session($port);

    for my $case (@cases) {
        my ($content, $want, $name) = @$case;

        like($c->message($content), qr/^250/, "$port: $name is taken");
        is($node->last_message()->{data}, $want, "$port: $name is a line end")
            if defined $want;
    }
}

ok($t->wait_log(qr/\[info\].*bare/i), 'it is noted in the log');

my $count = $node->count();
my $c = $t->session('reject');

for my $case (@cases) {
    my ($content, undef, $name) = @$case;

    is($c->message($content) =~ /^(550 5\.5\.2)/ && $1, '550 5.5.2',
       "reject: $name");
}

is($node->count(), $count, 'reject: nothing is delivered');

$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
$c->send("a\nb\r\n" . "c\r\n" x 1000);
ok($c->is_silent(), 'reject: the reply waits for the end of data');
$c->send(".\r\nNOOP\r\n");
$c->expect('550 5.5.2', 'reject: and comes then');
$c->expect('250', 'reject: the session goes on');

$c->envelope('a@b.example', 'c@d.example');
$c->line('BDAT 4 LAST');
$c->send("a\nb\n");
$c->expect(qr/^550 5\.5\.2/, 'reject: in BDAT, too');

is($c->message("good\r\n") =~ /^250/, 1, 'reject: a good message is taken');
is($node->last_message()->{data}, "good\r\n", 'reject: and delivered');
is($node->count(), $count + 1, 'reject: it alone');

done_testing();
