# EHLO and HELO: replies, and what is offered when.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;

my $t = SMTPRelay::Test->new();
$t->keys(user => 'secret');
$t->certificates('localhost');

$t->start(<<'EOC');
stream {
    smtp_relay_hostname   relay.example;
    smtp_relay_auth_file  keys;

    ssl_certificate       localhost.crt;
    ssl_certificate_key   localhost.key;

    server {
        listen               127.0.0.1:%%PORT_off%%;
        smtp_relay_pass      127.0.0.1:%%PORT_none%%;
        smtp_relay_starttls  off;
    }

    server {
        listen               127.0.0.1:%%PORT_on%%;
        smtp_relay_pass      127.0.0.1:%%PORT_none%%;
        smtp_relay_starttls  on;
    }

    server {
        listen           127.0.0.1:%%PORT_required%%;
        listen           127.0.0.1:%%PORT_tls%% ssl;
        smtp_relay_pass  127.0.0.1:%%PORT_none%%;
    }

    server {
        listen                       127.0.0.1:%%PORT_limits%%;
        smtp_relay_pass              127.0.0.1:%%PORT_none%%;
        smtp_relay_starttls          off;
        smtp_relay_max_message_size  1m;
        smtp_relay_max_recipients    20;
        smtp_relay_max_messages      5;
        smtp_relay_auth_methods      plain;
    }

    server {
        listen                       127.0.0.1:%%PORT_unlimited%%;
        smtp_relay_pass              127.0.0.1:%%PORT_none%%;
        smtp_relay_starttls          off;
        smtp_relay_max_message_size  0;
        smtp_relay_max_recipients    0;
        smtp_relay_capabilities      8BITMIME CHUNKING;
    }
}
EOC

my @usual = qw/ PIPELINING 8BITMIME SMTPUTF8 CHUNKING DSN ENHANCEDSTATUSCODES /;

is_deeply(offers('off'),
          [sort @usual, 'SIZE 52428800', 'AUTH PLAIN LOGIN',
           'LIMITS RCPTMAX=1000'],
          'without STARTTLS');

is_deeply(offers('on'),
          [sort @usual, 'SIZE 52428800', 'AUTH PLAIN LOGIN', 'STARTTLS',
           'LIMITS RCPTMAX=1000'],
          'with optional STARTTLS');

is_deeply(offers('required'),
          [sort @usual, 'SIZE 52428800', 'STARTTLS', 'LIMITS RCPTMAX=1000'],
          'with required STARTTLS there is no AUTH yet');

is_deeply(offers('tls', tls => 1),
          [sort @usual, 'SIZE 52428800', 'AUTH PLAIN LOGIN',
           'LIMITS RCPTMAX=1000'],
          'with TLS from the start');

is_deeply(offers('limits'),
          [sort @usual, 'SIZE 1048576', 'AUTH PLAIN',
           'LIMITS RCPTMAX=20 MAILMAX=5'],
          'limits and mechanisms are those of the configuration');

my @few = grep { !/^SIZE|^LIMITS/ } @{ offers('unlimited') };
is_deeply(\@few, [sort '8BITMIME', 'CHUNKING', 'AUTH PLAIN LOGIN'],
          'only the configured capabilities are offered');
unlike(join("\n", @{ offers('unlimited') }), qr/RCPTMAX|MAILMAX|SIZE [1-9]/,
       'no limit is announced where there is none');

my $c = $t->greeted('required');
$c->must('STARTTLS', '220');
ok($c->start_tls(), 'STARTTLS');
my $reply = $c->ask('EHLO again.example');
like($reply, qr/^250.AUTH PLAIN LOGIN$/m, 'AUTH is offered behind STARTTLS');
unlike($reply, qr/STARTTLS/, 'STARTTLS is not offered again');
$c->login();
unlike($c->ask('EHLO again.example'), qr/STARTTLS/, 'EHLO again after AUTH');

# the reply and its arguments

$c = $t->client('off');
$c->must(undef, '220');
$c->try('EHLO a.example', qr/\A250-relay\.example Hello a\.example\n/,
        'EHLO repeats the name of the client');
$c->try('EHLO [192.0.2.1]', qr/\A250-relay\.example Hello \[192\.0\.2\.1\]\n/,
        'EHLO with an address');
$c->try('EHLO [IPv6:2001:db8::1]', '250', 'EHLO with an IPv6 address');
$c->try('ehlo b', qr/\A250-relay\.example Hello b\n/, 'EHLO in lower case');
$c->try('EHLO under_score.local', '250', 'EHLO with an underscore');
$c->try('EHLO ' . 'a' x 255, '250', 'EHLO with a long name');
$c->try('HELO a.example', qr/\A250 relay\.example\b[^\n]*\z/,
        'HELO has a reply of one line');

for my $bad ('', 'a b', '<a>', 'a"b', 'a@b', "a\tb", 'a' x 256, "\x80\xff") {
    $c->try("EHLO $bad", '501 5.5.4',
            'EHLO "' . visible($bad, 20) . '" is refused')
        if length $bad;
}

$c->try('EHLO', '501 5.5.4', 'EHLO without a name is refused');

$c = $t->client('off');
$c->must(undef, '220');
$c->try('HELO', '501 5.5.4', 'HELO without a name is refused');

done_testing();


# What EHLO offers, sorted.

sub offers {
    my ($port, %options) = @_;

    my $c = $t->client($port, %options);
    $c->must(undef, '220');

    my (undef, @lines) = split /\n/, $c->must('EHLO a.example', '250');
    s/^250[ -]// for @lines;
    return [sort @lines];
}
