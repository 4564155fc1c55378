
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_cache.h"
#include "ngx_smtp_relay_auth_cache_key.h"
#include "ngx_smtp_relay_auth_cache_verdict.h"
#include "ngx_smtp_relay_http_peer.h"
#include "ngx_smtp_relay_session.h"


/*
 * milliseconds: how often those who wait for another worker look, the first
 * time and at most, and those who wait for one of this worker, who is going
 * to wake them: that is for what can be told meanwhile from elsewhere
 */
#define NGX_SMTP_RELAY_CACHE_POLL       10
#define NGX_SMTP_RELAY_CACHE_POLL_MAX   160
#define NGX_SMTP_RELAY_CACHE_POLL_OWN   500

/* one who asks is believed dead that long after it must have ended */
#define NGX_SMTP_RELAY_CACHE_GRACE      1000

/* parts of a key */
#define NGX_SMTP_RELAY_CACHE_PARTS      10


/* what those of this worker have in common who wait for the same verdict */

typedef struct {
    ngx_rbtree_node_t               node;
    ngx_smtp_relay_cache_t         *cache;
    ngx_queue_t                     waiters;
    ngx_event_t                     timer;
    ngx_msec_t                      delay;
    ngx_uint_t                      askers; /* of this worker; several, if
                                             * a purge came between */
} ngx_smtp_relay_auth_flight_t;


/* an attempt that asks or waits; not in its pool, since that lasts longer */

struct ngx_smtp_relay_auth_lookup_s {
    ngx_smtp_relay_auth_t          *auth;
    ngx_smtp_relay_cache_t         *cache;
    ngx_smtp_relay_auth_srv_conf_t *conf;
    ngx_smtp_relay_auth_flight_t   *flight; /* NULL: none */
    ngx_queue_t                     queue;  /* of its waiters */
    ngx_event_t                     event;  /* look again */
    ngx_smtp_relay_cache_op_t       op;
    u_char                          key[NGX_SMTP_RELAY_CACHE_KEY_LEN];
    unsigned                        asks:1;
};


static ngx_int_t ngx_smtp_relay_auth_cache_key(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_srv_conf_t *ascf, u_char *key, uint32_t *service);
static ngx_uint_t ngx_smtp_relay_auth_cache_variable(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_auth_srv_conf_t *ascf);
static ngx_int_t ngx_smtp_relay_auth_cache_values(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_auth_srv_conf_t *ascf,
    ngx_pool_t *pool, ngx_str_t *values);
static uint32_t ngx_smtp_relay_auth_cache_service(
    ngx_smtp_relay_http_peer_t *peer, ngx_str_t *authority);
static ngx_smtp_relay_auth_lookup_t *ngx_smtp_relay_auth_cache_keep(
    ngx_smtp_relay_auth_lookup_t *temp);
static ngx_int_t ngx_smtp_relay_auth_cache_proceed(
    ngx_smtp_relay_auth_lookup_t *lookup,
    ngx_smtp_relay_cache_answer_e answer);
static ngx_int_t ngx_smtp_relay_auth_cache_take(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_cache_op_t *op, ngx_smtp_relay_auth_source_e source);
static void ngx_smtp_relay_auth_cache_warn(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_cache_op_t *op);
static void ngx_smtp_relay_auth_cache_ask(
    ngx_smtp_relay_auth_lookup_t *lookup);
static ngx_int_t ngx_smtp_relay_auth_cache_wait(
    ngx_smtp_relay_auth_lookup_t *lookup);
static void ngx_smtp_relay_auth_cache_handler(ngx_event_t *ev);
static ngx_smtp_relay_auth_flight_t *ngx_smtp_relay_auth_flight(
    ngx_smtp_relay_auth_lookup_t *lookup);
static void ngx_smtp_relay_auth_flight_handler(ngx_event_t *ev);
static void ngx_smtp_relay_auth_flight_wake(
    ngx_smtp_relay_auth_flight_t *flight);
static void ngx_smtp_relay_auth_flight_release(
    ngx_smtp_relay_auth_flight_t *flight);
static ngx_smtp_relay_cache_outcome_e ngx_smtp_relay_auth_cache_outcome(
    ngx_smtp_relay_auth_lookup_t *lookup,
    ngx_smtp_relay_auth_status_e status);
static ngx_smtp_relay_cache_answer_e ngx_smtp_relay_auth_cache_end(
    ngx_smtp_relay_auth_lookup_t *lookup,
    ngx_smtp_relay_cache_outcome_e outcome);
static void ngx_smtp_relay_auth_cache_free(
    ngx_smtp_relay_auth_lookup_t *lookup);
static ngx_int_t ngx_smtp_relay_auth_cache_account(ngx_str_t *name,
    uint64_t *account);


ngx_int_t
ngx_smtp_relay_auth_cache_start(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_srv_conf_t *ascf)
{
    ngx_smtp_relay_auth_lookup_t   temp, *lookup;
    ngx_smtp_relay_cache_answer_e  answer;

    /* a digest of CRAM-MD5 is of one challenge only */

    if (ascf->cache == NULL
        || ascf->cache->zone == NULL
        || ascf->service == NULL
        || auth->credentials.method == NGX_SMTP_RELAY_AUTH_CRAM_MD5)
    {
        return NGX_DECLINED;
    }

    ngx_memzero(&temp, sizeof(ngx_smtp_relay_auth_lookup_t));

    if (ngx_smtp_relay_auth_cache_key(auth, ascf, temp.key, &temp.op.service)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    temp.auth = auth;
    temp.conf = ascf;
    temp.cache = ascf->cache->zone->data;

    temp.op.key = temp.key;
    temp.op.timeout = ascf->timeout + NGX_SMTP_RELAY_CACHE_GRACE;
    temp.op.now = ngx_current_msec;

    answer = ngx_smtp_relay_cache_look(temp.cache, &temp.op);

    if (answer == NGX_SMTP_RELAY_CACHE_HIT
        || answer == NGX_SMTP_RELAY_CACHE_STALE)
    {
        return ngx_smtp_relay_auth_cache_proceed(&temp, answer);
    }

    lookup = ngx_smtp_relay_auth_cache_keep(&temp);

    if (lookup == NULL) {

        if (answer != NGX_SMTP_RELAY_CACHE_WAIT) {
            (void) ngx_smtp_relay_cache_end(temp.cache, &temp.op,
                                            NGX_SMTP_RELAY_CACHE_CANCELED);
        }

        return NGX_DECLINED;
    }

    return ngx_smtp_relay_auth_cache_proceed(lookup, answer);
}


/* all that a verdict depends on; *service: who is asked */

static ngx_int_t
ngx_smtp_relay_auth_cache_key(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_srv_conf_t *ascf, u_char *key, uint32_t *service)
{
    ngx_int_t                      rc;
    ngx_str_t                      parts[NGX_SMTP_RELAY_CACHE_PARTS];
    ngx_pool_t                    *pool;
    ngx_connection_t              *c;
    ngx_smtp_relay_credentials_t  *cr;

    c = auth->session->connection;
    cr = &auth->credentials;
    pool = NULL;

    ngx_memzero(parts, sizeof(parts));

    if (ascf->service->ssl) {
        ngx_str_set(&parts[0], "https");

    } else {
        ngx_str_set(&parts[0], "http");
    }

    parts[1].len = sizeof(ngx_uint_t);
    parts[1].data = (u_char *) &cr->method;

    parts[2] = cr->authzid;
    parts[3] = cr->user;
    parts[4] = cr->secret;

    if (cr->method == NGX_SMTP_RELAY_AUTH_NONE) {

        /* who has no credentials is nothing but these */

        parts[2] = c->addr_text;
        parts[3] = auth->session->helo;
    }

    if (c->ssl) {
        ngx_str_set(&parts[5], "TLS");
    }

    if (ngx_smtp_relay_auth_cache_variable(auth, ascf)) {

        /* most logins do without it */

        pool = ngx_create_pool(1024, c->log);
        if (pool == NULL) {
            return NGX_ERROR;
        }
    }

    rc = ngx_smtp_relay_auth_cache_values(auth, ascf, pool, &parts[6]);

    if (rc == NGX_OK) {
        *service = ngx_smtp_relay_auth_cache_service(ascf->service, &parts[8]);
        rc = ngx_smtp_relay_cache_hash(parts, NGX_SMTP_RELAY_CACHE_PARTS, key);
    }

    if (pool) {
        ngx_destroy_pool(pool);
    }

    return rc;
}


/* whether values of the key take memory to find out */

static ngx_uint_t
ngx_smtp_relay_auth_cache_variable(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_srv_conf_t *ascf)
{
    ngx_stream_ssl_srv_conf_t  *sscf;

    sscf = ngx_stream_get_module_srv_conf(auth->session->stream,
                                          ngx_stream_ssl_module);

    return ascf->service->url
           || ascf->service->uri_value
           || (ascf->cache_key && ascf->cache_key->lengths)
           || (auth->session->connection->ssl && sscf->verify);
}


/* values: certificate, cache key, authority, URI; pool may be NULL */

static ngx_int_t
ngx_smtp_relay_auth_cache_values(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_srv_conf_t *ascf, ngx_pool_t *pool, ngx_str_t *values)
{
    ngx_int_t                    rc;
    ngx_connection_t            *c;
    ngx_stream_session_t        *s;
    ngx_smtp_relay_scope_t       scope;
    ngx_smtp_relay_http_peer_t  *peer;
    ngx_stream_ssl_srv_conf_t   *sscf;

    s = auth->session->stream;
    c = auth->session->connection;
    peer = ascf->service;

    values[1] = ascf->cache_key ? ascf->cache_key->value : c->addr_text;
    values[2] = peer->authority;
    values[3] = peer->uri;

    if (pool == NULL) {
        return NGX_OK;
    }

    /* the service is told about a certificate with every method */

    sscf = ngx_stream_get_module_srv_conf(s, ngx_stream_ssl_module);

    if (c->ssl
        && sscf->verify
        && ngx_ssl_get_fingerprint(c, pool, &values[0]) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_scope_init(&scope, auth->session, pool) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_smtp_relay_scope_enter(&scope, s);

    rc = NGX_OK;

    if (ascf->cache_key) {
        rc = ngx_stream_complex_value(s, ascf->cache_key, &values[1]);
    }

    if (rc == NGX_OK && peer->url) {
        rc = ngx_stream_complex_value(s, peer->url, &values[2]);
    }

    if (rc == NGX_OK && peer->uri_value) {
        rc = ngx_stream_complex_value(s, peer->uri_value, &values[3]);
    }

    ngx_smtp_relay_scope_leave(&scope, s);

    return rc;
}


/* one that is down is down for all URIs that differ by variables only */

static uint32_t
ngx_smtp_relay_auth_cache_service(ngx_smtp_relay_http_peer_t *peer,
    ngx_str_t *authority)
{
    uint32_t    hash;
    ngx_str_t  *uri;

    uri = peer->uri_value ? &peer->uri_value->value : &peer->uri;

    ngx_crc32_init(hash);
    ngx_crc32_update(&hash, authority->data, authority->len);
    ngx_crc32_update(&hash, uri->data, uri->len);
    ngx_crc32_final(hash);

    hash += peer->ssl;

    return hash ? hash : 1;
}


static ngx_smtp_relay_auth_lookup_t *
ngx_smtp_relay_auth_cache_keep(ngx_smtp_relay_auth_lookup_t *temp)
{
    ngx_log_t                     *log;
    ngx_smtp_relay_auth_lookup_t  *lookup;

    log = temp->auth->session->connection->log;

    lookup = ngx_alloc(sizeof(ngx_smtp_relay_auth_lookup_t), log);
    if (lookup == NULL) {
        return NULL;
    }

    *lookup = *temp;

    lookup->op.key = lookup->key;

    lookup->event.handler = ngx_smtp_relay_auth_cache_handler;
    lookup->event.data = lookup;
    lookup->event.log = log;

    lookup->auth->lookup = lookup;

    return lookup;
}


/* NGX_OK, NGX_AGAIN, NGX_DECLINED as from _start() */

static ngx_int_t
ngx_smtp_relay_auth_cache_proceed(ngx_smtp_relay_auth_lookup_t *lookup,
    ngx_smtp_relay_cache_answer_e answer)
{
    ngx_smtp_relay_auth_t  *auth;

    auth = lookup->auth;

    ngx_log_debug2(NGX_LOG_DEBUG_STREAM, auth->session->connection->log, 0,
                   "smtp relay auth cache: %d, flight %uD",
                   (int) answer, lookup->op.flight);

    switch (answer) {

    case NGX_SMTP_RELAY_CACHE_HIT:
        return ngx_smtp_relay_auth_cache_take(auth, &lookup->op,
                                              NGX_SMTP_RELAY_AUTH_BY_CACHE);

    case NGX_SMTP_RELAY_CACHE_STALE:
        return ngx_smtp_relay_auth_cache_take(auth, &lookup->op,
                                              NGX_SMTP_RELAY_AUTH_BY_STALE);

    case NGX_SMTP_RELAY_CACHE_WAIT:

        if (ngx_smtp_relay_auth_cache_wait(lookup) == NGX_OK) {
            return NGX_AGAIN;
        }

        lookup->op.flight = 0;

        /* fall through */

    case NGX_SMTP_RELAY_CACHE_ASK:
    case NGX_SMTP_RELAY_CACHE_ALONE:

        ngx_smtp_relay_auth_cache_ask(lookup);

        return NGX_DECLINED;

    default: /* NGX_SMTP_RELAY_CACHE_FAILED */

        ngx_log_error(NGX_LOG_ERR, auth->session->connection->log, 0,
                      "auth service could not be asked by the session that "
                      "this one waited for, user \"%V\"", &auth->user);

        auth->source = NGX_SMTP_RELAY_AUTH_BY_SERVICE;
        auth->status = NGX_SMTP_RELAY_AUTH_ERROR;

        return NGX_OK;
    }
}


/* NGX_OK, or NGX_DECLINED: it is of no use, as if it was not there */

static ngx_int_t
ngx_smtp_relay_auth_cache_take(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_cache_op_t *op, ngx_smtp_relay_auth_source_e source)
{
    ngx_log_t  *log;
    ngx_str_t   octets;

    log = auth->session->connection->log;

    octets.data = op->data;
    octets.len = op->len;

    if (ngx_smtp_relay_auth_cache_unpack(auth, op->key, &octets,
                                         &auth->status)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "cached verdict cannot be used, user \"%V\"",
                      &auth->user);
        return NGX_DECLINED;
    }

    auth->source = source;

    if (auth->status == NGX_SMTP_RELAY_AUTH_DENIED) {
        ngx_log_error(NGX_LOG_INFO, log, 0,
                      "client login failed: user \"%V\" denied by cached "
                      "verdict: \"%V\"", &auth->user, &auth->reply);
    }

    ngx_smtp_relay_auth_cache_warn(auth, op);

    return NGX_OK;
}


static void
ngx_smtp_relay_auth_cache_warn(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_cache_op_t *op)
{
    if (op->stales) {
        ngx_log_error(NGX_LOG_WARN, auth->session->connection->log, 0,
                      "auth service is out of order, logins by verdicts that "
                      "are out of date: %ui", op->stales);
    }
}


static void
ngx_smtp_relay_auth_cache_ask(ngx_smtp_relay_auth_lookup_t *lookup)
{
    lookup->asks = 1;

    if (lookup->event.timer_set) {
        ngx_del_timer(&lookup->event);
    }

    if (lookup->op.flight == 0) {
        return;
    }

    /* without memory for it, those who wait look now and then */

    lookup->flight = ngx_smtp_relay_auth_flight(lookup);

    if (lookup->flight) {
        lookup->flight->askers++;
    }
}


static ngx_int_t
ngx_smtp_relay_auth_cache_wait(ngx_smtp_relay_auth_lookup_t *lookup)
{
    ngx_msec_t                     waited, timeout;
    ngx_smtp_relay_auth_flight_t  *flight;

    flight = ngx_smtp_relay_auth_flight(lookup);
    if (flight == NULL) {
        return NGX_ERROR;
    }

    lookup->flight = flight;

    ngx_queue_insert_tail(&flight->waiters, &lookup->queue);

    if (!flight->timer.timer_set) {
        flight->delay = flight->askers ? NGX_SMTP_RELAY_CACHE_POLL_OWN
                                      : NGX_SMTP_RELAY_CACHE_POLL;
        ngx_add_timer(&flight->timer, flight->delay);
    }

    if (!lookup->event.timer_set) {
        waited = ngx_current_msec - lookup->auth->start;
        timeout = lookup->conf->timeout;

        ngx_add_timer(&lookup->event, waited < timeout ? timeout - waited : 0);
    }

    return NGX_OK;
}


/* one who waits looks again, or for the last time */

static void
ngx_smtp_relay_auth_cache_handler(ngx_event_t *ev)
{
    ngx_int_t                       rc;
    ngx_smtp_relay_auth_t          *auth;
    ngx_smtp_relay_auth_flight_t   *flight;
    ngx_smtp_relay_auth_lookup_t   *lookup;
    ngx_smtp_relay_cache_answer_e   answer;

    lookup = ev->data;
    auth = lookup->auth;
    flight = lookup->flight;

    if (ev->posted) {
        ngx_delete_posted_event(ev);
    }

    ngx_queue_remove(&lookup->queue);
    lookup->flight = NULL;

    lookup->op.last = ev->timedout;
    lookup->op.now = ngx_current_msec;

    answer = ngx_smtp_relay_cache_look(lookup->cache, &lookup->op);

    if (answer != NGX_SMTP_RELAY_CACHE_WAIT && ev->timer_set) {
        ngx_del_timer(ev);
    }

    rc = ngx_smtp_relay_auth_cache_proceed(lookup, answer);

    /* what one has seen is news to all */

    if (answer != NGX_SMTP_RELAY_CACHE_WAIT
        && answer != NGX_SMTP_RELAY_CACHE_ASK
        && !lookup->op.last)
    {
        ngx_smtp_relay_auth_flight_wake(flight);
    }

    ngx_smtp_relay_auth_flight_release(flight);

    if (rc == NGX_OK) {
        ngx_smtp_relay_auth_done(auth, auth->status);

    } else if (rc == NGX_DECLINED) {
        ngx_smtp_relay_auth_ask(auth);
    }
}


/* that of the lookup's key in this worker, made if there is none */

static ngx_smtp_relay_auth_flight_t *
ngx_smtp_relay_auth_flight(ngx_smtp_relay_auth_lookup_t *lookup)
{
    ngx_rbtree_key_t               key;
    ngx_rbtree_node_t             *node, *sentinel;
    ngx_smtp_relay_auth_flight_t  *flight;

    /* part of a hash: that it is another's is rare, and does no harm */

    ngx_memcpy(&key, lookup->key, sizeof(ngx_rbtree_key_t));

    node = lookup->cache->flights.root;
    sentinel = lookup->cache->flights.sentinel;

    while (node != sentinel) {

        if (key == node->key) {
            return (ngx_smtp_relay_auth_flight_t *) node;
        }

        node = (key < node->key) ? node->left : node->right;
    }

    flight = ngx_calloc(sizeof(ngx_smtp_relay_auth_flight_t), ngx_cycle->log);
    if (flight == NULL) {
        return NULL;
    }

    flight->node.key = key;
    flight->cache = lookup->cache;

    flight->timer.handler = ngx_smtp_relay_auth_flight_handler;
    flight->timer.data = flight;
    flight->timer.log = ngx_cycle->log;

    ngx_queue_init(&flight->waiters);

    ngx_rbtree_insert(&lookup->cache->flights, &flight->node);

    return flight;
}


/* one of those who wait looks for all of them */

static void
ngx_smtp_relay_auth_flight_handler(ngx_event_t *ev)
{
    ngx_queue_t                   *q;
    ngx_smtp_relay_auth_flight_t  *flight;
    ngx_smtp_relay_auth_lookup_t  *lookup;

    flight = ev->data;

    if (ngx_queue_empty(&flight->waiters)) {
        return;
    }

    q = ngx_queue_head(&flight->waiters);
    lookup = ngx_queue_data(q, ngx_smtp_relay_auth_lookup_t, queue);

    lookup->event.timedout = 0;
    ngx_post_event(&lookup->event, &ngx_posted_events);

    flight->delay = flight->askers
                    ? NGX_SMTP_RELAY_CACHE_POLL_OWN
                    : ngx_min(2 * flight->delay,
                              NGX_SMTP_RELAY_CACHE_POLL_MAX);

    ngx_add_timer(&flight->timer, flight->delay);
}


static void
ngx_smtp_relay_auth_flight_wake(ngx_smtp_relay_auth_flight_t *flight)
{
    ngx_queue_t                   *q;
    ngx_smtp_relay_auth_lookup_t  *lookup;

    for (q = ngx_queue_head(&flight->waiters);
         q != ngx_queue_sentinel(&flight->waiters);
         q = ngx_queue_next(q))
    {
        lookup = ngx_queue_data(q, ngx_smtp_relay_auth_lookup_t, queue);

        lookup->event.timedout = 0;
        ngx_post_event(&lookup->event, &ngx_posted_events);
    }
}


static void
ngx_smtp_relay_auth_flight_release(ngx_smtp_relay_auth_flight_t *flight)
{
    if (flight->askers || !ngx_queue_empty(&flight->waiters)) {
        return;
    }

    if (flight->timer.timer_set) {
        ngx_del_timer(&flight->timer);
    }

    ngx_rbtree_delete(&flight->cache->flights, &flight->node);
    ngx_free(flight);
}


ngx_smtp_relay_auth_status_e
ngx_smtp_relay_auth_cache_done(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_status_e status)
{
    ngx_smtp_relay_auth_lookup_t    *lookup;
    ngx_smtp_relay_cache_answer_e    answer;
    ngx_smtp_relay_cache_outcome_e   outcome;

    lookup = auth->lookup;

    if (lookup == NULL) {
        return status;
    }

    if (lookup->asks) {
        outcome = ngx_smtp_relay_auth_cache_outcome(lookup, status);
        answer = ngx_smtp_relay_auth_cache_end(lookup, outcome);

        if (lookup->op.back) {
            ngx_log_error(NGX_LOG_NOTICE, auth->session->connection->log, 0,
                          "auth service is back");
        }

        if (answer == NGX_SMTP_RELAY_CACHE_STALE
            && ngx_smtp_relay_auth_cache_take(auth, &lookup->op,
                                              NGX_SMTP_RELAY_AUTH_BY_STALE)
               == NGX_OK)
        {
            status = auth->status;
        }
    }

    ngx_smtp_relay_auth_cache_free(lookup);

    return status;
}


static ngx_smtp_relay_cache_outcome_e
ngx_smtp_relay_auth_cache_outcome(ngx_smtp_relay_auth_lookup_t *lookup,
    ngx_smtp_relay_auth_status_e status)
{
    ngx_str_t                          octets, *name;
    ngx_smtp_relay_auth_t             *auth;
    ngx_smtp_relay_cache_op_t         *op;
    ngx_smtp_relay_auth_cache_conf_t  *conf;

    auth = lookup->auth;
    op = &lookup->op;
    conf = lookup->conf->cache;

    op->ok = (status == NGX_SMTP_RELAY_AUTH_OK);

    switch (status) {

    case NGX_SMTP_RELAY_AUTH_OK:
        op->valid = conf->valid;
        op->stale = conf->stale;
        break;

    case NGX_SMTP_RELAY_AUTH_DENIED:
        op->valid = conf->invalid;
        op->stale = 0;
        break;

    default: /* NGX_SMTP_RELAY_AUTH_ERROR */
        op->refused = auth->refused;

        return auth->failed ? NGX_SMTP_RELAY_CACHE_FAILURE
                            : NGX_SMTP_RELAY_CACHE_TEMPORARY;
    }

    name = auth->account.len ? &auth->account : &auth->user;

    if (ngx_smtp_relay_auth_cache_control(auth, op) != NGX_OK
        || ngx_smtp_relay_auth_cache_account(name, &op->account) != NGX_OK
        || ngx_smtp_relay_auth_cache_pack(auth, status, op->key, &octets)
           != NGX_OK)
    {
        return NGX_SMTP_RELAY_CACHE_UNKEPT;
    }

    op->data = octets.data;
    op->len = octets.len;

    return NGX_SMTP_RELAY_CACHE_KEEP;
}


static ngx_smtp_relay_cache_answer_e
ngx_smtp_relay_auth_cache_end(ngx_smtp_relay_auth_lookup_t *lookup,
    ngx_smtp_relay_cache_outcome_e outcome)
{
    ngx_smtp_relay_auth_flight_t   *flight;
    ngx_smtp_relay_cache_answer_e   answer;

    lookup->asks = 0;
    lookup->op.now = ngx_current_msec;

    answer = ngx_smtp_relay_cache_end(lookup->cache, &lookup->op, outcome);

    flight = lookup->flight;

    if (flight) {
        lookup->flight = NULL;
        flight->askers--;

        ngx_smtp_relay_auth_flight_wake(flight);
        ngx_smtp_relay_auth_flight_release(flight);
    }

    return answer;
}


void
ngx_smtp_relay_auth_cache_cancel(ngx_smtp_relay_auth_t *auth)
{
    if (auth->lookup) {
        ngx_smtp_relay_auth_cache_free(auth->lookup);
    }
}


static void
ngx_smtp_relay_auth_cache_free(ngx_smtp_relay_auth_lookup_t *lookup)
{
    ngx_smtp_relay_auth_flight_t  *flight;

    if (lookup->asks) {
        (void) ngx_smtp_relay_auth_cache_end(lookup,
                                             NGX_SMTP_RELAY_CACHE_CANCELED);

    } else if (lookup->flight) {

        /* it waits */

        flight = lookup->flight;

        ngx_queue_remove(&lookup->queue);
        ngx_smtp_relay_auth_flight_release(flight);
    }

    if (lookup->event.posted) {
        ngx_delete_posted_event(&lookup->event);
    }

    if (lookup->event.timer_set) {
        ngx_del_timer(&lookup->event);
    }

    lookup->auth->lookup = NULL;

    ngx_free(lookup);
}


static ngx_int_t
ngx_smtp_relay_auth_cache_account(ngx_str_t *name, uint64_t *account)
{
    u_char     hash[NGX_SMTP_RELAY_CACHE_HASH_LEN];
    ngx_str_t  parts[2];

    ngx_str_set(&parts[0], "account");
    parts[1] = *name;

    if (ngx_smtp_relay_cache_hash(parts, 2, hash) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_memcpy(account, hash, sizeof(uint64_t));

    return NGX_OK;
}


ngx_uint_t
ngx_smtp_relay_auth_cache_purge(ngx_smtp_relay_cache_t *cache,
    ngx_str_t *account)
{
    uint64_t  hash;

    if (ngx_smtp_relay_auth_cache_account(account, &hash) != NGX_OK) {
        return ngx_smtp_relay_cache_purge_all(cache);
    }

    return ngx_smtp_relay_cache_purge(cache, hash);
}
