# The header of the PROXY protocol towards nodes: the real client, in front
# of everything else, on a connection that nobody else gets.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Socket qw/ inet_aton inet_pton AF_INET6 /;

my $t = SMTPRelay::Test->new();

$t->keys(user => 'secret');
$t->certificates('node.example');

my %tls = (cert => $t->dir() . '/node.example', proxy => 1);

my %n = (
    plain => $t->node('plain', proxy => 1),
    tls => $t->node('tls', tls => 'on', %tls),
    starttls => $t->node('starttls', tls => 'starttls', %tls),
);

my $servers = '';

for my $version ('v1', 'v2') {
    for my $node (sort keys %n) {
        my $ssl = $node eq 'tls' ? 'on' : $node eq 'plain' ? 'off' : $node;

        $servers .= <<"EOC";
    server {
        listen                     127.0.0.1:%%PORT_${version}_$node%%;
        smtp_relay_pass            127.0.0.1:%%PORT_$node%%;
        smtp_relay_ssl             $ssl;
        smtp_relay_proxy_protocol  $version;
    }
EOC
    }

    $servers .= <<"EOC";
    server {
        listen                     127.0.0.1:%%PORT_${version}_real%%
                                   proxy_protocol;
        set_real_ip_from           127.0.0.1;
        smtp_relay_pass            127.0.0.1:%%PORT_plain%%;
        smtp_relay_proxy_protocol  $version;
    }
    server {
        listen                     unix:%%TESTDIR%%/$version.sock;
        smtp_relay_pass            127.0.0.1:%%PORT_plain%%;
        smtp_relay_proxy_protocol  $version;
    }
EOC
}

$t->start(<<"EOC");
stream {
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    smtp_relay_ssl_verify  off;

$servers
}
EOC

my $v2 = "\r\n\r\n\0\r\nQUIT\n\x21";

for my $version ('v1', 'v2') {
    for my $node (sort keys %n) {
        my $before = $n{$node}->connections();
        my $c = $t->session("${version}_$node");
        my $port = $c->socket_object()->sockport();

        like($c->message("text\r\n"), qr/^250/, "$version, $node: a message")
            for 1, 2;

        my $own = $t->port("${version}_$node");
        my $want = $version eq 'v1'
                   ? "PROXY TCP4 127.0.0.1 127.0.0.1 $port $own\r\n"
                   : "$v2\x11" . pack 'n a4 a4 n n C n', 12 + 27,
                     inet_aton('127.0.0.1'), inet_aton('127.0.0.1'),
                     $port, $own, 5, 24;

        # PP2_TYPE_UNIQUE_ID is the session
        my $id = $version eq 'v1' ? qr// : qr/[0-9a-f]{24}/;

        like(visible($n{$node}->proxy_header($before + 1)),
             qr/^\Q${\ visible($want) }\E$id$/, "$version, $node: the header");
        is($n{$node}->connections(), $before + 2,
           "$version, $node: no connection is used again");
        like($n{$node}->ended($before + 1), qr/^(quit|eof|reset)$/,
             "$version, $node: they are closed");
        ok(!!$n{$node}->tls($before + 1) == ($node ne 'plain'),
           "$version, $node: TLS as configured");
    }
}

# the real address

for my $case ([ 'v1', 'TCP4 192.0.2.7 192.0.2.1 4711 25',
                qr/^PROXY TCP4 192.0.2.7 127.0.0.1 4711 \d+\r\n\z/ ],
              [ 'v2', 'TCP4 192.0.2.7 192.0.2.1 4711 25',
                "$v2\x11" . pack 'n a4 a4 n', 39, inet_aton('192.0.2.7'),
                inet_aton('127.0.0.1'), 4711 ],
              [ 'v2', 'TCP6 2001:db8::7 2001:db8::1 4712 25',
                "$v2\x21" . pack 'n a16 a16 n', 63,
                inet_pton(AF_INET6, '2001:db8::7'),
                inet_pton(AF_INET6, '::ffff:127.0.0.1'), 4712 ])
{
    my ($version, $header, $want) = @$case;

    my $c = $t->client("${version}_real");
    $c->send("PROXY $header\r\n");
    $c->must(undef, '220');
    $c->must('EHLO client.example', '250');
    $c->login();
    like($c->message("text\r\n"), qr/^250/, "$version, $header: a message");

    my $got = $n{plain}->proxy_header($n{plain}->connections());
    $want = qr/^\Q$want\E..\x05\0\x18[0-9a-f]{24}\z/s unless ref $want;
    like($got, $want, "$version, $header: the real address is in it");
}

# a client without an address

for my $version ('v1', 'v2') {
    require IO::Socket::UNIX;
    my $s = IO::Socket::UNIX->new(Peer => $t->dir() . "/$version.sock");
    my $auth = SMTPRelay::Client->plain('user', 'secret');

    for my $line (undef, 'EHLO a', "AUTH PLAIN $auth", 'MAIL FROM:<a@b.example>')
    {
        print $s "$line\r\n" if defined $line;
        do { $_ = <$s> // '' } while /^\d+-/;
    }

    like($_, qr/^250/, "$version, unix: MAIL");
    is(visible($n{plain}->proxy_header($n{plain}->connections())),
       visible($version eq 'v1' ? "PROXY UNKNOWN\r\n" : "$v2\0\0\0"),
       "$version, unix: the header");
}

# configuration

$t->{expected_alerts} = qr/\[emerg\]/;

my ($status, $said) = $t->check_conf(<<'EOC');
stream {
    smtp_relay_auth_file  keys;
    smtp_relay_starttls   off;
    server {
        listen                     127.0.0.1:%%PORT_conf%%;
        smtp_relay_pass            127.0.0.1:25;
        smtp_relay_proxy_protocol  v3;
    }
}
EOC
ok($status, 'v3 is refused');
like($said, qr/"smtp_relay_proxy_protocol" has an invalid value "v3".*:\d+/,
     'and it says why');

done_testing();
