# Secrets of clients are in the memory of a worker no longer than it takes to
# come to a verdict: neither as they were sent nor as they were passed on, and
# neither are those that the service says and nobody is to be told.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Secrets;

use Digest::MD5 ();
use MIME::Base64 qw/ encode_base64 decode_base64 /;

plan(skip_all => 'valgrind keeps the memory') if $ENV{TEST_NGINX_VALGRIND};
plan(skip_all => 'memory of processes may not be read')
    unless defined process_memory($$, qr/\[stack\]/);

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->certificates('localhost');

my %secrets = (
    plain => 'Pl4in %secret%',
    login => 'L0gin-secret',
    token => 'T0ken.of.client',
    digest => 'D1gest-secret',
    denied => 'Den1ed-secret',
    denied_token => 'Den1ed.token.of.client',
    failed => 'Fa1led-secret',
    plan => 'Plan-less-s3cret',
    infile => 'S3cret-of-the-file',
    guess => 'Gu3ss-at-the-file',
    half => 'Secret-t0o-much',
    node => 'N0de-secret-of-the-service',
    other => 'Oth3r-node-secret',
);

$t->keys(infile => $secrets{infile});

my %answers = (
    digest => { 'Auth-Pass' => $secrets{digest} },
    plan => { 'Auth-Pass' => $secrets{other}, 'Auth-Max-Size' => 'none' },
    node => { 'Auth-User' => 'at-node', 'Auth-Pass' => $secrets{node},
              'Cache-Control' => 'max-age=3600' },
    denied => { 'Auth-Status' => 'No' },
);

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;

    my $user = $request->{headers}{'auth-user'};
    return [500, {}] if $user eq 'failed';
    return { 'Auth-Status' => 'OK', %{ $answers{$user} // {} } };
});

$t->start(<<'EOC', log_level => 'debug');
stream {
    ssl_certificate                localhost.crt;
    ssl_certificate_key            localhost.key;

    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    smtp_relay_auth_methods        plain login cram-md5 xoauth2;
    smtp_relay_auth_cache_zone     zone=verdicts:1m;
    smtp_relay_auth_cache          verdicts valid=1s invalid=1h;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_file           keys;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

# sessions that stay

my @clients;

for my $port ('smtp', 'smtps') {
    my %options = $port eq 'smtps' ? (tls => 1) : ();

    for (['plain', 235], ['denied', 535], ['failed', 454], ['plan', 454],
         ['infile', 235], ['infile', 535, 'guess'], ['node', 235],
         ['node', 235])
    {
        my ($user, $code, $name) = @$_;

        push @clients, $t->greeted($port, %options);
        $clients[-1]->must('AUTH PLAIN '
            . $clients[-1]->plain($user, $secrets{$name // $user}), $code);
    }

    push @clients, my $c = $t->greeted($port, %options);
    $c->must('AUTH LOGIN', '334');
    $c->must(b64('ann'), '334');
    $c->must(b64($secrets{login}), '235');

    push @clients, $c = $t->greeted($port, %options);
    $c->must('AUTH XOAUTH2 ' . xoauth2('ann', $secrets{token}), '235');

    push @clients, $c = $t->greeted($port, %options);
    $c->must('AUTH XOAUTH2 ' . xoauth2('denied', $secrets{denied_token}),
             '334');

    push @clients, $c = $t->greeted($port, %options);
    my ($challenge) = $c->ask('AUTH CRAM-MD5') =~ /^334 (\S+)$/;
    $c->must(b64('digest ' . hmac_md5($secrets{digest},
                                      decode_base64($challenge))), '235');

    # what is no message of the mechanism has secrets in it, too

    push @clients, $c = $t->greeted($port, %options);
    $c->must('AUTH PLAIN ' . b64("\0ann\0$secrets{half}\0"), '501');
}

my ($worker) = $t->workers();
my $memory = process_memory($worker, qr/^/);

# it has been read indeed

cmp_ok(index($memory, 'client.example'), '>=', 0, 'what is no secret is there');

for my $name (sort keys %secrets) {
    my %forms = secret_forms($secrets{$name});
    my @found = grep { index($memory, $forms{$_}) >= 0 } sort keys %forms;

    is("@found", '', "no secret of $name in the memory of the worker");
}

done_testing();


sub b64 { return encode_base64($_[0], '') }

sub xoauth2 {
    my ($user, $token) = @_;
    return b64("user=$user\x01auth=Bearer $token\x01\x01");
}

sub hmac_md5 {
    my ($key, $text) = @_;

    my $pad = $key . "\0" x (64 - length $key);
    return Digest::MD5::md5_hex(
        $pad ^ "\x5c" x 64, Digest::MD5::md5($pad ^ "\x36" x 64, $text));
}
