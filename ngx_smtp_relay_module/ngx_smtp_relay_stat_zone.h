
/*
 * The zone of shared memory that counters live in.
 *
 * What is counted, a server or a node, has an entry; an entry has a block
 * for each slot, that is for each worker, that ever counted it.  Entries and
 * blocks are made when they are needed and never go, so a worker looks for
 * one only once.  Lists are changed and read under the lock of the zone,
 * counters are not.
 */


#ifndef _NGX_SMTP_RELAY_STAT_ZONE_H_INCLUDED_
#define _NGX_SMTP_RELAY_STAT_ZONE_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_slot.h"


/* the longest name of an entry that is kept; longer ones are cut */

#define NGX_SMTP_RELAY_STAT_NAME  255


typedef enum {
    NGX_SMTP_RELAY_STAT_SERVER = 0,
    NGX_SMTP_RELAY_STAT_NODE,
    NGX_SMTP_RELAY_STAT_KINDS
} ngx_smtp_relay_stat_kind_e;


typedef struct ngx_smtp_relay_stat_block_s  ngx_smtp_relay_stat_block_t;
typedef struct ngx_smtp_relay_stat_entry_s  ngx_smtp_relay_stat_entry_t;


struct ngx_smtp_relay_stat_block_s {
    ngx_smtp_relay_stat_block_t    *next;
    ngx_uint_t                      slot;

    /* the counters follow */
};


struct ngx_smtp_relay_stat_entry_s {
    ngx_smtp_relay_stat_entry_t    *next;
    ngx_smtp_relay_stat_block_t    *blocks;
    uint32_t                        hash;
    size_t                          group_len;  /* of an upstream, or 0 */
    size_t                          len;
    u_char                          data[1];    /* the group, LF, the name */
};


#define ngx_smtp_relay_stat_counters(block)                                   \
    ((uint64_t *) ((u_char *) (block) + sizeof(ngx_smtp_relay_stat_block_t)))


typedef struct {
    size_t                          layout;     /* of a module's version */
    uint64_t                        start;      /* milliseconds */
    ngx_uint_t                      generation;
    ngx_uint_t                      full;
    ngx_uint_t                      reserve;    /* pages */
    ngx_smtp_relay_stat_entry_t    *entries[NGX_SMTP_RELAY_STAT_KINDS];
    ngx_uint_t                      nslots;     /* may grow */
    ngx_smtp_relay_slot_t          *slots;
} ngx_smtp_relay_stat_sh_t;


/* of a configuration; zone is NULL if there is none */

typedef struct {
    ngx_shm_zone_t                 *zone;
    ngx_cycle_t                    *cycle;
    ngx_slab_pool_t                *shpool;
    ngx_smtp_relay_stat_sh_t       *sh;

    /* of a worker */

    ngx_uint_t                      attached;
    ngx_uint_t                      slot;
    uint64_t                       *other[NGX_SMTP_RELAY_STAT_KINDS];
    ngx_rbtree_t                    found[NGX_SMTP_RELAY_STAT_KINDS];
    ngx_rbtree_node_t               sentinel;
} ngx_smtp_relay_stat_main_conf_t;


/*
 * Takes a slot for this worker, and settles what an earlier owner of it has
 * left open; gives it back.
 */
void ngx_smtp_relay_stat_attach(ngx_smtp_relay_stat_main_conf_t *smcf);
void ngx_smtp_relay_stat_detach(ngx_smtp_relay_stat_main_conf_t *smcf);

/*
 * Finds the counters of this worker for an entry, which is made if there is
 * none; those of "other" if the zone is full.  NULL: there is no zone, or no
 * slot.
 */
uint64_t *ngx_smtp_relay_stat_find(ngx_smtp_relay_stat_main_conf_t *smcf,
    ngx_smtp_relay_stat_kind_e kind, ngx_str_t *group, ngx_str_t *name);

/* How many counters a block of a kind has. */
ngx_uint_t ngx_smtp_relay_stat_size(ngx_smtp_relay_stat_kind_e kind);

/* Sums up the blocks of an entry, under the lock. */
void ngx_smtp_relay_stat_sum(ngx_smtp_relay_stat_entry_t *entry,
    ngx_smtp_relay_stat_kind_e kind, uint64_t *sum);

/*
 * Settles what workers that are gone have left open, and frees their slots;
 * under the lock.
 */
void ngx_smtp_relay_stat_settle_dead(ngx_smtp_relay_stat_sh_t *sh);

/*
 * The label of an upstream group; NULL: of nodes that are in none.  Octets
 * of buf, which has room for NGX_SMTP_RELAY_STAT_NAME, or static ones.
 */
void ngx_smtp_relay_stat_group(ngx_stream_upstream_srv_conf_t *uscf,
    u_char *buf, ngx_str_t *group);


#endif /* _NGX_SMTP_RELAY_STAT_ZONE_H_INCLUDED_ */
