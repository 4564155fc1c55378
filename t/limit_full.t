# Zones that are too small: keys that are idle make room; where none is, a
# new key is let through, or refused.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
$t->keys(user => 'secret');

$t->start(<<'EOC');
worker_processes  2;

stream {
    log_format  line  "$smtp_relay_event $status $smtp_relay_limit";
    access_log  access.log  line;

    smtp_relay_limit_msg_zone   $smtp_relay_mail_from  zone=open:32k    rate=1r/h;
    smtp_relay_limit_msg_zone   $smtp_relay_mail_from  zone=closed:32k  rate=1r/h  full=closed;
    smtp_relay_limit_msg_zone   $smtp_relay_mail_from  zone=idle:32k    rate=100000r/s  full=closed;
    smtp_relay_limit_conn_zone  $proxy_protocol_addr   zone=cclosed:32k full=closed;
    smtp_relay_limit_conn_zone  $proxy_protocol_addr   zone=copen:32k;
    smtp_relay_limit_conn_zone  $proxy_protocol_addr   zone=crowd:32k  full=closed;

    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;

    server {
        listen                 127.0.0.1:%%PORT_open%%;
        smtp_relay_limit_msg   open;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_closed%%;
        smtp_relay_limit_msg   closed;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_idle%%;
        smtp_relay_limit_msg   idle;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_cclosed%% proxy_protocol;
        smtp_relay_limit_conn  cclosed  1;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_copen%% proxy_protocol;
        smtp_relay_limit_conn  copen  1;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_crowd%% proxy_protocol;
        smtp_relay_limit_conn  crowd  10000;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }
}
EOC

my ($c, $n, $reply);

# messages

$c = $t->session('open');
is(scalar(grep { mail($c, $_) =~ /^250/ } 1 .. 400), 400, 'open: all keys are let through');
ok($t->wait_log(qr/\[error\].*zone "open" is full, messages are not limited by it/),
   'open: which is logged');
like(mail($c, 1), qr/^450/, 'open: a key that is known is limited still');
like(mail($c, 400), qr/^250/, 'open: one that found no room is not');

$c = $t->session('closed');
for ($n = 1; $n <= 400; $n++) {
    $reply = mail($c, $n);
    last if $reply !~ /^250/;
}
is($reply, '450 4.7.1 Too many senders, try again later', 'closed: a new key is refused');
cmp_ok($n, '>', 100, 'closed: when there are many');
like(mail($c, 1), qr/^450 .*the limit is 1 per hour/, 'closed: those that are known go on');
ok($t->wait_log(qr/\[error\].*limiting messages, zone "closed" is full/), 'closed: logged');
ok(wait_until { grep { $_ eq 'message 200 closed' } $t->lines('access.log') },
   'closed: $smtp_relay_limit');

$c = $t->session('idle');
is(scalar(grep { mail($c, $_) =~ /^250/ } 1 .. 600), 600,
   'idle: keys that are idle make room');

# sessions

my @c;
for ($n = 1; $n <= 400; $n++) {
    $c = from('cclosed', $n);
    $reply = $c->reply();
    last if $reply !~ /^220/;
    push @c, $c;
}
is($reply, '421 4.7.0 relay.example Too many clients, try again later',
   'sessions, closed: a new key is refused');
cmp_ok($n, '>', 50, 'sessions, closed: when there are many');
like(from('cclosed', 1)->reply(), qr/^421 .*the limit is 1 at one time/,
     'sessions, closed: those that are known are limited');
ok($t->wait_log(qr/limiting connections, zone "cclosed" is full/), 'sessions, closed: logged');
$_->close() for splice @c, 0, 20;
ok(wait_until { from('cclosed', 999)->reply() =~ /^220/ },
   'sessions, closed: there is room when some have ended');
$_->close() for splice @c;

push @c, from('copen', $_) for 1 .. 300;
is(scalar(grep { $_->reply() =~ /^220/ } @c), 300, 'sessions, open: all are let through');
like(from('copen', 1)->reply(), qr/^421 /, 'sessions, open: those that are known are limited');
ok($t->wait_log(qr/zone "copen" is full, connections are not limited by it/),
   'sessions, open: logged');
$_->close() for splice @c;
ok(wait_until { from('copen', 1)->reply() =~ /^220/ }, 'sessions, open: all have ended');

# sessions of one key take all the memory

for (1 .. 700) {
    $c = from('crowd', 1);
    $reply = $c->reply();
    last if $reply !~ /^220/;
    push @c, $c;
}
is($reply, '421 4.7.0 relay.example Too many clients, try again later',
   'one key: no memory for one session more');
cmp_ok(scalar @c, '>', 100, 'one key: when there are many');
like(from('crowd', $_)->reply(), qr/^421 .*Too many clients/,
     "one key: nor for another key, $_") for 2 .. 6;
is(scalar(grep { $_->ask('NOOP') =~ /^250/ } @c), scalar @c, 'one key: its sessions stay');
$_->close() for splice @c;
ok(wait_until { from('crowd', 2)->reply() =~ /^220/ },
   'one key: there is room when they have ended');

done_testing();


sub mail {
    my ($client, $n) = @_;

    my $reply = $client->ask("MAIL FROM:<s$n\@b.example>");
    $client->must('RSET', '250') if $reply =~ /^250/;
    return $reply;
}

sub from {
    my ($port, $n) = @_;

    my $client = $t->client($port);
    $client->send(sprintf "PROXY TCP4 10.0.%d.%d 192.0.2.99 1234 25\r\n", $n >> 8, $n & 255);
    return $client;
}
