# Replies of nodes that are more, or less, than a reply: whatever a node
# sends, and at whatever stage, the client gets one reply to each of its
# commands, made of whole lines, and nothing is acknowledged by octets that
# came before the message did.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

# what is no reply: CODE stands for the code that belongs there

my @broken = (
    "CODE ok\n", "CODE ok\r", "CODE ok\r\r\n", "CODE ok\n\r\n",
    "CODE ok\r \n", "CODE a\rCODE b\r\n", "CODE a\nCODE b\r\n",
    "CODE a\n\rCODE b\r\n", "CODE a\0b\r\n", "CODE \0\r\n", "CODE a\x7f\r\n",
    "CODE a\x1b[2Jb\r\n", "CODE a\x0bb\r\n", "CODE a\x0cb\r\n",
    "CODE-a\nCODE b\r\n", "CODE-a\rCODE b\r\n", "CODE-a\r\n\r\nCODE b\r\n",
    "CODE-a\r\n550 b\r\n", "CODE-a\r\n CODE b\r\n", "CODE-a\r\n.\r\n",
    "CODE-a\r\n\nCODE b\r\n", "CODE-a\r\r\nCODE b\r\n", "CODE-a\0\r\nCODE b\r\n",
    "\r\nCODE ok\r\n", "\nCODE ok\r\n", "\rCODE ok\r\n", " CODE ok\r\n",
    "\0CODE ok\r\n", "CODE\tok\r\n", "CODE.ok\r\n", "CODE0 ok\r\n",
    "\xef\xbb\xbfCODE ok\r\n", "-CODE ok\r\n", "+25 ok\r\n", "2 5 ok\r\n",
    "0x2 ok\r\n", "199 ok\r\n", "000 ok\r\n", "600 ok\r\n", "999 ok\r\n",
    "2\r\n50 ok\r\n", "ok\r\n", ".\r\n", "QUIT\r\n", "\r\n", "\n",
);

# more replies than there were commands

my @more = (
    "CODE ok\r\nCODE ok\r\n", "CODE ok\r\n250 ok\r\n354 go\r\n250 queued\r\n",
    "CODE ok\r\n250 2.0.0 Ok: queued as FAKE\r\n",
    "CODE ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n250 queued\r\n",
    "CODE ok\r\n421 4.3.2 bye\r\n", "CODE ok\r\n\r\n", "CODE ok\r\n\0",
    "CODE ok\r\n354 go\r\n250 2.0.0 Ok: queued as FAKE\r\n",
    "CODE-a\r\nCODE b\r\nCODE c\r\n",
);

my @stages = qw/ connect EHLO MAIL RCPT DATA BDAT eod /;
my %code = (connect => 220, DATA => 354);

# the test says by a file what comes at which stage

my %script = map {
    my $stage = $_;

    $stage => sub {
        my ($at, $octets) = split /:/, slurp("$dir/trick") // '', 2;
        return undef if !defined $at || $at ne $stage;
        return { raw => $octets, then => ':close' } if slurp("$dir/closes");
        return { raw => $octets };
    };
} @stages;

my $node = $t->node('node', script => \%script);

$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    log_format  line  '$smtp_relay_event $smtp_relay_message_status '
                      '"$smtp_relay_message_reply"';
    access_log  access.log  line;

    smtp_relay_hostname       relay.example;
    smtp_relay_starttls       off;
    smtp_relay_auth_file      keys;
    smtp_relay_max_errors     0;
    smtp_relay_reply_timeout  2s;
    smtp_relay_keepalive      0;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    # connections that are kept are no way for replies into other sessions

    server {
        listen                127.0.0.1:%%PORT_kept%%;
        smtp_relay_keepalive  8;
        smtp_relay_pass       127.0.0.1:%%PORT_node%%;
    }
}
EOC

my $c = $t->session('smtp');
my @said;

for my $stage (@stages) {
    my $bad = '';

    for my $trick (@broken) {
        for my $how (qw/ lockstep flight /) {
            $bad .= wrong($stage, $trick, $how, 1,
                          qr/^(?:4[35]\d|503|554 5\.5\.1) /);
        }
    }

    is($bad, '', "$stage: what is no reply");
}

# Replies that came before the command did acknowledge nothing.  The node
# sees all the octets of what it has acknowledged, FAKE is none of it.

for my $stage (grep { $_ ne 'eod' } @stages) {
    my $bad = '';

    for my $trick (@more) {
        for my $how (qw/ lockstep flight /) {
            my $before = $node->count();
            my $w = wrong($stage, $trick, $how, 0,
                          qr/^(?:250 2\.0\.0 Ok: queued as \d|4\d\d |503|554)/);

            $bad .= $w;
            $bad .= visible($trick) . ", $how: FAKE is told\n"
                if grep { /FAKE/ } @said[ 3 .. $#said ];
            $bad .= visible($trick) . ", $how: 250 for nothing\n"
                if $said[-1] =~ /^250/ && $node->count() == $before;
        }
    }

    is($bad, '', "$stage: more replies than commands");
}

# behind the reply to a message they are nobody's: the connection is not kept

for my $trick (@more) {
    $c = $t->session('kept');
    trick('eod', $trick, 0);
    my $first = $c->message("first\r\n", 'first@b.example');
    trick('', '', 0);

    my $d = $t->session('kept');
    my $before = $node->count();
    like($d->message("second\r\n", 'second@b.example'),
         qr/^250 2\.0\.0 Ok: queued as \d+-1$/,
         'in another session, behind ' . visible($trick))
        or diag($first);
    is($node->count(), $before + 1, 'which is the delivery of that message');
    $_->must('QUIT', '221') for $c, $d;
}

# whatever it was, the log has whole lines

$t->stop();
is(join("\n", grep { !/^(?:session|message) (?:\d{3}|-) "[ -~]*"$/ }
              $t->lines('access.log')), '', 'lines of access_log are whole');
unlike($t->read('error.log'), qr/[\0-\x08\x0b-\x1f\x7f]/,
       'no control character in the error log');
is(join("\n", grep { !/^\d{4}\/\d\d\/\d\d / } $t->lines('error.log')), '',
   'lines of the error log are whole');

done_testing();


sub trick {
    my ($stage, $octets, $closes) = @_;

    $octets =~ s/CODE/$code{$stage} \/\/ 250/ge;
    spew("$dir/trick", "$stage:$octets");
    spew("$dir/closes", $closes || '');
    return;
}


# What is wrong with the replies to a message when a node does that; those
# of a message that is not refused by the relay are as the last one has to be.

sub wrong {
    my ($stage, $trick, $how, $closes, $last) = @_;

    trick($stage, $trick, $closes);

    my $bdat = $stage eq 'BDAT';
    my @steps = ("MAIL FROM:<a\@b.example>\r\n", "RCPT TO:<c\@d.example>\r\n",
                 $bdat ? "BDAT 4\r\nabc\n" : "DATA\r\n",
                 $bdat ? "BDAT 6 LAST\r\ntext\r\n" : "text\r\n.\r\n");

    @said = ();

    if ($how eq 'flight') {
        $c->send(join '', @steps[0 .. 2]);
        push @said, $c->reply() for 0 .. 2;
    }

    for my $step (@steps[ scalar @said .. $#steps ]) {
        last if @said == 3 && !$bdat && $said[2] !~ /^354/;
        $c->send($step);
        push @said, $c->reply();
    }

    $c->send("RSET\r\nHELP\r\n");
    my @then = map { substr $c->reply(), 0, 3 } 1, 2;

    my ($no) = grep { !/^(?:250|354)[ -]/ } @said;
    my $end = $no // $said[-1];
    my $told = join ' | ', map { visible($_) } @said, @then;
    my $bad = '';

    $bad .= ', its end' if $end !~ $last;
    $bad .= ', in step' if "@then" ne '250 214';
    $bad .= ', octets' if "@said" =~ /[^ -~\n]/ || !$c->is_silent(0);

    if ($bad) {
        $c->close();
        $c = $t->session('smtp');
    }

    return $bad ? visible($trick) . " ($how$bad): $told\n" : '';
}
