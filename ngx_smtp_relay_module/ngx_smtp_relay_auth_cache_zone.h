
/*
 * The shared memory under the cache of verdicts: octets by a key, the flight
 * of a request by which a key is asked for, and what is known about the
 * services.  Knows no session and no event: time comes with each call.
 *
 * The zone is divided, once, into chunks of one size.  An entry takes one
 * and its octets a list of more, so that what is evicted always makes room,
 * whatever the sizes: a slab pool could be full of slots of another size.
 * All links are indices of chunks, in half the space of pointers.
 *
 * There are two queues of the least recently used: verdicts that are OK, and
 * all else.  Room is made at the cost of the second as long as it has
 * anything, so nobody can push out those who know their secrets by guessing.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_CACHE_ZONE_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_CACHE_ZONE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


#define NGX_SMTP_RELAY_CACHE_KEY_LEN   32

/* most octets of an entry */

#define NGX_SMTP_RELAY_CACHE_DATA_LEN  20480


/* what a look says */

typedef enum {
    NGX_SMTP_RELAY_CACHE_HIT = 0,    /* here it is */
    NGX_SMTP_RELAY_CACHE_STALE,      /* out of date, but nobody to ask */
    NGX_SMTP_RELAY_CACHE_WAIT,       /* somebody asks: look again */
    NGX_SMTP_RELAY_CACHE_ASK,        /* ask, others wait for the outcome */
    NGX_SMTP_RELAY_CACHE_ALONE,      /* ask, nobody waits */
    NGX_SMTP_RELAY_CACHE_FAILED      /* what was waited for has failed */
} ngx_smtp_relay_cache_answer_e;


/* what became of asking */

typedef enum {
    NGX_SMTP_RELAY_CACHE_CANCELED = 0,  /* nobody wants it any more */
    NGX_SMTP_RELAY_CACHE_KEEP,       /* a verdict */
    NGX_SMTP_RELAY_CACHE_UNKEPT,     /* a verdict that must not be kept */
    NGX_SMTP_RELAY_CACHE_TEMPORARY,  /* the service answered, but no verdict */
    NGX_SMTP_RELAY_CACHE_FAILURE     /* the service did not answer */
} ngx_smtp_relay_cache_outcome_e;


/* one who wants to know: the same one in all calls for a login */

typedef struct {
    u_char                          *key;       /* of KEY_LEN octets */
    uint32_t                         service;   /* identity, not 0 */
    ngx_msec_t                       now;
    ngx_msec_t                       timeout;   /* of asking */

    /* out of a look, kept for the next call; to begin with 0 */

    uint32_t                         flight;    /* one's own or waited for */
    uint32_t                         purges;

    /* with HIT and STALE: in memory of the process, until the next call */

    u_char                          *data;
    size_t                           len;

    /* with KEEP, into an end: besides data and len */

    ngx_msec_t                       valid;     /* from now */
    ngx_msec_t                       stale;     /* behind that */
    uint64_t                         account;   /* hash of its name */

    ngx_uint_t                       stales;    /* out: STALE is to be logged,
                                                 * for so many */

    unsigned                         ok:1;      /* KEEP: not a denial */
    unsigned                         refused:1; /* FAILURE: of this request;
                                                 * others may fare better */
    unsigned                         last:1;    /* a look: do not wait on */
    unsigned                         probe:1;   /* asks whether the service
                                                 * is back */
    unsigned                         back:1;    /* out: the service is back */
} ngx_smtp_relay_cache_op_t;


typedef struct {
    uint64_t                         entries;   /* verdicts that are there */
    uint64_t                         hits;      /* answered at once */
    uint64_t                         misses;    /* asked for */
    uint64_t                         expired;   /* of these: out of date */
    uint64_t                         waits;     /* waited for another one */
    uint64_t                         stale;     /* answered out of date */
    uint64_t                         stores;
    uint64_t                         evictions; /* to make room */
    uint64_t                         purged;
    uint64_t                         used;      /* octets of chunks */
    uint64_t                         size;      /* of them all */
} ngx_smtp_relay_cache_stats_t;


typedef struct ngx_smtp_relay_cache_sh_s  ngx_smtp_relay_cache_sh_t;


/* a zone as a process sees it */

typedef struct {
    ngx_smtp_relay_cache_sh_t       *sh;
    ngx_slab_pool_t                 *shpool;

    ngx_rbtree_t                     flights;   /* of this process: those */
    ngx_rbtree_node_t                sentinel;  /* who wait in it */
} ngx_smtp_relay_cache_t;


/*
 * Divides the memory that is left in cache->shpool; to be called once for a
 * zone.  NGX_OK, or NGX_ERROR: it is too small.
 */
ngx_int_t ngx_smtp_relay_cache_format(ngx_smtp_relay_cache_t *cache);

/*
 * Looks for a key.  The first look has op->flight 0; one who is told to WAIT
 * looks again with the same op, sooner or later, until told otherwise, and
 * then shares the outcome of the request waited for, even if it is not
 * valid any longer.  One who is told to ASK or ALONE calls _end() when that
 * is over.
 */
ngx_smtp_relay_cache_answer_e ngx_smtp_relay_cache_look(
    ngx_smtp_relay_cache_t *cache, ngx_smtp_relay_cache_op_t *op);

/*
 * The end of asking.  Nothing is kept of an answer to a request older than
 * the last purge.  With FAILURE: STALE, with data, or FAILED; else HIT,
 * without meaning.  After a FAILURE others are STALE without asking, unless
 * it was refused or of a key that there is no stale verdict for.
 */
ngx_smtp_relay_cache_answer_e ngx_smtp_relay_cache_end(
    ngx_smtp_relay_cache_t *cache, ngx_smtp_relay_cache_op_t *op,
    ngx_smtp_relay_cache_outcome_e outcome);

/*
 * Purges what is kept of an account, in time proportional to what that is;
 * and everything, in time proportional to the size of the hash tables, 1/32
 * of the zone.  The number of verdicts that are gone.
 */
ngx_uint_t ngx_smtp_relay_cache_purge(ngx_smtp_relay_cache_t *cache,
    uint64_t account);
ngx_uint_t ngx_smtp_relay_cache_purge_all(ngx_smtp_relay_cache_t *cache);

void ngx_smtp_relay_cache_stats(ngx_smtp_relay_cache_t *cache,
    ngx_smtp_relay_cache_stats_t *stats);


#endif /* _NGX_SMTP_RELAY_AUTH_CACHE_ZONE_H_INCLUDED_ */
