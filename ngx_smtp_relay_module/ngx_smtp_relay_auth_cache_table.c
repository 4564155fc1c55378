
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_auth_cache_zone.h"
#include "ngx_smtp_relay_auth_cache_table.h"


/* milliseconds: what is of no use is left that long to those who wait for it */
#define NGX_SMTP_RELAY_CACHE_LINGER  60000

/* entries that are looked at in search of one to evict */
#define NGX_SMTP_RELAY_CACHE_SEARCH  32


#define ngx_smtp_relay_cache_index(sh, e)                                     \
    ((uint32_t) ((ngx_smtp_relay_cache_chunk_t *) (e) - (sh)->chunks))

#define ngx_smtp_relay_cache_available(sh)                                    \
    ((sh)->nfree + (sh)->nchunks - (sh)->fresh)


static void ngx_smtp_relay_cache_delete(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e);
static ngx_int_t ngx_smtp_relay_cache_reserve(ngx_smtp_relay_cache_sh_t *sh,
    uint32_t n, ngx_smtp_relay_cache_entry_t *keep, ngx_msec_t now);
static ngx_int_t ngx_smtp_relay_cache_evict(ngx_smtp_relay_cache_sh_t *sh,
    ngx_uint_t queue, ngx_smtp_relay_cache_entry_t *keep, ngx_msec_t now);
static void ngx_smtp_relay_cache_expire(ngx_smtp_relay_cache_sh_t *sh,
    ngx_uint_t queue, ngx_msec_t now);
static uint32_t ngx_smtp_relay_cache_alloc(ngx_smtp_relay_cache_sh_t *sh);
static void ngx_smtp_relay_cache_free(ngx_smtp_relay_cache_sh_t *sh,
    uint32_t i);
static void ngx_smtp_relay_cache_enqueue(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_uint_t queue);
static void ngx_smtp_relay_cache_dequeue(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e);
static void ngx_smtp_relay_cache_link_account(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, uint64_t account);
static void ngx_smtp_relay_cache_unlink_account(
    ngx_smtp_relay_cache_sh_t *sh, ngx_smtp_relay_cache_entry_t *e);
static uint32_t *ngx_smtp_relay_cache_bucket(ngx_smtp_relay_cache_sh_t *sh,
    u_char *key);


/* where octets of the zone are copied to: nothing points into it unlocked */

static u_char  ngx_smtp_relay_cache_data[NGX_SMTP_RELAY_CACHE_DATA_LEN];


ngx_int_t
ngx_smtp_relay_cache_format(ngx_smtp_relay_cache_t *cache)
{
    u_char                     *p;
    size_t                      size;
    uint32_t                    n;
    ngx_uint_t                  pages;
    ngx_smtp_relay_cache_sh_t  *sh;

    sh = ngx_slab_calloc(cache->shpool, sizeof(ngx_smtp_relay_cache_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    /* all that is left is one run of pages */

    pages = cache->shpool->pfree;
    size = pages << ngx_pagesize_shift;

    p = ngx_slab_alloc(cache->shpool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    size = ngx_min(size / NGX_SMTP_RELAY_CACHE_CHUNK, NGX_MAX_INT32_VALUE);

    for (n = 1; n <= size / 4; n <<= 1) { /* void */ }

    sh->mask = n - 1;
    sh->chunks = (ngx_smtp_relay_cache_chunk_t *) p;
    sh->nchunks = size - (2 * n * sizeof(uint32_t) - 1)
                         / NGX_SMTP_RELAY_CACHE_CHUNK - 1;
    sh->buckets = (uint32_t *) (sh->chunks + sh->nchunks);
    sh->accounts = sh->buckets + n;

    sh->stats.size = (uint64_t) sh->nchunks * NGX_SMTP_RELAY_CACHE_CHUNK;

    ngx_smtp_relay_cache_clear(sh);

    cache->sh = sh;

    return NGX_OK;
}


void
ngx_smtp_relay_cache_clear(ngx_smtp_relay_cache_sh_t *sh)
{
    ngx_memzero(sh->buckets, 2 * ((size_t) sh->mask + 1) * sizeof(uint32_t));

    sh->fresh = NGX_SMTP_RELAY_CACHE_NONE + 1;
    sh->free = NGX_SMTP_RELAY_CACHE_NONE;
    sh->nfree = 0;

    ngx_memzero(sh->newest, sizeof(sh->newest));
    ngx_memzero(sh->oldest, sizeof(sh->oldest));
}


ngx_smtp_relay_cache_entry_t *
ngx_smtp_relay_cache_find(ngx_smtp_relay_cache_sh_t *sh, u_char *key)
{
    uint32_t                       i;
    ngx_smtp_relay_cache_entry_t  *e;

    i = *ngx_smtp_relay_cache_bucket(sh, key);

    while (i != NGX_SMTP_RELAY_CACHE_NONE) {
        e = ngx_smtp_relay_cache_entry(sh, i);

        if (ngx_memcmp(e->key, key, NGX_SMTP_RELAY_CACHE_KEY_LEN) == 0) {
            return e;
        }

        i = e->next;
    }

    return NULL;
}


ngx_smtp_relay_cache_entry_t *
ngx_smtp_relay_cache_create(ngx_smtp_relay_cache_sh_t *sh, u_char *key,
    ngx_msec_t now)
{
    uint32_t                       i, *bucket;
    ngx_smtp_relay_cache_entry_t  *e;

    ngx_smtp_relay_cache_expire(sh, NGX_SMTP_RELAY_CACHE_OTHER, now);
    ngx_smtp_relay_cache_expire(sh, NGX_SMTP_RELAY_CACHE_OK, now);

    if (ngx_smtp_relay_cache_reserve(sh, 1, NULL, now) != NGX_OK) {
        return NULL;
    }

    i = ngx_smtp_relay_cache_alloc(sh);
    e = ngx_smtp_relay_cache_entry(sh, i);

    ngx_memzero(e, sizeof(ngx_smtp_relay_cache_entry_t));
    ngx_memcpy(e->key, key, NGX_SMTP_RELAY_CACHE_KEY_LEN);

    e->used = now;

    bucket = ngx_smtp_relay_cache_bucket(sh, key);

    e->next = *bucket;
    *bucket = i;

    ngx_smtp_relay_cache_enqueue(sh, e, NGX_SMTP_RELAY_CACHE_OTHER);

    return e;
}


static void
ngx_smtp_relay_cache_delete(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e)
{
    uint32_t  i, *p;

    (void) ngx_smtp_relay_cache_drop(sh, e);

    i = ngx_smtp_relay_cache_index(sh, e);
    p = ngx_smtp_relay_cache_bucket(sh, e->key);

    while (*p != i) {
        p = &ngx_smtp_relay_cache_entry(sh, *p)->next;
    }

    *p = e->next;

    ngx_smtp_relay_cache_dequeue(sh, e);
    ngx_smtp_relay_cache_free(sh, i);
}


ngx_uint_t
ngx_smtp_relay_cache_drop(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e)
{
    uint32_t  i, next;

    if (e->len == 0) {
        return 0;
    }

    for (i = e->data; i != NGX_SMTP_RELAY_CACHE_NONE; i = next) {
        next = sh->chunks[i].data.next;
        ngx_smtp_relay_cache_free(sh, i);
    }

    e->data = NGX_SMTP_RELAY_CACHE_NONE;
    e->len = 0;

    ngx_smtp_relay_cache_unlink_account(sh, e);

    if (e->queue != NGX_SMTP_RELAY_CACHE_OTHER) {
        ngx_smtp_relay_cache_dequeue(sh, e);
        ngx_smtp_relay_cache_enqueue(sh, e, NGX_SMTP_RELAY_CACHE_OTHER);
    }

    sh->stats.entries--;

    return 1;
}


ngx_int_t
ngx_smtp_relay_cache_write(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_smtp_relay_cache_op_t *op)
{
    u_char                        *p;
    size_t                         rest, size;
    uint32_t                       n, *next;
    ngx_smtp_relay_cache_chunk_t  *chunk;

    (void) ngx_smtp_relay_cache_drop(sh, e);

    size = sizeof(chunk->data.octets);
    n = (op->len + size - 1) / size;

    if (ngx_smtp_relay_cache_reserve(sh, n, e, op->now) != NGX_OK) {
        return NGX_DECLINED;
    }

    p = op->data;
    next = &e->data;

    for (rest = op->len; rest; rest -= size) {
        size = ngx_min(rest, sizeof(chunk->data.octets));

        *next = ngx_smtp_relay_cache_alloc(sh);

        chunk = &sh->chunks[*next];
        ngx_memcpy(chunk->data.octets, p, size);

        p += size;
        next = &chunk->data.next;
    }

    *next = NGX_SMTP_RELAY_CACHE_NONE;

    e->len = op->len;
    e->used = op->now;

    ngx_smtp_relay_cache_dequeue(sh, e);
    ngx_smtp_relay_cache_enqueue(sh, e, op->ok ? NGX_SMTP_RELAY_CACHE_OK
                                               : NGX_SMTP_RELAY_CACHE_OTHER);
    ngx_smtp_relay_cache_link_account(sh, e, op->account);

    sh->stats.stores++;
    sh->stats.entries++;

    return NGX_OK;
}


void
ngx_smtp_relay_cache_read(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_smtp_relay_cache_op_t *op)
{
    u_char                        *p;
    size_t                         rest, size;
    uint32_t                       i;
    ngx_smtp_relay_cache_chunk_t  *chunk;

    p = ngx_smtp_relay_cache_data;
    i = e->data;

    for (rest = e->len; rest; rest -= size) {
        chunk = &sh->chunks[i];
        size = ngx_min(rest, sizeof(chunk->data.octets));

        p = ngx_cpymem(p, chunk->data.octets, size);
        i = chunk->data.next;
    }

    op->data = ngx_smtp_relay_cache_data;
    op->len = e->len;

    /*
     * that would be the time to move it up in its queue, but its neighbors
     * are far away in memory: it is done when somebody looks for the oldest
     */

    e->used = op->now;
    e->again = 1;
}


uint64_t
ngx_smtp_relay_cache_used(ngx_smtp_relay_cache_sh_t *sh)
{
    return (uint64_t) (sh->nchunks - ngx_smtp_relay_cache_available(sh))
           * NGX_SMTP_RELAY_CACHE_CHUNK;
}


/* makes sure that n chunks can be had; keep is not evicted for it */

static ngx_int_t
ngx_smtp_relay_cache_reserve(ngx_smtp_relay_cache_sh_t *sh, uint32_t n,
    ngx_smtp_relay_cache_entry_t *keep, ngx_msec_t now)
{
    while (ngx_smtp_relay_cache_available(sh) < n) {

        if (ngx_smtp_relay_cache_evict(sh, NGX_SMTP_RELAY_CACHE_OTHER, keep,
                                       now)
            != NGX_OK
            && ngx_smtp_relay_cache_evict(sh, NGX_SMTP_RELAY_CACHE_OK, keep,
                                          now)
               != NGX_OK)
        {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


/*
 * The oldest that has not been used since it was looked at last; those that
 * have been move up.  If there are many of them, one of these it is.
 */

static ngx_int_t
ngx_smtp_relay_cache_evict(ngx_smtp_relay_cache_sh_t *sh, ngx_uint_t queue,
    ngx_smtp_relay_cache_entry_t *keep, ngx_msec_t now)
{
    uint32_t                       i;
    ngx_uint_t                     n;
    ngx_smtp_relay_cache_entry_t  *e, *found;

    found = NULL;
    i = sh->oldest[queue];

    for (n = 0; n < NGX_SMTP_RELAY_CACHE_SEARCH; n++) {

        if (i == NGX_SMTP_RELAY_CACHE_NONE) {
            break;
        }

        e = ngx_smtp_relay_cache_entry(sh, i);
        i = e->newer;

        if (e == keep || ngx_smtp_relay_cache_asked(e, now)) {
            continue;
        }

        found = e;

        if (!e->again) {
            break;
        }

        ngx_smtp_relay_cache_dequeue(sh, e);
        ngx_smtp_relay_cache_enqueue(sh, e, queue);
    }

    if (found == NULL) {
        return NGX_DECLINED;
    }

    if (found->len) {
        sh->stats.evictions++;
    }

    ngx_smtp_relay_cache_delete(sh, found);

    return NGX_OK;
}


/* the oldest of a queue goes when it is of no use to anybody */

static void
ngx_smtp_relay_cache_expire(ngx_smtp_relay_cache_sh_t *sh, ngx_uint_t queue,
    ngx_msec_t now)
{
    ngx_uint_t                     n;
    ngx_smtp_relay_cache_entry_t  *e;

    for (n = 0; n < 2; n++) {

        if (sh->oldest[queue] == NGX_SMTP_RELAY_CACHE_NONE) {
            return;
        }

        e = ngx_smtp_relay_cache_entry(sh, sh->oldest[queue]);

        if (ngx_smtp_relay_cache_before(now,
                                        e->used + NGX_SMTP_RELAY_CACHE_LINGER)
            || ngx_smtp_relay_cache_asked(e, now)
            || (e->len && ngx_smtp_relay_cache_before(now, e->stale)))
        {
            return;
        }

        ngx_smtp_relay_cache_delete(sh, e);
    }
}


/* a chunk, which must have been reserved */

static uint32_t
ngx_smtp_relay_cache_alloc(ngx_smtp_relay_cache_sh_t *sh)
{
    uint32_t  i;

    if (sh->nfree == 0) {
        return sh->fresh++;
    }

    i = sh->free;

    sh->free = sh->chunks[i].data.next;
    sh->nfree--;

    return i;
}


static void
ngx_smtp_relay_cache_free(ngx_smtp_relay_cache_sh_t *sh, uint32_t i)
{
    sh->chunks[i].data.next = sh->free;
    sh->free = i;
    sh->nfree++;
}


static void
ngx_smtp_relay_cache_enqueue(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_uint_t queue)
{
    uint32_t  i;

    i = ngx_smtp_relay_cache_index(sh, e);

    e->again = 0;
    e->queue = (u_char) queue;
    e->newer = NGX_SMTP_RELAY_CACHE_NONE;
    e->older = sh->newest[queue];

    if (e->older == NGX_SMTP_RELAY_CACHE_NONE) {
        sh->oldest[queue] = i;

    } else {
        ngx_smtp_relay_cache_entry(sh, e->older)->newer = i;
    }

    sh->newest[queue] = i;
}


static void
ngx_smtp_relay_cache_dequeue(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e)
{
    if (e->newer == NGX_SMTP_RELAY_CACHE_NONE) {
        sh->newest[e->queue] = e->older;

    } else {
        ngx_smtp_relay_cache_entry(sh, e->newer)->older = e->older;
    }

    if (e->older == NGX_SMTP_RELAY_CACHE_NONE) {
        sh->oldest[e->queue] = e->newer;

    } else {
        ngx_smtp_relay_cache_entry(sh, e->older)->newer = e->newer;
    }
}


static void
ngx_smtp_relay_cache_link_account(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, uint64_t account)
{
    uint32_t  i, *head;

    i = ngx_smtp_relay_cache_index(sh, e);
    head = &sh->accounts[account & sh->mask];

    e->account = account;
    e->account_prev = NGX_SMTP_RELAY_CACHE_NONE;
    e->account_next = *head;

    if (*head != NGX_SMTP_RELAY_CACHE_NONE) {
        ngx_smtp_relay_cache_entry(sh, *head)->account_prev = i;
    }

    *head = i;
}


static void
ngx_smtp_relay_cache_unlink_account(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e)
{
    if (e->account_prev == NGX_SMTP_RELAY_CACHE_NONE) {
        sh->accounts[e->account & sh->mask] = e->account_next;

    } else {
        ngx_smtp_relay_cache_entry(sh, e->account_prev)->account_next =
                                                             e->account_next;
    }

    if (e->account_next != NGX_SMTP_RELAY_CACHE_NONE) {
        ngx_smtp_relay_cache_entry(sh, e->account_next)->account_prev =
                                                             e->account_prev;
    }
}


/* a key is a keyed hash: any part of it will do */

static uint32_t *
ngx_smtp_relay_cache_bucket(ngx_smtp_relay_cache_sh_t *sh, u_char *key)
{
    uint32_t  hash;

    ngx_memcpy(&hash, key, sizeof(uint32_t));

    return &sh->buckets[hash & sh->mask];
}

