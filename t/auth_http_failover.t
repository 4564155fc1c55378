# Several servers of an auth service: the next one is asked when one is out of
# order, in whatever way, but not when it has given an answer.  All of it is
# bounded by one timeout, and the balancer is told what failed.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ time /;

my $t = SMTPRelay::Test->new();
$t->node('node');

my $ok = "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n";

# what a first server does, and what becomes of the login with a second one
# that says OK

my %next = (
    close => ':close',
    reset => ':reset',
    silent => ':silent',
    status => { act => { raw => 'HTTP/1.1 20', then => ':close' } },
    header => { act => { raw => "${ok}X-Half: ", then => ':close' } },
    hanging => { act => { raw => "${ok}X-Half: ", then => ':silent' } },
    trickle => { act => { pieces => [ "HTTP/1.1 200 OK\r\nAuth-Status: NO\r\n",
                                      map { ('X-More: more', "\r\n") } 1 .. 60 ],
                          then => ':silent' } },
    garbage => "220 smtp.example ESMTP\r\n",
    colon => "${ok}No colon\r\n\r\n",
    interim => "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" . $ok,
    long => $ok . 'X-Long: ' . 'x' x 20000 . "\r\n\r\n",
    s500 => [500, { 'Auth-Status' => 'OK' }],
    s501 => [501, {}],
    s502 => [502, {}],
    s503 => [503, { 'Retry-After' => 10 }],
    s504 => [504, {}],
    s507 => [507, {}],
    s599 => [599, {}],
);

my %final = (
    s200 => [[200, { 'Auth-Status' => 'No such key' }], '535'],
    s401 => [[401, {}], '535'],
    s403 => [[403, {}], '535'],
    s404 => [[404, {}], '454'],
    s302 => [[302, { Location => '/' }], '454'],
    s429 => [[429, {}], '454'],
    s600 => [[600, {}], '454'],
    twice => ["${ok}Auth-Status: OK\r\n\r\n", '454'],
    body => [{ act => { raw => "${ok}Content-Length: 9\r\n\r\n",
                        then => ':close' } }, '235'],
);

my %scripts = (%next, map { $_ => $final{$_}[0] } keys %final);

my $script = sub {
    my $user = $_[0]{headers}{'auth-user'} // '';
    return $scripts{$user} // ($user eq 'good' ? { 'Auth-Status' => 'OK' }
                                               : undef);
};

my $first = $t->auth_service('first', answer => $script);
my $second = $t->auth_service('second',
                              answer => sub { { 'Auth-Status' => 'OK' } });
my $out = $t->auth_service('out', answer => sub { [503, {}] });
my $ill = $t->auth_service('ill', answer => sub { [500, {}] });
my $silent = $t->auth_service('silent', answer => sub { ':silent' });

$t->start(<<'EOC');
stream {
    upstream two {
        server  127.0.0.1:%%PORT_first%%  max_fails=0;
        server  127.0.0.1:%%PORT_second%% backup;
    }

    upstream down_first {
        server  127.0.0.1:%%PORT_none%%   max_fails=0;
        server  127.0.0.1:%%PORT_second%% backup;
    }

    upstream silent_first {
        server  127.0.0.1:%%PORT_silent%% max_fails=0;
        server  127.0.0.1:%%PORT_second%% backup;
    }

    upstream failing {
        server  127.0.0.1:%%PORT_out%%    max_fails=1 fail_timeout=1h;
        server  127.0.0.1:%%PORT_second%% backup;
    }

    upstream ill {
        server  127.0.0.1:%%PORT_ill%%    max_fails=1 fail_timeout=1h;
        server  127.0.0.1:%%PORT_second%% backup;
    }

    upstream all_out {
        server  127.0.0.1:%%PORT_out%%    max_fails=0;
        server  127.0.0.1:%%PORT_ill%%    max_fails=0;
    }

    upstream all_silent {
        zone    all_silent 64k;
        server  127.0.0.1:%%PORT_silent%% max_fails=0;
        server  127.0.0.1:%%PORT_silent%% max_fails=0;
        server  127.0.0.1:%%PORT_silent%% max_fails=0;
    }

    upstream all_down {
        server  127.0.0.1:%%PORT_none%%   max_fails=1 fail_timeout=1h;
        server  127.0.0.1:%%PORT_none2%%  max_fails=1 fail_timeout=1h;
    }

    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_timeout        1s;

    server {
        listen           127.0.0.1:%%PORT_s_two%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://two/;
        smtp_relay_auth_keepalive  0;
    }

    server {
        listen           127.0.0.1:%%PORT_s_single%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_ill%%/;
        smtp_relay_auth_timeout  20s;
    }

    server {
        listen           127.0.0.1:%%PORT_s_down_first%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://down_first/;
    }

    server {
        listen           127.0.0.1:%%PORT_s_silent_first%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://silent_first/;
        smtp_relay_auth_timeout  4s;
    }

    server {
        listen           127.0.0.1:%%PORT_s_failing%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://failing/;
    }

    server {
        listen           127.0.0.1:%%PORT_s_ill%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://ill/;
    }

    server {
        listen           127.0.0.1:%%PORT_s_all_out%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://all_out/;
    }

    server {
        listen           127.0.0.1:%%PORT_s_all_silent%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://all_silent/;
        smtp_relay_auth_timeout  2s;
    }

    server {
        listen           127.0.0.1:%%PORT_s_all_down%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://all_down/;
    }
}
EOC

# the next server is asked

for my $name (sort keys %next) {
    my ($one, $two) = asked($first, $second);

    is(login('two', $name), '235', "$name: the next server is asked");
    is(join(' ', asked($first, $second)), join(' ', $one + 1, $two + 1),
       "$name: each of the two once");
    is(login('two', 'good'), '235', "$name: the first one serves after it");
}

ok($t->wait_log(qr/\[error\] .*auth service server "127\.0\.0\.1:\d+" sent HTTP status 503, the next one is asked/),
   'log: a status');
ok($t->wait_log(qr/\[error\] .*auth service timed out/), 'log: a time-out');

for my $name (sort keys %final) {
    my ($one, $two) = asked($first, $second);

    is(login('two', $name), $final{$name}[1], "$name: that is the answer");
    is(join(' ', asked($first, $second)), join(' ', $one + 1, $two),
       "$name: nobody else is asked");
}

is(login('down_first', 'good'), '235', 'a server that refuses connections')
    for 1 .. 2;

# time

my $start = time();
is(login('silent_first', 'good'), '235', 'a silent server');
my $took = time() - $start;
cmp_ok($took, '>', 1.8, 'has half of the time');
cmp_ok($took, '<', 2 + patience(1.9), 'and not all of it') if factor() == 1;

$start = time();
is(login('all_silent', 'good'), '454', 'three silent servers');
cmp_ok(time() - $start, '<', patience(4), 'have the time of one');

$start = time();
is(login('single', 'good'), '454', 'a single server with a 500');
cmp_ok(time() - $start, '<', patience(8), 'is not waited for');
is(asked($ill), 1, 'and asked once');

# the balancer

my ($before) = asked($out);
is(login('failing', 'good'), '235', '503: the next server') for 1 .. 4;
is((asked($out))[0], $before + 1, 'it is asked once, then passed over');

($before) = asked($ill);
is(login('ill', 'good'), '235', '500: the next server') for 1 .. 4;
is((asked($ill))[0], $before + 4, 'it is asked again: the request may be it');

is(login('all_out', 'good'), '454', '5xx of all servers') for 1 .. 2;
is(login('all_down', 'good'), '454', 'no server') for 1 .. 2;
ok($t->wait_log(qr/\[error\] .*no live auth service servers/), 'log: none');

is(scalar $t->log_lines(qr/secret/), 0, 'no secret is logged');

done_testing();


# How many requests services have got.

sub asked {
    my @numbers = map { scalar(my @requests = $_->requests()) } @_;
    return wantarray ? @numbers : $numbers[0];
}


# The code of the reply to AUTH in a session of its own.

sub login {
    my ($name, $user) = @_;

    my $c = $t->greeted("s_$name");
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user, 'secret'));
    $c->ask('QUIT');

    return substr $reply, 0, 3;
}
