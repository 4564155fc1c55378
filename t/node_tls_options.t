# What TLS towards nodes can be told: ciphers, protocols, OpenSSL commands,
# revoked certificates, passphrases, the length of a chain.  Whatever a node
# does not meet, it is a failure of the node.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use IO::Socket::SSL;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

$t->keys(user => 'secret');

# certificates

$t->certificates('node.example', 'relay.example', 'locked1', 'locked2',
                 'locked3');

my %host = (host => 'node.example');

SMTPRelay::Cert::issue($dir, 'revoked', %host);
SMTPRelay::Cert::issue($dir, 'middle1', is_ca => 1);
SMTPRelay::Cert::issue($dir, 'middle2', is_ca => 1, by => 'middle1');
SMTPRelay::Cert::issue($dir, 'below1', %host, by => 'middle1');
SMTPRelay::Cert::issue($dir, 'below2', %host, by => 'middle2');

SMTPRelay::Cert::revoke($dir, 'ca', 'revoked');
SMTPRelay::Cert::revoke($dir, 'middle1');

# a node sends its chain, but for the CA

sub chain {
    my ($to, @names) = @_;
    spew("$dir/$to", join '', map { slurp("$dir/$_") } @names);
}

chain('below1.crt', 'below1.crt', 'middle1.crt');
chain('below2.crt', 'below2.crt', 'middle2.crt', 'middle1.crt');
chain('all.crl', 'ca.crl', 'middle1.crl');

SMTPRelay::Cert::encrypt($dir, 'locked1', 'Pass-Phrase-1');
SMTPRelay::Cert::encrypt($dir, 'locked2', 'Pass-Phrase-2');
SMTPRelay::Cert::encrypt($dir, 'locked3', 'Pass-Phrase-3');

spew("$dir/passwords", "Pass-Phrase-1\nPass-Phrase-2\n");
spew("$dir/wrong", "Pass-Phrase-0\nPass-Phrase-9\n");
chmod 0600, "$dir/passwords", "$dir/wrong";

# nodes

sub tls { return (tls => 'on', cert => "$dir/" . ($_[0] // 'node.example')) }

# a node with settings of its own

sub with {
    my (%options) = @_;

    my $context = IO::Socket::SSL::SSL_Context->new(
        SSL_server => 1, SSL_verify_mode => 0,
        SSL_cert_file => "$dir/node.example.crt",
        SSL_key_file => "$dir/node.example.key", %options)
        or die "no TLS: $IO::Socket::SSL::SSL_ERROR\n";

    return (tls(), context => $context);
}

my $AES128 = 'ECDHE-ECDSA-AES128-GCM-SHA256';
my $AES256 = 'ECDHE-ECDSA-AES256-GCM-SHA384';
my $SUITE128 = 'TLS_AES_128_GCM_SHA256';
my $SUITE256 = 'TLS_AES_256_GCM_SHA384';

my %nodes = (
    any => { tls() },
    tls12 => { tls(), version => 'TLSv1_2' },
    tls13 => { tls(), version => 'TLSv1_3' },
    aes128 => { with(SSL_version => 'TLSv1_2', SSL_cipher_list => $AES128) },
    aes256 => { with(SSL_version => 'TLSv1_2', SSL_cipher_list => $AES256) },
    suite128 => { with(SSL_version => 'TLSv1_3',
                       SSL_ciphersuites => $SUITE128) },
    suite256 => { with(SSL_version => 'TLSv1_3',
                       SSL_ciphersuites => $SUITE256) },
    client => { tls(), version => 'TLSv1_2', ca => "$dir/ca.crt" },
    revoked => { tls('revoked') },
    stranger => { tls('stranger') },
    below1 => { tls('below1') },
    below2 => { tls('below2') },
);

my %n = map { $_ => $t->node($_, %{ $nodes{$_} }) } sort keys %nodes;

# servers, and what is expected of them

my $passwords = 'smtp_relay_ssl_password_file passwords;';

sub certificate {
    my ($name) = @_;
    return ("smtp_relay_ssl_certificate $name.crt;",
            "smtp_relay_ssl_certificate_key $name.key;");
}

# a server, its node, what it shows, directives

my @accepted = (
    [ 'cipher', 'aes256', 'a cipher that both have',
      "smtp_relay_ssl_ciphers $AES256;" ],
    [ 'cipher_list', 'aes128', 'ciphers, one of which the node has',
      "smtp_relay_ssl_ciphers $AES256:$AES128;" ],
    [ 'cipher_default', 'aes128', 'any cipher by default' ],
    [ 'cipher_tls13', 'tls13', 'ciphers do not matter to TLSv1.3',
      "smtp_relay_ssl_ciphers $AES256;" ],
    [ 'protocol', 'any', 'protocols', 'smtp_relay_ssl_protocols TLSv1.2;' ],
    [ 'protocols', 'any', 'more than one protocol',
      'smtp_relay_ssl_protocols TLSv1.2 TLSv1.3;' ],
    [ 'protocol_default', 'tls13', 'TLSv1.3 by default' ],
    [ 'protocol_default12', 'tls12', 'TLSv1.2 by default' ],
    [ 'command', 'suite256', 'a command',
      "smtp_relay_ssl_conf_command Ciphersuites $SUITE256;" ],
    [ 'command_max', 'any', 'a command that overrides the protocols',
      'smtp_relay_ssl_protocols TLSv1.2 TLSv1.3;',
      'smtp_relay_ssl_conf_command MaxProtocol TLSv1.2;' ],
    [ 'command_files', 'client', 'commands with files',
      'smtp_relay_ssl_conf_command Certificate relay.example.crt;',
      'smtp_relay_ssl_conf_command PrivateKey relay.example.key;' ],
    [ 'crl_none', 'revoked', 'a revoked certificate without a list' ],
    [ 'crl_unverified', 'revoked', 'or without verification',
      'smtp_relay_ssl_verify off;', 'smtp_relay_ssl_crl ca.crl;' ],
    [ 'crl', 'any', 'a certificate that is not revoked',
      'smtp_relay_ssl_crl ca.crl;' ],
    [ 'crl_chain', 'below1', 'a chain and lists of all its CAs',
      'smtp_relay_ssl_crl all.crl;' ],
    [ 'depth_direct', 'any', 'depth 0: no intermediate certificate',
      'smtp_relay_ssl_verify_depth 0;' ],
    [ 'depth_default', 'below1', 'one by default' ],
    [ 'depth_one', 'below1', 'depth 1: one',
      'smtp_relay_ssl_verify_depth 1;' ],
    [ 'depth_two', 'below2', 'depth 2: two',
      'smtp_relay_ssl_verify_depth 2;' ],
    [ 'depth_unverified', 'below2', 'no depth without verification',
      'smtp_relay_ssl_verify off;', 'smtp_relay_ssl_verify_depth 0;' ],
    [ 'password', 'client', 'a key with a passphrase',
      certificate('locked1'), $passwords ],
    [ 'password_second', 'client', 'the second passphrase',
      certificate('locked2'), $passwords ],
);

my $handshake = qr/SSL_do_handshake\(\) failed .*alert handshake failure/;

# OpenSSL says this or that, depending on its version

my $version = qr/SSL_do_handshake\(\) failed .*(?:protocol|alert handshake)/;
my $too_long = qr/verify error: \((?:22:certificate chain too|20:unable to)/;

# a bad node, a good one, what is logged of the bad one

my @refused = (
    [ 'cipher_no', 'aes128', 'aes256', 'no common cipher', $handshake,
      "smtp_relay_ssl_ciphers $AES256;" ],
    [ 'protocol_no13', 'tls12', 'any', 'TLSv1.3 only', $version,
      'smtp_relay_ssl_protocols TLSv1.3;' ],
    [ 'protocol_no12', 'tls13', 'any', 'TLSv1.2 only', $version,
      'smtp_relay_ssl_protocols TLSv1.2;' ],
    [ 'command_no', 'suite128', 'suite256', 'a command: no common suite',
      $handshake, "smtp_relay_ssl_conf_command Ciphersuites $SUITE256;" ],
    [ 'command_min', 'tls12', 'any', 'a command: no common protocol',
      $version, 'smtp_relay_ssl_conf_command MinProtocol TLSv1.3;' ],
    [ 'crl_no', 'revoked', 'any', 'a revoked certificate',
      qr/verify error: \(23:certificate revoked\)/,
      'smtp_relay_ssl_crl ca.crl;' ],
    [ 'crl_missing', 'below1', 'any', 'a chain, a CA of which has no list',
      qr/verify error: \(3:unable to get certificate CRL\)/,
      'smtp_relay_ssl_crl ca.crl;' ],
    [ 'depth_zero', 'below1', 'any', 'depth 0: one intermediate certificate',
      $too_long, 'smtp_relay_ssl_verify_depth 0;' ],
    [ 'depth_no', 'below2', 'below1', 'two by default', $too_long ],
);

sub server {
    my ($name, $to, @lines) = @_;
    return join "\n", 'server {', "listen 127.0.0.1:%%PORT_s_$name%%;",
        "smtp_relay_pass $to;", @lines, '}', '';
}

sub address { return "127.0.0.1:%%PORT_$_[0]%%" }

my @locked = certificate('%%TESTDIR%%/$cert');

my $servers = join '',
    (map { my ($name, $node, undef, @lines) = @$_;
           server($name, address($node), @lines) } @accepted),
    (map { my ($name, $bad, $good, undef, undef, @lines) = @$_;
           ("upstream $name { server " . address($bad) . '; server '
                . address($good) . " backup; }\n",
            server($name, address($bad), @lines),
            server("next_$name", $name, @lines)) } @refused),
    server('var', address('client'), @locked, $passwords),
    server('var_wrong', address('client'), @locked,
           'smtp_relay_ssl_password_file wrong;'),
    server('var_none', address('client'), @locked),
    server('var_relative', address('client'), certificate('$cert'),
           $passwords),
    server('var_next', 'relative', certificate('$cert'), $passwords),
    server('captured', address('client'), certificate('$captured'),
           $passwords);

$t->start(<<"EOC");
stream {
    map \$smtp_relay_mail_from \$cert {
        locked1\@a.example  locked1;
        locked2\@a.example  locked2;
        locked3\@a.example  locked3;
        default            absent;
    }

    map \$smtp_relay_mail_from \$captured {
        ~^(\\w+)\@            \$1;
    }

    upstream relative {
        server             127.0.0.1:%%PORT_stranger%%;
        server             127.0.0.1:%%PORT_client%% backup;
    }

    smtp_relay_starttls       off;
    smtp_relay_auth_file      keys;
    smtp_relay_reply_timeout  2s;

    smtp_relay_ssl                      on;
    smtp_relay_ssl_trusted_certificate  ca.crt;
    smtp_relay_ssl_name                 node.example;

$servers
}
EOC

# what works

sub accepted {
    my ($name, $node, $what, $from) = @_;

    my $c = $t->session("s_$name");
    my $before = $n{$node}->count();

    like($c->message("text\r\n", $from // 'a@a.example'), qr/^250/, $what)
        or Test::More::diag($t->log_tail(5));
    is($n{$node}->count(), $before + 1, "$what: at the node");
    $c->must('QUIT', '221');

    return $n{$node}->tls($n{$node}->connections());
}

my %tls;

for (@accepted) {
    my ($name, $node, $what) = @$_;
    $tls{$name} = accepted($name, $node, $what);
}

is($tls{protocol}{protocol}, 'TLSv1_2', 'protocols: none but those are used');
is($tls{protocols}{protocol}, 'TLSv1_3', 'more than one: the best is');
is($tls{command_max}{protocol}, 'TLSv1_2', 'a command: it has an effect');
is($tls{command_files}{client}, 'relay.example',
   'commands with files: the node gets the certificate');
is($tls{password}{client}, 'locked1',
   'a key with a passphrase: the node gets the certificate');
is($tls{password_second}{client}, 'locked2',
   'the second passphrase: the node gets the certificate');

# passphrases and variables

for my $name ('locked1', 'locked2') {
    my $tls = accepted('var', 'client', "a passphrase and variables: $name",
                       "$name\@a.example");
    is($tls->{client}, $name, "$name: the node gets the certificate");
}

# what does not; connections and sessions of servers that are less strict are
# there already, and of no use to these

sub refused {
    my ($name, $bad, $what, $log, $from) = @_;

    my $c = $t->session("s_$name");
    my $before = $n{$bad}->count();

    like($c->ask('MAIL FROM:<' . ($from // 'a@a.example') . '>'),
         qr/^451 4\.4\.1 /, $what);
    $c->try('NOOP', '250', "$what: the session goes on");
    $c->try('RCPT TO:<b@b.example>', '503', "$what: without a message");

    my $server = $t->port("s_$name");
    ok($t->wait_log(
        qr/ \[error\] .*$log.*, server: 127\.0\.0\.1:$server\b/),
       "$what: is logged as an error")
        or Test::More::diag($t->log_tail(5));
    is($n{$bad}->count(), $before, "$what: the node gets nothing");

    return $c;
}

for (@refused) {
    my ($name, $bad, $good, $what, $log) = @$_;

    refused($name, $bad, $what, $log);

    my $before = $n{$bad}->count();
    accepted("next_$name", $good, "$what: the next node is taken");
    is($n{$bad}->count(), $before, "$what: not the first one");
}

my $c = refused('var_wrong', 'client', 'variables and a wrong passphrase',
                qr/cannot load certificate key "\S+locked1\.key"/,
                'locked1@a.example');
like($c->ask('MAIL FROM:<b@b.example>'), qr/^451 4\.4\.1 /,
     'a certificate that is not there');
ok($t->wait_log(qr/ \[error\] .*cannot load certificate "\S+absent\.crt"/),
   'is logged as an error');

refused('var', 'client', 'none of the passphrases',
        qr/cannot load certificate key "\S+locked3\.key"/,
        'locked3@a.example');
refused('var_none', 'client', 'variables and no passphrase',
        qr/cannot load certificate key "\S+locked1\.key"/,
        'locked1@a.example');

# names of files that are relative, and made of captures; more than one
# message, more than one node

sub messages {
    my ($name, $what, @from) = @_;

    my $c = $t->session("s_$name");
    my $before = $n{client}->connections();

    for my $from (@from) {
        $c->send("MAIL FROM:<$from\@a.example>\r\n"
                 . "RCPT TO:<b\@b.example>\r\nDATA\r\n");
        my @replies = map { $c->reply() // '' } 1 .. 3;
        like($replies[2], qr/^354/, "$what: $from") or return;
        like($c->ask("text\r\n."), qr/^250/, "$what: $from: goes through")
            or return;
    }

    # one that was refused before may be counted only now; it has no TLS

    is(join(' ', map { $_->{client} } grep { defined }
                 map { $n{client}->tls($_) }
                 $before + 1 .. $n{client}->connections()), "@from",
       "$what: a connection for each certificate");
}

messages('var_relative', 'a relative name', 'locked1', 'locked2');
messages('var_next', 'a relative name and the next node', 'locked1');
messages('captured', 'captures', 'locked1', 'locked2');

is(scalar $t->log_lines(qr/Pass-Phrase/), 0, 'no passphrase is logged');

# configuration

$t->{expected_alerts} = qr/\[emerg\]/;

sub conf {
    my ($line, @more) = @_;
    return join "\n", 'stream {', 'smtp_relay_auth_file  keys;',
        'smtp_relay_starttls   off;', 'server {',
        'listen           127.0.0.1:%%PORT_conf%%;',
        'smtp_relay_pass  127.0.0.1:25;', 'smtp_relay_ssl   on;', @more,
        $line, '}', '}', '';
}

sub conf_error {
    my ($line, $pattern, $what, @more) = @_;

    my ($status, $said) = $t->check_conf(conf($line, @more));
    ok($status, "$what: refused");

    my ($at) = $said =~ /\[emerg\] .*$pattern.*nginx\.conf:(\d+)$/m;
    is(defined $at ? $t->own_line($at) : $said, 8 + @more,
       "$what: says why and where");
}

# what OpenSSL says, and the directive and line that it is about

sub conf_refused {
    my ($line, $pattern, $what, @more) = @_;

    my ($status, $said) = $t->check_conf(conf($line, @more));
    ok($status, "$what: refused");
    like($said, qr/\[emerg\] .*$pattern/, "$what: says why");

    my ($at) = $said =~ /\[emerg\]\ "smtp_relay_ssl_\w+"
                         \ (?:directive\ has\ an\ invalid\ value|cannot\ be\ used)
                         \ in\ .*nginx\.conf:(\d+)$/mx;
    is(defined $at ? $t->own_line($at) : $said, 8, "$what: and where");
}

my $prefix = 'smtp_relay_ssl';

conf_error("${prefix}_verify_depth $_;",
           qr/"${prefix}_verify_depth" directive invalid number/,
           "verify_depth $_") for qw/ -1 two 1.5 /;
conf_error("${prefix}_protocols TLSv1.2 TLSv9;",
           qr/"${prefix}_protocols" has an invalid value "TLSv9"/,
           'protocols TLSv9');
conf_error("${prefix}_protocols TLSv1.2 TLSv1.2;",
           qr/"${prefix}_protocols" has a duplicate value "TLSv1.2"/,
           'the same protocol twice');
conf_error("${prefix}_password_file none;", qr/"\S+\/none" failed/,
           'a password file that is not there');

my %valid = (verify_depth => 1, protocols => 'TLSv1.2', ciphers => 'DEFAULT',
             password_file => 'passwords', crl => 'ca.crl');

for my $name (sort keys %valid) {
    my $line = "${prefix}_$name $valid{$name};";
    conf_error($line, qr/"${prefix}_$name" directive is duplicate/,
               "$name twice", $line);
}

for my $name (sort(keys %valid), 'conf_command') {
    my $arguments = $name eq 'protocols' ? '' : ' a b c';
    conf_error("${prefix}_$name$arguments;",
               qr/invalid number of arguments in "${prefix}_$name" directive/,
               "$name with a wrong number of arguments");
}

conf_refused("${prefix}_ciphers NONE-SUCH;",
             qr/SSL_CTX_set_cipher_list\("NONE-SUCH"\) failed/,
             'ciphers that OpenSSL does not know');
conf_refused("${prefix}_crl $_;",
             qr/(?:X509_LOOKUP_load_file\(|cannot load CRL )"\S+\/$_"/, "crl $_")
    for qw/ none keys /;
conf_refused("${prefix}_trusted_certificate $_;",
             qr/SSL_CTX_load_verify_locations\("\S+\/$_"\) failed|"\S+\/$_"/,
             "trusted_certificate $_")
    for qw/ none keys /;
conf_refused("${prefix}_conf_command $_->[0] $_->[1];",
             qr/SSL_CONF_cmd\("$_->[0]", "$_->[1]"\) failed/,
             "conf_command $_->[0] $_->[1]")
    for [ 'NoSuch', 'x' ], [ 'MinProtocol', 'TLSv9' ];
conf_refused("${prefix}_password_file wrong;",
             qr/cannot load certificate key "\S+\/locked1.key"/,
             'a wrong passphrase', certificate('locked1'));

my ($status, $said) = $t->check_conf(conf($passwords,
                                          certificate('locked1')));
is($status, 0, 'a right one: taken') or Test::More::diag($said);

done_testing();
