# smtp_relay_max_messages, smtp_relay_max_recipients: how many of them, and
# how clients are told (RFC 9422).

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node', script => {
    MAIL => sub { $_[0] =~ /refused/ ? '550 5.7.1 Not you' : undef },
    RCPT => sub { $_[0] =~ /nobody/ ? '550 5.1.1 No such user' : undef },
});
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    log_format  messages  "$smtp_relay_event $status $smtp_relay_messages";
    access_log  access.log  messages;

    smtp_relay_hostname        relay.example;
    smtp_relay_starttls        off;
    smtp_relay_auth_file       keys;

    server {
        listen                     127.0.0.1:%%PORT_both%%;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
        smtp_relay_max_messages    3;
        smtp_relay_max_recipients  3;
    }

    server {
        listen                     127.0.0.1:%%PORT_none%%;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
        smtp_relay_max_recipients  0;
    }

    server {
        listen                     127.0.0.1:%%PORT_six_digits%%;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
        smtp_relay_max_messages    999999;
        smtp_relay_max_recipients  999999;
    }

    server {
        listen                     127.0.0.1:%%PORT_seven_digits%%;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
        smtp_relay_max_messages    1000000;
        smtp_relay_max_recipients  1000000;
    }

    server {
        listen           127.0.0.1:%%PORT_default%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $c;

# as told: RFC 9422 knows numbers of one to six digits without a leading 0

my %limits = (
    both => 'RCPTMAX=3 MAILMAX=3',
    none => undef,
    six_digits => 'RCPTMAX=999999 MAILMAX=999999',
    seven_digits => undef,
    default => 'RCPTMAX=1000',
);

for my $port (sort keys %limits) {
    $c = $t->client($port);
    $c->must(undef, '220');
    my ($limits) = $c->ask('EHLO client.example') =~ /^250[- ]LIMITS(.*)$/m;
    is($limits, defined $limits{$port} ? " $limits{$port}" : undef,
       "$port: LIMITS");
    unlike($c->ask('HELO client.example'), qr/LIMITS/, "$port: not after HELO");
}

# messages

$c = $t->session('both');
like($c->message("$_\r\n"), qr/^250/, "message $_") for 1 .. 3;
$c->try('NOOP', '250', 'the session waits for what comes next');
my $count = $node->count();
$c->try('MAIL FROM:<a@b.example>',
        '421 4.7.0 relay.example Too many messages in this session',
        'one more');
$c->expect_closed('the session is over');
is($node->count(), $count, 'nothing of it is delivered');
ok(wait_until { grep { $_ eq 'session 503 3' } $t->lines('access.log') },
   'log: status 503');
ok($t->wait_log(qr/\[info\].*client exceeded the messages of a session/),
   'the error log says why');

# a transaction that came to nothing was one; a MAIL that was none is none

$c = $t->session('both');
$c->must('MAIL FROM:<refused@b.example>', '550');
$c->must('RSET', '250');
$c->must('MAIL FROM:<a@b.example>', '250');
$c->must('RSET', '250');
$c->must('MAIL FROM:<a@b.example', '501');
$c->must('MAIL FROM:<a@b.example> SIZE=99999999999', '552');
like($c->message("x\r\n"), qr/^250/,
     'MAIL counts when it was passed on, whatever became of it');
$c->try('MAIL FROM:<a@b.example>', '421 4.7.0', 'one more');

# what is under way is answered first

$c = $t->session('both');
like($c->message("$_\r\n"), qr/^250/, "message $_") for 1 .. 2;
$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
$c->send("x\r\n.\r\nMAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\n");
$c->expect('250', 'the last message is accepted');
$c->expect('421 4.7.0', 'the one behind it ends the session');
$c->expect_closed('with nothing behind it');

$c = $t->session('none');
like($c->message("x\r\n"), qr/^250/, "no limit: message $_") for 1 .. 5;

# recipients: accepted ones

$c = $t->session('both');
$c->must('MAIL FROM:<a@b.example>', '250');
$c->must("RCPT TO:<r$_\@d.example>", '250') for 1 .. 2;
$c->must('RCPT TO:<nobody@d.example>', '550') for 1 .. 4;
$c->try('RCPT TO:<r3@d.example>', '250', 'refused ones do not count');
$c->try('RCPT TO:<r4@d.example>', '452 4.5.3 Too many recipients',
        'one too many');
$c->must('DATA', '354');
$c->send("x\r\n.\r\n");
$c->expect('250', 'the message goes to the others');
is_deeply([ map { /(r\d)/ } @{ $node->last_message()->{rcpt} } ],
          [qw/ r1 r2 r3 /], 'to those, and no one else');

# in one flight, too

$c->send("MAIL FROM:<a\@b.example>\r\n"
         . join('', map { "RCPT TO:<$_\@d.example>\r\n" }
                qw/ r1 nobody r2 nobody r3 r4 r5 /)
         . "RSET\r\n");
$c->expect('250', 'a flight of them: MAIL');
is(join(' ', map { substr $c->reply(), 0, 3 } 1 .. 8),
   '250 550 250 550 250 452 452 250', 'RCPT is counted by what nodes say');

$c = $t->session('none');
$c->must('MAIL FROM:<a@b.example>', '250');
$c->must("RCPT TO:<r$_\@d.example>", '250') for 1 .. 100;
pass('no limit: 100 recipients');

done_testing();
