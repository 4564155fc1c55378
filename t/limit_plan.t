# Plans: the auth service sets the limits of a login, by Auth-Limit-Conn,
# Auth-Limit-Msg and Auth-Limit-Rcpt.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');

# the plan of a user is the last line of the file that has the user's name

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;
    my $user = $request->{headers}{'auth-user'};
    my $plan = slurp($t->dir() . "/plan-$user") // '';
    return { 'Auth-Status' => 'OK', $plan =~ /^(\S+): (.*)$/mg };
});

$t->start(<<'EOC');
worker_processes  4;

stream {
    smtp_relay_limit_conn_zone  $remote_addr         zone=address:64k;
    smtp_relay_limit_conn_zone  $smtp_relay_account  zone=sessions:64k;
    smtp_relay_limit_conn_zone  $either              zone=either:64k;
    smtp_relay_limit_msg_zone   $remote_addr         zone=all:64k     rate=1000r/s;
    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=rate:64k    rate=1r/h;
    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=day:64k     rate=5r/d;
    smtp_relay_limit_msg_zone   $remote_addr         zone=alone:64k   rate=1r/h;
    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=days:64k    rate=1r/d;
    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=held:64k    rate=10r/s;
    smtp_relay_limit_rcpt_zone  $smtp_relay_account  zone=rcpt:64k    rate=1r/h;

    map $smtp_relay_account $either {
        ""       $remote_addr;
        default  $smtp_relay_account;
    }

    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth        http://127.0.0.1:%%PORT_auth%%/;

    server {
        listen                 127.0.0.1:%%PORT_conn%%;
        smtp_relay_limit_conn  address   20;
        smtp_relay_limit_conn  sessions  2;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_address%%;
        smtp_relay_limit_conn  address   6;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_either%%;
        smtp_relay_limit_conn  either  20;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_msg%%;
        smtp_relay_limit_msg   all   burst=1000 nodelay;
        smtp_relay_limit_msg   rate  burst=1 nodelay;
        smtp_relay_limit_msg   day;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_held%%;
        smtp_relay_limit_msg   held  burst=20 delay=1;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_alone%%;
        smtp_relay_limit_msg   alone  burst=2 nodelay;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_days%%;
        smtp_relay_limit_msg   days;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_rcpt%%;
        smtp_relay_limit_rcpt  rcpt;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $from = 'MAIL FROM:<a@b.example>';
my $rcpt = 'RCPT TO:<c@d.example>';
my ($c, @c);

# sessions: the login's own limit is replaced, that of the address is not

is(logins('conn', 'plain', 5), 2, 'without a plan: what is configured');

set_plan(big => 'Auth-Limit-Conn: 4');
is(logins('conn', 'big', 8), 4, 'Auth-Limit-Conn: more sessions');
like($t->{refused}, qr/^421 4\.7\.0 .* the limit is 4 at one time/, 'which the reply tells');

set_plan(small => 'Auth-Limit-Conn: 1');
is(logins('conn', 'small', 3), 1, 'Auth-Limit-Conn: fewer');

# a plan that changes: the next login

set_plan(moves => 'Auth-Limit-Conn: 3');
push @c, login('conn', 'moves') for 1 .. 3;
set_plan(moves => 'Auth-Limit-Conn: 5');
is(logins('conn', 'moves', 4), 2, 'a better plan: those that are there count');
set_plan(moves => 'Auth-Limit-Conn: 2');
is(logins('conn', 'moves', 1), 0, 'a smaller one');
is(scalar(grep { $_->ask('NOOP') =~ /^250/ } @c), 3, 'sessions that are there stay');
$_->must('QUIT', '221') for @c;
is(logins('conn', 'moves', 3), 2, 'and count until they end');

# without a limit of the login's own: in all

set_plan(other => 'Auth-Limit-Conn: 2');
@c = map { login('address', 'other') } 1 .. 2;
$c = $t->greeted('address');
$c->try('AUTH PLAIN ' . $c->plain('other', 'x'), qr/^421 4\.7\.0 .* limit is 2 /,
        'a limit by address: the plan counts when it is known');
$c->expect_closed();
pass('another login goes by the configuration') if login('address', 'plain');
$_->must('QUIT', '221') for @c;

# a key that AUTH changes: a session counts for the one that it came with

@c = map { login('either', $_) } qw/ other plain /;
$c = $t->greeted('either');
$c->try('AUTH PLAIN ' . $c->plain('other', 'x'), qr/^421 4\.7\.0 .* limit is 2 /,
        'a key that AUTH changes: the plan counts for the one before');
$_->must('QUIT', '221') for @c;

# messages

$c = login('msg', 'plain');
is(mails($c, 3), 2, 'without a plan: one an hour, burst of one');
set_plan(fast => 'Auth-Limit-Msg: 1000r/s');
$c = login('msg', 'fast');
is(mails($c, 8, 0.003), 5, 'Auth-Limit-Msg: a rate replaces the rate, the quota stays');
like($t->{refused}, qr/^452 4\.7\.1 Too many messages, the limit is 5 per day/, 'as the reply tells');
set_plan(more => 'Auth-Limit-Msg: 7r/d');
$c = login('msg', 'more');
is(mails($c, 3), 2, 'Auth-Limit-Msg: a quota replaces the quota, the rate stays');
like($t->{refused}, qr/^450 4\.7\.1 Too many messages, the limit is 1 per hour/, 'as the reply tells');

set_plan(burst => 'Auth-Limit-Msg: 2r/h');
$c = login('alone', 'burst');
is(mails($c, 5), 3, 'a limit by address alone: the burst is that of the configuration');
like($t->{refused}, qr/the limit is 2 per hour, try again in 1[78]\d\d s$/, 'the rate is the plan\'s');

# a burst is held back no longer than clients wait

set_plan(slow => 'Auth-Limit-Msg: 1r/h');
$c = login('held', 'slow');
is(mails($c, 3), 2, 'a slow plan: nothing is held back for an hour');
like($t->{refused}, qr/the limit is 1 per hour, try again in (3600|35\d\d) s$/,
     'the client is told when to come');
set_plan(minute => 'Auth-Limit-Msg: 1r/m');
$c = login('held', 'minute');
is(mails($c, 2), 2, 'a faster one: at once');
$c->line($from);
ok($c->is_silent(0.1), 'then held back');
$_->line($from) for @c = map { login('held', 'minute') } 1 .. 6;
my @told;
ok(wait_until { 2 <= (@told = grep { !$_->is_silent(0) } @c) }, 'for five minutes, not for more');
is(scalar @told, 2, 'but for five minutes');
like($_->reply(), qr/the limit is 1 per minute, try again in (60|5\d) s$/, 'which is told') for @told;
$_->close() for @c, $c;

set_plan(any => 'Auth-Limit-Msg: 3r/d');
$c = login('days', 'any');
is(mails($c, 5), 3, 'a quota');
set_plan(any => 'Auth-Limit-Msg: 5r/d');
is(mails($c, 1), 0, 'a plan that changed: not in a session that is there');
$c = login('days', 'any');
is(mails($c, 5), 2, 'but in the next, and counters carry over');
set_plan(any => 'Auth-Limit-Msg: 3600r/h');
$c = login('days', 'any');
cmp_ok(mails($c, 3), '>=', 1, 'a rate where there are quotas only replaces them');

# recipients

set_plan(rcpt => 'Auth-Limit-Rcpt: 3r/d');
$c = login('rcpt', 'rcpt');
$c->must($from, '250');
is(join(' ', map { substr $c->ask($rcpt), 0, 3 } 1 .. 5), '250 250 250 452 452',
   'Auth-Limit-Rcpt');
$c = login('rcpt', 'plain');
$c->must($from, '250');
is(join(' ', map { substr $c->ask($rcpt), 0, 3 } 1 .. 3), '250 450 450',
   'without it: the configuration');

# all at one time, and several in a reply

set_plan(whole => "Auth-Limit-Conn: 1\nAuth-Limit-Msg: 2r/d\nAuth-Limit-Rcpt: 2r/d");
is(logins('conn', 'whole', 2), 1, 'all of them: sessions');
$c = login('days', 'whole');
is(mails($c, 3), 2, 'messages');
$c = login('rcpt', 'whole');
$c->must($from, '250');
is(join(' ', map { substr $c->ask($rcpt), 0, 3 } 1 .. 3), '250 250 452', 'recipients');

done_testing();


sub set_plan {
    my ($user, $headers) = @_;
    spew($t->dir() . "/plan-$user", "$headers\n");
}

sub login {
    my ($port, $user) = @_;
    return $t->session($port, user => $user);
}

# How many of so many logins at one time are accepted; all of them leave.

sub logins {
    my ($port, $user, $number) = @_;

    my @clients = map { $t->greeted($port) } 1 .. $number;
    my $accepted = 0;

    for my $client (@clients) {
        my $reply = $client->ask('AUTH PLAIN ' . $client->plain($user, 'x'));

        if ($reply =~ /^235/) {
            $accepted++;
        } else {
            $t->{refused} = $reply;
            $client->expect_closed("$user: one too many is closed");
        }
    }

    for my $client (grep { $_->{socket} } @clients) {
        $client->must('QUIT', '221');
        $client->expect_closed("$user: ends");
    }

    return $accepted;
}

# How many of so many MAILs are accepted.

sub mails {
    my ($client, $number, $pause) = @_;

    my $accepted = 0;

    for (1 .. $number) {
        my $reply = $client->ask($from);

        if ($reply =~ /^250/) {
            $accepted++;
            $client->must('RSET', '250');
        } else {
            $t->{refused} = $reply;
        }

        select undef, undef, undef, $pause if $pause;
    }

    return $accepted;
}
