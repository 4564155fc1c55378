# smtp_relay_limit_msg, smtp_relay_limit_rcpt: what is let through, what is
# held back, what is refused, and what that leaves behind.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use Time::HiRes qw/ time sleep /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node', script => {
    MAIL => sub { $_[0] =~ /refused/ ? '550 5.7.1 Not you' : undef },
});
$t->keys(map { $_ => 'secret' } qw/ user alice bob /, map { "u$_" } 1 .. 30);

my $conf = <<'EOC';
worker_processes  4;

stream {
    log_format  line  "$smtp_relay_event $status $smtp_relay_limit "
                      "$smtp_relay_message_status $smtp_relay_mail_from "
                      "$smtp_relay_recipients_rejected";
    access_log  access.log  line;

    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=minute:64k rate=60r/m;
    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=second:64k rate=5r/s;
    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=slow:64k   rate=1r/h;
    smtp_relay_limit_msg_zone   $smtp_relay_account  zone=day:64k    rate=3r/d;
    smtp_relay_limit_msg_zone   $smtp_relay_mail_from$smtp_relay_mail_from
                                zone=sender:64k  rate=2r/h;
    smtp_relay_limit_rcpt_zone  $smtp_relay_account  zone=rcpt:64k   rate=1r/m;
    smtp_relay_limit_rcpt_zone  $smtp_relay_account  zone=held:64k   rate=5r/s;
    smtp_relay_limit_rcpt_zone  $smtp_relay_account  zone=rday:64k   rate=3r/d;

    smtp_relay_hostname        relay.example;
    smtp_relay_starttls        off;
    smtp_relay_auth_file       keys;
    smtp_relay_max_errors      3;

    server {
        listen                 127.0.0.1:%%PORT_burst%%;
        smtp_relay_limit_msg   minute burst=2 nodelay;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_second%%;
        smtp_relay_limit_msg   second burst=3;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_delay%%;
        smtp_relay_limit_msg   minute burst=5 delay=2;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_order%%;
        smtp_relay_limit_msg   minute burst=5;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_slow%%;
        smtp_relay_limit_msg   slow burst=2;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_two%%;
        smtp_relay_limit_msg   slow burst=2 nodelay;
        smtp_relay_limit_msg   minute;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_day%%;
        smtp_relay_limit_msg   day;
        smtp_relay_limit_rcpt  rday;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_sender%%;
        smtp_relay_limit_msg   sender;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_rcpt%%;
        smtp_relay_limit_rcpt  rcpt burst=1 nodelay;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_held%%;
        smtp_relay_limit_rcpt  held burst=10;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_dry%%;
        smtp_relay_limit_msg   slow;
        smtp_relay_limit_msg   second burst=100;
        smtp_relay_limit_dry_run    on;
        smtp_relay_limit_log_level  warn;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }
}
EOC

$t->start($conf);

my $from = 'MAIL FROM:<a@b.example>';
my $rcpt = 'RCPT TO:<c@d.example>';
my ($c, @c, $start);

# refused beyond the burst

$c = login('burst', 'alice');
for (1 .. 3) {
    $c->try($from, '250', "message $_: within the burst");
    $c->must('RSET', '250');
}
$c->try($from,
        qr/\A450 4\.7\.1 Too many messages, the limit is 60 per minute, try again in 1 s\z/,
        'beyond it');
$c->try('NOOP', '250', 'the session goes on');
like($c->ask($from), qr/^450/, 'refused again') for 1 .. 3;
ok(wait_until { $c->ask($from) =~ /^250/ }, 'a second later one more is let through');
$c->must('RSET', '250');
$c->try($from, '450', 'and one only: what was refused did not count');

login('burst', 'bob')->try($from, '250', 'another account');

ok($t->wait_log(qr/\[error\].*limiting messages by zone "minute", limit: 60r\/m, wait: \d+ ms.*account: "alice"/),
   'the line in the log');
is($t->{most} = lines_per_second(qr/by zone "minute"/), 1, 'is one in a second');
ok(wait_until { grep { /^message \d+ minute 450 a\@b\.example/ } $t->lines('access.log') },
   'limit and status of a refused message');

# a MAIL that passed counts though the node refuses it

$c = login('burst', 'u1');
$c->try('MAIL FROM:<refused@b.example>', '550', "refused by the node: $_") for 1 .. 3;
$c->try($from, '450', 'counts all the same');
ok(wait_until { $c->ask($from) =~ /^250/ }, 'until there is a place again');

# a client that sends MAIL, RCPT and DATA together is not at fault

$c = login('burst', 'u2');
for (1 .. 8) {
    $c->send("$from\r\n$rcpt\r\nDATA\r\n");
    my ($mail, $to, $data) = map { $c->reply() } 1 .. 3;
    if ($_ <= 3) {
        like($data, qr/^354/, "pipelined: message $_");
        $c->send("x\r\n.\r\n");
        $c->expect('250', "pipelined: message $_ is accepted");
    } else {
        like("$mail $to $data", qr/^450 .* 503 .* 503 /, 'pipelined: refused');
    }
}
$c->try('NOOP', '250', 'pipelined: no error of the client');

# held back: a reply each 200 ms

@c = map { login('second', 'alice') } 1 .. 5;
$start = time();
$_->line($from) for @c;
my @times = map { [ $_->reply(), time() - $start ] } @c;
my @taken = sort { $a <=> $b } map { $_->[1] } grep { $_->[0] =~ /^250/ } @times;
is(scalar @taken, 4, 'held: one and a burst of three');
is(scalar(grep { $_->[0] =~ /^450 4\.7\.1 .*try again in 1 s/ } @times), 1,
   'held: the fifth is refused');
for (1 .. 3) {
    cmp_ok($taken[$_], '>', $_ * 0.2 - 0.02, "held: message $_ of the burst");
}
ok($t->wait_log(qr/\[warn\].*delaying messages by zone "second", limit: 5r\/s, wait: \d+ ms/),
   'held: logged one level lower');
ok($t->wait_log(qr/\[error\].*limiting messages by zone "second", limit: 5r\/s/),
   'held: no reason not to log what is refused');

# delay=: some of the burst at once

@c = map { login('delay', 'u12') } 1 .. 4;
$start = time();
$c[$_]->try($from, '250', 'delay: at once') for 0 .. 2;
cmp_ok(time() - $start, '<', 0.9, 'delay: which was at once');
$c[3]->try($from, '250', 'delay: not at once');
cmp_ok(time() - $start, '>', 0.9, 'delay: the fourth was held');

# the session does nothing else meanwhile, then goes on in order

$c = login('order', 'u3');
$c->send("$from\r\nRSET\r\n$from\r\n$rcpt\r\nDATA\r\n");
is(join(' ', map { substr $c->reply(), 0, 3 } 1 .. 2), '250 250', 'order: first');
ok($c->is_silent(0.05), 'order: nothing until the time has come');
is(join(' ', map { substr $c->reply(), 0, 3 } 1 .. 3), '250 250 354', 'order: then all');
$c->send("x\r\n.\r\n");
$c->expect('250', 'order: the message is accepted');

# a client that goes away is noticed, and what it has not used is given back

$c = login('slow', 'u4');
$c->must($from, '250');
$c->must('RSET', '250');
my $count = count('MAIL');
for my $round (1 .. 3) {
    @c = map { login('slow', 'u4') } 1 .. 2;
    $_->line($from) for @c;
    ok($_->is_silent(0.05), 'gone: MAIL is held') for @c;
    my $third = login('slow', 'u4');
    $third->try($from, '450', 'gone: the burst is used up');
    $_->close() for @c;
    ok(wait_until {
        2 * $round == $t->log_lines(qr/client closed connection while holding back a reply/)
    }, 'gone: the relay has noticed');
}
is(count('MAIL'), $count, 'gone: no node was asked');

# a client is told of a shutdown at once, as it has nothing begun

$c = login('slow', 'u4');
$c->line($from);
ok($c->is_silent(0.05), 'reload: MAIL is held');
my $held = login('held', 'u5');
$held->must($from, '250');
$held->must("RCPT TO:<r$_\@d.example>", '250') for 1 .. 2;
$held->line("RCPT TO:<r3\@d.example>");
$t->reload($conf);
$c->expect(qr/^421 4\.3\.2 /, 'reload: a session whose MAIL is held ends');
$held->expect('250', 'reload: one with a message goes on');
$held->must('DATA', '354');
$held->send("x\r\n.\r\n");
$held->expect('250', 'reload: to its end');

# and counters stay

$c = login('burst', 'u2');
$c->try($from, qr/^(250|450)/, 'reload: asks');
$c = login('slow', 'u4');
$c->line($from);
ok($c->is_silent(0.05), 'reload: one that has sent is held still');
$c->close();

# several limits: none counts if one refuses

$c = login('two', 'u6');
$c->must($from, '250');
$c->must('RSET', '250');
$c->try($from, '450', 'two: the one by the minute refuses') for 1 .. 5;
ok(wait_until { $c->ask($from) =~ /^250/ }, 'two: until a second has passed');
$c->must('RSET', '250');
ok(wait_until { $c->ask($from) =~ /^250/ }, 'two: and once more');
$c->must('RSET', '250');
$c->try($from, qr/^450 .*1 per hour, try again in 3[56]\d\d s$/,
        'two: what lasts longest is told');

# quotas

my @date = gmtime(86400 * (1 + int(time() / 86400)));
my $tomorrow = sprintf '%04d-%02d-%02d 00:00:00 UTC', $date[5] + 1900,
    $date[4] + 1, $date[3];

$c = login('day', 'alice');
for (1 .. 3) {
    $c->try($from, '250', "quota: message $_");
    $c->must('RSET', '250');
}
$c->try($from, "452 4.7.1 Too many messages, the limit is 3 per day, try again after $tomorrow",
        'quota: the fourth');
$t->reload($conf);
$c = login('day', 'alice');
$c->try($from, '452', 'quota: kept over a reload');

$c = login('day', 'bob');
$c->must($from, '250');
$c->try($rcpt, '250', "quota: recipient $_") for 1 .. 3;
$c->try($rcpt, "452 4.7.1 Too many recipients, the limit is 3 per day, try again after $tomorrow",
        'quota: the fourth recipient');
$c->try('DATA', '354', 'quota: the message goes to the others');
$c->send("x\r\n.\r\n");
$c->expect('250', 'quota: and is accepted');
is(scalar @{ $node->last_message()->{rcpt} }, 3, 'quota: by three');

# keys of more than 255 octets, the ends of which differ

$c = login('sender', 'u7');
my $long = ('a' x 60) . '@' . join '.', ('b' x 60) x 3;
for my $tail (qw/ one two /) {
    $c->must("MAIL FROM:<$long.$tail>", '250');
    $c->must('RSET', '250');
    $c->try("MAIL FROM:<$long.$tail>", '450', "long key, $tail");
}
$c->try('MAIL FROM:<>', '250', 'an empty key is not limited');
$c->must('RSET', '250');
$c->try('MAIL FROM:<>', '250', 'ever');

# recipients

$c = login('rcpt', 'u8');
$c->must($from, '250');
$c->try("RCPT TO:<r$_\@d.example>", '250', "recipient $_") for 1 .. 2;
$c->try('RCPT TO:<r3@d.example>',
        qr/^450 4\.7\.1 Too many recipients, the limit is 1 per minute, try again in (60|5\d) s$/,
        'a recipient too many');
$c->must('DATA', '354');
$c->send("x\r\n.\r\n");
$c->expect('250', 'the message is accepted');
is_deeply($node->last_message()->{rcpt}, [ 'TO:<r1@d.example>', 'TO:<r2@d.example>' ],
          'for those that were');
ok(wait_until { grep { $_ eq 'message 200 rcpt 250 a@b.example 1' } $t->lines('access.log') },
   'limit and number of those refused');

$c->must($from, '250');
$c->send("$rcpt\r\n$rcpt\r\nDATA\r\n");
is(join(' ', map { substr $c->reply(), 0, 3 } 1 .. 3), '450 450 554',
   'none: there is no message');
$c->try('RSET', '250', 'none: the session goes on');
ok(wait_until { grep { $_ eq 'message 200 rcpt 450 a@b.example 2' } $t->lines('access.log') },
   'none: the reply to the first is what it came to');

# pipelined: replies come in order, each once

$c = login('rcpt', 'u9');
$c->send("$from\r\n" . "$rcpt\r\n" x 40 . "DATA\r\n");
is(join(' ', map { substr $c->reply(), 0, 3 } 1 .. 42),
   join(' ', qw/ 250 250 250 /, (450) x 38, 354), 'pipelined: all in order');
$c->send("x\r\n.\r\n");
$c->expect('250', 'pipelined: the message is accepted');

# recipients held back: those before them are not

$c = login('held', 'u10');
$start = time();
$c->send("$from\r\n" . "$rcpt\r\n" x 4 . "DATA\r\n");
is(join(' ', map { substr $c->reply(), 0, 3 } 1 .. 2), '250 250', 'held: the first');
is(join(' ', map { substr $c->reply(), 0, 3 } 1 .. 4), '250 250 250 354', 'held: then the rest');
cmp_ok(time() - $start, '>', 0.58, 'held: at their rate');
$c->send("x\r\n.\r\n");
$c->expect('250', 'held: the message is accepted');

# dry run

$c = login('dry', 'u11');
for (1 .. 4) {
    $c->try($from, '250', 'dry run: passes');
    $c->must('RSET', '250');
}
ok($t->wait_log(qr/\[warn\].*limiting messages, dry run, by zone "slow"/),
   'dry run: logged');
ok(!(grep { /^message \S+ slow .*u11/ } $t->lines('access.log')), 'dry run: no limit in the log');

done_testing();


sub login {
    my ($port, $user) = @_;
    return $t->session($port, user => $user);
}

sub count {
    my ($verb) = @_;
    return scalar grep { /^$verb/ } map { $node->commands($_) } 1 .. $node->connections();
}

sub lines_per_second {
    my ($pattern) = @_;

    my %lines;
    $lines{ (/^(\S+ \S+)/)[0] . (/account: "(\w+)"/)[0] }++ for $t->log_lines($pattern);
    my ($most) = sort { $b <=> $a } values %lines;
    return $most;
}
