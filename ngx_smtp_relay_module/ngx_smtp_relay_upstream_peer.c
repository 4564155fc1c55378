
/* A node that the balancer gives: a connection to it, and the end of that. */


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_node_pool.h"
#include "ngx_smtp_relay_node_hello.h"
#include "ngx_smtp_relay_upstream.h"


static ngx_int_t ngx_smtp_relay_upstream_get(ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_upstream_reuse(
    ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_upstream_connect(
    ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_upstream_push_state(
    ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_upstream_set_name(
    ngx_smtp_relay_transaction_t *t);


ngx_int_t
ngx_smtp_relay_upstream_next(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t                        rc;
    ngx_connection_t                *c;
    ngx_stream_upstream_t           *u;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    c = t->session->connection;
    u = t->scope.upstream;
    nscf = ngx_smtp_relay_node_conf(t);

    for ( ;; ) {
        rc = ngx_smtp_relay_upstream_get(t);

        if (rc != NGX_OK) {
            ngx_log_error(NGX_LOG_ERR, c->log, 0, "no live upstreams");
            return NGX_ERROR;
        }

        rc = ngx_smtp_relay_upstream_reuse(t);

        if (rc != NGX_DECLINED) {
            return rc;
        }

        rc = ngx_smtp_relay_upstream_connect(t);

        if (rc != NGX_DECLINED) {
            return rc;
        }

        ngx_smtp_relay_upstream_free(t, NGX_PEER_FAILED);

        if (u->peer.tries == 0
            || !nscf->next_upstream
            || (nscf->next_upstream_timeout
                && ngx_current_msec - t->upstream_start
                   >= nscf->next_upstream_timeout))
        {
            return NGX_ERROR;
        }
    }
}


ngx_int_t
ngx_smtp_relay_upstream_again(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t  rc;

    if (ngx_smtp_relay_upstream_push_state(t) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_upstream_set_name(t) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_smtp_relay_upstream_connect(t);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ngx_smtp_relay_upstream_free(t, NGX_PEER_FAILED);

    if (t->scope.upstream->peer.tries == 0
        || !ngx_smtp_relay_node_conf(t)->next_upstream)
    {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_upstream_next(t);
}


static ngx_int_t
ngx_smtp_relay_upstream_get(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t               rc;
    ngx_stream_upstream_t  *u;

    u = t->scope.upstream;

    if (ngx_smtp_relay_upstream_push_state(t) != NGX_OK) {
        return NGX_ERROR;
    }

    /*
     * the balancer is asked apart from connecting: what it chose may be had
     * without a connection of its own, from the pool
     */

    rc = u->peer.get(&u->peer, u->peer.data);

    if (ngx_smtp_relay_upstream_set_name(t) != NGX_OK) {
        return NGX_ERROR;
    }

    if (rc != NGX_OK && rc != NGX_DONE) {
        u->peer.sockaddr = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* NGX_DECLINED: there is no idle connection that will do */

static ngx_int_t
ngx_smtp_relay_upstream_reuse(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t                        rc;
    ngx_smtp_relay_node_t           *node;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    nscf = ngx_smtp_relay_node_conf(t);

    for ( ;; ) {
        node = ngx_smtp_relay_node_pool_get(nscf->pool,
                                            &t->scope.upstream->peer,
                                            &t->profile.key);
        if (node == NULL) {
            return NGX_DECLINED;
        }

        ngx_smtp_relay_node_attach(node, t);

        rc = ngx_smtp_relay_node_hello_again(node);

        if (rc == NGX_OK || rc == NGX_AGAIN) {
            t->node = node;
            t->node_reused = 1;
            t->upstream_state->connect_time = 0;

            return rc;
        }

        ngx_smtp_relay_node_detach(node);

        if (rc == NGX_DECLINED) {
            ngx_smtp_relay_node_quit(node);

        } else {
            ngx_smtp_relay_node_close(node);
        }
    }
}


static ngx_int_t
ngx_smtp_relay_upstream_connect(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t                 rc;
    ngx_event_get_peer_pt     get;
    ngx_stream_upstream_t    *u;
    ngx_smtp_relay_node_t    *node;

    u = t->scope.upstream;

    ngx_smtp_relay_stat_choose(t);

    node = ngx_smtp_relay_node_create(t, &u->peer);
    if (node == NULL) {
        return NGX_ERROR;
    }

    t->node_reused = 0;

    ngx_smtp_relay_node_attach(node, t);

    node->log.action = "connecting to upstream";

    get = u->peer.get;

    u->peer.get = ngx_event_get_peer;
    u->peer.log = &node->log;
    u->peer.connection = NULL;

    rc = ngx_event_connect_peer(&u->peer);

    u->peer.get = get;
    u->peer.log = t->session->connection->log;

    if (rc == NGX_ERROR || rc == NGX_DECLINED || rc == NGX_BUSY) {

        if (u->peer.connection) {
            ngx_close_connection(u->peer.connection);
            u->peer.connection = NULL;
        }

        ngx_smtp_relay_node_close(node);

        t->stat->failures[NGX_SMTP_RELAY_FAILED_CONNECT]++;

        return (rc == NGX_ERROR) ? NGX_ERROR : NGX_DECLINED;
    }

    /* rc == NGX_OK || rc == NGX_AGAIN */

    t->node = node;

    ngx_smtp_relay_node_start(node, u->peer.connection, rc);

    return NGX_AGAIN;
}


static ngx_int_t
ngx_smtp_relay_upstream_push_state(ngx_smtp_relay_transaction_t *t)
{
    t->upstream_state = ngx_array_push(t->scope.upstream_states);
    if (t->upstream_state == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(t->upstream_state, sizeof(ngx_stream_upstream_state_t));

    t->node_start = ngx_current_msec;

    t->upstream_state->connect_time = (ngx_msec_t) -1;
    t->upstream_state->first_byte_time = (ngx_msec_t) -1;
    t->upstream_state->response_time = (ngx_msec_t) -1;

    return NGX_OK;
}


/*
 * The name of a peer of a shared zone may go when the zone changes, the log
 * line of the message needs it later: hence a copy.
 */

static ngx_int_t
ngx_smtp_relay_upstream_set_name(ngx_smtp_relay_transaction_t *t)
{
    ngx_str_t              *name;
    ngx_peer_connection_t  *peer;

    peer = &t->scope.upstream->peer;

    if (peer->name == NULL) {
        return NGX_OK;
    }

    name = ngx_palloc(t->pool, sizeof(ngx_str_t) + peer->name->len);
    if (name == NULL) {
        return NGX_ERROR;
    }

    name->len = peer->name->len;
    name->data = (u_char *) (name + 1);
    ngx_memcpy(name->data, peer->name->data, name->len);

    peer->name = name;
    t->upstream_state->peer = name;

    return NGX_OK;
}


void
ngx_smtp_relay_upstream_free(ngx_smtp_relay_transaction_t *t, ngx_uint_t state)
{
    ngx_stream_upstream_t  *u;

    u = t->scope.upstream;

    if (t->upstream_state
        && t->upstream_state->response_time == (ngx_msec_t) -1)
    {
        t->upstream_state->response_time = ngx_current_msec - t->node_start;
    }

    if (t->profile.denied) {

        /* the next node is tried all the same, but this one is sound */

        t->profile.denied = 0;
        state = 0;
    }

    if (u->peer.sockaddr && u->peer.free) {
        u->peer.free(&u->peer, u->peer.data, state);
    }

    u->peer.sockaddr = NULL;
    u->peer.connection = NULL;
}


void
ngx_smtp_relay_upstream_cleanup(ngx_smtp_relay_transaction_t *t)
{
    ngx_stream_upstream_resolved_t  *ur;

    ur = t->scope.upstream->resolved;

    if (ur && ur->ctx) {
        ngx_resolve_name_done(ur->ctx);
        ur->ctx = NULL;
    }

    ngx_smtp_relay_upstream_free(t, 0);
    ngx_smtp_relay_node_profile_done(t);
}
