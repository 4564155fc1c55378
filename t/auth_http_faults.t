# Whatever is wrong with the auth service, a login is neither OK nor denied:
# it is told 454, in time.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ time /;

my $t = SMTPRelay::Test->new();
$t->node('node');

my $ok = "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n";

my %faults = (
    silence => ':silent',
    close => ':close',
    reset => ':reset',
    line => { act => { raw => 'HTTP/1.1 20', then => ':close' } },
    header => { act => { raw => "${ok}X-Half: ", then => ':close' } },
    header_silence => { act => { raw => "${ok}X-Half: ", then => ':silent' } },
    huge_line => $ok . 'X-Long: ' . 'x' x 70000 . "\r\n\r\n",
    huge_count => $ok . "X-Many: x\r\n" x 20000 . "\r\n",
    huge_status => 'HTTP/1.1 200 ' . 'x' x 70000 . "\r\n\r\n",
    garbage => join('', map { chr($_ * 37 % 256) } 1 .. 400),
    smtp => "220 smtp.example ESMTP\r\n",
    nul => "HTTP/1.1 200 OK\r\nAuth-Status: O\0K\r\n\r\n",
    http9 => "Auth-Status: OK\r\n\r\n",
    code => "HTTP/1.1 999 OK\r\nAuth-Status: OK\r\n\r\n",
    tls => "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . "\0" x 40,
    endless => { act => { pieces => [ $ok, ("X-More: more\r\n") x 400 ],
                          then => ':silent' } },
    continues => "HTTP/1.1 100 Continue\r\n\r\n" x 5000,
);

# the verdict stands in the headers, of whatever becomes of a body

my %bodies = (
    body => { act => { raw => "${ok}Content-Length: 10\r\n\r\nhalf",
                       then => ':silent' } },
    body_close => { act => { raw => "${ok}Content-Length: 10\r\n\r\nhalf",
                             then => ':close' } },
    chunk => "${ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    behind => "${ok}Content-Length: 0\r\n\r\n"
              . "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n\r\n",
);

my $answer = sub {
    my $user = $_[0]{headers}{'auth-user'} // '';
    return $faults{$user} // $bodies{$user};
};

my $auth = $t->auth_service('auth', answer => $answer,
                            users => { good => 'secret' });
my $second = $t->auth_service('second', users => { good => 'secret' });

$t->start(<<'EOC');
stream {
    log_format  login  "$smtp_relay_event $smtp_relay_user "
                       "$smtp_relay_auth_status";
    access_log  access.log  login;

    upstream two {
        server  127.0.0.1:%%PORT_none%%;
        server  127.0.0.1:%%PORT_second%%;
    }

    upstream none {
        server  127.0.0.1:%%PORT_none%%;
        server  127.0.0.1:%%PORT_none2%%;
    }

    smtp_relay_starttls             off;
    smtp_relay_auth_failure_delay   0;
    smtp_relay_auth_max_failures    0;
    smtp_relay_auth_connect_timeout 300ms;
    smtp_relay_auth_timeout         500ms;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_auth%%/;
    }

    server {
        listen           127.0.0.1:%%PORT_refused%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_none%%/;
    }

    server {
        listen           127.0.0.1:%%PORT_group%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://two/;
    }

    server {
        listen           127.0.0.1:%%PORT_all_down%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://none/;
    }
}
EOC

for my $fault (sort keys %faults) {
    my $start = time();
    my $reply = login($fault);

    is($reply, '454 4.7.0 Temporary authentication failure', "fault: $fault");
    cmp_ok(time() - $start, '<', patience(3), "in time: $fault");
    is(login('good'), '235', "the service serves after it: $fault");
}

for my $body (sort keys %bodies) {
    my $start = time();

    like(login($body), qr/^(235|454 4\.7\.0 .*)$/, "broken body: $body");
    cmp_ok(time() - $start, '<', patience(3), "in time: $body");
    isnt(login('denied'), '235', "it is no reply to the next login: $body");
    is(login('good'), '235', "the service serves after it: $body");
}

is(login('good', 'refused'), '454 4.7.0 Temporary authentication failure',
   'no service');
is(login('good', 'all_down'), '454 4.7.0 Temporary authentication failure',
   'no service at any address');

for (1 .. 4) {
    is(login('good', 'group'), '235', 'the second address takes over');
}

# the session goes on, and attempts do not count as failures of the client

my $c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . $c->plain('reset', 'secret'), '454', 'a fault');
$c->try('MAIL FROM:<a@b.example>', '530 5.7.0', 'is no login');
$c->login('good', 'secret');
$c->try('MAIL FROM:<a@b.example>', '250', 'a login after it');

ok(wait_until { grep { /^session silence error$/ } $t->lines('access.log') },
   'log: error');
ok($t->wait_log(qr/\[error\].*timed out/), 'a timeout is logged');
cmp_ok(scalar $t->log_lines(qr/\[error\]/), '>=', 10, 'faults are logged');

# the client leaves while the service is silent

$c = $t->greeted('smtp');
$c->line('AUTH PLAIN ' . $c->plain('silence', 'secret'));
$c->close();
$c = $t->greeted('smtp');
$c->line('AUTH PLAIN ' . $c->plain('silence', 'secret'));
$c->reset();

is(login('good'), '235', 'nginx serves after that');

done_testing();


# The reply to AUTH in a session of its own; the code only if it is 235.

sub login {
    my ($user, $port) = @_;

    my $c = $t->greeted($port // 'smtp');
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user, 'secret'));
    $c->ask('QUIT');

    return $reply =~ /^235/ ? '235' : $reply;
}
