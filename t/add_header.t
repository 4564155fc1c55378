# smtp_relay_add_header: headers in front of a message, and those of the
# client that give way to them, octet for octet at the node.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $plain = $t->node('plain', ehlo => [qw/ PIPELINING 8BITMIME /]);
my $silent = $t->node('silent', script => {
    DATA => { gate => 'data' },
});

$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname   relay.example;
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    smtp_relay_add_header  X-Key      one;
    smtp_relay_add_header  X-Key-Id   $smtp_relay_account;

    # what a client says goes into a header
    map $smtp_relay_helo $said {
        volatile;
        default       "";
        ~^long        "x y $smtp_relay_helo";
    }

    map $remote_addr $literal {
        ~:       "IPv6:$remote_addr";
        default  $remote_addr;
    }

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_plain%%;
        smtp_relay_pass  127.0.0.1:%%PORT_plain%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_own%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_add_header  X-B  "b $remote_addr $smtp_relay_session_id";
        smtp_relay_add_header  X-A  "$smtp_relay_mail_from $smtp_relay_rcpt_to";
        smtp_relay_add_header  X-B  "again";
        smtp_relay_add_header  X-Empty  $said;
        smtp_relay_add_header  X-None   "";
    }

    server {
        listen                 127.0.0.1:%%PORT_odd%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_add_header  X-Odd  "a
b	c$smtp_relay_mail_from";
        smtp_relay_add_header  X-8    "x ü";
    }

    server {
        listen                 127.0.0.1:%%PORT_trace%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_add_header  Received
            "from $smtp_relay_helo ([$literal]) by $smtp_relay_hostname with $smtp_relay_protocol id $smtp_relay_session_id; $smtp_relay_date";
    }

    server {
        listen                 127.0.0.1:%%PORT_drop%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_add_header  X-Key  "";
    }

    server {
        listen                       127.0.0.1:%%PORT_small%%;
        smtp_relay_pass              127.0.0.1:%%PORT_node%%;
        smtp_relay_max_message_size  100;
        smtp_relay_bare_newline      reject;
    }

    server {
        listen           127.0.0.1:%%PORT_waits%%;
        smtp_relay_pass  127.0.0.1:%%PORT_silent%%;
    }

    log_format  size  '$smtp_relay_event $smtp_relay_message_size';
    access_log  size.log  size;
}
EOC

my $added = "X-Key: one\r\nX-Key-Id: user\r\n";

# messages, and what becomes of them

my @cases = (
    [ 'a message', "From: a\r\nTo: b\r\n\r\ntext\r\n",
      "From: a\r\nTo: b\r\n\r\ntext\r\n" ],
    [ "the client's header", "From: a\r\nX-Key: evil\r\nTo: b\r\n\r\nt\r\n",
      "From: a\r\nTo: b\r\n\r\nt\r\n" ],
    [ 'in upper case, at the start', "X-KEY: evil\r\nTo: b\r\n\r\nt\r\n",
      "To: b\r\n\r\nt\r\n" ],
    [ 'in lower case, at the end', "To: b\r\nx-key-id: evil\r\n\r\nt\r\n",
      "To: b\r\n\r\nt\r\n" ],
    [ 'folded',
      "To: b\r\n c\r\nX-Key: e\r\n v\r\n\til\r\nCc: d\r\n e\r\n\r\nt\r\n",
      "To: b\r\n c\r\nCc: d\r\n e\r\n\r\nt\r\n" ],
    [ 'several times',
      "X-Key: 1\r\nTo: b\r\nX-Key: 2\r\nX-Key-Id: 3\r\nX-key:\r\n\r\nt\r\n",
      "To: b\r\n\r\nt\r\n" ],
    [ 'with white space', "X-Key \t : evil\r\nTo: b\r\n\r\nt\r\n",
      "To: b\r\n\r\nt\r\n" ],
    [ 'names alike', "X-Ke: 1\r\nX-Key-I: 2\r\nX-Keys: 3\r\n\r\nt\r\n",
      "X-Ke: 1\r\nX-Key-I: 2\r\nX-Keys: 3\r\n\r\nt\r\n" ],
    [ 'text that looks like it', "To: b\r\n\r\nX-Key: t\r\n x\r\n",
      "To: b\r\n\r\nX-Key: t\r\n x\r\n" ],
    [ 'no header section, an empty line', "\r\nX-Key: t\r\n",
      "\r\nX-Key: t\r\n" ],
    [ 'no header section', "just text\r\nX-Key: t\r\n",
      "\r\njust text\r\nX-Key: t\r\n" ],
    [ 'text that would continue what was added', " evil\r\nX-Key: t\r\n",
      "\r\n evil\r\nX-Key: t\r\n" ],
    [ 'a broken header section', "To: b\r\nbroken\r\nX-Key: t\r\n\r\nx\r\n",
      "To: b\r\n\r\nbroken\r\nX-Key: t\r\n\r\nx\r\n" ],
    [ 'headers alone', "X-Key: evil\r\nTo: b\r\n", "To: b\r\n" ],
    [ 'a dropped header alone', "X-Key: evil\r\n", '' ],
    [ 'nothing', '', '' ],
    [ 'dots', "To: b\r\n\r\n.\r\n..\r\n.x\r\nX-Key: .\r\n",
      "To: b\r\n\r\n.\r\n..\r\n.x\r\nX-Key: .\r\n" ],
    [ 'a name that starts with a dot', "To: b\r\n.X-Key: t\r\nX-Key: e\r\n\r\n",
      "To: b\r\n.X-Key: t\r\n\r\n" ],
    [ 'dots where no header is', ".\r\nX-Key: t\r\n",
      "\r\n.\r\nX-Key: t\r\n" ],
    [ 'a large header section',
      join('', map { "H$_: v\r\n f\r\nX-Key: $_\r\n $_\r\n" } 1 .. 3000)
      . "\r\nt\r\n",
      join('', map { "H$_: v\r\n f\r\n" } 1 .. 3000) . "\r\nt\r\n" ],
    [ 'a large dropped header', 'X-Key: ' . "x" x 40000
      . "\r\n y" x 2000 . "\r\nTo: b\r\n\r\nt\r\n", "To: b\r\n\r\nt\r\n" ],
);

for my $to ([ 'smtp', $node ], [ 'to_plain', $plain ]) {
    my ($port, $at) = @$to;
    my $c = $t->session($port);

    for my $case (@cases) {
        my ($name, $content, $want) = @$case;
        $name = "$port: $name";

        (my $stuffed = $content) =~ s/^\./../mg;
        like($c->message($stuffed), qr/^250/, "$name: DATA");
        is($at->last_message()->{data}, "$added$want", "$name: content");

        bdat($c, $content, 50000);
        is($at->last_message()->{data}, "$added$want", "$name: by BDAT");

        next if length $content > 200;

        $c->envelope('a@b.example', 'c@d.example');
        $c->must('DATA', '354');
        $c->send_split("$stuffed.\r\n", 1);
        $c->expect('250', "$name: octet by octet");
        is($at->last_message()->{data}, "$added$want", "$name: its content");

        bdat($c, $content, 3);
        is($at->last_message()->{data}, "$added$want", "$name: by chunks of 3");
    }
}

# the start of a message cut in all places

my $c = $t->session('smtp');
my $text = "A: b\r\nX-Key : e\r\n vil\r\nX-Keys: c\r\n\r\nX-Key: t\r\n";
my @wrong;

for my $at (1 .. length($text) - 1) {
    $c->envelope('a@b.example', 'c@d.example');
    $c->must('DATA', '354');
    $c->send_cut("$text.\r\n", $at);
    $c->reply() =~ /^250/
        && $node->last_message()->{data} eq
           "${added}A: b\r\nX-Keys: c\r\n\r\nX-Key: t\r\n"
        or push @wrong, $at;
}

is("@wrong", '', 'a message in two packets, cut anywhere');

# bare newlines are made right before headers are looked for

$c->message("A: b\nX-Key: e\r vil\nC: d\r\n\nt\r\n");
is($node->last_message()->{data}, "${added}A: b\r\nC: d\r\n\r\nt\r\n",
   'bare newlines');

# values, their order, and levels

$c = $t->session('own');
like($c->message("X-B: 1\r\nX-Empty: 2\r\nX-None: 3\r\nX-Key: 4\r\nA: b\r\n"
                 . "\r\nt\r\n", 's@b.example', 'r@d.example', 'q@d.example'),
     qr/^250/, 'headers with variables');
like($node->last_message()->{data},
     qr/\AX-B:\ b\ 127\.0\.0\.1\ [0-9a-f]{24}\r\n
        X-A:\ s\@b\.example\ r\@d\.example\r\nX-B:\ again\r\n
        X-Key:\ 4\r\nA:\ b\r\n\r\nt\r\n\z/x,
     'in order, not inherited; empty ones only drop');

$c->message("t\r\n", 'other@b.example', 'r@d.example');
like($node->last_message()->{data}, qr/^X-A: other\@b\.example r\@/m,
     'evaluated for each message');

$c->must('EHLO long.example', '250');
$c->message("t\r\n");
like($node->last_message()->{data}, qr/^X-Empty: x y long\.example\r$/m,
     'a header that has a value now');

# what a value must not do

$c = $t->session('odd');
$c->message("t\r\n", '"x y"@b.example');
is($node->last_message()->{data},
   "X-Odd: a b\tc\"x y\"\@b.example\r\n"
   . "X-8: x \xc3\xbc\r\n\r\nt\r\n",
   'a newline in a value is a blank; 8-bit octets stay');

$c = $t->session('drop');
$c->message("A: b\r\nX-Key: e\r\n\r\nt\r\n");
is($node->last_message()->{data}, "A: b\r\n\r\nt\r\n",
   'an empty value only drops');

# a trace header

$c = $t->session('trace');
$c->message("Received: from x by y; z\r\nA: b\r\n\r\nt\r\n");
my ($trace, $rest) = split /\r\n/, $node->last_message()->{data}, 2;
like($trace, qr/\AReceived:\ from\ \S+\ \(\[127\.0\.0\.1\]\)
                \ by\ relay\.example\ with\ ESMTPA\ id\ [0-9a-f]{24};
                \ (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),\ [0-3]\d
                \ (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)
                \ 2\d\d\d\ [0-2]\d:[0-5]\d:[0-6]\d\ [+-]\d{4}\z/x,
     'a trace header');
is($rest, "Received: from x by y; z\r\nA: b\r\n\r\nt\r\n",
   'and the trace that there was is left alone');

my ($date) = $trace =~ /; (.*)/;
my $stamp = `date -d '$date' +%s`;
cmp_ok(abs($stamp - time()), '<', 60, 'its date is now');

# limits count what the client sent

$c = $t->session('small');
my $hundred = "A: b\r\nX-Key: c\r\n\r\n" . 'x' x 80 . "\r\n";
like($c->message($hundred), qr/^250/, 'a message of the greatest size');
is($node->last_message()->{data},
   "${added}A: b\r\n\r\n" . 'x' x 80 . "\r\n", 'with headers');
like($c->message("x$hundred"), qr/^552 5\.3\.4/, 'and one too large');
like($c->message("X-Key: a\nA: b\r\n"), qr/^550 5\.5\.2/, 'bare newlines');
ok((grep { $_ eq 'message 100' } $t->lines('size.log')),
   "the log has the client's size");

# nothing is sent before the node wants it

$c = $t->session('waits');
$c->envelope('a@b.example', 'c@d.example');
$c->line('DATA');
$silent->wait_command(qr/^DATA/);
ok($c->is_silent(0.2), 'the node has not answered DATA');
$silent->open_gate('data');
$c->expect('354', 'then it does');
$c->send("X-Key: e\r\nt\r\n.\r\n");
$c->expect('250', 'the message');
is($silent->last_message()->{data}, "$added\r\nt\r\n", 'is right');

done_testing();


# Sends a message by BDAT in chunks of that size; the last one is empty.

sub bdat {
    my ($c, $content, $size) = @_;

    $c->envelope('a@b.example', 'c@d.example');

    while (length $content) {
        my $chunk = substr $content, 0, $size, '';
        $c->send('BDAT ' . length($chunk) . "\r\n$chunk");
        $c->must(undef, '250');
    }

    $c->must('BDAT 0 LAST', '250');
    return;
}
