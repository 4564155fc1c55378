
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_stat_zone.h"


/* a worker's way to a block that it has found */

typedef struct {
    ngx_str_node_t                node;
    uint64_t                     *counters;
} ngx_smtp_relay_stat_found_t;


static size_t ngx_smtp_relay_stat_key(ngx_str_t *group, ngx_str_t *name,
    u_char *buf, size_t *group_len);
static void ngx_smtp_relay_stat_remember(
    ngx_smtp_relay_stat_main_conf_t *smcf, ngx_smtp_relay_stat_kind_e kind,
    ngx_smtp_relay_stat_entry_t *entry, uint64_t *counters);
static void ngx_smtp_relay_stat_recall(ngx_smtp_relay_stat_main_conf_t *smcf,
    ngx_smtp_relay_stat_kind_e kind);
static uint64_t *ngx_smtp_relay_stat_get(
    ngx_smtp_relay_stat_main_conf_t *smcf, ngx_smtp_relay_stat_kind_e kind,
    ngx_str_t *key, size_t group_len, uint32_t hash,
    ngx_smtp_relay_stat_entry_t **entry);
static ngx_smtp_relay_stat_entry_t *ngx_smtp_relay_stat_entry(
    ngx_smtp_relay_stat_main_conf_t *smcf, ngx_smtp_relay_stat_kind_e kind,
    ngx_str_t *key, size_t group_len, uint32_t hash);
static ngx_smtp_relay_stat_block_t *ngx_smtp_relay_stat_block(
    ngx_smtp_relay_stat_main_conf_t *smcf, ngx_smtp_relay_stat_kind_e kind,
    ngx_smtp_relay_stat_entry_t *entry);
static void ngx_smtp_relay_stat_settle(ngx_smtp_relay_stat_sh_t *sh,
    ngx_uint_t slot);


static ngx_str_t  ngx_smtp_relay_stat_other = ngx_string("other");
static ngx_str_t  ngx_smtp_relay_stat_none = ngx_null_string;

static size_t  ngx_smtp_relay_stat_sizes[] = {
    sizeof(ngx_smtp_relay_stat_server_t),
    sizeof(ngx_smtp_relay_stat_node_t)
};


ngx_uint_t
ngx_smtp_relay_stat_size(ngx_smtp_relay_stat_kind_e kind)
{
    return ngx_smtp_relay_stat_sizes[kind] / sizeof(uint64_t);
}


void
ngx_smtp_relay_stat_attach(ngx_smtp_relay_stat_main_conf_t *smcf)
{
    ngx_uint_t                 dead, kind;
    ngx_smtp_relay_stat_sh_t  *sh;

    if (smcf->zone == NULL || smcf->attached) {
        return;
    }

    smcf->attached = 1;

    sh = smcf->sh;

    ngx_shmtx_lock(&smcf->shpool->mutex);

    smcf->slot = ngx_smtp_relay_slot_take(sh->slots, sh->nslots, &dead);

    ngx_rbtree_sentinel_init(&smcf->sentinel);

    for (kind = 0; kind < NGX_SMTP_RELAY_STAT_KINDS; kind++) {
        ngx_rbtree_init(&smcf->found[kind], &smcf->sentinel,
                        ngx_str_rbtree_insert_value);
    }

    if (smcf->slot != NGX_SMTP_RELAY_NO_SLOT) {

        /* of whoever had it last, a process of this number perhaps */

        ngx_smtp_relay_stat_settle(sh, smcf->slot);

        for (kind = 0; kind < NGX_SMTP_RELAY_STAT_KINDS; kind++) {
            ngx_smtp_relay_stat_recall(smcf, kind);
        }
    }

    ngx_shmtx_unlock(&smcf->shpool->mutex);

    if (smcf->slot == NGX_SMTP_RELAY_NO_SLOT) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "no free slot in status zone \"%V\": this worker does "
                      "not count", &smcf->zone->shm.name);
        return;
    }

    /* what does not fit in later is counted here */

    for (kind = 0; kind < NGX_SMTP_RELAY_STAT_KINDS; kind++) {
        smcf->other[kind] = ngx_smtp_relay_stat_find(smcf, kind,
                                    (kind == NGX_SMTP_RELAY_STAT_NODE)
                                    ? &ngx_smtp_relay_stat_other
                                    : &ngx_smtp_relay_stat_none,
                                    &ngx_smtp_relay_stat_other);
    }
}


void
ngx_smtp_relay_stat_detach(ngx_smtp_relay_stat_main_conf_t *smcf)
{
    if (!smcf->attached || smcf->slot == NGX_SMTP_RELAY_NO_SLOT) {
        return;
    }

    ngx_shmtx_lock(&smcf->shpool->mutex);

    ngx_smtp_relay_stat_settle(smcf->sh, smcf->slot);
    ngx_smtp_relay_slot_give(&smcf->sh->slots[smcf->slot]);

    ngx_shmtx_unlock(&smcf->shpool->mutex);

    smcf->slot = NGX_SMTP_RELAY_NO_SLOT;
}


uint64_t *
ngx_smtp_relay_stat_find(ngx_smtp_relay_stat_main_conf_t *smcf,
    ngx_smtp_relay_stat_kind_e kind, ngx_str_t *group, ngx_str_t *name)
{
    size_t                        group_len;
    uint32_t                      hash;
    uint64_t                     *counters;
    ngx_str_t                     key;
    ngx_smtp_relay_stat_entry_t  *entry;
    ngx_smtp_relay_stat_found_t  *found;
    u_char                        buf[2 * NGX_SMTP_RELAY_STAT_NAME + 1];

    ngx_smtp_relay_stat_attach(smcf);

    if (smcf->zone == NULL || smcf->slot == NGX_SMTP_RELAY_NO_SLOT) {
        return NULL;
    }

    key.data = buf;
    key.len = ngx_smtp_relay_stat_key(group, name, buf, &group_len);
    hash = ngx_crc32_short(key.data, key.len);

    found = (ngx_smtp_relay_stat_found_t *)
                ngx_str_rbtree_lookup(&smcf->found[kind], &key, hash);

    if (found) {
        return found->counters;
    }

    if (smcf->sh->full && smcf->other[kind]) {
        return smcf->other[kind];
    }

    ngx_shmtx_lock(&smcf->shpool->mutex);

    counters = ngx_smtp_relay_stat_get(smcf, kind, &key, group_len, hash,
                                       &entry);

    ngx_shmtx_unlock(&smcf->shpool->mutex);

    if (counters == NULL) {
        return smcf->other[kind];
    }

    ngx_smtp_relay_stat_remember(smcf, kind, entry, counters);

    return counters;
}


/* for the next time, if there is memory for that */

static void
ngx_smtp_relay_stat_remember(ngx_smtp_relay_stat_main_conf_t *smcf,
    ngx_smtp_relay_stat_kind_e kind, ngx_smtp_relay_stat_entry_t *entry,
    uint64_t *counters)
{
    ngx_smtp_relay_stat_found_t  *found;

    found = ngx_palloc(ngx_cycle->pool, sizeof(ngx_smtp_relay_stat_found_t));
    if (found == NULL) {
        return;
    }

    found->node.str.len = entry->len;
    found->node.str.data = entry->data;
    found->node.node.key = entry->hash;
    found->counters = counters;

    ngx_rbtree_insert(&smcf->found[kind], &found->node.node);
}


/* what earlier owners of the slot have counted goes on, in a full zone too */

static void
ngx_smtp_relay_stat_recall(ngx_smtp_relay_stat_main_conf_t *smcf,
    ngx_smtp_relay_stat_kind_e kind)
{
    ngx_smtp_relay_stat_block_t  *block;
    ngx_smtp_relay_stat_entry_t  *entry;

    for (entry = smcf->sh->entries[kind]; entry; entry = entry->next) {
        for (block = entry->blocks; block; block = block->next) {

            if (block->slot == smcf->slot) {
                ngx_smtp_relay_stat_remember(smcf, kind, entry,
                                        ngx_smtp_relay_stat_counters(block));
                break;
            }
        }
    }
}


static size_t
ngx_smtp_relay_stat_key(ngx_str_t *group, ngx_str_t *name, u_char *buf,
    size_t *group_len)
{
    u_char  *p;

    *group_len = ngx_min(group->len, NGX_SMTP_RELAY_STAT_NAME);

    p = ngx_cpymem(buf, group->data, *group_len);
    *p++ = LF;
    p = ngx_cpymem(p, name->data,
                   ngx_min(name->len, NGX_SMTP_RELAY_STAT_NAME));

    return p - buf;
}


static uint64_t *
ngx_smtp_relay_stat_get(ngx_smtp_relay_stat_main_conf_t *smcf,
    ngx_smtp_relay_stat_kind_e kind, ngx_str_t *key, size_t group_len,
    uint32_t hash, ngx_smtp_relay_stat_entry_t **entry)
{
    ngx_smtp_relay_stat_block_t  *block;

    block = NULL;
    *entry = NULL;

    /* there is to be room for "other" of workers that are still to come */

    if (smcf->other[kind] == NULL || smcf->shpool->pfree >= smcf->sh->reserve)
    {
        *entry = ngx_smtp_relay_stat_entry(smcf, kind, key, group_len, hash);
    }

    if (*entry) {
        block = ngx_smtp_relay_stat_block(smcf, kind, *entry);
    }

    if (block == NULL) {

        if (!smcf->sh->full) {
            smcf->sh->full = 1;

            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "status zone \"%V\" is full: what is new is "
                          "counted as \"other\"", &smcf->zone->shm.name);
        }

        return NULL;
    }

    return ngx_smtp_relay_stat_counters(block);
}


static ngx_smtp_relay_stat_entry_t *
ngx_smtp_relay_stat_entry(ngx_smtp_relay_stat_main_conf_t *smcf,
    ngx_smtp_relay_stat_kind_e kind, ngx_str_t *key, size_t group_len,
    uint32_t hash)
{
    ngx_smtp_relay_stat_entry_t  *entry;

    for (entry = smcf->sh->entries[kind]; entry; entry = entry->next) {

        if (entry->hash == hash
            && entry->len == key->len
            && ngx_memcmp(entry->data, key->data, key->len) == 0)
        {
            return entry;
        }
    }

    entry = ngx_slab_alloc_locked(smcf->shpool,
                                  offsetof(ngx_smtp_relay_stat_entry_t, data)
                                  + key->len);
    if (entry == NULL) {
        return NULL;
    }

    entry->blocks = NULL;
    entry->hash = hash;
    entry->group_len = group_len;
    entry->len = key->len;
    ngx_memcpy(entry->data, key->data, key->len);

    entry->next = smcf->sh->entries[kind];
    smcf->sh->entries[kind] = entry;

    return entry;
}


static ngx_smtp_relay_stat_block_t *
ngx_smtp_relay_stat_block(ngx_smtp_relay_stat_main_conf_t *smcf,
    ngx_smtp_relay_stat_kind_e kind, ngx_smtp_relay_stat_entry_t *entry)
{
    ngx_smtp_relay_stat_block_t  *block;

    for (block = entry->blocks; block; block = block->next) {
        if (block->slot == smcf->slot) {
            return block;
        }
    }

    /* a power of two of at least 64 octets: lines of no other worker's */

    block = ngx_slab_calloc_locked(smcf->shpool,
                                   sizeof(ngx_smtp_relay_stat_block_t)
                                   + ngx_smtp_relay_stat_sizes[kind]);
    if (block == NULL) {
        return NULL;
    }

    block->slot = smcf->slot;
    block->next = entry->blocks;
    entry->blocks = block;

    return block;
}


void
ngx_smtp_relay_stat_sum(ngx_smtp_relay_stat_entry_t *entry,
    ngx_smtp_relay_stat_kind_e kind, uint64_t *sum)
{
    uint64_t                     *counters;
    ngx_uint_t                    i, n;
    ngx_smtp_relay_stat_block_t  *block;

    n = ngx_smtp_relay_stat_size(kind);

    for (block = entry->blocks; block; block = block->next) {
        counters = ngx_smtp_relay_stat_counters(block);

        for (i = 0; i < n; i++) {
            sum[i] += counters[i];
        }
    }
}


void
ngx_smtp_relay_stat_settle_dead(ngx_smtp_relay_stat_sh_t *sh)
{
    ngx_uint_t  i;

    for (i = 0; i < sh->nslots; i++) {
        if (sh->slots[i].pid && ngx_smtp_relay_slot_dead(&sh->slots[i])) {
            ngx_smtp_relay_stat_settle(sh, i);
            ngx_smtp_relay_slot_give(&sh->slots[i]);
        }
    }
}


/* nobody writes to the blocks of this slot now */

static void
ngx_smtp_relay_stat_settle(ngx_smtp_relay_stat_sh_t *sh, ngx_uint_t slot)
{
    ngx_smtp_relay_stat_node_t    *node;
    ngx_smtp_relay_stat_block_t   *block;
    ngx_smtp_relay_stat_entry_t   *entry;
    ngx_smtp_relay_stat_server_t  *server;

    for (entry = sh->entries[NGX_SMTP_RELAY_STAT_SERVER];
         entry;
         entry = entry->next)
    {
        for (block = entry->blocks; block; block = block->next) {

            if (block->slot == slot) {
                server = (void *) ngx_smtp_relay_stat_counters(block);

                server->ended[NGX_SMTP_RELAY_END_LOST] += server->open;
                server->open = 0;
            }
        }
    }

    for (entry = sh->entries[NGX_SMTP_RELAY_STAT_NODE];
         entry;
         entry = entry->next)
    {
        for (block = entry->blocks; block; block = block->next) {

            if (block->slot == slot) {
                node = (void *) ngx_smtp_relay_stat_counters(block);

                ngx_memzero(node->conns, sizeof(node->conns));
            }
        }
    }
}


void
ngx_smtp_relay_stat_group(ngx_stream_upstream_srv_conf_t *uscf, u_char *buf,
    ngx_str_t *group)
{
    if (uscf == NULL) {
        ngx_str_set(group, "dynamic");
        return;
    }

    if (uscf->port == 0 && (uscf->host.len == 0 || uscf->host.data[0] != '/'))
    {
        *group = uscf->host;
        return;
    }

    /* of a node in smtp_relay_pass itself */

    group->data = buf;

    if (uscf->port) {
        group->len = ngx_snprintf(buf, NGX_SMTP_RELAY_STAT_NAME, "%V:%ui",
                                  &uscf->host, (ngx_uint_t) uscf->port)
                     - buf;

    } else {
        group->len = ngx_snprintf(buf, NGX_SMTP_RELAY_STAT_NAME, "unix:%V",
                                  &uscf->host)
                     - buf;
    }
}
