# A node is chosen for each message, by the upstream group's own balancer.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

my %nodes = map { $_ => $t->node($_) } qw/ one two three /;
my $busy = $t->node('busy', script => { connect => '421 4.3.2 Busy' });
my $rejects = $t->node('rejects', script => { RCPT => '550 5.1.1 no' });
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    log_format  node  "$smtp_relay_event $upstream_addr";
    access_log  access.log  node;

    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    upstream three {
        zone    three 64k;
        server  127.0.0.1:%%PORT_one%%;
        server  127.0.0.1:%%PORT_two%%;
        server  127.0.0.1:%%PORT_three%%;
    }

    upstream weights {
        server  127.0.0.1:%%PORT_one%%  weight=3;
        server  127.0.0.1:%%PORT_two%%;
    }

    upstream half_down {
        server  127.0.0.1:%%PORT_down%%;
        server  127.0.0.1:%%PORT_one%%;
    }

    upstream one_busy {
        server  127.0.0.1:%%PORT_busy%%;
        server  127.0.0.1:%%PORT_two%%;
    }

    upstream backup {
        server  127.0.0.1:%%PORT_down%%;
        server  127.0.0.1:%%PORT_three%%  backup;
    }

    upstream marked {
        server  127.0.0.1:%%PORT_one%%  down;
        server  127.0.0.1:%%PORT_two%%;
    }

    upstream hashed {
        hash    $remote_addr;
        server  127.0.0.1:%%PORT_one%%;
        server  127.0.0.1:%%PORT_two%%;
        server  127.0.0.1:%%PORT_three%%;
    }

    upstream rejecting {
        server  127.0.0.1:%%PORT_rejects%%  max_fails=1;
        server  127.0.0.1:%%PORT_one%%  backup;
    }

    upstream all_down {
        server  127.0.0.1:%%PORT_down%%;
        server  127.0.0.1:%%PORT_down2%%;
    }

    map $server_port $chosen {
        default  three;
    }

    map $server_port $literal {
        default  127.0.0.1:%%PORT_two%%;
    }

    server { listen 127.0.0.1:%%PORT_to_three%%;      smtp_relay_pass three; }
    server { listen 127.0.0.1:%%PORT_to_weights%%;    smtp_relay_pass weights; }
    server { listen 127.0.0.1:%%PORT_to_half_down%%;  smtp_relay_pass half_down; }
    server { listen 127.0.0.1:%%PORT_to_busy%%;       smtp_relay_pass one_busy; }
    server { listen 127.0.0.1:%%PORT_to_backup%%;     smtp_relay_pass backup; }
    server { listen 127.0.0.1:%%PORT_to_marked%%;     smtp_relay_pass marked; }
    server { listen 127.0.0.1:%%PORT_to_hashed%%;     smtp_relay_pass hashed; }
    server { listen 127.0.0.1:%%PORT_to_rejecting%%;  smtp_relay_pass rejecting; }
    server { listen 127.0.0.1:%%PORT_to_all_down%%;   smtp_relay_pass all_down; }
    server { listen 127.0.0.1:%%PORT_to_chosen%%;     smtp_relay_pass $chosen; }
    server { listen 127.0.0.1:%%PORT_to_literal%%;    smtp_relay_pass $literal; }
}
EOC

my @names = qw/ one two three /;

# in one session

my $c = $t->session('to_three');
like($c->message("$_\r\n"), qr/^250/, "message $_") for 1 .. 9;
is(join(' ', map { $nodes{$_}->count() } @names), '3 3 3',
   'messages of a session go round');

like($t->session('to_three')->message("x\r\n"), qr/^250/, 'message') for 1 .. 3;
is(join(' ', map { $nodes{$_}->count() } @names), '4 4 4',
   'and those of several sessions');

is_deeply(delivered('to_weights', 8), [6, 2, 0], 'weights');

# nodes that do not serve

is_deeply(delivered('to_half_down', 6), [6, 0, 0], 'a node that is down');
is_deeply(delivered('to_busy', 6), [0, 6, 0], 'a node that says 421');
is_deeply(delivered('to_backup', 2), [0, 0, 2], 'a backup');
is_deeply(delivered('to_marked', 2), [0, 2, 0], 'marked down');
is_deeply([ sort @{ delivered('to_hashed', 4) } ], [0, 0, 4], 'hash');
is_deeply(delivered('to_chosen', 3), [1, 1, 1], 'an upstream of a variable');
is_deeply(delivered('to_literal', 2), [0, 2, 0], 'an address of a variable');

ok((grep { my ($down, $one) = map { $t->port($_) } 'down', 'one';
           $_ eq "message 127.0.0.1:$down, 127.0.0.1:$one" }
    $t->lines('access.log')), 'log: the nodes that were tried');

$c = $t->session('to_all_down');
is(first_no($c), '451 4.4.1', 'no node of a group');
is(first_no($c), '451 4.4.1', 'again');

# a node that rejects is not one that fails

$c = $t->session('to_rejecting');

for (1 .. 3) {
    $c->must('MAIL FROM:<a@b.example>', '250');
    $c->try('RCPT TO:<c@d.example>', '550 5.1.1',
            'a rejection is not asked for at another node');
    $c->must('RSET', '250');
}

# a node that comes back

$nodes{two}->stop();
is(first_no($t->session('to_literal')), '451 4.4.1', 'the only node is stopped');
$nodes{two}->start();
is_deeply(delivered('to_literal', 1), [0, 1, 0], 'and serves again at once');

done_testing();


sub delivered {
    my ($port, $number) = @_;

    my @before = map { $nodes{$_}->count() } @names;
    my $c = $t->session($port);

    for (1 .. $number) {
        my $reply = $c->message("x\r\n");
        diag("$port: $reply") unless $reply =~ /^250/;
    }

    my @after = map { $nodes{$_}->count() } @names;
    return [ map { $after[$_] - $before[$_] } 0 .. $#names ];
}


# The code of the first reply that says no.

sub first_no {
    my ($c) = @_;

    for my $line ('MAIL FROM:<a@b.example>', 'RCPT TO:<c@d.example>') {
        my $reply = $c->ask($line);
        next if $reply =~ /^250/;

        $c->must('RSET', '250');
        return $reply =~ /^(\d+ \d+\.\d+\.\d+)/ ? $1 : $reply;
    }

    return 'none';
}
