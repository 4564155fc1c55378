
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_node_pool.h"


/* a power of two; nodes are few, identities may be many */

#define NGX_SMTP_RELAY_NODE_BUCKETS  256

/* how long one that is more than should be kept is kept, ms */

#define NGX_SMTP_RELAY_NODE_SURPLUS  500


struct ngx_smtp_relay_node_pool_s {
    ngx_queue_t                   idle;      /* the latest first */
    ngx_uint_t                    nidle;     /* without the surplus */
    ngx_queue_t                   buckets[NGX_SMTP_RELAY_NODE_BUCKETS];
};


static ngx_int_t ngx_smtp_relay_node_match(ngx_smtp_relay_node_t *node,
    ngx_peer_connection_t *peer, ngx_str_t *key);


ngx_smtp_relay_node_pool_t *
ngx_smtp_relay_node_pool_create(ngx_conf_t *cf)
{
    ngx_uint_t                   i;
    ngx_smtp_relay_node_pool_t  *pool;

    pool = ngx_palloc(cf->pool, sizeof(ngx_smtp_relay_node_pool_t));
    if (pool == NULL) {
        return NULL;
    }

    ngx_queue_init(&pool->idle);
    pool->nidle = 0;

    for (i = 0; i < NGX_SMTP_RELAY_NODE_BUCKETS; i++) {
        ngx_queue_init(&pool->buckets[i]);
    }

    return pool;
}


uint32_t
ngx_smtp_relay_node_hash(struct sockaddr *sockaddr, socklen_t socklen,
    struct sockaddr *local, socklen_t local_len, ngx_str_t *key)
{
    uint32_t  hash;

    ngx_crc32_init(hash);
    ngx_crc32_update(&hash, (u_char *) sockaddr, socklen);
    ngx_crc32_update(&hash, key->data, key->len);

    if (local) {
        ngx_crc32_update(&hash, (u_char *) local, local_len);
    }

    ngx_crc32_final(hash);

    return hash;
}


ngx_smtp_relay_node_t *
ngx_smtp_relay_node_pool_get(ngx_smtp_relay_node_pool_t *pool,
    ngx_peer_connection_t *peer, ngx_str_t *key)
{
    uint32_t                hash;
    ngx_queue_t            *q, *head;
    ngx_smtp_relay_node_t  *node;

    hash = ngx_smtp_relay_node_hash(peer->sockaddr, peer->socklen,
                                    peer->local ? peer->local->sockaddr : NULL,
                                    peer->local ? peer->local->socklen : 0,
                                    key);

    head = &pool->buckets[hash % NGX_SMTP_RELAY_NODE_BUCKETS];

    for (q = ngx_queue_head(head);
         q != ngx_queue_sentinel(head);
         q = ngx_queue_next(q))
    {
        node = ngx_queue_data(q, ngx_smtp_relay_node_t, bucket);

        if (node->hash == hash
            && ngx_smtp_relay_node_match(node, peer, key) == NGX_OK)
        {
            ngx_smtp_relay_node_pool_remove(node);
            return node;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_smtp_relay_node_match(ngx_smtp_relay_node_t *node,
    ngx_peer_connection_t *peer, ngx_str_t *key)
{
    if (node->key.len != key->len
        || ngx_memcmp(node->key.data, key->data, key->len) != 0)
    {
        return NGX_DECLINED;
    }

    if (ngx_memn2cmp((u_char *) node->sockaddr, (u_char *) peer->sockaddr,
                     node->socklen, peer->socklen)
        != 0)
    {
        return NGX_DECLINED;
    }

    if (peer->local == NULL) {
        return node->local ? NGX_DECLINED : NGX_OK;
    }

    if (node->local == NULL
        || ngx_memn2cmp((u_char *) node->local,
                        (u_char *) peer->local->sockaddr,
                        node->local_len, peer->local->socklen)
           != 0)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_node_pool_put(ngx_smtp_relay_node_t *node)
{
    ngx_queue_t                 *q;
    ngx_smtp_relay_node_t       *oldest;
    ngx_smtp_relay_node_pool_t  *pool;

    pool = node->conf->pool;

    if (node->conf->keepalive == 0) {
        return NGX_DECLINED;
    }

    if (pool->nidle >= node->conf->keepalive) {
        q = ngx_queue_last(&pool->idle);
        oldest = ngx_queue_data(q, ngx_smtp_relay_node_t, queue);

        /*
         * with more sessions than idle connections are kept, one that is
         * closed now would be opened again by the next message
         */

        ngx_queue_remove(&oldest->queue);
        ngx_queue_init(&oldest->queue);

        oldest->surplus = 1;
        pool->nidle--;

        ngx_add_timer(oldest->connection->read,
                      ngx_min(node->conf->keepalive_timeout,
                              NGX_SMTP_RELAY_NODE_SURPLUS));
    }

    ngx_queue_insert_head(&pool->idle, &node->queue);
    ngx_queue_insert_head(
        &pool->buckets[node->hash % NGX_SMTP_RELAY_NODE_BUCKETS],
        &node->bucket);

    pool->nidle++;

    return NGX_OK;
}


void
ngx_smtp_relay_node_pool_remove(ngx_smtp_relay_node_t *node)
{
    ngx_queue_remove(&node->queue);
    ngx_queue_remove(&node->bucket);

    if (node->surplus) {
        node->surplus = 0;
        return;
    }

    node->conf->pool->nidle--;
}
