# Each allocation fails once while the status is asked for, and while counters
# are looked for: the answer is whole or an error, and counting goes on.
#
# Takes an nginx built with t/fault (t/tools/build.sh, FAULT=1).

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Fault;
use SMTPRelay::Status;

use JSON::PP ();

my ($first, $last) = module_range(SMTPRelay::Test::binary());

plan(skip_all => 'nginx is not built with t/fault') unless $first;

my $t = SMTPRelay::Test->new();
my $fault = $t->dir() . '/fault';
spew($fault, pack 'LLQQ', 0, 0, $first, $last);
chmod 0666, $fault;

$t->node('one');
$t->keys(user => 'secret');

my $conf = <<'EOC';
env SMTP_RELAY_FAULT=%%TESTDIR%%/fault;

stream {
    smtp_relay_status_zone      status:256k;
    smtp_relay_limit_conn_zone  $remote_addr  zone=sessions:64k;
    smtp_relay_starttls         off;
    smtp_relay_auth_file        keys;

    upstream nodes {
        zone    nodes 64k;
        server  127.0.0.1:%%PORT_one%%;
        server  127.0.0.1:1 backup;
    }

    server {
        listen                 127.0.0.1:%%PORT_smtp%%;
        smtp_relay_limit_conn  sessions  10;
        smtp_relay_pass        nodes;
    }
}

http {
    access_log off;

    server {
        listen           127.0.0.1:%%PORT_http%%;
        location /status { smtp_relay_status; }
    }
}
EOC

$t->start($conf);

my $s = SMTPRelay::Status->new(port => $t->port('http'));
my ($worker) = $t->workers();

for my $type (qw( application/json text/plain text/html )) {
    my ($n, $whole, @wrong) = (0, 0);

    for (;;) {
        set_fault(++$n);
        my $reply = $s->get('/status', Accept => $type);
        my $fired = fired();
        set_fault(0);

        my $code = $reply->{code} // 'none';

        if ($code eq '200') {
            $whole++;
            push @wrong, "$n: cut" if length $reply->{body}
                                      != $reply->{headers}{'content-length'};
            push @wrong, "$n: no JSON"
                if $type =~ /json/
                   && !eval { JSON::PP->new->decode($reply->{body}) };

        } elsif ($code ne '500') {
            push @wrong, "$n: $code";
        }

        last if !$fired || $n > 1000;
    }

    cmp_ok($n, '>', 1, "$type: allocations fail one by one: $n");
    cmp_ok($whole, '>', 0, "$type: one reply is whole");
    is(join("\n", @wrong), '', "$type: or it is an error");
}

# a worker that is new has to find all of its counters

my $sent = 0;

for my $n (1 .. 12) {
    set_fault(0);
    $t->reload($conf) or die "no reload\n";
    wait_until { $t->workers() == 1 } or die "the old worker stays\n";

    set_fault($n);
    eval {
        my $c = $t->session('smtp');
        $sent++ if $c->message("x\r\n") =~ /^250/;
        $c->close();
    };
    set_fault(0);
}

my $c = $t->session('smtp');
like($c->message("x\r\n"), qr/^250/, 'messages are taken');
$c->close();

my $json = $s->json();
cmp_ok($json->{servers}[0]{messages}{accepted}, '>', 0, 'and counted');

done_testing();

# --- in the test -------------------------------------------------------------

sub set_fault {
    my ($n) = @_;
    open my $file, '+<', $fault or die "$fault: $!";
    syswrite $file, pack 'LL', $n, 0;
    close $file;
    return;
}

sub fired {
    my ($countdown, $fired) = unpack 'LL', slurp($fault);
    return $fired;
}
