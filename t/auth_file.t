# smtp_relay_auth_file: kinds of hashes, changes, broken lines.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Digest::SHA qw/ sha256 /;
use MIME::Base64 qw/ encode_base64 /;

my $t = SMTPRelay::Test->new();
$t->node('node');

my $b64 = sub { encode_base64($_[0], '') };

my %hashes = (
    sha256 => '{SHA256}' . $b64->(sha256('secret')),
    ssha256 => '{SSHA256}' . $b64->(sha256('secretsalt') . 'salt'),
    crypt5 => crypt('secret', '$5$saltsalt$'),
    crypt6 => crypt('secret', '$6$saltsalt$'),
);

spew($t->dir() . '/keys', join "\n",
    '# a comment',
    '',
    (map { "$_:$hashes{$_}" } sort keys %hashes),
    "account:$hashes{sha256}:customer-7",
    'no colon here',
    'user5:{UNKNOWN}abc',
    'user6:{SHA256}not base64!',
    'user7:',
    ":$hashes{sha256}",
    "crlf:$hashes{sha256}:crlf-account\r",
    "last:$hashes{sha256}");

$t->start(<<'EOC');
stream {
    log_format  login  "$smtp_relay_event $smtp_relay_user $smtp_relay_account "
                       "$smtp_relay_auth_status $smtp_relay_auth_source";
    access_log  access.log  login;

    smtp_relay_starttls            off;
    smtp_relay_auth_file           keys;
    smtp_relay_auth_failure_delay  0;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

for my $user (sort keys %hashes) {
    is(login($user, 'secret'), '235', "$user: the right secret");
    is(login($user, 'Secret'), '535', "$user: another secret");
    is(login($user, $hashes{$user}), '535', "$user: the hash as secret");
}

is(login('last', 'secret'), '235', 'a last line without line end');
is(login('account', 'secret'), '235', 'a line with an account');
is(login('crlf', 'secret'), '235', 'a line that ends in CRLF');
is(login('user5', 'abc'), '535', 'an unknown kind of hash');
is(login('user7', 'x'), '535', 'no hash');
is(login('# a comment', 'x'), '535', 'a comment is no user');

my @lines = $t->wait_lines('access.log', 3);
ok(scalar(grep { $_ eq 'session sha256 sha256 ok file' } @lines),
   'log: the account is the user if there is none');
ok(scalar(grep { $_ eq 'session account customer-7 ok file' } @lines),
   'log: the account of the file');
ok(scalar(grep { $_ eq 'session crlf crlf-account ok file' } @lines),
   'log: an account at the end of a line with CRLF');
ok(scalar(grep { $_ eq 'session sha256 sha256 denied file' }
          $t->wait_lines('access.log', 16))
   || scalar(grep { /^session sha256 \S+ denied/ } @lines),
   'log: denied');

# broken lines have their number in the log

for my $number (8, 9, 10, 11, 12) {
    ok($t->wait_log(qr/keys.*\b$number\b/), "line $number is broken: logged");
}

ok(!grep({ /keys.*[: ](?:1|2|3|7|13)\b(?!\d)/ && /\[(error|warn)\]/ }
         $t->lines('error.log')),
   'good lines, comments and empty lines are not');
unlike($t->read('error.log'), qr/not base64!|\{UNKNOWN\}abc/,
       'what stands in a broken line is not logged');

# changed

$t->keys(fresh => 'secret', sha256 => 'other');
ok(wait_until { login('fresh', 'secret') eq '235' }, 'a new user after a change');
is(login('sha256', 'other'), '235', 'a new secret');
is(login('sha256', 'secret'), '535', 'not the old one any more');
is(login('last', 'secret'), '535', 'a user who was taken out');

# in place, not by rename

open my $fh, '>', $t->dir() . '/keys' or die;
print $fh 'inplace:' . SMTPRelay::Test::sha256_key('secret') . "\n";
close $fh;
ok(wait_until { login('inplace', 'secret') eq '235' },
   'a file that was written in place');

# gone: what was known last still serves, or it is temporary; never a denial

unlink $t->dir() . '/keys';
sleep 2;
like(login('inplace', 'secret'), qr/^(235|454)$/,
     'a file that is gone denies nobody');
$t->keys(back => 'secret');
ok(wait_until { login('back', 'secret') eq '235' }, 'a file that is back');

done_testing();


# The code of the reply to AUTH, in a session of its own.

sub login {
    my ($user, $secret) = @_;

    my $c = $t->greeted('smtp');
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user, $secret));
    $c->ask('QUIT');

    return substr $reply, 0, 3;
}
