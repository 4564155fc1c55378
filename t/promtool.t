# What docs/examples has for Prometheus and Grafana: promtool takes the rules,
# alerts come when they should, and every metric in them is there.

use FindBin;
use lib "$FindBin::Bin/lib";
use SMTPRelay::Test;
use SMTPRelay::Status;

use JSON::PP ();

my $root = "$FindBin::Bin/..";
my $rules = slurp("$root/docs/examples/prometheus-rules.yml");
my $json = slurp("$root/docs/examples/grafana-dashboard.json");
my $board = JSON::PP->new()->utf8->decode($json);

my $t = SMTPRelay::Test->new();

my $node = $t->node('node', script => {
    RCPT => sub { $_[0] =~ /bad/ ? '550 5.1.1 nobody' : undef },
});
my $auth = $t->auth_service('auth', users => { user => 'secret' });

$t->start(<<'EOC');
stream {
    smtp_relay_status_zone          status:512k;
    smtp_relay_limit_msg_zone       $smtp_relay_account  zone=rate:128k
                                    rate=1000r/s;
    smtp_relay_auth_block_zone      $remote_addr  zone=guess:128k
                                    failures=100 window=1m time=1m;
    smtp_relay_auth_cache_zone      zone=verdicts:128k;
    smtp_relay_auth_cache           verdicts valid=1m;
    smtp_relay_starttls             off;
    smtp_relay_auth                 http://127.0.0.1:%%PORT_auth%%/auth;
    smtp_relay_auth_failure_delay   0;

    upstream delivery {
        zone    delivery 64k;
        server  127.0.0.1:%%PORT_node%%;
        server  127.0.0.1:%%PORT_gone%%;
    }

    server {
        listen                127.0.0.1:%%PORT_smtp%%;
        smtp_relay_pass       delivery;
        smtp_relay_limit_msg  rate;
    }
}

http {
    server {
        listen    127.0.0.1:%%PORT_http%%;
        location  = /status { smtp_relay_status; }
    }
}
EOC

my $c = $t->session('smtp');
like($c->message("text\r\n"), qr/^250/, 'a message') for 1, 2;
$c->must('QUIT', '221');

my $metrics = SMTPRelay::Status->new(port => $t->port('http'))->text();
my %have = map { $_ => 1 } $metrics =~ /^(smtp_relay_\w+)/mg;

# names that are there only once something counts

$have{$_} = 1 for $metrics =~ /^# TYPE (smtp_relay_\w+)/mg;

my ($expressions) = $rules =~ s/^\s*#.*$//mgr;
my %recorded = map { $_ => 1 } $rules =~ /record: (\S+)/g;

for my $name (sort_uniq($expressions =~ /\b(smtp_relay_[a-z_]+)\b(?=[\s{\[)])/g)) {
    next if $name eq 'smtp_relay_status_zone' || $name =~ /_(rates|alerts)$/;
    ok($have{$name}, "rules: $name");
}

for my $name (sort_uniq($expressions =~ /\b(smtp_relay:[\w:]+)/g)) {
    ok($recorded{$name}, "rules: $name is recorded");
}

# the dashboard

my @targets = map { @{ $_->{targets} // [] } } @{ $board->{panels} };
cmp_ok(scalar @targets, '>', 20, 'the dashboard has queries');

my $queries = join "\n", (map { $_->{expr} } @targets),
              map { $_->{definition} // () } @{ $board->{templating}{list} };

ok($have{$_}, "dashboard: $_")
    for sort_uniq($queries =~ /\b(smtp_relay_\w+)/g);

my %ids;
$ids{$_->{id}}++ for @{ $board->{panels} };
is((grep { $_ > 1 } values %ids), 0, 'panels have ids of their own');
is((grep { $_->{datasource}{uid} ne '${datasource}' } @targets), 0,
   'and ask what is chosen');

# the table of what to do knows each alert

my $guide = slurp("$root/docs/operations.md") // '';
like($guide, qr/`\Q$_\E`/, "operations.md tells of $_")
    for $rules =~ /alert: (\w+)/g;

SKIP: {
    my $promtool = SMTPRelay::Status::program('promtool')
        or skip('no promtool', 3);

    my $said = `$promtool check rules $root/docs/examples/prometheus-rules.yml 2>&1`;
    is($?, 0, 'promtool takes the rules') or diag($said);

    # the queries of the dashboard are those of PromQL

    my $n = 0;
    my $groups = join '', map {
        my $e = $_->{expr} =~ s/\$__rate_interval/5m/gr =~ s/\$\w+/x/gr;
        $n++;
        "      - record: r$n\n        expr: "
            . JSON::PP->new()->allow_nonref->encode($e) . "\n";
    } @targets;

    spew($t->dir() . '/queries.yml',
         "groups:\n  - name: q\n    rules:\n$groups");
    $said = `$promtool check rules ${\$t->dir()}/queries.yml 2>&1`;
    is($?, 0, 'and the queries of the dashboard') or diag($said);

    spew($t->dir() . '/prometheus-rules.yml', $rules);
    spew($t->dir() . '/rules-test.yml', do { local $/; <DATA> });
    $said = `$promtool test rules ${\$t->dir()}/rules-test.yml 2>&1`;
    is($?, 0, 'alerts come, and do not come, when they should')
        or diag($said);
}

done_testing();


sub sort_uniq {
    my %seen = map { $_ => 1 } @_;
    my @sorted = sort keys %seen;
    return @sorted;
}

__DATA__
rule_files:
  - prometheus-rules.yml

evaluation_interval: 1m

tests:
  # all is well
  - interval: 1m
    input_series:
      - series: 'up{job="smtp_relay", instance="a"}'
        values: '1x60'
      - series: 'smtp_relay_node_up{instance="a", upstream="d", node="1"}'
        values: '1x60'
      - series: 'smtp_relay_node_up{instance="a", upstream="d", node="2"}'
        values: '0x60'
      - series: 'smtp_relay_messages_total{instance="a", server="s", result="accepted"}'
        values: '0+600x60'
      - series: 'smtp_relay_messages_total{instance="a", server="s", result="deferred"}'
        values: '0+6x60'
      - series: 'smtp_relay_messages_total{instance="a", server="s", result="rejected"}'
        values: '0+30x60'
      - series: 'smtp_relay_auth_total{instance="a", server="s", result="ok"}'
        values: '0+600x60'
      - series: 'smtp_relay_auth_total{instance="a", server="s", result="denied"}'
        values: '0+60x60'
      - series: 'smtp_relay_auth_total{instance="a", server="s", result="error"}'
        values: '0x60'
    alert_rule_test:
      - { eval_time: 50m, alertname: SmtpRelayDown, exp_alerts: [] }
      - { eval_time: 50m, alertname: SmtpRelayNoNode, exp_alerts: [] }
      - { eval_time: 50m, alertname: SmtpRelayMessagesDeferred, exp_alerts: [] }
      - { eval_time: 50m, alertname: SmtpRelayMessagesRejected, exp_alerts: [] }
      - { eval_time: 50m, alertname: SmtpRelayAuthErrors, exp_alerts: [] }
      - { eval_time: 50m, alertname: SmtpRelayAuthDenied, exp_alerts: [] }
      - { eval_time: 50m, alertname: SmtpRelayWorkerKilled, exp_alerts: [] }
      - { eval_time: 50m, alertname: SmtpRelayNoMessages, exp_alerts: [] }

  # nothing is
  - interval: 1m
    input_series:
      - series: 'up{job="smtp_relay", instance="a"}'
        values: '0x30'
      - series: 'smtp_relay_node_up{instance="a", upstream="d", node="1"}'
        values: '0x30'
      - series: 'smtp_relay_node_state{instance="a", upstream="d", node="1", state="failed"}'
        values: '1x30'
      - series: 'smtp_relay_messages_total{instance="a", server="s", result="accepted"}'
        values: '0+300x30'
      - series: 'smtp_relay_messages_total{instance="a", server="s", result="deferred"}'
        values: '0+300x30'
      - series: 'smtp_relay_auth_total{instance="a", server="s", result="ok"}'
        values: '0+300x30'
      - series: 'smtp_relay_auth_total{instance="a", server="s", result="error"}'
        values: '0+100x30'
      - series: 'smtp_relay_sessions_ended_total{instance="a", server="s", end="lost"}'
        values: '0x20 7x10'
    alert_rule_test:
      - eval_time: 10m
        alertname: SmtpRelayDown
        exp_alerts:
          - exp_labels: { severity: critical, job: smtp_relay, instance: a }
            exp_annotations: { summary: "a does not answer" }
      - eval_time: 10m
        alertname: SmtpRelayNoNode
        exp_alerts:
          - exp_labels: { severity: critical, instance: a, upstream: d }
            exp_annotations:
              summary: "No node of d is up"
              description: "Clients of a are told 451 4.4.1 and keep their messages."
      - eval_time: 10m
        alertname: SmtpRelayNodeFailed
        exp_alerts:
          - exp_labels: { severity: warning, instance: a, upstream: d, node: "1", state: failed }
            exp_annotations: { summary: "Node 1 of d is out of use" }
      - eval_time: 20m
        alertname: SmtpRelayMessagesDeferred
        exp_alerts:
          - exp_labels: { severity: warning, instance: a, result: deferred }
            exp_annotations: { summary: "50% of messages deferred" }
      - eval_time: 10m
        alertname: SmtpRelayAuthErrors
        exp_alerts:
          - exp_labels: { severity: critical, instance: a, result: error }
            exp_annotations:
              summary: "25% of logins could not be decided"
              description: "The auth service of a does not answer, or not as it should; clients are told 454 4.7.0."
      - eval_time: 22m
        alertname: SmtpRelayWorkerKilled
        exp_alerts:
          - exp_labels: { severity: critical, instance: a }
            exp_annotations: { summary: "A worker of a died with sessions open" }
