# No content becomes a command at a node, however weak that one is, and
# wherever the buffers and TLS records of the relay end.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::FaultNode;

use Digest::SHA qw/ sha1_hex /;

my $t = SMTPRelay::Test->new();

my @PLAIN = qw/ PIPELINING 8BITMIME SIZE /;

# one that counts octets, one that reads to CRLF.CRLF, one that takes the end
# of data for what it is not

my %nodes = (
    chunking => $t->_daemon('SMTPRelay::FaultNode', 'chunking', brief => 1),
    strict => $t->_daemon('SMTPRelay::FaultNode', 'strict', brief => 1,
                          ehlo => \@PLAIN),
    sloppy => $t->_daemon('SMTPRelay::FaultNode', 'sloppy', brief => 1,
                          ehlo => \@PLAIN, sloppy => 1),
);

my @nodes = sort keys %nodes;

$t->keys(user => 'secret');
$t->certificates('localhost');

my $servers = join '', map { <<"EOC" } @nodes;
    server {
        listen           127.0.0.1:%%PORT_to_$_%%;
        listen           127.0.0.1:%%PORT_tls_$_%%  ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_$_%%;
    }
EOC

$t->start(<<"EOC");
stream {
    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    smtp_relay_keepalive_messages  100000;
    ssl_certificate        localhost.crt;
    ssl_certificate_key    localhost.key;

$servers
}
EOC

# in BDAT all of them are content, in DATA those that are no end of it

my @never = ("\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n",
             "\n.\r", "\r.\n", "\r\n..\r\n", "\n\n.\n\n", "\r\r.\r\r",
             "\r\n.\r\r\n", "\r\n\r.\r\n", "\r\n.\0\r\n");
my @ends = ("\r\n.\r\n", "\r\r\n.\r\n", "\n\r\n.\r\n");

my $evil = "MAIL FROM:<evil\@b.example>\r\nRCPT TO:<evil\@d.example>\r\n"
           . "DATA\r\nevil\r\n..\r\n";

my %sent;
my $number = 0;

# at each offset around the edge of a buffer

for my $name (qw/ chunking sloppy /) {
    for my $how (qw/ DATA BDAT /) {
        my $c = $t->session("to_$name");
        my $bad = '';

        # in front of a chunk there is a command in the buffer
        for my $offset (16384 - ($how eq 'BDAT' ? 32 : 10) .. 16384 + 2) {
            $bad .= one($c, $name, $how, $offset, $_)
                for @never, $how eq 'BDAT' ? @ends : ();
        }

        is($bad, '', "buffers, $how to $name");
        $c->must('QUIT', '221');
    }
}

# and around the edges of TLS records

for my $name (@nodes) {
    for my $how (qw/ DATA BDAT /) {
        my $c = $t->session("tls_$name", tls => 1);
        my $bad = '';

        for my $seq (@never, $how eq 'BDAT' ? @ends : ()) {
            for my $at (0 .. length $seq) {
                $bad .= one($c, $name, $how, 100, $seq, $at);
            }

            $bad .= one($c, $name, $how, 100, $seq, 'each');

            # what OpenSSL puts into a record is 16384 octets at most
            $bad .= one($c, $name, $how, 16384 - $_, $seq) for 0 .. length $seq;
        }

        is($bad, '', "TLS records, $how to $name");
        $c->must('QUIT', '221');
    }
}

# what is an end of data in DATA is one at every offset, and what comes
# behind it are commands

for my $name (qw/ strict sloppy /) {
    for my $seq (@ends) {
        my $c = $t->session("to_$name");
        my $bad = '';

        for my $offset (16384 - 12 .. 16384 + 3) {
            my $id = begin($c, 'DATA');
            my $text = fill($offset) . substr($seq, 0, -3);

            $c->send("$text.\r\nNOOP\r\nHELP\r\n");
            my @replies = map { substr $c->reply(), 0, 3 } 1 .. 3;
            $bad .= " $offset:@replies" if "@replies" ne '250 250 214';
            $sent{$name}{$id} = sha1_hex(plain($text, 'DATA'));
        }

        is($bad, '', 'end of data: ' . visible($seq) . ", to $name");
        $c->must('QUIT', '221');
    }
}

# what the nodes have got

for my $name (@nodes) {
    my $node = $nodes{$name};
    my %got;

    $got{$_->[0]} .= $_->[1] for map { [ split / / ] } $node->ledger();

    my @lost = grep { !$got{$_} } sort keys %{ $sent{$name} };
    my @wrong = grep { $got{$_} && $got{$_} ne $sent{$name}{$_} }
                sort keys %{ $sent{$name} };
    my @more = grep { !$sent{$name}{$_} } sort keys %got;

    is(scalar(@lost), 0, "$name has all messages") or diag("@lost[0 .. 3]");
    is(scalar(@wrong), 0, "$name has their octets")
        or diag(scalar(@wrong), " messages, $wrong[0]");
    is("@more", '', "$name has no other message");

    my @commands = map { $node->commands($_) } 1 .. $node->connections();
    is(join("\n", grep {
        !/^(EHLO\ relay\.example|MAIL\ FROM:<m-\d+\@b\.example>.*
            |RCPT\ TO:<c\@d\.example>|DATA|BDAT\ \d+(\ LAST)?|QUIT)$/x
    } @commands), '', "$name was given no command of content");
    is(scalar(grep { /^MAIL/ } @commands), scalar keys %{ $sent{$name} },
       "$name was given as many envelopes as there are messages");

    my $octets = join '', map { $node->received($_) } 1 .. $node->connections();
    unlike($octets, qr/\r(?!\n)|(?<!\r)\n/,
           "$name was given no CR or LF on its own");
}

done_testing();


# Sends a message with the sequence at that offset; gives what is wrong.
# When a position in the sequence is given it is sent in two parts, or all
# octets of the sequence one by one.

sub one {
    my ($c, $name, $how, $offset, $seq, $at) = @_;

    my $id = begin($c, $how);
    my $text = fill($offset) . $seq . $evil;
    my $octets = $text;

    if ($how eq 'DATA') {
        $octets .= ".\r\n";

    } else {
        $octets = 'BDAT ' . length($text) . " LAST\r\n$text";
        $offset += length($octets) - length($text);
    }

    if (!defined $at) {
        $c->send($octets);

    } elsif ($at eq 'each') {
        $c->send(substr $octets, 0, $offset, '');
        $c->send(substr $octets, 0, 1, '') for 1 .. length $seq;
        $c->send($octets);

    } else {
        $c->send_cut($octets, $offset + $at);
    }

    my $reply = $c->reply();
    $sent{$name}{$id} = sha1_hex(plain($text, $how));

    return '' if $reply =~ /^250 /;
    return "$how " . visible($seq) . " at $offset: " . visible($reply) . "\n";
}


sub begin {
    my ($c, $how) = @_;

    my $id = sprintf 'm-%d@b.example', ++$number;
    my @commands = ("MAIL FROM:<$id>", 'RCPT TO:<c@d.example>',
                    $how eq 'DATA' ? 'DATA' : ());

    $c->send(join '', map { "$_\r\n" } @commands);
    $c->must(undef, /DATA/ ? '354' : '250') for @commands;
    return $id;
}


# So many octets of lines.

sub fill {
    my ($length) = @_;

    my $text = ('x' x 70 . "\r\n") x ($length / 72);
    return $text . 'y' x ($length - length $text);
}


# The content that this text is: what the node has to get.

sub plain {
    my ($text, $how) = @_;

    $text =~ s/(\A|\r\n)\./$1/g if $how eq 'DATA';
    $text =~ s/\r(?!\n)|(?<!\r)\n/\r\n/g;
    return $text;
}
