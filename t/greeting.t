# The greeting: its text, and a delay that shows clients that do not wait.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Sys::Hostname qw/ hostname /;
use Time::HiRes qw/ time /;

my $t = SMTPRelay::Test->new();
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    server {
        listen           127.0.0.1:%%PORT_default%%;
        smtp_relay_pass  127.0.0.1:%%PORT_none%%;
    }

    server {
        listen               127.0.0.1:%%PORT_named%%;
        smtp_relay_pass      127.0.0.1:%%PORT_none%%;
        smtp_relay_hostname  smtp.example.com;
    }

    server {
        listen               127.0.0.1:%%PORT_variable%%;
        smtp_relay_pass      127.0.0.1:%%PORT_none%%;
        smtp_relay_hostname  port-$server_port.example.com;
    }

    server {
        listen                     127.0.0.1:%%PORT_delay%%;
        smtp_relay_pass            127.0.0.1:%%PORT_none%%;
        smtp_relay_hostname        delay.example.com;
        smtp_relay_greeting_delay  400ms;
    }
}
EOC

my $c = $t->client('default');
my $reply = $c->reply();
is(lc $reply, lc('220 ' . hostname() . ' ESMTP ready'),
   'greets with the name of the machine');

$c = $t->client('named');
$c->expect(qr/\A220 smtp\.example\.com ESMTP ready\z/,
           'greets with the configured name');
$c->try('EHLO a', qr/\A250-smtp\.example\.com Hello a$/m, 'EHLO has it, too');
$c->try('QUIT', '221 2.0.0 smtp.example.com closing connection',
        'QUIT has it, too');
$c->expect_closed('QUIT closes');

$c = $t->client('variable');
$c->expect('220 port-' . $t->port('variable') . '.example.com ESMTP ready',
           'the name may have variables');

# delay

my $start = time();
$c = $t->client('delay');
ok($c->is_silent(0.15), 'the greeting is delayed');
$c->expect('220 delay.example.com ESMTP ready', 'a client that waits is greeted');
cmp_ok(time() - $start, '>=', 0.35, 'after the configured time');
$c->try('EHLO a', '250', 'and served');

$c = $t->client('delay');
$c->line('EHLO early');
$c->expect('554 5.5.1', 'a client that talks first is refused');
$c->expect_closed('and closed');
ok($t->wait_log(qr/\[info\].*client: 127\.0\.0\.1/), 'which is logged');

$c = $t->client('delay');
$c->send("x");
$c->expect('554 5.5.1', 'one octet is enough');
$c->expect_closed('to be closed');

# going away in the delay is no error

$t->client('delay')->close();
$t->client('delay')->reset();

done_testing();
