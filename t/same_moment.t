# What a client sends and the end of a node's connection are seen in the same
# moment: the content that has been read goes to the next node, all of it.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

# one that closes, when it is told to, with content on its way to it

my %script = (
    data => { DATA => { reply => '354 Go on', hold => 'end',
                        then => ':close' } },
    chunk => { RCPT => { reply => '250 2.1.5 Ok', hold => 'end',
                         then => ':close' } },
);

my (%dying, $servers);

for my $how (sort keys %script) {
    $dying{$how} = $t->node("dying_$how", script => $script{$how});

    $servers .= <<"EOC";
    upstream $how {
        server  127.0.0.1:%%PORT_dying_$how%%  max_fails=0;
        server  127.0.0.1:%%PORT_good%%        backup;
    }

    server {
        listen           127.0.0.1:%%PORT_$how%%;
        smtp_relay_pass  $how;
    }

EOC
}

my $good = $t->node('good');

$t->keys(user => 'secret');

$t->start(<<"EOC");
stream {
    smtp_relay_hostname   relay.example;
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;
    smtp_relay_keepalive  0;

$servers
}
EOC

my ($worker) = $t->workers();
my $moved = 0;

my $first = "Subject: x\r\n\r\n" . "the first part\r\n" x 20;
my $second = "the second part\r\n" x 20;

for my $how (qw/ data chunk /) {
    my $c = $t->session($how);
    $c->envelope('a@b.example', 'c@d.example');

    if ($how eq 'data') {
        $c->must('DATA', '354');

    } else {
        $c->line('BDAT ' . length($first . $second) . ' LAST');
        ok($c->is_silent(0.1), 'the head of a chunk is answered by nothing');
    }

    ok(!$dying{$how}->over(), "$how: the node is there");

    # nothing is seen until all has happened

    kill 'STOP', $worker;
    ok(wait_until { slurp("/proc/$worker/stat") =~ /^\d+ \(.*\) T / },
       "$how: the worker is stopped");
    $c->send($first);
    $dying{$how}->open_gate('end');
    ok(closed($dying{$how}->port()), "$how: the node is gone");
    kill 'CONT', $worker;

    ok($good->wait_connections(++$moved), "$how: another one is asked");
    $c->send($second . ($how eq 'data' ? ".\r\n" : ''));
    $c->expect('250', "$how: the message is accepted");
    is(($good->last_message() // {})->{data}, $first . $second,
       "$how: all of it is delivered");
    $c->must('QUIT', '221');
}

is($good->count(), scalar keys %dying, 'each of them once');

done_testing();


# Waits until the end of a connection to that port has arrived at this end,
# where nobody has read it yet.

sub closed {
    my $port = sprintf '%04X', shift;

    return wait_until {
        slurp('/proc/net/tcp')
            =~ /^ *\d+: [0-9A-F]+:[0-9A-F]+ [0-9A-F]+:$port 08 /m;
    };
}
