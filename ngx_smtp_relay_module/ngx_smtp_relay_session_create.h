
/*
 * A session is made, and gets what its server says.  Between the files of a
 * session only.
 */


#ifndef _NGX_SMTP_RELAY_SESSION_CREATE_H_INCLUDED_
#define _NGX_SMTP_RELAY_SESSION_CREATE_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"


/*
 * Creates the session of a connection, in its pool, which cleans it up.
 * NULL: no memory, or no random octets.
 */
ngx_smtp_relay_session_t *ngx_smtp_relay_session_create(
    ngx_stream_session_t *s);

/*
 * Sets what depends on the server, which SNI may choose after STARTTLS.
 * NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_session_init(ngx_smtp_relay_session_t *ss);


#endif /* _NGX_SMTP_RELAY_SESSION_CREATE_H_INCLUDED_ */
