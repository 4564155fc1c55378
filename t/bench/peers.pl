# The peers of the benchmark: their configurations, and how they are started.

use warnings;
use strict;

use Time::HiRes qw(sleep);

our (%opt, %children, $build, $nginx, $module, $files, $user, $secret,
	$haproxy);


sub has {
	my ($word) = @_;

	our %known;

	$known{$word} //= index(slurp($module || $nginx), "$word\0") >= 0;

	return $known{$word};
}


sub start_proxy {
	my ($peer, $nodes, $auth) = @_;

	my $port = free_port();
	my $dir = "$build/run";
	my @cmd;

	if ($peer eq 'haproxy') {
		spew("$dir/haproxy.cfg", conf_haproxy($port, $nodes));
		@cmd = ($haproxy, '-db', '-f', "$dir/haproxy.cfg");

	} elsif ($peer eq 'postfix') {
		conf_postfix($port, $nodes);
		@cmd = ('/usr/sbin/postfix', '-c', "$dir/postfix", 'start-fg');

	} else {
		my %conf = (relay => \&conf_relay, early => \&conf_early,
			mail => \&conf_mail, stream => \&conf_stream);

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


sub conf_early {
	my ($port, $nodes, $auth) = @_;

	return conf_relay($port, $nodes, $auth,
		'smtp_relay_early_replies mail data;');
}


sub conf_relay {
	my ($port, $nodes, $auth, $more) = @_;

	$more //= '';

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

	my $limits = '';

	for my $i (1 .. $opt{limits}) {
		my $kind = $i % 2 ? 'msg' : 'rcpt';
		my $key = $i > 2 ? '$binary_remote_addr' : '$smtp_relay_account';

		$text .= "smtp_relay_limit_${kind}_zone $key zone=l$i:10m"
			. " rate=1000000r/s;\n";
		$limits .= "smtp_relay_limit_$kind l$i burst=1000000 nodelay;\n";
	}

	if ($opt{auth} ne 'file') {
		my $cache = '';

		if ($opt{auth} eq 'cache'
			&& has('smtp_relay_auth_cache_zone'))
		{
			$text .= "smtp_relay_auth_cache_zone zone=auth:1m;\n";
			$cache = "smtp_relay_auth_cache auth valid=5m;\n";
		}

		$auth = "smtp_relay_auth http://127.0.0.1:$auth/group;\n"
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
    $limits
    $opt{'relay-conf'}
    $more
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


1;
