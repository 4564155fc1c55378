# Connections to the auth service are used again, with TLS as without: a
# hundred logins and more for each.  The service is nginx itself, and
# OpenSSL's server for what TLS sends when nobody asks.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use IO::Select;
use IPC::Open2;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

plan(skip_all => 'nginx has no http_ssl module')
    unless SMTPRelay::Test::version() =~ /--with-http_ssl_module/;

$t->node('node');
$t->certificates('service.example');

my $few = $t->auth_service('few', users => {});
my $tired = $t->auth_service('tired', users => { good => 'secret' },
    answer => sub {
        my ($request) = @_;
        return if $request->{number} < 2
                  && $request->{headers}{'auth-user'} ne 'late';
        return { act => { raw => "HTTP/1.1 408 Request Timeout\r\n"
                                 . "Content-Length: 0\r\n"
                                 . "Connection: close\r\n\r\n",
                          then => ':close' } };
    });
my $tls_port = $t->port('s_server');

$t->start(<<'EOC');
http {
    log_format  asked  "$server_port $connection $http_auth_user $http_host";
    access_log  asked.log  asked;

    map $http_auth_user $verdict {
        default  "No such key";
        good     OK;
        body     OK;
    }

    server {
        listen              127.0.0.1:%%PORT_http%%;
        listen              127.0.0.1:%%PORT_https%% ssl;
        listen              127.0.0.1:%%PORT_twelve%% ssl;
        listen              unix:%%TESTDIR%%/http.sock;
        listen              unix:%%TESTDIR%%/https.sock ssl;
        ssl_certificate     service.example.crt;
        ssl_certificate_key service.example.key;
        keepalive_requests  10000;

        location /auth {
            add_header  Auth-Status $verdict always;
            return      204;
        }

        location /body {
            add_header  Auth-Status $verdict always;
            return      200 "a body that nobody wants\n";
        }
    }
}

stream {
    smtp_relay_starttls                      off;
    smtp_relay_auth_failure_delay            0;
    smtp_relay_auth_max_failures             0;
    smtp_relay_auth_ssl_trusted_certificate  ca.crt;

    server {
        listen           127.0.0.1:%%PORT_s_http%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_http%%/auth;
    }

    server {
        listen           127.0.0.1:%%PORT_s_https%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  https://127.0.0.1:%%PORT_https%%/body;
    }

    server {
        listen           127.0.0.1:%%PORT_s_twelve%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  https://127.0.0.1:%%PORT_twelve%%/auth;
        smtp_relay_auth_ssl_protocols  TLSv1.2;
    }

    server {
        listen           127.0.0.1:%%PORT_s_unix%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://unix:%%TESTDIR%%/http.sock:/auth;
    }

    server {
        listen           127.0.0.1:%%PORT_s_unix_tls%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  https://unix:%%TESTDIR%%/https.sock:/auth;
        smtp_relay_auth_ssl_name  service.example;
    }

    server {
        listen           127.0.0.1:%%PORT_s_few%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_few%%/auth;
        smtp_relay_auth_keepalive  2;
    }

    server {
        listen           127.0.0.1:%%PORT_s_tired%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_tired%%/auth;
    }

    server {
        listen           127.0.0.1:%%PORT_s_openssl%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  https://127.0.0.1:%%PORT_s_server%%/auth;
    }
}
EOC

# one after the other

for my $name (qw/ http https twelve /) {
    my $logins = 150;

    my $good = grep { login($name) eq '235' } 1 .. $logins;
    is($good, $logins, "$name: logins");

    my %c = connections($name, $logins);
    is(scalar keys %c, 1, "$name: all over one connection");
}

# over a path

for my $name (qw/ unix unix_tls /) {
    is(login($name), '235', "$name: a login");
    is(login($name, 'bad'), '535', "$name: a denial");
}

my @local;
ok(wait_until { @local = grep { / localhost$/ } $t->lines('asked.log');
                @local == 4 }, 'a path: Host is localhost');
is(scalar(keys %{{ map { (split / /)[1] => 1 } @local }}), 2,
   'a connection each');

# at one time

my $denied = 0;

for my $name (qw/ http https /) {
    my $clients = 10;
    my $each = 100;

    my $before = requests($name);
    my @c = map { $t->greeted("s_$name") } 1 .. $clients;

    $denied = 0;

    for (1 .. $each) {
        $_->line('AUTH PLAIN ' . $_->plain('bad', 'secret')) for @c;
        $denied += grep { ($_->reply() // '') =~ /^535/ } @c;
    }

    is($denied, $clients * $each, "$name: logins of $clients clients");
    $_->close() for @c;

    my %c = connections($name, $before + $clients * $each);
    cmp_ok(scalar keys %c, '<=', 1 + $clients,
           "$name: a connection for each hundred at most");
}

# of more than are kept, the rest goes soon, but not at once

my @few = map { $t->greeted('s_few') } 1 .. 5;
$denied = 0;

for (1 .. 60) {
    $_->line('AUTH PLAIN ' . $_->plain('bad', 'secret')) for @few;
    $denied += grep { ($_->reply() // '') =~ /^535/ } @few;
}

is($denied, 300, 'five logins at one time, two connections kept');
my $opened = $few->connections();
cmp_ok($opened, '<', 30, 'a connection serves for many of them');
ok(wait_until { $opened - 2 == grep { $few->over($_) } 1 .. $opened },
   'all but two of them go');
$_->must('AUTH PLAIN ' . $_->plain('bad', 'secret'), '535') for @few;
is($few->connections(), $opened, 'which stay');
$_->close() for @few;

# what TLS sends while a connection is idle is none of HTTP's

my $pid = open2(my $out, my $in, 'openssl', 's_server', '-accept',
                "127.0.0.1:$tls_port", '-cert', "$dir/service.example.crt",
                '-key', "$dir/service.example.key", '-tls1_3', '-crlf', '-msg');
$in->autoflush(1);
my $said = '';

ok(said(qr/ACCEPT/), 'openssl s_server is there');

my $c = openssl_login();
ok($c, 'a login');
print $in "K\n";

ok(said(qr/>>> .*KeyUpdate/), 'an idle connection is asked for new keys');

ok(openssl_login(), 'a login over the same connection');
like($said, qr/<<< .*KeyUpdate/, 'with new keys');
unlike($said, qr/DONE|shutdown accept socket|CONNECTION CLOSED/,
       'which was not closed');
is(scalar(() = $said =~ /<<< .*ClientHello/g), 1, 'there was one');

# octets that nobody asked for are another thing

print $in "HTTP/1.1 200 OK\nAuth-Status: OK\nContent-Length: 0\n\n";
ok(said(qr/DONE|CONNECTION CLOSED/), 'a reply without a request: closed');

kill 'KILL', $pid;
waitpid $pid, 0;

# a kept connection that the service gives up with 408 as the request comes

is(login('tired'), '235', '408: a login');
is(login('tired'), '235', '408 on a kept connection: asked again');
is($tired->connections(), 2, 'over another one');

is(scalar $t->log_lines(qr/\[error\]/), 0, 'no errors');

is(login('tired', 'late'), '454', '408 on a new connection, too: the answer');
is($tired->connections(), 3, 'which is not asked for again');

done_testing();


# The requests that the service has logged, by connections.

sub connections {
    my ($name, $number) = @_;

    my $port = $t->port($name);
    my @lines;

    wait_until {
        @lines = grep { /^$port / } $t->lines('asked.log');
        @lines >= $number
    };

    my %connections;
    $connections{(split / /)[1]}++ for @lines;
    return %connections;
}

sub requests {
    my ($name) = @_;
    my $port = $t->port($name);
    return scalar(my @lines = grep { /^$port / } $t->lines('asked.log'));
}


# Reads what openssl says until it matches.

sub said {
    my ($pattern) = @_;

    my $select = IO::Select->new($out);

    return wait_until {
        sysread $out, $said, 65536, length $said if $select->can_read(0.05);
        $said =~ $pattern
    };
}


# A login that is answered by hand.

sub openssl_login {
    my $before = () = $said =~ /^GET /mg;

    my $c = $t->greeted('s_openssl');
    $c->line('AUTH PLAIN ' . $c->plain('good', 'secret'));

    wait_until {
        said(qr/./);
        $before < (() = $said =~ /^GET .*?\n\r?\n/msg)
    } or return 0;

    print $in "HTTP/1.1 200 OK\nAuth-Status: OK\nContent-Length: 0\n\n";
    my $reply = $c->reply() // '';
    $c->ask('QUIT');

    return $reply =~ /^235/;
}


# The code of the reply to AUTH in a session of its own.

sub login {
    my ($name, $user) = @_;

    my $c = $t->greeted("s_$name");
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user // 'good', 'secret'));
    $c->ask('QUIT');

    return substr $reply, 0, 3;
}
