# XCLIENT: a node is told who the client is, as far as it wants to know, and
# again whenever a kept connection serves another client.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

$t->keys(user => 'secret', 'other+one' => 'secret');
$t->certificates('node.example');

my @all = ('PIPELINING', 'XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR',
           'SIZE');

my %nodes = (
    all => { ehlo => \@all },
    some => { ehlo => [ 'XCLIENT ADDR LOGIN' ] },
    nothing => { ehlo => [ 'XCLIENT' ] },
    tls => { ehlo => \@all, tls => 'starttls',
             cert => $t->dir() . '/node.example' },
    none => { },
    refuses => { ehlo => \@all, script => { XCLIENT => '550 5.7.0 Not you' } },
    wrong => { ehlo => \@all, script => { XCLIENT => '250 2.0.0 Ok' } },
    closes => { ehlo => \@all, script => { XCLIENT => ':close' } },
    silent => { ehlo => \@all, script => { XCLIENT => ':silent' } },
    early => { ehlo => \@all, script => {
        XCLIENT => { raw => "220 a\r\n250 b\r\n" } } },
    ehlo => { ehlo => \@all, script => {
        EHLO => [ undef, '421 4.3.2 Bye' ] } },
    once => { ehlo => \@all, script => {
        EHLO => [ undef, '250 node.example' ] } },
    helo => { ehlo => \@all, script => { EHLO => sub {
        return $_[0] =~ /bad/ ? '501 5.5.2 Bad name' : undef } } },
    less => { ehlo => \@all, script => {
        EHLO => [ undef, "250-node.example\n250 XCLIENT ADDR PORT" ] } },
    dies => { ehlo => \@all, script => {
        XCLIENT => [ undef, { reply => '421 4.3.2 Bye', then => ':close' } ],
    } },
);

my %n = map { $_ => $t->node($_, %{ $nodes{$_} }) } sort keys %nodes;

my $servers = join '', map { <<"EOC" } sort keys %nodes;
    server {
        listen           127.0.0.1:%%PORT_to_$_%%;
        smtp_relay_pass  127.0.0.1:%%PORT_$_%%;
    }
EOC

$t->start(<<"EOC");
stream {
    smtp_relay_hostname       relay.example;
    smtp_relay_starttls       off;
    smtp_relay_auth_file      keys;
    smtp_relay_reply_timeout  500ms;
    smtp_relay_xclient        on;
    smtp_relay_ssl_verify     off;

    server {
        listen              127.0.0.1:%%PORT_starttls%%;
        smtp_relay_pass     127.0.0.1:%%PORT_tls%%;
        smtp_relay_ssl      starttls;
    }

    server {
        listen              127.0.0.1:%%PORT_off%%;
        smtp_relay_pass     127.0.0.1:%%PORT_all%%;
        smtp_relay_xclient  off;
    }

    server {
        listen              127.0.0.1:%%PORT_real%% proxy_protocol;
        set_real_ip_from    127.0.0.1;
        smtp_relay_pass     127.0.0.1:%%PORT_all%%;
    }

    upstream next {
        server  127.0.0.1:%%PORT_refuses%%;
        server  127.0.0.1:%%PORT_some%% backup;
    }

    server {
        listen              127.0.0.1:%%PORT_next%%;
        smtp_relay_pass     next;
    }

$servers
}
EOC

# the whole of it

my $c = $t->client('to_all');
my $port = $c->socket_object()->sockport();
$c->must(undef, '220');
$c->must('EHLO client.example', '250');
$c->login('other+one', 'secret');
like($c->message("one\r\n"), qr/^250/, 'a message');
like($c->message("two\r\n"), qr/^250/, 'another one');

my @commands = $n{all}->commands();

is(join(' ', map { /^(\w+)/ } @commands),
   'EHLO XCLIENT EHLO MAIL RCPT DATA MAIL RCPT DATA',
   'XCLIENT is sent once for a session, and EHLO again');
is($commands[1], "XCLIENT NAME=[UNAVAILABLE] ADDR=127.0.0.1 PORT=$port"
   . ' PROTO=ESMTP HELO=client.example LOGIN=other+2Bone',
   'all attributes, as xtext');

is($commands[2], 'EHLO client.example', 'EHLO has the name of the client');

my $bad = $t->client('to_helo');
$bad->must(undef, '220');
$bad->must('EHLO bad.example', '250');
$bad->login();
like($bad->message("text\r\n"), qr/^250/, 'a name that a node refuses');
is(join(' ', ($n{helo}->commands())[2, 3]),
   'EHLO bad.example EHLO relay.example', 'is not insisted on');

# another client on the same connection

my $d = $t->client('to_all');
my $port2 = $d->socket_object()->sockport();
$d->must(undef, '220');
$d->must('HELO other.example', '250');
$d->must('EHLO [IPv6:::1]', '250');
$d->login('user', 'secret');
like($d->message("three\r\n"), qr/^250/, 'a message of another client');
like($c->message("four\r\n"), qr/^250/, 'and again of the first');

@commands = $n{all}->commands();
is($n{all}->connections(), 1, 'on the same connection');
is(join(' ', map { /^(\w+)/ } @commands[9 .. $#commands]),
   'XCLIENT EHLO MAIL RCPT DATA XCLIENT EHLO MAIL RCPT DATA',
   'XCLIENT is sent for each');
like($commands[9], qr/PORT=$port2 PROTO=ESMTP HELO=\[IPv6:::1\] LOGIN=user\z/,
     'the other client');
is($commands[14], $commands[1], 'and the first one again');

# a new name

$c->must('EHLO new.example', '250');
like($c->message("five\r\n"), qr/^250/, 'a client that changes its name');
@commands = $n{all}->commands();
like($commands[19], qr/HELO=new.example/, 'XCLIENT is sent again');

# only what is offered

$c = $t->session('to_some');
like($c->message("text\r\n"), qr/^250/, 'a node that takes some attributes');
is(($n{some}->commands())[1], 'XCLIENT ADDR=127.0.0.1 LOGIN=user',
   'gets no more');

$c = $t->session('to_nothing');
like($c->message("text\r\n"), qr/^250/, 'a node that takes none');
is(($n{nothing}->commands())[1] =~ /^(\w+)/ && $1, 'MAIL', 'gets none');

$c = $t->session('off');
my $before = $n{all}->connections();
like($c->message("text\r\n"), qr/^250/, 'xclient off');
unlike(join("\n", $n{all}->commands($before + 1)), qr/XCLIENT/,
       'nothing is told');

# TLS first

$c = $t->session('starttls');
like($c->message("text\r\n"), qr/^250/, 'with STARTTLS');
is(join(' ', map { /^(\w+)/ } $n{tls}->commands()),
   'EHLO STARTTLS EHLO XCLIENT EHLO MAIL RCPT DATA', 'it comes after TLS');

# long values go in lines of their own

$c = $t->client('to_all');
my $long = 'x' x 250;
$c->must(undef, '220');
$c->must("EHLO =$long", '250');
$c->login();
like($c->message("text\r\n"), qr/^250/, 'a long name') or diag($c->dialogue());
my $log = $n{all}->dialogue();
ok(!(grep { length > 510 } $n{all}->commands()), 'no line is too long');
like($log, qr/HELO=\+3D$long/, 'nothing is cut off');

my $utf8 = "\xc3\xbc" x 120;
$c->must("EHLO $utf8", '250');
like($c->message("text\r\n"), qr/^250/, 'a long name in UTF-8')
    or diag($c->dialogue());
@commands = $n{all}->commands();
my @x = grep { /^XCLIENT/ } @commands;
like($x[-1], qr/^XCLIENT LOGIN=user\z/, 'the last of several commands');
like(join('', map { $n{all}->received($_) } 1 .. $n{all}->connections()),
     qr/^XCLIENT HELO=(\+C3\+BC){120}\r$/m, 'one is all HELO');

# the real address

for my $case ([ 'TCP4 192.0.2.7 192.0.2.1 4711 25', 'ADDR=192.0.2.7 PORT=4711' ],
              [ 'TCP6 2001:db8::7 2001:db8::1 4712 25',
                'ADDR=IPV6:2001:db8::7 PORT=4712' ])
{
    my ($header, $want) = @$case;

    $c = $t->client('real');
    $c->send("PROXY $header\r\n");
    $c->must(undef, '220');
    $c->must('EHLO client.example', '250');
    $c->login();
    $before = $n{all}->connections();
    like($c->message("text\r\n"), qr/^250/, "$header: a message");
    my @lines = map { $n{all}->commands($_) } $before, $before + 1;
    ok((grep { /\Q$want\E/ } @lines), "$header: $want")
        or diag(join "\n", @lines);
}

# nodes that will not

my %log = (none => qr/upstream does not offer XCLIENT/,
           refuses => qr/invalid reply to XCLIENT: "550 5.7.0 Not you/,
           wrong => qr/invalid reply to XCLIENT: "250/,
           closes => qr/prematurely closed.*reply to XCLIENT/,
           silent => qr/timed out.*reply to XCLIENT/,
           early => qr/data before a command: "250 b/,
           ehlo => qr/invalid reply to EHLO: "421/);

for my $name (sort keys %log) {
    $c = $t->session("to_$name");
    $c->try('MAIL FROM:<a@b.example>', '451 4.4.1', "$name: no message");
    $c->try('NOOP', '250', "$name: the session goes on");
    ok($t->wait_log($log{$name}), "$name: it is logged");
    unlike(join("\n", map { $n{$name}->commands($_) }
                     1 .. $n{$name}->connections()), qr/MAIL/,
           "$name: no MAIL is sent");
}

$c = $t->session('next');
like($c->message("text\r\n"), qr/^250/, 'another node is tried');

# nodes that cannot be told of another client

for my $name ('once', 'less') {
    $c = $t->session("to_$name");
    $d = $t->session("to_$name");
    like($_->message("text\r\n"), qr/^250/, "$name: a message")
        for $c, $c, $d;
    is($n{$name}->connections(), 2, "$name: a connection for each client");
}

# a kept connection that is closing is replaced

$c = $t->session('to_dies');
$d = $t->session('to_dies');
like($_->message("text\r\n"), qr/^250/, 'dies: a message') for $c, $d;
is($n{dies}->connections(), 2, 'dies: a 421 is not noticed');

done_testing();
