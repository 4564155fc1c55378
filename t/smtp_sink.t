# smtp-sink of Postfix as a node, with the faults that it can do.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw/ sleep /;

my ($sink) = grep { -x } map { "$_/smtp-sink" } '/usr/sbin',
             split /:/, $ENV{PATH};
plan(skip_all => 'no smtp-sink') unless $sink;

my $t = SMTPRelay::Test->new();
my $good = $t->node('good');
$t->keys(user => 'secret');

# options, the reply to the first command that is not accepted ("" for none),
# and whether the other node has the message

my @cases = (
    [ none => [], '', 0 ],
    [ no_pipelining => ['-p'], '', 0 ],
    [ no_8bitmime => ['-8'], '', 0 ],
    [ no_status_codes => ['-E'], '', 0 ],
    [ slow => ['-w', '1'], '', 0 ],
    [ no_esmtp => ['-e'], '', 1 ],
    [ aborts => ['-A', '0'], '550', 0 ],
    (map {
        (my $name = $_) =~ s/^\.$/dot/;
        my $late = $_ eq '.';

        ([ "hangs_up_$name" => ['-q', $_], $late ? '451 4.4.2' : '', !$late ],
         [ "says_421_$name" => ['-Q', $_], $late ? '451 4.4.2' : '', !$late ],
         $_ eq 'ehlo'
         ? ([ "soft_$name" => ['-r', $_], '', 1 ],
            [ "hard_$name" => ['-f', $_], '', 1 ])
         : ([ "soft_$name" => ['-r', $_], '450', 0 ],
            [ "hard_$name" => ['-f', $_], '500', 0 ]))
    } qw/ ehlo mail rcpt data . /),
);

my @pids;
my $owner = $$;
END { kill 'KILL', @pids if @pids && $owner == $$ }

my $servers = '';

for my $case (@cases) {
    my ($name, $options) = @$case;
    my $address = 'inet:127.0.0.1:' . $t->port($name);

    defined(my $pid = fork()) or die "cannot fork: $!\n";

    if (!$pid) {
        SMTPRelay::Util::in_child();
        open STDOUT, '>>', "$t->{dir}/sink.out";
        open STDERR, '>>', "$t->{dir}/sink.out";
        { no warnings 'exec';
          exec $sink, '-4', $> == 0 ? ('-u', 'nobody') : (), @$options,
               $address, 64; }
        POSIX::_exit(127);
    }

    push @pids, $pid;

    $servers .= <<"EOC";
    upstream $name {
        server  127.0.0.1:%%PORT_$name%%  max_fails=0;
        server  127.0.0.1:%%PORT_good%%  backup;
    }

    server {
        listen           127.0.0.1:%%PORT_to_$name%%;
        smtp_relay_pass  $name;
    }
EOC
}

for my $case (@cases) {
    wait_until {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                              PeerPort => $t->port($case->[0]))
    } or die "smtp-sink did not start: ", $t->read('sink.out');
}

$t->start(<<"EOC");
stream {
    smtp_relay_hostname    relay.example;
    smtp_relay_starttls    off;
    smtp_relay_auth_file   keys;
    smtp_relay_max_errors  0;

$servers
}
EOC

for my $case (@cases) {
    my ($name, undef, $want, $other) = @$case;

    for my $how (qw/ steps flight /) {
        my $before = $good->count();
        my $c = $t->session("to_$name");

        for my $number (1 .. 2) {
            my ($no) = grep { !/^(250|354)/ } message($c, $how);

            is(substr($no // '', 0, length $want || 99), $want,
               "$name, $how: message $number") or diag($c->dialogue());
            $c->must('RSET', '250');
        }

        is($good->count() - $before, $other ? 2 : 0,
           "$name, $how: what the other node has");
        $c->try('QUIT', '221', "$name, $how: the session goes on");
    }
}

$t->stop();
done_testing();


sub message {
    my ($c, $how) = @_;

    my @commands = ('MAIL FROM:<a@b.example>', 'RCPT TO:<c@d.example>',
                    'DATA');
    my @replies;

    if ($how eq 'flight') {
        $c->send(join '', map { "$_\r\n" } @commands);
        @replies = map { $c->reply() } @commands;

    } else {
        for (@commands) {
            push @replies, $c->ask($_);
            last if $replies[-1] !~ /^(250|354)/;
        }
    }

    if ($replies[-1] =~ /^354/) {
        $c->send("Subject: x\r\n\r\n..text\r\n.\r\n");
        push @replies, $c->reply();
    }

    return @replies;
}
