# A node that turns a message away while the last of it is still to be sent:
# its reply reaches the client, and an acceptance at that moment counts for
# nothing.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use File::Temp qw/ tempdir /;

plan(skip_all => 'a preloaded library does not go with sanitizers')
    if !$ENV{TEST_NGINX_VALGRIND}
       && SMTPRelay::Test::version() =~ /-fsanitize/;

my $dir = tempdir(CLEANUP => 1);
my $cc = $ENV{CC} || 'cc';

system("$cc -O2 -shared -fPIC -o $dir/small_sndbuf.so"
       . " $FindBin::Bin/fault/small_sndbuf.c -ldl 2>$dir/errors") == 0
    or plan(skip_all => "$cc: " . slurp("$dir/errors"));

$ENV{TEST_NGINX_PRELOAD} = join ' ', "$dir/small_sndbuf.so",
    $ENV{TEST_NGINX_PRELOAD} // ();

# to DATA it says "go on", reads nothing more, and speaks when it is told to

my %says = (
    full     => "552 5.2.2 Mailbox full\r\n",
    later    => "452-4.3.1 No room\r\n452 4.3.1 now\r\n",
    accepts  => "250 2.0.0 Ok: queued\r\n",
    closes   => "421 4.3.2 Going down\r\n",
);

my $t = SMTPRelay::Test->new();
my %node = map {
    ($_ => $t->node($_, rcvbuf => 2048, ehlo => [qw/ PIPELINING SIZE /],
        script => { DATA => {
            pieces => ["354 Go on\r\n", \'speak', $says{$_}],
            hold => 'never',
        } }));
} sort keys %says;
my $chunks = $t->node('chunks', rcvbuf => 2048, script => { RCPT => {
    pieces => ["250 2.1.5 Ok\r\n", \'speak', $says{full}],
    hold => 'never',
} });
$t->keys(user => 'secret');

$t->start(<<'EOC' . join('', map { <<"EOC" } sort(keys %says), 'chunks') . '}');
stream {
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    smtp_relay_keepalive   0;
EOC

    server {
        listen           127.0.0.1:%%PORT_to_$_%%;
        smtp_relay_pass  127.0.0.1:%%PORT_$_%%;
    }
EOC

my $content = "all of this is read by the relay\r\n" x 350;
my %want = (
    full    => '552 5.2.2 Mailbox full',
    later   => "452-4.3.1 No room\n452 4.3.1 now",
    accepts => '451 4.4.2 Delivery node lost',
    closes  => '451 4.4.2 Delivery node lost',
);

for my $name (sort keys %says) {
    my $c = $t->session("to_$name");
    $c->envelope('a@b.example', 'c@d.example');
    $c->must('DATA', '354');
    $c->send("$content.\r\n");

    ok(all_read("to_$name"), "$name: the end of data has been read");
    $node{$name}->open_gate('speak');
    $c->expect($want{$name}, "$name: the client's reply");
    is($node{$name}->count(), 0, "$name: nothing is delivered");
    $c->try('NOOP', '250', "$name: the session goes on");
}

my $c = $t->session('to_chunks');
$c->envelope('a@b.example', 'c@d.example');
$c->send('BDAT ' . length($content) . " LAST\r\n$content");
ok(all_read('to_chunks'), 'BDAT: the last octet has been read');
$chunks->open_gate('speak');
$c->expect($want{full}, "BDAT: the client's reply");
is($chunks->count(), 0, 'BDAT: nothing is delivered');
$c->try('NOOP', '250', 'BDAT: the session goes on');

done_testing();


# Waits until the relay has read all that clients have sent to a port.

sub all_read {
    my $port = sprintf '%04X', $t->port(shift);

    return wait_until {
        slurp('/proc/net/tcp')
            =~ /^\ *\d+:\ [0-9A-F]+:$port\ [0-9A-F]+:[0-9A-F]+\ 01
                \ [0-9A-F]+:0{8}\ /mx;
    };
}
