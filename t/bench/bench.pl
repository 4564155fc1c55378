#!/usr/bin/perl

# The benchmark: proxies in turn, one worker on one core, load and sink on
# another; what counts is the processor time of the proxy per 1,000 messages.
# See README.md beside this file.

use warnings;
use strict;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Getopt::Long;
use IO::Handle;
use IO::Socket::INET;
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep time);

our $here = abs_path(dirname($0));
my $root = abs_path("$here/../..");

require "$here/peers.pl";
require "$here/report.pl";

our %opt = (
	peers => 'relay,early,mail,stream,haproxy,postfix,sink',
	workloads => 'W1,W2,W3,W3b,W4,W5',
	rounds => 5,
	scale => 1,
	'proxy-cpu' => 0,
	'load-cpu' => (() = glob('/sys/devices/system/cpu/cpu[0-9]*')) > 1 ? 1 : 0,
	nodes => 1,
	auth => 'cache',
	log => 'plain',
	buffer => '',
	'relay-conf' => '',
	limits => 0,
);

GetOptions(\%opt, 'peers=s', 'workloads=s', 'rounds=i', 'scale=f',
	'proxy-cpu=i', 'load-cpu=i', 'nodes=i', 'auth=s', 'log=s',
	'buffer=s', 'relay-conf=s', 'profile=s', 'sessions=i', 'messages=i',
	'output=s', 'flat', 'limits=i', 'help')
	or usage(2);

usage(0) if $opt{help};
usage(2) if @ARGV;

# sessions at once, messages, and what the load is told besides;
# "gate": logins are not part of what is measured, "login": they are all that
# is; "auth": where the relay asks for them, whatever was said

our %workloads = (
	W1 => { title => 'short sessions: handshake, AUTH, 4 KiB, QUIT',
		sessions => 16, messages => 3000,
		load => ['--per-session', 1] },
	W2 => { title => '50 sessions, 4 KiB messages, lockstep', gate => 1,
		sessions => 50, messages => 30000 },
	W3 => { title => 'the same, pipelined', gate => 1,
		sessions => 50, messages => 50000,
		load => ['--mode', 'pipelined'] },
	W3b => { title => 'the same, BDAT', gate => 1,
		sessions => 50, messages => 50000, load => ['--mode', 'bdat'] },
	W4 => { title => '8 sessions, 10 MiB messages', gate => 1,
		sessions => 8, messages => 120,
		load => ['--size', 10 * 1024 * 1024] },
	W5 => { title => 'memory per idle authenticated session', gate => 1,
		sessions => 2000, messages => 0, idle => 1 },
	W6 => { title => '10,000 sessions, a message now and then', gate => 1,
		sessions => 10000, messages => 20000,
		load => ['--think', 8000, '--ramp', 32] },
	W7 => { title => 'logins, the auth service asked for each', login => 1,
		sessions => 2000, messages => 0, auth => 'http' },
);

our %targets = (
	mail => { W1 => 0.75, W2 => 0.60, W3 => 0.50, W3b => 0.50,
		W4 => 0.75, W5 => 0.80 },
	stream => { W1 => 0.90, W2 => 0.90, W3 => 0.90, W3b => 0.90,
		W4 => 0.75, W5 => 1.00 },
);

our (%children, $nginx, $nginx_has, $module);
our $build = $ENV{BENCH_BUILD} || tempdir('bench-XXXXXX', TMPDIR => 1,
	CLEANUP => 1);

# descriptors that a process may have: a proxy needs two for a session
chomp(our $files = `sh -c "ulimit -Hn"`);
$files = 65536 if $files !~ /^\d+$/ || $files > 65536;

my $main = $$;
our $haproxy = $ENV{HAPROXY} || '/usr/sbin/haproxy';
our $user = 'bench-key';
our $secret = 'bench-secret-0123456789';

$SIG{INT} = $SIG{TERM} = sub { exit 130 };
$SIG{PIPE} = 'IGNORE';
STDOUT->autoflush(1);

END {
	if ($$ == $main) {
		my $rc = $?;
		reap($_) for keys %children;
		$? = $rc;
	}
}

build_tools();

our (@peers, @names, %runs);
my $failed = 0;

@peers = available(split /,/, $opt{peers});
@names = split /,/, $opt{workloads};

for my $name (@names) {
	die "no workload \"$name\"\n" unless $workloads{$name};
}

print_machine();

if ($opt{flat}) {
	flat();
	exit($failed ? 1 : 0);
}

for my $name (@names) {
	rounds($name, $workloads{$name}, @peers);
	print_table($name, $workloads{$name});
}

print_targets();

exit($failed ? 1 : 0);


# the peers in turn, so that what changes with time changes for all

sub rounds {
	my ($name, $w, @peers) = @_;

	for my $round (1 .. $opt{rounds}) {
		for my $peer (@peers) {
			# a process for each session is not made for these
			next if $peer eq 'postfix' && $name =~ /^W[567]$/;

			# and these know nothing of logins
			next if $w->{login} && $peer !~ /^(relay|early|mail)$/;

			my $r = eval { measure($peer, $name, $w) };

			if (!$r) {
				print STDERR "$name $peer: $@";
				$failed++;
				next;
			}

			$runs{$name}{$peer}[$round - 1] = $r;
			record($name, $peer, $round, $r);
		}
	}
}


# what a message costs the relay at the same rate, from few sessions to many,
# from one node to many

sub flat {
	my $w = $workloads{W6};

	for my $n (10, 100, 1000, 10000) {
		rounds("sessions $n", { %$w, sessions => $n, load =>
			['--think', int($n * 0.8), '--ramp', 32] }, 'relay');
	}

	for my $n (1, 8, 64) {
		local $opt{nodes} = $n;

		rounds("nodes $n", { %$w, sessions => 1000, load =>
			['--think', 800, '--ramp', 32] }, 'relay');
	}

	for my $n (1000, 10000) {
		rounds("idle $n", { %{ $workloads{W5} }, sessions => $n },
			'relay');
	}

	print_flat();
}


sub usage {
	my ($rc) = @_;

	print { $rc ? *STDERR : *STDOUT } <<'EOT';
usage: bench.pl [options]
  --peers LIST        of relay,early,mail,stream,haproxy,postfix,sink (all)
  --workloads LIST    of W1,W2,W3,W3b,W4,W5,W6,W7 (all but W6, W7)
  --flat              instead: the relay with 10 to 10,000 sessions and
                      1 to 64 nodes
  --rounds N          (5)   --scale X  times the messages (1)
  --sessions N --messages N   instead of the workload's own
  --proxy-cpu N       core of the proxy (0)
  --load-cpu LIST     core of load and sink (1)
  --nodes N           delivery nodes (1)
  --auth cache|http|file      where the relay asks for logins: a service
                      whose verdicts are cached, or are not, or a file
                      (cache)
  --log plain|buffer|off      the relay's log lines (plain)
  --buffer SIZE       buffers of nginx mail and stream (their default)
  --relay-conf TEXT   more directives for the relay's server
  --limits N          of messages and recipients in the relay, up to 4 (0)
  --profile perf|strace|callgrind   of the proxy's worker, into the
                      build directory; the figures are then of no use
  --output FILE       every run, a line of JSON each
environment: NGINX_BINARY or NGINX_SOURCE; BENCH_BUILD; NGINX_MODULE; HAPROXY
EOT
	exit $rc;
}


sub run {
	my (@cmd) = @_;

	system(@cmd) == 0 or die "failed: @cmd\n";
}


sub slurp {
	my ($path) = @_;

	open my $f, '<', $path or return undef;
	local $/;
	my $text = <$f>;
	close $f;

	return $text;
}


sub spew {
	my ($path, $text) = @_;

	open my $f, '>', $path or die "cannot write $path: $!\n";
	print $f $text;
	close $f or die "cannot write $path: $!\n";
}


# programs, certificate, nginx


sub build_tools {
	make_path("$build/run");

	for my $name (qw(load sink)) {
		run($ENV{CC} || 'cc', '-O2', '-g', '-Wall', '-Wextra', '-o',
			"$build/$name", glob("$here/$name*.c"), "$here/conn.c",
			"$here/message.c", '-lssl', '-lcrypto');
	}

	if (!-e "$build/both.pem") {
		run("cd $build && openssl ecparam -name prime256v1 -genkey"
			. " -noout -out key.pem && openssl req -x509 -new"
			. " -key key.pem -subj /CN=localhost -days 365"
			. " -out cert.pem 2>/dev/null");
		spew("$build/both.pem", slurp("$build/cert.pem")
			. slurp("$build/key.pem"));
	}

	if ($ENV{NGINX_BINARY}) {
		$nginx = abs_path($ENV{NGINX_BINARY});

	} elsif ($ENV{NGINX_SOURCE}) {
		$nginx = build_nginx($ENV{NGINX_SOURCE});

	} else {
		die "set NGINX_BINARY or NGINX_SOURCE, see README.md\n";
	}

	$nginx_has = `$nginx -V 2>&1`;
	$module = $ENV{NGINX_MODULE} ? abs_path($ENV{NGINX_MODULE}) : '';
}


sub build_nginx {
	my ($source) = @_;

	my $dir = "$build/nginx";
	my $configure = -x "$source/configure" ? './configure'
		: './auto/configure';

	if (!-d $dir) {
		run('cp', '-a', $source, $dir);
	}

	my $add = -e "$root/config" ? "--add-module=$root" : '';

	run("cd $dir && $configure --prefix=$build/prefix --with-mail"
		. " --with-mail_ssl_module --with-stream"
		. " --with-stream_ssl_module --with-http_ssl_module"
		. " --with-cc-opt='-O2 -g' $add >configure.log 2>&1"
		. " && make -j2 >make.log 2>&1");

	return "$dir/objs/nginx";
}


sub available {
	my (@wanted) = @_;
	my @got;

	my %why = (
		relay => $nginx_has =~ /add-module/ || $module,
		early => ($nginx_has =~ /add-module/ || $module)
			&& has('smtp_relay_early_replies'),
		mail => $nginx_has =~ /--with-mail(?!=dynamic)\b/,
		stream => $nginx_has =~ /--with-stream(?!=dynamic)\b/,
		haproxy => -x $haproxy,
		postfix => $< == 0 && -x '/usr/sbin/postfix',
		sink => 1,
	);

	for my $peer (@wanted) {
		die "no peer \"$peer\"\n" unless exists $why{$peer};

		if ($why{$peer}) {
			push @got, $peer;

		} else {
			print STDERR "$peer is not there: left out\n";
		}
	}

	return @got;
}


# is a directive known to this nginx


sub start {
	my ($name, $cpu, @cmd) = @_;

	pipe(my $in_r, my $in_w) or die "pipe: $!\n";
	pipe(my $out_r, my $out_w) or die "pipe: $!\n";

	my $pid = fork();
	die "fork: $!\n" unless defined $pid;

	if ($pid == 0) {
		close $in_w;
		close $out_r;
		open STDIN, '<&', $in_r;
		open STDOUT, '>&', $out_w;
		open STDERR, '>>', "$build/run/$name.err";
		exec('taskset', '-c', $cpu, @cmd) or POSIX::_exit(127);
	}

	close $in_r;
	close $out_w;
	$in_w->autoflush(1);

	$children{$pid} = 1;

	return { name => $name, pid => $pid, in => $in_w, out => $out_r };
}


# a line of a program, within a time


sub line {
	my ($p, $timeout) = @_;

	my $text = '';

	eval {
		local $SIG{ALRM} = sub { die "no answer of $p->{name}\n" };
		alarm($timeout);
		$text = readline($p->{out});
		alarm(0);
	};

	alarm(0);
	die $@ if $@;
	die "$p->{name} has ended: ", slurp("$build/run/$p->{name}.err") || '',
		"\n" unless defined $text;

	chomp $text;

	return $text;
}


sub reap {
	my ($pid, $signal) = @_;

	my $stop = delete $children{$pid} or return;

	if (ref $stop) {
		system("@$stop >/dev/null 2>&1");

	} else {
		kill $signal || 'TERM', $pid;
	}

	for (1 .. 100) {
		return if waitpid($pid, WNOHANG) != 0;
		sleep(0.05);
	}

	kill 'KILL', $pid;
	waitpid($pid, 0);
}


sub free_port {
	my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
		LocalPort => 0, Listen => 1, Proto => 'tcp')
		or die "no free port: $!\n";

	return $s->sockport();
}


sub wait_listen {
	my ($port, $pid) = @_;

	my $hex = sprintf('%04X', $port);

	for (1 .. 600) {
		my $tcp = slurp('/proc/net/tcp');
		return if $tcp =~ /^\s*\d+: 0100007F:$hex 00000000:0000 0A/m;
		die "the proxy has ended\n" if waitpid($pid, WNOHANG) != 0;
		sleep(0.05);
	}

	die "nothing listens on $port\n";
}


# one run of one peer: a fresh sink, a fresh proxy, the load


sub measure {
	my ($peer, $name, $w) = @_;

	remove_tree("$build/run", { keep_root => 1 });

	my @sink = ("$build/sink", '--cert', "$build/cert.pem", '--key',
		"$build/key.pem", '--auth', '127.0.0.1:0', '--nodes',
		$opt{nodes}, '--user', $user, '--secret', $secret);

	push @sink, '--offer', 'auth' if $peer =~ /^(stream|haproxy|sink)$/;
	push @sink, '--listen',
		'127.0.0.1:0' . ($peer eq 'sink' ? '/tls' : '');

	my $sink = start('sink',
		$peer eq 'sink' ? $opt{'proxy-cpu'} : $opt{'load-cpu'}, @sink);
	my (@nodes, $auth);

	while ((my $text = line($sink, 10)) ne 'ready') {
		push @nodes, $1 if $text =~ /^listen (\d+)/;
		$auth = $1 if $text =~ /^auth (\d+)/;
	}

	my $proxy = $sink;
	my $worker = $sink->{pid};
	my $port = $nodes[0];

	if ($peer ne 'sink') {
		local $opt{auth} = $w->{auth} if $w->{auth};

		($proxy, $worker, $port) = start_proxy($peer, \@nodes, $auth);
	}

	my $r = eval { $w->{idle} ? idle($peer, $w, $worker, $port)
		: $w->{login} ? logins($peer, $w, $worker, $port)
		: traffic($peer, $name, $w, $worker, $port, $sink) };
	my $error = $@;

	reap($proxy->{pid}) if $peer ne 'sink';

	my %s = eval { report($sink) };
	$error ||= $@;

	reap($sink->{pid});
	$error ||= verdict($peer, $w, $r, \%s);
	die $error if $error;

	$r->{node_connections} = $s{connections};
	$r->{auth_requests} = $s{auth_requests};
	$r->{auth_connections} = $s{auth_connections};

	return $r;
}


sub report {
	my ($sink) = @_;

	print { $sink->{in} } "report\n";

	return fields(line($sink, 10));
}


sub fields {
	my ($text) = @_;

	return map { /^(\w+)=(.*)$/ ? ($1, $2) : () } split / /, $text;
}


# every message exactly once, every octet equal, nothing odd in a log


sub verdict {
	my ($peer, $w, $r, $s) = @_;

	my $log = slurp("$build/run/error.log") || '';

	if ($log =~ /^(.*\[(?:emerg|alert|crit|error)\].*)$/m) {
		return "error.log: $1\n";
	}

	for my $key (qw(duplicates bad unknown extra aborted errors)) {
		next if $key eq 'extra' && $peer eq 'postfix';
		return "sink: $key=$s->{$key}\n" if $s->{$key};
	}

	return '' if $w->{idle} || $w->{login};

	return $s->{unique} == $r->{messages} ? ''
		: "sink has $s->{unique} of $r->{messages} messages\n";
}


sub start_load {
	my ($peer, $w, $port, @more) = @_;

	push @more, '--user', $user, '--secret', $secret
		if $peer ne 'postfix';

	return start('load', $opt{'load-cpu'}, "$build/load", '--connect',
		"127.0.0.1:$port", '--tls', '--time', 600,
		@{ $w->{load} || [] }, @more);
}


sub traffic {
	my ($peer, $name, $w, $worker, $port, $sink) = @_;

	my $sessions = sessions($w);
	my $messages = $opt{messages} || int($w->{messages} * $opt{scale})
		|| 1;
	my @more = ('--messages', $messages, '--sessions', $sessions);
	my ($load, $cpu, $begin);

	if ($w->{gate}) {
		$load = start_load($peer, $w, $port, '--gate', @more);
		expect($load, 'ready', 120);
	}

	my $profile = profile($peer, $name, $worker);
	$cpu = cpu($worker);
	$begin = time();

	if ($w->{gate}) {
		print { $load->{in} } "go\n";
		expect($load, 'done', 600);

	} else {
		$load = start_load($peer, $w, $port, @more);
	}

	my $text = $w->{gate} ? '' : line($load, 600);

	# what a queue holds is still to be delivered

	if ($peer eq 'postfix') {
		my $until = time() + 120;

		while ({ report($sink) }->{unique} < $messages) {
			die "postfix does not deliver\n" if time() > $until;
			sleep(0.02);
		}
	}

	$cpu = cpu($worker) - $cpu;
	my $took = time() - $begin;

	reap($profile->{pid}, 'INT') if $profile;

	if ($w->{gate}) {
		print { $load->{in} } "quit\n";
		$text = line($load, 120);
	}

	my %l = fields($text);

	waitpid($load->{pid}, 0);
	delete $children{ $load->{pid} };

	die "load: $text\n", slurp("$build/run/load.err") || '' if $?;

	return {
		cpu => $cpu / $messages * 1000,
		rate => $l{rate},
		busy => $cpu / $took,
		p50 => $l{p50},
		p99 => $l{p99},
		login => $l{login_p50},
		messages => $messages,
		sessions => $l{sessions},
	};
}


sub sessions {
	my ($w) = @_;

	my $n = $opt{sessions} || $w->{sessions};
	my $max = int(($files - 500) / 2);

	return $n < $max ? $n : $max;
}


sub expect {
	my ($p, $word, $timeout) = @_;

	my $text = line($p, $timeout);

	die "$p->{name}: $text\n", slurp("$build/run/$p->{name}.err") || ''
		if $text ne $word;
}


# memory of the worker with idle sessions, against that with a few behind it


sub idle {
	my ($peer, $w, $worker, $port) = @_;

	my $n = sessions($w);
	my $warm = start_load($peer, $w, $port, '--messages', 100,
		'--sessions', 20);

	line($warm, 60);
	waitpid($warm->{pid}, 0);
	delete $children{ $warm->{pid} };
	sleep(0.3);

	my $before = memory($worker);
	my $load = start_load($peer, $w, $port, '--gate', '--messages', 0,
		'--sessions', $n);

	expect($load, 'ready', 300);
	sleep(0.3);

	my $after = memory($worker);

	print { $load->{in} } "quit\n";
	my $text = line($load, 120);
	waitpid($load->{pid}, 0);
	delete $children{ $load->{pid} };

	die "load: $text\n", slurp("$build/run/load.err") || '' if $?;

	return { memory => ($after - $before) * 1024 / $n, sessions => $n };
}


# the cost of a thousand sessions that log in, from accept to 235

sub logins {
	my ($peer, $w, $worker, $port) = @_;

	my $n = sessions($w);
	my $cpu = cpu($worker);
	my $begin = time();
	my $load = start_load($peer, $w, $port, '--gate', '--messages', 0,
		'--sessions', $n);

	expect($load, 'ready', 300);

	$cpu = cpu($worker) - $cpu;
	my $took = time() - $begin;

	print { $load->{in} } "quit\n";
	my %l = fields(line($load, 120));
	waitpid($load->{pid}, 0);
	delete $children{ $load->{pid} };

	die "load failed\n", slurp("$build/run/load.err") || '' if $?;

	return { cpu => $cpu / $n * 1000, rate => $n / $took,
		busy => $cpu / $took, p50 => $l{login_p50}, sessions => $n };
}


# kB, shared pages divided among those who share them


sub memory {
	my ($pid) = @_;

	my $text = slurp("/proc/$pid/smaps_rollup") || '';

	return $text =~ /^Pss:\s+(\d+) kB/m ? $1
		: die "no memory of process $pid\n";
}


# seconds; the scheduler's own count is finer than that of the clock tick


sub cpu {
	my ($pid) = @_;

	my $sum = 0;

	return cpu_tree($pid)
		if slurp("/proc/$pid/task/$pid/children") || '';

	for my $task (glob("/proc/$pid/task/*")) {
		my $text = slurp("$task/schedstat") || '';

		if ($text =~ /^([1-9]\d*) /) {
			$sum += $1 / 1e9;
			next;
		}

		$text = slurp("$task/stat") || die "no process $pid\n";
		$text =~ s/^.*\) //;
		my @f = split / /, $text;
		$sum += ($f[11] + $f[12]) / POSIX::sysconf(&POSIX::_SC_CLK_TCK);
	}

	return $sum;
}


# of a process, those that it started, and those of them that have ended


sub cpu_tree {
	my ($pid) = @_;

	my $text = slurp("/proc/$pid/stat") || return 0;
	my $children = slurp("/proc/$pid/task/$pid/children") || '';
	my $sum = 0;

	$text =~ s/^.*\) //;
	my @f = split / /, $text;

	$sum += $_ for @f[11 .. 14];
	$sum /= POSIX::sysconf(&POSIX::_SC_CLK_TCK);
	$sum += cpu_tree($_) for split / /, $children;

	return $sum;
}


sub profile {
	my ($peer, $name, $worker) = @_;

	my $how = $opt{profile} || return undef;
	my $path = "$build/$how.$name.$peer";
	my %cmd = (
		perf => ['perf', 'record', '-q', '-F', 5000, '-e', 'cpu-clock',
			'-g', '-o', $path, '-p', $worker],
		strace => ['strace', '-c', '-f', '-o', $path, '-p', $worker],
	);

	return undef if $how eq 'callgrind';
	die "no profile \"$how\"\n" unless $cmd{$how};

	my $p = start('profile', $opt{'load-cpu'}, @{ $cmd{$how} });
	sleep(1);

	return $p;
}
