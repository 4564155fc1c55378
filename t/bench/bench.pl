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

my $here = abs_path(dirname($0));
my $root = abs_path("$here/../..");

my %opt = (
	peers => 'relay,mail,stream,haproxy,postfix,sink',
	workloads => 'W1,W2,W3,W3b,W4,W5',
	rounds => 5,
	scale => 1,
	'proxy-cpu' => 0,
	'load-cpu' => 1,
	nodes => 1,
	auth => 'file',
	log => 'plain',
	buffer => '',
	'relay-conf' => '',
);

GetOptions(\%opt, 'peers=s', 'workloads=s', 'rounds=i', 'scale=f',
	'proxy-cpu=i', 'load-cpu=i', 'nodes=i', 'auth=s', 'log=s',
	'buffer=s', 'relay-conf=s', 'profile=s', 'sessions=i', 'messages=i',
	'output=s', 'help')
	or usage(2);

usage(0) if $opt{help};
usage(2) if @ARGV;

# sessions at once, messages, and what the load is told besides;
# "gate": logins are not part of what is measured

my %workloads = (
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
);

my %targets = (
	mail => { W1 => 0.75, W2 => 0.60, W3 => 0.50, W3b => 0.50,
		W4 => 0.75, W5 => 0.80 },
	stream => { W1 => 0.90, W2 => 0.90, W3 => 0.90, W3b => 0.90,
		W4 => 0.75, W5 => 1.00 },
);

my (%children, %ports, $nginx, $nginx_has, $module);
my $build = $ENV{BENCH_BUILD} || tempdir('bench-XXXXXX', TMPDIR => 1,
	CLEANUP => 1);

# descriptors that a process may have: a proxy needs two for a session
chomp(my $files = `sh -c "ulimit -Hn"`);
$files = 65536 if $files !~ /^\d+$/ || $files > 65536;

my $main = $$;
my $user = 'bench-key';
my $secret = 'bench-secret-0123456789';

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

my @peers = available(split /,/, $opt{peers});
my @names = split /,/, $opt{workloads};
my (%runs, $failed);

for my $name (@names) {
	die "no workload \"$name\"\n" unless $workloads{$name};
}

print_machine();

for my $name (@names) {
	my $w = $workloads{$name};

	for my $round (1 .. $opt{rounds}) {
		for my $peer (@peers) {
			# a process for each session is not made for these
			next if $peer eq 'postfix' && $name =~ /^W[56]$/;

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

	print_table($name, $w);
}

print_targets();

exit($failed ? 1 : 0);


sub usage {
	my ($rc) = @_;

	print { $rc ? *STDERR : *STDOUT } <<'EOT';
usage: bench.pl [options]
  --peers LIST        of relay,mail,stream,haproxy,postfix,sink (all)
  --workloads LIST    of W1,W2,W3,W3b,W4,W5,W6 (all but W6)
  --rounds N          (5)   --scale X  times the messages (1)
  --sessions N --messages N   instead of the workload's own
  --proxy-cpu N       core of the proxy (0)
  --load-cpu LIST     core of load and sink (1)
  --nodes N           delivery nodes (1)
  --auth file|http    where the relay asks for logins (file)
  --log plain|buffer|off      the relay's log lines (plain)
  --buffer SIZE       buffers of nginx mail and stream (their default)
  --relay-conf TEXT   more directives for the relay's server
  --profile perf|strace|callgrind   of the proxy's worker, into the
                      build directory; the figures are then of no use
  --output FILE       every run, a line of JSON each
environment: NGINX_BINARY or NGINX_SOURCE; BENCH_BUILD; NGINX_MODULE
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
		mail => $nginx_has =~ /--with-mail(?!=dynamic)\b/,
		stream => $nginx_has =~ /--with-stream(?!=dynamic)\b/,
		haproxy => -x '/usr/sbin/haproxy',
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

sub has {
	my ($word) = @_;

	our %known;

	$known{$word} //= index(slurp($module || $nginx), "$word\0") >= 0;

	return $known{$word};
}


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
		($proxy, $worker, $port) = start_proxy($peer, \@nodes, $auth);
	}

	my $r = eval { $w->{idle} ? idle($peer, $w, $worker, $port)
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

	return '' if $w->{idle};

	return $s->{unique} == $r->{messages} ? ''
		: "sink has $s->{unique} of $r->{messages} messages\n";
}


sub start_proxy {
	my ($peer, $nodes, $auth) = @_;

	my $port = free_port();
	my $dir = "$build/run";
	my @cmd;

	if ($peer eq 'haproxy') {
		spew("$dir/haproxy.cfg", conf_haproxy($port, $nodes));
		@cmd = ('/usr/sbin/haproxy', '-db', '-f', "$dir/haproxy.cfg");

	} elsif ($peer eq 'postfix') {
		conf_postfix($port, $nodes);
		@cmd = ('/usr/sbin/postfix', '-c', "$dir/postfix", 'start-fg');

	} else {
		my %conf = (relay => \&conf_relay, mail => \&conf_mail,
			stream => \&conf_stream);

		spew("$dir/nginx.conf", conf_nginx()
			. $conf{$peer}->($port, $nodes, $auth));
		@cmd = ($nginx, '-p', $dir, '-c', "$dir/nginx.conf", '-e',
			"$dir/error.log");
	}

	if (($opt{profile} || '') eq 'callgrind') {
		unshift @cmd, 'valgrind', '--tool=callgrind',
			'--trace-children=yes', '--compress-strings=no',
			"--callgrind-out-file=$build/callgrind.$peer.%p",
			"--log-file=$build/run/valgrind.%p";
	}

	my $proxy = start('proxy', $opt{'proxy-cpu'}, @cmd);

	# what is started here is but a script, that starts the master

	if ($peer eq 'postfix') {
		$children{ $proxy->{pid} } = ['/usr/sbin/postfix', '-c',
			"$dir/postfix", 'abort'];
	}

	wait_listen($port, $proxy->{pid});

	return ($proxy, $proxy->{pid}, $port) if $peer =~ /haproxy|postfix/;

	my $pid = $proxy->{pid};

	for (1 .. 200) {
		my $text = slurp("/proc/$pid/task/$pid/children") || '';

		return ($proxy, $1, $port) if $text =~ /^(\d+) $/;
		sleep(0.05);
	}

	die "no worker of $peer\n";
}


sub conf_nginx {
	my $load = $module ? "load_module $module;\n" : '';
	my $who = (getpwuid($<))[0];
	my $user = $< == 0 ? "user $who;" : '';
	my $connections = $files - 100;

	# not to be had under valgrind
	my $rlimit = ($opt{profile} || '') eq 'callgrind' ? ''
		: "worker_rlimit_nofile $files;";

	return <<"EOT";
$load
$user
$rlimit
daemon off;
worker_processes 1;
error_log $build/run/error.log error;
pid $build/run/nginx.pid;
events { worker_connections $connections; }
EOT
}


sub upstream {
	my ($nodes) = @_;

	return "upstream nodes {\n    zone nodes 256k;\n"
		. join('', map { "    server 127.0.0.1:$_;\n" } @$nodes)
		. "}\n";
}


sub conf_relay {
	my ($port, $nodes, $auth) = @_;

	my $text = "stream {\n" . upstream($nodes);

	if ($opt{log} eq 'off') {
		$text .= "access_log off;\n";

	} else {
		my $buffer = $opt{log} eq 'buffer'
			? ' buffer=64k flush=1s' : '';

		my @v = grep { has("smtp_relay_$_") } qw(event session_id
			user mail_from rcpt_to message_size message_status);

		$text .= "log_format bench '\$remote_addr [\$time_local] "
			. join(' ', map { "\$smtp_relay_$_" } @v)
			. " \$upstream_addr \$status';\n"
			. "access_log $build/run/access.log bench$buffer;\n";
	}

	if (has('smtp_relay_status_zone')) {
		$text .= "smtp_relay_status_zone status:256k;\n";
	}

	if ($opt{auth} eq 'http') {
		my $cache = '';

		if (has('smtp_relay_auth_cache_zone')) {
			$text .= "smtp_relay_auth_cache_zone zone=auth:1m;\n";
			$cache = "smtp_relay_auth_cache auth valid=5m;\n";
		}

		$auth = "smtp_relay_auth http://127.0.0.1:$auth/auth;\n"
			. $cache;

	} else {
		my $hash = `printf %s $secret | openssl dgst -sha256 -binary \\
			| openssl base64`;

		spew("$build/run/keys", "$user:{SHA256}$hash");
		$auth = "smtp_relay_auth_file $build/run/keys;\n";
	}

	return $text . <<"EOT";
server {
    listen 127.0.0.1:$port ssl backlog=4096;
    ssl_certificate $build/cert.pem;
    ssl_certificate_key $build/key.pem;
    $auth
    $opt{'relay-conf'}
    smtp_relay_pass nodes;
}
}
EOT
}


sub conf_mail {
	my ($port, $nodes, $auth) = @_;

	my $buffer = $opt{buffer} ? "proxy_buffer $opt{buffer};" : '';

	return <<"EOT";
mail {
server {
    listen 127.0.0.1:$port ssl backlog=4096;
    ssl_certificate $build/cert.pem;
    ssl_certificate_key $build/key.pem;
    protocol smtp;
    server_name bench;
    auth_http http://127.0.0.1:$auth/auth;
    smtp_auth plain login;
    smtp_capabilities PIPELINING 8BITMIME "SIZE 52428800" CHUNKING;
    xclient off;
    timeout 5m;
    $buffer
}
}
EOT
}


sub conf_stream {
	my ($port, $nodes) = @_;

	my $buffer = $opt{buffer} ? "proxy_buffer_size $opt{buffer};" : '';

	return "stream {\n" . upstream($nodes) . <<"EOT";
server {
    listen 127.0.0.1:$port ssl backlog=4096;
    ssl_certificate $build/cert.pem;
    ssl_certificate_key $build/key.pem;
    $buffer
    proxy_pass nodes;
}
}
EOT
}


sub conf_haproxy {
	my ($port, $nodes) = @_;

	my $n = 0;
	my $max = int($files / 2) - 100;
	my $servers = join '', map { $n++; "  server n$n 127.0.0.1:$_\n" }
		@$nodes;

	return <<"EOT";
global
  nbthread 1
  maxconn $max
defaults
  mode tcp
  timeout connect 5s
  timeout client 5m
  timeout server 5m
listen smtp
  bind 127.0.0.1:$port ssl crt $build/both.pem
$servers
EOT
}


sub conf_postfix {
	my ($port, $nodes) = @_;

	my $dir = "$build/run/postfix";
	my $uid = getpwnam('postfix');

	# the daemons have an owner of their own, who has to get here

	make_path("$dir/queue", "$dir/data");
	chmod 0755, $build, "$build/run", $dir;
	chown $uid, -1, "$dir/data";

	spew("$dir/main.cf", <<"EOT");
compatibility_level = 3.6
queue_directory = $dir/queue
data_directory = $dir/data
maillog_file = $dir/log
maillog_file_prefixes = $dir
myhostname = bench.example
mydestination =
alias_maps =
local_recipient_maps =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:$nodes->[0]
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_tls_wrappermode = yes
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = $build/cert.pem
smtpd_tls_key_file = $build/key.pem
smtpd_client_connection_count_limit = 0
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = permit_mynetworks, reject
message_size_limit = 104857600
EOT

	spew("$dir/master.cf", <<"EOT");
127.0.0.1:$port inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
EOT
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


sub median {
	my (@v) = sort { $a <=> $b } grep { defined } @_;

	return undef unless @v;

	return @v % 2 ? $v[$#v / 2] : ($v[@v / 2] + $v[@v / 2 - 1]) / 2;
}


# of two peers in the same round

sub ratio {
	my ($name, $peer, $to, $key) = @_;

	my ($a, $b) = ($runs{$name}{$peer} || [], $runs{$name}{$to} || []);

	return median(map { $a->[$_] && $b->[$_] && $b->[$_]{$key}
		? $a->[$_]{$key} / $b->[$_]{$key} : undef } 0 .. $#$a);
}


sub show {
	my ($format, $v) = @_;

	return defined $v ? sprintf($format, $v) : '-';
}


sub print_machine {
	my $cpu = slurp('/proc/cpuinfo') || '';
	my $version = $nginx_has =~ /nginx version: (\S+)/ ? $1 : 'nginx';
	my $built = $nginx_has =~ /built with (OpenSSL \S+)/ ? $1 : '';

	$cpu = $cpu =~ /^model name\s*:\s*(.+)$/m ? $1 : 'unknown processor';

	print "$cpu; Linux ", (POSIX::uname())[2], "; $version; $built; ",
		"rounds: $opt{rounds}; scale: $opt{scale}\n\n";
}


sub print_table {
	my ($name, $w) = @_;

	print "### $name: $w->{title}\n\n";

	if ($w->{idle}) {
		print "| peer | octets/session | relay/peer |\n",
			"| --- | ---: | ---: |\n";

		for my $peer (@peers) {
			my $runs = $runs{$name}{$peer} || [];

			print "| $peer | ", show('%.0f',
				median(map { $_ && $_->{memory} } @$runs)),
				' | ', show('%.2f', ratio($name, 'relay',
				$peer, 'memory')), " |\n";
		}

		print "\n";
		return;
	}

	print '| peer | CPU s/1,000 | min-max | relay/peer | messages/s |',
		" busy | p50 us | p99 us | node connections |\n",
		'| --- ', '| ---: ' x 8, "|\n";

	for my $peer (@peers) {
		my @r = grep { $_ } @{ $runs{$name}{$peer} || [] };
		my @cpu = sort { $a <=> $b } map { $_->{cpu} } @r;
		my %m = map { my $k = $_; $k => median(map { $_->{$k} } @r) }
			qw(cpu rate busy p50 p99 node_connections);

		print "| $peer | ", show('%.4f', $m{cpu}), ' | ',
			show('%.4f', $cpu[0]), '-', show('%.4f', $cpu[-1]),
			' | ', show('%.2f',
			ratio($name, 'relay', $peer, 'cpu')), ' | ',
			show('%.0f', $m{rate}), ' | ',
			show('%.0f %%', defined $m{busy} ? $m{busy} * 100
			: undef), ' | ', show('%.0f', $m{p50}), ' | ',
			show('%.0f', $m{p99}), ' | ',
			show('%.0f', $m{node_connections}), " |\n";
	}

	print "\n";
}


sub print_targets {
	return unless grep { $_ eq 'relay' } @peers;

	my @to = grep { my $p = $_; grep { $_ eq $p } @peers } qw(mail stream);

	return unless @to;

	print "### relay against its peers\n\n| workload |",
		map({ " $_ | target |" } @to), "\n| --- ",
		'| ---: ' x (2 * @to), "|\n";

	for my $name (@names) {
		my $key = $workloads{$name}{idle} ? 'memory' : 'cpu';

		print "| $name |", map({
			' ' . show('%.2f', ratio($name, 'relay', $_, $key))
			. ' | ' . show('%.2f', $targets{$_}{$name}) . ' |'
		} @to), "\n";
	}

	print "\n";
}


sub record {
	my ($name, $peer, $round, $r) = @_;

	return unless $opt{output};

	open my $f, '>>', $opt{output} or die "$opt{output}: $!\n";

	print $f "{\"workload\":\"$name\",\"peer\":\"$peer\",\"round\":$round",
		(map { defined $r->{$_} ? ",\"$_\":" . (0 + $r->{$_}) : '' }
		sort keys %$r), "}\n";
	close $f;
}
