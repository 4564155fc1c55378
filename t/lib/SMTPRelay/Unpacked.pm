package SMTPRelay::Unpacked;

# What the mail servers have in common that may be only unpacked, not
# installed: they expect users and directories that their packages would have
# made.  Such a server gets a mount namespace of its own, where files of the
# test lie over those of the system.  Nothing of it is to be seen outside, and
# all of it is gone with the last process.
#
#     dir, port   where
#
# A class says:
#
#     title()     its name
#     users()     users that it must have
#     prepare()   makes its files; gives pairs: a path of the test, and the
#                 path of the system that it lies over
#     command()   what to run; it must stay in the foreground

use strict;
use warnings;

use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use POSIX ();

use SMTPRelay::Util qw/ wait_until slurp spew is_child in_child /;

my $ROOT = abs_path(dirname(__FILE__) . '/../../..');
my $FIRST_ID = 64900;

# The program that a variable of the environment names, or that of the system,
# or that of the unpacked package.

sub find {
    my ($variable, $package, $path) = @_;

    return $ENV{$variable} if $ENV{$variable};

    my $packages = ($ENV{BUILD} // "$ROOT/build") . '/packages';
    my ($program) = grep { -x } $path, "$packages/$package$path";
    return $program;
}

# Why a program cannot be run so, or nothing.

sub missing {
    my ($class) = @_;

    my $program = $class->program();

    return 'no ' . $class->title() unless defined $program && -x $program;
    return 'not root' if $> != 0;
    return 'no mount namespaces'
        if system('unshare -m true >/dev/null 2>&1') != 0;

    my ($lacks) = `ldd '$program' 2>&1` =~ /^\s*(\S+) => not found/m;
    return 'no library ' . $lacks . ' for ' . $class->title() if $lacks;
    return;
}

sub new {
    my ($class, %options) = @_;

    my $self = bless { %options }, $class;
    my $dir = $self->{dir};

    mkdir $_, 0755 or die "cannot make $_: $!\n"
        for $dir, map { "$dir/$_" } qw/ bin log mail /;

    $self->_accounts();
    $self->{over} = [ "$dir/passwd" => '/etc/passwd',
                      "$dir/group" => '/etc/group', $self->prepare() ];
    $self->start();
    return $self;
}

# The users of the system and those that the server lacks.

sub _accounts {
    my ($self) = @_;

    my $passwd = slurp('/etc/passwd');
    my $group = slurp('/etc/group');
    my $id = $FIRST_ID;

    for my $name ($self->users()) {
        my @user = getpwnam $name;

        if (!@user) {
            $id++ while defined getpwuid $id or defined getgrgid $id;
            $passwd .= "$name:x:${id}:${id}::$self->{dir}/mail:/bin/sh\n";
            $group .= "$name:x:${id}:\n" unless defined getgrnam $name;
            @user = ($name, '', $id, getgrnam($name) // $id);
            $id++;
        }

        $self->{ids}{$name} = [ @user[2, 3] ];
    }

    spew("$self->{dir}/passwd", $passwd);
    spew("$self->{dir}/group", $group);
    chmod 0644, "$self->{dir}/passwd", "$self->{dir}/group";
    return;
}

# Makes a directory below that of the server.

sub make {
    my ($self, $name, $user, $mode) = @_;

    my $path = "$self->{dir}/$name";

    -d $path or mkdir $path or die "cannot make $path: $!\n";
    chown @{ $self->{ids}{$user} }, $path if defined $user;
    chmod $mode // 0755, $path;
    return $path;
}

sub start {
    my ($self) = @_;

    my $out = "$self->{dir}/log/out";
    my @over = @{ $self->{over} };

    # pairs of paths up to "--", then the command
    my $script = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 1;'
                 . ' shift 2; done; shift; exec "$@"';

    defined(my $pid = fork()) or die "cannot fork: $!\n";

    if (!$pid) {
        in_child();
        setpgrp();
        $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP CHLD PIPE /;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $out;
        open STDERR, '>>', $out;
        { no warnings 'exec';
          exec 'unshare', '-m', 'sh', '-c', $script, 'sh', @over, '--',
               $self->command(); }
        POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    my $up = wait_until {
        waitpid($pid, POSIX::WNOHANG())
        || IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                 PeerPort => $self->{port})
    };

    if (!ref $up) {
        $self->stop();
        die $self->title(), " did not start:\n", $self->log();
    }

    return;
}

# Ends all processes of the server, those that are in a session too.

sub stop {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;

    kill 'TERM', $pid;
    my $gone = wait_until { waitpid $pid, POSIX::WNOHANG() } 5;

    kill 'TERM', -$pid;
    return if wait_until { !_in_group($pid) } 2 and $gone;

    kill 'KILL', -$pid;
    waitpid $pid, 0 unless $gone;
    wait_until { !_in_group($pid) };
    return;
}

# Processes of the group that do live.

sub _in_group {
    my ($group) = @_;

    return grep {
        (slurp($_) // '') =~ /^\d+ \(.*\) [^ZX] \d+ (\d+) /s && $1 == $group
    } glob '/proc/[0-9]*/stat';
}

sub DESTROY {
    my ($self) = @_;

    return if is_child();
    local ($?, $!, $@);
    $self->stop();
}

sub log {
    my ($self) = @_;
    return join '', map { slurp($_) // '' } sort glob "$self->{dir}/log/*";
}

# Waits until so many messages are in the Maildir, gives them, without the
# headers that the server puts in front, in the order of their octets.

sub messages {
    my ($self, $number) = @_;

    my @files;

    wait_until {
        @files = glob "$self->{dir}/mail/box/new/*";
        @files >= $number;
    };

    my @messages;

    for my $octets (map { slurp($_) } @files) {
        $octets =~ s/\A(?:(?:Return-Path|Delivered-To|Received)
                          :.*\n(?:[ \t].*\n)*)+//xi;
        push @messages, $octets;
    }

    @messages = sort @messages;
    return @messages;
}

# What SMTPRelay::Test asks of what it ends.

sub dialogue { return substr $_[0]->log(), -4000 }

1;
