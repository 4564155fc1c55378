# The auth service is silent, stopped under load, and comes back: it is not
# waited for by all, and not asked by all at once.
#
#     TEST_OUTAGE  seconds that the load lasts, 8

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Verdicts;

use POSIX ();
use Time::HiRes qw/ time sleep /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $v = SMTPRelay::Verdicts->new($t);

my $conf = <<'EOC';
worker_processes  %%WORKERS%%;

stream {
    log_format  login  "$smtp_relay_event $smtp_relay_user $smtp_relay_account "
                       "$smtp_relay_auth_status $smtp_relay_auth_source";
    access_log  access.log  login;

    upstream auth {
        server  127.0.0.1:%%PORT_auth%%  max_fails=0;
    }

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;

    smtp_relay_auth_cache_zone     zone=verdicts:2m;
    smtp_relay_auth_cache          verdicts valid=1s invalid=1s stale=1h;
    smtp_relay_auth                http://auth/;
    smtp_relay_auth_timeout        2s;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_without%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth        http://auth/without;
        smtp_relay_auth_cache  verdicts valid=1s;
    }
}
EOC

for my $workers (1, 4) {
    $t->stop();
    $t->start($conf =~ s/%%WORKERS%%/$workers/r);

    silence("$workers");
    recovery("$workers");
    load("$workers") if $workers > 1;
}

done_testing();


# It is silent: one waits for it, the others do not.

sub silence {
    my ($n) = @_;

    my @users = map { $v->user("silent$n-$_") } 1 .. 20;
    $v->login($_) for @users;

    $v->answer(':silent');
    ok(wait_until { $v->source($users[0]) eq 'stale' },
       "$n: a silent service");

    my $before = $v->requests();
    my $start = time();
    my @replies = map { $v->login($_) } (@users) x 3;
    my $time = time() - $start;

    is(scalar(grep { /^235/ } @replies), 60, "$n: all are let in");
    cmp_ok($v->requests() - $before, '<=', 2 + $time,
           "$n: it is asked now and then");
    cmp_ok($time, '<', patience(15), "$n: few wait for it");

    $v->answer();
    return;
}


# When it is back, not all come at once.

sub recovery {
    my ($n) = @_;

    my @users = map { $v->user("many$n-$_") } 1 .. 60;
    my $first = $v->user("first$n");
    $v->login($_) for $first, @users;

    $v->stop();
    ok($v->source_becomes($first, 'stale'), "$n: an outage");
    $v->login($_) for @users;
    $v->start();

    ok($v->source_becomes($first, 'service'), "$n: it is over");

    my $before = $v->requests();
    my $start = time();
    is(scalar(grep { $v->login($_) =~ /^235/ } @users), 60, "$n: all are let in");

    # 16 in the first second, 32 in the second
    my $late = time() - $start > 1.5;
    my $asked = $v->requests() - $before;

    $late ? ok(1, "$n: too slow to tell")
          : cmp_ok($asked, '<', 50, "$n: some of them by stale verdicts");
    cmp_ok($asked, '>', 0, "$n: some by the service");
    ok($v->source_becomes($_, 'service'), "$n: in the end, all") for @users[0, 59];
    return;
}


# Under a load of fifty sessions a second, each with and without stale=, it is
# stopped, and comes back.

sub load {
    my ($n) = @_;

    my $seconds = $ENV{TEST_OUTAGE} // 8;
    my @users = map { $v->user("load$n-$_") } 0 .. 19;
    my @pids;

    for my $port ('smtp', 'without') {
        $v->login($_, $port) for @users;
        push @pids, map { client($port, $_, $seconds, @users) } 0 .. 9;
    }

    sleep($seconds / 4);
    $v->stop();
    sleep($seconds / 2);
    $v->start();
    waitpid $_, 0 for @pids;

    my %codes = map { $_ => {} } qw/ smtp without /;

    for (map { split /\n/, slurp($_) } glob $t->dir() . '/load.*') {
        my ($port, $code) = split / /;
        $codes{$port}{$code}++;
    }

    unlink glob $t->dir() . '/load.*';

    is(join(' ', sort keys %{ $codes{smtp} }), '235',
       "$n: with stale= no login is lost");
    is($codes{smtp}{235}, 50 * $seconds, "$n: of fifty a second");
    is(join(' ', sort keys %{ $codes{without} }), '235 454',
       "$n: without it, 454, and never 535");
    ok($v->source_becomes($users[0], 'service'), "$n: the service is back");
    return;
}


# A process that logs in five times a second, twenty users in turn.

sub client {
    my ($port, $number, $seconds, @users) = @_;

    my $pid = fork() // die "cannot fork: $!\n";
    return $pid if $pid;

    SMTPRelay::Util::in_child();
    my $start = time() + $number / 50;

    for my $i (0 .. 5 * $seconds - 1) {
        my $wait = $start + $i / 5 - time();
        sleep($wait) if $wait > 0;

        my $user = $users[($number + $i) % @users];
        my $reply = eval { $v->login($user, $port) } // $@;
        add_to($t->dir() . "/load.$port.$number",
               "$port " . substr($reply, 0, 3) . "\n");
    }

    POSIX::_exit(0);
}
