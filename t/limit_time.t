# Rates over time, over all workers: not one percent more than what is
# configured, and on a machine that has time, TEST_LIMIT_TIME=1, not one
# percent less.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use Time::HiRes qw/ time sleep /;

plan(skip_all => 'time means nothing under valgrind') if $ENV{TEST_NGINX_VALGRIND};

my $late = $ENV{TEST_LIMIT_TIME} ? 1.01 : 1.5;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node', keep => 0);
$t->keys(map { $_ => 'secret' } qw/ user held greedy rcpt /);

$t->start(<<'EOC');
worker_processes  4;

stream {
    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=msg:64k   rate=100r/s;
    smtp_relay_limit_rcpt_zone  $smtp_relay_account  zone=rcpt:64k  rate=6000r/m;

    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    smtp_relay_limit_log_level  info;

    server {
        listen                 127.0.0.1:%%PORT_held%%;
        smtp_relay_limit_msg   msg burst=100;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_greedy%%;
        smtp_relay_limit_msg   msg burst=20 nodelay;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_rcpt%%;
        smtp_relay_limit_rcpt  rcpt burst=100;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }
}
EOC

# so many sessions at one time ask for so many each; seconds from before the
# first to the last 250 to what is counted: the first may be read late

sub rate {
    my ($port, $sessions, $commands, $pattern) = @_;

    my @c = map { $t->session($port, user => $port) } 1 .. $sessions;
    my $lines = () = $commands =~ /\n/g;
    my ($first, $last, $taken, $refused) = (time(), 0, 0, 0);

    $_->send($commands) for @c;

    my %left = map { $_ => $lines } 0 .. $#c;
    my @counts = split //, $pattern;

    while (%left) {
        my $select = IO::Select->new(map { $c[$_]->socket_object() } keys %left);
        my @ready = $select->can_read(10) or die "no reply for 10 seconds\n";
        my $now = time();

        for my $i (keys %left) {
            my $socket = $c[$i]->socket_object();
            next unless grep { $_ == $socket } @ready;
            sysread $socket, $c[$i]{in}, 65536, length $c[$i]{in} or die "closed\n";

            while ($c[$i]{in} =~ s/\A(\d)[^\n]*\r\n//) {
                my $counts = $counts[-$left{$i} % @counts];
                $left{$i}--;
                delete $left{$i} unless $left{$i};
                next unless $counts eq 'x';

                if ($1 eq '2') {
                    $last = $now;
                    $taken++;
                } else {
                    $refused++;
                }
            }
        }
    }

    return ($taken, $last - $first, $refused);
}

# held back: all are let through in the end

my ($taken, $time) = rate('held', 8, "MAIL FROM:<a\@b.example>\r\nRSET\r\n" x 50, 'x.');
is($taken, 400, 'MAIL held back: all pass');
near(($taken - 1) / 100, $time, 'MAIL held back: 100 a second');

($taken, $time) = rate('rcpt', 4, "MAIL FROM:<a\@b.example>\r\n"
                       . "RCPT TO:<c\@d.example>\r\n" x 100, '.' . 'x' x 100);
is($taken, 400, 'RCPT held back: all pass');
near(($taken - 1) / 100, $time, 'RCPT held back: 6000 a minute');

# refused: as many pass in a time as its rate and the burst

my @c = map { $t->session('greedy', user => 'greedy') } 1 .. 4;
my ($passed, $refused) = (0, 0);
my $start = time();

while (time() - $start < 3) {
    for my $c (@c) {
        if ($c->ask('MAIL FROM:<a@b.example>') =~ /^250/) {
            $passed++;
            $c->must('RSET', '250');
        } else {
            $refused++;
        }
    }

    sleep(0.002);
}

$time = time() - $start;
note(sprintf 'greedy: %d of %d in %.3f s', $passed, $passed + $refused, $time);
cmp_ok($refused, '>', $passed, 'greedy: most are refused');
cmp_ok($passed, '<=', 21 + $time * 101, 'greedy: not more pass than the burst and 100 a second');
cmp_ok($passed, '>=', 21 + $time * 100 / $late - 1,
       'greedy: and hardly fewer');

done_testing();


sub near {
    my ($expected, $got, $name) = @_;

    my $off = abs($got / $expected - 1);
    note(sprintf '%s: %.3f s, expected %.3f s, %.2f %%', $name, $got, $expected, 100 * $off);
    cmp_ok($got, '>', $expected * 0.99, "$name, no faster");
    cmp_ok($got, '<', $expected * $late, "$name, hardly slower");
}
