# Connections to nodes: kept after a message, found again, given up in time,
# and replaced without a word when they turn out dead.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::FaultNode;

use Time::HiRes qw/ sleep time /;

my $t = SMTPRelay::Test->new();

my $CLOSING = { reply => '421 4.3.2 Shutting down', then => ':close' };

# the second message on a connection meets the fault

my %second = (
    close_mail => { MAIL => [ undef, ':close' ] },
    reset_mail => { MAIL => [ undef, ':reset' ] },
    mail_421 => { MAIL => [ undef, $CLOSING ] },
    mail_421_open => { MAIL => [ undef, '421 4.3.2 Shutting down' ] },
    close_reply => { eod => { reply => '250 2.0.0 Ok', then => ':close' } },
    reset_reply => { eod => { reply => '250 2.0.0 Ok', then => ':reset' } },
);

my %idle = (
    idle_421 => { raw => "421 4.4.2 Idle too long\r\n", then => ':close',
                  delay => 0.1 },
    idle_250 => { raw => "250 2.0.0 What\r\n", delay => 0.1 },
    idle_octet => { raw => 'x', delay => 0.1 },
    idle_close => { then => ':close', delay => 0.1 },
    idle_reset => { then => ':reset', delay => 0.1 },
);

# what makes a connection unfit for another message

my %surprise = (
    early_octets => { eod => { raw => "250 2.0.0 Ok\r\n250 2.0.0 More\r\n" } },
    early_half => { eod => { raw => "250 2.0.0 Ok\r\n25" } },
    reset_550 => { RSET => '550 5.0.0 No' },
    reset_421 => { RSET => $CLOSING },
    reset_close => { RSET => ':close' },
    reset_silent => { RSET => ':silent' },
);

my %nodes;
my @one = qw/ one two three few brief bounded bounded2 bounded3 exit rset /;

$nodes{$_} = $t->node($_) for @one, 'restarts', 'unix_less', 'limited';
$nodes{$_} = $t->node($_, script => $second{$_}) for sort keys %second;
$nodes{$_} = $t->_daemon('SMTPRelay::FaultNode', $_, idle => $idle{$_})
    for sort keys %idle;
$nodes{$_} = $t->node($_, script => $surprise{$_}) for sort keys %surprise;
$nodes{rejects} = $t->node('rejects', script => {
    MAIL => sub { $_[0] =~ /no-mail/ ? '550 5.7.1 No' : undef },
    RCPT => sub { $_[0] =~ /no-rcpt/ ? '550 5.1.1 No' : undef },
    eod => [ '554 5.6.0 No', undef ],
});

# each ending of a message gives its place at the node back

$nodes{places} = $t->node('places', script => {
    (map {
        my $stage = $_;
        $stage => sub {
            my ($arg, undef, undef, $message) = @_;
            my $from = $stage eq 'MAIL' ? $arg : $message->{mail};

            return $from =~ /$stage-close/ ? ':close'
                 : $from =~ /$stage-reset/ ? ':reset'
                 : $from =~ /$stage-silent/ ? ':silent'
                 : $from =~ /$stage-421/ ? $CLOSING
                 : $from =~ /$stage-450/ ? '450 4.3.0 Later'
                 : $from =~ /$stage-odd/ ? { raw => "what\r\n" }
                 : undef;
        };
    } qw/ MAIL RCPT DATA eod /),
});

my %extra = (
    few => 'smtp_relay_keepalive_messages  3;',
    brief => 'smtp_relay_keepalive_timeout  300ms;',
    off => 'smtp_relay_keepalive  0;',
    reset_silent => 'smtp_relay_reply_timeout  300ms;',
);

my $servers = join '', map { <<"EOC" } @one, sort(keys %second, keys %idle,
    server {
        listen           127.0.0.1:%%PORT_to_$_%%;
        smtp_relay_pass  127.0.0.1:%%PORT_$_%%;
        @{[ $extra{$_} // '' ]}
    }
EOC
                                    keys %surprise), 'restarts', 'rejects';

# with "off" nothing but the same connection again is allowed

$servers .= join '', map { <<"EOC" } qw/ close_mail mail_421 /;
    server {
        listen           127.0.0.1:%%PORT_to_off_$_%%;
        smtp_relay_pass  127.0.0.1:%%PORT_$_%%;
        smtp_relay_next_upstream  off;
        smtp_relay_node_helo  off.example;
    }
EOC

$t->keys(user => 'secret');

$t->start(<<"EOC");
stream {
    log_format  message  "\$smtp_relay_event \$server_port "
                         "\$smtp_relay_message_status "
                         "reused=\$smtp_relay_node_reused "
                         "[\$upstream_addr]";
    access_log  access.log  message;

    smtp_relay_hostname   relay.example;
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;

    upstream three {
        server  127.0.0.1:%%PORT_one%%;
        server  127.0.0.1:%%PORT_two%%;
        server  127.0.0.1:%%PORT_three%%;
    }

    upstream bounded {
        server  127.0.0.1:%%PORT_bounded%%;
        server  127.0.0.1:%%PORT_bounded2%%;
        server  127.0.0.1:%%PORT_bounded3%%;
    }

    upstream limited {
        zone    limited 64k;
        server  127.0.0.1:%%PORT_limited%%  max_conns=1;
    }

    upstream places {
        zone    places 64k;
        server  127.0.0.1:%%PORT_places%%  max_conns=1  max_fails=0;
    }

$servers

    server {
        listen           127.0.0.1:%%PORT_to_places%%;
        smtp_relay_pass  places;
        smtp_relay_reply_timeout     @{[ int(900 * factor()) ]}ms;
        smtp_relay_data_timeout      @{[ int(900 * factor()) ]}ms;
        smtp_relay_max_message_size  1k;
        smtp_relay_bare_newline      reject;
        smtp_relay_max_errors        0;
    }

    server {
        listen           127.0.0.1:%%PORT_to_group%%;
        smtp_relay_pass  three;
    }

    server {
        listen           127.0.0.1:%%PORT_to_group_bounded%%;
        smtp_relay_pass  bounded;
        smtp_relay_keepalive  2;
    }

    server {
        listen           127.0.0.1:%%PORT_to_none%%;
        smtp_relay_pass  127.0.0.1:%%PORT_unix_less%%;
        smtp_relay_keepalive  0;
    }

    server {
        listen           127.0.0.1:%%PORT_to_limited%%;
        smtp_relay_pass  limited;
    }

    server {
        listen           127.0.0.1:%%PORT_to_other_helo%%;
        smtp_relay_pass  127.0.0.1:%%PORT_one%%;
        smtp_relay_node_helo  other.example;
    }
}
EOC

# one after the other, in one session and in several

deliver('to_one', 3);
deliver('to_one', 1) for 1 .. 3;
is($nodes{one}->count(), 6, 'six messages');
is($nodes{one}->connections(), 1, 'on one connection');
is(join(' ', map { /^(\S+)/ } $nodes{one}->commands(1)),
   join(' ', 'EHLO', ('MAIL RCPT DATA') x 6),
   'and nothing besides them is said on it');

# per node

deliver('to_group', 12);
is(join(' ', map { $nodes{$_}->count() } qw/ one two three /), '10 4 4',
   'messages go round the nodes of a group');
is(join(' ', map { $nodes{$_}->connections() } qw/ two three /), '1 1',
   'each has one connection');
cmp_ok($nodes{one}->connections(), '<=', 2, 'the first one, too');

# what makes a connection another one

my $number = $nodes{one}->connections();
deliver('to_other_helo', 2);
is($nodes{one}->connections(), $number + 1,
   'another EHLO name, another connection');
is(($nodes{one}->commands($number + 1))[0], 'EHLO other.example',
   'with that name');

# at the same time

my @c = map { $t->session('to_two') } 1 .. 3;
$_->envelope('a@b.example', 'c@d.example') for @c;
$_->must('DATA', '354') for @c;
$_->send("x\r\n.\r\n") for @c;
$_->must(undef, '250') for @c;
$number = $nodes{two}->connections();
deliver('to_two', 6);
is($nodes{two}->connections(), $number, 'three at the same time are kept');
$_->close() for @c;

# the bounds

deliver('to_few', 7);
is($nodes{few}->connections(), 3, 'keepalive_messages');
is($nodes{few}->ended(1), 'quit', 'keepalive_messages: ended by QUIT');
is(scalar(grep { /^MAIL/ } $nodes{few}->commands(1)), 3,
   'keepalive_messages: after as many as allowed');

deliver('to_brief', 2);
my $start = time();
is($nodes{brief}->ended(1), 'quit', 'keepalive_timeout: ended by QUIT');
cmp_ok(time() - $start, '>', 0.15, 'keepalive_timeout: not at once');
deliver('to_brief', 1);
is($nodes{brief}->connections(), 2, 'keepalive_timeout: then a new one');

deliver('to_none', 2);
is($nodes{unix_less}->connections(), 2, 'no keepalive: no reuse');
is($nodes{unix_less}->ended(1), 'quit', 'no keepalive: ended by QUIT');

deliver('to_group_bounded', 3);
is($nodes{bounded}->ended(1), 'quit', 'keepalive: the oldest one gives way');
deliver('to_group_bounded', 3);
ok(!-e $nodes{bounded3}->_file($nodes{bounded3}->connections(), 'end'),
   'keepalive: the last one stays');

# envelopes that come to nothing

my $c = $t->session('to_rset');
$c->envelope('a@b.example', 'c@d.example');
$c->must('RSET', '250');
ok($nodes{rset}->wait_command(qr/^RSET$/, 1), 'RSET: the node is told');
sleep(0.05);
$c->envelope('e@f.example', 'g@h.example');
$c->must('RSET', '250');
sleep(0.05);
is($c->message("x\r\n", 'i@j.example', 'k@l.example') =~ /^(\d+)/ && $1, 250,
   'RSET: a message behind it');
is($nodes{rset}->connections(), 1, 'RSET: on the same connection');
my ($message) = $nodes{rset}->messages();
is("$message->{mail} @{ $message->{rcpt} }",
   'FROM:<i@j.example> TO:<k@l.example>', 'RSET: with its own envelope only');

$c->envelope('a@b.example', 'c@d.example');
$c->close();
ok(wait_until { 3 == grep { /^RSET$/ } $nodes{rset}->commands(1) },
   'a client that goes: RSET');
sleep(0.05);
deliver('to_rset', 1);
is($nodes{rset}->connections(), 1, 'a client that goes: the connection stays');

$c = $t->session('to_rset');
$c->envelope('a@b.example', 'c@d.example')->must('DATA', '354');
$c->send("half of it\r\n");
sleep(0.05);
$c->close();
like($nodes{rset}->ended(1), qr/^(eof|reset)$/,
     'a client that goes in the middle of content: the connection is closed');
is($nodes{rset}->count(), 2, 'and nothing is delivered');
deliver('to_rset', 1);
is($nodes{rset}->connections(), 2, 'the next message has a new one');

# a rejection is no surprise

$c = $t->session('to_rejects');
$c->try('MAIL FROM:<no-mail@b.example>', '550', 'rejected MAIL');
sleep(0.05);
$c->must('MAIL FROM:<a@b.example>', '250');
$c->try('RCPT TO:<no-rcpt@d.example>', '550', 'rejected RCPT');
$c->must('RSET', '250');
sleep(0.05);
$c->envelope('a@b.example', 'c@d.example')->must('DATA', '354');
$c->send("x\r\n.\r\n");
$c->expect('554 5.6.0', 'rejected message');
sleep(0.05);
deliver('to_rejects', 1);
is($nodes{rejects}->connections(), 1, 'all that on one connection')
    or diag(join "\n", $nodes{rejects}->commands(1));

# connections that die

for my $name (sort keys %second) {
    deliver("to_$name", 1);

    # the end of an idle connection is seen, or not yet: both must do
    $nodes{$name}->ended(1) if $name =~ /_reply$/;

    $number = $nodes{$name}->count();
    deliver("to_$name", 1, $name);
    is($nodes{$name}->count(), $number + 1, "$name: delivered once");
    is($nodes{$name}->connections(), 2, "$name: on a new connection");
}

for my $name (qw/ close_mail mail_421 /) {
    $number = $nodes{$name}->connections();
    deliver("to_off_$name", 3, "$name, next_upstream off");
    is($nodes{$name}->connections(), $number + 3,
       "$name, next_upstream off: replaced all the same");
}

for my $name (sort keys %idle) {
    deliver("to_$name", 1, $name);
    $nodes{$name}->wait_connections(1);
    like($nodes{$name}->ended(1), qr/^(eof|reset|quit|.* by script)$/,
         "$name: an idle connection is closed");
    deliver("to_$name", 1, $name);
    is($nodes{$name}->connections(), 2, "$name: the next message has a new one");
    is($nodes{$name}->count(), 2, "$name: each is delivered once");
}

for my $name (sort keys %surprise) {

    if ($name =~ /^reset/) {
        $c = $t->session("to_$name");
        $c->envelope('a@b.example', 'c@d.example');
        $c->must('RSET', '250');
        deliver("to_$name", 1, $name);

    } else {
        deliver("to_$name", 1, $name);
    }

    like($nodes{$name}->ended(1), qr/^(eof|reset|.* by script)$/,
         "$name: the connection is closed");
    $number = $nodes{$name}->connections();
    deliver("to_$name", 1, $name);
    ok($number > 1 || $nodes{$name}->connections() > 1,
       "$name: the next message has another one");
    is($nodes{$name}->count(), 2, "$name: each is delivered once");
}

# a node that restarts

for my $round (1 .. 3) {
    deliver('to_restarts', 1, 'before a restart');
    $nodes{restarts}->stop();
    $nodes{restarts}->start();
    deliver('to_restarts', 1, 'after a restart');
}

is($nodes{restarts}->count(), 6, 'a node that restarts has each message once');

# while the client is in the middle of an envelope, too

deliver('to_restarts', 1);
$number = $nodes{restarts}->connections();
$c = $t->session('to_restarts');
$c->envelope('a@b.example', 'c@d.example');
$nodes{restarts}->stop();
$nodes{restarts}->start();
like($c->ask('RCPT TO:<e@f.example>'), qr/^(250|451 4\.4\.[12]) /,
     'a restart in an envelope');
$c->must('RSET', '250');
deliver('to_restarts', 1, 'and after it');

# max_conns is for connections in use

deliver('to_limited', 3);
is($nodes{limited}->connections(), 1, 'max_conns: an idle one does not count');
$c = $t->session('to_limited');
$c->envelope('a@b.example', 'c@d.example');
my $other = $t->session('to_limited');
$other->try('MAIL FROM:<a@b.example>', '451 4.4.1', 'max_conns: one in use does');
$c->must('RSET', '250');
deliver('to_limited', 2, 'max_conns: when it is free again');
$other->close();
$c->close();

# a place that is not given back would leave none

for my $stage (qw/ MAIL RCPT DATA eod /) {
    for my $fault (qw/ close reset silent 421 450 odd /) {
        $c = $t->session('to_places');
        my $reply = eval {
            $c->message("x\r\n", "$stage-$fault\@b.example");
        } // $@;
        like($reply, qr/(^|")45[01] 4/, "max_conns: $stage, $fault");
        $c->must('QUIT', '221');
        deliver('to_places', 1, "max_conns: after $stage, $fault");
    }
}

my %leave = (
    close => sub { $_[0]->close() },
    reset => sub { $_[0]->reset() },
    quit => sub { $_[0]->must('QUIT', '221') },
    rset => sub { $_[0]->must('RSET', '250') },
    ehlo => sub { $_[0]->must('EHLO again.example', '250') },
    wait => sub { $_[0]->drain(5) },
);

my %point = (
    MAIL => sub { $_[0]->must('MAIL FROM:<a@b.example>', '250') },
    RCPT => sub { $_[0]->envelope('a@b.example', 'c@d.example') },
    DATA => sub { $_[0]->envelope('a@b.example', 'c@d.example')
                       ->must('DATA', '354') },
    content => sub { $_[0]->envelope('a@b.example', 'c@d.example')
                          ->must('DATA', '354');
                     $_[0]->send("some text\r\n") },
    chunk => sub { $_[0]->envelope('a@b.example', 'c@d.example');
                   $_[0]->send("BDAT 5\r\ntext.");
                   $_[0]->must(undef, '250') },
    half => sub { $_[0]->envelope('a@b.example', 'c@d.example');
                  $_[0]->send("BDAT 50\r\ntext.") },
    end => sub { $_[0]->envelope('eod-silent@b.example', 'c@d.example')
                      ->must('DATA', '354');
                 $_[0]->send(".\r\n") },
);

for my $point (sort keys %point) {
    for my $leave (sort keys %leave) {

        # no commands within content, and no time-out without
        next if $leave =~ /quit|rset|ehlo/
                && $point =~ /DATA|content|half|end/;
        next if $leave eq 'wait' && $point =~ /MAIL|RCPT|chunk|end/;

        $c = $t->session('to_places');
        $point{$point}->($c);
        $leave{$leave}->($c);

        # the relay may see to it a moment later, and waits for an answer to
        # the end of data whether the client does or not
        sleep($point eq 'end' ? 1.1 * factor() : 0.02);
        deliver('to_places', 1, "max_conns: $leave after $point");
        $c->close();
    }
}

for my $content ("x" x 998 . "\r\nxx\r\n" x 100, "bare\nLF\r\n") {
    $c = $t->session('to_places');
    like($c->message($content), qr/^55[02] /, 'max_conns: bad content');
    deliver('to_places', 1, 'max_conns: after bad content');
}

# the log

my ($port) = map { $t->port("to_$_") } 'few';
is(join(' ', map { /(reused=\d)/ } grep { /^message $port / }
             $t->lines('access.log')),
   'reused=0 reused=1 reused=1 reused=0 reused=1 reused=1 reused=0',
   'log: $smtp_relay_node_reused');
ok(!$t->log_lines(qr/\[error\].*upstream: "127.0.0.1:@{[ $t->port('idle_close') ]}"/),
   'log: the end of an idle connection is no error');

# the end

deliver('to_exit', 1);
$t->reload();
is($nodes{exit}->ended(1), 'quit', 'on a reload idle ones are ended by QUIT');
deliver('to_exit', 1);
is($nodes{exit}->connections(), 2, 'the new worker has its own');
$t->stop();
is($nodes{exit}->ended(2), 'quit', 'at exit idle ones are ended by QUIT');
is(($nodes{exit}->commands(2))[-1], 'QUIT', 'as the last command');

done_testing();


sub deliver {
    my ($port, $number, $name) = @_;

    my $c = $t->session($port);

    for my $n (1 .. $number) {
        my $reply = eval { $c->message("message $n\r\n") } // $@;
        like($reply, qr/^250/, ($name // $port) . ": message $n");
    }

    $c->must('QUIT', '221');
    return;
}
