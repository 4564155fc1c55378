
#include "ngx_smtp_relay.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_http_smtp_relay_status.h"


static void ngx_http_smtp_relay_json_workers(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn);
static void ngx_http_smtp_relay_json_server(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_server_t *server);
static void ngx_http_smtp_relay_json_auth(ngx_http_smtp_relay_out_t *out,
    ngx_smtp_relay_stat_server_t *st);
static void ngx_http_smtp_relay_json_messages(ngx_http_smtp_relay_out_t *out,
    ngx_smtp_relay_stat_server_t *st);
static void ngx_http_smtp_relay_json_upstreams(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn);
static ngx_uint_t ngx_http_smtp_relay_json_shared(
    ngx_http_smtp_relay_snapshot_t *sn, ngx_uint_t i);
static void ngx_http_smtp_relay_json_node(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_node_t *node);
static void ngx_http_smtp_relay_json_string(ngx_http_smtp_relay_out_t *out,
    const char *name, ngx_str_t *value);
static void ngx_http_smtp_relay_json_counters(ngx_http_smtp_relay_out_t *out,
    ngx_str_t *names, uint64_t *counters);
static void ngx_http_smtp_relay_json_histogram(ngx_http_smtp_relay_out_t *out,
    const char *name, ngx_smtp_relay_stat_histogram_t *h,
    const uint64_t *bounds, ngx_uint_t seconds);
static void ngx_http_smtp_relay_json_sum(ngx_http_smtp_relay_out_t *out,
    const char *name, ngx_smtp_relay_stat_sum_t *sum);


#define ngx_http_smtp_relay_json_comma(out, i)                                \
    if (i) {                                                                  \
        ngx_http_smtp_relay_out_text(out, (u_char *) ",", 1);                 \
    }


void
ngx_http_smtp_relay_json(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn)
{
    uint64_t                        up;
    ngx_str_t                       openssl;
    ngx_uint_t                      i;
    ngx_http_smtp_relay_server_t  **servers;

    openssl.data = (u_char *) OpenSSL_version(OPENSSL_VERSION);
    openssl.len = ngx_strlen(openssl.data);

    up = (sn->now > sn->start) ? sn->now - sn->start : 0;

    ngx_http_smtp_relay_out_printf(out, "{\"version\":\"%s\",\"nginx\":\"%s\"",
                                   NGX_SMTP_RELAY_VERSION, NGINX_VERSION);
    ngx_http_smtp_relay_json_string(out, ",\"openssl\"", &openssl);
    ngx_http_smtp_relay_json_string(out, ",\"hostname\"",
                                    (ngx_str_t *) &ngx_cycle->hostname);

    ngx_http_smtp_relay_out_printf(out,
                   ",\"pid\":%P,\"time\":%uL.%03uL,\"start\":%uL.%03uL,"
                   "\"uptime\":%uL.%03uL,\"generation\":%ui,",
                   ngx_pid, sn->now / 1000, sn->now % 1000,
                   sn->start / 1000, sn->start % 1000, up / 1000, up % 1000,
                   sn->generation);

    ngx_http_smtp_relay_json_string(out, "\"zone\":{\"name\"", &sn->zone);
    ngx_http_smtp_relay_out_printf(out,
                                   ",\"size\":%uz,\"free\":%uz,\"full\":%s},",
                                   sn->zone_size, sn->zone_free,
                                   sn->zone_full ? "true" : "false");

    ngx_http_smtp_relay_json_workers(out, sn);

    ngx_http_smtp_relay_out_printf(out, ",\"servers\":[");

    servers = sn->servers.elts;

    for (i = 0; i < sn->servers.nelts; i++) {
        ngx_http_smtp_relay_json_comma(out, i);
        ngx_http_smtp_relay_json_server(out, servers[i]);
    }

    ngx_http_smtp_relay_out_printf(out, "],\"upstreams\":[");

    ngx_http_smtp_relay_json_upstreams(out, sn);

    ngx_http_smtp_relay_out_printf(out, "]");
    ngx_http_smtp_relay_json_zones(out);
    ngx_http_smtp_relay_out_printf(out, "}\n");
}


static void
ngx_http_smtp_relay_json_workers(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn)
{
    ngx_uint_t                     i;
    ngx_http_smtp_relay_worker_t  *worker;

    ngx_http_smtp_relay_out_printf(out, "\"workers\":[");

    worker = sn->workers.elts;

    for (i = 0; i < sn->workers.nelts; i++) {
        ngx_http_smtp_relay_json_comma(out, i);
        ngx_http_smtp_relay_out_printf(out,
                    "{\"pid\":%P,\"slot\":%ui,\"since\":%T,\"sessions\":%uL}",
                    worker[i].slot.pid, worker[i].number, worker[i].slot.since,
                    worker[i].sessions);
    }

    ngx_http_smtp_relay_out_printf(out, "]");
}


static void
ngx_http_smtp_relay_json_server(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_server_t *server)
{
    ngx_smtp_relay_stat_server_t  *st;

    st = &server->stat;

    ngx_http_smtp_relay_json_string(out, "{\"server\"", &server->name);

    ngx_http_smtp_relay_out_printf(out,
                        ",\"sessions\":{\"open\":%uL,\"total\":%uL,\"ended\":",
                        st->open, st->started);
    ngx_http_smtp_relay_json_counters(out, ngx_http_smtp_relay_ends,
                                      st->ended);

    ngx_http_smtp_relay_out_printf(out,
                "},\"tls\":{\"implicit\":%uL,\"starttls\":%uL,\"failures\":",
                st->tls[NGX_SMTP_RELAY_TLS_IMPLICIT],
                st->tls[NGX_SMTP_RELAY_TLS_STARTTLS]);
    ngx_http_smtp_relay_json_counters(out, ngx_http_smtp_relay_tls_failures,
                                      st->tls_failed);

    ngx_http_smtp_relay_out_printf(out, "},\"auth\":[");
    ngx_http_smtp_relay_json_auth(out, st);

    ngx_http_smtp_relay_out_printf(out,
                            "],\"auth_service\":{\"connections\":"
                            "{\"opened\":%uL,\"reused\":%uL},\"failures\":",
                            st->service_opened, st->service_reused);
    ngx_http_smtp_relay_json_counters(out,
                                      ngx_http_smtp_relay_service_failures,
                                      st->service_failed);
    ngx_http_smtp_relay_json_histogram(out, ",\"request_seconds\"",
                                       &st->service_time,
                                       ngx_smtp_relay_stat_times, 1);

    ngx_http_smtp_relay_out_printf(out, "}");
    ngx_http_smtp_relay_json_messages(out, st);
    ngx_http_smtp_relay_out_printf(out, "}");
}


static void
ngx_http_smtp_relay_json_auth(ngx_http_smtp_relay_out_t *out,
    ngx_smtp_relay_stat_server_t *st)
{
    ngx_str_t   result, source;
    ngx_uint_t  i, m, v;

    i = 0;

    for (m = 0; m < NGX_SMTP_RELAY_STAT_METHODS; m++) {
        for (v = 0; v < NGX_SMTP_RELAY_STAT_VERDICTS; v++) {

            if (st->auth[m][v] == 0) {
                continue;
            }

            ngx_http_smtp_relay_json_comma(out, i++);
            ngx_http_smtp_relay_verdict(v, &result, &source);

            ngx_http_smtp_relay_out_printf(out,
                                     "{\"method\":\"%V\",\"result\":\"%V\","
                                     "\"source\":\"%V\",\"count\":%uL}",
                                     &ngx_http_smtp_relay_methods[m],
                                     &result, &source, st->auth[m][v]);
        }
    }
}


static void
ngx_http_smtp_relay_json_messages(ngx_http_smtp_relay_out_t *out,
    ngx_smtp_relay_stat_server_t *st)
{
    ngx_http_smtp_relay_out_printf(out, ",\"messages\":");
    ngx_http_smtp_relay_json_counters(out, ngx_http_smtp_relay_results,
                                      st->messages);

    ngx_http_smtp_relay_out_printf(out,
                   ",\"recipients\":{\"accepted\":%uL,\"rejected\":%uL},"
                   "\"bytes\":{\"content\":%uL,\"received\":%uL,\"sent\":%uL}",
                   st->recipients, st->recipients_rejected,
                   st->content, st->received, st->sent);

    ngx_http_smtp_relay_json_histogram(out, ",\"message_seconds\"",
                                       &st->message_time,
                                       ngx_smtp_relay_stat_times, 1);
    ngx_http_smtp_relay_json_histogram(out, ",\"message_bytes\"",
                                       &st->message_size,
                                       ngx_smtp_relay_stat_lengths, 0);
}


static void
ngx_http_smtp_relay_json_upstreams(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn)
{
    ngx_uint_t                    i;
    ngx_http_smtp_relay_node_t  **nodes, *last;

    nodes = sn->nodes.elts;
    last = NULL;

    for (i = 0; i < sn->nodes.nelts; i++) {

        if (last
            && last->group.len == nodes[i]->group.len
            && ngx_strncmp(last->group.data, nodes[i]->group.data,
                           last->group.len)
               == 0)
        {
            ngx_http_smtp_relay_out_printf(out, ",");

        } else {

            if (last) {
                ngx_http_smtp_relay_out_printf(out, "]},");
            }

            last = nodes[i];

            ngx_http_smtp_relay_json_string(out, "{\"upstream\"",
                                            &last->group);
            ngx_http_smtp_relay_out_printf(out, ",\"shared\":%s,\"nodes\":[",
                                ngx_http_smtp_relay_json_shared(sn, i)
                                ? "true" : "false");
        }

        ngx_http_smtp_relay_json_node(out, nodes[i]);
    }

    if (last) {
        ngx_http_smtp_relay_out_printf(out, "]}");
    }
}


/* whether the group of a node is; one that has left it does not know */

static ngx_uint_t
ngx_http_smtp_relay_json_shared(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_uint_t i)
{
    ngx_str_t                    *group;
    ngx_http_smtp_relay_node_t  **nodes;

    nodes = sn->nodes.elts;
    group = &nodes[i]->group;

    for ( /* void */ ; i < sn->nodes.nelts; i++) {

        if (nodes[i]->group.len != group->len
            || ngx_strncmp(nodes[i]->group.data, group->data, group->len) != 0)
        {
            break;
        }

        if (nodes[i]->shared) {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_smtp_relay_json_node(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_node_t *node)
{
    ngx_smtp_relay_stat_node_t  *st;

    st = &node->stat;

    ngx_http_smtp_relay_json_string(out, "{\"node\"", &node->name);

    ngx_http_smtp_relay_out_printf(out, ",\"state\":\"%V\"",
                                   &ngx_http_smtp_relay_states[node->state]);

    if (node->state != NGX_SMTP_RELAY_STATE_UNKNOWN) {
        ngx_http_smtp_relay_json_string(out, ",\"server\"", &node->server);
        ngx_http_smtp_relay_out_printf(out,
                                ",\"backup\":%s,\"weight\":%i,\"active\":%ui",
                                node->backup ? "true" : "false",
                                node->weight, node->active);
    }

    ngx_http_smtp_relay_out_printf(out,
                           ",\"connections\":{\"connecting\":%uL,\"busy\":%uL,"
                           "\"idle\":%uL,\"opened\":%uL,\"reused\":%uL},"
                           "\"pool\":",
                           st->conns[NGX_SMTP_RELAY_CONN_CONNECTING],
                           st->conns[NGX_SMTP_RELAY_CONN_BUSY],
                           st->conns[NGX_SMTP_RELAY_CONN_IDLE],
                           st->opened, st->reused);

    ngx_http_smtp_relay_json_counters(out, ngx_http_smtp_relay_pool_ends,
                                      st->pool);
    ngx_http_smtp_relay_out_printf(out, ",\"failures\":");
    ngx_http_smtp_relay_json_counters(out, ngx_http_smtp_relay_failures,
                                      st->failures);

    ngx_http_smtp_relay_out_printf(out,
                           ",\"messages\":{\"accepted\":%uL,\"deferred\":%uL,"
                           "\"rejected\":%uL},"
                           "\"bytes\":{\"sent\":%uL,\"received\":%uL}",
                           st->messages[NGX_SMTP_RELAY_ACCEPTED],
                           st->messages[NGX_SMTP_RELAY_DEFERRED],
                           st->messages[NGX_SMTP_RELAY_REJECTED],
                           st->sent, st->received);

    ngx_http_smtp_relay_json_sum(out, "connect_seconds", &st->connect_time);
    ngx_http_smtp_relay_json_sum(out, "reply_seconds", &st->reply_time);

    ngx_http_smtp_relay_out_printf(out, "}");
}


static void
ngx_http_smtp_relay_json_string(ngx_http_smtp_relay_out_t *out,
    const char *name, ngx_str_t *value)
{
    ngx_http_smtp_relay_out_printf(out, "%s:\"", name);
    ngx_http_smtp_relay_out_json(out, value);
    ngx_http_smtp_relay_out_printf(out, "\"");
}


static void
ngx_http_smtp_relay_json_counters(ngx_http_smtp_relay_out_t *out,
    ngx_str_t *names, uint64_t *counters)
{
    ngx_uint_t  i;

    for (i = 0; names[i].len; i++) {
        ngx_http_smtp_relay_out_printf(out, "%s\"%V\":%uL", i ? "," : "{",
                                       &names[i], counters[i]);
    }

    ngx_http_smtp_relay_out_printf(out, "}");
}


static void
ngx_http_smtp_relay_json_histogram(ngx_http_smtp_relay_out_t *out,
    const char *name, ngx_smtp_relay_stat_histogram_t *h,
    const uint64_t *bounds, ngx_uint_t seconds)
{
    uint64_t    count;
    ngx_uint_t  i;

    ngx_http_smtp_relay_out_printf(out, "%s:{\"buckets\":[", name);

    count = 0;

    for (i = 0; i < NGX_SMTP_RELAY_STAT_BUCKETS; i++) {
        count += h->buckets[i];

        ngx_http_smtp_relay_json_comma(out, i);

        if (seconds) {
            ngx_http_smtp_relay_out_printf(out, "[%uL.%03uL,%uL]",
                                           bounds[i] / 1000, bounds[i] % 1000,
                                           count);

        } else {
            ngx_http_smtp_relay_out_printf(out, "[%uL,%uL]", bounds[i], count);
        }
    }

    count += h->buckets[i];

    if (seconds) {
        ngx_http_smtp_relay_out_printf(out,
                                       "],\"sum\":%uL.%03uL,\"count\":%uL}",
                                       h->sum / 1000, h->sum % 1000, count);

    } else {
        ngx_http_smtp_relay_out_printf(out, "],\"sum\":%uL,\"count\":%uL}",
                                       h->sum, count);
    }
}


static void
ngx_http_smtp_relay_json_sum(ngx_http_smtp_relay_out_t *out, const char *name,
    ngx_smtp_relay_stat_sum_t *sum)
{
    ngx_http_smtp_relay_out_printf(out,
                               ",\"%s\":{\"sum\":%uL.%03uL,\"count\":%uL}",
                               name, sum->sum / 1000, sum->sum % 1000,
                               sum->count);
}

#endif
