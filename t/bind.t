# smtp_relay_bind: the address that connections to nodes start from.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
$t->node('inner');
$t->keys(user => 'secret');

# a server of stream in front of the node tells where a connection comes from

$t->start(<<'EOC');
stream {
    log_format  from  "$remote_addr";

    smtp_relay_starttls            off;
    smtp_relay_auth_file           keys;
    smtp_relay_bind                127.0.0.2;
    smtp_relay_keepalive           4;

    map $smtp_relay_mail_from $local {
        volatile;
        default                    "";
        a@three.example            127.0.0.3;
        a@four.example             127.0.0.4;
        a@nonsense.example         nonsense;
    }

    server {
        listen           127.0.0.1:%%PORT_node%%;
        access_log       from.log  from;
        proxy_pass       127.0.0.1:%%PORT_inner%%;
    }

    server {
        listen           127.0.0.1:%%PORT_fixed%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_off%%;
        smtp_relay_bind  off;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_variable%%;
        smtp_relay_bind  $local;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

message('fixed', 'a@any.example', 'an address');
message('off', 'a@any.example', 'off');
message('variable', 'a@three.example', 'a variable');
message('variable', 'a@four.example', 'another value of it');
message('variable', 'a@four.example', 'the same value');
message('variable', 'a@none.example', 'an empty value');
message('variable', 'a@nonsense.example', 'what is no address');

ok($t->wait_log(qr/invalid local address "nonsense"/),
   'what is no address is logged');

# connections wait for more messages: they end with nginx

$t->stop();

is(join(' ', sort $t->lines('from.log')),
   '127.0.0.1 127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.4',
   'connections come from these addresses; one that is kept serves only'
   . ' messages that want its address');

done_testing();


# A message in a session of its own.

sub message {
    my ($port, $from, $name) = @_;

    my $c = $t->session($port, user => 'user', secret => 'secret');

    $c->must("MAIL FROM:<$from>", '250');
    $c->must('RCPT TO:<b@b.example>', '250');
    $c->must('DATA', '354');
    like($c->ask("X-Test: yes\r\n\r\nHello\r\n."), qr/^250/, $name);
    $c->must('QUIT', '221');
    return;
}
