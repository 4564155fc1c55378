# The end of data is CRLF.CRLF and nothing else, however the octets arrive:
# what follows anything else is content for the node, not commands.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys(user => 'secret');
$t->certificates('localhost');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    ssl_certificate        localhost.crt;
    ssl_certificate_key    localhost.key;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $number = 0;

for my $port ('smtp', 'smtps') {
    my $c = $t->session($port, tls => $port eq 'smtps');

    # cut at each offset into two packets

    my $octets = "a\r\n\r\n..b\r\n.\r\n";

    for my $at (0 .. length($octets)) {
        begin($c);
        $c->send_cut($octets, $at);
        $c->expect('250', "$port: end of data, cut at $at");
        is(content(), "a\r\n\r\n.b\r\n", "$port: content, cut at $at");
    }

    # in packets of so many octets

    for my $size (1 .. 5) {
        begin($c);
        $c->send_split($octets, $size);
        $c->expect('250', "$port: end of data, $size octets a packet");
        is(content(), "a\r\n\r\n.b\r\n", "$port: content, $size a packet");
    }

    # an empty message, cut

    for my $at (0 .. 3) {
        begin($c);
        $c->send_cut(".\r\n", $at);
        $c->expect('250', "$port: empty message, cut at $at");
        is(content(), '', "$port: has no content");
    }
}

# at the edges of buffers

my $c = $t->session('smtp');

for my $length (4090 .. 4100, 8186 .. 8194, 16376 .. 16390, 32760 .. 32772) {
    my $text = 'x' x ($length - 2) . "\r\n";

    begin($c);
    $c->send("$text.\r\nNOOP\r\n");
    my $reply = $c->reply();
    my $noop = $c->reply();
    ok($reply =~ /^250 2\.0\.0 Ok: queued/ && $noop =~ /^250/
       && content() eq $text, "end of data behind $length octets")
        or diag($c->dialogue());
}

# what is not an end of data

my @ends = ("\n.\n", "\r.\r", "\r\n.\n", "\n.\r\n", "\r\n.\r", "\r.\r\n",
            "\n.\r", "\r.\n", "\r\r\n.\r\r\n", "\n\n.\n\n", "\r\n.\r\r\n",
            "\r\n.\0\r\n", "\r\n\0.\r\n", "\r\n. \r\n", "\r\n .\r\n",
            "\r\n..\r\n", "\r\n.\n\r\n", "\n\r.\n\r", "\r\n.\x85\r\n",
            "\r\n.\xe2\x80\xa8\r\n", "\r\n.\x0b\r\n", "\r\n.\x0c\r\n");

my $evil = "MAIL FROM:<evil\@b.example>\r\nRCPT TO:<evil\@d.example>\r\n"
           . "DATA\r\nevil\r\n";

for my $end (@ends) {
    for my $split (0, 1) {
        my $shown = visible($end) . ($split ? ', octet by octet' : '');
        my $octets = "good${end}$evil.\r\n";

        begin($c);
        $split ? $c->send_split($octets, 1) : $c->send($octets);

        # a NUL may have the message refused as a whole
        my $reply = $c->reply();
        like($reply, $end =~ /\0/ ? qr/^(250|5\d\d) / : qr/^250 /,
             "not the end of data: $shown");

        $c->try('NOOP', '250', "nothing of it is a command: $shown");

        if ($reply !~ /^250/) {
            $number--;
            next;
        }

        my $content = content();
        like($content, qr/\Agood.*evil\r\n\z/s, "all is content: $shown");
        unlike($content, qr/\r(?!\n)|(?<!\r)\n/,
               "with no CR or LF on its own: $shown");
    }
}

# for a node, too: what it got ends no data in any reading, but where it does

my $received = join '', map { $node->received($_) } 1 .. $node->connections();
unlike($received, qr/(?<!\r)\n|\r(?!\n)/, 'no bare CR or LF reached the node');
is(scalar(() = $received =~ /^MAIL FROM:<a\@b\.example>/mg), $node->count(),
   'the node saw as many envelopes as messages');
is((grep { $_->{mail} =~ /evil/ } $node->messages()), 0,
   'and no smuggled one');

# lines of dots keep their dots

my @lines = map { '.' x $_ } 1 .. 6;
begin($c);
$c->send(join('', map { ".$_\r\n" } @lines) . ".\r\n");
$c->expect('250', 'lines of dots');
is(content(), join('', map { "$_\r\n" } @lines), 'keep their dots');

done_testing();


sub begin {
    my ($c) = @_;

    $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\nDATA\r\n");
    $c->must(undef, $_) for '250', '250', '354';
    $number++;
}


# The content of the message last begun.

sub content {
    wait_until { $node->count() >= $number };
    return $node->last_message()->{data};
}
