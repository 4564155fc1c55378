
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_http.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_smtp_relay_http_conn.h"


static ngx_smtp_relay_http_peer_t *ngx_smtp_relay_http_peer_create(
    ngx_conf_t *cf);
static void ngx_smtp_relay_http_peer_cleanup(void *data);
static ngx_int_t ngx_smtp_relay_http_peer_parse(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_smtp_relay_http_peer_t *peer, ngx_str_t *rest);
static ngx_int_t ngx_smtp_relay_http_peer_set_uri(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_smtp_relay_http_peer_t *peer, ngx_str_t *uri);
static ngx_int_t ngx_smtp_relay_http_peer_compile(ngx_conf_t *cf,
    ngx_str_t *text, ngx_stream_complex_value_t **value);
static ngx_stream_upstream_srv_conf_t *ngx_smtp_relay_http_peer_group(
    ngx_stream_upstream_main_conf_t *umcf, ngx_str_t *host);
static ngx_int_t ngx_smtp_relay_http_peer_add_upstream(ngx_conf_t *cf,
    ngx_smtp_relay_http_peer_t *peer, ngx_uint_t group);
static ngx_int_t ngx_smtp_relay_http_peer_eval_url(
    ngx_smtp_relay_http_t *http);
static ngx_int_t ngx_smtp_relay_http_peer_eval_host(
    ngx_smtp_relay_http_t *http, ngx_url_t *url);
static ngx_uint_t ngx_smtp_relay_http_peer_has_blank(ngx_str_t *text);
static ngx_int_t ngx_smtp_relay_http_peer_use(ngx_stream_session_t *s,
    ngx_stream_upstream_srv_conf_t *uscf);
static ngx_int_t ngx_smtp_relay_http_peer_resolve(
    ngx_smtp_relay_http_t *http, ngx_stream_upstream_resolved_t *ur);
static void ngx_smtp_relay_http_peer_resolved(ngx_resolver_ctx_t *ctx);


#define ngx_smtp_relay_http_has_resolver(cscf)                                \
    ((cscf)->resolver && (cscf)->resolver->connections.nelts)

#define ngx_smtp_relay_http_default_port(peer)  ((peer)->ssl ? 443 : 80)


ngx_smtp_relay_http_peer_t *
ngx_smtp_relay_http_peer_add(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *url)
{
    ngx_str_t                    rest;
    ngx_smtp_relay_http_peer_t  *peer;

    peer = ngx_smtp_relay_http_peer_create(cf);
    if (peer == NULL) {
        return NULL;
    }

    rest = *url;

    if (rest.len > 8
        && ngx_strncasecmp(rest.data, (u_char *) "https://", 8) == 0)
    {
        peer->ssl = 1;
        rest.data += 8;
        rest.len -= 8;

    } else if (rest.len > 7
               && ngx_strncasecmp(rest.data, (u_char *) "http://", 7) == 0)
    {
        rest.data += 7;
        rest.len -= 7;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid URL prefix in \"%V\"",
                           &cmd->name, url);
        return NULL;
    }

    if (ngx_smtp_relay_http_peer_parse(cf, cmd, peer, &rest) != NGX_OK) {
        return NULL;
    }

    return peer;
}


static ngx_smtp_relay_http_peer_t *
ngx_smtp_relay_http_peer_create(ngx_conf_t *cf)
{
    ngx_pool_cleanup_t          *cln;
    ngx_smtp_relay_http_peer_t  *peer;

    peer = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_http_peer_t));
    if (peer == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     peer->ssl = 0;
     *     peer->url = NULL;
     *     peer->uri_value = NULL;
     *     peer->upstream = NULL;
     *     peer->nidle = 0;
     *     peer->nsessions = 0;
     */

    peer->file_name = cf->conf_file->file.name.data;
    peer->line = cf->conf_file->line;

    ngx_queue_init(&peer->idle);
    ngx_queue_init(&peer->surplus);
    ngx_queue_init(&peer->sessions);

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_smtp_relay_http_peer_cleanup;
    cln->data = peer;

    return peer;
}


static void
ngx_smtp_relay_http_peer_cleanup(void *data)
{
    ngx_smtp_relay_http_peer_t *peer = data;

    ngx_smtp_relay_http_ssl_free(peer);
}


static ngx_int_t
ngx_smtp_relay_http_peer_parse(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_smtp_relay_http_peer_t *peer, ngx_str_t *rest)
{
    u_char    *p, *last;
    ngx_str_t  authority;
    ngx_url_t  u;

    last = rest->data + rest->len;

    for (p = rest->data; p < last && *p != '/' && *p != '?'; p++) {
        /* void */
    }

    authority.len = p - rest->data;
    authority.data = rest->data;

    if (ngx_stream_script_variables_count(&authority)) {
        return ngx_smtp_relay_http_peer_compile(cf, rest, &peer->url);
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *rest;
    u.default_port = ngx_smtp_relay_http_default_port(peer);
    u.uri_part = 1;
    u.no_resolve = 1;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" has %s in \"%V\"",
                           &cmd->name, u.err ? u.err : "an invalid host",
                           rest);
        return NGX_ERROR;
    }

    peer->host = u.host;
    peer->port = u.port;
    peer->no_port = u.no_port;
    peer->local = (u.family == AF_UNIX);
    peer->name = (u.naddrs == 0);

    /* the authority as written, its port included (RFC 9110, 7.2.) */

    peer->authority.data = rest->data;
    peer->authority.len = rest->len - u.uri.len;

    if (ngx_smtp_relay_http_peer_has_blank(&peer->authority)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid host in \"%V\"",
                           &cmd->name, rest);
        return NGX_ERROR;
    }

    return ngx_smtp_relay_http_peer_set_uri(cf, cmd, peer, &u.uri);
}


static ngx_int_t
ngx_smtp_relay_http_peer_set_uri(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_smtp_relay_http_peer_t *peer, ngx_str_t *uri)
{
    u_char  *p;

    /* nothing, or nothing but arguments, is of the root */

    p = ngx_pnalloc(cf->pool, uri->len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    peer->uri.data = p;

    if (uri->len == 0 || uri->data[0] != '/') {
        *p++ = '/';
    }

    p = ngx_cpymem(p, uri->data, uri->len);

    peer->uri.len = p - peer->uri.data;

    if (ngx_stream_script_variables_count(&peer->uri)) {
        return ngx_smtp_relay_http_peer_compile(cf, &peer->uri,
                                                &peer->uri_value);
    }

    if (ngx_smtp_relay_http_peer_has_blank(&peer->uri)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid URI \"%V\"",
                           &cmd->name, &peer->uri);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_http_peer_compile(ngx_conf_t *cf, ngx_str_t *text,
    ngx_stream_complex_value_t **value)
{
    ngx_stream_compile_complex_value_t  ccv;

    *value = ngx_palloc(cf->pool, sizeof(ngx_stream_complex_value_t));
    if (*value == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = text;
    ccv.complex_value = *value;

    return ngx_stream_compile_complex_value(&ccv);
}


ngx_int_t
ngx_smtp_relay_http_peer_init(ngx_conf_t *cf,
    ngx_smtp_relay_http_peer_t *peer)
{
    ngx_stream_core_srv_conf_t       *cscf;
    ngx_stream_upstream_srv_conf_t   *group;
    ngx_stream_upstream_main_conf_t  *umcf;

    if (peer->url || peer->upstream) {
        return NGX_OK;
    }

    umcf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_upstream_module);

    group = peer->name ? ngx_smtp_relay_http_peer_group(umcf, &peer->host)
                       : NULL;

    if (group == NULL) {

        /* RFC 6761, 6.3.: that name is not asked of a name server */

        if (peer->host.len == 9
            && ngx_strncasecmp(peer->host.data, (u_char *) "localhost", 9)
               == 0)
        {
            peer->name = 0;
        }

        cscf = ngx_stream_conf_get_module_srv_conf(cf, ngx_stream_core_module);

        if (peer->name && ngx_smtp_relay_http_has_resolver(cscf)) {
            return NGX_OK;
        }

        return ngx_smtp_relay_http_peer_add_upstream(cf, peer, 0);
    }

    peer->name = 0;

    if (!peer->no_port) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "upstream \"%V\" may not have port %ui in %s:%ui",
                      &peer->host, (ngx_uint_t) peer->port, peer->file_name,
                      peer->line);
        return NGX_ERROR;
    }

    return ngx_smtp_relay_http_peer_add_upstream(cf, peer, 1);
}


static ngx_stream_upstream_srv_conf_t *
ngx_smtp_relay_http_peer_group(ngx_stream_upstream_main_conf_t *umcf,
    ngx_str_t *host)
{
    ngx_uint_t                        i;
    ngx_stream_upstream_srv_conf_t  **uscfp;

    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        if ((uscfp[i]->flags & NGX_STREAM_UPSTREAM_CREATE)
            && uscfp[i]->host.len == host->len
            && ngx_strncasecmp(uscfp[i]->host.data, host->data, host->len)
               == 0)
        {
            return uscfp[i];
        }
    }

    return NULL;
}


/*
 * Which names are groups is known only now, and nginx has made what the
 * others need already: hence it is made here.
 */

static ngx_int_t
ngx_smtp_relay_http_peer_add_upstream(ngx_conf_t *cf,
    ngx_smtp_relay_http_peer_t *peer, ngx_uint_t group)
{
    ngx_url_t                        u;
    ngx_stream_upstream_init_pt      init;
    ngx_stream_upstream_srv_conf_t  *uscf;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = peer->authority;
    u.default_port = group ? 0 : ngx_smtp_relay_http_default_port(peer);
    u.uri_part = 1;
    u.no_resolve = 1;

    uscf = ngx_stream_upstream_add(cf, &u, 0);
    if (uscf == NULL) {
        return NGX_ERROR;
    }

    peer->upstream = uscf;

    if (uscf->peer.init) {
        return NGX_OK;
    }

    uscf->file_name = peer->file_name;
    uscf->line = peer->line;

    init = uscf->peer.init_upstream ? uscf->peer.init_upstream
                                    : ngx_stream_upstream_init_round_robin;

    return init(cf, uscf);
}


ngx_int_t
ngx_smtp_relay_http_peer_eval(ngx_smtp_relay_http_t *http)
{
    ngx_stream_session_t        *s;
    ngx_smtp_relay_http_peer_t  *peer;

    s = http->session->stream;
    peer = http->peer;

    if (peer->url) {
        return ngx_smtp_relay_http_peer_eval_url(http);
    }

    http->host = peer->authority;
    http->uri = peer->uri;

    if (peer->local) {
        ngx_str_set(&http->host, "localhost");
    }

    if (peer->uri_value == NULL) {
        return NGX_OK;
    }

    if (ngx_stream_complex_value(s, peer->uri_value, &http->uri) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_http_peer_has_blank(&http->uri)) {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "invalid URI of auth service");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_http_peer_eval_url(ngx_smtp_relay_http_t *http)
{
    u_char                *p;
    ngx_url_t              url;
    ngx_str_t              value;
    ngx_stream_session_t  *s;

    s = http->session->stream;

    if (ngx_stream_complex_value(s, http->peer->url, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    /* what would be a header of its own, or end one */

    if (ngx_smtp_relay_http_peer_has_blank(&value)) {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "invalid URL of auth service");
        return NGX_ERROR;
    }

    ngx_memzero(&url, sizeof(ngx_url_t));

    url.url = value;
    url.default_port = ngx_smtp_relay_http_default_port(http->peer);
    url.uri_part = 1;
    url.no_resolve = 1;

    if (ngx_parse_url(http->pool, &url) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "%s in URL of auth service \"%V\"",
                      url.err ? url.err : "invalid host", &value);
        return NGX_ERROR;
    }

    http->host.data = value.data;
    http->host.len = value.len - url.uri.len;

    if (url.family == AF_UNIX) {
        ngx_str_set(&http->host, "localhost");
    }

    http->uri = url.uri;

    if (http->uri.len == 0 || http->uri.data[0] != '/') {

        p = ngx_pnalloc(http->pool, url.uri.len + 1);
        if (p == NULL) {
            return NGX_ERROR;
        }

        http->uri.len = url.uri.len + 1;
        http->uri.data = p;

        *p++ = '/';
        ngx_memcpy(p, url.uri.data, url.uri.len);
    }

    return ngx_smtp_relay_http_peer_eval_host(http, &url);
}


static ngx_int_t
ngx_smtp_relay_http_peer_eval_host(ngx_smtp_relay_http_t *http,
    ngx_url_t *url)
{
    ngx_stream_upstream_resolved_t  *ur;

    ur = ngx_pcalloc(http->pool, sizeof(ngx_stream_upstream_resolved_t));
    if (ur == NULL) {
        return NGX_ERROR;
    }

    if (url->addrs) {
        ur->sockaddr = url->addrs[0].sockaddr;
        ur->socklen = url->addrs[0].socklen;
        ur->name = url->addrs[0].name;
        ur->naddrs = 1;
    }

    ur->host = url->host;
    ur->port = url->port;
    ur->no_port = url->no_port;

    http->session->stream->upstream->resolved = ur;

    return NGX_OK;
}


static ngx_uint_t
ngx_smtp_relay_http_peer_has_blank(ngx_str_t *text)
{
    size_t  i;

    for (i = 0; i < text->len; i++) {
        if (text->data[i] <= ' ' || text->data[i] == 0x7f) {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_smtp_relay_http_peer_choose(ngx_smtp_relay_http_t *http)
{
    ngx_stream_session_t             *s;
    ngx_smtp_relay_http_peer_t       *peer;
    ngx_stream_core_srv_conf_t       *cscf;
    ngx_stream_upstream_srv_conf_t   *group;
    ngx_stream_upstream_resolved_t   *ur;
    ngx_stream_upstream_main_conf_t  *umcf;

    s = http->session->stream;
    peer = http->peer;
    ur = s->upstream->resolved;

    if (ur) {
        umcf = ngx_stream_get_module_main_conf(s, ngx_stream_upstream_module);

        group = ur->no_port ? ngx_smtp_relay_http_peer_group(umcf, &ur->host)
                            : NULL;

        return group ? ngx_smtp_relay_http_peer_use(s, group)
                     : ngx_smtp_relay_http_peer_resolve(http, ur);
    }

    cscf = ngx_stream_get_module_srv_conf(s, ngx_stream_core_module);

    if (!peer->name || !ngx_smtp_relay_http_has_resolver(cscf)) {
        return ngx_smtp_relay_http_peer_use(s, peer->upstream);
    }

    ur = ngx_pcalloc(http->pool, sizeof(ngx_stream_upstream_resolved_t));
    if (ur == NULL) {
        return NGX_ERROR;
    }

    ur->host = peer->host;
    ur->port = peer->port;

    s->upstream->resolved = ur;

    return ngx_smtp_relay_http_peer_resolve(http, ur);
}


static ngx_int_t
ngx_smtp_relay_http_peer_use(ngx_stream_session_t *s,
    ngx_stream_upstream_srv_conf_t *uscf)
{
    s->upstream->upstream = uscf;

    return uscf->peer.init(s, uscf);
}


static ngx_int_t
ngx_smtp_relay_http_peer_resolve(ngx_smtp_relay_http_t *http,
    ngx_stream_upstream_resolved_t *ur)
{
    ngx_int_t                    rc;
    ngx_log_t                   *log;
    ngx_resolver_ctx_t          *ctx, temp;
    ngx_stream_session_t        *s;
    ngx_stream_core_srv_conf_t  *cscf;

    s = http->session->stream;
    log = s->connection->log;

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
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "no resolver defined to resolve %V", &ur->host);
        return NGX_ERROR;
    }

    ctx->name = ur->host;
    ctx->handler = ngx_smtp_relay_http_peer_resolved;
    ctx->data = http;
    ctx->timeout = ngx_min(cscf->resolver_timeout,
                           ngx_smtp_relay_http_time_left(http));

    ur->ctx = ctx;

    /* the handler is called at once, still within the scope, if it can be */

    http->resolving = 1;

    rc = ngx_resolve_name(ctx);

    http->resolving = 0;

    if (rc != NGX_OK) {
        ur->ctx = NULL;
        return NGX_ERROR;
    }

    if (ur->ctx) {
        return NGX_AGAIN;
    }

    return s->upstream->peer.get ? NGX_OK : NGX_ERROR;
}


static void
ngx_smtp_relay_http_peer_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_int_t                        rc;
    ngx_uint_t                       nested;
    ngx_stream_session_t            *s;
    ngx_smtp_relay_http_t           *http;
    ngx_stream_upstream_resolved_t  *ur;

    http = ctx->data;
    s = http->session->stream;
    nested = http->resolving;

    if (!nested) {
        ngx_smtp_relay_scope_enter(&http->scope, s);
    }

    ur = s->upstream->resolved;

    if (ctx->state) {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "auth service %V could not be resolved (%i: %s)",
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

    if (nested) {
        return;
    }

    ngx_smtp_relay_scope_leave(&http->scope, s);

    ngx_smtp_relay_http_resolved(http, rc);
}


void
ngx_smtp_relay_http_peer_cancel(ngx_smtp_relay_http_t *http)
{
    ngx_stream_upstream_resolved_t  *ur;

    ur = http->scope.upstream->resolved;

    if (ur && ur->ctx) {
        ngx_resolve_name_done(ur->ctx);
        ur->ctx = NULL;
    }
}


#endif
