
/* TLS towards nodes: from connecting, or by STARTTLS (RFC 3207). */


#ifndef _NGX_SMTP_RELAY_NODE_SSL_H_INCLUDED_
#define _NGX_SMTP_RELAY_NODE_SSL_H_INCLUDED_


#include "ngx_smtp_relay.h"


#define NGX_SMTP_RELAY_NODE_SSL_OFF       0
#define NGX_SMTP_RELAY_NODE_SSL_ON        1
#define NGX_SMTP_RELAY_NODE_SSL_STARTTLS  2


/*
 * Starts TLS on a connection that a transaction waits for, and goes on with
 * ngx_smtp_relay_node_hello_start() or, on any failure, with
 * ngx_smtp_relay_node_lost(): the node may be gone on return.
 */
void ngx_smtp_relay_node_ssl_start(ngx_smtp_relay_node_t *node);


#endif /* _NGX_SMTP_RELAY_NODE_SSL_H_INCLUDED_ */
