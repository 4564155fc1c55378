
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_http.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_smtp_relay_http_conn.h"


static ngx_int_t ngx_smtp_relay_http_prepare(ngx_smtp_relay_http_t *http);
static ngx_int_t ngx_smtp_relay_http_next(ngx_smtp_relay_http_t *http);
static void ngx_smtp_relay_http_failed(ngx_smtp_relay_http_t *http,
    ngx_uint_t state);
static void ngx_smtp_relay_http_free_peer(ngx_smtp_relay_http_t *http,
    ngx_uint_t state);
static void ngx_smtp_relay_http_finish(ngx_smtp_relay_http_t *http);
static void ngx_smtp_relay_http_clear(ngx_smtp_relay_http_t *http);


ngx_smtp_relay_http_t *
ngx_smtp_relay_http_create(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_http_peer_t *peer)
{
    ngx_int_t               rc;
    ngx_pool_t             *pool;
    ngx_smtp_relay_http_t  *http;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE / 4, ss->connection->log);
    if (pool == NULL) {
        return NULL;
    }

    http = ngx_pcalloc(pool, sizeof(ngx_smtp_relay_http_t));

    if (http == NULL
        || ngx_smtp_relay_scope_init(&http->scope, ss, pool) != NGX_OK
        || ngx_array_init(&http->headers, pool, 8, sizeof(ngx_keyval_t))
           != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    http->pool = pool;
    http->session = ss;
    http->peer = peer;

    ngx_smtp_relay_scope_enter(&http->scope, ss->stream);

    rc = ngx_smtp_relay_http_peer_eval(http);

    ngx_smtp_relay_scope_leave(&http->scope, ss->stream);

    if (rc != NGX_OK) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    return http;
}


ngx_int_t
ngx_smtp_relay_http_start(ngx_smtp_relay_http_t *http)
{
    ngx_int_t              rc;
    ngx_stream_session_t  *s;

    s = http->session->stream;

    http->deadline = ngx_current_msec + http->timeout;

    ngx_smtp_relay_scope_enter(&http->scope, s);

    rc = ngx_smtp_relay_http_prepare(http);

    ngx_smtp_relay_scope_leave(&http->scope, s);

    if (rc == NGX_AGAIN) {
        return NGX_OK;
    }

    return (rc == NGX_OK) ? ngx_smtp_relay_http_next(http) : NGX_ERROR;
}


static ngx_int_t
ngx_smtp_relay_http_prepare(ngx_smtp_relay_http_t *http)
{
    ngx_stream_session_t   *s;
    ngx_stream_upstream_t  *u;

    s = http->session->stream;
    u = s->upstream;

    u->peer.log = s->connection->log;
    u->peer.log_error = NGX_ERROR_ERR;
    u->peer.type = SOCK_STREAM;

    if (http->peer->ssl
        && (ngx_smtp_relay_peer_ssl_eval(s, http->ssl, &http->host,
                                         &http->ssl_params)
            != NGX_OK
            || ngx_smtp_relay_peer_ssl_context(http->ssl, &http->ssl_params,
                                               http->context)
               != NGX_OK))
    {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_http_peer_choose(http);
}


void
ngx_smtp_relay_http_resolved(ngx_smtp_relay_http_t *http, ngx_int_t rc)
{
    if (rc == NGX_OK && ngx_smtp_relay_http_next(http) == NGX_OK) {
        return;
    }

    ngx_smtp_relay_http_finish(http);
}


/* NGX_OK: a server is being asked; NGX_ERROR: there is none left */

static ngx_int_t
ngx_smtp_relay_http_next(ngx_smtp_relay_http_t *http)
{
    ngx_int_t               rc;
    ngx_connection_t       *c;
    ngx_stream_upstream_t  *u;

    c = http->session->connection;
    u = http->scope.upstream;

    for ( ;; ) {
        rc = u->peer.get(&u->peer, u->peer.data);

        if (rc != NGX_OK) {
            u->peer.sockaddr = NULL;

            ngx_log_error(NGX_LOG_ERR, c->log, 0,
                          "no live auth service servers");
            return NGX_ERROR;
        }

        http->conn = ngx_smtp_relay_http_conn_get(http);

        if (http->conn) {
            return NGX_OK;
        }

        rc = ngx_smtp_relay_http_conn_connect(http);

        if (rc != NGX_DECLINED) {
            return rc;
        }

        ngx_smtp_relay_http_free_peer(http, NGX_PEER_FAILED);

        if (u->peer.tries == 0) {
            return NGX_ERROR;
        }
    }
}


/*
 * The same server is asked again if the connection was an old one, which it
 * may have closed at any time.
 */

void
ngx_smtp_relay_http_lost(ngx_smtp_relay_http_t *http, ngx_uint_t again)
{
    ngx_smtp_relay_http_clear(http);

    if (again
        && (ngx_msec_int_t) (http->deadline - ngx_current_msec) > 0
        && ngx_smtp_relay_http_conn_connect(http) == NGX_OK)
    {
        return;
    }

    ngx_smtp_relay_http_failed(http, NGX_PEER_FAILED);
}


void
ngx_smtp_relay_http_replied(ngx_smtp_relay_http_t *http)
{
    ngx_uint_t              state;
    ngx_stream_upstream_t  *u;

    u = http->scope.upstream;

    switch (http->status) {

    case NGX_HTTP_BAD_GATEWAY:
    case NGX_HTTP_SERVICE_UNAVAILABLE:
    case NGX_HTTP_GATEWAY_TIME_OUT:
        state = NGX_PEER_FAILED;
        break;

    default:

        if (http->status < 500 || http->status > 599) {
            ngx_smtp_relay_http_free_peer(http, 0);
            ngx_smtp_relay_http_finish(http);
            return;
        }

        /*
         * a request can be the cause of it, and must not take one server
         * after another out of the balancer
         */

        state = 0;
    }

    if (u->peer.tries <= 1) {
        ngx_smtp_relay_http_free_peer(http, state);
        ngx_smtp_relay_http_finish(http);
        return;
    }

    ngx_log_error(NGX_LOG_ERR, http->session->connection->log, 0,
                  "auth service server \"%V\" sent HTTP status %ui, "
                  "the next one is asked", u->peer.name, http->status);

    ngx_smtp_relay_http_clear(http);

    ngx_smtp_relay_http_failed(http, state);
}


static void
ngx_smtp_relay_http_failed(ngx_smtp_relay_http_t *http, ngx_uint_t state)
{
    ngx_smtp_relay_http_free_peer(http, state);

    if (http->scope.upstream->peer.tries
        && (ngx_msec_int_t) (http->deadline - ngx_current_msec) > 0
        && ngx_smtp_relay_http_next(http) == NGX_OK)
    {
        return;
    }

    ngx_smtp_relay_http_finish(http);
}


static void
ngx_smtp_relay_http_free_peer(ngx_smtp_relay_http_t *http, ngx_uint_t state)
{
    ngx_stream_upstream_t  *u;

    u = http->scope.upstream;

    if (u->peer.sockaddr && u->peer.free) {
        u->peer.free(&u->peer, u->peer.data, state);
    }

    u->peer.sockaddr = NULL;
}


/* the handler destroys the request */

static void
ngx_smtp_relay_http_finish(ngx_smtp_relay_http_t *http)
{
    http->conn = NULL;

    ngx_smtp_relay_http_free_peer(http, 0);

    http->handler(http);
}


/* forgets what came of a reply that is not to be used */

static void
ngx_smtp_relay_http_clear(ngx_smtp_relay_http_t *http)
{
    ngx_uint_t     i;
    ngx_keyval_t  *kv;

    kv = http->headers.elts;

    for (i = 0; i < http->headers.nelts; i++) {
        ngx_explicit_memzero(kv[i].value.data, kv[i].value.len);
    }

    http->headers.nelts = 0;
    http->status = 0;
}


void
ngx_smtp_relay_http_destroy(ngx_smtp_relay_http_t *http)
{
    if (http->conn) {
        ngx_smtp_relay_http_conn_close(http->conn);
        http->conn = NULL;
    }

    ngx_smtp_relay_http_peer_cancel(http);
    ngx_smtp_relay_http_free_peer(http, 0);
    ngx_smtp_relay_http_clear(http);

    if (http->secret.data) {
        ngx_explicit_memzero(http->secret.data, http->secret.len);
    }

    if (http->request) {
        ngx_explicit_memzero(http->request->start,
                             http->request->end - http->request->start);
    }

    ngx_destroy_pool(http->pool);
}


ngx_msec_t
ngx_smtp_relay_http_time_left(ngx_smtp_relay_http_t *http)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (http->deadline - ngx_current_msec);

    return (left > 0) ? (ngx_msec_t) left : 1;
}


ngx_msec_t
ngx_smtp_relay_http_patience(ngx_smtp_relay_http_t *http)
{
    ngx_msec_t  left;

    left = ngx_smtp_relay_http_time_left(http);

    return (http->scope.upstream->peer.tries > 1) ? (left + 1) / 2 : left;
}


#endif
