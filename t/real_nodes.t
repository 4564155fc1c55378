# Real mail servers as nodes, where they are installed.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Postfix;

my $missing = SMTPRelay::Postfix::missing();
plan(skip_all => $missing) if $missing;

my $t = SMTPRelay::Test->new();

my $postfix = SMTPRelay::Postfix->new(dir => "$t->{dir}/postfix",
                                      port => $t->port('postfix'));
push @{ $t->{daemons} }, $postfix;

my $plain = SMTPRelay::Postfix->new(dir => "$t->{dir}/plain",
    port => $t->port('plain'),
    main => 'smtpd_discard_ehlo_keywords = chunking, pipelining');
push @{ $t->{daemons} }, $plain;

$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;

    server {
        listen           127.0.0.1:%%PORT_to_postfix%%;
        smtp_relay_pass  127.0.0.1:%%PORT_postfix%%;
    }

    server {
        listen           127.0.0.1:%%PORT_to_plain%%;
        smtp_relay_pass  127.0.0.1:%%PORT_plain%%;
    }
}
EOC

my @contents = map { "Subject: $_->[0]\r\n\r\n$_->[1]" } (
    [ '1', "text\r\n" ],
    [ '2', '' ],
    [ '3', join '', map { '.' x $_ . "\r\n" } 1 .. 70 ],
    [ '4', "\xe4\xf6\xfc \xc3\xa4 8 bit\r\n" ],
    [ '5', join '', ('x' x 900 . "\r\n") x 400 ],
    [ '6', "\r\n\r\n\r\n" ],
);

for my $name (qw/ postfix plain /) {
    my $node = $name eq 'postfix' ? $postfix : $plain;
    my @want;

    for my $how (qw/ DATA BDAT /) {
        my $c = $t->session("to_$name");

        for my $text (@contents) {
            (my $content = $text) =~ s/^(Subject: )/$1$how /;
            my $reply = $how eq 'DATA' ? data($c, $content) : bdat($c, $content);
            like($reply, qr/^250 2\.0\.0 Ok: .*queued as \w+/,
                 "$name, $how: " . visible(substr $content, 9, 10));

            $content =~ s/\r\n/\n/g;
            push @want, $content;
        }

        $c->must('QUIT', '221');
    }

    my @got = $node->messages(scalar @want);
    is_deeply([ map { length() . ' ' . substr $_, 0, 300 } @got ],
              [ map { length() . ' ' . substr $_, 0, 300 } sort @want ],
              "$name: what is in the mailbox");
    ok(eq_array(\@got, [ sort @want ]), "$name: octet for octet");

    # the first connection was to see whether it is up

    my $connects = () = $node->log() =~ /smtpd\[\d+\]: connect from/g;
    is($connects, 2, "$name: one connection has carried all of it");

    # its refusals reach the client

    my $c = $t->session("to_$name");
    $c->must('MAIL FROM:<a@b.example>', '250');
    $c->try('RCPT TO:<nobody@d.example>', qr/^550 5\.1\.1 .*nobody\@d\.example/,
            "$name: unknown recipient");
    $c->try('RCPT TO:<x@elsewhere.invalid>', qr/^[245]\d\d \d\.\d\.\d /,
            "$name: another domain");
    $c->try('RCPT TO:<c@d.example>', '250', "$name: known recipient");
    $c->must('RSET', '250');

    # a restart between two messages

    like(data($c, "Subject: before\r\n\r\n"), qr/^250/, "$name: before a restart");
    $node->messages(@want + 1);
    $node->stop();
    $c->try('MAIL FROM:<a@b.example>', '451 4.4.1', "$name: stopped");
    $node->start();
    like(data($c, "Subject: behind\r\n\r\n"), qr/^250/, "$name: after a restart");
    is(scalar $node->messages(@want + 2), @want + 2, "$name: both are delivered");
}

done_testing();


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
