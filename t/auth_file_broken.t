# smtp_relay_auth_file: files and lines that cannot be used.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new(
    expected_alerts => qr/\[emerg\] \d+#\d+: .*(?:cannot load|regular file)/);

$t->node('node');
mkdir $t->dir() . '/directory';

my $conf = <<'EOC';
stream {
    smtp_relay_starttls            off;
    smtp_relay_auth_file           FILE;
    smtp_relay_auth_failure_delay  0;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

# nginx -t

for (['directory', qr/is not a regular file/, 'a directory'],
     ['missing', qr/missing" failed/, 'a file that is not there'])
{
    my ($file, $reason, $name) = @$_;

    my ($status, $said) = $t->check_conf($conf =~ s/FILE/$file/r);
    isnt($status, 0, "$name is refused");
    like($said, $reason, "$name: why");
    like($said, qr/cannot load "\S*$file" for "smtp_relay_auth_file"/,
         "$name: for which directive");
}

# lines

my $hash = SMTPRelay::Test::sha256_key('secret');
my $other = SMTPRelay::Test::sha256_key('other');

spew($t->dir() . '/keys', join "\n",
     "user:$hash",
     "user:$other",
     "control:$hash:customer\t7",
     "empty:$hash:",
     'long:' . $hash . ':' . 'a' x 5000,
     "user2:$hash:customer-7",
     '');

$t->start($conf =~ s/FILE/keys/r);

is(login('user', 'secret'), '235', 'of two lines for an id the first counts');
is(login('user', 'other'), '535', 'not the second');
is(login('control', 'secret'), '535', 'an account with a control character');
is(login('long', 'secret'), '535', 'a line that is too long');
is(login('user2', 'secret'), '235', 'a line after broken ones');

for (['duplicate id', 2], ['invalid account', 3], ['too long line', 5]) {
    ok($t->wait_log(qr/$_->[0] in \S*keys:$_->[1], line skipped/),
       "line $_->[1]: $_->[0]");
}

# a file that was replaced by what is no file: what was known still serves

unlink $t->dir() . '/keys';
mkdir $t->dir() . '/keys';

my $denied = 0;

ok(wait_until {
    $denied++ if login('user', 'secret') eq '535';
    $t->log_lines(qr/keys" is not a regular file/);
}, 'a directory in place of the file is logged');

is($denied, 0, 'and denies nobody');

rmdir $t->dir() . '/keys';
spew($t->dir() . '/keys', "fresh:$hash\n");
ok(wait_until { login('fresh', 'secret') eq '235' }, 'the next file is taken');

done_testing();


# The code of the reply to AUTH, in a session of its own.

sub login {
    my ($user, $secret) = @_;

    my $c = $t->greeted('smtp');
    my ($code) = $c->ask('AUTH PLAIN ' . $c->plain($user, $secret)) =~ /^(\d+)/;
    return $code // '';
}
