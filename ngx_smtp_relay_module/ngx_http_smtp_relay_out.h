
/* Text that grows: a chain of buffers of a pool, for what is shown. */


#ifndef _NGX_HTTP_SMTP_RELAY_OUT_H_INCLUDED_
#define _NGX_HTTP_SMTP_RELAY_OUT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* what one call of _printf() may write at most */

#define NGX_HTTP_SMTP_RELAY_OUT_LINE  512


typedef struct {
    ngx_pool_t                     *pool;
    ngx_chain_t                    *first;
    ngx_chain_t                   **last;
    ngx_buf_t                      *buf;
    off_t                           size;       /* valid after _done() */
    ngx_uint_t                      error;      /* no memory: it is void */
} ngx_http_smtp_relay_out_t;


void ngx_http_smtp_relay_out_init(ngx_http_smtp_relay_out_t *out,
    ngx_pool_t *pool);

/* As ngx_sprintf(); longer text than _LINE is cut. */
void ngx_cdecl ngx_http_smtp_relay_out_printf(ngx_http_smtp_relay_out_t *out,
    const char *fmt, ...);

/* Octets as they are. */
void ngx_http_smtp_relay_out_text(ngx_http_smtp_relay_out_t *out,
    u_char *data, size_t len);

/*
 * The inside of a string of JSON, and of a label of Prometheus: what must
 * not stand there is escaped, octets that are no UTF-8 become "?".
 */
void ngx_http_smtp_relay_out_json(ngx_http_smtp_relay_out_t *out,
    ngx_str_t *text);
void ngx_http_smtp_relay_out_label(ngx_http_smtp_relay_out_t *out,
    ngx_str_t *text);

/* The latter to dst, which has room for twice the length; returns the end. */
u_char *ngx_http_smtp_relay_out_escape_label(u_char *dst, ngx_str_t *text);

/* Marks the end.  NGX_OK or NGX_ERROR: there was no memory. */
ngx_int_t ngx_http_smtp_relay_out_done(ngx_http_smtp_relay_out_t *out);


#endif /* _NGX_HTTP_SMTP_RELAY_OUT_H_INCLUDED_ */
