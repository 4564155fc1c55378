# Clients that take their time, in each state that a session can be in: they
# cost others nothing, little memory, and no more time than they are given.
#
# TEST_SLOW: how many of them, 10000 for instance.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::SmallNode;

use Errno qw/ EAGAIN /;
use IO::Poll qw/ POLLIN POLLHUP POLLERR /;
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw/ time sleep /;

my $SLOW = $ENV{TEST_SLOW} || 340;

# the time they are given is longer than it takes to have all of them

my $limit = int(4 + $SLOW / 200) * factor();

# a connection to a node for each third of them

my $files = $SLOW * 1.5 + 400;
my $rlimit = POSIX::sysconf(POSIX::_SC_OPEN_MAX()) < $files
             ? "worker_rlimit_nofile  $files;" : '';

my $t = SMTPRelay::Test->new(connections => $files);
my $node = $t->_daemon('SMTPRelay::SmallNode', 'node');

$t->keys(user => 'secret');
$t->certificates('localhost');

$t->start(<<"EOC", log_level => 'warn');
$rlimit

stream {
    log_format  line  '\$smtp_relay_event \$status \$server_port';
    access_log  access.log  line;

    smtp_relay_hostname       relay.example;
    smtp_relay_starttls       on;
    smtp_relay_auth_file      keys;
    smtp_relay_login_timeout  ${limit}s;
    smtp_relay_timeout        ${limit}s;
    smtp_relay_data_timeout   ${limit}s;
    ssl_handshake_timeout     ${limit}s;
    proxy_protocol_timeout    ${limit}s;

    ssl_certificate           localhost.crt;
    ssl_certificate_key       localhost.key;

    server {
        listen                    127.0.0.1:%%PORT_smtp%%   backlog=2048;
        listen                    127.0.0.1:%%PORT_smtps%%  ssl backlog=2048;
        listen                    127.0.0.1:%%PORT_proxy%%  proxy_protocol
                                                            backlog=2048;
        smtp_relay_pass           127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                    127.0.0.1:%%PORT_delay%%  backlog=2048;
        smtp_relay_greeting_delay ${limit}s;
        smtp_relay_login_timeout  @{[ $limit + 2 * factor() ]}s;
        smtp_relay_pass           127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $login = "EHLO a.example\r\nAUTH PLAIN "
            . SMTPRelay::Client->plain('user', 'secret') . "\r\n";
my $mail = "MAIL FROM:<slow\@b.example>\r\n";
my $rcpt = "RCPT TO:<slow\@d.example>\r\n";

# what is sent, and what comes before more is: the state is reached then;
# what goes on to trickle

my %states = (
    greeting_delay => [ 'delay' ],
    silent => [ 'smtp', '', qr/^220/m ],
    half_command => [ 'smtp', 'EHL', qr/^220/m ],
    trickled_command => [ 'smtp', 'NOOP ', qr/^220/m, 'x' ],
    commands => [ 'smtp', '', qr/^220/m, "NOOP\r\n" ],
    tls_silent => [ 'smtps' ],
    tls_half_hello => [ 'smtps', "\x16\x03\x01\x02\0\x01" ],
    tls_trickled => [ 'smtps', "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
                      undef, 'x' ],
    starttls => [ 'smtp', "STARTTLS\r\n", qr/^220 2/m ],
    proxy_silent => [ 'proxy' ],
    proxy_half => [ 'proxy', 'PROXY TCP4 192.0.2.1' ],
    auth => [ 'smtp', "EHLO a\r\nAUTH LOGIN\r\n", qr/^334/m ],
    auth_half => [ 'smtp', "EHLO a\r\nAUTH PLAIN AAAA", qr/^250 /m, 'A' ],
    idle => [ 'smtp', $login, qr/^235/m ],
    mail => [ 'smtp', "$login$mail", qr/^250 2/m ],
    rcpt => [ 'smtp', "$login$mail$rcpt", qr/^250 2.*^250 2/ms ],
    rcpt_half => [ 'smtp', "$login${mail}RCPT TO:<a", qr/^250 2/m ],
    data => [ 'smtp', "$login$mail${rcpt}DATA\r\n", qr/^354/m ],
    data_half => [ 'smtp', "$login$mail${rcpt}DATA\r\nhalf a line", qr/^354/m ],
    data_end => [ 'smtp', "$login$mail${rcpt}DATA\r\ntext\r\n.\r", qr/^354/m ],
    chunk => [ 'smtp', "$login$mail${rcpt}BDAT 1000000 LAST\r\nhalf",
               qr/^250 2.*^250 2/ms ],
    deaf => [ 'smtp', "${login}" . "EHLO a\r\n" x 2000, qr/^235/m ],
);

my @states = sort keys %states;

# --- before ------------------------------------------------------------------

my @before = map { honest() } 1 .. 20;
my $memory = $t->memory();
$files = files();

# --- while -------------------------------------------------------------------

my $faithful = $t->session('smtp');
my $start = time();
my (@slow, @early);

while (@slow < $SLOW) {
    push @slow, slow($states[ @slow % @states ]);
    push @early, honest() if @slow % int($SLOW / 10) == 0;
}

my $opened = time() - $start;
my %reached;
$reached{ $_->{state} }++ for grep { $_->{reached} } @slow;

is(join(' ', grep { !$reached{$_} } @states), '', 'each state is reached');
is(scalar(grep { $_->{reached} } @slow), $SLOW, 'by all who want to');

my @while = map { trickle(); honest() } 1 .. 20;
my $more = $t->memory() - $memory;

like($faithful->message("text\r\n"), qr/^250/,
     'a session from before them goes on');

report(before => @before);
report('as they come' => @early);
report(while => @while);
note(sprintf '%d connections in %.1f s, %d KB, %.1f KB each', $SLOW, $opened,
     $more, $more / $SLOW);

is(scalar(grep { $_->{reply} =~ /^250/ } @before, @early, @while),
   @before + @early + @while, 'honest clients all deliver');
cmp_ok(longest(@early, @while), '<', 2 * factor(), 'and do not wait for it');
cmp_ok($more / $SLOW, '<', 40, 'KB of memory that each of them takes')
    unless $t->is_instrumented();

# --- after -------------------------------------------------------------------

$faithful->must('QUIT', '221');
my ($ended, %end) = wait_ends($limit * 3);

is($ended, $SLOW, 'all of them are ended')
    or diag(join ' ', map { $_->{state} } grep { $_->{socket} } @slow);
is(join(' ', grep { !/^(?:421 4\.4\.2|closed|reset)$/ } sort keys %end), '',
   'with 421, or without a word where there is no SMTP yet');
note(join ', ', map { "$_: $end{$_}" } sort keys %end);

ok((wait_until { files() <= $files + 32 } 15), 'no connection is left')
    or diag(files(), ", not $files");
is($node->count(), @before + @early + @while + 1,
   'and nothing half is delivered');

my @after = map { honest() } 1 .. 5;
is(scalar(grep { $_->{reply} =~ /^250/ } @after), 5, 'nginx serves on');

done_testing();


# One of them.

sub slow {
    my ($state) = @_;

    my ($port, $octets, $until, $more) = @{ $states{$state} };
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->port($port), Timeout => patience())
        or die "cannot connect: $!\n";

    my $c = { state => $state, socket => $socket, more => $more, in => '' };

    $socket->blocking(0);

    # who does not read has the smallest of buffers
    setsockopt $socket, Socket::SOL_SOCKET(), Socket::SO_RCVBUF(), 2048
        if $state eq 'deaf';

    syswrite $socket, $octets if defined $octets && length $octets;

    if ($until) {
        my $deadline = time() + patience();
        my $rin = '';
        vec($rin, fileno $socket, 1) = 1;

        while ($c->{in} !~ $until && time() < $deadline) {
            select my $r = $rin, undef, undef, 0.5;
            my $n = sysread $socket, $c->{in}, 512, length $c->{in};
            last if defined $n && $n == 0;
        }

        $c->{reached} = $c->{in} =~ $until;

    } else {
        $c->{reached} = 1;
    }

    return $c;
}


# A little more of what some of them send.

sub trickle {
    for my $c (grep { $_->{more} && $_->{socket} } @slow) {
        syswrite $c->{socket}, $c->{more};
    }

    return;
}


# A client that has no time: what its message comes to, and how long it took.

sub honest {
    my $from = time();
    my $c = $t->session('smtp');
    my $reply = $c->message("Subject: test\r\n\r\n" . "text\r\n" x 50);
    my $took = time() - $from;

    $c->must('QUIT', '221');
    return { reply => $reply, took => $took };
}


sub longest {
    my ($longest) = sort { $b <=> $a } map { $_->{took} } @_;
    return $longest;
}


sub report {
    my ($what, @sessions) = @_;

    my @took = sort { $a <=> $b } map { $_->{took} * 1000 } @sessions;
    note(sprintf 'a session with a message, %s: median %.1f ms, longest %.1f ms',
         $what, $took[$#took / 2], $took[-1]);
    return;
}


# Reads until all have ended; how many, and how.

sub wait_ends {
    my ($seconds) = @_;

    my $deadline = time() + $seconds;
    my (%end, %by);
    my $poll = IO::Poll->new();
    my $ended = 0;

    # who does not read is known to be ended by the log only: read now, some
    # of it would still get through

    my @deaf = grep { $_->{state} eq 'deaf' } @slow;
    my @others = grep { $_->{state} ne 'deaf' } @slow;

    for my $c (@others) {
        $by{ fileno $c->{socket} } = $c;
        $poll->mask($c->{socket} => POLLIN | POLLHUP | POLLERR);
    }

    while (%by && time() < $deadline) {
        $poll->poll(1);
        trickle() if time() < $deadline - $seconds / 2;

        for my $socket ($poll->handles(POLLIN | POLLHUP | POLLERR)) {
            my $c = $by{ fileno $socket };
            my $n = sysread $socket, my $octets, 65536;

            if ($n) {
                $c->{in} = substr $c->{in} . $octets, -300;
                next;
            }

            my $how = defined $n ? 'closed' : 'reset';

            next if !defined $n && $! == EAGAIN;
            $how = $1 if $c->{in} =~ /^(421 4\.\d\.\d) .*\r\n\z/m;
            $end{$how}++;
            $ended++;

            $poll->remove($socket);
            delete $by{ fileno $socket };
            close delete $c->{socket};
        }
    }

    my $port = $t->port('smtp');
    my $others = scalar grep { $states{ $_->{state} }[0] eq 'smtp'
                               && $_->{state} ne 'starttls' } @slow;

    wait_until {
        $others <= grep { $_ eq "session 408 $port" } $t->lines('access.log')
    } and $ended += @deaf;

    return ($ended, %end);
}


# Descriptors of the worker.

sub files {
    my ($worker) = $t->workers();
    return scalar(() = glob "/proc/$worker/fd/*");
}
