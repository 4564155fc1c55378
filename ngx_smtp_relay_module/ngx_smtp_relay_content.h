
/* Message content on its way from the client to the node. */


#ifndef _NGX_SMTP_RELAY_CONTENT_H_INCLUDED_
#define _NGX_SMTP_RELAY_CONTENT_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_transaction.h"


/* spans of content that are sent with one system call */

#define NGX_SMTP_RELAY_SPANS  32


/*
 * Moves content from b to the node, or drops it, as far as that goes now.
 *
 *     NGX_AGAIN  more input is needed
 *     NGX_BUSY   the node, or its reply, is waited for
 *     NGX_OK     the content, or the chunk of it, has ended; what follows
 *                in b are commands
 *     NGX_ERROR  no memory; the session must be closed
 */
ngx_int_t ngx_smtp_relay_content_data(ngx_smtp_relay_transaction_t *t,
    ngx_buf_t *b);
ngx_int_t ngx_smtp_relay_content_bdat(ngx_smtp_relay_transaction_t *t,
    ngx_buf_t *b);

/*
 * Sends content with the envelope that is queued at the node, in one flight
 * (RFC 3030, 4.2.), if the client did so, too, and all of it is here.  Sets
 * t->ahead.  Until t->state is past the envelope the content stays in the
 * session's buffer.
 *
 *     NGX_OK        it is sent, or goes when the node takes it
 *     NGX_DECLINED  it is to be sent when the envelope has been answered
 *     NGX_ERROR     the node is lost
 */
ngx_int_t ngx_smtp_relay_content_ahead(ngx_smtp_relay_transaction_t *t);


#endif /* _NGX_SMTP_RELAY_CONTENT_H_INCLUDED_ */
