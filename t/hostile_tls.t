# TLS with peers that abuse it: renegotiation, from clients and from nodes,
# new keys all the time, handshakes that are broken, cut or never meant, and
# floods of them.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

BEGIN {
    package Renegotiator;

    # a node that wants a new handshake in front of each reply to RCPT

    our @ISA = ('SMTPRelay::Node');
    $INC{'Renegotiator.pm'} = 1;
}

use SMTPRelay::Node;

use IO::Select;
use IO::Socket::SSL;
use IPC::Open2;
use Net::SSLeay;
use POSIX ();
use Time::HiRes qw/ time sleep /;

my $PROCESSES = 3;

my $t = SMTPRelay::Test->new();

# what earlier versions of nginx do not know to be a client's fault
$t->{expected_alerts} = qr/SSL_do_handshake\(\) failed/
    unless $t->has_version('1.25.0');

my $dir = $t->dir();

$t->keys(user => 'secret');
$t->certificates('localhost', 'node.example');

my $node = $t->node('node');
my $again = $t->_daemon('Renegotiator', 'again', tls => 'on',
                        cert => "$dir/node.example", version => 'TLSv1_2');

$t->start(<<'EOC');
stream {
    log_format  line  '$smtp_relay_event $status $ssl_protocol';
    access_log  access.log  line;

    smtp_relay_hostname    relay.example;
    smtp_relay_auth_file   keys;
    ssl_certificate        localhost.crt;
    ssl_certificate_key    localhost.key;
    ssl_protocols          TLSv1.2 TLSv1.3;
    ssl_session_cache      none;
    ssl_handshake_timeout  2s;

    server {
        listen           127.0.0.1:%%PORT_smtps%%  ssl;
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_to_again%%  ssl;
        smtp_relay_ssl         on;
        smtp_relay_ssl_verify  off;
        smtp_relay_pass        127.0.0.1:%%PORT_again%%;
    }
}
EOC

# --- renegotiation -----------------------------------------------------------

for my $port (qw/ smtps smtp /) {
    for my $when ('behind the greeting', 'within a message') {
        my $c = $t->client($port, version => 'TLSv1_2', tls => $port eq 'smtps');

        $c->must(undef, '220');

        if ($port eq 'smtp') {
            $c->must('STARTTLS', '220');
            $c->start_tls();
        }

        $c->must('EHLO a.example', '250');

        if ($when =~ /message/) {
            $c->login();
            $c->envelope('a@b.example', 'c@d.example');
            $c->must('DATA', '354');
            $c->send("half\r\n");
        }

        my $what = "$port, $when";
        my $ssl = $c->socket_object()->_get_ssl_object();

        is(Net::SSLeay::version($ssl), 0x0303, "$what: TLS 1.2");

        ok(Net::SSLeay::renegotiate($ssl), "$what: a new handshake is tried");

        my $rc = -1;
        my $deadline = time() + 2;

        while ($rc < 0 && time() < $deadline) {
            $rc = Net::SSLeay::do_handshake($ssl);
            last if $rc >= 0 || Net::SSLeay::get_error($ssl, $rc) != 2;
            IO::Select->new($c->socket_object())->can_read(0.3) or last;
        }

        cmp_ok($rc, '<', 1, "$what: in vain");
        Net::SSLeay::ERR_clear_error();

        # whether the connection is closed or goes on, it is as it was
        my $reply = $c->ask($when =~ /message/ ? '.' : 'NOOP');
        like($reply, qr/^250 |^\((?:closed|reset)/, "$what: nothing is mixed up");
    }
}

my $c = $t->session('to_again', tls => 1);
like($c->message("text\r\n"), qr/^250 |^451 /, 'a node that renegotiates');
$c->try('NOOP', '250', 'the session goes on');

# --- new keys ----------------------------------------------------------------

my $pid = open2(my $out, my $in, 'exec openssl s_client -tls1_3 -crlf -connect '
                                 . '127.0.0.1:' . $t->port('smtps') . ' 2>&1');
my $said = '';

$in->autoflush(1);
$out->blocking(0);
reads(qr/^220 relay/m);

# what s_client reads at one time is one command to it, so each waits for the
# one before

for my $n (1 .. 60) {
    print $in $n % 2 ? "K\n" : "k\n";
    reads(qr/^KEYUPDATE/m, $n) or last;
}

print $in "NOOP\n";
ok(reads(qr/^250 2\.0\.0/m), 'sixty new keys, then a command')
    or diag($said);
is(scalar(() = $said =~ /^KEYUPDATE/mg), 60, 'keys were new')
    or diag($said);
print $in "QUIT\n";
reads(qr/^221 /m);
close $in;
waitpid $pid, 0;

# --- what is no handshake ----------------------------------------------------

my %no_tls = (
    'SSLv2 hello' => "\x80\x2e\x01\0\2\0\x15\0\0\0\x10" . "\1\0\x80" x 7
                     . 'x' x 16,
    'a record of another version' => "\x16\x7f\x7f\0\5" . 'x' x 5,
    'the longest record' => "\x16\3\1\xff\xff" . 'x' x 65535,
    'an empty record' => "\x16\3\1\0\0" x 100,
    'a hello of 16 MB' => "\x16\3\1\x40\0\1\xff\xff\xff" . 'x' x 16381,
    'records of an octet' => join('', map { "\x16\3\1\0\1$_" }
                                  split //, "\1\0\0\x90\3\3" . 'x' x 0x8e),
    'data before the handshake' => "\x17\3\3\0\5EHLO\n",
    'alerts' => "\x15\3\1\0\2\1\0" x 50,
    'a fatal alert' => "\x15\3\1\0\2\2\x28",
    'a change of ciphers' => "\x14\3\1\0\1\1" x 50,
    'SMTP' => "EHLO a.example\r\nQUIT\r\n",
    'HTTP' => "GET / HTTP/1.1\r\nHost: relay.example\r\n\r\n",
    'zeros' => "\0" x 5000,
    'a greeting of nothing' => '',
);

for my $what (sort keys %no_tls) {
    for my $port (qw/ smtps smtp /) {
        my $s = $t->client($port);

        if ($port eq 'smtp') {
            $s->must(undef, '220');
            $s->must('STARTTLS', '220');
        }

        $s->send($no_tls{$what});
        $s->shut_write() if $what =~ /nothing/;
        my $got = $s->drain(4);
        unlike($got, qr/^\d\d\d/m, "$what, $port: no SMTP is spoken");
        ok(length $got < 100, 'and not much else');
    }
}

srand 7;

for (1 .. 60) {
    my $s = $t->client('smtps');
    my $hello = "\x16\3\1\0\x80\1\0\0\x7c\3\3"
                . join '', map { chr int rand 256 } 1 .. 122;
    $s->send($hello);
    $s->close();
}

# a handshake where SMTP is spoken

$c = $t->client('smtp');
$c->send("\x16\3\1\0\x80\1\0\0\x7c\3\3" . 'x' x 122);
unlike($c->drain(2), qr/^[345]/m, 'a handshake in place of SMTP');
ok($t->wait_log(qr/TLS/), 'which is said in the log');

# --- a flood -----------------------------------------------------------------

my $files = files();
my $memory = $t->memory();
my $until = time() + 2.5;
my @pids;

for my $n (1 .. $PROCESSES) {
    defined(my $child = fork()) or die "cannot fork: $!\n";

    if ($child) {
        push @pids, $child;
        next;
    }

    SMTPRelay::Util::in_child();
    flood($n);
    POSIX::_exit(0);
}

my @took;

while (!flooded()) {
    my $from = time();
    my $s = $t->session('smtps', tls => 1);
    my $reply = $s->message("text\r\n");

    $s->must('QUIT', '221');
    push @took, $reply =~ /^250/ ? time() - $from : 99;
}

waitpid $_, 0 for @pids;

my $handshakes = -s "$dir/handshakes" || 0;
my $broken = -s "$dir/broken" || 0;

@took = sort { $a <=> $b } @took;

cmp_ok($handshakes, '>', 20, 'a flood of handshakes');
cmp_ok($broken, '>', 60, 'and of such as are given up');
cmp_ok(scalar @took, '>', 2, 'while honest clients have sessions');
cmp_ok($took[-1], '<', 3 * factor(), 'in time');
note(sprintf '%d handshakes, %d given up, honest sessions: %d, median %.0f ms, '
     . 'longest %.0f ms', $handshakes, $broken, scalar @took,
     $took[$#took / 2] * 1000, $took[-1] * 1000);

ok((wait_until { files() <= $files + 1 } 15), 'no connection is left')
    or diag(files(), ", not $files");
cmp_ok($t->memory() - $memory, '<', 3000, 'KB of memory that are')
    unless $t->is_instrumented();

$c = $t->session('smtps', tls => 1);
like($c->message("text\r\n"), qr/^250/, 'nginx serves on');

done_testing();


# Handshakes, and starts of them, as fast as they can be had.

sub flood {
    my ($n) = @_;

    my $port = $t->port('smtps');
    my $hello = "\x16\3\1\0\x80\1\0\0\x7c\3\3" . 'x' x 122;

    while (!flooded()) {
        my $done = IO::Socket::SSL->new(PeerAddr => '127.0.0.1',
            PeerPort => $port, SSL_verify_mode => SSL_VERIFY_NONE,
            Timeout => 5);

        if ($done) {
            add_to("$dir/handshakes", '.');
            rand() < 0.5 ? $done->close(SSL_no_shutdown => 1) : $done->close();
        }

        for my $octets ('', substr($hello, 0, 7), $hello) {
            my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                               PeerPort => $port) or next;
            syswrite $socket, $octets if length $octets;
            close $socket;
            add_to("$dir/broken", '.');
        }
    }
}


# Whether the flood has lasted long enough: on a slow machine it takes longer
# until there is one.

sub flooded {
    my $left = $until - time();

    return $left < ((-s "$dir/handshakes" || 0) > 20 ? 0 : -10 * factor());
}


# Reads from s_client until that is there, as often as told.

sub reads {
    my ($pattern, $times) = @_;

    return wait_until {
        sysread $out, $said, 65536, length $said;
        (() = $said =~ /$pattern/g) >= ($times // 1);
    };
}


sub files {
    my ($worker) = $t->workers();
    return scalar(() = glob "/proc/$worker/fd/*");
}


package Renegotiator;

sub _do_RCPT {
    my ($self, $c, $arg) = @_;

    my $ssl = $c->{socket}->_get_ssl_object();

    $c->{socket}->blocking(1);
    Net::SSLeay::renegotiate($ssl);
    Net::SSLeay::do_handshake($ssl);

    return $self->SUPER::_do_RCPT($c, $arg);
}
