
/*
 * Differences between the versions of nginx that the module builds with,
 * 1.22.1 and later.
 */


#ifndef _NGX_SMTP_RELAY_COMPAT_H_INCLUDED_
#define _NGX_SMTP_RELAY_COMPAT_H_INCLUDED_


#include <nginx.h>
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_stream.h>


#if (nginx_version < 1025005)

/*
 * ngx_stream_ssl_module makes its SSL_CTX only for a server whose "listen"
 * flag is set; later versions make it for every server with a certificate.
 */

#define NGX_SMTP_RELAY_SSL_LISTEN  1

typedef ngx_stream_ssl_conf_t  ngx_stream_ssl_srv_conf_t;

#endif


/* virtual servers came with 1.25.5: an address belongs to several of them */

#if (nginx_version >= 1025005)
#define NGX_SMTP_RELAY_STREAM_PORTS  1
#define ngx_smtp_relay_addr_ctx(conf)  (conf)->default_server->ctx
#else
#define ngx_smtp_relay_addr_ctx(conf)  (conf)->ctx
#endif


/* the parser of chunks was given a flag to keep trailers in 1.27.2 */

#if (nginx_version >= 1027002)

#define ngx_smtp_relay_parse_chunked(r, b, ctx)                               \
    ngx_http_parse_chunked(r, b, ctx, 0)

#else

#define ngx_smtp_relay_parse_chunked(r, b, ctx)                               \
    ngx_http_parse_chunked(r, b, ctx)

#endif


/* version 2 of the PROXY protocol gave version 1 a name of its own */

#ifndef NGX_PROXY_PROTOCOL_V1_MAX_HEADER
#define NGX_PROXY_PROTOCOL_V1_MAX_HEADER  NGX_PROXY_PROTOCOL_MAX_HEADER
#endif


/* certificates with variables can be cached since 1.27.4 */

#if (nginx_version >= 1027004)

#define ngx_smtp_relay_ssl_connection_certificate(c, pool, cert, key, pwd)    \
    ngx_ssl_connection_certificate(c, pool, cert, key, NULL, pwd)

#else

#define ngx_smtp_relay_ssl_connection_certificate(c, pool, cert, key, pwd)    \
    ngx_ssl_connection_certificate(c, pool, cert, key, pwd)

#endif


#endif /* _NGX_SMTP_RELAY_COMPAT_H_INCLUDED_ */
