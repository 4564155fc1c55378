
/* The directives smtp_relay_limit_…: zones of keys, and limits in them. */


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_conf.h"
#include "ngx_smtp_relay_zone.h"
#include "ngx_smtp_relay_limit.h"


typedef struct {
    ngx_str_t                       name;      /* of the directive */
    ngx_str_t                       zone;      /* of that of its zones */
} ngx_smtp_relay_limit_name_t;


static char *ngx_smtp_relay_limit_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_limit_zone_param(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_str_t *value, ngx_smtp_relay_limit_zone_t *zone);
static ngx_smtp_relay_limit_t *ngx_smtp_relay_limit_add(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_array_t *limits);
static char *ngx_smtp_relay_limit_conn(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_limit_rate(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static void *ngx_smtp_relay_limit_create_main_conf(ngx_conf_t *cf);
static void *ngx_smtp_relay_limit_create_srv_conf(ngx_conf_t *cf);
static char *ngx_smtp_relay_limit_merge_srv_conf(ngx_conf_t *cf,
    void *parent, void *child);
static ngx_int_t ngx_smtp_relay_limit_resolve(ngx_conf_t *cf,
    ngx_smtp_relay_limit_t *limit, ngx_uint_t kind);
static ngx_int_t ngx_smtp_relay_limit_check_rate(ngx_conf_t *cf,
    ngx_smtp_relay_limit_t *limit, ngx_uint_t kind);
static ngx_int_t ngx_libc_cdecl ngx_smtp_relay_limit_cmp(const void *one,
    const void *two);
static ngx_int_t ngx_smtp_relay_limit_init_process(ngx_cycle_t *cycle);
static void ngx_smtp_relay_limit_exit_process(ngx_cycle_t *cycle);


/* indexed by ngx_smtp_relay_limit_kind_e */

static ngx_smtp_relay_limit_name_t  ngx_smtp_relay_limit_names[] = {
    { ngx_string("smtp_relay_limit_conn"),
      ngx_string("smtp_relay_limit_conn_zone") },
    { ngx_string("smtp_relay_limit_msg"),
      ngx_string("smtp_relay_limit_msg_zone") },
    { ngx_string("smtp_relay_limit_rcpt"),
      ngx_string("smtp_relay_limit_rcpt_zone") }
};


static ngx_conf_enum_t  ngx_smtp_relay_limit_log_levels[] = {
    { ngx_string("info"), NGX_LOG_INFO },
    { ngx_string("notice"), NGX_LOG_NOTICE },
    { ngx_string("warn"), NGX_LOG_WARN },
    { ngx_string("error"), NGX_LOG_ERR },
    { ngx_null_string, 0 }
};


static ngx_uint_t  ngx_smtp_relay_limit_kind_conn = NGX_SMTP_RELAY_LIMIT_CONN;
static ngx_uint_t  ngx_smtp_relay_limit_kind_msg = NGX_SMTP_RELAY_LIMIT_MSG;
static ngx_uint_t  ngx_smtp_relay_limit_kind_rcpt = NGX_SMTP_RELAY_LIMIT_RCPT;


static ngx_command_t  ngx_smtp_relay_limit_commands[] = {

    { ngx_string("smtp_relay_limit_conn_zone"),
      NGX_STREAM_MAIN_CONF|NGX_CONF_TAKE23,
      ngx_smtp_relay_limit_zone,
      NGX_STREAM_MAIN_CONF_OFFSET,
      0,
      &ngx_smtp_relay_limit_kind_conn },

    { ngx_string("smtp_relay_limit_msg_zone"),
      NGX_STREAM_MAIN_CONF|NGX_CONF_TAKE3|NGX_CONF_TAKE4,
      ngx_smtp_relay_limit_zone,
      NGX_STREAM_MAIN_CONF_OFFSET,
      0,
      &ngx_smtp_relay_limit_kind_msg },

    { ngx_string("smtp_relay_limit_rcpt_zone"),
      NGX_STREAM_MAIN_CONF|NGX_CONF_TAKE3|NGX_CONF_TAKE4,
      ngx_smtp_relay_limit_zone,
      NGX_STREAM_MAIN_CONF_OFFSET,
      0,
      &ngx_smtp_relay_limit_kind_rcpt },

    { ngx_string("smtp_relay_limit_conn"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE2,
      ngx_smtp_relay_limit_conn,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_limit_msg"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE123,
      ngx_smtp_relay_limit_rate,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      &ngx_smtp_relay_limit_kind_msg },

    { ngx_string("smtp_relay_limit_rcpt"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE123,
      ngx_smtp_relay_limit_rate,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      &ngx_smtp_relay_limit_kind_rcpt },

    { ngx_string("smtp_relay_limit_dry_run"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_limit_srv_conf_t, dry_run),
      NULL },

    { ngx_string("smtp_relay_limit_log_level"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_conf_enum,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_limit_srv_conf_t, log_level),
      &ngx_smtp_relay_limit_log_levels },

      ngx_null_command
};


static ngx_stream_module_t  ngx_smtp_relay_limit_module_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */

    ngx_smtp_relay_limit_create_main_conf, /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_smtp_relay_limit_create_srv_conf,  /* create server configuration */
    ngx_smtp_relay_limit_merge_srv_conf    /* merge server configuration */
};


ngx_module_t  ngx_smtp_relay_limit_module = {
    NGX_MODULE_V1,
    &ngx_smtp_relay_limit_module_ctx,      /* module context */
    ngx_smtp_relay_limit_commands,         /* module directives */
    NGX_STREAM_MODULE,                     /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_smtp_relay_limit_init_process,     /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_smtp_relay_limit_exit_process,     /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* key zone=name:size [rate=…] [full=…] */

static char *
ngx_smtp_relay_limit_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_limit_main_conf_t *lmcf = conf;

    ngx_str_t                           *value;
    ngx_uint_t                           i;
    ngx_shm_zone_t                      *shm_zone;
    ngx_smtp_relay_limit_zone_t         *zone, **zonep;
    ngx_stream_compile_complex_value_t   ccv;

    value = cf->args->elts;
    shm_zone = NULL;

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_limit_zone_t));
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    zone->kind = *(ngx_uint_t *) cmd->post;
    zone->closed = NGX_CONF_UNSET_UINT;

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = &zone->key;

    if (ngx_stream_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (shm_zone == NULL
            && ngx_strncmp(value[i].data, "zone=", 5) == 0)
        {
            shm_zone = ngx_smtp_relay_zone_add(cf, cmd, &value[i], "zone=",
                                               &ngx_smtp_relay_limit_module);
            if (shm_zone == NULL) {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_smtp_relay_limit_zone_param(cf, cmd, &value[i], zone)
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (shm_zone == NULL
        || (zone->kind != NGX_SMTP_RELAY_LIMIT_CONN
            && zone->rate.period == 0))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have \"%s\" parameter", &cmd->name,
                           shm_zone ? "rate" : "zone");
        return NGX_CONF_ERROR;
    }

    if (zone->closed == NGX_CONF_UNSET_UINT) {
        zone->closed = 0;
    }

    zone->shm_zone = shm_zone;

    shm_zone->init = ngx_smtp_relay_limit_zone_init;
    shm_zone->data = zone;

    zonep = ngx_array_push(&lmcf->zones);
    if (zonep == NULL) {
        return NGX_CONF_ERROR;
    }

    *zonep = zone;

    return NGX_CONF_OK;
}


static char *
ngx_smtp_relay_limit_zone_param(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *value, ngx_smtp_relay_limit_zone_t *zone)
{
    ngx_str_t  text;

    if (zone->kind != NGX_SMTP_RELAY_LIMIT_CONN
        && zone->rate.period == 0
        && ngx_strncmp(value->data, "rate=", 5) == 0)
    {
        text.len = value->len - 5;
        text.data = value->data + 5;

        if (ngx_smtp_relay_plan_rate(&text, &zone->rate) == NGX_OK) {
            return NGX_CONF_OK;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid rate \"%V\", it must be "
                           "a number from 1 to %d with \"r/s\", \"r/m\", "
                           "\"r/h\" or \"r/d\"",
                           &cmd->name, &text, NGX_SMTP_RELAY_LIMIT_MAX);
        return NGX_CONF_ERROR;
    }

    if (zone->closed == NGX_CONF_UNSET_UINT) {

        if (ngx_strcmp(value->data, "full=open") == 0) {
            zone->closed = 0;
            return NGX_CONF_OK;
        }

        if (ngx_strcmp(value->data, "full=closed") == 0) {
            zone->closed = 1;
            return NGX_CONF_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"%V\" has an invalid parameter \"%V\"",
                       &cmd->name, value);

    return NGX_CONF_ERROR;
}


/* a limit whose zone is the first argument */

static ngx_smtp_relay_limit_t *
ngx_smtp_relay_limit_add(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_array_t *limits)
{
    ngx_str_t               *value;
    ngx_uint_t               i;
    ngx_shm_zone_t          *shm_zone;
    ngx_smtp_relay_limit_t  *limit;

    value = cf->args->elts;

    shm_zone = ngx_smtp_relay_zone_get(cf, cmd, &value[1],
                                       &ngx_smtp_relay_limit_module);
    if (shm_zone == NULL) {
        return NULL;
    }

    if (limits->elts == NULL
        && ngx_array_init(limits, cf->pool, 1, sizeof(ngx_smtp_relay_limit_t))
           != NGX_OK)
    {
        return NULL;
    }

    limit = limits->elts;

    for (i = 0; i < limits->nelts; i++) {

        if (limit[i].shm_zone == shm_zone) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" names zone \"%V\" twice",
                               &cmd->name, &shm_zone->shm.name);
            return NULL;
        }
    }

    if (limits->nelts == NGX_SMTP_RELAY_LIMITS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is given more than %d times",
                           &cmd->name, NGX_SMTP_RELAY_LIMITS);
        return NULL;
    }

    limit = ngx_array_push(limits);
    if (limit == NULL) {
        return NULL;
    }

    ngx_memzero(limit, sizeof(ngx_smtp_relay_limit_t));

    limit->shm_zone = shm_zone;
    limit->file = cf->conf_file->file.name.data;
    limit->line = cf->conf_file->line;

    return limit;
}


/* zone number */

static char *
ngx_smtp_relay_limit_conn(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_limit_srv_conf_t *lscf = conf;

    ngx_int_t                n;
    ngx_str_t               *value;
    ngx_smtp_relay_limit_t  *limit;

    value = cf->args->elts;

    limit = ngx_smtp_relay_limit_add(cf, cmd,
                                   &lscf->limits[NGX_SMTP_RELAY_LIMIT_CONN]);
    if (limit == NULL) {
        return NGX_CONF_ERROR;
    }

    n = ngx_atoi(value[2].data, value[2].len);

    if (n <= 0 || n > NGX_SMTP_RELAY_LIMIT_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid number of sessions \"%V\"",
                           &cmd->name, &value[2]);
        return NGX_CONF_ERROR;
    }

    limit->max = n;

    return NGX_CONF_OK;
}


/* zone [burst=number] [nodelay|delay=number] */

static char *
ngx_smtp_relay_limit_rate(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_limit_srv_conf_t *lscf = conf;

    ngx_int_t                n;
    ngx_str_t               *value;
    ngx_uint_t               i, kind, burst_set, delay_set;
    ngx_smtp_relay_limit_t  *limit;

    value = cf->args->elts;
    kind = *(ngx_uint_t *) cmd->post;

    limit = ngx_smtp_relay_limit_add(cf, cmd, &lscf->limits[kind]);
    if (limit == NULL) {
        return NGX_CONF_ERROR;
    }

    burst_set = 0;
    delay_set = 0;

    for (i = 2; i < cf->args->nelts; i++) {

        if (!burst_set && ngx_strncmp(value[i].data, "burst=", 6) == 0) {

            n = ngx_atoi(value[i].data + 6, value[i].len - 6);

            if (n >= 0 && n <= NGX_SMTP_RELAY_LIMIT_MAX) {
                limit->burst = n;
                burst_set = 1;
                continue;
            }

        } else if (!delay_set
                   && ngx_strncmp(value[i].data, "delay=", 6) == 0)
        {
            n = ngx_atoi(value[i].data + 6, value[i].len - 6);

            if (n >= 0 && n <= NGX_SMTP_RELAY_LIMIT_MAX) {
                limit->delay = n;
                delay_set = 1;
                continue;
            }

        } else if (!delay_set && ngx_strcmp(value[i].data, "nodelay") == 0) {
            limit->delay = NGX_SMTP_RELAY_LIMIT_MAX;
            delay_set = 1;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid parameter \"%V\"",
                           &cmd->name, &value[i]);
        return NGX_CONF_ERROR;
    }

    limit->shaped = (burst_set || delay_set);

    return NGX_CONF_OK;
}


static void *
ngx_smtp_relay_limit_create_main_conf(ngx_conf_t *cf)
{
    ngx_smtp_relay_limit_main_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_limit_main_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&conf->zones, cf->pool, 4,
                       sizeof(ngx_smtp_relay_limit_zone_t *))
        != NGX_OK)
    {
        return NULL;
    }

    return conf;
}


static void *
ngx_smtp_relay_limit_create_srv_conf(ngx_conf_t *cf)
{
    ngx_smtp_relay_limit_srv_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_limit_srv_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->limits[].elts = NULL;
     *     conf->delay_log_level = 0;
     */

    conf->log_level = NGX_CONF_UNSET_UINT;
    conf->dry_run = NGX_CONF_UNSET;

    return conf;
}


static char *
ngx_smtp_relay_limit_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_smtp_relay_limit_srv_conf_t *prev = parent;
    ngx_smtp_relay_limit_srv_conf_t *conf = child;

    ngx_uint_t               i, kind;
    ngx_smtp_relay_limit_t  *limit;

    for (kind = 0; kind < NGX_SMTP_RELAY_LIMIT_KINDS; kind++) {

        if (conf->limits[kind].elts == NULL) {
            conf->limits[kind] = prev->limits[kind];
        }

        limit = conf->limits[kind].elts;

        for (i = 0; i < conf->limits[kind].nelts; i++) {

            if (ngx_smtp_relay_limit_resolve(cf, &limit[i], kind) != NGX_OK) {
                return NGX_CONF_ERROR;
            }
        }

        /* in that order they are locked */

        if (limit) {
            ngx_sort(limit, conf->limits[kind].nelts,
                     sizeof(ngx_smtp_relay_limit_t), ngx_smtp_relay_limit_cmp);
        }
    }

    ngx_conf_merge_uint_value(conf->log_level, prev->log_level, NGX_LOG_ERR);
    ngx_conf_merge_value(conf->dry_run, prev->dry_run, 0);

    conf->delay_log_level = ngx_min(conf->log_level + 1, NGX_LOG_INFO);

    return NGX_CONF_OK;
}


/* the zone may stand further down than the limit */

static ngx_int_t
ngx_smtp_relay_limit_resolve(ngx_conf_t *cf, ngx_smtp_relay_limit_t *limit,
    ngx_uint_t kind)
{
    ngx_smtp_relay_limit_zone_t  *zone;

    if (limit->zone) {

        /* by another server that inherits it */

        return NGX_OK;
    }

    zone = limit->shm_zone->data;

    if (zone == NULL || zone->kind != kind) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%V\": there is no \"%V\" with zone \"%V\" in %s:%ui",
                      &ngx_smtp_relay_limit_names[kind].name,
                      &ngx_smtp_relay_limit_names[kind].zone,
                      &limit->shm_zone->shm.name, limit->file, limit->line);
        return NGX_ERROR;
    }

    limit->zone = zone;

    if (kind == NGX_SMTP_RELAY_LIMIT_CONN) {
        return NGX_OK;
    }

    return ngx_smtp_relay_limit_check_rate(cf, limit, kind);
}


static ngx_int_t
ngx_smtp_relay_limit_check_rate(ngx_conf_t *cf, ngx_smtp_relay_limit_t *limit,
    ngx_uint_t kind)
{
    uint64_t                longest;
    ngx_smtp_relay_rate_t  *rate;

    rate = &limit->zone->rate;

    if (ngx_smtp_relay_limit_is_quota(rate)) {

        if (limit->shaped) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"%V\": \"burst\", \"delay\" and \"nodelay\" do "
                          "not go with zone \"%V\", which has a rate by the "
                          "day, in %s:%ui",
                          &ngx_smtp_relay_limit_names[kind].name,
                          &limit->shm_zone->shm.name, limit->file,
                          limit->line);
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    if (limit->burst <= limit->delay) {
        return NGX_OK;
    }

    longest = (uint64_t) (limit->burst - limit->delay) * rate->period
              / rate->count;

    if (longest > NGX_SMTP_RELAY_LIMIT_PATIENCE) {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "\"%V\" with zone \"%V\" may hold back replies for %uL "
                      "seconds, clients give up after %d, in %s:%ui",
                      &ngx_smtp_relay_limit_names[kind].name,
                      &limit->shm_zone->shm.name, longest,
                      NGX_SMTP_RELAY_LIMIT_PATIENCE, limit->file,
                      limit->line);
    }

    return NGX_OK;
}


static ngx_int_t ngx_libc_cdecl
ngx_smtp_relay_limit_cmp(const void *one, const void *two)
{
    ngx_str_t  *first, *second;

    first = &((ngx_smtp_relay_limit_t *) one)->shm_zone->shm.name;
    second = &((ngx_smtp_relay_limit_t *) two)->shm_zone->shm.name;

    return ngx_memn2cmp(first->data, second->data, first->len, second->len);
}


static ngx_int_t
ngx_smtp_relay_limit_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                         i;
    ngx_smtp_relay_limit_zone_t      **zone;
    ngx_smtp_relay_limit_main_conf_t  *lmcf;

    lmcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                                 ngx_smtp_relay_limit_module);

    if (lmcf == NULL
        || (ngx_process != NGX_PROCESS_WORKER
            && ngx_process != NGX_PROCESS_SINGLE))
    {
        return NGX_OK;
    }

    zone = lmcf->zones.elts;

    for (i = 0; i < lmcf->zones.nelts; i++) {

        if (zone[i]->kind == NGX_SMTP_RELAY_LIMIT_CONN) {
            ngx_smtp_relay_limit_conn_start(zone[i]);
        }
    }

    return NGX_OK;
}


static void
ngx_smtp_relay_limit_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                         i;
    ngx_smtp_relay_limit_zone_t      **zone;
    ngx_smtp_relay_limit_main_conf_t  *lmcf;

    lmcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                                 ngx_smtp_relay_limit_module);

    if (lmcf == NULL) {
        return;
    }

    zone = lmcf->zones.elts;

    for (i = 0; i < lmcf->zones.nelts; i++) {

        if (zone[i]->kind == NGX_SMTP_RELAY_LIMIT_CONN) {
            ngx_smtp_relay_limit_conn_stop(zone[i]);
        }
    }
}


ngx_int_t
ngx_smtp_relay_limit_status(ngx_cycle_t *cycle, ngx_uint_t index,
    ngx_smtp_relay_limit_status_t *status)
{
    ngx_smtp_relay_limit_zone_t       *zone;
    ngx_smtp_relay_limit_main_conf_t  *lmcf;

    lmcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                                 ngx_smtp_relay_limit_module);

    if (lmcf == NULL || index >= lmcf->zones.nelts) {
        return NGX_DECLINED;
    }

    zone = ((ngx_smtp_relay_limit_zone_t **) lmcf->zones.elts)[index];

    status->name = zone->shm_zone->shm.name;
    status->kind = zone->kind;

    ngx_smtp_relay_limit_lock(zone);

    status->stat = zone->sh->stat;

    ngx_smtp_relay_limit_unlock(zone);

    return NGX_OK;
}
