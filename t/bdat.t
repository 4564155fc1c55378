# BDAT (RFC 3030): content in chunks whose sizes are told.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

my %script = (RCPT => sub { $_[0] =~ /bad/ ? '550 5.1.1 no' : undef });

my $with = $t->node('with', script => \%script);
my $without = $t->node('without', script => \%script,
                       ehlo => [qw/ PIPELINING 8BITMIME /]);
my $plain = $t->node('plain', script => \%script, ehlo => []);
my $refuses = $t->node('refuses', script => {
    DATA => sub { $_[3]{mail} =~ /nodata/ ? '451 4.3.0 no data' : undef },
    BDAT => '451 4.3.0 no chunk',
    eod => '554 5.7.1 spam',
});

$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname   relay.example;
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    server {
        listen           127.0.0.1:%%PORT_to_with%%;
        smtp_relay_pass  127.0.0.1:%%PORT_with%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_without%%;
        smtp_relay_pass  127.0.0.1:%%PORT_without%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_plain%%;
        smtp_relay_pass  127.0.0.1:%%PORT_plain%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_refuses%%;
        smtp_relay_pass  127.0.0.1:%%PORT_refuses%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_off%%;
        smtp_relay_pass          127.0.0.1:%%PORT_with%%;
        smtp_relay_capabilities  8BITMIME;
    }
}
EOC

my %nodes = (with => $with, without => $without, plain => $plain);

for my $kind (sort keys %nodes) {
    my $node = $nodes{$kind};
    my $to = "node \"$kind\"";
    my $c = $t->session("to_$kind");
    my $want;

    # chunks

    $c->envelope('a@b.example', 'c@d.example');
    chunk($c, "one\r\n");
    $c->expect('250', "$to: first chunk");
    chunk($c, "two\r\n", 'LAST');
    $c->expect('250', "$to: last chunk");
    is(content($node, 1), "one\r\ntwo\r\n", "$to: chunks are joined");

    # one chunk, whose octets look like commands and ends of data

    $want = ".\r\nRSET\r\n\r\n.\r\nQUIT\r\n..\r\n...\r\n.";
    $c->envelope('a@b.example', 'c@d.example');
    chunk($c, "$want\r\n", 'LAST');
    $c->expect('250', "$to: a chunk with dots and commands");
    is(content($node, 2), "$want\r\n", "$to: is content only");

    # BDAT 0 LAST

    $c->envelope('a@b.example', 'c@d.example');
    chunk($c, "text\r\n");
    $c->expect('250', "$to: chunk");
    $c->try('BDAT 0 LAST', '250', "$to: BDAT 0 LAST");
    is(content($node, 3), "text\r\n", "$to: ends the message");

    $c->envelope('a@b.example', 'c@d.example');
    $c->try('BDAT 0 LAST', '250', "$to: BDAT 0 LAST alone");
    is(content($node, 4), '', "$to: is an empty message");

    # everything in one flight

    $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<bad\@d.example>\r\n"
             . "RCPT TO:<c\@d.example>\r\nBDAT 3\r\na\r\nBDAT 3 LAST\r\nb\r\n"
             . "NOOP\r\n");
    $c->expect($_, "$to: in one flight: $_") for qw/ 250 550 250 250 250 250 /;
    is(content($node, 5), "a\r\nb\r\n", "$to: message in one flight");
    is_deeply(($node->messages())[4]{rcpt}, ['TO:<c@d.example>'],
              "$to: rejected recipients are left out");

    # octet by octet

    $c->envelope('a@b.example', 'c@d.example');
    $c->send_split("BDAT 8\r\n.\r\n.\r\n\r\nBDAT 2 LAST\r\n\r\n", 1);
    $c->expect('250', "$to: octet by octet: chunk");
    $c->expect('250', "$to: last chunk");
    is(content($node, 6), ".\r\n.\r\n\r\n\r\n", "$to: octet by octet: content");

    # large

    my $big = join '', map { "line $_\r\n" . "." x ($_ % 3) . "x\r\n" }
                       1 .. 30000;
    $c->envelope('a@b.example', 'c@d.example');

    for my $size (100000, 1, 65536) {
        chunk($c, substr $big, 0, $size, '');
        $c->expect('250', "$to: chunk of $size octets");
    }

    chunk($c, $big, 'LAST');
    $c->expect('250', "$to: and the rest");
    ok(content($node, 7) eq join('', map { "line $_\r\n" . '.' x ($_ % 3)
                                           . "x\r\n" } 1 .. 30000),
       "$to: a large message, octet for octet");

    # no line end at the end

    $c->envelope('a@b.example', 'c@d.example');
    chunk($c, 'no line end', 'LAST');
    $c->expect('250', "$to: content without a line end");
    like(content($node, 8), qr/\Ano line end(\r\n)?\z/, "$to: is kept");

    # a line end and an end of data across chunks

    $c->envelope('a@b.example', 'c@d.example');

    for my $part ("a\r", "\n.", "\r", "\nb\r\n") {
        chunk($c, $part);
        $c->expect('250', "$to: chunk " . visible($part));
    }

    $c->try('BDAT 0 LAST', '250', "$to: last chunk");
    is(content($node, 9), "a\r\n.\r\nb\r\n", "$to: chunks cut within line ends");

    # RSET between chunks

    my $count = $node->count();
    $c->envelope('a@b.example', 'c@d.example');
    chunk($c, "given up\r\n");
    $c->expect('250', "$to: chunk");
    $c->try('RSET', '250', "$to: RSET between chunks");
    like($c->message("whole\r\n"), qr/^250/, "$to: another message");
    is($node->count(), $count + 1, "$to: only that is delivered");
    is(($node->messages())[-1]{data}, "whole\r\n", "$to: and whole");

    # out of order

    chunk($c, "RSET\r\n", 'LAST');
    $c->expect('503 5.5.1', "$to: BDAT without MAIL");
    $c->try('NOOP', '250', "$to: its octets were no commands");

    $c->must('MAIL FROM:<a@b.example>', '250');
    chunk($c, "NOOP\r\n");
    $c->expect(qr/^(503|554) 5\.5\.1/, "$to: BDAT without RCPT");
    $c->must('RSET', '250');

    $c->envelope('a@b.example', 'c@d.example');
    chunk($c, "a\r\n");
    $c->must(undef, '250');
    $c->try('DATA', '503 5.5.1', "$to: DATA behind BDAT");
    $c->must('RSET', '250');
    $c->envelope('a@b.example', 'c@d.example');
    chunk($c, "a\r\n");
    $c->must(undef, '250');
    $c->try('RCPT TO:<late@d.example>', '503 5.5.1', "$to: RCPT behind BDAT");
    $c->must('RSET', '250');

    $c->must('MAIL FROM:<a@b.example>', '250');
    $c->must('RCPT TO:<bad@d.example>', '550');
    chunk($c, "a\r\n", 'LAST');
    $c->expect(qr/^(503|554) 5\.5\.1/, "$to: BDAT with no recipient taken");
    $c->try('NOOP', '250', "$to: goes on");
    $c->must('RSET', '250');
}

is(($without->messages())[0]{how}, 'DATA', 'a node without CHUNKING gets DATA');
unlike(join("\n", map { $without->commands($_) } 1 .. $without->connections()),
       qr/^BDAT/m, 'and never BDAT');

# syntax

for my $bad ('', ' x', ' -1', ' 1 FIRST', ' 99999999999999999999', ' 1 LAST x',
             ' +1', ' 0x1')
{
    my $s = $t->session('to_with');
    $s->envelope('a@b.example', 'c@d.example');
    $s->try("BDAT$bad", '501 5.5.4', "syntax: \"BDAT$bad\"");
}

# refused by the node

my $c = $t->session('to_refuses');

for my $from ('nodata@b.example', 'a@b.example') {
    $c->envelope($from, 'c@d.example');
    chunk($c, "RSET\r\n");
    my $first = $c->reply();
    chunk($c, "QUIT\r\n", 'LAST');
    my $last = $c->reply();

    like($last, qr/^(451 4\.3\.0|554 5\.7\.1|503 5\.5\.1)/,
         "refused by the node, $from: told at the last chunk at the latest")
        or diag($first);
    $c->try('RSET', '250', 'the session goes on');
}

# not offered

$c = $t->session('off');
unlike($c->must('EHLO a', '250'), qr/CHUNKING/, 'not offered');
$c->envelope('a@b.example', 'c@d.example');
$c->send("BDAT 6 LAST\r\nRSET\r\n");
like($c->drain(0.2, qr/\n/), qr/\A(500 5\.5\.2|502 5\.5\.1|503 5\.5\.1|250)/,
     'BDAT where it is not offered');

# the client leaves within a chunk

my $count = $with->count();
$c = $t->session('to_with');
$c->envelope('a@b.example', 'c@d.example');
$c->send("BDAT 100 LAST\r\nhalf");
$c->close();
$c = $t->session('to_without');
$c->envelope('a@b.example', 'c@d.example');
$c->send("BDAT 100 LAST\r\nhalf\r\n");
$c->close();
is(($without->ended($without->connections())), 'eof',
   'a node sees the connection end');
is($with->count(), $count, 'and nothing half is delivered');
is((grep { $_->{data} =~ /half/ } $without->messages()), 0,
   'not by DATA either');

done_testing();


sub chunk {
    my ($c, $octets, $last) = @_;

    $last = $last ? " $last" : '';
    return $c->send('BDAT ' . length($octets) . "$last\r\n$octets");
}


# The content of the message of that number at a node.

sub content {
    my ($node, $number) = @_;

    my @messages = $node->wait_messages($number);
    return $messages[$number - 1]{data};
}
