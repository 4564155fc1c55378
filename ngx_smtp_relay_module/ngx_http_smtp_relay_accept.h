
/*
 * What a client would like to get: the Accept header fields of a request
 * (RFC 9110, 12.5.1.).
 */


#ifndef _NGX_HTTP_SMTP_RELAY_ACCEPT_H_INCLUDED_
#define _NGX_HTTP_SMTP_RELAY_ACCEPT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * How much a media type is wanted, in thousandths: by the range that fits it
 * best; 0: not at all.  Ranges with "*" count only if any is set.
 */
ngx_uint_t ngx_http_smtp_relay_accept(ngx_http_request_t *r, ngx_str_t *type,
    ngx_uint_t any);


#endif /* _NGX_HTTP_SMTP_RELAY_ACCEPT_H_INCLUDED_ */
