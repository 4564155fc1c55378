# smtp_relay_limit_conn: sessions at one time, by the client's address and by
# the account, over four workers.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new(
    expected_alerts => qr/worker process \d+ exited on signal 9/);
my $node = $t->node('node');
$t->keys(map { $_ => 'secret' } qw/ user alice bob carol /);
$t->certificates();

my $conf = <<'EOC';
worker_processes  4;

stream {
    log_format  line  "$smtp_relay_event $status $smtp_relay_limit";
    access_log  access.log  line;

    smtp_relay_limit_conn_zone  $proxy_protocol_addr  zone=address:64k;
    smtp_relay_limit_conn_zone  $smtp_relay_account   zone=account:64k;
    smtp_relay_limit_conn_zone  all                   zone=all:256k;

    map $smtp_relay_account $group {
        ""       "";
        default  group;
    }

    smtp_relay_limit_conn_zone  $group  zone=group:64k;

    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    ssl_certificate        localhost.crt;
    ssl_certificate_key    localhost.key;

    server {
        listen                 127.0.0.1:%%PORT_both%% proxy_protocol;
        smtp_relay_limit_conn  address  5;
        smtp_relay_limit_conn  account  3;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_account%%;
        smtp_relay_limit_conn  account  3;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_group%%;
        smtp_relay_limit_conn  group  2;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_all%%;
        smtp_relay_limit_conn  all  100;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_delay%%;
        smtp_relay_limit_conn  all  100;
        smtp_relay_greeting_delay  60s;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_tls%%;
        smtp_relay_starttls    on;
        smtp_relay_limit_conn  account  3;
        smtp_relay_limit_conn  all      100;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_dry%% proxy_protocol;
        smtp_relay_limit_conn  address  1;
        smtp_relay_limit_conn  account  1;
        smtp_relay_limit_dry_run    on;
        smtp_relay_limit_log_level  notice;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }
}
EOC

$t->start($conf);

my $many = qr/\A421 4\.7\.0 relay\.example Too many connections, the limit is /;

# by address: before the greeting

my @c = map { from('both', '192.0.2.1') } 1 .. 5;
greeted($_, 'within the limit of the address') for @c;

my $c = from('both', '192.0.2.1');
$c->expect(qr/${many}5 at one time, try again when one has ended\z/,
           'one more is refused instead of greeted');
$c->expect_closed('and closed');
ok($t->wait_log(qr/\[error\].*limiting connections by zone "address", limit: 5/),
   'a line in the log');

greeted(from('both', '192.0.2.2'), 'another address');

leave(shift @c);
push @c, from('both', '192.0.2.1');
greeted($c[-1], 'the place of one that has ended is free');

ok(wait_until { grep { $_ eq 'session 503 address' } $t->lines('access.log') },
   'status and limit of the refused session');
leave(splice @c);

# by account: instead of 235

my @alice = map { login('account', 'alice') } 1 .. 3;
$c = greeted($t->client('account'));
$c->try('AUTH PLAIN ' . $c->plain('alice', 'secret'),
        qr/${many}3 at one time/, 'one login too many');
$c->expect_closed('is closed');
ok(wait_until { grep { $_ eq 'session 503 account' } $t->lines('access.log') },
   'status and limit of that session');

my $bob = login('account', 'bob');
pass('another account');

like($alice[0]->message("x\r\n"), qr/^250/, 'those within the limit go on');
$alice[0]->must('RSET', '250');

# the account's places are the same whatever server it comes to

$c = greeted(from('both', '192.0.2.9'));
$c->try('AUTH PLAIN ' . $c->plain('alice', 'secret'), $many,
        'the zone is one for all servers');

# however a session ends, its place is free

my %ends = (
    QUIT => sub { $_[0]->must('QUIT', '221'); },
    close => sub { $_[0]->close() },
    reset => sub { $_[0]->reset() },
    'a broken command' => sub { $_[0]->must('BDAT x', '501') },
    'too many errors' => sub { $_[0]->line('FOO') for 1 .. 11;
                               $_[0]->drain(1) },
    'a message in the middle' => sub {
        $_[0]->envelope('a@b.example', 'c@d.example');
        $_[0]->must('DATA', '354');
        $_[0]->send("half");
        $_[0]->close();
    },
);

for my $end (sort keys %ends) {
    my $first = shift @alice;
    $ends{$end}->($first);
    $first->close();
    push @alice, login_when('account', 'alice');
    ok($alice[-1], "its place is free after $end");
}

leave(@alice);

# a "map" of what AUTH tells

my @group = map { login('group', $_) } qw/ alice bob /;
$c = greeted($t->client('group'));
$c->try('AUTH PLAIN ' . $c->plain('carol', 'secret'), $many,
        'a mapped key is evaluated anew after AUTH');
leave(@group);

# sessions that are not greeted yet, and those of TLS

@c = map { $t->client('delay') } 1 .. 60;
push @c, map { greeted($t->client('all')) } 1 .. 39;
is(state_of('all', 2), 1, 'a session in the greeting delay counts');

my $tls = $t->client('tls');
$tls->must(undef, '220');
$tls->must('EHLO client.example', '250');
like($t->client('tls')->reply(), $many, 'with it all places are taken');
$tls->must('STARTTLS', '220');
$tls->start_tls();
$tls->try('EHLO client.example', '250', 'STARTTLS keeps the place');
like($t->client('tls')->reply(), $many, 'and takes no other');
leave($tls);
ok(wait_until { state_of('all') == 1 }, 'it is given back once');
leave(splice @c);

# a login before TLS is forgotten with it, and its place free

@alice = map { login('tls', 'alice') } 1 .. 3;
$alice[0]->must('STARTTLS', '220');
$alice[0]->start_tls();
ok($alice[3] = login_when('account', 'alice'), 'a place is free after STARTTLS');
$alice[0]->must('EHLO client.example', '250');
$alice[0]->try('AUTH PLAIN ' . $alice[0]->plain('alice', 'secret'), $many,
               'which the same client has to ask for again');
leave(splice @alice);

# dry run

@c = map { from('dry', '192.0.2.3') } 1 .. 3;
greeted($_, 'dry run: greeted') for @c;
$_->login('carol', 'secret') for @c;
ok($t->wait_log(qr/\[notice\].*limiting connections, dry run, by zone "address"/),
   'dry run: logged at the level of smtp_relay_limit_log_level');
leave(splice @c);

# hundreds at one time: exactly the number

@c = map { $t->client('all') } 1 .. 300;
is(scalar(grep { $_->reply() =~ /^220/ } @c), 100,
   '100 of 300 clients at one time are greeted');
my @open = grep { $_->is_silent(0) } @c;
is(scalar @open, 100, 'and stay');
is(lines_per_second(qr/by zone "all"/), 1, 'one line in a second');

$_->must('QUIT', '221') for @open[0 .. 39];
$_->expect_closed() for splice @open, 0, 40;
is(state_of('all', 60), 40, '40 end: 40 others are greeted');
leave(@open, splice @c);
ok(wait_until { state_of('all', 3) == 3 }, 'all have ended');

# reload: old sessions count on, and free their places

my @old = map { greeted($t->client('all')) } 1 .. 30;
$_->login() for @old;
$_->envelope('a@b.example', 'c@d.example') for @old;

$t->reload($conf);
ok(wait_until { state_of('all', 100) == 70 },
   'reload: sessions of old workers count');
$c = shift @old;
$c->must('DATA', '354');
$c->send("x\r\n.\r\n");
$c->expect('250', 'reload: a message of an old worker');
$_->close() for splice @old;
ok(wait_until { state_of('all', 101) == 100 },
   'reload: their places are free when they end');

# kill -9: what a worker held is free

@c = map { greeted($t->client('all')) } 1 .. 100;
my %worker = map { $_ => 0 } $t->workers();
my @started = map { / (\d+)#\d+: / } $t->log_lines(qr/session started/);
$worker{$_}++ for grep { exists $worker{$_} } @started[-100 .. -1];
my ($victim) = sort { $worker{$b} <=> $worker{$a} } keys %worker;
kill 'KILL', $victim;

my $alive;
ok(wait_until {
    grep { !exists $worker{$_} } $t->workers()
}, 'kill: a new worker');
$alive = grep { $_->is_silent(0) } @c;
cmp_ok($alive, '<', 100, 'kill: sessions of the worker are gone');
ok($t->wait_log(qr/sessions of worker $victim, which is gone, do not count/),
   'kill: which is told in the log');
is(state_of('all', 120), 100 - $alive, 'kill: their places are free, no more');
$_->close() for @c;
ok(wait_until { state_of('all', 101) == 100 }, 'kill: all places are there');

done_testing();


sub from {
    my ($port, $address) = @_;

    my $client = $t->client($port);
    $client->send("PROXY TCP4 $address 192.0.2.99 1234 25\r\n");
    return $client;
}

sub greeted {
    my ($client, $name) = @_;

    if ($name) {
        $client->expect('220', $name);
    } else {
        $client->must(undef, '220');
    }

    $client->must('EHLO client.example', '250');
    return $client;
}

sub login {
    my ($port, $user) = @_;
    return greeted($t->client($port))->login($user, 'secret');
}

# When a session is closed the worker does not know at once.

sub login_when {
    my ($port, $user) = @_;

    return wait_until {
        my $client = greeted($t->client($port));
        $client->ask('AUTH PLAIN ' . $client->plain($user, 'secret')) =~ /^235/
            && $client;
    };
}

# Sessions end in due form: when the connection is closed their places are
# free.

sub leave {
    for my $client (@_) {
        next unless $client->{socket};
        $client->send("QUIT\r\n");
        $client->drain();
        $client->close();
    }
}

# How many of so many clients are greeted; all of them leave.

sub state_of {
    my ($port, $number) = @_;

    my @clients = map { $t->client($port) } 1 .. ($number // 1);
    my $greeted = grep { $_->reply() =~ /^220/ } @clients;

    leave(@clients);
    return $greeted;
}

# The highest number of lines of the log with the same second.

sub lines_per_second {
    my ($pattern) = @_;

    my %lines;
    $lines{substr $_, 0, 19}++ for $t->log_lines($pattern);
    my ($most) = sort { $b <=> $a } values %lines;
    return $most;
}
