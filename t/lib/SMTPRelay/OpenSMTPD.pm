package SMTPRelay::OpenSMTPD;

# OpenSMTPD as a node, installed or only unpacked.  Delivers what is for c@
# and e@ in the domain d.example into a Maildir, refuses all others.
#
#     dir, port   where
#
# The environment: OPENSMTPD, the program smtpd.

use strict;
use warnings;

use parent 'SMTPRelay::Unpacked';

use SMTPRelay::Util qw/ spew /;

sub title { return 'OpenSMTPD' }
sub users { return qw/ opensmtpd opensmtpq relaybox / }

sub program {
    return SMTPRelay::Unpacked::find('OPENSMTPD', 'opensmtpd',
                                     '/usr/sbin/smtpd');
}

sub prepare {
    my ($self) = @_;

    my $dir = $self->{dir};

    # it makes what it needs in the queue itself
    $self->make($_) for qw/ spool lib lib\/opensmtpd run /;
    $self->make('lib/opensmtpd/empty');
    $self->make('mail', 'relaybox');

    spew("$dir/smtpd.conf", <<"EOC");
smtp max-message-size "20M"
listen on 127.0.0.1 port $self->{port} hostname opensmtpd.example
table people { c\@d.example = relaybox, e\@d.example = relaybox }
action box maildir "$dir/mail/box" virtual <people>
match from any for domain d.example action box
EOC

    # programs that deliver are below usr/libexec of the package
    (my $libexec = $self->program()) =~ s!/sbin/smtpd$!/libexec!;

    return ("$dir/spool" => '/var/spool', "$dir/lib" => '/var/lib',
            "$dir/run" => '/run',
            $libexec eq '/usr/libexec' ? () : ($libexec => '/usr/libexec'));
}

sub command {
    my ($self) = @_;
    return ($self->program(), '-d', '-f', "$self->{dir}/smtpd.conf");
}

1;
