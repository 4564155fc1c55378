# The error log: each thing that is refused or fails once, at a sensible
# level, with session, account and reason; at info the story of a session by
# its id; at debug its dialogue, without secrets and without content.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use MIME::Base64 qw/ encode_base64 /;

plan(skip_all => 'nginx without --with-debug')
    unless SMTPRelay::Test->has_debug();

my $t = SMTPRelay::Test->new();

my $node = $t->node('node', auth => { relay => 'node-secret-x1' }, script => {
    RCPT => sub { $_[0] =~ /bad/ ? '550 5.1.1 no such user' : undef },
    eod => sub {
        my $from = $_[3]{mail};
        return $from =~ /spam/ ? '554 5.7.1 spam'
             : $from =~ /lost/ ? ':close' : undef;
    },
});

my $auth = $t->auth_service('auth', users => { user => 'client-secret-x2' },
    answer => sub {
        my $user = $_[0]{headers}{'auth-user'};
        return $user eq 'down' ? [ 500, {} ] : undef;
    });

my $conf = <<'EOC';
stream {
    log_format  id  '$smtp_relay_event $smtp_relay_session_id';
    access_log  all.log  id;

    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/auth;

    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        smtp_relay_node_auth  relay node-secret-x1;
        smtp_relay_pass       127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                127.0.0.1:%%PORT_down%%;
        smtp_relay_pass       127.0.0.1:%%PORT_none%%;
    }
}
EOC

$t->start($conf, log_level => 'debug');

my $c = $t->greeted('smtp');
$c->must('AUTH PLAIN ' . $c->plain('user', 'wrong-secret-x3'), '535');
$c->must('AUTH PLAIN ' . $c->plain('down', 'other-secret-x4'), '454');
$c->must('AUTH LOGIN', '334');
$c->must(encode_base64('user', ''), '334');
$c->must(encode_base64('client-secret-x2', ''), '235');
$c->message("Subject: content-x5\r\n\r\ncontent-x6\r\n", 'fine@b.example');
$c->must('MAIL FROM:<some@b.example>', '250');
$c->must('RCPT TO:<"a >b"@d.example> NOTIFY=NEVER', '250');
$c->must('RCPT TO:<bad@d.example>', '550');
$c->must('RSET', '250');
$c->message("content-x7\r\n", 'spam@b.example');
$c->message("content-x8\r\n", 'lost@b.example');
$c->must('MAIL FROM:<over@b.example>', '250');
$c->must('EHLO client.example', '250');
$c->must('MAIL FROM:<bad address>', '501');

# a client that does not read replies: secrets and content come as commands

$c->must('AUTH CRAM-SHA1', qr/^50[34]/);
$c->must(encode_base64('command-secret-x9', ''), '500');
$c->must("content-x10 of a message", '500');
$c->must("XYZZY \x1b[31m\x01", '500');
$c->must('QUIT', '221');

my ($line) = grep { /^session/ } $t->wait_lines('all.log', 6);
my ($id) = $line =~ /^session (\S+)/;

$c = $t->greeted('down');
$c->login('user', 'client-secret-x2');
$c->must('MAIL FROM:<a@b.example>', '451');
$c->must('QUIT', '221');

($line) = ($t->wait_lines('all.log', 8))[7];
my ($down) = $line =~ /^session (\S+)/;

$t->stop();

my @log = $t->lines('error.log');

# the story

my @story = map { /\[(\w+)\] \d+#\d+: \*\d+ (.*?)(?: while [a-z ]+)?, client: .*?, session: $id(.*)$/
                  ? "$1: $2$3" : () } @log;

my $who = ', account: "user"';
my $peer = ', upstream: "127.0.0.1:' . $t->port('node') . '"';

my @want = (
    'info: session started',
    qr/^info: client login failed: user "user" denied by auth service: .*/,
    'error: auth service sent HTTP status 500, user "down"',
    "info: client logged in with \"login\"$who",
    qr/^info: message accepted: "250 .*", from <fine\@b.example>, 1 recipients, 35 octets$who/,
    "info: recipient <bad\@d.example> refused: \"550 5.1.1 no such user\"$who",
    "info: message not completed, from <some\@b.example>, 1 recipients, 0 octets$who",
    "info: message rejected: \"554 5.7.1 spam\", from <spam\@b.example>, 1 recipients, 12 octets$who",
    "error: upstream prematurely closed connection$who$peer",
    "info: message deferred: \"451 4.4.2 Delivery node lost\", from <lost\@b.example>, 1 recipients, 12 octets$who",
    "info: message not completed, from <over\@b.example>, 0 recipients, 0 octets$who",
    "info: client command refused: \"501 5.1.7 Bad sender address syntax\"$who",
    qr/^info: client command refused: "50[34] .*"$who/,
    ("info: client command refused: \"500 5.5.2 Command not recognized\"$who") x 3,
    "info: session ended, status: 200, messages: 1, errors: 5$who",
);

for my $i (0 .. ($#want > $#story ? $#want : $#story)) {
    my ($got, $want) = ($story[$i] // '(none)', $want[$i] // '(none)');
    ref $want ? like($got, $want, 'the story') : is($got, $want, 'the story');
}

is((grep { /\[error\].*connect\(\) failed .*session: $down$who, upstream:/ }
    @log), 1, 'no node: an error, once');
is((grep { /\[info\].*message deferred: "451 4.4.1 .*session: $down$who/ }
    @log), 1, 'and what it comes to');
is((grep { /\[(error|warn)\]/ && /session: $down/ } @log), 1,
   'nothing else at that level');

# the dialogue

my @dialogue = map { / smtp relay ((?:node )?(?:command|reply)): (.*)/
                     ? "$1: $2" : () } @log;

for my $want ('reply: "220 ', 'command: "EHLO client.example"',
              'reply: "250-PIPELINING"', 'command: "AUTH ..."',
              'reply: "334 VXNlcm5hbWU6"',
              'reply: "235 2.7.0 Authentication successful"',
              'command: "MAIL FROM:<fine@b.example>"',
              'node reply: "220 ', 'node command: "EHLO ',
              'node command: "AUTH ..."', 'node reply: "235 ..."',
              'node command: "MAIL FROM:<fine@b.example>"',
              'node reply: "354 ', 'reply: "354 ',
              'command: "RCPT TO:<"a >b"@d.example> NOTIFY=NEVER"',
              'node command: "RCPT TO:<"a >b"@d.example> NOTIFY=NEVER"',
              'node reply: "550 5.1.1 no such user"',
              'command: unknown, ', 'command: "QUIT"',
              'reply: "221 ')
{
    cmp_ok((grep { index($_, $want) == 0 } @dialogue), '>', 0,
           "dialogue: $want");
}

# what must be nowhere in it

my $text = join "\n", @log;

for my $n (1 .. 10) {
    my ($word) = map { $_ . $n }
                 $n == 1 ? 'node-secret-x' : $n == 2 ? 'client-secret-x'
               : $n == 3 ? 'wrong-secret-x' : $n == 4 ? 'other-secret-x'
               : $n == 9 ? 'command-secret-x' : 'content-x';

    is(index($text, $word), -1, "$word is not in the log");

    for my $offset (0 .. 2) {
        my $code = encode_base64('x' x $offset . $word, '');
        my $middle = substr $code, 4, length($code) - 8;
        is(index($text, $middle), -1, "nor in base64, at $offset");
    }
}

unlike($text, qr/[^\x20-\x7e\n\x80-\xff]/, 'no control character');

done_testing();
