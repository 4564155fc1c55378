
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_node_hello.h"
#include "ngx_smtp_relay_node_ssl.h"


static ngx_int_t ngx_smtp_relay_node_ssl_set_session(
    ngx_smtp_relay_node_t *node);
static void ngx_smtp_relay_node_ssl_save_session(ngx_connection_t *c);
static void ngx_smtp_relay_node_ssl_handler(ngx_connection_t *c);


void
ngx_smtp_relay_node_ssl_start(ngx_smtp_relay_node_t *node)
{
    ngx_connection_t                *c;
    ngx_smtp_relay_peer_ssl_conf_t  *sscf;

    c = node->connection;
    sscf = &node->conf->ssl;

    ngx_smtp_relay_node_set_state(node, NGX_SMTP_RELAY_NODE_TLS);

    if (ngx_smtp_relay_peer_ssl_connection(c, sscf,
                                           &node->transaction->profile.ssl)
        != NGX_OK
        || (sscf->session_reuse
            && ngx_smtp_relay_node_ssl_set_session(node) != NGX_OK))
    {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    /* from the start TLS belongs to connecting, which is timed already */

    if (!c->write->timer_set) {
        ngx_add_timer(c->write, node->conf->connect_timeout);
    }

    if (ngx_ssl_handshake(c) == NGX_AGAIN) {
        c->ssl->handler = ngx_smtp_relay_node_ssl_handler;
        return;
    }

    ngx_smtp_relay_node_ssl_handler(c);
}


/*
 * A session comes with all that was found out when it was made: the chain
 * was trusted, the node knew the client's certificate.  The balancer keeps
 * one for a peer, whichever server and name it was made for: hence it is
 * marked with these, and used only where they are the same.
 */

static ngx_int_t
ngx_smtp_relay_node_ssl_set_session(ngx_smtp_relay_node_t *node)
{
    unsigned int            len;
    ngx_ssl_conn_t         *ssl;
    const u_char           *id;
    ngx_ssl_session_t      *session;
    ngx_stream_upstream_t  *u;
    u_char                  context[NGX_SMTP_RELAY_PEER_SSL_CONTEXT];

    ssl = node->connection->ssl->connection;
    u = node->transaction->scope.upstream;

    if (ngx_smtp_relay_peer_ssl_context(&node->conf->ssl,
                                        &node->transaction->profile.ssl,
                                        context)
        != NGX_OK
        || SSL_set_session_id_context(ssl, context, sizeof(context)) == 0)
    {
        ngx_ssl_error(NGX_LOG_CRIT, node->connection->log, 0,
                      "SSL_set_session_id_context() failed");
        return NGX_ERROR;
    }

    node->connection->ssl->save_session = ngx_smtp_relay_node_ssl_save_session;

    if (u->peer.set_session(&u->peer, u->peer.data) != NGX_OK) {
        return NGX_ERROR;
    }

    session = SSL_get_session(ssl);

    if (session == NULL) {
        return NGX_OK;
    }

    id = SSL_SESSION_get0_id_context(session, &len);

    if (len == sizeof(context) && ngx_memcmp(id, context, len) == 0) {
        return NGX_OK;
    }

    return (SSL_set_session(ssl, NULL) == 0) ? NGX_ERROR : NGX_OK;
}


/*
 * OpenSSL calls this whenever a ticket comes, with TLS 1.3 also long after
 * the handshake.  The balancer can be given it only while it still holds
 * the peer for the transaction that made this very connection.
 */

static void
ngx_smtp_relay_node_ssl_save_session(ngx_connection_t *c)
{
    ngx_smtp_relay_node_t  *node;
    ngx_stream_upstream_t  *u;

    node = c->data;

    if (node->transaction == NULL || node->transaction->node != node) {
        return;
    }

    u = node->transaction->scope.upstream;

    if (u->peer.sockaddr && u->peer.connection == c) {
        u->peer.save_session(&u->peer, u->peer.data);
    }
}


static void
ngx_smtp_relay_node_ssl_handler(ngx_connection_t *c)
{
    ngx_smtp_relay_node_t  *node;

    node = c->data;

    if (c->write->timedout) {
        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "upstream timed out");
        c->timedout = 1;
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (!c->ssl->handshaked) {
        c->error = 1;
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (ngx_smtp_relay_peer_ssl_verify(c, &node->conf->ssl,
                                       &node->transaction->profile.ssl,
                                       "upstream")
        != NGX_OK)
    {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    ngx_smtp_relay_node_hello_start(node);
}
