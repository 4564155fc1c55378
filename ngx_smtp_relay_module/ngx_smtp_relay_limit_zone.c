
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <openssl/sha.h>
#include "ngx_smtp_relay_limit_zone.h"


/* memory for each tree: with entries of 128 octets, four keys in one */

#define NGX_SMTP_RELAY_LIMIT_TREE   512

/* entries that are looked at when memory is needed */

#define NGX_SMTP_RELAY_LIMIT_TRIES  32

/* seconds that the clocks of two workers are not apart */

#define NGX_SMTP_RELAY_LIMIT_SKEW   60


static void ngx_smtp_relay_limit_zone_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static ngx_int_t ngx_smtp_relay_limit_zone_cmp(u_char *data, size_t len,
    ngx_rbtree_node_t *node);
static ngx_int_t ngx_smtp_relay_limit_zone_reuse(
    ngx_smtp_relay_limit_zone_t *zone, ngx_smtp_relay_limit_zone_t *old);
static ngx_int_t ngx_smtp_relay_limit_zone_create(
    ngx_smtp_relay_limit_zone_t *zone);
static void ngx_smtp_relay_limit_zone_expire(
    ngx_smtp_relay_limit_zone_t *zone);
static ngx_uint_t ngx_smtp_relay_limit_zone_evict(
    ngx_smtp_relay_limit_zone_t *zone);
static ngx_uint_t ngx_smtp_relay_limit_zone_free_holds(
    ngx_smtp_relay_limit_zone_t *zone);
static ngx_rbtree_node_t *ngx_smtp_relay_limit_zone_oldest(
    ngx_smtp_relay_limit_zone_t *zone);
static ngx_uint_t ngx_smtp_relay_limit_zone_idle(
    ngx_smtp_relay_limit_zone_t *zone, ngx_rbtree_node_t *node);
static ngx_uint_t ngx_smtp_relay_limit_zone_logged(uint32_t logged);


/*
 * There is a tree for each value of the low bits of a hash, so that it is
 * short; keys that somebody chose for their hashes still make one tree, and
 * not a list.
 */

ngx_rbtree_node_t *
ngx_smtp_relay_limit_zone_find(ngx_smtp_relay_limit_check_t *check)
{
    ngx_int_t                      rc;
    ngx_rbtree_node_t             *node, *sentinel;
    ngx_smtp_relay_limit_shctx_t  *sh;

    sh = check->zone->sh;

    node = sh->roots[check->hash & sh->mask];
    sentinel = &sh->sentinel;

    while (node != sentinel) {

        if (check->hash != node->key) {
            node = (check->hash < node->key) ? node->left : node->right;
            continue;
        }

        rc = ngx_smtp_relay_limit_zone_cmp(check->key.data, check->key.len,
                                           node);

        if (rc == 0) {
            return node;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


static ngx_int_t
ngx_smtp_relay_limit_zone_cmp(u_char *data, size_t len,
    ngx_rbtree_node_t *node)
{
    ngx_smtp_relay_limit_node_t  *ln;

    ln = ngx_smtp_relay_limit_node(node);

    return ngx_memn2cmp(data, ln->data, len, ln->len);
}


static void
ngx_smtp_relay_limit_zone_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    ngx_int_t                      rc;
    ngx_rbtree_node_t            **p;
    ngx_smtp_relay_limit_node_t   *ln;

    ln = ngx_smtp_relay_limit_node(node);

    for ( ;; ) {

        if (node->key != temp->key) {
            p = (node->key < temp->key) ? &temp->left : &temp->right;

        } else {
            rc = ngx_smtp_relay_limit_zone_cmp(ln->data, ln->len, temp);
            p = (rc < 0) ? &temp->left : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;

    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


ngx_rbtree_node_t *
ngx_smtp_relay_limit_zone_add(ngx_smtp_relay_limit_check_t *check)
{
    size_t                         size;
    ngx_rbtree_t                   tree;
    ngx_rbtree_node_t             *node, **root;
    ngx_smtp_relay_limit_node_t   *ln;
    ngx_smtp_relay_limit_zone_t   *zone;
    ngx_smtp_relay_limit_shctx_t  *sh;

    zone = check->zone;
    sh = zone->sh;

    ngx_smtp_relay_limit_zone_expire(zone);

    size = offsetof(ngx_rbtree_node_t, color)
           + offsetof(ngx_smtp_relay_limit_node_t, data) + check->key.len;

    node = ngx_smtp_relay_limit_zone_alloc(zone, size);

    if (node == NULL) {
        sh->stat.full++;
        return NULL;
    }

    ngx_memzero(node, size);

    ln = ngx_smtp_relay_limit_node(node);

    ln->len = (u_char) check->key.len;
    ln->delayed = (uint16_t) (ngx_time() - 1);
    ngx_memcpy(ln->data, check->key.data, check->key.len);

    ngx_queue_insert_head(&sh->queue, &ln->queue);

    /* pointers to functions in shared memory may be those of an old binary */

    root = &sh->roots[check->hash & sh->mask];

    tree.root = *root;
    tree.sentinel = &sh->sentinel;
    tree.insert = ngx_smtp_relay_limit_zone_insert;

    node->key = check->hash;
    ngx_rbtree_insert(&tree, node);

    *root = tree.root;

    sh->stat.entries++;

    return node;
}


void
ngx_smtp_relay_limit_zone_drop(ngx_smtp_relay_limit_zone_t *zone,
    ngx_rbtree_node_t *node)
{
    ngx_rbtree_t                   tree;
    ngx_rbtree_node_t            **root;
    ngx_smtp_relay_limit_shctx_t  *sh;

    sh = zone->sh;

    root = &sh->roots[node->key & sh->mask];

    tree.root = *root;
    tree.sentinel = &sh->sentinel;
    tree.insert = ngx_smtp_relay_limit_zone_insert;

    ngx_rbtree_delete(&tree, node);

    *root = tree.root;

    ngx_queue_remove(&ngx_smtp_relay_limit_node(node)->queue);
    ngx_slab_free_locked(zone->shpool, node);

    sh->stat.entries--;
}


void *
ngx_smtp_relay_limit_zone_alloc(ngx_smtp_relay_limit_zone_t *zone,
    size_t size)
{
    void        *p;
    ngx_uint_t   i;

    for (i = 0; i < NGX_SMTP_RELAY_LIMIT_TRIES; i++) {

        p = ngx_slab_alloc_locked(zone->shpool, size);

        if (p) {
            return p;
        }

        if (!ngx_smtp_relay_limit_zone_evict(zone)) {
            break;
        }
    }

    /* an entry's place suits another; that of sessions will be needed again */

    for (i = 0; i < NGX_SMTP_RELAY_LIMIT_TRIES; i++) {

        if (!ngx_smtp_relay_limit_zone_free_holds(zone)) {
            break;
        }

        p = ngx_slab_alloc_locked(zone->shpool, size);

        if (p) {
            return p;
        }
    }

    return NULL;
}


/*
 * With each new entry a few go that have become idle: it stays small.  What a
 * line was logged of in this second is remembered until the next.
 */

static void
ngx_smtp_relay_limit_zone_expire(ngx_smtp_relay_limit_zone_t *zone)
{
    ngx_uint_t          i;
    ngx_rbtree_node_t  *node;

    for (i = 0; i < 2; i++) {
        node = ngx_smtp_relay_limit_zone_oldest(zone);

        if (node == NULL
            || !ngx_smtp_relay_limit_zone_idle(zone, node)
            || ngx_smtp_relay_limit_zone_logged(
                                    ngx_smtp_relay_limit_node(node)->logged))
        {
            return;
        }

        ngx_smtp_relay_limit_zone_drop(zone, node);
    }
}


/*
 * Frees what has been idle longest.  0: there is nothing idle among what has
 * not been used for longest; other entries will be looked at the next time.
 */

static ngx_uint_t
ngx_smtp_relay_limit_zone_evict(ngx_smtp_relay_limit_zone_t *zone)
{
    ngx_uint_t          i;
    ngx_rbtree_node_t  *node;

    for (i = 0; i < NGX_SMTP_RELAY_LIMIT_TRIES; i++) {
        node = ngx_smtp_relay_limit_zone_oldest(zone);

        if (node == NULL) {
            return 0;
        }

        if (ngx_smtp_relay_limit_zone_idle(zone, node)) {
            ngx_smtp_relay_limit_zone_drop(zone, node);
            zone->sh->stat.evicted++;

            return 1;
        }

        ngx_smtp_relay_limit_zone_touch(zone, node);
    }

    return 0;
}


static ngx_uint_t
ngx_smtp_relay_limit_zone_free_holds(ngx_smtp_relay_limit_zone_t *zone)
{
    ngx_uint_t     i;
    ngx_queue_t   *q, *free;

    free = &zone->sh->free;

    for (i = 0; i < NGX_SMTP_RELAY_LIMIT_TRIES; i++) {

        if (ngx_queue_empty(free)) {
            break;
        }

        q = ngx_queue_last(free);
        ngx_queue_remove(q);

        ngx_slab_free_locked(zone->shpool,
                    ngx_queue_data(q, ngx_smtp_relay_limit_hold_t, queue));
    }

    return (i != 0);
}


static ngx_rbtree_node_t *
ngx_smtp_relay_limit_zone_oldest(ngx_smtp_relay_limit_zone_t *zone)
{
    ngx_queue_t                  *q;
    ngx_smtp_relay_limit_node_t  *ln;

    if (ngx_queue_empty(&zone->sh->queue)) {
        return NULL;
    }

    q = ngx_queue_last(&zone->sh->queue);
    ln = ngx_queue_data(q, ngx_smtp_relay_limit_node_t, queue);

    return (ngx_rbtree_node_t *)
               ((u_char *) ln - offsetof(ngx_rbtree_node_t, color));
}


/* an entry that a new one could take the place of, and nobody would know */

static ngx_uint_t
ngx_smtp_relay_limit_zone_idle(ngx_smtp_relay_limit_zone_t *zone,
    ngx_rbtree_node_t *node)
{
    ngx_smtp_relay_limit_node_t  *ln;

    ln = ngx_smtp_relay_limit_node(node);

    if (zone->kind == NGX_SMTP_RELAY_LIMIT_CONN) {
        return (ln->u.conn == 0);
    }

    return ngx_smtp_relay_limit_bucket_idle(&ln->u.bucket, ngx_current_msec,
                                            ngx_time());
}


void
ngx_smtp_relay_limit_zone_touch(ngx_smtp_relay_limit_zone_t *zone,
    ngx_rbtree_node_t *node)
{
    ngx_queue_t  *q, *queue;

    queue = &zone->sh->queue;
    q = &ngx_smtp_relay_limit_node(node)->queue;

    if (ngx_queue_head(queue) != q) {
        ngx_queue_remove(q);
        ngx_queue_insert_head(queue, q);
    }
}


void
ngx_smtp_relay_limit_zone_keep(ngx_smtp_relay_limit_zone_t *zone,
    ngx_rbtree_node_t *node)
{
    ngx_queue_t  *q;

    q = &ngx_smtp_relay_limit_node(node)->queue;

    ngx_queue_remove(q);
    ngx_queue_insert_head(&zone->sh->busy, q);
}


ngx_uint_t
ngx_smtp_relay_limit_zone_log(ngx_smtp_relay_limit_zone_t *zone,
    ngx_rbtree_node_t *node)
{
    uint32_t  *logged;

    logged = node ? &ngx_smtp_relay_limit_node(node)->logged
                  : &zone->sh->logged;

    if (ngx_smtp_relay_limit_zone_logged(*logged)) {
        return 0;
    }

    *logged = (uint32_t) ngx_time();

    return 1;
}


ngx_uint_t
ngx_smtp_relay_limit_zone_log_delay(ngx_rbtree_node_t *node)
{
    int16_t                       ago;
    ngx_smtp_relay_limit_node_t  *ln;

    ln = ngx_smtp_relay_limit_node(node);

    if (ngx_smtp_relay_limit_zone_logged(ln->logged)) {
        return 0;
    }

    /* low bits will do: that a line is missing after 18 hours is no loss */

    ago = (int16_t) ((uint16_t) ngx_time() - ln->delayed);

    if (ago == 0 || ago == -1) {
        return 0;
    }

    ln->delayed = (uint16_t) ngx_time();

    return 1;
}


/* in this second; another worker may have read the clock later */

static ngx_uint_t
ngx_smtp_relay_limit_zone_logged(uint32_t logged)
{
    uint32_t  now;

    now = (uint32_t) ngx_time();

    return (logged >= now && logged - now < NGX_SMTP_RELAY_LIMIT_SKEW);
}


ngx_int_t
ngx_smtp_relay_limit_zone_key(ngx_smtp_relay_limit_check_t *check,
    ngx_str_t *key, ngx_pool_t *pool)
{
    u_char  *p;

    check->key = *key;

    if (key->len > NGX_SMTP_RELAY_LIMIT_KEY) {

        p = ngx_pnalloc(pool, NGX_SMTP_RELAY_LIMIT_KEY);
        if (p == NULL) {
            return NGX_ERROR;
        }

        check->key.len = NGX_SMTP_RELAY_LIMIT_KEY;
        check->key.data = p;

        p = ngx_cpymem(p, key->data,
                       NGX_SMTP_RELAY_LIMIT_KEY - SHA256_DIGEST_LENGTH);

        SHA256(key->data, key->len, p);
    }

    check->hash = ngx_crc32_short(check->key.data, check->key.len);

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_limit_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_smtp_relay_limit_zone_t *old = data;

    ngx_smtp_relay_limit_zone_t  *zone;

    zone = shm_zone->data;

    if (old) {
        return ngx_smtp_relay_limit_zone_reuse(zone, old);
    }

    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (shm_zone->shm.exists) {
        zone->sh = zone->shpool->data;
        return NGX_OK;
    }

    return ngx_smtp_relay_limit_zone_create(zone);
}


static ngx_int_t
ngx_smtp_relay_limit_zone_reuse(ngx_smtp_relay_limit_zone_t *zone,
    ngx_smtp_relay_limit_zone_t *old)
{
    ngx_str_t       *key, *old_key;
    ngx_shm_zone_t  *shm_zone;

    shm_zone = zone->shm_zone;

    key = &zone->key.value;
    old_key = &old->key.value;

    if (zone->kind != old->kind) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "zone \"%V\" of a limit was used for another kind of "
                      "limit previously", &shm_zone->shm.name);
        return NGX_ERROR;
    }

    if (key->len != old_key->len
        || ngx_memcmp(key->data, old_key->data, key->len) != 0)
    {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "zone \"%V\" of a limit uses the \"%V\" key while "
                      "previously it used the \"%V\" key",
                      &shm_zone->shm.name, key, old_key);
        return NGX_ERROR;
    }

    zone->sh = old->sh;
    zone->shpool = old->shpool;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_limit_zone_create(ngx_smtp_relay_limit_zone_t *zone)
{
    ngx_uint_t                     i, n;
    ngx_slab_pool_t               *shpool;
    ngx_smtp_relay_limit_shctx_t  *sh;

    shpool = zone->shpool;

    /* that it is full is told by the zone itself, and not each time */

    shpool->log_nomem = 0;

    sh = ngx_slab_calloc(shpool, sizeof(ngx_smtp_relay_limit_shctx_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    for (n = 1; n * 2 * NGX_SMTP_RELAY_LIMIT_TREE <= zone->shm_zone->shm.size;)
    {
        n *= 2;
    }

    sh->roots = ngx_slab_alloc(shpool, n * sizeof(ngx_rbtree_node_t *));
    if (sh->roots == NULL) {
        return NGX_ERROR;
    }

    ngx_rbtree_sentinel_init(&sh->sentinel);

    for (i = 0; i < n; i++) {
        sh->roots[i] = &sh->sentinel;
    }

    sh->kind = zone->kind;
    sh->mask = n - 1;

    ngx_queue_init(&sh->queue);
    ngx_queue_init(&sh->busy);
    ngx_queue_init(&sh->workers);
    ngx_queue_init(&sh->orphans);
    ngx_queue_init(&sh->free);

    zone->sh = sh;
    shpool->data = sh;

    return NGX_OK;
}
