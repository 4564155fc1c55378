# What a line may be: lengths, line ends, octets that do not belong there.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;

    server {
        listen                 127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_max_errors  0;
    }

    server {
        listen                 127.0.0.1:%%PORT_errors%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_max_errors  3;
    }
}
EOC

# lengths

my $c = $t->session('smtp');

$c->try('NOOP ' . 'x' x 1995, '250', 'a line of 2000 octets');
$c->try('NOOP ' . 'x' x 4091, '250', 'a line of 4096 octets');
$c->try('NOOP ' . 'x' x 4092, '500 5.5.2', 'a line of 4097 octets');
$c->try('NOOP', '250', 'no more than that line is lost');

for my $length (8190 .. 8194, 16380 .. 16388, 70000, 1000000) {
    $c->send('x' x $length . "\r\nNOOP\r\n");
    $c->expect('500 5.5.2', "a line of $length octets");
    $c->expect('250', 'and the next one');
}

$c->send('x' x 5000 . "\rNOOP\r\n");
$c->expect('500 5.5.2', 'CR does not end a long line');
ok($c->is_silent(), 'there is one reply');

$c->send('x' x 5000 . "\r");
$c->send("\nNOOP\r\n");
$c->expect('500 5.5.2', 'a long line whose CRLF is cut');
$c->expect('250', 'and the next one');

$c = $t->session('errors');
$c->send('y' x 5_000 . "\r\n") for 1 .. 4;
like($c->drain(), qr/\A(500 5\.5\.2[^\n]*\n){3}421 4\.7\.0 [^\n]*\n\z/,
     'long lines are errors, too');

# octets

$c = $t->session('smtp');
$c->try("NO\0OP", '500 5.5.2', 'NUL');
$c->try("NOOP\0", '500 5.5.2', 'NUL at the end');
$c->try("\0", '500 5.5.2', 'NUL alone');
$c->try("NOOP a\rRSET", '500 5.5.2', 'a bare CR');
$c->try("NOOP\r", '500 5.5.2', 'CR CR LF');
$c->send("NOOP\n");
$c->expect('500 5.5.2', 'a bare LF');
$c->send("NOOP\nNOOP\n\r\n");
$c->expect('500 5.5.2', 'bare LF: the first of three lines');
$c->expect('500 5.5.2', 'the second');
$c->expect('500 5.5.2', 'an empty line');
$c->try("MAIL FROM:<a\0\@b.example>", '500 5.5.2', 'NUL in an address');
$c->try("MAIL FROM:<a\@b.example>\nRCPT TO:<c\@d.example>", '500 5.5.2',
        'LF in an address line');
$c->reply();
$c->try("MAIL FROM:<a\x80\@b.example>", qr/^5(01|53) 5\.(1\.7|6\.7|5\.4)/,
        '8-bit octet in an address');
$c->try("MAIL FROM:<a\x1b\@b.example>", qr/^501/, 'ESC in an address');
$c->try('NOOP', '250', 'the session goes on');

is($node->connections(), 0, 'a node sees nothing of all that');

# however the octets arrive

for my $size (1, 2, 3, 7) {
    $c = $t->client('smtp');
    $c->must(undef, '220');
    $c->send_split("EHLO a\r\nAUTH PLAIN " . $c->plain('user', 'secret')
                   . "\r\nNOOP\r\nMAIL FROM:<a\@b.example>\r\nRSET\r\n", $size);
    $c->expect('250', "packets of $size octets: EHLO");
    $c->expect('235', 'AUTH');
    $c->expect('250', 'NOOP');
    $c->expect('250 2.1.0', 'MAIL');
    $c->expect('250', 'RSET');
}

# binary garbage never gets far

srand 1;

for my $round (1 .. 20) {
    $c = $t->client('smtp');
    $c->must(undef, '220');
    $c->send(join '', 'Z', map { chr int rand 256 } 1 .. 3000);
    $c->send("\r\nQUIT\r\n");
    my $got = $c->drain(2);
    $got =~ s/^(?:500 5\.5\.2|50[13] 5\.5\.[14])[^\r\n]*\r\n//mg;
    like($got, qr/\A(221|421|\z)/, "random octets, round $round")
        or diag(visible($got));
}

# other protocols

for my $line ('GET / HTTP/1.1', 'POST / HTTP/1.1', 'CONNECT a:25 HTTP/1.0',
              'Host: relay.example', 'PUT / HTTP/1.0', 'HEAD / HTTP/1.0',
              'OPTIONS * HTTP/1.1')
{
    $c = $t->client('smtp');
    $c->must(undef, '220');
    $c->send("$line\r\nHost: relay.example\r\n\r\nMAIL FROM:<a\@b>\r\n");
    like($c->drain(), qr/\A421 4\.7\.0 [^\n]*\r\n\z/, "closed: $line");
}

ok($t->wait_log(qr/\[info\].*client/), 'and logged');

# without a line end

$c = $t->client('smtp');
$c->must(undef, '220');
$c->send('NOOP');
$c->shut_write();
is($c->drain(), '', 'a last line without its end is not carried out');

done_testing();
