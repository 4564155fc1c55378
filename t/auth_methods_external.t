# AUTH EXTERNAL: the client's certificate, and who may be whom with it.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Cert;

use MIME::Base64 qw/ encode_base64 /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $dir = $t->dir();

$t->certificates('localhost', 'alice');
SMTPRelay::Cert::issue($dir, 'mail', subject => '/O=Example/CN=robot 7',
                       san => 'email:alice@b.example');
SMTPRelay::Cert::issue($dir, 'two', subject => '/O=Example/CN=alice/CN=bob',
                       san => 'DNS:x.example');
SMTPRelay::Cert::issue($dir, 'no-name', subject => '/O=Example/OU=Mail',
                       san => 'DNS:x.example');

# a client whose name in EHLO is "NAME" is answered with what is said here

my %answers = (
    ok => { 'Auth-Status' => 'OK' },
    bad => { 'Auth-Status' => 'Certificate revoked' },
    later => [503, {}],
    boss => { 'Auth-Status' => 'OK', 'Auth-User' => 'boss' },
    account => { 'Auth-Status' => 'OK', 'Auth-Account' => 'customer-7' },
    both => { 'Auth-Status' => 'OK', 'Auth-Account' => 'customer-7',
              'Auth-User' => 'boss' },
);

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;
    return $answers{ $request->{headers}{'auth-smtp-helo'} // '' };
});

$t->start(<<'EOC');
stream {
    log_format  login  "$smtp_relay_protocol "
                       "$smtp_relay_auth_method $smtp_relay_auth_status "
                       "[$smtp_relay_user] [$smtp_relay_account] $status";
    access_log  access.log  login;

    smtp_relay_hostname            relay.example;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    smtp_relay_max_errors          0;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_methods        plain external;
    ssl_certificate                localhost.crt;
    ssl_certificate_key            localhost.key;
    ssl_client_certificate         ca.crt;

    server {
        listen             127.0.0.1:%%PORT_smtp%%;
        listen             127.0.0.1:%%PORT_smtps%% ssl;
        ssl_verify_client  optional;
        smtp_relay_pass    127.0.0.1:%%PORT_node%%;
    }

    server {
        listen               127.0.0.1:%%PORT_clear%%;
        ssl_verify_client    optional;
        smtp_relay_starttls  on;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
    }

    server {
        listen             127.0.0.1:%%PORT_any_ca%% ssl;
        ssl_verify_client  optional_no_ca;
        smtp_relay_pass    127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_off%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_only%% ssl;
        ssl_verify_client        optional;
        smtp_relay_auth_methods  external;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $c;
my $port = $t->port('auth');
my $none = '504 5.5.4 Authentication mechanism not supported';

# to whom it is offered

$c = $t->client('smtps', tls => 1, certificate('alice'));
$c->must(undef, '220');
like($c->ask('EHLO ok'), qr/^250-AUTH PLAIN EXTERNAL$/m,
     'it is offered to who has a certificate');

$c = $t->client('smtps', tls => 1);
$c->must(undef, '220');
like($c->ask('EHLO ok'), qr/^250-AUTH PLAIN$/m, 'not to who has none');
$c->try('AUTH EXTERNAL =', $none, 'and refused there');
$c->try('AUTH EXTERNAL', $none, 'without an initial response, too');

$c = $t->client('only', tls => 1);
$c->must(undef, '220');
unlike($c->ask('EHLO ok'), qr/AUTH/, 'then there may be no AUTH at all');
$c->try('AUTH EXTERNAL =', $none, 'and it is refused');
$c->try('MAIL FROM:<a@b.example>', '530 5.7.0 Authentication required',
        'but required');

$c = $t->client('any_ca', tls => 1, certificate('stranger'));
$c->must(undef, '220');
like($c->ask('EHLO ok'), qr/^250-AUTH PLAIN$/m,
     'not to who has one of nobody, where that may connect');
$c->try('AUTH EXTERNAL =', $none, 'and refused there');

$c = $t->client('off', tls => 1, certificate('alice'));
$c->must(undef, '220');
like($c->ask('EHLO ok'), qr/^250-AUTH PLAIN$/m,
     'not where no certificate is asked for');
$c->try('AUTH EXTERNAL =', $none, 'and refused there');

$c = $t->client('clear', certificate('alice'));
$c->must(undef, '220');
like($c->ask('EHLO ok'), qr/^250-AUTH PLAIN$/m, 'not without TLS');
$c->try('AUTH EXTERNAL =', $none, 'and refused there');
$c->must('STARTTLS', '220');
$c->start_tls();
like($c->ask('EHLO ok'), qr/^250-AUTH PLAIN EXTERNAL$/m, 'but after STARTTLS');
$c->try('AUTH EXTERNAL =', '235 2.7.0', 'and accepted');

is(scalar(() = $auth->requests()), 1, 'nobody was asked about those refused');

# the dialogue, and the request

$c = hello('ok', 'alice');
$c->try('AUTH EXTERNAL =', '235 2.7.0 Authentication successful',
        'no identity, by "="');
my $request = ($auth->requests())[-1]{raw};
my $tls = '';
$tls = $1 if $request =~ s/^(Auth-SSL-Protocol: \S+\r\nAuth-SSL-Cipher: \S+\r\n)//m;
ok($tls, 'version and cipher are told');
like($request, qr/^Auth-SSL-Serial:\ [0-9A-F]+\r\n
                  Auth-SSL-Fingerprint:\ [0-9a-f]{40}\r\n\r\n\z/mx,
     'serial number and fingerprint, too');
is($request =~ s/^Auth-SSL-Serial.*//msr, <<"EOR" =~ s/\n/\r\n/gr, 'the request');
GET / HTTP/1.1
Host: 127.0.0.1:$port
Auth-Method: external
Auth-User:${\' '}
Auth-Pass:${\' '}
Auth-Protocol: smtp
Auth-Login-Attempt: 1
Client-IP: 127.0.0.1
Auth-SMTP-Helo: ok
Auth-SSL: on
Auth-SSL-Verify: SUCCESS
Auth-SSL-Subject: CN=alice
Auth-SSL-Issuer: CN=ca
EOR
is(session(), 'ESMTPSA external ok [-] [alice] 200', 'and the log');

$c = hello('ok', 'alice');
$c->try('AUTH EXTERNAL', '334 ', 'without an initial response');
$c->try('', '235 2.7.0', 'no identity, by an empty line');

$c = hello('ok', 'alice');
$c->must('AUTH EXTERNAL', '334');
$c->try('*', '501 5.0.0 Authentication canceled', 'cancelled');
$c->try('AUTH EXTERNAL ' . b64('alice'), '235 2.7.0', 'an identity');
like(($auth->requests())[-1]{raw},
     qr/^Auth-User: alice\r\nAuth-Pass: \r\nAuth-Authzid: alice\r\n/m,
     'is told');

$c = hello('ok', 'alice');
$c->must('AUTH external', '334');
$c->try(b64('alice'), '235 2.7.0', 'as a response');
is(session(), 'ESMTPSA external ok [alice] [alice] 200', 'and logged');

# who may be whom: certificate, identity, what the service is, account

for my $case (['alice', 'alice', 'ok', 'alice', 'the common name'],
              ['mail', 'robot 7', 'ok', 'robot 7', 'one with a blank'],
              ['mail', 'alice@b.example', 'ok', 'alice@b.example',
               'the address of a certificate'],
              ['mail', '', 'ok', 'robot 7', 'nobody: the common name'],
              ['no-name', '', 'ok', 'OU=Mail,O=Example',
               'nobody: the subject, without a common name'],
              ['two', '', 'ok', 'CN=bob,CN=alice,O=Example',
               'nobody: the subject, with two of them'],
              ['alice', '', 'account', 'customer-7', 'nobody: the account'],
              ['alice', '', 'boss', 'boss', 'nobody: the user'],
              ['alice', 'alice', 'account', 'customer-7',
               'oneself, with an account'],
              ['alice', 'boss', 'boss', 'boss',
               'somebody else whom the service names'],
              ['alice', 'boss', 'both', 'customer-7',
               'somebody else, with an account'],

              ['alice', 'boss', 'ok', undef, 'somebody else'],
              ['alice', 'boss', 'account', undef,
               'somebody else, with an account only'],
              ['alice', 'bob', 'boss', undef,
               'somebody else than the service names'],
              ['alice', 'Alice', 'ok', undef, 'the name in another case'],
              ['alice', 'CN=alice', 'ok', undef, 'the subject'],
              ['two', 'alice', 'ok', undef, 'one of two common names'],
              ['two', 'bob', 'ok', undef, 'the other one'],
              ['mail', 'bob@b.example', 'ok', undef, 'another address'],
              ['alice', 'localhost', 'ok', undef, 'a host name'])
{
    my ($certificate, $identity, $service, $account, $name) = @$case;

    $c = hello($service, $certificate);
    $c->try('AUTH EXTERNAL ' . (b64($identity) || '='),
            defined $account ? '235 2.7.0 Authentication successful'
                             : '535 5.7.8 Authentication failed',
            (defined $account ? 'it may be ' : 'it may not be ') . $name);

    my $user = length $identity ? $identity : '-';
    is(session(), defined $account
                  ? "ESMTPSA external ok [$user] [$account] 200"
                  : "ESMTPS external denied [$user] [-] 403", '  in the log');
}

ok($t->log_lines(qr/did not name identity "boss" of user "boss" in Auth-User/),
   'why not is logged');

# denied, and nobody can tell

$c = hello('bad', 'alice');
$c->try('AUTH EXTERNAL =', '535 5.7.8 Certificate revoked', 'denied');
$c = hello('later', 'alice');
$c->try('AUTH EXTERNAL =', '454 4.7.0 Temporary authentication failure',
        'nobody can tell');

# a password, with a certificate

$c = hello('ok', 'alice');
$c->try('AUTH PLAIN ' . b64("\0me\0x"), '235 2.7.0', 'PLAIN goes, too');
is(session(), 'ESMTPSA plain ok [me] [me] 200', 'and is what it is');

# and a node is told who it is: nobody's secret

$c = hello('ok', 'alice');
$c->must('AUTH EXTERNAL =', '235');
like($c->message("text\r\n"), qr/^250/, 'a message goes through');

done_testing();

# -----------------------------------------------------------------------------

sub b64 { return encode_base64($_[0], '') }

sub certificate {
    my ($name) = @_;
    return (cert => "$dir/$name.crt", key => "$dir/$name.key");
}

sub hello {
    my ($name, $certificate) = @_;

    my $client = $t->client('smtps', tls => 1, certificate($certificate));
    $client->must(undef, '220');
    $client->must("EHLO $name", '250');
    return $client;
}

# The log line of the session that ends now.

sub session {
    my $lines = $t->lines('access.log');
    $c->must('QUIT', '221');
    $c->close();
    return ($t->wait_lines('access.log', $lines + 1))[-1];
}
