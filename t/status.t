# What smtp_relay_status shows, in which format, and to whom.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Status;

my $t = SMTPRelay::Test->new(expected_alerts => qr/\[emerg\] \d+#\d+: "smtp_/);

$t->node('one');
$t->node('picky', script => {
    RCPT => sub { $_[0] =~ /nobody/ ? '550 5.1.1 No such user' : undef },
    eod => sub { $_[3]{data} =~ /spam/ ? '550 5.7.1 Spam'
                 : $_[3]{data} =~ /later/ ? '451 4.7.1 Later' : undef },
});

$t->keys(user => 'secret');

my $stream = <<'EOC';
    smtp_relay_starttls             off;
    smtp_relay_auth_file            keys;
    smtp_relay_auth_failure_delay   0;

    upstream group {
        zone    group 64k;
        server  127.0.0.1:%%PORT_one%%;
        server  127.0.0.1:%%PORT_down%% down;
    }

    upstream unused { server 127.0.0.1:1; }

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  group;
    }

    server {
        listen           127.0.0.1:%%PORT_picky_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_picky%%;
    }

    server {
        listen           127.0.0.1:%%PORT_gone%%;
        smtp_relay_pass  127.0.0.1:%%PORT_nobody%%;
    }
EOC

my $http = <<'EOC';
http {
    access_log off;

    server {
        listen  127.0.0.1:%%PORT_http%%;

        location = /status { smtp_relay_status; }
        location = /prometheus { smtp_relay_status prometheus; }
        location = /json { smtp_relay_status json; }
        location = /denied { smtp_relay_status; deny all; }
        %%PACKED%%
    }
}
EOC

my $gzip = SMTPRelay::Test::version() !~ /--without-http_gzip|without-zlib/;
my $packed = $gzip ? 'location = /packed { smtp_relay_status; gzip on; '
                     . 'gzip_types text/plain application/json; }' : '';
$http =~ s/%%PACKED%%/$packed/;

# --- configurations that are refused -----------------------------------------

my $zone = "smtp_relay_status_zone status:256k;";

for my $case (
    [ 'no zone', "$http\nstream {\n$stream\n}",
      qr/"smtp_relay_status" needs "smtp_relay_status_zone" in .*:(\d+)/, 7 ],
    [ 'no zone, http behind stream', "stream {\n$stream\n}\n$http",
      qr/"smtp_relay_status" needs "smtp_relay_status_zone".*:(\d+)/,
      7 + 3 + ($stream =~ tr/\n//) ],
    [ 'no stream', $http,
      qr/"smtp_relay_status" needs "smtp_relay_status_zone".*:(\d+)/, 7 ],
    [ 'a small zone', "stream {\nsmtp_relay_status_zone s:8k;\n}",
      qr/"smtp_relay_status_zone": zone "s:8k" is too small in \S+:(\d+)/, 2 ],
    [ 'no size', "stream {\nsmtp_relay_status_zone status;\n}",
      qr/"smtp_relay_status_zone" has an invalid zone "status" in \S+:(\d+)/,
      2 ],
    [ 'two zones', "stream {\n$zone\nsmtp_relay_status_zone t:1m;\n}",
      qr/"smtp_relay_status_zone" is duplicate in \S+:(\d+)/, 3 ],
    [ 'a bad format', "http { server { location / {\n"
      . "smtp_relay_status xml;\n} } }",
      qr/"smtp_relay_status" has an invalid format "xml".* in \S+:(\d+)/, 2 ],
    [ 'two formats', "http { server { location / {\n"
      . "smtp_relay_status;\nsmtp_relay_status json;\n} } }",
      qr/"smtp_relay_status" is duplicate in \S+:(\d+)/, 3 ],
) {
    my ($name, $conf, $pattern, $line) = @$case;

    my ($status, $said) = $t->check_conf($conf);

    isnt($status, 0, "$name: refused");
    like($said, $pattern, "$name: why");
    is($t->own_line($said =~ $pattern), $line, "$name: the line");
}

# --- formats -----------------------------------------------------------------

$t->start("$http\nstream {\n$zone\n$stream\n}");

my $s = SMTPRelay::Status->new(port => $t->port('http'));
my $text = 'text/plain; version=0.0.4; charset=utf-8';

my $r = $s->get('/status');
is($r->{code}, 200, 'the page is there');
is($r->{headers}{'content-type'}, $text, 'without Accept it is for Prometheus');
is($r->{headers}{'content-length'}, length $r->{body}, 'as long as said');
is($r->{headers}{'cache-control'}, 'no-store', 'not to be stored');
is($r->{headers}{vary}, 'Accept', 'it varies');

$r = $s->get('/status', Accept => 'application/json');
is($r->{headers}{'content-type'}, 'application/json', 'JSON is asked for');
is($r->{headers}{'content-length'}, length $r->{body}, 'as long as said');

$r = $s->get('/status', Accept => 'application/openmetrics-text;version=1.0.0,'
                                  . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1');
is($r->{headers}{'content-type'}, $text, 'what Prometheus asks for');

# which of them is wanted most

my %types = (p => $text, j => 'application/json',
             h => 'text/html; charset=utf-8');

for my $case (
    [ p => '' ], [ p => '*/*' ], [ p => 'text/*' ], [ p => 'image/png' ],
    [ p => ',, ;q=1, /' ],
    [ j => 'application/json, text/plain, */*' ],
    [ j => 'Application/JSON; charset=utf-8' ],
    [ j => 'text/html;q=0, application/json' ],
    [ j => 'text/html;q=0.5, application/json' ],
    [ j => 'text/html;q=0.5,application/json;q=0.501' ],
    [ j => "text/html;q=0.000\t,\tapplication/json ; q=0.001" ],
    [ j => 'text/html;level="1,2;q=1";q=0.1, application/json;q=0.2' ],
    [ j => 'text/html;level="\\";q=1";q=0.1, application/json;q=0.2' ],
    [ h => 'text/html' ], [ h => 'application/json,text/html' ],
    [ h => 'application/json;q=0.9,TEXT/HTML;q=0.95,*/*;q=0.1' ],
    [ h => 'text/html;q=0.5, text/plain;q=0.1, */*' ],
    [ h => 'text/html;Q=1.0' ],
    [ h => 'text/html;charset="' ],
    [ p => 'text/html;q=0' ], [ p => 'text/html;q=0, */*' ],
    [ p => 'text/html;q=0.4, text/plain;q=0.5' ],
    [ p => 'application/json;q=0.4, */*;q=0.5' ],
    [ p => 'application/json-patch+json, text/html5, xtext/html' ],
    [ p => 'application/vnd.example+json;v="application/json"' ],
) {
    my ($want, $accept) = @$case;

    is($s->get('/status', Accept => $accept)->{headers}{'content-type'},
       $types{$want}, 'Accept: ' . visible($accept));
}

$r = $s->request("GET /status HTTP/1.1\r\nHost: localhost\r\n"
                 . "Accept: image/png\r\naccept: text/html;q=0.2\r\n"
                 . "ACCEPT: application/json;q=0.3\r\n"
                 . "Connection: close\r\n\r\n");
is($r->{headers}{'content-type'}, 'application/json', 'in several lines');

SKIP: {
    skip('nginx without gzip', 3) unless $gzip;

    for my $accept ('*/*', 'application/json', 'text/html') {
        my $packed = $s->get('/packed', Accept => $accept,
                             'Accept-Encoding' => 'gzip');
        is($packed->{headers}{'content-encoding'}, 'gzip', "packed: $accept");
    }
}

$r = $s->get('/prometheus', Accept => 'application/json');
is($r->{headers}{'content-type'}, $text, 'a fixed format is fixed');
is($r->{headers}{vary}, undef, 'and does not vary');

$r = $s->get('/json', Accept => '*/*');
is($r->{headers}{'content-type'}, 'application/json', 'JSON is fixed, too');

$r = $s->get('/status', method => 'HEAD');
is($r->{code}, 200, 'HEAD is fine');
cmp_ok($r->{headers}{'content-length'}, '>', 1000, 'HEAD: the length');
is($r->{body}, '', 'HEAD: no body');

is($s->get('/status', method => 'PUT')->{code}, 405, 'PUT is not allowed');
is($s->get('/denied')->{code}, 403, 'access is what nginx says');

# --- before anything happened ------------------------------------------------

my $json = $s->json();
my $addr = '127.0.0.1:' . $t->port('smtp');

is_deeply([ map { $_->{server} } @{ $json->{servers} } ],
          [ sort map { '127.0.0.1:' . $t->port($_) }
            qw/ smtp picky_smtp gone / ],
          'all servers are there from the start');

my %servers = map { $_->{server} => $_ } @{ $json->{servers} };

is($servers{$addr}{sessions}{total}, 0, 'no session yet');
is(scalar @{ $servers{$addr}{message_seconds}{buckets} }, 12, '12 buckets');

my %upstreams = map { $_->{upstream} => $_ } @{ $json->{upstreams} };

is_deeply([ sort keys %upstreams ],
          [ sort 'group', map { '127.0.0.1:' . $t->port($_) }
                          qw/ picky nobody / ],
          'all groups that are used are there');

my %nodes = map { $_->{node} => $_ } @{ $upstreams{group}{nodes} };

is($nodes{'127.0.0.1:' . $t->port('one')}{state}, 'up', 'a node is up');
is($nodes{'127.0.0.1:' . $t->port('down')}{state}, 'down', 'another is down');
ok($upstreams{group}{shared}, 'a group with a zone is shared');
my ($alone) = @{ $upstreams{'127.0.0.1:' . $t->port('picky')}{nodes} };
is($alone->{weight}, 1, 'a node without a group has a weight');
is($alone->{server}, $alone->{node}, 'and its name');

is($json->{generation}, 1, 'the first generation');
is_deeply([ map { $_->{pid} } @{ $json->{workers} } ], [ $t->workers() ],
          'the worker');
like($json->{nginx}, qr/^1\.\d+\.\d+$/, 'version of nginx');
is($json->{zone}{name}, 'status', 'the zone');

# --- sessions and messages ---------------------------------------------------

my $c = $t->session('smtp');

is($s->json()->{workers}[0]{sessions}, 1, 'a session of the worker is open');

$c->message("one\r\n");
$c->message("two\r\n");
$c->envelope('sender@example.com', 'rcpt@example.net');
$c->try('RSET', '250', 'a message is aborted');
$c->try('QUIT', '221', 'quits');
$c->expect_closed('closed');

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . $c->plain('user', 'wrong'), '535', 'denied');
$c->try('AUTH PLAIN =', '501', 'no credentials');
$c->try('AUTH FOO', '504', 'unknown method');
$c->try('AUTH LOGIN', '334', 'LOGIN');
$c->try('*', '501', 'canceled');
$c->try('QUIT', '221', 'quits');
$c->expect_closed('closed');

$c = $t->session('picky_smtp');
$c->must('MAIL FROM:<a@example.com>', '250');
$c->must('RCPT TO:<nobody@example.net>', '550');
$c->must('RCPT TO:<b@example.net>', '250');
$c->must('DATA', '354');
$c->must("spam\r\n.", '550');
$c->must('MAIL FROM:<a@example.com>', '250');
$c->must('RCPT TO:<b@example.net>', '250');
$c->must('DATA', '354');
$c->must("later\r\n.", '451');
$c->close();

$c = $t->session('gone');
$c->must('MAIL FROM:<a@example.com>', '451');
$c->must('QUIT', '221');
$c->expect_closed('closed');

ok(wait_until {
    $json = $s->json();
    !grep { $_->{sessions}{open} } @{ $json->{servers} };
}, 'no session is open any more');

%servers = map { $_->{server} => $_ } @{ $json->{servers} };
my $one = $servers{$addr};

is_deeply($one->{sessions}{ended},
          { ok => 1, denied => 1, client_error => 0, timeout => 0, error => 0,
            no_node => 0, limited => 0, lost => 0 }, 'how sessions ended');
is($one->{sessions}{total}, 2, 'all sessions');
is_deeply($one->{messages},
          { accepted => 2, deferred => 0, rejected => 0, aborted => 1 },
          'messages');
is_deeply([ map { join ' ', @$_{qw/ method result source count /} }
            @{ $one->{auth} } ],
          [ 'plain ok file 1', 'plain denied file 1', 'plain refused none 1',
            'login canceled none 1', 'other refused none 1' ], 'AUTH');
is($one->{bytes}{content}, 2 * length "one\r\n", 'octets of content');
is($one->{message_bytes}{count}, 2, 'sizes of messages');
is($one->{message_bytes}{buckets}[0][1], 2, 'small ones');
is($one->{message_seconds}{count}, 2, 'times of messages');
cmp_ok($one->{bytes}{received}, '>', 200, 'octets from clients');
cmp_ok($one->{bytes}{sent}, '>', 200, 'octets to clients');

my $picky = $servers{'127.0.0.1:' . $t->port('picky_smtp')};

is_deeply($picky->{messages},
          { accepted => 0, deferred => 1, rejected => 1, aborted => 0 },
          'messages that were refused');
is_deeply($picky->{recipients}, { accepted => 2, rejected => 1 },
          'recipients');

is($servers{'127.0.0.1:' . $t->port('gone')}{sessions}{ended}{no_node}, 1,
   'a session without a node');

%upstreams = map { $_->{upstream} => $_ } @{ $json->{upstreams} };
%nodes = map { $_->{node} => $_ } map { @{ $_->{nodes} } } values %upstreams;

my $node = $nodes{'127.0.0.1:' . $t->port('one')};

is_deeply($node->{messages}, { accepted => 2, deferred => 0, rejected => 0 },
          'messages of a node');
is_deeply($node->{connections},
          { connecting => 0, busy => 0, idle => 1, opened => 1, reused => 2 },
          'its connections');
is_deeply($node->{pool},
          { full => 0, idle => 0, spent => 0, closed => 0, stale => 0 },
          'the pool has closed none');
is($node->{connect_seconds}{count}, 1, 'connected once');
is($node->{reply_seconds}{count}, 2, 'replied twice');

$node = $nodes{'127.0.0.1:' . $t->port('picky')};
is_deeply($node->{messages}, { accepted => 0, deferred => 1, rejected => 1 },
          'messages of another node');

$node = $nodes{'127.0.0.1:' . $t->port('nobody')};
is($node->{failures}{connect}, 1, 'no connection to a node');
is($node->{connections}{connecting}, 0, 'and none is coming about');

# --- Prometheus shows the same -----------------------------------------------

my $m = $s->metrics();

is($m->{"smtp_relay_messages_total{server=\"$addr\",result=\"accepted\"}"}, 2,
   'messages');
is($m->{"smtp_relay_auth_total{server=\"$addr\",method=\"plain\","
        . 'result="ok",source="file"}'}, 1, 'AUTH');
is($m->{"smtp_relay_message_duration_seconds_bucket{server=\"$addr\","
        . 'le="+Inf"}'}, 2, 'a histogram');
is($m->{"smtp_relay_message_size_bytes_sum{server=\"$addr\"}"}, 10,
   'its sum');

my $labels = 'upstream="group",node="127.0.0.1:' . $t->port('one') . '"';

is($m->{"smtp_relay_node_up{$labels}"}, 1, 'a node is up');
is($m->{"smtp_relay_node_connections{$labels,state=\"idle\"}"}, 1,
   'and has an idle connection');

unlike($s->text(), qr/user|example\.(com|net)/,
       'no account and no address');

SKIP: {
    my $promtool = SMTPRelay::Status::program('promtool')
        or skip 'no promtool', 2;

    spew($t->dir() . '/metrics', $s->text());
    my $said = `$promtool check metrics < ${\$t->dir()}/metrics 2>&1`;

    is($?, 0, 'promtool takes the metrics');
    is($said, '', 'and has nothing to say');
}

# --- a node that has left its group ------------------------------------------

# which stands in front of the others

my $without = "$http\nstream {\n$zone\n$stream\n}";
$without =~ s/server  127.0.0.1:%%PORT_(one|down)%%( down)?;/server 127.9.9.9:1;/g;

ok($t->reload($without), 'a reload');

my ($group) = grep { $_->{upstream} eq 'group' } @{ $s->json()->{upstreams} };

is_deeply([ map { $_->{state} } @{ $group->{nodes} } ], [ 'unknown', 'up' ],
          'one is gone, one is new');
ok($group->{shared}, 'what the group says holds');
ok(!exists $group->{nodes}[0]{weight}, 'there is no weight any more');

done_testing();
