# 8BITMIME, SMTPUTF8 and DSN: passed on to nodes that offer them, and not
# used towards nodes that do not.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $plain = $t->node('plain', ehlo => ['PIPELINING']);
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    smtp_relay_max_errors  0;

    server {
        listen           127.0.0.1:%%PORT_all%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_none%%;
        smtp_relay_pass  127.0.0.1:%%PORT_plain%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_few%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_capabilities  PIPELINING;
    }

    server {
        listen                127.0.0.1:%%PORT_helo%%;
        smtp_relay_pass       127.0.0.1:%%PORT_node%%;
        smtp_relay_node_helo  out.relay.example;
    }
}
EOC

# passed on

my $c = $t->session('all');
my $utf8 = "\xc3\xbc\@\xc3\xa4.example";

$c->try("MAIL FROM:<$utf8> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS "
        . 'ENVID=QQ314159', '250', 'MAIL with all parameters');
$c->try("RCPT TO:<$utf8> NOTIFY=SUCCESS,FAILURE "
        . 'ORCPT=rfc822;Bob+2Bx@d.example', '250',
        'RCPT with all parameters');
$c->try('RCPT TO:<plain@d.example> NOTIFY=NEVER', '250', 'NOTIFY=NEVER');
$c->must('DATA', '354');
$c->send("8-bit \xc3\xbc\r\n.\r\n");
$c->expect('250', 'is taken');

my $m = $node->last_message();
like($m->{mail}, qr/^FROM:<\Q$utf8\E>(?: |$)/, 'the address in UTF-8');

for my $parameter ('BODY=8BITMIME', 'SMTPUTF8', 'RET=HDRS', 'ENVID=QQ314159') {
    like($m->{mail}, qr/ \Q$parameter\E(?: |$)/, "MAIL has $parameter");
}

like($m->{rcpt}[0], qr/^TO:<\Q$utf8\E> /, 'the recipient in UTF-8');
like($m->{rcpt}[0], qr/ NOTIFY=SUCCESS,FAILURE(?: |$)/, 'RCPT has NOTIFY');
like($m->{rcpt}[0], qr/ ORCPT=rfc822;Bob\+2Bx\@d\.example(?: |$)/,
     'RCPT has ORCPT');
like($m->{rcpt}[1], qr/ NOTIFY=NEVER$/, 'the other RCPT has its own');
is($m->{data}, "8-bit \xc3\xbc\r\n", '8-bit content');

$c->must('MAIL FROM:<a@b.example> BODY=7BIT', '250');
$c->must('RSET', '250');

# AUTH= is parsed and not passed on

$c->try('MAIL FROM:<a@b.example> AUTH=e+3Dmc2@b.example', '250', 'AUTH=');
$c->must('RCPT TO:<c@d.example>', '250');
$c->must('DATA', '354');
$c->send(".\r\n");
$c->must(undef, '250');
unlike($node->last_message()->{mail}, qr/e\+3Dmc2/, 'is not passed on as sent');
$c->try('MAIL FROM:<a@b.example> AUTH=<>', '250', 'AUTH=<>');
$c->must('RSET', '250');
$c->try('MAIL FROM:<a@b.example> AUTH=+zz', '501 5.5.4', 'AUTH= that is no xtext');

# values

for my $bad ('RET=ALL', 'ENVID=a+', "ENVID=\x01", 'BODY=BINARYMIME', 'SMTPUTF8=1',
             'RET=FULL RET=HDRS', 'ENVID=')
{
    $c->try("MAIL FROM:<a\@b.example> $bad", qr/^(501|555) 5\.5\.4/,
            'MAIL: ' . visible($bad));
}

$c->must('MAIL FROM:<a@b.example>', '250');

for my $bad ('NOTIFY=SOMETIMES', 'NOTIFY=NEVER,SUCCESS', 'ORCPT=nosemicolon',
             'ORCPT=rfc822;a+', 'NOTIFY=', 'SIZE=1')
{
    $c->try("RCPT TO:<c\@d.example> $bad", qr/^(501|555) 5\.5\.4/,
            "RCPT: $bad");
}

$c->must('RSET', '250');

# UTF-8 without SMTPUTF8

$c->try("MAIL FROM:<$utf8>", '553 5.6.7', 'UTF-8 in MAIL without SMTPUTF8');
$c->must('MAIL FROM:<a@b.example>', '250');
$c->try("RCPT TO:<$utf8>", '553 5.6.7', 'UTF-8 in RCPT without SMTPUTF8');
$c->must('RSET', '250');

# nodes without

$c = $t->session('none');

is(first_no($c, "MAIL FROM:<$utf8> SMTPUTF8", 'RCPT TO:<c@d.example>'),
   '550 5.6.7', 'SMTPUTF8');
is(first_no($c, 'MAIL FROM:<a@b.example> BODY=8BITMIME',
            'RCPT TO:<c@d.example>'), '554 5.6.3', '8BITMIME');
is(first_no($c, 'MAIL FROM:<a@b.example> RET=FULL',
            'RCPT TO:<c@d.example>'), '555 5.5.4', 'DSN in MAIL');
is(first_no($c, 'MAIL FROM:<a@b.example>',
            'RCPT TO:<c@d.example> NOTIFY=NEVER'), '555 5.5.4',
   'DSN in RCPT');
$c->must('RSET', '250');

$c->try('MAIL FROM:<a@b.example> SIZE=10', '250', 'SIZE=');
$c->must('RCPT TO:<c@d.example>', '250');
$c->must('DATA', '354');
$c->send("x\r\n.\r\n");
$c->expect('250', 'a plain message is taken');

my $received = join '', map { $plain->received($_) } 1 .. $plain->connections();
unlike($received, qr/SMTPUTF8|BODY=|RET=|NOTIFY=|SIZE=/,
       'the node gets no parameter that it does not know');

# what the relay does not offer

$c = $t->session('few');

for my $parameter ('BODY=8BITMIME', 'SMTPUTF8', 'RET=FULL', 'ENVID=x') {
    $c->try("MAIL FROM:<a\@b.example> $parameter", '555 5.5.4',
            "not offered: $parameter");
}

$c->must('MAIL FROM:<a@b.example>', '250');
$c->try('RCPT TO:<c@d.example> NOTIFY=NEVER', '555 5.5.4',
        'not offered: NOTIFY=');

# the name in EHLO to the node

$c = $t->session('helo');
$c->must('MAIL FROM:<a@b.example>', '250');
ok((grep { $_ eq 'EHLO out.relay.example' }
    map { $node->commands($_) } 1 .. $node->connections()),
   'smtp_relay_node_helo');

done_testing();


# The code of the first reply that is not 250 to these commands.

sub first_no {
    my ($c, @commands) = @_;

    my $code = 'none';

    for my $command (@commands) {
        my $reply = $c->ask($command);
        next if $reply =~ /^250/;

        ($code) = $reply =~ /^(\d\d\d \d\.\d+\.\d+)/;
        last;
    }

    $c->must('RSET', '250');
    return $code // 'none';
}
