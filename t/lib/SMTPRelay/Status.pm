package SMTPRelay::Status;

# Asks nginx over HTTP what it shows of the relay.
#
#     my $s = SMTPRelay::Status->new(port => $t->port('http'));
#     my $reply = $s->get('/status', Accept => 'text/html');
#         # code, headers (names in lower case), body
#     my $json = $s->json();       # of path, default: /status
#     my $metrics = $s->metrics(); # { 'name{label="value"}' => number }

use strict;
use warnings;

use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use JSON::PP ();

use SMTPRelay::Util qw/ patience /;

my $ROOT = abs_path(dirname(__FILE__) . '/../../..');

sub new {
    my ($class, %options) = @_;
    return bless { path => '/status', %options }, $class;
}

sub request {
    my ($self, $octets) = @_;

    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $self->{port},
        Timeout => patience())
        or die "cannot connect to port $self->{port}: $!\n";

    local $SIG{ALRM} = sub { die "no reply over HTTP\n" };
    alarm patience();
    print {$socket} $octets;
    my $reply = do { local $/; <$socket> } // '';
    alarm 0;

    my ($head, $body) = split /\r\n\r\n/, $reply, 2;
    my ($line, @headers) = split /\r\n/, $head // '';
    my ($code) = ($line // '') =~ m!^HTTP/1\.1 (\d+)!;

    return {
        code => $code, body => $body // '',
        headers => { map { /^([^:]+):\s*(.*)$/ ? (lc $1, $2) : () }
                     @headers },
    };
}

sub get {
    my ($self, $path, %headers) = @_;

    my $method = delete $headers{method} // 'GET';
    my $lines = join '', map { "$_: $headers{$_}\r\n" } sort keys %headers;

    return $self->request("$method $path HTTP/1.1\r\nHost: localhost\r\n"
                          . "Connection: close\r\n$lines\r\n");
}

sub json {
    my ($self, $path) = @_;

    my $reply = $self->get($path // $self->{path},
                           Accept => 'application/json');
    return JSON::PP->new->utf8->decode($reply->{body});
}

sub text {
    my ($self, $path) = @_;
    return $self->get($path // $self->{path})->{body};
}

sub metrics {
    my ($self, $path) = @_;

    my %metrics;

    for my $line (split /\n/, $self->text($path)) {
        next if $line =~ /^#/;
        $line =~ /^(\S+?(?:\{.*\})?) (\S+)$/ or die "bad line \"$line\"\n";
        die "$1 is there twice\n" if exists $metrics{$1};
        $metrics{$1} = $2;
    }

    return \%metrics;
}

# A program of Debian's package prometheus, installed or unpacked; undef:
# there is none.

sub program {
    my ($name) = @_;

    my $packages = ($ENV{BUILD} // "$ROOT/build") . '/packages';

    my ($path) = grep { -x } (map { "$_/$name" } split /:/, $ENV{PATH}),
                             "$packages/prometheus/usr/bin/$name";
    return $path;
}

1;
