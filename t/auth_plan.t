# Plans: what an auth reply may say about the session that it lets in.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $other = $t->node('other');

# the login NAME is answered with these headers

my %plans = (
    none => [],
    size => ['Auth-Max-Size: 2k'],
    octets => ['Auth-Max-Size: 1000'],
    mega => ['Auth-Max-Size: 3m'],
    unlimited => ['Auth-Max-Size: 0', 'Auth-Max-Recipients: 0'],
    recipients => ['Auth-Max-Recipients: 2'],
    more => ['Auth-Max-Recipients: 6', 'Auth-Max-Size: 1m'],
    huge => ['Auth-Max-Recipients: 1000000'],
    list => ['Auth-Senders: example.com, *.example.org, Joe@b.example'],
    spaced => ["auth-senders:  example.com ,\t*.example.org ,, "],
    utf8 => ["Auth-Senders: b\xc3\xbccher.example"],
    idn => ['Auth-Senders: xn--bcher-kva.example'],
    group => ['Auth-Upstream: others'],
    group_case => ['Auth-Upstream: OTHERS'],
    server => ['Auth-Server: 127.0.0.1', 'Auth-Port: ' . $t->port('other')],
    all => ['Auth-Account: customer-7', 'Auth-Limit-Conn: 10',
            'Auth-Limit-Msg: 100r/s', 'Auth-Limit-Rcpt: 50000r/d',
            'Auth-Max-Size: 1m', 'Auth-Max-Recipients: 50',
            'Auth-Senders: example.com', 'X-Anything: goes'],
    empty => ['Auth-Account:', 'Auth-Upstream:', 'Auth-Server:'],
);

# those that cannot be understood

my @broken = (
    'Auth-Max-Size: big', 'Auth-Max-Size:', 'Auth-Max-Size: -1',
    'Auth-Max-Size: 10 m', 'Auth-Max-Size: 99999999999999999999',
    'Auth-Max-Recipients: many', 'Auth-Max-Recipients: 1.5',
    'Auth-Max-Recipients:',
    'Auth-Limit-Conn: 0', 'Auth-Limit-Conn: -1', 'Auth-Limit-Conn: 1r/s',
    'Auth-Limit-Msg: 10', 'Auth-Limit-Msg: 10r/w', 'Auth-Limit-Msg: r/s',
    'Auth-Limit-Rcpt: 0r/s', 'Auth-Limit-Rcpt: 10/s',
    'Auth-Senders:', 'Auth-Senders: *', 'Auth-Senders: @example.com',
    'Auth-Senders: a.example b.example', "Auth-Senders: a.example\x01",
    'Auth-Port: 0', 'Auth-Port: x', 'Auth-Port: 65536',
    'Auth-Server: a b', 'Auth-Server: 127.0.0.1/x',
    'Auth-Server: node.example',
    'Auth-Upstream: no_such_group', 'Auth-Upstream: 127.0.0.1:25',
    "Auth-Account: a\x07b",
);

my @twice = ('Auth-Account: a', 'Auth-Upstream: others',
             'Auth-Server: 127.0.0.1', 'Auth-Port: 25', 'Auth-User: u',
             'Auth-Pass: p', 'Auth-Limit-Conn: 5', 'Auth-Limit-Msg: 5r/s',
             'Auth-Limit-Rcpt: 5r/s', 'Auth-Max-Size: 5', 'Auth-Status: OK',
             'Auth-Max-Recipients: 5', 'Auth-Senders: example.com');

$plans{"broken$_"} = [ $broken[$_] ] for 0 .. $#broken;
$plans{"twice$_"} = [ $twice[$_], $twice[$_] ] for 0 .. $#twice;

$t->auth_service('auth', answer => sub {
    my ($request) = @_;
    my $user = $request->{headers}{'auth-user'};

    return "HTTP/1.1 200 OK\r\nAuth-Status: Wait\r\nAuth-Wait: soon\r\n"
           . "Content-Length: 0\r\n\r\n" if $user eq 'wait';
    return { 'Auth-Status' => 'No' } unless $plans{$user};

    my $status = grep({ /^Auth-Status/ } @{ $plans{$user} })
                 ? '' : "Auth-Status: OK\r\n";
    return "HTTP/1.1 200 OK\r\n$status"
           . join('', map { "$_\r\n" } @{ $plans{$user} })
           . "Content-Length: 0\r\n\r\n";
});

$t->start(<<'EOC');
stream {
    log_format  login  "$smtp_relay_event $smtp_relay_user $smtp_relay_account "
                       "$smtp_relay_auth_status "
                       "$smtp_relay_auth_http_auth_limit_msg "
                       "$smtp_relay_auth_http_x_anything";
    access_log  access.log  login;

    upstream others {
        server  127.0.0.1:%%PORT_other%%;
    }

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    smtp_relay_max_errors          3;

    server {
        listen                       127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass              127.0.0.1:%%PORT_node%%;
        smtp_relay_max_message_size  5000;
        smtp_relay_max_recipients    4;
        smtp_relay_max_messages      7;
    }
}
EOC

my $c;

# what EHLO says, before and after

my %shown = (
    none => ['5000', 'RCPTMAX=4 MAILMAX=7'],
    size => ['2048', 'RCPTMAX=4 MAILMAX=7'],
    octets => ['1000', 'RCPTMAX=4 MAILMAX=7'],
    mega => ['3145728', 'RCPTMAX=4 MAILMAX=7'],
    unlimited => ['', 'MAILMAX=7'],
    recipients => ['5000', 'RCPTMAX=2 MAILMAX=7'],
    more => ['1048576', 'RCPTMAX=6 MAILMAX=7'],
    huge => ['5000', 'MAILMAX=7'],
);

for my $user (sort keys %shown) {
    my ($size, $limits) = @{ $shown{$user} };

    $c = $t->client('smtp');
    $c->must(undef, '220');
    is(offered($c->ask('EHLO client.example')), '5000 / RCPTMAX=4 MAILMAX=7',
       "$user: EHLO before AUTH shows what is configured");
    $c->login($user);
    is(offered($c->ask('EHLO client.example')), "$size / $limits",
       "$user: EHLO after it shows the plan");
    $c->try('MAIL FROM:<a@b.example>', '250', "$user: EHLO keeps the login");
}

# sizes

$c = $t->session('smtp', user => 'size');
$c->try('MAIL FROM:<a@b.example> SIZE=2049', '552 5.3.4',
        'SIZE= beyond the plan');
$c->try('MAIL FROM:<a@b.example> SIZE=2048', '250', 'SIZE= within');
$c->must('RSET', '250');
like($c->message('x' x 2046 . "\r\n"), qr/^250/, 'a message within');
like($c->message('x' x 2047 . "\r\n"), qr/^552 5\.3\.4/, 'a message beyond');

my $big = ('x' x 98 . "\r\n") x 100;

# content that comes along with its envelope, and would go on with it

for my $case ([size => 2048, 250], [size => 2049, 552], [more => 10000, 250]) {
    my ($user, $size, $code) = @$case;

    $c = $t->session('smtp', user => $user);
    like($c->message("x\r\n"), qr/^250/, "$user: a connection to the node");
    my $count = $node->count();

    $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\n"
             . "BDAT $size LAST\r\n" . substr $big, 0, $size);
    is(join(' ', map { substr $c->reply(), 0, 3 } 1 .. 3), "250 250 $code",
       "$user: BDAT of $size octets in one flight");
    $c->must('NOOP', '250');
    is($node->count() - $count, $code == 250 ? 1 : 0, "$user: delivered or not");
}

$c = $t->session('smtp', user => 'more');
like($c->message($big), qr/^250/, 'more than configured is granted');
$c = $t->session('smtp', user => 'unlimited');
like($c->message($big), qr/^250/, '0: any size');

# recipients

for my $case ([none => 4], [recipients => 2], [more => 6]) {
    my ($user, $number) = @$case;

    $c = $t->session('smtp', user => $user);
    $c->must('MAIL FROM:<a@b.example>', '250');
    $c->must("RCPT TO:<r$_\@d.example>", '250') for 1 .. $number;
    $c->try('RCPT TO:<more@d.example>', '452 4.5.3',
            "$user: $number recipients and no more");
}

$c = $t->session('smtp', user => 'unlimited');
$c->must('MAIL FROM:<a@b.example>', '250');
$c->must("RCPT TO:<r$_\@d.example>", '250') for 1 .. 20;
pass('0: any number of recipients');

# senders

for my $case (
    [list => 'a@example.com', 1],
    [list => 'a@EXAMPLE.COM', 1],
    [list => 'a@mail.example.com', 0],
    [list => 'a@x.example.org', 1],
    [list => 'a@y.x.example.org', 1],
    [list => 'a@example.org', 0],
    [list => 'Joe@B.example', 1],
    [list => 'joe@b.example', 0],
    [list => 'Jim@b.example', 0],
    [list => '"a@example.com"@evil.example', 0],
    [list => 'a@evil.example', 0],
    [list => '', 1],
    [spaced => 'a@example.com', 1],
    [spaced => 'a@x.example.org', 1],
    [spaced => 'a@b.example', 0],
    [idn => 'a@XN--BCHER-KVA.example', 1],
    [idn => 'a@bcher-kva.example', 0],
    [none => 'a@anything.example', 1])
{
    my ($user, $sender, $allowed) = @$case;

    $c = $t->session('smtp', user => $user);
    $c->try("MAIL FROM:<$sender>",
            $allowed ? '250' : '550 5.7.1 Sender address not allowed',
            "$user: <$sender>" . ($allowed ? '' : ' is not allowed'));
}

$c = $t->session('smtp', user => 'utf8');
$c->try("MAIL FROM:<a\@b\xc3\xbccher.example> SMTPUTF8", '250',
        'a domain in UTF-8');
$c->must('RSET', '250');
$c->try("MAIL FROM:<a\@b\xc3\x9ccher.example> SMTPUTF8", '550 5.7.1',
        'case is folded in ASCII only');
$c->try('MAIL FROM:<a@xn--bcher-kva.example>', '550 5.7.1',
        'another form of the same name is another name');

ok($t->wait_log(qr/\[info\].*user "list" may not send as "a\@evil\.example"/),
   'it is logged who may not send as whom');

# a refusal is no fault of the client's, nor is what came along

$c = $t->session('smtp', user => 'list');

for my $n (1 .. 5) {
    $c->send("MAIL FROM:<a\@evil.example>\r\n"
             . "RCPT TO:<b\@c.example>\r\nRCPT TO:<d\@e.example>\r\nDATA\r\n");
    $c->expect('550 5.7.1', "message $n: MAIL is refused");
    $c->expect('503 5.5.1', "message $n: RCPT is out of order") for 1 .. 2;
    $c->expect('503 5.5.1', "message $n: DATA is out of order");
}

like($c->message("x\r\n", 'a@example.com'), qr/^250/,
     'the session is good for another sender');

# where it goes

for my $user (qw/ group group_case server /) {
    my $count = $other->count();
    $c = $t->session('smtp', user => $user);
    like($c->message("x\r\n"), qr/^250/, "$user: a message");
    is($other->count(), $count + 1, "$user: goes where the plan says");
}

# what cannot be understood is not guessed at

for my $n (0 .. $#broken) {
    my $header = visible($broken[$n]);
    $c = $t->greeted('smtp');
    $c->try('AUTH PLAIN ' . $c->plain("broken$n", 'x'),
            '454 4.7.0 Temporary authentication failure', "\"$header\"");
    $c->try('MAIL FROM:<a@example.com>', '530 5.7.0',
            "\"$header\": no login");
}

for my $n (0 .. $#twice) {
    $c = $t->greeted('smtp');
    $c->try('AUTH PLAIN ' . $c->plain("twice$n", 'x'), '454 4.7.0',
            "\"$twice[$n]\" twice");
}

$c = $t->greeted('smtp');
$c->try('AUTH PLAIN ' . $c->plain('wait', 'x'), '454 4.7.0',
        '"Auth-Wait: soon"');

for my $pattern (
    qr/auth service sent invalid header "auth-max-size: big"/,
    qr/auth service sent invalid header "auth-limit-msg: 10r\/w"/,
    qr/auth service sent invalid header "auth-senders: \*"/,
    qr/auth service sent invalid header "auth-wait: soon"/,
    qr/auth service sent unknown Auth-Upstream "no_such_group"/,
    qr/auth service sent invalid Auth-Server "a b"/,
    qr/no resolver defined to resolve Auth-Server "node\.example"/,
    qr/auth service sent invalid Auth-Port "65536"/,
    qr/auth service sent more than one header "auth-limit-rcpt"/)
{
    ok($t->wait_log(qr/\[error\].*$pattern/), "it is logged: $pattern");
}

# nothing of one login is left for the next

$c = $t->greeted('smtp');
$c->must('AUTH PLAIN ' . $c->plain('broken0', 'x'), '454');
$c->login('none');
is(offered($c->ask('EHLO client.example')), '5000 / RCPTMAX=4 MAILMAX=7',
   'nothing is left of a plan that was not understood');

# and all of it together

$c = $t->session('smtp', user => 'all');
$c->try('MAIL FROM:<a@example.com> SIZE=1048576', '250', 'a whole plan');
$c->must('QUIT', '221');
$c = $t->session('smtp', user => 'empty');
like($c->message("x\r\n"), qr/^250/, 'headers that name nothing');
$c->must('QUIT', '221');

ok(wait_until {
       grep { $_ eq 'session all customer-7 ok 100r/s goes' }
            $t->lines('access.log') },
   'the headers are variables');
ok(wait_until { grep { /^session empty empty ok / } $t->lines('access.log') },
   'an empty Auth-Account names nobody: the user is the account');

done_testing();


# SIZE and LIMITS of an EHLO reply.

sub offered {
    my ($reply) = @_;

    my ($size) = $reply =~ /^250[- ]SIZE ?(.*)$/m;
    my ($limits) = $reply =~ /^250[- ]LIMITS (.*)$/m;
    return ($size // 'none') . ' / ' . ($limits // 'none');
}
