
/*
 * A small client of HTTP/1.1, over nginx's stream balancers and with nginx's
 * own HTTP parser: one request, the headers of its reply, and the connection
 * kept for the next one.
 */


#ifndef _NGX_SMTP_RELAY_HTTP_H_INCLUDED_
#define _NGX_SMTP_RELAY_HTTP_H_INCLUDED_


#include "ngx_smtp_relay.h"


#if (NGX_SMTP_RELAY_HTTP)


/* largest header block of a reply, and largest body that is read off */

#define NGX_SMTP_RELAY_HTTP_HEADERS  8192
#define NGX_SMTP_RELAY_HTTP_BODY     65536


typedef struct ngx_smtp_relay_http_s       ngx_smtp_relay_http_t;
typedef struct ngx_smtp_relay_http_conn_s  ngx_smtp_relay_http_conn_t;


/* a service: configuration, and its idle connections in this worker */

struct ngx_smtp_relay_http_peer_s {
    ngx_stream_upstream_srv_conf_t *upstream;
    ngx_str_t                       host;       /* of the Host header */
    ngx_str_t                       uri;

    ngx_queue_t                     idle;       /* the latest first */
    ngx_uint_t                      nidle;
};


typedef void (*ngx_smtp_relay_http_handler_pt)(ngx_smtp_relay_http_t *http);


struct ngx_smtp_relay_http_s {
    ngx_pool_t                     *pool;
    ngx_smtp_relay_session_t       *session;
    ngx_smtp_relay_http_peer_t     *peer;
    ngx_smtp_relay_scope_t          scope;

    /* set by the caller */

    ngx_buf_t                      *request;
    ngx_smtp_relay_http_handler_pt  handler;
    void                           *data;
    ngx_msec_t                      connect_timeout;
    ngx_msec_t                      timeout;    /* of all of it */
    ngx_uint_t                      keepalive;

    /* the reply; octets of pool */

    ngx_uint_t                      status;     /* 0: none came */
    ngx_array_t                     headers;    /* of ngx_keyval_t, names in
                                                 * lower case */

    /* private */

    ngx_smtp_relay_http_conn_t     *conn;
    ngx_msec_t                      deadline;
};


/*
 * Creates a request with a pool of its own, in which the caller may build
 * it, after entering its scope for whatever has variables.  NULL: no memory.
 */
ngx_smtp_relay_http_t *ngx_smtp_relay_http_create(
    ngx_smtp_relay_session_t *ss, ngx_smtp_relay_http_peer_t *peer);

/*
 * Sends the request to one server after another until one answers.  The
 * handler is called once, from the event loop, when the headers of the reply
 * are complete or when nothing came; why is logged then.  NGX_OK, or
 * NGX_ERROR: no server can be had, and the handler will not be called.
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


#endif


#endif /* _NGX_SMTP_RELAY_HTTP_H_INCLUDED_ */
