# The configuration in docs/examples is one that nginx takes.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $examples = "$FindBin::Bin/../docs/examples";
my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

$t->certificates('smtp');
$t->keys(user => 'secret');
rename "$dir/keys", "$dir/smtp-keys";
spew("$dir/smtp-log-format.conf", slurp("$examples/log_format.conf"));

my $conf = slurp("$examples/nginx.conf");

# what the harness says by itself, and what only Debian has

$conf =~ s/^(user|worker_processes|pid|error_log|include)\s.*\n//mg;
$conf =~ s/^events \{.*?^\}\n//ms;

$conf =~ s!/etc/nginx/smtp\.pem!$dir/smtp.crt!g;
$conf =~ s!/etc/nginx/smtp\.key!$dir/smtp.key!g;
$conf =~ s!/etc/nginx/smtp-!$dir/smtp-!g;
$conf =~ s!/var/log/nginx/!$dir/!g;

unlike($conf, qr!/(?:etc|var)/!, 'nothing of the machine is left in it');

# nor its ports

$conf =~ s/^\s+listen\s+\[.*\n//mg;
$conf =~ s/^(\s+listen\s+)(?:\S*:)?(\d+)(?=[\s;])/${1}127.0.0.1:%%PORT_p$2%%/gm;

my ($status, $said) = $t->check_conf($conf);
is($status, 0, 'nginx takes it') or diag($said);

done_testing();
