# Messages: what the client sent is what the node gets, and what the node
# answers is what the client reads.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

my $node = $t->node('node', script => {
    MAIL => sub {
        my ($arg) = @_;

        return $arg =~ /rejected/ ? '550 5.7.1 Sender not welcome'
             : $arg =~ /multi/ ? "250-2.1.0 first line\n250 2.1.0 second line"
             : undef;
    },
    RCPT => sub {
        my ($arg) = @_;

        return $arg =~ /unknown/ ? '550 5.1.1 <unknown@d.example>: No such user'
             : $arg =~ /full/ ? '452 4.2.2 Mailbox full'
             : $arg =~ /multi/ ? "550-5.7.1 See\n550-5.7.1 http://x.example/\n"
                                 . '550 5.7.1 for why'
             : $arg =~ /plain/ ? '251 User not local; will forward'
             : $arg =~ /bare/ ? '250'
             : undef;
    },
});

my $picky = $t->node('picky', script => {
    DATA => sub {
        my $message = $_[3];
        return $message->{mail} =~ /nodata/ ? '451 4.3.0 Not now' : undef;
    },
    eod => sub {
        my $content = $_[3]{data};

        return $content =~ /spam/ ? "554-5.7.1 Looks like spam\n"
                                    . '554 5.7.1 Go away'
             : $content =~ /later/ ? '452 4.3.1 Disk full'
             : { gate => 'stored' };
    },
});

$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname   relay.example;
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_strict%%;
        smtp_relay_pass  127.0.0.1:%%PORT_picky%%;
    }
}
EOC

my $c = $t->session('smtp');

# one message, in full

my $content = join "\r\n",
    'From: a@b.example', 'To: c@d.example', 'Subject: test', '',
    'text', '..a line with a dot', '...two dots', '..', '  .', 'a.b.', '',
    "8-bit: \xc3\xbc \xff \x80", "tab\tand\x01control\x7f", 'x' x 998,
    'y' x 20000, '', '', '';

$c->try('MAIL FROM:<a@b.example> BODY=8BITMIME', '250 2.1.0 Ok', 'MAIL');
$c->try('RCPT TO:<c@d.example>', '250 2.1.5 Ok', 'RCPT');
$c->try('DATA', '354', 'DATA');
$c->send("$content.\r\n");
$c->expect(qr/\A250 2\.0\.0 Ok: queued as 1-1\z/, "the node's answer");

my ($message) = $node->wait_messages(1);
(my $plain = $content) =~ s/^\.//mg;
is($message->{data}, $plain, 'the content is the same, octet for octet');
like($message->{mail}, qr/^FROM:<a\@b\.example>/, 'the sender');
is_deeply($message->{rcpt}, ['TO:<c@d.example>'], 'the recipient');

# several in a session

for my $number (2 .. 4) {
    like($c->message("message $number\r\n", "a$number\@b.example",
                     map { "r$_\@d.example" } 1 .. $number),
         qr/\A250 2\.0\.0 Ok: queued as \S+\z/,
         "message $number of a session");
}

my @messages = $node->wait_messages(4);
is($messages[3]{data}, "message 4\r\n", 'is what was sent');
is(scalar @{ $messages[3]{rcpt} }, 4, 'with its recipients only');
like($messages[3]{mail}, qr/<a4\@b\.example>/, 'and its sender');

# small and odd ones

my %odd = (
    'empty' => '', 'a line end' => "\r\n", 'line ends' => "\r\n\r\n\r\n",
    'one octet' => "x\r\n", 'a dot doubled' => "..\r\n",
    'an empty line and a dot doubled' => "\r\n..\r\n",
    'headers alone' => "Subject: x\r\n",
    'a NUL' => "a\0b\r\n",
    'a megabyte' => join('', map { "$_ of a megabyte\r\n" } 1 .. 50000),
    'one line of 100000 octets' => 'z' x 100000 . "\r\n",
    'dots' => "..\r\n" x 20000,
);

for my $name (sort keys %odd) {
    my $number = $node->count() + 1;

    like($c->message($odd{$name}), qr/^(250|550 5\.\d\.\d)/, "message: $name");
    next if $name eq 'a NUL' && $node->count() < $number;

    (my $want = $odd{$name}) =~ s/(\A|\n)\./$1/g;
    ok(($node->wait_messages($number))[-1]{data} eq $want,
       "$name: the same octets");
}

# null sender

is($c->message("bounce\r\n", '') =~ /^250/, 1, 'null sender');
like(($node->messages())[-1]{mail}, qr/^FROM:<>/, 'reaches the node');

# the node's words

$c->try('MAIL FROM:<rejected@b.example>',
        qr/\A550 5\.7\.1 Sender not welcome\z/, 'rejected sender');
$c->try('RCPT TO:<c@d.example>', '503 5.5.1', 'no recipients for it');
$c->try('MAIL FROM:<multi@b.example>',
        qr/\A250-2\.1\.0 first line\n250 2\.1\.0 second line\z/,
        'a reply to MAIL of several lines');
$c->try('RCPT TO:<unknown@d.example>',
        qr/\A550 5\.1\.1 <unknown\@d\.example>: No such user\z/,
        'rejected recipient');
$c->try('RCPT TO:<good@d.example>', '250 2.1.5 Ok', 'good recipient');
$c->try('RCPT TO:<full@d.example>', qr/\A452 4\.2\.2 Mailbox full\z/,
        'recipient for later');
$c->try('RCPT TO:<multi@d.example>',
        qr!\A550-5\.7\.1 See\n550-5\.7\.1 http://x\.example/\n550 5\.7\.1 for why\z!,
        'a reply to RCPT of several lines');
$c->try('RCPT TO:<plain@d.example>', qr/\A251 User not local; will forward\z/,
        'a reply without enhanced code');
$c->try('RCPT TO:<bare@d.example>', qr/\A250\s*\z/, 'a reply without text');
$c->must('DATA', '354');
$c->send("x\r\n.\r\n");
$c->expect('250', 'the message is taken');
is_deeply([ map { /<(.*?)\@/ } @{ ($node->messages())[-1]{rcpt} } ],
          [qw/ good plain bare /], 'for the recipients that were');

$c->must('MAIL FROM:<a@b.example>', '250');
$c->must('RCPT TO:<unknown@d.example>', '550');
$c->try('DATA', qr/^(503|554) 5\.5\.1/, 'DATA without a recipient taken');
$c->try('RCPT TO:<late@d.example>', '250', 'a recipient after that');
$c->try('DATA', '354', 'and DATA');
$c->send(".\r\n");
$c->expect('250', 'is taken');

# the node's word about content

$c = $t->session('strict');
$c->envelope('nodata@b.example', 'c@d.example');
$c->try('DATA', qr/\A451 4\.3\.0 Not now\z/, 'DATA refused by the node');
$c->try('RSET', '250', 'the session goes on');

is($c->message("spam\r\n"),
   "554-5.7.1 Looks like spam\n554 5.7.1 Go away", 'content refused');
is($c->message("later\r\n"), '452 4.3.1 Disk full', 'content for later');

$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
$c->send("waits\r\n.\r\n");
ok(wait_until { grep { $_->{data} eq "waits\r\n" } $picky->messages() },
   'the node has the content');
ok($c->is_silent(0.2), 'the client is told nothing before the node answers');
$picky->open_gate('stored');
$c->expect('250 2.0.0 Ok: queued as', 'and is told then');

# a message that is given up

$c = $t->session('smtp');
my $count = $node->count();
$c->envelope('given@up.example', 'c@d.example');
$c->must('RSET', '250');
is($c->message("after RSET\r\n") =~ /^250/, 1, 'a message after RSET');
is($node->count(), $count + 1, 'is the only one');
is(($node->messages())[-1]{data}, "after RSET\r\n", 'and the right one');

done_testing();
