# Nodemailer, as in the guides of email services: docs/examples/nodemailer.js
# over STARTTLS and over implicit TLS.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $root = "$FindBin::Bin/..";
my $modules = ($ENV{BUILD} // "$root/build") . '/node/node_modules';

plan(skip_all => 'no node and npm here')
    if grep { system("command -v $_ >/dev/null 2>&1") } qw/ node npm /;

install() unless -d "$modules/nodemailer";

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys(user => 'secret');
$t->certificates('localhost');

$t->start(<<'EOC');
stream {
    server {
        listen                127.0.0.1:%%PORT_starttls%%;
        listen                127.0.0.1:%%PORT_tls%% ssl;
        ssl_certificate       localhost.crt;
        ssl_certificate_key   localhost.key;

        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:%%PORT_node%%;
    }
}
EOC

my ($status, $said) = script('secret');
is($status, 0, 'the script succeeds') or diag($said);
like($said, qr/^STARTTLS: 2 recipients: 250 /m, 'a message over STARTTLS');
like($said, qr/^TLS: 2 recipients: 250 /m, 'a message over TLS');

my @messages = $node->wait_messages(2);
is(scalar @messages, 2, 'two messages are delivered');

for my $message (@messages) {
    like($message->{data}, qr/^Subject: Your order, by (STARTTLS|TLS)\r$/m,
         'with its subject');
    like($message->{data}, qr/^\.\r\nA line with a single dot/m,
         'with its single dot');
}

($status, $said) = script('wrong');
isnt($status, 0, 'the script fails with a wrong key');
like($said, qr/535/, 'and says why');

done_testing();

# -----------------------------------------------------------------------------

# Runs the example; exit status and what it said.

sub script {
    my ($secret) = @_;

    local $ENV{NODE_PATH} = $modules;
    local $ENV{NODE_EXTRA_CA_CERTS} = $t->dir() . '/ca.crt';
    local $ENV{SMTP_USER} = 'user';
    local $ENV{SMTP_PASS} = $secret;
    local $ENV{SMTP_PORT_STARTTLS} = $t->port('starttls');
    local $ENV{SMTP_PORT_TLS} = $t->port('tls');

    my $output = `node $root/docs/examples/nodemailer.js 127.0.0.1 2>&1`;

    return ($?, $output);
}

sub install {
    my $dir = $modules;
    $dir =~ s!/node_modules$!!;

    my $output = `mkdir -p $dir && cd $dir && npm install --prefix . --no-audit --no-fund --no-package-lock nodemailer 2>&1`;

    plan(skip_all => "npm cannot install nodemailer: $output") if $?;
    return;
}
