# Limits where things come together: servers chosen by SNI, method "none", a
# worker killed while it holds a command back.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new(
    expected_alerts => qr/worker process \d+ exited on signal 9/);
my $node = $t->node('node');
my $leaves = $t->node('leaves', script => {
    RCPT => sub { return { reply => '250 2.1.5 Ok', then => ':close' } },
});
$t->auth_service('auth', answer => sub {
    my ($request) = @_;
    my $user = $request->{headers}{'auth-user'} || 'nobody';
    return { 'Auth-Status' => 'OK', 'Auth-Account' => $user };
});
$t->certificates('localhost');

my $sni = $t->has_version('1.25.5');
my $name = $sni ? 'server_name' : '#';

my $conf = sub {
    my ($main) = @_;
    return "$main\n" . <<"EOC";
stream {
    log_format  line  "\$smtp_relay_event \$status \$smtp_relay_limit";
    access_log  access.log  line;

    smtp_relay_limit_conn_zone  \$remote_addr         zone=one:64k;
    smtp_relay_limit_conn_zone  \$remote_addr         zone=two:64k;
    smtp_relay_limit_conn_zone  \$smtp_relay_account  zone=account:64k;
    smtp_relay_limit_msg_zone   \$smtp_relay_account  zone=rate:64k  rate=1r/m;
    smtp_relay_limit_rcpt_zone  \$smtp_relay_account  zone=rcpt:64k  rate=1r/h;

    smtp_relay_hostname    relay.example;
    smtp_relay_auth        http://127.0.0.1:%%PORT_auth%%/;
    ssl_certificate        localhost.crt;
    ssl_certificate_key    localhost.key;

    server {
        listen                 127.0.0.1:%%PORT_sni%%;
        $name                  one.example;
        smtp_relay_limit_conn  one  3;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_@{[ $sni ? 'sni' : 'other' ]}%%;
        $name                  two.example;
        smtp_relay_limit_conn  two  1;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_none%%;
        smtp_relay_starttls    off;
        smtp_relay_auth_methods  none plain;
        smtp_relay_limit_conn  account  1;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_rate%%;
        smtp_relay_starttls    off;
        smtp_relay_limit_msg   rate  burst=2;
        smtp_relay_limit_conn  account  3;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_rcpt%%;
        smtp_relay_starttls    off;
        smtp_relay_limit_rcpt  rcpt  burst=1;
        smtp_relay_pass        127.0.0.1:%%PORT_leaves%%;
    }
}
EOC
};

my ($c, @c);
my $from = 'MAIL FROM:<a@b.example>';

$t->start($conf->("worker_processes 2;"));

# SNI: a session leaves the limits of the server that it came to

SKIP: {
    skip 'nginx chooses a stream server by name since 1.25.5', 8 unless $sni;

    @c = map { $t->client('sni', sni => 'two.example') } 1 .. 3;
    $_->must(undef, '220') for @c;
    like($t->client('sni')->reply(), qr/^421 .*the limit is 3/, 'SNI: the first server is full');

    $c[0]->must('EHLO c.example', '250');
    $c[0]->must('STARTTLS', '220');
    ok($c[0]->start_tls(), 'SNI: one goes to the second');
    $c[0]->try('EHLO c.example', '250', 'SNI: which takes it');

    push @c, $t->client('sni', sni => 'one.example');
    $c[3]->expect('220', 'SNI: its place at the first is free');

    $c[1]->must('EHLO c.example', '250');
    $c[1]->must('STARTTLS', '220');
    ok($c[1]->start_tls(), 'SNI: another one goes to the second');
    $c[1]->expect(qr/^421 4\.7\.0 .*the limit is 1/, 'SNI: which is full');
    $c[1]->expect_closed('SNI: it is closed');
    ok(wait_until { grep { $_ eq 'session 503 two' } $t->lines('access.log') }, 'SNI: by its zone');
    $_->close() for splice @c;
}

# "none": the login is that of MAIL

$c = $t->greeted('none');
$c->try($from, '250', 'none: MAIL logs in');
my $second = $t->greeted('none');
$second->try($from, qr/^421 4\.7\.0 .*the limit is 1/, 'none: one too many is told so');
$second->expect_closed('none: and closed');
$c->must('QUIT', '221');
$c->expect_closed('none: the first ends');
$t->greeted('none')->try($from, '250', 'none: its place is free');

# the node is lost while RCPT is held back: the client is told at once

for my $round (1 .. 3) {
    $c = $t->session('rcpt', user => "rcpt$round");
    $c->must($from, '250');
    $c->send("RCPT TO:<one\@d.example>\r\nRCPT TO:<two\@d.example>\r\nRSET\r\n");
    like(join(' ', map { substr $c->reply(), 0, 9 } 1 .. 3),
         qr/^(250 2\.1\.5|451 4\.4\.2) 451 4\.4\.2 250 2\.0\.0$/, 'lost: what is held is over');
    $c->must($from, '250');
    $c->line('RCPT TO:<three@d.example>');
    ok($c->is_silent(0.3), 'lost: it does not count, so another one is held');
    $c->close();
}

# a worker is killed while it holds MAIL back

@c = map { $t->session('rate') } 1 .. 3;
$_->line($from) for @c;
is(scalar(grep { $_->is_silent(0.1) } @c), 2, 'killed: two are held back');
my %old = map { $_ => 1 } $t->workers();
kill 'KILL', keys %old;
ok(wait_until { 2 == grep { !$old{$_} } $t->workers() }, 'killed: new workers');
$c = wait_until {
    my $client = eval { $t->greeted('rate') };
    $client && $client->ask('AUTH PLAIN ' . $client->plain('user', 'secret')) =~ /^235/ && $client;
};
ok($c, 'killed: places are free');
$c->try($from, '450', 'killed: messages count');

done_testing();
