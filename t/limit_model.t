# Random events in sessions, workers killed and configurations reloaded among
# them, and a model of what limits count: every decision and, after every
# event, every number is that of the model.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Status;

my $STEPS = $ENV{TEST_LIMIT_STEPS} || 400;
my $SEED = $ENV{TEST_LIMIT_SEED} || int(rand(1000000));

my $t = SMTPRelay::Test->new(
    expected_alerts => qr/worker process \d+ exited on signal 9/);
$t->node('node', keep => 0);

my @accounts = qw/ alice bob carol /;
my @addresses = map { "192.0.2.$_" } 1 .. 3;
$t->keys(map { $_ => 'secret' } @accounts);

my $conf = <<'EOC';
worker_processes  4;

http {
    access_log  off;
    server {
        listen  127.0.0.1:%%PORT_http%%;
        location = /status { smtp_relay_status json; }
    }
}

stream {
    smtp_relay_status_zone  status:1m;

    smtp_relay_limit_conn_zone  $proxy_protocol_addr  zone=address:64k;
    smtp_relay_limit_conn_zone  $smtp_relay_account   zone=account:64k;
    smtp_relay_limit_msg_zone   $smtp_relay_account   zone=mail:64k  rate=15r/d;
    smtp_relay_limit_msg_zone   $proxy_protocol_addr  zone=post:64k  rate=18r/d;
    smtp_relay_limit_rcpt_zone  $smtp_relay_account   zone=rcpt:64k  rate=8r/d;

    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;

    server {
        listen                 127.0.0.1:%%PORT_smtp%% proxy_protocol;
        smtp_relay_limit_conn  address  6;
        smtp_relay_limit_conn  account  4;
        smtp_relay_limit_msg   mail;
        smtp_relay_limit_msg   post;
        smtp_relay_limit_rcpt  rcpt;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }
}
EOC

plan(skip_all => 'nginx without http') if SMTPRelay::Test::version() =~ /without-http\b/;

$t->start($conf);
my $status = SMTPRelay::Status->new(port => $t->port('http'));

my %max = (address => 6, account => 4, mail => 15, post => 18, rcpt => 8);
my %count;      # zone and key: what counts now
my %stat = map { $_ => { passed => 0, refused => 0 } } keys %max;
my @sessions;   # client, address, account, open (a message)
my $wrong = '';

my @events = (
    [ 30, \&connects ], [ 25, \&logs_in ], [ 40, \&sends ], [ 10, \&quits ],
    [ 6, \&vanishes ], [ 1, \&is_killed ], [ 1, \&reloads ],
);
my @choice = map { my ($n, $code) = @$_; ($code) x $n } @events;

srand $SEED;
my (%done, $steps);

for $steps (1 .. $STEPS) {
    my $event = $choice[rand @choice];
    my $what = eval { $event->() };
    $wrong = "died: $@" if $@;
    $done{ (split ' ', $what)[0] }++ if $what;
    $wrong ||= same();

    if ($wrong) {
        fail("step $steps, $what: as the model says");
        diag("TEST_LIMIT_SEED=$SEED: $wrong");
        last;
    }
}

ok(!$wrong, "$STEPS random events, each as the model says (seed $SEED)");
note(join ', ', map { "$_: $done{$_}" } sort keys %done);

my @left = @sessions;
$_->{client}->close() for @left;
ends($_) for @left;
is(same(), '', 'nothing is left in the end');

done_testing();


# --- events ------------------------------------------------------------------

sub connects {
    my $address = $addresses[rand @addresses];
    my $client = $t->client('smtp');
    $client->send("PROXY TCP4 $address 192.0.2.99 1234 25\r\n");
    my $reply = $client->reply();

    if (takes(address => $address)) {
        $wrong = "greeting: $reply" if $reply !~ /^220/;
        $client->must('EHLO client.example', '250');
        push @sessions, { client => $client, address => $address };
        return "connects from $address";
    }

    $wrong = "greeting: $reply" if $reply !~ /^421 4\.7\.0/;
    return "refused: $address";
}

sub logs_in {
    my ($session) = some(sub { !$_[0]{account} }) or return;
    my $account = $accounts[rand @accounts];
    my $client = $session->{client};
    my $reply = $client->ask('AUTH PLAIN ' . $client->plain($account, 'secret'));

    if (takes(account => $account)) {
        $wrong = "AUTH: $reply" if $reply !~ /^235/;
        $session->{account} = $account;
        return "login: $account";
    }

    $wrong = "AUTH: $reply" if $reply !~ /^421 4\.7\.0/;
    ends($session);
    return "refused-login: $account";
}

sub sends {
    my ($session) = some(sub { $_[0]{account} }) or return;
    my $client = $session->{client};
    my $account = $session->{account};

    if (!$session->{open}) {
        my $reply = $client->ask('MAIL FROM:<a@b.example>');
        my $full = $count{"mail $account"} // 0;

        # both are asked, none counts if one refuses

        if ($full >= $max{mail}) {
            $stat{mail}{refused}++;
        } elsif (takes(post => $session->{address})) {
            takes(mail => $account);
            $session->{open} = 1;
        }

        my $expected = $session->{open} ? 250 : 452;
        $wrong = "MAIL: $reply" if $reply !~ /^$expected/;
        return $session->{open} ? 'mail' : 'refused-mail';
    }

    if (rand() < 0.4) {
        $client->must('RSET', '250');
        $session->{open} = 0;
        return 'rset';
    }

    my $reply = $client->ask('RCPT TO:<c@d.example>');
    my $expected = takes(rcpt => $account) ? 250 : 452;
    $wrong = "RCPT: $reply" if $reply !~ /^$expected/;
    return $expected == 250 ? 'rcpt' : 'refused-rcpt';
}

sub quits {
    my ($session) = some() or return;
    $session->{client}->must('QUIT', '221');
    $session->{client}->state();
    ends($session);
    return 'quit';
}

sub vanishes {
    my ($session) = some() or return;
    my $how = rand() < 0.5 ? 'close' : 'reset';
    $session->{client}->$how();
    ends($session);
    return $how;
}

sub is_killed {
    my @workers = $t->workers();
    my %old = map { $_ => 1 } @workers;
    my $victim = $workers[rand @workers];
    kill 'KILL', $victim;

    wait_until {
        my @now = $t->workers();
        !(grep { $_ == $victim } @now) && grep { !$old{$_} } @now
    } or $wrong = 'no new worker';

    for my $session (@sessions) {
        my $reply = $session->{client}->ask('NOOP');
        $session->{dead} = 1 if $reply !~ /^250/;
    }

    ends($_) for my @dead = grep { $_->{dead} } @sessions;
    return 'kill';
}

sub reloads {
    my %old = map { $_ => 1 } $t->workers();
    $t->reload($conf) or $wrong = 'no new worker';

    # sessions in a message go on, others are told

    for my $session (@sessions) {
        next if $session->{open};
        my $reply = $session->{client}->reply();
        $wrong = "reload: $reply" if $reply !~ /^421 4\.3\.2/;
        $session->{client}->state();
        $session->{dead} = 1;
    }

    ends($_) for my @dead = grep { $_->{dead} } @sessions;

    # ... until it is over

    for my $session (@sessions) {
        $session->{client}->must('RCPT TO:<x@d.example>', qr/^(250|452)/)
            =~ /^250/ ? takes(rcpt => $session->{account})
                      : refuses(rcpt => $session->{account});
        $session->{client}->must('RSET', '250');
        $session->{client}->must(undef, '421');
        $session->{client}->state();
        $session->{dead} = 1;
    }

    ends($_) for @dead = grep { $_->{dead} } @sessions;
    wait_until { !grep { $old{$_} } $t->workers() };
    return 'reload';
}

# --- the model ---------------------------------------------------------------

sub some {
    my ($wanted) = @_;

    my @some = grep { !$wanted || $wanted->($_) } @sessions;
    return @some ? $some[rand @some] : ();
}

sub takes {
    my ($zone, $key) = @_;

    if (($count{"$zone $key"} // 0) >= $max{$zone}) {
        $stat{$zone}{refused}++;
        return 0;
    }

    $count{"$zone $key"}++;
    $stat{$zone}{passed}++;
    return 1;
}

sub refuses {
    my ($zone, $key) = @_;
    $wrong = "$zone: refused too early" if ($count{"$zone $key"} // 0) < $max{$zone};
    $stat{$zone}{refused}++;
}

sub ends {
    my ($session) = @_;

    $count{"address $session->{address}"}--;
    $count{"account $session->{account}"}-- if $session->{account};
    @sessions = grep { $_ != $session } @sessions;
}

# What differs between the relay and the model, once the relay has noticed
# all that has happened.

sub same {
    my $differs = '';

    wait_until {
        my $limits = eval { $status->json()->{limits} } or return 0;
        $differs = '';

        for my $limit (@$limits) {
            my $zone = $limit->{zone};
            my $held = 0;

            if ($limit->{kind} eq 'conn') {
                $held += $_ for map { $count{$_} } grep { /^$zone / } keys %count;
            }

            my %expected = (%{ $stat{$zone} }, held => $held, delayed => 0,
                            full => 0, evicted => 0);

            for my $name (sort keys %expected) {
                next if $limit->{$name} == $expected{$name};
                $differs .= " $zone.$name: $limit->{$name}, not $expected{$name};";
            }
        }

        $differs .= ' zones?' if @$limits != keys %max;
        $differs eq ''
    } 5;

    return $differs;
}
