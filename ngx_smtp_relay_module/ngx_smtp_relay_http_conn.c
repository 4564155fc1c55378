
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_http.h"
#include "ngx_smtp_relay_connect.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_smtp_relay_http_conn.h"
#include "ngx_smtp_relay_http_reply.h"


/*
 * How long a connection may take to be through with a body, or stay idle, or
 * that if it is one too many, ms.
 */

#define NGX_SMTP_RELAY_HTTP_DRAIN    1000
#define NGX_SMTP_RELAY_HTTP_IDLE     60000
#define NGX_SMTP_RELAY_HTTP_SURPLUS  500


static ngx_smtp_relay_http_conn_t *ngx_smtp_relay_http_conn_find(
    ngx_smtp_relay_http_t *http, ngx_queue_t *idle);
static void ngx_smtp_relay_http_conn_remove(ngx_smtp_relay_http_conn_t *hc);
static ngx_uint_t ngx_smtp_relay_http_conn_suits(
    ngx_smtp_relay_http_conn_t *hc, ngx_smtp_relay_http_t *http);
static ngx_smtp_relay_http_conn_t *ngx_smtp_relay_http_conn_create(
    ngx_smtp_relay_http_t *http);
static void ngx_smtp_relay_http_conn_attach(ngx_smtp_relay_http_conn_t *hc,
    ngx_smtp_relay_http_t *http);
static void ngx_smtp_relay_http_write_handler(ngx_event_t *wev);
static void ngx_smtp_relay_http_connected(ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_send(ngx_smtp_relay_http_conn_t *hc);
static void ngx_smtp_relay_http_read_handler(ngx_event_t *rev);
static void ngx_smtp_relay_http_free_handler(ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_test_idle(ngx_connection_t *c);
static ngx_int_t ngx_smtp_relay_http_read(ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_replied_to(
    ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_drain(ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_store(ngx_smtp_relay_http_conn_t *hc);
static u_char *ngx_smtp_relay_http_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


ngx_smtp_relay_http_conn_t *
ngx_smtp_relay_http_conn_get(ngx_smtp_relay_http_t *http)
{
    ngx_smtp_relay_http_conn_t  *hc;

    hc = ngx_smtp_relay_http_conn_find(http, &http->peer->idle);

    if (hc == NULL) {
        hc = ngx_smtp_relay_http_conn_find(http, &http->peer->surplus);
    }

    if (hc == NULL) {
        return NULL;
    }

    ngx_smtp_relay_http_conn_remove(hc);

    hc->reused = 1;

    ngx_smtp_relay_http_conn_attach(hc, http);

    ngx_add_timer(hc->connection->read, ngx_smtp_relay_http_patience(http));
    ngx_post_event(hc->connection->write, &ngx_posted_events);

    return hc;
}


/* a service has few servers: one of the first in the queue will do */

static ngx_smtp_relay_http_conn_t *
ngx_smtp_relay_http_conn_find(ngx_smtp_relay_http_t *http, ngx_queue_t *idle)
{
    ngx_queue_t                 *q;
    ngx_smtp_relay_http_conn_t  *hc;

    for (q = ngx_queue_head(idle);
         q != ngx_queue_sentinel(idle);
         q = ngx_queue_next(q))
    {
        hc = ngx_queue_data(q, ngx_smtp_relay_http_conn_t, queue);

        if (!ngx_smtp_relay_http_conn_suits(hc, http)) {
            continue;
        }

        /*
         * octets that came while it was idle would be read as the reply to
         * this request
         */

        if (ngx_smtp_relay_http_test_idle(hc->connection) == NGX_OK) {
            return hc;
        }

        q = ngx_queue_prev(q);
        ngx_smtp_relay_http_conn_close(hc);
    }

    return NULL;
}


static void
ngx_smtp_relay_http_conn_remove(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_queue_remove(&hc->queue);

    if (!hc->surplus) {
        hc->peer->nidle--;
    }

    hc->idle = 0;
    hc->surplus = 0;
    hc->connection->idle = 0;
}


static ngx_uint_t
ngx_smtp_relay_http_conn_suits(ngx_smtp_relay_http_conn_t *hc,
    ngx_smtp_relay_http_t *http)
{
    ngx_peer_connection_t  *peer;

    peer = &http->scope.upstream->peer;

    return (ngx_memn2cmp((u_char *) hc->sockaddr, (u_char *) peer->sockaddr,
                         hc->socklen, peer->socklen)
            == 0
            && ngx_memcmp(hc->context, http->context, sizeof(hc->context))
               == 0);
}


ngx_int_t
ngx_smtp_relay_http_conn_connect(ngx_smtp_relay_http_t *http)
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
                                    ngx_smtp_relay_http_patience(http)));

    if (rc == NGX_OK) {
        ngx_post_event(c->write, &ngx_posted_events);
    }

    return NGX_OK;
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
    ngx_memcpy(hc->context, http->context, sizeof(hc->context));

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


static void
ngx_smtp_relay_http_conn_attach(ngx_smtp_relay_http_conn_t *hc,
    ngx_smtp_relay_http_t *http)
{
    hc->http = http;
    hc->status_done = 0;
    hc->keep = 0;
    hc->chunked = 0;
    hc->bare = 0;
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


void
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
        c->timedout = 1;
        ngx_smtp_relay_http_conn_lost(hc, 0);
        return;
    }

    if (hc->connected) {

        if (ngx_smtp_relay_http_send(hc) == NGX_ERROR) {
            ngx_smtp_relay_http_conn_lost(hc, hc->reused);
        }

        return;
    }

    if (ngx_smtp_relay_test_connect(c) != NGX_OK) {
        ngx_smtp_relay_http_conn_lost(hc, 0);
        return;
    }

    ngx_smtp_relay_http_connected(hc);
}


static void
ngx_smtp_relay_http_connected(ngx_smtp_relay_http_conn_t *hc)
{
    if (hc->sockaddr->sa_family != AF_UNIX) {
        (void) ngx_tcp_nodelay(hc->connection);
    }

    if (hc->peer->ssl) {
        ngx_smtp_relay_http_ssl_start(hc);
        return;
    }

    ngx_smtp_relay_http_conn_start(hc);
}


void
ngx_smtp_relay_http_conn_start(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_connection_t  *c;

    c = hc->connection;

    hc->connected = 1;
    hc->http->session->stat->service_opened++;
    hc->log.action = "asking the auth service";

    /* TLS had handlers of its own */

    c->read->handler = ngx_smtp_relay_http_read_handler;
    c->write->handler = ngx_smtp_relay_http_write_handler;

    ngx_add_timer(c->read, ngx_smtp_relay_http_patience(hc->http));

    if (ngx_smtp_relay_http_send(hc) == NGX_ERROR) {
        ngx_smtp_relay_http_conn_lost(hc, 0);
        return;
    }

    /* TLS may have read more than its own */

    if (c->ssl) {
        ngx_post_event(c->read, &ngx_posted_events);
    }
}


/* NGX_OK: whatever can be done for now is; NGX_ERROR */

static ngx_int_t
ngx_smtp_relay_http_send(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = hc->connection;

    rc = ngx_smtp_relay_buf_send(c, hc->http->request);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK && c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    /* asks to be told, or takes it out of a level-triggered event method */

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_handle_read_event(c->read, 0);
}


static void
ngx_smtp_relay_http_read_handler(ngx_event_t *rev)
{
    ngx_connection_t            *c;
    ngx_smtp_relay_http_conn_t  *hc;

    c = rev->data;
    hc = c->data;

    if (hc->http == NULL) {
        ngx_smtp_relay_http_free_handler(hc);
        return;
    }

    if (c->close) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0, "shutdown timeout");
        ngx_smtp_relay_http_conn_lost(hc, 0);
        return;
    }

    if (rev->timedout) {

        /* silence is not cured by asking the same server again */

        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "auth service timed out");
        c->timedout = 1;
        ngx_smtp_relay_http_conn_lost(hc, 0);
        return;
    }

    if (!hc->connected) {

        /* a failed connect() shows on both events */

        ngx_smtp_relay_http_write_handler(c->write);
        return;
    }

    if (ngx_smtp_relay_http_read(hc) == NGX_ERROR) {
        ngx_smtp_relay_http_conn_lost(hc, hc->reused);
    }
}


/* idle or being drained: whatever is wrong, nobody waits for it */

static void
ngx_smtp_relay_http_free_handler(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = hc->connection;

    if (c->close || c->read->timedout) {
        ngx_smtp_relay_http_conn_close(hc);
        return;
    }

    rc = hc->idle ? ngx_smtp_relay_http_test_idle(c)
                  : ngx_smtp_relay_http_read(hc);

    if (rc == NGX_ERROR) {
        ngx_smtp_relay_http_conn_close(hc);
    }
}


/*
 * With TLS there may be octets that are none of HTTP's, such as a session
 * ticket: only reading tells.
 */

static ngx_int_t
ngx_smtp_relay_http_test_idle(ngx_connection_t *c)
{
    u_char  buf[1];

    if (c->ssl) {

        if (c->recv(c, buf, 1) != NGX_AGAIN) {
            return NGX_ERROR;
        }

    } else if (recv(c->fd, (char *) buf, 1, MSG_PEEK) == -1
               && ngx_socket_errno == NGX_EAGAIN)
    {
        c->read->ready = 0;

    } else {
        return NGX_ERROR;
    }

    return ngx_handle_read_event(c->read, 0);
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

    do {

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

        b->last += n;

        if (hc->http) {
            rc = ngx_smtp_relay_http_reply_parse(hc);

            if (rc == NGX_OK) {
                rc = ngx_smtp_relay_http_replied_to(hc);
            }

        } else {
            rc = ngx_smtp_relay_http_drain(hc);
        }

        if (rc != NGX_AGAIN) {
            return rc;
        }

    } while (c->read->ready);

    return (ngx_handle_read_event(c->read, 0) == NGX_OK) ? NGX_AGAIN
                                                         : NGX_ERROR;
}


/* the body tells nothing, but the connection is worth reading it */

static ngx_int_t
ngx_smtp_relay_http_replied_to(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_smtp_relay_http_t  *http;

    /* all is copied; Auth-Pass must not stay in a buffer others get */

    ngx_explicit_memzero(hc->in->start, hc->in->pos - hc->in->start);

    http = hc->http;

    if (http->status == 408 && hc->reused && !hc->keep) {

        /*
         * RFC 9110, 15.5.9.: said of an idle connection that is closed, and
         * not of this request, which came a moment too late
         */

        return NGX_ERROR;
    }

    ngx_smtp_relay_http_conn_detach(hc);

    if (hc->connection->write->timer_set) {
        ngx_del_timer(hc->connection->write);
    }

    ngx_add_timer(hc->connection->read, NGX_SMTP_RELAY_HTTP_DRAIN);

    ngx_smtp_relay_http_replied(http);

    return ngx_smtp_relay_http_drain(hc);
}


static ngx_int_t
ngx_smtp_relay_http_drain(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_int_t  rc;

    rc = ngx_smtp_relay_http_reply_skip(hc);

    return (rc == NGX_DONE) ? ngx_smtp_relay_http_store(hc) : rc;
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

        /*
         * of many logins at one time each would close a connection here and
         * open another
         */

        ngx_queue_remove(q);
        ngx_queue_insert_head(&hc->peer->surplus, q);

        hc->peer->nidle--;
        oldest->surplus = 1;

        ngx_add_timer(oldest->connection->read, NGX_SMTP_RELAY_HTTP_SURPLUS);
    }

    ngx_smtp_relay_buf_put(&hc->in);

    ngx_queue_insert_head(&hc->peer->idle, &hc->queue);
    hc->peer->nidle++;

    hc->idle = 1;
    c->idle = 1;

    /* that it is closed from now on is no error */

    c->log_error = NGX_ERROR_INFO;

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


void
ngx_smtp_relay_http_conn_lost(ngx_smtp_relay_http_conn_t *hc,
    ngx_uint_t again)
{
    ngx_smtp_relay_http_t  *http;

    http = hc->http;

    ngx_smtp_relay_http_conn_close(hc);

    /* a body that is broken concerns nobody */

    if (http) {
        ngx_smtp_relay_http_lost(http, again);
    }
}


void
ngx_smtp_relay_http_conn_close(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_pool_t  *pool;

    ngx_smtp_relay_http_conn_detach(hc);

    if (hc->idle) {
        ngx_smtp_relay_http_conn_remove(hc);
    }

    if (hc->in) {
        ngx_explicit_memzero(hc->in->start, hc->in->last - hc->in->start);
    }

    ngx_smtp_relay_buf_put(&hc->in);

    if (hc->connection) {
        ngx_smtp_relay_peer_ssl_close(hc->connection);
        ngx_close_connection(hc->connection);
    }

    pool = hc->pool;
    pool->log = ngx_cycle->log;

    ngx_destroy_pool(pool);
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

        if (ss->auth && ss->auth->user.len) {
            buf = p;
            p = ngx_snprintf(buf, len, ", user: \"%V\"", &ss->auth->user);
            len -= p - buf;
        }
    }

    return ngx_snprintf(p, len, ", auth service: \"%V\"", &hc->name);
}


#endif
