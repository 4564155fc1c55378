# STARTTLS: nginx's own TLS directives work behind it, and nothing that came
# before it survives it.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys(user => 'secret');
$t->certificates('localhost', 'one.example', 'two.example', 'client.example');

$t->start(<<'EOC');
stream {
    log_format  event  "$smtp_relay_event $ssl_protocol $ssl_server_name";
    access_log  access.log  event;

    smtp_relay_auth_file  keys;

    # no server here has "listen ... ssl"

    server {
        listen               127.0.0.1:%%PORT_required%%;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
        ssl_certificate      localhost.crt;
        ssl_certificate_key  localhost.key;
    }

    server {
        listen               127.0.0.1:%%PORT_on%%;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
        smtp_relay_starttls  on;
        ssl_certificate      localhost.crt;
        ssl_certificate_key  localhost.key;
    }

    server {
        listen               127.0.0.1:%%PORT_off%%;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
        smtp_relay_starttls  off;
    }

    map $ssl_server_name $name {
        one.example  one.example;
        two.example  two.example;
        default      localhost;
    }

    server {
        listen               127.0.0.1:%%PORT_sni%%;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
        ssl_certificate      %%TESTDIR%%/$name.crt;
        ssl_certificate_key  %%TESTDIR%%/$name.key;
    }

    server {
        listen                  127.0.0.1:%%PORT_verify%%;
        smtp_relay_pass         127.0.0.1:%%PORT_node%%;
        ssl_certificate         localhost.crt;
        ssl_certificate_key     localhost.key;
        ssl_verify_client       on;
        ssl_client_certificate  ca.crt;
    }

    server {
        listen                 127.0.0.1:%%PORT_slow%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        ssl_certificate        localhost.crt;
        ssl_certificate_key    localhost.key;
        ssl_handshake_timeout  300ms;
    }

    server {
        listen               127.0.0.1:%%PORT_version%%;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
        ssl_certificate      localhost.crt;
        ssl_certificate_key  localhost.key;
        ssl_protocols        TLSv1.2;
    }
}
EOC

# the usual way

my $c = $t->greeted('required');
$c->try('STARTTLS', qr/\A220 2\.0\.0 Ready to start TLS\z/, 'STARTTLS');
ok($c->start_tls(), 'TLS starts');
$c->try('STARTTLS', '503 5.5.1', 'STARTTLS in TLS');
$c->try('EHLO secure.example', '250', 'EHLO');
$c->login();
is($c->message("text\r\n"), '250 2.0.0 Ok: queued as 1-1',
   'a message is delivered');
$c->must('QUIT', '221');

is((grep { /^session TLSv1/ } $t->wait_lines('access.log', 2))[0]
   =~ /^session (TLSv1\S+)/ ? 'TLS' : '', 'TLS',
   '$ssl_protocol of a session with STARTTLS');

$c = $t->client('required');
$c->must(undef, '220');
$c->try('starttls', '220', 'STARTTLS without EHLO, in lower case');
ok($c->start_tls(), 'TLS starts');
$c->try('EHLO a', '250', 'EHLO');

# refused

$c = $t->greeted('required');
$c->try('STARTTLS now', '501 5.5.4', 'STARTTLS with an argument');
$c->try('STARTTLS', '220', 'and without');
$c->close();

$c = $t->greeted('off');
$c->try('STARTTLS', '502 5.5.1', 'STARTTLS where it is off');

# required: nothing else before

$c = $t->greeted('required');
my $must = '530 5.7.0 Must issue a STARTTLS command first';

for my $command ('MAIL FROM:<a@b.example>', 'RCPT TO:<c@d.example>', 'DATA',
                 'VRFY a', 'BDAT 0 LAST',
                 'AUTH PLAIN ' . $c->plain('user', 'secret'), 'AUTH LOGIN')
{
    $c->try($command, $must, "$command before TLS");
}

$c->try('NOOP', '250', 'NOOP before TLS');
$c->try('RSET', '250', 'RSET before TLS');
$c->try('HELP', '214', 'HELP before TLS');
$c->try('HELO a', '250', 'HELO before TLS');
$c->try('QUIT', '221', 'QUIT before TLS');

# the state is forgotten

$c = $t->greeted('on');
$c->login();
$c->envelope('before@tls.example', 'rcpt@tls.example');
$c->must('STARTTLS', '220');
ok($c->start_tls(), 'TLS starts in a session that has logged in');
$c->try('MAIL FROM:<a@b.example>', qr/^(503 5\.5\.1|530 5\.7\.0)/,
        'EHLO and AUTH from before TLS are forgotten');
$c->must('EHLO a', '250');
$c->try('RCPT TO:<c@d.example>', qr/^(503 5\.5\.1|530 5\.7\.0)/,
        'the message begun before TLS is forgotten');
$c->try('MAIL FROM:<a@b.example>', '530 5.7.0 Authentication required',
        'AUTH is needed again');
$c->login();
like($c->message("text\r\n", 'after@tls.example'),
     qr/^250 2\.0\.0 Ok: queued/, 'and then messages flow')
    or diag($node->dialogue());

my ($last) = reverse $node->messages();
is($last->{mail} =~ /<(.*?)>/ && $1, 'after@tls.example',
   'nothing from before TLS is in them');

# commands in plain text behind STARTTLS

for my $behind ("EHLO inject.example\r\n", "RSET\r\n", "x") {
    my $connections = $node->connections();

    $c = $t->greeted('on');
    $c->send("STARTTLS\r\n$behind");
    like($c->drain(), qr/\A(220 [^\n]*\n)?\z/,
         'no answer to what follows STARTTLS in plain text: '
         . visible($behind));
}

$c = $t->greeted('on');
$c->login();
$c->send("STARTTLS\r\nMAIL FROM:<inject\@b.example>\r\n"
         . "RCPT TO:<c\@d.example>\r\nDATA\r\n");
like($c->drain(), qr/\A(220 [^\n]*\n)?\z/, 'the connection is closed');
unlike(join('', map { $node->received($_) } 1 .. $node->connections()),
       qr/inject/, 'and a node sees nothing of it');

$c = $t->greeted('required');
$c->must('STARTTLS', '220');
$c->send("EHLO inject.example\r\n");
unlike($c->drain(), qr/250/, 'plain text in place of a handshake');

# nginx's own directives

for my $name ('one.example', 'two.example') {
    $c = $t->greeted('sni', sni => $name);
    $c->must('STARTTLS', '220');
    ok($c->start_tls(), "TLS with the name $name");
    is($c->peer_name(), $name, "gives the certificate of $name");
}

$c = $t->greeted('verify', cert => $t->dir() . '/client.example.crt',
                 key => $t->dir() . '/client.example.key');
$c->must('STARTTLS', '220');
ok($c->start_tls(), 'TLS with a client certificate');
$c->try('EHLO a', '250', 'which is accepted');

for my $case (['', 'without a client certificate'],
              ['stranger', 'with a certificate of another CA'])
{
    my ($cert, $name) = @$case;

    $c = $t->greeted('verify', $cert ? (cert => $t->dir() . "/$cert.crt",
                                        key => $t->dir() . "/$cert.key")
                                     : ());
    $c->must('STARTTLS', '220');
    $c->start_tls();
    like($c->state(), qr/^(closed|reset)$/, "$name there is no session");
}

ok($t->wait_log(qr/client sent no required SSL certificate/),
   'a missing certificate is logged');
ok($t->wait_log(qr/client SSL certificate verify error/),
   'a bad certificate is logged');

$c = $t->greeted('slow');
$c->must('STARTTLS', '220');
$c->expect_closed('ssl_handshake_timeout ends a handshake');
ok($t->wait_log(qr/timed out/), 'and is logged');

$c = $t->greeted('version', version => 'TLSv1_3');
$c->must('STARTTLS', '220');
ok(!$c->start_tls(), 'ssl_protocols has its effect');

# the client vanishes in the handshake

$c = $t->greeted('required');
$c->must('STARTTLS', '220');
$c->close();
$c = $t->greeted('required');
$c->must('STARTTLS', '220');
$c->reset();

done_testing();
