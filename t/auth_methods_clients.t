# Real clients and the mechanisms that they have.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $root = "$FindBin::Bin/..";
my $modules = ($ENV{BUILD} // "$root/build") . '/node/node_modules';

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $dir = $t->dir();
$t->certificates('localhost', 'alice');

# secrets and tokens are verified here, but those of CRAM-MD5 by the relay

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;

    my %h = %{ $request->{headers} };
    my $method = $h{'auth-method'};
    my $known = $h{'auth-user'} eq 'api-key';

    return { 'Auth-Status' => 'OK', 'Auth-Pass' => 'secret' }
        if $method eq 'cram-md5' && $known;
    return { 'Auth-Status' => 'OK' }
        if $method =~ /oauth|bearer/ && $known
           && $h{'auth-pass'} eq 'good-token';
    return { 'Auth-Status' => 'OK' }
        if $method =~ /plain|login/ && $known && $h{'auth-pass'} eq 'secret';
    return { 'Auth-Status' => 'OK' }
        if $method eq 'external' && $h{'auth-ssl-subject'} eq 'CN=alice';
    return { 'Auth-Status' => 'OK' } if $method eq 'none';
    return { 'Auth-Status' => 'Denied' };
});

$t->start(<<'EOC');
stream {
    log_format  session  "$smtp_relay_auth_method $smtp_relay_auth_status "
                         "$smtp_relay_account";
    access_log  access.log  session  if=$session;

    map $smtp_relay_event $session {
        session  1;
        default  "";
    }

    ssl_certificate                localhost.crt;
    ssl_certificate_key            localhost.key;
    ssl_client_certificate         ca.crt;
    ssl_verify_client              optional;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;

    server {
        listen                   127.0.0.1:%%PORT_smtps%% ssl;
        listen                   127.0.0.1:%%PORT_smtp%%;
        smtp_relay_auth_methods  plain login cram-md5 xoauth2 oauthbearer
                                 external;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_xoauth2%% ssl;
        smtp_relay_auth_methods  xoauth2;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_trusted%% ssl;
        smtp_relay_auth_methods  none;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
    }
}
EOC

spew("$dir/text", "From: <a\@b.example>\nTo: <c\@d.example>\n"
                  . "Subject: test\n\nsome text\n");

my ($smtp, $smtps, $trusted) = map { $t->port($_) }
                                   'smtp', 'smtps', 'trusted';

# swaks

for my $mechanism (qw/ PLAIN LOGIN CRAM-MD5 /) {
    for my $secret ('secret', 'wrong') {
        run("swaks, $mechanism", 'swaks', lc $mechanism, $secret eq 'secret',
            "swaks --server 127.0.0.1 --port $smtps --tls-on-connect "
            . "--auth $mechanism --auth-user api-key "
            . "--auth-password $secret --from a\@b.example "
            . "--to c\@d.example --body 'some text' --timeout 10s");
    }
}

run('swaks, no AUTH', 'swaks', 'none', 1,
    "swaks --server 127.0.0.1 --port $trusted --tls-on-connect "
    . "--from a\@b.example --to c\@d.example --body 'some text' --timeout 10s");
run('swaks, no AUTH, pipelined', 'swaks', 'none', 1,
    "swaks --server 127.0.0.1 --port $trusted --tls-on-connect --pipeline "
    . "--from a\@b.example --to c\@d.example --body 'some text' --timeout 10s");

# curl

my $curl = "curl -sS --max-time 10 --cacert $dir/ca.crt "
    . '--ipv4 smtps://localhost:PORT '
    . "--mail-from a\@b.example --mail-rcpt c\@d.example "
    . "--upload-file $dir/text";

for my $mechanism (qw/ PLAIN LOGIN CRAM-MD5 /) {
    for my $secret ('secret', 'wrong') {
        run("curl, $mechanism", 'curl', lc $mechanism, $secret eq 'secret',
            $curl =~ s/PORT/$smtps/r . " --user api-key:$secret --login-options AUTH=$mechanism");
    }
}

# curl prefers OAUTHBEARER, whatever it is told

for my $case (['XOAUTH2', $t->port('xoauth2')], ['OAUTHBEARER', $smtps]) {
    my ($mechanism, $port) = @$case;

    for my $token ('good-token', 'bad-token') {
        run("curl, $mechanism", 'curl', lc $mechanism, $token eq 'good-token',
            $curl =~ s/PORT/$port/r . " --user api-key --oauth2-bearer $token "
            . "--login-options AUTH=$mechanism");
    }
}

for my $user ('alice', 'bob', '') {
    run("curl, EXTERNAL as \"$user\"", 'curl', 'external', $user ne 'bob',
        $curl =~ s/PORT/$smtps/r . " --cert $dir/alice.crt --key $dir/alice.key --user '$user': "
        . '--login-options AUTH=EXTERNAL');
}

# msmtp

my $msmtp = 'msmtp --host=localhost --from=a@b.example --tls=on '
            . "--tls-trust-file=$dir/ca.crt --port=$smtps --tls-starttls=off";

for my $mechanism (qw/ plain login cram-md5 /) {
    for my $secret ('secret', 'wrong') {
        run("msmtp, $mechanism", 'msmtp', $mechanism, $secret eq 'secret',
            "$msmtp --auth=$mechanism --user=api-key "
            . "--passwordeval='echo $secret' c\@d.example < $dir/text");
    }
}

for my $mechanism (qw/ xoauth2 oauthbearer /) {
    for my $token ('good-token', 'bad-token') {
        run("msmtp, $mechanism", 'msmtp', $mechanism, $token eq 'good-token',
            "$msmtp --auth=$mechanism --user=api-key "
            . "--passwordeval='echo $token' c\@d.example < $dir/text");
    }
}

run('msmtp, external', 'msmtp', 'external', 1,
    "$msmtp --auth=external --user=alice --tls-cert-file=$dir/alice.crt "
    . "--tls-key-file=$dir/alice.key c\@d.example < $dir/text");

# Python, which prefers CRAM-MD5 to the others

for my $secret ('secret', 'wrong') {
    spew("$dir/send.py", <<"EOP");
import smtplib, ssl
context = ssl.create_default_context(cafile="$dir/ca.crt")
text = open("$dir/text").read()
with smtplib.SMTP("localhost", $smtp) as s:
    s.starttls(context=context)
    s.ehlo()
    s.user, s.password = "api-key", "$secret"
    s.auth("CRAM-MD5", s.auth_cram_md5)
    s.sendmail("a\@b.example", ["c\@d.example"], text)
EOP
    run('Python smtplib, CRAM-MD5', 'python3', 'cram-md5',
        $secret eq 'secret', "python3 $dir/send.py");
}

for my $token ('good-token', 'bad-token') {
    spew("$dir/send.py", <<"EOP");
import smtplib, ssl
context = ssl.create_default_context(cafile="$dir/ca.crt")
text = open("$dir/text").read()
def xoauth2(challenge=None):
    return "user=api-key\\1auth=Bearer $token\\1\\1" if not challenge else ""
with smtplib.SMTP_SSL("localhost", $smtps, context=context) as s:
    s.ehlo()
    s.auth("XOAUTH2", xoauth2)
    s.sendmail("a\@b.example", ["c\@d.example"], text)
EOP
    run('Python smtplib, XOAUTH2', 'python3', 'xoauth2',
        $token eq 'good-token', "python3 $dir/send.py");
}

# Nodemailer

SKIP: {
    skip('no Nodemailer here', 1) unless -d "$modules/nodemailer";

    local $ENV{NODE_PATH} = $modules;
    local $ENV{NODE_EXTRA_CA_CERTS} = "$dir/ca.crt";

    for my $case (['CRAM-MD5', "pass: 'secret'", 1],
                  ['CRAM-MD5', "pass: 'wrong'", 0],
                  ['XOAUTH2', "type: 'OAuth2', accessToken: 'good-token'", 1],
                  ['XOAUTH2', "type: 'OAuth2', accessToken: 'bad-token'", 0])
    {
        my ($mechanism, $secret, $ok) = @$case;

        spew("$dir/send.js", <<"EOJ");
const transport = require('nodemailer').createTransport({
  host: 'localhost', port: $smtps, secure: true, authMethod: '$mechanism',
  auth: { user: 'api-key', $secret },
});
transport.sendMail({ from: 'a\@b.example', to: 'c\@d.example',
                     subject: 'test', text: 'some text' })
  .then(() => transport.close())
  .catch((error) => { console.error(error.message); process.exit(1); });
EOJ
        run("Nodemailer, $mechanism", 'node', lc $mechanism, $ok,
            "node $dir/send.js");
    }
}

done_testing();

# -----------------------------------------------------------------------------

# Runs a command, which has to log in with that method and to deliver a
# message, or to be denied and to say so.

sub run {
    my ($name, $program, $method, $ok, $command) = @_;

    SKIP: {
        skip("no $program", 1) unless grep { -x "$_/$program" }
                                      split /:/, $ENV{PATH};

        my $count = $node->count();
        my $lines = $t->lines('access.log');

        my $said = `$command 2>&1 < /dev/null`;
        my $status = $?;

        my ($line) = ($t->wait_lines('access.log', $lines + 1))[$lines]
                     // '(no session)';
        my ($account) = $method eq 'none' ? '-'
                      : $method ne 'external' ? 'api-key' : 'alice';

        if ($ok) {
            is($status, 0, "$name: sent") or diag($said);
            is($line, "$method ok $account", "$name: with this login");
            is($node->count(), $count + 1, "$name: delivered");

        } else {
            isnt($status, 0, "$name: fails with a bad secret");
            is($line, "$method denied -", "$name: with this login");
            is($node->count(), $count, "$name: nothing is delivered");
        }
    }
}
