
/*
 * Entries of the cache in its shared memory: for the files of the zone
 * alone.  All of it is to be called under the lock of the zone.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_CACHE_TABLE_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_CACHE_TABLE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_auth_cache_zone.h"


#define NGX_SMTP_RELAY_CACHE_CHUNK      128
#define NGX_SMTP_RELAY_CACHE_SERVICES   16

/* no chunk: that one is never used */
#define NGX_SMTP_RELAY_CACHE_NONE       0

/* queues */
#define NGX_SMTP_RELAY_CACHE_OK         0
#define NGX_SMTP_RELAY_CACHE_OTHER      1


typedef struct {
    uint32_t                         next;      /* of its hash chain */
    uint32_t                         newer;     /* of its queue */
    uint32_t                         older;
    uint32_t                         account_next;
    uint32_t                         account_prev;

    uint32_t                         data;      /* chunks */
    uint32_t                         len;       /* 0: no verdict */

    uint32_t                         flight;    /* in progress, 0: none */
    uint32_t                         ended;     /* the last one */
    uint32_t                         by;        /* that brought data */

    u_char                           key[NGX_SMTP_RELAY_CACHE_KEY_LEN];
    uint64_t                         account;

    ngx_msec_t                       expires;   /* verdict, or unkept */
    ngx_msec_t                       stale;     /* serves until */
    ngx_msec_t                       used;
    ngx_msec_t                       deadline;  /* of the flight */
    ngx_pid_t                        pid;       /* of who asks */

    u_char                           queue;
    u_char                           outcome;   /* of ended */
    u_char                           unkept;
    u_char                           again;     /* used since in its place */
} ngx_smtp_relay_cache_entry_t;


typedef union {
    ngx_smtp_relay_cache_entry_t     entry;

    struct {
        uint32_t                     next;
        u_char                       octets[NGX_SMTP_RELAY_CACHE_CHUNK - 4];
    } data;
} ngx_smtp_relay_cache_chunk_t;


/* a service that is down or came back just now */

typedef struct {
    uint32_t                         id;        /* 0: nobody's */
    ngx_uint_t                       down;
    ngx_uint_t                       asked;     /* in that second */
    ngx_uint_t                       second;    /* since it is back */
    ngx_uint_t                       stales;    /* since warned */
    ngx_msec_t                       since;
    ngx_msec_t                       next;      /* time to ask */
    ngx_msec_t                       warned;
} ngx_smtp_relay_cache_service_t;


struct ngx_smtp_relay_cache_sh_s {
    uint32_t                        *buckets;
    uint32_t                        *accounts;
    uint32_t                         mask;      /* of both */

    ngx_smtp_relay_cache_chunk_t    *chunks;
    uint32_t                         nchunks;
    uint32_t                         fresh;     /* never used from here on */
    uint32_t                         free;      /* used before */
    uint32_t                         nfree;

    uint32_t                         newest[2];
    uint32_t                         oldest[2];

    uint32_t                         flights;   /* number of the last */
    uint32_t                         purges;

    ngx_smtp_relay_cache_service_t   services[NGX_SMTP_RELAY_CACHE_SERVICES];
    ngx_smtp_relay_cache_stats_t     stats;
};


#define ngx_smtp_relay_cache_entry(sh, i)  (&(sh)->chunks[i].entry)

/* whether time t is still to come */

#define ngx_smtp_relay_cache_before(now, t)                                   \
    ((ngx_msec_int_t) ((t) - (now)) > 0)

/* whether somebody asks for an entry, if he is still there */

#define ngx_smtp_relay_cache_asked(e, now)                                    \
    ((e)->flight && ngx_smtp_relay_cache_before(now, (e)->deadline))


/* Forgets all entries. */
void ngx_smtp_relay_cache_clear(ngx_smtp_relay_cache_sh_t *sh);

ngx_smtp_relay_cache_entry_t *ngx_smtp_relay_cache_find(
    ngx_smtp_relay_cache_sh_t *sh, u_char *key);

/* Adds an entry without a verdict.  NULL: no room could be made. */
ngx_smtp_relay_cache_entry_t *ngx_smtp_relay_cache_create(
    ngx_smtp_relay_cache_sh_t *sh, u_char *key, ngx_msec_t now);

/*
 * Puts octets into an entry, in place of those it has, and the entry first
 * into a queue.  NGX_OK, or NGX_DECLINED: no room could be made, and the
 * entry has none.
 */
ngx_int_t ngx_smtp_relay_cache_write(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_smtp_relay_cache_op_t *op);

/* Gets them out, into memory of the process; the entry has been used. */
void ngx_smtp_relay_cache_read(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_smtp_relay_cache_op_t *op);

/* Takes the verdict out of an entry; 1: there was one. */
ngx_uint_t ngx_smtp_relay_cache_drop(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e);

/* Octets of chunks in use. */
uint64_t ngx_smtp_relay_cache_used(ngx_smtp_relay_cache_sh_t *sh);


#endif /* _NGX_SMTP_RELAY_AUTH_CACHE_TABLE_H_INCLUDED_ */
