package SMTPRelay::FaultNode;

# A scripted node that can do more of what nodes should not.
#
#     mid     octets of content to read before "fault"
#     fault   an action in the middle of content, see SMTPRelay::Daemon::act
#     idle    what to do after the 2xx to a message, the same
#     sloppy  1: takes any of the ends of data that sloppy servers take
#     unix    path of a socket to listen on, instead of the port
#     quiet   1: keeps nothing but the number of messages
#     brief   1: keeps of a message its sender and a digest only, see ledger()

use strict;
use warnings;

use parent 'SMTPRelay::Node';

use Digest::SHA qw/ sha1_hex /;
use IO::Socket::UNIX;

use SMTPRelay::Util qw/ add_to slurp /;

# With "brief": a list of sender and SHA-1 of the content, "a@b.example 0123",
# of all messages, whether the node has lived to answer or not.

sub ledger {
    my ($self) = @_;
    return map { split /\n/, slurp($_) } glob "$self->{dir}/*.ledger";
}

# --- in its processes --------------------------------------------------------

sub _accept {
    my ($self, $listener, $parent) = @_;

    if ($self->{unix}) {
        $listener->close();
        $listener = IO::Socket::UNIX->new(Local => $self->{unix},
                                          Listen => 64)
            or die "cannot listen on $self->{unix}: $!\n";
    }

    return $self->SUPER::_accept($listener, $parent);
}

# What a connection has said and got is no more than it needs.

sub fill {
    my ($self, $c) = @_;

    return $self->SUPER::fill($c) unless $self->{quiet};

    my $got = sysread $c->{socket}, $c->{in}, 65536, length $c->{in};

    $self->end('reset') unless defined $got;
    $self->end('eof') unless $got;
    return;
}

sub note {
    my ($self, $c, @more) = @_;

    $self->SUPER::note($c, @more) unless $self->{quiet};
    return;
}

sub _do_BDAT {
    my ($self, $c, $arg) = @_;

    if (defined $self->{mid}) {
        $self->fill($c) while length $c->{in} < $self->{mid};
        $self->act($c, $self->{fault});
        $self->fill($c) while 1;
    }

    return $self->SUPER::_do_BDAT($c, $arg);
}

sub _do_DATA {
    my ($self, $c, $arg) = @_;

    return $self->_sloppy_data($c, $arg) if $self->{sloppy};
    return $self->SUPER::_do_DATA($c, $arg) unless defined $self->{mid};

    my $usual = '354 End data with <CR><LF>.<CR><LF>';
    return unless $self->_answer($c, 'DATA', $arg, $usual) == 3;

    $self->fill($c) while length $c->{in} < $self->{mid};
    $self->act($c, $self->{fault});
    $self->fill($c) while 1;
}

# The earliest of whatever may be read as the end of data.

sub _sloppy_data {
    my ($self, $c, $arg) = @_;

    my $usual = $c->{message} ? '354 Go ahead' : '503 5.5.1 No MAIL';
    return unless $self->_answer($c, 'DATA', $arg, $usual) == 3;

    $c->{in} = "\r\n$c->{in}";
    my $from = 0;

    my ($at, $end);

    while (1) {
        pos($c->{in}) = $from;

        if ($c->{in} =~ /(?:\r\n|\n|\r)\.(?:\r\n|\n|\r(?=[^\n]))/g) {
            ($at, $end) = ($-[0], $+[0]);
            last;
        }

        $from = length($c->{in}) > 8 ? length($c->{in}) - 8 : 0;
        $self->fill($c);
    }

    my $content = $at < 2 ? '' : substr($c->{in}, 2, $at - 2) . "\r\n";
    substr $c->{in}, 0, $end, '';

    $content =~ s/(\A|\r\n|\n|\r)\./$1/g;
    $c->{message}{data} = $content;
    $self->_store($c);
}

sub _store {
    my ($self, $c) = @_;

    if ($self->{quiet}) {
        local $self->{keep} = 0;
        $self->SUPER::_store($c);

    } elsif ($self->{brief}) {
        my $m = $c->{message};
        my ($from) = $m->{mail} =~ /<(.*?)>/;

        add_to($self->_file($c->{number}, 'ledger'),
               "$from " . sha1_hex($m->{data}) . "\n");
        $self->_answer($c, 'eod', '', '250 2.0.0 Ok');
        delete $c->{message};

    } else {
        $self->SUPER::_store($c);
    }

    $self->act($c, $self->{idle}) if $self->{idle};
}

1;
