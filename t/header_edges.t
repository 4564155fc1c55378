# smtp_relay_add_header at the edges of buffers and TLS records: a header of
# the client's that has to go goes, and nothing else, wherever it falls.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::FaultNode;

use Digest::SHA qw/ sha1_hex /;

my $t = SMTPRelay::Test->new();

my %nodes = (
    chunking => $t->_daemon('SMTPRelay::FaultNode', 'chunking', brief => 1),
    sloppy => $t->_daemon('SMTPRelay::FaultNode', 'sloppy', brief => 1,
                          ehlo => [qw/ PIPELINING 8BITMIME SIZE /],
                          sloppy => 1),
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
    smtp_relay_add_header  X-Key  one;
    smtp_relay_add_header  X-Key-Two  two;
    smtp_relay_keepalive_messages  100000;
    ssl_certificate        localhost.crt;
    ssl_certificate_key    localhost.key;

$servers
}
EOC

my $added = "X-Key: one\r\nX-Key-Two: two\r\n";

# what stands at the edge, and what is left of it

my @cases = (
    [ "X-Key: evil\r\n", '' ],
    [ "x-kEY-two: evil\r\n\tfolded\r\n and once more\r\nB: c\r\n", "B: c\r\n" ],
    [ "X-Key : evil\r\nB: c\r\n", "B: c\r\n" ],
    [ "X-Ke: kept\r\nX-Key-Three: kept\r\n\tfolded\r\n",
      "X-Ke: kept\r\nX-Key-Three: kept\r\n\tfolded\r\n" ],
    [ "X-Key: evil\nX-Key-Two: evil\rB: c\r\n", "B: c\r\n" ],
    [ "B: c\nX-Key: evil\n\tfolded\nD: e\r\n", "B: c\r\nD: e\r\n" ],
    [ "X-Key: evil\r\n\r\nX-Key: body\r\n", "\r\nX-Key: body\r\n" ],
    [ "X-Key: a\r\nX-Key: b\r\nX-Key-Two: c\r\nX-Key: d\r\n", '' ],
);

my %sent;
my $number = 0;

for my $name (@nodes) {
    for my $how (qw/ DATA BDAT /) {
        my $c = $t->session("to_$name");
        my $bad = '';

        for my $offset (16384 - 72 .. 16384 + 2) {
            $bad .= one($c, $name, $how, $offset, $_) for @cases;
        }

        is($bad, '', "buffers, $how to $name");
        $c->must('QUIT', '221');

        $c = $t->session("tls_$name", tls => 1);
        $bad = '';

        for my $case (@cases) {
            $bad .= one($c, $name, $how, 50, $case, $_)
                for 0 .. length $case->[0];
        }

        is($bad, '', "TLS records, $how to $name");
        $c->must('QUIT', '221');
    }

    my %got;
    $got{$_->[0]} .= $_->[1] for map { [ split / / ] } $nodes{$name}->ledger();

    my @wrong = grep { ($got{$_} // '') ne $sent{$name}{$_}[0] }
                sort keys %{ $sent{$name} };
    my @more = grep { !$sent{$name}{$_} } sort keys %got;

    is(join("\n", map { $sent{$name}{$_}[1] } splice @wrong, 0, 10), '',
       "$name has what is left of each message");
    is("@more", '', "$name has no other message");
}

done_testing();


sub one {
    my ($c, $name, $how, $offset, $case, $at) = @_;

    my ($in, $out) = @$case;
    my $id = sprintf 'm-%d@b.example', ++$number;
    my $head = ('A: ' . 'x' x 67 . "\r\n") x int($offset / 72 - 1);
    $head .= 'A: ' . 'y' x ($offset - length($head) - 5) . "\r\n";

    my $tail = "Z: end\r\n\r\nbody\r\nX-Key: in the body\r\n";
    my $text = "$head$in$tail";

    my @commands = ("MAIL FROM:<$id>", 'RCPT TO:<c@d.example>',
                    $how eq 'DATA' ? 'DATA' : ());

    $c->send(join '', map { "$_\r\n" } @commands);
    $c->must(undef, /DATA/ ? '354' : '250') for @commands;

    my $octets = $how eq 'DATA' ? "$text.\r\n"
                                : 'BDAT ' . length($text) . " LAST\r\n$text";

    if (defined $at) {
        my $front = $how eq 'DATA' ? 0 : length($octets) - length($text);
        $c->send_cut($octets, $front + length($head) + $at);

    } else {
        $c->send($octets);
    }

    my $reply = $c->reply();
    my $what = "$how " . visible($in) . " at $offset"
               . (defined $at ? ", cut at $at" : '');

    $sent{$name}{$id} = [ sha1_hex("$added$head$out$tail"), $what ];

    return $reply =~ /^250 / ? '' : "$what: " . visible($reply) . "\n";
}
