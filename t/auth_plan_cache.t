# Plans from the cache: the same as from the service, and checked anew.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $other = $t->node('other');

my %plans = (
    whole => { 'Auth-Status' => 'OK', 'Auth-Account' => 'customer-7',
               'Auth-Max-Size' => '2k', 'Auth-Max-Recipients' => 2,
               'Auth-Senders' => 'example.com, a@b.example',
               'Auth-Limit-Msg' => '100r/s', 'Auth-Upstream' => 'others' },
    broken => { 'Auth-Status' => 'OK', 'Auth-Max-Size' => 'big' },
);

my $auth = $t->auth_service('auth', answer => sub {
    return $plans{ $_[0]->{headers}{'auth-user'} };
});

my $conf = <<'EOC';
stream {
    log_format  source  "$smtp_relay_event $smtp_relay_auth_source";
    access_log  access.log  source;

    upstream others {
        server  127.0.0.1:%%PORT_other%%;
    }

    smtp_relay_auth_cache_zone  zone=keys:1m;

    server {
        listen                         127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls            off;
        smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
        smtp_relay_auth_cache          keys valid=10m invalid=10m;
        smtp_relay_auth_failure_delay  0;
        smtp_relay_pass                127.0.0.1:%%PORT_node%%;
    }
}
EOC

$t->start($conf);

for my $from (qw/ service cache /) {
    my $c = $t->session('smtp', user => 'whole');
    my $offered = $c->ask('EHLO client.example');

    like($offered, qr/^250.SIZE 2048$/m, "from $from: SIZE");
    like($offered, qr/^250.LIMITS RCPTMAX=2$/m, "from $from: RCPTMAX");
    $c->try('MAIL FROM:<a@c.example>', '550 5.7.1', "from $from: senders");
    like($c->message("x\r\n", 'a@b.example'), qr/^250/, "from $from: a message");
    $c->must('QUIT', '221');
    is(requests(), 1, "from $from: the service was asked once");
}

is($other->count(), 2, 'both went where the plan says');
is_deeply([ grep { /^session/ } $t->wait_lines('access.log', 4) ],
          ['session service', 'session cache'], 'log: where it came from');

# what could not be understood is asked again

for my $n (1, 2) {
    my $c = $t->greeted('smtp');
    $c->try('AUTH PLAIN ' . $c->plain('broken', 'x'), '454 4.7.0',
            "a plan that cannot be understood, $n");
    is(requests(), 1 + $n, 'is not kept');
}

# a group that is gone

$conf =~ s/upstream others/upstream renamed/;
my ($worker) = $t->workers();
ok($t->reload($conf), 'a reload');
ok(wait_until { !grep { $_ == $worker } $t->workers() }, 'the old one is gone');

my $c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . $c->plain('whole', 'secret'), '454 4.7.0',
        'a group that is not there any more');
is(requests(), 3, 'as the cache has it');
ok($t->wait_log(qr/\[error\].*auth service sent unknown Auth-Upstream "others"/),
   'which is logged');

done_testing();


sub requests { return scalar(() = $auth->requests()) }
