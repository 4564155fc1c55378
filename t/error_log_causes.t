# What nodes, the auth service and limits do to a session: one line at error
# for each, with the session, who it is, and why; what it comes to at info.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

my %script = (
    greeting => { connect => '554 5.3.2 go away' },
    closing => { MAIL => '421 4.3.2 closing' },
    garbage => { MAIL => 'garbage' },
    ehlo => { EHLO => '502 5.5.1 no', HELO => '502 5.5.1 no' },
    gone => { MAIL => ':close' },
    early => { DATA => '250 2.0.0 what' },
    late => { eod => '354 go on' },
);

$t->node($_, script => $script{$_}) for sort keys %script;
$t->node('node');

$t->auth_service('strange', answer => sub { return
    "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nAuth-Port: xx\r\n"
    . "Content-Length: 0\r\n\r\n" });
$t->auth_service('broken', answer => sub { [ 500, {} ] });
$t->auth_service('silent', answer => sub { { act => ':silent' } });
$t->auth_service('vanishes', answer => sub { { act => ':close' } });

$t->keys(user => 'secret');

my $servers = '';

sub server {
    my ($name, $conf) = @_;
    $servers .= "server { listen 127.0.0.1:%%PORT_s_$name%%; $conf }\n";
    return;
}

my $file = 'smtp_relay_auth_file keys;';

server($_, "$file smtp_relay_pass 127.0.0.1:%%PORT_$_%%;")
    for sort keys %script;
server('tls', "$file smtp_relay_ssl on; "
              . 'smtp_relay_pass 127.0.0.1:%%PORT_node%%;');
server('starttls', "$file smtp_relay_ssl starttls; "
                   . 'smtp_relay_pass 127.0.0.1:%%PORT_node%%;');
server('xclient', "$file smtp_relay_xclient on; "
                  . 'smtp_relay_pass 127.0.0.1:%%PORT_node%%;');
server('refused', "$file smtp_relay_pass 127.0.0.1:%%PORT_none%%;");
server($_, "smtp_relay_auth http://127.0.0.1:%%PORT_$_%%/auth; "
           . 'smtp_relay_auth_timeout 300ms; '
           . 'smtp_relay_pass 127.0.0.1:%%PORT_node%%;')
    for qw/ strange broken silent vanishes down /;
server('rate', "$file smtp_relay_limit_msg rate; "
               . 'smtp_relay_pass 127.0.0.1:%%PORT_node%%;');
server('conn', "$file smtp_relay_limit_conn conn 1; "
               . 'smtp_relay_pass 127.0.0.1:%%PORT_node%%;');

$t->start(<<"EOC");
stream {
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;

    smtp_relay_limit_msg_zone   \$smtp_relay_account  zone=rate:128k rate=1r/h;
    smtp_relay_limit_conn_zone  \$remote_addr  zone=conn:128k;

$servers
}
EOC

my $none = qr/"451 4\.4\.1 No delivery node available"/;
my $lost = qr/"451 4\.4\.2 Delivery node lost"/;

my %node = (
    greeting => [ qr/upstream sent invalid greeting: "554 5\.3\.2 go away"/ ],
    closing => [ qr/upstream sent unexpected reply: "421 4\.3\.2 closing"/ ],
    garbage => [ qr/upstream sent invalid reply: "garbage"/ ],
    ehlo => [ qr/upstream sent invalid reply to EHLO: "502 5\.5\.1 no"/ ],
    gone => [ qr/upstream prematurely closed connection/ ],
    early => [ qr/upstream sent unexpected reply: "250 2\.0\.0 what"/, $lost,
               2 ],     # the last node is asked once more
    late => [ qr/upstream sent unexpected reply to the end of data: "354 /,
              $lost ],
    tls => [ qr/SSL_do_handshake\(\) failed .*wrong version/ ],
    starttls => [ qr/upstream does not offer STARTTLS/ ],
    xclient => [ qr/upstream does not offer XCLIENT/ ],
    refused => [ qr/connect\(\) failed .*Connection refused/ ],
);

for my $name (sort keys %node) {
    my ($why, $reply, $times) = @{ $node{$name} };
    my $c = $t->session("s_$name");

    if ($c->ask('MAIL FROM:<a@b.example>') =~ /^250/) {
        $c->ask('RCPT TO:<c@d.example>');
        $c->send("x\r\n.\r\n") if $c->ask('DATA') =~ /^354/;
    }

    my @log = story($c);
    my $who = qr/, account: "user"/;

    my @errors = grep { /^error/ } @log;
    is(scalar @errors, $times // 1, "$name: an error for each time")
        or diag(join "\n", @log);
    like($errors[0] // '', qr/^error: $why.* while .*$who, upstream: "[^"]+"$/,
         "$name: why");

    $reply //= $none;
    is((grep { /^info: message deferred: $reply, from <a\@b\.example>.*$who$/ }
        @log), 1, "$name: what it comes to")
        or diag(join "\n", @log);
}

my %service = (
    strange => qr/auth service sent invalid Auth-Port "xx"/,
    broken => qr/auth service sent HTTP status 500, user "user"/,
    silent => qr/auth service timed out .* user: "user"/,
    vanishes => qr/.* user: "user"/,
    down => qr/connect\(\) failed .* user: "user"/,
);

for my $name (sort keys %service) {
    my $c = $t->greeted("s_$name");
    $c->must('AUTH PLAIN ' . $c->plain('user', 'secret'), '454');

    my @errors = grep { /^error/ } story($c);
    like(join("\n", @errors), qr/^error: $service{$name}/, "$name: why");
    is(scalar @errors, 1, "$name: once");
}

# limits

my $c = $t->session('s_rate');
like($c->message("x\r\n"), qr/^250/, 'a message');
$c->must('MAIL FROM:<a@b.example>', '450');
my @log = story($c);
is((grep { /^error: limiting messages by zone "rate".*account: "user"/ } @log),
   1, 'a rate: why');
is((grep { /^info: message deferred: "450 4\.7\.1 / } @log), 1,
   'a rate: what it comes to');

$c = $t->session('s_conn');
my $other = $t->client('s_conn');
$other->must(undef, '421');
ok($t->wait_log(qr/\[error\].*limiting connections by zone "conn".*session: /),
   'sessions: why');
$c->must('QUIT', '221');

done_testing();


# Ends the session and gives its lines: "level: text".

my $seen;

sub story {
    my ($c) = @_;

    $c->ask('QUIT') while $c->state(0) eq 'silence';

    my (@new, $id);

    wait_until {
        my @lines = $t->lines('error.log');
        @new = @lines[($seen // 0) .. $#lines];
        my ($end) = grep { /session ended/ } @new;
        ($id) = $end =~ /session: (\w+)/ if $end;
    };

    $seen = () = $t->lines('error.log');

    return map { /\[(\w+)\] \d+#\d+: \*\d+ (.*?), client: .*?, session: $id(.*)/
                 ? "$1: $2$3" : () } @new;
}
