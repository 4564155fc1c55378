# Many sessions with messages of all fates at the same time, over shared
# connections to nodes of which one comes and goes: each line has the values
# of one message, all of them, and there is one line for each.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use JSON::PP ();

my $t = SMTPRelay::Test->new();
my $json = JSON::PP->new()->utf8();

my %script = (
    MAIL => sub { $_[0] =~ /<m(\d+)-nomail/ ? "550 5.7.1 mail $1" : undef },
    RCPT => sub { $_[0] =~ /<r(\d+)-no/ ? "550 5.1.1 rcpt $1" : undef },
    eod => sub {
        my ($number, $fate) = $_[3]{mail} =~ /<m(\d+)-(\w+)/;
        return $fate eq 'spam' ? "554 5.7.1 eod $number"
             : $fate eq 'later' ? "451 4.7.1 eod $number"
             : "250 2.0.0 eod $number";
    },
);

$t->node('one', keep => 0, script => { %script });
$t->node('two', keep => 0, script => { %script });

$t->node('moody', keep => 0, script => {
    %script, MAIL => sub { $_[2] > 1 ? ':close' : $script{MAIL}->(@_) },
});

$t->keys(map { ("user$_" => 'secret') } 0 .. 9);

my $formats = "$FindBin::Bin/../docs/examples/log_format.conf";

$t->start(<<"EOC");
worker_processes  2;

stream {
    include     $formats;
    log_format  mapped  escape=json
        '{"from":"\$smtp_relay_mail_from","number":"\$number",'
        '"event":"\$smtp_relay_event"}';

    # of each message anew, also where it is used before the log
    map \$smtp_relay_mail_from \$number {
        "~^m(?<n>\\d+)-"  \$n;
        default          none;
    }

    access_log  all.json     smtp_relay_json;
    access_log  mapped.json  mapped;

    upstream nodes {
        zone    nodes 64k;
        server  127.0.0.1:%%PORT_one%%    max_fails=0;
        server  127.0.0.1:%%PORT_two%%    max_fails=0;
        server  127.0.0.1:%%PORT_moody%%  max_fails=0;
    }

    server {
        listen                 127.0.0.1:%%PORT_smtp%%;
        smtp_relay_starttls    off;
        smtp_relay_auth_file   keys;
        smtp_relay_add_header  X-Number  \$number;
        smtp_relay_pass        nodes;
    }
}
EOC

my @fates = qw/ fine spam later nomail norcpt somercpt reset /;
my (@c, @busy, %expected);

for my $i (0 .. 9) {
    my $c = $t->greeted('smtp');
    $c->login("user$i", 'secret');
    push @c, $c;
}

# each round puts a message into each session, a piece at a time

my $number = 0;

for my $round (1 .. 15) {
    my @m = map {
        my $fate = $fates[($round * 3 + $_ * 5) % @fates];
        { c => $c[$_], i => $_, n => ++$number, fate => $fate,
          data => 'x' x (10 + $number) . "\r\n" };
    } 0 .. $#c;

    $_->{c}->line("MAIL FROM:<m$_->{n}-$_->{fate}\@b.example>") for @m;
    $_->{mail} = $_->{c}->reply() for @m;

    my @open = grep { $_->{mail} =~ /^250/ } @m;

    $_->{c}->line("RCPT TO:<r$_->{n}-"
                  . ($_->{fate} =~ /rcpt/ ? 'no' : 'yes') . '@d.example>')
        for @open;
    $_->{c}->reply() for @open;

    @open = grep { $_->{fate} ne 'norcpt' } @open;

    $_->{c}->line("RCPT TO:<r$_->{n}-yes2\@d.example>") for @open;
    $_->{c}->reply() for @open;

    @open = grep { $_->{fate} ne 'reset' } @open;

    $_->{c}->line('DATA') for @open;
    $_->{c}->reply() for @open;
    $_->{c}->send($_->{data} . ".\r\n") for reverse @open;
    $_->{end} = $_->{c}->reply() for @open;

    my @rest = grep { !$_->{end} && $_->{mail} =~ /^250/ } @m;

    $_->{c}->line('RSET') for @rest;
    $_->{c}->reply() for @rest;

    for my $m (@m) {
        my $final = $m->{end} ? $m->{end}
                  : $m->{fate} eq 'nomail' ? $m->{mail}
                  : $m->{fate} eq 'norcpt' ? "550 5.1.1 rcpt $m->{n}" : '';

        $expected{$m->{n}} = {
            from => "m$m->{n}-$m->{fate}\@b.example",
            account => "user$m->{i}",
            reply => $final,
            message_status => $final =~ /^(\d+)/ ? "$1" : '',
            size => $m->{end} ? length $m->{data} : 0,
            recipients => $m->{fate} =~ /^no/ ? 0
                          : $m->{fate} eq 'somercpt' ? 1 : 2,
            recipients_rejected => $m->{fate} =~ /rcpt/ ? 1 : 0,
            to => $m->{fate} eq 'nomail' ? ''
                  : "r$m->{n}-" . ($m->{fate} =~ /rcpt/ ? 'no' : 'yes')
                    . '@d.example',
        };
    }
}

$_->must('QUIT', '221') for @c;

my @lines = map { $json->decode($_) }
            $t->wait_lines('all.json', $number + @c);
my @messages = grep { $_->{event} eq 'message' } @lines;

is(scalar @messages, $number, 'a line for each message');
is(scalar @lines, $number + @c, 'and each session');

my (%seen, @wrong);

for my $m (@messages) {
    my ($n) = $m->{from} =~ /^m(\d+)-/;
    my $want = $expected{$n // 0} // {};

    $seen{$n // 0}++;

    # a node that was lost in between has been replaced, or is the reason
    next if $m->{reply} =~ /^451 4\.4\.[12] / && $want->{reply} =~ /^451 4\.4/;

    push @wrong, map { "$n: $_ is \"$m->{$_}\", not \"$want->{$_}\"" }
                 grep { $m->{$_} ne $want->{$_} } sort keys %$want;
}

is(join("\n", @wrong), '', 'each line has the values of its message');
is((grep { $_ != 1 } values %seen), 0, 'one line each');

my %trace = map { $_->{trace} => 1 } @messages;
is(scalar keys %trace, $number, 'trace ids are all different');

my %session = map { $_->{session} => $_ } grep { $_->{event} eq 'session' }
              @lines;
is(scalar keys %session, @c, 'sessions have ids of their own');

for my $id (keys %session) {
    my @own = grep { $_->{session} eq $id } @messages;
    my $accepted = grep { $_->{message_status} =~ /^2/ } @own;

    is($session{$id}{messages}, $accepted, 'messages of a session');
    is((grep { $_->{account} ne $session{$id}{account} } @own), 0,
       'and its account');
}

my @mapped = map { $json->decode($_) } $t->lines('mapped.json');
is((grep { $_->{from} !~ /^m\Q$_->{number}\E-/ }
    grep { $_->{event} eq 'message' } @mapped), 0,
   'what is mapped is of the message');
is((grep { $_->{number} ne 'none' }
    grep { $_->{event} eq 'session' } @mapped), 0, 'and not of a session');

done_testing();
