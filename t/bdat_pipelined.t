# Content that comes in one flight with its envelope goes on in one flight,
# too, on a connection that is known to be up (RFC 3030, 4.2.).

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

# the n-th message of a connection: what its sender says is to happen

my %script = (
    MAIL => sub {
        return $_[0] =~ /nosender/ ? '550 5.7.1 no sender'
             : $_[0] =~ /busy/ && $_[2] > 1 ? { reply => '421 4.3.2 too many', then => ':close' }
             : undef;
    },
    RCPT => sub {
        return $_[0] =~ /bad/ ? '550 5.1.1 bad'
             : $_[0] =~ /busy/ ? { reply => '421 4.3.2 going', then => ':close' } : undef;
    },
    eod => sub {
        return $_[3]{mail} =~ /spam/ ? '554 5.7.1 spam'
             : $_[3]{mail} =~ /lost/ && $_[2] > 1 ? ':close' : undef;
    },
);

my $node = $t->node('node', script => \%script);
my $other = $t->node('other');
my $narrow = $t->node('narrow', script => \%script,
                      ehlo => [qw/ CHUNKING 8BITMIME /]);

$t->keys(user => 'secret');
$t->auth_service('auth', answer => sub {
    return { 'Auth-Status' => 'OK', 'Auth-Max-Size' => 1000 };
});

$t->start(<<'EOC');
stream {
    log_format  size  "$smtp_relay_event $smtp_relay_mail_from "
                      "$smtp_relay_message_size";
    access_log  access.log  size;

    smtp_relay_hostname          relay.example;
    smtp_relay_starttls          off;
    smtp_relay_auth_file         keys;
    smtp_relay_max_message_size  100k;

    upstream both {
        server  127.0.0.1:%%PORT_node%%   max_fails=0;
        server  127.0.0.1:%%PORT_other%%  backup;
    }

    server {
        listen           127.0.0.1:%%PORT_to_node%%;
        smtp_relay_pass  both;
    }

    server {
        listen           127.0.0.1:%%PORT_to_narrow%%;
        smtp_relay_pass  127.0.0.1:%%PORT_narrow%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_reject%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_bare_newline  reject;
    }

    server {
        listen                 127.0.0.1:%%PORT_adds%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_add_header  X-Added  yes;
    }

    server {
        listen           127.0.0.1:%%PORT_plan%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  http://127.0.0.1:%%PORT_auth%%/;
    }
}
EOC

# the first message of a connection waits for the replies to its envelope

my $c = $t->session('to_node');

flight($c, 'first@b.example', ['c@d.example'], "one\r\n");
is(replies($c, 3), '250 250 250', 'a new connection');
is_deeply([$node->pipelined(1)], ['behind MAIL'],
          'the envelope is answered first');

flight($c, 'second@b.example', ['c@d.example'], ".\r\nRSET\r\n.");
is(replies($c, 3), '250 250 250', 'a connection that has been used');
is(($node->pipelined(1))[-1], 'behind RCPT', 'content comes with the envelope');
is($node->last_message()->{data}, ".\r\nRSET\r\n.", 'octet for octet');

flight($c, 'empty@b.example', ['c@d.example'], '');
is(replies($c, 3), '250 250 250', 'an empty message');
is($node->last_message()->{data}, '', 'is empty');

$c->send(join '', map { part("n$_\@b.example", ['c@d.example'], "n$_\r\n") }
                  1 .. 20);
is(replies($c, 60), join(' ', ('250') x 60), 'twenty messages in one flight');
is(join('', map { $_->{data} } ($node->messages())[-20 .. -1]),
   join('', map { "n$_\r\n" } 1 .. 20), 'each by itself, in order');

# recipients that are refused

flight($c, 'a@b.example', ['bad@d.example', 'c@d.example'], "partly\r\n");
is(replies($c, 4), '250 550 250 250', 'a recipient is refused');
is_deeply($node->last_message()->{rcpt}, ['TO:<c@d.example>'],
          'the other one gets the message');

my $count = $node->count();

flight($c, 'a@b.example', ['bad@d.example'], "to nobody\r\n");
is(replies($c, 3), '250 550 554', 'all recipients are refused');
$c->must('RSET', '250');

warm($c);
flight($c, 'nosender@b.example', ['c@d.example'], "from nobody\r\n");
like(replies($c, 3), qr/^550 50\d 55\d$/, 'the sender is refused');
$c->must('RSET', '250');

is($node->count(), $count + 1, 'nothing of these is delivered');

# content that is refused

warm($c);
flight($c, 'spam@b.example', ['c@d.example'], "spam\r\n");
is(replies($c, 3), '250 250 554', 'content is refused');
like($c->message("ham\r\n"), qr/^250/, 'the next one is not');

# a lost node: it may have the message, nobody else gets it

warm($c);
$count = $node->count();
flight($c, 'lost@b.example', ['c@d.example'], "lost\r\n");
like(replies($c, 3), qr/^\S+ \S+ 451$/, 'a node that is lost with the content');
is($other->count(), 0, 'no other node has it');
is($node->count(), $count, 'nor that one');

# one that says that it takes nothing is replaced

warm($c);
flight($c, 'busy@b.example', ['c@d.example'], "busy\r\n");
is(replies($c, 3), '250 250 250', '421 to MAIL: the client does not notice');
is($node->last_message()->{data}, "busy\r\n", 'the message is delivered');
is($other->count(), 0, 'by the same node');

warm($c);
flight($c, 'a@b.example', ['busy@d.example'], "moved\r\n");
is(replies($c, 3), '250 250 250', '421 to RCPT: the client does not notice');
is($other->last_message()->{data}, "moved\r\n", 'another node delivers');

# what the relay itself refuses

for my $size (90 * 1024, 110 * 1024) {
    my $data = ('x' x 70 . "\r\n") x ($size / 72);

    flight($c, 'a@b.example', ['c@d.example'], $data);
    is(replies($c, 3), $size > 100 * 1024 ? '250 250 552' : '250 250 250',
       "a message of $size octets");
}

$c = $t->session('plan', user => 'planned');
warm($c);
$count = $node->count();
flight($c, 'a@b.example', ['c@d.example'], 'x' x 998 . "\r\n");
is(replies($c, 3), '250 250 250', 'a message as big as the plan allows');
is($node->count(), ++$count, 'is delivered');
flight($c, 'plan@b.example', ['c@d.example'], 'x' x 999 . "\r\n");
is(replies($c, 3), '250 250 552', 'a bigger one');
is($node->count(), $count, 'is not delivered');

$c = $t->session('reject');
warm($c);
$count = $node->count();
flight($c, 'a@b.example', ['c@d.example'], "bare\nnewline\r\n");
is(replies($c, 3), '250 250 550', 'a bare newline');
is($node->count(), $count, 'is not delivered');

# where it does not go

for my $name (qw/ to_narrow adds /) {
    my $n = $name eq 'adds' ? $node : $narrow;

    $c = $t->session($name);
    warm($c);
    flight($c, 'a@b.example', ['c@d.example'], "A: b\r\n\r\ntext\r\n");
    is(replies($c, 3), '250 250 250', "$name: one flight");
    like($n->last_message()->{data}, qr/A: b\r\n\r\ntext\r\n\z/,
         "$name: is delivered");
}

is(join(' ', $narrow->pipelined(1)), '', 'not to a node without PIPELINING');
like($node->last_message()->{data}, qr/^X-Added: yes\r\n/, 'headers are added');

# what is not delivered has its size in the log all the same

$c->must('QUIT', '221');
$c = $t->session('to_node');
warm($c);
flight($c, 'sized@b.example', ['bad@d.example'], 'x' x 98 . "\r\n");
is(replies($c, 3), '250 550 554', 'a message to nobody');
$c->must('RSET', '250');
ok(wait_until { grep { /^message sized/ } $t->lines('access.log') },
   'has a line in the log');
is_deeply([grep { /^message sized/ } $t->lines('access.log')],
          ['message sized@b.example 100'], 'and its size there');

# the client vanishes within the content

$c = $t->session('to_node');
warm($c);
$count = $node->count();
$c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\n"
         . "BDAT 100 LAST\r\nhalf");
$c->expect('250', 'half a chunk: MAIL');
$c->expect('250', 'RCPT');
$c->close();
$c = $t->session('to_node');
warm($c);
is($node->count(), $count + 1, 'half a chunk is not delivered');

done_testing();


sub part {
    my ($from, $to, $data) = @_;

    return "MAIL FROM:<$from>\r\n" . join('', map { "RCPT TO:<$_>\r\n" } @$to)
           . 'BDAT ' . length($data) . " LAST\r\n$data";
}

sub flight {
    my ($client, @message) = @_;
    $client->send(part(@message));
}

sub replies {
    my ($client, $n) = @_;
    return join ' ', map { substr $client->reply() // 'none', 0, 3 } 1 .. $n;
}

# after it there is a connection that has been used

sub warm {
    my ($client) = @_;

    $client->envelope('warm@b.example', 'c@d.example');
    $client->send("BDAT 6 LAST\r\nwarm\r\n");
    $client->must(undef, '250');
}
