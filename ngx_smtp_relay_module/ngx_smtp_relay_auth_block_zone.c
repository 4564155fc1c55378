
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_auth_block_zone.h"


/* entries that are given up for one that is new, at most */

#define NGX_SMTP_RELAY_AUTH_BLOCK_EVICT  64


#define ngx_smtp_relay_auth_block_node(n)                                     \
    ((ngx_smtp_relay_auth_block_node_t *) &(n)->color)

#define ngx_smtp_relay_auth_block_rbtree(bn)                                  \
    ((ngx_rbtree_node_t *)                                                    \
        ((u_char *) (bn) - offsetof(ngx_rbtree_node_t, color)))

#define ngx_smtp_relay_auth_block_key(bn)                                     \
    ((u_char *) &(bn)->times[(bn)->size])

/* workers look at the clock at slightly different times */

#define ngx_smtp_relay_auth_block_expired(bn, now)                            \
    ((ngx_msec_int_t) ((now) - (bn)->expire) >= 0)


static void ngx_smtp_relay_auth_block_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static ngx_int_t ngx_smtp_relay_auth_block_cmp(ngx_str_t *key,
    ngx_smtp_relay_auth_block_node_t *bn);
static ngx_smtp_relay_auth_block_node_t *ngx_smtp_relay_auth_block_find(
    ngx_smtp_relay_auth_block_zone_t *zone, ngx_str_t *key, uint32_t hash);
static ngx_smtp_relay_auth_block_node_t *ngx_smtp_relay_auth_block_add(
    ngx_smtp_relay_auth_block_rule_t *rule, ngx_str_t *key, uint32_t hash);
static ngx_smtp_relay_auth_block_node_t *ngx_smtp_relay_auth_block_grow(
    ngx_smtp_relay_auth_block_rule_t *rule,
    ngx_smtp_relay_auth_block_node_t *bn, ngx_str_t *key, uint32_t hash);
static ngx_uint_t ngx_smtp_relay_auth_block_count(
    ngx_smtp_relay_auth_block_rule_t *rule,
    ngx_smtp_relay_auth_block_node_t *bn, ngx_msec_t now);
static void ngx_smtp_relay_auth_block_expire(
    ngx_smtp_relay_auth_block_zone_t *zone, ngx_msec_t now);
static void ngx_smtp_relay_auth_block_expire_queue(
    ngx_smtp_relay_auth_block_zone_t *zone, ngx_queue_t *queue,
    ngx_msec_t now);
static ngx_uint_t ngx_smtp_relay_auth_block_evict(
    ngx_smtp_relay_auth_block_zone_t *zone);
static void ngx_smtp_relay_auth_block_drop(
    ngx_smtp_relay_auth_block_zone_t *zone,
    ngx_smtp_relay_auth_block_node_t *bn);


ngx_int_t
ngx_smtp_relay_auth_block_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_smtp_relay_auth_block_zone_t *old = data;

    size_t                             len;
    ngx_smtp_relay_auth_block_zone_t  *zone;

    zone = shm_zone->data;

    if (old) {

        if (zone->key.value.len != old->key.value.len
            || ngx_strncmp(zone->key.value.data, old->key.value.data,
                           zone->key.value.len)
               != 0)
        {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                          "smtp_relay_auth_block_zone \"%V\" uses the \"%V\" "
                          "key while previously it used the \"%V\" key",
                          &shm_zone->shm.name, &zone->key.value,
                          &old->key.value);
            return NGX_ERROR;
        }

        zone->sh = old->sh;
        zone->shpool = old->shpool;

        return NGX_OK;
    }

    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (shm_zone->shm.exists) {
        zone->sh = zone->shpool->data;
        return NGX_OK;
    }

    zone->sh = ngx_slab_calloc(zone->shpool,
                               sizeof(ngx_smtp_relay_auth_block_shctx_t));
    if (zone->sh == NULL) {
        return NGX_ERROR;
    }

    zone->shpool->data = zone->sh;

    ngx_rbtree_init(&zone->sh->rbtree, &zone->sh->sentinel,
                    ngx_smtp_relay_auth_block_insert);

    ngx_queue_init(&zone->sh->failed);
    ngx_queue_init(&zone->sh->blocked);

    len = sizeof(" in smtp_relay_auth_block_zone \"\"")
          + shm_zone->shm.name.len;

    zone->shpool->log_ctx = ngx_slab_alloc(zone->shpool, len);
    if (zone->shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(zone->shpool->log_ctx,
                " in smtp_relay_auth_block_zone \"%V\"%Z",
                &shm_zone->shm.name);

    /* old entries make room */

    zone->shpool->log_nomem = 0;

    return NGX_OK;
}


static void
ngx_smtp_relay_auth_block_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    ngx_str_t                          key;
    ngx_rbtree_node_t                **p;
    ngx_smtp_relay_auth_block_node_t  *bn;

    bn = ngx_smtp_relay_auth_block_node(node);

    key.len = bn->len;
    key.data = ngx_smtp_relay_auth_block_key(bn);

    for ( ;; ) {

        if (node->key != temp->key) {
            p = (node->key < temp->key) ? &temp->left : &temp->right;

        } else {
            p = (ngx_smtp_relay_auth_block_cmp(&key,
                                        ngx_smtp_relay_auth_block_node(temp))
                 < 0)
                ? &temp->left : &temp->right;
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


static ngx_int_t
ngx_smtp_relay_auth_block_cmp(ngx_str_t *key,
    ngx_smtp_relay_auth_block_node_t *bn)
{
    return ngx_memn2cmp(key->data, ngx_smtp_relay_auth_block_key(bn),
                        key->len, bn->len);
}


ngx_uint_t
ngx_smtp_relay_auth_block_zone_check(ngx_smtp_relay_auth_block_zone_t *zone,
    ngx_str_t *key)
{
    uint32_t                           hash;
    ngx_uint_t                         blocked;
    ngx_smtp_relay_auth_block_node_t  *bn;

    hash = ngx_crc32_short(key->data, key->len);

    ngx_shmtx_lock(&zone->shpool->mutex);

    bn = ngx_smtp_relay_auth_block_find(zone, key, hash);

    blocked = (bn && bn->blocked
               && !ngx_smtp_relay_auth_block_expired(bn, ngx_current_msec));

    zone->sh->stat.refused += blocked;

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return blocked;
}


ngx_uint_t
ngx_smtp_relay_auth_block_zone_fail(ngx_smtp_relay_auth_block_rule_t *rule,
    ngx_str_t *key)
{
    uint32_t                           hash;
    ngx_msec_t                         now;
    ngx_uint_t                         blocked;
    ngx_smtp_relay_auth_block_node_t  *bn;
    ngx_smtp_relay_auth_block_zone_t  *zone;

    blocked = 0;

    now = ngx_current_msec;
    zone = rule->zone;
    hash = ngx_crc32_short(key->data, key->len);

    ngx_shmtx_lock(&zone->shpool->mutex);

    zone->sh->stat.failures++;

    bn = ngx_smtp_relay_auth_block_find(zone, key, hash);

    if (bn == NULL) {
        ngx_smtp_relay_auth_block_expire(zone, now);
        bn = ngx_smtp_relay_auth_block_add(rule, key, hash);

    } else if (bn->size < rule->failures && !bn->blocked) {
        bn = ngx_smtp_relay_auth_block_grow(rule, bn, key, hash);
    }

    if (bn == NULL) {
        zone->sh->stat.full++;

    } else {
        blocked = ngx_smtp_relay_auth_block_count(rule, bn, now);
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return blocked;
}


static ngx_smtp_relay_auth_block_node_t *
ngx_smtp_relay_auth_block_find(ngx_smtp_relay_auth_block_zone_t *zone,
    ngx_str_t *key, uint32_t hash)
{
    ngx_int_t                          rc;
    ngx_rbtree_node_t                 *node, *sentinel;
    ngx_smtp_relay_auth_block_node_t  *bn;

    node = zone->sh->rbtree.root;
    sentinel = zone->sh->rbtree.sentinel;

    while (node != sentinel) {

        if (hash != node->key) {
            node = (hash < node->key) ? node->left : node->right;
            continue;
        }

        bn = ngx_smtp_relay_auth_block_node(node);
        rc = ngx_smtp_relay_auth_block_cmp(key, bn);

        if (rc == 0) {
            return bn;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


static ngx_smtp_relay_auth_block_node_t *
ngx_smtp_relay_auth_block_add(ngx_smtp_relay_auth_block_rule_t *rule,
    ngx_str_t *key, uint32_t hash)
{
    size_t                             len;
    ngx_uint_t                         n, size;
    ngx_rbtree_node_t                 *node;
    ngx_smtp_relay_auth_block_node_t  *bn;
    ngx_smtp_relay_auth_block_zone_t  *zone;

    zone = rule->zone;

    /* a rule of another server may need more times, for longer */

    size = ngx_max(zone->size, rule->failures);

    len = offsetof(ngx_rbtree_node_t, color)
          + offsetof(ngx_smtp_relay_auth_block_node_t, times)
          + size * sizeof(ngx_msec_t)
          + key->len;

    for (n = 0; /* void */ ; n++) {
        node = ngx_slab_alloc_locked(zone->shpool, len);

        if (node) {
            break;
        }

        if (n == NGX_SMTP_RELAY_AUTH_BLOCK_EVICT
            || !ngx_smtp_relay_auth_block_evict(zone))
        {
            return NULL;
        }
    }

    bn = ngx_smtp_relay_auth_block_node(node);

    bn->len = (u_char) key->len;
    bn->size = (u_char) size;
    bn->count = 0;
    bn->next = 0;
    bn->blocked = 0;
    bn->expire = ngx_current_msec;

    ngx_memcpy(ngx_smtp_relay_auth_block_key(bn), key->data, key->len);

    node->key = hash;

    ngx_rbtree_insert(&zone->sh->rbtree, node);
    ngx_queue_insert_head(&zone->sh->failed, &bn->queue);

    zone->sh->stat.entries++;

    return bn;
}


/* a rule has come that needs more times than were thought of */

static ngx_smtp_relay_auth_block_node_t *
ngx_smtp_relay_auth_block_grow(ngx_smtp_relay_auth_block_rule_t *rule,
    ngx_smtp_relay_auth_block_node_t *bn, ngx_str_t *key, uint32_t hash)
{
    ngx_uint_t  i, n;
    ngx_msec_t  times[NGX_SMTP_RELAY_AUTH_BLOCK_FAILURES];

    n = bn->count;

    for (i = 0; i < n; i++) {
        times[i] = bn->times[(bn->next + bn->size - n + i) % bn->size];
    }

    ngx_smtp_relay_auth_block_drop(rule->zone, bn);

    bn = ngx_smtp_relay_auth_block_add(rule, key, hash);

    if (bn) {
        ngx_memcpy(bn->times, times, n * sizeof(ngx_msec_t));

        bn->count = (u_char) n;
        bn->next = (u_char) n;
    }

    return bn;
}


static ngx_uint_t
ngx_smtp_relay_auth_block_count(ngx_smtp_relay_auth_block_rule_t *rule,
    ngx_smtp_relay_auth_block_node_t *bn, ngx_msec_t now)
{
    ngx_msec_t                          first, expire;
    ngx_uint_t                          n;
    ngx_smtp_relay_auth_block_shctx_t  *sh;

    sh = rule->zone->sh;

    if (bn->blocked) {

        if (!ngx_smtp_relay_auth_block_expired(bn, now)) {
            return 0;
        }

        /* that is over and done with */

        bn->blocked = 0;
        bn->count = 0;
        bn->next = 0;
        bn->expire = now;
    }

    bn->times[bn->next] = now;
    bn->next = (u_char) ((bn->next + 1) % bn->size);

    if (bn->count < bn->size) {
        bn->count++;
    }

    ngx_queue_remove(&bn->queue);

    n = rule->failures;

    if (bn->count >= n) {
        first = bn->times[(bn->next + bn->size - n) % bn->size];

        if ((ngx_msec_int_t) (now - first) <= (ngx_msec_int_t) rule->window) {
            bn->blocked = 1;
            bn->expire = now + rule->time;

            ngx_queue_insert_head(&sh->blocked, &bn->queue);

            sh->stat.blocked++;

            return 1;
        }
    }

    expire = now + ngx_max(rule->zone->window, rule->window);

    if ((ngx_msec_int_t) (expire - bn->expire) > 0) {
        bn->expire = expire;
    }

    ngx_queue_insert_head(&sh->failed, &bn->queue);

    return 0;
}


/* a few at a time, so that nobody has to wait for all of them */

static void
ngx_smtp_relay_auth_block_expire(ngx_smtp_relay_auth_block_zone_t *zone,
    ngx_msec_t now)
{
    ngx_smtp_relay_auth_block_expire_queue(zone, &zone->sh->failed, now);
    ngx_smtp_relay_auth_block_expire_queue(zone, &zone->sh->blocked, now);
}


static void
ngx_smtp_relay_auth_block_expire_queue(ngx_smtp_relay_auth_block_zone_t *zone,
    ngx_queue_t *queue, ngx_msec_t now)
{
    ngx_uint_t                         n;
    ngx_smtp_relay_auth_block_node_t  *bn;

    for (n = 0; n < 2 && !ngx_queue_empty(queue); n++) {

        bn = ngx_queue_data(ngx_queue_last(queue),
                            ngx_smtp_relay_auth_block_node_t, queue);

        if (!ngx_smtp_relay_auth_block_expired(bn, now)) {
            return;
        }

        ngx_smtp_relay_auth_block_drop(zone, bn);
    }
}


static ngx_uint_t
ngx_smtp_relay_auth_block_evict(ngx_smtp_relay_auth_block_zone_t *zone)
{
    ngx_queue_t                        *q;
    ngx_smtp_relay_auth_block_shctx_t  *sh;

    sh = zone->sh;

    if (!ngx_queue_empty(&sh->failed)) {
        q = ngx_queue_last(&sh->failed);

    } else if (!ngx_queue_empty(&sh->blocked)) {
        q = ngx_queue_last(&sh->blocked);

    } else {
        return 0;
    }

    sh->stat.evicted++;

    ngx_smtp_relay_auth_block_drop(zone,
                                   ngx_queue_data(q,
                                        ngx_smtp_relay_auth_block_node_t,
                                        queue));
    return 1;
}


static void
ngx_smtp_relay_auth_block_drop(ngx_smtp_relay_auth_block_zone_t *zone,
    ngx_smtp_relay_auth_block_node_t *bn)
{
    ngx_rbtree_node_t  *node;

    node = ngx_smtp_relay_auth_block_rbtree(bn);

    ngx_queue_remove(&bn->queue);
    ngx_rbtree_delete(&zone->sh->rbtree, node);
    ngx_slab_free_locked(zone->shpool, node);

    zone->sh->stat.entries--;
}
