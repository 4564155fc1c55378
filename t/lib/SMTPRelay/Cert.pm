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

    issue($dir, $_) for @names;

    chmod 0644, glob "$dir/*.key";
    return;
}

# One more of NAME.crt and NAME.key:
#
#     by       name of the CA it is of; default: ca
#     host     the name it is for; default: its own
#     subject  default: "/CN=NAME"
#     san      subject alternative names; default: of the host
#     is_ca    1: it can be the CA of others
#     days     that it is valid for, default: 2; -1: it was until yesterday

sub issue {
    my ($dir, $name, %options) = @_;

    my $by = $options{by} // 'ca';
    my $host = $options{host} // $name;
    my $san = $options{san} // "DNS:$host,IP:127.0.0.1,IP:::1";

    spew("$dir/$name.ext", $options{is_ca}
         ? "basicConstraints=critical,CA:TRUE\n"
         : "subjectAltName=$san\n");

    _openssl($dir, qw/ req -new -nodes -newkey ec
             -pkeyopt ec_paramgen_curve:prime256v1 /,
             '-subj', $options{subject} // "/CN=$name",
             '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr");
    _openssl($dir, qw/ x509 -req -days /, $options{days} // 2,
             '-in', "$dir/$name.csr",
             '-CA', "$dir/$by.crt", '-CAkey', "$dir/$by.key",
             '-set_serial', 1 + int rand 1e9,
             '-extfile', "$dir/$name.ext", '-out', "$dir/$name.crt");

    chmod 0644, "$dir/$name.key";
    return;
}

# NAME.crl, a list of what the CA of that name has revoked.

sub revoke {
    my ($dir, $ca, @names) = @_;

    my @ca = ('ca', '-config', "$dir/$ca.cnf", '-cert', "$dir/$ca.crt",
              '-keyfile', "$dir/$ca.key");

    spew("$dir/$ca.index", '');
    spew("$dir/$ca.cnf", join "\n", '[ca]', 'default_ca = this', '[this]',
         "database = $dir/$ca.index", 'default_md = sha256',
         'default_crl_days = 2', '');

    _openssl($dir, @ca, '-revoke', "$dir/$_.crt") for @names;
    _openssl($dir, @ca, '-gencrl', '-out', "$dir/$ca.crl");
    return;
}

# Puts the key under a passphrase.

sub encrypt {
    my ($dir, $name, $passphrase) = @_;

    _openssl($dir, qw/ pkcs8 -topk8 -v2 aes-256-cbc -iter 1000 /,
             '-in', "$dir/$name.key", '-passout', "pass:$passphrase",
             '-out', "$dir/$name.key.new");
    rename "$dir/$name.key.new", "$dir/$name.key";
    chmod 0644, "$dir/$name.key";
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
