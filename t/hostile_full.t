# What there is too little of: descriptors, connections of a worker, room for
# logs, room in zones.  Clients are told so or closed, nothing is lost that
# was acknowledged, and when there is enough again all is as before.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ time /;

my %servers = (

    # few descriptors: some are left for nodes when all clients are there,
    # or none
    files => { globals => 'worker_rlimit_nofile 60;', connections => 200 },

    # few connections
    connections => { globals => '', connections => 40 },
);

# --- descriptors, connections ------------------------------------------------

for my $what (sort keys %servers) {
    my $t = SMTPRelay::Test->new(
        connections => $servers{$what}{connections},
        expected_alerts => qr/Too\ many\ open\ files
                              |worker_connections\ are\ not\ enough/x);

    my $node = $t->node('node');
    my $auth = $t->auth_service('auth', users => { user => 'secret' });

    $t->start($servers{$what}{globals} . <<'EOC');
stream {
    log_format  line  '$smtp_relay_event $smtp_relay_message_status';
    access_log  access.log  line;

    smtp_relay_hostname   relay.example;
    smtp_relay_starttls   off;
    smtp_relay_auth       http://127.0.0.1:%%PORT_auth%%/;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

    my $first = $t->session('smtp');
    like($first->message("text\r\n"), qr/^250/, "$what: a message");

    my $files = files($t);
    my $accepted = 1;

    for my $round (1, 2) {
        my @in;

        # more clients than there can be; those that are let in are greeted,
        # all others closed without a word

        push @in, $t->client('smtp') for 1 .. 90;

        my @greeted;
        my $patience = 0.5;

        for my $c (@in) {
            my $reply = $c->reply($patience);

            if ($reply =~ /^220 relay\.example/) {
                push @greeted, $c;

            } elsif ($reply eq '(silence)') {

                # it waits to be accepted, as all behind it do
                $patience = 0.01;

            } elsif ($reply !~ /^(?:421 4|\((?:closed|reset)\)$)/) {
                fail("$what: $reply");
            }
        }

        cmp_ok(scalar @greeted, '>', 10, "$what, round $round: some are let in");
        cmp_ok(scalar @greeted, '<', 90, 'not all of them');

        # who is in is answered: with no connection to the service or to a
        # node to be had, for now

        my %replies;
        my @begun;

        for my $c (@greeted) {
            my $reply;

            for my $line ('EHLO a.example',
                          'AUTH PLAIN ' . $c->plain('user', 'secret'),
                          'MAIL FROM:<a@b.example>', 'RCPT TO:<c@d.example>')
            {
                $reply = $c->ask($line);
                last if $reply !~ /^2/;
            }

            if ($reply =~ /^2/) {
                push @begun, $c;

            } else {
                $replies{ substr $reply, 0, 9 }++;
            }
        }

        for my $c (@begun) {
            my $reply = $c->ask('DATA');

            if ($reply =~ /^354/) {
                $c->send("text\r\n.\r\n");
                $reply = $c->reply();
                $accepted++ if $reply =~ /^250/;
            }

            $replies{ substr $reply, 0, 9 }++;
        }

        cmp_ok($replies{'250 2.0.0'} // 0, '>', 0, 'some have a node');
        cmp_ok($replies{'451 4.4.1'} // 0, '>', 0, 'some do not, and are told');
        is(join(' ', grep { !/^(?:250 2\.0\.0|451 4\.4\.1|454 4\.7\.0|421 4)/ }
                     sort keys %replies), '', 'and answered properly');
        note(join ', ', map { "$_: $replies{$_}" } sort keys %replies);
        like($first->ask('NOOP'), qr/^250/, 'a session from before goes on');

        # those that wait to be accepted are when the others have gone

        my %in = map { $_ => 1 } @greeted;
        my @waiting = grep { !$in{$_} } @in;

        $_->close() for @greeted;

        for my $c (@waiting) {
            my $reply = $c->reply(5);
            next if $reply =~ /^(?:220|\((?:closed|reset)\))/;
            fail("$what: who had to wait is told $reply");
        }

        $_->close() for @waiting;

        ok((wait_until { files($t) <= $files + 16 }),
           "$what, round $round: then all is free again")
            or diag(files($t), ", not $files");

        my $recovered = wait_until {
            my $c = $t->client('smtp');
            my $ok = $c->reply(1) =~ /^220/
                     && $c->ask('EHLO a') =~ /^250/
                     && $c->ask('AUTH PLAIN ' . $c->plain('user', 'secret'))
                        =~ /^235/
                     && $c->message("text\r\n") =~ /^250/;

            $accepted++ if $ok;
            $c->close();
            $ok;
        };

        ok($recovered, 'and a message is delivered');
    }

    like($first->message("text\r\n"), qr/^250/, "$what: a message of the first");
    is($node->count(), $accepted + 1, 'each acknowledged one is delivered once');
    is(scalar($t->workers()), 1, 'by one and the same worker');

    $t->stop();
    is(scalar(grep { /^message 250/ } $t->lines('access.log')), $accepted + 1,
       'and logged');
    $t->_check_logs();
}

# --- logs --------------------------------------------------------------------

SKIP: {
    skip('no /dev/full', 8) unless -c '/dev/full';

    my $t = SMTPRelay::Test->new();
    my $node = $t->node('node');
    $t->keys(user => 'secret');

    $t->start(<<'EOC', log_level => 'debug');
stream {
    log_format  line  '$smtp_relay_event $smtp_relay_mail_from';
    access_log  /dev/full  line;
    access_log  /dev/full  line  buffer=32k flush=1s;
    access_log  good.log  line;
    error_log   /dev/full  info;

    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

    my @c = map { $t->session('smtp') } 1 .. 5;
    my @workers = $t->workers();
    my $start = time();
    my $good = 0;

    for my $n (1 .. 40) {
        for my $c (@c) {
            $good++ if $c->message("text\r\n", "m$n\@b.example") =~ /^250/;
        }
    }

    is($good, 200, 'logs on a full disk: messages flow');
    is($node->count(), 200, 'each is delivered');
    is(scalar(grep { /^message/ } $t->wait_lines('good.log', 200)), 200,
       'a log that has room has all of them');

    # the level is info: whatever a client does is to be written

    for my $octets ("\0\r\n", "GET / HTTP/1.1\r\n", 'x' x 5000 . "\r\n") {
        my $c = $t->greeted('smtp');
        $c->send($octets);
        $c->reply();
        $c->close();
    }

    kill 'USR1', $t->{pid};
    $c[0]->try('NOOP', '250', 'logs are reopened');
    $t->reload();
    ok((wait_until { my $c = eval { $t->session('smtp') };
                     $c && $c->message("text\r\n") =~ /^250/ }),
       'a reload');
    $_->close() for @c;
    $t->stop();
    is($t->{exit_status} // 0, 0, 'nginx ends well');

    my @alerts = $t->log_lines(qr/\[(?:alert|crit|emerg)\]/);
    is(join("\n", grep { !/\/dev\/full" failed \(28: No space/ } @alerts), '',
       'what is wrong with the log is all that is');
    cmp_ok(scalar @alerts, '<', 50, 'and that is not said all the time');
    $t->{expected_alerts} = qr/No space left on device/;
}

# --- zones -------------------------------------------------------------------

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');

# a user who is called ...no has a wrong secret

my $auth = $t->auth_service('auth', answer => sub {
    my ($user) = $_[0]{headers}{'auth-user'};
    return { 'Auth-Status' => $user =~ /no$/ ? 'No' : 'OK',
             'Auth-Account' => "$user-" . 'x' x 200 };
});

$t->start(<<'EOC', log_level => 'warn');
worker_processes  2;

stream {
    log_format  line  '$smtp_relay_event $smtp_relay_user $smtp_relay_account';
    access_log  access.log  line;

    smtp_relay_auth_cache_zone  zone=cache:32k;
    smtp_relay_auth_block_zone  $smtp_relay_user  zone=block:32k;
    smtp_relay_limit_conn_zone  $smtp_relay_account  zone=conn:32k;
    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=msg:32k  rate=1r/h;
    smtp_relay_limit_rcpt_zone  $smtp_relay_mail_from  zone=rcpt:32k
                                rate=100000r/s;

    smtp_relay_starttls            off;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_cache          cache  valid=1m invalid=1m;
    smtp_relay_auth_block          block  failures=2 window=1m time=1m;
    smtp_relay_limit_conn          conn  5;
    smtp_relay_limit_msg           msg   burst=2 nodelay;
    smtp_relay_limit_rcpt          rcpt;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

my ($bad, $delivered) = ('', 0);

for my $n (1 .. 500) {
    my $user = "user$n" . ($n % 3 ? '' : 'no');
    my $c = $t->greeted('smtp');
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user, 'secret'));

    if ($n % 3 == 0) {
        $bad .= "$user: $reply\n" if $reply !~ /^535/;
        $c->close();
        next;
    }

    $reply = $c->message("text\r\n", "$user\@b.example") if $reply =~ /^235/;
    $delivered++ if $reply =~ /^250/;
    $bad .= "$user: $reply\n" if $reply !~ /^250/;
    $c->close();
}

is($bad, '', 'full zones: every login and message is answered as it has to be');
is($node->count(), $delivered, 'each message is delivered once');
is(join("\n", grep { /^message (\S+) / && !/^message (\S+) \1-x+$/ }
              $t->lines('access.log')), '',
   'nobody has the account of somebody else');

# who is known lately still is, in zones of which others are thrown out

my $c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . $c->plain('user500', 'secret'), '235',
        'the last login is served');
$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . $c->plain('user500', 'wrong'), '235',
        'the service decides about another secret');
cmp_ok(scalar($t->lines('error.log')), '<', 600,
       'full zones are not all that the log is about');

done_testing();


sub files {
    my ($with) = @_;

    my ($worker) = $with->workers();
    return scalar(() = glob "/proc/$worker/fd/*");
}
