package SMTPRelay::SmallNode;

# A delivery node that serves thousands of connections in one process, says
# yes to everything and keeps nothing but the number of messages.

use strict;
use warnings;

use parent 'SMTPRelay::Daemon';

use IO::Select;
use Socket qw/ IPPROTO_TCP TCP_NODELAY /;

use SMTPRelay::Util qw/ add_to /;

# How many messages it has accepted.

sub count {
    my ($self) = @_;
    return -s "$self->{dir}/accepted" || 0;
}

# --- in its process ----------------------------------------------------------

sub _accept {
    my ($self, $listener, $parent) = @_;

    my $select = IO::Select->new($listener);
    my %connections;

    while (getppid() == $parent) {
        for my $socket ($select->can_read(0.5)) {

            if ($socket == $listener) {
                my $new = $listener->accept() or next;

                setsockopt $new, IPPROTO_TCP, TCP_NODELAY, 1;
                add_to("$self->{dir}/connections", '.');
                $select->add($new);
                $connections{$new} = { in => '' };
                syswrite $new, "220 node.example ESMTP\r\n";
                next;
            }

            my $c = $connections{$socket};
            my $got = sysread $socket, $c->{in}, 65536, length $c->{in};

            if ($got && $self->_go_on($socket, $c)) {
                next;
            }

            $select->remove($socket);
            delete $connections{$socket};
            close $socket;
        }
    }

    return;
}

# Answers what is there.  False: it is over.

sub _go_on {
    my ($self, $socket, $c) = @_;

    my $replies = '';

    while (1) {

        if ($c->{data}) {
            last unless $c->{in} =~ s/\A.*?(?:\A|\r\n)\.\r\n//s;
            $c->{data} = 0;
            add_to("$self->{dir}/accepted", '.');
            $replies .= "250 2.0.0 Ok\r\n";
            next;
        }

        last unless $c->{in} =~ s/\A([^\n]*\n)//;
        my $line = $1;

        if ($line =~ /^DATA/i) {
            $c->{data} = 1;
            $replies .= "354 Go on\r\n";

        } elsif ($line =~ /^EHLO/i) {
            $replies .= "250-node.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n";

        } elsif ($line =~ /^QUIT/i) {
            syswrite $socket, "${replies}221 2.0.0 Bye\r\n";
            return 0;

        } else {
            $replies .= "250 2.0.0 Ok\r\n";
        }
    }

    # the start of the end of data may be there already
    substr $c->{in}, 0, -5, '' if $c->{data} && length $c->{in} > 5
                                  && $c->{in} !~ /\A\.\r?\z/;

    syswrite $socket, $replies if length $replies;
    return 1;
}

1;
