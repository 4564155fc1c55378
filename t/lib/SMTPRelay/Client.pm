package SMTPRelay::Client;

# An SMTP client that sends what it is told, octet for octet.
#
#     port, address     where to; default address: 127.0.0.1
#     local             its own address; default: what the system chooses
#     tls               1: TLS from the start
#     sni, cert, key, alpn, reuse   of TLS
#     name              for failure output
#
# A reply is given as its text: lines joined by "\n", without CRLF. What is
# no reply is told in words: "(closed)", "(reset)", "(silence)",
# "(no reply: octets)".

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::SSL;
use MIME::Base64 qw/ encode_base64 /;
use Socket qw/ SOL_SOCKET SO_LINGER IPPROTO_TCP TCP_NODELAY /;
use Test::More ();
use Time::HiRes qw/ time sleep /;

use SMTPRelay::Util qw/ patience visible is_child /;

sub new {
    my ($class, %options) = @_;

    my $self = bless { address => '127.0.0.1', name => 'client', %options,
                       in => '', dialogue => [] }, $class;

    $self->{socket} = IO::Socket::INET->new(
        PeerAddr => $self->{address}, PeerPort => $self->{port},
        $self->{local} ? (LocalAddr => $self->{local}) : (),
        Timeout => patience())
        or die "cannot connect to port $self->{port}: $!\n";

    setsockopt $self->{socket}, IPPROTO_TCP, TCP_NODELAY, 1;
    $self->{socket}->blocking(0);
    $self->start_tls() if $self->{tls};

    return $self;
}

sub DESTROY {
    my ($self) = @_;

    return if is_child() || !$self->{socket};
    local ($?, $!, $@);
    $self->close();
}

# --- octets ------------------------------------------------------------------

# Starts TLS on the connection. True when it worked; if not, tls_error()
# tells why.

sub start_tls {
    my ($self) = @_;

    my %options = (
        SSL_verify_mode => $self->{ca} ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
        SSL_startHandshake => 0,
    );

    $options{SSL_ca_file} = $self->{ca} if $self->{ca};
    $options{SSL_hostname} = $self->{sni} // '';
    $options{SSL_verifycn_scheme} = 'none';
    $options{SSL_session_cache} = $self->{session_cache}
        if $self->{session_cache};
    $options{SSL_session_key} = 'relay' if $self->{session_cache};
    $options{SSL_version} = $self->{version} if $self->{version};

    if ($self->{cert}) {
        $options{SSL_cert_file} = $self->{cert};
        $options{SSL_key_file} = $self->{key};
    }

    IO::Socket::SSL->start_SSL($self->{socket}, %options);

    my $deadline = time() + patience();

    until ($self->{socket}->connect_SSL()) {
        my $wait = $SSL_ERROR == SSL_WANT_READ ? 'can_read'
                 : $SSL_ERROR == SSL_WANT_WRITE ? 'can_write' : undef;

        if (!$wait || time() > $deadline) {
            $self->{tls_error} = "$SSL_ERROR";
            $self->_note('*', "TLS failed: $SSL_ERROR");
            return 0;
        }

        IO::Select->new($self->{socket})->$wait($deadline - time());
    }

    $self->{secure} = 1;
    $self->_note('*', 'TLS started');
    return 1;
}

sub tls_error { return $_[0]{tls_error} }

# The common name of the peer's certificate.

sub peer_name {
    my ($self) = @_;
    return $self->{socket}->peer_certificate('cn');
}

sub socket_object { return $_[0]{socket} }

# Sends all octets. False when the connection does not take them.

sub send {
    my ($self, $octets) = @_;

    my $sent = $self->send_some($octets, patience());
    return $sent == length $octets;
}

# Sends as many octets as the connection takes until nothing has moved for
# that many seconds. Returns how many.

sub send_some {
    my ($self, $octets, $seconds) = @_;

    $self->_note('>', $octets);

    my $select = IO::Select->new($self->{socket});
    my $sent = 0;
    my $deadline = time() + $seconds;

    while ($sent < length $octets) {
        my $n = syswrite $self->{socket}, $octets, 16384, $sent;

        if ($n) {
            $sent += $n;
            $deadline = time() + $seconds;
            next;
        }

        last if !defined $n && !$!{EAGAIN} && !$!{EWOULDBLOCK}
                && !($self->{secure} && $SSL_ERROR
                     && ($SSL_ERROR == SSL_WANT_WRITE
                         || $SSL_ERROR == SSL_WANT_READ));
        last if time() > $deadline;

        $select->can_write(0.1);
    }

    return $sent;
}

# Sends the octets in packets of so many octets each.

sub send_split {
    my ($self, $octets, $size) = @_;

    while (length $octets) {
        $self->send(substr $octets, 0, $size // 1, '') or return 0;
        sleep(0.0002);
    }

    return 1;
}

# Sends the octets in two packets, cut at that offset.

sub send_cut {
    my ($self, $octets, $at) = @_;

    $self->send(substr $octets, 0, $at, '');
    sleep(0.002);
    return $self->send($octets);
}

# Sends a line.

sub line {
    my ($self, $line) = @_;
    return $self->send("$line\r\n");
}

# Reads one reply.

sub reply {
    my ($self, $seconds) = @_;

    my $deadline = time() + patience($seconds);
    my $text = '';
    my $end;

    while (1) {
        if ($self->{in} =~ /\A(([2-5]\d\d)(?:-[^\r\n]*\r\n\2)*
                               (?:\x20[^\r\n]*)?)\r\n/x)
        {
            $text = $1;
            substr $self->{in}, 0, length($text) + 2, '';
            $text =~ s/\r\n/\n/g;
            last;
        }

        $end = $self->_fill($deadline);

        if ($end) {
            $text = length $self->{in} ? '(no reply: '
                                         . visible($self->{in}) . ')'
                                       : "($end)";
            $self->{in} = '' if $end ne 'silence';
            last;
        }
    }

    $self->_note('<', $text);
    return $text;
}

# Reads what comes until the connection ends or nothing more comes for that
# long; gives the octets.  Where something has to come that matches a pattern,
# it is waited for.

sub drain {
    my ($self, $seconds, $pattern) = @_;

    my $deadline = time() + patience();
    my $end;

    do {
        $end = $self->_fill(time() + patience($seconds));
    } until $end && ($end ne 'silence' || time() > $deadline
                     || $self->{in} =~ ($pattern // qr//));

    my $octets = $self->{in};
    $self->{in} = '';
    $self->_note('<', "$octets ($end)");

    return $octets;
}

# How the connection goes on: "closed", "reset", or "silence" when it is
# open and nothing comes for that long. What comes in spite is told.

sub state {
    my ($self, $seconds) = @_;

    my $end = length $self->{in} ? undef
                                 : $self->_fill(time() + patience($seconds));

    $end = 'octets: ' . visible($self->{in}) if length $self->{in};
    $self->_note('*', $end);
    return $end;
}

# The connection has stayed open and silent for that long.

sub is_silent {
    my ($self, $seconds) = @_;
    return $self->state($seconds // 0.1) eq 'silence';
}

sub close {
    my ($self) = @_;

    my $socket = delete $self->{socket} or return;
    $self->_note('*', 'closes');

    $self->{secure} ? $socket->close(SSL_fast_shutdown => 1)
                    : CORE::close($socket);
    return;
}

# Closes with an RST.

sub reset {
    my ($self) = @_;

    my $socket = delete $self->{socket} or return;
    $self->_note('*', 'resets');

    setsockopt $socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    $self->{secure} ? $socket->close(SSL_no_shutdown => 1) : CORE::close($socket);
    return;
}

# Ends the sending direction only.

sub shut_write {
    my ($self) = @_;

    $self->_note('*', 'ends sending');
    shutdown $self->{socket}, 1;
    return;
}

# One read into the buffer. Nothing on success, else how the connection
# ended, or "silence" after the deadline.

sub _fill {
    my ($self, $deadline) = @_;

    my $socket = $self->{socket} or return 'closed';

    while (1) {
        my $n = sysread $socket, $self->{in}, 65536, length $self->{in};

        return if $n;
        return 'closed' if defined $n;

        my $wait = $!{EAGAIN} || $!{EWOULDBLOCK}
                   || ($self->{secure} && $SSL_ERROR
                       && ($SSL_ERROR == SSL_WANT_READ
                           || $SSL_ERROR == SSL_WANT_WRITE));

        return $!{ECONNRESET} ? 'reset' : 'closed' unless $wait;

        my $left = $deadline - time();
        return 'silence' if $left <= 0;
        IO::Select->new($socket)->can_read($left);
    }
}

# --- steps of a session ------------------------------------------------------

# Sends a line and gives the reply.

sub ask {
    my ($self, $line) = @_;

    $self->line($line);
    return $self->reply();
}

# Credentials of AUTH PLAIN.

sub plain {
    my (undef, $user, $secret, $identity) = @_;
    return encode_base64(($identity // '') . "\0$user\0$secret", '');
}

# Steps that must work for a test to have a sense: they die if they do not.

sub must {
    my ($self, $line, $want) = @_;

    my $reply = defined $line ? $self->ask($line) : $self->reply();
    return $reply if _matches($reply, $want);

    die 'got "', visible($reply), '" where "', $want, "\" is needed\n",
        $self->dialogue();
}

sub login {
    my ($self, $user, $secret) = @_;

    $self->must('AUTH PLAIN ' . $self->plain($user // 'user',
                                             $secret // 'secret'), '235');
    return $self;
}

# Gives an envelope; dies unless all of it is taken.

sub envelope {
    my ($self, $from, @to) = @_;

    $self->must("MAIL FROM:<$from>", '250');
    $self->must("RCPT TO:<$_>", '250') for @to;
    return $self;
}

# Sends a message by DATA as it stands: the caller puts dots and line ends.
# Gives the last reply.

sub message {
    my ($self, $content, $from, @to) = @_;

    $self->envelope($from // 'sender@example.com',
                    @to ? @to : 'rcpt@example.net');
    $self->must('DATA', '354');
    $self->send("$content.\r\n");
    return $self->reply();
}

# --- checks ------------------------------------------------------------------

# A line is sent and its reply is as wanted: a pattern, or a text that the
# reply equals or starts with, up to the end of a word.

sub try {
    my ($self, $line, $want, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $self->_check($self->ask($line), $want, $name);
}

# The next reply is as wanted.

sub expect {
    my ($self, $want, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $self->_check($self->reply(), $want, $name);
}

# The connection is closed and nothing more was sent on it.

sub expect_closed {
    my ($self, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $state = $self->state();
    $state = 'closed' if $state eq 'reset';
    $self->close() if $state eq 'closed';
    return $self->_check("($state)", '(closed)', $name);
}

sub _matches {
    my ($got, $want) = @_;

    return $got =~ $want if ref $want;
    return $got =~ /^\Q$want\E(?!\w|\.\d)/;
}

sub _check {
    my ($self, $got, $want, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    return 1 if Test::More::ok(_matches($got, $want), $name);

    Test::More::diag("    got:    ", visible($got));
    Test::More::diag("    wanted: ", ref $want ? $want : visible($want));
    Test::More::diag($self->dialogue());
    return 0;
}

# What was said so far.

sub dialogue {
    my ($self) = @_;
    return join '', map { "$self->{name} $_\n" } @{ $self->{dialogue} };
}

sub _note {
    my ($self, $arrow, $octets) = @_;

    my $lines = $self->{dialogue};
    push @$lines, "$arrow " . visible($octets, 200);

    # sessions may be long
    splice @$lines, 10, 20, '* ...' if @$lines > 200;
    return;
}

1;
