
/*
 * nginx's stream code draws memory from s->connection->pool and caches
 * variables in s->variables for as long as a connection lives.  An SMTP
 * session lives long, so whatever belongs to one message or one AUTH
 * attempt is evaluated within a scope: a pool, variables and an upstream of
 * its own, put into the stream session for the time of a call.  When the
 * pool goes, all of it goes.
 */


#ifndef _NGX_SMTP_RELAY_SCOPE_H_INCLUDED_
#define _NGX_SMTP_RELAY_SCOPE_H_INCLUDED_


#include "ngx_smtp_relay.h"


typedef struct {
    ngx_pool_t                     *pool;
    ngx_stream_variable_value_t    *variables;
    ngx_stream_upstream_t          *upstream;
    ngx_array_t                    *upstream_states;
#if (NGX_PCRE)
    ngx_uint_t                      ncaptures;
    int                            *captures;
    u_char                         *captures_data;
#endif
} ngx_smtp_relay_scope_t;


/*
 * Fills *scope: variables and upstream are allocated from pool, the values
 * start as they were when the session reached the relay.  NGX_OK or
 * NGX_ERROR (no memory).
 */
ngx_int_t ngx_smtp_relay_scope_init(ngx_smtp_relay_scope_t *scope,
    ngx_smtp_relay_session_t *ss, ngx_pool_t *pool);

/*
 * Enter and leave a scope.  Between the two nothing may finalize the
 * session, and scopes do not nest.
 */
void ngx_smtp_relay_scope_enter(ngx_smtp_relay_scope_t *scope,
    ngx_stream_session_t *s);
void ngx_smtp_relay_scope_leave(ngx_smtp_relay_scope_t *scope,
    ngx_stream_session_t *s);


#endif /* _NGX_SMTP_RELAY_SCOPE_H_INCLUDED_ */
