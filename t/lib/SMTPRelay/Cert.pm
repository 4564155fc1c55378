package SMTPRelay::Cert;

# Certificates for one test run, ECDSA P-256, made by openssl:
#
#     ca.crt                    a CA
#     NAME.crt, NAME.key        of it, for the names given
#     stranger.crt, .key        self-signed, of nobody

use strict;
use warnings;

use POSIX ();

use SMTPRelay::Util qw/ spew slurp /;

sub make {
    my ($dir, @names) = @_;

    _self_signed($dir, 'ca', 'CA:TRUE');
    _self_signed($dir, 'stranger', 'CA:FALSE');

    for my $name (@names) {
        spew("$dir/$name.ext", "subjectAltName=DNS:$name,IP:127.0.0.1\n");

        _openssl($dir, qw/ req -new -nodes -newkey ec
                 -pkeyopt ec_paramgen_curve:prime256v1 /,
                 '-subj', "/CN=$name", '-keyout', "$dir/$name.key",
                 '-out', "$dir/$name.csr");
        _openssl($dir, qw/ x509 -req -days 2 /, '-in', "$dir/$name.csr",
                 '-CA', "$dir/ca.crt", '-CAkey', "$dir/ca.key",
                 '-set_serial', 1 + int rand 1e9,
                 '-extfile', "$dir/$name.ext", '-out', "$dir/$name.crt");
    }

    chmod 0644, glob "$dir/*.key";
    return;
}

sub _self_signed {
    my ($dir, $name, $constraint) = @_;

    _openssl($dir, qw/ req -x509 -nodes -days 2 -newkey ec
             -pkeyopt ec_paramgen_curve:prime256v1 /,
             '-subj', "/CN=$name", '-addext', "basicConstraints=$constraint",
             '-keyout', "$dir/$name.key", '-out', "$dir/$name.crt");
}

sub _openssl {
    my ($dir, @args) = @_;

    defined(my $pid = fork()) or die "cannot fork: $!\n";

    if (!$pid) {
        open STDOUT, '>>', "$dir/openssl.out";
        open STDERR, '>&', \*STDOUT;
        exec 'openssl', @args or POSIX::_exit(127);
    }

    waitpid $pid, 0;
    die "openssl @args failed:\n", slurp("$dir/openssl.out") if $?;
}

1;
