
/* HELO and EHLO: the client's name, and what the relay offers. */


#ifndef _NGX_SMTP_RELAY_HELLO_H_INCLUDED_
#define _NGX_SMTP_RELAY_HELLO_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"


/*
 * HELO and EHLO and their argument (RFC 5321, 4.1.1.1.).  They end a
 * transaction, and keep a login.  NGX_OK or NGX_ERROR (the session must be
 * closed).
 */
ngx_int_t ngx_smtp_relay_hello_helo(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
ngx_int_t ngx_smtp_relay_hello_ehlo(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);


#endif /* _NGX_SMTP_RELAY_HELLO_H_INCLUDED_ */
