# Commands besides those of a message: replies, order, syntax, errors.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname   relay.example;
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    server {
        listen                 127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_max_errors  0;
    }

    server {
        listen                 127.0.0.1:%%PORT_errors%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_max_errors  3;
    }
}
EOC

my $c = $t->session('smtp');

$c->try('NOOP', '250 2.0.0', 'NOOP');
$c->try('noop with words', '250 2.0.0', 'NOOP with an argument');
$c->try('RSET', '250 2.0.0', 'RSET');
$c->try('HELP', qr/^214[ -]/, 'HELP');
$c->try('HELP MAIL', qr/^214[ -]/, 'HELP with an argument');
$c->try('NOOP ', '250 2.0.0', 'blank at the end');

for my $verb (qw/ VRFY EXPN TURN ETRN /) {
    $c->try("$verb user", '502 5.5.1', "$verb is not implemented");
}

for my $verb ('XYZZY', 'MAILFROM:<a@b>', 'NOOPX', 'X', '', ' ', 'RSETRSET',
              'EHLO:', "\xd0\xbf", 'SEND FROM:<a@b>', 'XCLIENT ADDR=::1')
{
    $c->try($verb, '500 5.5.2', 'unknown: "' . visible($verb) . '"');
}

# order

$c = $t->client('smtp');
$c->must(undef, '220');
$c->try('MAIL FROM:<a@b.example>', qr/^(503 5\.5\.1|530 5\.7\.0)/,
        'MAIL before EHLO');
$c->must('EHLO a', '250');
$c->login();
$c->try('RCPT TO:<c@d.example>', '503 5.5.1', 'RCPT before MAIL');
$c->try('DATA', '503 5.5.1', 'DATA before MAIL');
$c->must('MAIL FROM:<a@b.example>', '250');
$c->try('MAIL FROM:<a@b.example>', '503 5.5.1', 'MAIL within a message');
$c->try('DATA', qr/^(503|554) 5\.5\.1/, 'DATA before RCPT');
$c->try('NOOP', '250', 'NOOP within a message');
$c->try('VRFY a', '502', 'VRFY within a message');
$c->must('RCPT TO:<c@d.example>', '250');
$c->try('RSET', '250', 'RSET ends a message');
$c->try('RCPT TO:<c@d.example>', '503 5.5.1', 'RCPT after RSET');
$c->envelope('a@b.example', 'c@d.example');
$c->try('EHLO again', '250', 'EHLO ends a message');
$c->try('DATA', '503 5.5.1', 'DATA after EHLO');
like($c->message("text\r\n"), qr/^250 2\.0\.0 Ok: queued/,
     'and a message after all that');

# syntax

for my $line ('DATA now', 'QUIT now', 'RSET now', 'MAIL', 'MAIL FROM',
              'MAIL FROM:', 'MAIL <a@b.example>', 'MAIL TO:<a@b.example>',
              'MAIL FROM:a@b.example', 'MAIL FROM:<a@b.example',
              'MAIL FROM:<a@b.example> SIZE', 'MAIL FROM:<a@b.example>SIZE=1',
              'MAIL FROM:<a@b.example> SIZE=x', 'MAIL FROM:<a@b.example> SIZE=-1',
              'MAIL FROM:<a@b.example> BODY=9BIT',
              'MAIL FROM:<a@b.example> SIZE=1 SIZE=2')
{
    $c->try($line, qr/^501 5\.(5\.4|1\.7)/, "syntax: $line");
}

for my $path ('a b@c.example', 'a@', '@b.example', 'a@b@c.example',
              'a..b@c.example', '.a@c.example', 'a.@c.example', 'a@b..c',
              'a@-b.example', 'a@[1.2.3]', 'a@[IPv6:x]', '"a@b.example',
              'a@b.example>x', 'a' x 65 . '@b.example', "a\x01\@b.example",
              'a@' . join('.', ('b' x 60) x 5))
{
    $c->try("MAIL FROM:<$path>", qr/^501 5\.(1\.7|5\.4)/,
            'syntax of a sender: ' . visible($path, 40))
        or $c->ask('RSET');
}

$c->try('MAIL FROM:<a@b.example> NONSENSE=1', '555 5.5.4',
        'a parameter that is not known');

$c->must('MAIL FROM:<a@b.example>', '250');

for my $line ('RCPT', 'RCPT TO', 'RCPT TO:', 'RCPT FROM:<a@b.example>',
              'RCPT TO:<>', 'RCPT TO:<a>', 'RCPT TO:<a@b.example',
              'RCPT TO:<a b@c.example>', 'RCPT TO:a@b.example')
{
    $c->try($line, qr/^501 5\.(5\.4|1\.3)/, "syntax: $line");
}

$c->try('RCPT TO:<a@b.example> NONSENSE', '555 5.5.4',
        'a parameter of RCPT that is not known');

for my $path ('a@b.example', '"a b"@c.example', '"a\"b"@c.example', 'a@[192.0.2.1]',
              'a@[IPv6:2001:db8::1]', 'a+b=c@d.example', "o'neill\@b.example",
              'a' x 64 . '@b.example', 'Postmaster', 'postmaster@b.example',
              'a@localhost')
{
    $c->try("RCPT TO:<$path>", '250', "good recipient: $path");
}

$c->try('rcpt to:<lower@case.example>', '250', 'verbs in lower case');
$c->try('RCPT TO: <blank@colon.example>', '250', 'a blank behind the colon');
$c->try('RCPT TO:<@a.example,@b.example:route@c.example>', '250',
        'a source route');

$c->must('DATA', '354');
$c->send("x\r\n.\r\n");
$c->must(undef, '250');

my ($last) = reverse $node->messages();
is_deeply([ map { /^TO:<(.*)>$/ ? $1 : $_ } @{ $last->{rcpt} }[-3 .. -1] ],
          ['lower@case.example', 'blank@colon.example', 'route@c.example'],
          'a node sees them in canonical form, without the route');

# nothing of what was wrong came to a node

my $received = join '', map { $node->received($_) } 1 .. $node->connections();
unlike($received, qr/NONSENSE|9BIT|RCPT FROM|VRFY|HELP|XCLIENT|XYZZY|b c\.ex/,
       'bad commands are not passed on');

# too many errors

$c = $t->session('errors');
$c->try('XYZZY', '500', 'first error');
$c->try('RCPT TO:<a@b.example>', '503', 'second error');
$c->try('NOOP', '250', 'what is right does not count');
$c->try('MAIL FROM:bad', '501', 'third error');
$c->try('XYZZY', '421 4.7.0 relay.example',
        'one more than smtp_relay_max_errors');
$c->expect_closed('ends the session');

$c = $t->session('errors');
$c->must('MAIL FROM:<a@b.example>', '250');
$c->send("XYZZY\r\n" x 20);
like($c->drain(), qr/\A(500[^\n]*\n){3}421 4\.7\.0 [^\n]*\n\z/,
     'nothing is answered behind the 421');

# quit

$c = $t->session('smtp');
$c->send("NOOP\r\nQUIT\r\nNOOP\r\n");
like($c->drain(), qr/\A250 [^\n]*\n221 2\.0\.0 relay\.example closing connection\r\n\z/,
     'nothing is answered behind QUIT');

$c = $t->session('smtp');
$c->envelope('a@b.example', 'c@d.example');
$c->try('QUIT', '221', 'QUIT within a message');
$c->expect_closed('closes');

done_testing();
