
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_conf.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_node_pool.h"
#include "ngx_smtp_relay_session.h"


static void *ngx_smtp_relay_node_create_srv_conf(ngx_conf_t *cf);
static char *ngx_smtp_relay_node_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_smtp_relay_pass(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_bind(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_node_helo(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_node_auth(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_stream_complex_value_t *ngx_smtp_relay_node_compile(ngx_conf_t *cf,
    ngx_str_t *value);


static ngx_conf_enum_t  ngx_smtp_relay_node_ssl_modes[] = {
    { ngx_string("off"), NGX_SMTP_RELAY_NODE_SSL_OFF },
    { ngx_string("on"), NGX_SMTP_RELAY_NODE_SSL_ON },
    { ngx_string("starttls"), NGX_SMTP_RELAY_NODE_SSL_STARTTLS },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_smtp_relay_node_proxy_versions[] = {
    { ngx_string("off"), NGX_SMTP_RELAY_NODE_PROXY_OFF },
    { ngx_string("v1"), NGX_SMTP_RELAY_NODE_PROXY_V1 },
    { ngx_string("v2"), NGX_SMTP_RELAY_NODE_PROXY_V2 },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_smtp_relay_node_commands[] = {

    { ngx_string("smtp_relay_pass"),
      NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_pass,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_connect_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, connect_timeout),
      NULL },

    { ngx_string("smtp_relay_reply_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, reply_timeout),
      NULL },

    { ngx_string("smtp_relay_next_upstream"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, next_upstream),
      NULL },

    { ngx_string("smtp_relay_next_upstream_tries"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, next_upstream_tries),
      NULL },

    { ngx_string("smtp_relay_next_upstream_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, next_upstream_timeout),
      NULL },

    { ngx_string("smtp_relay_bind"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE12,
      ngx_smtp_relay_bind,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_socket_keepalive"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, socket_keepalive),
      NULL },

    { ngx_string("smtp_relay_node_helo"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_node_helo,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, helo),
      NULL },

    { ngx_string("smtp_relay_keepalive"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, keepalive),
      NULL },

    { ngx_string("smtp_relay_keepalive_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, keepalive_timeout),
      NULL },

    { ngx_string("smtp_relay_keepalive_messages"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, keepalive_messages),
      NULL },

    { ngx_string("smtp_relay_ssl"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_conf_enum,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, ssl_mode),
      &ngx_smtp_relay_node_ssl_modes },

    NGX_SMTP_RELAY_PEER_SSL_COMMANDS("smtp_relay_ssl_",
                                     ngx_smtp_relay_node_srv_conf_t, ssl),

    { ngx_string("smtp_relay_xclient"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, xclient),
      NULL },

    { ngx_string("smtp_relay_node_auth"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE12,
      ngx_smtp_relay_node_auth,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_proxy_protocol"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_conf_enum,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_node_srv_conf_t, proxy_protocol),
      &ngx_smtp_relay_node_proxy_versions },

      ngx_null_command
};


static ngx_stream_module_t  ngx_smtp_relay_node_module_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_smtp_relay_node_create_srv_conf,   /* create server configuration */
    ngx_smtp_relay_node_merge_srv_conf     /* merge server configuration */
};


ngx_module_t  ngx_smtp_relay_node_module = {
    NGX_MODULE_V1,
    &ngx_smtp_relay_node_module_ctx,       /* module context */
    ngx_smtp_relay_node_commands,          /* module directives */
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


static void *
ngx_smtp_relay_node_create_srv_conf(ngx_conf_t *cf)
{
    ngx_smtp_relay_node_srv_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_node_srv_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->upstream = NULL;
     *     conf->upstream_value = NULL;
     *     conf->file_name = NULL;
     *     conf->line = 0;
     *     conf->auth_user = NULL;
     *     conf->auth_secret = NULL;
     *     conf->pool = NULL;
     */

    conf->connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->reply_timeout = NGX_CONF_UNSET_MSEC;
    conf->next_upstream = NGX_CONF_UNSET;
    conf->next_upstream_tries = NGX_CONF_UNSET_UINT;
    conf->next_upstream_timeout = NGX_CONF_UNSET_MSEC;
    conf->bind = NGX_CONF_UNSET_PTR;
    conf->socket_keepalive = NGX_CONF_UNSET;
    conf->helo = NGX_CONF_UNSET_PTR;
    conf->xclient = NGX_CONF_UNSET;
    conf->proxy_protocol = NGX_CONF_UNSET_UINT;
    conf->auth = NGX_CONF_UNSET_UINT;
    conf->keepalive = NGX_CONF_UNSET_UINT;
    conf->keepalive_timeout = NGX_CONF_UNSET_MSEC;
    conf->keepalive_messages = NGX_CONF_UNSET_UINT;

    conf->ssl_mode = NGX_CONF_UNSET_UINT;

    ngx_smtp_relay_peer_ssl_create(&conf->ssl);

    return conf;
}


static char *
ngx_smtp_relay_node_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_smtp_relay_node_srv_conf_t *prev = parent;
    ngx_smtp_relay_node_srv_conf_t *conf = child;

    ngx_uint_t  used;

    ngx_conf_merge_msec_value(conf->connect_timeout, prev->connect_timeout,
                              30000);
    ngx_conf_merge_msec_value(conf->reply_timeout, prev->reply_timeout,
                              300000);
    ngx_conf_merge_value(conf->next_upstream, prev->next_upstream, 1);
    ngx_conf_merge_uint_value(conf->next_upstream_tries,
                              prev->next_upstream_tries, 0);
    ngx_conf_merge_msec_value(conf->next_upstream_timeout,
                              prev->next_upstream_timeout, 0);
    ngx_conf_merge_ptr_value(conf->bind, prev->bind, NULL);
    ngx_conf_merge_value(conf->socket_keepalive, prev->socket_keepalive, 0);
    ngx_conf_merge_ptr_value(conf->helo, prev->helo, NULL);
    ngx_conf_merge_uint_value(conf->keepalive, prev->keepalive, 32);
    ngx_conf_merge_msec_value(conf->keepalive_timeout,
                              prev->keepalive_timeout, 30000);
    ngx_conf_merge_uint_value(conf->keepalive_messages,
                              prev->keepalive_messages, 1000);

    ngx_conf_merge_value(conf->xclient, prev->xclient, 0);
    ngx_conf_merge_uint_value(conf->proxy_protocol, prev->proxy_protocol,
                              NGX_SMTP_RELAY_NODE_PROXY_OFF);

    if (conf->auth == NGX_CONF_UNSET_UINT) {
        conf->auth_user = prev->auth_user;
        conf->auth_secret = prev->auth_secret;
    }

    ngx_conf_merge_uint_value(conf->auth, prev->auth,
                              NGX_SMTP_RELAY_NODE_AUTH_OFF);

    used = (conf->upstream || conf->upstream_value);

    ngx_conf_merge_uint_value(conf->ssl_mode, prev->ssl_mode,
                              NGX_SMTP_RELAY_NODE_SSL_OFF);

    if (ngx_smtp_relay_peer_ssl_merge(cf, &prev->ssl, &conf->ssl,
                                      "smtp_relay_ssl",
                                      used && conf->ssl_mode
                                              != NGX_SMTP_RELAY_NODE_SSL_OFF)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (!used) {
        return NGX_CONF_OK;
    }

    conf->pool = ngx_smtp_relay_node_pool_create(cf);
    if (conf->pool == NULL) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_smtp_relay_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_node_srv_conf_t *nscf = conf;

    ngx_url_t                            u;
    ngx_str_t                           *value;
    ngx_stream_complex_value_t           cv;
    ngx_stream_core_srv_conf_t          *cscf;
    ngx_stream_compile_complex_value_t   ccv;

    if (nscf->upstream || nscf->upstream_value) {
        return "is duplicate";
    }

    cscf = ngx_stream_conf_get_module_srv_conf(cf, ngx_stream_core_module);

    if (cscf->handler) {
        return "conflicts with another content handler of this server";
    }

    cscf->handler = ngx_smtp_relay_session_handler;

    nscf->file_name = cf->conf_file->file.name.data;
    nscf->line = cf->conf_file->line;

    value = cf->args->elts;

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = &cv;

    if (ngx_stream_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (cv.lengths) {
        nscf->upstream_value = ngx_palloc(cf->pool,
                                          sizeof(ngx_stream_complex_value_t));
        if (nscf->upstream_value == NULL) {
            return NGX_CONF_ERROR;
        }

        *nscf->upstream_value = cv;

        return NGX_CONF_OK;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = value[1];
    u.no_resolve = 1;

    nscf->upstream = ngx_stream_upstream_add(cf, &u, 0);
    if (nscf->upstream == NULL) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_smtp_relay_bind(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_node_srv_conf_t *nscf = conf;

    ngx_int_t                            rc;
    ngx_str_t                           *value;
    ngx_smtp_relay_bind_t               *bind;
    ngx_stream_complex_value_t           cv;
    ngx_stream_compile_complex_value_t   ccv;

    if (nscf->bind != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        nscf->bind = NULL;
        return NGX_CONF_OK;
    }

    bind = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_bind_t));
    if (bind == NULL) {
        return NGX_CONF_ERROR;
    }

    nscf->bind = bind;

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = &cv;

    if (ngx_stream_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (cv.lengths) {
        bind->value = ngx_palloc(cf->pool, sizeof(ngx_stream_complex_value_t));
        if (bind->value == NULL) {
            return NGX_CONF_ERROR;
        }

        *bind->value = cv;

    } else {
        bind->addr = ngx_palloc(cf->pool, sizeof(ngx_addr_t));
        if (bind->addr == NULL) {
            return NGX_CONF_ERROR;
        }

        rc = ngx_parse_addr_port(cf->pool, bind->addr, value[1].data,
                                 value[1].len);

        if (rc == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_DECLINED) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" has an invalid address \"%V\"",
                               &cmd->name, &value[1]);
            return NGX_CONF_ERROR;
        }

        bind->addr->name = value[1];
    }

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[2].data, "transparent") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid parameter \"%V\"",
                           &cmd->name, &value[2]);
        return NGX_CONF_ERROR;
    }

#if (NGX_HAVE_TRANSPARENT_PROXY)

    {
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);

    ccf->transparent = 1;
    bind->transparent = 1;
    }

    return NGX_CONF_OK;

#else

    return "does not support \"transparent\" on this platform";

#endif
}


static char *
ngx_smtp_relay_node_helo(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_node_srv_conf_t *nscf = conf;

    char       *rv;
    ngx_str_t  *value;

    rv = ngx_stream_set_complex_value_slot(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    if (nscf->helo->lengths == NULL
        && ngx_smtp_relay_parse_helo(&value[1]) != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid host name \"%V\"",
                           &cmd->name, &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_smtp_relay_node_auth(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_node_srv_conf_t *nscf = conf;

    ngx_str_t  *value;

    if (nscf->auth != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2) {

        if (ngx_strcmp(value[1].data, "off") == 0) {
            nscf->auth = NGX_SMTP_RELAY_NODE_AUTH_OFF;
            return NGX_CONF_OK;
        }

        if (ngx_strcmp(value[1].data, "pass") == 0) {
            nscf->auth = NGX_SMTP_RELAY_NODE_AUTH_PASS;
            return NGX_CONF_OK;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" takes \"off\", \"pass\", or a user "
                           "and a secret", &cmd->name);
        return NGX_CONF_ERROR;
    }

    nscf->auth = NGX_SMTP_RELAY_NODE_AUTH_FIXED;
    nscf->auth_user = ngx_smtp_relay_node_compile(cf, &value[1]);
    nscf->auth_secret = ngx_smtp_relay_node_compile(cf, &value[2]);

    if (nscf->auth_user == NULL || nscf->auth_secret == NULL) {
        return NGX_CONF_ERROR;
    }

    if ((nscf->auth_user->lengths == NULL
         && ngx_smtp_relay_sasl_check_user(&value[1]) != NGX_OK)
        || (nscf->auth_secret->lengths == NULL
            && ngx_smtp_relay_sasl_check_secret(&value[2]) != NGX_OK))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid user or secret",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_stream_complex_value_t *
ngx_smtp_relay_node_compile(ngx_conf_t *cf, ngx_str_t *value)
{
    ngx_stream_complex_value_t          *cv;
    ngx_stream_compile_complex_value_t   ccv;

    cv = ngx_palloc(cf->pool, sizeof(ngx_stream_complex_value_t));
    if (cv == NULL) {
        return NULL;
    }

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = cv;

    return (ngx_stream_compile_complex_value(&ccv) == NGX_OK) ? cv : NULL;
}
