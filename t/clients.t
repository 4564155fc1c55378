# Real clients: what people use to send mail works.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys('api-key' => 'secret');
$t->certificates('localhost');

$t->start(<<'EOC');
stream {
    log_format  session  "$smtp_relay_event $smtp_relay_protocol "
                         "$smtp_relay_auth_method";
    access_log  access.log  session;

    smtp_relay_auth_file  keys;
    ssl_certificate       localhost.crt;
    ssl_certificate_key   localhost.key;

    server {
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $dir = $t->dir();
my $text = "From: <a\@b.example>\nTo: <c\@d.example>\nSubject: test\n\n"
           . ".a dot\n..\n.\nlast line\n";
spew("$dir/text", $text);
(my $crlf = $text) =~ s/\n/\r\n/g;
spew("$dir/crlf", $crlf);

my ($smtp, $smtps) = map { $t->port($_) } 'smtp', 'smtps';

# swaks

for my $case (['STARTTLS, PLAIN', $smtp, '-tls --auth PLAIN'],
              ['STARTTLS, LOGIN', $smtp, '-tls --auth LOGIN'],
              ['TLS, PLAIN', $smtps, '--tls-on-connect --auth PLAIN'],
              ['TLS, pipelined', $smtps,
               '--tls-on-connect --auth PLAIN --pipeline'])
{
    my ($name, $port, $options) = @$case;

    run("swaks: $name", 'swaks',
        "swaks --server 127.0.0.1 --port $port $options --auth-user api-key "
        . '--auth-password secret --from a@b.example --to c@d.example '
        . "--body 'some text' --timeout 10s", qr/some text\r\n/);
}

# curl

run('curl: TLS', 'curl',
    "curl -sS --cacert $dir/ca.crt smtps://localhost:$smtps "
    . "--resolve localhost:$smtps:127.0.0.1 --mail-from a\@b.example "
    . "--mail-rcpt c\@d.example --user api-key:secret --upload-file $dir/crlf",
    qr/\r\n\.a dot\r\n\.\.\r\n\.\r\nlast line\r\n/);

run('curl: STARTTLS', 'curl',
    "curl -sS --ssl-reqd --cacert $dir/ca.crt smtp://localhost:$smtp "
    . "--resolve localhost:$smtp:127.0.0.1 --mail-from a\@b.example "
    . "--mail-rcpt c\@d.example --user api-key:secret --upload-file $dir/crlf",
    qr/\r\n\.a dot\r\n\.\.\r\n\.\r\nlast line\r\n/);

# msmtp

my $msmtp = 'msmtp --host=localhost --auth=on --user=api-key '
            . "--passwordeval='echo secret' --from=a\@b.example "
            . "--tls=on --tls-trust-file=$dir/ca.crt";

run('msmtp: TLS', 'msmtp',
    "$msmtp --port=$smtps --tls-starttls=off c\@d.example < $dir/text",
    qr/\r\n\.a dot\r\n\.\.\r\n\.\r\nlast line\r\n/);
run('msmtp: STARTTLS', 'msmtp',
    "$msmtp --port=$smtp --tls-starttls=on c\@d.example < $dir/text",
    qr/\r\n\.a dot\r\n\.\.\r\n\.\r\nlast line\r\n/);

# Python

spew("$dir/send.py", <<"EOP");
import smtplib, ssl
context = ssl.create_default_context(cafile="$dir/ca.crt")
text = open("$dir/text").read()
with smtplib.SMTP_SSL("localhost", $smtps, context=context) as s:
    s.login("api-key", "secret")
    s.sendmail("a\@b.example", ["c\@d.example", "e\@d.example"], text)
with smtplib.SMTP("localhost", $smtp) as s:
    s.starttls(context=context)
    s.login("api-key", "secret")
    s.sendmail("a\@b.example", ["c\@d.example"], text)
EOP

run('Python smtplib', 'python3', "python3 $dir/send.py",
    qr/\r\n\.a dot\r\n\.\.\r\n\.\r\nlast line\r\n/);

# the log has each with its protocol

my @sessions = grep { /^session/ } $t->lines('access.log');
is((grep { !/^session ESMTPSA (plain|login)$/ } @sessions), 0,
   'every session was one with TLS and AUTH');

done_testing();


# Runs a command, which has to end well and to deliver such a message.

sub run {
    my ($name, $program, $command, $pattern) = @_;

    SKIP: {
        skip("no $program", 2) unless grep { -x "$_/$program" }
                                      split /:/, $ENV{PATH};

        my $count = $node->count();
        my $said = `$command 2>&1`;

        is($?, 0, "$name: sent") or diag($said);
        cmp_ok($node->count(), '>', $count, "$name: delivered");
        like($node->last_message()->{data}, $pattern, "$name: the content")
            if $node->count() > $count;
    }
}
