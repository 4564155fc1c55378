
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_http.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_smtp_relay_http_conn.h"


/* TLS sessions that a worker keeps of a service, one for each server */

#define NGX_SMTP_RELAY_HTTP_SESSIONS  64


typedef struct {
    ngx_queue_t                     queue;
    ngx_ssl_session_t              *session;
    ngx_sockaddr_t                  sockaddr;
    socklen_t                       socklen;
    u_char                          context[NGX_SMTP_RELAY_PEER_SSL_CONTEXT];
} ngx_smtp_relay_http_session_t;


static void ngx_smtp_relay_http_ssl_handler(ngx_connection_t *c);
static ngx_int_t ngx_smtp_relay_http_ssl_set_session(
    ngx_smtp_relay_http_conn_t *hc);
static void ngx_smtp_relay_http_ssl_save_session(ngx_connection_t *c);
static void ngx_smtp_relay_http_ssl_forget(ngx_smtp_relay_http_conn_t *hc);
static ngx_smtp_relay_http_session_t *ngx_smtp_relay_http_ssl_find(
    ngx_smtp_relay_http_conn_t *hc);
static void ngx_smtp_relay_http_ssl_remove(ngx_smtp_relay_http_peer_t *peer,
    ngx_smtp_relay_http_session_t *hs);


void
ngx_smtp_relay_http_ssl_start(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_connection_t       *c;
    ngx_smtp_relay_http_t  *http;

    c = hc->connection;
    http = hc->http;

    hc->log.action = "SSL handshaking to the auth service";

    if (ngx_smtp_relay_peer_ssl_connection(c, http->ssl, &http->ssl_params)
        != NGX_OK
        || (http->ssl->session_reuse
            && ngx_smtp_relay_http_ssl_set_session(hc) != NGX_OK))
    {
        ngx_smtp_relay_http_conn_lost(hc, 0);
        return;
    }

    /* it belongs to connecting, which is timed already */

    if (ngx_ssl_handshake(c) == NGX_AGAIN) {
        c->ssl->handler = ngx_smtp_relay_http_ssl_handler;
        return;
    }

    ngx_smtp_relay_http_ssl_handler(c);
}


static void
ngx_smtp_relay_http_ssl_handler(ngx_connection_t *c)
{
    ngx_smtp_relay_http_t       *http;
    ngx_smtp_relay_http_conn_t  *hc;

    hc = c->data;
    http = hc->http;

    if (c->write->timedout) {
        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "auth service timed out");
        c->timedout = 1;
        ngx_smtp_relay_http_conn_lost(hc, 0);
        return;
    }

    if (c->ssl->handshaked
        && ngx_smtp_relay_peer_ssl_verify(c, http->ssl, &http->ssl_params,
                                          "auth service")
           == NGX_OK)
    {
        ngx_smtp_relay_http_conn_start(hc);
        return;
    }

    /* whatever it was, it must not come again with the session */

    ngx_smtp_relay_http_ssl_forget(hc);

    c->error = 1;

    ngx_smtp_relay_http_conn_lost(hc, 0);
}


static ngx_int_t
ngx_smtp_relay_http_ssl_set_session(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_smtp_relay_http_session_t  *hs;

    hc->connection->ssl->save_session = ngx_smtp_relay_http_ssl_save_session;

    hs = ngx_smtp_relay_http_ssl_find(hc);

    return hs ? ngx_ssl_set_session(hc->connection, hs->session) : NGX_OK;
}


/*
 * OpenSSL calls this whenever a ticket comes, with TLS 1.3 also while the
 * connection is idle.  The certificate is verified anew when the session is
 * used.
 */

static void
ngx_smtp_relay_http_ssl_save_session(ngx_connection_t *c)
{
    ngx_queue_t                    *q;
    ngx_ssl_session_t              *session;
    ngx_smtp_relay_http_conn_t     *hc;
    ngx_smtp_relay_http_peer_t     *peer;
    ngx_smtp_relay_http_session_t  *hs;

    hc = c->data;
    peer = hc->peer;

    if (hc->socklen > (socklen_t) sizeof(ngx_sockaddr_t)) {
        return;
    }

    session = ngx_ssl_get_session(c);
    if (session == NULL) {
        return;
    }

    hs = ngx_smtp_relay_http_ssl_find(hc);

    if (hs) {
        ngx_ssl_free_session(hs->session);
        hs->session = session;
        return;
    }

    if (peer->nsessions == NGX_SMTP_RELAY_HTTP_SESSIONS) {
        q = ngx_queue_last(&peer->sessions);
        hs = ngx_queue_data(q, ngx_smtp_relay_http_session_t, queue);

        ngx_smtp_relay_http_ssl_remove(peer, hs);
    }

    hs = ngx_alloc(sizeof(ngx_smtp_relay_http_session_t), c->log);
    if (hs == NULL) {
        ngx_ssl_free_session(session);
        return;
    }

    hs->session = session;
    hs->socklen = hc->socklen;
    ngx_memcpy(&hs->sockaddr, hc->sockaddr, hc->socklen);
    ngx_memcpy(hs->context, hc->context, sizeof(hs->context));

    ngx_queue_insert_head(&peer->sessions, &hs->queue);
    peer->nsessions++;
}


static void
ngx_smtp_relay_http_ssl_forget(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_smtp_relay_http_session_t  *hs;

    hs = ngx_smtp_relay_http_ssl_find(hc);

    if (hs) {
        ngx_smtp_relay_http_ssl_remove(hc->peer, hs);
    }
}


static ngx_smtp_relay_http_session_t *
ngx_smtp_relay_http_ssl_find(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_queue_t                    *q;
    ngx_smtp_relay_http_session_t  *hs;

    for (q = ngx_queue_head(&hc->peer->sessions);
         q != ngx_queue_sentinel(&hc->peer->sessions);
         q = ngx_queue_next(q))
    {
        hs = ngx_queue_data(q, ngx_smtp_relay_http_session_t, queue);

        if (ngx_memn2cmp((u_char *) hc->sockaddr, (u_char *) &hs->sockaddr,
                         hc->socklen, hs->socklen)
            == 0
            && ngx_memcmp(hc->context, hs->context, sizeof(hs->context)) == 0)
        {
            ngx_queue_remove(q);
            ngx_queue_insert_head(&hc->peer->sessions, q);

            return hs;
        }
    }

    return NULL;
}


static void
ngx_smtp_relay_http_ssl_remove(ngx_smtp_relay_http_peer_t *peer,
    ngx_smtp_relay_http_session_t *hs)
{
    ngx_queue_remove(&hs->queue);
    peer->nsessions--;

    ngx_ssl_free_session(hs->session);
    ngx_free(hs);
}


void
ngx_smtp_relay_http_ssl_free(ngx_smtp_relay_http_peer_t *peer)
{
    ngx_queue_t                    *q;
    ngx_smtp_relay_http_session_t  *hs;

    q = ngx_queue_head(&peer->sessions);

    while (q != ngx_queue_sentinel(&peer->sessions)) {
        hs = ngx_queue_data(q, ngx_smtp_relay_http_session_t, queue);
        q = ngx_queue_next(q);

        ngx_smtp_relay_http_ssl_remove(peer, hs);
    }
}


#endif
