# LIMITS of a node (RFC 9422): it is not given more recipients than it takes.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

my $ehlo = [qw/ PIPELINING SIZE /, 'LIMITS RCPTMAX=3 MAILMAX=2'];
my $node = $t->node('node', ehlo => $ehlo, script => {
    RCPT => sub { $_[0] =~ /unknown/ ? '550 5.1.1 No such user' : undef },
});

$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls   off;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $c = $t->session('smtp');

# one packet: the recipient that is refused does not count

$c->send("MAIL FROM:<a\@b.example>\r\n"
         . join('', map { "RCPT TO:<$_\@d.example>\r\n" }
                qw/ one unknown two three four five /)
         . "DATA\r\n");

$c->expect('250', 'MAIL');
$c->expect('250', 'the first recipient');
$c->expect('550 5.1.1', 'one that the node does not know');
$c->expect('250', 'the second');
$c->expect('250', 'the third');
$c->expect(qr/^452 4\.5\.3 /, 'one more than the node takes');
$c->expect(qr/^452 4\.5\.3 /, 'and another one');
$c->expect('354', 'DATA');
$c->send("text\r\n.\r\n");
$c->expect('250', 'the message is accepted');

my ($message) = $node->messages();
is(scalar(@{ $message->{rcpt} }), 3, 'for three recipients');
unlike($node->received(1), qr/four|five/, 'the node saw no others');

# MAILMAX: messages of a connection

like($c->message("second\r\n"), qr/^250/, 'the second message');
like($c->message("third\r\n"), qr/^250/, 'the third message');
is($node->connections(), 2, 'has a connection of its own');

done_testing();
