# The cache of verdicts: what is kept, for how long, and for whom.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Verdicts;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $other = $t->node('other');
$t->keys(infile => 'secret');

my $v = SMTPRelay::Verdicts->new($t);

my $conf = <<'EOC';
worker_processes  %%WORKERS%%;

stream {
    log_format  login  "$smtp_relay_event $smtp_relay_user $smtp_relay_account "
                       "$smtp_relay_auth_status $smtp_relay_auth_source "
                       "$smtp_relay_auth_http_x_plan";
    access_log  access.log  login;

    upstream spare {
        server  127.0.0.1:%%PORT_other%%;
    }

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;

    smtp_relay_auth_cache_zone     zone=verdicts:1m;
    smtp_relay_auth_cache          verdicts valid=1h invalid=1h;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/smtp/auth;

    server {
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        listen  127.0.0.1:%%PORT_smtp%%;
    }

    server {
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        listen                 127.0.0.1:%%PORT_short%%;
        smtp_relay_auth_cache  verdicts valid=1s;
        smtp_relay_auth        http://127.0.0.1:%%PORT_auth%%/short;
    }

    server {
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        listen                     127.0.0.1:%%PORT_anywhere%% proxy_protocol;
        set_real_ip_from           127.0.0.1;
        smtp_relay_auth            http://127.0.0.1:%%PORT_auth%%/anywhere;
        smtp_relay_auth_cache_key  "";
    }

    server {
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        listen            127.0.0.1:%%PORT_address%% proxy_protocol;
        set_real_ip_from  127.0.0.1;
        smtp_relay_auth   http://127.0.0.1:%%PORT_auth%%/address;
    }

    server {
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        listen                     127.0.0.1:%%PORT_text%% proxy_protocol;
        set_real_ip_from           127.0.0.1;
        smtp_relay_auth            http://127.0.0.1:%%PORT_auth%%/text;
        smtp_relay_auth_cache_key  $server_port-$proxy_protocol_port;
    }

    server {
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        listen                 127.0.0.1:%%PORT_off%%;
        smtp_relay_auth_cache  off;
    }

    server {
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        listen                127.0.0.1:%%PORT_both%%;
        smtp_relay_auth_file  keys;
    }

    server {
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        listen                   127.0.0.1:%%PORT_digest%%;
        smtp_relay_auth_methods  plain login cram-md5;
    }
}
EOC

for my $workers (1, 4) {
    $t->stop();
    $t->start($conf =~ s/%%WORKERS%%/$workers/r);
    check(" ($workers)");
}

done_testing();


sub check {
    my ($n) = @_;

    # a verdict is asked for once

    my $user = user("ok$n" =~ tr/ ()//dr, "X-Plan: gold\nAuth-Account: a-$n");

    like(login($user), qr/^235 2\.7\.0/, "a login$n");
    is(asked($user), 1, "the service is asked$n");
    like(login($user), qr/^235 2\.7\.0/, "again$n") for 1 .. 5;
    is(asked($user), 1, "and not any more$n");

    ok(wait_until { 5 == grep { /^session $user a-\Q$n\E ok cache gold/ }
                    $t->lines('access.log') },
       "account and headers are those of the reply$n");
    is(scalar(grep { /^session $user .* service / } $t->lines('access.log')),
       1, "one came from the service$n");

    # what else a verdict is about

    like(login($user, 'smtp', 'another'), qr/^235/, "another secret$n");
    is(asked($user), 2, "is another login$n");
    like(login($user, 'short'), qr/^235/, "another service$n");
    is(asked($user), 3, "is asked$n");

    my $c = $t->greeted('smtp');
    $c->must('AUTH LOGIN', '334');
    $c->must($c->plain('', '') && b64($user), '334');
    $c->try(b64('secret'), '235', "another method$n");
    is(asked($user), 4, "is told to the service$n");

    like(login($user, 'off'), qr/^235/, "smtp_relay_auth_cache off$n") for 1, 2;
    is(asked($user), 6, "is asked each time$n");

    # a denial, with its text and code

    my $denied = user("denied$n" =~ tr/ ()//dr,
                      "Auth-Status: Suspended\nAuth-Error-Code: 525 5.7.13");

    like(login($denied), qr/^525 5\.7\.13 Suspended$/, "a denial$n") for 1, 2;
    is(asked($denied), 1, "is kept as invalid= says$n");
    like(login($denied, 'short'), qr/^525 5\.7\.13 Suspended$/, "a denial$n")
        for 1, 2;
    is(asked($denied), 3, "is not without it$n");
    is(scalar(grep { /^session $denied \S+ denied cache/ }
              $t->wait_lines('access.log', 1)), 1, "log: denied by cache$n")
        if wait_until { grep { /^session $denied \S+ denied cache/ }
                        $t->lines('access.log') };

    # a secret that was changed, and one that was guessed

    my $key = user("key$n" =~ tr/ ()//dr, 'Secret: old');

    like(login($key, 'smtp', 'old'), qr/^235/, "the secret$n");
    like(login($key, 'smtp', 'guess'), qr/^535/, "a guess$n") for 1, 2;
    like(login($key, 'smtp', 'old'), qr/^235/, "it is still good$n");
    is(asked($key), 2, "each was asked once$n");

    user($key, 'Secret: new');
    like(login($key, 'smtp', 'new'), qr/^235/, "a new secret$n");

    # time

    my $brief = user("brief$n" =~ tr/ ()//dr);

    like(login($brief, 'short'), qr/^235/, "a verdict for a second$n");
    user($brief, 'Auth-Status: Revoked');
    ok(wait_until { login($brief, 'short') =~ /^535 5\.7\.8 Revoked/ },
       "is asked for again$n");
    is(asked($brief), 2, "once$n");
    like(login($brief, 'short'), qr/^535/, "a denial takes its place$n");
    is(asked($brief), 3, "which is not kept$n");

    # errors are never kept

    for my $status (500, 429, 404) {
        my $name = user("error$status$n" =~ tr/ ()//dr, $status);

        like(login($name), qr/^454 4\.7\.0/, "status $status$n");
        user($name);
        like(login($name), qr/^235/, "is not kept$n");
    }

    my $later = user("later$n" =~ tr/ ()//dr,
                     "Auth-Status: Later\nAuth-Error-Code: 451 4.3.0");

    like(login($later), qr/^451 4\.3\.0 Later$/, "a temporary code$n");
    user($later);
    like(login($later), qr/^235/, "is not kept$n");

    my $plan = user("plan$n" =~ tr/ ()//dr, 'Auth-Max-Size: huge');

    like(login($plan), qr/^454 4\.7\.0/, "a plan that makes no sense$n");
    user($plan);
    like(login($plan), qr/^235/, "is not kept$n");

    # addresses

    my $far = user("far$n" =~ tr/ ()//dr);
    my @from = ('192.0.2.1 192.0.2.9 40001', '192.0.2.2 192.0.2.9 40002',
                '192.0.2.1 192.0.2.9 40003');

    like(login_from($_, 'address', $far), qr/^235/, "from $_$n") for @from;
    is(asked($far), 2, "an address is asked for once$n");
    like(login_from($_, 'anywhere', $far), qr/^235/, "from $_$n") for @from;
    is(asked($far), 3, "a key without an address$n");
    like(login_from($_, 'text', $far), qr/^235/, "from $_$n")
        for @from, $from[0];
    is(asked($far), 6, "a key with variables$n");

    # Cache-Control

    control($n, 'no-store', 2);
    control($n, 'no-cache, max-age=60', 2);
    control($n, 'private', 2);
    control($n, 'max-age=0', 2);
    control($n, 'max-age=x', 2);
    control($n, 'max-age=60', 1, 'short');
    control($n, 'public, MAX-AGE="60"', 1);
    control($n, 'max-age=0, s-maxage=60', 1);
    control($n, 's-maxage=60, max-age=0', 1);
    control($n, 's-maxage=0, max-age=60', 2);
    control($n, 'max-age=99999999999999999999', 1);
    control($n, ',,=, ,max-ages=0', 1);

    my $aged = user("aged$n" =~ tr/ ()//dr, 'Cache-Control: max-age=1');

    like(login($aged), qr/^235/, "max-age=1$n");
    ok(wait_until { login($aged); asked($aged) == 2 },
       "is asked for again after a second$n");

    # the file comes first

    like(login('infile', 'both', 'secret'), qr/^235/, "a user of the file$n");
    is(asked('infile'), 0, "is not looked for elsewhere$n");

    # CRAM-MD5

    my $digest = user("digest$n" =~ tr/ ()//dr);

    for (1, 2) {
        my $c = $t->greeted('digest');
        $c->must('AUTH CRAM-MD5', '334');
        $c->must(b64("$digest 0123456789abcdef0123456789abcdef"), '235');
    }

    is(asked($digest), 2, "digests of CRAM-MD5 are not kept$n");

    # where the message goes

    my $port = $t->port('other');
    my $routed = user("routed$n" =~ tr/ ()//dr,
                      "Auth-Server: 127.0.0.1\nAuth-Port: $port\n"
                      . "Auth-Max-Recipients: 1\nAuth-Senders: a.example");
    my $grouped = user("grouped$n" =~ tr/ ()//dr, 'Auth-Upstream: spare');

    for my $name ($routed, $grouped) {
        for my $source ('service', 'cache') {
            my $c = $t->greeted('smtp');
            my $before = () = $other->messages();

            $c->must('AUTH PLAIN ' . $c->plain($name, 'x'), '235');
            $c->try('MAIL FROM:<x@b.example>', '550 5.7.1',
                    "a sender, $source$n") if $name eq $routed;
            $c->must('MAIL FROM:<x@a.example>', '250');
            $c->must('RCPT TO:<y@example.org>', '250');
            $c->try('RCPT TO:<z@example.org>', '452 4.5.3',
                    "recipients, $source$n") if $name eq $routed;
            $c->must('DATA', '354');
            $c->must("Subject: x\r\n\r\nx\r\n.", '250');
            ok(wait_until { $before < (() = $other->messages()) },
               "$name: a message goes where the verdict says, $source$n");
        }

        is(asked($name), 1, "$name: asked once$n");
    }

    return;
}


sub control {
    my ($n, $value, $times, $port) = @_;

    my $name = user("control-$value-$n" =~ tr/A-Za-z0-9//cdr,
                    "Cache-Control: $value");

    like(login($name, $port), qr/^235/, "$value$n") for 1, 2;
    is(asked($name), $times, "asked $times times$n");
    return;
}


sub b64 {
    my ($text) = @_;
    require MIME::Base64;
    return MIME::Base64::encode_base64($text, '');
}


# How often the service was asked about a user.

sub asked { return $v->requests($_[0]) }

sub user { return $v->user(@_) }
sub login { return $v->login(@_) }


sub login_from {
    my ($from, $port, $user) = @_;

    my $c = $t->client($port);
    my ($src, $dst, $number) = split / /, $from;

    $c->send("PROXY TCP4 $src $dst $number 25\r\n");
    $c->must(undef, '220');
    $c->must('EHLO client.example', '250');
    return $c->ask('AUTH PLAIN ' . $c->plain($user, 'x'));
}
