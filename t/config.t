# nginx -t: bad configurations are refused with the directive and the line,
# good ones are accepted.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
$t->keys(user => 'secret');
$t->certificates('localhost');

# a good server with a line, the seventh, to be put in

my $relay = <<'EOC';
stream {
    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls   off;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:%%PORT_node%%;
        ${line}
    }
}
EOC

# bad values

my @bad = map { [ split /\s+/, $_, 2 ] } (
    'smtp_relay_starttls   maybe',
    'smtp_relay_hostname   "bad name"',
    'smtp_relay_hostname',
    'smtp_relay_greeting_delay  soon',
    'smtp_relay_login_timeout  -1s',
    'smtp_relay_timeout  1x',
    'smtp_relay_data_timeout  x',
    'smtp_relay_max_errors  many',
    'smtp_relay_max_message_size  1t',
    'smtp_relay_max_recipients  -1',
    'smtp_relay_max_messages  1.5',
    'smtp_relay_capabilities  XCLIENT',
    'smtp_relay_capabilities  BINARYMIME',
    'smtp_relay_capabilities',
    'smtp_relay_bare_newline  keep',
    'smtp_relay_early_replies',
    'smtp_relay_early_replies  rcpt',
    'smtp_relay_early_replies  off mail',
    'smtp_relay_early_replies  mail mail',
    'smtp_relay_buffer_size  1k',
    'smtp_relay_buffer_size  big',
    'smtp_relay_add_header',
    'smtp_relay_add_header  X-Only-Name',
    'smtp_relay_add_header  X-Name a value',
    'smtp_relay_add_header  "" value',
    'smtp_relay_add_header  "X Bad" value',
    'smtp_relay_add_header  X-Bad: value',
    'smtp_relay_add_header  "X-Bäd" value',
    'smtp_relay_add_header  .X-Bad value',
    'smtp_relay_add_header  ' . 'X' x 256 . ' value',
    'smtp_relay_auth  ftp://127.0.0.1/',
    'smtp_relay_auth  127.0.0.1:80',
    'smtp_relay_auth  http://',
    'smtp_relay_auth  http://127.0.0.1:99999/',
    'smtp_relay_auth_file  a b',
    'smtp_relay_auth_methods  digest-md5',
    'smtp_relay_auth_methods',
    'smtp_relay_auth_set_header  X-Only-Name',
    'smtp_relay_auth_set_header  "X Bad" value',
    'smtp_relay_auth_set_header  Host value',
    'smtp_relay_auth_set_header  content-length 1',
    'smtp_relay_auth_connect_timeout  x',
    'smtp_relay_auth_timeout  x',
    'smtp_relay_auth_keepalive  x',
    'smtp_relay_auth_max_failures  x',
    'smtp_relay_auth_failure_delay  x',
    'smtp_relay_connect_timeout  x',
    'smtp_relay_reply_timeout  x',
    'smtp_relay_next_upstream  perhaps',
    'smtp_relay_next_upstream_tries  x',
    'smtp_relay_next_upstream_timeout  x',
    'smtp_relay_bind  nonsense',
    'smtp_relay_bind  127.0.0.1 opaque',
    'smtp_relay_limit_conn  zone=',
    'smtp_relay_socket_keepalive  x',
    'smtp_relay_node_helo  "bad name"',
    'smtp_relay_keepalive  x',
    'smtp_relay_keepalive_timeout  x',
    'smtp_relay_keepalive_messages  x',
);

for my $case (@bad) {
    my ($directive, $value) = @$case;

    refused("$directive " . ($value // '') . ';', 7, $directive,
            "$directive " . ($value // 'without a value'));
}

# bad in their surroundings

refused('smtp_relay_timeout 1s; smtp_relay_timeout 2s;', 7,
        'smtp_relay_timeout', 'a directive twice');
refused('smtp_relay_pass 127.0.0.1:25;', 7, 'smtp_relay_pass',
        'smtp_relay_pass twice');

refused('smtp_relay_add_header X-Name $no_such;', 0, undef,
        'a header with a variable that is not there', qr/"no_such" variable/);

refused(<<'EOC', 2, 'smtp_relay_add_header', 'a bad header that is inherited');
stream {
    smtp_relay_add_header  X:Bad  value;

    server {
        listen  127.0.0.1:%%PORT_smtp%%;
        return  x;
    }
}
EOC

refused(<<'EOC', 5, 'smtp_relay_pass', 'smtp_relay_pass and return');
stream {
    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        return           x;
        smtp_relay_pass  127.0.0.1:25;
    }
}
EOC

refused(<<'EOC', 0, undef, 'proxy_pass after smtp_relay_pass',
stream {
    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls   off;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:25;
        proxy_pass            127.0.0.1:25;
    }
}
EOC
        qr/"smtp_relay_pass" conflicts .*nginx\.conf:\d+/);

for my $zone ('zone=name', 'zone=:1m', 'zone=name:x', 'zone=name:1k') {
    refused("stream {\n"
            . "    smtp_relay_limit_conn_zone  \$remote_addr  $zone;\n}\n",
            2, 'smtp_relay_limit_conn_zone', "a zone that is none: $zone");
}

refused(<<'EOC', 5, 'smtp_relay_pass', 'no auth at all');
stream {
    server {
        listen               127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls  off;
        smtp_relay_pass      127.0.0.1:25;
    }
}
EOC

refused(<<'EOC', 5, 'smtp_relay_starttls',
stream {
    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:25;
    }
}
EOC
        'STARTTLS is required (by default) and there is no certificate');

refused(<<'EOC', 4, 'smtp_relay_starttls',
stream {
    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls   on;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:25;
    }
}
EOC
        'STARTTLS is on and there is no certificate');

refused(<<'EOC', 2, 'smtp_relay_pass', 'smtp_relay_pass outside of a server');
stream {
    smtp_relay_pass  127.0.0.1:25;
}
EOC

refused(<<'EOC', 1, 'smtp_relay_starttls', 'a directive outside of stream');
smtp_relay_starttls  off;
EOC

refused(<<'EOC', 4, 'smtp_relay_timeout', 'a directive in an upstream');
stream {
    upstream u {
        server  127.0.0.1:25;
        smtp_relay_timeout  1s;
    }
}
EOC

refused(<<'EOC', 0, 'ssl_certificate_key', 'a certificate without its key');
stream {
    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        ssl_certificate       localhost.crt;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:25;
    }
}
EOC

refused(<<'EOC', 0, undef, 'a certificate that is not there', qr/missing\.crt/);
stream {
    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        ssl_certificate       missing.crt;
        ssl_certificate_key   localhost.key;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:25;
    }
}
EOC

# good ones

my %good = (
    'the smallest' => '',
    'all of the client side' => <<'EOC',
        smtp_relay_hostname          $hostname;
        smtp_relay_greeting_delay    100ms;
        smtp_relay_login_timeout     30s;
        smtp_relay_timeout           1m;
        smtp_relay_data_timeout      2m;
        smtp_relay_max_errors        5;
        smtp_relay_max_message_size  10m;
        smtp_relay_max_recipients    0;
        smtp_relay_max_messages      100;
        smtp_relay_capabilities      PIPELINING 8BITMIME;
        smtp_relay_bare_newline      reject;
        smtp_relay_add_header        X-Name "$smtp_relay_account $smtp_relay_date";
        smtp_relay_add_header        X-Name "";
        smtp_relay_add_header        Received by;
EOC
    'all of AUTH' => <<'EOC',
        smtp_relay_auth                  http://127.0.0.1:8080/auth;
        smtp_relay_auth_methods          plain login;
        smtp_relay_auth_set_header       X-Key $server_addr;
        smtp_relay_auth_set_header       X-Other "";
        smtp_relay_auth_connect_timeout  1s;
        smtp_relay_auth_timeout          2s;
        smtp_relay_auth_keepalive        4;
        smtp_relay_auth_max_failures     2;
        smtp_relay_auth_failure_delay    0;
EOC
    'all of the delivery side' => <<'EOC',
        smtp_relay_connect_timeout        5s;
        smtp_relay_reply_timeout          1m;
        smtp_relay_next_upstream          on;
        smtp_relay_next_upstream_tries    2;
        smtp_relay_next_upstream_timeout  10s;
        smtp_relay_bind                   127.0.0.1;
        smtp_relay_socket_keepalive       on;
        smtp_relay_node_helo              out.example.com;
        smtp_relay_keepalive              8;
        smtp_relay_keepalive_timeout      10s;
        smtp_relay_keepalive_messages     100;
        smtp_relay_buffer_size            32k;
EOC
);

for my $name (sort keys %good) {
    (my $conf = $relay) =~ s/\$\{line\}/$good{$name}/;
    my ($status, $said) = $t->check_conf($conf);
    is($status, 0, "accepted: $name") or diag($said);
}

for my $pass ('localhost:25', 'group', 'unix:/tmp/relay.sock', '$node',
              '[::1]:25', '127.0.0.1:25')
{
    my ($status, $said) = $t->check_conf(<<"EOC");
stream {
    upstream group {
        zone group 64k;
        server 127.0.0.1:25;
    }

    map \$server_port \$node {
        default group;
    }

    smtp_relay_auth_file  keys;
    smtp_relay_starttls   off;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  $pass;
    }
}
EOC
    is($status, 0, "accepted: smtp_relay_pass $pass") or diag($said);
}

my ($status, $said) = $t->check_conf(<<'EOC');
stream {
    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls   on;
        ssl_certificate       localhost.crt;
        ssl_certificate_key   localhost.key;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:25;
    }
}
EOC
is($status, 0, 'accepted: STARTTLS on') or diag($said);
like($said . $t->read('error.log'), qr/\[warn\].*smtp_relay_starttls/,
     'with a warning');

# what was refused above is not an alert of a run

unlink $t->dir() . '/error.log';
done_testing();


# nginx -t refuses a configuration and names the directive and its line.  A
# configuration of one line is one that goes into a good server.  Line 0: no
# line is told.

sub refused {
    my ($conf, $line, $directive, $name, $pattern) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    if ($conf !~ /\n/) {
        (my $whole = $relay) =~ s/\$\{line\}/$conf/;
        $conf = $whole;
    }

    my ($status, $said) = $t->check_conf($conf);
    my ($emerg) = grep { /\[emerg\]/ } split /\n/, $said;
    $emerg //= 'nothing';

    my ($number) = $emerg =~ /nginx\.conf:(\d+)/;
    $number = defined $number ? $t->own_line($number) : 0;

    # values of a fixed set are told by nginx itself, with the value alone
    $pattern //= $emerg =~ /invalid [\w ]+ "[^"]+" in /
               ? qr/invalid/
               : qr/"\Q$directive\E"/;

    ok($status && $emerg =~ $pattern && ($number == $line || !$line),
       "refused: $name")
        or diag("line $line expected: $emerg");
}
