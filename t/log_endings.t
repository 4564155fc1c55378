# The log line of a message and of a session, whichever way they end: what
# stands in it is that message's own, and there is one of each.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use JSON::PP ();

my $t = SMTPRelay::Test->new();

my $node = $t->node('node', script => {
    MAIL => sub { $_[0] =~ /refused/ ? '451 4.3.0 not now' : undef },
    RCPT => sub { $_[0] =~ /bad/ ? '550 5.1.1 nobody' : undef },
    DATA => sub { $_[3]{mail} =~ /nodata/ ? '452 4.3.1 full' : undef },
    eod => sub {
        my $from = $_[3]{mail};
        return $from =~ /spam/ ? '554 5.7.1 spam'
             : $from =~ /defer/ ? '450 4.2.0 later'
             : $from =~ /lost/ ? ':close' : undef;
    },
});

my $service = $t->auth_service('service', users => { user => 'secret' },
    answer => sub {
        my $user = $_[0]{headers}{'auth-user'};
        return $user eq 'down' ? ':close'
             : $user eq 'slow' ? { act => ':silent' } : undef;
    });

$t->keys(user => 'secret');
$t->certificates('localhost');

my @names = qw/
    event session_id trace_id helo protocol auth_method user account
    auth_status auth_source auth_time messages errors mail_from rcpt_to
    recipients recipients_rejected message_size message_status message_reply
    message_time node_reused
/;

my $format = join ', ', map { qq/"$_": "\$smtp_relay_$_"/ } @names;

$t->start(<<"EOC");
stream {
    log_format  json  escape=json  '{ $format, "status": "\$status", '
                                   '"node": "\$upstream_addr", '
                                   '"is": "\$is", "tls": "\$ssl_protocol" }';

    map \$smtp_relay_event \$is {
        message  message;
        session  session;
        default  nothing;
    }

    access_log  all.log  json;

    smtp_relay_starttls             on;
    smtp_relay_auth_file            keys;
    smtp_relay_auth_failure_delay   0;
    smtp_relay_max_errors           2;
    smtp_relay_max_recipients       2;
    smtp_relay_max_message_size     2000;
    ssl_certificate                 localhost.crt;
    ssl_certificate_key             localhost.key;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        listen           127.0.0.1:%%PORT_smtps%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_down%%;
        smtp_relay_pass  127.0.0.1:%%PORT_none%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_hasty%%;
        smtp_relay_login_timeout 200ms;
        smtp_relay_data_timeout  200ms;
        smtp_relay_timeout       200ms;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_few%%;
        smtp_relay_max_messages  1;
        smtp_relay_max_errors    0;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                   127.0.0.1:%%PORT_asked%%;
        smtp_relay_auth          http://127.0.0.1:%%PORT_service%%/auth;
        smtp_relay_auth_timeout  300ms;
        smtp_relay_pass          127.0.0.1:%%PORT_node%%;
    }

    server {
        listen           127.0.0.1:%%PORT_forbidden%%;
        deny             all;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen  127.0.0.1:%%PORT_other%%;
        return  "text";
    }
}
EOC

my $lines = 0;

# --- messages ----------------------------------------------------------------

my $c = $t->session('smtp');

ended('accepted', sub { $c->message("12345\r\n", 'a@b.example') },
      message_status => 250, recipients => 1, recipients_rejected => 0,
      mail_from => 'a@b.example', message_size => 7, messages => 1,
      message_reply => qr/^250 .*queued/, node_reused => 0);

ended('the null sender', sub { $c->message("1\r\n", '') },
      message_status => 250, mail_from => '', messages => 2, node_reused => 1);

ended('MAIL refused', sub { $c->ask('MAIL FROM:<refused@b.example>') },
      message_status => 451, message_reply => '451 4.3.0 not now',
      mail_from => 'refused@b.example', recipients => 0, messages => 2,
      rcpt_to => '');

ended('all recipients refused', sub {
          $c->must('MAIL FROM:<rcpt@b.example>', '250');
          $c->must('RCPT TO:<bad1@d.example>', '550');
          $c->must('RCPT TO:<bad2@d.example>', '550');
          $c->must('RSET', '250');
      },
      message_status => 550, message_reply => '550 5.1.1 nobody',
      recipients => 0, recipients_rejected => 2,
      rcpt_to => 'bad1@d.example');

ended('all recipients refused, and DATA', sub {
          $c->must('MAIL FROM:<rcpt@b.example>', '250');
          $c->must('RCPT TO:<bad1@d.example>', '550');
          $c->must('DATA', '554');
          $c->must('RSET', '250');
      }, message_status => 550, message_reply => '550 5.1.1 nobody');

ended('the same in one flight', sub {
          $c->send("MAIL FROM:<rcpt\@b.example>\r\n"
                   . "RCPT TO:<bad1\@d.example>\r\nDATA\r\n");
          $c->must(undef, $_) for qw/ 250 550 554 /;
      }, message_status => 550, message_reply => '550 5.1.1 nobody');

ended('a recipient refused, then one accepted, then given up', sub {
          $c->must('MAIL FROM:<rcpt@b.example>', '250');
          $c->must('RCPT TO:<bad1@d.example>', '550');
          $c->must('RCPT TO:<c@d.example>', '250');
          $c->must('RSET', '250');
      }, message_status => '', message_reply => '', recipients => 1,
      recipients_rejected => 1);

ended('more recipients than allowed', sub {
          $c->must('MAIL FROM:<many@b.example>', '250');
          $c->must("RCPT TO:<c$_\@d.example>", '250') for 1, 2;
          $c->must('RCPT TO:<c3@d.example>', '452');
          $c->must('DATA', '354');
          $c->send("1\r\n.\r\n");
          $c->must(undef, '250');
      }, message_status => 250, recipients => 2, recipients_rejected => 1);

ended('DATA refused', sub {
          $c->must('MAIL FROM:<nodata@b.example>', '250');
          $c->must('RCPT TO:<c@d.example>', '250');
          $c->must('DATA', '452');
      }, message_status => 452, message_reply => '452 4.3.1 full',
      message_size => 0);

ended('content refused', sub { $c->message("x\r\n", 'spam@b.example') },
      message_status => 554, message_reply => '554 5.7.1 spam');

ended('content deferred', sub { $c->message("x\r\n", 'defer@b.example') },
      message_status => 450, message_reply => '450 4.2.0 later');

ended('too big', sub { $c->message("x" x 2998 . "\r\n", 'big@b.example') },
      message_status => 552, message_size => 3000,
      message_reply => '552 5.3.4 Message too big');

ended('too big by BDAT', sub {
          $c->must('MAIL FROM:<big@b.example>', '250');
          $c->must('RCPT TO:<c@d.example>', '250');
          $c->send("BDAT 3000 LAST\r\n" . "x" x 2998 . "\r\n");
          $c->must(undef, '552');
      }, message_status => 552, message_size => 3000);

ended('the node lost at the end of data', sub {
          $c->message("x\r\n", 'lost@b.example') },
      message_status => 451, message_reply => '451 4.4.2 Delivery node lost');

ended('ended by EHLO', sub {
          $c->must('MAIL FROM:<ehlo@b.example>', '250');
          $c->must('EHLO client.example', '250');
      }, message_status => '', mail_from => 'ehlo@b.example', recipients => 0);

my $id = ended('ended by QUIT', sub {
          $c->must('MAIL FROM:<quit@b.example>', '250');
          $c->must('QUIT', '221');
      }, message_status => '', mail_from => 'quit@b.example')->{session_id};

ended('its session', sub { },
      event => 'session', session_id => $id, messages => 3, status => 200,
      map { $_ => '' } qw/ mail_from rcpt_to recipients recipients_rejected
                           message_size message_status message_reply
                           message_time node_reused node /);

$c = $t->session('down');
ended('no node', sub {
          $c->must('MAIL FROM:<a@b.example>', '451');
          sleep 1;
          $c->must('QUIT', '221');
      }, message_status => 451, message_time => qr/^0\./,
      message_reply => '451 4.4.1 No delivery node available',
      node => '127.0.0.1:' . $t->port('none'));
ended('its session', sub { }, event => 'session', status => 502);

for my $end (qw/ close reset /) {
    $c = $t->session('smtp');
    ended("client gone in the middle of content by $end", sub {
              $c->envelope('gone@b.example', 'c@d.example');
              $c->must('DATA', '354');
              $c->send("12345\r\n");
              $c->$end();
          }, message_status => '', mail_from => 'gone@b.example',
          message_size => qr/^[0-7]$/);
    ended('its session', sub { }, event => 'session', status => 200);
}

$c = $t->session('hasty');
ended('client silent in content', sub {
          $c->envelope('slow@b.example', 'c@d.example');
          $c->must('DATA', '354');
          $c->must(undef, '421');
      }, message_status => '', mail_from => 'slow@b.example');
ended('its session', sub { }, event => 'session', status => 408);

# --- sessions ----------------------------------------------------------------

ended('client silent', sub { $t->session('hasty')->must(undef, '421') },
      event => 'session', status => 408, auth_status => 'ok');

ended('client does not log in', sub {
          $t->greeted('hasty')->must(undef, '421') },
      event => 'session', status => 408, auth_status => '', account => '');

ended('messages of a session', sub {
          $c = $t->session('few');
          $c->message("x\r\n");
          $c->must('MAIL FROM:<a@b.example>', '421');
      }, {}, event => 'session', status => 503, messages => 1);

ended('errors are counted without a limit, too', sub {
          $c = $t->session('few');
          $c->must('XYZZY', '500') for 1 .. 5;
          $c->must('QUIT', '221');
      }, event => 'session', status => 200, errors => 5);

ended('errors', sub {
          $c = $t->session('smtp');
          $c->must('XYZZY', '500') for 1, 2;
          $c->must('XYZZY', '421');
      }, event => 'session', status => 400, errors => 3);

ended('another protocol', sub {
          $t->greeted('smtp')->must('GET / HTTP/1.0', '421') },
      event => 'session', status => 400);

ended('TLS on a port for plain text', sub {
          $c = $t->client('smtp');
          $c->must(undef, '220');
          $c->send("\x16\x03\x01\x02\x00\x01");
          $c->expect_closed('a ClientHello');
      }, event => 'session', status => 400, helo => '', protocol => '');

ended('logins denied', sub {
          $c = $t->greeted('smtp');
          $c->must('AUTH PLAIN ' . $c->plain('user', 'wrong'), '535')
              for 1 .. 3;
          $c->must(undef, '421');
      }, event => 'session', status => 403, user => 'user', account => '',
      auth_status => 'denied', auth_source => 'file', auth_method => 'plain',
      protocol => 'ESMTP');

ended('a login denied by the service', sub {
          $c = $t->greeted('asked');
          $c->must('AUTH PLAIN ' . $c->plain('else', 'x'), '535');
          $c->must('QUIT', '221');
      }, event => 'session', status => 403, user => 'else',
      auth_status => 'denied', auth_source => 'service');

ended('the service down', sub {
          $c = $t->greeted('asked');
          $c->must('AUTH PLAIN ' . $c->plain('down', 'x'), '454');
          $c->must('QUIT', '221');
      }, event => 'session', user => 'down', auth_status => 'error',
      auth_source => 'service', account => '');

ended('the service silent', sub {
          $c = $t->greeted('asked');
          $c->must('AUTH PLAIN ' . $c->plain('slow', 'x'), '454');
          $c->must('QUIT', '221');
      }, event => 'session', auth_status => 'error',
      auth_time => qr/^[0-9]+\.[0-9]{3}$/);

ended('client gone during AUTH', sub {
          $c = $t->greeted('asked');
          $c->send('AUTH PLAIN ' . $c->plain('slow', 'x') . "\r\n");
          $service->wait_requests(4);
          $c->close();
      }, event => 'session', user => 'slow', auth_status => qr/^(error)?$/);

ended('AUTH canceled', sub {
          $c = $t->greeted('smtp');
          $c->must('AUTH LOGIN', '334');
          $c->must('*', '501');
          $c->must('QUIT', '221');
      }, event => 'session', status => 200, user => '', auth_status => '');

ended('STARTTLS forgets the name', sub {
          $c = $t->greeted('smtp');
          $c->must('STARTTLS', '220');
          $c->start_tls() or die $c->tls_error();
          $c->must('QUIT', '221');
      }, event => 'session', status => 200, helo => '', protocol => '',
      tls => qr/^TLSv1/);

ended('a handshake that fails after STARTTLS', sub {
          $c = $t->greeted('smtp');
          $c->must('STARTTLS', '220');
          $c->send("no handshake\r\n");
          $c->drain(5);
      }, event => 'session', is => 'session', session_id => qr/^[0-9a-f]{24}$/,
      status => qr/^(400|500)$/);

ended('a handshake that fails', sub {
          $c = $t->client('smtps');
          $c->send("no handshake\r\n");
          $c->drain(5);
      }, event => 'session', is => 'session', session_id => '',
      status => qr/^(400|500)$/);

ended('refused by an access rule', sub { $t->client('forbidden')->drain(5) },
      event => 'session', is => 'session', status => 403, session_id => '',
      messages => '');

ended('no relay at all', sub { $t->client('other')->drain(5) },
      event => '', is => 'nothing', session_id => '', account => '');

# a session that is idle when the worker quits, and a message that is not

my $idle = $t->session('smtp');
my $busy = $t->session('smtp');
$busy->envelope('busy@b.example', 'c@d.example');
$busy->must('DATA', '354');
$t->quit();
ended('idle when nginx quits', sub { $idle->must(undef, '421') },
      event => 'session', status => 200);
ended('a message in the meantime', sub {
          $busy->send("x\r\n.\r\n");
          $busy->must(undef, '250');
      }, message_status => 250, mail_from => 'busy@b.example');
ended('its session', sub { }, event => 'session', status => 200,
      messages => 1);

$t->wait_exit();
is(scalar $t->lines('all.log'), $lines, 'no line more than these');

# every trace id is another one, and starts with the session's

my %seen;

for my $line ($t->lines('all.log')) {
    my $m = JSON::PP::decode_json($line);
    next unless $m->{session_id};

    $seen{$m->{trace_id}}++;
    like($m->{trace_id}, qr/^\Q$m->{session_id}\E(?:[0-9a-f]{8})$/, 'trace id')
        or last;
    last if $m->{event} eq 'session' && $m->{trace_id} !~ /0{8}$/
            && !fail('of a session');
}

is((grep { $_ > 1 } values %seen), 0, 'trace ids are unique');

done_testing();


# Does something after which there is one line more, for a message unless it
# is said otherwise, and checks its values: texts or patterns. {} skips a line
# in front of it.

sub ended {
    my ($name, $code, @want) = @_;

    my $skip = ref $want[0] ? shift @want : undef;
    my %want = (event => 'message', @want);

    $code->();
    $lines += $skip ? 2 : 1;

    my @lines = $t->wait_lines('all.log', $lines);
    my $line = $lines[$lines - 1] // '{}';
    my $m = eval { JSON::PP::decode_json($line) };
    ok($m, "$name: valid JSON") or diag($line);
    $m //= {};

    my @wrong = grep {
        my $value = $m->{$_} // '(none)';
        ref $want{$_} ? $value !~ $want{$_} : $value ne $want{$_};
    } sort keys %want;

    is("@wrong", '', "$name: its line")
        or diag("in $line\nwanted ",
                join ', ', map { "$_: $want{$_}" } @wrong);

    return $m;
}
