package SMTPRelay::Secrets;

# Looks for secrets where they should not be.
#
#     secret_forms($secret)      the ways that it is written, by their names
#     process_memory($pid, $re)  what the process may write to and whose line in
#                                /proc/PID/maps matches; undef: not permitted

use strict;
use warnings;

use parent 'Exporter';

use MIME::Base64 qw/ encode_base64 /;

use SMTPRelay::Util qw/ slurp /;

our @EXPORT = qw/ secret_forms process_memory /;

# more than a worker of a test has in one piece: what is reserved only

use constant LARGEST => 64 * 1024 * 1024;


# As it is, for HTTP, and in base64 at each place that it can have among
# others.

sub secret_forms {
    my ($secret) = @_;

    return (
        plain => $secret,
        escaped => $secret =~ s/([ %])/sprintf '%%%02x', ord $1/ger,
        upper => $secret =~ s/([ %])/sprintf '%%%02X', ord $1/ger,
        map { ("base64 $_" => _inner_base64($secret, $_)) } 0 .. 2,
    );
}


sub _inner_base64 {
    my ($secret, $offset) = @_;

    my $text = encode_base64('x' x $offset . $secret . 'xx', '');
    return substr $text, $offset ? 4 : 0, length($text) - 8;
}


sub process_memory {
    my ($pid, $pattern) = @_;

    my $memory = '';

    no warnings 'portable';    # addresses of more than 32 bits

    open my $mem, '<:raw', "/proc/$pid/mem" or return;

    for (split /\n/, slurp("/proc/$pid/maps") // '') {
        my ($from, $to) = /^(\w+)-(\w+) rw/ or next;
        my $size = hex($to) - hex $from;

        next if $_ !~ $pattern || $size > LARGEST;

        sysseek($mem, hex $from, 0) or next;
        sysread $mem, my ($octets), $size;
        $memory .= $octets // '';
    }

    return $memory;
}

1;
