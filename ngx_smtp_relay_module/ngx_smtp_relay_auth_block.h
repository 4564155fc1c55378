
/*
 * Blocking of those who guess: who has failed to log in too often within a
 * time is not asked for a password for another while, and costs no request.
 *
 * What counts is a login that was denied, and an attempt with a mechanism
 * that is not offered.  What does not: a temporary failure, an attempt that
 * the client gave up, one that could not be decoded.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_BLOCK_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_BLOCK_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth_block_zone.h"


/*
 * Whether a key of the session, as far as it is known now, is blocked.
 *
 *     NGX_OK        none is
 *     NGX_DECLINED  one is: the session has been ended with 421
 *     NGX_ERROR     no memory
 */
ngx_int_t ngx_smtp_relay_auth_block_check(ngx_smtp_relay_session_t *ss);

/*
 * Counts a failed attempt for each key that is known now.  NGX_OK or
 * NGX_ERROR (no memory).
 */
ngx_int_t ngx_smtp_relay_auth_block_fail(ngx_smtp_relay_session_t *ss);


/* what is known of a zone, for those who show it */

typedef struct {
    ngx_str_t                         name;
    ngx_smtp_relay_auth_block_stat_t  stat;
} ngx_smtp_relay_auth_block_status_t;


/*
 * The zones of a configuration, 0, 1, …, in the order of their directives;
 * what they count is of all workers.  NGX_DECLINED: there is none with that
 * index.
 */
ngx_int_t ngx_smtp_relay_auth_block_status(ngx_cycle_t *cycle,
    ngx_uint_t index, ngx_smtp_relay_auth_block_status_t *status);


extern ngx_module_t  ngx_smtp_relay_auth_block_module;


#endif /* _NGX_SMTP_RELAY_AUTH_BLOCK_H_INCLUDED_ */
