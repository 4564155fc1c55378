# No secret is in a log or in the memory of the cache: neither those of
# clients, right and wrong, nor those for nodes, which come out of it again.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Secrets;
use SMTPRelay::Verdicts;

use MIME::Base64 qw/ encode_base64 /;

my $t = SMTPRelay::Test->new();
my $v = SMTPRelay::Verdicts->new($t);

my %secrets = (
    plain => 'Pl4in %secret%',
    login => 'L0gin-secret',
    wrong => 'Wr0ng-secret',
    token => 'T0ken.of.client',
    late => 'L4te-secret',
    node => 'N0de-secret-of-the-service',
    own => 'C1ients-own-secret',
);

my $node = $t->node('node', auth => {
    'at-node' => $secrets{node}, own => $secrets{own},
});

$t->start(<<'EOC', log_level => $t->has_debug() ? 'debug' : 'info');
worker_processes  2;

stream {
    log_format  login  "$smtp_relay_event $smtp_relay_user $smtp_relay_account "
                       "$smtp_relay_auth_http_x_note $smtp_relay_auth_http_auth_pass "
                       "$smtp_relay_auth_source";
    access_log  access.log  login;

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_methods        plain login xoauth2;
    smtp_relay_node_auth           pass;

    smtp_relay_auth_cache_zone     zone=verdicts:1m;
    smtp_relay_auth_cache          verdicts valid=1s invalid=1h stale=1h;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

$v->user('ann', "Auth-User: at-node\nAuth-Pass: $secrets{node}\n"
                . "Auth-Account: account-of-ann\nX-Note: note-of-ann\n"
                . 'Cache-Control: max-age=3600');
$v->user('own', "X-Note: note-of-own\nCache-Control: max-age=3600");
$v->user('late');
$v->user('bad', "Auth-Status: No such\nX-Note: note-of-bad");

# a node is told the secret of the reply, also when it comes from the cache

for my $source ('service', 'cache') {
    is(message('ann', $secrets{plain}), '250', "a message, $source");
    is(message('own', $secrets{own}), '250', "with the client's own, $source");
}

is($v->requests('ann'), 1, 'one of these logins was asked for');
is($v->requests('own'), 1, 'each');
is(scalar(grep { /^session \S+ \S+ \S+ - cache$/ }
          $t->wait_lines('access.log', 8)), 2, 'the others are from the cache');
like($node->dialogue(), qr/AUTH PLAIN \Q@{[ b64("\0at-node\0$secrets{node}") ]}/,
     'the node was told the secret of the reply');

# it does not come out with another secret

is($v->source('ann', 'smtp'), 'service', 'another secret of the client');

# all other ways to leave something behind

my $c = $t->greeted('smtp');
$c->must('AUTH LOGIN', '334');
$c->must(b64('own'), '334');
$c->must(b64($secrets{login}), '235');

$c = $t->greeted('smtp');
$c->must('AUTH XOAUTH2 ' . b64("user=ann\x01auth=Bearer $secrets{token}\x01\x01"),
         '235');

like($v->login('bad', 'smtp', $secrets{wrong}), qr/^535/, 'a denial') for 1, 2;
like($v->login('late', 'smtp', $secrets{late}), qr/^235/, 'a verdict');
$v->answer('500');
ok(wait_until {
    $v->login('late', 'smtp', $secrets{late});
    grep { /^session late .* stale$/ } $t->lines('access.log');
}, 'that becomes stale');

# what is written down, and all memory that the workers share

my %places = (
    'error.log' => $t->read('error.log'),
    'access.log' => $t->read('access.log'),
    'the zone' => process_memory(($t->workers())[0], qr/ rw-s /)
                  // die("no memory: $!\n"),
);

for my $note (qw/ note-of-ann account-of-ann note-of-own note-of-bad /) {
    cmp_ok(index($places{'the zone'}, $note), '>=', 0, "the zone has $note");
}

for my $place (sort keys %places) {
    for my $name (sort keys %secrets) {
        my %forms = secret_forms($secrets{$name});
        my @found = grep { index($places{$place}, $forms{$_}) >= 0 }
                    sort keys %forms;
        is("@found", '', "no secret of $name in $place");
    }
}

done_testing();


# A message in a session of its own: the code of the last reply.

sub message {
    my ($user, $secret) = @_;

    my $c = $t->session('smtp', user => $user, secret => $secret);
    my $reply = $c->message("Subject: x\r\n\r\nx\r\n");

    $c->ask('QUIT');
    return substr $reply, 0, 3;
}


sub b64 { return encode_base64($_[0], '') }
