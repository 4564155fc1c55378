
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_cache.h"
#include "ngx_smtp_relay_auth_cache_key.h"
#include "ngx_smtp_relay_zone.h"


static ngx_int_t ngx_smtp_relay_auth_cache_init(ngx_shm_zone_t *shm_zone,
    void *data);
static ngx_int_t ngx_smtp_relay_auth_cache_time(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_str_t *arg, ngx_smtp_relay_auth_cache_conf_t *c);


char *
ngx_smtp_relay_auth_cache_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                        *value;
    ngx_shm_zone_t                   *zone, **zones;
    ngx_smtp_relay_cache_t           *cache;
    ngx_smtp_relay_auth_main_conf_t  *amcf = conf;

    value = cf->args->elts;

    zone = ngx_smtp_relay_zone_add(cf, cmd, &value[1], "zone=",
                                   &ngx_smtp_relay_auth_module);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    cache = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_cache_t));
    if (cache == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_rbtree_init(&cache->flights, &cache->sentinel,
                    ngx_rbtree_insert_value);

    zone->init = ngx_smtp_relay_auth_cache_init;
    zone->data = cache;

    zones = ngx_array_push(&amcf->zones);
    if (zones == NULL) {
        return NGX_CONF_ERROR;
    }

    *zones = zone;

    return (ngx_smtp_relay_cache_key_init(cf->log) == NGX_OK)
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static ngx_int_t
ngx_smtp_relay_auth_cache_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_smtp_relay_cache_t  *old = data;

    ngx_slab_pool_t         *shpool;
    ngx_smtp_relay_cache_t  *cache;

    cache = shm_zone->data;

    if (old) {
        cache->sh = old->sh;
        cache->shpool = old->shpool;
        return NGX_OK;
    }

    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;
    cache->shpool = shpool;

    if (shm_zone->shm.exists) {
        cache->sh = shpool->data;
        return NGX_OK;
    }

    if (ngx_smtp_relay_cache_format(cache) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "smtp_relay_auth_cache_zone \"%V\" is too small",
                      &shm_zone->shm.name);
        return NGX_ERROR;
    }

    shpool->data = cache->sh;

    return NGX_OK;
}


char *
ngx_smtp_relay_auth_cache(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_auth_srv_conf_t  *ascf = conf;

    ngx_str_t                          *value;
    ngx_uint_t                          i;
    ngx_smtp_relay_auth_main_conf_t    *amcf;
    ngx_smtp_relay_auth_cache_conf_t   *cache, **caches;

    if (ascf->cache != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    cache = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_auth_cache_conf_t));
    if (cache == NULL) {
        return NGX_CONF_ERROR;
    }

    ascf->cache = cache;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        return NGX_CONF_OK;
    }

    cache->valid = NGX_CONF_UNSET_MSEC;
    cache->invalid = NGX_CONF_UNSET_MSEC;
    cache->stale = NGX_CONF_UNSET_MSEC;
    cache->file = cf->conf_file->file.name.data;
    cache->line = cf->conf_file->line;

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_smtp_relay_auth_cache_time(cf, cmd, &value[i], cache)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (cache->valid == NGX_CONF_UNSET_MSEC) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have \"valid\" parameter",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    ngx_conf_init_msec_value(cache->invalid, 0);
    ngx_conf_init_msec_value(cache->stale, 0);

    cache->zone = ngx_smtp_relay_zone_get(cf, cmd, &value[1],
                                          &ngx_smtp_relay_auth_module);
    if (cache->zone == NULL) {
        return NGX_CONF_ERROR;
    }

    amcf = ngx_stream_conf_get_module_main_conf(cf,
                                                ngx_smtp_relay_auth_module);

    caches = ngx_array_push(&amcf->caches);
    if (caches == NULL) {
        return NGX_CONF_ERROR;
    }

    *caches = cache;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_cache_time(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *arg, ngx_smtp_relay_auth_cache_conf_t *c)
{
    ngx_int_t    time;
    ngx_str_t    text;
    ngx_msec_t  *msec;

    if (ngx_strncmp(arg->data, "valid=", 6) == 0) {
        text.data = arg->data + 6;
        msec = &c->valid;

    } else if (ngx_strncmp(arg->data, "invalid=", 8) == 0) {
        text.data = arg->data + 8;
        msec = &c->invalid;

    } else if (ngx_strncmp(arg->data, "stale=", 6) == 0) {
        text.data = arg->data + 6;
        msec = &c->stale;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid parameter \"%V\"",
                           &cmd->name, arg);
        return NGX_ERROR;
    }

    if (*msec != NGX_CONF_UNSET_MSEC) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has a duplicate parameter \"%V\"",
                           &cmd->name, arg);
        return NGX_ERROR;
    }

    text.len = arg->data + arg->len - text.data;

    time = ngx_parse_time(&text, 0);

    if (text.len == 0 || time == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid time \"%V\"",
                           &cmd->name, arg);
        return NGX_ERROR;
    }

    *msec = time;

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_auth_cache_check(ngx_conf_t *cf, ngx_array_t *caches)
{
    ngx_uint_t                          i;
    ngx_smtp_relay_auth_cache_conf_t  **cache;

    cache = caches->elts;

    for (i = 0; i < caches->nelts; i++) {

        if (cache[i]->zone->data == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"smtp_relay_auth_cache\" refers to unknown zone "
                          "\"%V\" in %s:%ui", &cache[i]->zone->shm.name,
                          cache[i]->file, cache[i]->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_array_t *
ngx_smtp_relay_auth_cache_zones(ngx_cycle_t *cycle)
{
    ngx_smtp_relay_auth_main_conf_t  *amcf;

    amcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                                 ngx_smtp_relay_auth_module);

    return amcf ? &amcf->zones : NULL;
}
