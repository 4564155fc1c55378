# Captures of regular expressions: those of a message are its own, those of
# the session are there for each of its messages.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
$t->keys(user => 'secret');

my %node = map { $_ => $t->node($_) } qw/ one two /;

$t->start(<<'EOC');
stream {
    map $smtp_relay_mail_from $group {
        ~^(\w+)@  $1;
    }

    map $smtp_relay_mail_from $name {
        ~^(?<who>\w+)@  $who;
    }

    log_format  message  "$smtp_relay_event $name $group";
    access_log  messages.log  message;

    upstream one { server  127.0.0.1:%%PORT_one%%; }
    upstream two { server  127.0.0.1:%%PORT_two%%; }

    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls   off;
        smtp_relay_auth_file  keys;
        smtp_relay_pass       $group;
    }
}
EOC

my $c = $t->session('smtp');

for my $from (qw/ one two two one one two /) {
    like($c->message("from $from\r\n", "$from\@a.example"), qr/^250/,
         "a message of $from");
}

for my $name (qw/ one two /) {
    is(join('', map { $_->{data} } $node{$name}->messages()),
       "from $name\r\n" x 3, "node $name has those of its sender");
}

$c->must('QUIT', '221');

is(join(', ', $t->wait_lines('messages.log', 7)),
   join(', ', (map { "message $_ $_" } qw/ one two two one one two /),
        'session - -') =~ s/- -$/ /r,
   'each log line has the captures of its message');

done_testing();
