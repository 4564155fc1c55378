
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"


static void ngx_smtp_relay_scope_swap(ngx_smtp_relay_scope_t *scope,
    ngx_stream_session_t *s);


ngx_int_t
ngx_smtp_relay_scope_init(ngx_smtp_relay_scope_t *scope,
    ngx_smtp_relay_session_t *ss, ngx_pool_t *pool)
{
    size_t                        size;
    ngx_stream_core_main_conf_t  *cmcf;
#if (NGX_PCRE)
    ngx_stream_session_t         *s;
#endif

    cmcf = ngx_stream_get_module_main_conf(ss->stream, ngx_stream_core_module);

    size = cmcf->variables.nelts * sizeof(ngx_stream_variable_value_t);

    scope->variables = ngx_palloc(pool, size);
    if (scope->variables == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(scope->variables, ss->variables, size);

    scope->upstream = ngx_pcalloc(pool, sizeof(ngx_stream_upstream_t));
    if (scope->upstream == NULL) {
        return NGX_ERROR;
    }

    scope->pool = pool;
    scope->upstream_states = NULL;

#if (NGX_PCRE)

    s = ss->stream;

    scope->ncaptures = s->ncaptures;
    scope->captures = NULL;
    scope->captures_data = s->captures_data;

    if (s->captures) {

        /* $1 of a regular expression matched before, in "server_name" say */

        size = cmcf->ncaptures * sizeof(int);

        scope->captures = ngx_palloc(pool, size);
        if (scope->captures == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(scope->captures, s->captures, size);
    }

#endif

    return NGX_OK;
}


void
ngx_smtp_relay_scope_enter(ngx_smtp_relay_scope_t *scope,
    ngx_stream_session_t *s)
{
    ngx_smtp_relay_scope_swap(scope, s);
}


void
ngx_smtp_relay_scope_leave(ngx_smtp_relay_scope_t *scope,
    ngx_stream_session_t *s)
{
    ngx_smtp_relay_scope_swap(scope, s);
}


static void
ngx_smtp_relay_scope_swap(ngx_smtp_relay_scope_t *scope,
    ngx_stream_session_t *s)
{
    ngx_smtp_relay_scope_t  outer;

    outer.pool = s->connection->pool;
    outer.variables = s->variables;
    outer.upstream = s->upstream;
    outer.upstream_states = s->upstream_states;

#if (NGX_PCRE)

    outer.ncaptures = s->ncaptures;
    outer.captures = s->captures;
    outer.captures_data = s->captures_data;

    s->ncaptures = scope->ncaptures;
    s->captures = scope->captures;
    s->captures_data = scope->captures_data;

#endif

    s->connection->pool = scope->pool;
    s->variables = scope->variables;
    s->upstream = scope->upstream;
    s->upstream_states = scope->upstream_states;

    *scope = outer;
}
