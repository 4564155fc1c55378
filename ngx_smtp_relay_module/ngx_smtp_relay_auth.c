
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_cache.h"
#include "ngx_smtp_relay_auth_file.h"
#include "ngx_smtp_relay_auth_http.h"
#include "ngx_smtp_relay_auth_identity.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_upstream.h"


/* an idle session keeps its verdict: little more than that goes in here */

#define NGX_SMTP_RELAY_AUTH_POOL_SIZE  512


static ngx_int_t ngx_smtp_relay_auth_file(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_srv_conf_t *ascf);
static void ngx_smtp_relay_auth_node(ngx_smtp_relay_auth_t *auth);
static void ngx_smtp_relay_auth_event(ngx_event_t *ev);
static void ngx_smtp_relay_auth_wipe(ngx_str_t *text);


ngx_smtp_relay_auth_t *
ngx_smtp_relay_auth_create(ngx_smtp_relay_session_t *ss)
{
    ngx_pool_t             *pool;
    ngx_smtp_relay_auth_t  *auth;

    pool = ngx_create_pool(NGX_SMTP_RELAY_AUTH_POOL_SIZE, ss->connection->log);
    if (pool == NULL) {
        return NULL;
    }

    auth = ngx_pcalloc(pool, sizeof(ngx_smtp_relay_auth_t));
    if (auth == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    auth->pool = pool;
    auth->session = ss;

    auth->event.handler = ngx_smtp_relay_auth_event;
    auth->event.data = auth;
    auth->event.log = ss->connection->log;

    return auth;
}


void
ngx_smtp_relay_auth_start(ngx_smtp_relay_auth_t *auth)
{
    ngx_smtp_relay_auth_srv_conf_t  *ascf;

    ascf = ngx_stream_get_module_srv_conf(auth->session->stream,
                                          ngx_smtp_relay_auth_module);

    auth->start = ngx_current_msec;
    auth->user = auth->credentials.user;

    if (ascf->file
        && (auth->credentials.method & NGX_SMTP_RELAY_AUTH_SECRETS)
        && ngx_smtp_relay_auth_file(auth, ascf) == NGX_OK)
    {
        return;
    }

#if (NGX_SMTP_RELAY_HTTP)

    switch (ngx_smtp_relay_auth_cache_start(auth, ascf)) {

    case NGX_OK:
        ngx_smtp_relay_auth_done(auth, auth->status);
        return;

    case NGX_AGAIN:
        return;

    default: /* NGX_DECLINED */
        break;
    }

#endif

    ngx_smtp_relay_auth_ask(auth);
}


/* NGX_OK: the file had the word; NGX_DECLINED: ask the service */

static ngx_int_t
ngx_smtp_relay_auth_file(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_srv_conf_t *ascf)
{
    ngx_log_t                     *log;
    ngx_smtp_relay_auth_status_e   status;

    log = auth->session->connection->log;

    auth->source = NGX_SMTP_RELAY_AUTH_BY_FILE;

    switch (ngx_smtp_relay_auth_file_check(ascf->file, auth->pool, log,
                                           &auth->credentials, &auth->account))
    {

    case NGX_OK:

        if (ngx_smtp_relay_auth_acts(&auth->credentials)) {

            /* RFC 4616, 2.: it takes a permission that a file cannot give */

            ngx_log_error(NGX_LOG_INFO, log, 0,
                          "client login failed: authorization identity "
                          "differs from user \"%V\"", &auth->user);

            status = NGX_SMTP_RELAY_AUTH_DENIED;
            break;
        }

        status = NGX_SMTP_RELAY_AUTH_OK;
        break;

    case NGX_DONE:

        if (ascf->service) {
            return NGX_DECLINED;
        }

        ngx_log_error(NGX_LOG_INFO, log, 0,
                      "client login failed: unknown user \"%V\"", &auth->user);

        status = NGX_SMTP_RELAY_AUTH_DENIED;
        break;

    case NGX_DECLINED:
        ngx_log_error(NGX_LOG_INFO, log, 0,
                      "client login failed: wrong password of user \"%V\"",
                      &auth->user);

        status = NGX_SMTP_RELAY_AUTH_DENIED;
        break;

    default: /* NGX_ERROR */
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "password of user \"%V\" could not be checked",
                      &auth->user);

        status = NGX_SMTP_RELAY_AUTH_ERROR;
    }

    ngx_smtp_relay_auth_done(auth, status);

    return NGX_OK;
}


void
ngx_smtp_relay_auth_ask(ngx_smtp_relay_auth_t *auth)
{
    auth->source = NGX_SMTP_RELAY_AUTH_BY_SERVICE;

#if (NGX_SMTP_RELAY_HTTP)

    if (ngx_smtp_relay_auth_http_start(auth) == NGX_OK) {
        return;
    }

#endif

    auth->failed = 1;

    ngx_smtp_relay_auth_done(auth, NGX_SMTP_RELAY_AUTH_ERROR);
}


void
ngx_smtp_relay_auth_done(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_status_e status)
{
#if (NGX_SMTP_RELAY_HTTP)
    status = ngx_smtp_relay_auth_cache_done(auth, status);

    /* what is kept may be of a configuration that had other groups */

    if (status == NGX_SMTP_RELAY_AUTH_OK
        && auth->source != NGX_SMTP_RELAY_AUTH_BY_SERVICE
        && ngx_smtp_relay_upstream_check(auth) != NGX_OK)
    {
        status = NGX_SMTP_RELAY_AUTH_ERROR;
    }
#endif

    auth->status = status;
    auth->time = ngx_current_msec - auth->start;

    if (status == NGX_SMTP_RELAY_AUTH_OK) {
        ngx_smtp_relay_auth_node(auth);

    } else {
        ngx_smtp_relay_auth_wipe(&auth->node_secret);
    }

    ngx_smtp_relay_auth_wipe(&auth->credentials.secret);

    if (auth->account.len == 0) {
        auth->account = auth->user;
    }

    if (status != NGX_SMTP_RELAY_AUTH_OK && auth->reply.len == 0) {

        if (status == NGX_SMTP_RELAY_AUTH_DENIED) {
            ngx_str_set(&auth->reply, "535 5.7.8 Authentication failed");

        } else {
            ngx_str_set(&auth->reply,
                        "454 4.7.0 Temporary authentication failure");
        }
    }

    ngx_post_event(&auth->event, &ngx_posted_events);
}


void
ngx_smtp_relay_auth_reset(ngx_smtp_relay_auth_t *auth)
{
    ngx_smtp_relay_auth_wipe(&auth->node_secret);

    auth->user = auth->credentials.user;

    ngx_str_null(&auth->account);
    ngx_str_null(&auth->reply);
    ngx_str_null(&auth->node_user);
    ngx_str_null(&auth->node_secret);
    ngx_str_null(&auth->server);
    ngx_str_null(&auth->upstream);

    ngx_memzero(&auth->plan, sizeof(ngx_smtp_relay_plan_t));

    auth->headers = NULL;
    auth->wait = 0;
    auth->port = 0;
}


/* nodes are told the client's own, where the service has nothing else */

static void
ngx_smtp_relay_auth_node(ngx_smtp_relay_auth_t *auth)
{
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    nscf = ngx_stream_get_module_srv_conf(auth->session->stream,
                                          ngx_smtp_relay_node_module);

    if (nscf->auth != NGX_SMTP_RELAY_NODE_AUTH_PASS) {

        /* it may be the client's, in plain text, and nobody is told it */

        ngx_smtp_relay_auth_wipe(&auth->node_secret);
        return;
    }

    if (auth->node_user.len == 0) {
        auth->node_user = auth->user;
    }

    if (auth->node_secret.len == 0
        && (auth->credentials.method & NGX_SMTP_RELAY_AUTH_SECRETS))
    {
        auth->node_secret = auth->credentials.secret;
        auth->credentials.secret.len = 0;
    }
}


static void
ngx_smtp_relay_auth_event(ngx_event_t *ev)
{
    ngx_smtp_relay_auth_t  *auth;

    auth = ev->data;

    ngx_smtp_relay_stat_auth(auth);

    auth->handler(auth);
}


void
ngx_smtp_relay_auth_destroy(ngx_smtp_relay_auth_t *auth)
{
#if (NGX_SMTP_RELAY_HTTP)
    ngx_smtp_relay_auth_http_cancel(auth);
    ngx_smtp_relay_auth_cache_cancel(auth);
#endif

    if (auth->event.posted) {
        ngx_delete_posted_event(&auth->event);
    }

    ngx_smtp_relay_auth_wipe(&auth->credentials.secret);
    ngx_smtp_relay_auth_wipe(&auth->node_secret);

    ngx_destroy_pool(auth->pool);
}


static void
ngx_smtp_relay_auth_wipe(ngx_str_t *text)
{
    if (text->len) {
        ngx_explicit_memzero(text->data, text->len);
        text->len = 0;
    }
}


ngx_str_t *
ngx_smtp_relay_auth_header(ngx_smtp_relay_auth_t *auth, u_char *name,
    size_t len)
{
    ngx_uint_t     i;
    ngx_keyval_t  *kv;

    if (auth->headers == NULL) {
        return NULL;
    }

    kv = auth->headers->elts;

    for (i = 0; i < auth->headers->nelts; i++) {
        if (kv[i].key.len == len
            && ngx_strncmp(kv[i].key.data, name, len) == 0)
        {
            return &kv[i].value;
        }
    }

    return NULL;
}
