
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_connect.h"
#include "ngx_smtp_relay_node_hello.h"


static void ngx_smtp_relay_node_connect_handler(ngx_event_t *ev);
static void ngx_smtp_relay_node_connected(ngx_smtp_relay_node_t *node);


void
ngx_smtp_relay_node_start(ngx_smtp_relay_node_t *node, ngx_connection_t *c,
    ngx_int_t rc)
{
    node->connection = c;

    c->data = node;
    c->pool = node->pool;
    c->log = &node->log;
    c->read->log = &node->log;
    c->write->log = &node->log;

    c->read->handler = ngx_smtp_relay_node_connect_handler;
    c->write->handler = ngx_smtp_relay_node_connect_handler;

    ngx_add_timer(c->write, node->conf->connect_timeout);

    if (rc == NGX_OK) {

        /* connected at once: go on from the event loop all the same */

        ngx_post_event(c->write, &ngx_posted_events);
    }
}


static void
ngx_smtp_relay_node_connect_handler(ngx_event_t *ev)
{
    ngx_connection_t       *c;
    ngx_smtp_relay_node_t  *node;

    c = ev->data;
    node = c->data;

    if (c->close) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0, "shutdown timeout");
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (ev->timedout) {
        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "upstream timed out");
        c->timedout = 1;
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (ngx_smtp_relay_test_connect(c) != NGX_OK) {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    ngx_smtp_relay_node_connected(node);
}


static void
ngx_smtp_relay_node_connected(ngx_smtp_relay_node_t *node)
{
    ngx_connection_t  *c;

    c = node->connection;

    /* a flight of commands must not wait for the reply to the last one */

    if (node->sockaddr->sa_family != AF_UNIX && ngx_tcp_nodelay(c) != NGX_OK) {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_STREAM, c->log, 0,
                   "smtp relay node connected: %V", &node->name);

    node->stat->opened++;

    /* in front of everything, TLS included */

    if (node->conf->proxy_protocol != NGX_SMTP_RELAY_NODE_PROXY_OFF
        && ngx_smtp_relay_node_proxy(node) != NGX_OK)
    {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (node->conf->ssl_mode == NGX_SMTP_RELAY_NODE_SSL_ON) {
        ngx_smtp_relay_node_ssl_start(node);
        return;
    }

    ngx_smtp_relay_node_hello_start(node);
}
