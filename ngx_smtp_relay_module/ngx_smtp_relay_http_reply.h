
/*
 * A connection to an HTTP service and the reply that is being read from it:
 * for the files of the HTTP client alone.
 */


#ifndef _NGX_SMTP_RELAY_HTTP_REPLY_H_INCLUDED_
#define _NGX_SMTP_RELAY_HTTP_REPLY_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_http.h"
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
    unsigned                        idle:1;
};


/*
 * Parses headers out of hc->in into those of its request.  NGX_OK: they are
 * complete; NGX_AGAIN; NGX_ERROR: they are broken, which is logged.
 */
ngx_int_t ngx_smtp_relay_http_parse_headers(ngx_smtp_relay_http_conn_t *hc);

/*
 * Decides whether the connection can take another request (hc->keep): only
 * if nothing about where this reply ends is left to interpretation (RFC
 * 9112, 6.3.).
 */
void ngx_smtp_relay_http_framing(ngx_smtp_relay_http_conn_t *hc);


#endif /* _NGX_SMTP_RELAY_HTTP_REPLY_H_INCLUDED_ */
