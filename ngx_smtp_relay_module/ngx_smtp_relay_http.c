
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_http.h"
#include "ngx_smtp_relay_connect.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_smtp_relay_http_reply.h"


/* how long a connection may take to be through with a body, or stay idle */

#define NGX_SMTP_RELAY_HTTP_DRAIN  1000
#define NGX_SMTP_RELAY_HTTP_IDLE   60000


static ngx_int_t ngx_smtp_relay_http_next(ngx_smtp_relay_http_t *http);
static ngx_int_t ngx_smtp_relay_http_connect(ngx_smtp_relay_http_t *http);
static void ngx_smtp_relay_http_free_peer(ngx_smtp_relay_http_t *http,
    ngx_uint_t state);
static void ngx_smtp_relay_http_finish(ngx_smtp_relay_http_t *http,
    ngx_uint_t state);
static ngx_smtp_relay_http_conn_t *ngx_smtp_relay_http_conn_create(
    ngx_smtp_relay_http_t *http);
static ngx_smtp_relay_http_conn_t *ngx_smtp_relay_http_conn_get(
    ngx_smtp_relay_http_t *http);
static void ngx_smtp_relay_http_conn_attach(ngx_smtp_relay_http_conn_t *hc,
    ngx_smtp_relay_http_t *http);
static void ngx_smtp_relay_http_conn_detach(ngx_smtp_relay_http_conn_t *hc);
static void ngx_smtp_relay_http_write_handler(ngx_event_t *wev);
static ngx_int_t ngx_smtp_relay_http_send(ngx_smtp_relay_http_conn_t *hc);
static void ngx_smtp_relay_http_read_handler(ngx_event_t *rev);
static ngx_int_t ngx_smtp_relay_http_test_idle(ngx_connection_t *c);
static ngx_int_t ngx_smtp_relay_http_read(ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_parse(ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_drain(ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_store(ngx_smtp_relay_http_conn_t *hc);
static void ngx_smtp_relay_http_lost(ngx_smtp_relay_http_conn_t *hc,
    ngx_uint_t replied);
static void ngx_smtp_relay_http_conn_close(ngx_smtp_relay_http_conn_t *hc);
static ngx_msec_t ngx_smtp_relay_http_time_left(ngx_smtp_relay_http_t *http);
static ngx_msec_t ngx_smtp_relay_http_patience(ngx_smtp_relay_http_t *http);
static u_char *ngx_smtp_relay_http_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


ngx_smtp_relay_http_t *
ngx_smtp_relay_http_create(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_http_peer_t *peer)
{
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

    return http;
}


ngx_int_t
ngx_smtp_relay_http_start(ngx_smtp_relay_http_t *http)
{
    ngx_int_t               rc;
    ngx_stream_session_t   *s;
    ngx_stream_upstream_t  *u;

    s = http->session->stream;
    u = http->scope.upstream;

    u->peer.log = s->connection->log;
    u->peer.log_error = NGX_ERROR_ERR;
    u->peer.type = SOCK_STREAM;

    http->deadline = ngx_current_msec + http->timeout;

    ngx_smtp_relay_scope_enter(&http->scope, s);

    rc = http->peer->upstream->peer.init(s, http->peer->upstream);

    ngx_smtp_relay_scope_leave(&http->scope, s);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_http_next(http);
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
            ngx_post_event(http->conn->connection->write, &ngx_posted_events);
            return NGX_OK;
        }

        rc = ngx_smtp_relay_http_connect(http);

        if (rc != NGX_DECLINED) {
            return rc;
        }

        ngx_smtp_relay_http_free_peer(http, NGX_PEER_FAILED);

        if (u->peer.tries == 0) {
            return NGX_ERROR;
        }
    }
}


static ngx_int_t
ngx_smtp_relay_http_connect(ngx_smtp_relay_http_t *http)
{
    ngx_int_t                    rc;
    ngx_connection_t            *c;
    ngx_event_get_peer_pt        get;
    ngx_stream_upstream_t       *u;
    ngx_smtp_relay_http_conn_t  *hc;

    u = http->scope.upstream;

    hc = ngx_smtp_relay_http_conn_create(http);
    if (hc == NULL) {
        return NGX_ERROR;
    }

    get = u->peer.get;

    u->peer.get = ngx_event_get_peer;
    u->peer.log = &hc->log;
    u->peer.connection = NULL;

    rc = ngx_event_connect_peer(&u->peer);

    u->peer.get = get;
    u->peer.log = http->session->connection->log;

    c = u->peer.connection;
    u->peer.connection = NULL;

    if (rc != NGX_OK && rc != NGX_AGAIN) {

        if (c) {
            ngx_close_connection(c);
        }

        ngx_smtp_relay_http_conn_close(hc);

        return (rc == NGX_DECLINED) ? NGX_DECLINED : NGX_ERROR;
    }

    hc->connection = c;
    hc->r.connection = c;
    http->conn = hc;

    c->data = hc;
    c->pool = hc->pool;
    c->log = &hc->log;
    c->read->log = &hc->log;
    c->write->log = &hc->log;

    c->read->handler = ngx_smtp_relay_http_read_handler;
    c->write->handler = ngx_smtp_relay_http_write_handler;

    ngx_add_timer(c->write, ngx_min(http->connect_timeout,
                                    ngx_smtp_relay_http_time_left(http)));

    if (rc == NGX_OK) {
        ngx_post_event(c->write, &ngx_posted_events);
    }

    return NGX_OK;
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
ngx_smtp_relay_http_finish(ngx_smtp_relay_http_t *http, ngx_uint_t state)
{
    http->conn = NULL;

    ngx_smtp_relay_http_free_peer(http, state);

    http->handler(http);
}


void
ngx_smtp_relay_http_destroy(ngx_smtp_relay_http_t *http)
{
    ngx_uint_t     i;
    ngx_keyval_t  *kv;

    if (http->conn) {
        ngx_smtp_relay_http_conn_close(http->conn);
        http->conn = NULL;
    }

    ngx_smtp_relay_http_free_peer(http, 0);

    kv = http->headers.elts;

    for (i = 0; i < http->headers.nelts; i++) {
        ngx_explicit_memzero(kv[i].value.data, kv[i].value.len);
    }

    if (http->request) {
        ngx_explicit_memzero(http->request->start,
                             http->request->end - http->request->start);
    }

    ngx_destroy_pool(http->pool);
}


static ngx_smtp_relay_http_conn_t *
ngx_smtp_relay_http_conn_create(ngx_smtp_relay_http_t *http)
{
    ngx_pool_t                  *pool;
    ngx_peer_connection_t       *peer;
    ngx_smtp_relay_http_conn_t  *hc;

    peer = &http->scope.upstream->peer;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE / 4,
                           http->session->connection->log);
    if (pool == NULL) {
        return NULL;
    }

    hc = ngx_pcalloc(pool, sizeof(ngx_smtp_relay_http_conn_t));
    if (hc == NULL) {
        goto failed;
    }

    hc->pool = pool;
    hc->peer = http->peer;
    hc->keepalive = http->keepalive;

    hc->socklen = peer->socklen;
    hc->sockaddr = ngx_palloc(pool, peer->socklen);
    if (hc->sockaddr == NULL) {
        goto failed;
    }

    ngx_memcpy(hc->sockaddr, peer->sockaddr, peer->socklen);

    hc->name.len = peer->name->len;
    hc->name.data = ngx_pstrdup(pool, peer->name);
    if (hc->name.data == NULL) {
        goto failed;
    }

    ngx_smtp_relay_http_conn_attach(hc, http);

    return hc;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


static ngx_smtp_relay_http_conn_t *
ngx_smtp_relay_http_conn_get(ngx_smtp_relay_http_t *http)
{
    ngx_queue_t                 *q, *idle;
    ngx_peer_connection_t       *peer;
    ngx_smtp_relay_http_conn_t  *hc;

    peer = &http->scope.upstream->peer;
    idle = &http->peer->idle;

    /* a service has few servers: the list is short, its bound is keepalive */

    for (q = ngx_queue_head(idle);
         q != ngx_queue_sentinel(idle);
         q = ngx_queue_next(q))
    {
        hc = ngx_queue_data(q, ngx_smtp_relay_http_conn_t, queue);

        if (ngx_memn2cmp((u_char *) hc->sockaddr, (u_char *) peer->sockaddr,
                         hc->socklen, peer->socklen)
            == 0)
        {
            /*
             * octets that came while it was idle would be read as the reply
             * to this request
             */

            if (ngx_smtp_relay_http_test_idle(hc->connection) != NGX_OK) {
                q = ngx_queue_prev(q);
                ngx_smtp_relay_http_conn_close(hc);
                continue;
            }

            ngx_queue_remove(q);
            http->peer->nidle--;

            hc->idle = 0;
            hc->reused = 1;
            hc->connection->idle = 0;

            ngx_smtp_relay_http_conn_attach(hc, http);

            /* that it is closed meanwhile is no error */

            hc->connection->log_error = NGX_ERROR_INFO;

            ngx_add_timer(hc->connection->read,
                          ngx_smtp_relay_http_patience(http));
            return hc;
        }
    }

    return NULL;
}


static void
ngx_smtp_relay_http_conn_attach(ngx_smtp_relay_http_conn_t *hc,
    ngx_smtp_relay_http_t *http)
{
    hc->http = http;
    hc->status_done = 0;
    hc->keep = 0;
    hc->chunked = 0;
    hc->body = 0;
    hc->drained = 0;

    ngx_memzero(&hc->r, sizeof(ngx_http_request_t));
    ngx_memzero(&hc->status, sizeof(ngx_http_status_t));
    ngx_memzero(&hc->chunked_ctx, sizeof(ngx_http_chunked_t));

    hc->r.connection = hc->connection;

    hc->log = *http->session->connection->log;
    hc->log.handler = ngx_smtp_relay_http_log_error;
    hc->log.data = hc;
    hc->log.action = "asking the auth service";
    hc->pool->log = &hc->log;

    http->request->pos = http->request->start;
}


static void
ngx_smtp_relay_http_conn_detach(ngx_smtp_relay_http_conn_t *hc)
{
    if (hc->http && hc->http->conn == hc) {
        hc->http->conn = NULL;
    }

    hc->http = NULL;

    hc->log = *ngx_cycle->log;
    hc->log.handler = ngx_smtp_relay_http_log_error;
    hc->log.data = hc;
    hc->log.action = "keeping a connection to the auth service";
}


static void
ngx_smtp_relay_http_write_handler(ngx_event_t *wev)
{
    ngx_int_t                    rc;
    ngx_connection_t            *c;
    ngx_smtp_relay_http_conn_t  *hc;

    c = wev->data;
    hc = c->data;

    if (hc->http == NULL) {
        return;
    }

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "auth service timed out");
        ngx_smtp_relay_http_lost(hc, 0);
        return;
    }

    if (!hc->connected) {

        if (ngx_smtp_relay_test_connect(c) != NGX_OK) {
            ngx_smtp_relay_http_lost(hc, 0);
            return;
        }

        hc->connected = 1;

        if (hc->sockaddr->sa_family != AF_UNIX) {
            (void) ngx_tcp_nodelay(c);
        }

        ngx_add_timer(c->read, ngx_smtp_relay_http_patience(hc->http));
    }

    rc = ngx_smtp_relay_http_send(hc);

    if (rc == NGX_ERROR) {
        ngx_smtp_relay_http_lost(hc, 0);
        return;
    }

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_smtp_relay_http_lost(hc, 0);
    }
}


static ngx_int_t
ngx_smtp_relay_http_send(ngx_smtp_relay_http_conn_t *hc)
{
    ssize_t            n;
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    c = hc->connection;
    b = hc->http->request;

    while (b->pos < b->last) {
        n = c->send(c, b->pos, b->last - b->pos);

        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (n == NGX_AGAIN) {
            return ngx_handle_write_event(c->write, 0);
        }

        b->pos += n;
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    return NGX_OK;
}


static void
ngx_smtp_relay_http_read_handler(ngx_event_t *rev)
{
    ngx_int_t                    rc;
    ngx_connection_t            *c;
    ngx_smtp_relay_http_conn_t  *hc;

    c = rev->data;
    hc = c->data;

    if (hc->http == NULL) {

        /* idle or being drained: whatever is wrong, nobody waits for it */

        if (c->close || rev->timedout) {
            ngx_smtp_relay_http_conn_close(hc);
            return;
        }

        rc = hc->idle ? ngx_smtp_relay_http_test_idle(c)
                      : ngx_smtp_relay_http_read(hc);

        if (rc == NGX_ERROR) {
            ngx_smtp_relay_http_conn_close(hc);
        }

        return;
    }

    if (c->close) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0, "shutdown timeout");
        ngx_smtp_relay_http_lost(hc, 1);
        return;
    }

    if (rev->timedout) {
        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "auth service timed out");

        /* silence is not cured by asking the same server again */

        hc->reused = 0;

        ngx_smtp_relay_http_lost(hc, hc->in && hc->in->last != hc->in->start);
        return;
    }

    if (!hc->connected) {

        /* a failed connect() shows on both events */

        ngx_smtp_relay_http_write_handler(c->write);
        return;
    }

    rc = ngx_smtp_relay_http_read(hc);

    if (rc == NGX_DONE) {
        return;
    }

    if (rc == NGX_ERROR) {

        if (hc->http == NULL) {
            ngx_smtp_relay_http_conn_close(hc);
            return;
        }

        ngx_smtp_relay_http_lost(hc, hc->in && hc->in->last != hc->in->start);
    }
}


static ngx_int_t
ngx_smtp_relay_http_test_idle(ngx_connection_t *c)
{
    u_char  buf[1];

    if (recv(c->fd, (char *) buf, 1, MSG_PEEK) == -1
        && ngx_socket_errno == NGX_EAGAIN)
    {
        c->read->ready = 0;

        return ngx_handle_read_event(c->read, 0);
    }

    return NGX_ERROR;
}


/*
 *     NGX_AGAIN  more is to come
 *     NGX_DONE   the connection is not the caller's any more
 *     NGX_ERROR  it must be closed
 */

static ngx_int_t
ngx_smtp_relay_http_read(ngx_smtp_relay_http_conn_t *hc)
{
    ssize_t            n;
    ngx_int_t          rc;
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    c = hc->connection;

    if (hc->in == NULL) {
        hc->in = ngx_smtp_relay_buf_get(NGX_SMTP_RELAY_HTTP_HEADERS, c->log);
        if (hc->in == NULL) {
            return NGX_ERROR;
        }
    }

    b = hc->in;

    while (c->read->ready) {

        if (b->last == b->end) {
            ngx_log_error(NGX_LOG_ERR, c->log, 0,
                          "auth service sent too large headers");
            return NGX_ERROR;
        }

        n = c->recv(c, b->last, b->end - b->last);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {

            if (hc->http && !(hc->reused && b->last == b->start)) {
                ngx_log_error(NGX_LOG_ERR, c->log, 0,
                              "auth service prematurely closed connection");
            }

            return NGX_ERROR;
        }

        if (hc->http && b->last == b->start) {
            ngx_add_timer(c->read, ngx_smtp_relay_http_time_left(hc->http));
        }

        b->last += n;

        rc = hc->http ? ngx_smtp_relay_http_parse(hc)
                      : ngx_smtp_relay_http_drain(hc);

        if (rc != NGX_AGAIN) {
            return rc;
        }
    }

    return (ngx_handle_read_event(c->read, 0) == NGX_OK) ? NGX_AGAIN
                                                         : NGX_ERROR;
}


static ngx_int_t
ngx_smtp_relay_http_parse(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_int_t               rc;
    ngx_smtp_relay_http_t  *http;

    for ( ;; ) {

        if (!hc->status_done) {
            rc = ngx_http_parse_status_line(&hc->r, hc->in, &hc->status);

            if (rc == NGX_AGAIN) {
                return NGX_AGAIN;
            }

            if (rc != NGX_OK
                || hc->status.http_version < 1000
                || hc->status.http_version >= 2000)
            {
                ngx_log_error(NGX_LOG_ERR, hc->connection->log, 0,
                              "auth service sent no HTTP/1.x reply");
                return NGX_ERROR;
            }

            hc->status_done = 1;
            hc->r.state = 0;
        }

        rc = ngx_smtp_relay_http_parse_headers(hc);

        if (rc != NGX_OK) {
            return rc;
        }

        if (hc->status.code >= 200) {
            break;
        }

        /* RFC 9110, 15.2.: an interim reply; the final one follows */

        hc->status_done = 0;
        hc->r.state = 0;
        hc->http->headers.nelts = 0;
        ngx_memzero(&hc->status, sizeof(ngx_http_status_t));
    }

    ngx_smtp_relay_http_framing(hc);

    /* all is copied; Auth-Pass must not stay in a buffer others get */

    ngx_explicit_memzero(hc->in->start, hc->in->pos - hc->in->start);

    http = hc->http;
    http->status = hc->status.code;

    ngx_smtp_relay_http_conn_detach(hc);
    ngx_smtp_relay_http_finish(http, 0);

    /* the body tells nothing, but the connection is worth reading it */

    ngx_add_timer(hc->connection->read, NGX_SMTP_RELAY_HTTP_DRAIN);

    return ngx_smtp_relay_http_drain(hc);
}


static ngx_int_t
ngx_smtp_relay_http_drain(ngx_smtp_relay_http_conn_t *hc)
{
    off_t       n;
    ngx_int_t   rc;
    ngx_buf_t  *b;

    b = hc->in;

    if (!hc->keep) {
        return NGX_ERROR;
    }

    hc->drained += b->last - b->pos;

    if (hc->drained > NGX_SMTP_RELAY_HTTP_BODY) {
        return NGX_ERROR;
    }

    if (!hc->chunked) {
        n = ngx_min((off_t) (b->last - b->pos), hc->body);

        b->pos += n;
        hc->body -= n;

        rc = hc->body ? NGX_AGAIN : NGX_DONE;

    } else {

        while ((rc = ngx_smtp_relay_parse_chunked(&hc->r, b, &hc->chunked_ctx))
               == NGX_OK)
        {
            n = ngx_min((off_t) (b->last - b->pos), hc->chunked_ctx.size);

            b->pos += n;
            hc->chunked_ctx.size -= n;
        }
    }

    if (rc == NGX_AGAIN) {
        b->pos = b->start;
        b->last = b->start;

        return NGX_AGAIN;
    }

    /* what follows a complete reply was not asked for */

    if (rc != NGX_DONE || b->pos != b->last) {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_http_store(hc);
}


static ngx_int_t
ngx_smtp_relay_http_store(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_queue_t                 *q;
    ngx_connection_t            *c;
    ngx_smtp_relay_http_conn_t  *oldest;

    c = hc->connection;

    if (ngx_exiting || ngx_terminate || c->read->eof || c->read->error) {
        return NGX_ERROR;
    }

    if (hc->peer->nidle >= hc->keepalive) {
        q = ngx_queue_last(&hc->peer->idle);
        oldest = ngx_queue_data(q, ngx_smtp_relay_http_conn_t, queue);

        ngx_smtp_relay_http_conn_close(oldest);
    }

    ngx_smtp_relay_buf_put(&hc->in);

    ngx_queue_insert_head(&hc->peer->idle, &hc->queue);
    hc->peer->nidle++;

    hc->idle = 1;
    c->idle = 1;

    ngx_add_timer(c->read, NGX_SMTP_RELAY_HTTP_IDLE);

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    /* a close that came with the reply is seen from the event loop */

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
    }

    return NGX_DONE;
}


/*
 * The connection failed.  As long as the server has not begun to reply the
 * request goes to the next one; to the same one again if the connection was
 * an old one, which it may have closed at any time.
 */

static void
ngx_smtp_relay_http_lost(ngx_smtp_relay_http_conn_t *hc, ngx_uint_t replied)
{
    ngx_int_t               rc;
    ngx_uint_t              reused;
    ngx_smtp_relay_http_t  *http;

    http = hc->http;
    reused = hc->reused;

    ngx_smtp_relay_http_conn_close(hc);

    if (replied || ngx_smtp_relay_http_time_left(http) <= 1) {
        ngx_smtp_relay_http_finish(http, NGX_PEER_FAILED);
        return;
    }

    if (reused) {
        rc = ngx_smtp_relay_http_connect(http);

        if (rc == NGX_OK) {
            return;
        }
    }

    ngx_smtp_relay_http_free_peer(http, NGX_PEER_FAILED);

    if (http->scope.upstream->peer.tries
        && ngx_smtp_relay_http_next(http) == NGX_OK)
    {
        return;
    }

    ngx_smtp_relay_http_finish(http, 0);
}


static void
ngx_smtp_relay_http_conn_close(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_pool_t  *pool;

    ngx_smtp_relay_http_conn_detach(hc);

    if (hc->idle) {
        ngx_queue_remove(&hc->queue);
        hc->peer->nidle--;
    }

    if (hc->in) {
        ngx_explicit_memzero(hc->in->start, hc->in->last - hc->in->start);
    }

    ngx_smtp_relay_buf_put(&hc->in);

    if (hc->connection) {
        ngx_close_connection(hc->connection);
    }

    pool = hc->pool;
    pool->log = ngx_cycle->log;

    ngx_destroy_pool(pool);
}


static ngx_msec_t
ngx_smtp_relay_http_time_left(ngx_smtp_relay_http_t *http)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (http->deadline - ngx_current_msec);

    return (left > 0) ? (ngx_msec_t) left : 1;
}


/*
 * How long a server may be silent: as long as there is another one to ask,
 * half of the time that is left.
 */

static ngx_msec_t
ngx_smtp_relay_http_patience(ngx_smtp_relay_http_t *http)
{
    ngx_msec_t  left;

    left = ngx_smtp_relay_http_time_left(http);

    return (http->scope.upstream->peer.tries > 1) ? (left + 1) / 2 : left;
}


static u_char *
ngx_smtp_relay_http_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char                      *p;
    ngx_smtp_relay_session_t    *ss;
    ngx_smtp_relay_http_conn_t  *hc;

    hc = log->data;

    p = ngx_snprintf(buf, len, " while %s", log->action);
    len -= p - buf;

    if (hc->http) {
        ss = hc->http->session;
        buf = p;

        p = ngx_snprintf(buf, len, ", client: %V, server: %V, session: %*s",
                         &ss->connection->addr_text,
                         &ss->connection->listening->addr_text,
                         (size_t) NGX_SMTP_RELAY_ID_LEN, ss->id);
        len -= p - buf;
    }

    return ngx_snprintf(p, len, ", auth service: \"%V\"", &hc->name);
}


#endif
