
/*
 * Zones of refused logins in shared memory: an entry for each key that has
 * failed lately, found in a tree.
 *
 * An entry has the times of the last failures, as many as a rule needs, so
 * that a block begins with the very failure that makes it n within the
 * window, wherever in time the window is put.  A count for each of a row of
 * fixed windows would take less room and let twice as many pass.
 *
 * When there is no room, entries that have run out go first, then those that
 * failed longest ago, then blocked ones, the oldest first: who fills a zone
 * with single failures does not lift a block.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_BLOCK_ZONE_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_BLOCK_ZONE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_stream.h>


/* octets of a key that are kept; the end of a longer one is its digest */

#define NGX_SMTP_RELAY_AUTH_BLOCK_KEY       255

/* most failures that a rule can count to */

#define NGX_SMTP_RELAY_AUTH_BLOCK_FAILURES  255


typedef struct {
    uint64_t                        failures; /* attempts that counted */
    uint64_t                        blocked;  /* keys, that became so */
    uint64_t                        refused;  /* attempts of blocked keys */
    uint64_t                        evicted;  /* entries, for lack of room */
    uint64_t                        full;     /* not counted for the same */
    ngx_uint_t                      entries;  /* keys now */
} ngx_smtp_relay_auth_block_stat_t;


/* an entry: it begins in the last member of an ngx_rbtree_node_t */

typedef struct {
    u_char                          color;
    u_char                          len;      /* of the key */
    u_char                          size;     /* of the ring of times */
    u_char                          count;    /* in it */
    u_char                          next;     /* to be written */
    u_char                          blocked;  /* until expire */
    ngx_queue_t                     queue;
    ngx_msec_t                      expire;   /* worth nothing from then on */
    ngx_msec_t                      times[1]; /* and the key behind them */
} ngx_smtp_relay_auth_block_node_t;


typedef struct {
    ngx_rbtree_t                    rbtree;
    ngx_rbtree_node_t               sentinel;
    ngx_queue_t                     failed;   /* the latest in front */
    ngx_queue_t                     blocked;
    ngx_smtp_relay_auth_block_stat_t  stat;
} ngx_smtp_relay_auth_block_shctx_t;


typedef struct {
    ngx_smtp_relay_auth_block_shctx_t  *sh;
    ngx_slab_pool_t                *shpool;
    ngx_shm_zone_t                 *shm_zone;

    ngx_stream_complex_value_t      key;
    ngx_uint_t                      size;     /* most failures of a rule */
    ngx_msec_t                      window;   /* the longest */
} ngx_smtp_relay_auth_block_zone_t;


typedef struct {
    ngx_smtp_relay_auth_block_zone_t  *zone;
    ngx_shm_zone_t                 *shm_zone;
    ngx_uint_t                      failures;
    ngx_msec_t                      window;
    ngx_msec_t                      time;
    u_char                         *file;     /* where it was set */
    ngx_uint_t                      line;
} ngx_smtp_relay_auth_block_rule_t;


/* the init handler of an ngx_shm_zone_t with such a zone as its data */
ngx_int_t ngx_smtp_relay_auth_block_zone_init(ngx_shm_zone_t *shm_zone,
    void *data);

/*
 * Whether a key, of 1 to NGX_SMTP_RELAY_AUTH_BLOCK_KEY octets, is blocked
 * now, which is counted as an attempt that was refused.
 */
ngx_uint_t ngx_smtp_relay_auth_block_zone_check(
    ngx_smtp_relay_auth_block_zone_t *zone, ngx_str_t *key);

/*
 * Notes a failure of a key.  Whether it is blocked by that, from now on: a
 * failure of a key that is blocked already changes nothing.
 */
ngx_uint_t ngx_smtp_relay_auth_block_zone_fail(
    ngx_smtp_relay_auth_block_rule_t *rule, ngx_str_t *key);


#endif /* _NGX_SMTP_RELAY_AUTH_BLOCK_ZONE_H_INCLUDED_ */
