
/*
 * A small client of HTTP/1.1, over nginx's stream balancers and with nginx's
 * own HTTP parser: one request, the headers of its reply, and the connection
 * kept for the next one.
 */


#ifndef _NGX_SMTP_RELAY_HTTP_H_INCLUDED_
#define _NGX_SMTP_RELAY_HTTP_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_peer_ssl.h"


#if (NGX_SMTP_RELAY_HTTP)


/* largest header block of a reply, and largest body that is read off */

#define NGX_SMTP_RELAY_HTTP_HEADERS  8192
#define NGX_SMTP_RELAY_HTTP_BODY     65536


typedef struct ngx_smtp_relay_http_s       ngx_smtp_relay_http_t;
typedef struct ngx_smtp_relay_http_conn_s  ngx_smtp_relay_http_conn_t;


typedef void (*ngx_smtp_relay_http_handler_pt)(ngx_smtp_relay_http_t *http);


struct ngx_smtp_relay_http_s {
    ngx_pool_t                       *pool;
    ngx_smtp_relay_session_t         *session;
    ngx_smtp_relay_http_peer_t       *peer;
    ngx_smtp_relay_scope_t            scope;

    ngx_str_t                         host;     /* for the Host header */
    ngx_str_t                         uri;

    /* set by the caller */

    ngx_buf_t                        *request;
    ngx_str_t                         secret;   /* of pool, to be wiped */
    ngx_smtp_relay_http_handler_pt    handler;
    void                             *data;
    ngx_msec_t                        connect_timeout;  /* TLS included */
    ngx_msec_t                        timeout;          /* of all of it */
    ngx_uint_t                        keepalive;
    ngx_smtp_relay_peer_ssl_conf_t   *ssl;      /* for https */

    /* the reply; octets of pool */

    ngx_uint_t                        status;   /* 0: none came */
    ngx_array_t                       headers;  /* of ngx_keyval_t, names in
                                                 * lower case */

    /* private */

    ngx_smtp_relay_http_conn_t       *conn;
    ngx_msec_t                        deadline;

    ngx_smtp_relay_peer_ssl_params_t  ssl_params;
    u_char                            context[NGX_SMTP_RELAY_PEER_SSL_CONTEXT];

    unsigned                          resolving:1;
};


/*
 * Creates a request with a pool of its own, in which the caller may build
 * it, after entering its scope for whatever has variables.  NULL: no memory,
 * or the URL has no sense, which is logged.
 */
ngx_smtp_relay_http_t *ngx_smtp_relay_http_create(
    ngx_smtp_relay_session_t *ss, ngx_smtp_relay_http_peer_t *peer);

/*
 * Sends the request to one server after another until one answers with
 * anything but a 5xx that says that it is out of order.  The handler is
 * called once, from the event loop, when the headers of the reply are
 * complete or when nothing came; why is logged then.  NGX_OK, or NGX_ERROR:
 * no server can be had, and the handler will not be called.
 */
ngx_int_t ngx_smtp_relay_http_start(ngx_smtp_relay_http_t *http);

/*
 * Ends a request at any time, its handler included: wipes it, closes a
 * connection that is in the middle of it, destroys the pool.
 */
void ngx_smtp_relay_http_destroy(ngx_smtp_relay_http_t *http);

/* The value of the only header of that name; NULL: none, or several. */
ngx_str_t *ngx_smtp_relay_http_header(ngx_smtp_relay_http_t *http,
    ngx_str_t *name, ngx_uint_t *count);


/* for the files of the HTTP client */

/*
 * The servers of the request are known, or are not to be had (NGX_ERROR):
 * called later if ngx_smtp_relay_http_peer_choose() said NGX_AGAIN.
 */
void ngx_smtp_relay_http_resolved(ngx_smtp_relay_http_t *http, ngx_int_t rc);

/*
 * The connection failed and is gone; again: another one to the same server
 * may well do.
 */
void ngx_smtp_relay_http_lost(ngx_smtp_relay_http_t *http, ngx_uint_t again);

/* The headers of a reply are complete; the connection has been detached. */
void ngx_smtp_relay_http_replied(ngx_smtp_relay_http_t *http);

/* Milliseconds that are left of the time for all of it, at least 1. */
ngx_msec_t ngx_smtp_relay_http_time_left(ngx_smtp_relay_http_t *http);

/*
 * How long a server may be silent: as long as there is another one to ask,
 * half of the time that is left.
 */
ngx_msec_t ngx_smtp_relay_http_patience(ngx_smtp_relay_http_t *http);


#endif


#endif /* _NGX_SMTP_RELAY_HTTP_H_INCLUDED_ */
