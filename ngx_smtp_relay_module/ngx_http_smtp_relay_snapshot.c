
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_stat_zone.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_http_smtp_relay_status.h"


static ngx_int_t ngx_http_smtp_relay_snapshot_zone(
    ngx_http_smtp_relay_snapshot_t *sn, ngx_pool_t *pool,
    ngx_smtp_relay_stat_main_conf_t *smcf);
static ngx_int_t ngx_http_smtp_relay_snapshot_workers(
    ngx_http_smtp_relay_snapshot_t *sn, ngx_pool_t *pool,
    ngx_smtp_relay_stat_sh_t *sh);
static ngx_int_t ngx_http_smtp_relay_snapshot_servers(
    ngx_http_smtp_relay_snapshot_t *sn, ngx_pool_t *pool,
    ngx_smtp_relay_stat_sh_t *sh);
static ngx_int_t ngx_http_smtp_relay_snapshot_nodes(
    ngx_http_smtp_relay_snapshot_t *sn, ngx_pool_t *pool,
    ngx_smtp_relay_stat_sh_t *sh);
static ngx_uint_t ngx_http_smtp_relay_snapshot_empty(uint64_t *counters,
    ngx_smtp_relay_stat_kind_e kind);
static ngx_int_t ngx_http_smtp_relay_snapshot_groups(
    ngx_http_smtp_relay_snapshot_t *sn, ngx_pool_t *pool);
static void ngx_http_smtp_relay_snapshot_merge(
    ngx_http_smtp_relay_snapshot_t *sn);
static ngx_uint_t ngx_http_smtp_relay_snapshot_used(
    ngx_stream_upstream_srv_conf_t *uscf);
static ngx_int_t ngx_http_smtp_relay_snapshot_peers(
    ngx_http_smtp_relay_snapshot_t *sn, ngx_pool_t *pool, ngx_str_t *group,
    ngx_stream_upstream_rr_peers_t *peers, ngx_uint_t nodes,
    ngx_uint_t backup);
static ngx_http_smtp_relay_node_t *ngx_http_smtp_relay_snapshot_node(
    ngx_http_smtp_relay_snapshot_t *sn, ngx_uint_t n, ngx_str_t *group,
    ngx_str_t *name);
static ngx_smtp_relay_state_name_e ngx_http_smtp_relay_snapshot_state(
    ngx_stream_upstream_rr_peer_t *peer);
static int ngx_libc_cdecl ngx_http_smtp_relay_cmp_servers(const void *one,
    const void *two);
static int ngx_libc_cdecl ngx_http_smtp_relay_cmp_nodes(const void *one,
    const void *two);
static ngx_int_t ngx_http_smtp_relay_cmp_names(ngx_str_t *one,
    ngx_str_t *two);
static ngx_int_t ngx_http_smtp_relay_copy(ngx_pool_t *pool, ngx_str_t *dst,
    u_char *data, size_t len);


ngx_int_t
ngx_http_smtp_relay_snapshot(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_pool_t *pool)
{
    ngx_int_t                         rc;
    ngx_time_t                       *tp;
    ngx_smtp_relay_stat_main_conf_t  *smcf;

    smcf = ngx_stream_cycle_get_module_main_conf(ngx_cycle,
                                                 ngx_smtp_relay_stat_module);

    ngx_memzero(sn, sizeof(ngx_http_smtp_relay_snapshot_t));

    tp = ngx_timeofday();

    sn->now = (uint64_t) tp->sec * 1000 + tp->msec;
    sn->start = smcf->sh->start;
    sn->zone = smcf->zone->shm.name;
    sn->zone_size = smcf->zone->shm.size;

    if (ngx_array_init(&sn->workers, pool, 8,
                       sizeof(ngx_http_smtp_relay_worker_t))
        != NGX_OK
        || ngx_array_init(&sn->servers, pool, 8, sizeof(void *)) != NGX_OK
        || ngx_array_init(&sn->nodes, pool, 64, sizeof(void *)) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_shmtx_lock(&smcf->shpool->mutex);

    rc = ngx_http_smtp_relay_snapshot_zone(sn, pool, smcf);

    ngx_shmtx_unlock(&smcf->shpool->mutex);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_qsort(sn->servers.elts, sn->servers.nelts, sizeof(void *),
              ngx_http_smtp_relay_cmp_servers);

    return ngx_http_smtp_relay_snapshot_groups(sn, pool);
}


static ngx_int_t
ngx_http_smtp_relay_snapshot_zone(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_pool_t *pool, ngx_smtp_relay_stat_main_conf_t *smcf)
{
    ngx_smtp_relay_stat_sh_t  *sh;

    sh = smcf->sh;

    ngx_smtp_relay_stat_settle_dead(sh);

    sn->zone_free = smcf->shpool->pfree * ngx_pagesize;
    sn->zone_full = sh->full;
    sn->generation = sh->generation;

    if (ngx_http_smtp_relay_snapshot_workers(sn, pool, sh) != NGX_OK
        || ngx_http_smtp_relay_snapshot_servers(sn, pool, sh) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_smtp_relay_snapshot_nodes(sn, pool, sh);
}


static ngx_int_t
ngx_http_smtp_relay_snapshot_workers(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_pool_t *pool, ngx_smtp_relay_stat_sh_t *sh)
{
    ngx_uint_t                     i;
    ngx_smtp_relay_stat_block_t   *block;
    ngx_smtp_relay_stat_entry_t   *entry;
    ngx_http_smtp_relay_worker_t  *worker;
    ngx_smtp_relay_stat_server_t  *stat;

    for (i = 0; i < sh->nslots; i++) {

        if (sh->slots[i].pid == 0) {
            continue;
        }

        worker = ngx_array_push(&sn->workers);
        if (worker == NULL) {
            return NGX_ERROR;
        }

        worker->slot = sh->slots[i];
        worker->number = i;
        worker->sessions = 0;

        for (entry = sh->entries[NGX_SMTP_RELAY_STAT_SERVER];
             entry;
             entry = entry->next)
        {
            for (block = entry->blocks; block; block = block->next) {

                if (block->slot == i) {
                    stat = (void *) ngx_smtp_relay_stat_counters(block);
                    worker->sessions += stat->open;
                }
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_smtp_relay_snapshot_servers(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_pool_t *pool, ngx_smtp_relay_stat_sh_t *sh)
{
    ngx_smtp_relay_stat_entry_t    *entry;
    ngx_http_smtp_relay_server_t  **p, *server;

    for (entry = sh->entries[NGX_SMTP_RELAY_STAT_SERVER];
         entry;
         entry = entry->next)
    {
        server = ngx_pcalloc(pool, sizeof(ngx_http_smtp_relay_server_t));
        if (server == NULL) {
            return NGX_ERROR;
        }

        /* entries never go */

        server->name.len = entry->len - 1;
        server->name.data = entry->data + 1;

        ngx_smtp_relay_stat_sum(entry, NGX_SMTP_RELAY_STAT_SERVER,
                                (uint64_t *) &server->stat);

        if (server->name.len == 5
            && ngx_strncmp(server->name.data, "other", 5) == 0
            && ngx_http_smtp_relay_snapshot_empty((uint64_t *) &server->stat,
                                                 NGX_SMTP_RELAY_STAT_SERVER))
        {
            continue;
        }

        p = ngx_array_push(&sn->servers);
        if (p == NULL) {
            return NGX_ERROR;
        }

        *p = server;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_smtp_relay_snapshot_nodes(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_pool_t *pool, ngx_smtp_relay_stat_sh_t *sh)
{
    ngx_http_smtp_relay_node_t   **p, *node;
    ngx_smtp_relay_stat_entry_t   *entry;

    for (entry = sh->entries[NGX_SMTP_RELAY_STAT_NODE];
         entry;
         entry = entry->next)
    {
        node = ngx_pcalloc(pool, sizeof(ngx_http_smtp_relay_node_t));
        if (node == NULL) {
            return NGX_ERROR;
        }

        node->group.len = entry->group_len;
        node->group.data = entry->data;
        node->name.len = entry->len - entry->group_len - 1;
        node->name.data = entry->data + entry->group_len + 1;
        node->state = NGX_SMTP_RELAY_STATE_UNKNOWN;

        ngx_smtp_relay_stat_sum(entry, NGX_SMTP_RELAY_STAT_NODE,
                                (uint64_t *) &node->stat);

        if (node->group.len == 5
            && ngx_strncmp(node->group.data, "other", 5) == 0
            && ngx_http_smtp_relay_snapshot_empty((uint64_t *) &node->stat,
                                                  NGX_SMTP_RELAY_STAT_NODE))
        {
            continue;
        }

        p = ngx_array_push(&sn->nodes);
        if (p == NULL) {
            return NGX_ERROR;
        }

        *p = node;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_smtp_relay_snapshot_empty(uint64_t *counters,
    ngx_smtp_relay_stat_kind_e kind)
{
    ngx_uint_t  i, n;

    n = ngx_smtp_relay_stat_size(kind);

    for (i = 0; i < n; i++) {
        if (counters[i]) {
            return 0;
        }
    }

    return 1;
}


/* what the balancers know of nodes, be they counted or not */

static ngx_int_t
ngx_http_smtp_relay_snapshot_groups(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_pool_t *pool)
{
    ngx_int_t                         rc;
    ngx_str_t                         group;
    ngx_uint_t                        i, n;
    ngx_stream_upstream_rr_peers_t   *peers;
    ngx_stream_upstream_srv_conf_t  **uscfp;
    ngx_stream_upstream_main_conf_t  *umcf;
    u_char                            buf[NGX_SMTP_RELAY_STAT_NAME];

    umcf = ngx_stream_cycle_get_module_main_conf(ngx_cycle,
                                                 ngx_stream_upstream_module);
    uscfp = umcf->upstreams.elts;

    n = sn->nodes.nelts;

    ngx_qsort(sn->nodes.elts, n, sizeof(void *),
              ngx_http_smtp_relay_cmp_nodes);

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        peers = uscfp[i]->peer.data;

        ngx_smtp_relay_stat_group(uscfp[i], buf, &group);

        if (peers == NULL
            || (!ngx_http_smtp_relay_snapshot_used(uscfp[i])
                && ngx_http_smtp_relay_snapshot_node(sn, n, &group, NULL)
                   == NULL))
        {
            continue;
        }

        if (ngx_http_smtp_relay_copy(pool, &group, group.data, group.len)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_stream_upstream_rr_peers_rlock(peers);

        rc = ngx_http_smtp_relay_snapshot_peers(sn, pool, &group, peers, n, 0);

        if (rc == NGX_OK && peers->next) {
            rc = ngx_http_smtp_relay_snapshot_peers(sn, pool, &group,
                                                    peers->next, n, 1);
        }

        ngx_stream_upstream_rr_peers_unlock(peers);

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ngx_qsort(sn->nodes.elts, sn->nodes.nelts, sizeof(void *),
              ngx_http_smtp_relay_cmp_nodes);

    ngx_http_smtp_relay_snapshot_merge(sn);

    return NGX_OK;
}


/* an address may stand in a group twice */

static void
ngx_http_smtp_relay_snapshot_merge(ngx_http_smtp_relay_snapshot_t *sn)
{
    ngx_uint_t                    i, n;
    ngx_http_smtp_relay_node_t  **nodes, *last;

    nodes = sn->nodes.elts;
    n = 0;

    for (i = 0; i < sn->nodes.nelts; i++) {

        last = n ? nodes[n - 1] : NULL;

        if (last
            && ngx_http_smtp_relay_cmp_nodes(&nodes[n - 1], &nodes[i]) == 0)
        {
            last->state = ngx_min(last->state, nodes[i]->state);
            last->weight += nodes[i]->weight;
            last->active += nodes[i]->active;
            continue;
        }

        nodes[n++] = nodes[i];
    }

    sn->nodes.nelts = n;
}


static ngx_uint_t
ngx_http_smtp_relay_snapshot_used(ngx_stream_upstream_srv_conf_t *uscf)
{
    ngx_uint_t                       i;
    ngx_stream_core_srv_conf_t     **cscfp;
    ngx_stream_core_main_conf_t     *cmcf;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    cmcf = ngx_stream_cycle_get_module_main_conf(ngx_cycle,
                                                 ngx_stream_core_module);
    cscfp = cmcf->servers.elts;

    for (i = 0; i < cmcf->servers.nelts; i++) {

        nscf = cscfp[i]->ctx->srv_conf[ngx_smtp_relay_node_module.ctx_index];

        if (nscf->upstream == uscf) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_smtp_relay_snapshot_peers(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_pool_t *pool, ngx_str_t *group, ngx_stream_upstream_rr_peers_t *peers,
    ngx_uint_t n, ngx_uint_t backup)
{
    ngx_str_t                       name, server;
    ngx_http_smtp_relay_node_t    **p, *node;
    ngx_smtp_relay_state_name_e     state;
    ngx_stream_upstream_rr_peer_t  *peer;

    for (peer = peers->peer; peer; peer = peer->next) {

        name = peer->name;
        name.len = ngx_min(name.len, NGX_SMTP_RELAY_STAT_NAME);

        node = ngx_http_smtp_relay_snapshot_node(sn, n, group, &name);

        if (node == NULL) {
            node = ngx_pcalloc(pool, sizeof(ngx_http_smtp_relay_node_t));
            p = ngx_array_push(&sn->nodes);

            if (node == NULL
                || p == NULL
                || ngx_http_smtp_relay_copy(pool, &node->name, name.data,
                                            name.len)
                   != NGX_OK)
            {
                return NGX_ERROR;
            }

            *p = node;

            node->group = *group;
            node->state = NGX_SMTP_RELAY_STATE_UNKNOWN;
        }

        state = ngx_http_smtp_relay_snapshot_state(peer);

        if (state < node->state) {
            node->state = state;
            node->backup = backup;
        }

        /* nginx leaves these empty for a node that stands for itself */

        node->weight += peer->weight ? peer->weight : 1;
        server = peer->server.len ? peer->server : peer->name;
        node->active += peer->conns;
#if (NGX_STREAM_UPSTREAM_ZONE)
        node->shared = (peers->shpool != NULL);
#endif

        if (node->server.len == 0
            && ngx_http_smtp_relay_copy(pool, &node->server, server.data,
                                        server.len)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* of the first n nodes, which are sorted; name NULL: any of the group */

static ngx_http_smtp_relay_node_t *
ngx_http_smtp_relay_snapshot_node(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_uint_t n, ngx_str_t *group, ngx_str_t *name)
{
    ngx_int_t                     rc;
    ngx_uint_t                    low, high, i;
    ngx_http_smtp_relay_node_t  **nodes;

    nodes = sn->nodes.elts;
    low = 0;
    high = n;

    while (low < high) {
        i = (low + high) / 2;

        rc = ngx_http_smtp_relay_cmp_names(group, &nodes[i]->group);

        if (rc == 0 && name) {
            rc = ngx_http_smtp_relay_cmp_names(name, &nodes[i]->name);
        }

        if (rc == 0) {
            return nodes[i];
        }

        if (rc < 0) {
            high = i;

        } else {
            low = i + 1;
        }
    }

    return NULL;
}


/* as the balancers of nginx decide whether they may choose it */

static ngx_smtp_relay_state_name_e
ngx_http_smtp_relay_snapshot_state(ngx_stream_upstream_rr_peer_t *peer)
{
    if (peer->down) {
        return NGX_SMTP_RELAY_STATE_DOWN;
    }

    if (peer->max_fails
        && peer->fails >= peer->max_fails
        && ngx_time() - peer->checked <= peer->fail_timeout)
    {
        return NGX_SMTP_RELAY_STATE_FAILED;
    }

    if (peer->max_conns && peer->conns >= peer->max_conns) {
        return NGX_SMTP_RELAY_STATE_BUSY;
    }

    return NGX_SMTP_RELAY_STATE_UP;
}


static int ngx_libc_cdecl
ngx_http_smtp_relay_cmp_servers(const void *one, const void *two)
{
    ngx_http_smtp_relay_server_t *const *first = one;
    ngx_http_smtp_relay_server_t *const *second = two;

    return (int) ngx_http_smtp_relay_cmp_names(&(*first)->name,
                                               &(*second)->name);
}


static int ngx_libc_cdecl
ngx_http_smtp_relay_cmp_nodes(const void *one, const void *two)
{
    ngx_http_smtp_relay_node_t *const *first = one;
    ngx_http_smtp_relay_node_t *const *second = two;

    ngx_int_t  rc;

    rc = ngx_http_smtp_relay_cmp_names(&(*first)->group, &(*second)->group);

    if (rc == 0) {
        rc = ngx_http_smtp_relay_cmp_names(&(*first)->name, &(*second)->name);
    }

    return (int) rc;
}


static ngx_int_t
ngx_http_smtp_relay_cmp_names(ngx_str_t *one, ngx_str_t *two)
{
    return ngx_memn2cmp(one->data, two->data, one->len, two->len);
}


static ngx_int_t
ngx_http_smtp_relay_copy(ngx_pool_t *pool, ngx_str_t *dst, u_char *data,
    size_t len)
{
    u_char  *p;

    p = ngx_pnalloc(pool, len ? len : 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, data, len);

    dst->data = p;
    dst->len = len;

    return NGX_OK;
}

#endif
