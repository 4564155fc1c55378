
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_conf.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_methods.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_variables.h"
#include "ngx_smtp_relay_add_header.h"


static void *ngx_smtp_relay_create_srv_conf(ngx_conf_t *cf);
static char *ngx_smtp_relay_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_smtp_relay_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_smtp_relay_check_server(ngx_conf_t *cf,
    ngx_stream_core_srv_conf_t *cscf);
static ngx_int_t ngx_smtp_relay_init_starttls(ngx_conf_t *cf,
    ngx_stream_core_srv_conf_t *cscf, u_char *file, ngx_uint_t line);
static char *ngx_smtp_relay_starttls(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_hostname(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_early_replies(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_smtp_relay_check_buffer_size(ngx_conf_t *cf, void *post,
    void *data);


static ngx_conf_enum_t  ngx_smtp_relay_starttls_modes[] = {
    { ngx_string("off"), NGX_SMTP_RELAY_STARTTLS_OFF },
    { ngx_string("on"), NGX_SMTP_RELAY_STARTTLS_ON },
    { ngx_string("required"), NGX_SMTP_RELAY_STARTTLS_REQUIRED },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_smtp_relay_newline_modes[] = {
    { ngx_string("normalize"), NGX_SMTP_RELAY_NEWLINE_NORMALIZE },
    { ngx_string("reject"), NGX_SMTP_RELAY_NEWLINE_REJECT },
    { ngx_null_string, 0 }
};


/* only what the relay itself understands can be named */

static ngx_conf_bitmask_t  ngx_smtp_relay_capability_names[] = {
    { ngx_string("PIPELINING"), NGX_SMTP_RELAY_EXT_PIPELINING },
    { ngx_string("8BITMIME"), NGX_SMTP_RELAY_EXT_8BITMIME },
    { ngx_string("SMTPUTF8"), NGX_SMTP_RELAY_EXT_SMTPUTF8 },
    { ngx_string("CHUNKING"), NGX_SMTP_RELAY_EXT_CHUNKING },
    { ngx_string("DSN"), NGX_SMTP_RELAY_EXT_DSN },
    { ngx_string("ENHANCEDSTATUSCODES"), NGX_SMTP_RELAY_EXT_ENHANCED },
    { ngx_null_string, 0 }
};


static ngx_conf_bitmask_t  ngx_smtp_relay_early_names[] = {
    { ngx_string("off"), NGX_SMTP_RELAY_EARLY_OFF },
    { ngx_string("mail"), NGX_SMTP_RELAY_EARLY_MAIL },
    { ngx_string("data"), NGX_SMTP_RELAY_EARLY_DATA },
    { ngx_null_string, 0 }
};


static ngx_conf_post_t  ngx_smtp_relay_buffer_size_post =
    { ngx_smtp_relay_check_buffer_size };


static ngx_command_t  ngx_smtp_relay_commands[] = {

    { ngx_string("smtp_relay_hostname"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_hostname,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, hostname),
      NULL },

    { ngx_string("smtp_relay_starttls"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_starttls,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, starttls),
      &ngx_smtp_relay_starttls_modes },

    { ngx_string("smtp_relay_greeting_delay"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, greeting_delay),
      NULL },

    { ngx_string("smtp_relay_login_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, login_timeout),
      NULL },

    { ngx_string("smtp_relay_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, timeout),
      NULL },

    { ngx_string("smtp_relay_data_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, data_timeout),
      NULL },

    { ngx_string("smtp_relay_max_errors"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, max_errors),
      NULL },

    { ngx_string("smtp_relay_max_message_size"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_off_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, max_message_size),
      NULL },

    { ngx_string("smtp_relay_max_recipients"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, max_recipients),
      NULL },

    { ngx_string("smtp_relay_max_messages"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, max_messages),
      NULL },

    { ngx_string("smtp_relay_capabilities"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_1MORE,
      ngx_smtp_relay_conf_bitmask,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, capabilities),
      &ngx_smtp_relay_capability_names },

    { ngx_string("smtp_relay_bare_newline"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_conf_enum,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, bare_newline),
      &ngx_smtp_relay_newline_modes },

    { ngx_string("smtp_relay_early_replies"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE12,
      ngx_smtp_relay_early_replies,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, early_replies),
      &ngx_smtp_relay_early_names },

    { ngx_string("smtp_relay_buffer_size"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_smtp_relay_srv_conf_t, buffer_size),
      &ngx_smtp_relay_buffer_size_post },

    { ngx_string("smtp_relay_add_header"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE2,
      ngx_smtp_relay_add_header,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_smtp_relay_module_ctx = {
    ngx_smtp_relay_add_variables,          /* preconfiguration */
    ngx_smtp_relay_postconfiguration,      /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_smtp_relay_create_srv_conf,        /* create server configuration */
    ngx_smtp_relay_merge_srv_conf          /* merge server configuration */
};


ngx_module_t  ngx_smtp_relay_module = {
    NGX_MODULE_V1,
    &ngx_smtp_relay_module_ctx,            /* module context */
    ngx_smtp_relay_commands,               /* module directives */
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
ngx_smtp_relay_create_srv_conf(ngx_conf_t *cf)
{
    ngx_smtp_relay_srv_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_srv_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->capabilities = 0;
     *     conf->early_replies = 0;
     *     conf->starttls_file = NULL;
     *     conf->starttls_line = 0;
     */

    conf->hostname = NGX_CONF_UNSET_PTR;
    conf->starttls = NGX_CONF_UNSET_UINT;
    conf->bare_newline = NGX_CONF_UNSET_UINT;
    conf->greeting_delay = NGX_CONF_UNSET_MSEC;
    conf->login_timeout = NGX_CONF_UNSET_MSEC;
    conf->timeout = NGX_CONF_UNSET_MSEC;
    conf->data_timeout = NGX_CONF_UNSET_MSEC;
    conf->max_errors = NGX_CONF_UNSET_UINT;
    conf->max_recipients = NGX_CONF_UNSET_UINT;
    conf->max_messages = NGX_CONF_UNSET_UINT;
    conf->max_message_size = NGX_CONF_UNSET;
    conf->buffer_size = NGX_CONF_UNSET_SIZE;
    conf->add_headers = NGX_CONF_UNSET_PTR;

    return conf;
}


static char *
ngx_smtp_relay_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_smtp_relay_srv_conf_t *prev = parent;
    ngx_smtp_relay_srv_conf_t *conf = child;

    if (conf->starttls == NGX_CONF_UNSET_UINT) {
        conf->starttls_file = prev->starttls_file;
        conf->starttls_line = prev->starttls_line;
    }

    ngx_conf_merge_ptr_value(conf->hostname, prev->hostname, NULL);
    ngx_conf_merge_uint_value(conf->starttls, prev->starttls,
                              NGX_SMTP_RELAY_STARTTLS_REQUIRED);
    ngx_conf_merge_uint_value(conf->bare_newline, prev->bare_newline,
                              NGX_SMTP_RELAY_NEWLINE_NORMALIZE);
    ngx_conf_merge_bitmask_value(conf->capabilities, prev->capabilities,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_SMTP_RELAY_EXT_PIPELINING
                                  |NGX_SMTP_RELAY_EXT_8BITMIME
                                  |NGX_SMTP_RELAY_EXT_SMTPUTF8
                                  |NGX_SMTP_RELAY_EXT_CHUNKING
                                  |NGX_SMTP_RELAY_EXT_DSN
                                  |NGX_SMTP_RELAY_EXT_ENHANCED));
    ngx_conf_merge_bitmask_value(conf->early_replies, prev->early_replies,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_SMTP_RELAY_EARLY_OFF));
    ngx_conf_merge_msec_value(conf->greeting_delay, prev->greeting_delay, 0);
    ngx_conf_merge_msec_value(conf->login_timeout, prev->login_timeout,
                              60000);
    ngx_conf_merge_msec_value(conf->timeout, prev->timeout, 300000);
    ngx_conf_merge_msec_value(conf->data_timeout, prev->data_timeout, 300000);
    ngx_conf_merge_uint_value(conf->max_errors, prev->max_errors, 10);
    ngx_conf_merge_uint_value(conf->max_recipients, prev->max_recipients,
                              1000);
    ngx_conf_merge_uint_value(conf->max_messages, prev->max_messages, 0);
    ngx_conf_merge_off_value(conf->max_message_size, prev->max_message_size,
                             50 * 1024 * 1024);
    ngx_conf_merge_size_value(conf->buffer_size, prev->buffer_size, 16384);
    ngx_conf_merge_ptr_value(conf->add_headers, prev->add_headers, NULL);

    return NGX_CONF_OK;
}


/*
 * What depends on several directives of a server, in whatever order and on
 * whatever level they stand, is checked when all of them are merged.
 */

static ngx_int_t
ngx_smtp_relay_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                     i;
    ngx_stream_core_srv_conf_t   **cscfp;
    ngx_stream_core_main_conf_t   *cmcf;

    cmcf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_core_module);

    cscfp = cmcf->servers.elts;

    for (i = 0; i < cmcf->servers.nelts; i++) {

        if (ngx_smtp_relay_check_server(cf, cscfp[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_check_server(ngx_conf_t *cf, ngx_stream_core_srv_conf_t *cscf)
{
    u_char                          *file;
    ngx_uint_t                       line;
    ngx_smtp_relay_srv_conf_t       *rscf;
    ngx_smtp_relay_auth_srv_conf_t  *ascf;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    rscf = cscf->ctx->srv_conf[ngx_smtp_relay_module.ctx_index];
    ascf = cscf->ctx->srv_conf[ngx_smtp_relay_auth_module.ctx_index];
    nscf = cscf->ctx->srv_conf[ngx_smtp_relay_node_module.ctx_index];

    if (nscf->file_name == NULL) {
        return NGX_OK;
    }

    if (cscf->handler != ngx_smtp_relay_session_handler) {

        /* "proxy_pass" and such set theirs without a look at what is there */

        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"smtp_relay_pass\" conflicts with another content "
                      "handler of its server in %s:%ui",
                      nscf->file_name, nscf->line);
        return NGX_ERROR;
    }

    if (ascf->file == NULL && ascf->service == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"smtp_relay_pass\" needs \"smtp_relay_auth\" or "
                      "\"smtp_relay_auth_file\" in %s:%ui",
                      nscf->file_name, nscf->line);
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_auth_methods_check(cf, cscf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (rscf->starttls == NGX_SMTP_RELAY_STARTTLS_OFF) {
        return NGX_OK;
    }

    if (rscf->starttls_file) {
        file = rscf->starttls_file;
        line = rscf->starttls_line;

    } else {
        file = nscf->file_name;
        line = nscf->line;
    }

    if (rscf->starttls == NGX_SMTP_RELAY_STARTTLS_ON) {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "\"smtp_relay_starttls on\" lets clients send their "
                      "secrets without TLS in %s:%ui", file, line);
    }

    return ngx_smtp_relay_init_starttls(cf, cscf, file, line);
}


static ngx_int_t
ngx_smtp_relay_init_starttls(ngx_conf_t *cf, ngx_stream_core_srv_conf_t *cscf,
    u_char *file, ngx_uint_t line)
{
    ngx_stream_ssl_srv_conf_t  *sscf;

#if (NGX_SMTP_RELAY_SSL_LISTEN)
    ngx_stream_module_t        *module;
    ngx_stream_conf_ctx_t      *ctx;
#endif

    sscf = cscf->ctx->srv_conf[ngx_stream_ssl_module.ctx_index];

    if (sscf->ssl.ctx) {
        return NGX_OK;
    }

    if (sscf->certificates == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"smtp_relay_starttls\" (\"required\" by default) "
                      "needs \"ssl_certificate\" in %s:%ui", file, line);
        return NGX_ERROR;
    }

#if (NGX_SMTP_RELAY_SSL_LISTEN)

    /*
     * the SSL module has merged this server, but made no SSL_CTX as it has
     * no "listen ... ssl"; merging again finds every value set and makes it
     */

    sscf->listen = 1;
    sscf->file = file;
    sscf->line = line;

    module = ngx_stream_ssl_module.ctx;
    ctx = (ngx_stream_conf_ctx_t *)
              cf->cycle->conf_ctx[ngx_stream_module.index];

    if (module->merge_srv_conf(cf,
                           ctx->srv_conf[ngx_stream_ssl_module.ctx_index],
                           sscf)
        != NGX_CONF_OK)
    {
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


static char *
ngx_smtp_relay_starttls(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_srv_conf_t *rscf = conf;

    rscf->starttls_file = cf->conf_file->file.name.data;
    rscf->starttls_line = cf->conf_file->line;

    return ngx_smtp_relay_conf_enum(cf, cmd, conf);
}


static char *
ngx_smtp_relay_hostname(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_srv_conf_t *rscf = conf;

    char       *rv;
    ngx_str_t  *value;

    rv = ngx_stream_set_complex_value_slot(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    if (rscf->hostname->lengths == NULL
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
ngx_smtp_relay_early_replies(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_srv_conf_t *rscf = conf;

    char  *rv;

    rv = ngx_smtp_relay_conf_bitmask(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if ((rscf->early_replies & NGX_SMTP_RELAY_EARLY_OFF)
        && cf->args->nelts > 2)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has values besides \"off\"", &cmd->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_smtp_relay_check_buffer_size(ngx_conf_t *cf, void *post, void *data)
{
    size_t *size = data;

    /* the longest line, a client's AUTH, has to fit */

    if (*size < 16384) {
        return "must be at least 16k";
    }

    return NGX_CONF_OK;
}
