
/* STARTTLS of a client (RFC 3207). */


#ifndef _NGX_SMTP_RELAY_STARTTLS_H_INCLUDED_
#define _NGX_SMTP_RELAY_STARTTLS_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"


/* The command.  NGX_OK or NGX_ERROR (the session must be closed). */
ngx_int_t ngx_smtp_relay_starttls_command(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);

/*
 * Forgets what came in clear and hands the connection to nginx's SSL phase,
 * which calls ngx_smtp_relay_session_handler() again after the handshake.
 * May end the session: to be called last.
 */
void ngx_smtp_relay_starttls_run(ngx_smtp_relay_session_t *ss);


#endif /* _NGX_SMTP_RELAY_STARTTLS_H_INCLUDED_ */
