
/*
 * Buffers that sessions and node connections hold only while octets are in
 * them.  A worker keeps a few free ones, so that taking one costs neither a
 * call of malloc() nor a page fault.
 */


#ifndef _NGX_SMTP_RELAY_BUF_H_INCLUDED_
#define _NGX_SMTP_RELAY_BUF_H_INCLUDED_


#include "ngx_smtp_relay.h"


/*
 * Takes a buffer of size octets, empty; pos == last == start.  NULL: no
 * memory.  What an earlier user left in it is not cleared.
 */
ngx_buf_t *ngx_smtp_relay_buf_get(size_t size, ngx_log_t *log);

/* Gives a buffer back and sets *b to NULL; *b may be NULL. */
void ngx_smtp_relay_buf_put(ngx_buf_t **b);

/*
 * Sends b, all of it if the other side takes it; b->pos tells how far.
 * NGX_OK, NGX_AGAIN (the caller waits) or NGX_ERROR (c->error is set).
 */
ngx_int_t ngx_smtp_relay_buf_send(ngx_connection_t *c, ngx_buf_t *b);


#endif /* _NGX_SMTP_RELAY_BUF_H_INCLUDED_ */
