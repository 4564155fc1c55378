
/*
 * The request to the auth service and its reply: the protocol of nginx's
 * mail "auth_http", over HTTP/1.1.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_HTTP_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_HTTP_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"


/*
 * Asks the service.  The verdict goes into auth, then
 * ngx_smtp_relay_auth_done() is called, later.  NGX_OK, or NGX_ERROR: it
 * could not be asked (no memory), which is logged.
 */
ngx_int_t ngx_smtp_relay_auth_http_start(ngx_smtp_relay_auth_t *auth);

/* Forgets about a request in progress. */
void ngx_smtp_relay_auth_http_cancel(ngx_smtp_relay_auth_t *auth);


#endif /* _NGX_SMTP_RELAY_AUTH_HTTP_H_INCLUDED_ */
