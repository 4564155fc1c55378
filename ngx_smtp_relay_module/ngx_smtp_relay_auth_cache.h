
/*
 * The cache of verdicts between AUTH and its service: who is let in from
 * memory, who asks, and who waits for one who asks.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_CACHE_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_CACHE_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_cache_zone.h"


/* smtp_relay_auth_cache */

struct ngx_smtp_relay_auth_cache_conf_s {
    ngx_shm_zone_t                 *zone;       /* NULL: off */
    ngx_msec_t                      valid;
    ngx_msec_t                      invalid;
    ngx_msec_t                      stale;

    /* where it was set, for what can be checked only later */
    u_char                         *file;
    ngx_uint_t                      line;
};


/*
 * Looks for a verdict on auth's credentials.
 *
 *     NGX_OK        it is in auth, auth->status included
 *     NGX_AGAIN     another session asks for it: ngx_smtp_relay_auth_done()
 *                   or ngx_smtp_relay_auth_ask() will be called
 *     NGX_DECLINED  the service is to be asked, now
 */
ngx_int_t ngx_smtp_relay_auth_cache_start(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_srv_conf_t *ascf);

/*
 * To be called with every verdict, before anything of auth is wiped or
 * filled up: keeps it where it came from the service, tells those who wait,
 * and puts a stale verdict in its place if the service has failed.  Returns
 * the status there is then.
 */
ngx_smtp_relay_auth_status_e ngx_smtp_relay_auth_cache_done(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_auth_status_e status);

/* An attempt ends without a verdict: another one will ask in its place. */
void ngx_smtp_relay_auth_cache_cancel(ngx_smtp_relay_auth_t *auth);


/* The directives, and what is checked when all of them are known. */
char *ngx_smtp_relay_auth_cache_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_smtp_relay_auth_cache(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_smtp_relay_auth_cache_check(ngx_conf_t *cf, ngx_array_t *caches);


/*
 * The zones of a cycle, an array of ngx_shm_zone_t *; NULL: no stream{}.
 * Their data is an ngx_smtp_relay_cache_t, for ngx_smtp_relay_cache_stats()
 * and _purge().
 */
ngx_array_t *ngx_smtp_relay_auth_cache_zones(ngx_cycle_t *cycle);

/* Purges what is kept of an account.  The number of verdicts. */
ngx_uint_t ngx_smtp_relay_auth_cache_purge(ngx_smtp_relay_cache_t *cache,
    ngx_str_t *account);


#endif /* _NGX_SMTP_RELAY_AUTH_CACHE_H_INCLUDED_ */
