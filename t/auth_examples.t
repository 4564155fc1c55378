# The example services of docs/examples/auth, and those of nginx's manual.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Digest::MD5 ();
use MIME::Base64 ();
use POSIX ();

my $examples = "$FindBin::Bin/../docs/examples/auth";

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->certificates('localhost');

# what nginx's manual and wiki have services answer to "auth_http"

my $port = $t->port('node');
my %manual = (
    good => "HTTP/1.0 200 OK\r\n"
            . "Auth-Status: OK\r\n"
            . "Auth-Server: 127.0.0.1\r\n"
            . "Auth-Port: $port\r\n\r\n",
    bad => "HTTP/1.0 200 OK\r\n"
           . "Auth-Status: Invalid login or password\r\n"
           . "Auth-Wait: 3\r\n\r\n",
    final => "HTTP/1.0 200 OK\r\n"
             . "Auth-Status: Invalid login or password\r\n\r\n",
    temporary => "HTTP/1.0 200 OK\r\n"
                 . "Auth-Status: Temporary server problem, try again later\r\n"
                 . "Auth-Error-Code: 451 4.3.0\r\n"
                 . "Auth-Wait: 3\r\n\r\n",
    cram => "HTTP/1.0 200 OK\r\n"
            . "Auth-Status: OK\r\n"
            . "Auth-Server: 127.0.0.1\r\n"
            . "Auth-Port: $port\r\n"
            . "Auth-Pass: plain-text-pass\r\n\r\n",
    perl => "HTTP/1.1 200 OK\r\n"
            . "Server: nginx/1.26.3\r\n"
            . "Date: Tue, 24 Nov 2026 10:00:00 GMT\r\n"
            . "Content-Type: text/html\r\n"
            . "Connection: close\r\n"
            . "Auth-Status: OK\r\n"
            . "Auth-Server: 127.0.0.1\r\n"
            . "Auth-Port: $port\r\n\r\n",
    perl_bad => "HTTP/1.1 200 OK\r\n"
                . "Server: nginx/1.26.3\r\n"
                . "Content-Type: text/html\r\n"
                . "Transfer-Encoding: chunked\r\n"
                . "Connection: keep-alive\r\n"
                . "Auth-Status: Invalid login or password\r\n\r\n"
                . "0\r\n\r\n",
    php => "HTTP/1.1 200 OK\r\n"
           . "Date: Tue, 24 Nov 2026 10:00:00 GMT\r\n"
           . "X-Powered-By: PHP/8.2.0\r\n"
           . "Auth-Status: OK\r\n"
           . "Auth-Server: 127.0.0.1\r\n"
           . "Auth-Port: $port\r\n"
           . "Content-Length: 0\r\n"
           . "Content-Type: text/html; charset=UTF-8\r\n\r\n",
);

my $service = $t->auth_service('service', answer => sub {
    my ($request) = @_;
    my $reply = $manual{ $request->{headers}{'auth-user'} } // return;
    return $reply =~ /^HTTP\/1\.0|^Connection: close/m
           ? { act => { raw => $reply, then => ':close' } } : $reply;
});

# the example, with addresses and files of the test

my $conf = slurp("$examples/nginx.conf");

$conf =~ s/^include .*;\n//m;
$conf =~ s/^events \{\n\}\n//m;
$conf =~ s/127\.0\.0\.1:8080/127.0.0.1:%%PORT_http%%/g;
$conf =~ s/listen  465 ssl/listen  127.0.0.1:%%PORT_tls%% ssl/;
$conf =~ s/listen  587/listen  127.0.0.1:%%PORT_smtp%%/;
$conf =~ s/192\.0\.2\.11:25/127.0.0.1:%%PORT_node%%/;
$conf =~ s!/etc/nginx/smtp\.(pem|key)!$1 eq 'pem' ? 'localhost.crt'
                                                  : 'localhost.key'!ge;
$conf =~ s/zone=guess:1m\s+failures=5/zone=guess:1m failures=255/;
$conf =~ s/^\}\n\z//m;

# one that asks the service in Node.js, and one for the manual's

$conf .= <<'EOC';
    server {
        listen               127.0.0.1:%%PORT_to_node%%;
        smtp_relay_starttls  off;
        smtp_relay_auth      http://127.0.0.1:%%PORT_js%%/;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                         127.0.0.1:%%PORT_manual%%;
        smtp_relay_starttls            off;
        smtp_relay_auth                http://127.0.0.1:%%PORT_service%%/;
        smtp_relay_auth_methods        plain login cram-md5;
        smtp_relay_auth_failure_delay  0;
        smtp_relay_pass                127.0.0.1:1;
    }
}
EOC

$t->start($conf);

my %keys = ('key-1' => 'b7c0e1d2f3a4958677681a2b3c4d5e6f',
            'key-2' => '0f1e2d3c4b5a69788796a5b4c3d2e1f0',
            'key-3' => '8877665544332211aabbccddeeff0099');

my $c;

# in nginx's own configuration

service('nginx', 'tls', tls => 1);

$c = $t->greeted('tls', tls => 1);
$c->try('AUTH PLAIN ' . $c->plain('key-3', 'correct horse'), '235',
        'nginx: a secret with a blank');
$c = $t->greeted('tls', tls => 1);
$c->try('AUTH PLAIN ' . $c->plain('key-1', uc $keys{'key-1'}), '535',
        'nginx: case matters');
$c->try('AUTH PLAIN ' . $c->plain('key-1', "$keys{'key-1'}x"), '535',
        'nginx: all of it matters');
$c = $t->client('smtp');
$c->must(undef, '220');
$c->must('EHLO client.example', '250');
$c->must('STARTTLS', '220');
$c->start_tls();
$c->must('EHLO client.example', '250');
$c->login('key-2', $keys{'key-2'});
like($c->message("x\r\n", 'news@club.example'), qr/^250/, 'nginx: STARTTLS');

# in Node.js

SKIP: {
    skip('no node here', 1) if system('command -v node >/dev/null 2>&1');

    my $js = start_node();
    service('Node.js', 'to_node');

    $c = $t->greeted('to_node');
    $c->try('AUTH PLAIN ' . $c->plain('key-3', $keys{'key-3'}),
            '525 5.7.13 Account suspended', 'Node.js: an account suspended');

    spew("$t->{dir}/keys.json", slurp("$t->{dir}/keys.json")
                                =~ s/"suspended": true/"plan": "small"/r);
    kill 'HUP', $js;
    ok(wait_until { $t->read('js.out') =~ /is read$/m },
       'Node.js: keys are read again');
    $c = $t->session('to_node', user => 'key-3', secret => $keys{'key-3'});
    like($c->ask('EHLO client.example'), qr/^250.SIZE 1048576$/m,
         'Node.js: a plan that has changed');

    spew("$t->{dir}/keys.json", '{');
    kill 'HUP', $js;
    ok(wait_until { $t->read('js.out') =~ /is not read, the keys stay/ },
       'Node.js: a broken file');
    $t->session('to_node', user => 'key-3', secret => $keys{'key-3'});
    unlike($t->read('js.out'), qr/$keys{'key-1'}/, 'Node.js: no secret in a log');

    kill 'TERM', $js;
    waitpid $js, 0;

    $c = $t->greeted('to_node');
    $c->try('AUTH PLAIN ' . $c->plain('key-1', $keys{'key-1'}), '454 4.7.0',
            'Node.js: gone, and the client is to come again');
}

# in nginx's manual

my %waiting = map { $_ => $t->greeted('manual') } qw/ bad temporary /;
$waiting{$_}->line('AUTH PLAIN ' . $waiting{$_}->plain($_, 'x'))
    for keys %waiting;
my $start = time;

for my $user (qw/ good perl php /) {
    my $count = $node->count();
    $c = $t->session('manual', user => $user);
    like($c->message("x\r\n"), qr/^250/, "manual: $user");
    is($node->count(), $count + 1, "manual: $user: to the server it names");
}

$c = $t->greeted('manual');
$c->try('AUTH PLAIN ' . $c->plain('final', 'x'),
        qr/^535 5\.7\.8 Invalid login or password$/, 'manual: denied');
$c->try('AUTH PLAIN ' . $c->plain('perl_bad', 'x'),
        qr/^535 5\.7\.8 Invalid login or password$/, 'manual: denied, by Perl');

$c = $t->greeted('manual');
my ($challenge) = $c->ask('AUTH CRAM-MD5') =~ /^334 (\S+)$/;
ok($challenge, 'manual: CRAM-MD5');
$c->try(MIME::Base64::encode_base64(
            'cram ' . hmac_md5('plain-text-pass',
                               MIME::Base64::decode_base64($challenge)), ''),
        '235', 'manual: the service gives the secret of CRAM-MD5');

is($waiting{bad}->reply(), '535 5.7.8 Invalid login or password',
   'manual: denied, after a while');
is($waiting{temporary}->reply(),
   '451 4.3.0 Temporary server problem, try again later',
   'manual: a temporary failure');
cmp_ok(time - $start, '>=', 2, 'manual: Auth-Wait: 3');

done_testing();


# What both services do.

sub service {
    my ($name, $port, %options) = @_;

    my $c = $t->greeted($port, %options);
    $c->login('key-1', $keys{'key-1'});
    my $offered = $c->ask('EHLO client.example');
    like($offered, qr/^250.SIZE 20971520$/m, "$name: a plan: SIZE");
    like($offered, qr/^250.LIMITS RCPTMAX=500/m, "$name: a plan: RCPTMAX");
    like($c->message("x\r\n", 'a@shop.example'), qr/^250/, "$name: a sender");
    like($c->message("x\r\n", 'a@x.shop.example'), qr/^250/,
         "$name: another one");
    $c->try('MAIL FROM:<a@club.example>', '550 5.7.1',
            "$name: one that is not allowed");

    $c = $t->greeted($port, %options);
    $c->login('key-2', $keys{'key-2'});
    $offered = $c->ask('EHLO client.example');
    like($offered, qr/^250.SIZE 1048576$/m, "$name: another plan: SIZE");
    like($offered, qr/^250.LIMITS RCPTMAX=10/m, "$name: another plan: RCPTMAX");
    like($c->message("x\r\n", 'news@club.example'), qr/^250/,
         "$name: the one sender");
    $c->try('MAIL FROM:<other@club.example>', '550 5.7.1', "$name: and no other");

    $c = $t->greeted($port, %options);
    $c->try('AUTH PLAIN ' . $c->plain('key-1', $keys{'key-2'}),
            '535 5.7.8 Invalid login or password', "$name: a wrong secret");
    $c->try('AUTH PLAIN ' . $c->plain('nobody', 'x'),
            '535 5.7.8 Invalid login or password', "$name: an unknown user");
    return;
}

sub start_node {
    spew("$t->{dir}/keys.json", slurp("$examples/keys.json"));

    my $port = $t->port('js');
    defined(my $pid = fork()) or die "cannot fork: $!\n";

    if (!$pid) {
        SMTPRelay::Util::in_child();
        $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP /;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$t->{dir}/js.out";
        open STDERR, '>>', "$t->{dir}/js.out";
        { no warnings 'exec';
          exec 'node', "$examples/service.js", "$t->{dir}/keys.json", $port; }
        POSIX::_exit(127);
    }

    wait_until { $t->read('js.out') =~ /^listening/m } 20
        or die "no service: ", $t->read('js.out'), "\n";
    return $pid;
}

sub hmac_md5 {
    my ($key, $text) = @_;

    my $pad = $key . "\0" x (64 - length $key);
    return Digest::MD5::md5_hex(
        $pad ^ "\x5c" x 64, Digest::MD5::md5($pad ^ "\x36" x 64, $text));
}
