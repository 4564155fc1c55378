# A worker that waits does nothing: whatever it waits for, and whatever else
# has come in the meantime, no event is told to it over and over. With an
# event method that tells of states, not of changes (poll, select), that takes
# care in each place.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ sleep /;

my @stages = qw/ connect EHLO MAIL RCPT DATA eod RSET /;

my $t = SMTPRelay::Test->new();
$t->node("at_$_", script => { $_ => ':silent' }) for @stages;
$t->node('full', script => { DATA => { hold => 'never' } });
$t->node('node');
$t->certificates('localhost');
$t->node('secure', tls => 'on', cert => $t->dir() . '/localhost');
$t->auth_service('auth', users => { user => 'secret' });
my $dumb = $t->auth_service('dumb', answer => sub { ':silent' });
$t->keys(user => 'secret');

my @nodes = ((map { "at_$_" } @stages), 'full', 'node');

my $conf = <<'EOC' . join('', map { <<"EOC" } @nodes) . <<'EOC';
worker_shutdown_timeout  100ms;

stream {
    smtp_relay_limit_msg_zone    $server_port  zone=slow:64k  rate=6r/m;
    smtp_relay_starttls          off;
    smtp_relay_max_message_size  0;
    ssl_certificate              localhost.crt;
    ssl_certificate_key          localhost.key;
EOC

    server {
        listen                127.0.0.1:%%PORT_to_$_%%;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:%%PORT_$_%%;
    }
EOC

    server {
        listen                 127.0.0.1:%%PORT_tls%%  ssl;
        smtp_relay_auth_file   keys;
        smtp_relay_pass        127.0.0.1:%%PORT_secure%%;
        smtp_relay_ssl         on;
        smtp_relay_ssl_verify  off;
    }

    server {
        listen           127.0.0.1:%%PORT_asks%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_auth%%/;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                     127.0.0.1:%%PORT_greets%%;
        smtp_relay_auth_file       keys;
        smtp_relay_greeting_delay  10s;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                         127.0.0.1:%%PORT_punishes%%;
        smtp_relay_auth_file           keys;
        smtp_relay_auth_failure_delay  10s;
        smtp_relay_pass                127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                127.0.0.1:%%PORT_slow%%;
        smtp_relay_auth_file  keys;
        smtp_relay_limit_msg  slow burst=20;
        smtp_relay_pass       127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_waits%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_dumb%%/;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $worker;

# that of the system, and those that tell of states, if nginx has them

for my $method ('', qw/ poll select /) {
    next if $method && SMTPRelay::Test::version() !~ /--with-${method}_module/;

    local $ENV{TEST_NGINX_EVENTS} = "use $method;" if $method;
    $t->start($conf);
    ($worker) = $t->workers();
    subtest($method || 'the default', \&wait_for_all);
    $t->stop();
}

done_testing();


sub wait_for_all {
    quiet('nobody is there');

    # a client that says nothing, at each step

    {
        my $c = $t->client('to_node');
        quiet('a client has connected');
        $c->expect('220');
        $c->must('EHLO a.example', '250');
        quiet('a client has greeted');
    }

    {
        my $c = $t->client('tls');
        quiet('a client does not begin with TLS');
    }

    {
        my $c = $t->session('tls', tls => 1);
        quiet('a client has logged in');
        is($c->message("one\r\n") =~ /^250/, 1, 'a message by TLS');
        quiet('a client has sent a message, its node is kept');
        $c->envelope('a@b.example', 'c@d.example');
        $c->must('DATA', '354');
        quiet('a client is to send content');
        $c->send("some of it\r\n");
        quiet('a client has sent some');
    }

    quiet('all have gone, the node is kept');

    {
        my $c = $t->session('asks');
        quiet('the connection to the auth service is kept');
    }

    quiet('and is when the session has ended');

    # a client that sends more than is wanted now, or its end, at each step

    for my $more ('', "NOOP\r\n", "NOOP\r\n" x 20000, 'end') {
        my $name = $more =~ /^(end|)$/ ? ($more || 'nothing more')
                                       : length($more) . ' octets more';

        my $asked = $dumb->connections();
        my $c = $t->client('waits');
        $c->expect('220');
        $c->must('EHLO a.example', '250');
        $c->send('AUTH PLAIN ' . $c->plain('user', 'secret') . "\r\n");
        ok((wait_until { $dumb->connections() > $asked }),
           'the service is asked');
        more($c, $more);
        quiet("the auth service is silent, $name");
        $c->close();

        $c = $t->client('greets');
        more($c, $more);
        quiet("the greeting is delayed, $name");
        $c->close();

        $c = $t->client('punishes');
        $c->expect('220');
        $c->must('EHLO a.example', '250');
        $c->send('AUTH PLAIN ' . $c->plain('user', 'guess') . "\r\n");
        more($c, $more);
        quiet("a refusal is delayed, $name");
        $c->close();

        $c = $t->session('slow');
        $c->send("MAIL FROM:<a\@b.example>\r\nRSET\r\n"
                 . "MAIL FROM:<a\@b.example>\r\n");
        my $replies = () = $c->drain(0.1) =~ /^/mg;
        cmp_ok($replies, '<', 3, "a message is held back, $name");
        more($c, $more);
        quiet("and while it is, $name");
        $c->close();

        for my $stage (@stages) {
            my $c = $t->session("to_at_$stage");
            $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\n");

            if ($stage =~ /^(?:eod|RSET)$/) {
                $c->expect('250') for 1, 2;
                $c->must('RSET', '250') if $stage eq 'RSET';
            }

            if ($stage eq 'eod') {
                $c->must('DATA', '354');
                $c->send("content\r\n.\r\n");
            }

            $c->send("DATA\r\n") if $stage eq 'DATA';

            more($c, $more);
            quiet("a node is silent at $stage, $name");
            $c->close();
        }
    }

    # content that a node does not take

    {
        my $c = $t->session('to_full');
        $c->envelope('a@b.example', 'c@d.example');
        $c->must('DATA', '354');
        cmp_ok($c->send_some('content' x 4_000_000, 0.3), '<', 28_000_000,
               'content is not taken');
        quiet('a node does not read');
    }

    return;
}


sub more {
    my ($c, $more) = @_;

    $more eq 'end' ? $c->shut_write() : $c->send_some($more, 0.1);
    return;
}

# What a worker does in a while is next to nothing; one that does not wait
# takes all the time that there is.

sub quiet {
    my ($name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    # what has to be done is done first
    my $used;
    wait_until { my $was = used(); sleep(0.03); ($used = used()) == $was } 2;

    sleep(0.1);
    cmp_ok(used() - $used, '<', 20, "$name: worker's milliseconds of 100");
    return;
}

sub used {
    return (split ' ', slurp("/proc/$worker/schedstat"))[0] / 1e6;
}
