
/*
 * A connection to an HTTP service, and the reply that is being read from it.
 * It belongs to one request at a time; when the headers of the reply are
 * complete it goes on by itself, to the end of the body and into the idle
 * connections of its worker.
 */


#ifndef _NGX_SMTP_RELAY_HTTP_CONN_H_INCLUDED_
#define _NGX_SMTP_RELAY_HTTP_CONN_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_http.h"
#include "ngx_smtp_relay_http_peer.h"
#include <ngx_http.h>


struct ngx_smtp_relay_http_conn_s {
    ngx_pool_t                     *pool;
    ngx_connection_t               *connection;
    ngx_log_t                       log;
    ngx_smtp_relay_http_peer_t     *peer;
    ngx_smtp_relay_http_t          *http;       /* NULL: nobody's */
    ngx_uint_t                      keepalive;

    struct sockaddr                *sockaddr;
    socklen_t                       socklen;
    ngx_str_t                       name;
    u_char                          context[NGX_SMTP_RELAY_PEER_SSL_CONTEXT];

    ngx_queue_t                     queue;

    ngx_buf_t                      *in;
    ngx_http_request_t              r;          /* for the parser only */
    ngx_http_status_t               status;
    ngx_http_chunked_t              chunked_ctx;
    off_t                           body;       /* still to come */
    off_t                           drained;

    unsigned                        connected:1;
    unsigned                        reused:1;
    unsigned                        status_done:1;
    unsigned                        keep:1;     /* the reply allows it */
    unsigned                        chunked:1;
    unsigned                        bare:1;     /* a LF ended a line */
    unsigned                        idle:1;
    unsigned                        surplus:1;
};


/* Takes an idle connection to the server that is chosen.  NULL: none. */
ngx_smtp_relay_http_conn_t *ngx_smtp_relay_http_conn_get(
    ngx_smtp_relay_http_t *http);

/*
 * Connects to the server that is chosen.  NGX_OK: http->conn is under way;
 * NGX_DECLINED: it cannot be reached; NGX_ERROR: no memory.
 */
ngx_int_t ngx_smtp_relay_http_conn_connect(ngx_smtp_relay_http_t *http);

/* Lets go of its request, which does not know about it any more. */
void ngx_smtp_relay_http_conn_detach(ngx_smtp_relay_http_conn_t *hc);

/* Closes it, whatever it is doing; its request is not told. */
void ngx_smtp_relay_http_conn_close(ngx_smtp_relay_http_conn_t *hc);


/* for the files of a connection */

/* It is connected, TLS included: sends the request. */
void ngx_smtp_relay_http_conn_start(ngx_smtp_relay_http_conn_t *hc);

/*
 * Closes it and tells its request, if it has one; again as with
 * ngx_smtp_relay_http_lost().
 */
void ngx_smtp_relay_http_conn_lost(ngx_smtp_relay_http_conn_t *hc,
    ngx_uint_t again);

/*
 * Starts TLS, which ends in ngx_smtp_relay_http_conn_start() or in
 * ngx_smtp_relay_http_conn_lost(), perhaps before it returns.
 */
void ngx_smtp_relay_http_ssl_start(ngx_smtp_relay_http_conn_t *hc);

/* Frees the TLS sessions of a service. */
void ngx_smtp_relay_http_ssl_free(ngx_smtp_relay_http_peer_t *peer);


#endif /* _NGX_SMTP_RELAY_HTTP_CONN_H_INCLUDED_ */
