# Names of nodes and of auth services that come from variables, and no
# resolver: the client is told to come again, the log says why.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    map $remote_addr $name { default  somewhere.example; }

    smtp_relay_starttls  off;

    server {
        listen                127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       $name:25;
    }

    server {
        listen                127.0.0.1:%%PORT_auth%%;
        smtp_relay_auth       http://$name/;
        smtp_relay_pass       127.0.0.1:25;
    }
}
EOC

my $c = $t->session('node', user => 'user', secret => 'secret');
my $mail = $c->ask('MAIL FROM:<a@a.example>');
my $reply = $mail =~ /^250/ ? $c->ask('RCPT TO:<b@b.example>') : $mail;
like($reply, qr/^4\d\d 4\./, 'a node: a temporary failure');
ok($t->wait_log(qr/\[error\].*no resolver defined to resolve somewhere/),
   'a node: the log says why');
like($c->ask('RSET'), qr/^250/, 'a node: the session goes on');

my $d = $t->greeted('auth');
like($d->ask('AUTH PLAIN ' . $d->plain('user', 'secret')), qr/^454 4\./,
     'an auth service: a temporary failure');
ok(wait_until { $t->log_lines(qr/no resolver defined to resolve some/) == 2 },
   'an auth service: the log says why');
like($d->ask('NOOP'), qr/^250/, 'an auth service: the session goes on');

done_testing();
