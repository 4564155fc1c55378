
/*
 * Zones of limits in shared memory: an entry for each key, found in a tree,
 * and what all of them have been asked.
 *
 * A zone's lock is held while it is looked at.  Who needs several zones at
 * one time locks them in the order of their names, so that workers of
 * different configurations cannot wait for each other.
 */


#ifndef _NGX_SMTP_RELAY_LIMIT_ZONE_H_INCLUDED_
#define _NGX_SMTP_RELAY_LIMIT_ZONE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_stream.h>
#include "ngx_smtp_relay_slot.h"
#include "ngx_smtp_relay_limit_bucket.h"


/* octets of a key that are kept; a longer one is kept with its digest */

#define NGX_SMTP_RELAY_LIMIT_KEY  255


typedef enum {
    NGX_SMTP_RELAY_LIMIT_CONN = 0,
    NGX_SMTP_RELAY_LIMIT_MSG,
    NGX_SMTP_RELAY_LIMIT_RCPT
} ngx_smtp_relay_limit_kind_e;

#define NGX_SMTP_RELAY_LIMIT_KINDS  3


/* what a zone was asked, and what it holds */

typedef struct {
    uint64_t                        passed;
    uint64_t                        delayed;
    uint64_t                        refused;
    uint64_t                        dry_run_delayed;
    uint64_t                        dry_run_refused;
    uint64_t                        evicted;  /* entries, for lack of memory */
    uint64_t                        full;     /* no memory for a key */
    ngx_uint_t                      entries;  /* keys now */
    ngx_uint_t                      held;     /* sessions now; CONN */
} ngx_smtp_relay_limit_stat_t;


/* an entry: it begins in the last member of an ngx_rbtree_node_t */

typedef struct {
    u_char                          color;
    u_char                          len;
    uint16_t                        delayed;  /* the last second of a line */
    uint32_t                        logged;   /* likewise, of refusals */
    ngx_queue_t                     queue;
    union {
        ngx_smtp_relay_limit_bucket_t  bucket;
        ngx_uint_t                     conn;
    } u;
    u_char                          data[1];
} ngx_smtp_relay_limit_node_t;


/* a session that counts, in the queue of its worker or that of free ones */

typedef struct {
    ngx_queue_t                     queue;
    ngx_rbtree_node_t              *node;
} ngx_smtp_relay_limit_hold_t;


typedef struct {
    ngx_queue_t                     queue;    /* of all workers */
    ngx_queue_t                     holds;
    ngx_smtp_relay_slot_t           slot;
} ngx_smtp_relay_limit_worker_t;


typedef struct {
    ngx_uint_t                      kind;
    ngx_uint_t                      mask;     /* number of trees - 1 */
    ngx_rbtree_node_t             **roots;
    ngx_rbtree_node_t               sentinel;
    ngx_queue_t                     queue;    /* the last used in front */
    ngx_queue_t                     busy;     /* CONN: keys with sessions */
    ngx_queue_t                     workers;
    ngx_queue_t                     orphans;  /* holds of no known worker */
    ngx_queue_t                     free;     /* holds */
    uint32_t                        logged;   /* that it is full */
    uint32_t                        reaped;   /* looked for dead workers */
    ngx_smtp_relay_limit_stat_t     stat;
} ngx_smtp_relay_limit_shctx_t;


typedef struct {
    ngx_smtp_relay_limit_shctx_t   *sh;
    ngx_slab_pool_t                *shpool;
    ngx_shm_zone_t                 *shm_zone;
    ngx_smtp_relay_limit_worker_t  *worker;   /* this process, or NULL */

    ngx_uint_t                      kind;
    ngx_stream_complex_value_t      key;
    ngx_smtp_relay_rate_t           rate;     /* MSG, RCPT */
    ngx_uint_t                      closed;   /* to new keys, when full */
} ngx_smtp_relay_limit_zone_t;


/* a question to a zone, and what came of it */

typedef struct {
    ngx_smtp_relay_limit_zone_t    *zone;
    ngx_str_t                       key;
    uint32_t                        hash;

    ngx_uint_t                      max;      /* CONN */
    ngx_smtp_relay_limit_hold_t    *hold;     /* CONN: the session's, given
                                               * or taken */
    ngx_smtp_relay_limit_rate_t     rate;     /* MSG, RCPT */

    ngx_rbtree_node_t              *node;     /* valid under the lock only */
    ngx_smtp_relay_limit_bucket_t   bucket;   /* as it was left */
    ngx_msec_t                      wait;

    unsigned                        taken:1;
    unsigned                        fresh:1;  /* hold is not counted yet */
    unsigned                        full:1;   /* no memory: not counted */
    unsigned                        log:1;    /* no line in this second yet */
} ngx_smtp_relay_limit_check_t;


#define ngx_smtp_relay_limit_node(n)                                          \
    ((ngx_smtp_relay_limit_node_t *) &(n)->color)

#define ngx_smtp_relay_limit_lock(zone)                                       \
    ngx_shmtx_lock(&(zone)->shpool->mutex)

#define ngx_smtp_relay_limit_unlock(zone)                                     \
    ngx_shmtx_unlock(&(zone)->shpool->mutex)


/* the init handler of an ngx_shm_zone_t with such a zone as its data */
ngx_int_t ngx_smtp_relay_limit_zone_init(ngx_shm_zone_t *shm_zone,
    void *data);

/*
 * Sets the key of a check.  Of more than NGX_SMTP_RELAY_LIMIT_KEY octets a
 * digest is made, from pool: nobody gets around a limit by a longer name.
 * NGX_OK or NGX_ERROR (no memory).
 */
ngx_int_t ngx_smtp_relay_limit_zone_key(ngx_smtp_relay_limit_check_t *check,
    ngx_str_t *key, ngx_pool_t *pool);

/* The entry of a key, or NULL.  Under the lock. */
ngx_rbtree_node_t *ngx_smtp_relay_limit_zone_find(
    ngx_smtp_relay_limit_check_t *check);

/* Makes an entry for a key that has none.  NULL: the zone is full. */
ngx_rbtree_node_t *ngx_smtp_relay_limit_zone_add(
    ngx_smtp_relay_limit_check_t *check);

/* Frees an entry.  Under the lock. */
void ngx_smtp_relay_limit_zone_drop(ngx_smtp_relay_limit_zone_t *zone,
    ngx_rbtree_node_t *node);

/* An entry has been used: others go before it.  Under the lock. */
void ngx_smtp_relay_limit_zone_touch(ngx_smtp_relay_limit_zone_t *zone,
    ngx_rbtree_node_t *node);

/* An entry is in use: it stays until it is touched again.  Under the lock. */
void ngx_smtp_relay_limit_zone_keep(ngx_smtp_relay_limit_zone_t *zone,
    ngx_rbtree_node_t *node);

/*
 * Memory of the zone, for which idle entries have to go: those that have been
 * found before perhaps.  Or NULL.
 */
void *ngx_smtp_relay_limit_zone_alloc(ngx_smtp_relay_limit_zone_t *zone,
    size_t size);

/*
 * Whether a line may be logged of a refusal by node, or, if that is NULL, of
 * the zone: one in a second.  Under the lock.
 */
ngx_uint_t ngx_smtp_relay_limit_zone_log(ngx_smtp_relay_limit_zone_t *zone,
    ngx_rbtree_node_t *node);

/*
 * Likewise of what node holds back; not in a second in which a refusal was
 * logged, but no refusal stays untold for it.
 */
ngx_uint_t ngx_smtp_relay_limit_zone_log_delay(ngx_rbtree_node_t *node);


/*
 * Take a place, or one message or recipient, in each of n zones, which are
 * in the order of their names: in all of them, or in none.
 *
 *     NGX_OK        taken.  *by: what is to be held back longest, or NULL
 *     NGX_DECLINED  *by refuses: there is no more for the key, or, if full
 *                   is set in it, no memory for it in a zone that is closed
 *
 * dry_run: how it is counted, no more.  Zones that are full and open count
 * nothing; full is set in their checks.
 *
 * A place that a check has already, in hold, is held against its max again.
 */
ngx_int_t ngx_smtp_relay_limit_conn_take(
    ngx_smtp_relay_limit_check_t *checks, ngx_uint_t n, ngx_uint_t dry_run,
    ngx_smtp_relay_limit_check_t **by);
ngx_int_t ngx_smtp_relay_limit_rate_take(
    ngx_smtp_relay_limit_check_t *checks, ngx_uint_t n, ngx_uint_t dry_run,
    ngx_smtp_relay_limit_check_t **by);

/* Gives a place back. */
void ngx_smtp_relay_limit_conn_give(ngx_smtp_relay_limit_zone_t *zone,
    ngx_smtp_relay_limit_hold_t *hold);

/* Gives back what _rate_take() has taken, if it was not used. */
void ngx_smtp_relay_limit_rate_give(ngx_smtp_relay_limit_check_t *checks,
    ngx_uint_t n);

/*
 * A worker starts, or ends: places that it or one that was killed has left
 * are free again.
 */
void ngx_smtp_relay_limit_conn_start(ngx_smtp_relay_limit_zone_t *zone);
void ngx_smtp_relay_limit_conn_stop(ngx_smtp_relay_limit_zone_t *zone);


#endif /* _NGX_SMTP_RELAY_LIMIT_ZONE_H_INCLUDED_ */
