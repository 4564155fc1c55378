# Many sessions through three nodes, one of which is killed and started again
# all the time: whatever the client was told is delivered has been, once and
# octet for octet, and nothing is delivered twice.
#
# TEST_EXACTLY_ONCE is the number of messages; default: 1000.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::FaultNode;

use Digest::SHA qw/ sha1_hex /;
use POSIX ();
use Time::HiRes qw/ sleep time /;

my $MESSAGES = $ENV{TEST_EXACTLY_ONCE} || 1000;
my $PROCESSES = 6;
my $SESSIONS = $MESSAGES >= 10000 ? 34 : 15;
my $RESTARTS = 10;

my $t = SMTPRelay::Test->new();
my @nodes = map { $t->_daemon('SMTPRelay::FaultNode', $_, brief => 1,
                             delay => 0.001) }
            qw/ one two three /;
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_starttls         off;
    smtp_relay_auth_file        keys;
    smtp_relay_keepalive_messages  100000;

    upstream three {
        server  127.0.0.1:%%PORT_one%%    max_fails=0;
        server  127.0.0.1:%%PORT_two%%    max_fails=0;
        server  127.0.0.1:%%PORT_three%%  max_fails=0;
    }

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  three;
    }
}
EOC

# A process holds its sessions open and sends a message on one after the
# other: as many messages are on their way at one time as there are
# processes, and not more node connections are needed.

my @pids;

for my $process (1 .. $PROCESSES) {
    defined(my $pid = fork()) or die "cannot fork: $!\n";

    if ($pid) {
        push @pids, $pid;
        next;
    }

    SMTPRelay::Util::in_child();
    $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP /;
    eval { send_all($process) };
    add_to("$t->{dir}/errors", "process $process: $@") if $@;
    POSIX::_exit(0);
}

# a node dies each time that a part of the messages is through

my $done = 0;
my $deadline = time() + patience(60 + $MESSAGES / 100);

for my $restart (1 .. $RESTARTS) {
    my $goal = $MESSAGES * $restart / ($RESTARTS + 1);

    until (sent() >= $goal || time() > $deadline) {
        sleep(0.01);
    }

    # not always when the same thing has just happened
    sleep(rand 0.01);
    my $node = $nodes[ $restart % @nodes ];
    $node->stop();
    sleep(0.05 + rand 0.1);
    $node->start();
}

wait_until { sent() >= $MESSAGES || -e "$t->{dir}/errors" }
    $deadline - time() > 1 ? $deadline - time() : 1;

kill 'TERM', @pids if sent() < $MESSAGES;
waitpid $_, 0 for @pids;
sleep(0.1);

is($t->read('errors'), '', 'all sessions live to their end');

my %told;

for my $process (1 .. $PROCESSES) {
    for my $line ($t->lines("ledger-$process")) {
        my ($id, $digest, $reply) = split / /, $line, 3;
        $told{$id} = [ $digest, $reply ];
    }
}

is(scalar keys %told, $MESSAGES, 'all messages are answered');

my (%delivered, $connections);

for my $node (@nodes) {
    $connections += $node->connections();

    for my $line ($node->ledger()) {
        my ($id, $digest) = $line =~ /^(.*)\@b\.example (.*)$/;
        push @{ $delivered{$id} }, $digest;
    }
}

my (@lost, @twice, @changed, @odd);
my ($accepted, $doubt, $refused) = (0, 0, 0);

for my $id (sort keys %told) {
    my ($digest, $reply) = @{ $told{$id} };
    my @got = @{ delete $delivered{$id} || [] };

    push @twice, $id if @got > 1;
    push @changed, $id if grep { $_ ne $digest } @got;

    if ($reply =~ /^250 /) {
        $accepted++;
        push @lost, $id unless @got;

    } elsif ($reply =~ /^451 4\.4\.[12] /) {
        $refused++;
        $doubt++ if @got;

    } else {
        push @odd, "$id: $reply";
    }
}

is("@lost", '', 'nothing that was acknowledged is lost');
is("@twice", '', 'nothing is delivered twice');
is("@changed", '', 'what is delivered is what was sent');
is(join("\n", @odd), '', 'what is not acknowledged is refused for now');
is(join(' ', sort keys %delivered), '', 'nothing is delivered that was not sent');

note("$accepted acknowledged, $refused refused, $doubt of these delivered, ",
     "$connections node connections");

cmp_ok($accepted, '>', $MESSAGES * 0.9, 'most are acknowledged');

# those that were at the node when it died, and no more
cmp_ok($refused, '<=', $RESTARTS * $PROCESSES,
       'only those are refused that a dying node had');

# each worker has its own

my $times = ($MESSAGES >= 10000 ? 100 : 10) / $t->workers();
cmp_ok($connections * $times, '<=', $MESSAGES,
       "$times times as many messages as node connections");

done_testing();


# How many messages are through.

sub sent {
    my $sum = 0;
    $sum += (-s "$t->{dir}/progress-$_" || 0) for 1 .. $PROCESSES;
    return $sum;
}


sub send_all {
    my ($process) = @_;

    srand($process * 7919);

    my $number = int($MESSAGES / $PROCESSES)
                 + ($process <= $MESSAGES % $PROCESSES ? 1 : 0);
    my @sessions = map { $t->session('smtp', name => "$process-$_") }
                       1 .. $SESSIONS;

    for my $n (1 .. $number) {
        my $c = $sessions[ $n % @sessions ];
        my $id = "m-$process-$n";
        my $content = content($id);

        my $reply = message($c, $id, $content);

        add_to("$t->{dir}/ledger-$process",
               join(' ', $id, sha1_hex($content), $reply) . "\n");
        add_to("$t->{dir}/progress-$process", '.');
    }

    $_->must('QUIT', '221') for @sessions;
    return;
}


# Some are small, a few larger than any buffer.

sub content {
    my ($id) = @_;

    my $lines = 1 + int(rand 40);
    $lines *= 50 if rand() < 0.05;

    return join '', "Subject: $id\r\n\r\n", map {
        ('.' x int(rand 3)) . 'x' x int(rand 200) . "\r\n"
    } 1 .. $lines;
}


# Sends a message in one of the ways there are; gives the last reply.

sub message {
    my ($c, $id, $content) = @_;

    my @commands = ("MAIL FROM:<$id\@b.example>", 'RCPT TO:<c@d.example>');
    my $bdat = rand() < 0.3;
    my @replies;

    push @commands, 'DATA' unless $bdat;

    if (rand() < 0.5) {
        $c->send(join '', map { "$_\r\n" } @commands);
        @replies = map { $c->reply(30) } @commands;

    } else {
        push @replies, $c->ask($_) for @commands;
    }

    my ($no) = grep { !/^(250|354) / } @replies;

    if ($no) {
        die "$no\n" . $c->dialogue() if $no !~ /^\d/;
        $c->must('RSET', '250');
        return $no;
    }

    if ($bdat) {
        $c->send('BDAT ' . length($content) . " LAST\r\n$content");

    } else {
        (my $stuffed = $content) =~ s/^\./../gm;
        $c->send("$stuffed.\r\n");
    }

    my $reply = $c->reply(30);
    die "$reply\n" . $c->dialogue() if $reply !~ /^\d/;
    $c->ask('RSET') if $reply !~ /^2/;
    return $reply;
}
