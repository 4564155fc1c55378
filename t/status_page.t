# The status page: what is sent, and what a browser makes of it, with messages
# on their way: figures equal those of the JSON, nothing is refused by the
# policy, everything can be read.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Status;
use SMTPRelay::Browser;

use Digest::SHA qw/ sha256_base64 /;

my $root = "$FindBin::Bin/..";
my $source = slurp("$root/ngx_smtp_relay_module/"
                   . 'ngx_http_smtp_relay_page.html');

my $t = SMTPRelay::Test->new();

my @nodes = map {
    $t->node($_, keep => 0, script => {
        RCPT => sub { $_[0] =~ /bad/ ? '550 5.1.1 nobody' : undef },
        eod => sub { $_[3]{mail} =~ /spam/ ? '554 5.7.1 spam'
                     : $_[3]{mail} =~ /later/ ? '451 4.7.1 later' : undef },
    })
} qw/ one two /;

$t->keys(user => 'secret');
spew($t->dir() . '/people', "operator:{PLAIN}word\n");

$t->start(<<'EOC');
worker_processes  2;

stream {
    smtp_relay_status_zone          status:512k;
    smtp_relay_limit_msg_zone       $smtp_relay_account  zone=rate:128k
                                    rate=1000r/s;
    smtp_relay_limit_conn_zone      $remote_addr  zone=address:128k;
    smtp_relay_auth_block_zone      $remote_addr  zone=guess:128k
                                    failures=100 window=1m time=1m;
    smtp_relay_auth_cache_zone      zone=verdicts:128k;
    smtp_relay_starttls             off;
    smtp_relay_auth_file            keys;
    smtp_relay_auth_failure_delay   0;

    upstream delivery {
        zone    delivery 64k;
        server  127.0.0.1:%%PORT_one%%;
        server  127.0.0.1:%%PORT_two%% weight=2;
        server  127.0.0.1:%%PORT_gone%% max_fails=1 fail_timeout=1h;
        server  127.0.0.1:%%PORT_off%% down;
    }

    server {
        listen                 127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass        delivery;
        smtp_relay_limit_msg   rate  burst=100;
        smtp_relay_limit_conn  address  100;
    }

    server {
        listen           127.0.0.1:%%PORT_other%%;
        smtp_relay_pass  127.0.0.1:%%PORT_one%%;
    }
}

http {
    access_log  http.log;

    server {
        listen  127.0.0.1:%%PORT_http%%;

        location = /smtp { smtp_relay_status; }
        location = /html { smtp_relay_status html; }

        location = /closed {
            smtp_relay_status;
            auth_basic            "relay";
            auth_basic_user_file  people;
        }
    }
}
EOC

my $status = SMTPRelay::Status->new(port => $t->port('http'), path => '/smtp');

# --- what is sent ------------------------------------------------------------

my $accept = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';
my $r = $status->get('/smtp', Accept => $accept);

is($r->{code}, 200, 'the page');
is($r->{headers}{'content-type'}, 'text/html; charset=utf-8', 'its type');
is($r->{headers}{'cache-control'}, 'no-store', 'it is not stored');
is($r->{headers}{vary}, 'Accept', 'it varies');
is($r->{headers}{'x-content-type-options'}, 'nosniff', 'nobody guesses');
is($r->{headers}{'content-length'}, length $source, 'its length');
ok($r->{body} eq $source, 'its octets are those of the source');

my $policy = $r->{headers}{'content-security-policy'} // '';

for my $tag (qw/ style script /) {
    my ($text) = $source =~ m!<$tag>(.*?)</$tag>!s;
    like($policy, qr/\b$tag-src '\Qsha256-${\ sha256_base64($text) }\E='/,
         "the policy has the hash of the $tag");
}

like($policy, qr/^default-src 'none'; /, 'and allows nothing else');
unlike($policy, qr/unsafe/, 'nothing unsafe');

my @addresses = grep { !m!^http://www\.w3\.org/2000/svg! }
                $source =~ m!(\w+://[^\s"'<]*)!g;
is("@addresses", '', 'nothing comes from elsewhere');
unlike($source, qr/\sstyle=|\son\w+=/, 'no style or script in an attribute');

$r = $status->get('/html');
ok($r->{body} eq $source, 'a location with "html" gives it to everybody');
is($r->{headers}{vary}, undef, 'and does not vary');

$r = $status->get('/smtp', method => 'HEAD', Accept => $accept);
is($r->{body}, '', 'HEAD has no body');
is($r->{headers}{'content-length'}, length $source, 'but its length');

is($status->get('/closed', Accept => $accept)->{code}, 401,
   'a page behind a password');
is($status->get('/closed', Accept => $accept,
                Authorization => 'Basic b3BlcmF0b3I6d29yZA==')->{code}, 200,
   'and with it');

# --- in a browser ------------------------------------------------------------

my $missing = SMTPRelay::Browser::missing();

SKIP: {
    skip($missing, 1) if $missing;
    browse();
}

done_testing();


sub browse {
    my $b = SMTPRelay::Browser->new(dir => $t->dir());

    $b->open('http://127.0.0.1:' . $t->port('http') . '/smtp');
    $b->run('var e = document.getElementById("interval"); e.value = "1";'
            . 'e.dispatchEvent(new Event("change"));');

    # seen from the first message on

    my @c = map { $t->session($_) } qw/ smtp smtp smtp other /;

    for my $n (1 .. 8) {
        for my $c (@c) {
            $c->message("text\r\n" x 20, $_)
                for qw/ a@b.example c@b.example spam@b.example /;
            $c->message("text\r\n", 'later@b.example') if $n % 3 == 0;
        }

        my $guess = $t->greeted('smtp');
        $guess->ask('AUTH PLAIN ' . $guess->plain('user', 'wrong'));
        $guess->must('QUIT', '221');

        $c[3]->envelope('a@b.example', 'x@d.example');
        $c[3]->ask('RCPT TO:<bad@d.example>');
        $c[3]->must('RSET', '250');

        if ($n == 4) {
            ok((wait_until { live($b) }), 'the page is live');
        }
    }

    $c[2]->must('QUIT', '221');

    # what it shows is what the JSON says, once nothing moves

    my ($json, $shown, $same);

    ok((wait_until {
        $json = figures($status->json());
        $shown = shown($b);
        is_same($json, $shown);
    } 10), 'its figures are those of the JSON')
        or do { is_deeply($shown, $json, 'figures') };

    cmp_ok($shown->{$t->port('smtp')}{Accepted}, '>', 0, 'messages among them');
    is($shown->{tiles}{'Nodes up'}, '3 of 5', 'nodes that are up');

    # what is one in all

    for my $label ('Accepted', 'Rejected', 'Sessions', 'Logins denied') {
        my $sum = 0;
        $sum += $json->{$t->port($_)}{$label} for qw/ smtp other /;
        is($shown->{All}{$label}, $sum, "of all servers: $label");
    }

    my %sum;
    for my $node (map { @{ $_->{nodes} } }
                  grep { $_->{upstream} eq 'delivery' }
                  @{ $status->json()->{upstreams} })
    {
        $sum{Opened} += $node->{connections}{opened};
        $sum{Accepted} += $node->{messages}{accepted};
        $sum{Failures} += $_ for values %{ $node->{failures} };
    }

    my $group = group($b, 'delivery');
    is($group->{$_}, $sum{$_}, "of a group: $_") for sort keys %sum;
    is($group->{State}, '2 of 4 up', 'of a group: states');
    is(join('', map { $_ // '' } values %{ group($b, '127.0.0.1:'
                                                      . $t->port('one')) }),
       '', 'a node that is alone is not added up');

    # zones

    my $zones = $b->run('return document.getElementById("zones").innerText');
    like($zones, qr/Cache of verdicts.*verdicts/s, 'a cache is shown');
    my ($limit) = grep { $_->{zone} eq 'rate' }
                  @{ $status->json()->{limits} };
    like($zones, qr/Limits.*rate\s+messages\s+$limit->{keys}\s.*\s\Q$limit->{passed}\E\s/s,
         'limits are');
    like($zones, qr/Blocked keys.*guess\s+1\s+8\s/s, 'and blocks');

    # lines of plots are drawn

    my $lines = $b->run('return Array.prototype.map.call('
        . 'document.querySelectorAll(".plot > svg > path.s"), '
        . 'function (e) { return (e.getAttribute("d") || "").length })');
    is((grep { $_ > 20 } @$lines), 13, 'lines are drawn');

    ok((wait_until { $b->run('return document.querySelectorAll('
                             . '".spark .s[d*=L]").length') >= 3 } 20),
       'lines of nodes, too');

    # what was, where the pointer is

    my $move = 'var e = document.querySelectorAll(".plot > svg")[1], '
        . 'r = e.getBoundingClientRect(); e.dispatchEvent(new PointerEvent('
        . '"%s", { clientX: r.left + %s, clientY: r.top + 50 }));'
        . 'return document.querySelectorAll(".plot .when")[1].textContent';

    like($b->run(sprintf $move, 'pointermove', 'r.width - 1'), qr/^now$/,
         'the pointer at the end of a plot');
    like($b->run(sprintf $move, 'pointermove', 40), qr/^\x{2212}\d+ s$/,
         'and at its beginning');
    is($b->run(sprintf $move, 'pointerleave', 40), '', 'and nowhere');

    # a worker gets older

    my $age = 'return document.querySelector("#workers td").textContent';
    my $was = $b->run($age);
    ok((wait_until { $b->run($age) ne $was } 90), 'workers get older');

    # a filter

    $b->run('var e = document.getElementById("filter"); e.value = "failed";'
            . 'e.dispatchEvent(new Event("input"));');
    is(rows($b), 1, 'the filter leaves the node that failed');
    $b->run('var e = document.getElementById("filter"); e.value = "";'
            . 'e.dispatchEvent(new Event("input"));');
    cmp_ok(rows($b), '>=', 5, 'and without it all are there');

    # for everybody

    for my $view ([ 'light', 1440, 0 ], [ 'dark', 1440, 0 ],
                  [ 'light', 390, 1 ], [ 'dark', 390, 1 ],
                  [ 'light', 1024, 0 ])
    {
        my ($scheme, $width, $mobile) = @$view;
        my $name = "$scheme, $width pixels";

        $b->scheme($scheme);
        $b->screen($width, 900, $mobile);

        my $wide = $b->run('return document.documentElement.scrollWidth');
        cmp_ok($wide, '<=', $width, "$name: nothing sticks out");

        is(join(', ', @{ $b->run(contrast()) }), '', "$name: contrast");

        my $png = $b->picture();
        like($png, qr/^\x89PNG/, "$name: a picture");
        keep("status-$scheme-$width.png", $png);
    }

    is(join(', ', @{ $b->run(nameless()) }), '',
       'all controls and tables have names');

    # nothing was refused, nothing went wrong

    is(join("\n", $b->console()), '', 'the console is silent');

    is($b->run('var s = document.createElement("script");'
               . 's.textContent = "window.intruder = 1";'
               . 'document.head.appendChild(s);'
               . 'return typeof window.intruder'), 'undefined',
       'the policy is in force');

    # pause

    my $press = 'document.getElementById("pause").click();';

    $b->run($press);
    is(state($b), 'Paused', 'it can be paused');
    my $before = requests();
    select undef, undef, undef, 2.5;
    cmp_ok(requests() - $before, '<=', 1, 'and asks nothing then');
    $b->run($press);
    ok((wait_until { requests() - $before >= 3 }), 'it goes on');

    # a name and a password in the address

    $b->open('http://operator:word@127.0.0.1:' . $t->port('http')
             . '/closed');
    ok((wait_until { live($b) }), 'with a password it is live');

    # a location that has no JSON, and a server that is gone

    $b->open('http://127.0.0.1:' . $t->port('http') . '/html');
    ok((wait_until { alert($b) =~ /must be without a word/ }),
       'it tells that there is no JSON');

    $b->open('http://127.0.0.1:' . $t->port('http') . '/smtp');
    ok((wait_until { live($b) }), 'it is live again');
    $_->close() for @c;
    $t->stop();
    ok((wait_until { alert($b) =~ /cannot be reached.* not current/
                     && state($b) =~ /^No data/ }),
       'it tells that figures are not current');

    $b->close();
    return;
}

sub state { return $_[0]->run('return document.getElementById("live")'
                              . '.textContent') }

sub alert { return $_[0]->run('var e = document.querySelector('
    . '"p#alert[role=alert]"); return e.hidden ? "" : e.textContent') }

sub live { return state($_[0]) eq 'Live' }

sub requests { return scalar grep { m!GET /smtp! } $t->lines('http.log') }

sub rows {
    return $_[0]->run('return document.querySelectorAll('
        . '"#upstreams tbody tr:not(.heading):not([hidden])").length');
}

# The row of a group: { label => text }.

sub group {
    my ($b, $name) = @_;

    return $b->run(<<'EOS', $name);
        var name = arguments[0], all = {};

        document.querySelectorAll('#upstreams tr.heading')
            .forEach(function (tr) {
                if (tr.querySelector('th span').textContent !== name) {
                    return;
                }

                tr.querySelectorAll('td').forEach(function (td) {
                    var e = td.firstElementChild;
                    all[td.getAttribute('data-label')] =
                        e && e.textContent.replace(/,/g, '');
                });
            });

        return all;
EOS
}

# What the page shows: { port => { label => text } }, and of the tiles.

sub shown {
    my ($b) = @_;

    my $all = $b->run(<<'EOS');
        var all = { tiles: {} };

        document.querySelectorAll('.tile').forEach(function (e) {
            all.tiles[e.querySelector('dt').textContent] =
                e.querySelector('.value').textContent;
        });

        document.querySelectorAll('#servers tr, #upstreams tr, #ends tr')
            .forEach(function (tr) {
                var name = tr.querySelector('th[role=rowheader] span'), row,
                    group = tr.closest('#upstreams') ? ' node' : '';

                if (!name || tr.className === 'heading') { return; }

                name = name.textContent.replace(/^.*:/, '') + group;
                row = all[name] = all[name] || {};

                tr.querySelectorAll('td').forEach(function (td) {
                    var e = td.firstElementChild;
                    row[td.getAttribute('data-label')] =
                        e.textContent.replace(/,/g, '');
                });
            });

        return all;
EOS

    return $all;
}

# The same of the JSON, as far as it can be told without rates.

sub figures {
    my ($d) = @_;
    my %all;

    for my $s (@{ $d->{servers} }) {
        my ($port) = $s->{server} =~ /:(\d+)$/;
        my %auth;
        $auth{$_->{result}} += $_->{count} for @{ $s->{auth} };

        $all{$port} = {
            'Sessions open' => $s->{sessions}{open},
            Sessions => $s->{sessions}{total},
            Accepted => $s->{messages}{accepted},
            Deferred => $s->{messages}{deferred},
            Rejected => $s->{messages}{rejected},
            Aborted => $s->{messages}{aborted},
            'Logins ok' => $auth{ok} // 0,
            'Logins denied' => $auth{denied} // 0,
            'Logins in error' => $auth{error} // 0,
            TLS => 0, 'TLS failed' => 0,
            Denied => $s->{sessions}{ended}{denied},
            Ok => $s->{sessions}{ended}{ok},
        };
    }

    for my $u (@{ $d->{upstreams} }) {
        for my $n (@{ $u->{nodes} }) {
            my ($port) = $n->{node} =~ /:(\d+)$/;
            my $failures = 0;
            $failures += $_ for values %{ $n->{failures} };

            # the last of a name wins, there and here
            $all{"$port node"} = {
                State => $n->{state},
                Accepted => $n->{messages}{accepted},
                Deferred => $n->{messages}{deferred},
                Rejected => $n->{messages}{rejected},
                Busy => $n->{connections}{busy},
                Idle => $n->{connections}{idle},
                Opened => $n->{connections}{opened},
                Failures => $failures,
            };
        }
    }

    return \%all;
}

sub is_same {
    my ($json, $shown) = @_;

    for my $row (keys %$json) {
        for my $label (keys %{ $json->{$row} }) {
            my $text = $shown->{$row}{$label} // return;
            return if $text ne $json->{$row}{$label};
        }
    }

    return 1;
}

# Texts whose contrast is below what WCAG 2.1, 1.4.3, asks for.

sub contrast {
    return <<'EOS';
        function parse(c) {
            var m = c.match(/[\d.]+/g).map(Number);
            return m.length < 4 ? m.concat(1) : m;
        }

        function light(c) {
            var l = c.slice(0, 3).map(function (v) {
                v /= 255;
                return v <= 0.03928 ? v / 12.92
                                    : Math.pow((v + 0.055) / 1.055, 2.4);
            });
            return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2];
        }

        function behind(e) {
            var c;
            for (; e; e = e.parentElement) {
                c = parse(getComputedStyle(e).backgroundColor);
                if (c[3] === 1) { return c; }
            }
            return [255, 255, 255, 1];
        }

        var bad = {}, walk, n, e, style, a, b, ratio;

        walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);

        while ((n = walk.nextNode())) {
            e = n.parentElement;

            if (!n.nodeValue.trim() || !e.getClientRects().length
                || /^(SCRIPT|STYLE|NOSCRIPT|OPTION)$/.test(e.tagName)) {
                continue;
            }

            style = getComputedStyle(e);
            a = light(parse(e instanceof SVGElement ? style.fill
                                                    : style.color));
            b = light(behind(e));
            ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);

            if (ratio < 4.5) {
                bad[e.tagName + '.' + e.getAttribute('class') + ' '
                    + ratio.toFixed(2)] = 1;
            }
        }

        return Object.keys(bad);
EOS
}

sub nameless {
    return <<'EOS';
        var bad = [];

        function name(e) {
            return e.getAttribute('aria-label')
                   || e.labels && e.labels.length && e.labels[0].textContent
                   || e.tagName === 'BUTTON' && e.textContent
                   || e.tagName === 'TABLE' && e.caption
                      && e.caption.textContent;
        }

        document.querySelectorAll('input, select, button, table, '
            + 'svg[role=img], [role=region]').forEach(function (e) {
            if (!name(e)) { bad.push(e.tagName + '#' + e.id); }
        });

        document.querySelectorAll('thead th').forEach(function (e) {
            if (!e.getAttribute('scope') || !e.textContent) {
                bad.push('th ' + e.textContent);
            }
        });

        return bad;
EOS
}

# Pictures are for people to look at.

sub keep {
    my ($name, $png) = @_;

    my $dir = ($ENV{BUILD} // "$root/build") . '/pictures';
    mkdir $dir;
    spew("$dir/$name", $png) if -d $dir;
    return;
}
