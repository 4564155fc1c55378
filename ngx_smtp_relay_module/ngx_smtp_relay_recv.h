
/* Reading, with no more system calls than there is something to read. */


#ifndef _NGX_SMTP_RELAY_RECV_H_INCLUDED_
#define _NGX_SMTP_RELAY_RECV_H_INCLUDED_


#include "ngx_smtp_relay.h"


/*
 * As c->recv(): the octets read; 0: the peer closed the connection;
 * NGX_AGAIN; NGX_ERROR.  When c->read->ready is cleared on return, nothing
 * is left, neither in the socket nor in OpenSSL.
 */
ssize_t ngx_smtp_relay_recv(ngx_connection_t *c, u_char *buf, size_t size);


#endif /* _NGX_SMTP_RELAY_RECV_H_INCLUDED_ */
