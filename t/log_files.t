# What nginx's access_log can do works for messages as well: buffers, gzip,
# syslog, several logs at a time, and reopening.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use IO::Select;
use IO::Socket::INET;
use IO::Uncompress::Gunzip ();

my $t = SMTPRelay::Test->new();
my $node = $t->node('node', keep => 0);
$t->keys(user => 'secret');

my $syslog = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1')
    or die "no UDP socket: $!\n";
my $port = $syslog->sockport();

my $gzip = SMTPRelay::Test::version() =~ /--without-http_gzip|without-zlib/
           ? '' : 'access_log  all.gz  line  gzip=1 buffer=4k flush=1m;';

$t->start(<<"EOC");
stream {
    log_format  line  '\$smtp_relay_event \$smtp_relay_mail_from '
                      '\$smtp_relay_message_status \$smtp_relay_messages';

    access_log  plain.log  line;
    access_log  buffered.log  line  buffer=1m flush=1h;
    access_log  often.log  line  buffer=512 flush=1h;
    access_log  soon.log  line  buffer=1m flush=100ms;
    access_log  syslog:server=127.0.0.1:$port,tag=smtp,nohostname  line;
    access_log  \$smtp_relay_event.log  line;
    $gzip

    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }
}
EOC

my @want;
my @c = map { $t->session('smtp') } 1 .. 3;

for my $n (1 .. 30) {
    for my $i (0 .. $#c) {
        like($c[$i]->message("x\r\n", "m$n-$i\@b.example"), qr/^250/,
             "message $n") if $n == 1;
        $c[$i]->message("x\r\n", "m$n-$i\@b.example") if $n > 1;
        push @want, "message m$n-$i\@b.example 250 $n";
    }
}

my @plain = $t->wait_lines('plain.log', scalar @want);
is_deeply([ sort @plain ], [ sort @want ], 'a line for each message');

is($t->read('buffered.log'), '', 'a buffer holds lines back');
my @often = $t->lines('often.log');
cmp_ok(scalar @often, '>', 10, 'a full one lets them go');
ok((wait_until { (() = $t->lines('soon.log')) == @want }),
   'one that is flushed does so soon');

is_deeply([ sort $t->wait_lines('message.log', scalar @want) ],
          [ sort @want ], 'a name of a log with a variable');

for my $c (@c) {
    $c->must('QUIT', '221');
    push @want, 'session - - 30';
}

$t->stop();

is_deeply([ sort $t->lines($_) ], [ sort @want ], "$_ is complete in the end")
    for qw/ plain.log buffered.log often.log soon.log /;

is_deeply([ $t->lines('session.log') ], [ ('session - - 30') x 3 ],
          'sessions in a log of their own');

SKIP: {
    skip('nginx without gzip', 1) unless $gzip;

    my $text = '';
    IO::Uncompress::Gunzip::gunzip($t->dir() . '/all.gz', \$text,
                                   MultiStream => 1);
    is_deeply([ sort split /\n/, $text ], [ sort @want ],
              'gzip= is complete in the end');
}

my (@syslog, $datagram);
my $select = IO::Select->new($syslog);

while ($select->can_read(0)) {
    $syslog->recv($datagram, 4096) // last;
    push @syslog, $datagram =~ /^<\d+>.*? smtp: (.*)$/ ? $1 : "?$datagram";
}

is_deeply([ sort @syslog ], [ sort @want ], 'syslog gets each line');

done_testing();
