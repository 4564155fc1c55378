# Counters are what clients, nodes and the auth service have counted
# themselves: with faults, over reloads, with a worker that is killed.
#
# TEST_MESSAGES is the number of messages.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Status;

use POSIX ();
use Storable ();

my $MESSAGES = $ENV{TEST_MESSAGES}
               || (SMTPRelay::Test::is_instrumented() ? 1200 : 10_000);
my $CLIENTS = 4;
my $PER_SESSION = 20;

my $t = SMTPRelay::Test->new(expected_alerts => qr/exited on signal 9/);

# --- what the nodes do -------------------------------------------------------

my %nodes;

for my $name (qw/ one two three /) {
    my $deaths = $t->dir() . "/$name.deaths";
    my $die = sub { add_to($deaths, '.'); return ':close' };

    $nodes{$name} = $t->node($name, keep => 0, script => {
        RCPT => sub {
            $_[0] =~ /nobody/ ? '550 5.1.1 No such user'
            : $_[0] =~ /drop/ && $name eq 'three' ? $die->() : undef;
        },
        eod => sub {
            $_[3]{data} =~ /spam/ ? '550 5.7.1 Spam'
            : $_[3]{data} =~ /later/ ? '451 4.7.1 Later'
            : $_[3]{data} =~ /die/ ? $die->() : undef;
        },
    });
}

my $auth = $t->auth_service('auth', users => { user => 'secret' });

my $conf = <<'EOC';
worker_processes %%WORKERS%%;

stream {
    smtp_relay_status_zone          status:1m;
    smtp_relay_starttls             off;
    smtp_relay_auth                 http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_failure_delay   0;

    upstream nodes {
        zone    nodes 64k;
        server  127.0.0.1:%%PORT_one%%    max_fails=0;
        server  127.0.0.1:%%PORT_two%%    max_fails=0;
        server  127.0.0.1:%%PORT_three%%  max_fails=0;
    }

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  nodes;
    }
}

http {
    access_log off;

    server {
        listen           127.0.0.1:%%PORT_http%%;
        location /status { smtp_relay_status; }
    }
}
EOC

$t->start($conf =~ s/%%WORKERS%%/4/r);

my $s = SMTPRelay::Status->new(port => $t->port('http'));

# --- clients -----------------------------------------------------------------

# what a message is like, by its number: content, recipient, and what the
# client will read for it

my @kinds = (
    ([ "good\r\n", 'rcpt@example.net', 'accepted' ]) x 14,
    [ "good\r\n", 'nobody@example.net', 'accepted' ],
    [ "spam\r\n", 'rcpt@example.net', 'rejected' ],
    [ "later\r\n", 'rcpt@example.net', 'deferred' ],
    [ "good\r\n", 'drop@example.net', 'accepted' ],
    [ "die\r\n", 'rcpt@example.net', 'deferred' ],
    [ '', 'rcpt@example.net', 'aborted' ],
);

my %code = (2 => 'accepted', 4 => 'deferred', 5 => 'rejected');

# a session; undef: the worker is on its way out

sub session {
    my ($count) = @_;

    my $c = $t->client('smtp');
    $count->{sessions}++;

    return if $c->reply() !~ /^220/;
    return if $c->ask('EHLO client.example') !~ /^250/;

    my $reply = $c->ask('AUTH PLAIN ' . $c->plain('user', 'wrong'));
    return if $reply !~ /^535/;
    $count->{denied}++;

    $reply = $c->ask('AUTH PLAIN ' . $c->plain('user', 'secret'));
    return if $reply !~ /^235/;
    $count->{ok}++;

    return $c;
}

sub message {
    my ($c, $count, $number) = @_;

    my ($content, $rcpt, $want) = @{ $kinds[$number % @kinds] };

    return 0 if $c->ask('MAIL FROM:<sender@example.com>') !~ /^250/;

    my $reply = $c->ask("RCPT TO:<$rcpt>");
    die "$rcpt: $reply\n" if $reply !~ ($rcpt =~ /nobody/ ? qr/^550/
                                                          : qr/^250/);
    $count->{$reply =~ /^2/ ? 'rcpt' : 'rcpt_rejected'}++;

    if ($rcpt =~ /nobody/) {
        $reply = $c->ask('RCPT TO:<rcpt@example.net>');
        die "rcpt: $reply\n" if $reply !~ /^250/;
        $count->{rcpt}++;
    }

    my $got = 'aborted';

    if ($want eq 'aborted') {
        $c->must('RSET', '250');

    } else {
        $c->must('DATA', '354');
        $count->{content} += length $content;
        $c->send("$content.\r\n");
        $reply = $c->reply();
        $got = $code{substr $reply, 0, 1} // $reply;
    }

    $count->{$got}++;
    $count->{"unexpected $reply"}++ if $got ne $want;

    return 1;
}

sub part {
    my ($part, $number) = @_;

    my @pids;

    for my $client (1 .. $CLIENTS) {
        defined(my $pid = fork()) or die "cannot fork: $!\n";
        push @pids, $pid;
        next if $pid;

        SMTPRelay::Util::in_child();
        my %count;
        my $file = $t->dir() . "/count-$part-$client";

        my $ok = eval {
            my ($c, $left) = (undef, 0);

            for (my $i = $client; $i <= $number; $i += $CLIENTS) {
                until ($c && $left-- > 0 && message($c, \%count, $i)) {
                    $c = session(\%count);
                    $left = $PER_SESSION;
                }
            }

            1;
        };

        $count{"error $@"}++ unless $ok;
        Storable::nstore(\%count, $file);
        POSIX::_exit(0);
    }

    return @pids;
}

sub total {
    my %total;

    for my $file (glob $t->dir() . '/count-*') {
        my $count = Storable::retrieve($file);
        $total{$_} += $count->{$_} for keys %$count;
    }

    return \%total;
}

# what was counted, when all sessions are closed

sub compare {
    my ($name, %more) = @_;

    my $json;

    my $closed = wait_until {
        $json = $s->json();
        $json->{servers}[0]{sessions}{open} == 0;
    } 20;

    ok($closed, "$name: sessions are closed");

    my $count = total();
    my ($server) = @{ $json->{servers} };
    my ($group) = @{ $json->{upstreams} };

    is_deeply([ grep { /^(error|unexpected)/ } sort keys %$count ], [],
              "$name: clients got what they should");
    is_deeply($server->{messages},
              { map { $_ => $count->{$_} // 0 }
                qw/ accepted deferred rejected aborted / },
              "$name: messages");
    is_deeply($server->{recipients},
              { accepted => $count->{rcpt},
                rejected => $count->{rcpt_rejected} }, "$name: recipients");
    is($server->{bytes}{content}, $count->{content}, "$name: content");
    is($server->{message_bytes}{count}, $count->{accepted}, "$name: sizes");
    is($server->{message_seconds}{count},
       $count->{accepted} + $count->{deferred} + $count->{rejected},
       "$name: times");

    my $sessions = $count->{sessions} + ($more{sessions} // 0);
    my $ended = 0;
    $ended += $_ for values %{ $server->{sessions}{ended} };

    is($server->{sessions}{total}, $sessions, "$name: sessions");
    is($ended, $sessions, "$name: their ends");
    is($server->{sessions}{ended}{lost}, $more{lost} // 0, "$name: lost ones");

    my %auth = map { +"$_->{result} $_->{source}" => $_->{count} }
               @{ $server->{auth} };

    is_deeply(\%auth, { 'ok service' => $count->{ok} + ($more{sessions} // 0),
                        'denied service' => $count->{denied} },
              "$name: AUTH");
    is($server->{auth_service}{request_seconds}{count},
       scalar(() = $auth->requests()), "$name: requests to the service");
    is($server->{auth_service}{connections}{opened}, $auth->connections(),
       "$name: connections to it");

    my %accepted;

    for my $node (@{ $group->{nodes} }) {
        my ($which) = grep { $node->{node} eq "127.0.0.1:" . $t->port($_) }
                      keys %nodes;

        is($node->{messages}{accepted}, $nodes{$which}->count(),
           "$name: messages of node $which");
        is($node->{connections}{opened}, $nodes{$which}->connections(),
           "$name: connections of node $which");
        is($node->{failures}{lost}, -s $t->dir() . "/$which.deaths" || 0,
           "$name: failures of node $which");
        is($node->{connections}{busy} + $node->{connections}{connecting}, 0,
           "$name: node $which has nothing to do");

        $accepted{$_} += $node->{messages}{$_} for keys %{ $node->{messages} };
    }

    is($accepted{accepted}, $count->{accepted}, "$name: accepted by nodes");
    is($accepted{rejected}, $count->{rejected}, "$name: rejected by nodes");

    return $json;
}

# --- over two reloads --------------------------------------------------------

my @pids = part('first', $MESSAGES / 2);

for (1, 2) {
    my $before = $s->json()->{servers}[0]{messages}{accepted};
    wait_until {
        $s->json()->{servers}[0]{messages}{accepted} > $before + $MESSAGES / 10;
    };
    ok($t->reload(), "reload $_");
}

waitpid $_, 0 for @pids;

ok(wait_until { $t->workers() == 4 }, 'old workers are gone');

my $json = compare('after two reloads');

is($json->{generation}, 3, 'three configurations');
is_deeply([ sort { $a <=> $b } map { $_->{pid} } @{ $json->{workers} } ],
          [ $t->workers() ], 'the workers are known');

# --- a worker is killed ------------------------------------------------------

my @idle = map { $t->session('smtp') } 1 .. 8;

my ($victim) = sort { $b->{sessions} <=> $a->{sessions} }
               @{ $s->json()->{workers} };

cmp_ok($victim->{sessions}, '>', 0, 'a worker has sessions');
kill 'KILL', $victim->{pid};

my $lost = $victim->{sessions};

ok(wait_until {
    $json = $s->json();
    $json->{servers}[0]{sessions}{open} == @idle - $lost;
}, 'its sessions are open no more');

is($json->{servers}[0]{sessions}{ended}{lost}, $lost, 'they are lost');
ok(wait_until { $s->json()->{workers} && 4 == @{ $s->json()->{workers} } },
   'a new worker takes its place');

$_->close() for @idle;

waitpid $_, 0 for part('second', $MESSAGES / 2);

compare('after a worker was killed', lost => $lost, sessions => scalar @idle);

# --- the connections that are left -------------------------------------------

ok(wait_until {
    my %idle = map { $_->{node} => $_->{connections}{idle} }
               @{ $s->json()->{upstreams}[0]{nodes} };

    !grep {
        my $node = $nodes{$_};
        my $ended = () = glob "$node->{dir}/*end";
        $idle{ '127.0.0.1:' . $t->port($_) } != $node->connections() - $ended;
    } keys %nodes;
}, 'idle connections are those that nodes have open');

# --- more workers than there were slots --------------------------------------

ok($t->reload($conf =~ s/%%WORKERS%%/16/r), 'a reload with more workers');

ok(wait_until {
    my %known = map { $_->{pid} => 1 } @{ $s->json()->{workers} };
    my @workers = $t->workers();
    @workers == 16 && !grep { !$known{$_} } @workers;
}, 'all of them count');

is($s->json()->{servers}[0]{messages}{accepted}, total()->{accepted},
   'nothing is forgotten');

done_testing();
