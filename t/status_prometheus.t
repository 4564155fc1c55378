# A Prometheus that scrapes the relay.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Status;

use JSON::PP ();
use POSIX ();

my $program = SMTPRelay::Status::program('prometheus')
    or plan(skip_all => 'no prometheus');

my $t = SMTPRelay::Test->new();

$t->node('one');
$t->keys(user => 'secret');

$t->start(<<'EOC');
stream {
    smtp_relay_status_zone  status:1m;
    smtp_relay_starttls     off;
    smtp_relay_auth_file    keys;

    upstream 'group "1"' {
        zone    group 64k;
        server  127.0.0.1:%%PORT_one%%;
    }

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  'group "1"';
    }
}

http {
    access_log off;

    server {
        listen             127.0.0.1:%%PORT_http%%;
        location = /smtp { smtp_relay_status; }
    }
}
EOC

my $dir = $t->dir();
my $port = $t->port('prometheus');

spew("$dir/prometheus.yml", <<EOC);
global:
  scrape_interval: 250ms
  scrape_timeout: 200ms
scrape_configs:
  - job_name: smtp_relay
    metrics_path: /smtp
    static_configs:
      - targets: ["127.0.0.1:${\$t->port('http')}"]
EOC

defined(my $pid = fork()) or die "cannot fork: $!\n";

if (!$pid) {
    SMTPRelay::Util::in_child();
    $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP CHLD PIPE /;
    open STDOUT, '>', "$dir/prometheus.log";
    open STDERR, '>&', \*STDOUT;
    { no warnings 'exec';
      exec $program, "--config.file=$dir/prometheus.yml",
           "--storage.tsdb.path=$dir/tsdb",
           "--web.listen-address=127.0.0.1:$port"; }
    POSIX::_exit(127);
}

END {
    if ($pid && !SMTPRelay::Util::is_child()) {
        my $status = $?;
        kill 'KILL', $pid;
        waitpid $pid, 0;
        $? = $status;
    }
}

my $p = SMTPRelay::Status->new(port => $port);

# the value of a query that has one result, with its labels; undef: none yet

sub query {
    my ($query) = @_;

    $query =~ s/([^\w])/sprintf '%%%02X', ord $1/ge;

    my $reply = eval { $p->get("/api/v1/query?query=$query") } or return;
    my $json = eval { JSON::PP->new->decode($reply->{body}) } or return;
    my $result = $json->{data}{result};

    return unless $result && @$result == 1;
    return wantarray ? ($result->[0]{value}[1], $result->[0]{metric})
                     : $result->[0]{value}[1];
}

sub soon {
    my ($query, $want, $name) = @_;

    my $got;
    wait_until { defined($got = query($query)) && $got eq $want } 20;
    is($got, $want, $name) or diag($t->read('prometheus.log'));
    return;
}

soon('up{job="smtp_relay"}', 1, 'Prometheus scrapes');
soon('smtp_relay_sessions_open', 0, 'no session');

my $c = $t->session('smtp');
$c->message("x\r\n") for 1 .. 3;

soon('smtp_relay_sessions_open', 1, 'a session');
soon('smtp_relay_messages_total{result="accepted"}', 3, 'messages');
soon('sum(smtp_relay_node_messages_total)', 3, 'messages of nodes');
soon('smtp_relay_message_size_bytes_bucket{le="1024"}', 3, 'a histogram');
soon('smtp_relay_auth_total{method="plain",result="ok"}', 1, 'a login');

my ($value, $labels) = query('smtp_relay_node_up');

is($value, 1, 'a node is up');
is($labels->{upstream}, 'group "1"', 'a label as it was');
is($labels->{node}, '127.0.0.1:' . $t->port('one'), 'another');

($value) = query('histogram_quantile(0.99, '
                 . 'smtp_relay_message_duration_seconds_bucket)');
like($value, qr/^[\d.]+$/, 'a quantile');

$c->close();

done_testing();
