package SMTPRelay::Exim;

# Exim as a node, installed or only unpacked.  Delivers what is for c@ and e@
# in the domain d.example into a Maildir; defers busy@, refuses all others.
#
#     dir, port   where
#     main        more lines of the main section
#
# The environment: EXIM, the program.

use strict;
use warnings;

use parent 'SMTPRelay::Unpacked';

use File::Copy ();

use SMTPRelay::Util qw/ spew /;

sub title { return 'Exim' }
sub users { return 'Debian-exim' }

sub program {
    return SMTPRelay::Unpacked::find('EXIM', 'exim4-daemon-light',
                                     '/usr/sbin/exim4');
}

sub prepare {
    my ($self) = @_;

    my $dir = $self->{dir};
    my $user = 'Debian-exim';

    $self->make($_, $user) for qw/ mail log /;
    $self->make('spool', $user, 0750);

    # it runs itself, as its user, who may not get to where it is unpacked
    File::Copy::copy($self->program(), "$dir/bin/exim")
        or die "cannot copy Exim: $!\n";
    chmod 0755, "$dir/bin/exim";

    $self->{main} //= '';

    # as one user: with a configuration that is not its own, Exim gives up
    # root when it runs itself

    spew("$dir/exim.conf", <<"EOC");
primary_hostname = exim.example
exim_path = $dir/bin/exim
spool_directory = $dir/spool
log_file_path = $dir/log/%s
pid_file_path = $dir/spool/pid
log_selector = +smtp_connection
keep_environment =
disable_ipv6 = true
deliver_drop_privilege = true
host_lookup =
tls_advertise_hosts =
message_size_limit = 20M
chunking_advertise_hosts = *
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
domainlist ours = d.example
acl_smtp_rcpt = rcpt
$self->{main}

begin acl

rcpt:
  deny   !domains = +ours
         message = 550 5.7.1 no relaying here
  defer  local_parts = busy
         message = 451 4.2.1 mailbox is busy
  deny   !local_parts = c : e
         message = 550 5.1.1 no such user here
  accept

begin routers

ours:
  driver = accept
  domains = +ours
  transport = box

begin transports

box:
  driver = appendfile
  maildir_format
  directory = $dir/mail/box
  create_directory
  user = $user

begin retry

* * F,1h,1m
EOC

    chmod 0644, "$dir/exim.conf";
    return;
}

sub command {
    my ($self) = @_;

    my $dir = $self->{dir};
    return ("$dir/bin/exim", '-C', "$dir/exim.conf", '-bdf', '-oX',
            "127.0.0.1.$self->{port}");
}

1;
