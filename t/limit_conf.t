# What nginx -t says of the directives smtp_relay_limit_...

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new(expected_alerts => qr/\[emerg\]/);
$t->keys(user => 'secret');

my $zones = <<'EOC';
smtp_relay_limit_conn_zone  $remote_addr  zone=conn:32k;
smtp_relay_limit_msg_zone   $remote_addr  zone=msg:32k   rate=1r/s;
smtp_relay_limit_msg_zone   $remote_addr  rate=1r/m  zone=slow:32k  full=closed;
smtp_relay_limit_rcpt_zone  $remote_addr  zone=day:32k   rate=1r/d  full=open;
EOC

my @good = (
    'smtp_relay_limit_conn conn 1;',
    'smtp_relay_limit_conn zone=conn 1000000000;',
    'smtp_relay_limit_msg msg; smtp_relay_limit_msg slow;',
    'smtp_relay_limit_msg msg burst=300;',
    'smtp_relay_limit_msg msg burst=5 nodelay;',
    'smtp_relay_limit_msg msg nodelay burst=5;',
    'smtp_relay_limit_msg msg delay=2 burst=5;',
    'smtp_relay_limit_rcpt day;',
    map { "smtp_relay_limit_log_level $_;" } qw/ info notice warn error /,
);

for my $directive (@good) {
    my ($status, $said) = check($zones, $directive);
    is($status, 0, $directive) or diag($said);
    unlike($said, qr/\[warn\].*limit/, "$directive without a warning");
}

my ($status, $said) = check('smtp_relay_limit_msg_zone $remote_addr zone=late:32k rate=1r/h;',
                            'smtp_relay_limit_msg late burst=1;');
is($status, 0, 'a long delay is permitted');
like($said, qr/\[warn\] .*"smtp_relay_limit_msg" with zone "late" may hold back replies for 3600 seconds, clients give up after 300, in \S+nginx.conf:\d+/,
     'with a warning');

# a zone may stand further down

($status, $said) = check('', 'smtp_relay_limit_conn below 1;',
                         'smtp_relay_limit_conn_zone $remote_addr zone=below:32k;');
is($status, 0, 'a zone further down') or diag($said);

my @bad = (
    [ $zones, 'smtp_relay_limit_conn conn 0;', qr/"smtp_relay_limit_conn" has an invalid number of sessions "0"/ ],
    [ $zones, 'smtp_relay_limit_conn conn x;', qr/invalid number of sessions "x"/ ],
    [ $zones, 'smtp_relay_limit_conn conn;', qr/invalid number of arguments in "smtp_relay_limit_conn"/ ],
    [ $zones, 'smtp_relay_limit_conn conn 1; smtp_relay_limit_conn conn 2;', qr/"smtp_relay_limit_conn" names zone "conn" twice/ ],
    [ $zones, 'smtp_relay_limit_conn none 1;', qr/"smtp_relay_limit_conn": there is no "smtp_relay_limit_conn_zone" with zone "none"/ ],
    [ $zones, 'smtp_relay_limit_conn msg 1;', qr/there is no "smtp_relay_limit_conn_zone" with zone "msg"/ ],
    [ $zones, 'smtp_relay_limit_rcpt msg;', qr/"smtp_relay_limit_rcpt": there is no "smtp_relay_limit_rcpt_zone" with zone "msg"/ ],
    [ $zones, 'smtp_relay_limit_msg msg burst=-1;', qr/"smtp_relay_limit_msg" has an invalid parameter "burst=-1"/ ],
    [ $zones, 'smtp_relay_limit_msg msg burst=1000000001;', qr/invalid parameter "burst=1000000001"/ ],
    [ $zones, 'smtp_relay_limit_msg msg burst=1 burst=2;', qr/invalid parameter "burst=2"/ ],
    [ $zones, 'smtp_relay_limit_msg msg nodelay delay=2;', qr/invalid parameter "delay=2"/ ],
    [ $zones, 'smtp_relay_limit_msg msg now;', qr/invalid parameter "now"/ ],
    [ $zones, 'smtp_relay_limit_rcpt day burst=1;', qr/"smtp_relay_limit_rcpt": "burst", "delay" and "nodelay" do not go with zone "day"/ ],
    [ $zones, 'smtp_relay_limit_rcpt day nodelay;', qr/do not go with zone "day"/ ],
    [ $zones, 'smtp_relay_limit_log_level crit;', qr/"smtp_relay_limit_log_level" has an invalid value "crit"|invalid value "crit"/ ],
    [ $zones, 'smtp_relay_limit_dry_run maybe;', qr/invalid value "maybe" in "smtp_relay_limit_dry_run"/ ],
    [ $zones, 'smtp_relay_limit_conn_zone $remote_addr zone=x:32k;', qr/"smtp_relay_limit_conn_zone" directive is not allowed here/ ],
    [ 'smtp_relay_limit_conn_zone $remote_addr zone=a:32k rate=1r/s;', '', qr/"smtp_relay_limit_conn_zone" has an invalid parameter "rate=1r\/s"/ ],
    [ 'smtp_relay_limit_conn_zone $remote_addr zone=a:1k;', '', qr/"smtp_relay_limit_conn_zone": zone "zone=a:1k" is too small/ ],
    [ 'smtp_relay_limit_conn_zone $remote_addr zone=a;', '', qr/"smtp_relay_limit_conn_zone" has an invalid zone "zone=a"/ ],
    [ 'smtp_relay_limit_conn_zone $remote_addr full=open;', '', qr/"smtp_relay_limit_conn_zone" must have "zone" parameter/ ],
    [ "$zones smtp_relay_limit_conn_zone \$remote_addr zone=conn:32k;", '', qr/zone "conn" is already defined/ ],
    [ 'smtp_relay_limit_msg_zone $remote_addr zone=a:32k full=open;', '', qr/"smtp_relay_limit_msg_zone" must have "rate" parameter/ ],
    [ 'smtp_relay_limit_msg_zone $remote_addr zone=a:32k rate=1r/s full=maybe;', '', qr/invalid parameter "full=maybe"/ ],
    map { [ "smtp_relay_limit_msg_zone \$remote_addr zone=a:32k rate=$_;", '',
            qr/"smtp_relay_limit_msg_zone" has an invalid rate "\Q$_\E"/ ] }
        qw( 0r/s r/s 1r/x 1 1r/w -1r/s 1.5r/s 1000000001r/s ), '',
);

for my $case (@bad) {
    my ($main, $server, $pattern) = @$case;
    ($status, $said) = check($main, $server);
    my $name = $server || $main;
    isnt($status, 0, "$name is refused");
    like($said, $pattern, "$name: why");
    like($said, qr/ in \S+nginx\.conf:\d+/, "$name: where");
}

my $many = join "\n", map { "smtp_relay_limit_conn_zone \$remote_addr zone=z$_:32k;" } 1 .. 33;
($status, $said) = check($many, join ' ', map { "smtp_relay_limit_conn z$_ 1;" } 1 .. 33);
like($said, qr/"smtp_relay_limit_conn" is given more than 32 times/, 'at most 32 of a kind');

# another key, another kind for a zone that is there: the old configuration
# stays in force

my $conf = sub {
    my ($zone, $limit) = @_;
    return <<"EOC";
stream {
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;
    $zone
    server {
        listen  127.0.0.1:%%PORT_smtp%%;
        $limit
        smtp_relay_pass  127.0.0.1:1;
    }
}
EOC
};

$t->start($conf->('smtp_relay_limit_conn_zone $remote_addr zone=one:32k;', 'smtp_relay_limit_conn one 1;'));
my $c = $t->client('smtp');
$c->must(undef, '220');

$t->conf($conf->('smtp_relay_limit_conn_zone $remote_port zone=one:32k;', 'smtp_relay_limit_conn one 1;'));
kill 'HUP', $t->{pid};
ok($t->wait_log(qr/zone "one" of a limit uses the "\$remote_port" key while previously it used the "\$remote_addr" key/),
   'reload: another key is refused');

$t->conf($conf->('smtp_relay_limit_msg_zone $remote_addr zone=one:32k rate=1r/s;', 'smtp_relay_limit_msg one;'));
kill 'HUP', $t->{pid};
ok($t->wait_log(qr/zone "one" of a limit was used for another kind of limit previously/),
   'reload: another kind is refused');

$t->client('smtp')->expect(qr/^421 4\.7\.0 /, 'reload: the old limit is in force');

done_testing();


sub check {
    my ($main, $server, $after) = @_;
    $after //= '';

    return $t->check_conf(<<"EOC");
stream {
    smtp_relay_starttls   off;
    smtp_relay_auth_file  keys;
    $main
    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:1;
        $server
    }
    $after
}
EOC
}
