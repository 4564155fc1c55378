# One name of a session goes with it to the auth service and to nodes, and
# one of a message as a trace context.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $behind = $t->node('behind', proxy => 1);
my $auth = $t->auth_service('auth', users => { user => 'secret' });

$t->start(<<'EOC');
stream {
    map $smtp_relay_session_id $span {
        "~(?<last>.{16})$"  $last;
    }

    log_format  all  '$smtp_relay_event $smtp_relay_session_id '
                     '$smtp_relay_trace_id';
    access_log  all.log  all;

    smtp_relay_starttls         off;
    smtp_relay_auth             http://127.0.0.1:%%PORT_auth%%/auth;
    smtp_relay_auth_set_header  X-Session-ID  $smtp_relay_session_id;
    smtp_relay_auth_set_header  traceparent   00-$smtp_relay_trace_id-$span-01;
    smtp_relay_add_header       X-Session-ID  $smtp_relay_session_id;
    smtp_relay_add_header       traceparent   00-$smtp_relay_trace_id-$span-01;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                     127.0.0.1:%%PORT_proxy%%;
        smtp_relay_pass            127.0.0.1:%%PORT_behind%%;
        smtp_relay_proxy_protocol  v2;
    }
}
EOC

my $c = $t->session('smtp');
like($c->message("X-Session-ID: forged\r\n\r\ntext\r\n"), qr/^250/, 'a message')
    for 1, 2;
$c->must('QUIT', '221');

my @lines = $t->wait_lines('all.log', 3);
my ($id) = $lines[2] =~ /^session ([0-9a-f]{24}) /;
ok($id, 'session id in the log') or diag("@lines");
my $span = substr $id, 8;

is($lines[2], "session $id ${id}00000000", 'of the session');
is($lines[0], "message $id ${id}00000001", 'of a message');
is($lines[1], "message $id ${id}00000002", 'of the next');

my ($request) = $auth->wait_requests(1);
is($request->{headers}{'x-session-id'}, $id, 'the auth service gets it');
is($request->{headers}{traceparent}, "00-${id}00000000-$span-01",
   'and the trace context of the session');

my @messages = $node->messages();

for my $n (1, 2) {
    my $data = $messages[$n - 1]{data};

    is_deeply([ $data =~ /^X-Session-ID: (.*)\r$/mg ], [ $id ],
              "message $n has the id, and none but this");
    is_deeply([ $data =~ /^traceparent: (.*)\r$/mg ],
              [ "00-${id}0000000$n-$span-01" ], 'and a trace context');
}

is((grep { !/session: $id/ } $t->log_lines(qr/message accepted/)), 0,
   'the error log has it');

# PP2_TYPE_UNIQUE_ID

$c = $t->session('proxy');
like($c->message("text\r\n"), qr/^250/, 'a message');
$c->must('QUIT', '221');

@lines = $t->wait_lines('all.log', 5);
($id) = $lines[4] =~ /^session ([0-9a-f]{24}) /;

is(visible(substr $behind->proxy_header(1), 28),
   visible(pack('C n a24', 5, 24, $id)), 'the header of the PROXY protocol');

done_testing();
