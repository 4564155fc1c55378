package SMTPRelay::Node;

# A scripted delivery node.  Without a script it is a plain, strict SMTP
# server that keeps what it gets.
#
#     ehlo    extensions it offers; default: PIPELINING 8BITMIME SMTPUTF8
#             CHUNKING DSN ENHANCEDSTATUSCODES SIZE
#     script  what it does at each stage: connect EHLO HELO MAIL RCPT DATA
#             BDAT eod RSET NOOP QUIT, and any other verb
#     keep    0: messages are counted only
#     delay   seconds before each reply
#     rcvbuf  size of its sockets' receive buffers; default: the system's
#     split   1: replies are sent octet by octet
#     tls     "on": TLS from the start; "starttls": it is offered
#     cert    name of its certificate; ca: file of a CA that clients need a
#             certificate of
#     auth    users and secrets; a client has to log in then
#     proxy   1: a header of the PROXY protocol is read first
#
# What it does is a reply, "250 2.1.0 Ok" (lines are separated by "\n", CRLF
# is put on), or an action (see SMTPRelay::Daemon::act; "reply" is a step
# like "raw"), or undef for the usual reply, or a list of these, one for each
# time the stage is reached on the connection, the last one for all further
# times, or code that is called with the command's argument, the number of
# the connection, how often the stage was reached on it, and the message so
# far (see messages()), and gives one of them.

use strict;
use warnings;

use parent 'SMTPRelay::Daemon';

use MIME::Base64 ();
use Storable ();
use Time::HiRes qw/ time sleep /;

use SMTPRelay::Util qw/ wait_until add_to slurp spew visible /;

my @EXTENSIONS = qw/
    PIPELINING 8BITMIME SMTPUTF8 CHUNKING DSN ENHANCEDSTATUSCODES SIZE
/;

# --- in the test -------------------------------------------------------------

# Messages for which the end of data came, whatever the answer was, in the
# order in which it came: hashes of
#
#     mail, rcpt  arguments of MAIL and of all accepted RCPT (a list)
#     data        content, dots taken off
#     how         DATA or BDAT
#     chunks      sizes of the BDAT chunks (a list)
#     accepted    1: the node said 2xx
#     connection  its number
#     time        when the end of data came

sub messages {
    my ($self) = @_;
    my @messages = sort { $a->{time} <=> $b->{time} }
                   map { Storable::retrieve($_) }
                   glob "$self->{dir}/message-*";
    return @messages;
}

# The one that came last.

sub last_message {
    my ($self) = @_;

    my $name = slurp("$self->{dir}/last") // return;
    return Storable::retrieve("$self->{dir}/$name");
}

# Waits until the node has accepted that many and gives all.

sub wait_messages {
    my ($self, $number) = @_;

    wait_until { $self->count() >= $number };
    return $self->messages();
}

# How many messages it accepted.

sub count {
    my ($self) = @_;
    return -s "$self->{dir}/accepted" || 0;
}

# Commands received, one line each, without the content of messages.

sub commands {
    my ($self, $number) = @_;

    my $text = slurp($self->_file($number // 1, 'commands')) // '';
    return split /\n/, $text;
}

# Waits until a command that matches has come on that connection.

sub wait_command {
    my ($self, $pattern, $number) = @_;

    return wait_until { scalar grep { $_ =~ $pattern }
                        $self->commands($number) };
}

# Waits until a connection is let go of: reset for another message, or ended.

sub released {
    my ($self, $number) = @_;

    return wait_until {
        -e $self->_file($number, 'end')
        || grep { /^(RSET|QUIT)/ } $self->commands($number);
    };
}

# Commands that came before the reply to the one in front of them.

sub pipelined {
    my ($self, $number) = @_;

    my $text = slurp($self->_file($number // 1, 'pipelined')) // '';
    return split /\n/, $text;
}

# The header of the PROXY protocol that a connection started with.

sub proxy_header {
    my ($self, $number) = @_;
    return slurp($self->_file($number // 1, 'proxy'));
}

# --- in the process that serves a connection ---------------------------------

sub serve {
    my ($self, $socket, $number) = @_;

    my $c = { socket => $socket, number => $number, in => '', seen => {},
              stored => 0 };

    $self->_read_proxy($c) if $self->{proxy};
    $self->_start_tls($c) if ($self->{tls} // '') eq 'on';

    $self->_answer($c, 'connect', '', '220 node.example ESMTP');

    while (1) {
        my $line = $self->_line($c);

        my ($verb, $arg) = $line =~ /^(\S*) ?(.*)$/s;
        $verb = uc $verb;

        add_to($self->_file($number, 'commands'), visible($line) . "\n");

        my $method = $self->can("_do_$verb") || '_other';
        $self->$method($c, $arg, $verb);
    }
}

# Octet by octet: what follows may be TLS.

sub _read_proxy {
    my ($self, $c) = @_;

    my $header = '';
    my $v2 = "\r\n\r\n\0\r\nQUIT\n";

    while (1) {
        sysread($c->{socket}, $header, 1, length $header)
            or $self->end('eof');

        if (substr($v2, 0, length $header) eq substr $header, 0, length $v2) {
            next if length $header < 16;
            last if length $header == 16 + unpack 'n', substr $header, 14, 2;

        } elsif ($header =~ /\n\z/) {
            last;
        }
    }

    spew($self->_file($c->{number}, 'proxy'), $header);
}

sub _start_tls {
    my ($self, $c) = @_;

    # what came in the clear is forgotten
    $c->{in} = '';

    $self->start_tls($c);
}

sub _line {
    my ($self, $c) = @_;

    $self->fill($c) until $c->{in} =~ /\n/;
    $c->{in} =~ s/^([^\n]*\n)//;
    my $line = $1;

    $self->note($c, '<', $line);

    # what is no line of SMTP shows in the list of commands
    $line =~ s/\r\n\z// or $line .= ' (bare LF)';

    return $line;
}

sub _answer {
    my ($self, $c, $stage, $arg, $usual) = @_;

    my $time = $c->{seen}{$stage}++;
    my $script = $self->{script}{$stage};

    $script = $script->($arg, $c->{number}, $time + 1, $c->{message})
        if ref $script eq 'CODE';
    $script = $script->[$time < @$script ? $time : -1]
        if ref $script eq 'ARRAY';

    my $action = $script // $usual;

    $action = $action =~ /^:/ ? { then => $action } : { reply => $action }
        unless ref $action;

    # an action that does not say what to send gives the usual reply
    $action = { reply => $usual, %$action }
        unless grep { defined $action->{$_} } qw/ reply raw pieces then /;

    if (defined $action->{reply}) {
        $action = { %$action, raw => join '', map { "$_\r\n" }
                                              split /\n/, $action->{reply} };
    }

    if ($self->{split} && defined $action->{raw}) {
        $action = { %$action, raw => undef,
                    pieces => [ split //, $action->{raw} ] };
    }

    sleep($self->{delay}) if $self->{delay};

    if ($stage ne 'connect' && $self->more($c)) {
        add_to($self->_file($c->{number}, 'pipelined'),
               "behind $stage\n");
    }

    my $sent = $self->act($c, $action);
    return $sent =~ /^([2-5])\d\d/ ? $1 : 0;
}

sub _do_EHLO {
    my ($self, $c, $arg) = @_;

    my @lines = ('node.example', @{ $self->{ehlo} // \@EXTENSIONS });

    push @lines, 'STARTTLS'
        if ($self->{tls} // '') eq 'starttls' && !$c->{tls};
    push @lines, 'AUTH ' . ($self->{mechanisms} // 'PLAIN LOGIN')
        if $self->{auth};

    my $last = pop @lines;

    delete $c->{message};
    $self->_answer($c, 'EHLO', $arg,
                   join "\n", (map { "250-$_" } @lines), "250 $last");
}

sub _do_HELO {
    my ($self, $c, $arg) = @_;

    delete $c->{message};
    $self->_answer($c, 'HELO', $arg, '250 node.example');
}

sub _do_MAIL {
    my ($self, $c, $arg) = @_;

    my $usual = $c->{message} ? '503 5.5.1 Nested MAIL'
              : $self->{auth} && !$c->{user} ? '530 5.7.0 AUTH is needed'
              : '250 2.1.0 Ok';

    if ($self->_answer($c, 'MAIL', $arg, $usual) == 2) {
        $c->{message} = { mail => $arg, rcpt => [], data => '',
                          how => 'DATA', chunks => [],
                          connection => $c->{number} };
    }
}

sub _do_RCPT {
    my ($self, $c, $arg) = @_;

    my $usual = $c->{message} ? '250 2.1.5 Ok' : '503 5.5.1 No MAIL';

    if ($self->_answer($c, 'RCPT', $arg, $usual) == 2 && $c->{message}) {
        push @{ $c->{message}{rcpt} }, $arg;
    }
}

sub _do_DATA {
    my ($self, $c, $arg) = @_;

    my $usual = !$c->{message} ? '503 5.5.1 No MAIL'
              : !@{ $c->{message}{rcpt} } ? '554 5.5.1 No valid recipients'
              : '354 End data with <CR><LF>.<CR><LF>';

    return unless $self->_answer($c, 'DATA', $arg, $usual) == 3;

    # a line end in front makes the start like any other line's
    $c->{in} = "\r\n$c->{in}";
    my $from = 0;
    my $at;

    while (($at = index $c->{in}, "\r\n.\r\n", $from) < 0) {
        $from = length($c->{in}) > 4 ? length($c->{in}) - 4 : 0;
        $self->fill($c);
    }

    my $content = substr $c->{in}, 2, $at;
    substr $c->{in}, 0, $at + 5, '';

    $self->note($c, '<', "$content.\r\n");

    $content =~ s/(\A|\r\n)\./$1/g;
    $c->{message}{data} = $content;
    $self->_store($c);
}

sub _do_BDAT {
    my ($self, $c, $arg) = @_;

    my ($size, $last) = $arg =~ /^(\d+)( LAST)?\s*$/i
        or return $self->_answer($c, 'BDAT', $arg, '501 5.5.4 Syntax');

    $self->fill($c) while length $c->{in} < $size;
    my $chunk = substr $c->{in}, 0, $size, '';
    $self->note($c, '<', $chunk);

    my $m = $c->{message};

    if (!$m || !@{ $m->{rcpt} }) {
        return $self->_answer($c, 'BDAT', $arg, '503 5.5.1 No recipients');
    }

    $m->{how} = 'BDAT';
    $m->{data} .= $chunk;
    push @{ $m->{chunks} }, $size;

    return $self->_store($c) if $last;
    $self->_answer($c, 'BDAT', $arg, "250 2.0.0 $size octets received");
}

sub _store {
    my ($self, $c) = @_;

    my $m = $c->{message};
    my $id = sprintf '%d-%d', $c->{number}, ++$c->{stored};

    # it is on the disk before the reply is out, as is fit for a node
    my $path;

    if ($self->{keep} // 1) {
        $path = sprintf 'message-%06d-%06d', $c->{number}, $c->{stored};
        $m->{accepted} = 1;
        $m->{time} = time();
        Storable::nstore($m, "$self->{dir}/tmp-$id");
        rename "$self->{dir}/tmp-$id", "$self->{dir}/$path";
        spew("$self->{dir}/last", $path);
    }

    # nor is it counted later
    local $c->{before} = sub {
        add_to("$self->{dir}/accepted", '.') if $_[0] =~ /^2/;
    };

    my $class = $self->_answer($c, 'eod', '', "250 2.0.0 Ok: queued as $id");
    delete $c->{message};

    if ($class != 2 && $path) {
        $m->{accepted} = 0;
        Storable::nstore($m, "$self->{dir}/tmp-$id");
        rename "$self->{dir}/tmp-$id", "$self->{dir}/$path";
    }
}

sub _do_RSET {
    my ($self, $c, $arg) = @_;

    delete $c->{message};
    $self->_answer($c, 'RSET', $arg, '250 2.0.0 Ok');
}

sub _do_NOOP {
    my ($self, $c, $arg) = @_;
    $self->_answer($c, 'NOOP', $arg, '250 2.0.0 Ok');
}

sub _do_QUIT {
    my ($self, $c, $arg) = @_;

    $self->_answer($c, 'QUIT', $arg, '221 2.0.0 Bye');
    $self->end('quit');
}

sub _do_STARTTLS {
    my ($self, $c, $arg) = @_;

    my $usual = ($self->{tls} // '') eq 'starttls' && !$c->{tls}
                ? '220 2.0.0 Go ahead' : '502 5.5.1 No STARTTLS';

    if ($self->_answer($c, 'STARTTLS', $arg, $usual) == 2) {
        delete $c->{message};
        $self->_start_tls($c);
    }
}

# A session begins anew then.

sub _do_XCLIENT {
    my ($self, $c, $arg) = @_;

    my $usual = $c->{message} ? '503 5.5.1 In a message'
                              : '220 node.example ESMTP';

    delete $c->{user} if $self->_answer($c, 'XCLIENT', $arg, $usual) == 2;
}

sub _do_AUTH {
    my ($self, $c, $arg) = @_;

    my ($mechanism, $initial) = split / /, $arg, 2;
    my @parts;

    if (!$self->{auth} || $c->{user}
        || ($self->{mechanisms} // 'PLAIN LOGIN') !~ /\b\Q$mechanism\E\b/)
    {
        return $self->_answer($c, 'AUTH', $arg, '503 5.5.1 No AUTH');
    }

    if ($mechanism eq 'PLAIN') {
        $initial //= $self->_challenge($c, '');
        (undef, @parts) = split /\0/, MIME::Base64::decode($initial), 3;

    } else {
        @parts = map { MIME::Base64::decode($self->_challenge($c, $_)) }
                 'VXNlcm5hbWU6', 'UGFzc3dvcmQ6';
    }

    my $known = $self->{auth}{$parts[0]};
    my $ok = defined $known && $known eq $parts[1];

    if ($self->_answer($c, 'AUTH', $arg, $ok ? '235 2.7.0 Welcome'
                                             : '535 5.7.8 No') == 2)
    {
        $c->{user} = $parts[0];
        add_to("$self->{dir}/logins", "$parts[0]\n");
    }
}

sub _challenge {
    my ($self, $c, $text) = @_;

    $self->put($c, "334 $text\r\n");
    return $self->_line($c);
}

sub _other {
    my ($self, $c, $arg, $verb) = @_;
    $self->_answer($c, $verb, $arg, '500 5.5.2 Unknown command');
}

1;
