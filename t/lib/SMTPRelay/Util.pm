package SMTPRelay::Util;

# Small things that the parts of the harness share: time, ports, files.

use strict;
use warnings;

use Digest::MD5 qw/ md5 md5_hex /;
use Exporter 'import';
use IO::Socket::INET;
use Time::HiRes qw/ time sleep /;

our @EXPORT_OK = qw/
    factor patience wait_until reserve_port slurp spew add_to visible
    is_child in_child hmac_md5_hex
/;

# Every wait of the harness is this long at most, unless it says otherwise.
# A slow machine, valgrind or a sanitizer stretches it.

my $PATIENCE = 10;

sub factor {
    my $factor = $ENV{TEST_NGINX_TIMEOUT_FACTOR} || 1;
    $factor *= 5 if $ENV{TEST_NGINX_VALGRIND};
    return $factor;
}

sub patience { return ($_[0] // $PATIENCE) * factor() }

# Polls until the code gives a true value, which is returned.  False when
# the time is over.

sub wait_until(&;$) {
    my ($condition, $seconds) = @_;

    my $deadline = time() + patience($seconds);
    my $pause = 0.002;

    while (1) {
        my $value = $condition->();
        return $value if $value;
        return $value if time() > $deadline;

        sleep($pause);
        $pause *= 1.5 if $pause < 0.05;
    }
}

# A TCP port of the loopback that no other test has.  A UDP socket of the
# same number is the lock: it is bound once in the system, it goes when the
# process goes, and nothing else here talks UDP.  The range lies below the
# ports that the kernel hands out to outgoing connections.

my %locks;

sub reserve_port {
    for (1 .. 2000) {
        my $port = 12000 + int(rand(18000));
        next if $locks{$port};

        my $lock = IO::Socket::INET->new(
            Proto => 'udp', LocalAddr => '127.0.0.1', LocalPort => $port)
            or next;
        my $free = IO::Socket::INET->new(
            Proto => 'tcp', LocalAddr => '127.0.0.1', LocalPort => $port,
            ReuseAddr => 1)
            or next;

        $free->close();
        $locks{$port} = $lock;
        return $port;
    }

    die "no free port on 127.0.0.1\n";
}

sub slurp {
    my ($path) = @_;

    open my $fh, '<:raw', $path or return undef;
    local $/;
    my $octets = <$fh>;
    return $octets // '';
}

sub spew {
    my ($path, $octets) = @_;

    # several processes may do so at the same time
    my $new = "$path.new.$$";

    open my $fh, '>:raw', $new or die "cannot write $path: $!\n";
    print $fh $octets;
    close $fh or die "cannot write $path: $!\n";
    rename $new, $path or die "cannot rename $path: $!\n";
}

sub add_to {
    my ($path, $octets) = @_;

    open my $fh, '>>:raw', $path or die "cannot write $path: $!\n";
    syswrite $fh, $octets;
    close $fh;
}

# Octets in a form fit to be shown in one line.

sub visible {
    my ($octets, $max) = @_;

    return '(undef)' unless defined $octets;

    my $rest = '';
    $max //= 400;

    if (length $octets > $max) {
        $rest = sprintf ' ... (%d octets)', length $octets;
        $octets = substr $octets, 0, $max;
    }

    $octets =~ s/\\/\\\\/g;
    $octets =~ s/\r/\\r/g;
    $octets =~ s/\n/\\n/g;
    $octets =~ s/([^\x20-\x7e])/sprintf '\x%02x', ord $1/ge;

    return $octets . $rest;
}

# Forked daemons carry copies of all objects of the test; their destructors
# must leave the originals alone.

my $child = 0;

sub is_child { return $child }
sub in_child { $child = 1; return }

# HMAC-MD5 in hex, RFC 2104.

sub hmac_md5_hex {
    my ($text, $key) = @_;

    $key = md5($key) if length $key > 64;
    $key .= "\0" x (64 - length $key);

    return md5_hex(($key ^ "\x5c" x 64) . md5(($key ^ "\x36" x 64) . $text));
}

1;
