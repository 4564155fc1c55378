
/* The relay seen from http{}: what operators ask it and tell it to do. */


#include "ngx_smtp_relay.h"


#if (NGX_SMTP_RELAY_HTTP)

#include <ngx_http.h>
#include "ngx_http_smtp_relay_purge.h"
#include "ngx_http_smtp_relay_status.h"


static void *ngx_http_smtp_relay_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_smtp_relay_create_loc_conf(ngx_conf_t *cf);
static char *ngx_smtp_relay_core_init_conf(ngx_cycle_t *cycle, void *conf);


static ngx_command_t  ngx_http_smtp_relay_commands[] = {

    { ngx_string("smtp_relay_status"),
      NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_smtp_relay_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("smtp_relay_auth_cache_purge"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_smtp_relay_purge,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_smtp_relay_module_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */

    ngx_http_smtp_relay_create_main_conf,  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_smtp_relay_create_loc_conf,   /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_smtp_relay_module = {
    NGX_MODULE_V1,
    &ngx_http_smtp_relay_module_ctx,       /* module context */
    ngx_http_smtp_relay_commands,          /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/*
 * What one block of the configuration says of another one is checked when
 * all are read, which only modules of nginx's core are told.
 */

static ngx_core_module_t  ngx_smtp_relay_core_module_ctx = {
    ngx_string("smtp_relay"),
    NULL,
    ngx_smtp_relay_core_init_conf
};


ngx_module_t  ngx_smtp_relay_core_module = {
    NGX_MODULE_V1,
    &ngx_smtp_relay_core_module_ctx,       /* module context */
    NULL,                                  /* module directives */
    NGX_CORE_MODULE,                       /* module type */
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
ngx_http_smtp_relay_create_main_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_smtp_relay_main_conf_t));
}


static void *
ngx_http_smtp_relay_create_loc_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_smtp_relay_loc_conf_t));
}


static char *
ngx_smtp_relay_core_init_conf(ngx_cycle_t *cycle, void *conf)
{
    return ngx_http_smtp_relay_status_check(cycle);
}

#endif
