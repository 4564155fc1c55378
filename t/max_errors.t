# smtp_relay_max_errors: how many bad commands a session may send.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node', script => {
    RCPT => sub { $_[0] =~ /nobody/ ? '550 5.1.1 No such user' : undef },
});
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    log_format  errors  "$smtp_relay_event $status $smtp_relay_errors";
    access_log  access.log  errors;

    smtp_relay_hostname          relay.example;
    smtp_relay_starttls          off;
    smtp_relay_auth_file         keys;
    smtp_relay_max_message_size  1000;

    server {
        listen                 127.0.0.1:%%PORT_three%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_max_errors  3;
    }

    server {
        listen                 127.0.0.1:%%PORT_one%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_max_errors  1;
    }

    server {
        listen                 127.0.0.1:%%PORT_none%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_max_errors  0;
    }

    server {
        listen           127.0.0.1:%%PORT_default%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $c;

# as many 5xx as there may be, then 421

for my $case ([three => 3], [one => 1], [default => 10]) {
    my ($port, $number) = @$case;

    $c = $t->greeted($port);
    $c->try('WHAT', '500 5.5.2', "$port: bad command $_") for 1 .. $number;
    $c->try('WHAT', '421 4.7.0 relay.example Too many errors',
            "$port: and one more");
    $c->expect_closed("$port: the session is over");
}

$c = $t->greeted('none');
$c->must('WHAT', '500') for 1 .. 50;
$c->try('NOOP', '250', '0: any number');
$c->must('QUIT', '221');

# in one flight: what follows the 421 is not carried out

$c = $t->session('three');
$c->send("WHAT\r\n" x 4 . "MAIL FROM:<a\@b.example>\r\n");
is(replies($c), '500 500 500 421', 'a flight of them');
is($node->connections(), 0, 'what follows is not carried out');

# of all kinds

$c = $t->session('three');
$c->try('MAIL', '501', 'an error of syntax');
$c->try('RCPT TO:<a@b.example>', '503', 'a command out of order');
$c->try('VRFY x', '502', 'a command that is not implemented');
$c->try('NOOP', '250', 'a good one does not count');
$c->try('DATA', '421 4.7.0', 'they count together, whatever comes between');

$c = $t->greeted('three');
$c->try('AUTH NONSENSE', '504', 'an unknown mechanism counts');
$c->try('MAIL FROM:<a@b.example>', '530', 'so does MAIL without a login');
$c->try('AUTH PLAIN !', '501', 'so does what cannot be decoded');
$c->try('WHAT', '421 4.7.0', 'too many');

# what is in order, but refused

$c = $t->session('three');
$c->try('MAIL FROM:<a@b.example> SIZE=1001', '552', "too big, $_")
    for 1 .. 5;
$c->send("MAIL FROM:<a\@b.example> SIZE=1001\r\n"
         . "RCPT TO:<c\@d.example>\r\n" x 10 . "DATA\r\n");
is(replies($c), join(' ', '552', ('503') x 11),
   'what was sent along with a MAIL that is refused does not count');
$c->try('NOOP', '250', 'the session goes on');

for my $n (1 .. 5) {
    $c->must('MAIL FROM:<a@b.example>', '250');
    $c->send("RCPT TO:<nobody\@d.example>\r\nDATA\r\n");
    is(replies($c), '550 554', "no recipient was accepted, $n");
    $c->must('RSET', '250');
}

like($c->message("x\r\n"), qr/^250/, 'nor do refusals of a node, or DATA then');

$c->must('RSET', '250');
$c->try('RCPT TO:<c@d.example>', '503', 'but RCPT on its own does');
$c->must('RCPT TO:<c@d.example>', '503') for 1 .. 2;
$c->try('RCPT TO:<c@d.example>', '421', 'too many');

# a refused login is counted elsewhere

$c = $t->greeted('one');
$c->try('AUTH PLAIN ' . $c->plain('user', 'wrong'), '535', 'a refused login');
$c->try('WHAT', '500', 'is no bad command');
$c->try('WHAT', '421', 'this one is');

# the log

ok(wait_until { grep { $_ eq 'session 200 50' } $t->lines('access.log') },
   'log: the number of errors, without a limit, too');
ok(wait_until { grep { $_ eq 'session 400 4' } $t->lines('access.log') },
   'log: status 400, and the number');
ok($t->wait_log(qr/\[info\].*client sent too many bad commands/),
   'the error log says why');

done_testing();


# Codes of the replies that come.

sub replies {
    my ($c) = @_;
    return join ' ', $c->drain(0.5, qr/\n/) =~ /^(\d{3}) /mg;
}
