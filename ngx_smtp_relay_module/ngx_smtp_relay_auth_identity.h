
/*
 * Who a client is after the auth service has said OK: what of its claims the
 * service has not looked at, and the account of those who gave no name.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_IDENTITY_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_IDENTITY_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"


/*
 * Whether the client wants to be somebody else than the user whose secret
 * it has (RFC 4422, 2.), or, with EXTERNAL, somebody whose name it tells.
 */
ngx_uint_t ngx_smtp_relay_auth_acts(ngx_smtp_relay_credentials_t *cr);

/*
 * The last word on a reply of the service that is OK, before it is used or
 * kept: checks the digest of CRAM-MD5 if the service has returned the
 * secret, and the authorization identity, then sets auth->account for
 * those whose user does not name it.  What is not OK is logged.
 */
ngx_smtp_relay_auth_status_e ngx_smtp_relay_auth_confirm(
    ngx_smtp_relay_auth_t *auth);


#endif /* _NGX_SMTP_RELAY_AUTH_IDENTITY_H_INCLUDED_ */
