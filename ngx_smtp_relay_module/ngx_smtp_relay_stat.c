
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_stat_zone.h"
#include "ngx_smtp_relay_transaction.h"


static void ngx_smtp_relay_stat_octets(ngx_smtp_relay_session_t *ss);
static ngx_smtp_relay_end_e ngx_smtp_relay_stat_end(ngx_uint_t status);
static ngx_uint_t ngx_smtp_relay_stat_method(ngx_uint_t method);
static void ngx_smtp_relay_stat_observe(ngx_smtp_relay_stat_histogram_t *h,
    const uint64_t *bounds, uint64_t value);
static ngx_smtp_relay_result_e ngx_smtp_relay_stat_result(ngx_uint_t code);
static ngx_uint_t ngx_smtp_relay_stat_no_starttls(
    ngx_smtp_relay_node_t *node);


const uint64_t  ngx_smtp_relay_stat_times[NGX_SMTP_RELAY_STAT_BUCKETS] = {
    5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 15000, 60000
};

const uint64_t  ngx_smtp_relay_stat_lengths[NGX_SMTP_RELAY_STAT_BUCKETS] = {
    1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 1048576,
    4194304, 16777216
};


ngx_smtp_relay_stat_node_t           ngx_smtp_relay_stat_no_node;
static ngx_smtp_relay_stat_server_t  ngx_smtp_relay_stat_no_server;


void
ngx_smtp_relay_stat_session(ngx_smtp_relay_session_t *ss)
{
    ngx_str_t                         none;
    ngx_smtp_relay_stat_main_conf_t  *smcf;

    smcf = ngx_stream_get_module_main_conf(ss->stream,
                                           ngx_smtp_relay_stat_module);

    ngx_str_null(&none);

    ss->stat = (void *) ngx_smtp_relay_stat_find(smcf,
                                    NGX_SMTP_RELAY_STAT_SERVER, &none,
                                    &ss->connection->listening->addr_text);
    if (ss->stat == NULL) {
        ss->stat = &ngx_smtp_relay_stat_no_server;
    }

    ss->stat->open++;
    ss->stat->started++;

    if (ss->connection->ssl) {
        ngx_smtp_relay_stat_tls(ss, NGX_SMTP_RELAY_TLS_IMPLICIT);
    }
}


void
ngx_smtp_relay_stat_session_end(ngx_smtp_relay_session_t *ss)
{
    ngx_smtp_relay_stat_octets(ss);

    ss->stat->open--;
    ss->stat->ended[ngx_smtp_relay_stat_end(ss->stream->status)]++;
}


/* what came and went since the last time */

static void
ngx_smtp_relay_stat_octets(ngx_smtp_relay_session_t *ss)
{
    ss->stat->received += ss->stream->received - ss->stat_received;
    ss->stat->sent += ss->connection->sent - ss->stat_sent;

    ss->stat_received = ss->stream->received;
    ss->stat_sent = ss->connection->sent;
}


static ngx_smtp_relay_end_e
ngx_smtp_relay_stat_end(ngx_uint_t status)
{
    switch (status) {

    case NGX_STREAM_OK:
        return NGX_SMTP_RELAY_END_OK;

    case NGX_STREAM_BAD_REQUEST:
        return NGX_SMTP_RELAY_END_CLIENT_ERROR;

    case NGX_STREAM_FORBIDDEN:
        return NGX_SMTP_RELAY_END_DENIED;

    case NGX_SMTP_RELAY_CLIENT_TIMED_OUT:
        return NGX_SMTP_RELAY_END_TIMEOUT;

    case NGX_STREAM_BAD_GATEWAY:
        return NGX_SMTP_RELAY_END_NO_NODE;

    case NGX_STREAM_SERVICE_UNAVAILABLE:
        return NGX_SMTP_RELAY_END_LIMITED;

    default:
        return NGX_SMTP_RELAY_END_ERROR;
    }
}


void
ngx_smtp_relay_stat_tls(ngx_smtp_relay_session_t *ss, ngx_smtp_relay_tls_e via)
{
    ss->stat->tls[via]++;
}


void
ngx_smtp_relay_stat_tls_failed(ngx_connection_t *c,
    ngx_smtp_relay_stat_server_t *stat)
{
    ngx_smtp_relay_tls_failure_e  failure;

    if (c->ssl->handshaked) {
        failure = NGX_SMTP_RELAY_TLS_CERTIFICATE;

    } else if (c->read->timedout) {
        failure = NGX_SMTP_RELAY_TLS_TIMEOUT;

    } else if (c->read->eof && !c->read->error) {
        failure = NGX_SMTP_RELAY_TLS_CLOSED;

    } else {
        failure = NGX_SMTP_RELAY_TLS_HANDSHAKE;
    }

    stat->tls_failed[failure]++;
}


void
ngx_smtp_relay_stat_auth(ngx_smtp_relay_auth_t *auth)
{
    ngx_uint_t  method, verdict;

    method = ngx_smtp_relay_stat_method(auth->credentials.method);

    verdict = (auth->status - NGX_SMTP_RELAY_AUTH_OK)
              * NGX_SMTP_RELAY_STAT_SOURCES + auth->source;

    auth->session->stat->auth[method][verdict]++;
}


void
ngx_smtp_relay_stat_auth_refused(ngx_smtp_relay_session_t *ss,
    ngx_uint_t canceled)
{
    ngx_uint_t  method;

    /* the attempt is not that of this command if it has succeeded */

    method = (ss->auth && !ss->authenticated) ? ss->auth->credentials.method
                                              : 0;

    ss->stat->auth[ngx_smtp_relay_stat_method(method)]
                  [canceled ? NGX_SMTP_RELAY_STAT_CANCELED
                            : NGX_SMTP_RELAY_STAT_REFUSED]++;
}


static ngx_uint_t
ngx_smtp_relay_stat_method(ngx_uint_t method)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_SMTP_RELAY_STAT_METHODS - 1; i++) {
        if (method == (ngx_uint_t) NGX_SMTP_RELAY_AUTH_PLAIN << i) {
            break;
        }
    }

    return i;
}


void
ngx_smtp_relay_stat_service(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_service_failure_e failure)
{
    ngx_smtp_relay_stat_server_t  *stat;

    stat = auth->session->stat;

    if (failure != NGX_SMTP_RELAY_SERVICE_FAILURES) {
        stat->service_failed[failure]++;
    }

    ngx_smtp_relay_stat_observe(&stat->service_time, ngx_smtp_relay_stat_times,
                                ngx_current_msec - auth->start);
}


static void
ngx_smtp_relay_stat_observe(ngx_smtp_relay_stat_histogram_t *h,
    const uint64_t *bounds, uint64_t value)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_SMTP_RELAY_STAT_BUCKETS; i++) {
        if (value <= bounds[i]) {
            break;
        }
    }

    h->sum += value;
    h->buckets[i]++;
}


void
ngx_smtp_relay_stat_message(ngx_smtp_relay_transaction_t *t)
{
    ngx_smtp_relay_result_e        result;
    ngx_smtp_relay_stat_server_t  *stat;

    stat = t->session->stat;
    result = ngx_smtp_relay_stat_result(t->status);

    stat->messages[result]++;
    stat->recipients += t->accepted;
    stat->recipients_rejected += t->rejected + t->refused;
    stat->content += t->scan.size;

    if (result != NGX_SMTP_RELAY_ABORTED) {
        ngx_smtp_relay_stat_observe(&stat->message_time,
                                    ngx_smtp_relay_stat_times,
                                    t->end - t->start);
    }

    if (result == NGX_SMTP_RELAY_ACCEPTED) {
        ngx_smtp_relay_stat_observe(&stat->message_size,
                                    ngx_smtp_relay_stat_lengths,
                                    t->scan.size);
    }

    ngx_smtp_relay_stat_octets(t->session);
}


static ngx_smtp_relay_result_e
ngx_smtp_relay_stat_result(ngx_uint_t code)
{
    if (code == 0) {
        return NGX_SMTP_RELAY_ABORTED;
    }

    if (code < 300) {
        return NGX_SMTP_RELAY_ACCEPTED;
    }

    return (code < 500) ? NGX_SMTP_RELAY_DEFERRED : NGX_SMTP_RELAY_REJECTED;
}


void
ngx_smtp_relay_stat_choose(ngx_smtp_relay_transaction_t *t)
{
    ngx_str_t                         group;
    ngx_stream_upstream_t            *u;
    ngx_smtp_relay_stat_main_conf_t  *smcf;
    u_char                            buf[NGX_SMTP_RELAY_STAT_NAME];

    u = t->scope.upstream;
    t->stat = NULL;

    smcf = ngx_stream_get_module_main_conf(t->session->stream,
                                           ngx_smtp_relay_stat_module);

    if (smcf->zone && u->peer.name) {
        ngx_smtp_relay_stat_group(u->upstream, buf, &group);

        t->stat = (void *) ngx_smtp_relay_stat_find(smcf,
                                                    NGX_SMTP_RELAY_STAT_NODE,
                                                    &group, u->peer.name);
    }

    if (t->stat == NULL) {
        t->stat = &ngx_smtp_relay_stat_no_node;
    }
}


void
ngx_smtp_relay_stat_conn(ngx_smtp_relay_node_t *node,
    ngx_smtp_relay_conn_e kind)
{
    if (node->gauge) {
        (*node->gauge)--;
        node->gauge = NULL;
    }

    if (kind != NGX_SMTP_RELAY_CONNS) {
        node->gauge = &node->stat->conns[kind];
        (*node->gauge)++;
    }
}


ngx_smtp_relay_failure_e
ngx_smtp_relay_stat_failure(ngx_smtp_relay_node_t *node)
{
    ngx_connection_t  *c;

    c = node->connection;

    if (c == NULL) {
        return NGX_SMTP_RELAY_FAILED_CONNECT;
    }

    if (c->timedout) {
        return NGX_SMTP_RELAY_FAILED_TIMEOUT;
    }

    if (c->close) {

        /* the worker is on its way out */

        return NGX_SMTP_RELAY_FAILURES;
    }

    switch (node->state) {

    case NGX_SMTP_RELAY_NODE_CONNECT:
        return NGX_SMTP_RELAY_FAILED_CONNECT;

    case NGX_SMTP_RELAY_NODE_TLS:
        return NGX_SMTP_RELAY_FAILED_TLS;

    default:
        break;
    }

    if (c->error) {
        return NGX_SMTP_RELAY_FAILED_LOST;
    }

    if (ngx_smtp_relay_stat_no_starttls(node)) {
        return NGX_SMTP_RELAY_FAILED_TLS;
    }

    return (node->state == NGX_SMTP_RELAY_NODE_AUTH)
           ? NGX_SMTP_RELAY_FAILED_AUTH : NGX_SMTP_RELAY_FAILED_PROTOCOL;
}


/* given up between its reply to EHLO and TLS, for it has no STARTTLS */

static ngx_uint_t
ngx_smtp_relay_stat_no_starttls(ngx_smtp_relay_node_t *node)
{
    if (node->conf->ssl_mode != NGX_SMTP_RELAY_NODE_SSL_STARTTLS
        || node->connection->ssl)
    {
        return 0;
    }

    return (node->state == NGX_SMTP_RELAY_NODE_STARTTLS
            || (node->state == NGX_SMTP_RELAY_NODE_EHLO
                && node->reply.code == 250));
}


void
ngx_smtp_relay_stat_node_message(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t code)
{
    t->stat->messages[ngx_smtp_relay_stat_result(code)]++;
}
