package SMTPRelay::Auth;

# A scripted HTTP auth service.
#
#     users   names and secrets that are OK; all others are denied
#     answer  code that gets a request and gives what to do:
#                 undef             as users say
#                 { header => .. }  200 with these headers
#                 [ code, { .. } ]  that status, these headers
#                 "HTTP/1.1 ..."    these octets
#                 ":close" ":reset" ":silent"
#                 { act => {..} }   an action of SMTPRelay::Daemon::act
#     tls     anything true: https, with what SMTPRelay::Daemon has for it
#
# A request is a hash: raw (its octets), line, headers (a hash, names in
# lower case), connection, number (on the connection), time.

use strict;
use warnings;

use parent 'SMTPRelay::Daemon';

use Storable ();
use Time::HiRes qw/ time /;

use SMTPRelay::Util qw/ wait_until spew /;

# --- in the test -------------------------------------------------------------

# The requests that came, by connections.

sub requests {
    my ($self) = @_;
    my @requests = map { Storable::retrieve($_) }
                   sort glob "$self->{dir}/request-*";
    return @requests;
}

# Waits until a request has been answered, to the last octet.

sub wait_replied {
    my ($self, $request) = @_;

    my $name = sprintf '%06d-%06d', @$request{qw/ connection number /};
    return wait_until { -e "$self->{dir}/replied-$name" };
}

sub wait_requests {
    my ($self, $number) = @_;

    my @requests;
    wait_until { @requests = $self->requests(); @requests >= $number };
    return @requests;
}

# --- in the process that serves a connection ---------------------------------

sub serve {
    my ($self, $socket, $number) = @_;

    my $c = { socket => $socket, number => $number, in => '', served => 0 };

    $self->start_tls($c) if $self->{tls};

    while (1) {
        $self->fill($c) until $c->{in} =~ /\r\n\r\n/;
        $c->{in} =~ s/^(.*?\r\n\r\n)//s;

        my $request = _parse($1);
        $self->note($c, '<', $request->{raw});

        $request->{connection} = $number;
        $request->{number} = ++$c->{served};

        my $name = sprintf '%06d-%06d', $number, $c->{served};
        Storable::nstore($request, "$self->{dir}/tmp-$name");
        rename "$self->{dir}/tmp-$name", "$self->{dir}/request-$name";

        $self->_reply($c, $request);
        spew("$self->{dir}/replied-$name", '');
    }
}

sub _parse {
    my ($raw) = @_;

    my ($line, @headers) = split /\r\n/, $raw;
    my %headers = map { /^([^:]+):\s*(.*)$/ ? (lc $1, $2) : () } @headers;

    return { raw => $raw, line => $line, headers => \%headers,
             time => time() };
}

sub _reply {
    my ($self, $c, $request) = @_;

    my $answer = $self->{answer} && $self->{answer}->($request);
    $answer //= $self->_verdict($request);

    if (ref $answer eq 'HASH' && $answer->{act}) {
        return $self->act($c, $answer->{act});
    }

    if (!ref $answer) {
        return $self->act($c, $answer =~ /^:/ ? $answer
                                              : { raw => $answer });
    }

    my ($code, $headers) = ref $answer eq 'ARRAY' ? @$answer
                                                  : (200, $answer);

    my $reply = "HTTP/1.1 $code Text\r\n"
        . join('', map { "$_: $headers->{$_}\r\n" } sort keys %$headers);
    $reply .= "Content-Length: 0\r\n"
        unless $code == 204 || grep { /^(content-length|transfer-)/i }
                               keys %$headers;

    $self->put($c, "$reply\r\n");
    $self->end('closed by script') if ($headers->{Connection} // '')
                                      eq 'close';
}

sub _verdict {
    my ($self, $request) = @_;

    my $user = $request->{headers}{'auth-user'} // '';
    my $secret = $request->{headers}{'auth-pass'} // '';
    my $known = $self->{users}{$user};

    return { 'Auth-Status' => 'OK' } if defined $known && $known eq $secret;
    return { 'Auth-Status' => 'Invalid login or password' };
}

1;
