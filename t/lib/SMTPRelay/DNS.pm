package SMTPRelay::DNS;

# A name server on UDP, in a process of its own.
#
#     dir      where it writes the names it was asked for
#     names    a hash: addresses of a name (a list; empty: none of them),
#              or "silent"; any other name does not exist
#     ttl      of the answers, default 300
#
# Addresses with a colon are answers to AAAA, all others to A.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket ();
use Storable ();

use SMTPRelay::Util qw/ slurp add_to is_child in_child /;

sub new {
    my ($class, %options) = @_;

    my $self = bless { %options }, $class;
    mkdir $self->{dir} or die "cannot make $self->{dir}: $!\n";

    my $socket = IO::Socket::INET->new(Proto => 'udp',
                                       LocalAddr => '127.0.0.1')
        or die "no UDP socket: $!\n";
    $self->{port} = $socket->sockport();

    my $parent = $$;
    defined(my $pid = fork()) or die "cannot fork: $!\n";

    if (!$pid) {
        in_child();
        $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP __DIE__ /;
        eval { $self->_serve($socket, $parent) };
        warn "dns: $@" if $@;
        POSIX::_exit(0);
    }

    $self->{pid} = $pid;
    return $self;
}

sub port { return $_[0]{port} }

# "A name" and "AAAA name" for each question so far.

sub questions {
    my ($self) = @_;
    return split /\n/, slurp("$self->{dir}/questions") // '';
}

# Changes the addresses of a name.

sub set {
    my ($self, $name, $addresses) = @_;

    $self->{names}{$name} = $addresses;
    Storable::nstore($self->{names}, "$self->{dir}/names.new");
    rename "$self->{dir}/names.new", "$self->{dir}/names";
    return;
}

sub stop {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;
    kill 'KILL', $pid;
    waitpid $pid, 0;
    return;
}

sub dialogue { return join '', map { "dns: $_\n" } $_[0]->questions() }

sub DESTROY {
    my ($self) = @_;

    return if is_child();
    local ($?, $!, $@);
    $self->stop();
}

sub _serve {
    my ($self, $socket, $parent) = @_;

    my $ready = IO::Select->new($socket);

    while (getppid() == $parent) {
        $ready->can_read(0.5) or next;
        my $peer = $socket->recv(my $query, 1500) // next;

        my ($id, undef, $count) = unpack 'n3', $query;
        next if length $query < 17 || $count != 1;

        my ($at, @labels) = (12);

        while (my $length = ord substr $query, $at, 1) {
            push @labels, substr $query, $at + 1, $length;
            $at += 1 + $length;
        }

        my ($type) = unpack 'n', substr $query, $at + 1, 2;
        my $name = lc join '.', @labels;

        add_to("$self->{dir}/questions",
               ($type == 1 ? 'A' : $type == 28 ? 'AAAA' : $type) . " $name\n");

        my $changed = "$self->{dir}/names";
        my $names = -e $changed ? Storable::retrieve($changed)
                                : $self->{names};
        my $known = $names->{$name};
        next if ($known // '') eq 'silent';

        my $family = $type == 1 ? Socket::AF_INET()
                   : $type == 28 ? Socket::AF_INET6() : undef;
        my @addresses = !defined $family ? ()
            : map { Socket::inet_pton($family, $_) }
              grep { /:/ ? $type == 28 : $type == 1 } @{ $known || [] };

        my $answer = pack('n6', $id, $known ? 0x8180 : 0x8183, 1,
                          scalar @addresses, 0, 0)
                     . substr $query, 12, $at + 5 - 12;

        # the name is the one at 12
        $answer .= pack('nnnNn/a*', 0xc00c, $type, 1, $self->{ttl} // 300, $_)
            for @addresses;

        $socket->send($answer, 0, $peer);
    }

    return;
}

1;
