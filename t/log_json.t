# Each line of a log in JSON is valid, and its values are what was sent,
# whatever stands in addresses, names, replies and headers. The formats are
# those of docs/examples.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use JSON::PP ();

my $t = SMTPRelay::Test->new();
my $json = JSON::PP->new()->utf8();

my %reply = (
    quotes => '250 2.0.0 Ok "quoted" \\ {"a":1}',
    controls => "250 2.0.0 a\tb",
    latin1 => "250 2.0.0 caf\xe9",
    utf8 => "250 2.0.0 \xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82",
    c1 => "250 2.0.0 a\xc2\x85b",
);

my $node = $t->node('node', script => {
    eod => sub { $_[3]{mail} =~ /<(\w+)@/ ? $reply{$1} : undef },
});

my %header = (
    quotes => 'gold "plus" \\',
    latin1 => "gr\xfcn",
    utf8 => "gr\xc3\xbcn",
    tab => "a\tb",
);

my $auth = $t->auth_service('auth', answer => sub {
    my $user = $_[0]{headers}{'auth-user'};
    return { 'Auth-Status' => 'OK', 'X-Plan' => $header{$user} // 'none',
             'Auth-Account' => $user eq 'quotes' || $user eq 'utf8'
                               ? $header{$user} : "of-$user" };
});

my $formats = "$FindBin::Bin/../docs/examples/log_format.conf";

$t->start(<<"EOC");
stream {
    include     $formats;

    log_format  more  escape=json
        '{"plan":"\$smtp_relay_auth_http_x_plan","is":"\$smtp_relay_event"}';

    access_log  all.json   smtp_relay_json;
    access_log  more.json  more;
    access_log  m.log  smtp_relay_message  if=\$smtp_relay_is_message;
    access_log  s.log  smtp_relay_session  if=\$smtp_relay_is_session;

    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    smtp_relay_max_errors          0;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/auth;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $lines = 0;
my $many = 0;

# addresses

my @addresses = (
    'plain@b.example',
    '"a b"@b.example',
    '"a\\"b"@b.example',
    '"a\\\\b"@b.example',
    '"<>"@b.example',
    '"\',\'to\':\'x"@b.example',
    q("\"}{\"event\":\"session"@b.example),
    "o'hara\@b.example",
    '{"x":1}'  =~ s/[":,]/_/gr . '@b.example',
    'a%00b@b.example',
    '@a.example,@b.example:c@d.example',
    'a@[IPv6:2001:db8::1]',
);

my @utf8 = (
    "\xd1\x8e\xd0\xb7\xd0\xb5\xd1\x80\@b.example",
    "a\@\xd0\xbf\xd1\x80.example",
    "\"\xe2\x80\xa8\"\@b.example",
    "\xf0\x9f\x93\xa8\@b.example",
);

my $c = $t->session('smtp');

for my $address (@addresses, @utf8) {
    my $utf8 = $address =~ /[\x80-\xff]/ ? ' SMTPUTF8' : '';
    my $m = message("MAIL FROM:<$address>$utf8", "RCPT TO:<$address>") or next;

    my $text = $address =~ s/^@[^:]*://r;       # a source route is dropped
    utf8::decode($text);

    is($m->{from}, $text, 'sender ' . visible($address));
    is($m->{to}, $text, 'recipient ' . visible($address));
    is($m->{message_status}, '250', 'and all else');
}

# octets that are no UTF-8, and controls, are refused or do no harm

for my $octets ("\xff\xfe", "\xc3\x28", "a\x01b", "a\x7fb", "\xed\xa0\x80",
                "\xc2\x85", "\xf4\x90\x80\x80", "\"a\tb\"")
{
    for my $parameter ('', ' SMTPUTF8') {
        $c->ask("MAIL FROM:<$octets\@b.example>$parameter");
        $c->must('RSET', '250');
    }
}

# replies of nodes

my %logged = (
    quotes => $reply{quotes},
    controls => '250 2.0.0 a b',
    latin1 => '250 2.0.0 caf?',
    utf8 => "250 2.0.0 \x{43f}\x{440}\x{438}\x{432}\x{435}\x{442}",
    c1 => '250 2.0.0 a b',
);

$c->close();
$c = $t->session('smtp');
settle();

for my $name (sort keys %reply) {
    my $m = message("MAIL FROM:<$name\@b.example>", 'RCPT TO:<c@d.example>')
        or next;
    is($m->{reply}, $logged{$name}, "reply with $name");
}

# names of clients and headers of the auth service

for my $name (sort keys %header) {
    $c = $t->greeted('smtp');
    $c->must('AUTH PLAIN ' . $c->plain($name, 'secret'), '235');
    $c->must('QUIT', '221');
}

for my $user ('q"\\{}', "\xc3\xbc", "\xff\xfe", "a\x01b", "a\nb", "x" x 200) {
    $c = $t->greeted('smtp');
    $c->ask('AUTH PLAIN ' . $c->plain($user, 'secret'));
    $c->must('QUIT', '221');
}

for my $helo ('[IPv6:::1]', 'a"b', "a\\b", "\xc3\xbc.example", "\xff",
              "a\x01b", '{"a":1}')
{
    $c = $t->client('smtp');
    $c->must(undef, '220');
    $c->ask("EHLO $helo");
    $c->must('QUIT', '221');
}

$t->stop();

my (@session, %account);

for my $file ('all.json', 'more.json') {
    my @bad = grep { !eval { $json->decode($_); 1 } } $t->lines($file);
    is(join(', ', map { visible($_) } @bad), '', "all lines of $file are valid");
    cmp_ok(scalar $t->lines($file), '>=', 40, "of $file there are many");
}

%account = map { ($_->{user} => $_->{account}) }
           grep { $_->{event} eq 'session' && $_->{auth} eq 'ok' }
           map { $json->decode($_) } $t->lines('all.json');

is($account{quotes}, $header{quotes}, 'account with quotes');
is($account{utf8}, "gr\xfcn", 'account with UTF-8');
is($account{'q"\\{}'}, 'of-q"\\{}', 'user with quotes');
is($account{"\xfc"}, "of-\xfc", 'user with UTF-8');
is((grep { /[\x00-\x1f\x7f]/ } %account), 0, 'no control character');

my @plans = map { $json->decode($_)->{plan} } $t->lines('more.json');
is((grep { $_ eq $header{quotes} } @plans) > 0, 1,
   'header of the auth service with quotes');

# the formats for humans

my @m = $t->lines('m.log');
my @s = $t->lines('s.log');
is(@m + @s, (() = $t->lines('all.json')), 'each event is in one of two logs');
is((grep { !/^\S+ [0-9a-f]{24} 127\.0\.0\.1 \S+ from=<.*>/ } @m), 0,
   'lines of messages');
is((grep { !/^\S+ [0-9a-f]{24} 127\.0\.0\.1 .*status=\d+$/ } @s), 0,
   'lines of sessions');

done_testing();


# Sends a message and gives its line, decoded.

sub message {
    my ($mail, $rcpt) = @_;

    my $reply = $c->ask($mail);
    like($reply, qr/^250/, visible($mail)) or return;
    $reply = $c->ask($rcpt);
    like($reply, qr/^250/, visible($rcpt));
    $c->must('DATA', '354');
    $c->send("x\r\n.\r\n");
    $c->must(undef, '250');

    my @lines = $t->wait_lines('all.json', ++$lines);
    my $m = eval { $json->decode($lines[$lines - 1]) };
    ok($m, 'a line of JSON') or diag(visible($lines[$lines - 1]));
    return $m;
}

# Waits until no line is to come any more.

sub settle {
    $t->wait_log(qr/session ended/);
    $lines = () = $t->lines('all.json');
    return;
}
