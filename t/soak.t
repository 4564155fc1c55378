# For long: one worker, its memory and its descriptors.
#
# TEST_SOAK is the number of messages; without it nothing is done.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::FaultNode;

use POSIX ();
use Time::HiRes qw/ sleep time /;

my $MESSAGES = $ENV{TEST_SOAK};
plan(skip_all => 'TEST_SOAK is not set') unless $MESSAGES;

my $PROCESSES = 4;
my $SESSIONS = 10;

my $t = SMTPRelay::Test->new();

# of the nodes one loses connections all the time

my @nodes = map { $t->_daemon('SMTPRelay::FaultNode', $_, quiet => 1,
                              script => script($_)) } qw/ one two mortal /;

$t->keys(user => 'secret');
$t->certificates('localhost');

$t->start(<<'EOC', log_level => 'crit');
stream {
    log_format  all  "$smtp_relay_event $smtp_relay_mail_from $upstream_addr "
                     "$smtp_relay_message_reply $mapped";
    access_log  all.log  all  if=$mapped;

    map $smtp_relay_message_status $mapped {
        default  '';
        ~^4      $smtp_relay_mail_from;
    }

    upstream nodes {
        zone    nodes 64k;
        server  127.0.0.1:%%PORT_one%%     max_fails=0;
        server  127.0.0.1:%%PORT_two%%     max_fails=0;
        server  127.0.0.1:%%PORT_mortal%%  max_fails=0;
    }

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    smtp_relay_starttls           off;
    smtp_relay_auth_file          keys;
    smtp_relay_max_errors         0;
    smtp_relay_keepalive_timeout  1s;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        listen           127.0.0.1:%%PORT_smtps%%  ssl;
        smtp_relay_pass  nodes;
    }
}
EOC

# the first part warms all up

my $first = int($MESSAGES / 5);

my @before = part($first);
my @after = part($MESSAGES - $first);

is($t->read('errors'), '', 'all sessions live to their end');

my $accepted = 0;
$accepted += $_->count() for @nodes;

note("$accepted of $MESSAGES delivered; memory $before[0] KB, $after[0] KB; ",
     "descriptors $before[1], $after[1]");

cmp_ok($accepted, '>', $MESSAGES * 0.7, 'most are delivered');
is($after[1], $before[1], 'as many descriptors as before');
cmp_ok($after[0] - $before[0], '<=', 256, 'memory, KB')
    unless $t->is_instrumented();

done_testing();


sub script {
    my ($name) = @_;

    my %script = (
        RCPT => sub { $_[0] =~ /nobody/ ? '550 5.1.1 No such user' : undef },
    );

    return \%script if $name ne 'mortal';

    return {
        %script,
        MAIL => sub { $_[2] % 50 == 7 ? '421 4.3.2 Not now' : undef },
        DATA => sub { $_[2] % 40 == 9 ? ':close' : undef },
        eod => sub { $_[2] % 30 == 11 ? ':reset' : undef },
    };
}


# Sends so many messages and waits until all is idle; gives memory and
# descriptors of the worker.

sub part {
    my ($number) = @_;

    my @pids;

    for my $process (1 .. $PROCESSES) {
        defined(my $pid = fork()) or die "cannot fork: $!\n";

        if ($pid) {
            push @pids, $pid;
            next;
        }

        SMTPRelay::Util::in_child();
        $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP /;
        eval { send_all($process, int($number / $PROCESSES)) };
        add_to("$t->{dir}/errors", "process $process: $@") if $@;
        POSIX::_exit(0);
    }

    waitpid $_, 0 for @pids;

    # idle node connections go, too
    sleep(1.5 * factor());

    my ($worker) = $t->workers();
    my @descriptors = glob "/proc/$worker/fd/*";
    return ($t->memory(), scalar @descriptors);
}


sub send_all {
    my ($process, $number) = @_;

    srand($process * 7919);

    my @sessions;

    for my $n (1 .. $number) {
        my $slot = $n % $SESSIONS;

        $sessions[$slot] //= $t->session(
            $slot % 3 ? ('smtp') : ('smtps', tls => 1));

        message($sessions[$slot]) and next;

        # the session has come to its end
        $sessions[$slot] = undef;
    }

    $_->must('QUIT', '221') for grep { defined } @sessions;
    return;
}


# A message, or a piece of one.  False when the client has gone.

sub message {
    my ($c) = @_;

    my $what = rand();
    my $content = ('x' x int(rand 200) . "\r\n") x (1 + rand 40);

    $content = ('..' . 'x' x 900 . "\r\n") x (50 + rand 100) if $what < 0.02;

    my @commands = ('MAIL FROM:<a@b.example>',
                    rand() < 0.1 ? 'RCPT TO:<nobody@d.example>' : (),
                    'RCPT TO:<c@d.example>', $what < 0.7 ? 'DATA' : ());

    if ($what > 0.97) {
        $c->send("$commands[0]\r\n$commands[1]\r\n");
        $what > 0.985 ? $c->reset() : $c->close();
        return 0;
    }

    if (rand() < 0.8) {
        $c->send(join '', map { "$_\r\n" } @commands);
        $c->reply(30) for @commands;

    } else {
        $c->ask($_) for @commands;
    }

    # a reply is told by its number alone: what was refused has none
    my ($last) = $c->{dialogue}[-1] =~ /^< (\d+)/
        or die "no reply\n" . $c->dialogue();

    if ($last >= 400) {
        $c->must('RSET', '250');
        return 1;
    }

    if ($what < 0.05) {
        $c->send(substr $content, 0, length($content) / 2);
        $what < 0.03 ? $c->reset() : $c->close();
        return 0;
    }

    if ($what >= 0.7) {
        $c->send('BDAT ' . length($content) . " LAST\r\n$content");

    } else {
        $c->send("$content.\r\n");
    }

    my $reply = $c->reply(30);
    die "$reply\n" . $c->dialogue() unless $reply =~ /^(250|451) /;
    $c->ask('RSET') if $reply !~ /^250/;
    return 1;
}
