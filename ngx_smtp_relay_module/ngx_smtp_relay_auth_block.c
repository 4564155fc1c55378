
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth_block.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_zone.h"
#include <openssl/sha.h>


/* what variables of a key take, mostly */

#define NGX_SMTP_RELAY_AUTH_BLOCK_POOL  4096


typedef struct {
    ngx_array_t                     zones; /* of …_auth_block_zone_t * */
    ngx_array_t                     rules; /* of …_auth_block_rule_t * */
} ngx_smtp_relay_auth_block_main_conf_t;


typedef struct {
    /* of …_auth_block_rule_t *; NULL: "off" */
    ngx_array_t                    *rules;
} ngx_smtp_relay_auth_block_srv_conf_t;


typedef ngx_int_t (*ngx_smtp_relay_auth_block_pt)(
    ngx_smtp_relay_session_t *ss, ngx_smtp_relay_auth_block_rule_t *rule,
    ngx_str_t *key);


static ngx_int_t ngx_smtp_relay_auth_block_each(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_auth_block_pt handler);
static ngx_int_t ngx_smtp_relay_auth_block_rules(ngx_smtp_relay_session_t *ss,
    ngx_array_t *rules, ngx_smtp_relay_scope_t *scope,
    ngx_smtp_relay_auth_block_pt handler);
static ngx_int_t ngx_smtp_relay_auth_block_eval(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_auth_block_rule_t *rule, ngx_smtp_relay_scope_t *scope,
    ngx_str_t *key);
static ngx_int_t ngx_smtp_relay_auth_block_refuse(
    ngx_smtp_relay_session_t *ss, ngx_smtp_relay_auth_block_rule_t *rule,
    ngx_str_t *key);
static ngx_int_t ngx_smtp_relay_auth_block_note(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_auth_block_rule_t *rule, ngx_str_t *key);
static u_char *ngx_smtp_relay_auth_block_show(u_char *p, ngx_str_t *key);
static u_char *ngx_smtp_relay_auth_block_time(u_char *p, ngx_msec_t ms);

static ngx_int_t ngx_smtp_relay_auth_block_postconfiguration(ngx_conf_t *cf);
static void *ngx_smtp_relay_auth_block_create_main_conf(ngx_conf_t *cf);
static void *ngx_smtp_relay_auth_block_create_srv_conf(ngx_conf_t *cf);
static char *ngx_smtp_relay_auth_block_merge_srv_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_smtp_relay_auth_block_set_zone(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_smtp_relay_auth_block_set_rule(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_smtp_relay_auth_block_add_rule(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_shm_zone_t *shm_zone, ngx_uint_t first);
static ngx_int_t ngx_smtp_relay_auth_block_parameter(ngx_str_t *arg,
    ngx_smtp_relay_auth_block_rule_t *rule);


static ngx_command_t  ngx_smtp_relay_auth_block_commands[] = {

    { ngx_string("smtp_relay_auth_block_zone"),
      NGX_STREAM_MAIN_CONF|NGX_CONF_TAKE2|NGX_CONF_TAKE5,
      ngx_smtp_relay_auth_block_set_zone,
      NGX_STREAM_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_auth_block"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1|NGX_CONF_TAKE4,
      ngx_smtp_relay_auth_block_set_rule,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_smtp_relay_auth_block_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_smtp_relay_auth_block_postconfiguration, /* postconfiguration */

    ngx_smtp_relay_auth_block_create_main_conf, /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_smtp_relay_auth_block_create_srv_conf, /* create server configuration */
    ngx_smtp_relay_auth_block_merge_srv_conf /* merge server configuration */
};


ngx_module_t  ngx_smtp_relay_auth_block_module = {
    NGX_MODULE_V1,
    &ngx_smtp_relay_auth_block_module_ctx, /* module context */
    ngx_smtp_relay_auth_block_commands,    /* module directives */
    NGX_STREAM_MODULE,                     /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_int_t
ngx_smtp_relay_auth_block_check(ngx_smtp_relay_session_t *ss)
{
    return ngx_smtp_relay_auth_block_each(ss,
                                          ngx_smtp_relay_auth_block_refuse);
}


ngx_int_t
ngx_smtp_relay_auth_block_fail(ngx_smtp_relay_session_t *ss)
{
    return ngx_smtp_relay_auth_block_each(ss, ngx_smtp_relay_auth_block_note);
}


/* the first that handler does not answer with NGX_OK is the last */

static ngx_int_t
ngx_smtp_relay_auth_block_each(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_auth_block_pt handler)
{
    ngx_int_t                              rc;
    ngx_pool_t                            *pool;
    ngx_smtp_relay_scope_t                 scope;
    ngx_smtp_relay_auth_block_srv_conf_t  *conf;

    conf = ngx_stream_get_module_srv_conf(ss->stream,
                                          ngx_smtp_relay_auth_block_module);

    if (conf->rules == NULL) {
        return NGX_OK;
    }

    /* keys change with each attempt: nothing of them may stay */

    pool = ngx_create_pool(NGX_SMTP_RELAY_AUTH_BLOCK_POOL,
                           ss->connection->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_smtp_relay_scope_init(&scope, ss, pool);

    if (rc == NGX_OK) {
        rc = ngx_smtp_relay_auth_block_rules(ss, conf->rules, &scope, handler);
    }

    ngx_destroy_pool(pool);

    return rc;
}


static ngx_int_t
ngx_smtp_relay_auth_block_rules(ngx_smtp_relay_session_t *ss,
    ngx_array_t *rules, ngx_smtp_relay_scope_t *scope,
    ngx_smtp_relay_auth_block_pt handler)
{
    ngx_int_t                           rc;
    ngx_str_t                           key;
    ngx_uint_t                          i;
    ngx_smtp_relay_auth_block_rule_t  **rule;

    rule = rules->elts;

    for (i = 0; i < rules->nelts; i++) {

        rc = ngx_smtp_relay_auth_block_eval(ss, rule[i], scope, &key);

        if (rc == NGX_OK) {
            rc = handler(ss, rule[i], &key);

            if (rc != NGX_OK) {
                return rc;
            }

        } else if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* NGX_DECLINED: there is no such key, or not yet */

static ngx_int_t
ngx_smtp_relay_auth_block_eval(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_auth_block_rule_t *rule, ngx_smtp_relay_scope_t *scope,
    ngx_str_t *key)
{
    size_t      len;
    u_char     *p;
    ngx_int_t   rc;

    /*
     * a key of address and user is not one of the address as long as the
     * user is not known
     */

    ss->user_missed = 0;

    ngx_smtp_relay_scope_enter(scope, ss->stream);

    rc = ngx_stream_complex_value(ss->stream, &rule->zone->key, key);

    ngx_smtp_relay_scope_leave(scope, ss->stream);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (key->len == 0 || ss->user_missed) {
        return NGX_DECLINED;
    }

    if (key->len <= NGX_SMTP_RELAY_AUTH_BLOCK_KEY) {
        return NGX_OK;
    }

    p = ngx_pnalloc(scope->pool, NGX_SMTP_RELAY_AUTH_BLOCK_KEY);
    if (p == NULL) {
        return NGX_ERROR;
    }

    len = NGX_SMTP_RELAY_AUTH_BLOCK_KEY - SHA256_DIGEST_LENGTH;

    SHA256(key->data, key->len, ngx_cpymem(p, key->data, len));

    key->len = NGX_SMTP_RELAY_AUTH_BLOCK_KEY;
    key->data = p;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_block_refuse(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_auth_block_rule_t *rule, ngx_str_t *key)
{
    if (!ngx_smtp_relay_auth_block_zone_check(rule->zone, key)) {
        return NGX_OK;
    }

    /* that it is blocked has been logged, once */

    ngx_log_debug1(NGX_LOG_DEBUG_STREAM, ss->connection->log, 0,
                   "smtp relay login blocked by zone \"%V\"",
                   &rule->shm_zone->shm.name);

    ss->limit = rule->shm_zone->shm.name;

    ngx_smtp_relay_session_end(ss, "421 4.7.0",
                               "Too many authentication failures, "
                               "try again later",
                               NGX_STREAM_FORBIDDEN);
    return NGX_DECLINED;
}


static ngx_int_t
ngx_smtp_relay_auth_block_note(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_auth_block_rule_t *rule, ngx_str_t *key)
{
    u_char  *last, *time, *window;
    u_char   text[2 * NGX_SMTP_RELAY_AUTH_BLOCK_KEY + 2];
    u_char   times[2 * NGX_TIME_T_LEN + sizeof("ms") * 2];

    if (!ngx_smtp_relay_auth_block_zone_fail(rule, key)) {
        return NGX_OK;
    }

    last = ngx_smtp_relay_auth_block_show(text, key);

    time = times;
    window = ngx_smtp_relay_auth_block_time(time, rule->time);
    *ngx_smtp_relay_auth_block_time(window, rule->window) = '\0';

    ngx_log_error(NGX_LOG_WARN, ss->connection->log, 0,
                  "logins are blocked for %*s after %ui failures within %s, "
                  "key \"%*s\" of zone \"%V\"",
                  (size_t) (window - time), time, rule->failures, window,
                  (size_t) (last - text), text, &rule->shm_zone->shm.name);

    return NGX_OK;
}


/* a binary address, say, in hexadecimal digits */

static u_char *
ngx_smtp_relay_auth_block_show(u_char *p, ngx_str_t *key)
{
    size_t  i, n;

    for (i = 0; i < key->len; i += n) {
        n = ngx_smtp_relay_printable(key->data + i, key->data + key->len);

        if (n == 0) {
            p = ngx_cpymem(p, "0x", 2);
            return ngx_hex_dump(p, key->data, key->len);
        }
    }

    return ngx_cpymem(p, key->data, key->len);
}


static u_char *
ngx_smtp_relay_auth_block_time(u_char *p, ngx_msec_t ms)
{
    if (ms % 1000) {
        return ngx_sprintf(p, "%Mms", ms);
    }

    return ngx_sprintf(p, "%Ms", ms / 1000);
}


ngx_int_t
ngx_smtp_relay_auth_block_status(ngx_cycle_t *cycle, ngx_uint_t index,
    ngx_smtp_relay_auth_block_status_t *status)
{
    ngx_smtp_relay_auth_block_zone_t       *zone, **zones;
    ngx_smtp_relay_auth_block_main_conf_t  *conf;

    conf = ngx_stream_cycle_get_module_main_conf(cycle,
                                            ngx_smtp_relay_auth_block_module);

    if (conf == NULL || index >= conf->zones.nelts) {
        return NGX_DECLINED;
    }

    zones = conf->zones.elts;
    zone = zones[index];

    status->name = zone->shm_zone->shm.name;

    ngx_shmtx_lock(&zone->shpool->mutex);

    status->stat = zone->sh->stat;

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_block_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                              i;
    ngx_smtp_relay_auth_block_zone_t       *zone;
    ngx_smtp_relay_auth_block_rule_t      **rule;
    ngx_smtp_relay_auth_block_main_conf_t  *conf;

    conf = ngx_stream_conf_get_module_main_conf(cf,
                                            ngx_smtp_relay_auth_block_module);
    rule = conf->rules.elts;

    for (i = 0; i < conf->rules.nelts; i++) {
        zone = rule[i]->shm_zone->data;

        if (zone == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"smtp_relay_auth_block\": zone \"%V\" is not "
                          "defined in %s:%ui",
                          &rule[i]->shm_zone->shm.name, rule[i]->file,
                          rule[i]->line);
            return NGX_ERROR;
        }

        rule[i]->zone = zone;
        zone->size = ngx_max(zone->size, rule[i]->failures);
        zone->window = ngx_max(zone->window, rule[i]->window);
    }

    return NGX_OK;
}


static void *
ngx_smtp_relay_auth_block_create_main_conf(ngx_conf_t *cf)
{
    ngx_smtp_relay_auth_block_main_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool,
                       sizeof(ngx_smtp_relay_auth_block_main_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&conf->zones, cf->pool, 2,
                       sizeof(ngx_smtp_relay_auth_block_zone_t *))
        != NGX_OK
        || ngx_array_init(&conf->rules, cf->pool, 2,
                          sizeof(ngx_smtp_relay_auth_block_rule_t *))
           != NGX_OK)
    {
        return NULL;
    }

    return conf;
}


static void *
ngx_smtp_relay_auth_block_create_srv_conf(ngx_conf_t *cf)
{
    ngx_smtp_relay_auth_block_srv_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_auth_block_srv_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->rules = NGX_CONF_UNSET_PTR;

    return conf;
}


static char *
ngx_smtp_relay_auth_block_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_smtp_relay_auth_block_srv_conf_t *prev = parent;
    ngx_smtp_relay_auth_block_srv_conf_t *conf = child;

    ngx_conf_merge_ptr_value(conf->rules, prev->rules, NULL);

    return NGX_CONF_OK;
}


static char *
ngx_smtp_relay_auth_block_set_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_smtp_relay_auth_block_main_conf_t *bmcf = conf;

    ngx_str_t                           *value;
    ngx_shm_zone_t                      *shm_zone;
    ngx_smtp_relay_auth_block_zone_t    *zone, **zp;
    ngx_stream_compile_complex_value_t   ccv;

    value = cf->args->elts;

    shm_zone = ngx_smtp_relay_zone_add(cf, cmd, &value[2], "zone=",
                                       &ngx_smtp_relay_auth_block_module);
    if (shm_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_auth_block_zone_t));
    zp = ngx_array_push(&bmcf->zones);

    if (zone == NULL || zp == NULL) {
        return NGX_CONF_ERROR;
    }

    *zp = zone;

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = &zone->key;

    if (ngx_stream_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    zone->shm_zone = shm_zone;

    shm_zone->init = ngx_smtp_relay_auth_block_zone_init;
    shm_zone->data = zone;

    /* a rule with it saves a line where there is only one */

    if (cf->args->nelts > 3) {
        return ngx_smtp_relay_auth_block_add_rule(cf, cmd, shm_zone, 3);
    }

    return NGX_CONF_OK;
}


static char *
ngx_smtp_relay_auth_block_set_rule(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_smtp_relay_auth_block_srv_conf_t *bscf = conf;

    ngx_str_t       *value;
    ngx_shm_zone_t  *shm_zone;

    value = cf->args->elts;

    if (cf->args->nelts == 2) {

        if (value[1].len != 3 || ngx_strncmp(value[1].data, "off", 3) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" has no \"failures=\", \"window=\" and "
                               "\"time=\"", &cmd->name);
            return NGX_CONF_ERROR;
        }

        if (bscf->rules != NGX_CONF_UNSET_PTR) {
            return "is duplicate";
        }

        bscf->rules = NULL;

        return NGX_CONF_OK;
    }

    shm_zone = ngx_smtp_relay_zone_get(cf, cmd, &value[1],
                                       &ngx_smtp_relay_auth_block_module);
    if (shm_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    return ngx_smtp_relay_auth_block_add_rule(cf, cmd, shm_zone, 2);
}


/* adds the rule that the arguments from first on are, to this level */

static char *
ngx_smtp_relay_auth_block_add_rule(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_shm_zone_t *shm_zone, ngx_uint_t first)
{
    ngx_str_t                               *value;
    ngx_uint_t                               i;
    ngx_smtp_relay_auth_block_rule_t        *rule, **rp;
    ngx_smtp_relay_auth_block_srv_conf_t    *bscf;
    ngx_smtp_relay_auth_block_main_conf_t   *bmcf;

    bscf = ngx_stream_conf_get_module_srv_conf(cf,
                                            ngx_smtp_relay_auth_block_module);
    bmcf = ngx_stream_conf_get_module_main_conf(cf,
                                            ngx_smtp_relay_auth_block_module);
    value = cf->args->elts;

    if (bscf->rules == NULL) {
        return "cannot be used with \"off\" on the same level";
    }

    if (bscf->rules == NGX_CONF_UNSET_PTR) {
        bscf->rules = ngx_array_create(cf->pool, 2,
                                  sizeof(ngx_smtp_relay_auth_block_rule_t *));
        if (bscf->rules == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    rp = bscf->rules->elts;

    for (i = 0; i < bscf->rules->nelts; i++) {
        if (rp[i]->shm_zone == shm_zone) {
            return "is duplicate";
        }
    }

    rule = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_auth_block_rule_t));
    if (rule == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = first; i < cf->args->nelts; i++) {

        if (ngx_smtp_relay_auth_block_parameter(&value[i], rule) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" has an invalid parameter \"%V\"",
                               &cmd->name, &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    rule->shm_zone = shm_zone;
    rule->file = cf->conf_file->file.name.data;
    rule->line = cf->conf_file->line;

    rp = ngx_array_push(bscf->rules);
    if (rp == NULL) {
        return NGX_CONF_ERROR;
    }

    *rp = rule;

    rp = ngx_array_push(&bmcf->rules);
    if (rp == NULL) {
        return NGX_CONF_ERROR;
    }

    *rp = rule;

    return NGX_CONF_OK;
}


/* there are three of them, each once: all of them are there */

static ngx_int_t
ngx_smtp_relay_auth_block_parameter(ngx_str_t *arg,
    ngx_smtp_relay_auth_block_rule_t *rule)
{
    ngx_int_t    n;
    ngx_str_t    text;
    ngx_msec_t  *time;

    if (arg->len > 9 && ngx_strncmp(arg->data, "failures=", 9) == 0) {

        n = ngx_atoi(arg->data + 9, arg->len - 9);

        if (n < 1 || n > NGX_SMTP_RELAY_AUTH_BLOCK_FAILURES || rule->failures)
        {
            return NGX_ERROR;
        }

        rule->failures = n;

        return NGX_OK;
    }

    if (arg->len > 7 && ngx_strncmp(arg->data, "window=", 7) == 0) {
        text.data = arg->data + 7;
        time = &rule->window;

    } else if (arg->len > 5 && ngx_strncmp(arg->data, "time=", 5) == 0) {
        text.data = arg->data + 5;
        time = &rule->time;

    } else {
        return NGX_ERROR;
    }

    text.len = arg->data + arg->len - text.data;

    n = ngx_parse_time(&text, 0);

    if (n == NGX_ERROR || n == 0 || *time) {
        return NGX_ERROR;
    }

    *time = n;

    return NGX_OK;
}
