
/*
 * The reply of the auth service: from a status and headers to a verdict.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_REPLY_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_REPLY_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_http.h"


#if (NGX_SMTP_RELAY_HTTP)


/*
 * Reads a whole reply (http->status is not 0) into auth: what a login that
 * is OK says about the session, or the SMTP reply to one that is not.  All
 * that is kept is copied to auth->pool; secrets among the headers are wiped.
 * Whatever cannot be understood is logged, and the verdict is an error.
 * Does not call ngx_smtp_relay_auth_done().
 */
ngx_smtp_relay_auth_status_e ngx_smtp_relay_auth_reply(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http);


#endif


#endif /* _NGX_SMTP_RELAY_AUTH_REPLY_H_INCLUDED_ */
