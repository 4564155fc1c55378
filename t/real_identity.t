# A real Postfix behind STARTTLS and XCLIENT: its log has the true client.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Postfix;

my $missing = SMTPRelay::Postfix::missing();
plan(skip_all => $missing) if $missing;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

$t->keys('user@a.example' => 'secret', other => 'secret');
$t->certificates('node.example');

my $postfix = SMTPRelay::Postfix->new(dir => "$dir/postfix",
    port => $t->port('postfix'), main => <<"EOC");
inet_protocols = all
smtpd_authorized_xclient_hosts = 127.0.0.1
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = $dir/node.example.crt
smtpd_tls_key_file = $dir/node.example.key
smtpd_tls_loglevel = 1
EOC
push @{ $t->{daemons} }, $postfix;

$t->start(<<'EOC');
stream {
    smtp_relay_starttls                 off;
    smtp_relay_auth_file                keys;
    smtp_relay_ssl                      starttls;
    smtp_relay_ssl_trusted_certificate  ca.crt;
    smtp_relay_ssl_name                 node.example;
    smtp_relay_xclient                  on;
    smtp_relay_keepalive_timeout        3s;

    server {
        listen            127.0.0.1:%%PORT_relay%% proxy_protocol;
        set_real_ip_from  127.0.0.1;
        smtp_relay_pass   127.0.0.1:%%PORT_postfix%%;
    }
}
EOC

my @clients = ([ 'TCP4 192.0.2.7 192.0.2.1 4711 25', 'user@a.example' ],
               [ 'TCP6 2001:db8::7 2001:db8::1 4712 25', 'other' ]);

for my $round (1, 2) {
    for my $client (@clients) {
        my ($header, $user) = @$client;

        my $c = $t->client('relay');
        $c->send("PROXY $header\r\n");
        $c->must(undef, '220');
        $c->must('EHLO [192.0.2.7]', '250');
        $c->login($user, 'secret');
        like($c->message("Subject: test\r\n\r\ntext\r\n", 'a@b.example',
                         'c@d.example'),
             qr/^250/, "round $round: a message of $user")
            or diag($c->dialogue());
        $c->must('QUIT', '221');
    }
}

my $log = '';
wait_until { $log = $postfix->log(); 4 <= (() = $log =~ /sasl_username=/g) };

like($log, qr/client=unknown\[192\.0\.2\.7\]:?\S*, .*sasl_username=user\@a\.example/,
     'the log has address and login of a client');
like($log, qr/client=unknown\[2001:db8::7\]:?\S*, .*sasl_username=other/,
     'and of the other');
unlike($log, qr/client=\S*127\.0\.0\.1/, 'and nobody else');

# Postfix asks anew whether a client may say XCLIENT, by its new address:
# such a connection is for one client only

is(scalar(() = $log =~ /\bTLS connection established from/g), 4,
   'all in TLS');
unlike($log, qr/\breject:|NOQUEUE/, 'nothing is refused');

my @files;
wait_until { 4 <= (@files = glob "$dir/postfix/mail/box/new/*") };

for my $address ('192.0.2.7', 'IPv6:2001:db8::7') {
    my $received = qr/^Received: from \[192\.0\.2\.7\] .*\[\Q$address\E\]\)/m;

    is(scalar(grep { slurp($_) =~ $received } @files), 2,
       "Postfix notes the name and the address $address");
}

done_testing();
