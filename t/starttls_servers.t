# Several servers on one address: the name that the client gives with TLS
# chooses among them after STARTTLS as it does with "listen ... ssl".

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

plan(skip_all => 'nginx chooses a stream server by name since 1.25.5')
    unless $t->has_version('1.25.5');

my $node = $t->node('node');
$t->keys(user => 'secret');
$t->certificates('localhost');

$t->start(<<'EOC');
stream {
    ssl_certificate       localhost.crt;
    ssl_certificate_key   localhost.key;
    smtp_relay_auth_file  keys;

    server {
        listen                  127.0.0.1:%%PORT_smtp%%;
        server_name             one.example;
        smtp_relay_hostname     one.example;
        smtp_relay_pass         127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                       127.0.0.1:%%PORT_smtp%%;
        server_name                  two.example;
        smtp_relay_hostname          two.example;
        smtp_relay_max_message_size  1k;
        smtp_relay_pass              127.0.0.1:%%PORT_node%%;
    }
}
EOC

for my $case (['one.example', 'one.example', 52428800],
              ['two.example', 'two.example', 1024],
              ['other.example', 'one.example', 52428800])
{
    my ($name, $server, $size) = @$case;

    my $c = $t->client('smtp', sni => $name);
    $c->expect(qr/^220 one\.example /, 'before TLS it is the default server');
    $c->must('EHLO client.example', '250');
    $c->must('STARTTLS', '220');
    ok($c->start_tls(), "TLS with the name $name");

    my $reply = $c->ask('EHLO client.example');
    like($reply, qr/\A250-\Q$server\E Hello/, "comes to $server");
    like($reply, qr/^250[- ]SIZE $size$/m, 'with its limits');

    is(substr($c->ask('AUTH PLAIN ' . $c->plain('user', 'secret')), 0, 3),
       '235', 'AUTH');
    like($c->message("text of $name\r\n"), qr/^250/, 'a message');
}

is($node->count(), 3, 'all messages are at the node');

done_testing();
