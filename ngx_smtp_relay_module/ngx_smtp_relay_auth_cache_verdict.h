
/*
 * A verdict as octets: what of an auth attempt goes into the cache and comes
 * out of it, and for how long.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_CACHE_VERDICT_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_CACHE_VERDICT_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_cache_zone.h"


/*
 * Puts a verdict of the service, OK or denied, into octets.  The secret for
 * the node among it is sealed under a key that takes the client's secret to
 * make, key being the one of the entry.  Points into static memory.  NGX_OK,
 * or NGX_DECLINED: it is too long, or could not be sealed.
 */
ngx_int_t ngx_smtp_relay_auth_cache_pack(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_status_e status, u_char *key, ngx_str_t *octets);

/*
 * Gets it out again into auth, in memory of its pool, in place of whatever
 * verdict is in it.  NGX_OK and *status, or NGX_ERROR: no memory, or they
 * are not octets that were packed for this login; auth has no verdict then.
 */
ngx_int_t ngx_smtp_relay_auth_cache_unpack(ngx_smtp_relay_auth_t *auth,
    u_char *key, ngx_str_t *octets, ngx_smtp_relay_auth_status_e *status);

/*
 * Applies Cache-Control of the reply (RFC 9111, 5.2.2.) to op->valid and
 * op->stale, which are what is configured.  NGX_OK, or NGX_DECLINED: the
 * verdict must not be kept.
 */
ngx_int_t ngx_smtp_relay_auth_cache_control(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_cache_op_t *op);


#endif /* _NGX_SMTP_RELAY_AUTH_CACHE_VERDICT_H_INCLUDED_ */
