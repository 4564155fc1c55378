# CR, LF and NUL in every text that somebody else chooses: whoever sends it,
# and wherever it goes, it does not begin a line there, be that a command, a
# header, a request, a reply or a line of a log.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Cert;

use MIME::Base64 qw/ encode_base64 /;
use Socket qw/ inet_aton /;

my $t = SMTPRelay::Test->new();
my $dir = $t->dir();
my $tlv = $t->has_version('1.23.2');

$t->certificates('localhost');

# what breaks a line somewhere; the mark must never come behind any of it

my @breaks = ("\r\n", "\n", "\r", "\0", "\r\n\r\n", "\r\n.\r\n", "\n.\n",
              "\r\0\n", "\x0b", "\x0c", "\x1b[2J", "\x7f", "\x85", "\xc2\x85",
              "\xe2\x80\xa8", "\x8d\x8a", "\t", '%0D%0A', '%0a', '\r\n',
              '\x0d\x0a', '+0D+0A', '=0D=0A', '&#10;', "\xff");

my $mark = 0;
my %what;

# a text that would begin a line

sub evil {
    my ($from, $break) = @_;

    my $name = 'INJECT' . ++$mark;
    $what{$name} = "$from: " . visible($break);
    return "a$break$name: x${break}b";
}

# one certificate for each break that can be in one

for my $n (grep { $breaks[$_] !~ /[\0+\\\x80-\xff]/ } 0 .. $#breaks) {
    SMTPRelay::Cert::issue($dir, "evil$n",
        subject => '/O=' . evil('certificate', $breaks[$n]) =~ s/\//\\\//gr
                   . '/CN=' . evil('certificate', $breaks[$n]));
}

# what an auth service answers with is said in a file

my $auth = $t->auth_service('auth', answer => sub {
    my $headers = slurp("$dir/answer") // '';
    return "HTTP/1.1 200 OK\r\n${headers}Content-Length: 0\r\n\r\n";
});

my $reply = sub { slurp("$dir/reply") // undef };
my $script = { MAIL => sub { my $r = slurp("$dir/reply");
                             return defined $r && length $r ? { raw => $r }
                                                            : undef } };

my %n = (
    xclient => $t->node('xclient', script => $script,
        ehlo => [qw/ PIPELINING 8BITMIME SMTPUTF8 DSN CHUNKING /,
                 'XCLIENT NAME ADDR PORT PROTO HELO LOGIN']),
    proxy => $t->node('proxy', script => $script, proxy => 1,
                      auth => { nobody => 'x' }, mechanisms => 'LOGIN'),
);

my $authority = $tlv ? '$proxy_protocol_tlv_authority' : '';
my $any = "\$ssl_server_name$authority\$smtp_relay_auth_http_x_any"
          . '$ssl_client_s_dn';

$t->start(<<"EOC");
worker_processes  1;

stream {
    log_format  all  '\$smtp_relay_event|\$status|\$smtp_relay_helo|'
                     '\$smtp_relay_user|\$smtp_relay_account|'
                     '\$smtp_relay_mail_from|\$smtp_relay_rcpt_to|'
                     '\$smtp_relay_message_reply|\$smtp_relay_auth_http_x_any|'
                     '\$ssl_server_name|\$ssl_client_s_dn|$authority|'
                     '\$smtp_relay_protocol|\$proxy_protocol_addr';
    log_format  json  escape=json  '{"a":"\$smtp_relay_helo","b":'
                     '"\$smtp_relay_user","c":"\$smtp_relay_account","d":'
                     '"\$smtp_relay_mail_from","e":"\$smtp_relay_rcpt_to","f":'
                     '"\$smtp_relay_message_reply","g":"$any"}';
    access_log  all.log  all;
    access_log  all.json  json;

    smtp_relay_auth                http://127.0.0.1:%%PORT_auth%%/;
    smtp_relay_auth_methods        plain login external;
    smtp_relay_auth_failure_delay  0;
    smtp_relay_auth_max_failures   0;
    smtp_relay_auth_timeout        2s;
    smtp_relay_starttls            off;
    smtp_relay_max_errors          0;
    smtp_relay_keepalive           0;
    smtp_relay_reply_timeout       2s;

    smtp_relay_auth_set_header     X-Helo   \$smtp_relay_helo;
    smtp_relay_auth_set_header     X-Any    $any;
    smtp_relay_add_header          X-From   \$smtp_relay_mail_from;
    smtp_relay_add_header          X-User   "\$smtp_relay_user \$smtp_relay_helo";
    smtp_relay_add_header          X-Acct   \$smtp_relay_account;
    smtp_relay_add_header          X-Any    "$any";

    ssl_certificate                localhost.crt;
    ssl_certificate_key            localhost.key;
    ssl_client_certificate         ca.crt;
    ssl_verify_client              optional;
    set_real_ip_from               127.0.0.1;

    server {
        listen              127.0.0.1:%%PORT_smtp%%;
        listen              127.0.0.1:%%PORT_smtps%%  ssl;
        listen              127.0.0.1:%%PORT_proxied%%  proxy_protocol;
        smtp_relay_xclient  on;
        smtp_relay_pass     127.0.0.1:%%PORT_xclient%%;
    }

    server {
        listen                     127.0.0.1:%%PORT_names%%  ssl proxy_protocol;
        smtp_relay_hostname        "$any";
        smtp_relay_node_helo       "$any";
        smtp_relay_node_auth       "$any" "$any";
        smtp_relay_proxy_protocol  v2;
        smtp_relay_pass            127.0.0.1:%%PORT_proxy%%;
    }
}
EOC

my $ok = "Auth-Status: OK\r\n";
my @told;

# --- clients -----------------------------------------------------------------

for my $break (@breaks) {
    my $what = visible($break);

    answer($ok);

    my $c = $t->client('smtp');
    my $evil = sub { evil("client, $_[0]", $break) };
    my $b64 = sub { encode_base64(join("\0", @_), '') };
    my ($user, $from, $to) = ('user', '<a@b.example>', '<c@d.example>');

    give($c, 'EHLO ' . $evil->('EHLO'));
    give($c, 'EHLO [' . $evil->('EHLO') . ']');
    give($c, 'HELO ' . $evil->('HELO'));
    give($c, $evil->('verb'));
    give($c, 'AUTH ' . $evil->('AUTH') . ' =');
    give($c, 'EHLO client.example');
    give($c, 'AUTH PLAIN ' . $b64->('', $evil->('user'), $evil->('secret')));
    give($c, 'AUTH PLAIN ' . $b64->($evil->('identity'), 'user', 'secret'));
    give($c, 'AUTH PLAIN ' . $evil->('base64'));
    give($c, "AUTH LOGIN\r\n" . $b64->($evil->('user')) . "\r\n"
             . $b64->($evil->('secret')));
    give($c, 'AUTH PLAIN ' . $b64->('', 'user', 'secret'));

    for my $address ($evil->('MAIL') . '@b.example', 'a@' . $evil->('domain'),
                     '"' . $evil->('quoted') . '"@b.example',
                     '"\\' . $evil->('escaped') . '"@b.example',
                     'a@[' . $evil->('literal') . ']',
                     '@' . $evil->('route') . ':a@b.example')
    {
        for my $utf8 ('', ' SMTPUTF8') {
            give($c, "MAIL FROM:<$address>$utf8");
            give($c, "RCPT TO:<$address>");
            give($c, 'RSET');
        }
    }

    for my $parameter (map { $_ . '=' . $evil->($_) }
                       qw/ ENVID AUTH SIZE BODY RET X-ANY /)
    {
        give($c, "MAIL FROM:$from $parameter");
        give($c, 'RSET');
    }

    for my $parameter ('ORCPT=rfc822;' . $evil->('ORCPT'),
                       'ORCPT=' . $evil->('ORCPT'), 'NOTIFY=' . $evil->('NOTIFY'))
    {
        give($c, "MAIL FROM:$from");
        give($c, "RCPT TO:$to $parameter");
        give($c, 'RSET');
    }

    give($c, "$_ " . $evil->($_)) for qw/ NOOP HELP VRFY RSET DATA QUIT STARTTLS
                                          BDAT EXPN XCLIENT XFORWARD /;
    $c->close();
}

# names in TLS and in front of it

for my $n (0 .. $#breaks) {
    my $break = $breaks[$n];

    for my $port (qw/ smtps names /) {
        my $evil = evil("SNI, $port", $break);

        # no name of TLS has a NUL
        my @sni = $evil =~ /\0/ ? () : (sni => $evil);
        my @cert = -e "$dir/evil$n.crt" ? (cert => "$dir/evil$n.crt",
                                           key => "$dir/evil$n.key") : ();

        my $c = $t->client($port, @sni, @cert);
        $c->send(proxy_v2(evil("PROXY, $port", $break))) if $port eq 'names';
        next if !$c->start_tls();

        session($c, 'AUTH PLAIN ' . encode_base64("\0user\0secret", ''));

        next if !@cert;
        $c = $t->client($port, @cert);
        $c->send(proxy_v2('a')) if $port eq 'names';
        $c->start_tls() or next;
        session($c, 'AUTH EXTERNAL =');
    }

    # the same in version 1

    for my $header ("TCP4 192.0.2.1 192.0.2.2 1 " . evil('PROXY', $break),
                    'TCP4 ' . evil('PROXY', $break) . ' 192.0.2.2 1 2',
                    'TCP6 ' . evil('PROXY', $break) . ' ::1 1 2',
                    'UNKNOWN ' . evil('PROXY', $break), evil('PROXY', $break))
    {
        my $c = $t->client('proxied');
        $c->send("PROXY $header\r\n");
        my $octets = $c->drain(0.03);
        push @told, $octets;
        $c->close();
    }
}

# --- the auth service --------------------------------------------------------

for my $break (@breaks) {
    for my $header (qw/ Auth-User Auth-Pass Auth-Account Auth-Server Auth-Port
                        Auth-Upstream Auth-Status Auth-Error-Code X-Any
                        Auth-Wait Auth-Senders Auth-Limit-Msg Auth-Max-Size /)
    {
        my $evil = evil("auth service, $header", $break);

        # CR LF is a header more, which is the service's to send
        next if $break =~ /\r\n/;

        answer(($header eq 'Auth-Status' ? '' : $ok) . "$header: $evil\r\n"
               . ($header eq 'Auth-Error-Code' ? "Auth-Status: No\r\n" : ''));

        session($t->client('smtp'),
                'AUTH PLAIN ' . encode_base64("\0user\0secret", ''));
    }
}

answer($ok);

# --- nodes -------------------------------------------------------------------

for my $break (@breaks) {
    for my $text ('550 ', '250 ', "550-a\r\n550 ", '') {
        spew("$dir/reply", $text . evil('node', $break) . "\r\n");

        my $c = $t->client('smtp');
        session($c, 'AUTH PLAIN ' . encode_base64("\0user\0secret", ''));
    }
}

spew("$dir/reply", '');

# --- where it would show -----------------------------------------------------

my $c = $t->client('smtp');
session($c, 'AUTH PLAIN ' . encode_base64("\0user\0secret", ''));
like($told[-2], qr/^250 2\.0\.0 Ok: queued/, 'nginx serves on');
$t->stop();

my %places = (
    'commands to nodes' => join('', map {
        my $n = $_;
        map { $n->received($_) =~ s/^(?:AUTH .*|[\w+\/]+=*\r)\n//gmr }
            1 .. $n->connections()
    } values %n),
    'requests' => join('', map { $_->{raw} } $auth->requests()),
    'replies' => join('', @told),
    'access_log' => $t->read('all.log'),
    'access_log as JSON' => $t->read('all.json'),
    'error_log' => $t->read('error.log'),
);

# these lines nginx writes itself, the first two at debug only

my $own = qr/^\S+\ \S+\ \[\w+\]\ \S+\ \S+
              \ (?:stream\ script\ var|SSL\ server\ name|broken\ header)
              :\ ".*?"[^"\n]*?\n(?=\d{4}\/|\z)/msx;

$places{error_log} =~ s/$own//g;

for my $place (sort keys %places) {
    my $octets = $places{$place};

    cmp_ok(length $octets, '>', 1000, "$place: there is something");

    # in JSON DEL may be as it is
    $octets =~ s/\x7f//g if $place =~ /JSON/;

    my @found = $octets =~ /[\0-\x08\x0a-\x1f\x7f](INJECT\d+)/g;
    is(join("\n", map { "$_ of $what{$_}" } @found), '',
       "$place: no line of anybody else");

    my ($control) = $octets =~ /(.{0,80}[\0-\x08\x0b\x0c\x0e-\x1f\x7f].{0,80})/;
    is(visible($control // ''), '', "$place: no control character");

    next if $place =~ /log/;
    my ($bare) = $octets =~ /(.{0,80}(?:\r(?!\n)|(?<!\r)\n).{0,80})/;
    is(visible($bare // ''), '', "$place: no CR or LF on its own");
}

like($places{requests}, qr/INJECT/, 'but as text it is in requests');
like($places{access_log}, qr/INJECT/, 'and in the log');
like($places{access_log}, qr/a\\x0D\\x0AINJECT/, 'which shows what it was');

is(join("\n", grep { !/^(?:session|message)\|/ } $t->lines('all.log')), '',
   'lines of access_log are whole');
is(join("\n", grep { !/^\{"a":.*\}$/ } $t->lines('all.json')), '',
   'those of JSON, too');
is(join("\n", grep { !/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d \[/ }
              split /\n/, $places{error_log}), '',
   'lines of the error log are whole');
is(join("\n", grep { !/^(?:EHLO|HELO|XCLIENT|MAIL\ FROM:<|RCPT\ TO:<|DATA$|RSET$
                     |QUIT$|AUTH\ |[\w+\/]+=*$|BDAT\ \d)/x }
              map { my $n = $_; map { $n->commands($_) }
                                1 .. $n->connections() } values %n), '',
   'nodes were sent commands only');

done_testing();


sub answer {
    my ($headers) = @_;

    spew("$dir/answer", $headers);
    return;
}


# Sends a line and keeps what comes, replies to lines it may be taken for
# included.

sub give {
    my ($c, $line) = @_;

    return if !$c->{socket};

    $c->send("$line\r\nHELP\r\n");

    while (1) {
        my $reply = $c->reply(3);

        if ($reply =~ /^334/) {
            $c->send("*\r\n");
            next;
        }

        $c->close() if $reply =~ /^\(/;
        return if $reply =~ /^(?:214|\()/;
        push @told, $reply =~ s/\n/\r\n/gr . "\r\n";
    }
}


# Logs in and sends a message as far as that goes.

sub session {
    my ($c, $auth) = @_;

    for my $line (undef, 'EHLO client.example', $auth,
                  'MAIL FROM:<a@b.example>', 'RCPT TO:<c@d.example>', 'DATA',
                  "text\r\n.", 'QUIT')
    {
        my $reply = defined $line ? $c->ask($line) : $c->reply();
        push @told, $reply =~ s/\n/\r\n/gr . "\r\n";
        last if $reply !~ /^(?:[23]|\(no)/;
    }

    $c->close();
    return;
}


# A header of version 2 with a name of the server, and one of the client's
# certificate.

sub proxy_v2 {
    my ($name) = @_;

    my $tlvs = join '', map { pack 'Cn/a', $_, $name } 1, 2, 5, 0xe0;
    my $body = inet_aton('192.0.2.7') . inet_aton('192.0.2.1')
               . pack('nn', 4711, 465) . $tlvs;

    return "\r\n\r\n\0\r\nQUIT\n" . pack('CCn', 0x21, 0x11, length $body)
           . $body;
}
