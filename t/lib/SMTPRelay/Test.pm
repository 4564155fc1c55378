package SMTPRelay::Test;

# One nginx with the module, in a directory of its own, and what a test of
# it needs around it.
#
#     use SMTPRelay::Test;
#
#     my $t = SMTPRelay::Test->new();
#     my $node = $t->node('delivery');
#     $t->keys(user => 'secret');
#     $t->start(<<'EOC');
#     stream {
#         server {
#             listen                 127.0.0.1:%%PORT_smtp%%;
#             smtp_relay_starttls    off;
#             smtp_relay_auth_file   keys;
#             smtp_relay_pass        127.0.0.1:%%PORT_delivery%%;
#         }
#     }
#     EOC
#
#     my $c = $t->client('smtp');
#     $c->expect('220', 'greets');
#     done_testing();
#
# In the configuration %%PORT_name%% is a free port, the same one for the
# same name, and %%TESTDIR%% the directory of the run, which is also nginx's
# prefix.  done_testing() ends nginx and adds two checks of its own: no
# alert, crit or emerg in the error log, and no report of a sanitizer.
#
# The environment:
#
#     TEST_NGINX_BINARY          default: nginx in PATH, or /usr/sbin/nginx
#     TEST_NGINX_MODULE          ngx_smtp_relay_module.so; empty: built in
#     TEST_NGINX_STREAM_MODULE   ngx_stream_module.so, where it is dynamic
#     TEST_NGINX_GLOBALS         more lines for the main level
#     TEST_NGINX_EVENTS          more lines for events {}
#     TEST_NGINX_WORKERS         workers of a test that does not say; default: 1
#     TEST_NGINX_LISTEN          more options for each "listen"
#     TEST_NGINX_DEBUG           1: error log at debug, if it is built in
#     TEST_NGINX_VALGRIND        1: runs nginx under valgrind
#     TEST_NGINX_PRELOAD         a library that nginx is started with
#     TEST_NGINX_TIMEOUT_FACTOR  stretches every wait
#     TEST_NGINX_LEAVE           1: keeps the directory

use strict;
use warnings;

use Digest::SHA qw/ sha256_base64 /;
use File::Path ();
use File::Temp ();
use POSIX qw/ :sys_wait_h /;
use Scalar::Util qw/ weaken /;
use Test::More ();
use Time::HiRes qw/ time sleep /;

use SMTPRelay::Auth;
use SMTPRelay::Cert;
use SMTPRelay::Client;
use SMTPRelay::Node;
use SMTPRelay::Util qw/
    factor patience wait_until reserve_port slurp spew add_to visible
    is_child in_child
/;

my $current;

# A test gets strict, warnings, Test::More and what it needs of the harness.

sub import {
    my $caller = caller();

    strict->import();
    warnings->import();

    no strict 'refs';

    for my $name (@Test::More::EXPORT) {
        next if $name =~ /^\W/ || $name eq 'done_testing';
        *{"${caller}::$name"} = \&{"Test::More::$name"};
    }

    *{"${caller}::TODO"} = \${"${caller}::TODO"};
    *{"${caller}::done_testing"} = \&done_testing;
    *{"${caller}::$_"} = \&{"SMTPRelay::Util::$_"}
        for qw/ wait_until slurp spew add_to visible patience factor /;
    return;
}

sub new {
    my ($class, %options) = @_;

    my $self = bless {
        dir => File::Temp::tempdir('smtp-relay-XXXXXXXX', TMPDIR => 1),
        ports => {}, daemons => [], owner => $$, %options,
    }, $class;

    chmod 0755, $self->{dir};
    mkdir "$self->{dir}/logs";
    $current = $self;

    # a test that is ended from outside still cleans up
    $SIG{$_} = sub { exit 1 } for qw/ INT TERM HUP /;
    $SIG{PIPE} = 'IGNORE';

    return $self;
}

# --- nginx -------------------------------------------------------------------

sub binary {
    return $ENV{TEST_NGINX_BINARY} if $ENV{TEST_NGINX_BINARY};

    my @paths = ((split /:/, $ENV{PATH}), '/usr/sbin');
    my ($path) = grep { -x } map { "$_/nginx" } @paths;

    return $path // die "no nginx; set TEST_NGINX_BINARY\n";
}

my $version;

sub version {
    my $binary = binary();
    return $version //= `$binary -V 2>&1`;
}

# nginx is at least of that version.

sub has_version {
    my ($self, $wanted) = @_;

    my ($have) = version() =~ m!version: \S+/([\d.]+)!;
    my @have = split /\./, $have;

    for my $want (split /\./, $wanted) {
        my $number = shift(@have) // 0;
        return $number > $want if $number != $want;
    }

    return 1;
}

sub has_debug { return version() =~ /--with-debug/ }

# Memory figures mean nothing then.

sub is_instrumented {
    return version() =~ /-fsanitize|-fprofile|NGX_DEBUG_PALLOC/
           || $ENV{TEST_NGINX_VALGRIND};
}

# What nginx was built to have in directories of the system's, which need not
# be there, or not for this user: here it is below the prefix.

sub _own_paths {
    my @names = version() =~ m!--http-(\S+)-temp-path=/!g;
    my @lines = map { tr/-/_/r . "_temp_path $_" } @names;

    push @lines, 'access_log logs/http.log'
        if version() =~ m!--http-log-path=/!;

    return join '', map { " $_;" } @lines;
}

# The configuration in full: what every test has in front of the test's own.

sub expand {
    my ($self, $conf, %options) = @_;

    my $globals = $ENV{TEST_NGINX_GLOBALS} // '';
    my $events = $ENV{TEST_NGINX_EVENTS} // '';
    my $level = $options{log_level}
                // ($ENV{TEST_NGINX_DEBUG} ? 'debug' : 'info');

    my $connections = $self->{connections} // 512;
    my $daemon = $self->{daemon} ? 'daemon on;' : 'daemon off;';
    my @lines = ($daemon, "error_log $self->{dir}/error.log $level;",
                 "pid $self->{dir}/nginx.pid;");

    push @lines, 'worker_processes ' . ($ENV{TEST_NGINX_WORKERS} || 1) . ';'
        unless $conf =~ /^\s*worker_processes/m;

    # workers read files of the directory
    push @lines, 'user root;' if $> == 0 && $globals !~ /^\s*user\s/m;

    push @lines, "load_module $_;"
        for grep { defined && length }
            @ENV{qw/ TEST_NGINX_STREAM_MODULE TEST_NGINX_MODULE /};

    my $own = _own_paths();
    $conf =~ s/^(\s*http\s*\{)/$1$own/mg;

    my $text = join "\n", @lines, $globals,
        "events { worker_connections $connections; $events }", $conf;

    if (my $listen = $ENV{TEST_NGINX_LISTEN}) {
        $text =~ s/^(\s*listen\s[^;]*);/$1 $listen;/mg;
    }

    $text =~ s/%%TESTDIR%%/$self->{dir}/g;
    $text =~ s/%%PORT_(\w+)%%/$self->port($1)/ge;

    return $text . "\n";
}

# Writes the configuration.  own_line() of an error's line number is the line
# in the test's own part, from 1.

sub conf {
    my ($self, $conf, %options) = @_;

    my $text = $self->expand($conf, %options);

    $self->{lines_before} = ($text =~ tr/\n//) - ($conf =~ tr/\n//) - 1;
    spew("$self->{dir}/nginx.conf", $text);
    return;
}

sub own_line { return $_[1] - $_[0]{lines_before} }

# `nginx -t` of a configuration: exit status and what it said.

sub check_conf {
    my ($self, $conf) = @_;

    $self->conf($conf);
    my $pid = $self->_spawn("$self->{dir}/check.out", '-t');
    waitpid $pid, 0;

    my $status = $?;
    my $said = slurp("$self->{dir}/check.out");

    unlink "$self->{dir}/check.out";
    return ($status, $said);
}

sub start {
    my ($self, $conf, %options) = @_;

    $self->conf($conf, %options) if defined $conf;

    $self->{pid} = $self->_spawn("$self->{dir}/stderr");
    $self->_adopt() if $self->{daemon};

    my $up = wait_until {
        -s "$self->{dir}/nginx.pid" || !$self->_alive()
    } 20;

    if (!$up || !$self->_alive()) {
        die "nginx did not start:\n", slurp("$self->{dir}/stderr") // '',
            $self->log_tail();
    }

    wait_until { $self->workers() } or die "nginx has no worker\n";
    return $self;
}

# With the option "daemon", which an upgrade of the binary takes: whom nginx
# leaves behind becomes a child of the test.  False where that cannot be.

sub can_adopt {
    return $^O eq 'linux' && (POSIX::uname())[4] eq 'x86_64'
           && !$ENV{TEST_NGINX_VALGRIND}
           && syscall(157, 36, 1, 0, 0, 0) == 0;  # PR_SET_CHILD_SUBREAPER
}

sub _adopt {
    my ($self) = @_;

    waitpid $self->{pid}, 0;
    wait_until { -s "$self->{dir}/nginx.pid" } 20;
    ($self->{pid}) = (slurp("$self->{dir}/nginx.pid") // '') =~ /(\d+)/;
    return;
}

sub _spawn {
    my ($self, $output, @arguments) = @_;

    my @command = (binary(), '-p', "$self->{dir}/", '-c',
                   "$self->{dir}/nginx.conf", '-e', "$self->{dir}/error.log",
                   @arguments);

    if ($ENV{TEST_NGINX_VALGRIND} && !@arguments) {
        unshift @command, qw/ valgrind -q --trace-children=yes
            /, "--log-file=$self->{dir}/valgrind.%p";
    }

    defined(my $pid = fork()) or die "cannot fork: $!\n";
    return $pid if $pid;

    in_child();
    $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP CHLD PIPE /;

    # nginx -t does not free what it has read: no leak of anybody's
    $ENV{ASAN_OPTIONS} = join ':', grep { defined } $ENV{ASAN_OPTIONS},
        'detect_leaks=0' if @arguments;

    $ENV{LD_PRELOAD} = $ENV{TEST_NGINX_PRELOAD} if $ENV{TEST_NGINX_PRELOAD};

    open STDIN, '<', '/dev/null';
    open STDOUT, '>>', $output;
    open STDERR, '>>', $output;

    { no warnings 'exec'; exec @command; }
    print STDERR "cannot run $command[0]: $!\n";
    POSIX::_exit(127);
}

sub _alive {
    my ($self) = @_;

    my $pid = $self->{pid} or return 0;
    return 1 if waitpid($pid, WNOHANG) == 0;

    $self->{exit_status} = $?;
    delete $self->{pid};
    return 0;
}

# Process ids of the workers, those that are shutting down included.

sub workers {
    my ($self) = @_;

    my $master = $self->{pid} or return;
    my @pids;

    for my $stat (glob '/proc/[0-9]*/stat') {
        my $line = slurp($stat) // next;
        push @pids, $1 if $line =~ /^(\d+) \(.*\) [^Z] (\d+) / && $2 == $master;
    }

    @pids = sort { $a <=> $b } @pids;
    return @pids;
}

# Memory of a process, by default the worker, that is really used, kilobytes.

sub memory {
    my ($self, $pid) = @_;

    ($pid) = $self->workers() if !defined $pid;
    my $status = slurp("/proc/$pid/status") // '';

    my ($anonymous) = $status =~ /^RssAnon:\s+(\d+)/m;
    my ($all) = $status =~ /^VmRSS:\s+(\d+)/m;
    return $anonymous // $all;
}

# Reloads and waits until new workers serve, and only they.

sub reload {
    my ($self, $conf) = @_;

    $self->conf($conf) if defined $conf;

    my %old = map { $_ => 1 } $self->workers();
    kill 'HUP', $self->{pid};

    # those of before take no new sessions from here on
    return wait_until {
        my @workers = $self->workers();
        (grep { !$old{$_} } @workers)
            && !grep { $old{$_} && _serves($_) } @workers;
    };
}

sub _serves {
    my ($worker) = @_;
    return (slurp("/proc/$worker/cmdline") // '') !~ /shutting down|^$/;
}

# Asks nginx to quit, which it does when no session is left.

sub quit {
    my ($self) = @_;
    kill 'QUIT', $self->{pid} if $self->{pid};
    return;
}

# Waits until nginx is gone.

sub wait_exit {
    my ($self, $seconds) = @_;
    return wait_until { !$self->_alive() } $seconds;
}

# Ends nginx: the log files are complete then.  It waits for sessions that are
# busy, hence all clients that are left go first.

sub stop {
    my ($self) = @_;

    return unless $self->_alive();

    $_->close() for grep { defined } @{ $self->{clients} || [] };
    $self->quit();
    return if $self->wait_exit(6);

    Test::More::fail('nginx quits');
    Test::More::diag('nginx was ended the hard way');
    $self->_kill();
    return;
}

sub _kill {
    my ($self) = @_;

    for my $signal (qw/ TERM KILL /) {
        return unless $self->_alive();
        kill $signal, $self->{pid}, $signal eq 'KILL' ? $self->workers() : ();
        wait_until { !$self->_alive() } 3;
    }

    return;
}

# --- around it ---------------------------------------------------------------

sub dir { return $_[0]{dir} }

# The port of that name.

sub port {
    my ($self, $name) = @_;
    return $self->{ports}{$name} //= reserve_port();
}

# A scripted node at %%PORT_name%%, see SMTPRelay::Node.

sub node {
    my ($self, $name, %options) = @_;
    return $self->_daemon('SMTPRelay::Node', $name, %options);
}

# A scripted auth service at %%PORT_name%%, see SMTPRelay::Auth.

sub auth_service {
    my ($self, $name, %options) = @_;
    return $self->_daemon('SMTPRelay::Auth', $name, %options);
}

sub _daemon {
    my ($self, $class, $name, %options) = @_;

    my $daemon = $class->new(
        name => $name, port => $self->port($name),
        dir => "$self->{dir}/$name.d", %options);

    push @{ $self->{daemons} }, $daemon;
    return $daemon;
}

# Writes the file "keys" for smtp_relay_auth_file.

sub keys {
    my ($self, %users) = @_;

    spew("$self->{dir}/keys", join '', map {
        "$_:" . sha256_key($users{$_}) . "\n"
    } sort keys %users);
    return;
}

sub sha256_key {
    my ($secret) = @_;

    my $hash = sha256_base64($secret);
    $hash .= '=' while length($hash) % 4;
    return "{SHA256}$hash";
}

# Makes ca.crt, and NAME.crt and NAME.key for each name.

sub certificates {
    my ($self, @names) = @_;
    SMTPRelay::Cert::make($self->{dir}, @names ? @names : 'localhost');
    return;
}

sub client {
    my ($self, $port, %options) = @_;

    my $client = SMTPRelay::Client->new(
        port => $self->port($port), name => $port,
        %options);

    push @{ $self->{clients} }, $client;
    weaken($self->{clients}[-1]);
    return $client;
}

# A client that has been greeted and has said EHLO.

sub greeted {
    my ($self, $port, %options) = @_;

    my $c = $self->client($port, %options);
    $c->must(undef, '220');
    $c->must('EHLO client.example', '250');
    return $c;
}

# A client that has logged in, too.

sub session {
    my ($self, $port, %options) = @_;
    return $self->greeted($port, %options)->login(@options{qw/ user secret /});
}

# --- logs --------------------------------------------------------------------

# A file of the directory: its octets, its lines.

sub read {
    my ($self, $name) = @_;
    return slurp("$self->{dir}/$name") // '';
}

sub lines {
    my ($self, $name) = @_;
    return split /\n/, $self->read($name);
}

# Waits until a file has that many lines and gives all of them.

sub wait_lines {
    my ($self, $name, $number) = @_;

    my @lines;
    wait_until { @lines = $self->lines($name); @lines >= $number };
    return @lines;
}

# Waits for a line of the error log that matches.

sub wait_log {
    my ($self, $pattern, $seconds) = @_;

    return wait_until {
        my ($line) = grep { $_ =~ $pattern } $self->lines('error.log');
        $line;
    } $seconds;
}

# Lines of the error log that match, now.

sub log_lines {
    my ($self, $pattern) = @_;
    return grep { $_ =~ $pattern } $self->lines('error.log');
}

sub log_tail {
    my ($self, $number) = @_;

    my @lines = $self->lines('error.log');
    $number //= 30;
    splice @lines, 0, @lines - $number if @lines > $number;
    return join '', map { "$_\n" } @lines;
}

# --- the end -----------------------------------------------------------------

# Checks that take place in every test, and the end of it.

sub done_testing {
    if ($current) {
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        $current->stop();
        $current->_check_logs();
        $current->_explain() unless Test::More->builder->is_passing;
    }

    Test::More::done_testing();
}

sub _check_logs {
    my ($self) = @_;

    my @bad = $self->log_lines(qr/\[(?:alert|crit|emerg)\]/);
    @bad = grep { $_ !~ $self->{expected_alerts} } @bad
        if $self->{expected_alerts};

    # a client that goes on after a handshake that nginx has refused: later
    # versions than 1.22 log it at info
    @bad = grep { !/SSL_shutdown\(\) failed .*after close notify/ } @bad;

    push @bad, "nginx ended with status $self->{exit_status}"
        if $self->{exit_status};

    Test::More::is("@bad", '', 'no alerts in the error log');

    my $reports = join '', grep {
        /ERROR: AddressSanitizer|runtime error:|LeakSanitizer|^==\d+==/
    } map { "$_\n" } $self->lines('error.log'), $self->lines('stderr'),
        map { split /\n/, slurp($_) } glob "$self->{dir}/valgrind.*";

    Test::More::is($reports, '', 'no reports of a sanitizer');
    return;
}

sub _explain {
    my ($self) = @_;

    return if $self->{explained}++;

    for my $daemon (@{ $self->{daemons} }) {
        my @lines = split /\n/, $daemon->dialogue();
        splice @lines, 0, @lines - 40 if @lines > 40;
        Test::More::diag($_) for @lines;
    }

    Test::More::diag("error.log ends with:\n", $self->log_tail());
    Test::More::diag($self->read('stderr')) if -s "$self->{dir}/stderr";
    return;
}

sub DESTROY {
    my ($self) = @_;

    return if is_child() || $self->{owner} != $$;
    local ($?, $!, $@);

    $self->_kill();
    $_->stop() for @{ $self->{daemons} };

    if ($ENV{TEST_NGINX_LEAVE}) {
        Test::More::diag("left: $self->{dir}");

    } else {
        File::Path::remove_tree($self->{dir}, { safe => 0, error => \my $e });
    }

    return;
}

# Objects that live to the end of the program are ended here, while all of
# what they need is still there.

END {
    if ($current && !is_child()) {
        my $status = $?;
        $current->_explain() if $status;
        $current->DESTROY();
        $current->{owner} = 0;
        $? = $status;
    }
}

1;
