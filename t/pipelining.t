# Commands that arrive together are answered in their order (RFC 2920),
# whether or not the node can do that, too.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

my %script = (
    RCPT => sub { $_[0] =~ /bad(\d)/ ? "550 5.1.1 bad$1" : undef },
    MAIL => sub { $_[0] =~ /nosender/ ? '550 5.7.1 no' : undef },
);

my $with = $t->node('with', script => \%script, delay => 0.01);
my $without = $t->node('without', script => \%script, delay => 0.01,
                       ehlo => ['8BITMIME', 'ENHANCEDSTATUSCODES']);

$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    smtp_relay_max_errors  0;

    server {
        listen           127.0.0.1:%%PORT_to_with%%;
        smtp_relay_pass  127.0.0.1:%%PORT_with%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_without%%;
        smtp_relay_pass  127.0.0.1:%%PORT_without%%;
    }
}
EOC

for my $kind ('with', 'without') {
    my $node = $kind eq 'with' ? $with : $without;
    my $c = $t->session("to_$kind");
    my $to = "node $kind PIPELINING";

    # an envelope in one packet

    $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\n"
             . "RCPT TO:<bad1\@d.example>\r\nRCPT TO:<e\@d.example>\r\n"
             . "RCPT TO:<bad2\@d.example>\r\nDATA\r\n");
    $c->expect('250 2.1.0', "$to: MAIL");
    $c->expect('250 2.1.5', "$to: first recipient");
    $c->expect('550 5.1.1 bad1', "$to: rejected recipient in the middle");
    $c->expect('250 2.1.5', "$to: third recipient");
    $c->expect('550 5.1.1 bad2', "$to: rejected recipient at the end");
    $c->expect('354', "$to: DATA");

    # the end of a message and the next envelope

    $c->send("first\r\n.\r\nMAIL FROM:<b\@b.example>\r\n"
             . "RCPT TO:<f\@d.example>\r\nDATA\r\n");
    $c->expect('250 2.0.0', "$to: end of data");
    $c->expect('250 2.1.0', "$to: MAIL behind it");
    $c->expect('250 2.1.5', "$to: RCPT");
    $c->expect('354', "$to: DATA");
    $c->send("second\r\n.\r\nNOOP\r\nRSET\r\nQUIT\r\n");
    $c->expect('250 2.0.0', "$to: end of data");
    $c->expect('250', "$to: NOOP");
    $c->expect('250', "$to: RSET");
    $c->expect('221', "$to: QUIT");
    $c->expect_closed("$to: closed");

    my @messages = $node->wait_messages(2);
    is($messages[0]{data}, "first\r\n", "$to: first message");
    is_deeply($messages[0]{rcpt}, ['TO:<c@d.example>', 'TO:<e@d.example>'],
              "$to: its recipients");
    is($messages[1]{data}, "second\r\n", "$to: second message");
    is_deeply($messages[1]{rcpt}, ['TO:<f@d.example>'], "$to: its recipient");

    # all recipients rejected

    $c = $t->session("to_$kind");
    $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<bad1\@d.example>\r\n"
             . "DATA\r\n");
    $c->expect('250', "$to: MAIL");
    $c->expect('550', "$to: the only recipient is rejected");
    my $reply = $c->reply();

    if ($reply =~ /^354/) {
        $c->send(".\r\n");
        $reply = $c->reply();
    }

    like($reply, qr/^(503|554) 5\.5\.1/, "$to: DATA is refused");
    $c->try('NOOP', '250', "$to: no reply too many");
    $c->try('RSET', '250', "$to: RSET");

    # the sender rejected

    $c->send("MAIL FROM:<nosender\@b.example>\r\nRCPT TO:<c\@d.example>\r\n"
             . "RCPT TO:<e\@d.example>\r\nDATA\r\n");
    $c->expect('550 5.7.1 no', "$to: MAIL is rejected");
    $c->expect(qr/^50[13] 5\.5\.1|^503/, "$to: RCPT behind it");
    $c->expect(qr/^503/, "$to: another");
    $c->expect(qr/^(503|554)/, "$to: DATA");
    $c->try('NOOP', '250', "$to: no reply too many");

    # the relay's own replies among those of the node

    $c->send("MAIL FROM:<a\@b.example>\r\nNOOP\r\nRCPT TO:<c\@d.example>\r\n"
             . "VRFY x\r\nRCPT TO:<>\r\nRCPT TO:<bad3\@d.example>\r\nXYZZY\r\n"
             . "MAIL FROM:<x\@b.example>\r\nRSET\r\nNOOP\r\n");
    $c->expect('250 2.1.0', "$to: MAIL");
    $c->expect('250', "$to: NOOP in between");
    $c->expect('250 2.1.5', "$to: RCPT");
    $c->expect('502', "$to: VRFY in between");
    $c->expect('501', "$to: bad RCPT in between");
    $c->expect('550 5.1.1 bad3', "$to: rejected RCPT");
    $c->expect('500', "$to: unknown command in between");
    $c->expect('503', "$to: MAIL again");
    $c->expect('250', "$to: RSET");
    $c->expect('250', "$to: NOOP");
    ok($c->is_silent(), "$to: no reply too many");

    # many recipients

    my $count = $node->count();
    $c->send("MAIL FROM:<a\@b.example>\r\n"
             . join('', map { "RCPT TO:<many$_\@d.example>\r\n" } 1 .. 100)
             . "DATA\r\n");
    $c->expect('250 2.1.0', "$to: MAIL");
    is(scalar(grep { $c->reply() =~ /^250 2\.1\.5/ } 1 .. 100), 100,
       "$to: 100 recipients in one flight");
    $c->expect('354', "$to: DATA");
    $c->send("many\r\n.\r\n");
    $c->expect('250', "$to: end of data");
    is(scalar @{ ($node->wait_messages($count + 1))[-1]{rcpt} }, 100,
       "$to: all of them reach it");

    # a whole session in one flight, up to the DATA

    $c = $t->client("to_$kind");
    $c->must(undef, '220');
    $c->send("EHLO a\r\nAUTH PLAIN " . $c->plain('user', 'secret')
             . "\r\nMAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\n"
             . "DATA\r\n");
    $c->expect($_, "$to: all in one flight: $_") for qw/ 250 235 250 250 354 /;
    $c->send("flight\r\n.\r\n");
    $c->expect('250', "$to: end of data");

    # the same octet by octet

    $c->send_split("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\n"
                   . "DATA\r\n", 1);
    $c->expect($_, "$to: octet by octet: $_") for qw/ 250 250 354 /;
    $c->send_split("split\r\n.\r\n", 1);
    $c->expect('250', "$to: end of data");
}

is(join(' ', map { $without->pipelined($_) } 1 .. $without->connections()), '',
   'a node without PIPELINING gets one command at a time');
cmp_ok(scalar(map { $with->pipelined($_) } 1 .. $with->connections()), '>', 0,
       'a node with PIPELINING gets several');

my $received = $with->received(1);
like($received, qr/^EHLO relay\.example\r\n/, 'EHLO to the node');

done_testing();
