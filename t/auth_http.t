# The request to the auth service, and what each reply of it means.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->certificates('localhost');
$t->keys(infile => 'secret');

# a login "NAME" is answered with what is said here

my %answers = (
    ok => { 'Auth-Status' => 'OK' },
    account => { 'Auth-Status' => 'OK', 'Auth-Account' => 'customer-7',
                 'X-Plan' => 'gold' },
    bad => { 'Auth-Status' => 'Invalid login or password' },
    code => { 'Auth-Status' => 'Account suspended',
              'Auth-Error-Code' => '525 5.7.13' },
    control => { 'Auth-Status' => "one\x01two\ttab" },
    long => { 'Auth-Status' => 'x' x 3000 },
    s200 => [200, {}],
    s204 => [204, {}],
    s401 => [401, {}],
    s403 => [403, {}],
    s404 => [404, {}],
    s429 => [429, {}],
    s500 => [500, {}],
    s302 => [302, { Location => '/' }],
    ok500 => [500, { 'Auth-Status' => 'OK' }],
    ok429 => [429, { 'Auth-Status' => 'OK' }],
    ok401 => [401, { 'Auth-Status' => 'OK' }],
    bad500 => [500, { 'Auth-Status' => 'Invalid login or password' }],
    temporary => { 'Auth-Status' => 'Try later',
                   'Auth-Error-Code' => '451 4.3.0' },
    wrongcode => { 'Auth-Status' => 'Hm', 'Auth-Error-Code' => '235 2.7.0' },
    body => "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nContent-Length: 5\r\n\r\n"
            . 'hello',
    chunked => "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n"
               . "Transfer-Encoding: chunked\r\n\r\n"
               . "5\r\nhello\r\n3;x=y\r\nyou\r\n0\r\nTrailer: x\r\n\r\n",
    continue => "HTTP/1.1 100 Continue\r\n\r\n"
                . "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n"
                . "Content-Length: 0\r\n\r\n",
    old => { act => { raw => "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\n\r\n",
                      then => ':close' } },
    case => "HTTP/1.1 200 OK\r\nAUTH-STATUS:   ok  \r\n"
            . "content-length: 0\r\n\r\n",
    close => { 'Auth-Status' => 'OK', Connection => 'close' },
    pieces => { act => { pieces => [ split //,
        "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nContent-Length: 1\r\n\r\nx" ] } },
);

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;
    return $answers{ $request->{headers}{'auth-user'} // '' };
});

$t->start(<<'EOC');
stream {
    log_format  login  "$smtp_relay_event $smtp_relay_user $smtp_relay_account "
                       "$smtp_relay_auth_status $smtp_relay_auth_source "
                       "$smtp_relay_auth_method $smtp_relay_auth_http_x_plan";
    access_log  access.log  login;

    upstream auth {
        server  127.0.0.1:%%PORT_auth%%;
    }

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    ssl_certificate                localhost.crt;
    ssl_certificate_key            localhost.key;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_auth%%/smtp/auth?a=b;
    }

    server {
        listen                      127.0.0.1:%%PORT_group%%;
        smtp_relay_pass             127.0.0.1:%%PORT_node%%;
        smtp_relay_auth             http://auth/;
        smtp_relay_auth_set_header  X-Auth-Key   topkey;
        smtp_relay_auth_set_header  X-Server     port-$server_port;
        smtp_relay_auth_set_header  X-Empty      "";
        smtp_relay_auth_set_header  Auth-Pass    own;
    }

    server {
        listen                     127.0.0.1:%%PORT_single%%;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
        smtp_relay_auth            http://127.0.0.1:%%PORT_auth%%;
        smtp_relay_auth_keepalive  0;
    }

    server {
        listen                127.0.0.1:%%PORT_both%%;
        smtp_relay_pass       127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_file  keys;
        smtp_relay_auth       http://127.0.0.1:%%PORT_auth%%/;
    }
}
EOC

my $c;

# the request, byte for byte

my $port = $t->port('auth');

$c = $t->client('smtp');
$c->must(undef, '220');
$c->must('EHLO [192.0.2.1]', '250');
$c->try('AUTH PLAIN ' . $c->plain('ok', "100% se cret+\xc3\xbc"), '235',
        'login');
is(request()->{raw}, <<"EOR" =~ s/\n/\r\n/gr, 'request of PLAIN');
GET /smtp/auth?a=b HTTP/1.1
Host: 127.0.0.1:$port
Auth-Method: plain
Auth-User: ok
Auth-Pass: 100%25%20se%20cret+\xc3\xbc
Auth-Protocol: smtp
Auth-Login-Attempt: 1
Client-IP: 127.0.0.1
Auth-SMTP-Helo: [192.0.2.1]

EOR

$c = $t->greeted('smtp');
$c->must('AUTH PLAIN ' . $c->plain('bad', 'x'), '535');
$c->must('AUTH LOGIN', '334');
$c->must('b2s=', '334');
$c->must('eHl6', '235');
is(request()->{raw}, <<"EOR" =~ s/\n/\r\n/gr, 'request of LOGIN, second attempt');
GET /smtp/auth?a=b HTTP/1.1
Host: 127.0.0.1:$port
Auth-Method: login
Auth-User: ok
Auth-Pass: xyz
Auth-Protocol: smtp
Auth-Login-Attempt: 2
Client-IP: 127.0.0.1
Auth-SMTP-Helo: client.example

EOR

$c = $t->greeted('smtp');
$c->must('AUTH PLAIN ' . $c->plain('ok', "a\x7fb\x01c"), '235');
like(request()->{headers}{'auth-pass'} // 'no header',
     qr/^a(\x7f|%7f)b%01c$/i, 'control characters of a secret');

# text of the client cannot become a header

$c = $t->greeted('smtp');
$c->ask('AUTH PLAIN ' . $c->plain('us er%0d%0aX-Evil: 1', 'x'));
is(request()->{headers}{'auth-user'}, 'us%20er%250d%250aX-Evil:%201',
   'the user is encoded');
is(request()->{headers}{'x-evil'}, undef, 'and is no header of its own');

$c = $t->greeted('smtps', tls => 1);
$c->must('AUTH PLAIN ' . $c->plain('ok', 'x'), '235');
is(request()->{headers}{'auth-ssl'}, 'on', 'TLS is told');
like(request()->{headers}{'auth-ssl-protocol'}, qr/^TLSv1\.\d$/, 'its version');
like(request()->{headers}{'auth-ssl-cipher'}, qr/^\S+$/, 'its cipher');

$c = $t->greeted('group');
$c->must('AUTH PLAIN ' . $c->plain('ok', 'x'), '235');
is(request()->{headers}{host}, 'auth', 'Host of an upstream group');
is(request()->{line}, 'GET / HTTP/1.1', 'URI /');
is(request()->{headers}{'x-auth-key'}, 'topkey', 'configured header');
is(request()->{headers}{'x-server'}, 'port-' . $t->port('group'),
   'configured header with variables');
ok(!exists request()->{headers}{'x-empty'}, 'empty header is left out');
is(login('ok', 'group'), login('ok', 'group'), 'two more logins');
is(request()->{headers}{'auth-pass'}, 'own',
   'a configured header is the same each time');

# replies

like(login('ok'), qr/^235 2\.7\.0/, 'OK');
like(login('bad'), qr/^535 5\.7\.8 Invalid login or password$/, 'denied');
like(login('code'), qr/^525 5\.7\.13 Account suspended$/, 'denied with a code');
like(login('temporary'), qr/^451 4\.3\.0 Try later$/, 'temporary code');
like(login('wrongcode'), qr/^(535 5\.7\.8|454 4\.7\.0)/,
     'a code of success is not believed');
like(login('control'), qr/^535 5\.7\.8 [\x20-\x7e]+$/,
     'control characters are taken out of a text')
    or diag(visible(login('control')));

my $long = login('long');
like($long, qr/^535 5\.7\.8 x+$/, 'a long text');
cmp_ok(length $long, '<=', 510, 'is cut to fit in a line');

like(login('s200'), qr/^235/, '200 without Auth-Status');
like(login('s204'), qr/^235/, 'status 204');
like(login('s401'), qr/^535 5\.7\.8/, 'status 401');
like(login('s403'), qr/^535 5\.7\.8/, 'status 403');
like(login('s429'), qr/^454 4\.7\.0/, 'status 429');
like(login('s404'), qr/^454 4\.7\.0 Temporary authentication failure$/, 'status 404');
like(login('s500'), qr/^454 4\.7\.0 Temporary authentication failure$/, 'status 500');
like(login('s302'), qr/^454 4\.7\.0/, 'status 302');
like(login('ok500'), qr/^454 4\.7\.0/, '500 with Auth-Status OK');
like(login('ok429'), qr/^454 4\.7\.0/, '429 with Auth-Status OK');
like(login('ok401'), qr/^(535 5\.7\.8|454 4\.7\.0)/, '401 with Auth-Status OK');
like(login('bad500'), qr/^454 4\.7\.0/, '500 with a denial');

like(login('body'), qr/^235/, 'reply with a body');
like(login('ok'), qr/^235/, 'the next one');
like(login('chunked'), qr/^235/, 'chunked reply');
like(login('ok'), qr/^235/, 'the next one');
like(login('continue'), qr/^235/, '100 in front of the reply');
like(login('ok'), qr/^235/, 'the next one');
like(login('old'), qr/^235/, 'HTTP/1.0, ended by closing');
like(login('ok'), qr/^235/, 'the next one');
like(login('case'), qr/^235/, 'header in upper case, OK in lower case');
like(login('close'), qr/^235/, 'Connection: close');
like(login('ok'), qr/^235/, 'the next one');
like(login('pieces'), qr/^235/, 'reply octet by octet');

# what it may return: $smtp_relay_auth_http_ with the name of a header

login('account');
my @lines = $t->wait_lines('access.log', 4);
ok(wait_until { grep { $_ eq 'session account customer-7 ok service plain gold' }
                $t->lines('access.log') },
   'log: account and headers of the auth reply');
ok(scalar(grep { /^session ok ok ok service plain -$/ } @lines),
   'log: no header of an earlier one');
ok(scalar(grep { /^session bad \S+ denied service plain/ }
          $t->lines('access.log')), 'log: denied');
ok(scalar(grep { /^session s500 \S+ error service plain/ }
          $t->lines('access.log')), 'log: error');

# an attempt has nothing of the one before

$c = $t->greeted('smtp');
$c->must('AUTH PLAIN ' . $c->plain('code', 'x'), '525');
$c->try('AUTH PLAIN ' . $c->plain('bad', 'x'),
        qr/^535 5\.7\.8 Invalid login or password$/,
        'a code is not kept for the next attempt');
$c->try('AUTH PLAIN ' . $c->plain('s401', 'x'), qr/^535 5\.7\.8(?!.*Invalid login)/,
        'nor is a text');
$c->must('AUTH PLAIN ' . $c->plain('ok', 'x'), '235');

# connections

my $before = $auth->connections();
login('ok') for 1 .. 5;
cmp_ok($auth->connections() - $before, '<=', 1, 'connections are reused');

$before = $auth->connections();
login('ok', 'single') for 1 .. 3;
is($auth->connections() - $before, 3, 'smtp_relay_auth_keepalive 0: they are not');

# an idle connection that the service has closed is replaced without a word

login('ok');
$auth->stop();
$auth->start();
like(login('ok'), qr/^235/, 'a connection that was closed while idle');

# file and service

my $requests = () = $auth->requests();
is(substr(login('infile', 'both', 'secret'), 0, 3), '235',
   'a user of the file');
is(scalar(() = $auth->requests()), $requests, 'the service is not asked');
is(substr(login('ok', 'both'), 0, 3), '235', 'a user of the service');
cmp_ok(scalar(() = $auth->requests()), '>', $requests, 'which is asked then');

done_testing();


# The last request.

sub request {
    my @requests = sort { $a->{time} <=> $b->{time} } $auth->requests();
    return $requests[-1];
}


# The reply to AUTH in a session of its own.

sub login {
    my ($user, $port, $secret) = @_;

    my $c = $t->greeted($port // 'smtp');
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user, $secret // 'x'));
    $c->ask('QUIT');
    return $reply;
}
