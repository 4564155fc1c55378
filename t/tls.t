# Implicit TLS, and TLS where it is not expected.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys(user => 'secret');
$t->certificates('localhost');

$t->start(<<'EOC');
stream {
    log_format  event  "$smtp_relay_event $smtp_relay_protocol $ssl_protocol";
    access_log  access.log  event;

    smtp_relay_auth_file  keys;
    ssl_certificate       localhost.crt;
    ssl_certificate_key   localhost.key;

    server {
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                     127.0.0.1:%%PORT_delay%%;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
        smtp_relay_greeting_delay  5s;
    }
}
EOC

my $c = $t->session('smtps', tls => 1);
is($c->message("text\r\n"), '250 2.0.0 Ok: queued as 1-1',
   'a message is delivered over TLS');
$c->try('STARTTLS', '503 5.5.1', 'STARTTLS in TLS');
$c->must('QUIT', '221');
$c->expect_closed('QUIT closes');

my @lines = $t->wait_lines('access.log', 2);
like($lines[0], qr/^message ESMTPSA TLSv1\.\d$/, '$ssl_protocol of a message');
like($lines[1], qr/^session ESMTPSA TLSv1\.\d$/, '$ssl_protocol of a session');

$c = $t->client('smtps', tls => 1);
$c->must(undef, '220');
$c->send_split("EHLO a.example\r\n", 1);
$c->expect('250', 'a command in records of one octet');

my $content = join '', map { sprintf "line %05d\r\n", $_ } 1 .. 40000;
$c->login();
$c->message($content);
is(($node->wait_messages(2))[1]{data}, $content,
   'a message of many TLS records is delivered');

# TLS where plain text is expected: a client that has 465 and 587 mixed up

for my $port ('smtp', 'delay') {
    $c = $t->client($port);
    $c->must(undef, '220') if $port eq 'smtp';

    ok(!$c->start_tls(), "TLS to the plain listener \"$port\" fails");
    like($c->state(), qr/closed|reset|octets/, 'and the connection ends');
}

my @log = grep { /TLS|SSL/ && /plain|ClientHello|handshake/i }
          $t->lines('error.log');
cmp_ok(scalar @log, '>=', 1, 'the log says what it was');

# only the record's start

$c = $t->client('smtp');
$c->must(undef, '220');
$c->send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
is($c->drain(), '', 'half a ClientHello is closed without an answer');

done_testing();
