
/* The directive smtp_relay_add_header, and what it does to a message. */


#ifndef _NGX_SMTP_RELAY_ADD_HEADER_H_INCLUDED_
#define _NGX_SMTP_RELAY_ADD_HEADER_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_header.h"


typedef struct {
    ngx_str_t                     name;
    ngx_stream_complex_value_t    value;
} ngx_smtp_relay_add_header_t;


struct ngx_smtp_relay_add_headers_s {
    ngx_array_t                   headers;  /* ngx_smtp_relay_add_header_t */
    ngx_array_t                   dropped;  /* ngx_str_t: names */
};


/* the handler of the directive */
char *ngx_smtp_relay_add_header(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/*
 * Filters spans of a message's content as ngx_smtp_relay_header_filter()
 * does; the first call evaluates what is to be added.  To be called only for
 * a server that adds headers.  NULL: no memory.
 */
ngx_smtp_relay_span_t *ngx_smtp_relay_add_headers(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_span_t *in, ngx_uint_t *n,
    ngx_uint_t end, ngx_smtp_relay_span_t *out);


#endif /* _NGX_SMTP_RELAY_ADD_HEADER_H_INCLUDED_ */
