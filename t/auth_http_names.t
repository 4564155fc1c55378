# Names of the auth service that are resolved at run time: by a resolver, for
# each request, within the time that a verdict may take.  Without a resolver
# it is done at start.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::DNS;

use IO::Socket::IP;
use Time::HiRes qw/ time sleep /;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

$t->node('node');
$t->certificates('a.service.example', 'b.service.example');

my $ipv6 = IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0,
                               Listen => 1);
my @six = $ipv6 ? '::1' : ();

my $dns = SMTPRelay::DNS->new(dir => "$dir/dns", ttl => 1, names => {
    'moving.example' => ['127.0.0.2'],
    'two.example' => ['127.0.0.3', '127.0.0.2'],
    'six.example' => [@six],
    'both.example' => ['127.0.0.3', @six],
    'empty.example' => [],
    'silent.example' => 'silent',
    'a.service.example' => ['127.0.0.2'],
    'b.service.example' => ['127.0.0.2'],
    'default.example' => ['127.0.0.4'],
});

my %users = (users => { good => 'secret' });

# two addresses at one port, and a third one where nobody listens

my $port = $t->port('service');

my $one = $t->auth_service('one', port => $port, address => '127.0.0.2',
                           %users);
my $two = $t->auth_service('two', port => $port, address => '127.0.0.5',
                           %users);
my $six = $ipv6 && $t->auth_service('six', port => $port, address => '::1',
                                    %users);
my $tls = $t->auth_service('tls', tls => 1, cert => "$dir/a.service.example",
                           address => '127.0.0.2', %users);
my $group = $t->auth_service('group', %users);
my $resolver = 'resolver 127.0.0.1:' . $dns->port();

sub server {
    my ($name, $url, @lines) = @_;
    return join "\n", 'server {', "listen 127.0.0.1:%%PORT_s_$name%%;",
        'smtp_relay_pass 127.0.0.1:%%PORT_node%%;',
        "smtp_relay_auth $url;", @lines, '}', '';
}

my $servers = join '',
    server('literal', 'http://moving.example:%%PORT_service%%/auth'),
    server('localhost', 'http://LocalHost:%%PORT_group%%/auth'),
    server('two', 'http://two.example:%%PORT_service%%/auth'),
    server('six', 'http://six.example:%%PORT_service%%/auth'),
    server('address6', 'http://[::1]:%%PORT_service%%/auth'),
    server('both', 'http://both.example:%%PORT_service%%/auth'),
    server('empty', 'http://empty.example:%%PORT_service%%/auth'),
    server('unknown', 'http://unknown.example:%%PORT_service%%/auth'),
    server('silent', 'http://silent.example:%%PORT_service%%/auth',
           'smtp_relay_auth_timeout 500ms;'),
    server('resolver_timeout', 'http://silent.example:%%PORT_service%%/auth',
           'resolver_timeout 500ms;'),
    server('client_left', 'http://silent.example:%%PORT_service%%/auth'),
    server('uri', 'http://127.0.0.2:%%PORT_service%%/auth?port=$server_port'),
    server('arguments', 'http://127.0.0.2:%%PORT_service%%?a=b'),
    server('variable', 'http://$smtp_relay_helo/auth?port=$server_port'),
    server('variable_tls', 'https://$smtp_relay_helo:%%PORT_tls%%/auth',
           'smtp_relay_auth_ssl_server_name on;',
           'smtp_relay_auth_ssl_trusted_certificate ca.crt;'),
    server('variable_path', 'http://$backend'),
    server('variable_bad', 'http://$bad/auth');

$t->start(<<"EOC");
stream {
    upstream group {
        server  127.0.0.1:%%PORT_group%%;
    }

    map \$smtp_relay_helo \$backend {
        address.example  127.0.0.2:%%PORT_service%%/some/where?a=b;
        bare.example     127.0.0.2:%%PORT_service%%;
        query.example    127.0.0.2:%%PORT_service%%?x;
        group.example    group;
        name.example     moving.example:%%PORT_service%%/auth;
        unix.example     unix:%%TESTDIR%%/none.sock:/auth;
    }

    map \$smtp_relay_helo \$bad {
        lines.example    "127.0.0.2:%%PORT_service%%/ HTTP/1.1\\r\\nX: y\\r\\n\\r\\n";
        blank.example    "127.0.0.2 x";
        port.example     "127.0.0.2:99999";
        path.example     "";
        default          "";
    }

    $resolver ipv6=on;

    smtp_relay_starttls              off;
    smtp_relay_auth_failure_delay    0;
    smtp_relay_auth_connect_timeout  1s;
    smtp_relay_auth_timeout          3s;

$servers
}
EOC

sub requests { return scalar(my @requests = $_[0]->requests()) }

sub last_request {
    my @requests = sort { $a->{time} <=> $b->{time} } $_[0]->requests();
    return $requests[-1];
}

# a name in the URL, and a resolver in the server

is(login('literal'), '235', 'a name');
is(login('literal', undef, 'bad'), '535', 'a denial of it');
is(requests($one), 2, 'its address is asked');
is(last_request($one)->{headers}{host}, "moving.example:$port",
   'Host is the name');
is($one->connections(), 1, 'over one connection');
ok((grep { $_ eq 'A moving.example' } $dns->questions()), 'it was resolved');

$dns->set('moving.example', ['127.0.0.5']);
ok(wait_until { login('literal'); requests($two) },
   'another address is found at run time');

$dns->set('moving.example', []);
ok(wait_until { login('literal') eq '454' }, 'none: 454');
$dns->set('moving.example', ['127.0.0.2']);
ok(wait_until { login('literal') eq '235' }, 'and it comes back');

is(login('localhost'), '235', 'localhost');
is(scalar(grep { /localhost/ } $dns->questions()), 0,
   'is not asked of a name server');

is(login('two'), '235', 'two addresses, one of which is down') for 1 .. 6;
is(login('literal', undef, 'good'), '235', 'a name again');

SKIP: {
    skip 'no IPv6 on this machine', 5 unless $ipv6;

    is(login('six'), '235', 'a name with an IPv6 address');
    is(login('address6'), '235', 'an IPv6 address');
    is(requests($six), 2, 'it is asked');
    is(last_request($six)->{headers}{host}, "[::1]:$port", 'Host of it');
    is(login('both'), '235', 'IPv4 is down, IPv6 is not');
}

# what is not to be had

is(login('empty'), '454', 'a name without an address');
is(login('unknown'), '454', 'a name that does not exist');
ok($t->wait_log(qr/\[error\] .*auth service unknown\.example could not be resolved \(3: Host not found\)/),
   'is logged');

my $start = time();
is(login('silent'), '454', 'a silent resolver');
cmp_ok(time() - $start, '<', patience(3), 'is waited for as for a verdict');
ok($t->wait_log(qr/\[error\] .*auth service silent\.example could not be resolved \(110: /),
   'is logged');

$start = time();
is(login('resolver_timeout'), '454', 'resolver_timeout');
cmp_ok(time() - $start, '<', patience(2.5), 'holds, too');

my $c = $t->greeted('s_client_left');
$c->line('AUTH PLAIN ' . $c->plain('good', 'secret'));
$c->close();
is(login('literal'), '235', 'a client that leaves meanwhile');

# variables

is(login('uri'), '235', 'a URI with variables');
is(last_request($one)->{line},
   'GET /auth?port=' . $t->port('s_uri') . ' HTTP/1.1', 'is evaluated');
is(login('arguments'), '235', 'arguments without a path');
is(last_request($one)->{line}, 'GET /?a=b HTTP/1.1', 'are of the root');

is(login('variable', 'group'), '235', 'a host with variables: a group');
is(last_request($group)->{line},
   'GET /auth?port=' . $t->port('s_variable') . ' HTTP/1.1', 'its URI');
is(last_request($group)->{headers}{host}, 'group', 'its Host');
is(login('variable', 'default.example'), '454',
   'a name without a port: that of HTTP');
ok($t->wait_log(qr/connect\(\) failed .*auth service: "127\.0\.0\.4:80"/),
   'is tried');

for (['address', 'GET /some/where?a=b'], ['bare', 'GET /'],
     ['query', 'GET /?x'], ['name', 'GET /auth'])
{
    my ($name, $line) = @$_;
    is(login('variable_path', "$name.example"), '235', "a URL: $name");
    is(last_request($one)->{line}, "$line HTTP/1.1", "$name: its URI");
}

is(login('variable_path', 'group.example'), '235', 'a URL: a group');
is(login('variable_path', 'unix.example'), '454', 'a path where nobody is');
is(login('variable_path', 'other.example'), '454', 'no URL at all');

my $asked = requests($one);
is(login('variable_bad', "$_.example"), '454', "what is none: $_")
    for qw/ lines blank port path /;
is(requests($one), $asked, 'nobody is asked');
ok($t->wait_log(qr/\[error\] .*invalid URL of auth service/), 'log: invalid');

# TLS

is(login('variable_tls', 'a.service.example'), '235', 'https, a name');
is($tls->tls(1)->{server_name}, 'a.service.example', 'which is sent');
is(login('variable_tls', 'b.service.example'), '454',
   'another name at the same address: the certificate is not its');
is(login('variable_tls', 'a.service.example'), '235', 'the first one again');
is(requests($tls), 2, 'only that one is asked');
is($tls->connections(), 2, 'over its connection');

# at start

is(($t->check_conf(<<"EOC"))[0], 0, 'a name, with a resolver: not at start');
stream {
    server {
        listen           127.0.0.1:%%PORT_x%%;
        resolver         127.0.0.1;
        smtp_relay_pass  127.0.0.1:25;
        smtp_relay_starttls off;
        smtp_relay_auth  http://does-not.exist.invalid/;
    }
}
EOC

my ($status, $said) = $t->check_conf(<<"EOC");
stream {
    server {
        listen           127.0.0.1:%%PORT_x%%;
        smtp_relay_pass  127.0.0.1:25;
        smtp_relay_starttls off;
        smtp_relay_auth  http://does-not.exist.invalid/;
    }
}
EOC
ok($status, 'a name, without a resolver: refused');
like($said, qr/host not found in upstream "does-not\.exist\.invalid" in .*nginx\.conf:(\d+)/,
     'says why');
is($said =~ /nginx\.conf:(\d+)$/m && $t->own_line($1), 6, 'and where');

# nginx calls a path that is not there critical

$t->{expected_alerts} = qr/\[emerg\]|connect\(\) to unix:\S+none\.sock/;

done_testing();


# The code of the reply to AUTH in a session of its own.

sub login {
    my ($name, $helo, $user) = @_;

    my $c = $t->client("s_$name");
    $c->must(undef, '220');
    $c->must('EHLO ' . ($helo // 'client.example'), '250');
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user // 'good', 'secret'));
    $c->ask('QUIT');

    return substr $reply, 0, 3;
}
