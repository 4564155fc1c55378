# Reload and quit: idle sessions are told 421 at once, a message in flight
# is finished first, and no old worker stays behind.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $slow = $t->node('slow', script => { eod => { gate => 'end' } });
my $held = $t->node("held", script => { MAIL => { gate => "mail" } });
$t->keys(user => 'secret');
$t->certificates('localhost');

my $conf = <<'EOC';
stream {
    smtp_relay_hostname   %s;
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;
    ssl_certificate       localhost.crt;
    ssl_certificate_key   localhost.key;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                     127.0.0.1:%%PORT_delay%%;
        smtp_relay_pass            127.0.0.1:%%PORT_node%%;
        smtp_relay_greeting_delay  10s;
    }

    server {
        listen           127.0.0.1:%%PORT_to_slow%%;
        smtp_relay_pass  127.0.0.1:%%PORT_slow%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_held%%;
        smtp_relay_pass  127.0.0.1:%%PORT_held%%;
    }
}
EOC

(my $before = $conf) =~ s/%s/before.example/;
(my $after = $conf) =~ s/%s/after.example/;

$t->start($before);

my $down = qr/\A421 4\.3\.2 before\.example [^\n]+\z/;

for my $signal ('reload', 'quit') {

    # sessions in all states

    my $fresh = $t->client('smtp');
    $fresh->must(undef, '220');
    my $idle = $t->session('smtp');
    my $tls = $t->session('smtps', tls => 1);
    my $between = $t->session('smtp');
    like($between->message("one\r\n"), qr/^250/, "$signal: a message before it");

    my $data = $t->session('smtp');
    $data->envelope('a@b.example', 'c@d.example');
    $data->must('DATA', '354');
    $data->send("first half\r\n");

    my $bdat = $t->session('smtp');
    $bdat->envelope('a@b.example', 'c@d.example');
    $bdat->send("BDAT 6\r\nhalf\r\n");
    $bdat->must(undef, '250');

    my $waits = $t->session('to_slow');
    $waits->envelope('a@b.example', 'c@d.example');
    $waits->must('DATA', '354');
    $waits->send("whole\r\n.\r\n");
    ok(wait_until { scalar(() = $slow->messages()) },
       "$signal: a node has a message and does not answer yet");

    my $envelope = $t->session('to_held');
    my $mails = mails();
    $envelope->line('MAIL FROM:<a@b.example>');
    ok(wait_until { mails() > $mails },
       "$signal: another does not answer MAIL yet");

    my ($old) = $t->workers();
    $signal eq 'reload' ? $t->reload($after) : $t->quit();

    for my $case ([$fresh, 'greeted'], [$idle, 'logged in'],
                  [$tls, 'in TLS'], [$between, 'between messages'])
    {
        my ($c, $name) = @$case;
        $c->expect($down, "$signal: an idle session ($name) is told 421");
        $c->expect_closed("$signal: and closed");
    }

    # messages in flight

    ok($data->is_silent(), "$signal: a message in flight is not cut");
    $data->send("second half\r\n.\r\n");
    $data->expect('250 2.0.0 Ok', "$signal: it is finished");
    $data->expect($down, "$signal: then 421");
    $data->expect_closed("$signal: and closed");
    is($node->last_message()->{data}, "first half\r\nsecond half\r\n",
       "$signal: it is whole");

    $bdat->send("BDAT 6 LAST\r\nrest\r\n");
    $bdat->expect('250 2.0.0 Ok', "$signal: chunks are finished");
    $bdat->expect($down, "$signal: then 421");
    $bdat->expect_closed("$signal: and closed");

    ok($waits->is_silent(), "$signal: the node's answer is waited for");
    $slow->open_gate('end');
    $waits->expect('250 2.0.0 Ok', "$signal: and given");
    $waits->expect($down, "$signal: then 421");
    $waits->expect_closed("$signal: and closed");

    $held->open_gate('mail');
    $envelope->expect('250 2.1.0 Ok', "$signal: MAIL in flight is answered");
    $envelope->try('RCPT TO:<c@d.example>', '250', "$signal: its message goes on");
    $envelope->try('DATA', '354', "$signal: to its content");
    $envelope->send("x\r\n.\r\n");
    $envelope->expect('250', "$signal: and its end");
    $envelope->expect($down, "$signal: then 421");
    $envelope->expect_closed("$signal: and closed");

    if ($signal eq 'reload') {
        ok(wait_until { !grep { $_ == $old } $t->workers() },
           'reload: the old worker has ended');

        # as it was before, for the next round
        unlink glob $t->dir() . '/slow.d/gate-end';
        unlink glob $t->dir() . '/held.d/gate-mail';
        unlink glob $t->dir() . '/slow.d/message-*';
        $down = qr/\A421 4\.3\.2 after\.example [^\n]+\z/;

        $t->client('smtp')->expect('220 after.example',
                                   'reload: a new worker serves');
    } else {
        ok($t->wait_exit(), 'quit: nginx has ended');
    }
}

# a session that idles in the greeting delay

$t->start($before);
my $c = $t->client('delay');
ok($c->is_silent(), 'a client waits for its greeting');
$t->quit();
like($c->drain(), qr/\A(421 4\.3\.2 [^\n]+\n)?\z/, 'quit: it is closed');
ok($t->wait_exit(), 'quit: nginx has ended');

# worker_shutdown_timeout is the limit

$t->start("worker_shutdown_timeout 500ms;\n$before");
$c = $t->session('smtp');
$c->envelope('a@b.example', 'c@d.example');
$c->must('DATA', '354');
$c->send("half\r\n");
my $connection = $node->connections();
$t->quit();
ok($t->wait_exit(), 'worker_shutdown_timeout: nginx has ended');
like($node->ended($connection), qr/^(eof|reset)$/,
     'worker_shutdown_timeout: the node connection is closed');
ok(!(grep { $_->{data} eq "half\r\n" } $node->messages()),
   'worker_shutdown_timeout: nothing half is delivered');

done_testing();


# How often the node that is held was asked.

sub mails {
    return scalar grep { /^MAIL/ }
        map { $held->commands($_) } 1 .. $held->connections();
}
