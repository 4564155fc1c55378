package SMTPRelay::Browser;

# Chromium without a window, told what to do over WebDriver.
#
#     my $b = SMTPRelay::Browser->new(dir => $t->dir());
#     $b->open('http://127.0.0.1:8080/');
#     my $title = $b->run('return document.title');
#     my @lines = $b->console();
#     my $png = $b->picture();

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP ();
use MIME::Base64 qw/ decode_base64 /;
use POSIX ();

use SMTPRelay::Util qw/ patience wait_until reserve_port is_child in_child /;

my @ARGUMENTS = qw/
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync
    --disable-dev-shm-usage --hide-scrollbars --disable-default-apps
    --disable-extensions --lang=en
/;

# Why it cannot be had, or nothing.

sub missing {
    for my $program (qw/ chromium chromedriver /) {
        return "no $program"
            unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
    }

    return;
}

sub new {
    my ($class, %options) = @_;

    my $self = bless {
        %options, port => reserve_port(), owner => $$,
        http => HTTP::Tiny->new(timeout => patience(30)),
    }, $class;

    my $dir = "$self->{dir}/browser";
    mkdir $dir;

    my $pid = fork() // die "cannot fork: $!\n";

    if ($pid == 0) {
        in_child();
        setpgrp;
        $ENV{TMPDIR} = $ENV{HOME} = $ENV{XDG_CONFIG_HOME} = $dir;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', "$dir/driver.log";
        open STDERR, '>&', \*STDOUT;
        exec 'chromedriver', "--port=$self->{port}" or POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    wait_until {
        my $status = eval { $self->_ask(GET => '/status') };
        $status && $status->{ready};
    } or die "chromedriver does not start\n";

    my $session = $self->_ask(POST => '/session', {
        capabilities => { alwaysMatch => {
            browserName => 'chrome',
            'goog:loggingPrefs' => { browser => 'ALL' },
            'goog:chromeOptions' => {
                args => [ @ARGUMENTS, "--user-data-dir=$dir/profile" ],
            },
        } },
    });

    $self->{session} = "/session/$session->{sessionId}";
    $self->screen(1440, 900);

    return $self;
}

sub DESTROY {
    my ($self) = @_;
    $self->close() if $self->{owner} == $$ && !is_child();
    return;
}

sub close {
    my ($self) = @_;

    local ($?, $@);
    eval { $self->_ask(DELETE => $self->{session}) } if $self->{session};
    $self->{session} = undef;

    my $pid = delete $self->{pid} or return;
    kill '-TERM', $pid;
    wait_until { waitpid($pid, POSIX::WNOHANG()) != 0 } 5
        or kill '-KILL', $pid;
    return;
}

sub _ask {
    my ($self, $method, $path, $body) = @_;

    my $reply = $self->{http}->request(
        $method, "http://127.0.0.1:$self->{port}$path",
        $body ? { content => JSON::PP::encode_json($body),
                  headers => { 'Content-Type' => 'application/json' } }
              : ());

    my $value = eval { JSON::PP::decode_json($reply->{content})->{value} };

    die "chromedriver: $method $path: $reply->{status} ",
        ref $value ? $value->{message} // '' : $reply->{content}, "\n"
        unless $reply->{success};

    return $value;
}

sub open {
    my ($self, $url) = @_;
    return $self->_ask(POST => "$self->{session}/url", { url => $url });
}

# The value of a function's body.

sub run {
    my ($self, $script, @arguments) = @_;
    return $self->_ask(POST => "$self->{session}/execute/sync",
                       { script => $script, args => \@arguments });
}

# What the console got since the last call: "LEVEL text".

sub console {
    my ($self) = @_;
    my $lines = $self->_ask(POST => "$self->{session}/se/log",
                            { type => 'browser' });
    return map { "$_->{level} $_->{message}" } @$lines;
}

# The size of the window; mobile: as a telephone has it.

sub screen {
    my ($self, $width, $height, $mobile) = @_;

    return $self->_command('Emulation.setDeviceMetricsOverride', {
        width => $width, height => $height, deviceScaleFactor => 1,
        mobile => $mobile ? JSON::PP::true : JSON::PP::false,
    });
}

# "light" or "dark".

sub scheme {
    my ($self, $scheme) = @_;

    return $self->_command('Emulation.setEmulatedMedia', {
        features => [ { name => 'prefers-color-scheme', value => $scheme } ],
    });
}

# The whole page as PNG.

sub picture {
    my ($self) = @_;

    my $size = $self->run('var e = document.documentElement;'
                          . 'return [e.clientWidth, e.scrollHeight]');

    my $png = $self->_command('Page.captureScreenshot', {
        format => 'png', captureBeyondViewport => JSON::PP::true,
        clip => { x => 0, y => 0, width => $size->[0] + 0,
                  height => $size->[1] + 0, scale => 1 },
    });

    return decode_base64($png->{data});
}

sub _command {
    my ($self, $command, $parameters) = @_;
    return $self->_ask(POST => "$self->{session}/goog/cdp/execute",
                       { cmd => $command, params => $parameters });
}

1;
