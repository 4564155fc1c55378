# access_log: one line when a session ends and one for each message.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();

my $node = $t->node('node', script => {
    RCPT => sub { $_[0] =~ /bad/ ? '550 5.1.1 no' : undef },
    eod => sub { $_[3]{data} =~ /three/ ? "554-5.7.1 first\n554 5.7.1 spam" : undef },
});

my $quiet = $t->node('quiet');
$t->keys(user => 'secret', other => 'secret');
$t->certificates('localhost');

$t->start(<<'EOC');
stream {
    log_format  all  'event=$smtp_relay_event id=$smtp_relay_session_id '
                     'host=$smtp_relay_hostname helo=$smtp_relay_helo '
                     'protocol=$smtp_relay_protocol '
                     'method=$smtp_relay_auth_method user=$smtp_relay_user '
                     'account=$smtp_relay_account '
                     'auth=$smtp_relay_auth_status '
                     'source=$smtp_relay_auth_source '
                     'auth_time=$smtp_relay_auth_time '
                     'header=$smtp_relay_auth_http_x_plan '
                     'messages=$smtp_relay_messages '
                     'from=$smtp_relay_mail_from to=$smtp_relay_rcpt_to '
                     'recipients=$smtp_relay_recipients '
                     'rejected=$smtp_relay_recipients_rejected '
                     'size=$smtp_relay_message_size '
                     'message_status=$smtp_relay_message_status '
                     'message_time=$smtp_relay_message_time '
                     'reused=$smtp_relay_node_reused '
                     'errors=$smtp_relay_errors '
                     'upstream=$upstream_addr '
                     'connect=$upstream_connect_time '
                     'sent=$upstream_bytes_sent received=$upstream_bytes_received '
                     'status=$status bytes=$bytes_received/$bytes_sent '
                     'time=$session_time mapped=$mapped '
                     'reply="$smtp_relay_message_reply"';

    log_format  short  '$smtp_relay_event $smtp_relay_mail_from';

    map $smtp_relay_mail_from $mapped {
        default           none;
        first@b.example   first;
        second@b.example  second;
    }

    map $smtp_relay_event $is_message {
        message  1;
        default  0;
    }

    access_log  all.log  all;
    access_log  messages.log  short  if=$is_message;

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            on;
    smtp_relay_auth_file           keys;
    smtp_relay_auth_failure_delay  0;
    ssl_certificate                localhost.crt;
    ssl_certificate_key            localhost.key;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_down%%;
        smtp_relay_pass  127.0.0.1:%%PORT_none%%;
    }

    server {
        listen           127.0.0.1:%%PORT_quiet_log%%;
        smtp_relay_pass  127.0.0.1:%%PORT_quiet%%;
        access_log       off;
    }
}
EOC

my $lines = 0;

# a session with three messages

my $c = $t->session('smtp');
like($c->message("one\r\n", 'first@b.example', 'c@d.example'), qr/^250/,
     'first message');

my ($m) = new_lines(1);
is($m->{event}, 'message', 'a message is logged when it is over');
like($m->{id}, qr/^[0-9a-f]{16,}$/, 'session id');
is($m->{host}, 'relay.example', 'host name');
is($m->{helo}, 'client.example', 'EHLO name');
is($m->{protocol}, 'ESMTPA', 'protocol');
is($m->{method}, 'plain', 'method');
is($m->{user}, 'user', 'user');
is($m->{account}, 'user', 'account');
is($m->{auth}, 'ok', 'verdict');
is($m->{source}, 'file', 'source of the verdict');
like($m->{auth_time}, qr/^\d+\.\d{3}$/, 'time of AUTH');
is($m->{header}, '-', 'no auth header');
is($m->{messages}, '1', 'messages so far');
is($m->{from}, 'first@b.example', 'sender');
is($m->{to}, 'c@d.example', 'recipient');
is($m->{recipients}, '1', 'recipients');
is($m->{rejected}, '0', 'recipients rejected');
is($m->{size}, '5', 'size');
is($m->{message_status}, '250', 'status');
like($m->{reply}, qr/2\.0\.0 Ok: queued as 1-1$/, 'text of the reply');
like($m->{message_time}, qr/^\d+\.\d{3}$/, 'time of the message');
is($m->{upstream}, '127.0.0.1:' . $t->port('node'), 'address of the node');
like($m->{connect}, qr/^\d+\.\d{3}$/, 'time to connect');
like($m->{sent}, qr/^[1-9]\d*$/, 'octets sent to the node');
like($m->{received}, qr/^[1-9]\d*$/, 'octets received from the node');
is($m->{mapped}, 'first', 'map of a message variable');
my $id = $m->{id};

$c->must('MAIL FROM:<second@b.example>', '250');
$c->must('RCPT TO:<bad@d.example>', '550');
$c->must('RCPT TO:<e@d.example>', '250');
$c->must('RCPT TO:<f@d.example>', '250');
$c->must('DATA', '354');
$c->send("..two\r\n\r\n.\r\n");
$c->must(undef, '250');

($m) = new_lines(1);
is($m->{id}, $id, 'the next message has the same session id');
is($m->{from}, 'second@b.example', 'and its own sender');
like($m->{to}, qr/^(bad|e)\@d\.example$/, 'its first recipient');
is($m->{recipients}, '2', 'its recipients');
is($m->{rejected}, '1', 'its rejected ones');
is($m->{size}, '8', 'its size, without the dot that was put on');
is($m->{messages}, '2', 'messages so far');
is($m->{mapped}, 'second', 'the map is evaluated anew');
cmp_ok($m->{message_time}, '<', 5, 'its own time');

like($c->message("three\r\n", 'third@b.example'), qr/^554/, 'a message refused');
($m) = new_lines(1);
is($m->{message_status}, '554', 'status of a message refused');
like($m->{reply}, qr/spam$/, 'its reply');
unlike($m->{reply}, qr/[\r\n]/, 'in one line');
is($m->{messages}, '2', 'it does not count as accepted');

$c->must('MAIL FROM:<fourth@b.example>', '250');
$c->must('RSET', '250');
($m) = new_lines(1);
is($m->{from}, 'fourth@b.example', 'a message given up is logged');
is($m->{recipients}, '0', 'with no recipient');
is($m->{to}, '-', 'none of an earlier message');
isnt($m->{message_status}, '250', 'and not as accepted');
is($m->{size}, '0', 'and no size');

$c->must('XYZZY', '500');
$c->must('QUIT', '221');
$c->expect_closed('QUIT');

($m) = new_lines(1);
is($m->{event}, 'session', 'a session is logged when it ends');
is($m->{id}, $id, 'with its id');
is($m->{messages}, '2', 'messages accepted');
is($m->{errors}, '1', 'errors');
is($m->{status}, '200', 'status');
is($m->{from}, '-', 'no sender of a message');
is($m->{message_status}, '-', 'no status of a message');
is($m->{mapped}, 'none', 'no map of a message');
like($m->{bytes}, qr!^[1-9]\d*/[1-9]\d*$!, 'octets');

# other sessions

$c = $t->session('smtps', tls => 1);
isnt(($c->message("x\r\n"), new_lines(1))[1]{id}, $id,
     'another session has another id');
is(last_line()->{protocol}, 'ESMTPSA', 'protocol with TLS');
$c->must('QUIT', '221');
is((new_lines(1))[0]{protocol}, 'ESMTPSA', 'of the session, too');

$c = $t->client('smtp');
$c->must(undef, '220');
$c->must('HELO old.example', '250');
$c->must('QUIT', '221');
($m) = new_lines(1);
is($m->{protocol}, 'SMTP', 'protocol with HELO');
is($m->{user}, '-', 'no user');
is($m->{auth}, '-', 'no verdict');

$c = $t->greeted('smtp');
$c->must('AUTH PLAIN ' . $c->plain('other', 'wrong'), '535');
$c->must('QUIT', '221');
($m) = new_lines(1);
is($m->{user}, 'other', 'the user of a login that was denied');
is($m->{auth}, 'denied', 'verdict');

$c = $t->session('down');
$c->must('MAIL FROM:<a@b.example>', qr/^(250|451)/);
$c->must('RSET', '250');
($m) = new_lines(1);
is($m->{message_status}, '451', 'status of a message without a node')
    or diag($c->dialogue());
is($m->{upstream}, '127.0.0.1:' . $t->port('none'), 'the node that was tried');
$c->must('QUIT', '221');
new_lines(1);

# if= and off

is_deeply([ $t->lines('messages.log') ],
          [ map { "message $_" } 'first@b.example', 'second@b.example',
            'third@b.example', 'fourth@b.example', 'sender@example.com',
            'a@b.example' ],
          'if= picks messages');

$c = $t->session('quiet_log');
$c->message("x\r\n");
$c->must('QUIT', '221');

# injection

my @evil = ("a\x1b[31m", "a\x07", "a\x7f", "a\"b", "\xc3\x28");

for my $name (@evil) {
    $c = $t->client('smtp');
    $c->must(undef, '220');
    $c->ask("EHLO $name");
    $c->ask('AUTH PLAIN ' . $c->plain("$name", 'x'));
    $c->ask("XYZZY $name");
    $c->ask("MAIL FROM:<$name\@b.example>");
    $c->must('QUIT', '221');
    new_lines(1);
}

$c = $t->greeted('smtp');
$c->ask('AUTH PLAIN ' . $c->plain("a\r\nevent=message", 'x'));
$c->ask('AUTH LOGIN');
$c->ask('YQpldmVudD1tZXNzYWdl');
$c->ask('eA==');
$c->must('QUIT', '221');
new_lines(1);

for my $file ('all.log', 'error.log') {
    my $text = $t->read($file);
    unlike($text, qr/[^\x20-\x7e\n\x80-\xff]/, "no control character in $file");
    is((grep { !/^event=(session|message) .*reply="[^"]*"$/ }
        $t->lines($file)), 0, "every line of $file is whole")
        if $file eq 'all.log';
}

is((grep { /^event=message/ && / auth=denied/ } $t->lines('all.log')), 0,
   'no line of the log is one of a client');

done_testing();


# So many new lines of the log, as hashes.

sub new_lines {
    my ($number) = @_;

    my @lines = $t->wait_lines('all.log', $lines + $number);
    my @new = @lines[$lines .. $lines + $number - 1];
    $lines += $number;

    return map { parse($_) } @new;
}

sub last_line { return parse(($t->lines('all.log'))[-1]) }

sub parse {
    my ($line) = @_;

    my ($reply) = $line =~ s/ reply="(.*)"$// ? $1 : '';
    my %fields = map { /^(\w+)=(.*)$/ } split / /, $line;

    return { %fields, reply => $reply };
}
