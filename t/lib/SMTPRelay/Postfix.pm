package SMTPRelay::Postfix;

# Postfix as a node: programs of the system, all else in a directory of the
# test.  Delivers what is for the domain d.example, but not for nobody@ in it,
# into a Maildir.
#
#     dir, port   where
#     main        more lines of main.cf

use strict;
use warnings;

use POSIX ();

use SMTPRelay::Util qw/ wait_until slurp spew is_child in_child /;

my $DAEMONS = '/usr/lib/postfix/sbin';

# Why it cannot be had, or nothing.

sub missing {
    return 'not root' if $> != 0;
    return 'no Postfix' unless -x "$DAEMONS/master" && -x '/usr/sbin/postconf';
    return 'no user postfix' unless defined getpwnam('postfix');
    return 'no group postdrop' unless defined getgrnam('postdrop');
    return;
}

sub new {
    my ($class, %options) = @_;

    my $self = bless { main => '', %options }, $class;
    my $dir = $self->{dir};
    my $owner = getpwnam('postfix');
    my $group = getgrnam('postdrop');
    my $nobody = getpwnam('nobody');

    mkdir $_, 0755 or die "cannot make $_: $!\n"
        for $dir, map { "$dir/$_" } qw/ etc spool data mail log /;

    mkdir "$dir/spool/$_", 0700
        for qw/ active bounce corrupt defer deferred flush hold incoming
                maildrop pid private public saved trace /;

    chown $owner, -1, "$dir/data", map { "$dir/spool/$_" }
        qw/ active bounce corrupt defer deferred flush hold incoming private
            saved trace /;
    chown $owner, $group, "$dir/spool/maildrop", "$dir/spool/public";
    chmod 0730, "$dir/spool/maildrop";
    chmod 0710, "$dir/spool/public";
    chmod 0755, "$dir/spool/pid";
    chown $nobody, -1, "$dir/mail";

    spew("$dir/etc/main.cf", <<"EOC");
compatibility_level = 3.6
queue_directory = $dir/spool
data_directory = $dir/data
daemon_directory = $DAEMONS
maillog_file = $dir/log/mail
maillog_file_prefixes = $dir
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.example
mydestination =
mynetworks = 127.0.0.0/8
local_transport = error:no local delivery
virtual_mailbox_domains = inline:{ d.example=x }
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = inline:{ c\@d.example=box/, e\@d.example=box/ }
virtual_mailbox_limit = 0
message_size_limit = 20000000
virtual_minimum_uid = 1
virtual_uid_maps = static:$nobody
virtual_gid_maps = static:$nobody
smtpd_peername_lookup = no
smtpd_client_connection_rate_limit = 0
disable_dns_lookups = yes
local_header_rewrite_clients =
alias_maps =
alias_database =
$self->{main}
EOC

    spew("$dir/etc/master.cf", <<"EOC");
127.0.0.1:$self->{port} inet n - n - - smtpd
cleanup   unix  n  -  n  -  0  cleanup
qmgr      unix  n  -  n  300  1  qmgr
rewrite   unix  -  -  n  -  -  trivial-rewrite
bounce    unix  -  -  n  -  0  bounce
defer     unix  -  -  n  -  0  bounce
trace     unix  -  -  n  -  0  bounce
proxymap  unix  -  -  n  -  -  proxymap
error     unix  -  -  n  -  -  error
retry     unix  -  -  n  -  -  error
discard   unix  -  -  n  -  -  discard
virtual   unix  -  n  n  -  -  virtual
anvil     unix  -  -  n  -  1  anvil
tlsmgr    unix  -  -  n  1000?  1  tlsmgr
postlog   unix-dgram n  -  n  -  1  postlogd
EOC

    $self->start();
    return $self;
}

sub start {
    my ($self) = @_;

    my $started = $self->{starts}++;

    defined(my $pid = fork()) or die "cannot fork: $!\n";

    if (!$pid) {
        in_child();
        setpgrp();
        $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP CHLD PIPE /;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{dir}/log/out";
        open STDERR, '>>', "$self->{dir}/log/out";
        $ENV{MAIL_CONFIG} = "$self->{dir}/etc";
        { no warnings 'exec';
          exec "$DAEMONS/master", '-c', "$self->{dir}/etc", '-d'; }
        POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    my $up = wait_until {
        waitpid($pid, POSIX::WNOHANG())
        || IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                 PeerPort => $self->{port})
    };

    if (!ref $up) {
        delete $self->{pid} if $up;
        die "Postfix did not start:\n", $self->log(),
            slurp("$self->{dir}/log/out") // '';
    }

    return;
}

sub stop {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;

    kill 'TERM', $pid;

    my $gone = wait_until { waitpid $pid, POSIX::WNOHANG() } 5;

    if (!$gone) {
        kill 'KILL', -$pid, $pid;
        waitpid $pid, 0;
    }

    return;
}

sub DESTROY {
    my ($self) = @_;

    return if is_child();
    local ($?, $!, $@);
    $self->stop();
}

sub log { return slurp("$_[0]{dir}/log/mail") // '' }

# Waits for so many messages in the mailbox, gives them, without the headers
# that Postfix puts in front, in the order of their subjects.

sub messages {
    my ($self, $number) = @_;

    my @files;

    wait_until {
        @files = glob "$self->{dir}/mail/box/new/*";
        @files >= $number;
    };

    my @messages;

    for my $octets (map { slurp($_) } @files) {
        $octets =~ s/\A(?:(?:Return-Path|X-Original-To|Delivered-To
                            |Received):.*\n(?:[ \t].*\n)*)+//x;
        push @messages, $octets;
    }

    @messages = sort @messages;
    return @messages;
}

# What SMTPRelay::Test asks of what it ends.

sub dialogue { return substr $_[0]->log(), -4000 }

1;
