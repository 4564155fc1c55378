
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_stat_zone.h"
#include "ngx_smtp_relay_zone.h"


/* to be changed with what the zone holds */

#define NGX_SMTP_RELAY_STAT_LAYOUT  4


static ngx_int_t ngx_smtp_relay_stat_init_zone(ngx_shm_zone_t *zone,
    void *data);
static void ngx_smtp_relay_stat_init_slots(
    ngx_smtp_relay_stat_main_conf_t *smcf);
static ngx_int_t ngx_smtp_relay_stat_init_process(ngx_cycle_t *cycle);
static void ngx_smtp_relay_stat_servers(ngx_cycle_t *cycle,
    ngx_smtp_relay_stat_main_conf_t *smcf);
static ngx_stream_conf_ctx_t *ngx_smtp_relay_listen_ctx(ngx_listening_t *ls);
static void ngx_smtp_relay_stat_exit_process(ngx_cycle_t *cycle);
static ngx_int_t ngx_smtp_relay_stat_handler(ngx_stream_session_t *s);
static ngx_int_t ngx_smtp_relay_stat_postconfiguration(ngx_conf_t *cf);
static void *ngx_smtp_relay_stat_create_main_conf(ngx_conf_t *cf);
static char *ngx_smtp_relay_status_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


static ngx_command_t  ngx_smtp_relay_stat_commands[] = {

    { ngx_string("smtp_relay_status_zone"),
      NGX_STREAM_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_smtp_relay_status_zone,
      NGX_STREAM_MAIN_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_smtp_relay_stat_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_smtp_relay_stat_postconfiguration, /* postconfiguration */

    ngx_smtp_relay_stat_create_main_conf,  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL                                   /* merge server configuration */
};


ngx_module_t  ngx_smtp_relay_stat_module = {
    NGX_MODULE_V1,
    &ngx_smtp_relay_stat_module_ctx,       /* module context */
    ngx_smtp_relay_stat_commands,          /* module directives */
    NGX_STREAM_MODULE,                     /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_smtp_relay_stat_init_process,      /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_smtp_relay_stat_exit_process,      /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_smtp_relay_stat_init_zone(ngx_shm_zone_t *zone, void *data)
{
    size_t                            layout;
    ngx_time_t                       *tp;
    ngx_slab_pool_t                  *shpool;
    ngx_smtp_relay_stat_sh_t         *sh;
    ngx_smtp_relay_stat_main_conf_t  *smcf, *osmcf;

    smcf = zone->data;
    osmcf = data;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;
    smcf->shpool = shpool;

    layout = NGX_SMTP_RELAY_STAT_LAYOUT
             + (sizeof(ngx_smtp_relay_stat_server_t) << 8)
             + (sizeof(ngx_smtp_relay_stat_node_t) << 20);

    if (osmcf || zone->shm.exists) {
        sh = osmcf ? osmcf->sh : shpool->data;

        if (sh->layout != layout) {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "status zone \"%V\" was made by another version of "
                          "the module, give it another size or name",
                          &zone->shm.name);
            return NGX_ERROR;
        }

        sh->generation++;
        smcf->sh = sh;

        ngx_smtp_relay_stat_init_slots(smcf);

        return NGX_OK;
    }

    shpool->log_nomem = 0;

    sh = ngx_slab_calloc(shpool, sizeof(ngx_smtp_relay_stat_sh_t));

    if (sh) {
        smcf->sh = sh;
        ngx_smtp_relay_stat_init_slots(smcf);
    }

    if (sh == NULL || sh->slots == NULL) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "status zone \"%V\" is too small", &zone->shm.name);
        return NGX_ERROR;
    }

    tp = ngx_timeofday();

    sh->layout = layout;
    sh->start = (uint64_t) tp->sec * 1000 + tp->msec;
    sh->generation = 1;

    shpool->data = sh;

    return NGX_OK;
}


/* a later configuration may have more workers */

static void
ngx_smtp_relay_stat_init_slots(ngx_smtp_relay_stat_main_conf_t *smcf)
{
    ngx_uint_t                 n;
    ngx_smtp_relay_slot_t     *slots;
    ngx_smtp_relay_stat_sh_t  *sh;

    sh = smcf->sh;
    n = ngx_smtp_relay_slots(smcf->cycle);

    if (n <= sh->nslots) {
        return;
    }

    ngx_shmtx_lock(&smcf->shpool->mutex);

    slots = ngx_slab_calloc_locked(smcf->shpool,
                                   n * sizeof(ngx_smtp_relay_slot_t));
    if (slots) {

        if (sh->slots) {
            ngx_memcpy(slots, sh->slots,
                       sh->nslots * sizeof(ngx_smtp_relay_slot_t));
            ngx_slab_free_locked(smcf->shpool, sh->slots);
        }

        sh->slots = slots;
        sh->nslots = n;

        /* slots are for three generations of workers */

        sh->reserve = n / 3 * (sizeof(ngx_smtp_relay_stat_server_t) + 512)
                      / ngx_pagesize + 1;
    }

    ngx_shmtx_unlock(&smcf->shpool->mutex);
}


static ngx_int_t
ngx_smtp_relay_stat_init_process(ngx_cycle_t *cycle)
{
    ngx_smtp_relay_stat_main_conf_t  *smcf;

    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    smcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                                 ngx_smtp_relay_stat_module);

    if (smcf && smcf->zone) {
        ngx_smtp_relay_stat_attach(smcf);
        ngx_smtp_relay_stat_servers(cycle, smcf);
    }

    return NGX_OK;
}


/* servers are there before anything comes to them */

static void
ngx_smtp_relay_stat_servers(ngx_cycle_t *cycle,
    ngx_smtp_relay_stat_main_conf_t *smcf)
{
    ngx_str_t                        none;
    ngx_uint_t                       i;
    ngx_listening_t                 *ls;
    ngx_stream_conf_ctx_t           *ctx;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    ngx_str_null(&none);

    ls = cycle->listening.elts;

    for (i = 0; i < cycle->listening.nelts; i++) {

        if (ls[i].handler != ngx_stream_init_connection) {
            continue;
        }

        ctx = ngx_smtp_relay_listen_ctx(&ls[i]);
        nscf = ctx->srv_conf[ngx_smtp_relay_node_module.ctx_index];

        if (nscf->file_name) {
            (void) ngx_smtp_relay_stat_find(smcf, NGX_SMTP_RELAY_STAT_SERVER,
                                            &none, &ls[i].addr_text);
        }
    }
}


/* the default server of a socket; behind several addresses, of its "*" */

static ngx_stream_conf_ctx_t *
ngx_smtp_relay_listen_ctx(ngx_listening_t *ls)
{
    ngx_stream_port_t     *port;
    ngx_stream_in_addr_t  *addr;
#if (NGX_HAVE_INET6)
    ngx_stream_in6_addr_t  *addr6;
#endif

    port = ls->servers;

#if (NGX_HAVE_INET6)

    if (ls->sockaddr->sa_family == AF_INET6) {
        addr6 = port->addrs;
        return ngx_smtp_relay_addr_ctx(&addr6[port->naddrs - 1].conf);
    }

#endif

    addr = port->addrs;

    return ngx_smtp_relay_addr_ctx(&addr[port->naddrs - 1].conf);
}


static void
ngx_smtp_relay_stat_exit_process(ngx_cycle_t *cycle)
{
    ngx_smtp_relay_stat_main_conf_t  *smcf;

    smcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                                 ngx_smtp_relay_stat_module);

    if (smcf && smcf->zone) {
        ngx_smtp_relay_stat_detach(smcf);
    }
}


/*
 * A handshake that fails in front of a session, or in the middle of it, is
 * nginx's own affair: it shows in its log phase.  Messages come by here, too.
 */

static ngx_int_t
ngx_smtp_relay_stat_handler(ngx_stream_session_t *s)
{
    ngx_str_t                         none;
    ngx_connection_t                 *c;
    ngx_stream_ssl_srv_conf_t        *sscf;
    ngx_smtp_relay_session_t         *ss;
    ngx_smtp_relay_stat_server_t     *stat;
    ngx_smtp_relay_node_srv_conf_t   *nscf;
    ngx_smtp_relay_stat_main_conf_t  *smcf;

    c = s->connection;
    ss = ngx_smtp_relay_get_session(s);

    if (c->ssl == NULL || (ss && ss->state != NGX_SMTP_RELAY_ST_STARTTLS)) {
        return NGX_OK;
    }

    smcf = ngx_stream_get_module_main_conf(s, ngx_smtp_relay_stat_module);
    nscf = ngx_stream_get_module_srv_conf(s, ngx_smtp_relay_node_module);
    sscf = ngx_stream_get_module_srv_conf(s, ngx_stream_ssl_module);

    if (nscf->file_name == NULL || (c->ssl->handshaked && !sscf->verify)) {
        return NGX_OK;
    }

    ngx_str_null(&none);

    stat = (void *) ngx_smtp_relay_stat_find(smcf, NGX_SMTP_RELAY_STAT_SERVER,
                                             &none, &c->listening->addr_text);
    if (stat) {
        ngx_smtp_relay_stat_tls_failed(c, stat);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_stat_postconfiguration(ngx_conf_t *cf)
{
    ngx_stream_handler_pt        *h;
    ngx_stream_core_main_conf_t  *cmcf;

    cmcf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_STREAM_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_smtp_relay_stat_handler;

    return NGX_OK;
}


static void *
ngx_smtp_relay_stat_create_main_conf(ngx_conf_t *cf)
{
    /*
     * set by ngx_pcalloc():
     *
     *     smcf->zone = NULL;
     *     smcf->sh = NULL;
     *     smcf->attached = 0;
     */

    return ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_stat_main_conf_t));
}


static char *
ngx_smtp_relay_status_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_stat_main_conf_t *smcf = conf;

    ngx_str_t       *value;
    ngx_shm_zone_t  *zone;

    value = cf->args->elts;

    if (smcf->zone) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is duplicate", &cmd->name);
        return NGX_CONF_ERROR;
    }

    zone = ngx_smtp_relay_zone_add(cf, cmd, &value[1], "",
                                   &ngx_smtp_relay_stat_module);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    zone->init = ngx_smtp_relay_stat_init_zone;
    zone->data = smcf;

    smcf->zone = zone;
    smcf->cycle = cf->cycle;

    return NGX_CONF_OK;
}
