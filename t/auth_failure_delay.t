# smtp_relay_auth_failure_delay: a refused login waits for its answer, and
# holds next to nothing meanwhile.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ time /;

my $sessions = 150;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $auth = $t->auth_service('auth', users => { user => 'secret' });

$t->start(<<'EOC', log_level => 'notice');
stream {
    access_log  off;

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_failure_delay  6s;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

# one after the other: what a request takes for a moment is used by the next,
# and what adds up is what is held

my @clients = map { $t->greeted('smtp') } 1 .. $sessions;
deny($clients[0]);

my $start = time();
my $before = $t->memory();
deny($_) for @clients[1 .. $#clients];
my $each = ($t->memory() - $before) * 1024 / $#clients;

SKIP: {
    skip('memory figures mean nothing here', 1) if $t->is_instrumented();

    diag(sprintf 'a login that waits holds %d octets', $each);
    cmp_ok($each, '<=', 2048, 'octets that a login that waits holds');
}

ok($clients[1]->is_silent(0.2), 'the first of them still waits');

my $other = $t->session('smtp', user => 'user', secret => 'secret');
like($other->message("x\r\n"), qr/^250/, 'others do not wait');

$clients[2]->send("MAIL FROM:<a\@b.example>\r\nQUIT\r\n");
ok($clients[2]->is_silent(0.5), 'what is sent meanwhile waits, too');

# one that has gone is nobody's trouble

$clients[3]->close();

my @replies = map { $_->reply() } @clients[0, 1, 4 .. $#clients];
is(scalar(grep { $_ eq '535 5.7.8 Invalid login or password' } @replies),
   $sessions - 2, 'all of them are told in the end');
cmp_ok(time() - $start, '>=', 5.9, 'after the delay');

$clients[2]->expect('535', 'who went on, too');
$clients[2]->expect('530', 'then the next command');
$clients[2]->expect('221', 'and the last');

done_testing();


# A login that is refused, and waits.

sub deny {
    my ($c) = @_;

    my $number = requests();
    $c->line('AUTH PLAIN ' . $c->plain('user', 'wrong' x 50));
    wait_until { requests() > $number } or die "no request\n";
    return;
}

sub requests { return scalar(() = glob "$auth->{dir}/request-*") }
