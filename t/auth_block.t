# smtp_relay_auth_block: who fails to log in too often has to wait.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');

my $auth = $t->auth_service('auth', users => { user => 'secret' },
    answer => sub {
        my ($request) = @_;
        my $user = $request->{headers}{'auth-user'};
        return [500, {}] if $user eq 'down';
        return { 'Auth-Status' => 'Try later',
                 'Auth-Error-Code' => '451 4.3.0' } if $user eq 'later';
        return;
    });

$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    log_format  login  "$server_port $smtp_relay_event $status "
                       "[$smtp_relay_user] [$smtp_relay_limit]";
    access_log  access.log  login;

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;

    map $smtp_relay_user $by_map { default ""; ~^mapped $smtp_relay_user; }

    smtp_relay_auth_block_zone  $binary_remote_addr$server_port  zone=address:1m;
    smtp_relay_auth_block_zone  $smtp_relay_user                 zone=user:1m;
    smtp_relay_auth_block_zone  $binary_remote_addr$smtp_relay_user  zone=both:1m;
    smtp_relay_auth_block_zone  $by_map                          zone=map:1m;
    smtp_relay_auth_block_zone  $smtp_relay_helo$smtp_relay_helo zone=long:1m;

    # the first 64 bits of an IPv6 address, all of an IPv4 address
    map $binary_remote_addr $network {
        default                        $binary_remote_addr;
        "~(?s)^(?<prefix>.{8}).{8}\z"  $prefix;
    }

    smtp_relay_auth_block_zone  $network  zone=network:1m;

    server {
        listen                 127.0.0.1:%%PORT_address%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  address failures=3 window=1m time=1h;
    }

    server {
        listen                 127.0.0.1:%%PORT_user%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  user failures=2 window=1m time=1h;
    }

    server {
        listen                 127.0.0.1:%%PORT_both%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  both failures=2 window=1m time=1h;
    }

    server {
        listen                 127.0.0.1:%%PORT_mapped%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  map failures=2 window=1m time=1h;
    }

    server {
        listen                 127.0.0.1:%%PORT_two%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  user failures=2 window=1m time=1h;
        smtp_relay_auth_block  address failures=4 window=1m time=1h;
    }

    server {
        listen                 127.0.0.1:%%PORT_short%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  address failures=2 window=60s time=1s;
    }

    server {
        listen                 127.0.0.1:%%PORT_window%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  address failures=2 window=300ms time=1h;
    }

    server {
        listen                 127.0.0.1:%%PORT_helo%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  long failures=1 window=1m time=1h;
    }

    server {
        listen                 127.0.0.1:%%PORT_network%% proxy_protocol;
        set_real_ip_from       127.0.0.1;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  network failures=1 window=1m time=1h;
    }

    smtp_relay_auth_block_zone  $smtp_relay_user$server_port  zone=kept:1m;
    smtp_relay_auth_cache_zone  zone=verdicts:1m;

    server {
        listen                 127.0.0.1:%%PORT_file%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_file   keys;
        smtp_relay_auth_block  kept failures=2 window=1m time=1h;
    }

    server {
        listen                 127.0.0.1:%%PORT_cache%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_cache  verdicts valid=10m;
        smtp_relay_auth_block  kept failures=2 window=1m time=1h;
    }

    server {
        listen           127.0.0.1:%%PORT_off%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $blocked = '421 4.7.0 relay.example Too many authentication failures, '
              . 'try again later';
my ($c, $other, $requests);

# by address

my $before = $t->greeted('address');

$c = $t->greeted('address');
$c->try('AUTH PLAIN ' . $c->plain('user', 'wrong'), '535', 'a failure');
$c->login('user', 'secret');
$c = $t->greeted('address');
$c->try('AUTH PLAIN ' . $c->plain('else', 'x'), '535',
        'another, in another session, of another user');
$other = $t->session('address', user => 'user', secret => 'secret');
pass('one who knows the password gets in');
$c->try('AUTH PLAIN ' . $c->plain('user', 'wrong'), '535',
        'a third: what others get right does not count for it');

$requests = requests();

$c->try('AUTH PLAIN ' . $c->plain('user', 'secret'), $blocked,
        'from now on the right password is not asked for, either');
$c->expect_closed('the session is over');

refused('address', 'a new session');

$before->try('AUTH LOGIN', $blocked, 'nor is a user in an older session');
$before->expect_closed('which is over');

is(requests(), $requests, 'the service was not asked about any of them');

$other->must('QUIT', '221');
$c = $t->session('off', user => 'user', secret => 'secret');
like($c->message("x\r\n"), qr/^250/, 'a server without it knows nothing of it');

is(logged(qr/"0x7f000001[0-9a-f]+" of zone "address"/), 1,
   'that it is blocked is logged, once');

refused('address', "again, $_") for 1 .. 3;

is(logged(qr/of zone "address"/), 1, 'and not with each attempt');
is(log_of('address', 'session 403 [-] [address]'), 1,
   'log: status 403, and the zone');

# a session that is logged in is let alone

$c = $t->session('user', user => 'user', secret => 'secret');
fail_login('user', 'user', 2);
like($c->message("x\r\n"), qr/^250/, 'who is in stays in');

# by user: known when the client has said it

$c = $t->greeted('user');
$requests = requests();
$c->must('AUTH LOGIN', '334');
$c->must('dXNlcg==', '334');
$c->try('c2VjcmV0', $blocked, 'a user: when it is known who it is');
is(requests(), $requests, 'the service is not asked');
is(log_of('user', 'session 403 [user] [user]'), 1, 'log: the user');
ok($t->wait_log(qr/\[warn\].*logins are blocked for 3600s after 2 failures within 60s, key "user" of zone "user"/),
   'the error log has the user');

$c = $t->greeted('user');
$c->try('AUTH PLAIN ' . $c->plain('else', 'x'), '535', 'another user is asked');
$c->try('AUTH PLAIN ' . $c->plain('user', 'secret'), $blocked,
        'the one is not, in no session');

# by both

fail_login('both', 'joe', 2);
$c = $t->greeted('both');
$c->try('AUTH PLAIN ' . $c->plain('joe', 'x'), $blocked, 'address and user');
$c = $t->greeted('both');
$c->try('AUTH NONSENSE', '504', 'no user, no key') for 1 .. 3;
$c->try('AUTH PLAIN ' . $c->plain('jim', 'x'), '535',
        'another user from the same address');

# by map: empty is no key

fail_login('mapped', 'unmapped', 4);
fail_login('mapped', 'mapped-1', 2);
$c = $t->greeted('mapped');
$c->try('AUTH PLAIN ' . $c->plain('unmapped', 'x'), '535',
        'an empty key is none');
$c->try('AUTH PLAIN ' . $c->plain('mapped-2', 'x'), '535', 'a key of a map');
$c->try('AUTH PLAIN ' . $c->plain('mapped-1', 'x'), $blocked,
        'of the last attempt, not of the first');

# several rules

fail_login('two', 'two-1', 2);
$c = $t->greeted('two');
$c->try('AUTH PLAIN ' . $c->plain('two-1', 'x'), $blocked, 'the first rule');
fail_login('two', 'two-2', 1);
$c = $t->greeted('two');
$c->try('AUTH PLAIN ' . $c->plain('two-3', 'x'), '535', 'the fourth failure');
refused('two', 'the second rule');
is(log_of('two', 'session 403 [-] [address]'), 1, 'log: the zone that refused');

# a mechanism that is not offered counts

for my $port (qw/ short /) {
    $c = $t->greeted($port);
    $c->try('AUTH NONSENSE', '504', 'a mechanism that there is not');
    $c->try('AUTH CRAM-MD5', '504', 'one that is not offered');
    $c->try('AUTH PLAIN ' . $c->plain('user', 'secret'), $blocked,
            'they count');
}

# a time, then it is over

refused('short', 'for a second');
ok(wait_until {
       my $d = $t->client('short');
       my $reply = $d->reply() . "\n" . $d->ask('EHLO client.example');
       $reply !~ /421/;
   }, 'then no more');
fail_login('short', 'user', 1);
$c = $t->session('short', user => 'user', secret => 'secret');
fail_login('short', 'user', 1);
refused('short', 'what was before does not count again, what is new does');

# what does not count

$c = $t->greeted('window');
$c->must('AUTH PLAIN !', '501') for 1 .. 3;
$c->must('AUTH LOGIN', '334');
$c->must('*', '501');
$c->must('AUTH PLAIN ' . $c->plain('down', 'x'), '454') for 1 .. 3;
$c->must('AUTH PLAIN ' . $c->plain('later', 'x'), '451') for 1 .. 3;
$c->login('user', 'secret');
pass('not decodable, given up, temporary: these do not count');

# failures that are too far from each other: three in time are enough

for my $n (1 .. 3) {
    fail_login('window', 'user', 1);
    select undef, undef, undef, 0.5;
}

$c = $t->session('window', user => 'user', secret => 'secret');
pass('failures out of the window do not count');

# keys of any length

my $long = 'x' x 250;

for my $case ([$long . 'a' => 1], [$long . 'b' => 0]) {
    my ($name, $fail) = @$case;

    $c = $t->client('helo');
    $c->must(undef, '220');
    $c->must("EHLO $name", '250');
    $c->try('AUTH PLAIN ' . $c->plain('user', 'wrong'), '535',
            'a long key: a failure') if $fail;
    $c->try('AUTH PLAIN ' . $c->plain('user', 'secret'),
            $fail ? $blocked : '235',
            $fail ? 'is blocked' : 'differs at its end from another one');
}

# neither a file nor a cache is asked

for my $port (qw/ file cache /) {
    $t->session($port, user => 'user', secret => 'secret') for 1, 2;
    fail_login($port, 'user', 2);
    $requests = requests();
    $c = $t->greeted($port);
    $c->try('AUTH PLAIN ' . $c->plain('user', 'secret'), $blocked,
            "a $port is not asked for the right password, either");
    is(requests(), $requests, 'nor is the service');
}

# by network

proxied('2001:db8::1')->try('AUTH NONSENSE', '504', 'a network: a failure');
is(logged(qr/"0x20010db800000000" of zone "network"/), 1,
   'the first 64 bits of an address are blocked');
proxied('2001:db8:0:0:ffff::', $blocked);
proxied('2001:db8:0:1::1')->try('NOOP', '250', 'another network is not');
proxied('192.0.2.1')->try('AUTH NONSENSE', '504', 'an IPv4 address');
proxied('192.0.2.1', $blocked);
proxied('192.0.2.2')->try('NOOP', '250', 'another address is not');

done_testing();


# The client is greeted, and that was it.

sub refused {
    my ($port, $name) = @_;

    my $c = $t->client($port);
    $c->must(undef, '220');
    $c->expect($blocked, "$name: is refused");
    $c->expect_closed("$name: is over");
    return;
}

# A client with that address.

sub proxied {
    my ($address, $wanted) = @_;

    my $c = $t->client('network');
    $c->send($address =~ /:/ ? "PROXY TCP6 $address ::1 4000 25\r\n"
                             : "PROXY TCP4 $address 127.0.0.1 4000 25\r\n");
    $c->must(undef, '220');
    return $c->expect($wanted, "$address: is refused") if $wanted;
    $c->must('EHLO client.example', '250');
    return $c;
}

sub fail_login {
    my ($port, $user, $number) = @_;

    my $c = $t->greeted($port);
    $c->must('AUTH PLAIN ' . $c->plain($user, 'wrong'), '535') for 1 .. $number;
    return;
}

sub requests { return scalar(() = $auth->requests()) }

# How many lines of that.

sub logged {
    my ($pattern) = @_;

    $t->wait_log(qr/\[warn\].*logins are blocked.*$pattern/);
    return scalar($t->log_lines(qr/\[warn\].*logins are blocked.*$pattern/));
}

sub log_of {
    my ($name, $line) = @_;

    $line = $t->port($name) . " $line";
    return wait_until { grep { $_ eq $line } $t->lines('access.log') } ? 1 : 0;
}
