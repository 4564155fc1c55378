
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_conf.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_cache.h"
#include "ngx_smtp_relay_auth_file.h"
#include "ngx_smtp_relay_auth_methods.h"
#include "ngx_smtp_relay_http_peer.h"
#include "ngx_smtp_relay_node.h"


#if (NGX_SMTP_RELAY_HTTP)
static ngx_int_t ngx_smtp_relay_auth_postconfiguration(ngx_conf_t *cf);
#endif
static void *ngx_smtp_relay_auth_create_main_conf(ngx_conf_t *cf);
static void *ngx_smtp_relay_auth_create_srv_conf(ngx_conf_t *cf);
static char *ngx_smtp_relay_auth_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_smtp_relay_auth_merge_service(ngx_conf_t *cf,
    ngx_smtp_relay_auth_srv_conf_t *prev,
    ngx_smtp_relay_auth_srv_conf_t *conf);
static char *ngx_smtp_relay_auth(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_auth_set_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_auth_set_header(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);


/* what makes a request a request of ours is not set by configuration */

static ngx_str_t  ngx_smtp_relay_auth_reserved[] = {
    ngx_string("Host"),
    ngx_string("Connection"),
    ngx_string("Content-Length"),
    ngx_string("Transfer-Encoding"),
    ngx_string("Expect"),
    ngx_string("Upgrade"),
    ngx_string("TE"),
    ngx_string("Trailer"),
    ngx_null_string
};


static ngx_command_t  ngx_smtp_relay_auth_commands[] = {

    { ngx_string("smtp_relay_auth"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_auth,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_auth_file"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_auth_set_file,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_auth_methods"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_1MORE,
      ngx_smtp_relay_auth_methods,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_auth_srv_conf_t, methods),
      NULL },

    { ngx_string("smtp_relay_auth_set_header"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE2,
      ngx_smtp_relay_auth_set_header,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_auth_connect_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_auth_srv_conf_t, connect_timeout),
      NULL },

    { ngx_string("smtp_relay_auth_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_auth_srv_conf_t, timeout),
      NULL },

    { ngx_string("smtp_relay_auth_keepalive"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_auth_srv_conf_t, keepalive),
      NULL },

    NGX_SMTP_RELAY_PEER_SSL_COMMANDS("smtp_relay_auth_ssl_",
                                     ngx_smtp_relay_auth_srv_conf_t, ssl),

#if (NGX_SMTP_RELAY_HTTP)

    { ngx_string("smtp_relay_auth_cache_zone"),
      NGX_STREAM_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_auth_cache_zone,
      NGX_STREAM_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_auth_cache"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_1MORE,
      ngx_smtp_relay_auth_cache,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_auth_cache_key"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_stream_set_complex_value_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_auth_srv_conf_t, cache_key),
      NULL },

#endif

    { ngx_string("smtp_relay_auth_max_failures"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_auth_srv_conf_t, max_failures),
      NULL },

    { ngx_string("smtp_relay_auth_failure_delay"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_auth_srv_conf_t, failure_delay),
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_smtp_relay_auth_module_ctx = {
    NULL,                                  /* preconfiguration */
#if (NGX_SMTP_RELAY_HTTP)
    ngx_smtp_relay_auth_postconfiguration, /* postconfiguration */
#else
    NULL,                                  /* postconfiguration */
#endif

    ngx_smtp_relay_auth_create_main_conf,  /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_smtp_relay_auth_create_srv_conf,   /* create server configuration */
    ngx_smtp_relay_auth_merge_srv_conf     /* merge server configuration */
};


ngx_module_t  ngx_smtp_relay_auth_module = {
    NGX_MODULE_V1,
    &ngx_smtp_relay_auth_module_ctx,       /* module context */
    ngx_smtp_relay_auth_commands,          /* module directives */
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


#if (NGX_SMTP_RELAY_HTTP)

static ngx_int_t
ngx_smtp_relay_auth_postconfiguration(ngx_conf_t *cf)
{
    ngx_smtp_relay_auth_main_conf_t  *amcf;

    amcf = ngx_stream_conf_get_module_main_conf(cf,
                                                ngx_smtp_relay_auth_module);

    return ngx_smtp_relay_auth_cache_check(cf, &amcf->caches);
}

#endif


static void *
ngx_smtp_relay_auth_create_main_conf(ngx_conf_t *cf)
{
    ngx_smtp_relay_auth_main_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_auth_main_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&conf->files, cf->pool, 2,
                       sizeof(ngx_smtp_relay_auth_file_t *))
        != NGX_OK
        || ngx_array_init(&conf->zones, cf->pool, 2, sizeof(ngx_shm_zone_t *))
           != NGX_OK
        || ngx_array_init(&conf->caches, cf->pool, 2,
                          sizeof(ngx_smtp_relay_auth_cache_conf_t *))
           != NGX_OK)
    {
        return NULL;
    }

    return conf;
}


static void *
ngx_smtp_relay_auth_create_srv_conf(ngx_conf_t *cf)
{
    ngx_smtp_relay_auth_srv_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_auth_srv_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->methods = 0;
     *     conf->methods_file = NULL;
     *     conf->methods_line = 0;
     */

    conf->max_failures = NGX_CONF_UNSET_UINT;
    conf->failure_delay = NGX_CONF_UNSET_MSEC;
    conf->file = NGX_CONF_UNSET_PTR;
    conf->service = NGX_CONF_UNSET_PTR;
    conf->set_headers = NGX_CONF_UNSET_PTR;
    conf->connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->timeout = NGX_CONF_UNSET_MSEC;
    conf->keepalive = NGX_CONF_UNSET_UINT;
    conf->cache = NGX_CONF_UNSET_PTR;
    conf->cache_key = NGX_CONF_UNSET_PTR;

    ngx_smtp_relay_peer_ssl_create(&conf->ssl);

    return conf;
}


static char *
ngx_smtp_relay_auth_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_smtp_relay_auth_srv_conf_t *prev = parent;
    ngx_smtp_relay_auth_srv_conf_t *conf = child;

    if (conf->methods == 0) {
        conf->methods_file = prev->methods_file;
        conf->methods_line = prev->methods_line;
    }

    ngx_conf_merge_bitmask_value(conf->methods, prev->methods,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_SMTP_RELAY_AUTH_PLAIN
                                  |NGX_SMTP_RELAY_AUTH_LOGIN));
    ngx_conf_merge_uint_value(conf->max_failures, prev->max_failures, 3);
    ngx_conf_merge_msec_value(conf->failure_delay, prev->failure_delay, 1000);
    ngx_conf_merge_ptr_value(conf->file, prev->file, NULL);
    ngx_conf_merge_ptr_value(conf->service, prev->service, NULL);
    ngx_conf_merge_ptr_value(conf->set_headers, prev->set_headers, NULL);
    ngx_conf_merge_msec_value(conf->connect_timeout, prev->connect_timeout,
                              5000);
    ngx_conf_merge_msec_value(conf->timeout, prev->timeout, 10000);
    ngx_conf_merge_uint_value(conf->keepalive, prev->keepalive, 16);
    ngx_conf_merge_ptr_value(conf->cache, prev->cache, NULL);
    ngx_conf_merge_ptr_value(conf->cache_key, prev->cache_key, NULL);

    return ngx_smtp_relay_auth_merge_service(cf, prev, conf);
}


static char *
ngx_smtp_relay_auth_merge_service(ngx_conf_t *cf,
    ngx_smtp_relay_auth_srv_conf_t *prev, ngx_smtp_relay_auth_srv_conf_t *conf)
{
    ngx_uint_t  ssl;

    ssl = 0;

#if (NGX_SMTP_RELAY_HTTP)

    {
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    nscf = ngx_stream_conf_get_module_srv_conf(cf, ngx_smtp_relay_node_module);

    if (conf->service && (nscf->upstream || nscf->upstream_value)) {

        if (ngx_smtp_relay_http_peer_init(cf, conf->service) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        ssl = conf->service->ssl;
    }
    }

#endif

    if (ngx_smtp_relay_peer_ssl_merge(cf, &prev->ssl, &conf->ssl,
                                      "smtp_relay_auth_ssl", ssl)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_smtp_relay_auth(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
#if (NGX_SMTP_RELAY_HTTP)

    ngx_smtp_relay_auth_srv_conf_t *ascf = conf;

    ngx_str_t  *value;

    if (ascf->service != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    ascf->service = ngx_smtp_relay_http_peer_add(cf, cmd, &value[1]);

    return ascf->service ? NGX_CONF_OK : NGX_CONF_ERROR;

#else

    return "requires nginx with the HTTP modules";

#endif
}


static char *
ngx_smtp_relay_auth_set_file(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_auth_srv_conf_t *ascf = conf;

    ngx_str_t                        *value;
    ngx_smtp_relay_auth_main_conf_t  *amcf;

    if (ascf->file != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    amcf = ngx_stream_conf_get_module_main_conf(cf,
                                                ngx_smtp_relay_auth_module);

    ascf->file = ngx_smtp_relay_auth_file_add(cf, &amcf->files, &value[1]);

    return ascf->file ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_smtp_relay_auth_set_header(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_auth_srv_conf_t *ascf = conf;

    size_t                               i;
    u_char                               ch;
    ngx_str_t                           *value, *name;
    ngx_smtp_relay_set_header_t         *sh;
    ngx_stream_compile_complex_value_t   ccv;

    value = cf->args->elts;

    for (i = 0; i < value[1].len; i++) {
        ch = value[1].data[i];

        if (ch <= ' ' || ch >= 0x7f || ch == ':') {
            break;
        }
    }

    if (i == 0 || i < value[1].len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid header name \"%V\"",
                           &cmd->name, &value[1]);
        return NGX_CONF_ERROR;
    }

    for (name = ngx_smtp_relay_auth_reserved; name->len; name++) {
        if (name->len == value[1].len
            && ngx_strncasecmp(name->data, value[1].data, name->len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" cannot set header \"%V\"",
                               &cmd->name, &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    if (ascf->set_headers == NGX_CONF_UNSET_PTR) {
        ascf->set_headers = ngx_array_create(cf->pool, 4,
                                        sizeof(ngx_smtp_relay_set_header_t));
        if (ascf->set_headers == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    sh = ngx_array_push(ascf->set_headers);
    if (sh == NULL) {
        return NGX_CONF_ERROR;
    }

    sh->name = value[1];

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[2];
    ccv.complex_value = &sh->value;

    if (ngx_stream_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
