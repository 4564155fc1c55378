package SMTPRelay::Daemon;

# A server in processes of its own: one accepts, one more serves each
# connection.  What it sees it writes into files of its directory, where the
# test finds it.

use strict;
use warnings;

use IO::Select;
use IO::Socket::IP;
use POSIX ();
use Storable ();
use Socket qw/
    SOL_SOCKET SO_LINGER SO_RCVBUF IPPROTO_TCP TCP_NODELAY
/;
use Time::HiRes qw/ time sleep /;

use SMTPRelay::Util qw/
    patience wait_until reserve_port slurp spew add_to visible
    is_child in_child
/;

# dir      where its files go
# port     default: a free one
# address  default: 127.0.0.1
# tls      anything true: it has a certificate, NAME.crt and NAME.key for
# cert     NAME
# ca       file of the CA that certificates of clients must be of
# version  of TLS, as IO::Socket::SSL calls it
# context  instead of these four

sub new {
    my ($class, %options) = @_;

    my $self = bless { address => '127.0.0.1', %options }, $class;
    $self->{port} //= reserve_port();
    mkdir $self->{dir} or die "cannot make $self->{dir}: $!\n";

    $self->start() unless $self->{stopped};

    return $self;
}

sub port { return $_[0]{port} }

# Starts it, also again after stop(), on the same port.

sub start {
    my ($self) = @_;

    # made before connections are served, so that sessions of one can be
    # resumed on another
    $self->{context} //= $self->_tls_context() if $self->{tls};

    my $listener = IO::Socket::IP->new(
        LocalHost => $self->{address}, LocalPort => $self->{port},
        Listen => 511, ReuseAddr => 1)
        or die "cannot listen on port $self->{port}: $!\n";
    setsockopt $listener, SOL_SOCKET, SO_RCVBUF, $self->{rcvbuf}
        if $self->{rcvbuf};

    my $parent = $$;
    defined(my $pid = fork()) or die "cannot fork: $!\n";

    if ($pid) {
        $self->{pid} = $pid;
        return;
    }

    in_child();
    setpgrp();
    $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP __DIE__ /;
    $SIG{CHLD} = 'IGNORE';
    $SIG{PIPE} = 'IGNORE';

    eval { $self->_accept($listener, $parent) };
    warn "daemon: $@" if $@;
    POSIX::_exit(0);
}

sub _tls_context {
    my ($self) = @_;

    require IO::Socket::SSL;

    return IO::Socket::SSL::SSL_Context->new(
        SSL_server => 1,
        SSL_cert_file => "$self->{cert}.crt",
        SSL_key_file => "$self->{cert}.key",
        SSL_session_id_context => 'daemon',
        SSL_verify_mode => $self->{ca} ? 3 : 0,
        $self->{ca} ? (SSL_ca_file => $self->{ca}) : (),
        $self->{version} ? (SSL_version => $self->{version}) : (),
    ) || die "no TLS: " . IO::Socket::SSL::errstr() . "\n";
}

sub _accept {
    my ($self, $listener, $parent) = @_;

    my $select = IO::Select->new($listener);
    my $number = $self->connections();

    while (getppid() == $parent) {
        $select->can_read(0.5) or next;
        my $socket = $listener->accept() or next;

        $number++;
        add_to("$self->{dir}/connections", '.');

        defined(my $pid = fork()) or die "cannot fork: $!\n";
        next if $pid;

        $listener->close();
        setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;

        eval { $self->serve($socket, $number) };
        my $error = $@;

        if ($error && $error !~ /^end: /) {
            warn "daemon: $error";
        }

        $error =~ s/^end: //;
        chomp $error;
        spew($self->_file($number, 'end'), $error || 'closed');

        # the socket closes after what the test may wait for is written
        if ($error eq 'reset by script') {
            setsockopt $socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
        }

        close $socket;
        POSIX::_exit(0);
    }
}

sub stop {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;

    kill 'KILL', -$pid, $pid;
    waitpid $pid, 0;
    return;
}

sub DESTROY {
    my ($self) = @_;

    return if is_child();
    local ($?, $!, $@);
    $self->stop();
}

# How many connections were accepted so far.

sub connections {
    my ($self) = @_;
    return -s "$self->{dir}/connections" || 0;
}

# Waits for that many.

sub wait_connections {
    my ($self, $number) = @_;
    return wait_until { $self->connections() >= $number };
}

# All octets received on a connection, the first is 1.

sub received {
    my ($self, $number) = @_;
    return slurp($self->_file($number // 1, 'in')) // '';
}

# Waits until that connection has ended; tells how: "eof", "reset", "closed"
# by the daemon, "closed by script", "reset by script".

sub ended {
    my ($self, $number) = @_;

    my $file = $self->_file($number // 1, 'end');
    wait_until { -e $file };
    return slurp($file) // 'still open';
}

# What TLS of a connection is like: a hash of protocol, server_name, reused,
# client (the name in the client's certificate); undef: none was started.

sub tls {
    my ($self, $number) = @_;

    my $file = $self->_file($number // 1, 'tls');
    return -e $file ? Storable::retrieve($file) : undef;
}

# That connection has ended.

sub over {
    my ($self, $number) = @_;
    return -e $self->_file($number // 1, 'end');
}

# Opens a gate that a script waits at.

sub open_gate {
    my ($self, $name) = @_;
    spew("$self->{dir}/gate-$name", '');
    return;
}

# What was said on all connections, for failure output.

sub dialogue {
    my ($self) = @_;
    return join '', map { slurp($self->_file($_, 'log')) // '' }
        1 .. $self->connections();
}

sub _file {
    my ($self, $number, $kind) = @_;
    return sprintf '%s/%06d.%s', $self->{dir}, $number, $kind;
}

# --- in the process that serves a connection ---------------------------------

# Ends the connection for a reason, which the test can ask for by ended().

sub end { my (undef, $why) = @_; die "end: $why\n" }

# The connection goes on in TLS.

sub start_tls {
    my ($self, $c) = @_;

    IO::Socket::SSL->start_SSL($c->{socket}, SSL_server => 1,
        SSL_reuse_ctx => $self->{context}, Timeout => 10)
        or $self->end('no TLS');

    my $file = $self->_file($c->{number}, 'tls');

    Storable::nstore({
        protocol => $c->{socket}->get_sslversion(),
        server_name => scalar $c->{socket}->get_servername(),
        reused => $c->{socket}->get_session_reused() ? 1 : 0,
        client => $self->{ca} ? $c->{socket}->peer_certificate('cn') : undef,
    }, "$file.new");
    rename "$file.new", $file;

    $c->{tls} = 1;
}

# More octets into the connection's buffer.  Ends the connection at its end.

sub fill {
    my ($self, $c) = @_;

    my $got = sysread $c->{socket}, my $octets, 65536;

    $self->end('reset') unless defined $got;
    $self->end('eof') unless $got;

    $c->{in} .= $octets;
    $c->{record} //= $self->_open($c, 'in');
    syswrite $c->{record}, $octets;
    return;
}

# True when octets wait that were not looked at.

sub more {
    my ($self, $c) = @_;
    return 1 if length $c->{in};
    return IO::Select->new($c->{socket})->can_read(0) ? 1 : 0;
}

sub put {
    my ($self, $c, $octets) = @_;

    $self->note($c, '>', $octets);

    while (length $octets) {
        my $sent = syswrite $c->{socket}, $octets;
        $self->end('reset') unless defined $sent;
        substr $octets, 0, $sent, '';
    }

    return;
}

sub note {
    my ($self, $c, $arrow, $octets) = @_;

    $c->{log} //= $self->_open($c, 'log');
    syswrite $c->{log}, sprintf "%s #%d %s %s\n", $self->{name} // 'daemon',
        $c->{number}, $arrow, visible($octets);
    return;
}

sub _open {
    my ($self, $c, $kind) = @_;

    my $path = $self->_file($c->{number}, $kind);
    open my $fh, '>>:raw', $path or die "cannot write $path: $!\n";
    return $fh;
}

sub pass_gate {
    my ($self, $name) = @_;
    my $file = "$self->{dir}/gate-$name";
    wait_until { -e $file } 60;
    return;
}

# Carries out what a script says.  An action is a string, ":close", ":reset"
# or ":silent" (no answer, reads on), or a hash of these steps, in this
# order:
#
#     delay   seconds to wait first
#     gate    name of a gate to wait at first
#     raw     octets to send
#     pieces  list of octets to send, a moment between each; a reference
#             to a name is a gate to wait at
#     hold    name of a gate to wait at before more is read
#     then    ":close", ":reset" or ":silent"
#
# Returns what was sent.

sub act {
    my ($self, $c, $action) = @_;

    $action = { then => $action } unless ref $action;

    sleep($action->{delay}) if $action->{delay};
    $self->pass_gate($action->{gate}) if defined $action->{gate};

    my $sent = '';

    for my $piece (grep { defined } $action->{raw},
                   @{ $action->{pieces} || [] })
    {
        if (ref $piece) {
            $self->pass_gate($$piece);
            next;
        }

        sleep(0.003) if length $sent;
        $c->{before}->($piece) if $c->{before} && !length $sent;
        $self->put($c, $piece);
        $sent .= $piece;
    }

    $self->pass_gate($action->{hold}) if defined $action->{hold};

    my $then = $action->{then} // '';

    $self->end('closed by script') if $then eq ':close';
    $self->end('reset by script') if $then eq ':reset';

    if ($then eq ':silent') {
        $self->fill($c) while 1;
    }

    return $sent;
}

1;
