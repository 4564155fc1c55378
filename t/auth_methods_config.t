# smtp_relay_auth_methods: what nginx -t says of methods that nobody can
# verify, and of "none" that is for everybody.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
$t->keys(user => 'secret');
$t->certificates('localhost');

my $service = 'smtp_relay_auth http://127.0.0.1:8080/;';
my $file = 'smtp_relay_auth_file keys;';

# methods that a file of keys cannot verify, with and without a service

for my $method (qw/ cram-md5 xoauth2 oauthbearer external none /) {
    my ($ok, $said) = check("$file smtp_relay_auth_methods plain $method;");
    ok(!$ok, "\"$method\" with a file of keys only is refused");
    like($said, qr/^nginx:\ \[emerg\]\ "\Q$method\E"\ in
                   \ "smtp_relay_auth_methods"\ needs\ "smtp_relay_auth"
                   \ in\ \S+:$t->{line}$/mx, '  with directive and line');

    for my $with ("$file $service", $service) {
        my ($ok, $said) = check("$with smtp_relay_auth_methods $method;");
        ok($ok, "\"$method\" with a service is accepted") or diag($said);
    }
}

my ($ok, $said) = check("$file smtp_relay_auth_methods plain login;");
ok($ok, '"plain" and "login" with a file of keys are accepted') or diag($said);
unlike($said, qr/warn/, '  without a warning');

($ok, $said) = full(<<"EOC");
stream {
    smtp_relay_starttls      off;
    smtp_relay_auth_methods  plain cram-md5;

    server {
        listen  127.0.0.1:%%PORT_smtp%%;
        $file
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC
ok(!$ok, 'methods that are inherited are checked in the server');
my ($line) = $said =~ /needs "smtp_relay_auth" in \S+:(\d+)$/m;
is($t->own_line($line // 0), 3, '  and named with their line');

($ok, $said) = full(<<"EOC");
stream {
    smtp_relay_starttls      off;
    smtp_relay_auth_methods  plain cram-md5;

    server {
        listen  127.0.0.1:%%PORT_smtp%%;
        $file
        smtp_relay_auth_methods  plain;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
    }

    server {
        listen  127.0.0.1:%%PORT_other%%;
        return  x;
    }
}
EOC
ok($ok, 'those that a server does not use are not') or diag($said);

for my $bad ('digest-md5', 'plain plain', 'PLAIN plain', 'none none', 'off') {
    ($ok, $said) = check("$service smtp_relay_auth_methods $bad;");
    ok(!$ok, "\"$bad\" is refused");
    like($said, qr/"smtp_relay_auth_methods" has an? \w+ value "\S+" in \S+:\d+/,
         '  with directive and line');
}

# "external" without certificates

($ok, $said) = check("$service smtp_relay_auth_methods external;");
like($said, qr/\[warn\]\ "external"\ in\ "smtp_relay_auth_methods"
               \ is\ never\ offered\ without\ "ssl_verify_client"/x,
     '"external" without client certificates is warned of');

($ok, $said) = full(<<"EOC");
stream {
    server {
        listen                   127.0.0.1:%%PORT_smtp%% ssl;
        ssl_certificate          localhost.crt;
        ssl_certificate_key      localhost.key;
        ssl_client_certificate   ca.crt;
        ssl_verify_client        optional;
        smtp_relay_auth_methods  external;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        $service
    }
}
EOC
ok($ok, '"external" with them') or diag($said);
unlike($said, qr/warn/, '  is not');

# "none" for everybody

my $port = '%%PORT_smtp%%';
my $open = qr/\[warn\]\ "none"\ in\ "smtp_relay_auth_methods"\ without\ "allow"
              \ and\ "deny"/x;

for my $case (["listen $port;", 1], ["listen 0.0.0.0:$port;", 1],
              ["listen [::]:$port;", 1], ["listen 192.0.2.1:$port;", 1],
              ["listen 127.0.0.1:$port; listen 192.0.2.1:$port;", 1],
              ["listen 192.0.2.1:$port; listen unix:s;", 1],

              ["listen 127.0.0.1:$port;", 0], ["listen 127.1.2.3:$port;", 0],
              ["listen [::1]:$port;", 0], ['listen unix:s;', 0],
              ["listen localhost:$port;", 0],
              ["listen 127.0.0.1:$port; listen [::1]:$port; listen unix:s;", 0],

              ["listen $port; allow 10.0.0.0/8; deny all;", 0],
              ["listen $port; deny all;", 0],
              ["listen [::]:$port; allow 2001:db8::/32; deny all;", 0])
{
    my ($listen, $warned) = @$case;

    (undef, $said) = full(<<"EOC");
stream {
    smtp_relay_starttls  off;

    server {
        $listen
        $service
        smtp_relay_auth_methods  plain none;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
    }

    server {
        listen  %%PORT_other%%;
        return  x;
    }
}
EOC
    $warned ? like($said, $open, "$listen is warned of")
            : unlike($said, $open, "$listen is not warned of");
    like($said, qr/:@{[ $t->{lines_before} + 7 ]}$/m, '  with its line')
        if $warned;
}

(undef, $said) = full(<<"EOC");
stream {
    allow  10.0.0.0/8;
    deny   all;

    smtp_relay_starttls      off;
    smtp_relay_auth_methods  none;
    $service

    server {
        listen           $port;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC
unlike($said, $open, 'rules of the outer level are seen');

# what is said at level emerg was expected

unlink $t->dir() . '/error.log';
done_testing();

# -----------------------------------------------------------------------------

# nginx -t of a whole configuration: whether it is good, and what was said.

sub full {
    my ($conf) = @_;
    my ($status, $said) = $t->check_conf($conf);
    return ($status == 0, $said);
}

# The same of a server with such directives in one line.

sub check {
    my ($directives) = @_;

    my @result = full($directives =~ /^stream/ ? $directives : <<"EOC");
stream {
    server {
        listen               127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls  off;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
        $directives
    }
}
EOC
    $t->{line} = $t->{lines_before} + 6;
    return @result;
}
