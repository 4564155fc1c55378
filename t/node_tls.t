# TLS towards nodes: from the start and by STARTTLS; nothing is ever sent in
# the clear where TLS is asked for.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

$t->keys(user => 'secret');
$t->certificates('node.example', 'other.example', 'relay.example');

my %tls = (tls => 'on', cert => "$dir/node.example");
my %starttls = (tls => 'starttls', cert => "$dir/node.example");

my %nodes = (
    on => { %tls },
    starttls => { %starttls },
    split => { %starttls, split => 1 },
    old => { %starttls, version => 'TLSv1_2' },
    stranger => { tls => 'on', cert => "$dir/stranger" },
    other => { tls => 'on', cert => "$dir/other.example" },
    client => { %tls, ca => "$dir/ca.crt" },
    resume => { %tls, version => 'TLSv1_2' },
    resume13 => { %tls, version => 'TLSv1_3' },
    plain => { },
    refused => { %starttls, script => { STARTTLS => '454 4.7.0 No TLS' } },
    closed => { %starttls, script => { STARTTLS => ':close' } },
    silent => { %starttls, script => { STARTTLS => ':silent' } },
    injected => { %starttls, script => {
        STARTTLS => { raw => "220 Go ahead\r\n250-x\r\n250 AUTH PLAIN\r\n" } } },
    garbage => { %starttls, script => {
        STARTTLS => { raw => "220 Go ahead\r\n", then => ':close' } } },
    mute => { script => { connect => ':silent' } },
);

my %n = map { $_ => $t->node($_, %{ $nodes{$_} }) } sort keys %nodes;

sub server {
    my ($name, $node, @lines) = @_;
    return join "\n", 'server {', "listen 127.0.0.1:%%PORT_$name%%;",
        "smtp_relay_pass 127.0.0.1:%%PORT_$node%%;", @lines, '}', '';
}

my $starttls = 'smtp_relay_ssl starttls;';
my $no_keep = 'smtp_relay_keepalive 0;';

# for nodes that say nothing
my $short = 'smtp_relay_connect_timeout 500ms; smtp_relay_reply_timeout 500ms;';

my $servers = join '',
    server('to_on', 'on'),
    server('to_starttls', 'starttls', $starttls),
    server('to_split', 'split', $starttls),
    server('to_old', 'old', $starttls),
    server('to_version', 'old', $starttls, 'smtp_relay_ssl_protocols TLSv1.3;'),
    server('to_stranger', 'stranger'),
    server('unverified', 'stranger', 'smtp_relay_ssl_verify off;'),
    server('system', 'on', 'smtp_relay_ssl_trusted_certificate "";'),
    server('to_other', 'other'),
    server('address', 'on', 'smtp_relay_ssl_name 127.0.0.1;'),
    server('address_no', 'on', 'smtp_relay_ssl_name 127.0.0.2;'),
    server('no_name', 'on', 'smtp_relay_ssl_name $smtp_relay_auth_http_none;'),
    server('host', 'on', 'smtp_relay_ssl_name $name:25;'),
    server('sni', 'on', 'smtp_relay_ssl_server_name on;'),
    server('no_cert', 'client'),
    server('with_cert', 'client', 'smtp_relay_ssl_certificate relay.example.crt;',
           'smtp_relay_ssl_certificate_key relay.example.key;'),
    server('var_cert', 'client',
           'smtp_relay_ssl_certificate %%TESTDIR%%/$cert.crt;',
           'smtp_relay_ssl_certificate_key %%TESTDIR%%/$cert.key;'),
    server('to_resume', 'resume', $no_keep),
    server('to_resume13', 'resume13', $no_keep),
    server('no_resume', 'resume', $no_keep, 'smtp_relay_ssl_session_reuse off;'),
    (map { server("to_$_", $_, $starttls, $short) }
         qw/ plain refused closed silent injected garbage /),
    server('to_mute', 'mute', $short),
    server('tls_to_plain', 'plain', $short);

$t->start(<<"EOC");
stream {
    log_format  message  "\$smtp_relay_event \$server_port \$upstream_addr";
    access_log  access.log  message;

    map \$smtp_relay_mail_from \$cert {
        other\@a.example  other.example;
        default           relay.example;
    }

    map \$smtp_relay_mail_from \$name {
        other\@a.example  other.example;
        default           node.example;
    }

    smtp_relay_starttls         off;
    smtp_relay_auth_file        keys;

    smtp_relay_ssl                      on;
    smtp_relay_ssl_trusted_certificate  ca.crt;
    smtp_relay_ssl_name                 node.example;

    upstream first_bad {
        server 127.0.0.1:%%PORT_stranger%%;
        server 127.0.0.1:%%PORT_plain%% down;
        server 127.0.0.1:%%PORT_on%% backup;
    }

    server {
        listen           127.0.0.1:%%PORT_next%%;
        smtp_relay_pass  first_bad;
    }

    upstream node.example {
        zone             node 64k;
        server           127.0.0.1:%%PORT_resume%%;
    }

    # the name of the group is the one that is checked

    server {
        listen               127.0.0.1:%%PORT_group%%;
        smtp_relay_pass      node.example;
        smtp_relay_ssl_name  \$upstream_name;
        smtp_relay_keepalive 0;
    }

    map \$server_port \$upstream_name { default node.example; }

$servers
}
EOC

my $body = join '', map { "line $_ of the text\r\n.dot\r\n" } 1 .. 5000;
my $stuffed = $body =~ s/^\./../mgr;

# what works

for my $name (qw/ on starttls split old /) {
    my $c = $t->session("to_$name");

    like($c->message("one\r\n"), qr/^250/, "$name: a message");
    like($c->message($stuffed), qr/^250/, "$name: and a long one");
    $c->must('QUIT', '221');

    $c = $t->session("to_$name");
    like($c->message("three\r\n"), qr/^250/, "$name: and one of a new session");

    my @messages = $n{$name}->messages();
    is($messages[1]{data}, $body, "$name: arrives as it was sent");
    is($n{$name}->connections(), 1, "$name: all over one connection");
    like($n{$name}->tls()->{protocol}, $name eq 'old' ? qr/TLSv1_2/ : qr/TLSv1/,
         "$name: which has TLS");
}

my @commands = $n{starttls}->commands();
is(join(' ', map { /^(\w+)/ } @commands[0 .. 3]), 'EHLO STARTTLS EHLO MAIL',
   'STARTTLS: EHLO before and after');
is($n{on}->tls()->{server_name}, undef, 'no server name by default');

sub accepted {
    my ($port, $what) = @_;
    my $c = $t->session($port);
    my $reply = $c->message("text\r\n", 'a@a.example');
    like($reply, qr/^250/, $what) or Test::More::diag($t->log_tail(5));
    $c->must('QUIT', '221');
}

sub refused {
    my ($port, $what, $log) = @_;

    my $c = $t->session($port);
    my @replies = map { $c->ask($_) } 'MAIL FROM:<a@a.example>';
    like($replies[0], qr/^451 4\.4\.1/, $what);
    $c->try('NOOP', '250', 'the session goes on');
    ok($t->wait_log($log), 'it is logged') if $log;
}

accepted('unverified', 'verification can be turned off');
accepted('address', 'an address is checked');
accepted('host', 'a name with variables and a port');
accepted('sni', 'with a server name');
is($n{on}->tls($n{on}->connections())->{server_name}, 'node.example',
   'which the node gets');
accepted('next', 'a node with a bad certificate is passed over');
accepted('with_cert', 'a client certificate');
is($n{client}->tls($n{client}->connections())->{client}, 'relay.example',
   'which the node gets');

# certificates with variables, and connections that differ in them

my $c = $t->session('var_cert');
my $before = $n{client}->connections();

for my $from ('a@a.example', 'other@a.example', 'a@a.example',
              'other@a.example')
{
    like($c->message("text\r\n", $from), qr/^250/,
         "a certificate with variables: $from");
}

is(join(' ', map { $n{client}->tls($_)->{client} }
             $before + 1 .. $n{client}->connections()),
   'relay.example other.example', 'a connection for each certificate');

# sessions

for my $name ('resume', 'resume13') {
    $c = $t->session("to_$name");
    like($c->message("text\r\n"), qr/^250/, "$name: a message") for 1 .. 3;
    is(join(' ', map { $n{$name}->tls($_)->{reused} } 1 .. 3), '0 1 1',
       "$name: sessions are reused");
}

$c = $t->session('group');
like($c->message("text\r\n"), qr/^250/, 'a group with a zone') for 1 .. 2;
is(join(' ', map { $n{resume}->tls($_)->{reused} } 4 .. 5), '0 1',
   'reuses sessions, too');

$c = $t->session('no_resume');
like($c->message("text\r\n"), qr/^250/, 'without reuse: a message') for 1 .. 2;
is(join(' ', map { $n{resume}->tls($_)->{reused} } 6 .. 7), '0 0',
   'no session is reused');

# what must not work

refused('to_stranger', 'a certificate of nobody',
        qr/\[error\].*upstream SSL certificate verify error/);
refused('system', 'a CA that the system does not know');
refused('to_other', 'a certificate of another name',
        qr/upstream SSL certificate does not match "node.example"/);
refused('address_no', 'a certificate of another address',
        qr/upstream SSL certificate does not match "127.0.0.2"/);
refused('no_name', 'no name at all',
        qr/upstream SSL certificate does not match ""/);
refused('no_cert', 'without a client certificate');
refused('to_version', 'no common version of TLS');
refused('to_plain', 'a node without STARTTLS',
        qr/\[error\].*upstream does not offer STARTTLS/);
refused('to_refused', 'a node that refuses STARTTLS',
        qr/invalid reply to STARTTLS: "454/);
refused('to_closed', 'a node that closes');
refused('to_silent', 'a node that is silent');
refused('to_injected', 'octets in the clear behind the 220',
        qr/upstream sent data before a command: "250-x/);
refused('to_garbage', 'a node that closes in the handshake');
refused('to_mute', 'a node that does not shake hands',
        qr/timed out.*while SSL handshaking to upstream/);
refused('tls_to_plain', 'TLS to a node without it');

for my $name (qw/ plain refused closed silent injected garbage mute /) {
    my $all = join '', map { $n{$name}->received($_) }
              1 .. $n{$name}->connections();
    unlike($all, qr/MAIL|RCPT|text/, "$name: nothing was sent in the clear");
}

# nothing in the log of what came in the clear

is($n{injected}->count(), 0, 'no message was injected');

# configuration

$t->{expected_alerts} = qr{\[emerg\]|alert certificate required};

sub conf_error {
    my ($lines, $pattern, $what) = @_;
    my ($status, $said) = $t->check_conf(<<"EOC");
stream {
    smtp_relay_auth_file  keys;
    smtp_relay_starttls   off;
    server {
        listen           127.0.0.1:%%PORT_conf%%;
        smtp_relay_pass  127.0.0.1:25;
        $lines
    }
}
EOC
    ok($status, "$what: refused");
    like($said, $pattern, "$what: says why");
}

conf_error('smtp_relay_ssl maybe;', qr/smtp_relay_ssl.*maybe.*:\d+/,
           'smtp_relay_ssl maybe');
conf_error("smtp_relay_ssl on;\nsmtp_relay_ssl_certificate ca.crt;",
           qr/"smtp_relay_ssl_certificate" needs .* in \S+nginx.conf:\d+/,
           'a certificate without its key');
conf_error("smtp_relay_ssl on;\nsmtp_relay_ssl_protocols TLSv9;",
           qr/smtp_relay_ssl_protocols.*TLSv9|TLSv9.*:\d+/, 'TLSv9');
conf_error("smtp_relay_ssl on;\nsmtp_relay_ssl_trusted_certificate none.crt;",
           qr/none.crt/, 'a CA file that is not there');

done_testing();
