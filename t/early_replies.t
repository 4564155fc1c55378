# Where smtp_relay_early_replies says so, MAIL and DATA are answered before a
# node is asked: what the node then has against them is told later, and
# nothing is lost, doubled or told otherwise.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

# what happens is in the names of sender and recipients

my %script = (
    MAIL => sub {
        return $_[0] =~ /nosender/ ? "550-5.7.1 not\n550 5.7.1 you"
             : $_[0] =~ /notnow/ ? '451 4.7.1 later' : undef;
    },
    RCPT => sub {
        return $_[0] =~ /bad/ ? '550 5.1.1 bad'
             : $_[0] =~ /dies/ ? { reply => '250 2.1.5 fine', then => ':close' }
             : undef;
    },
    DATA => sub { $_[3]{mail} =~ /full/ ? '452 4.3.1 full' : undef },
    eod => sub {
        return $_[3]{mail} =~ /spam/ ? '554 5.7.1 spam'
             : $_[3]{mail} =~ /lost/ ? ':close' : undef;
    },
);

my $node = $t->node('node', script => \%script);
my $old = $t->node('old', script => { DATA => $script{DATA} },
                   ehlo => ['PIPELINING']);
my $plain = $t->node('plain', script => \%script, ehlo => ['CHUNKING']);
my $strict = $t->node('strict', script => { MAIL => '550 5.7.1 never' });

$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    log_format  line  '$smtp_relay_event <$smtp_relay_mail_from> '
                      '$smtp_relay_message_status $smtp_relay_recipients '
                      '"$smtp_relay_message_reply"';
    access_log  access.log  line  if=$message;

    map $smtp_relay_event $message { message 1; default ""; }

    smtp_relay_hostname          relay.example;
    smtp_relay_starttls          off;
    smtp_relay_auth_file         keys;
    smtp_relay_max_message_size  100k;
    smtp_relay_early_replies     mail data;

    upstream both {
        server  127.0.0.1:%%PORT_node%%  max_fails=0;
        server  127.0.0.1:%%PORT_old%%   backup;
    }

    upstream second_strict {
        server  127.0.0.1:%%PORT_node%%    max_fails=0;
        server  127.0.0.1:%%PORT_strict%%  backup;
    }

    server {
        listen           127.0.0.1:%%PORT_to_both%%;
        smtp_relay_pass  both;
    }

    server {
        listen           127.0.0.1:%%PORT_to_node%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_old%%;
        smtp_relay_pass  127.0.0.1:%%PORT_old%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_plain%%;
        smtp_relay_pass  127.0.0.1:%%PORT_plain%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_strict%%;
        smtp_relay_pass  second_strict;
    }

    server {
        listen           127.0.0.1:%%PORT_to_none%%;
        smtp_relay_pass  127.0.0.1:%%PORT_none%%;
    }

    server {
        listen                    127.0.0.1:%%PORT_off%%;
        smtp_relay_early_replies  off;
        smtp_relay_pass           127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                    127.0.0.1:%%PORT_mail%%;
        smtp_relay_early_replies  mail;
        smtp_relay_pass           127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                    127.0.0.1:%%PORT_data%%;
        smtp_relay_early_replies  data;
        smtp_relay_add_header     X-Added  yes;
        smtp_relay_pass           127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $sender = 'MAIL FROM:<a@b.example>';
my $rcpt = 'RCPT TO:<c@d.example>';

# --- fewer exchanges ---------------------------------------------------------

my $c = $t->session('to_node');

$c->try($sender, '250 2.1.0', 'MAIL is answered');
is(join(' ', grep { /^MAIL/ } $node->commands(1)), '', 'the node has not seen it');
$c->try($rcpt, '250 2.1.5', 'RCPT is answered by the node');
is(($node->pipelined(1))[-1], 'behind MAIL', 'which got both in one flight');
$c->try('DATA', '354', 'DATA is answered');
$c->send("Subject: x\r\n\r\n..dot\r\n..\r\ntext\r\n.\r\n");
$c->expect('250 2.0.0', 'content is accepted by the node');

my $message = $node->last_message();

is($message->{how}, 'BDAT', 'which got it by BDAT');
is($message->{data}, "Subject: x\r\n\r\n.dot\r\n.\r\ntext\r\n",
   'octet for octet');
is(join(' ', map { (split)[0] } $node->commands(1)), 'EHLO MAIL RCPT BDAT',
   'and nothing besides');

$c->must($sender, '250');
$c->must('RCPT TO:<bad@d.example>', '550');
$c->must($rcpt, '250');
$c->must('RCPT TO:<bad@d.example>', '550');
$c->must('DATA', '354');
$c->send(".\r\n");
$c->expect('250', 'an empty message, refused recipients beside');
is($node->last_message()->{data}, '', 'is empty');
is_deeply($node->last_message()->{rcpt}, ['TO:<c@d.example>'],
          'and goes to whom it may');

# what comes in one flight is answered and forwarded as ever

$c->send("$sender\r\n$rcpt\r\nDATA\r\n");
$c->expect('250 2.1.0 Ok', 'one flight: MAIL');
$c->expect('250', 'RCPT');
$c->expect('354', 'DATA');
$c->send("flight\r\n.\r\n");
$c->expect('250', 'content');
is($node->last_message()->{how}, 'DATA', 'the node gets DATA');

$c->must($sender, '250');
$c->send("$rcpt\r\nDATA\r\n");
$c->expect('250', 'RCPT and DATA in one flight: RCPT');
$c->expect('354', 'DATA');
$c->send("flight\r\n.\r\n");
$c->expect('250', 'content');

# content in the flight of the next message's MAIL

$c->must($sender, '250');
$c->must($rcpt, '250');
$c->must('DATA', '354');
$c->send("one\r\n.\r\n$sender\r\n");
$c->expect('250 2.0.0', 'content');
$c->expect('250 2.1.0', 'MAIL behind it');
is($node->last_message()->{data}, "one\r\n", 'ends where it ends');
$c->must($rcpt, '250');
$c->must('DATA', '354');
$c->send("two\r\n.\r\n");
$c->expect('250', 'the next one');
is($node->last_message()->{data}, "two\r\n", 'is whole, too');

$c->must($sender, '250');
$c->must('RSET', '250');
$c->must($sender, '250');
$c->must('QUIT', '221');

# --- content that DATA is asked for ------------------------------------------

$c = $t->session('to_node');

my %content = (
    'that is larger than a buffer' => join('', map { "$_ " . 'x' x 70 . "\r\n" }
                                           1 .. 1000),
    'with many dots' => ".\r\n" x 200 . "..\r\n",
);

for my $what (sort keys %content) {
    (my $stuffed = $content{$what}) =~ s/^\./../mg;

    like($c->message($stuffed), qr/^250/, "content $what");
    is($node->last_message()->{how}, 'DATA', 'comes by DATA');
    is($node->last_message()->{data}, $content{$what}, 'octet for octet');
}

$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
$c->send("half\r\n");
ok($node->wait_command(qr/^DATA/, $node->last_message()->{connection}),
   'half of the content: DATA is asked');
$c->send("half\r\n.\r\n");
$c->expect('250', 'the other half');
is($node->last_message()->{data}, "half\r\nhalf\r\n", 'is whole');

like($c->message("bare\nnewline\r\n"), qr/^250/, 'a bare newline');
is($node->last_message()->{data}, "bare\r\nnewline\r\n", 'is mended');

my $count = $node->count();

like($c->message('x' x 70 . "\r\n"), qr/^250/, 'a message');
$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
$c->send(('x' x 70 . "\r\n") x 2000 . ".\r\n");
$c->expect('552 5.3.4', 'a message that is too large');
is($node->count(), $count + 1, 'is not delivered');

# --- refusals ----------------------------------------------------------------

$c->try('MAIL FROM:<nosender@b.example>', '250', 'a sender that is refused');
$c->try($rcpt, qr/^550-5\.7\.1 not\n550 5\.7\.1 you$/, 'is told to RCPT');
$c->try($rcpt, qr/^550-5\.7\.1 not\n550 5\.7\.1 you$/, 'to each');
$c->try('DATA', '550', 'and to DATA');
$c->try('MAIL FROM:<notnow@b.example>', '503', 'within the transaction');
$c->must('RSET', '250');
$c->try('MAIL FROM:<notnow@b.example>', '250', 'one that is refused for now');
$c->try($rcpt, '451 4.7.1 later', 'is told so');
$c->try($rcpt, '451 4.7.1 later', 'to each');
$c->must('RSET', '250');
like($c->message("ham\r\n"), qr/^250/, 'the session goes on');

$c->must('MAIL FROM:<spam@b.example>', '250');
$c->must($rcpt, '250');
$c->must('DATA', '354');
$c->send("spam\r\n.\r\n");
$c->expect('554 5.7.1 spam', 'content that is refused');

# DATA is not asked, or asked when the client is sending

$c->must('MAIL FROM:<full@b.example>', '250');
$c->must($rcpt, '250');
$c->must('DATA', '354');
$c->send("short\r\n.\r\n");
$c->expect('250', 'a refusal of DATA, which is not asked');

$count = $node->count();

$c->must('MAIL FROM:<full@b.example>', '250');
$c->must($rcpt, '250');
$c->must('DATA', '354');
$c->send(('x' x 70 . "\r\n") x 1000 . ".\r\n");
$c->expect('452 4.3.1 full', 'a refusal of DATA is told behind the content');
is($node->count(), $count, 'nothing is delivered');
like($c->message("ham\r\n"), qr/^250/, 'the session goes on');

$c->must($sender, '250');
$c->must('RCPT TO:<bad@d.example>', '550');
$c->try('DATA', '554 5.5.1', 'no recipient: no content');
$c->must('RSET', '250');
$c->close();

$c = $t->session('to_old');

$c->must('MAIL FROM:<full@b.example>', '250');
$c->must($rcpt, '250');
$c->try('DATA', '452 4.3.1 full', 'without CHUNKING DATA is asked at once');
$c->must('RSET', '250');
like($c->message("old\r\n"), qr/^250/, 'and content goes by it');
is($old->last_message()->{how}, 'DATA', 'indeed');

my $connection = $old->last_message()->{connection};

$c->try('MAIL FROM:<a@b.example> BODY=8BITMIME', '250', '8BITMIME');
$c->try($rcpt, '554 5.6.3', 'that the node does not offer');
$c->must('RSET', '250');
like($c->message("old\r\n"), qr/^250/, 'the session goes on');
ok($old->wait_command(qr/^RSET/, $connection), 'the connection is kept');

$c = $t->session('to_plain');
like($c->message("plain\r\n"), qr/^250/, 'a node without PIPELINING');
is(join(' ', $plain->pipelined(1)), '', 'gets one command after the other');
is($plain->last_message()->{how}, 'BDAT', 'and BDAT');

$c = $t->session('to_none');
$c->try($sender, '250', 'no node');
$c->try($rcpt, '451 4.4.1', 'is told to RCPT');
$c->must('RSET', '250');
$c->try('NOOP', '250', 'the session goes on');

# --- nodes that die ----------------------------------------------------------

$c = $t->session('to_both');
$count = $old->count();

$c->must($sender, '250');
my $lost = lost();
$c->must('RCPT TO:<dies@d.example>', '250');
$c->try('DATA', '354', 'a node that dies behind RCPT');
wait_until { lost() > $lost };
$c->send("moved\r\n.\r\n");
$c->expect('250', 'another one takes the message');
is($old->last_message()->{data}, "moved\r\n", 'octet for octet');
is($old->count(), $count + 1, 'once');

$c->must('MAIL FROM:<lost@b.example>', '250');
$c->must($rcpt, '250');
$c->must('DATA', '354');
$c->send("lost\r\n.\r\n");
$c->expect('451 4.4.2', 'a node that dies behind the content');
is($old->count(), $count + 1, 'nobody else gets it');
like($c->message("next\r\n"), qr/^250/, 'the session goes on');

$c = $t->session('to_strict');
$c->must($sender, '250');
$c->must('RCPT TO:<dies@d.example>', '250');

# it may have been noticed before DATA

my $reply = $c->ask('DATA');

if ($reply =~ /^354/) {
    $c->send("contradicted\r\n.\r\n");
    $reply = $c->reply();
}

is($reply, '451 4.4.2 Delivery node lost',
   'the other node refuses MAIL: not what was told');
is($strict->count(), 0, 'it gets nothing');

# a connection that was kept and is closed while the client is sending

$c = $t->session('to_both');
like($c->message("keep\r\n"), qr/^250/, 'a connection is kept');
$c->must($sender, '250');
$node->stop();
$node->start();
$c->try($rcpt, '250', 'it is replaced unseen');
$c->must('DATA', '354');
$c->send("again\r\n.\r\n");
$c->expect('250', 'the message is delivered');
is(scalar(grep { $_->{data} eq "again\r\n" } map { $_->messages() } $node, $old),
   1, 'once, by whom was there first');

# --- which of them -----------------------------------------------------------

$c = $t->session('off');
$c->try('MAIL FROM:<nosender@b.example>', '550', 'off: MAIL is asked');
like($c->message("off\r\n"), qr/^250/, 'off');
is($node->last_message()->{how}, 'DATA', 'off: and so is DATA');

$c = $t->session('mail');
$c->must('MAIL FROM:<nosender@b.example>', '250');
$c->try($rcpt, '550', 'mail: MAIL is answered early');
$c->must('RSET', '250');
like($c->message("mail\r\n"), qr/^250/, 'mail');
is($node->last_message()->{how}, 'DATA', 'mail: DATA is asked');

$c = $t->session('data');
$c->try('MAIL FROM:<nosender@b.example>', '550', 'data: MAIL is asked');
like($c->message("A: b\r\n\r\ndata\r\n"), qr/^250/, 'data');
is($node->last_message()->{how}, 'BDAT', 'data: DATA is answered early');
is($node->last_message()->{data}, "X-Added: yes\r\nA: b\r\n\r\ndata\r\n",
   'headers are added');

# --- what the log tells ------------------------------------------------------

$c->close();

for my $line ('message <nosender@b.example> 550 0 "550-5.7.1 not',
              'message <notnow@b.example> 451 0 "451 4.7.1 later"',
              'message <full@b.example> 452 1 "452 4.3.1 full"',
              'message <lost@b.example> 451 1 "451 4.4.2 Delivery node lost"',
              'message <a@b.example> 451 0 "451 4.4.1 No delivery node')
{
    ok((wait_until { grep { index($_, $line) == 0 } $t->lines('access.log') }),
       "the log has: $line") or diag(join "\n", $t->lines('access.log'));
}

done_testing();


# How many nodes the relay has lost.

sub lost {
    return scalar $t->log_lines(qr/upstream prematurely closed connection/);
}
