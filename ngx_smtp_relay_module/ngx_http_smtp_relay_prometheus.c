
#include "ngx_smtp_relay.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_http_smtp_relay_status.h"


/*
 * A family of metrics: one number, or one for each of the names of a label,
 * from offset on in the counters of a server or of a node.
 */

typedef struct {
    const char                     *name;
    const char                     *type;
    const char                     *help;
    const char                     *label;      /* NULL: none */
    ngx_str_t                      *names;
    size_t                          offset;
} ngx_http_smtp_relay_metric_t;


static ngx_int_t ngx_http_smtp_relay_prometheus_labels(
    ngx_http_smtp_relay_out_t *out, ngx_http_smtp_relay_snapshot_t *sn);
static void ngx_http_smtp_relay_prometheus_head(
    ngx_http_smtp_relay_out_t *out, const char *name, const char *type,
    const char *help);
static void ngx_http_smtp_relay_prometheus_build(
    ngx_http_smtp_relay_out_t *out, ngx_http_smtp_relay_snapshot_t *sn);
static void ngx_http_smtp_relay_prometheus_metric(
    ngx_http_smtp_relay_out_t *out, ngx_http_smtp_relay_metric_t *metric,
    ngx_array_t *items, size_t labels, size_t stat);
static void ngx_http_smtp_relay_prometheus_name(
    ngx_http_smtp_relay_out_t *out, const char *name, const char *suffix,
    ngx_str_t *labels);
static void ngx_http_smtp_relay_prometheus_auth(
    ngx_http_smtp_relay_out_t *out, ngx_http_smtp_relay_snapshot_t *sn);
static void ngx_http_smtp_relay_prometheus_histogram(
    ngx_http_smtp_relay_out_t *out, ngx_http_smtp_relay_snapshot_t *sn,
    ngx_http_smtp_relay_metric_t *metric, const uint64_t *bounds,
    ngx_uint_t seconds);
static void ngx_http_smtp_relay_prometheus_states(
    ngx_http_smtp_relay_out_t *out, ngx_http_smtp_relay_snapshot_t *sn);
static void ngx_http_smtp_relay_prometheus_summary(
    ngx_http_smtp_relay_out_t *out, ngx_http_smtp_relay_snapshot_t *sn,
    ngx_http_smtp_relay_metric_t *metric);


#define ngx_http_smtp_relay_of_server(field)                                  \
    offsetof(ngx_smtp_relay_stat_server_t, field)

#define ngx_http_smtp_relay_of_node(field)                                    \
    offsetof(ngx_smtp_relay_stat_node_t, field)

#define ngx_http_smtp_relay_no_metric                                         \
    { NULL, NULL, NULL, NULL, NULL, 0 }


static ngx_str_t  ngx_http_smtp_relay_recipients[] = {
    ngx_string("accepted"),
    ngx_string("rejected"),
    ngx_null_string
};


/* of nodes; nothing is aborted there */

static ngx_str_t  ngx_http_smtp_relay_words[] = {
    ngx_string("accepted"),
    ngx_string("deferred"),
    ngx_string("rejected"),
    ngx_null_string
};


static ngx_http_smtp_relay_metric_t  ngx_http_smtp_relay_server_metrics[] = {

    { "smtp_relay_sessions_open", "gauge",
      "Sessions that are open.",
      NULL, NULL,
      ngx_http_smtp_relay_of_server(open) },

    { "smtp_relay_sessions_started_total", "counter",
      "Sessions that were started.",
      NULL, NULL,
      ngx_http_smtp_relay_of_server(started) },

    { "smtp_relay_sessions_ended_total", "counter",
      "Sessions that have ended, by how.",
      "end", ngx_http_smtp_relay_ends,
      ngx_http_smtp_relay_of_server(ended) },

    { "smtp_relay_tls_handshakes_total", "counter",
      "TLS of clients, from the start or by STARTTLS.",
      "via", ngx_http_smtp_relay_tls_ways,
      ngx_http_smtp_relay_of_server(tls) },

    { "smtp_relay_tls_failures_total", "counter",
      "TLS of clients that did not come about.",
      "reason", ngx_http_smtp_relay_tls_failures,
      ngx_http_smtp_relay_of_server(tls_failed) },

    { "smtp_relay_auth_request_failures_total", "counter",
      "Requests to the auth service that brought no verdict.",
      "reason", ngx_http_smtp_relay_service_failures,
      ngx_http_smtp_relay_of_server(service_failed) },

    { "smtp_relay_auth_connections_opened_total", "counter",
      "Connections made to the auth service.",
      NULL, NULL,
      ngx_http_smtp_relay_of_server(service_opened) },

    { "smtp_relay_auth_connections_reused_total", "counter",
      "Requests to the auth service on a connection that was kept.",
      NULL, NULL,
      ngx_http_smtp_relay_of_server(service_reused) },

    { "smtp_relay_messages_total", "counter",
      "Messages that have ended, by what became of them.",
      "result", ngx_http_smtp_relay_results,
      ngx_http_smtp_relay_of_server(messages) },

    { "smtp_relay_recipients_total", "counter",
      "Recipients of messages that have ended.",
      "result", ngx_http_smtp_relay_recipients,
      ngx_http_smtp_relay_of_server(recipients) },

    { "smtp_relay_message_content_bytes_total", "counter",
      "Octets of message content that came in.",
      NULL, NULL,
      ngx_http_smtp_relay_of_server(content) },

    { "smtp_relay_client_received_bytes_total", "counter",
      "Octets received from clients.",
      NULL, NULL,
      ngx_http_smtp_relay_of_server(received) },

    { "smtp_relay_client_sent_bytes_total", "counter",
      "Octets sent to clients.",
      NULL, NULL,
      ngx_http_smtp_relay_of_server(sent) },

    ngx_http_smtp_relay_no_metric
};


static ngx_http_smtp_relay_metric_t  ngx_http_smtp_relay_service_time = {
    "smtp_relay_auth_request_duration_seconds", "histogram",
    "Duration of requests to the auth service.",
    NULL, NULL,
    ngx_http_smtp_relay_of_server(service_time)
};

static ngx_http_smtp_relay_metric_t  ngx_http_smtp_relay_message_time = {
    "smtp_relay_message_duration_seconds", "histogram",
    "Time from MAIL to the final reply to a message.",
    NULL, NULL,
    ngx_http_smtp_relay_of_server(message_time)
};

static ngx_http_smtp_relay_metric_t  ngx_http_smtp_relay_message_size = {
    "smtp_relay_message_size_bytes", "histogram",
    "Octets of content of accepted messages.",
    NULL, NULL,
    ngx_http_smtp_relay_of_server(message_size)
};


static ngx_http_smtp_relay_metric_t  ngx_http_smtp_relay_node_metrics[] = {

    { "smtp_relay_node_connections", "gauge",
      "Connections to nodes, by what they are doing.",
      "state", ngx_http_smtp_relay_conns,
      ngx_http_smtp_relay_of_node(conns) },

    { "smtp_relay_node_connections_opened_total", "counter",
      "Connections made to nodes.",
      NULL, NULL,
      ngx_http_smtp_relay_of_node(opened) },

    { "smtp_relay_node_connections_reused_total", "counter",
      "Connections to nodes that were used for another message.",
      NULL, NULL,
      ngx_http_smtp_relay_of_node(reused) },

    { "smtp_relay_node_pool_closed_total", "counter",
      "Connections to nodes that were not kept, or not any longer, by why.",
      "reason", ngx_http_smtp_relay_pool_ends,
      ngx_http_smtp_relay_of_node(pool) },

    { "smtp_relay_node_failures_total", "counter",
      "Failures of nodes, by kind.",
      "reason", ngx_http_smtp_relay_failures,
      ngx_http_smtp_relay_of_node(failures) },

    { "smtp_relay_node_messages_total", "counter",
      "Messages that nodes had the final word on.",
      "result", ngx_http_smtp_relay_words,
      ngx_http_smtp_relay_of_node(messages) },

    { "smtp_relay_node_sent_bytes_total", "counter",
      "Octets sent to nodes.",
      NULL, NULL,
      ngx_http_smtp_relay_of_node(sent) },

    { "smtp_relay_node_received_bytes_total", "counter",
      "Octets received from nodes.",
      NULL, NULL,
      ngx_http_smtp_relay_of_node(received) },

    ngx_http_smtp_relay_no_metric
};


static ngx_http_smtp_relay_metric_t  ngx_http_smtp_relay_connect_time = {
    "smtp_relay_node_connect_duration_seconds", "summary",
    "Time to make a connection to a node ready for a message.",
    NULL, NULL,
    ngx_http_smtp_relay_of_node(connect_time)
};

static ngx_http_smtp_relay_metric_t  ngx_http_smtp_relay_reply_time = {
    "smtp_relay_node_reply_duration_seconds", "summary",
    "Time from the end of content to the reply of the node.",
    NULL, NULL,
    ngx_http_smtp_relay_of_node(reply_time)
};


void
ngx_http_smtp_relay_prometheus(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn)
{
    ngx_http_smtp_relay_metric_t  *metric;

    if (ngx_http_smtp_relay_prometheus_labels(out, sn) != NGX_OK) {
        out->error = 1;
        return;
    }

    ngx_http_smtp_relay_prometheus_build(out, sn);

    for (metric = ngx_http_smtp_relay_server_metrics; metric->name; metric++) {
        ngx_http_smtp_relay_prometheus_metric(out, metric, &sn->servers,
                               offsetof(ngx_http_smtp_relay_server_t, labels),
                               offsetof(ngx_http_smtp_relay_server_t, stat));
    }

    ngx_http_smtp_relay_prometheus_auth(out, sn);

    ngx_http_smtp_relay_prometheus_histogram(out, sn,
                                         &ngx_http_smtp_relay_service_time,
                                         ngx_smtp_relay_stat_times, 1);
    ngx_http_smtp_relay_prometheus_histogram(out, sn,
                                         &ngx_http_smtp_relay_message_time,
                                         ngx_smtp_relay_stat_times, 1);
    ngx_http_smtp_relay_prometheus_histogram(out, sn,
                                         &ngx_http_smtp_relay_message_size,
                                         ngx_smtp_relay_stat_lengths, 0);

    ngx_http_smtp_relay_prometheus_states(out, sn);

    for (metric = ngx_http_smtp_relay_node_metrics; metric->name; metric++) {
        ngx_http_smtp_relay_prometheus_metric(out, metric, &sn->nodes,
                                 offsetof(ngx_http_smtp_relay_node_t, labels),
                                 offsetof(ngx_http_smtp_relay_node_t, stat));
    }

    ngx_http_smtp_relay_prometheus_summary(out, sn,
                                         &ngx_http_smtp_relay_connect_time);
    ngx_http_smtp_relay_prometheus_summary(out, sn,
                                         &ngx_http_smtp_relay_reply_time);

    ngx_http_smtp_relay_prometheus_zones(out);
}


/* labels are written many times, but escaped once */

static ngx_int_t
ngx_http_smtp_relay_prometheus_labels(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn)
{
    u_char                         *p;
    ngx_uint_t                      i;
    ngx_http_smtp_relay_node_t    **nodes;
    ngx_http_smtp_relay_server_t  **servers;

    servers = sn->servers.elts;

    for (i = 0; i < sn->servers.nelts; i++) {

        p = ngx_pnalloc(out->pool, sizeof("server=\"\"") - 1
                                   + 2 * servers[i]->name.len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        servers[i]->labels.data = p;

        p = ngx_cpymem(p, "server=\"", sizeof("server=\"") - 1);
        p = ngx_http_smtp_relay_out_escape_label(p, &servers[i]->name);
        *p++ = '"';

        servers[i]->labels.len = p - servers[i]->labels.data;
    }

    nodes = sn->nodes.elts;

    for (i = 0; i < sn->nodes.nelts; i++) {

        p = ngx_pnalloc(out->pool, sizeof("upstream=\"\",node=\"\"") - 1
                                   + 2 * nodes[i]->group.len
                                   + 2 * nodes[i]->name.len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        nodes[i]->labels.data = p;

        p = ngx_cpymem(p, "upstream=\"", sizeof("upstream=\"") - 1);
        p = ngx_http_smtp_relay_out_escape_label(p, &nodes[i]->group);
        p = ngx_cpymem(p, "\",node=\"", sizeof("\",node=\"") - 1);
        p = ngx_http_smtp_relay_out_escape_label(p, &nodes[i]->name);
        *p++ = '"';

        nodes[i]->labels.len = p - nodes[i]->labels.data;
    }

    return NGX_OK;
}


static void
ngx_http_smtp_relay_prometheus_head(ngx_http_smtp_relay_out_t *out,
    const char *name, const char *type, const char *help)
{
    ngx_http_smtp_relay_out_printf(out, "# HELP %s %s\n# TYPE %s %s\n",
                                   name, help, name, type);
}


static void
ngx_http_smtp_relay_prometheus_build(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn)
{
    ngx_http_smtp_relay_prometheus_head(out, "smtp_relay_build_info", "gauge",
                                        "What this is.");
    ngx_http_smtp_relay_out_printf(out,
                                   "smtp_relay_build_info{version=\"%s\","
                                   "nginx=\"%s\",openssl=\"%s\"} 1\n",
                                   NGX_SMTP_RELAY_VERSION, NGINX_VERSION,
                                   OpenSSL_version(OPENSSL_VERSION));

    ngx_http_smtp_relay_prometheus_head(out, "smtp_relay_start_time_seconds",
                                        "gauge", "When counting began.");
    ngx_http_smtp_relay_out_printf(out,
                                 "smtp_relay_start_time_seconds %uL.%03uL\n",
                                 sn->start / 1000, sn->start % 1000);

    ngx_http_smtp_relay_prometheus_head(out, "smtp_relay_generation", "gauge",
                                     "Configurations loaded since then.");
    ngx_http_smtp_relay_out_printf(out, "smtp_relay_generation %ui\n",
                                   sn->generation);

    ngx_http_smtp_relay_prometheus_head(out, "smtp_relay_workers", "gauge",
                                        "Worker processes.");
    ngx_http_smtp_relay_out_printf(out, "smtp_relay_workers %ui\n",
                                   sn->workers.nelts);
}


static void
ngx_http_smtp_relay_prometheus_metric(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_metric_t *metric, ngx_array_t *items, size_t labels,
    size_t stat)
{
    u_char      **item;
    uint64_t     *counters;
    ngx_str_t    *text;
    ngx_uint_t    i, n;

    if (items->nelts == 0) {
        return;
    }

    ngx_http_smtp_relay_prometheus_head(out, metric->name, metric->type,
                                        metric->help);

    item = items->elts;

    for (i = 0; i < items->nelts; i++) {
        counters = (uint64_t *) (item[i] + stat + metric->offset);
        text = (ngx_str_t *) (item[i] + labels);

        if (metric->label == NULL) {
            ngx_http_smtp_relay_prometheus_name(out, metric->name, "", text);
            ngx_http_smtp_relay_out_printf(out, "} %uL\n", counters[0]);
            continue;
        }

        for (n = 0; metric->names[n].len; n++) {
            ngx_http_smtp_relay_prometheus_name(out, metric->name, "", text);
            ngx_http_smtp_relay_out_printf(out, ",%s=\"%V\"} %uL\n",
                                           metric->label, &metric->names[n],
                                           counters[n]);
        }
    }
}


static void
ngx_http_smtp_relay_prometheus_name(ngx_http_smtp_relay_out_t *out,
    const char *name, const char *suffix, ngx_str_t *labels)
{
    ngx_http_smtp_relay_out_printf(out, "%s%s{", name, suffix);
    ngx_http_smtp_relay_out_text(out, labels->data, labels->len);
}


static void
ngx_http_smtp_relay_prometheus_auth(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn)
{
    uint64_t                        count;
    ngx_str_t                       result, source;
    ngx_uint_t                      i, m, v;
    ngx_http_smtp_relay_server_t  **servers;

    ngx_http_smtp_relay_prometheus_head(out, "smtp_relay_auth_total",
                                        "counter",
                                        "AUTH commands that were answered.");

    servers = sn->servers.elts;

    for (i = 0; i < sn->servers.nelts; i++) {
        for (m = 0; m < NGX_SMTP_RELAY_STAT_METHODS; m++) {
            for (v = 0; v < NGX_SMTP_RELAY_STAT_VERDICTS; v++) {

                count = servers[i]->stat.auth[m][v];

                if (count == 0) {
                    continue;
                }

                ngx_http_smtp_relay_verdict(v, &result, &source);

                ngx_http_smtp_relay_prometheus_name(out,
                                                    "smtp_relay_auth_total",
                                                    "", &servers[i]->labels);
                ngx_http_smtp_relay_out_printf(out,
                          ",method=\"%V\",result=\"%V\",source=\"%V\"} %uL\n",
                          &ngx_http_smtp_relay_methods[m], &result, &source,
                          count);
            }
        }
    }
}


static void
ngx_http_smtp_relay_prometheus_histogram(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn, ngx_http_smtp_relay_metric_t *metric,
    const uint64_t *bounds, ngx_uint_t seconds)
{
    uint64_t                          count;
    ngx_uint_t                        i, n;
    ngx_http_smtp_relay_server_t    **servers;
    ngx_smtp_relay_stat_histogram_t  *h;

    ngx_http_smtp_relay_prometheus_head(out, metric->name, metric->type,
                                        metric->help);

    servers = sn->servers.elts;

    for (i = 0; i < sn->servers.nelts; i++) {
        h = (void *) ((u_char *) &servers[i]->stat + metric->offset);
        count = 0;

        for (n = 0; n <= NGX_SMTP_RELAY_STAT_BUCKETS; n++) {
            count += h->buckets[n];

            ngx_http_smtp_relay_prometheus_name(out, metric->name, "_bucket",
                                                &servers[i]->labels);

            if (n == NGX_SMTP_RELAY_STAT_BUCKETS) {
                ngx_http_smtp_relay_out_printf(out, ",le=\"+Inf\"} %uL\n",
                                               count);

            } else if (seconds) {
                ngx_http_smtp_relay_out_printf(out,
                                               ",le=\"%uL.%03uL\"} %uL\n",
                                               bounds[n] / 1000,
                                               bounds[n] % 1000, count);

            } else {
                ngx_http_smtp_relay_out_printf(out, ",le=\"%uL\"} %uL\n",
                                               bounds[n], count);
            }
        }

        ngx_http_smtp_relay_prometheus_name(out, metric->name, "_sum",
                                            &servers[i]->labels);

        if (seconds) {
            ngx_http_smtp_relay_out_printf(out, "} %uL.%03uL\n",
                                           h->sum / 1000, h->sum % 1000);

        } else {
            ngx_http_smtp_relay_out_printf(out, "} %uL\n", h->sum);
        }

        ngx_http_smtp_relay_prometheus_name(out, metric->name, "_count",
                                            &servers[i]->labels);
        ngx_http_smtp_relay_out_printf(out, "} %uL\n", count);
    }
}


static void
ngx_http_smtp_relay_prometheus_states(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn)
{
    ngx_uint_t                    i, state;
    ngx_http_smtp_relay_node_t  **nodes;

    if (sn->nodes.nelts == 0) {
        return;
    }

    nodes = sn->nodes.elts;

    ngx_http_smtp_relay_prometheus_head(out, "smtp_relay_node_up", "gauge",
                                        "Whether messages may be sent to a "
                                        "node.");

    for (i = 0; i < sn->nodes.nelts; i++) {

        if (nodes[i]->state == NGX_SMTP_RELAY_STATE_UNKNOWN) {
            continue;
        }

        ngx_http_smtp_relay_prometheus_name(out, "smtp_relay_node_up", "",
                                            &nodes[i]->labels);
        ngx_http_smtp_relay_out_printf(out, "} %d\n",
                                nodes[i]->state == NGX_SMTP_RELAY_STATE_UP);
    }

    ngx_http_smtp_relay_prometheus_head(out, "smtp_relay_node_state", "gauge",
                                        "The state that a node is in.");

    for (i = 0; i < sn->nodes.nelts; i++) {

        if (nodes[i]->state == NGX_SMTP_RELAY_STATE_UNKNOWN) {
            continue;
        }

        for (state = 0; state < NGX_SMTP_RELAY_STATE_UNKNOWN; state++) {
            ngx_http_smtp_relay_prometheus_name(out, "smtp_relay_node_state",
                                                "", &nodes[i]->labels);
            ngx_http_smtp_relay_out_printf(out, ",state=\"%V\"} %d\n",
                                           &ngx_http_smtp_relay_states[state],
                                           nodes[i]->state == state);
        }
    }
}


static void
ngx_http_smtp_relay_prometheus_summary(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn, ngx_http_smtp_relay_metric_t *metric)
{
    ngx_uint_t                    i;
    ngx_smtp_relay_stat_sum_t    *sum;
    ngx_http_smtp_relay_node_t  **nodes;

    if (sn->nodes.nelts == 0) {
        return;
    }

    ngx_http_smtp_relay_prometheus_head(out, metric->name, metric->type,
                                        metric->help);

    nodes = sn->nodes.elts;

    for (i = 0; i < sn->nodes.nelts; i++) {
        sum = (void *) ((u_char *) &nodes[i]->stat + metric->offset);

        ngx_http_smtp_relay_prometheus_name(out, metric->name, "_sum",
                                            &nodes[i]->labels);
        ngx_http_smtp_relay_out_printf(out, "} %uL.%03uL\n", sum->sum / 1000,
                                       sum->sum % 1000);

        ngx_http_smtp_relay_prometheus_name(out, metric->name, "_count",
                                            &nodes[i]->labels);
        ngx_http_smtp_relay_out_printf(out, "} %uL\n", sum->count);
    }
}

#endif
