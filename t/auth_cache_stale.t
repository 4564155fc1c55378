# The auth service is out of order: what was let in is let in, and nobody is
# told that his secret is wrong.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Verdicts;

use Time::HiRes qw/ time /;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');
my $v = SMTPRelay::Verdicts->new($t);

my $conf = <<'EOC';
worker_processes  %%WORKERS%%;

stream {
    log_format  login  "$smtp_relay_event $smtp_relay_user $smtp_relay_account "
                       "$smtp_relay_auth_status $smtp_relay_auth_source";
    access_log  access.log  login;

    upstream auth {
        server  127.0.0.1:%%PORT_auth%%  max_fails=0;
    }

    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;

    smtp_relay_auth_cache_zone     zone=verdicts:2m;
    smtp_relay_auth_cache          verdicts valid=1s invalid=1s stale=1h;
    smtp_relay_auth                http://auth/;
    smtp_relay_auth_timeout        2s;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_without%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth        http://auth/without;
        smtp_relay_auth_cache  verdicts valid=1s;
    }

    server {
        listen                 127.0.0.1:%%PORT_short%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth        http://auth/short;
        smtp_relay_auth_cache  verdicts valid=1s stale=1s;
    }

    server {
        listen                 127.0.0.1:%%PORT_each%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth        http://auth/each;
        smtp_relay_auth_cache  verdicts valid=0 stale=1h;
    }

    server {
        listen                 127.0.0.1:%%PORT_others%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth        http://auth/others;
        smtp_relay_auth_cache  verdicts valid=1s stale=1h;
    }
}
EOC

for my $workers (1, 4) {
    $t->stop();
    $t->start($conf =~ s/%%WORKERS%%/$workers/r);

    others("$workers");
    outage("$workers");
    answers("$workers");
}

done_testing();


# Requests that the service has no verdict on, or chokes on, say nothing about
# those of others: who makes them does not keep a revoked key alive.

sub others {
    my ($n) = @_;

    for my $answer (qw/ 400 404 429 431 500 503 :close :reset /) {
        my $revoked = $v->user("revoked$n-$answer" =~ tr/://dr);
        my $stranger = $v->user("stranger$n-$answer" =~ tr/://dr, $answer);

        like($v->login($revoked, 'others'), qr/^235/, "$n: $answer: let in");
        $v->user($revoked, 'Auth-Status: Revoked');

        ok(wait_until { $v->login($stranger, 'others') =~ /^454/
                        && $v->login($revoked, 'others') =~ /^535/ },
           "$n: $answer: the login of another one fails, the key is revoked");
        is(scalar(grep { /^session $revoked .* stale$/ }
                  $t->lines('access.log')), 0,
           "$n: $answer: and was not let in meanwhile");
    }

    # of one who was let in before: only what is the service's own fault

    for my $answer (qw/ 404 429 /) {
        my $revoked = $v->user("revoked2$n-$answer");
        my $known = $v->user("known$n-$answer");

        like($v->login($_, 'others'), qr/^235/, "$n: $answer: let in")
            for $revoked, $known;
        $v->user($revoked, 'Auth-Status: Revoked');
        $v->user($known, $answer);

        ok($v->source_becomes($known, 'stale', 'others'),
           "$n: $answer: one has a stale verdict");
        ok(wait_until { $v->login($known, 'others') =~ /^235/
                        && $v->login($revoked, 'others') =~ /^535/ },
           "$n: $answer: the other one is asked for");
        is(scalar(grep { /^session $revoked .* stale$/ }
                  $t->lines('access.log')), 0,
           "$n: $answer: and was not let in meanwhile");
    }

    return;
}


# The service is stopped.

sub outage {
    my ($n) = @_;

    my $old = $v->user("old$n", "Auth-Account: of-old$n");
    my $bad = $v->user("bad$n", 'Auth-Status: No more');
    my $strict = $v->user("strict$n", "Cache-Control: max-age=1, must-revalidate");
    my $lax = $v->user("lax$n", "Cache-Control: stale-if-error=3600");
    my $each = $v->user("each$n");

    like($v->login($old, $_), qr/^235/, "$n: let in, $_")
        for qw/ smtp without short /;
    like($v->login($bad), qr/^535/, "$n: denied");
    like($v->login($strict), qr/^235/, "$n: let in, must-revalidate");
    like($v->login($lax, 'without'), qr/^235/, "$n: let in, stale-if-error");
    like($v->login($each, 'each'), qr/^235/, "$n: let in");
    like($v->login($each, 'each'), qr/^235/, "$n: let in, asked for again");
    is($v->requests($each), 2, "$n: valid=0: asked each time");

    $v->stop();

    my $start = time();
    wait_until { $v->login($old, 'without') !~ /^235/ };
    like($v->login($old, 'without'), qr/^454 4\.7\.0/, "$n: no stale verdict");
    ok(wait_until { $v->login($bad) !~ /^535/ }, "$n: a denial expires");
    like($v->login($bad), qr/^454 4\.7\.0/, "$n: and does not serve");
    ok(wait_until { $v->login($strict) =~ /^454 4\.7\.0/ },
       "$n: must-revalidate");
    like($v->login($lax, 'without'), qr/^235/, "$n: stale-if-error");
    like($v->login($each, 'each'), qr/^235/, "$n: valid=0 with a stale verdict");

    like($v->login($old), qr/^235/, "$n: a stale verdict lets in") for 1 .. 5;
    ok(wait_until { grep { $_ eq "session $old of-$old ok stale" }
                    $t->lines('access.log') },
       "$n: log: it is stale, and says what it said");
    like($v->login($old, 'smtp', 'guess'), qr/^454 4\.7\.0/, "$n: a wrong secret");

    ok(wait_until { $v->login($old, 'short') =~ /^454/ },
       "$n: a stale verdict ends, too");

    my @warnings = $t->log_lines(qr/\[warn\] .*auth service is out of order/);
    my $possible = 3 * (2 + int((time() - $start) / 10));
    cmp_ok(scalar @warnings, '>', 0, "$n: log: a warning");
    cmp_ok(scalar @warnings, '<=', $n * 20 + $possible, "$n: log: no flood");

    $v->user($old, "Auth-Account: new-$old");
    $v->start();
    ok(wait_until { $v->login($old);
                    grep { $_ eq "session $old new-$old ok service" }
                    $t->lines('access.log') },
       "$n: the service is back and is asked");
    ok($t->wait_log(qr/\[notice\] .*auth service is back/), "$n: log: back");
    return;
}


# It answers, but that is no verdict.

sub answers {
    my ($n) = @_;

    my $user = $v->user("answers$n");
    like($v->login($user), qr/^235/, "$n: let in");

    for my $answer (500, 503, 429, 404, 302, ':close', ':reset') {
        $v->answer($answer);
        ok($v->source_becomes($user, 'stale'), "$n: $answer: stale");
        like($v->login($user), qr/^235/, "$n: $answer: let in");
    }

    for my $answer (400, 405, 413, 431) {
        $v->answer($answer);
        ok(wait_until { $v->login($user) =~ /^454 4\.7\.0/ },
           "$n: $answer: the request is refused, nothing is out of order");
        $v->answer('500');
        ok($v->source_becomes($user, 'stale'),
           "$n: $answer: the verdict is still there");
    }

    $v->answer("Auth-Status: Later\nAuth-Error-Code: 451 4.3.0");
    ok(wait_until { $v->login($user) =~ /^451 4\.3\.0 Later/ },
       "$n: what the service says wins");
    $v->answer('Auth-Max-Size: none');
    ok(wait_until { $v->login($user) =~ /^454/ },
       "$n: a plan that makes no sense is not passed over");
    $v->answer('500');
    ok($v->source_becomes($user, 'stale'), "$n: the verdict is still there");
    $v->answer('Auth-Status: Revoked');
    ok(wait_until { $v->login($user) =~ /^535 5\.7\.8 Revoked/ },
       "$n: a denial ends it");
    $v->answer('500');
    ok(wait_until { $v->login($user) =~ /^454/ }, "$n: for good");
    $v->answer();
    return;
}
