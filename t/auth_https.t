# TLS to the auth service: verified by default, with a name, SNI and a
# certificate of the relay's own; sessions are resumed, connections kept.  A
# service that is not the right one is never asked, and the next one is.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ time /;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

$t->node('node');

# certificates

$t->certificates('service.example', 'other.example', 'relay.example');

my %host = (host => 'service.example');

SMTPRelay::Cert::issue($dir, 'expired', %host, days => -1);
SMTPRelay::Cert::issue($dir, 'revoked', %host);
SMTPRelay::Cert::issue($dir, 'middle', is_ca => 1);
SMTPRelay::Cert::issue($dir, 'below', %host, by => 'middle');
SMTPRelay::Cert::issue($dir, 'a.example', host => '*.mail.example');
SMTPRelay::Cert::revoke($dir, 'ca', 'revoked');
SMTPRelay::Cert::issue($dir, 'locked');
SMTPRelay::Cert::encrypt($dir, 'locked', 'Pass-Phrase-1');
spew("$dir/passwords", "Pass-Phrase-1\n");

spew("$dir/below.crt", join '', map { slurp("$dir/$_.crt") } qw/ below middle /);

# services

my %users = (users => { good => 'secret' });

sub tls { return (tls => 1, cert => "$dir/$_[0]", %users) }

my %services = (
    service => { tls('service.example') },
    tls12 => { tls('service.example'), version => 'TLSv1_2' },
    tls13 => { tls('service.example'), version => 'TLSv1_3' },
    client => { tls('service.example'), ca => "$dir/ca.crt",
                version => 'TLSv1_2' },
    wildcard => { tls('a.example') },
    below => { tls('below') },
    other => { tls('other.example') },
    stranger => { tls('stranger') },
    expired => { tls('expired') },
    revoked => { tls('revoked') },
    second => { tls('service.example') },
    plain => { %users, answer => sub { ':close' } },
    closing => { tls('service.example'), answer => sub { ':close' } },
    resetting => { tls('service.example'), answer => sub { ':reset' } },
    broken => { tls('service.example'), answer => sub { "SMTP/1.1 200 OK\r\n\r\n" } },
    unavailable => { tls('service.example'), answer => sub { [503, {}] } },
);

my %s = map { $_ => $t->auth_service($_, %{ $services{$_} }) }
        sort keys %services;

# one that talks first, and no TLS
$t->node('smtp_node');

sub server {
    my ($name, $to, @lines) = @_;
    return join "\n", 'server {', "listen 127.0.0.1:%%PORT_s_$name%%;",
        'smtp_relay_pass 127.0.0.1:%%PORT_node%%;',
        "smtp_relay_auth $to;", @lines, '}', '';
}

sub url { return "https://127.0.0.1:%%PORT_$_[0]%%/auth" }

sub certificate {
    my ($name) = @_;
    return ("smtp_relay_auth_ssl_certificate $name.crt;",
            "smtp_relay_auth_ssl_certificate_key $name.key;");
}

# name, service, what it shows, directives

my @accepted = (
    [ 'verified', 'service', 'a certificate of the CA' ],
    [ 'address', 'service', 'the address of the URL is the name',
      'smtp_relay_auth_ssl_name 127.0.0.1;' ],
    [ 'wildcard', 'wildcard', 'a wildcard certificate',
      'smtp_relay_auth_ssl_name a.mail.example;' ],
    [ 'unverified', 'stranger', 'any certificate without verification',
      'smtp_relay_auth_ssl_verify off;' ],
    [ 'sni', 'service', 'the name is sent',
      'smtp_relay_auth_ssl_server_name on;' ],
    [ 'tls12', 'tls12', 'TLSv1.2' ],
    [ 'tls13', 'tls13', 'TLSv1.3' ],
    [ 'protocols', 'service', 'protocols that are permitted',
      'smtp_relay_auth_ssl_protocols TLSv1.2;' ],
    [ 'ciphers', 'tls12', 'ciphers',
      'smtp_relay_auth_ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384;' ],
    [ 'command', 'service', 'a command of OpenSSL',
      'smtp_relay_auth_ssl_conf_command MaxProtocol TLSv1.2;' ],
    [ 'crl', 'service', 'a list of what is revoked',
      'smtp_relay_auth_ssl_crl ca.crl;' ],
    [ 'depth', 'below', 'one intermediate certificate' ],
    [ 'client', 'client', 'a certificate of the relay',
      certificate('relay.example') ],
    [ 'locked', 'client', 'a key with a passphrase', certificate('locked'),
      'smtp_relay_auth_ssl_password_file passwords;' ],
    [ 'variable', 'client', 'a certificate by variables',
      'smtp_relay_auth_ssl_certificate     %%TESTDIR%%/$certificate.crt;',
      'smtp_relay_auth_ssl_certificate_key %%TESTDIR%%/$certificate.key;' ],
    [ 'headers', 'service', 'headers of the configuration',
      'smtp_relay_auth_set_header X-Key "top $service_name";',
      'smtp_relay_auth_set_header X-Empty $nothing;' ],
    [ 'variable_name', 'service', 'a name by variables',
      'smtp_relay_auth_ssl_name $service_name;' ],
);

my $verify = qr/auth service SSL certificate verify error/;

# name, service, what it shows, what is logged, directives

my @refused = (
    [ 'self_signed', 'stranger', 'a self-signed certificate',
      qr/$verify: \(18:/ ],
    [ 'expired', 'expired', 'an expired certificate',
      qr/$verify: \(10:certificate has expired\)/ ],
    [ 'wrong_name', 'other', 'a certificate for another name',
      qr/auth service SSL certificate does not match "service\.example"/ ],
    [ 'revoked', 'revoked', 'a revoked certificate',
      qr/$verify: \(23:certificate revoked\)/,
      'smtp_relay_auth_ssl_crl ca.crl;' ],
    [ 'too_deep', 'below', 'too long a chain', $verify,
      'smtp_relay_auth_ssl_verify_depth 0;' ],
    [ 'system', 'service', "the system's CAs do not know this one", $verify,
      'smtp_relay_auth_ssl_trusted_certificate "";' ],
    [ 'empty_name', 'service', 'a name that is empty',
      qr/does not match ""/, 'smtp_relay_auth_ssl_name $nothing;' ],
    [ 'no_certificate', 'client', 'a service that wants a certificate',
      qr/SSL_do_handshake\(\) failed/ ],
    [ 'no_protocol', 'tls12', 'no common protocol',
      qr/SSL_do_handshake\(\) failed/,
      'smtp_relay_auth_ssl_protocols TLSv1.3;' ],
    [ 'no_cipher', 'tls12', 'no common cipher',
      qr/SSL_do_handshake\(\) failed/,
      'smtp_relay_auth_ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384;' ],
    [ 'other_protocol', 'smtp_node', 'a server that does not talk TLS',
      qr/SSL_do_handshake\(\) failed .*wrong version number/ ],
    [ 'silent', 'plain', 'a server that is silent in the handshake',
      qr/auth service timed out .* while SSL handshaking to the auth service/,
      'smtp_relay_auth_connect_timeout 300ms;' ],
    [ 'closing', 'closing', 'a service that closes',
      qr/auth service prematurely closed connection/ ],
    [ 'resetting', 'resetting', 'a service that resets',
      qr/auth service prematurely closed connection/ ],
    [ 'broken', 'broken', 'a reply that is not HTTP',
      qr/auth service sent no HTTP\/1\.x reply/ ],
);

my $servers = join '',
    (map { my ($name, $service, undef, @lines) = @$_;
           server($name, url($service), @lines) } @accepted),
    (map { my ($name, $service, undef, undef, @lines) = @$_;
           ("upstream group_$name { server 127.0.0.1:%%PORT_$service%%; "
                . "server 127.0.0.1:%%PORT_second%% backup; }\n",
            server($name, url($service), @lines),
            server("next_$name", "https://group_$name/auth",
                   $name =~ /^(system|empty_name|no_protocol|no_cipher)$/
                       ? 'smtp_relay_auth_ssl_verify on;' : @lines)) } @refused),
    (map { my $version = $_;
           (server("reuse$version", url("tls$version"),
                   'smtp_relay_auth_keepalive 0;'),
            server("reuse${version}_same", url("tls$version"),
                   'smtp_relay_auth_keepalive 0;'),
            server("fresh$version", url("tls$version"),
                   'smtp_relay_auth_keepalive 0;',
                   'smtp_relay_auth_ssl_session_reuse off;')) } 12, 13),
    server('keep', url('service')),
    server('names', url('wildcard'),
           'smtp_relay_auth_ssl_name $smtp_relay_helo;');

$t->start(<<"EOC");
stream {
    log_format  login  "\$smtp_relay_event \$smtp_relay_user "
                       "\$smtp_relay_auth_status";
    access_log  access.log  login;

    map \$remote_addr \$certificate  { default  relay.example; }
    map \$remote_addr \$service_name { default  service.example; }
    map \$remote_addr \$nothing      { default  ""; }

    smtp_relay_starttls                      off;
    smtp_relay_auth_failure_delay            0;
    smtp_relay_auth_connect_timeout          3s;
    smtp_relay_auth_timeout                  6s;
    smtp_relay_auth_ssl_trusted_certificate  ca.crt;
    smtp_relay_auth_ssl_name                 service.example;
    smtp_relay_auth_ssl_verify_depth         1;

$servers
}
EOC

# what works

my %tls;

for (@accepted) {
    my ($name, $service, $what) = @$_;
    my $before = $s{$service}->connections();

    is(login($name), '235', $what) or diag($t->log_tail(5));
    is(login($name, 'bad'), '535', "$what: a denial is one");

    $tls{$name} = $s{$service}->tls($before + 1);
    is($s{$service}->connections(), $before + 1, "$what: one connection");
}

my ($request) = grep { $_->{headers}{'x-key'} } $s{service}->requests();
is($request->{headers}{'x-key'}, 'top service.example',
   'headers: they are sent');
is($request->{headers}{'x-empty'}, undef, 'headers: but for an empty one');
like($request->{headers}{host}, qr/^127\.0\.0\.1:\d+$/, 'Host is the address');

is($tls{sni}{server_name}, 'service.example', 'SNI: the name');
is($tls{verified}{server_name}, undef, 'no SNI by default');
is($tls{verified}{protocol}, 'TLSv1_3', 'TLSv1.3 is the best');
is($tls{protocols}{protocol}, 'TLSv1_2', 'protocols: they have an effect');
is($tls{command}{protocol}, 'TLSv1_2', 'a command: it has an effect');
is($tls{client}{client}, 'relay.example', 'the service sees the certificate');
is($tls{locked}{client}, 'locked', 'and that of the key with a passphrase');
is($tls{variable}{client}, 'relay.example', 'and that by variables');

# what does not: the service is not asked, no login, no denial; connections
# and sessions of servers that are less strict are there and of no use

for (@refused) {
    my ($name, $service, $what, $log) = @$_;
    my $asked = asked($service);

    my $start = time();
    is(login($name), '454', "$what: 454");
    cmp_ok(time() - $start, '<', patience(7), "$what: in time");

    my $port = $t->port("s_$name");
    ok($t->wait_log(qr/ \[error\] .*$log.*, server: 127\.0\.0\.1:$port\b/),
       "$what: is logged")
        or diag($t->log_tail(5));

    next if $name =~ /^(closing|resetting|broken)$/;
    is(asked($service), $asked, "$what: it is not asked");
}

# the next server of a group is asked in its stead

for (@refused) {
    my ($name, undef, $what) = @$_;
    next if $name =~ /^(system|empty_name|no_protocol|no_cipher)$/;

    my $asked = asked('second');
    is(login("next_$name"), '235', "$what: the next server takes over")
        or diag($t->log_tail(5));
    is(asked('second'), $asked + 1, "$what: it is asked");
}

# sessions are resumed, but not by a server that does not want to

for my $version (12, 13) {
    my $service = $s{"tls$version"};
    my $before = $service->connections();

    is(login("reuse$version"), '235', "TLS 1.$version: a login") for 1 .. 3;
    is(login("reuse${version}_same"), '235', 'one at another server');
    is(login("fresh$version"), '235', 'without reuse') for 1 .. 2;

    is(join(' ', map { $service->tls($_)->{reused} } $before + 1 .. $before + 6),
       '0 1 1 0 0 0', "sessions are resumed, by the same server only");
}

# connections are kept, also when a ticket comes

my $before = $s{service}->connections();
is(login('keep'), '235', 'a login');
is(login('keep', 'bad'), '535', 'another') for 1 .. 3;
is(login('keep'), '235', 'a third');
is($s{service}->connections(), $before + 1, 'all on one connection');

# a connection is for the name that was verified

$before = $s{wildcard}->connections();
is(login('names', 'good', 'a.mail.example'), '235', 'a name');
is(login('names', 'good', 'b.mail.example'), '235', 'another name');
is(login('names', 'good', 'a.mail.example'), '235', 'the first one again');
is($s{wildcard}->connections(), $before + 2, 'a connection for each');
is(login('names', 'good', 'a.b.mail.example'), '454', 'one that does not match');

# idle connections that the service closes

login('keep');
$s{service}->stop();
$s{service}->start();
is(login('keep'), '235', 'a connection that was closed while idle');

is(scalar(grep { /^session good ok$/ } $t->lines('access.log')) > 0, 1,
   'log: ok');
ok(wait_until { grep { /^session good error$/ } $t->lines('access.log') },
   'log: error');
is(scalar $t->log_lines(qr/Pass-Phrase|secret/), 0, 'no secret is logged');

done_testing();


# How many requests a service has got; one that is none gets none.

sub asked {
    my ($service) = @_;
    return $s{$service} ? scalar(my @requests = $s{$service}->requests()) : 0;
}


# The code of the reply to AUTH in a session of its own.

sub login {
    my ($name, $user, $helo) = @_;

    my $c = $t->client("s_$name");
    $c->must(undef, '220');
    $c->must('EHLO ' . ($helo // 'client.example'), '250');
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user // 'good', 'secret'));
    $c->ask('QUIT');

    return substr $reply, 0, 3;
}
