# Each allocation of the module fails once while a configuration is read: it
# is refused, and nothing worse comes of it.
#
# Takes an nginx built with t/fault (t/tools/build.sh, FAULT=1).

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Fault;

my ($first, $last) = module_range(SMTPRelay::Test::binary());

plan(skip_all => 'nginx is not built with t/fault') unless $first;

my $t = SMTPRelay::Test->new(
    expected_alerts => qr/\[emerg\] .*(?:is too small|cannot load|failed)/);
my $fault = $t->dir() . '/fault';

$ENV{SMTP_RELAY_FAULT} = $fault;
$ENV{SMTP_RELAY_FAULT_CONF} = 1;

$t->keys(user => 'secret', other => 'secret');
$t->certificates('localhost');

my $conf = <<'EOC';
stream {
    smtp_relay_status_zone        status:256k;
    smtp_relay_auth_cache_zone    zone=verdicts:256k;
    smtp_relay_auth_block_zone    $remote_addr  zone=guess:64k  failures=3
                                  window=1m time=1m;
    smtp_relay_limit_conn_zone    $remote_addr         zone=conn:64k;
    smtp_relay_limit_msg_zone     $smtp_relay_account  zone=msg:64k rate=1r/s;
    smtp_relay_limit_rcpt_zone    $smtp_relay_account  zone=rcpt:64k rate=1r/s;

    smtp_relay_hostname           $server_addr;
    ssl_certificate               localhost.crt;
    ssl_certificate_key           localhost.key;

    map $remote_addr $name { default localhost; }

    upstream nodes {
        zone    nodes 64k;
        server  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                       127.0.0.1:%%PORT_one%%;
        smtp_relay_auth              http://127.0.0.1:%%PORT_auth%%/$name;
        smtp_relay_auth_file         keys;
        smtp_relay_auth_cache        verdicts valid=1m invalid=1s stale=1m;
        smtp_relay_auth_cache_key    $remote_addr$name;
        smtp_relay_auth_set_header   X-One  $remote_addr;
        smtp_relay_auth_set_header   X-Two  two;
        smtp_relay_auth_block        guess failures=2 window=1m time=1m;
        smtp_relay_limit_conn        conn 2;
        smtp_relay_limit_msg         msg burst=2;
        smtp_relay_limit_rcpt        rcpt burst=2;
        smtp_relay_add_header        X-One  $name;
        smtp_relay_add_header        X-Two  two;
        smtp_relay_pass              nodes;
        smtp_relay_bind              $server_addr;
        smtp_relay_node_auth         $name secret;
        smtp_relay_node_helo         $name;
        smtp_relay_ssl               starttls;
        smtp_relay_ssl_name          $name;
        smtp_relay_ssl_trusted_certificate  ca.crt;
        smtp_relay_ssl_certificate          localhost.crt;
        smtp_relay_ssl_certificate_key      localhost.key;
        smtp_relay_keepalive         2;
    }

    server {
        listen                       127.0.0.1:%%PORT_two%%  ssl;
        smtp_relay_auth              https://127.0.0.1:%%PORT_auth%%/;
        smtp_relay_auth_ssl_trusted_certificate  ca.crt;
        smtp_relay_auth_ssl_certificate          %%TESTDIR%%/$name.crt;
        smtp_relay_auth_ssl_certificate_key      %%TESTDIR%%/$name.key;
        smtp_relay_bind              127.0.0.1;
        smtp_relay_pass              $name:25;
    }
}

http {
    access_log off;

    server {
        listen                127.0.0.1:%%PORT_http%%;
        location /status {
            smtp_relay_status;
        }
        location /purge {
            smtp_relay_auth_cache_purge;
        }
    }
}
EOC

my ($n, @taken, @died, %said);

for ($n = 1; $n < 5000; $n++) {
    spew($fault, pack 'LLQQ', $n, 0, $first, $last);

    my ($status, $said) = $t->check_conf($conf);
    my (undef, $fired) = unpack 'LL', slurp($fault);

    if (!$fired) {
        is($status, 0, 'with all of them the configuration is good')
            or diag($said);
        last;
    }

    push @taken, $n if $status == 0;
    push @died, "$n: status $status: $said" if $status != 0 && $status != 256;
}

cmp_ok($n, '>', 100, "allocations fail one by one: $n");
is(join("\n", @died), '', 'no process dies of it');
is("@taken", '', 'no configuration is taken that lacks one');

done_testing();
