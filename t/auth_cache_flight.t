# Of many logins with the same credentials at the same time one asks the
# service, in whatever workers they are, and the rest wait for it: whatever
# becomes of the one.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use IO::Socket::INET;
use Time::HiRes qw/ time /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');

# the user's name says how it is answered, when the gate of that name opens

my $ok = "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nContent-Length: 0\r\n";

my %answers = (
    ok => { raw => "$ok\r\n" },
    denied => { raw => $ok =~ s/OK\r\nC/No more\r\nC/r . "\r\n" },
    failed => { then => ':close' },
    status => { raw => "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n" },
    later => { raw => $ok =~ s/OK\r\nC/Later\r\nAuth-Error-Code: 451\r\nC/r
                      . "\r\n" },
    nostore => { raw => "${ok}Cache-Control: no-store\r\n\r\n" },
    once => { raw => "${ok}Cache-Control: max-age=0\r\n\r\n" },
);

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;

    my $user = $request->{headers}{'auth-user'};
    my ($kind) = $user =~ /^([a-z]+)/;

    return ':silent' if $kind eq 'silent';
    return { act => { gate => $user, %{ $answers{$kind} } } };
});

my $conf = <<'EOC';
worker_processes  %%WORKERS%%;

http {
    access_log  off;

    server {
        listen  127.0.0.1:%%PORT_http%%;
        smtp_relay_status  json;

        location = /purge {
            smtp_relay_auth_cache_purge;
        }
    }
}

stream {
    log_format  login  "$smtp_relay_event $smtp_relay_user "
                       "$smtp_relay_auth_status $smtp_relay_auth_source";
    access_log  access.log  login;

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;

    smtp_relay_status_zone         status:1m;
    smtp_relay_auth_cache_zone     zone=verdicts:1m;
    smtp_relay_auth_cache          verdicts valid=1h;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_timeout        30s;

    server {
        listen           127.0.0.1:%%PORT_smtp%% %%REUSEPORT%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_brief%% %%REUSEPORT%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_auth          http://127.0.0.1:%%PORT_auth%%/brief;
        smtp_relay_auth_timeout  1s;
    }
}
EOC

# killed workers are what some of this is about
$t->{expected_alerts} = qr/worker process \d+ exited on signal 9/;

my $waited = 0;

for my $workers (1, 4) {
    $t->stop();
    $t->start(configured($workers));
    $waited = waits();

    check($workers);
    lost_worker() if $workers > 1;
}

impatient_reload();

done_testing();


sub configured {
    my ($workers) = @_;

    my $reuse = $workers > 1 ? 'reuseport' : '';
    return $conf =~ s/%%WORKERS%%/$workers/r =~ s/%%REUSEPORT%%/$reuse/gr;
}


sub check {
    my ($n) = @_;

    # a thousand sessions

    my ($at_once, $then) = $n > 1 ? (400, 300) : (100, 50);
    my @first = logins("ok$n", $at_once);

    is(requests("ok$n"), 1, "$n: one of $at_once logins asks");
    open_gate("ok$n");
    is(replies(@first), "235 x $at_once", "$n: all of them are let in");
    is(replies(logins("ok$n", $then, 'answered')), "235 x $then",
       "$n: and more") for 1, 2;
    is(requests("ok$n"), 1, "$n: one request for all");

    # verdicts that are not kept are shared by those who wait

    for my $kind ('denied', 'once') {
        my $user = "$kind$n";
        my $reply = $kind eq 'once' ? '235' : '535';
        my @clients = logins($user, 40);

        open_gate($user);
        is(replies(@clients), "$reply x 40", "$n: $kind");
        is(requests($user), 1, "$n: $kind: one request");
        is(replies(logins($user, 1, 'answered')), "$reply x 1", "$n: $kind");
        is(requests($user), 2, "$n: $kind: one more for one who comes later");
    }

    my @clients = logins("nostore$n", 40);
    open_gate("nostore$n");
    is(replies(@clients), '235 x 40', "$n: no-store");
    is(requests("nostore$n"), 40, "$n: each asks for itself");

    # failures are, too

    for my $kind ('failed', 'status', 'later') {
        my $user = "$kind$n";

        @clients = logins($user, 40);
        open_gate($user);
        my ($replies) = replies(@clients);
        like($replies, $kind eq 'later' ? qr/^451 x 1 454 x 39$/
                                        : qr/^454 x 40$/, "$n: $kind");
        cmp_ok(requests($user), '<=', 2, "$n: $kind: one asks");
    }

    my $start = time();
    @clients = logins("silent$n", 40, undef, 'brief');
    is(replies(@clients), '454 x 40', "$n: a service that is silent");
    cmp_ok(time() - $start, '<', patience(4), "$n: time-outs do not add up");
    is(requests("silent$n"), 1, "$n: one request");

    # one who asks goes away: his request is for the others

    my ($asker, @rest) = logins("ok-gone$n", 20);
    $asker->reset();
    $rest[0]->reset();
    open_gate("ok-gone$n");
    is(replies(@rest[1 .. $#rest]), '235 x 18',
       "$n: the client of the one who asks vanishes");

    # a purge comes between: more than one asks

    @clients = logins("ok-purged$n", 10);
    like(http('POST /purge?all=1'), qr/ 200 /, "$n: a purge while one asks");
    push @clients, logins("ok-purged$n", 10, 'answered');
    ok(wait_until { requests("ok-purged$n") == 2 }, "$n: another one asks");
    open_gate("ok-purged$n");
    is(replies(@clients), '235 x 20', "$n: all are let in");
    cmp_ok(requests("ok-purged$n"), '<=', 3, "$n: by few requests");

    # all go away: nothing is left behind

    $_->close() for logins("ok-none$n", 20);
    open_gate("ok-none$n");
    is(replies(logins("ok-none$n", 1, 'answered')), '235 x 1',
       "$n: the next one is let in");

    # reload

    my @old = logins("ok-reload$n", 10);
    my @before = $t->workers();
    ok($t->reload(configured($n)), "$n: reload while one asks");
    ok(retired(@before), "$n: new workers serve");
    my @new = logins("ok-reload$n", 10);
    is(requests("ok-reload$n"), 1, "$n: sessions of new workers wait, too");
    open_gate("ok-reload$n");
    is(replies(@old, @new), '235 x 20', "$n: all are let in");
    is(requests("ok-reload$n"), 1, "$n: by one request");
    $_->close() for @old, @new;
    return;
}


# The worker that asks is killed, and stopped.

sub lost_worker {
    my @clients = logins('ok-killed', 40);
    my $worker = worker_of($clients[0]);
    my (@own, @others);

    push @{ worker_of($_) == $worker ? \@own : \@others }, $_ for @clients;
    cmp_ok(scalar @others, '>', 0, 'sessions of several workers wait');

    kill 'KILL', $worker;
    ok(wait_until { requests('ok-killed') == 2 },
       'the worker that asks is killed: another one asks');
    open_gate('ok-killed');
    is(replies(@others), '235 x ' . @others, 'and lets in the others');

    @clients = logins('ok-stopped', 40, undef, 'brief');
    $worker = worker_of($clients[0]);
    @others = grep { worker_of($_) != $worker } @clients;
    cmp_ok(scalar @others, '>', 0, 'sessions of several workers wait');

    kill 'STOP', $worker;
    is(replies(@others), '454 x ' . @others,
       'the worker that asks is stopped: the others wait for a time only');
    kill 'CONT', $worker;
    open_gate('ok-stopped');
    return;
}


# One who asks is ended by a reload that does not wait for it.

sub impatient_reload {
    my $impatient = "worker_shutdown_timeout 4s;\n" . configured(1);

    $t->stop();
    $t->start($impatient);
    $waited = waits();

    my @old = logins('ok-late', 5);
    my @before = $t->workers();
    ok($t->reload($impatient), 'reload while one asks');
    ok(retired(@before), 'a new worker serves');

    my @new = logins('ok-late', 5);
    ok(wait_until { requests('ok-late') == 2 },
       'the one who asks is ended: one of another worker asks');
    open_gate('ok-late');
    is(replies(@new), '235 x 5', 'and lets in the others');
    $_->close() for @old;
    return;
}


# So many sessions that log in at one time; unless they are to be answered,
# it is waited until one asks and the rest wait.

sub logins {
    my ($user, $number, $answered, $port) = @_;

    my @clients = map { $t->greeted($port // 'smtp') } 1 .. $number;
    my $requests = requests($user);
    my $first = $requests ? 0 : 1;

    for my $i (0 .. $#clients) {
        my $c = $clients[$i];

        $c->line('AUTH PLAIN ' . $c->plain($user, 'secret'));
        next if $answered || !$first || $i;

        wait_until { requests($user) } or die "nobody asks for $user\n";
    }

    return @clients if $answered;

    $waited += $number - $first;
    wait_until { waits() >= $waited }
        or die 'only ', waits(), " of $waited wait for $user\n";
    $waited = waits();
    return @clients;
}


# How many logins have waited for another one, as the status says.

sub waits {
    my ($waits) = http('GET /') =~ /"caches".*?"waits": ?(\d+)/s;
    return $waits // die "no number of waits in the status\n";
}


sub http {
    my ($request) = @_;

    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $t->port('http'),
        Timeout => patience()) or return '';

    print $socket "$request HTTP/1.0\r\nHost: localhost\r\n"
                  . "Content-Length: 0\r\n\r\n";
    local $/;
    return <$socket> // '';
}


sub open_gate { return $auth->open_gate($_[0]) }


sub requests {
    my ($user) = @_;
    return scalar grep { $_->{headers}{'auth-user'} eq $user }
                  $auth->requests();
}


# Those workers take no more connections, as their titles say.

sub retired {
    my (@workers) = @_;

    return wait_until {
        !grep { (slurp("/proc/$_/cmdline") // 'shutting down')
                !~ /shutting down|^$/ } @workers;
    };
}


# The worker that serves a client, found by the socket's other end.

sub worker_of {
    my ($c) = @_;

    my $socket = $c->socket_object();
    my ($here, $there) = map { sprintf ':%04X', $_ } $socket->peerport(),
                                                     $socket->sockport();

    my ($inode) = map { (split)[9] } grep { (split)[1] =~ /$here$/
                                            && (split)[2] =~ /$there$/ }
                  split /\n/, slurp('/proc/net/tcp');

    for my $pid ($t->workers()) {
        for my $fd (glob "/proc/$pid/fd/*") {
            return $pid if (readlink($fd) // '') eq "socket:[$inode]";
        }
    }

    return 0;
}


# Codes of the replies, with their numbers.

sub replies {
    my (@clients) = @_;

    my %codes;
    $codes{ substr $_->reply(25), 0, 3 }++ for @clients;

    $_->line('QUIT') for @clients;
    $_->close() for @clients;

    return join ' ', map { "$_ x $codes{$_}" } sort keys %codes;
}
