package SMTPRelay::Fault;

# Allocations that fail, in an nginx built with t/fault (t/tools/build.sh,
# FAULT=1).

use strict;
use warnings;

use parent 'Exporter';

our @EXPORT = qw/ module_range /;

# Where the module's code is in the binary: its first and last address.
# Nothing if the binary is not built with t/fault.

sub module_range {
    my ($file) = @_;
    my ($low, $high, $hook);

    open my $nm, '-|', 'nm', '-S', $file or return;

    while (<$nm>) {
        $hook = 1 if / __wrap_ngx_palloc$/;
        next unless /^(\w+) (\w+) [tT] ngx_(?:http_)?smtp_relay/;
        my ($start, $end) = (hex $1, hex($1) + hex $2);
        $low = $start if !defined $low || $start < $low;
        $high = $end if !defined $high || $end > $high;
    }

    close $nm;
    return $hook ? ($low, $high) : ();
}

1;
