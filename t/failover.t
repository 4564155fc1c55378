# A node dies at each point of a message.  Before content has gone to it
# another one takes over and the client sees nothing of it; after that the
# client is told to try again, and no second node is asked.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::FaultNode;

use IO::Socket::INET;
use Time::HiRes qw/ sleep time /;

my $t = SMTPRelay::Test->new();

my @PLAIN = qw/ 8BITMIME DSN ENHANCEDSTATUSCODES SIZE /;
my $CLOSING = { reply => '421 4.3.2 Shutting down', then => ':close' };

# all nodes know one recipient less

sub rcpt {
    my ($arg) = @_;
    return $arg =~ /nobody/ ? '550 5.1.1 No such user' : undef;
}

my %kinds = (close => ':close', reset => ':reset', hang => ':silent',
             421 => $CLOSING);

# what a node does at each stage, and which commands it has got then

my @stages = (
    [ greeting => sub { connect => $_[0] }, 0 ],
    [ ehlo => sub { EHLO => $_[0] }, 1 ],
    [ mail => sub { MAIL => $_[0] }, 2 ],
    [ first_rcpt => sub { my $fault = $_[0];
          return RCPT => sub { $_[0] =~ /first/ ? $fault : rcpt(@_) } }, 3 ],
    [ last_rcpt => sub { my $fault = $_[0];
          return RCPT => sub { $_[0] =~ /last/ ? $fault : rcpt(@_) } }, 5 ],
    [ data => sub { DATA => $_[0] }, 6 ],
    [ after_354 => sub { DATA => ref $_[0]
          ? { pieces => [ "354 Go on\r\n", "$_[0]{reply}\r\n" ],
              then => $_[0]{then} }
          : { reply => '354 Go on', then => $_[0] } }, 6 ],
    [ mid_data => undef, 6 ],
    [ after_dot => sub { eod => $_[0] }, 6 ],
);

my %good = (
    yes => $t->node('good_yes', script => { RCPT => \&rcpt }),
    no => $t->node('good_no', script => { RCPT => \&rcpt }, ehlo => \@PLAIN),
);

my (%nodes, @cases, $servers);

for my $stage (@stages) {
    my ($name, $script, $commands) = @$stage;

    for my $kind (sort keys %kinds) {

        # silence there is silence after the dot
        next if $name eq 'after_354' && $kind eq 'hang';

        for my $pipelining (qw/ yes no /) {
            my $case = join '_', $name, $kind, $pipelining;
            my $fault = $kinds{$kind};
            my %options = $pipelining eq 'no' ? (ehlo => \@PLAIN) : ();

            if ($script) {
                $options{script} = { RCPT => \&rcpt, $script->($fault) };

            } else {
                $options{script} = { RCPT => \&rcpt };
                $options{mid} = 2000;
                $options{fault} = ref $fault
                    ? { raw => "$fault->{reply}\r\n", then => $fault->{then} }
                    : $fault;
            }

            $nodes{$case} = $t->_daemon('SMTPRelay::FaultNode', $case,
                                        %options);
            push @cases, [ $case, $name, $kind, $pipelining, $commands ];
            $servers .= relay($case, [ $case, 'max_fails=0' ],
                              [ "good_$pipelining", 'backup' ]);
        }
    }
}

$servers .= relay($_, [ "${_}_port", 'max_fails=0' ], [ 'good_yes', 'backup' ])
    for qw/ refused full /;

# a queue that is full: the connection neither comes about nor fails

my $full = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1,
                                 LocalPort => $t->port('full_port'),
                                 ReuseAddr => 1)
    or die "cannot listen: $!\n";
my @filling = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                          PeerPort => $t->port('full_port'),
                                          Blocking => 0) } 1 .. 5;

# nodes for the rest

my %more = (
    at_rcpt => { RCPT => sub { $_[0] =~ /last/ ? ':close' : rcpt(@_) } },
    at_data => { RCPT => \&rcpt, DATA => ':close' },
    at_mail => { MAIL => ':close' },
    at_mail2 => { MAIL => ':reset' },
    at_rcpt2 => { RCPT => ':close' },
    slow_mail => { MAIL => { delay => 0.4, then => ':close' } },
    differs_rcpt => { RCPT => sub { $_[0] =~ /last/
                                    ? '550 5.1.1 Not here' : rcpt(@_) } },
    differs_mail => { MAIL => '451 4.3.0 Not now' },
    differs_data => { RCPT => \&rcpt, DATA => '554 5.6.0 No' },
    takes_nobody => {},
    once_rcpt => { RCPT => sub { $_[1] == 1 ? ':close' : undef } },
    once_data => { DATA => sub { $_[1] == 1 ? ':reset' : undef } },
    twice_data => { DATA => sub { $_[1] <= 2 ? ':reset' : undef } },
    dies_354 => { RCPT => \&rcpt, DATA => { reply => '354 Go on',
                                            then => ':close' } },
);

$nodes{$_} = $t->node($_, script => $more{$_}) for sort keys %more;
$nodes{no_8bit} = $t->node('no_8bit', ehlo => [ qw/ PIPELINING SIZE / ]);
$nodes{stuck} = $t->_daemon('SMTPRelay::FaultNode', 'stuck', mid => 2000,
                            fault => { hold => 'never' });
$nodes{bdat} = $t->_daemon('SMTPRelay::FaultNode', 'bdat', mid => 2000,
                           fault => ':close', ehlo => \@PLAIN);

my %groups = (
    three => [ 'at_rcpt', 'at_data', 'good_yes' ],
    tries_2 => [ 'at_mail', 'at_mail2', 'good_yes' ],
    tries_3 => [ 'at_mail', 'at_mail2', 'good_yes' ],
    off => [ 'at_mail', 'good_yes' ],
    timeout => [ 'slow_mail', 'good_yes' ],
    none_mail => [ 'at_mail', 'at_mail2' ],
    none_rcpt => [ 'at_rcpt', 'at_rcpt2' ],
    none_then_refused => [ 'at_rcpt', 'refused_port' ],
    other_rcpt => [ 'at_data', 'differs_rcpt', 'good_yes' ],
    other_mail => [ 'at_data', 'differs_mail', 'good_yes' ],
    other_data => [ 'dies_354', 'differs_data', 'good_yes' ],
    other_rcpt_354 => [ 'dies_354', 'differs_rcpt', 'good_yes' ],
    other_8bit => [ 'at_data', 'no_8bit', 'good_yes' ],
    untold => [ 'at_rcpt', 'differs_rcpt' ],
    to_nobody => [ 'at_data', 'takes_nobody' ],
    once_rcpt => [ 'once_rcpt' ],
    once_data => [ 'once_data' ],
    twice_data => [ 'twice_data' ],
    to_stuck => [ 'stuck', 'good_yes' ],
    to_bdat => [ 'bdat', 'good_yes' ],
);

my %extra = (
    tries_2 => 'smtp_relay_next_upstream_tries  2;',
    tries_3 => 'smtp_relay_next_upstream_tries  3;',
    off => 'smtp_relay_next_upstream  off;',
    timeout => 'smtp_relay_next_upstream_timeout  200ms;',
    to_stuck => 'smtp_relay_reply_timeout  500ms;',
);

# the first one of a group is asked first, the others in order: weights

for my $group (sort keys %groups) {
    my @servers = @{ $groups{$group} };
    my $weight = 10 ** @servers;
    $servers .= relay("g_$group",
                      (map { [ $_, 'max_fails=0 weight='
                               . ($weight /= 10) ] } @servers),
                      $extra{$group} // '');
}

$t->keys(user => 'secret');

$t->start(<<"EOC");
stream {
    log_format  message  "\$smtp_relay_event \$smtp_relay_mail_from "
                         "\$smtp_relay_message_status \$upstream_addr";
    access_log  access.log  message;

    smtp_relay_hostname         relay.example;
    smtp_relay_starttls         off;
    smtp_relay_auth_file        keys;
    smtp_relay_max_errors       0;
    smtp_relay_keepalive        0;
    smtp_relay_connect_timeout  @{[ int(400 * factor()) ]}ms;

$servers
}
EOC

my $BODY = join '', "Subject: x\r\n\r\n", map { "..line $_ of it\r\n" } 1 .. 300;
(my $CONTENT = $BODY) =~ s/^\.\././gm;
my @ENVELOPE = qw/ first@d.example nobody@d.example last@d.example /;

# every stage, by commands one after the other and in one flight

for my $case ([ 'refused', 'connect', 'refused', 'yes', 0 ],
              [ 'full', 'connect', 'hang', 'yes', 0 ], @cases)
{
    my ($name, $stage, $kind, $pipelining, $commands) = @$case;

    for my $how (qw/ steps flight bdat /) {
        my $node = $nodes{$name};
        my $good = $good{$pipelining};
        my $before = $good->connections();
        my $late = $stage eq 'mid_data' || $stage eq 'after_dot';
        my $id = "$name-$how\@b.example";
        my @sequence = qw/ EHLO MAIL RCPT:first RCPT:nobody RCPT:last DATA /;

        if ($how eq 'bdat') {
            # content goes at once, or there is no DATA to fail
            next if $stage eq 'after_354';
            next if $stage eq 'data' && $pipelining eq 'yes';

            # these offer CHUNKING, too
            $sequence[-1] = 'BDAT' if $pipelining eq 'yes';
        }

        my $c = $t->session("to_$name");
        my @replies = transaction($c, $how, $id, sub {
            # another node has taken over before content comes
            $good->wait_command(qr/^DATA/, $before + 1)
                if $stage eq 'after_354';
        });

        my $codes = join ' ', map { /^(\d+ \d\.\d\.\d|\d+)/ ? $1 : $_ } @replies;
        is($codes, '250 2.1.0 250 2.1.5 550 5.1.1 250 2.1.5 '
                   . ($how eq 'bdat' ? '' : '354 ') . ($late ? '451 4.4.2' : '250 2.0.0'),
           "$name, $how: what the client saw")
            or diag($c->dialogue());

        $c->try('NOOP', '250', "$name, $how: the session goes on");
        $c->close();

        my @seen = map { $_->connections() } $node // ();
        my @commands = $node ? commands($node, $seen[0]) : ();

        # in one flight more may have been read by the node than it answers
        is(join(' ', @commands[0 .. $commands - 1]),
           join(' ', @sequence[0 .. $commands - 1]),
           "$name, $how: what the node saw") if $node;
        is($node ? $node->count() : 0, 0,
           "$name, $how: the node has acknowledged nothing");

        if ($late) {
            is($good->connections(), $before,
               "$name, $how: no second node");
            next;
        }

        is($good->connections(), $before + 1, "$name, $how: one other node");

        my $told = $stage =~ /^(last_rcpt|data|after_354)$/;
        my $saw = join ' ', grep { $_ ne 'QUIT' } commands($good, $before + 1);
        $saw =~ s/( BDAT)+$/ BDAT/;
        is($saw, join(' ', grep { !$told || $_ ne 'RCPT:nobody' } @sequence),
           "$name, $how: what the other node saw");

        my @got = grep { $_->{mail} =~ /<\Q$id\E>/ } $good->messages();
        is(scalar @got, 1, "$name, $how: one delivery");
        is($got[0]{data}, $CONTENT, "$name, $how: content");
        is("@{ $got[0]{rcpt} }",
           'TO:<first@d.example> TO:<last@d.example>',
           "$name, $how: recipients");
    }
}

# more than one in a message

my $good = $good{yes};
my $c = $t->session('to_g_three');
my $number = $good->count();
like((transaction($c, 'steps', 'three@b.example'))[-1], qr/^250/,
     'two nodes that die in one message');
is($good->count(), $number + 1, 'the third has it');
is(join(' ', grep { $_ ne 'QUIT' } commands($good, $good->connections())),
   'EHLO MAIL RCPT:first RCPT:last DATA', 'with its envelope')
    if $good->ended($good->connections());

# bounds

for my $group (qw/ tries_2 off timeout none_mail /) {
    for my $how (qw/ steps flight /) {
        my $before = $good->connections();
        $c = $t->session("to_g_$group");
        my @replies = transaction($c, $how, "$group\@b.example");
        like($replies[0], qr/^451 4\.4\.1 /, "$group, $how: MAIL is refused");
        ok(!(grep { !/^(451 4\.4\.1|503 5\.5\.1) / } @replies),
           "$group, $how: and all behind it") or diag($c->dialogue());
        $c->try('NOOP', '250', "$group, $how: the session goes on");
        $c->try('MAIL FROM:<x@b.example>', '451 4.4.1',
                "$group, $how: the next message");
        is($good->connections(), $before, "$group, $how: no other node")
            if $group ne 'none_mail';
    }
}

$number = $good->count();
$c = $t->session('to_g_tries_3');
like((transaction($c, 'steps', 'tries3@b.example'))[-1], qr/^250/,
     'as many tries as allowed');
is($good->count(), $number + 1, 'the last one has it');

# no node is left when MAIL is accepted already

for my $group (qw/ none_rcpt none_then_refused /) {
    $c = $t->session("to_g_$group");
    $c->try('MAIL FROM:<a@b.example>', '250', "$group: MAIL");

    if ($group eq 'none_then_refused') {
        $c->try('RCPT TO:<first@d.example>', '250', "$group: first RCPT");
    }

    $c->try('RCPT TO:<last@d.example>', '451 4.4.1', "$group: RCPT");
    like($c->ask('DATA'), qr/^(451 4\.4\.\d|503 5\.5\.1) /, "$group: DATA");
    $c->try('RSET', '250', "$group: RSET");
    $c->try('MAIL FROM:<a@b.example>', '250', "$group: MAIL again");
}

# a node that contradicts what the client was told

for my $group (qw/ other_rcpt other_mail other_8bit /) {
    my $node = $nodes{ $groups{$group}[1] };
    my $before = $good->connections();

    $c = $t->session("to_g_$group");
    $c->try('MAIL FROM:<a@b.example>'
            . ($group eq 'other_8bit' ? ' BODY=8BITMIME' : ''), '250',
            "$group: MAIL");
    $c->try("RCPT TO:<$_>", /nobody/ ? '550' : '250', "$group: RCPT <$_>")
        for @ENVELOPE;
    $c->try('DATA', '451 4.4.2', "$group: DATA");
    $c->try('NOOP', '250', "$group: the session goes on");
    $c->try('RSET', '250', "$group: RSET");
    $c->try('MAIL FROM:<a@b.example>', '250', "$group: MAIL");
    is($node->connections(), 1, "$group: the second node was asked");
    is(scalar $node->messages(), 0, "$group: but not given it");
    is($good->connections(), $before, "$group: nor is another one");
}

for my $group (qw/ other_data other_rcpt_354 /) {
    my $node = $nodes{ $groups{$group}[1] };
    my $before = $node->connections();

    $c = $t->session("to_g_$group");
    my @replies = transaction($c, 'steps', 'a@b.example', sub {
        $node->wait_command($group eq 'other_data' ? qr/^DATA/ : qr/last/,
                            $before + 1);
    });
    is(join(' ', map { substr $_, 0, 9 } @replies[4 .. $#replies]),
       '354 Go on 451 4.4.2', "$group: after 354")
        or diag($c->dialogue());
    $c->try('NOOP', '250', "$group: the session goes on");
    is($node->count(), 0, "$group: nothing is delivered");
}

# of what the client was not told yet the last node decides

$c = $t->session('to_g_untold');
$c->try('MAIL FROM:<a@b.example>', '250', 'untold: MAIL');
$c->try('RCPT TO:<first@d.example>', '250', 'untold: RCPT');
$c->try('RCPT TO:<last@d.example>', '550 5.1.1 Not here', 'untold: last RCPT');
$c->must('DATA', '354');
$c->send("x\r\n.\r\n");
$c->expect('250', 'untold: message');
is("@{ ($nodes{differs_rcpt}->messages())[-1]{rcpt} }",
   'TO:<first@d.example>', 'untold: recipients');

# a recipient that was refused is not offered to a node that would take it

$c = $t->session('to_g_to_nobody');
like((transaction($c, 'flight', 'a@b.example'))[-1], qr/^250/,
     'to a node that takes all');
is("@{ ($nodes{takes_nobody}->messages())[-1]{rcpt} }",
   'TO:<first@d.example> TO:<last@d.example>',
   'recipients as the client was told');

# the only node there is, which comes back at once

for my $group (qw/ once_rcpt once_data /) {
    my $node = $nodes{$group};

    $c = $t->session("to_g_$group");
    is($c->message("x\r\n", 'a@b.example', 'c@d.example', 'e@f.example')
       =~ /^(250) / && $1, 250, "$group: the only node is asked again");
    is($node->connections(), 2, "$group: once");
    is($node->count(), 1, "$group: one delivery");
}

$c = $t->session('to_g_twice_data');
$c->envelope('a@b.example', 'c@d.example');
$c->try('DATA', qr/^451 4\.4\.[12] /, 'twice_data: but not for ever');
is($nodes{twice_data}->connections(), 2, 'twice_data: asked twice');
$c->try('RSET', '250', 'twice_data: the session goes on');
is($c->message("x\r\n") =~ /^(250) / && $1, 250, 'twice_data: next message');

# a node that stops to read

$number = $good->connections();
$c = $t->session('to_g_to_stuck');
$c->envelope('a@b.example', 'c@d.example')->must('DATA', '354');
ok($c->send(("x" x 998 . "\r\n") x 12000), 'a node stops to read: data is taken');
$c->send(".\r\n");
$c->expect('451 4.4.2', 'a node stops to read: the client is told');
$c->try('NOOP', '250', 'a node stops to read: the session goes on');
is($good->connections(), $number, 'a node stops to read: no second node');

# between the chunks of a message

$c = $t->session('to_g_to_bdat');
$c->envelope('a@b.example', 'c@d.example');
$c->send("BDAT 3000\r\n" . "x" x 2998 . "\r\n");
my $first = $c->reply();
$nodes{bdat}->ended(1);
sleep(0.05);

if ($first =~ /^250/) {
    $c->send("BDAT 1000 LAST\r\n" . "y" x 998 . "\r\n");
    $c->expect('451 4.4.2', 'BDAT: the second chunk is refused');

} else {
    like($first, qr/^451 4\.4\.2/, 'BDAT: the first chunk is refused');
}

$c->try('NOOP', '250', 'BDAT: the session goes on');
is($good->connections(), $number, 'BDAT: no second node');

# many messages in one flight, through nodes that die

for my $group (qw/ three none_rcpt /) {
    for my $quit ('NOOP', 'QUIT') {
        my $count = $good->count() + $nodes{at_data}->count();

        $c = $t->session("to_g_$group");
        $c->send(join('', map {
            "MAIL FROM:<many\@b.example>\r\nRCPT TO:<last\@d.example>\r\n"
            . 'BDAT ' . length($CONTENT) . " LAST\r\n$CONTENT"
            . "RSET\r\n"
        } 1 .. 10) . "$quit\r\n");

        my @replies = map { substr $c->reply(), 0, 3 } 1 .. 41;
        my $want = $group eq 'three' ? '250 250 250 250 ' x 10
                                     : '250 451 451 250 ' x 10;
        is("@replies[0 .. 39]", $want =~ s/ $//r,
           "$group: a flight of ten messages, $quit")
            or diag($c->dialogue());
        is($replies[40], $quit eq 'QUIT' ? '221' : '250',
           "$group: and what is behind them, $quit");
        is($good->count() + $nodes{at_data}->count() - $count,
           $group eq 'three' ? 10 : 0,
           "$group: each is delivered once, $quit");
    }
}

# the log has a line for each message, with the nodes that were tried

$t->stop();
my @lines = $t->lines('access.log');
my ($line) = grep { /three\@/ } @lines;
is($line, 'message three@b.example 250 '
          . join(', ', map { '127.0.0.1:' . $t->port($_) }
                       @{ $groups{three} }), 'log: the nodes tried');
is(scalar(grep { /after_dot\S+ 250/ } @lines), 0,
   'log: what is not known to be delivered is not logged as 250');

done_testing();


# A server and its group.

sub relay {
    my ($name, @members) = @_;

    my $more = ref $members[-1] ? '' : pop @members;
    my $list = join "\n", map { "        server  127.0.0.1:%%PORT_$_->[0]%%"
                                . "  $_->[1];" } @members;
    my $wait = $name =~ /_hang_/ ? 'smtp_relay_reply_timeout  '
                                   . int(250 * factor()) . 'ms;' : '';

    return <<"EOC";
    upstream $name {
$list
    }

    server {
        listen  127.0.0.1:%%PORT_to_$name%%;
        smtp_relay_pass  $name;
        $more
        $wait
    }
EOC
}


# Sends a message; gives the replies to its commands.  When 354 came the
# code is called before content is sent.

sub transaction {
    my ($c, $how, $from, $code) = @_;

    my @commands = ("MAIL FROM:<$from>", (map { "RCPT TO:<$_>" } @ENVELOPE),
                    'DATA');
    my @replies;

    if ($how eq 'bdat') {
        $commands[-1] = 'BDAT ' . length($CONTENT) . ' LAST';
        $c->send(join('', map { "$_\r\n" } @commands) . $CONTENT);
        return map { $c->reply() } @commands;
    }

    if ($how eq 'flight') {
        $c->send(join '', map { "$_\r\n" } @commands);
        @replies = map { $c->reply() } @commands;

    } else {
        @replies = map { $c->ask($_) } @commands;
    }

    return @replies unless $replies[-1] =~ /^354/;

    $code->() if $code;
    $c->send("$BODY.\r\n");
    return @replies, $c->reply();
}


# What a node was told on a connection, in short.

sub commands {
    my ($node, $number) = @_;

    return map { /^RCPT TO:<(\w+)/ ? "RCPT:$1" : /^(\S+)/ ? $1 : $_ }
           $node->commands($number);
}
