# Method "none": the service is asked about the client at its first MAIL.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use MIME::Base64 qw/ encode_base64 /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->certificates('localhost');

# a client is known by its name: "NAME", or "NAME.gate-GATE" for a service
# that waits until that gate is opened

my %answers = (
    ok => { 'Auth-Status' => 'OK' },
    account => { 'Auth-Status' => 'OK', 'Auth-Account' => 'customer-7' },
    bad => { 'Auth-Status' => 'Unknown host' },
    code => { 'Auth-Status' => 'Relaying denied',
              'Auth-Error-Code' => '550 5.7.1' },
    later => [503, {}],
    silent => ':silent',
);

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;
    my ($name, $gate) = split /\.gate-/,
                              $request->{headers}{'auth-smtp-helo'} // '';

    return $answers{bad} if length $request->{headers}{'auth-user'};

    my $answer = $answers{$name};
    return $answer unless defined $gate;

    return { act => { gate => $gate, raw => "HTTP/1.1 200 OK\r\n"
        . "Auth-Status: $answer->{'Auth-Status'}\r\n"
        . "Content-Length: 0\r\n\r\n" } };
});

my $conf = <<'EOC';
stream {
    smtp_relay_auth_cache_zone     zone=verdicts:1m;
    smtp_relay_auth_block_zone     $binary_remote_addr  zone=failed:1m;

    log_format  login  "$smtp_relay_event $smtp_relay_protocol "
                       "$smtp_relay_auth_method $smtp_relay_auth_status "
                       "[$smtp_relay_user] [$smtp_relay_account] $status";
    access_log  access.log  login;

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    smtp_relay_auth_timeout        1500ms;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_methods        none;
    ssl_certificate                localhost.crt;
    ssl_certificate_key            localhost.key;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_plain%%;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_methods  plain none;
    }

    server {
        listen                         127.0.0.1:%%PORT_failures%%;
        smtp_relay_pass                127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_failure_delay  300ms;
        smtp_relay_auth_max_failures   2;
    }

    server {
        listen                    127.0.0.1:%%PORT_hurry%%;
        smtp_relay_pass           127.0.0.1:%%PORT_node%%;
        smtp_relay_login_timeout  700ms;
    }

    server {
        listen                     127.0.0.1:%%PORT_cached%%;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_cache      verdicts valid=1m invalid=1m;
        smtp_relay_auth_cache_key  "";
    }

    server {
        listen                 127.0.0.1:%%PORT_blocked%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_block  failed failures=2 window=1m time=1m;
    }

    server {
        listen               127.0.0.1:%%PORT_starttls%%;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
        smtp_relay_starttls  on;
    }

    server {
        listen               127.0.0.1:%%PORT_required%%;
        smtp_relay_pass      127.0.0.1:%%PORT_node%%;
        smtp_relay_starttls  required;
    }
}
EOC

$t->start($conf);

my $c;
my $port = $t->port('auth');
my $mail = 'MAIL FROM:<a@b.example>';
my $rcpt = 'RCPT TO:<c@d.example>';

# a session

$c = $t->client('smtp');
$c->must(undef, '220');
unlike($c->ask('EHLO ok'), qr/AUTH/, 'no AUTH is offered');
$c->try('AUTH PLAIN ' . encode_base64("\0ok\0x", ''),
        '504 5.5.4 Authentication mechanism not supported',
        'and none accepted');
$c->try($rcpt, '503 5.5.1 MAIL first', 'RCPT comes after MAIL');
$c->try('DATA', '503 5.5.1 MAIL first', 'so does DATA');
is(requests(), 0, 'so far nobody was asked');

$c->try($mail, '250 2.1.0', 'MAIL is accepted');
is(($auth->requests())[-1]{raw}, <<"EOR" =~ s/\n/\r\n/gr, 'after this request');
GET / HTTP/1.1
Host: 127.0.0.1:$port
Auth-Method: none
Auth-User:${\' '}
Auth-Pass:${\' '}
Auth-Protocol: smtp
Auth-Login-Attempt: 1
Client-IP: 127.0.0.1
Auth-SMTP-Helo: ok

EOR

$c->must($rcpt, '250');
$c->must('DATA', '354');
$c->send("one\r\n.\r\n");
$c->expect('250', 'the message is delivered');
like($c->message("two\r\n"), qr/^250/, 'another one in the same session');
is(requests(), 1, 'for which nobody is asked');
$c->try('AUTH PLAIN AAAA', '503 5.5.1 Already authenticated',
        'the session is one of "none" now');
$c->try('EHLO other', '250', 'whatever the client calls itself');
$c->try($mail, '250', 'it stays so');

is(session(), 'session ESMTP none ok [-] [-] 200', 'the session is logged');
is((grep { /^message ESMTP none ok \[-\] \[-\]/ } $t->lines('access.log')), 3,
   'so are its messages');

$c = hello('smtp', 'account');
$c->must($mail, '250');
is(session(), 'session ESMTP none ok [-] [customer-7] 200',
   'the service may give the client an account');

# out of order, and bad

$c = $t->client('smtp');
$c->must(undef, '220');
$c->try($mail, '503 5.5.1 EHLO first', 'MAIL before EHLO');
my $count = requests();
$c->must('EHLO ok', '250');
$c->try('MAIL FROM:a@b', qr/^501 5\.[15]\./, 'a MAIL that is not one');
$c->try('MAIL TO:<a@b.example>', '501 5.5.4', 'nor this');
is(requests(), $count, 'nobody is asked about these');
$c->try($mail, '250 2.1.0', 'a good one');
$c->try($mail, '503 5.5.1 Nested MAIL command', 'and a second one');

$c = $t->client('smtp');
$c->must(undef, '220');
$c->must('HELO ok', '250');
$c->try($mail, '250', 'HELO will do');

# denied, and nobody can tell

$c = hello('smtp', 'bad');
$count = requests();
$c->try($mail, '535 5.7.8 Unknown host', 'a denial is the reply to MAIL');
$c->try($rcpt, '503 5.5.1 MAIL first', 'there is no message');
$c->try('DATA', '503 5.5.1 MAIL first', 'really not');
$c->try('EHLO bad', '250', 'EHLO');
$c->try($mail, '535 5.7.8 Unknown host', 'the next MAIL');
is(requests(), $count + 2, 'is another question');
is(($auth->requests())[-1]{headers}{'auth-login-attempt'}, 2,
   'a second attempt');
$c->try('EHLO ok', '250', 'EHLO');
$c->try($mail, '250', 'and what was denied may be permitted now');

$c = hello('smtp', 'bad');
$c->must($mail, '535');
is(session(), 'session ESMTP none denied [-] [-] 403', 'a denial is logged');

$c = hello('smtp', 'code');
$c->try($mail, '550 5.7.1 Relaying denied', 'denied with a code');
$c = hello('smtp', 'later');
$c->try($mail, '454 4.7.0 Temporary authentication failure',
        'nobody can tell');
$c->must('EHLO ok', '250');
$c->try($mail, '250', 'a moment later somebody can');
$c = hello('smtp', 'silent');
$c->try($mail, '454 4.7.0 Temporary authentication failure',
        'a silent service');

$c = hello('failures', 'bad');
$c->line($mail);
ok($c->is_silent(0.1), 'a denial is delayed');
$c->expect('535 5.7.8 Unknown host', 'and comes');
$c->try($mail, '535 5.7.8 Unknown host', 'the last one permitted');
$c->expect('421 4.7.0 relay.example', 'hence the end');
$c->expect_closed('of the session');

# with other methods

$c = $t->client('plain');
$c->must(undef, '220');
like($c->ask('EHLO ok'), qr/^250-AUTH PLAIN$/m, 'AUTH is offered besides');
$count = requests();
$c->try('AUTH PLAIN ' . $c->plain('me', 'x'), '535',
        'a client may log in, and fail');
$c->try($mail, '250', 'or not log in');
is(requests(), $count + 2, 'both have been asked');
is(session(), 'session ESMTP none ok [-] [-] 200', 'the latter counts');

# in one flight

$c = hello('smtp', 'ok.gate-flight');
$c->send("$mail\r\n$rcpt\r\nDATA\r\n");
ok($c->is_silent(), 'MAIL, RCPT and DATA in one flight wait for the verdict');
$auth->open_gate('flight');
$c->expect('250 2.1.0', 'then MAIL is answered');
$c->expect('250 2.1.5', 'RCPT');
$c->expect('354', 'and DATA');
$c->send("flight\r\n.\r\n");
$c->expect('250', 'the message is delivered');
is($node->last_message()->{data}, "flight\r\n", 'as it was sent');

$c = hello('smtp', 'bad');
$count = $node->count();
$c->send("$mail\r\n$rcpt\r\nDATA\r\n$mail\r\nNOOP\r\n");
$c->expect('535 5.7.8 Unknown host', 'a flight denied: MAIL');
$c->expect('503 5.5.1', 'RCPT');
$c->expect('503 5.5.1', 'DATA');
$c->expect('535 5.7.8 Unknown host', 'another MAIL');
$c->expect('250 2.0.0', 'and NOOP');

$c = hello('smtp', 'bad');
$c->send("$mail\r\n$rcpt\r\nBDAT 4 LAST\r\nNOOPNOOP\r\n");
$c->expect('535', 'a flight with BDAT denied: MAIL');
$c->expect('503 5.5.1', 'RCPT');
$c->expect('503 5.5.1', 'BDAT, whose chunk is dropped');
$c->expect('250 2.0.0', 'and NOOP behind it');
is($node->count(), $count, 'nothing was delivered');

# what comes while the verdict is awaited

for my $case (['RSET', '250 2.0.0 OK'], ['EHLO x', qr/^250-relay\.example/],
              ['NOOP', '250 2.0.0'], ['GARBAGE', '500 5.5.2'],
              ['AUTH PLAIN AAAA', '503 5.5.1'],
              ['QUIT', '221 2.0.0 relay.example'])
{
    my ($line, $reply) = @$case;
    my ($gate) = $line =~ /^(\w+)/;

    $c = hello('smtp', "ok.gate-$gate");
    $c->line($mail);
    $c->line($line);
    ok($c->is_silent(), "$gate while the verdict is awaited");
    $auth->open_gate($gate);
    $c->expect('250 2.1.0', '  MAIL is answered first');
    $c->expect($reply, "  then $gate");
}

$c->expect_closed('  which ends the session');

for my $how (qw/ close reset /) {
    $count = requests();
    my $sessions = sessions();

    $c = hello('smtp', "ok.gate-$how");
    $c->line($mail);
    $auth->wait_requests($count + 1);
    $c->$how();
    $auth->open_gate($how);

    ok(wait_until { sessions() > $sessions },
       "a client that is gone ($how) while the verdict is awaited is noticed");
}

# the time for a login

$c = hello('hurry', 'ok');
$c->expect('421 4.4.2 relay.example Timeout', 'a client that sends no MAIL');
$c->expect_closed('is not waited for');

$c = hello('hurry', 'ok.gate-hurry');
$c->line($mail);
ok($c->is_silent(0.9), 'the service may take longer');
$auth->open_gate('hurry');
$c->expect('250 2.1.0', 'and permit it');
ok($c->is_silent(0.9), 'then there is no hurry');
$c->try('RSET', '250', 'any more');

# with the cache: the verdict is of the address and the name

$count = requests();

for my $case (['ok', '250', 1], ['ok', '250', 1], ['bad', '535', 2],
              ['bad', '535', 2], ['ok', '250', 2])
{
    my ($name, $reply, $asked) = @$case;

    $c = hello('cached', $name);
    $c->try($mail, $reply, "a verdict that may be cached: $name");
    is(requests(), $count + $asked, "  of $asked that were asked for");
}

$c = $t->client('cached', local => '127.0.0.2');
$c->must(undef, '220');
$c->must('EHLO ok', '250');
$c->try($mail, '250', 'a client of another address');
is(($auth->requests())[-1]{headers}{'client-ip'}, '127.0.0.2',
   '  is asked for, whatever smtp_relay_auth_cache_key is');

# failures count

$c = hello('blocked', 'bad');
$c->try($mail, '535 5.7.8 Unknown host', 'a denial');
$c->try($mail, qr/^(535|421)/, 'and another one');
$c = $t->client('blocked');
$c->must(undef, '220');
$count = requests();
my $said = join "\n", map { $c->ask($_) } 'EHLO ok', $mail;
like($said, qr/^421 4\.7\.0 relay\.example/m, 'block the address');
is(requests(), $count, 'nobody is asked any more');

# TLS

$c = hello('required', 'ok');
$c->try($mail, '530 5.7.0 Must issue a STARTTLS command first',
        'no MAIL without TLS where it is required');
$c->must('STARTTLS', '220');
$c->start_tls();
$count = requests();
$c->must('EHLO ok', '250');
$c->try($mail, '250', 'but with it');
is(requests(), $count + 1, 'the service is asked');
is(($auth->requests())[-1]{headers}{'auth-ssl'}, 'on', 'and told of TLS');
is(session(), 'session ESMTPS none ok [-] [-] 200', 'there was no AUTH in it');

$c = hello('starttls', 'ok');
$c->must($mail, '250');
$c->must('RSET', '250');
$c->must('STARTTLS', '220');
$c->start_tls();
$c->must('EHLO bad', '250');
$c->try($mail, '535 5.7.8 Unknown host',
        'what was permitted before TLS is forgotten');

# a reload

my ($before) = $t->workers();
my $wait = hello('smtp', 'ok.gate-reload');
my $deny = hello('smtp', 'bad.gate-deny');
$count = requests();
$wait->line($mail);
$deny->line($mail);
$auth->wait_requests($count + 2);
my $idle = hello('smtp', 'ok');
$t->reload($conf);

$idle->expect('421 4.3.2', 'reload: an idle session ends');
ok($wait->is_silent(), 'reload: one that waits for the verdict does not');
$auth->open_gate('reload');
$wait->expect('250 2.1.0', 'reload: MAIL is permitted');
$wait->try($rcpt, '250', 'reload: its message goes on');
$wait->must('DATA', '354');
$wait->send("last\r\n.\r\n");
$wait->expect('250', 'reload: to its end');
$wait->expect('421 4.3.2', 'reload: then the session ends');
$auth->open_gate('deny');
$deny->expect('535 5.7.8', 'reload: a denial comes, too');
$deny->expect('421 4.3.2', 'reload: and the end');
ok(wait_until { !grep { $_ == $before } $t->workers() },
   'reload: the old worker has ended');

done_testing();

# -----------------------------------------------------------------------------

sub requests { return scalar(() = $auth->requests()) }

# A client that has been greeted and has said EHLO by that name.

sub hello {
    my ($server, $name) = @_;

    my $client = $t->client($server);
    $client->must(undef, '220');
    $client->must("EHLO $name", '250');
    return $client;
}

# Lines of sessions in the log.

sub sessions { return scalar(grep { /^session/ } $t->lines('access.log')) }

# The one of the session that ends now.

sub session {
    my $count = sessions();

    $c->must('QUIT', '221');
    $c->close();
    wait_until { sessions() > $count };
    return (grep { /^session/ } $t->lines('access.log'))[-1];
}
