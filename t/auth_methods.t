# The mechanisms of AUTH: the dialogue of each, octet for octet, and what the
# service is asked.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Util qw/ hmac_md5_hex /;

use MIME::Base64 qw/ decode_base64 encode_base64 /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $locked = $t->node('locked', auth => { gives => 'sesame' });
$t->keys(infile => 'secret');

# a login "NAME" is answered with what is said here

my %answers = (
    ok => { 'Auth-Status' => 'OK' },
    bad => { 'Auth-Status' => 'Token expired' },
    later => [503, {}],
    code => { 'Auth-Status' => 'Gone', 'Auth-Error-Code' => '525 5.7.13' },
    'a,b=c' => { 'Auth-Status' => 'OK' },
    account => { 'Auth-Status' => 'OK', 'Auth-Account' => 'customer-7' },

    # by their tokens

    's.nobody' => { 'Auth-Status' => 'OK' },
    's.user' => { 'Auth-Status' => 'OK', 'Auth-User' => 'of-token' },
    's.account' => { 'Auth-Status' => 'OK', 'Auth-Account' => 'customer-8' },

    # who may be whom

    named => { 'Auth-Status' => 'OK', 'Auth-User' => 'boss' },
    'named-too' => { 'Auth-Status' => 'OK', 'Auth-User' => 'boss',
                     'Auth-Account' => 'customer-7' },
    other => { 'Auth-Status' => 'OK', 'Auth-User' => 'somebody' },

    # what a service gives back for CRAM-MD5

    gives => { 'Auth-Status' => 'OK', 'Auth-Pass' => 'sesame' },
    'gives-user' => { 'Auth-Status' => 'OK', 'Auth-User' => 'gives-user',
                      'Auth-Pass' => 'sesame' },
    'gives-node' => { 'Auth-Status' => 'OK', 'Auth-User' => 'node-user',
                      'Auth-Pass' => 'node-secret' },
);

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;
    my $user = $request->{headers}{'auth-user'} // '';
    return $answers{ length $user ? $user
                                  : $request->{headers}{'auth-pass'} };
});

$t->start(<<'EOC', log_level => 'debug');
stream {
    log_format  login  "$smtp_relay_auth_method $smtp_relay_auth_status "
                       "[$smtp_relay_user] [$smtp_relay_account]";
    access_log  access.log  login;

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    smtp_relay_max_errors          0;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_methods        plain login cram-md5 xoauth2 oauthbearer;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                127.0.0.1:%%PORT_pass%%;
        smtp_relay_node_auth  pass;
        smtp_relay_pass       127.0.0.1:%%PORT_locked%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_oauth%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_methods  oauthbearer;
    }

    server {
        listen                127.0.0.1:%%PORT_both%%;
        smtp_relay_pass       127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_file  keys;
    }

    server {
        listen                    127.0.0.1:%%PORT_hurry%%;
        smtp_relay_pass           127.0.0.1:%%PORT_node%%;
        smtp_relay_login_timeout  500ms;
    }

    server {
        listen                         127.0.0.1:%%PORT_delay%%;
        smtp_relay_pass                127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_failure_delay  300ms;
        smtp_relay_auth_max_failures   2;
    }
}
EOC

my $c;
my $port = $t->port('auth');

# what is offered, and nothing else

$c = $t->client('smtp');
$c->must(undef, '220');
like($c->ask('EHLO client.example'),
     qr/^250-AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER$/m,
     'all methods are offered, in this order');
$c->try('AUTH EXTERNAL', '504 5.5.4 Authentication mechanism not supported',
        'one that is not configured is refused');
$c->try('AUTH NONE', '504 5.5.4', 'so is "none", which is no mechanism');
$c->try('AUTH SCRAM-SHA-256 biws', '504 5.5.4', 'and an unknown one');

$c = $t->client('oauth');
$c->must(undef, '220');
like($c->ask('EHLO client.example'), qr/^250-AUTH OAUTHBEARER$/m,
     'one method is offered where one is configured');

for my $other ('PLAIN', 'PLAIN ' . b64("\0ok\0x"), 'LOGIN', 'CRAM-MD5',
               'XOAUTH2', 'EXTERNAL', 'EXTERNAL =')
{
    $c->try("AUTH $other", '504 5.5.4', "AUTH $other is refused there");
}

# PLAIN with an identity

exchange('PLAIN: the user as identity',
         'AUTH PLAIN ' . b64("ok\0ok\0x"), DONE(), request('plain', 'ok', 'x'));

exchange('PLAIN: an identity that the service names',
         'AUTH PLAIN ' . b64("boss\0named\0x"), DONE(),
         request('plain', 'named', 'x', 'Auth-Authzid: boss'));
is(session(), 'plain ok [named] [boss]', '  it is the account');

exchange('PLAIN: an identity and an account',
         'AUTH PLAIN ' . b64("boss\0named-too\0x"), DONE(),
         request('plain', 'named-too', 'x', 'Auth-Authzid: boss'));
is(session(), 'plain ok [named-too] [customer-7]',
   '  the account is the one that the service names');

exchange('PLAIN: an identity that the service does not name',
         'AUTH PLAIN ' . b64("boss\0ok\0x"), FAILED(),
         request('plain', 'ok', 'x', 'Auth-Authzid: boss'));
exchange('PLAIN: another one than the service names',
         'AUTH PLAIN ' . b64("boss\0other\0x"), FAILED(),
         request('plain', 'other', 'x', 'Auth-Authzid: boss'));
exchange('PLAIN: an identity that has to be escaped',
         'AUTH PLAIN ' . b64("b% s\0ok\0x"), FAILED(),
         request('plain', 'ok', 'x', 'Auth-Authzid: b%25%20s'));

$c = $t->greeted('both');
$c->try('AUTH PLAIN ' . b64("infile\0infile\0secret"), '235 2.7.0',
        'PLAIN: of a key file, the user as identity');
$c = $t->greeted('both');
$c->try('AUTH PLAIN ' . b64("boss\0infile\0secret"), FAILED(),
        'PLAIN: a key file permits no other identity');
$c->try('AUTH PLAIN ' . b64("boss\0named\0x"), '235 2.7.0',
        'PLAIN: the service does, for a user it knows');

# CRAM-MD5

my ($first, $second) = (challenge($t->greeted('smtp')),
                        challenge($t->greeted('smtp')));

like($first, qr/^<\d{10,20}\.\d{10}\@relay\.example>$/,
     'CRAM-MD5: the challenge is as in RFC 2195');
isnt((split /\./, $first)[0], (split /\./, $second)[0],
     'CRAM-MD5: and another one each time');

$c = $t->greeted('smtp');
$first = challenge($c);
$c->must('*', '501 5.0.0');
isnt(challenge($c), $first, 'CRAM-MD5: also in the same session');
$c->must('*', '501 5.0.0');

cram('CRAM-MD5: the service verifies', 'ok', 'whatever', DONE());
cram('CRAM-MD5: denied', 'bad', 'whatever', '535 5.7.8 Token expired');
cram('CRAM-MD5: nobody can tell', 'later', 'whatever',
     '454 4.7.0 Temporary authentication failure');
cram('CRAM-MD5: a user with a blank', 'with blank', 'x',
     '535 5.7.8 Invalid login or password');

cram('CRAM-MD5: the service returns the secret', 'gives', 'sesame', DONE());
cram('CRAM-MD5: and it is another one', 'gives', 'sesamf', FAILED());
cram('CRAM-MD5: with the same user', 'gives-user', 'sesame', DONE());
cram('CRAM-MD5: and it is another one', 'gives-user', 'x', FAILED());
cram('CRAM-MD5: with credentials for the node', 'gives-node', 'x', DONE());

$c = $t->greeted('smtp');
$c->must('AUTH CRAM-MD5', '334');
$c->try(b64('ok ' . uc hmac_md5_hex('x', 'y')), DONE(),
        'CRAM-MD5: upper case digits');

for my $initial ('=', b64('ok ' . 'a' x 32)) {
    $c = $t->greeted('smtp');
    $c->try("AUTH CRAM-MD5 $initial",
            '501 5.7.0 Mechanism takes no initial response',
            'CRAM-MD5: no initial response');
}

# the secret that is returned is the node's, too; the digest is nobody's

$c = $t->greeted('pass');
$first = challenge($c);
$c->must(b64('gives ' . hmac_md5_hex($first, 'sesame')), '235');
$c->try('MAIL FROM:<a@b.example>', '250', 'CRAM-MD5: a node with AUTH');
ok((grep { $_ eq 'AUTH PLAIN ' . b64("\0gives\0sesame") } $locked->commands()),
   '  gets the secret that the service has returned');

$c = $t->greeted('pass');
challenge($c);
$c->must(b64('ok ' . 'a' x 32), '235');
$c->try('MAIL FROM:<a@b.example>', qr/^451/,
        'CRAM-MD5: without one there is no login at the node');
ok(!(grep { index($_, b64('a' x 30)) >= 0 } $locked->commands()),
   '  and the digest is not taken for a secret');

# XOAUTH2 and OAUTHBEARER

for my $case (['XOAUTH2', 'xoauth2', sub { "user=$_[0]\1auth=Bearer $_[1]\1\1" },
               '{"status":"401","schemes":"bearer"}'],
              ['OAUTHBEARER', 'oauthbearer',
               sub { "n,a=$_[0],\1host=relay.example\1port=587\1"
                     . "auth=Bearer $_[1]\1\1" },
               '{"status":"invalid_token"}'])
{
    my ($name, $method, $make, $error) = @$case;

    my $message = b64($make->('ok', 'to.ken=='));

    exchange("$name: initial response", "AUTH $name $message", DONE(),
             request($method, 'ok', 'to.ken=='));
    is(session(), "$method ok [ok] [ok]", '  and in the log');

    $c = $t->greeted('smtp');
    $c->try("AUTH $name", '334 ', "$name: without initial response");
    $c->try($message, DONE(), '  and the response');

    $c = $t->greeted('smtp');
    $c->try("AUTH \L$name\E $message", DONE(), "$name: in lower case");

    exchange("$name: an account", "AUTH $name " . b64($make->('account', 't')),
             DONE(), request($method, 'account', 't'));
    is(session(), "$method ok [account] [customer-7]", '  and in the log');

    # why not is told in a challenge, then the reply comes

    my $denied = b64($make->('bad', 't'));

    for my $answer (['AQ==', '^A, as in RFC 7628'], ['', 'an empty line'],
                    ['*', 'cancelled'], ['=', 'an equals sign'],
                    ['!!!', 'what is not base64'], ['QUIT', 'a command'])
    {
        $c = $t->greeted('smtp');
        $c->try("AUTH $name $denied", '334 ' . b64($error),
                "$name: denied, with an error");
        $c->try($answer->[0], '535 5.7.8 Token expired',
                "  then the reply to $answer->[1]");
        $c->try('NOOP', '250', '  and the session goes on');
    }

    $c = $t->greeted('smtp');
    $c->must("AUTH $name $denied", '334');
    $c->try('A' x 12400, '535 5.7.8', "$name: a long answer to the error");

    $c = $t->greeted('smtp');
    $c->send("AUTH $name $denied\r\n\r\nNOOP\r\n");
    $c->expect('334 ' . b64($error), "$name: denied, pipelined");
    $c->expect('535 5.7.8 Token expired', '  the reply');
    $c->expect('250', '  and the next');

    $c = $t->greeted('smtp');
    $c->try("AUTH $name " . b64($make->('code', 't')), '334 ' . b64($error),
            "$name: denied with a code of its own");
    $c->try('', '525 5.7.13 Gone', '  which is the reply');

    exchange("$name: nobody can tell",
             "AUTH $name " . b64($make->('later', 't')),
             '454 4.7.0 Temporary authentication failure',
             request($method, 'later', 't'));

    # the delay and the limit of failures

    $c = $t->greeted('delay');
    $c->line("AUTH $name $denied");
    ok($c->is_silent(0.1), "$name: the error is delayed");
    $c->expect('334 ' . b64($error), '  and comes');
    $c->try('', '535 5.7.8 Token expired', '  then the reply, at once');
    $c->try("AUTH $name $denied", '334', '  and once more');
    $c->try('', '535 5.7.8 Token expired', '  the last one permitted');
    $c->expect('421 4.7.0 relay.example', '  hence the end');
    $c->expect_closed('  of the session');

    # a token is no password of a node

    $c = $t->greeted('pass');
    $c->must("AUTH $name $message", '235');
    $c->try('MAIL FROM:<a@b.example>', qr/^451/,
            "$name: the token is not sent to a node");
}

exchange('OAUTHBEARER: an identity with escapes',
         'AUTH OAUTHBEARER ' . b64("n,a=a=2Cb=3Dc,\1auth=Bearer t\1\1"),
         DONE(), request('oauthbearer', 'a,b=c', 't'));

# who is to be told by the token

exchange('OAUTHBEARER: no identity, and the service names none',
         'AUTH OAUTHBEARER ' . b64("n,,\1auth=Bearer s.nobody\1\1"),
         '454 4.7.0 Temporary authentication failure',
         request('oauthbearer', '', 's.nobody'));
ok($t->wait_log(qr/sent neither Auth-Account nor Auth-User/),
   '  which is logged');

exchange('OAUTHBEARER: no identity, the service names the user',
         'AUTH OAUTHBEARER ' . b64("n,,\1auth=Bearer s.user\1\1"),
         DONE(), request('oauthbearer', '', 's.user'));
is(session(), 'oauthbearer ok [-] [of-token]', '  who is the account');

exchange('OAUTHBEARER: no identity, the service names the account',
         'AUTH OAUTHBEARER ' . b64("y,,\1auth=Bearer s.account\1\1"),
         DONE(), request('oauthbearer', '', 's.account'));
is(session(), 'oauthbearer ok [-] [customer-8]', '  and it is the account');

# a client that is silent, at each step of each mechanism

my %silent = map { ("after AUTH $_" => $t->greeted('hurry')) }
                 qw/ PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER /;

for my $name (keys %silent) {
    $silent{$name}->must($name =~ s/^after //r, '334');
}

$silent{'after a user'} = $t->greeted('hurry');
$silent{'after a user'}->must('AUTH LOGIN dXNlcg==', '334');
$silent{'after an error of OAuth'} = $t->greeted('hurry');
$silent{'after an error of OAuth'}->must(
    'AUTH XOAUTH2 ' . b64("user=bad\1auth=Bearer t\1\1"), '334');

for my $name (sort keys %silent) {
    $silent{$name}->expect('421 4.4.2 relay.example Timeout',
                           "silence $name: the time for a login ends it");
    $silent{$name}->expect_closed('  and the connection');
}

# nothing of one attempt is in the next

$c = $t->greeted('smtp');
$first = challenge($c);
$c->must(b64('bad ' . hmac_md5_hex($first, 'x')), '535');
$c->must('AUTH PLAIN ' . b64("boss\0ok\0x"), '535');
$c->must('AUTH PLAIN ' . b64("\0ok\0y"), '235');

my $last = (service())[-1];
is($last->{headers}{'auth-login-attempt'}, 3, 'a third attempt');
ok(!exists $last->{headers}{'auth-salt'}, 'has no challenge of the first');
ok(!exists $last->{headers}{'auth-authzid'}, 'and no identity of the second');

# a mechanism that is refused is noted in the log, but not what it was called

$c = $t->greeted('smtp');
$c->must('AUTH EXTERNAL', '504');
$c->must('AUTH AHVzZXIAc2VjcmV0', '504');
ok($t->wait_log(qr/tried a mechanism that is not offered: external\b/),
   'a mechanism that is not offered is logged');
ok($t->wait_log(qr/tried a mechanism that is not offered: unknown\b/),
   'by a name that is known');

$t->stop();

my $log = $t->read('error.log');

for my $secret ('sesame', 'to.ken', 'AHVzZXIAc2VjcmV0', b64("\0ok\0x"),
                'node-secret')
{
    ok(index($log, $secret) < 0, "not in the log: " . visible($secret));
}

done_testing();

# -----------------------------------------------------------------------------

sub DONE { return '235 2.7.0 Authentication successful' }
sub FAILED { return '535 5.7.8 Authentication failed' }

sub b64 { return encode_base64($_[0], '') }

# All requests so far.

sub service { return $auth->requests() }

# What the request is expected to be: method, user and secret, both escaped,
# and more headers of the mechanism.

sub request {
    my ($method, $user, $secret, @more) = @_;

    return join "\r\n", 'GET / HTTP/1.1', "Host: 127.0.0.1:$port",
        "Auth-Method: $method", "Auth-User: $user", "Auth-Pass: $secret",
        @more, 'Auth-Protocol: smtp', 'Auth-Login-Attempt: 1',
        'Client-IP: 127.0.0.1', 'Auth-SMTP-Helo: client.example', '', '';
}

# One AUTH in a session of its own, and the request it makes.

sub exchange {
    my ($name, $command, $reply, $request) = @_;

    my $count = service();

    $c = $t->greeted('smtp');
    $c->try($command, $reply, $name);

    my @requests = service();
    is(scalar @requests, $count + 1, '  the service is asked once');
    is($requests[-1]{raw}, $request, '  with this request');
    return;
}

# The log line of the session that has just been there.

sub session {
    my $lines = $t->lines('access.log');
    $c->must('QUIT', '221');
    $c->close();
    return ($t->wait_lines('access.log', $lines + 1))[-1];
}

# Begins CRAM-MD5 and gives the challenge.

sub challenge {
    my ($client) = @_;

    my ($text) = $client->must('AUTH CRAM-MD5', '334') =~ /^334 (\S+)$/;
    return decode_base64($text);
}

sub cram {
    my ($name, $user, $secret, $reply) = @_;

    my $count = service();

    $c = $t->greeted('smtp');
    my $challenge = challenge($c);
    my $digest = hmac_md5_hex($challenge, $secret);

    $c->try(b64("$user $digest"), $reply, $name);

    my @requests = service();
    is(scalar @requests, $count + 1, '  the service is asked once');
    is($requests[-1]{raw},
       request('cram-md5', $user =~ s/ /%20/gr, $digest,
               "Auth-Salt: $challenge"), '  with this request');
    return;
}
