# Exim and OpenSMTPD as nodes, where they are.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Exim;
use SMTPRelay::OpenSMTPD;

my %missing = (exim => scalar SMTPRelay::Exim->missing(),
               opensmtpd => scalar SMTPRelay::OpenSMTPD->missing());

if (!grep { !defined } values %missing) {
    my %reasons = reverse %missing;
    plan(skip_all => join ', ', sort keys %reasons);
}

# what each says, as far as they differ

my %nodes = (
    exim => {
        class => 'SMTPRelay::Exim',
        accepts => qr/^250(?: |-.* byte chunk, .*\n250 )OK id=\S+$/,
        connects => qr/SMTP connection from \S+ \(TCP/,
        unknown => '550 5.1.1 no such user here',
        elsewhere => '550 5.7.1 no relaying here',
    },
    opensmtpd => {
        class => 'SMTPRelay::OpenSMTPD',
        accepts => qr/^250 2\.0\.0 \w+ Message accepted for delivery$/,
        connects => qr/smtp connected address=127\.0\.0\.1/,
        unknown => qr/^524 5\.2\.4 .*<nobody\@d\.example>/,
        elsewhere => qr/^550 Invalid recipient: <x\@elsewhere\.invalid>/,
    },
);

my $t = SMTPRelay::Test->new();
$t->keys(user => 'secret');

for my $name (sort keys %nodes) {
    next if defined $missing{$name};

    my $node = $nodes{$name}{class}->new(dir => "$t->{dir}/$name",
                                         port => $t->port($name));
    push @{ $t->{daemons} }, $node;
    $nodes{$name}{node} = $node;
}

$t->start(<<'EOC');
stream {
    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;

    server {
        listen           127.0.0.1:%%PORT_to_exim%%;
        smtp_relay_pass  127.0.0.1:%%PORT_exim%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_opensmtpd%%;
        smtp_relay_pass  127.0.0.1:%%PORT_opensmtpd%%;
    }
}
EOC

# with these headers nobody has anything to add

my $dated = "Date: Mon, 1 Jun 2026 12:00:00 +0000\r\n"
            . "Message-ID: <test\@b.example>\r\n";

my @contents = map { "Subject: $_->[0]\r\n$dated\r\n$_->[1]" } (
    [ '1', "text\r\n" ],
    [ '2', '' ],
    [ '3', join '', map { '.' x $_ . "\r\n" } 1 .. 70 ],
    [ '4', join('', map { chr } 1 .. 9, 11, 12, 14 .. 255) . "\r\n" ],
    [ '5', join '', ('x' x 998 . "\r\n", '.' . 'y' x 997 . "\r\n") x 200 ],
    [ '6', "\r\n\r\n\r\n" ],
    [ '7', ".\r\n..\r\nFrom here\r\n>From there\r\n end \t \r\n" ],
);

for my $name (sort keys %nodes) {
    SKIP: {
        skip("$name: $missing{$name}", 1) if defined $missing{$name};
        content($name, $nodes{$name}{node});
        refusals($name);
        restart($name, $nodes{$name}{node});
    }
}

done_testing();


sub content {
    my ($name, $node) = @_;

    my @want;

    for my $how (qw/ DATA BDAT /) {
        my $c = $t->session("to_$name");

        for my $text (@contents) {
            (my $content = $text) =~ s/^(Subject: )/$1$how /;
            my $reply = $how eq 'DATA' ? data($c, $content)
                                       : bdat($c, $content);
            like($reply, $nodes{$name}{accepts},
                 "$name, $how: " . visible(substr $content, 9, 6));

            $content =~ s/\r\n/\n/g;
            push @want, $content;
        }

        $c->must('QUIT', '221');
    }

    @want = sort @want;
    my @got = $node->messages(scalar @want);
    is_deeply([ map { length() . ' ' . visible(substr $_, 0, 300) } @got ],
              [ map { length() . ' ' . visible(substr $_, 0, 300) } @want ],
              "$name: what is in the mailbox");
    ok(eq_array(\@got, \@want), "$name: octet for octet");

    # the first connection was to see whether it is up

    my $connects = () = $node->log() =~ /$nodes{$name}{connects}/g;
    is($connects, 2, "$name: one connection has carried all of it");

    return if $name ne 'exim';

    my $chunked = () = $node->log() =~ / <= .* K /g;
    is($chunked, scalar @contents, 'exim: BDAT is BDAT there, too');
    return;
}


# It refuses some of the recipients; the others get the message.

sub refusals {
    my ($name) = @_;

    my $node = $nodes{$name}{node};
    my $before = $node->messages(0);

    my $c = $t->session("to_$name");
    $c->must('MAIL FROM:<a@b.example>', '250');
    $c->try('RCPT TO:<nobody@d.example>', $nodes{$name}{unknown},
            "$name: unknown recipient");
    $c->try('RCPT TO:<x@elsewhere.invalid>', $nodes{$name}{elsewhere},
            "$name: another domain");
    $c->try('RCPT TO:<c@d.example>', '250', "$name: known recipient");
    $c->try('RCPT TO:<busy@d.example>', '451 4.2.1 mailbox is busy',
            "$name: recipient for later") if $name eq 'exim';

    $c->must('DATA', '354');
    $c->send("Subject: refusals\r\n\r\n.\r\n");
    $c->expect($nodes{$name}{accepts}, "$name: the message for the others");
    is(scalar $node->messages($before + 1), $before + 1,
       "$name: is delivered once");
    return;
}


# Its connections end with it; the client does not see that.

sub restart {
    my ($name, $node) = @_;

    my $before = $node->messages(0);
    my $c = $t->session("to_$name");

    # a server that is stopped between a delivery and its note of it would
    # deliver once more

    my $done = sub { scalar(() = $node->log() =~ /Completed$|result="?Ok/mg) };
    my $count = $done->();

    like(data($c, "Subject: before\r\n\r\n"), $nodes{$name}{accepts},
         "$name: before a restart");
    $node->messages($before + 1);
    ok(wait_until { $done->() > $count }, "$name: its delivery is noted");

    $node->stop();
    $node->start();
    like(data($c, "Subject: behind\r\n\r\n"), $nodes{$name}{accepts},
         "$name: after a restart");
    is(scalar $node->messages($before + 2), $before + 2,
       "$name: both are delivered");

    $node->stop();
    $c->try('MAIL FROM:<a@b.example>', '451 4.4.1', "$name: stopped");
    $node->start();
    like(data($c, "Subject: later\r\n\r\n"), $nodes{$name}{accepts},
         "$name: started again");
    is(scalar $node->messages($before + 3), $before + 3,
       "$name: is delivered, too");
    return;
}


sub data {
    my ($c, $content) = @_;

    $content =~ s/^\./../gm;
    $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\nDATA\r\n");
    $c->must(undef, $_) for '250', '250', '354';
    $c->send("$content.\r\n");
    return $c->reply();
}


sub bdat {
    my ($c, $content) = @_;

    my $first = substr $content, 0, length($content) / 2;
    my $second = substr $content, length $first;

    $c->send("MAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@d.example>\r\n"
             . 'BDAT ' . length($first) . "\r\n$first"
             . 'BDAT ' . length($second) . " LAST\r\n$second");
    $c->must(undef, '250') for 1 .. 3;
    return $c->reply();
}
