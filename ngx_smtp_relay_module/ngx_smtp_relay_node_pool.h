
/* Idle node connections of a worker, found by what they lead to in O(1). */


#ifndef _NGX_SMTP_RELAY_NODE_POOL_H_INCLUDED_
#define _NGX_SMTP_RELAY_NODE_POOL_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_node.h"


/* Creates an empty pool for a server; NULL: no memory. */
ngx_smtp_relay_node_pool_t *ngx_smtp_relay_node_pool_create(ngx_conf_t *cf);

/* The hash of what makes a connection specific. */
uint32_t ngx_smtp_relay_node_hash(struct sockaddr *sockaddr,
    socklen_t socklen, struct sockaddr *local, socklen_t local_len,
    ngx_str_t *key);

/*
 * Takes an idle connection to peer of a profile with that key out of the
 * pool, the one used last.  NULL: there is none.
 */
ngx_smtp_relay_node_t *ngx_smtp_relay_node_pool_get(
    ngx_smtp_relay_node_pool_t *pool, ngx_peer_connection_t *peer,
    ngx_str_t *key);

/*
 * Puts an idle connection into the pool of its server; the one that has
 * been idle longest soon leaves a full pool.  NGX_OK, or NGX_DECLINED: the pool
 * takes none (keepalive 0).
 */
ngx_int_t ngx_smtp_relay_node_pool_put(ngx_smtp_relay_node_t *node);

/* Takes a connection that is in the pool out of it. */
void ngx_smtp_relay_node_pool_remove(ngx_smtp_relay_node_t *node);


#endif /* _NGX_SMTP_RELAY_NODE_POOL_H_INCLUDED_ */
