# What is kept of a key that was revoked: smtp_relay_auth_cache_purge, and
# what a reload leaves in the cache.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use IO::Socket::INET;

my $t = SMTPRelay::Test->new();
my $node = $t->node('node');

my $auth = $t->auth_service('auth', answer => sub {
    my ($request) = @_;

    my $user = $request->{headers}{'auth-user'} // '';
    my $gate = "waits-$user";

    return { 'Auth-Status' => 'Revoked' }
        if -e $t->dir() . "/revoked-$user";

    my $reply = "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n"
                . "Auth-Account: customer of $user\r\n"
                . "Content-Length: 0\r\n\r\n";

    return { act => { raw => $reply } } unless -e $t->dir() . "/$gate";
    return { act => { gate => $gate, raw => $reply } };
});

my $conf = <<'EOC';
worker_processes  2;

http {
    access_log  off;

    server {
        listen  127.0.0.1:%%PORT_http%%;

        location = /purge {
            smtp_relay_auth_cache_purge;
            allow  127.0.0.1;
            deny   all;
        }

        location = /closed {
            smtp_relay_auth_cache_purge;
            deny  all;
        }
    }
}

stream {
    smtp_relay_hostname            relay.example;
    smtp_relay_starttls            off;
    smtp_relay_auth_failure_delay  0;

    smtp_relay_auth_cache_zone     zone=one:%%SIZE%%;
    smtp_relay_auth_cache_zone     zone=two:1m;
    smtp_relay_auth_cache          one valid=%%VALID%%;
    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;

    server {
        listen           127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
    }

    server {
        listen                 127.0.0.1:%%PORT_two%%;
        smtp_relay_pass        127.0.0.1:%%PORT_node%%;
        smtp_relay_auth_cache  two valid=1h invalid=1h;
    }
}
EOC

$t->start(configured('1m', '1h'));

# an account

fill();
like(http('POST /purge?account=customer%20of%20ann'),
     qr/^HTTP\S+ 200 .*\r\n\r\n\{"purged": 3\}\n$/s,
     'an account is purged, all its secrets, in all zones');
is(asked_by_login('ann'), 1, 'it is asked for again');
is(asked_by_login('ben'), 0, 'others are not');
like(http('POST /purge?account=customer+of+ann'), qr/"purged": 0\}/,
     'a plus is a plus');
like(http('POST /purge?account=nobody'), qr/"purged": 0\}/,
     'an account that is not there');

# one zone

fill();
like(http('DELETE /purge?account=customer%20of%20ann&zone=two'),
     qr/"purged": 1\}/, 'in one zone, by DELETE');
is(asked_by_login('ann'), 0, 'the other one still has it');
like(http('POST /purge?all=1&zone=none'), qr/^HTTP\S+ 404 .*no such zone/s,
     'a zone that is not there');

# all

fill();
my ($purged) = http('PURGE /purge?all=1') =~ /"purged": (\d+)\}/;
cmp_ok($purged, '>=', 4, 'all is purged, by PURGE');
is(asked_by_login($_), 1, "$_ is asked for again") for qw/ ann ben /;
like(http('POST /purge?all=1&zone=one'), qr/"purged": 2\}/, 'all of a zone');
like(http('POST /purge?all=1'), qr/"purged": 0\}/, 'and nothing is left');

# what must not purge

fill();
like(http('GET /purge?all=1'),
     qr/^HTTP\S+ 405 .*\r\nAllow: POST, DELETE, PURGE\r\n/s,
     'GET does nothing');
like(http('HEAD /purge?all=1'), qr/^HTTP\S+ 405 /, 'nor does HEAD');
like(http("POST /purge$_"), qr/^HTTP\S+ 400 .*must be given/s,
     "nor does \"$_\"")
    for '', '?', '?account=', '?all=0', '?all=yes', '?acount=ann',
        '?all=1&account=customer%20of%20ann';
like(http('POST /closed?all=1'), qr/^HTTP\S+ 403 /, 'nor one who may not');
is(asked_by_login($_), 0, "$_ is still there") for qw/ ann ben /;

# a denial goes by the name of the user

spew($t->dir() . '/revoked-cid', '');
like(login('cid', 'two'), qr/^535/, 'a denial') for 1, 2;
unlink $t->dir() . '/revoked-cid';
like(login('cid', 'two'), qr/^535/, 'is kept');
like(http('POST /purge?account=cid'), qr/"purged": 1\}/, 'it is purged');
like(login('cid', 'two'), qr/^235/, 'the user is let in');

# a verdict that is on its way when its key is revoked

spew($t->dir() . '/waits-dan', '');
my $c = $t->greeted('smtp');
my $before = requests('dan');
$c->line('AUTH PLAIN ' . $c->plain('dan', 'x'));
ok(wait_until { requests('dan') > $before }, 'a verdict is on its way');
http('POST /purge?account=customer%20of%20dan');
$auth->open_gate('waits-dan');
$c->expect('235', 'it is used');
unlink $t->dir() . '/waits-dan';
spew($t->dir() . '/revoked-dan', '');
like(login('dan'), qr/^535/, 'and not kept');

# reloads

fill();
ok(reload(configured('1m', '30m')), 'reload with other times');
is(asked_by_login($_), 0, "$_ is still there") for qw/ ann ben /;
ok(reload(configured('2m', '30m')), 'reload with another size');
is(asked_by_login($_), 1, "$_ is asked for again") for qw/ ann ben /;
like(http('POST /purge?all=1&zone=one'), qr/"purged": 2\}/,
     'the new zone is purged');

# configuration that makes no sense

$t->stop();
$t->{expected_alerts} = qr/ \[emerg\] .*"smtp_relay_auth_cache/;

refused('smtp_relay_auth_cache one;', qr/must have "valid" parameter/);
refused('smtp_relay_auth_cache one valid=;', qr/invalid time "valid="/);
refused('smtp_relay_auth_cache one valid=1x;', qr/invalid time "valid=1x"/);
refused('smtp_relay_auth_cache one valid=1s valid=2s;',
        qr/duplicate parameter "valid=2s"/);
refused('smtp_relay_auth_cache one valid=1s fresh=2s;',
        qr/invalid parameter "fresh=2s"/);
refused('smtp_relay_auth_cache three valid=1s;',
        qr/"smtp_relay_auth_cache" refers to unknown zone "three"/);
refused('smtp_relay_auth_cache off; smtp_relay_auth_cache one valid=1s;',
        qr/"smtp_relay_auth_cache" directive is duplicate/);
refused('smtp_relay_auth_cache_key a; smtp_relay_auth_cache_key b;',
        qr/"smtp_relay_auth_cache_key" directive is duplicate/);

done_testing();


sub configured {
    my ($size, $valid) = @_;
    return $conf =~ s/%%SIZE%%/$size/r =~ s/%%VALID%%/$valid/r;
}


# Reloads and waits until no worker is left that knows the old configuration.

sub reload {
    my ($text) = @_;

    my %old = map { $_ => 1 } $t->workers();
    return $t->reload($text)
           && wait_until { !grep { $old{$_} } $t->workers() };
}


sub refused {
    my ($text, $pattern) = @_;

    my $line = "smtp_relay_pass        127.0.0.1:%%PORT_node%%;\n"
               . "        smtp_relay_auth_cache  two valid=1h invalid=1h;";
    my $bad = configured('1m', '1h');

    $bad =~ s/\Q$line\E/smtp_relay_pass 127.0.0.1:1;\n$text/ or die;

    my ($number) = grep { ((split /\n/, $bad)[$_ - 1] // '') eq $text } 1 .. 60;
    my ($status, $said) = $t->check_conf($bad);

    isnt($status, 0, "refused: $text");
    like($said, $pattern, 'for that reason');

    my ($at) = $said =~ /nginx\.conf:(\d+)/;
    is($t->own_line($at // 0), $number, 'with its line');
    return;
}


# Two secrets of ann and one of ben in one zone, one of ann in the other.

sub fill {
    login($_) for qw/ ann ben /;
    login('ann', 'smtp', 'y');
    login('ann', 'two');
    return;
}


sub login {
    my ($user, $port, $secret) = @_;

    my $c = $t->greeted($port // 'smtp');
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user, $secret // 'x'));
    $c->ask('QUIT');
    return $reply;
}


sub requests {
    my ($user) = @_;
    return scalar grep { $_->{headers}{'auth-user'} eq $user }
                  $auth->requests();
}


# How often the service is asked when that user logs in.

sub asked_by_login {
    my ($user) = @_;

    my $before = requests($user);
    return 'denied' unless login($user) =~ /^235/;
    return requests($user) - $before;
}


sub http {
    my ($request) = @_;

    my ($method, $uri) = split / /, $request;
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $t->port('http'),
        Timeout => patience()) or return "no connection: $!";

    print $socket "$method $uri HTTP/1.0\r\nHost: localhost\r\n"
                  . "Content-Length: 0\r\n\r\n";
    local $/;
    return <$socket> // '';
}
