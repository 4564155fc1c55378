# Replies of the auth service, good and bad, octet by octet: what each makes
# of a login, and whether its connection serves for another request.  It does
# only if there is one way to tell where the reply ends (RFC 9112, 6.3).

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

use Time::HiRes qw/ time /;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();

$t->node('node');
$t->certificates('service.example');

my $ok = "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n";
my $empty = "Content-Length: 0\r\n\r\n";
my $chunks = "Transfer-Encoding: chunked\r\n\r\n";

sub with { return $ok . join '', map { "$_\r\n" } @_ }
sub drip { return { act => { pieces => [@_] } } }
sub hold { return { act => { raw => $_[0], then => ':silent' } } }

# what is sent, the code of the reply to AUTH, and whether the connection is
# used again

my @replies = (

    # as it should be
    [ 'no body', $ok . $empty, 235, 1 ],
    [ 'a body', with('Content-Length: 5', '') . 'hello', 235, 1 ],
    [ 'a body in pieces', drip(with('Content-Length: 5', ''), 'he', 'llo'),
      235, 1 ],
    [ 'a length with blanks', with("Content-Length: \t 5 \t ", '') . 'hello',
      235, 1 ],
    [ 'octet by octet', drip(split //, "$ok$empty"), 235, 1 ],
    [ 'chunks', "$ok${chunks}5\r\nhello\r\n0\r\n\r\n", 235, 1 ],
    [ 'chunks, extensions, trailers',
      "$ok${chunks}a;x=\"y\"\r\n0123456789\r\n0;z\r\nAuth-Status: NO\r\n\r\n",
      235, 1 ],
    [ 'chunks octet by octet',
      drip(split //, "$ok${chunks}3\r\nabc\r\n0\r\n\r\n"), 235, 1 ],
    [ 'Chunked', with('Transfer-Encoding: Chunked', '') . "0\r\n\r\n",
      235, 1 ],
    [ '204', "HTTP/1.1 204 No Content\r\nAuth-Status: OK\r\n\r\n", 235, 1 ],
    [ '204, length 0', "HTTP/1.1 204 No Content\r\n$empty", 235, 1 ],
    [ 'HTTP/1.0 that is kept',
      "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nConnection: keep-alive\r\n$empty",
      235, 1 ],
    [ 'Connection: Keep-Alive', with('Connection: Keep-Alive') . $empty,
      235, 1 ],
    [ '100 in front', "HTTP/1.1 100 Continue\r\n\r\n$ok$empty", 235, 1 ],
    [ '103 in front', "HTTP/1.1 103 Early Hints\r\nAuth-Status: NO\r\n"
                      . "Link: </x>\r\n\r\n$ok$empty", 235, 1 ],
    [ 'a denial', "HTTP/1.1 200 OK\r\nAuth-Status: No\r\n$empty", 535, 1 ],
    [ '401', "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\n$empty", 535, 1 ],
    [ '403 with a body',
      "HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nnope", 535, 1 ],
    [ 'a redirect', "HTTP/1.1 302 Found\r\nLocation: /there\r\n"
                    . "Auth-Status: OK\r\n$empty", 454, 1 ],
    [ '308', "HTTP/1.1 308 Permanent Redirect\r\nLocation: http://[::1]/\r\n"
             . "Auth-Status: OK\r\n$empty", 454, 1 ],
    [ '304', "HTTP/1.1 304 Not Modified\r\nAuth-Status: OK\r\n\r\n", 454, 1 ],
    [ '404', "HTTP/1.1 404 Not Found\r\nAuth-Status: OK\r\n$empty", 454, 1 ],
    [ '500 with a body', "HTTP/1.1 500 Oops\r\nAuth-Status: OK\r\n"
                         . "Content-Length: 4\r\n\r\noops", 454, 1 ],
    [ 'a text with control characters',
      "HTTP/1.1 200 OK\r\nAuth-Status: No\x01\x1b[2J\x7f way\r\n$empty",
      535, 1 ],
    [ 'a text with octets above 127',
      "HTTP/1.1 200 OK\r\nAuth-Status: N\xc3\xb6\r\n$empty", 535, 1 ],

    # the verdict stands; where the reply ends does not
    [ 'no length', hold("$ok\r\n"), 235, 0 ],
    [ 'no length, a body', hold("$ok\r\nhello"), 235, 0 ],
    [ 'HTTP/1.0',
      hold("HTTP/1.0 200 OK\r\nAuth-Status: OK\r\n$empty"), 235, 0 ],
    [ 'HTTP/1.0, closed', { act => {
        raw => "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\n\r\nhello",
        then => ':close' } }, 235, 0 ],
    [ 'Connection: close', with('Connection: close') . $empty, 235, 0 ],
    [ 'Connection: close among others',
      with('Connection: keep-alive, close') . $empty, 235, 0 ],
    [ 'two Connection headers',
      with('Connection: keep-alive', 'Connection: close') . $empty, 235, 0 ],
    [ 'Connection: upgrade', with('Connection: upgrade') . $empty, 235, 0 ],
    [ 'lines that end in LF', ($ok . $empty) =~ s/\r//gr, 235, 0 ],
    [ 'one line that ends in LF', with("X-Lf: a\nX-Crlf: b") . $empty,
      235, 0 ],
    [ 'a length twice', with('Content-Length: 0') . $empty, 235, 0 ],
    [ 'two lengths', with('Content-Length: 5') . $empty, 235, 0 ],
    (map { [ "length \"$_\"", with("Content-Length: $_", '') . 'hello',
             235, 0 ] }
     '5, 5', '-5', '+5', '5x', '0x5', '5.0', '', 'hello',
     '18446744073709551621', '9223372036854775808'),
    [ 'a length that is too short', with('Content-Length: 2', '') . 'hello',
      235, 0 ],
    [ 'a length that is too long', hold(with('Content-Length: 50', '')
                                        . 'hello'), 235, 0 ],
    [ 'a length that is too long, closed', { act => {
        raw => with('Content-Length: 50', '') . 'hello',
        then => ':close' } }, 235, 0 ],
    [ 'a long body', with('Content-Length: 70000', '') . 'x' x 70000, 235, 0 ],
    [ 'length and chunks', with('Content-Length: 5') . "${chunks}0\r\n\r\n",
      235, 0 ],
    [ 'chunks and length', with('Transfer-Encoding: chunked') . $empty,
      235, 0 ],
    [ 'chunks in HTTP/1.0', "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\n"
                            . "Connection: keep-alive\r\n${chunks}0\r\n\r\n",
      235, 0 ],
    (map { [ "encoding \"$_\"", with("Transfer-Encoding: $_", '')
                                . "0\r\n\r\n", 235, 0 ] }
     'gzip, chunked', 'chunked, chunked', 'identity', 'xchunked', '', 'chunke'),
    [ 'chunked twice', with('Transfer-Encoding: chunked')
                       . "${chunks}0\r\n\r\n", 235, 0 ],
    [ 'chunks without an end', hold("$ok${chunks}5\r\nhello\r\n"), 235, 0 ],
    [ 'a chunk without an end', hold("$ok${chunks}5\r\nhel"), 235, 0 ],
    [ 'a chunk that is longer', "$ok${chunks}2\r\nhello\r\n0\r\n\r\n",
      235, 0 ],
    [ 'a chunk of no size', "$ok${chunks}\r\n0\r\n\r\n", 235, 0 ],
    [ 'a chunk of bad size', "$ok${chunks}zz\r\n0\r\n\r\n", 235, 0 ],
    [ 'a chunk of huge size', "$ok${chunks}ffffffffffffffff\r\nx", 235, 0 ],
    [ 'chunks for ever', { act => { pieces => [ "$ok$chunks",
        map { "1000\r\n" . 'x' x 4096 . "\r\n" } 1 .. 20 ],
        then => ':silent' } }, 235, 0 ],
    [ 'trailers for ever', { act => { pieces => [ "$ok${chunks}0\r\n",
        map { 'X-Trailer: ' . 'x' x 4000 . "\r\n" } 1 .. 20 ],
        then => ':silent' } }, 235, 0 ],
    [ '204 with a body', "HTTP/1.1 204 No Content\r\n"
                         . "Content-Length: 5\r\n\r\nhello", 235, 0 ],
    [ 'another reply behind', "$ok$empty$ok$empty", 235, 0 ],
    [ 'another reply behind chunks', "$ok${chunks}0\r\n\r\n$ok$empty",
      235, 0 ],
    [ 'a line end behind', "$ok$empty\r\n", 235, 0 ],

    # nothing of it is a verdict
    [ 'a folded header', with('X-Folded: a', ' b') . $empty, 454, 0 ],
    [ 'a folded verdict',
      "HTTP/1.1 200 OK\r\nAuth-Status:\r\n OK\r\n$empty", 454, 0 ],
    [ 'a header folded by a tab', with('X-Folded: a', "\tb") . $empty,
      454, 0 ],
    [ 'a header without a colon', with('No colon') . $empty, 454, 0 ],
    [ 'a header without a name', with(': x') . $empty, 454, 0 ],
    [ 'a blank before the colon',
      "HTTP/1.1 200 OK\r\nAuth-Status : OK\r\n$empty", 454, 0 ],
    [ 'a NUL in a header', with("X-Nul: a\0b") . $empty, 454, 0 ],
    [ 'a CR in a header', with("X-Cr: a\rb") . $empty, 454, 0 ],
    [ 'a control character in a name', with("X-\x01: a") . $empty, 454, 0 ],
    [ 'two verdicts', with('Auth-Status: OK') . $empty, 454, 1 ],
    [ 'two verdicts that differ', with('Auth-Status: No') . $empty, 454, 1 ],
    [ 'two accounts', with('Auth-Account: a', 'Auth-Account: b') . $empty,
      454, 1 ],
    [ 'a control character in an account', with("Auth-Account: a\x01b")
                                           . $empty, 454, 1 ],
    [ '101', "HTTP/1.1 101 Switching Protocols\r\n\r\n$ok$empty", 454, 0 ],
    [ '100 and no more', hold("HTTP/1.1 100 Continue\r\n\r\n"), 454, 0 ],
    [ 'HTTP/2', "HTTP/2 200 OK\r\nAuth-Status: OK\r\n$empty", 454, 0 ],
    [ 'HTTP/0.9', "Auth-Status: OK\r\n\r\n", 454, 0 ],
    [ 'a status of two digits', "HTTP/1.1 20 OK\r\nAuth-Status: OK\r\n$empty",
      454, 0 ],
    [ 'a status below 100', "HTTP/1.1 099 OK\r\nAuth-Status: OK\r\n$empty",
      454, 0 ],
    [ 'a status of 999', "HTTP/1.1 999 OK\r\nAuth-Status: OK\r\n$empty",
      454, 1 ],
    [ 'line ends in front', "\r\n$ok$empty", 454, 0 ],
    [ 'a header of 64 KB', $ok . 'X-Long: ' . 'x' x 65536 . "\r\n$empty",
      454, 0 ],
    [ 'a name of 64 KB', $ok . 'x' x 65536 . ": x\r\n$empty", 454, 0 ],
    [ 'a status line of 64 KB', 'HTTP/1.1 200 ' . 'x' x 65536
                                . "\r\nAuth-Status: OK\r\n$empty", 454, 0 ],
    [ 'a thousand headers', $ok . "X: y\r\n" x 1000 . $empty, 454, 0 ],
    [ '100 for ever', { act => { raw => "HTTP/1.1 100 Continue\r\n\r\n" x 400,
                                 then => ':silent' } }, 454, 0 ],
);

my $answer = sub {
    my ($number) = ($_[0]{headers}{'auth-user'} // '') =~ /^reply(\d+)$/;
    return defined $number ? $replies[$number][1] : undef;
};

my %options = (answer => $answer, users => { good => 'secret' });

my %service = (
    http => $t->auth_service('http', %options),
    https => $t->auth_service('https', %options, tls => 1,
                              cert => "$dir/service.example"),
);

my $servers = join "\n", map { <<"EOC" } sort keys %service;
    server {
        listen           127.0.0.1:%%PORT_s_$_%%;
        smtp_relay_pass  127.0.0.1:%%PORT_node%%;
        smtp_relay_auth  $_://127.0.0.1:%%PORT_$_%%/;
    }
EOC

$t->start(<<"EOC");
stream {
    smtp_relay_starttls                      off;
    smtp_relay_auth_failure_delay            0;
    smtp_relay_auth_max_failures             0;
    smtp_relay_auth_timeout                  1500ms;
    smtp_relay_auth_ssl_trusted_certificate  ca.crt;

$servers
}
EOC

for my $scheme (sort keys %service) {

    for my $number (0 .. $#replies) {
        my ($what, undef, $code, $again) = @{ $replies[$number] };

        is(login($scheme, 'good'), '235', "$scheme, $what: before it");

        my $start = time();
        my $got = login($scheme, "reply$number");
        my $took = time() - $start;

        is($got, $code, "$scheme, $what: $code") or diag($t->log_tail(3));
        cmp_ok($took, '<', patience(3), "$scheme, $what: in time");


        # what comes behind the headers, which decide, comes first
        my $request = request($scheme, "reply$number");
        $service{$scheme}->wait_replied($request) if $again;

        is(login($scheme, 'good'), '235', "$scheme, $what: after it");

        my $next = request($scheme, 'good');
        is($next->{connection} == $request->{connection} ? 1 : 0, $again,
           "$scheme, $what: the connection is " . ($again ? '' : 'not ')
           . 'used again');

        unlink glob "$service{$scheme}{dir}/request-*";
    }
}

is(scalar $t->log_lines(qr/secret/), 0, 'no secret is logged');

done_testing();


# The last request of a user.

sub request {
    my ($scheme, $user) = @_;

    my @requests = sort { $a->{time} <=> $b->{time} }
                   grep { $_->{headers}{'auth-user'} eq $user }
                   $service{$scheme}->requests();
    return $requests[-1];
}


# The code of the reply to AUTH in a session of its own.

sub login {
    my ($name, $user) = @_;

    my $c = $t->greeted("s_$name");
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user, 'secret'));
    $c->ask('QUIT');

    return substr $reply, 0, 3;
}
