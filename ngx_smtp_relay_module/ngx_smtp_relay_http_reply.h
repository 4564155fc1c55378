
/* The reply of an HTTP service, from octets to headers and a body's end. */


#ifndef _NGX_SMTP_RELAY_HTTP_REPLY_H_INCLUDED_
#define _NGX_SMTP_RELAY_HTTP_REPLY_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_http_conn.h"


/*
 * Parses what is in hc->in, interim replies included, and puts the headers
 * into its request.  NGX_OK: they are complete, and hc->keep says whether
 * the connection can take another request: only if nothing about where this
 * reply ends is left to interpretation (RFC 9112, 6.3.).  NGX_AGAIN;
 * NGX_ERROR: they are broken, which is logged.
 */
ngx_int_t ngx_smtp_relay_http_reply_parse(ngx_smtp_relay_http_conn_t *hc);

/*
 * Passes over what is in hc->in of a body.  NGX_DONE: that was all, and
 * nothing is behind it; NGX_AGAIN; NGX_ERROR: it is broken, too large, or
 * not worth the wait.
 */
ngx_int_t ngx_smtp_relay_http_reply_skip(ngx_smtp_relay_http_conn_t *hc);


#endif /* _NGX_SMTP_RELAY_HTTP_REPLY_H_INCLUDED_ */
