# STARTTLS and what somebody on the way puts in front of it or behind it, in
# both directions: towards clients and towards nodes no octet that came in
# the clear counts for anything once TLS is there, whenever it arrives.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ sleep /;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

$t->keys(user => 'secret');
$t->certificates('localhost', 'node.example');

my %tls = (tls => 'starttls', cert => "$dir/node.example",
           script => { MAIL => sub { $_[0] =~ /slow/ ? { delay => 0.3 }
                                                     : undef } });
my $ehlo = "250-node.example\r\n250-AUTH PLAIN\r\n250-XCLIENT NAME ADDR\r\n"
           . "250 PIPELINING\r\n";
my $go = "220 2.0.0 Go ahead\r\n";

# what somebody between relay and node may do

my %between = (

    # replies that are to be taken for those of the other end of TLS
    behind => { STARTTLS => { raw => "$go$ehlo" } },
    behind_ok => { STARTTLS => { raw => "${go}250 Ok\r\n" } },
    behind_half => { STARTTLS => { raw => "${go}250" } },
    behind_octet => { STARTTLS => { raw => "$go\n" } },
    behind_soon => { STARTTLS => { pieces => [ $go, $ehlo ] } },
    behind_lines => { STARTTLS => { raw => "220-Go\r\n220 ahead\r\n$ehlo" } },

    # all of them in front
    ahead => { connect => { raw => "220 node\r\n250-node\r\n250 STARTTLS\r\n"
                                   . "$go$ehlo" } },
    ahead_ehlo => { EHLO => { raw => "250-node\r\n250 STARTTLS\r\n$go$ehlo" } },

    # STARTTLS taken away
    stripped => { EHLO => "250-node.example\n250 PIPELINING" },
    masked => { EHLO => "250-node.example\n250-XXXXXXXA\n250 PIPELINING" },
    named => { EHLO => "250-STARTTLS\n250 PIPELINING" },
    refused => { STARTTLS => '454 4.7.0 Not now' },
    unknown => { STARTTLS => '500 5.5.2 What' },
    helo => { EHLO => '502 5.5.1 What' },
    okay => { STARTTLS => '250 2.0.0 Ok' },
    plain => { STARTTLS => { raw => $go, then => ':silent' } },
);

my %n = (good => $t->node('good', %tls), auth => $t->node('auth', %tls));

for my $name (keys %between) {
    $n{$name} = $t->node($name, %tls, script => $between{$name});
}

# in the clear it offers what it does not in TLS

$n{offers} = $t->node('offers', %tls, script => { EHLO => [
    "250-node.example\n250-STARTTLS\n250-AUTH PLAIN\n250-XCLIENT NAME ADDR LOGIN\n"
    . "250-CHUNKING\n250-SMTPUTF8\n250-DSN\n250 PIPELINING",
    '250 node.example' ] });

# an auth service that takes its time

my $auth = $t->auth_service('auth_service', answer => sub {
    return { act => { raw => "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n"
                             . "Content-Length: 0\r\n\r\n", delay => 0.3 } };
});

my $servers = join '', map { <<"EOC" } sort keys %n;
    server {
        listen           127.0.0.1:%%PORT_to_$_%%;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:%%PORT_$_%%;
    }
EOC

$t->start(<<"EOC");
stream {
    log_format  line  '\$smtp_relay_event \$smtp_relay_helo \$ssl_protocol '
                      '\$smtp_relay_user';
    access_log  access.log  line;

    smtp_relay_hostname                 relay.example;
    smtp_relay_connect_timeout          2s;
    smtp_relay_reply_timeout            2s;
    smtp_relay_ssl                      starttls;
    smtp_relay_ssl_trusted_certificate  ca.crt;
    smtp_relay_ssl_name                 node.example;
    ssl_handshake_timeout               1s;
    ssl_certificate                     localhost.crt;
    ssl_certificate_key                 localhost.key;

    server {
        listen               127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls  on;
        smtp_relay_auth_file keys;
        smtp_relay_pass      127.0.0.1:%%PORT_good%%;
    }

    server {
        listen               127.0.0.1:%%PORT_service%%;
        smtp_relay_starttls  on;
        smtp_relay_auth      http://127.0.0.1:%%PORT_auth_service%%/;
        smtp_relay_pass      127.0.0.1:%%PORT_good%%;
    }

    smtp_relay_starttls  off;

$servers
    server {
        listen                127.0.0.1:%%PORT_xclient%%;
        smtp_relay_auth_file  keys;
        smtp_relay_xclient    on;
        smtp_relay_pass       127.0.0.1:%%PORT_offers%%;
    }

    server {
        listen                127.0.0.1:%%PORT_login%%;
        smtp_relay_auth_file  keys;
        smtp_relay_node_auth  pass;
        smtp_relay_pass       127.0.0.1:%%PORT_offers%%;
    }
}
EOC

# --- towards clients ---------------------------------------------------------

# commands behind STARTTLS, in its flight or a moment later

my @injected = (
    "EHLO inject.example\r\n", "RSET\r\n", "NOOP\r\n", "\r\n", "\n", "\0",
    "QUIT\r\n", "STARTTLS\r\n", 'E', " \t", "NOOP",
    'AUTH PLAIN ' . SMTPRelay::Client->plain('user', 'secret') . "\r\n",
    "EHLO i\r\nMAIL FROM:<inject\@b.example>\r\nRCPT TO:<c\@d.example>\r\n"
    . "DATA\r\ninject\r\n.\r\n",
    "BDAT 10 LAST\r\ninject\r\n\r\n", "\x16\x03\x01",
);

for my $octets (@injected) {
    my $what = visible($octets, 30);

    for my $front ('', "NOOP\r\n", "RSET\r\nHELP\r\n") {
        my $c = $t->greeted('smtp');
        $c->send("${front}STARTTLS\r\n$octets");
        my $got = $c->drain(3);
        unlike($got, qr/^220 2/m, visible($front) . "$what: no TLS begins");
        is(scalar(() = $got =~ /\n/g), scalar(() = $front =~ /\n/g),
           'and no reply to it');
    }

    # whether it is in time to be seen with STARTTLS or not

    my $c = $t->greeted('smtp');
    $c->send("STARTTLS\r\n");
    $c->send($octets);

    my $reply = $c->reply();
    next if $reply =~ /^\(/;

    if ($c->start_tls()) {
        fail("$what, a moment later: TLS begins")

    } else {
        pass("$what, a moment later: TLS does not begin");
    }
}

# a line of STARTTLS that is not one

for my $line ("STARTTLS\n", "STARTTLS\r", "STARTTLS\r\r\n", "STARTTLS\0\r\n",
              "STARTTLS\n\r\n", "STARTTLS \0\r\n", "STARTTLS\x0b\r\n",
              "STARTTLS,\r\n", "STARTTLS\rNOOP\r\n")
{
    my $c = $t->greeted('smtp');
    $c->send("$line");
    $c->send("\r\n") if $line !~ /\n/;
    like($c->reply(), qr/^50[01] /, visible($line) . ': refused');
    my @lines = map { $c->reply(0.05) } 1 .. ($line =~ /\n./ ? 2 : 1);
    unlike("@lines", qr/^220/m, 'and no TLS begins');
}

# while the answer to something else is awaited: it comes in the clear, and
# is told before TLS starts; nothing of it is known after

my %waiting = (
    'AUTH in flight' => [ 'service', 'AUTH PLAIN '
        . SMTPRelay::Client->plain('user', 'secret') ],
    'MAIL in flight' => [ 'smtp', 'MAIL FROM:<slow@b.example>' ],
);

for my $what (sort keys %waiting) {
    my ($port, $line) = @{ $waiting{$what} };
    my $c = $port eq 'smtp' ? $t->session($port) : $t->greeted($port);

    $c->send("$line\r\nSTARTTLS\r\n");
    like($c->reply(), qr/^2[35][05] /, "$what: its reply comes first");
    $c->expect('220', 'then that to STARTTLS');
    ok($c->start_tls(), 'then TLS');
    ok($c->is_silent(0.1), 'in which nothing comes unasked');
    $c->try('MAIL FROM:<a@b.example>', qr/^5[03][03] /,
            'nobody is logged in there');
    $c->must('EHLO a.example', '250');
    $c->try('RCPT TO:<c@d.example>', qr/^5[03][03] /, 'there is no message');
    $c->try('DATA', qr/^5[03][03] /, 'nor is there one in DATA');
    $c->must('QUIT', '221');
}

# as content, as an answer to AUTH

my $c = $t->session('smtp');
$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
$c->send("STARTTLS\r\n.\r\nSTARTTLS\r\n");
$c->expect('250', 'STARTTLS in content is content');
$c->expect('220', 'and behind it a command');
ok($c->start_tls(), 'that begins TLS');
is($n{good}->last_message()->{data}, "STARTTLS\r\n", 'the content');

$c = $t->session('smtp');
$c->envelope('a@b.example', 'c@d.example');
$c->send("BDAT 10\r\nSTARTTLS\r\nSTARTTLS\r\n");
$c->expect('250', 'STARTTLS in a chunk is content');
$c->expect('220', 'behind it it is a command');
ok($c->start_tls(), 'that begins TLS');
$c->must('EHLO a.example', '250');
$c->try('BDAT 0 LAST', qr/^5[03][03] /, 'and ends the message');

$c = $t->greeted('smtp');
$c->must('AUTH LOGIN', '334');
$c->try('STARTTLS', '501 5.5.2', 'STARTTLS as an answer to AUTH');
ok($c->is_silent(0.05), 'begins no TLS');

# replies in the clear are over before TLS: one flight of octets each way

$c = $t->greeted('smtp');
$c->send('NOOP' . "\r\nNOOP" x 300 . "\r\nSTARTTLS\r\n");
$c->must(undef, '250') for 0 .. 300;
$c->must(undef, '220');
ok($c->start_tls(), 'behind three hundred replies TLS begins');
$c->try('EHLO a.example', qr/^250-relay\.example Hello a\.example/,
        'its first reply is that to EHLO');

# the name given before TLS is not in the log of the session

$c = $t->greeted('smtp');
$c->must('EHLO before.example', '250');
$c->must('STARTTLS', '220');
$c->start_tls();
$c->must('QUIT', '221');
ok(wait_until { grep { /^session - TLSv1\.\d -$/ } $t->lines('access.log') },
   'the name of EHLO is forgotten');
ok(!(grep { /before/ } $t->lines('access.log')), 'it is not in the log');

# --- towards nodes -----------------------------------------------------------

for my $name (sort keys %between) {
    my $s = $t->session("to_$name");
    my $reply = $s->ask('MAIL FROM:<private@b.example>');

    $reply = $s->ask('RCPT TO:<private@d.example>') if $reply =~ /^250/;
    like($reply, qr/^451 4\.4\.[12] /, "$name: no message");
    $s->try('QUIT', '221', 'but a session that goes on');

    unlike(join('', map { $n{$name}->received($_) }
                    1 .. $n{$name}->connections()),
           qr/private|XCLIENT|MAIL|AUTH|LOGIN|user/i,
           "$name: nothing of it is sent in the clear");
}

my $s = $t->session('to_offers');
my $utf8 = "m\xc3\xbcll\@b.example";
like($s->ask("MAIL FROM:<$utf8> SMTPUTF8"), qr/^55[0-9] /,
     'what was offered in the clear only is not used: SMTPUTF8');
like($s->message("x\r\n"), qr/^250/, 'a message');

for my $port (qw/ xclient login /) {
    $s = $t->session($port);
    $s->try('MAIL FROM:<a@b.example>', '451 4.4.1',
            "nor is what is needed for $port");
}

is(join(' ', grep { /XCLIENT|BDAT|AUTH/ } map { $n{offers}->commands($_) }
             1 .. $n{offers}->connections()), '', 'no command of these is sent');

$s = $t->session('to_good');
like($s->message("x\r\n"), qr/^250/, 'with a node that is left in peace it works');

done_testing();
