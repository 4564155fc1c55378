# Everything at once: workers that are killed, configurations that change,
# logs that are rotated, a new binary, nodes and an auth service that die,
# hang, talk nonsense and come back, clients of every kind.  Afterwards each
# message that was acknowledged has been delivered, once, octet for octet, no
# limit has been exceeded, and nothing is left behind.
#
# TEST_CHAOS: seconds, TEST_CHAOS_SESSIONS: sessions at a time.  On a machine
# that is too busy to get messages through, it goes on for longer.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::FaultNode;
use SMTPRelay::Status;

use Digest::SHA qw/ sha1_hex /;
use MIME::Base64 qw/ encode_base64 /;
use POSIX ();
use Time::HiRes qw/ sleep time /;

my $SECONDS = $ENV{TEST_CHAOS} || 8;
my $SESSIONS = $ENV{TEST_CHAOS_SESSIONS} || 60;
my $PROCESSES = $SESSIONS > 200 ? 12 : 6;
my $WORKERS = 4;

# of those that come by TLS from the start, a third: sessions, and messages in
# a second

my $LIMIT = int($SESSIONS * 0.1);
my $RATE = 5;
my $BURST = 5;

# what a node does besides: most of the time nothing

my %nonsense = (
    EHLO => sub { rand() < 0.03 ? "hello\r\nthere" : undef },
    RCPT => sub { rand() < 0.03 ? '450 4.2.1 Not now' : undef },
    DATA => sub { rand() < 0.02 ? { then => ':close' } : undef },
    eod => sub { my $r = rand(); $r < 0.01 ? '452 4.3.1 Full'
                 : $r < 0.02 ? { raw => "25\r\n" } : undef },
);

my $t = SMTPRelay::Test->new(daemon => SMTPRelay::Test::can_adopt());
my @nodes = map { $t->_daemon('SMTPRelay::FaultNode', $_, brief => 1) }
            qw/ one two three /;
my $odd = $t->_daemon('SMTPRelay::FaultNode', 'odd', brief => 1,
                      script => \%nonsense);
my $auth = $t->auth_service('auth', users => { user => 'secret' });

$t->certificates('localhost');
$t->start(conf(0));

my $files = open_files();
my (@upgraded, @upgrade);

# --- clients -----------------------------------------------------------------

my $start = time();
my $until = $start + $SECONDS * factor();
my @clients;

for my $process (1 .. $PROCESSES) {
    defined(my $pid = fork()) or die "cannot fork: $!\n";

    if ($pid) {
        push @clients, $pid;
        next;
    }

    SMTPRelay::Util::in_child();
    $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP /;
    $SIG{PIPE} = 'IGNORE';
    srand($process * 7919 + $$);
    eval { client($process) };
    add_to("$t->{dir}/errors", "process $process: $@") if $@;
    POSIX::_exit(0);
}

# --- what befalls the relay and its neighbours -------------------------------

my ($reloads, $kills, $rotations, $restarts) = (0, 0, 0, 0);
my %next = (reload => 0.5, kill => 1.2, rotate => 0.9, node => 0.4,
            auth => 0.7, upgrade => $SECONDS * factor() / 2);
my %every = (reload => 1, kill => 1.7, rotate => 2.1, node => 0.6, auth => 1.9,
             upgrade => 1e9);

while (!enough()) {
    my ($what) = sort { $next{$a} <=> $next{$b} } keys %next;
    my $wait = $start + $next{$what} - time();

    if ($wait > 0) {
        sleep($wait < 0.2 ? $wait : 0.2);
        next;
    }

    $next{$what} += $every{$what};

    if ($what eq 'reload') {
        $t->conf(conf(++$reloads));
        kill 'HUP', $t->{pid};

    } elsif ($what eq 'kill') {
        my @workers = $t->workers();
        $kills += kill 'KILL', $workers[ rand @workers ] if @workers;

    } elsif ($what eq 'rotate') {
        $rotations++;
        rename "$t->{dir}/$_.log", "$t->{dir}/$_.log.$rotations"
            for qw/ error access /;
        kill 'USR1', $t->{pid};

    } elsif ($what eq 'upgrade') {
        upgrade();

    } else {
        my @daemons = $what eq 'auth' ? $auth : (@nodes, $odd);
        befall($daemons[ rand @daemons ]);
        $restarts++;
    }
}

$_->{pid} or $_->start() for @nodes, $odd, $auth;
spew("$t->{dir}/stop", '');
waitpid $_, 0 for @clients;
my $took = time() - $start;

note(scalar @upgraded, ' upgrades');
note("$reloads reloads, $kills workers killed, $rotations rotations, ",
     "$restarts faults of nodes and of the auth service");

cmp_ok($reloads * $kills * $rotations * $restarts, '>', 0,
       'the relay has had a hard time');
is($t->read('errors'), '', 'no client finds a dialogue that makes no sense');

# --- what has become of the messages -----------------------------------------

my (%told, %delivered);

for my $line (map { $t->lines("ledger-$_") } 1 .. $PROCESSES) {
    my ($id, $digest, $reply) = split / /, $line, 3;
    $told{$id} = [ $digest, $reply ];
}

for my $line (map { $_->ledger() } @nodes, $odd) {
    my ($id, $digest) = $line =~ /^(.*)\@b\.example (.*)$/;
    push @{ $delivered{$id} }, $digest;
}

my (@lost, @twice, @changed, %replies);
my ($accepted, $doubt) = (0, 0);

for my $id (sort keys %told) {
    my ($digest, $reply) = @{ $told{$id} };
    my @got = @{ delete $delivered{$id} || [] };

    push @twice, $id if @got > 1;
    push @changed, $id if grep { $_ ne $digest } @got;
    $replies{ $reply =~ /^(\d{3}(?: \d\.\d\.\d+)?|\(.*\))/ ? $1 : $reply }++;

    if ($reply =~ /^250 /) {
        $accepted++;
        push @lost, $id unless @got;

    } elsif (@got) {
        $doubt++;
    }
}

# the odd node writes down what it then refuses
note(join ', ', map { "$_: $replies{$_}" } sort keys %replies);
note("$accepted acknowledged, $doubt delivered without that");

cmp_ok($accepted, '>', $SECONDS, 'messages get through all the while');
is("@lost", '', 'nothing that was acknowledged is lost');
is("@twice", '', 'nothing is delivered twice');
is("@changed", '', 'what is delivered is what was sent');
is(join(' ', sort keys %delivered), '', 'nothing else is delivered');
is(join(' ', grep { !/^(?:250|4\d\d|554 5\.5\.1|\((?:closed|reset)\))/ }
             sort keys %replies), '',
   'what is not acknowledged is refused for now, or the connection ends');

# --- limits ------------------------------------------------------------------

# A new binary has zones of its own, what the old one let in goes on: there
# are two times, and sessions that began in between are of either.

my @times = map { [ split ] } map { $t->lines("times-$_") } 1 .. $PROCESSES;
my @eras = @upgrade
    ? ([ grep { $_->[0] < $upgrade[0] } @times ],
       [ grep { $_->[0] > $upgrade[1] } @times ])
    : \@times;

for my $era (@eras) {
    my ($now, $most) = (0, 0);

    for my $event (sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] }
                   map { ([ $_->[0], 1 ], [ $_->[1], -1 ]) } @$era)
    {
        $now += $event->[1];
        $most = $now if $now > $most;
    }

    cmp_ok($most, '<=', $LIMIT, "of $LIMIT sessions at a time: $most");
}

my $limited = grep { /^s-/ && $told{$_}[1] =~ /^250 / } keys %told;
my $permitted = int($RATE * ($took + (@upgrade ? 9 : 0)))
                + ($BURST + 1) * @eras + 1;

cmp_ok($limited, '<=', $permitted, "of $permitted messages: $limited");

# --- what is left ------------------------------------------------------------

$t->reload(conf(0));
ok((wait_until { my @w = $t->workers(); scalar(@w) == $WORKERS } 15),
   'workers of old configurations are gone');

# idle connections to nodes and to the service time out
ok((wait_until { open_files() <= $files } 30), 'no connection is left over')
    or diag(open_files() . " sockets, not $files");

# those who were killed have left nothing in shared memory, either

my $status = SMTPRelay::Status->new(port => $t->port('http'));
my %left;

ok((wait_until {
    my $json = $status->json();
    my @nodes = map { @{ $_->{nodes} } } @{ $json->{upstreams} };

    %left = (sessions => 0, map { ($_ => 0) } qw/ connecting busy idle /);
    $left{sessions} += $_->{sessions}{open} for @{ $json->{servers} };
    $left{"$_->{kind} held"} = $_->{held} for @{ $json->{limits} };

    for my $node (@nodes) {
        $left{$_} += $node->{connections}{$_} for qw/ connecting busy idle /;
    }

    !grep { $_ } values %left;
} 15), 'nothing is counted that is not there')
    or diag(join ', ', map { "$_: $left{$_}" } sort keys %left);

my @fit;

ok((wait_until {
    while (@fit < $LIMIT) {
        push @fit, login('smtps') // return 0;
    }
    1;
} 15), "there is room for $LIMIT sessions again")
    or diag(scalar @fit);
ok(!login('smtps'), 'and not for one more');
$_->close() for @fit;

# A master that goes on for months reads its configuration many times. What
# workers do not give back is found by the sanitizer that the suite runs with.

if (!$t->is_instrumented()) {
    my @memory;

    for my $n (0 .. 40) {
        $t->reload(conf($n));
        push @memory, $t->memory($t->{pid});
    }

    cmp_ok($memory[40] - $memory[20], '<=', 64,
           'memory of the master over 20 configurations, KB')
        or diag("@memory");
}

my @alerts = grep {
    /\[(?:alert|crit|emerg)\]/ && !/exited on signal 9/
    && !/SSL_do_handshake\(\) failed|SSL_read\(\) failed/
} map { $t->lines($_) } 'error.log', map { "error.log.$_" } 1 .. $rotations;

is(join("\n", @alerts), '', 'no alert but for those who were killed');

# done_testing() looks for alerts, too
rename "$t->{dir}/error.log", "$t->{dir}/error.log.0";
kill 'USR1', $t->{pid};
wait_until { -e "$t->{dir}/error.log" };

done_testing();

# --- in the test -------------------------------------------------------------

# It has gone on for long enough, with messages that got through.

sub enough {
    my $left = $until - time();

    return 0 if $left > 0;
    return 1 if $left < -5 * $SECONDS * factor();

    my $got = grep { / 250 / } map { $t->lines("ledger-$_") } 1 .. $PROCESSES;
    return $got > 2 * $SECONDS;
}

# Configurations that differ.

sub conf {
    my ($n) = @_;

    my $keepalive = $n % 3 * 8;
    my $buffer = $n % 2 ? '32k' : '16k';
    my $early = $n % 4 < 2 ? 'mail data' : 'off';
    my $first = $n % 2 ? 'one' : 'two';
    my $last = $n % 2 ? 'two' : 'one';

    return <<"EOC";
worker_processes         $WORKERS;
worker_shutdown_timeout  8s;

stream {
    log_format  all  escape=json  '\$smtp_relay_event \$smtp_relay_session_id '
                     '\$smtp_relay_account \$smtp_relay_mail_from '
                     '\$smtp_relay_message_status \$upstream_addr';
    access_log  access.log  all;

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    map \$server_port \$limited {
        volatile;
        %%PORT_smtps%%  \$smtp_relay_account;
    }

    smtp_relay_status_zone      status:256k;
    smtp_relay_limit_conn_zone  \$limited  zone=sessions:1m;
    smtp_relay_limit_msg_zone   \$limited  zone=rate:1m  rate=${RATE}r/s;

    smtp_relay_limit_conn  sessions  $LIMIT;
    smtp_relay_limit_msg   rate      burst=$BURST nodelay;

    smtp_relay_hostname             relay.example;
    smtp_relay_auth_failure_delay   20ms;
    smtp_relay_auth_timeout         1s;
    smtp_relay_auth_connect_timeout 500ms;
    smtp_relay_connect_timeout      500ms;
    smtp_relay_reply_timeout        2s;
    smtp_relay_keepalive            $keepalive;
    smtp_relay_keepalive_timeout    1s;
    smtp_relay_buffer_size          $buffer;
    smtp_relay_early_replies        $early;
    smtp_relay_timeout              10s;

    upstream nodes {
        zone    nodes  64k;
        server  127.0.0.1:%%PORT_$first%%  max_fails=2 fail_timeout=1s;
        server  127.0.0.1:%%PORT_$last%%   max_fails=0;
        server  127.0.0.1:%%PORT_three%%   max_fails=0;
        server  127.0.0.1:%%PORT_odd%%     max_fails=0;
    }

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        listen           127.0.0.1:%%PORT_smtps%%  ssl;
        smtp_relay_auth  http://127.0.0.1:%%PORT_auth%%/;
        smtp_relay_pass  nodes;
    }
}

http {
    access_log  off;

    server {
        listen              127.0.0.1:%%PORT_http%%;
        location = /status  { smtp_relay_status; }
    }
}
EOC
}

# A neighbour dies, or hangs, for a while.

sub befall {
    my ($daemon) = @_;

    if (rand() < 0.5) {
        $daemon->stop();
        sleep(0.05 + rand 0.2);
        $daemon->start();
        return;
    }

    my $pid = $daemon->{pid};
    kill 'STOP', -$pid;
    sleep(0.1 + rand 0.5);
    kill 'CONT', -$pid;
    return;
}

# A new binary takes over.

sub upgrade {
    return if !$t->{daemon};

    my $old = $t->{pid};
    my $begun = time();
    kill 'USR2', $old;

    wait_until { -s "$t->{dir}/nginx.pid.oldbin" && -s "$t->{dir}/nginx.pid" }
        or return;

    my ($new) = slurp("$t->{dir}/nginx.pid") =~ /(\d+)/;
    kill 'QUIT', $old;
    wait_until { waitpid($old, POSIX::WNOHANG()) == $old } 30;
    $t->{pid} = $new;
    push @upgraded, $new;
    @upgrade = ($begun, time());
    return;
}

# Sockets of all workers that serve; those among master and workers, of which
# there are more with each worker that was replaced, do not count.

sub open_files {
    my %inode = map { (split)[9] // '' => 1 } split /\n/,
                slurp('/proc/net/tcp');

    return scalar grep { /^socket:\[(\d+)\]/ && $inode{$1} }
           map { readlink $_ // '' }
           map { glob "/proc/$_/fd/*" } $t->workers();
}

# Sessions side by side, each with a message in turn.

sub client {
    my ($process) = @_;

    my @sessions;
    my $count = int($SESSIONS / $PROCESSES);
    my $n = 0;

    while (!-e "$t->{dir}/stop") {
        my $slot = int rand $count;
        my $kind = rand();

        if ($kind < 0.06) {
            vanish();
            next;
        }

        if ($kind < 0.1) {
            abuse();
            next;
        }

        my $c = $sessions[$slot] //= login();
        next if !$c;

        my $id = ($c->{limited} ? 's-' : 'm-') . $process . '-' . ++$n;
        my $content = content($id);
        my $before = time();
        my $reply = message($c, $id, $content);

        # it has lived that long at least; 421 may have come long before
        $c->{to} = $before if $reply =~ /^(?!421)\d/;

        add_to("$t->{dir}/ledger-$process",
               join(' ', $id, sha1_hex($content), $reply) . "\n");

        # 421 and whatever is no reply: the session is over
        if ($reply !~ /^(?!421)\d/ || $c->{done}) {
            lived($process, $c);
            $c->close();
            undef $sessions[$slot];
        }
    }

    for my $c (grep { defined } @sessions) {
        lived($process, $c);
        $c->ask('QUIT');
        $c->close();
    }

    return;
}

# Writes down from when to when a session that counts was surely there.

sub lived {
    my ($process, $c) = @_;

    add_to("$t->{dir}/times-$process", "$c->{from} $c->{to}\n")
        if $c->{limited} && $c->{to} && $c->{to} > $c->{from};
    return;
}

# A session that is logged in, or nothing: not everybody is there all the time.

sub login {
    my $port = $_[0] // (rand() < 0.3 ? 'smtps' : 'smtp');

    my $c = eval {
        SMTPRelay::Client->new(port => $t->port($port), name => $port,
                               tls => $port eq 'smtps')
    } or return;

    return if $c->reply() !~ /^220 / || $c->ask('EHLO a.example') !~ /^250/;

    if ($port eq 'smtp') {
        return if $c->ask('STARTTLS') !~ /^220/;
        $c->start_tls() or return;
        return if $c->ask('EHLO a.example') !~ /^250/;
    }

    my $reply = $c->ask('AUTH PLAIN ' . $c->plain('user', 'secret'));

    # the service may be down, its users are not unknown for that
    die "$reply\n" . $c->dialogue() if $reply =~ /^5/;
    return if $reply !~ /^235/;

    $c->{limited} = $port eq 'smtps';
    $c->{from} = time();
    return $c;
}

# Goes in the middle of something.

sub vanish {
    my $c = login() or return;
    my @steps = ("MAIL FROM:<vanished\@b.example>\r\n",
                 "RCPT TO:<c\@d.example>\r\n", "DATA\r\n",
                 "Subject: never\r\n\r\n" . 'x' x int(rand 60000) . "\r\n");

    for (0 .. int(rand @steps)) {
        $c->send($steps[$_]);
        $c->reply(3) if $_ < 3 && rand() < 0.7;
    }

    rand() < 0.5 ? $c->reset() : $c->close();
    return;
}

# No decent client does that.

sub abuse {
    my $c = eval { SMTPRelay::Client->new(port => $t->port('smtp')) } or return;
    my @nonsense = ("GET / HTTP/1.1\r\n", "EHLO\r\n", "\0\0\0\r\n",
                    'A' x 20000 . "\r\n", "\x16\x03\x01\0\0",
                    "MAIL FROM:<>\r\nRCPT TO:<>\r\nDATA\r\n.\r\n",
                    "AUTH PLAIN AAA=\r\n", "STARTTLS\r\nEHLO x\r\n");

    for (1 .. 1 + int(rand 6)) {
        $c->send($nonsense[ rand @nonsense ]);
        sleep(rand 0.02);
    }

    $c->drain(0.05);
    $c->close();
    return;
}

# Some are small, a few larger than any buffer.

sub content {
    my ($id) = @_;

    my $lines = 1 + int(rand 40);
    $lines *= 40 if rand() < 0.05;

    return join '', "Subject: $id\r\n\r\n", map {
        ('.' x int(rand 3)) . 'x' x int(rand 200) . "\r\n"
    } 1 .. $lines;
}

# Sends a message in one of the ways there are; gives what came in the end.

sub message {
    my ($c, $id, $content) = @_;

    my @commands = ("MAIL FROM:<$id\@b.example>", 'RCPT TO:<c@d.example>');
    my $bdat = rand() < 0.3;
    my @replies;

    push @commands, 'DATA' unless $bdat;

    if (rand() < 0.5) {
        $c->send(join '', map { "$_\r\n" } @commands);

        for (@commands) {
            push @replies, $c->reply(20);
            last if $replies[-1] =~ /^\(/;
        }

    } else {
        for (@commands) {
            push @replies, $c->ask($_);
            last if $replies[-1] !~ /^[23]/;
        }
    }

    my ($no) = grep { !/^(?:250|354) / } @replies;

    if ($no) {
        die "$no\n" . $c->dialogue() if $no =~ /^\((?!closed|reset)/;
        $c->{done} = 1 if $c->ask('RSET') !~ /^250/;
        return $no;
    }

    my @text;

    if ($bdat && rand() < 0.3 && length $content > 100) {
        @text = ("BDAT 100\r\n" . substr($content, 0, 100),
                 'BDAT ' . (length($content) - 100) . " LAST\r\n"
                 . substr($content, 100));

    } elsif ($bdat) {
        @text = ('BDAT ' . length($content) . " LAST\r\n$content");

    } else {
        (my $stuffed = $content) =~ s/^\./../gm;
        @text = ("$stuffed.\r\n");
    }

    my $reply;

    for my $text (@text) {

        if (rand() < 0.05) {
            $c->send_cut($text, int(length($text) / 2));

        } else {
            $c->send($text);
        }

        $reply = $c->reply(20);
        last if $reply !~ /^250/;
    }

    die "$reply\n" . $c->dialogue() if $reply =~ /^\((?!closed|reset)/;
    $c->{done} = 1 if $reply !~ /^250/ && $c->ask('RSET') !~ /^250/;
    return $reply;
}
