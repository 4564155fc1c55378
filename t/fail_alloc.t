# Each allocation of the module fails once: no message is lost or doubled, no
# session hangs, and the worker goes on.
#
# Takes an nginx built with t/fault (t/tools/build.sh, FAULT=1).

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Fault;
use SMTPRelay::Util qw/ hmac_md5_hex /;

use SMTPRelay::DNS;

use Digest::SHA qw/ sha1_hex /;
use MIME::Base64 qw/ decode_base64 encode_base64 /;

my $binary = SMTPRelay::Test::binary();
my ($first, $last) = module_range($binary);

plan(skip_all => 'nginx is not built with t/fault') unless $first;

my $t = SMTPRelay::Test->new();
my $fault = "$t->{dir}/fault";
spew($fault, pack 'LLQQ', 0, 0, $first, $last);
chmod 0666, $fault;

$t->certificates('localhost');
my @ehlo = (ehlo => [qw/ PIPELINING 8BITMIME CHUNKING SIZE /,
                     'XCLIENT NAME ADDR PORT PROTO HELO LOGIN' ]);
my @script = (script => {
    MAIL => sub { $_[0] =~ /refused/ ? '550 5.7.1 not you' : undef }
});
my $node = $t->node('node', @ehlo, @script);
my $second = $t->node('second', @ehlo, @script);
my $secure = $t->node('secure', tls => 'starttls', cert => "$t->{dir}/localhost");

# these want to know who it is, one in each way
my %login = map {
    ($_ => $t->node("node_$_", mechanisms => uc, @ehlo,
                    auth => { nodeuser => 'nodesecret' }))
} qw/ plain login /;

$t->keys(infile => 'secret');

my $verdict = sub {
    my ($request) = @_;
    my $user = $request->{headers}{'auth-user'} // '';

    return { 'Auth-Status' => 'OK', 'Auth-User' => $user,
             'Auth-Pass' => 'sesame' }
        if $user eq 'cram';
    return { 'Auth-Status' => 'OK' }
        if $request->{headers}{'auth-method'} eq 'none';
    return { 'Auth-Status' => 'OK', 'Auth-User' => 'nodeuser',
             'Auth-Pass' => 'nodesecret', 'X-Plan' => 'gold',
             $1 eq 'login' ? ('Auth-Server' => '127.0.0.1',
                              'Auth-Port' => $t->port('node_login')) : () }
        if $user =~ /^(plain|login)-/;
    return { 'Auth-Status' => 'OK', 'Auth-User' => 'boss' }
        if $request->{headers}{'auth-authzid'};

    return $user eq 'user'
           ? { 'Auth-Status' => 'OK', 'Auth-Account' => 'customer-7',
               'Auth-User' => 'nodeuser', 'Auth-Pass' => 'nodesecret',
               'Auth-Max-Size' => '1m', 'Auth-Max-Recipients' => 10,
               'Auth-Senders' => 'a.example, b.example',
               'X-Plan' => 'gold' }
           : { 'Auth-Status' => 'Invalid login or password',
               'Auth-Wait' => 0 };
};

my $auth = $t->auth_service('auth', answer => $verdict);
my $auth_out = $t->auth_service('auth_out', tls => 1,
                                cert => "$t->{dir}/localhost",
                                answer => sub { [503, {}] });
my $auth_tls = $t->auth_service('auth_tls', answer => $verdict, tls => 1,
                                cert => "$t->{dir}/localhost");
my $dns = SMTPRelay::DNS->new(dir => "$t->{dir}/dns", ttl => 1,
                              names => { 'auth.example' => ['127.0.0.1'] });
my $resolver = 'resolver 127.0.0.1:' . $dns->port() . ';';

$t->start(<<'EOC' =~ s/RESOLVER/$resolver/gr);
env SMTP_RELAY_FAULT=%%TESTDIR%%/fault;
env SMTP_RELAY_FAULT_ABORT;
stream {
    log_format  all  "$smtp_relay_event $smtp_relay_account $smtp_relay_mail_from "
                     "$smtp_relay_protocol $smtp_relay_message_reply $upstream_addr";
    access_log  access.log  all;

    upstream nodes {
        zone    nodes  64k;
        server  127.0.0.1:%%PORT_node%%    max_fails=0;
        server  127.0.0.1:%%PORT_second%%  max_fails=0;
    }

    upstream secure {
        server  127.0.0.1:%%PORT_secure%%  max_fails=0;
    }

    map $remote_addr $certificate { default localhost; }

    smtp_relay_hostname            relay.example;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    smtp_relay_auth_block_zone     $smtp_relay_user$smtp_relay_helo  zone=guess:1m
                                   failures=255 window=1s time=1s;
    ssl_certificate                localhost.crt;
    ssl_certificate_key            localhost.key;

    smtp_relay_limit_conn_zone  $remote_addr            zone=address:1m;
    smtp_relay_limit_conn_zone  $smtp_relay_account     zone=account:1m;
    smtp_relay_limit_msg_zone   $smtp_relay_session_id  zone=msg:1m   rate=50r/s;
    smtp_relay_limit_msg_zone   $smtp_relay_mail_from   zone=from:1m  rate=1000r/s;
    smtp_relay_limit_rcpt_zone  $smtp_relay_session_id  zone=rcpt:1m  rate=1r/m;

    server {
        listen                    127.0.0.1:%%PORT_limits%%;
        smtp_relay_starttls       off;
        smtp_relay_auth_file      keys;
        smtp_relay_limit_conn     address  3;
        smtp_relay_limit_conn     account  2;
        smtp_relay_limit_msg      msg      burst=1;
        smtp_relay_limit_msg      from     burst=1000 nodelay;
        smtp_relay_limit_rcpt     rcpt     burst=1 nodelay;
        smtp_relay_pass           nodes;
    }

    server {
        listen                    127.0.0.1:%%PORT_smtp%%;
        smtp_relay_auth           http://127.0.0.1:%%PORT_auth%%/;
        smtp_relay_add_header     X-Session  $smtp_relay_session_id;
        smtp_relay_pass           nodes;
        smtp_relay_xclient        on;
        smtp_relay_keepalive      2;
    }

    upstream auth {
        server  127.0.0.1:%%PORT_auth_out%%  max_fails=0;
        server  127.0.0.1:%%PORT_auth_tls%%  max_fails=0  backup;
    }

    smtp_relay_auth_cache_zone  zone=verdicts:1m;

    map $smtp_relay_user $target {
        ~^plain  127.0.0.1:%%PORT_node_plain%%;
        default  nodes;
    }

    server {
        listen                    127.0.0.1:%%PORT_cached%%;
        smtp_relay_starttls       off;
        smtp_relay_auth           http://127.0.0.1:%%PORT_auth%%/;
        smtp_relay_auth_cache     verdicts  valid=1m invalid=1m stale=1m;
        smtp_relay_node_auth      pass;
        smtp_relay_bind           $server_addr;
        smtp_relay_add_header     X-Plan  $smtp_relay_auth_http_x_plan;
        smtp_relay_add_header     X-From  $smtp_relay_mail_from;
        smtp_relay_pass           $target;
    }

    server {
        listen                     127.0.0.1:%%PORT_https%%;
        RESOLVER
        smtp_relay_starttls        off;
        smtp_relay_auth            https://$smtp_relay_helo:%%PORT_auth_tls%%/;
        smtp_relay_auth_keepalive  0;
        smtp_relay_auth_ssl_name                 localhost;
        smtp_relay_auth_ssl_server_name          on;
        smtp_relay_auth_ssl_trusted_certificate  ca.crt;
        smtp_relay_auth_ssl_certificate      %%TESTDIR%%/$certificate.crt;
        smtp_relay_auth_ssl_certificate_key  %%TESTDIR%%/$certificate.key;
        smtp_relay_pass            nodes;
    }

    server {
        listen                     127.0.0.1:%%PORT_group%%;
        smtp_relay_starttls        off;
        smtp_relay_auth            https://auth/$server_port;
        smtp_relay_auth_keepalive  0;
        smtp_relay_auth_ssl_verify off;
        smtp_relay_pass            nodes;
    }

    server {
        listen                    127.0.0.1:%%PORT_methods%%;
        smtp_relay_starttls       off;
        smtp_relay_auth           http://127.0.0.1:%%PORT_auth%%/;
        smtp_relay_auth_methods   plain cram-md5 oauthbearer none;
        smtp_relay_pass           nodes;
    }

    server {
        listen                    127.0.0.1:%%PORT_tls%% ssl;
        ssl_client_certificate    ca.crt;
        ssl_verify_client         on;
        smtp_relay_auth           http://127.0.0.1:%%PORT_auth%%/;
        smtp_relay_auth_methods   external;
        smtp_relay_pass           nodes;
    }

    server {
        listen                    127.0.0.1:%%PORT_early%%;
        smtp_relay_starttls       off;
        smtp_relay_auth_file      keys;
        smtp_relay_early_replies  mail data;
        smtp_relay_pass           nodes;
    }

    server {
        listen                    127.0.0.1:%%PORT_plain%%;
        smtp_relay_starttls       off;
        smtp_relay_auth_file      keys;
        smtp_relay_pass           secure;
        smtp_relay_ssl            starttls;
        smtp_relay_ssl_verify     off;
        smtp_relay_keepalive      0;
    }
}
EOC

my $number = 0;

# a session each: gives what the end of data was answered, or ''

my %sessions = (

    'STARTTLS, the auth service, DATA' => sub {
        my ($id) = @_;
        my $c = $t->client('smtp') or return '';

        usual($c, 'EHLO client.example', 'STARTTLS') or return '';
        $c->start_tls() or return '';
        usual($c, 'EHLO client.example',
              'AUTH PLAIN ' . $c->plain('user', 'secret'),
              'MAIL FROM:<a@a.example> BODY=8BITMIME',
              'RCPT TO:<b@b.example>', 'RCPT TO:<c@b.example>', 'DATA')
            or return '';
        return $c->ask("X-Id: $id\r\nX-Session: own\r\n\r\nHello\r\n.");
    },

    'a key file, BDAT in one flight, TLS to the node' => sub {
        my ($id) = @_;
        my $c = $t->client('plain') or return '';
        my $text = "X-Id: $id\r\n\r\nHello\r\n";

        usual($c, 'EHLO client.example', 'AUTH LOGIN') or return '';
        usual($c, 'aW5maWxl', 'c2VjcmV0') or return '';

        $c->send("MAIL FROM:<a\@a.example> SIZE=100\r\n"
                 . "RCPT TO:<b\@b.example>\r\n"
                 . 'BDAT ' . length($text) . "\r\n$text");
        $c->send("BDAT 0 LAST\r\n");

        my $reply = '';
        $reply = $c->reply() for 1 .. 4;
        return $reply;
    },

    'early replies, a sender that is refused, a long message' => sub {
        my ($id) = @_;
        my $c = $t->client('early') or return '';

        usual($c, 'EHLO client.example',
              'AUTH PLAIN ' . $c->plain('infile', 'secret'),
              'MAIL FROM:<refused@a.example>')
            or return '';
        $c->ask('RCPT TO:<b@b.example>');
        usual($c, 'RSET', 'MAIL FROM:<a@a.example>', 'RCPT TO:<b@b.example>',
              'DATA')
            or return '';
        $c->ask(("x" x 998 . "\r\n") x 40 . '.');
        usual($c, 'MAIL FROM:<a@a.example>', 'RCPT TO:<b@b.example>', 'DATA')
            or return '';
        return $c->ask("X-Id: $id\r\n\r\nHello\r\n.");
    },

    # each verdict twice, of the service and of the cache

    (map {
        my $name = $_;

        ("a cache, AUTH \U$name\E to the node" => sub {
            my ($id) = @_;

            for my $last (0, 1) {
                my $c = $t->client('cached') or return '';

                usual($c, 'EHLO client.example', 'AUTH PLAIN '
                      . $c->plain("$name-$id", 'secret'))
                    or return '';
                $last or next;
                usual($c, 'MAIL FROM:<a@a.example>', 'RCPT TO:<b@b.example>',
                      'DATA')
                    or return '';
                return $c->ask("X-Id: $id\r\nX-Plan: own\r\n\r\nHello\r\n.");
            }
        })
    } qw/ plain login /),

    'https, a name that is resolved' => sub {
        my ($id) = @_;
        return by_service('https', $id);
    },

    'https, the second server' => sub {
        my ($id) = @_;
        return by_service('group', $id);
    },

    'OAUTHBEARER that is denied, CRAM-MD5, a message' => sub {
        my ($id) = @_;
        my $c = $t->client('methods') or return '';

        usual($c, 'EHLO client.example') or return '';
        $c->ask('AUTH OAUTHBEARER bixhPWEsAWF1dGg9QmVhcmVyIHQBAQ==') =~ /^334/
            and $c->ask('');
        $c->ask('AUTH CRAM-MD5') =~ /^334 (\S+)$/ or return '';
        usual($c, encode_base64('cram '
                                . hmac_md5_hex(decode_base64($1), 'sesame'), ''),
              'MAIL FROM:<a@a.example>', 'RCPT TO:<b@b.example>', 'DATA')
            or return '';
        return $c->ask("X-Id: $id\r\n\r\nHello\r\n.");
    },

    'another identity, or no AUTH at all' => sub {
        my ($id) = @_;
        my $c = $t->client('methods') or return '';

        usual($c, 'EHLO client.example') or return '';
        $c->ask('AUTH PLAIN ' . $c->plain('somebody', 'x', 'boss'));
        usual($c, 'MAIL FROM:<a@a.example>', 'RCPT TO:<b@b.example>', 'DATA')
            or return '';
        return $c->ask("X-Id: $id\r\n\r\nHello\r\n.");
    },

    # more sessions than the limits permit, were places not given back

    'limits, MAIL that is held back, RCPT and MAIL that are refused' => sub {
        my ($id) = @_;
        my $c = $t->client('limits') or return '';

        usual($c, 'EHLO client.example',
              'AUTH PLAIN ' . $c->plain('infile', 'secret'),
              'MAIL FROM:<a@a.example>', 'RSET', 'MAIL FROM:<b@a.example>',
              'RCPT TO:<b@b.example>', 'RCPT TO:<c@b.example>')
            or return '';
        $c->ask('RCPT TO:<d@b.example>') =~ /^450/ or return '';
        usual($c, 'DATA') or return '';
        my $reply = $c->ask("X-Id: $id\r\n\r\nHello\r\n.");
        $c->send("MAIL FROM:<a\@a.example>\r\nRSET\r\n" x 3);
        $c->reply() for 1 .. 6;
        $c->ask('QUIT');
        $c->state();
        return $reply;
    },

    'a client certificate' => sub {
        my ($id) = @_;
        my $c = $t->client('tls', tls => 1, cert => "$t->{dir}/localhost.crt",
                           key => "$t->{dir}/localhost.key") or return '';

        usual($c, 'EHLO client.example', 'AUTH EXTERNAL bG9jYWxob3N0',
              'MAIL FROM:<a@a.example>', 'RCPT TO:<b@b.example>', 'DATA')
            or return '';
        return $c->ask("X-Id: $id\r\n\r\nHello\r\n.");
    },

    'a wrong key, then a message' => sub {
        my ($id) = @_;
        my $c = $t->client('smtp') or return '';

        usual($c, 'EHLO client.example', 'STARTTLS') or return '';
        $c->start_tls() or return '';
        $c->ask('EHLO client.example');
        $c->ask('AUTH PLAIN ' . $c->plain('nobody', 'secret'));
        $c->ask('AUTH PLAIN ' . $c->plain('user', 'secret'));
        $c->ask('RSET');
        usual($c, 'MAIL FROM:<a@a.example>', 'RCPT TO:<b@b.example>', 'DATA')
            or return '';
        my $reply = $c->ask("X-Id: $id\r\n\r\nHello\r\n.");
        $c->line('QUIT');
        return $reply;
    },
);

my ($worker) = $t->workers();

for my $name (sort keys %sessions) {
    my $session = $sessions{$name};
    my ($n, $accepted, @wrong) = (0, 0);

    $session->('warm-' . ++$number);

    for (;;) {
        my $id = sprintf 'id-%d-%d', ++$number, ++$n;

        set_fault($n);
        my $reply = eval { $session->($id) } // '';
        my $fired = fired();
        set_fault(0);

        push @wrong, "$n: $reply" if $reply =~ /silence|no reply/;

        my $copies = delivered($id);

        push @wrong, "$n: delivered $copies times" if $copies > 1;
        push @wrong, "$n: lost" if $reply =~ /^250/ && !$copies;
        $accepted++ if $reply =~ /^250/;

        last if !$fired || $n > 3000;
    }

    cmp_ok($n, '>', 20, "$name: allocations fail one by one: $n");
    cmp_ok($accepted, '>', 0, 'some of them without harm');
    is(join("\n", @wrong), '', 'nothing is lost, doubled or hangs');
    like($session->('after-' . ++$number), qr/^250/,
         'a session after them is as it should be');
}

is(join(' ', $t->workers()), $worker, 'the worker has lived through it');

done_testing();

# --- in the test -------------------------------------------------------------

sub set_fault {
    my ($n) = @_;
    open my $file, '+<', $fault or die "$fault: $!";
    syswrite $file, pack 'LL', $n, 0;
    close $file;
    return;
}

sub fired {
    my ($countdown, $fired) = unpack 'LL', slurp($fault);
    return $fired;
}

# Sends lines that are answered with no error; false if one is not.

sub usual {
    my ($c, @lines) = @_;

    if (!$c->{greeted}++) {
        return if $c->reply() !~ /^220/;
    }

    for (@lines) {
        return if $c->ask($_) !~ /^[23]/;
    }

    return 1;
}

# A login and a message: what the end of data was answered.

sub by_service {
    my ($port, $id) = @_;
    my $c = $t->client($port) or return '';

    usual($c, 'EHLO auth.example',
          'AUTH PLAIN ' . $c->plain('user', 'secret'),
          'MAIL FROM:<a@a.example>', 'RCPT TO:<b@b.example>', 'DATA')
        or return '';
    return $c->ask("X-Id: $id\r\n\r\nHello\r\n.");
}

# How many times a message was delivered.

sub delivered {
    my ($id) = @_;
    return scalar grep { $_->{accepted} && $_->{data} =~ /^X-Id: $id\r$/m }
           map { $_->messages() } $node, $second, $secure, values %login;
}
