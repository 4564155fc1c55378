
/*
 * The dialogue with a node before it is given a message: greeting, EHLO,
 * STARTTLS, XCLIENT, AUTH.
 */


#ifndef _NGX_SMTP_RELAY_NODE_HELLO_H_INCLUDED_
#define _NGX_SMTP_RELAY_NODE_HELLO_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_node.h"


/*
 * Starts the dialogue on a connection that is made, or goes on with it
 * after STARTTLS.  The node may be gone on return.
 */
void ngx_smtp_relay_node_hello_start(ngx_smtp_relay_node_t *node);

/*
 * Readies a connection from the pool for the client of its transaction.
 *
 *     NGX_OK        nothing had to be done
 *     NGX_AGAIN     the transaction is told, as for a new connection
 *     NGX_DECLINED  the node does not let that be done
 *     NGX_ERROR     no memory, or the connection is lost
 */
ngx_int_t ngx_smtp_relay_node_hello_again(ngx_smtp_relay_node_t *node);

/*
 * Takes node->reply, an answer to a step of the dialogue.  NGX_OK, or
 * NGX_ERROR: the node is of no use, which is logged.  When the state is
 * NGX_SMTP_RELAY_NODE_TLS then, ngx_smtp_relay_node_ssl_start() is next.
 */
ngx_int_t ngx_smtp_relay_node_hello_reply(ngx_smtp_relay_node_t *node);


/*
 * Writes the XCLIENT commands that tell a node who the client is to *lines:
 * lines with CRLF, in the transaction's pool; empty, if the node takes no
 * attribute.  NGX_OK or NGX_ERROR (no memory).
 */
ngx_int_t ngx_smtp_relay_node_xclient(ngx_smtp_relay_node_t *node,
    ngx_str_t *lines);

/* Writes the header of the PROXY protocol.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_smtp_relay_node_proxy(ngx_smtp_relay_node_t *node);


#endif /* _NGX_SMTP_RELAY_NODE_HELLO_H_INCLUDED_ */
