# What smtp_relay_status shows of other zones, of TLS, of the auth service,
# of nodes that are many, have strange names or find no room in the zone.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Status;

use IO::Socket::INET;

my $t = SMTPRelay::Test->new(
    expected_alerts => qr/SSL_do_handshake\(\) failed/);

$t->node('one');
$t->node('plain');
$t->node('pool', script => {
    eod => sub { $_[3]{data} =~ /bye/ ? { reply => '250 2.0.0 Ok',
                                          then => ':close' } : undef },
});
$t->node('bare');
$t->node('rude', script => { connect => '554 5.3.2 Go away' });
$t->node('closes', script => { connect => ':close' });
$t->node('slow', script => { MAIL => ':silent' });
$t->node('strict', auth => { somebody => 'else' });

$t->auth_service('auth', users => { user => 'secret' }, answer => sub {
    my ($request) = @_;
    my $user = $request->{headers}{'auth-user'} // '';
    return $user eq 'broken' ? [ 503, {} ] : $user eq 'gone' ? ':close'
           : undef;
});

$t->certificates('localhost', 'client');

my $CLIENTS = 'ssl_certificate localhost.crt; ssl_certificate_key '
              . 'localhost.key;';

my @faulty = qw/ rude closes slow strict plain bare /;

my $servers = join '', map {
    my $more = $_ eq 'strict' ? 'smtp_relay_node_auth user wrong;'
             : $_ eq 'plain' ? 'smtp_relay_ssl on; smtp_relay_ssl_verify off;'
             : $_ eq 'bare'
             ? 'smtp_relay_ssl starttls; smtp_relay_ssl_verify off;'
             : '';

    "server { listen 127.0.0.1:%%PORT_to_$_%%; $more
              smtp_relay_pass 127.0.0.1:%%PORT_$_%%; }\n"
} @faulty;

# many nodes, none of which is used

my $many = join '', map {
    sprintf "server 127.1.%d.%d:25;\n", $_ / 250, $_ % 250 + 1
} 0 .. 999;

# not all of it is UTF-8

my $NAME = "we\"ird\\\\ \xc3\xa9\xff\x01";

my $conf = <<"EOC";
worker_processes 2;

stream {
    smtp_relay_status_zone         status:%%SIZE%%;
    smtp_relay_auth_cache_zone     zone=verdicts:256k;
    smtp_relay_limit_conn_zone     \$remote_addr  zone=sessions:64k;
    smtp_relay_limit_msg_zone      \$remote_addr  zone=rate:64k  rate=1r/m;
    smtp_relay_auth_block_zone     \$remote_addr  zone=guess:64k;

    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_reply_timeout       300ms;
    $CLIENTS

    upstream '$NAME' {
        server  127.0.0.1:%%PORT_one%%;
        server  127.0.0.1:%%PORT_one%%;
    }

    upstream many { zone many 2m; $many }

    server {
        listen  127.0.0.1:%%PORT_smtp%%;
        listen  127.0.0.1:%%PORT_smtps%% ssl;

        smtp_relay_auth_cache    verdicts  valid=1h;
        smtp_relay_limit_conn    sessions  10;
        smtp_relay_limit_msg     rate;
        smtp_relay_auth_block    guess  failures=100 window=1m time=1m;
        smtp_relay_auth_max_failures  100;
        smtp_relay_pass          '$NAME';
    }

    server {
        listen  127.0.0.1:%%PORT_certs%%;
        ssl_verify_client       on;
        ssl_client_certificate  ca.crt;
        ssl_handshake_timeout   500ms;
        smtp_relay_pass         127.0.0.1:%%PORT_one%%;
    }

    smtp_relay_starttls off;

    server {
        listen                         127.0.0.1:%%PORT_to_pool%%;
        smtp_relay_keepalive           1;
        smtp_relay_keepalive_messages  3;
        smtp_relay_keepalive_timeout   2s;
        smtp_relay_pass                127.0.0.1:%%PORT_pool%%;
    }

    $servers
}

http {
    access_log off;

    server {
        listen           127.0.0.1:%%PORT_http%%;
        location /status { smtp_relay_status; }
    }
}
EOC

$conf =~ s/(listen  127.0.0.1:%%PORT_smtp%%;)/$1 smtp_relay_starttls on;/;
$conf =~ s/(listen  127.0.0.1:%%PORT_certs%%;)/$1 smtp_relay_starttls on;/;

$t->start($conf =~ s/%%SIZE%%/4m/r);

my $s = SMTPRelay::Status->new(port => $t->port('http'));

sub server {
    my ($name) = @_;

    my ($server) = grep { $_->{server} eq '127.0.0.1:' . $t->port($name) }
                   @{ $s->json()->{servers} };
    return $server;
}

sub node {
    my ($name) = @_;

    my ($node) = grep { $_->{node} eq '127.0.0.1:' . $t->port($name) }
                 map { @{ $_->{nodes} } } @{ $s->json()->{upstreams} };
    return $node;
}

# waits for a figure, which may come a moment late

sub soon(&$$) {
    my ($figure, $want, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $got;
    wait_until { $got = $figure->(); $got == $want } 5;
    is($got, $want, $name);
}

# --- TLS of clients ----------------------------------------------------------

my $c = $t->session('smtps', tls => 1);
$c->must('QUIT', '221');

$c = $t->greeted('smtp');
$c->must('STARTTLS', '220');
$c->start_tls();
$c->must('EHLO client.example', '250');

is(server('smtps')->{tls}{implicit}, 1, 'implicit TLS');
is(server('smtp')->{tls}{starttls}, 1, 'STARTTLS');

$c->close();

my $raw = $t->client('smtps');
$raw->send("EHLO this is no ClientHello\r\n");
$raw->expect_closed('closed');

soon { server('smtps')->{tls}{failures}{handshake} } 1, 'no handshake';

$raw = $t->client('smtps');
$raw->send("\x16\x03\x01");
$raw->close();

soon { server('smtps')->{tls}{failures}{closed} } 1, 'a handshake broken off';

$c = $t->greeted('certs');
$c->must('STARTTLS', '220');

soon { server('certs')->{tls}{failures}{timeout} } 1,
    'a handshake that takes too long';

$c = $t->greeted('certs');
$c->must('STARTTLS', '220');
$c->start_tls();
$c->expect_closed('no certificate, closed');

soon { server('certs')->{tls}{failures}{certificate} } 1,
    'no certificate of the client';
soon { server('certs')->{sessions}{ended}{error} } 2,
    'and sessions that ended by that';

is(server('smtps')->{sessions}{total}, 1,
   'without TLS there is no session where it is implicit');

# --- the auth service --------------------------------------------------------

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . $c->plain(broken => 'x'), '454', 'a broken service');
$c->try('AUTH PLAIN ' . $c->plain(gone => 'x'), '454', 'a silent one');
$c->try('AUTH PLAIN ' . $c->plain(user => 'wrong'), '535', 'denied');
$c->login();

my $smtp = server('smtp');

is($smtp->{auth_service}{failures}{bad_reply}, 1, 'a bad reply');
is($smtp->{auth_service}{failures}{no_reply}, 1, 'no reply');

my %auth = map { +"$_->{result} $_->{source}" => $_->{count} }
           @{ $smtp->{auth} };

is($auth{'error service'}, 2, 'errors');
is($auth{'denied service'}, 1, 'denied');

# --- caches, limits, blocks --------------------------------------------------

$c->close();
$c = $t->session('smtp');
$c->message("x\r\n");
$c->try('MAIL FROM:<a@example.com>', '450', 'the rate is limited');

my $json = $s->json();

is(scalar @{ $json->{caches} }, 1, 'a cache');
is($json->{caches}[0]{zone}, 'verdicts', 'its name');
is($json->{caches}[0]{hits}, 1, 'a hit');
is((grep { $_->{source} eq 'cache' } @{ server('smtp')->{auth} })[0]{count}, 1,
   'a login by the cache');
cmp_ok($json->{caches}[0]{entries}, '>', 0, 'entries');

my %limits = map { $_->{zone} => $_ } @{ $json->{limits} };

is($limits{sessions}{kind}, 'conn', 'kind of a limit');
is($limits{sessions}{held}, 1, 'a session counts in it');
is($limits{rate}{kind}, 'msg', 'kind of another');
is($limits{rate}{passed}, 1, 'a message passed');
is($limits{rate}{refused}, 1, 'one was refused');

is($json->{blocks}[0]{zone}, 'guess', 'a block');
is($json->{blocks}[0]{failures}, 1, 'a failure');

my $m = $s->metrics();

is($m->{'smtp_relay_auth_cache_lookups_total{zone="verdicts",result="hit"}'},
   1, 'metrics of a cache');
is($m->{'smtp_relay_limit_checks_total{zone="rate",kind="msg",'
        . 'result="refused"}'}, 1, 'of a limit');
is($m->{'smtp_relay_auth_block_failures_total{zone="guess"}'}, 1,
   'of a block');

$c->close();

# --- names -------------------------------------------------------------------

my ($weird) = grep { $_->{upstream} =~ /^we/ } @{ $json->{upstreams} };

is($weird->{upstream}, "we\"ird\\ \xe9?\x01", 'a strange name in JSON');
is(scalar @{ $weird->{nodes} }, 1, 'a node that is there twice is one');
is($weird->{nodes}[0]{weight}, 2, 'of twice the weight');
ok(!$weird->{shared}, 'not shared');

my $labels = "upstream=\"we\\\"ird\\\\ \xc3\xa9??\"" . ',node="127.0.0.1:' . $t->port('one')
             . '"';

is($m->{"smtp_relay_node_messages_total{$labels,result=\"accepted\"}"}, 1,
   'a strange name in a label');

# --- failures of nodes -------------------------------------------------------

for my $case ([ rude => 'protocol' ], [ closes => 'lost' ],
              [ slow => 'timeout' ], [ strict => 'auth' ],
              [ plain => 'tls' ], [ bare => 'tls' ])
{
    my ($name, $kind) = @$case;

    my $to = $t->session("to_$name");
    $to->try('MAIL FROM:<a@example.com>', '451', "$name: no node");
    $to->close();

    my $failures = node($name)->{failures};

    is($failures->{$kind}, 1, "$name: a failure, $kind");
    is_deeply([ grep { $failures->{$_} } sort keys %$failures ], [ $kind ],
              "$name: nothing else");
    is(node($name)->{connections}{connecting}
       + node($name)->{connections}{busy}, 0, "$name: no connection");
}

# --- the pool ----------------------------------------------------------------

# of three sessions two are of one worker

my @sessions = map { $t->session('to_pool') } 1 .. 3;
$_->envelope('a@example.com', 'b@example.net') for @sessions;
$_->must('RSET', '250') for @sessions;

soon { node('pool')->{pool}{idle} + node('pool')->{pool}{full} } 3,
    'connections are not kept for long';
cmp_ok(node('pool')->{pool}{full}, '>=', 1, 'a pool has room for one');
cmp_ok(node('pool')->{pool}{idle}, '>=', 1, 'which was idle for too long');

$sessions[0]->message("x\r\n") for 1 .. 3;
soon { node('pool')->{pool}{spent} } 1, 'a connection has had its messages';

$sessions[0]->message("bye\r\n");
soon { node('pool')->{pool}{closed} + node('pool')->{pool}{stale} } 1,
    'one was closed by the node';

$_->close() for @sessions;

# --- many nodes --------------------------------------------------------------

my $more = $conf;
$more =~ s/(\n +smtp_relay_starttls off;)/$1\n%%SERVERS%%/;

my $pass = 'server { listen 127.0.0.1:%%PORT_many%%; smtp_relay_pass many; }';

ok($t->reload($more =~ s/%%SIZE%%/4m/r =~ s/%%SERVERS%%/$pass/r),
   'a reload, with a thousand nodes');

my $group;

ok(wait_until {
    $json = $s->json();
    ($group) = grep { $_->{upstream} eq 'many' } @{ $json->{upstreams} };
}, 'it is there');

is($json->{generation}, 2, 'the second configuration');

is(scalar @{ $group->{nodes} }, 1000, 'a thousand nodes');
is(scalar(grep { $_->{state} eq 'up' } @{ $group->{nodes} }), 1000,
   'all are up');

my $reply = $s->get('/status');
is($reply->{headers}{'content-length'}, length $reply->{body},
   'of the right length');

SKIP: {
    my $promtool = SMTPRelay::Status::program('promtool')
        or skip 'no promtool', 1;

    spew($t->dir() . '/metrics', $reply->{body});
    is(`$promtool check metrics < ${\$t->dir()}/metrics 2>&1`, '',
       'promtool has nothing to say');
}

# --- a zone that is too small ------------------------------------------------

my $ports = join '', map {
    "server { listen 127.0.0.1:%%PORT_n$_%%;
              smtp_relay_pass 127.0.0.1:%%PORT_one%%; }\n"
} 1 .. 40;

$more =~ s/worker_processes 2/worker_processes 1/;

ok($t->reload($more =~ s/%%SIZE%%/32k/r =~ s/%%SERVERS%%/$ports/r),
   'a reload with a small zone, and more servers');

ok($t->wait_log(qr/status zone "status" is full/), 'it is full');
ok(wait_until { $s->json()->{zone}{size} == 32768 }, 'it is the new one');

$c = $t->session('n40');
$c->close();

soon {
    my $sum = 0;
    $sum += $_->{sessions}{total} for @{ $s->json()->{servers} };
    $sum;
} 1, 'a session counts all the same';

$json = $s->json();
ok($json->{zone}{full}, 'which is shown');

my ($other) = grep { $_->{server} eq 'other' } @{ $json->{servers} };
is($other->{sessions}{total}, 1, 'under "other"');

is(scalar(() = $t->log_lines(qr/status zone "status" is full/)), 1,
   'logged once');

# what has its place keeps it, whatever becomes of the worker

my $known = server('smtp');
ok($known, 'a server that has found room');

my ($pid) = $t->workers();
kill 'TERM', $pid;
ok(wait_until {
    my $workers = eval { $s->json()->{workers} } // [];    # it may be cut
    my @known = map { $_->{pid} } @$workers;
    @known == 1 && $known[0] != $pid;
}, 'the worker is replaced');

for (1 .. 4) {
    my $to = $t->session('smtp');
    $to->close();
}

soon { server('smtp')->{sessions}{total} - $known->{sessions}{total} } 4,
    'it still counts for itself';

done_testing();
