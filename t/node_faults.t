# Whatever a node does, the client gets a clear temporary answer, its session
# goes on, and no message is acknowledged that no node has acknowledged.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

# one node for each fault

my %faults = (
    close_connect => { connect => ':close' },
    reset_connect => { connect => ':reset' },
    greeting_554 => { connect => '554 5.3.2 No service' },
    greeting_421 => { connect => '421 4.3.2 Busy' },
    greeting_garbage => { connect => { raw => "SSH-2.0-x\r\n" } },
    greeting_silent => { connect => ':silent' },
    greeting_half => { connect => { raw => '220 no', then => ':silent' } },
    ehlo_close => { EHLO => ':close' },
    ehlo_421 => { EHLO => '421 4.3.2 Shutting down' },
    ehlo_garbage => { EHLO => { raw => "250-a\r\n999 b\r\n" } },
    ehlo_endless => { EHLO => { raw => "250-x\r\n" x 2000 } },
    mail_close => { MAIL => ':close' },
    mail_reset => { MAIL => ':reset' },
    mail_silent => { MAIL => ':silent' },
    mail_421 => { MAIL => { reply => '421 4.3.2 Shutting down',
                            then => ':close' } },
    mail_garbage => { MAIL => { raw => "hello\r\n" } },
    mail_bare => { MAIL => { raw => "250 2.1.0 Ok\n" } },
    mail_control => { MAIL => { raw => "250 2.1.0 \x01\x02\r\n" } },
    mail_long => { MAIL => { raw => '250 ' . 'x' x 70000 . "\r\n" } },
    mail_mixed => { MAIL => { raw => "250-2.1.0 a\r\n550 b\r\n" } },
    mail_354 => { MAIL => '354 Go on' },
    mail_early => { MAIL => { raw => "250 2.1.0 Ok\r\n250 2.1.5 Too early\r\n" } },
    rcpt_close => { RCPT => ':close' },
    rcpt_silent => { RCPT => ':silent' },
    rcpt_421 => { RCPT => { reply => '421 4.3.2 Shutting down',
                            then => ':close' } },
    data_close => { DATA => ':close' },
    data_silent => { DATA => ':silent' },
    data_250 => { DATA => '250 2.0.0 What' },
    data_421 => { DATA => { reply => '421 4.3.2 Shutting down',
                            then => ':close' } },
    eod_close => { eod => ':close' },
    eod_reset => { eod => ':reset' },
    eod_silent => { eod => ':silent' },
    eod_421 => { eod => { reply => '421 4.3.2 Shutting down',
                          then => ':close' } },
    eod_garbage => { eod => { raw => "Ok, got it\r\n" } },
    eod_half => { eod => { raw => '250 2.0.', then => ':close' } },
    eod_354 => { eod => '354 More' },
);

my @names = sort keys %faults;
my %nodes = map { $_ => $t->node($_, script => $faults{$_}) } @names;
my $good = $t->node('good');

# a node whose idle connections die, and one that talks before its time

my $mortal = $t->node('mortal', script => {
    eod => { reply => '250 2.0.0 Ok', then => ':close' },
});

my $talker = $t->node('talker', script => {
    connect => { raw => "220 a ESMTP\r\n250 2.0.0 early\r\n250 2.0.0 more\r\n" },
});

$t->keys(user => 'secret');

my $servers = join "\n", map { <<"EOC" } @names, 'mortal', 'talker';
    server {
        listen           127.0.0.1:%%PORT_to_$_%%;
        smtp_relay_pass  127.0.0.1:%%PORT_$_%%;
    }
EOC

$t->start(<<"EOC");
stream {
    log_format  message  "\$smtp_relay_event \$server_port "
                         "\$smtp_relay_message_status";
    access_log  access.log  message;

    smtp_relay_hostname         relay.example;
    smtp_relay_starttls         off;
    smtp_relay_auth_file        keys;
    smtp_relay_max_errors       0;
    smtp_relay_connect_timeout  400ms;
    smtp_relay_reply_timeout    400ms;

    server {
        listen           127.0.0.1:%%PORT_to_refused%%;
        smtp_relay_pass  127.0.0.1:%%PORT_refused%%;
    }

$servers
}
EOC

# no node at all

my $c = $t->session('to_refused');
is(first_no($c), '451 4.4.1', 'no node: the message is refused');
$c->try('NOOP', '250', 'no node: the session goes on');
is(first_no($c), '451 4.4.1', 'no node: the next message, too');
ok($t->wait_log(qr/\[error\].*connect\(\) failed/), 'no node: logged');

# each fault, by commands one after the other and in one flight

for my $name (@names) {
    my $node = $nodes{$name};
    my $want = $name =~ /^(close_connect|reset_connect|greeting|ehlo)/
               ? qr/^451 4\.4\.[12]$/
             : $name eq 'mail_early' ? qr/^(451 4\.4\.2|none)$/
             : qr/^451 4\.[34]\.\d+$/;

    $c = $t->session("to_$name");
    like(first_no($c), $want, "$name: the message is refused for now");
    $c->try('NOOP', '250', "$name: the session goes on");
    $c->try('RSET', '250', "$name: RSET");

    $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\nDATA\r\n");
    my @replies = map { $c->reply() } 1 .. 3;

    if ($replies[2] =~ /^354/) {
        $c->send("text\r\n.\r\n");
        push @replies, $c->reply();
    }

    my ($no) = grep { !/^(250|354)/ } @replies;
    like($no // 'none', $name eq 'mail_early' ? qr/^(45\d|none)/
                                              : qr/^4[35]\d |^503/,
         "$name: in one flight, too")
        or diag($c->dialogue());
    ok(!(grep { /^(421|\()/ } @replies), "$name: and no 421");

    $c->try('QUIT', '221', "$name: QUIT");
    is($node->count(), 0, "$name: the node has acknowledged nothing")
        if $name !~ /^(mail_early|eod_)/;
}

# a node that was lost may be used again

$c = $t->session('to_mortal');

for my $number (1 .. 3) {
    like($c->message("message $number\r\n"), qr/^250/,
         "a node that closes after each message: message $number");
}

is($mortal->count(), 3, 'each is delivered once');

# early data is not a reply

$c = $t->session('to_talker');
my $reply = first_no($c);
like($reply, qr/^(451 4\.4\.[12]|none)$/, 'a node that talks before its time');
is($talker->count(), $reply eq 'none' ? 1 : 0,
   'what it said early acknowledges nothing');

# the log

ok(scalar($t->log_lines(qr/\[error\].*timed out/)), 'a silent node is logged');
ok(scalar($t->log_lines(qr/\[error\].*(invalid|unexpected)/i)),
   'a broken reply is logged');
my %may = map { $t->port("to_$_") => 1 } qw/ mortal talker mail_early /;

is(join(' ', grep { /^message (\d+) 250$/ && !$may{$1} }
             $t->lines('access.log')), '',
   'no message that failed is logged as 250');

done_testing();


# The code of the first reply that says no to a message, or "none".

sub first_no {
    my ($c) = @_;

    for my $line ('MAIL FROM:<a@b.example>', 'RCPT TO:<c@d.example>', 'DATA',
                  "text\r\n.")
    {
        my $reply = $c->ask($line);
        next if $reply =~ /^(250|354)/;

        $c->ask('RSET') if $reply =~ /^\d/;
        return $reply =~ /^(\d\d\d \d\.\d+\.\d+)/ ? $1 : $reply;
    }

    return 'none';
}
