# smtp_relay_auth and smtp_relay_auth_ssl_*: what is valid, what is not, and
# that nginx -t says why and where.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

$t->certificates('relay.example', 'locked');
SMTPRelay::Cert::revoke($dir, 'ca', 'relay.example');
SMTPRelay::Cert::encrypt($dir, 'locked', 'Pass-Phrase-1');

spew("$dir/passwords", "Pass-Phrase-1\n");
spew("$dir/wrong", "Pass-Phrase-0\n");
spew("$dir/text", "no certificate\n");

my $prefix = 'smtp_relay_auth_ssl';

sub conf {
    my ($line, @more) = @_;
    return join "\n", 'stream {', 'upstream group { server 127.0.0.1:80; }',
        'smtp_relay_starttls off;',
        'map $remote_addr $name { default service.example; }',
        'server {', 'listen           127.0.0.1:%%PORT_conf%%;',
        'smtp_relay_pass  127.0.0.1:25;', @more, $line, '}', '}', '';
}

my $url = 'smtp_relay_auth https://127.0.0.1/;';

sub taken {
    my ($what, $line, @more) = @_;
    my ($status, $said) = $t->check_conf(conf($line, @more));
    is($status, 0, "$what: taken") or diag($said);
}

# the last emerg names the directive and the line

sub refused {
    my ($what, $pattern, $line, @more) = @_;

    my ($status, $said) = $t->check_conf(conf($line, @more));
    ok($status, "$what: refused");

    my ($at) = $said =~ /\[emerg\]\ .*$pattern(?s:.*)nginx\.conf:(\d+)$/m;
    is(defined $at ? $t->own_line($at) : $said, 8 + @more,
       "$what: says why and where");
}

# nginx finds those when all is read

sub unknown {
    my ($what, $line, @more) = @_;

    my ($status, $said) = $t->check_conf(conf($line, @more));
    ok($status, "$what: refused");
    like($said, qr/\[emerg\] .*unknown "none" variable/, "$what: says why");
}

# URLs

taken("URL $_", "smtp_relay_auth $_;") for
    'http://127.0.0.1', 'http://127.0.0.1/', 'https://127.0.0.1:8443/a/b?c=d',
    'https://127.0.0.1?a', 'HTTPS://127.0.0.1/', 'http://[::1]/',
    'https://[::1]:8443/', 'http://group/', 'https://group/auth',
    'http://GROUP/', 'http://unix:/tmp/auth.sock:/auth',
    'https://unix:/tmp/auth.sock:/auth', 'http://$remote_addr/',
    'https://$name:8443/auth', 'http://127.0.0.1/$name', 'https://localhost/';

refused("URL $_", qr/"smtp_relay_auth" has an invalid URL prefix/,
        "smtp_relay_auth $_;") for
    'https://', 'http://', 'ftp://127.0.0.1/', '127.0.0.1', 'https:127.0.0.1',
    '$name', '$name://127.0.0.1/', 'htt$name';

refused("URL $_", qr/"smtp_relay_auth" has (?:no host|invalid \w+)/,
        "smtp_relay_auth $_;") for
    'https:///auth', 'http://:80/', 'https://127.0.0.1:0/',
    'https://127.0.0.1:65536/', 'https://user:secret@127.0.0.1/',
    'https://[::1/', 'http://127.0.0.1:http/';

refused('a host with a blank', qr/"smtp_relay_auth" has an invalid host/,
        'smtp_relay_auth "http://127.0.0.1 /auth";');
refused('a URI with a blank', qr/"smtp_relay_auth" has an invalid URI/,
        'smtp_relay_auth "http://127.0.0.1/a b";');
refused('a URI with a line end', qr/"smtp_relay_auth" has an invalid URI/,
        'smtp_relay_auth "http://127.0.0.1/a\r\nX: y";');
unknown('a variable that there is none of', 'smtp_relay_auth https://$none/;');
unknown('one in the URI', 'smtp_relay_auth https://127.0.0.1/$none;');
refused('a group with a port', qr/upstream "group" may not have port 8443/,
        'smtp_relay_auth https://group:8443/;');
refused('a service twice', qr/"smtp_relay_auth" directive is duplicate/,
        $url, $url);

# TLS

my %valid = (
    verify => 'off', verify_depth => 1, trusted_certificate => 'ca.crt',
    crl => 'ca.crl', name => '$name', server_name => 'on',
    protocols => 'TLSv1.2 TLSv1.3', ciphers => 'HIGH', session_reuse => 'off',
    password_file => 'passwords', certificate_key => 'relay.example.key',
);

for my $name (sort keys %valid) {
    my $line = "${prefix}_$name $valid{$name};";

    taken($name, $line, $url);
    refused("$name twice", qr/"${prefix}_$name" directive is duplicate/,
            $line, $url, $line);

    refused("$name, wrong number of arguments",
            qr/invalid number of arguments in "${prefix}_$name" directive/,
            "${prefix}_$name" . ($name eq 'protocols' ? ';' : ' a b c;'),
            $url);
}

taken('conf_command', "${prefix}_conf_command MinProtocol TLSv1.2;", $url,
      "${prefix}_conf_command MaxProtocol TLSv1.3;");

refused("$_ maybe", qr/invalid value "maybe" in "${prefix}_$_" directive/,
        "${prefix}_$_ maybe;", $url)
    for qw/ verify server_name session_reuse /;
refused("verify_depth $_",
        qr/"${prefix}_verify_depth" directive invalid number/,
        "${prefix}_verify_depth $_;", $url) for qw/ -1 two 1.5 /;
refused('protocols TLSv9', qr/"${prefix}_protocols" has an invalid value "TLSv9"/,
        "${prefix}_protocols TLSv1.2 TLSv9;", $url);
refused('protocols twice the same',
        qr/"${prefix}_protocols" has a duplicate value "TLSv1.2"/,
        "${prefix}_protocols TLSv1.2 TLSv1.2;", $url);
refused("$_->[0] $_->[1]",
        qr/"${prefix}_$_->[0]" directive has an invalid value/,
        "${prefix}_$_->[0] $_->[1];", $url) for
    ['ciphers', 'NONE-SUCH'], ['trusted_certificate', 'none'],
    ['trusted_certificate', 'text'], ['crl', 'none'], ['crl', 'text'],
    ['conf_command', 'NoSuch x'], ['conf_command', 'MinProtocol TLSv9'];
refused('a password file that is not there', qr/"\S+\/none" failed/,
        "${prefix}_password_file none;", $url);
unknown('a name with an unknown variable', "${prefix}_name \$none;", $url);

# a certificate and its key

my $certificate = "${prefix}_certificate relay.example.crt;";
my $key = "${prefix}_certificate_key relay.example.key;";

taken('a certificate and its key', $certificate, $url, $key);
taken('with variables', "${prefix}_certificate \$name.crt;", $url,
      "${prefix}_certificate_key \$name.key;");
taken('a key with a passphrase', "${prefix}_certificate locked.crt;", $url,
      "${prefix}_certificate_key locked.key;",
      "${prefix}_password_file passwords;");
taken('a certificate without a key, for http', $certificate,
      'smtp_relay_auth http://127.0.0.1/;');
refused('a certificate without a key',
        qr/"${prefix}_certificate" needs "${prefix}_certificate_key"/,
        $certificate, $url);
refused('with variables, without a key',
        qr/"${prefix}_certificate" needs "${prefix}_certificate_key"/,
        "${prefix}_certificate \$name.crt;", $url);
refused($_->[0], qr/"${prefix}_certificate" cannot be used/,
        "${prefix}_certificate $_->[1];", $url,
        "${prefix}_certificate_key $_->[2];", @$_[3 .. $#$_]) for
    ['a certificate that is not there', 'none.crt', 'relay.example.key'],
    ['a key that is not there', 'relay.example.crt', 'none.key'],
    ["somebody else's key", 'relay.example.crt', 'stranger.key'],
    ['a text', 'text', 'relay.example.key'],
    ['a wrong passphrase', 'locked.crt', 'locked.key',
     "${prefix}_password_file wrong;"];

# what is inherited is not checked where it is not used

my ($status, $said) = $t->check_conf(<<"EOC");
stream {
    $url
    $certificate
    $key
    ${prefix}_verify_depth 2;
    smtp_relay_starttls off;

    server {
        listen           127.0.0.1:%%PORT_one%%;
        smtp_relay_pass  127.0.0.1:25;
    }

    server {
        listen           127.0.0.1:%%PORT_two%%;
        smtp_relay_pass  127.0.0.1:25;
        ${prefix}_verify off;
    }

    server {
        listen           127.0.0.1:%%PORT_three%%;
        proxy_pass       127.0.0.1:25;
        smtp_relay_auth  https://does-not.exist.invalid/;
    }
}
EOC

is($status, 0, 'inherited: taken') or diag($said);

$t->{expected_alerts} = qr/\[emerg\]/;

done_testing();
