
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_parse_path.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_upstream.h"


static ngx_int_t ngx_smtp_relay_upstream_prepare(
    ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_upstream_choose(
    ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_upstream_name(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_upstream_server(ngx_smtp_relay_auth_t *auth,
    ngx_pool_t *pool, ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_upstream_eval(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *value);
static ngx_stream_upstream_srv_conf_t *ngx_smtp_relay_upstream_find(
    ngx_stream_session_t *s, ngx_str_t *host, in_port_t port,
    ngx_uint_t no_port);
static ngx_int_t ngx_smtp_relay_upstream_check_server(
    ngx_smtp_relay_auth_t *auth);
static ngx_int_t ngx_smtp_relay_upstream_check_group(
    ngx_smtp_relay_auth_t *auth);
static ngx_int_t ngx_smtp_relay_upstream_resolve(
    ngx_smtp_relay_transaction_t *t);
static void ngx_smtp_relay_upstream_resolved(ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_smtp_relay_upstream_set_local(
    ngx_smtp_relay_transaction_t *t);
static void ngx_smtp_relay_upstream_started(ngx_smtp_relay_transaction_t *t);


ngx_int_t
ngx_smtp_relay_upstream_init(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t              rc;
    ngx_stream_session_t  *s;

    s = t->session->stream;

    /*
     * balancers and complex values allocate from the connection's pool and
     * work on s->upstream: within the scope both are the transaction's
     */

    ngx_smtp_relay_scope_enter(&t->scope, s);

    rc = ngx_smtp_relay_upstream_prepare(t);

    ngx_smtp_relay_scope_leave(&t->scope, s);

    if (rc == NGX_OK) {
        ngx_smtp_relay_upstream_started(t);
    }

    return rc;
}


static ngx_int_t
ngx_smtp_relay_upstream_prepare(ngx_smtp_relay_transaction_t *t)
{
    ngx_stream_session_t            *s;
    ngx_stream_upstream_t           *u;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    s = t->session->stream;
    u = s->upstream;

    nscf = ngx_smtp_relay_node_conf(t);

    s->upstream_states = ngx_array_create(t->pool, 1,
                                          sizeof(ngx_stream_upstream_state_t));
    if (s->upstream_states == NULL) {
        return NGX_ERROR;
    }

    u->start_sec = ngx_time();

    u->peer.log = s->connection->log;
    u->peer.log_error = NGX_ERROR_ERR;
    u->peer.type = SOCK_STREAM;
    u->peer.so_keepalive = nscf->socket_keepalive;

    if (ngx_smtp_relay_upstream_set_local(t) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_upstream_choose(t);
}


static ngx_int_t
ngx_smtp_relay_upstream_choose(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t                        rc;
    ngx_str_t                        value;
    ngx_stream_session_t            *s;
    ngx_stream_upstream_t           *u;
    ngx_stream_upstream_srv_conf_t  *uscf;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    s = t->session->stream;
    u = s->upstream;

    nscf = ngx_smtp_relay_node_conf(t);
    uscf = nscf->upstream;

    rc = ngx_smtp_relay_upstream_name(t, &value);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK) {

        if (ngx_smtp_relay_upstream_eval(t, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        uscf = ngx_smtp_relay_upstream_find(s, &u->resolved->host,
                                            u->resolved->port,
                                            u->resolved->no_port);

        if (uscf == NULL) {

            if (ngx_smtp_relay_node_profile_init(t, &u->resolved->host)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            return ngx_smtp_relay_upstream_resolve(t);
        }
    }

    if (ngx_smtp_relay_node_profile_init(t, &uscf->host) != NGX_OK) {
        return NGX_ERROR;
    }

    u->upstream = uscf;

    return uscf->peer.init(s, uscf);
}


/*
 * The text that names where the message goes: what the auth service said,
 * else smtp_relay_pass if that has variables.  NGX_DECLINED: there is no
 * text, the group is known from the configuration.
 */

static ngx_int_t
ngx_smtp_relay_upstream_name(ngx_smtp_relay_transaction_t *t, ngx_str_t *value)
{
    ngx_smtp_relay_auth_t           *auth;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    auth = t->session->auth;

    if (auth && auth->server.len) {
        return ngx_smtp_relay_upstream_server(auth, t->pool, value);
    }

    if (auth && auth->upstream.len) {
        *value = auth->upstream;
        return NGX_OK;
    }

    nscf = ngx_smtp_relay_node_conf(t);

    if (nscf->upstream_value == NULL) {
        return NGX_DECLINED;
    }

    return ngx_stream_complex_value(t->session->stream, nscf->upstream_value,
                                    value);
}


/* Auth-Server and Auth-Port as one text */

static ngx_int_t
ngx_smtp_relay_upstream_server(ngx_smtp_relay_auth_t *auth, ngx_pool_t *pool,
    ngx_str_t *value)
{
    u_char      *p, *last;
    ngx_uint_t   v6;

    p = ngx_pnalloc(pool, auth->server.len + sizeof("[]:65535") - 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;

    last = auth->server.data + auth->server.len;

    v6 = (auth->server.data[0] != '['
          && ngx_strlchr(auth->server.data, last, ':') != NULL);

    p = ngx_sprintf(p, v6 ? "[%V]:%ui" : "%V:%ui", &auth->server,
                    (ngx_uint_t) (auth->port ? auth->port : 25));

    value->len = p - value->data;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_upstream_eval(ngx_smtp_relay_transaction_t *t, ngx_str_t *value)
{
    ngx_url_t                        url;
    ngx_connection_t                *c;
    ngx_stream_upstream_resolved_t  *ur;

    c = t->session->connection;

    ngx_memzero(&url, sizeof(ngx_url_t));

    url.url = *value;
    url.no_resolve = 1;

    if (ngx_parse_url(t->pool, &url) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "%s in upstream \"%V\"",
                      url.err ? url.err : "invalid address", &url.url);
        return NGX_ERROR;
    }

    ur = ngx_pcalloc(t->pool, sizeof(ngx_stream_upstream_resolved_t));
    if (ur == NULL) {
        return NGX_ERROR;
    }

    if (url.addrs) {
        ur->sockaddr = url.addrs[0].sockaddr;
        ur->socklen = url.addrs[0].socklen;
        ur->name = url.addrs[0].name;
        ur->naddrs = 1;
    }

    ur->host = url.host;
    ur->port = url.port;
    ur->no_port = url.no_port;

    t->session->stream->upstream->resolved = ur;

    return NGX_OK;
}


static ngx_stream_upstream_srv_conf_t *
ngx_smtp_relay_upstream_find(ngx_stream_session_t *s, ngx_str_t *host,
    in_port_t port, ngx_uint_t no_port)
{
    ngx_uint_t                        i;
    ngx_stream_upstream_srv_conf_t  **uscfp;
    ngx_stream_upstream_main_conf_t  *umcf;

    umcf = ngx_stream_get_module_main_conf(s, ngx_stream_upstream_module);
    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        if (uscfp[i]->host.len == host->len
            && ((uscfp[i]->port == 0 && no_port) || uscfp[i]->port == port)
            && ngx_strncasecmp(uscfp[i]->host.data, host->data, host->len)
               == 0)
        {
            return uscfp[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_smtp_relay_upstream_check(ngx_smtp_relay_auth_t *auth)
{
    if (auth->server.len
        && ngx_smtp_relay_upstream_check_server(auth) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (auth->upstream.len
        && ngx_smtp_relay_upstream_check_group(auth) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_upstream_check_server(ngx_smtp_relay_auth_t *auth)
{
    ngx_log_t                   *log;
    ngx_url_t                    url;
    ngx_stream_session_t        *s;
    ngx_stream_core_srv_conf_t  *cscf;

    s = auth->session->stream;
    log = s->connection->log;

    ngx_memzero(&url, sizeof(ngx_url_t));

    url.no_resolve = 1;

    if (ngx_smtp_relay_upstream_server(auth, auth->pool, &url.url) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_parse_url(auth->pool, &url) != NGX_OK
        || url.uri.len
        || (url.addrs == NULL
            && ngx_smtp_relay_parse_domain(url.host.data,
                                           url.host.data + url.host.len)
               != url.host.data + url.host.len))
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "auth service sent invalid Auth-Server \"%V\"",
                      &auth->server);
        return NGX_ERROR;
    }

    if (url.addrs
        || ngx_smtp_relay_upstream_find(s, &url.host, url.port, 0) != NULL)
    {
        return NGX_OK;
    }

    cscf = ngx_stream_get_module_srv_conf(s, ngx_stream_core_module);

    if (cscf->resolver->connections.nelts == 0) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "no resolver defined to resolve Auth-Server \"%V\"",
                      &auth->server);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_upstream_check_group(ngx_smtp_relay_auth_t *auth)
{
    ngx_stream_session_t            *s;
    ngx_stream_upstream_srv_conf_t  *uscf;

    s = auth->session->stream;

    uscf = ngx_smtp_relay_upstream_find(s, &auth->upstream, 0, 1);

    /* one without servers is an address of some other directive */

    if (uscf == NULL || uscf->servers == NULL) {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "auth service sent unknown Auth-Upstream \"%V\"",
                      &auth->upstream);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_upstream_resolve(ngx_smtp_relay_transaction_t *t)
{
    ngx_connection_t                *c;
    ngx_resolver_ctx_t              *ctx, temp;
    ngx_stream_session_t            *s;
    ngx_stream_core_srv_conf_t      *cscf;
    ngx_stream_upstream_resolved_t  *ur;

    s = t->session->stream;
    c = s->connection;
    ur = s->upstream->resolved;

    if (ur->port == 0
        && (ur->sockaddr == NULL || ur->sockaddr->sa_family != AF_UNIX))
    {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "no port in upstream \"%V\"", &ur->host);
        return NGX_ERROR;
    }

    if (ur->sockaddr) {
        return ngx_stream_upstream_create_round_robin_peer(s, ur);
    }

    cscf = ngx_stream_get_module_srv_conf(s, ngx_stream_core_module);

    temp.name = ur->host;

    ctx = ngx_resolve_start(cscf->resolver, &temp);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    if (ctx == NGX_NO_RESOLVER) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "no resolver defined to resolve %V", &ur->host);
        return NGX_ERROR;
    }

    ctx->name = ur->host;
    ctx->handler = ngx_smtp_relay_upstream_resolved;
    ctx->data = t;
    ctx->timeout = cscf->resolver_timeout;

    ur->ctx = ctx;

    /* the handler is called at once, still within the scope, if it can be */

    t->resolving = 1;
    t->resolve_rc = NGX_AGAIN;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        ur->ctx = NULL;
        t->resolving = 0;
        return NGX_ERROR;
    }

    t->resolving = 0;

    return t->resolve_rc;
}


static void
ngx_smtp_relay_upstream_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_int_t                        rc;
    ngx_stream_session_t            *s;
    ngx_smtp_relay_transaction_t    *t;
    ngx_stream_upstream_resolved_t  *ur;

    t = ctx->data;
    s = t->session->stream;

    if (!t->resolving) {
        ngx_smtp_relay_scope_enter(&t->scope, s);
    }

    ur = s->upstream->resolved;

    if (ctx->state) {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "%V could not be resolved (%i: %s)",
                      &ctx->name, ctx->state,
                      ngx_resolver_strerror(ctx->state));

        rc = NGX_ERROR;

    } else {
        ur->naddrs = ctx->naddrs;
        ur->addrs = ctx->addrs;

        rc = ngx_stream_upstream_create_round_robin_peer(s, ur);
    }

    ngx_resolve_name_done(ctx);
    ur->ctx = NULL;

    if (t->resolving) {
        t->resolve_rc = rc;
        return;
    }

    ngx_smtp_relay_scope_leave(&t->scope, s);

    if (rc == NGX_OK) {
        ngx_smtp_relay_upstream_started(t);
    }

    ngx_smtp_relay_transaction_resolved(t, rc);
}


static ngx_int_t
ngx_smtp_relay_upstream_set_local(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t                        rc;
    ngx_str_t                        value;
    ngx_addr_t                      *addr;
    ngx_stream_session_t            *s;
    ngx_smtp_relay_bind_t           *bind;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    s = t->session->stream;
    nscf = ngx_smtp_relay_node_conf(t);
    bind = nscf->bind;

    if (bind == NULL) {
        return NGX_OK;
    }

#if (NGX_HAVE_TRANSPARENT_PROXY)
    s->upstream->peer.transparent = bind->transparent;
#endif

    if (bind->value == NULL) {
        s->upstream->peer.local = bind->addr;
        return NGX_OK;
    }

    if (ngx_stream_complex_value(s, bind->value, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (value.len == 0) {
        return NGX_OK;
    }

    addr = ngx_palloc(t->pool, sizeof(ngx_addr_t));
    if (addr == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_parse_addr_port(t->pool, addr, value.data, value.len);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "invalid local address \"%V\"", &value);
        return NGX_OK;
    }

    addr->name = value;
    s->upstream->peer.local = addr;

    return NGX_OK;
}


static void
ngx_smtp_relay_upstream_started(ngx_smtp_relay_transaction_t *t)
{
    ngx_peer_connection_t           *peer;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    nscf = ngx_smtp_relay_node_conf(t);
    peer = &t->scope.upstream->peer;

    t->upstream_start = ngx_current_msec;

    if (nscf->next_upstream_tries && peer->tries > nscf->next_upstream_tries) {
        peer->tries = nscf->next_upstream_tries;
    }
}
