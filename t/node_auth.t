# AUTH to nodes: the client's own credentials, the service's, or a fixed
# pair; connections are shared only by those who have the same.

use FindBin;
use lib "$FindBin::Bin/lib";
use MIME::Base64 ();
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

my $long = 'long-' . 's' x 600;
my @secrets = ('secret-of-user', 'secret-of-other', 'fixed-secret', $long,
               'service-secret', 'wrong-secret', 'node-b-secret');

my %users = (user => 'secret-of-user', other => 'secret-of-other',
             relay => 'fixed-secret', long => $long,
             'user@service' => 'service-secret', b => 'node-b-secret');

$t->keys(user => 'secret-of-user', other => 'secret-of-other',
         long => $long, wrong => 'wrong-secret');

my %nodes = (
    both => { auth => \%users },
    login => { auth => \%users, mechanisms => 'CRAM-MD5 LOGIN' },
    plain => { auth => \%users, mechanisms => 'PLAIN' },
    cram => { auth => \%users, mechanisms => 'CRAM-MD5' },
    none => { },
    xclient => { auth => \%users, ehlo => [ 'XCLIENT ADDR PORT LOGIN' ] },
    busy => { auth => \%users, script => { AUTH => '454 4.7.0 Later' } },
    closes => { auth => \%users, script => { AUTH => ':close' } },
    echo => { auth => \%users, script => {
        AUTH => '535 5.7.8 Bad: cmVsYXkAZml4ZWQtc2VjcmV0 fixed-secret' } },
    loop => { auth => \%users, script => { AUTH => '334 ' } },
    fallback => { auth => \%users },
);

my %n = map { $_ => $t->node($_, %{ $nodes{$_} }) } sort keys %nodes;

my $service = $t->auth_service('service', answer => sub {
    my ($request) = @_;
    my $user = $request->{headers}{'auth-user'};

    return { 'Auth-Status' => 'OK' } if $user eq 'other';
    return { 'Auth-Status' => 'OK', 'Auth-User' => 'user@service',
             'Auth-Pass' => 'service-secret' };
});

sub server {
    my ($name, $node, @lines) = @_;
    return join "\n", 'server {', "listen 127.0.0.1:%%PORT_$name%%;",
        "smtp_relay_pass 127.0.0.1:%%PORT_$node%%;", @lines, '}', '';
}

my $fixed = 'smtp_relay_node_auth relay fixed-secret;';

my $servers = join '',
    (map { server("pass_$_", $_), server("fixed_$_", $_, $fixed) }
         grep { $_ ne 'fallback' } sort keys %nodes),
    server('wrong', 'both', 'smtp_relay_node_auth relay wrong-secret;'),
    server('map', 'both', 'smtp_relay_node_auth $node_user $node_secret;'),
    server('off', 'none', 'smtp_relay_node_auth off;'),
    server('with_xclient', 'xclient', $fixed, 'smtp_relay_xclient on;'),
    server('by_service', 'both',
           'smtp_relay_auth http://127.0.0.1:%%PORT_service%%/;');

my $log_level = $t->has_debug() ? 'debug' : 'info';

$t->start(<<"EOC", log_level => $log_level);
stream {
    smtp_relay_starttls       off;
    smtp_relay_auth_file      keys;
    smtp_relay_reply_timeout  1s;
    smtp_relay_node_auth      pass;

    map \$smtp_relay_mail_from \$node_user {
        b\@a.example     b;
        none\@a.example  "";
        default          relay;
    }

    map \$node_user \$node_secret {
        b        node-b-secret;
        default  fixed-secret;
    }

    upstream two {
        server  127.0.0.1:%%PORT_both%% max_fails=1 fail_timeout=1h;
        server  127.0.0.1:%%PORT_fallback%% backup max_fails=0;
    }

    server {
        listen           127.0.0.1:%%PORT_two%%;
        smtp_relay_pass  two;
    }

    server {
        listen                127.0.0.1:%%PORT_two_wrong%%;
        smtp_relay_pass       two;
        smtp_relay_node_auth  relay wrong-secret;
    }

$servers
}
EOC

sub session { return $t->session($_[0], user => $_[1], secret => $users{$_[1]}
                                                   // "$_[1]-secret") }

sub accepted {
    my ($c, $what, @from) = @_;
    like($c->message("text\r\n", @from), qr/^250/, "$what: a message")
        or diag($c->dialogue());
}

sub logins {
    my ($node) = @_;
    return join ' ', split /\n/, slurp("$n{$node}{dir}/logins") // '';
}

# what the client sent

my $c = session('pass_both', 'user');
my $d = session('pass_both', 'other');
accepted($_, 'pass') for $c, $d, $c, $d;
is(logins('both'), 'user other', 'pass: a connection for each user');
is(($n{both}->commands(1))[1], 'AUTH PLAIN AHVzZXIAc2VjcmV0LW9mLXVzZXI=',
   'pass: AUTH PLAIN is used');

$c = session('pass_login', 'user');
accepted($c, 'login');
is(join(' ', map { /^(\w+)/ } $n{login}->commands()),
   'EHLO AUTH MAIL RCPT DATA', 'login: AUTH LOGIN where there is no PLAIN');
is(logins('login'), 'user', 'login: with that user');

$c = session('pass_plain', 'long');
accepted($c, 'a long secret');
is(($n{plain}->commands())[1], 'AUTH PLAIN',
   'a long secret: it does not go with the command');

# a fixed pair, also with variables

$c = session('fixed_both', 'user');
$d = session('fixed_both', 'other');
my $before = $n{both}->connections();
accepted($_, 'fixed') for $c, $d;
is($n{both}->connections() - $before, 1, 'fixed: all users share a connection');

$c = session('map', 'user');
accepted($c, 'variables', $_) for 'a@a.example', 'b@a.example', 'a@a.example';
like(logins('both'), qr/relay relay b\z/,
     'variables: a connection for each pair');
$c->try('MAIL FROM:<none@a.example>', '451 4.4.1', 'variables: without a user');
ok($t->wait_log(qr/no valid user and secret for "smtp_relay_node_auth"/),
   'variables: it is logged');

# what the service said

$c = $t->session('by_service', user => 'somebody', secret => 'whatever');
accepted($c, 'service');
like(logins('both'), qr/ user\@service\z/, 'service: its pair is used');

# XCLIENT makes a node forget AUTH

$c = session('with_xclient', 'user');
$d = session('with_xclient', 'other');
accepted($_, 'xclient') for $c, $d;
is(join(' ', map { /^(\w+)/ } $n{xclient}->commands()),
   'EHLO XCLIENT EHLO AUTH MAIL RCPT DATA XCLIENT EHLO AUTH MAIL RCPT DATA',
   'xclient: AUTH comes after it, and again');
unlike(join("\n", $n{xclient}->commands()), qr/LOGIN=(user|other)/,
       'xclient: no LOGIN when the relay logs in itself');

# off

$c = session('off', 'user');
accepted($c, 'off');
unlike(join("\n", $n{none}->commands()), qr/AUTH/, 'off: no AUTH');

# nodes that will not

my %log = (fixed_none => qr/upstream offers neither AUTH PLAIN nor AUTH LOGIN/,
           fixed_cram => qr/upstream offers neither/,
           fixed_busy => qr/invalid reply to AUTH: "454 4.7.0 "/,
           fixed_closes => qr/prematurely closed.*reply to AUTH/,
           fixed_echo => qr/invalid reply to AUTH: "535 5.7.8 "/,
           fixed_loop => qr/AUTH challenge: "334/,
           wrong => qr/invalid reply to AUTH: "535/);

for my $name (sort keys %log) {
    $c = session($name, 'user');
    $c->try('MAIL FROM:<x@a.example>', '451 4.4.1', "$name: no message");
    $c->try('NOOP', '250', "$name: the session goes on");
    ok($t->wait_log($log{$name}), "$name: it is logged");
}

# a user whom a node refuses does not take it away from others

$c = session('two', 'wrong');
$c->try('MAIL FROM:<x@a.example>', '451 4.4.1', 'a user that no node knows');
$before = $n{both}->count();
accepted(session('two', 'user'), 'another user');
is($n{both}->count(), $before + 1, 'the node is still in use');

# a fixed pair that it refuses is a fault of it

$c = session('two_wrong', 'user');
$c->try('MAIL FROM:<x@a.example>', '451 4.4.1', 'a pair that no node takes');
$before = $n{both}->count();
accepted(session('two', 'user'), 'then another node is used');
is($n{both}->count(), $before, 'not the one that failed');

# secrets

$t->stop();

my $text = join '', $t->read('error.log'), $t->read('access.log');

for my $secret (@secrets) {
    my $b64 = MIME::Base64::encode($secret, '');
    unlike($text, qr/\Q$secret\E|\Q$b64\E/,
           'not in the log: ' . substr $secret, 0, 20);
}

unlike($text, qr/AHVzZXIAc2Vj|cmVsYXkAZml4/, 'nor as AUTH PLAIN has it, though a node quotes it');

# configuration

$t->{expected_alerts} = qr/\[emerg\]/;

for my $case ([ 'on', qr/"smtp_relay_node_auth" takes "off", "pass", or a user/ ],
              [ 'user ""', qr/"smtp_relay_node_auth" has an invalid user/ ],
              [ '"" secret', qr/"smtp_relay_node_auth" has an invalid user/ ],
              [ 'a b c', qr/invalid number of arguments in "smtp_relay_node_auth/ ],
              [ "off;\nsmtp_relay_node_auth off", qr/node_auth" .*is duplicate/ ])
{
    my ($value, $pattern) = @$case;
    my ($status, $said) = $t->check_conf(<<"EOC");
stream {
    smtp_relay_auth_file  keys;
    smtp_relay_starttls   off;
    server {
        listen                127.0.0.1:%%PORT_conf%%;
        smtp_relay_pass       127.0.0.1:25;
        smtp_relay_node_auth  $value;
    }
}
EOC
    ok($status, "smtp_relay_node_auth $value: refused");
    like($said, qr/$pattern.*:\d+/, 'and it says why');
}

done_testing();
