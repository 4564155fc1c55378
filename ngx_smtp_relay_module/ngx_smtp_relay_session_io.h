
/*
 * What a session reads and sends.  Replies are collected, by
 * ngx_smtp_relay_session_reply() and _end(), and sent in one piece.
 */


#ifndef _NGX_SMTP_RELAY_SESSION_IO_H_INCLUDED_
#define _NGX_SMTP_RELAY_SESSION_IO_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"


/*
 * Reads once into ss->in.  NGX_OK; NGX_AGAIN; NGX_DONE: the client closed
 * the connection; NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_session_read(ngx_smtp_relay_session_t *ss);

/*
 * Sends ss->out and gives the buffer back when all is sent.  NGX_OK;
 * NGX_AGAIN: the rest goes when the client takes it, within its timeout;
 * NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_session_flush(ngx_smtp_relay_session_t *ss);

/*
 * Whether the client has closed the connection, as far as that can be told
 * without reading.
 */
ngx_uint_t ngx_smtp_relay_session_gone(ngx_smtp_relay_session_t *ss);

/*
 * Reads off what has arrived before a connection is closed: octets left
 * unread make the kernel reset it, and the reset may overtake the last
 * reply.
 */
void ngx_smtp_relay_session_drain(ngx_connection_t *c);


#endif /* _NGX_SMTP_RELAY_SESSION_IO_H_INCLUDED_ */
