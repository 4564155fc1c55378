# What clients send in AUTH that is no good: the reply to each, for each
# mechanism, and that nobody is asked about it.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use MIME::Base64 qw/ encode_base64 /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->certificates('localhost', 'alice');

my $auth = $t->auth_service('auth',
                            answer => sub { return { 'Auth-Status' => 'OK' } });

$t->start(<<'EOC', log_level => 'debug');
stream {
    smtp_relay_hostname      relay.example;
    smtp_relay_max_errors    0;
    smtp_relay_auth          http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_methods  plain login cram-md5 xoauth2 oauthbearer external;
    ssl_certificate          localhost.crt;
    ssl_certificate_key      localhost.key;
    ssl_client_certificate   ca.crt;
    ssl_verify_client        on;

    server {
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen               127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls  on;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $undecodable = '501 5.5.2 Cannot decode response';
my $canceled = '501 5.0.0 Authentication canceled';
my $too_long = '500 5.5.6 Authentication exchange line is too long';

my $digest = 'b913a602c7eda7a495b4e6e7334d3890';
my $oauth = "\1auth=Bearer token\1\1";

# what is not base64 of a message, whatever the mechanism

my @wrong = ('!!!!', 'A', 'AA', 'AAA', 'AAAAA', 'A===', '====', '==', 'AA=A',
             'AB==', 'AAB=', 'AAAA=', 'AAAA====', 'AA==AA==', 'AAAA AAAA',
             ' AAAA', "AAAA\t", 'AA-_', 'AAAA\xff', "AA\x7fA", '*AAA', '**',
             'QUIT');

# what does not belong to a mechanism: a message, decoded

my %messages = (

    PLAIN => [
        '', "\0", "\0\0", 'user', "user\0secret", "\0user", "\0user\0",
        "\0\0secret", "boss\0\0secret", "\0user\0secret\0", "\0user\0s\0t",
        "\0user\0sec\rret", "\0user\0sec\nret", "\0us\rer\0secret",
        "\0us\ner\0secret", "\0us\ter\0secret", "\0us\x7fer\0secret",
        "\0\xff\0secret", "\0us\xc2\x85er\0secret", "b\ross\0user\0secret",
        "b\noss\0user\0secret", "\xff\0user\0secret",
        "\0" . 'u' x 256 . "\0secret", 'b' x 256 . "\0user\0secret",
        "\0user\0" . 's' x 8193,
    ],

    LOGIN => [
        '', "\0", "us\0er", "us\rer", "us\ner", "us\ter", "us\x7fer", "\xff",
        "us\xc2\x85er", 'u' x 256,
    ],

    'CRAM-MD5' => [
        '', "\0", 'user', 'user ', $digest, " $digest", "user$digest",
        "user\t$digest", "user $digest ", "user $digest\r\n",
        'user ' . substr($digest, 1), "user 0$digest",
        'user ' . 'x' x 32, 'user ' . "\xff" x 32, "us\0er $digest",
        "us\rer $digest", "us\ner $digest", "\xff $digest",
        'u' x 256 . " $digest",
    ],

    XOAUTH2 => [
        '', "\1", "\1\1", 'user', "user=a\1", "user=a\1\1", substr($oauth, 1),
        "user=$oauth", "user=a\1auth=\1\1", "user=a\1auth=Bearer\1\1",
        "user=a\1auth=Bearer \1\1", "user=a\1auth=Basic dTpw\1\1",
        "user=a\1auth=Bearer token\1", "user=a\1auth=Bearer token",
        "user=a\1auth=Bearer token\1\1\1", "user=a\1auth=Bearer to ken\1\1",
        "user=a\1auth=Bearer to\0ken\1\1", "user=a\1auth=Bearer to\rken\1\1",
        "user=a\1auth=Bearer to\nken\1\1", "user=a\1auth=Bearer \xff\1\1",
        "user=a\0b$oauth", "user=a\rb$oauth", "user=a\nb$oauth",
        "user=\xff$oauth", 'user=' . 'u' x 256 . $oauth,
        "user=a\1user=b$oauth", "user=a\1auth=Bearer a$oauth",
        "user=a\1auth=Bearer " . 't' x 8193 . "\1\1", "n,a=a,$oauth",
    ],

    OAUTHBEARER => [
        '', "\1", "\1\1", 'n', 'n,,', "n,,\1", "n,,\1\1", "n,a=,$oauth",
        "n,a=a$oauth", "n,b=a,$oauth", 'n,a=a,' . substr($oauth, 1),
        "p=tls-unique,,$oauth", "F,n,,$oauth", "x,,$oauth",
        "n,a=a=2c,$oauth", "n,a=a=,$oauth", "n,a=a=00b,$oauth",
        "n,a=a\0b,$oauth", "n,a=a\rb,$oauth", "n,a=a\nb,$oauth",
        "n,a=\xff,$oauth", 'n,a=' . 'u' x 256 . ",$oauth",
        "n,,\1auth=Bearer token\1", "n,,\1auth=Bearer \1\1",
        "n,,\1auth=Bearer to\0ken\1\1", "n,,\1auth=Bearer to\nken\1\1",
        "n,,\1auth=Bearer \xff\1\1", "n,,\1=x$oauth", "n,,\1x$oauth",
        "user=a$oauth",
    ],

    EXTERNAL => [
        "\0", "us\0er", "us\rer", "us\ner", "us\ter", "\xff", "us\xc2\x85er",
        'u' x 256,
    ],
);

my $c = hello();

for my $mechanism (qw/ PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER EXTERNAL /) {

    my $initial = $mechanism ne 'CRAM-MD5';

    for my $bad (@wrong) {
        begin($mechanism);
        $c->try($bad, $undecodable,
                "$mechanism: not base64: " . visible($bad));

        # blanks in front of an argument are none of it

        next if !$initial || $bad =~ /^[ *]/;
        $c->try("AUTH $mechanism $bad", $undecodable,
                '  as initial response');
    }

    for my $message (@{ $messages{$mechanism} }) {
        my $text = visible($message, 40);

        begin($mechanism);
        $c->try(b64($message), $undecodable,
                "$mechanism: not the mechanism's: $text");

        next unless $initial;
        $c->try("AUTH $mechanism " . (b64($message) || '='), $undecodable,
                '  as initial response');
    }

    # cancelled

    begin($mechanism);
    $c->try('*', $canceled, "$mechanism: cancelled");

    # NUL and CR in a line, and lines that end in LF

    for my $line ("AAAA\0AAAA\r\n", "AAAA\rAAAA\r\n", "AAAA\r\r\n",
                  "AAAA\n", "*\n", "\n")
    {
        begin($mechanism);
        $c->send($line);
        $c->expect($undecodable, "$mechanism: a line " . visible($line));
        $c->try('NOOP', '250 2.0.0', '  which is one line all the same');
    }

    # the longest line, and one octet more

    begin($mechanism);
    $c->try('A' x 12288, $undecodable, "$mechanism: the longest response");
    begin($mechanism);
    $c->try('A' x 12289, $too_long, "$mechanism: a longer one");
    begin($mechanism);
    $c->try('A' x 60000, $too_long, "$mechanism: a very long one");

    next unless $initial;

    my $room = 12288 - length("AUTH $mechanism ");
    $c->try("AUTH $mechanism " . 'A' x $room, $undecodable,
            "$mechanism: the longest initial response");
    $c->try("AUTH $mechanism " . 'A' x ($room + 1), $too_long,
            "$mechanism: a longer one");
}

# the second step of LOGIN

my @secrets = ('', "\0", "sec\0ret", "sec\rret", "sec\nret", 's' x 8193);

for my $bad ((grep { $_ ne 'QUIT' } @wrong), map { b64($_) } @secrets) {
    $c->must('AUTH LOGIN dXNlcg==', '334 UGFzc3dvcmQ6');
    $c->try($bad, $undecodable, 'LOGIN: no password: ' . visible($bad, 40));
}

$c->must('AUTH LOGIN dXNlcg==', '334');
$c->try('*', $canceled, 'LOGIN: cancelled at the password');
$c->must('AUTH LOGIN dXNlcg==', '334');
$c->try('A' x 12289, $too_long, 'LOGIN: a password too long');

# the command itself

$c->try('AUTH', '501 5.5.4 Syntax error in parameters', 'no mechanism');
$c->try('AUTH ', '501 5.5.4', 'nor behind a blank');

for my $name ('PLAI', 'PLAINN', 'PLAIN=', 'CRAM_MD5', 'CRAM-MD5-', 'X',
              'NONE', "PLAIN\tAAAA", '*', '=', "\xff", 'A' x 300)
{
    $c->try("AUTH $name", '504 5.5.4', 'no mechanism: ' . visible($name, 40));
}

$c->try('AUTH PLAIN AAAA AAAA', $undecodable, 'two initial responses');
$c->send("AUTH PLAIN A\0AA\r\n");
$c->expect('500 5.5.2', 'NUL in the command');
$c->send("AUTH PLAIN AAA\n");
$c->expect('500 5.5.2', 'LF at its end');

is(scalar(() = $auth->requests()), 0, 'nobody was asked about any of these');

# nothing is left of them

$c->try('AUTH PLAIN ' . b64("\0user\0secret"), '235', 'then a good one');
is(($auth->requests())[0]{headers}{'auth-login-attempt'}, 1,
   'which is the first attempt');

# what is good, though it does not look like it

for my $secret ("\x01\x02\x7f\x80\xff", "\xff\xfe", "\t", ' ', '%', '=', '*',
                's' x 8192, join('', map { chr } grep { $_ != 10 && $_ != 13 }
                                 1 .. 255))
{
    my $name = visible($secret, 40);
    my $sent = $secret =~ s/([\x00-\x20%])/sprintf '%%%02X', ord $1/ger;

    for my $command ('AUTH PLAIN ' . b64("\0user\0$secret"), 'AUTH LOGIN dXNlcg==')
    {
        $c = hello();
        my $reply = $c->ask($command);
        $reply = $c->ask(b64($secret)) if $reply =~ /^334/;
        like($reply, qr/^235/, "a secret: $name");

        my ($header) = ($auth->requests())[-1]{raw}
                       =~ /^Auth-Pass: (.*?)\r\n/ms;
        is(uc $header, uc $sent, '  as the service gets it');
    }
}

for my $user ('u' x 255, "\xc3\xbc", 'a b', '=', '%0d%0aX: y', '"', "'", '<>') {
    $c = hello();
    $c->try('AUTH PLAIN ' . b64("\0$user\0s"), '235',
            'a user: ' . visible($user, 40));
}

# where the line is cut does not matter

for my $size (1, 7, 1000) {
    $c = hello();
    $c->send_split('AUTH PLAIN ' . b64("\0user\0" . 's' x 3000) . "\r\n",
                   $size) if $size > 1;
    $c->send_split('AUTH PLAIN ' . b64("\0user\0s") . "\r\n", 1) if $size == 1;
    $c->expect('235', "AUTH in pieces of $size octets");
}

# before TLS and before EHLO

$c = $t->client('smtp');
$c->must(undef, '220');

for my $mechanism (qw/ PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER EXTERNAL /) {
    $c->try("AUTH $mechanism", '503 5.5.1 EHLO first',
            "$mechanism: before EHLO");
}

# a client that leaves in the middle

for my $mechanism (qw/ PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER EXTERNAL /) {
    $c = hello();
    begin($mechanism);
    $c->send('AAAA');
    $c->close();
}

$c = hello();
$c->try('NOOP', '250', 'the relay goes on');

$t->stop();

my $log = $t->read('error.log');

for my $secret (b64("\0user\0secret"), 'token', b64($oauth), $digest,
                b64("user $digest"), 'sec\\x0')
{
    ok(index($log, $secret) < 0, 'not in the log: ' . visible($secret));
}

done_testing();

# -----------------------------------------------------------------------------

sub b64 { return encode_base64($_[0], '') }

sub hello {
    my $client = $t->client('smtps', tls => 1, cert => $t->dir() . '/alice.crt',
                            key => $t->dir() . '/alice.key');
    $client->must(undef, '220');
    $client->must('EHLO client.example', '250');
    return $client;
}

# Begins AUTH: the relay waits for the first message then.

sub begin {
    my ($mechanism) = @_;
    return $c->must("AUTH $mechanism", '334');
}
