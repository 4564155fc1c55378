# Zones of smtp_relay_auth_block: of all workers, kept across a reload, full.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $auth = $t->auth_service('auth', users => { user => 'secret' },
    answer => sub {
        my ($request) = @_;
        return unless $request->{headers}{'auth-user'} =~ /^slow/;
        return { act => { gate => 'slow', raw => "HTTP/1.1 200 OK\r\n"
                          . "Auth-Status: no\r\nContent-Length: 0\r\n\r\n" } };
    });

# what is wrong is told with its line

my @wrong = (
    ['smtp_relay_auth_block none failures=3 window=1m time=1m;',
     qr/"smtp_relay_auth_block": zone "none" is not defined in \S+:%/],
    ['smtp_relay_auth_block a failures=0 window=1m time=1m;',
     qr/"smtp_relay_auth_block" has an invalid parameter "failures=0" in \S+:%/],
    ['smtp_relay_auth_block a failures=256 window=1m time=1m;',
     qr/invalid parameter "failures=256" in \S+:%/],
    ['smtp_relay_auth_block a failures=x window=1m time=1m;',
     qr/invalid parameter "failures=x" in \S+:%/],
    ['smtp_relay_auth_block a failures=3 window=0 time=1m;',
     qr/invalid parameter "window=0" in \S+:%/],
    ['smtp_relay_auth_block a failures=3 window=1m time=1x;',
     qr/invalid parameter "time=1x" in \S+:%/],
    ['smtp_relay_auth_block a failures=3 failures=3 time=1m;',
     qr/invalid parameter "failures=3" in \S+:%/],
    ['smtp_relay_auth_block a failures=3 window=1m time=1m more;',
     qr/invalid number of arguments in "smtp_relay_auth_block" directive in \S+:%/],
    ['smtp_relay_auth_block a;',
     qr/"smtp_relay_auth_block" has no "failures=", "window=" and "time=" in \S+:%/],
    ['smtp_relay_auth_block a failures=3 window=1m time=1m; '
     . 'smtp_relay_auth_block a failures=5 window=1m time=1m;',
     qr/"smtp_relay_auth_block" directive is duplicate in \S+:%/],
    ['smtp_relay_auth_block off; '
     . 'smtp_relay_auth_block a failures=5 window=1m time=1m;',
     qr/"smtp_relay_auth_block" directive cannot be used with "off" on the same level in \S+:%/],
    ['smtp_relay_auth_block a failures=5 window=1m time=1m; '
     . 'smtp_relay_auth_block off;',
     qr/"smtp_relay_auth_block" directive is duplicate in \S+:%/],
    ['smtp_relay_auth_block_zone $remote_addr zone=a:1m;',
     qr/"smtp_relay_auth_block_zone": zone "a" is already defined in \S+:%/],
    ['smtp_relay_auth_block_zone $remote_addr zone=b:1k;',
     qr/"smtp_relay_auth_block_zone": zone "zone=b:1k" is too small in \S+:%/],
    ['smtp_relay_auth_block_zone $remote_addr b:1m;',
     qr/"smtp_relay_auth_block_zone" has an invalid parameter "b:1m" in \S+:%/],
    ['smtp_relay_auth_block_zone $no_such_variable zone=b:1m;',
     qr/unknown "no_such_variable" variable/],
    ['smtp_relay_auth_block_zone $remote_addr zone=b:1m failures=1 time=1m time=1m;',
     qr/"smtp_relay_auth_block_zone" has an invalid parameter "time=1m" in \S+:%/],
    ['smtp_relay_auth_block_zone $remote_addr zone=b:1m failures=1;',
     qr/invalid number of arguments in "smtp_relay_auth_block_zone" directive in \S+:%/],
);

for my $case (@wrong) {
    my ($line, $pattern) = @$case;

    my ($status, $said) = $t->check_conf(<<"EOC");
stream {
    smtp_relay_auth_block_zone  \$remote_addr  zone=a:1m;
    $line
    smtp_relay_auth  http://127.0.0.1:%%PORT_auth%%/;
    server { listen 127.0.0.1:%%PORT_smtp%%; smtp_relay_pass 127.0.0.1:1; smtp_relay_starttls off; }
}
EOC

    my $at = $t->{lines_before} + 3;
    (my $wanted = "$pattern") =~ s/%/$at\\b/;

    isnt($status, 0, "is refused: $line");
    like($said, qr/$wanted/, 'and it says why, and where');
}

unlink "$t->{dir}/error.log";

my $conf = <<'EOC';
worker_processes 4;

stream {
    access_log  off;

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;

    # one line is enough
    smtp_relay_auth_block_zone  $smtp_relay_user  zone=user:1m failures=5 window=5m time=15m;

    smtp_relay_auth_block_zone  $smtp_relay_user$server_port  zone=small:32k;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_small%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  small failures=2 window=5m time=15m;
    }

    server {
        listen                 127.0.0.1:%%PORT_off%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  off;
    }
}
EOC

$t->start($conf);

# four workers: one count

for my $n (1 .. 5) {
    like(login('smtp', 'one'), qr/^535/, "4 workers: failure $n");
}

like(login('smtp', 'one'), qr/^421 4\.7\.0/, "4 workers: attempt $_ is refused")
    for 1 .. 8;
like(login('off', 'one'), qr/^535/, 'where it is off it is off');

# what is asked at one time: no more verdicts than one after the other

my $before = requests();
my @clients = map { $t->greeted('smtp') } 1 .. 40;
$_->line('AUTH PLAIN ' . $_->plain('slow', 'x')) for @clients;
ok(wait_until { requests() == $before + 40 }, '40 attempts at one time');
$auth->open_gate('slow');
my %replies;
$replies{ substr $_->reply(), 0, 3 }++ for @clients;
is_deeply(\%replies, { 535 => 5, 421 => 35 },
          'no more than 5 of them find something out');
@clients = ();

is(scalar(() = $t->log_lines(qr/\[warn\].*logins are blocked.*"slow"/)), 1,
   'which is logged once');

# a reload

login('smtp', 'two') for 1 .. 4;
ok($t->reload(), 'a reload');
ok(wait_until { login('smtp', 'one') =~ /^421/ }, 'who was blocked still is');
like(login('smtp', 'two'), qr/^535/, 'the fifth failure after it');
like(login('smtp', 'two'), qr/^421/, 'is the fifth');

# a rule that needs to remember more

login('smtp', 'three') for 1 .. 4;
(my $more = $conf) =~ s/failures=5/failures=7/;
ok($t->reload($more), 'a reload with more failures');
wait_workers();
for my $n (5 .. 7) {
    like(login('smtp', 'three'), qr/^535/, "failure $n of 7");
}
like(login('smtp', 'three'), qr/^421/, 'one more is refused');
like(login('smtp', 'one'), qr/^421/, 'who was blocked still is');

# another key for a zone of that name: the reload fails, all goes on

(my $other = $conf) =~ s/\$smtp_relay_user  zone=user/\$remote_addr  zone=user/;
$t->conf($other);
kill 'HUP', $t->{pid};
ok($t->wait_log(qr/\[emerg\].*smtp_relay_auth_block_zone "user" uses the "\$remote_addr" key while previously it used the "\$smtp_relay_user" key/),
   'the key of a zone cannot be changed');
like(login('smtp', 'one'), qr/^421/, 'and the old configuration holds');
$t->reload($conf);
wait_workers();

# full: the ones that failed long ago go, the blocked ones stay

login('small', 'blocked') for 1 .. 2;
login('small', 'old');

my $c = $t->greeted('small');
for my $n (1 .. 600) {
    $c->must('AUTH PLAIN ' . $c->plain("u$n", 'x'), '535');
}

like(login('small', 'blocked'), qr/^421/, 'full: who is blocked still is');
like(login('small', 'old'), qr/^535/, 'full: who failed long ago');
like(login('small', 'old'), qr/^535/, 'is as good as new');
like(login('small', 'old'), qr/^421/, 'and is blocked in due course');

# a worker that was killed leaves nothing locked

kill 'KILL', ($t->workers())[0];
ok(wait_until { (() = $t->workers()) == 4 }, 'a worker is killed, and is back');
like(login('small', 'old'), qr/^421/, 'what was known is known');
$t->{expected_alerts} = qr/while previously it used|exited on signal 9/;

done_testing();


# Reply to AUTH in a session of its own.

sub login {
    my ($port, $user) = @_;

    my $c = $t->greeted($port);
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user, 'wrong'));
    $c->close();
    return $reply;
}

sub requests { return scalar(() = $auth->requests()) }

# Only workers of the last configuration are left.

sub wait_workers { return wait_until { (() = $t->workers()) == 4 } }
