# Which node a message goes to: the balancers of nginx, groups and addresses
# that variables and the auth service name.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::DNS;
use SMTPRelay::FaultNode;

use Time::HiRes qw/ sleep time /;

my $t = SMTPRelay::Test->new();

my @names = qw/ one two three /;
my %nodes = map { $_ => $t->node($_) } @names, 'back', 'four', 'first';

$nodes{other_address} = $t->node('other_address', address => '127.0.0.2');
$nodes{unix} = $t->_daemon('SMTPRelay::FaultNode', 'unix',
                           unix => "$t->{dir}/node.sock");

# nodes that fail, and one that rejects

my %failing = (
    fails => { connect => ':close' },
    says_421 => { MAIL => '421 4.3.2 Not now' },
    says_450 => { MAIL => sub { $_[0] =~ /mail/ ? '450 4.3.2 Later' : undef },
                  RCPT => sub { $_[0] =~ /<rcpt\@d/ ? '451 4.3.2 Later' : undef },
                  eod => '452 4.3.1 Full' },
);

for my $zone (qw/ zone alone /) {
    $nodes{"${_}_$zone"} = $t->node("${_}_$zone", script => $failing{$_})
        for sort keys %failing;
}

my $dns = SMTPRelay::DNS->new(dir => "$t->{dir}/dns", names => {
    'node.example' => ['127.0.0.1'],
    'two.example' => ['127.0.0.1', '127.0.0.2'],
    'empty.example' => [],
    'silent.example' => 'silent',
});

push @{ $t->{daemons} }, $dns;

my %users = map { $_ => 'secret' } 'user', 'group_one', 'group_two', 'address',
    'unix', 'name', 'two', 'missing', 'empty', 'silent', 'no_port', 'broken',
    map { "u$_" } 1 .. 12;
$t->keys(%users);

my $port = $t->port('four');
my $other = $t->port('other_address');

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;

    my %answers = (
        server => { 'Auth-Server' => '127.0.0.1', 'Auth-Port' => $port },
        named => { 'Auth-Server' => 'node.example', 'Auth-Port' => $port },
        upstream => { 'Auth-Upstream' => 'only_two' },
        both => { 'Auth-Server' => '127.0.0.1', 'Auth-Port' => $port,
                  'Auth-Upstream' => 'only_two' },
        refused => { 'Auth-Server' => '127.0.0.1',
                     'Auth-Port' => $t->port('refused') },
        nowhere => { 'Auth-Server' => 'missing.example',
                     'Auth-Port' => $port },
        none => {},
    );

    return { 'Auth-Status' => 'OK',
             %{ $answers{ $request->{headers}{'auth-user'} } } };
});

my $groups = '';

for my $zone (qw/ zone alone /) {
    my $line = sub { $zone eq 'zone' ? "zone  $_[0]_$zone 64k;" : '' };
    my $all = join ' ', map { "server 127.0.0.1:%%PORT_$_%%;" } @names;

    my %balancers = (
        least_conn => "least_conn; $all",
        consistent => "hash \$smtp_relay_account consistent; $all",
        hash => "hash \$smtp_relay_account; $all",
        random => "random; $all",
        random_two => "random two; $all",
        random_least => "random two least_conn; $all",
        backup => 'server 127.0.0.1:%%PORT_first%% max_fails=1 '
                  . 'fail_timeout=1s; server 127.0.0.1:%%PORT_back%% backup;',
        max_fails => "server 127.0.0.1:%%PORT_fails_$zone%% max_fails=2 "
                     . 'fail_timeout=2s; server 127.0.0.1:%%PORT_two%%;',
        max_421 => "server 127.0.0.1:%%PORT_says_421_$zone%% max_fails=1 "
                   . 'fail_timeout=60s; server 127.0.0.1:%%PORT_two%%;',
        max_450 => "server 127.0.0.1:%%PORT_says_450_$zone%% max_fails=1 "
                   . 'fail_timeout=60s; server 127.0.0.1:%%PORT_two%% backup;',
    );

    for my $name (sort keys %balancers) {
        $groups .= <<"EOC";
    upstream ${name}_$zone { @{[ $line->($name) ]} $balancers{$name} }

    server {
        listen           127.0.0.1:%%PORT_to_${name}_$zone%%;
        smtp_relay_pass  ${name}_$zone;
    }
EOC
    }
}

$t->start(<<"EOC");
stream {
    log_format  message  "\$smtp_relay_event \$smtp_relay_mail_from "
                         "\$upstream_addr";
    access_log  access.log  message;

    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    smtp_relay_max_errors  0;

    resolver          127.0.0.1:@{[ $dns->port() ]}  ipv6=off;
    resolver_timeout  500ms;

$groups

    upstream only_one { server 127.0.0.1:%%PORT_one%%; }
    upstream only_two { server 127.0.0.1:%%PORT_two%%; }

    map \$smtp_relay_account \$by_account {
        group_one  only_one;
        group_two  only_two;
        address    127.0.0.1:%%PORT_four%%;
        unix       unix:%%TESTDIR%%/node.sock;
        name       node.example:%%PORT_four%%;
        two        two.example:$other;
        missing    missing.example:%%PORT_four%%;
        empty      empty.example:%%PORT_four%%;
        silent     silent.example:%%PORT_four%%;
        no_port    node.example;
        broken     "no address:x:y";
    }

    map \$smtp_relay_mail_from \$by_sender {
        ~one     only_one;
        default  only_two;
    }

    server {
        listen           127.0.0.1:%%PORT_by_account%%;
        smtp_relay_pass  \$by_account;
    }

    server {
        listen           127.0.0.1:%%PORT_by_sender%%;
        smtp_relay_pass  \$by_sender;
    }

    server {
        listen           127.0.0.1:%%PORT_unix_path%%;
        smtp_relay_pass  unix:%%TESTDIR%%/node.sock;
    }

    server {
        listen           127.0.0.1:%%PORT_by_auth%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_auth%%/;
        smtp_relay_pass  only_one;
    }
}
EOC

for my $zone (qw/ zone alone /) {

    # least_conn: those in use count, idle ones do not

    my $c = $t->session("to_least_conn_$zone");
    my @busy = delivered($c, 3);
    is_deeply([ sort @busy ], [ 1, 1, 1 ], "least_conn, $zone: all are idle");

    my @held = map { $t->session("to_least_conn_$zone") } 1 .. 2;
    $_->envelope('a@b.example', 'c@d.example') for @held;
    @busy = delivered($c, 4);
    is_deeply([ sort @busy ], [ 0, 0, 4 ], "least_conn, $zone: two are busy");

    $_->must('RSET', '250') for @held;
    @busy = delivered($c, 6);
    is(scalar(grep { $_ } @busy), 3, "least_conn, $zone: all are idle again")
        or diag("@busy");

    # hash: an account has a node

    for my $hash (qw/ consistent hash /) {
        my %seen;

        for my $user (map { "u$_" } 1 .. 12) {
            my @where;

            for (1 .. 2) {
                $c = $t->session("to_${hash}_$zone", user => $user,
                                 secret => 'secret');
                my @got = delivered($c, 2);
                push @where, join ',', map { $got[$_] ? $names[$_] : () } 0 .. 2;
            }

            $seen{$user} = "@where";
        }

        is(join(' ', grep { $seen{$_} !~ /^(\w+) \1$/ } sort keys %seen), '',
           "hash $hash, $zone: an account has one node");
        my %used = map { $_ => 1 } values %seen;
        cmp_ok(scalar keys %used, '>', 1, "hash $hash, $zone: accounts differ");
    }

    # random: all have some

    for my $random (qw/ random random_two random_least /) {
        my @got = delivered($t->session("to_${random}_$zone"), 40);
        is($got[0] + $got[1] + $got[2], 40, "$random, $zone: all are delivered");
        is(scalar(grep { $_ == 0 } @got), 0, "$random, $zone: to all nodes")
            or diag("@got");
    }

    # backup

    $c = $t->session("to_backup_$zone");
    my @before = map { $nodes{$_}->count() } qw/ first back /;
    send_one($c, 'backup');
    $nodes{first}->stop();
    send_one($c, 'backup') for 1 .. 3;
    $nodes{first}->start();
    sleep(2.1);
    send_one($c, 'backup') for 1 .. 2;
    is($nodes{first}->count() - $before[0], 3,
       "backup, $zone: as long as the first is there it has all");
    is($nodes{back}->count() - $before[1], 3, "backup, $zone: it has the rest");

    # max_fails, fail_timeout

    $c = $t->session("to_max_fails_$zone");
    my $node = $nodes{"fails_$zone"};
    send_one($c, 'max_fails') for 1 .. 12;
    is($node->connections(), 2, "max_fails, $zone: as often as allowed");
    sleep(3.1);
    send_one($c, 'max_fails') for 1 .. 6;
    cmp_ok($node->connections(), '>', 2, "fail_timeout, $zone: tried again");
    cmp_ok($node->connections(), '<=', 4, "fail_timeout, $zone: not for long");

    # what a failure is

    $c = $t->session("to_max_421_$zone");
    send_one($c, 'max_fails and 421') for 1 .. 6;
    is($nodes{"says_421_$zone"}->connections(), 1,
       "max_fails, $zone: 421 is a failure");

    $c = $t->session("to_max_450_$zone");
    $node = $nodes{"says_450_$zone"};

    for (1 .. 2) {
        $c->try('MAIL FROM:<mail@b.example>', '450', "$zone: 450 to MAIL");
        $c->must('MAIL FROM:<a@b.example>', '250');
        $c->try('RCPT TO:<rcpt@d.example>', '451 4.3.2', "$zone: 451 to RCPT");
        $c->must('RSET', '250');
        like($c->message("x\r\n"), qr/^452 4\.3\.1/, "$zone: 452 to a message");
    }

    is(scalar(grep { /^MAIL/ } map { $node->commands($_) }
              1 .. $node->connections()), 6,
       "max_fails, $zone: rejections are no failures");
}

# variables

my %to = (group_one => 'one', group_two => 'two', address => 'four',
          unix => 'unix', name => 'four', two => 'other_address');

for my $user (sort keys %to) {
    my $node = $nodes{ $to{$user} };
    my $before = $node->count();
    my $c = $t->session('by_account', user => $user, secret => 'secret');
    send_one($c, "account $user") for 1 .. 3;
    is($node->count(), $before + 3, "smtp_relay_pass with a variable: $user");
}

for my $user (qw/ missing empty silent no_port broken u1 /) {
    my $c = $t->session('by_account', user => $user, secret => 'secret');
    my $start = time();
    $c->try('MAIL FROM:<a@b.example>', '451 4.4.1', "no node: $user");
    cmp_ok(time() - $start, '<', patience(3), "no node: $user: soon");
    $c->try('NOOP', '250', "no node: $user: the session goes on");
}

is(scalar(grep { $_ eq 'A node.example' } $dns->questions()), 1,
   'a name is asked for once and kept');

# clients that do not wait for the name

for my $way (qw/ close reset RSET QUIT /) {
    my $c = $t->session('by_account', user => 'silent', secret => 'secret');
    $c->line('MAIL FROM:<a@b.example>');
    sleep(0.05);

    if ($way =~ /^[A-Z]/) {
        $c->send("RCPT TO:<c\@d.example>\r\n$way\r\n");
        $c->expect('451 4.4.1', "$way while a name is asked for: MAIL");
        $c->reply();
        $c->expect($way eq 'RSET' ? '250' : '221', "$way: done");

    } else {
        $c->$way();
        pass("$way while a name is asked for");
    }
}

my $c = $t->session('by_sender');
my @before = map { $nodes{$_}->count() } qw/ one two /;

for my $sender (qw/ one two one two two /) {
    like($c->message("x\r\n", "$sender\@b.example"), qr/^250/,
         "by sender: $sender");
}

is_deeply([ map { $nodes{$_}->count() } qw/ one two / ],
          [ $before[0] + 2, $before[1] + 3 ],
          'by sender: each message of a session has its own node');

my $before = $nodes{unix}->count();
my $connections = $nodes{unix}->connections();
send_one($t->session('unix_path'), 'unix socket') for 1 .. 2;
is($nodes{unix}->count(), $before + 2, 'a unix socket');
cmp_ok($nodes{unix}->connections(), '<=', $connections + 1,
       'over one connection');

# the auth service

my %auth = (server => 'four', named => 'four', upstream => 'two',
            both => 'four', none => 'one');

for my $user (sort keys %auth) {
    my $node = $nodes{ $auth{$user} };
    my $count = $node->count();
    $c = $t->session('by_auth', user => $user);
    send_one($c, "auth $user") for 1 .. 2;
    is($node->count(), $count + 2, "the auth service names the node: $user");
}

for my $user (qw/ refused nowhere /) {
    $c = $t->session('by_auth', user => $user);
    $c->try('MAIL FROM:<a@b.example>', '451 4.4.1', "auth, no node: $user");
    $c->try('NOOP', '250', "auth, no node: $user: the session goes on");
}

# the log

$t->stop();
my @lines = $t->lines('access.log');
ok((grep { $_ eq "message two\@b.example 127.0.0.1:" . $t->port('two') } @lines),
   'log: the node of a sender');
ok((grep { /127\.0\.0\.2:$other/ } @lines), 'log: the address of a name');
ok((grep { /unix:\Q$t->{dir}\E\/node\.sock/ } @lines), 'log: a unix socket');

done_testing();


# What each of the three nodes gets of so many messages.

sub delivered {
    my ($c, $number) = @_;

    my @had = map { $nodes{$_}->count() } @names;
    send_one($c, undef) for 1 .. $number;
    my @has = map { $nodes{$_}->count() } @names;

    return map { $has[$_] - $had[$_] } 0 .. $#names;
}


sub send_one {
    my ($c, $name) = @_;

    my $reply = eval { $c->message("x\r\n") } // $@;
    return if !defined $name && $reply =~ /^250 /;

    like($reply, qr/^250 /, $name // 'message');
    return;
}
