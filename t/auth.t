# AUTH PLAIN and LOGIN in the forms that clients use, and its bounds.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use MIME::Base64 qw/ encode_base64 /;
use Time::HiRes qw/ time /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys(user => 'sesame', 'me@example.com' => 'pass word', long => 'x' x 6000,
         "\xc3\xbcser" => 'sesame');

# everything is logged, so that it shows whether a secret is

$t->start(<<'EOC', log_level => 'debug');
stream {
    smtp_relay_starttls            off;
    smtp_relay_hostname            relay.example;
    smtp_relay_auth_file           keys;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;

    server {
        listen                 127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_max_errors  0;
    }

    server {
        listen                   127.0.0.1:%%PORT_plain%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_methods  plain;
    }

    server {
        listen                        127.0.0.1:%%PORT_failures%%;
        smtp_relay_pass               127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_max_failures  3;
    }

    server {
        listen                         127.0.0.1:%%PORT_delay%%;
        smtp_relay_pass                127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_failure_delay  400ms;
    }
}
EOC

my $c;

sub b64 { return encode_base64($_[0], '') }

# PLAIN

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . b64("\0user\0sesame"), '235 2.7.0',
        'PLAIN with initial response');

$c = $t->greeted('smtp');
$c->try('auth plain ' . b64("\0user\0sesame"), '235 2.7.0', 'in lower case');

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN', qr/\A334 ?\z/, 'PLAIN without initial response');
$c->try(b64("\0user\0sesame"), '235 2.7.0', 'and the response');

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . b64("user\0user\0sesame"), '235 2.7.0',
        'PLAIN with the user as identity');

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . b64("\0me\@example.com\0pass word"), '235 2.7.0',
        'PLAIN with an address and a blank in the secret');

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . b64("\0\xc3\xbcser\0sesame"), '235 2.7.0',
        'PLAIN with UTF-8');

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . b64("\0long\0" . 'x' x 6000), '235 2.7.0',
        'PLAIN with a long secret: 8 KiB of base64');

$c = $t->greeted('smtp');
$c->send_split('AUTH PLAIN ' . b64("\0user\0sesame") . "\r\n", 1);
$c->expect('235 2.7.0', 'PLAIN octet by octet');

# LOGIN

$c = $t->greeted('smtp');
$c->try('AUTH LOGIN', '334 VXNlcm5hbWU6', 'LOGIN asks for the user name');
$c->try(b64('user'), '334 UGFzc3dvcmQ6', 'then for the password');
$c->try(b64('sesame'), '235 2.7.0', 'and is done');

$c = $t->greeted('smtp');
$c->try('AUTH login ' . b64('user'), '334 UGFzc3dvcmQ6',
        'LOGIN with initial user asks for the password');
$c->try(b64('sesame'), '235 2.7.0', 'and is done');

$c = $t->greeted('smtp');
$c->try('AUTH LOGIN =', qr/^(334|501)/, 'LOGIN with an empty user');

# denied

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . b64("\0user\0wrong"), '535 5.7.8', 'wrong secret');
$c->try('AUTH PLAIN ' . b64("\0nobody\0sesame"), '535 5.7.8', 'unknown user');
$c->try('AUTH PLAIN ' . b64("\0user\0sesame1"), '535 5.7.8',
        'a secret that starts like the right one');
$c->try('AUTH PLAIN ' . b64("\0user\0sesam"), '535 5.7.8',
        'the start of the right secret');
$c->must('AUTH LOGIN', '334');
$c->must(b64('user'), '334');
$c->try(b64('wrong'), '535 5.7.8', 'LOGIN with a wrong secret');
$c->try('MAIL FROM:<a@b.example>', '530 5.7.0 Authentication required',
        'no mail after that');
$c->try('AUTH PLAIN ' . b64("\0user\0sesame"), '235 2.7.0',
        'but the right secret');
$c->try('MAIL FROM:<a@b.example>', '250', 'then mail');

# before and after

$c = $t->greeted('smtp');
$c->try('MAIL FROM:<a@b.example>', '530 5.7.0 Authentication required',
        'MAIL before AUTH');
$c->login('user', 'sesame');
$c->try('AUTH PLAIN ' . b64("\0user\0sesame"), '503 5.5.1', 'AUTH again');
$c->try('AUTH LOGIN', '503 5.5.1', 'AUTH LOGIN again');
$c->try('EHLO b', '250', 'EHLO keeps the login');
$c->try('RSET', '250', 'RSET, too');
$c->try('MAIL FROM:<a@b.example>', '250', 'mail after it');
$c->try('AUTH PLAIN ' . b64("\0user\0sesame"), '503 5.5.1',
        'AUTH within a message');
is($node->connections() > 0, 1, 'a node is used after AUTH only');

$c = $t->client('smtp');
$c->must(undef, '220');
$c->try('AUTH PLAIN ' . b64("\0user\0sesame"), qr/^(503 5\.5\.1|235)/,
        'AUTH before EHLO');

# cancelled and broken

$c = $t->greeted('smtp');
$c->must('AUTH PLAIN', '334');
$c->try('*', '501 5.0.0', 'PLAIN cancelled');
$c->must('AUTH LOGIN', '334');
$c->try('*', '501 5.0.0', 'LOGIN cancelled at the user name');
$c->must('AUTH LOGIN', '334');
$c->must(b64('user'), '334');
$c->try('*', '501 5.0.0', 'LOGIN cancelled at the password');
$c->try('NOOP', '250', 'the session goes on');

for my $bad ('!!!', 'A', 'AB=C', 'AAAA====', 'AHVzZXIAc2VzYW1l x',
             "AHVzZXIA\tc2VzYW1l", '*AAA', '====')
{
    $c->try("AUTH PLAIN $bad", qr/^501 5\.5\.[24]/,
            'PLAIN that is not base64: ' . visible($bad));
}

for my $bad ("user\0sesame", "\0user", "\0\0sesame", "\0user\0", 'x', '',
             "\0us\ner\0sesame", "\0us\rer\0sesame", "\0user\0ses\name",
             "\0\xffuser\0sesame", "\0user\0sesame\0more",
             "\0" . 'u' x 256 . "\0sesame")
{
    $c->try('AUTH PLAIN ' . (b64($bad) || '='), qr/^(501 5\.5\.2|535 5\.7\.8)/,
            'PLAIN that is not the mechanism\'s: ' . visible($bad, 30));
}

$c->must('AUTH PLAIN', '334');
$c->try('!!!', '501 5.5.2', 'response that is not base64');
$c->must('AUTH LOGIN', '334');
$c->try('!!!', '501 5.5.2', 'user name that is not base64');
$c->must('AUTH LOGIN', '334');
$c->must(b64('user'), '334');
$c->try('c2VzYW1l!', '501 5.5.2', 'password that is not base64');
$c->must('AUTH LOGIN', '334');
$c->must(b64("us\r\ner"), qr/^(334|501|535)/);
$c->try('*', qr/^50/, 'user name with a line end');

$c->try('AUTH', '501 5.5.4', 'AUTH without a mechanism');
$c->try('AUTH CRAM-MD5', '504 5.5.4', 'mechanism that is not configured');
$c->try('AUTH NONSENSE x', '504 5.5.4', 'unknown mechanism');
$c->try('AUTH PLAINX', '504 5.5.4', 'name that starts like a known one');

$c->try('AUTH PLAIN ' . 'A' x 12400, '500 5.5.6', 'initial response too long');
$c->must('AUTH PLAIN', '334');
$c->try('A' x 12400, '500 5.5.6', 'response too long');
$c->try('NOOP', '250', 'the session goes on');
$c->login('user', 'sesame');

$c = $t->greeted('plain');
$c->try('AUTH LOGIN', '504 5.5.4', 'LOGIN where only PLAIN is configured');
$c->try('AUTH PLAIN ' . b64("\0user\0sesame"), '235', 'PLAIN');

# pipelined behind AUTH

$c = $t->greeted('smtp');
$c->send('AUTH PLAIN ' . b64("\0user\0sesame")
         . "\r\nMAIL FROM:<a\@b.example>\r\nNOOP\r\n");
$c->expect('235', 'AUTH in one packet with what follows');
$c->expect('250 2.1.0', 'MAIL, in its turn');
$c->expect('250', 'NOOP, in its turn');

# failures

$c = $t->greeted('failures');

for (1 .. 3) {
    $c->try('AUTH PLAIN ' . b64("\0user\0wrong"), '535 5.7.8', "failure $_");
}

$c->try('AUTH PLAIN ' . b64("\0user\0sesame"), '421 4.7.0 relay.example',
        'no login after smtp_relay_auth_max_failures, were it the right one');
$c->expect_closed('but the end of the session');

my $start = time();
$c = $t->greeted('delay');
$c->line('AUTH PLAIN ' . b64("\0user\0wrong"));
ok($c->is_silent(0.15), 'the reply to a failure is delayed');
$c->line('NOOP');
$c->expect('535 5.7.8', 'and comes');
cmp_ok(time() - $start, '>=', 0.35, 'when it is due');
$c->expect('250', 'what was sent in between is answered behind it');
$start = time();
$c->login('user', 'sesame');
cmp_ok(time() - $start, '<', 0.35, 'a login that is OK is not delayed');

# a client that leaves in the delay

$c = $t->greeted('delay');
$c->line('AUTH PLAIN ' . b64("\0user\0wrong"));
$c->close();

# secrets

$t->stop();

my $log = $t->read('error.log');

for my $secret ('sesame1', b64("\0user\0sesame"), b64("\0user\0wrong"),
                'pass word', 'xxxxxxxxxxxx', b64('wrong'))
{
    ok(index($log, $secret) < 0, 'not in the log: ' . visible($secret));
}

unlike($log, qr/sesame/, 'not in the log: the right one');

done_testing();
