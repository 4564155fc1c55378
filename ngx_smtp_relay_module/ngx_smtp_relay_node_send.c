
/* What a node is sent: commands, and content behind them. */


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_log.h"


/* how long a connection that is not used is taken to be up, ms */

#define NGX_SMTP_RELAY_NODE_FRESH  5000


static ngx_int_t ngx_smtp_relay_node_wait_write(ngx_smtp_relay_node_t *node);


ngx_int_t
ngx_smtp_relay_node_command(ngx_smtp_relay_node_t *node, ngx_str_t *command)
{
    ngx_buf_t  *b;

    if (node->out == NULL) {
        node->out = ngx_smtp_relay_buf_get(node->buffer_size,
                                           node->connection->log);
        if (node->out == NULL) {
            return NGX_ERROR;
        }
    }

    b = node->out;

    if ((size_t) (b->end - b->last) < command->len + 2) {
        return NGX_AGAIN;
    }

    if (node->state == NGX_SMTP_RELAY_NODE_AUTH) {
        ngx_log_debug0(NGX_LOG_DEBUG_STREAM, node->connection->log, 0,
                       "smtp relay node command: \"AUTH ...\"");
    } else {
        ngx_smtp_relay_log_dialogue(node->connection->log, "node command",
                                    command);
    }

    b->last = ngx_cpymem(b->last, command->data, command->len);
    *b->last++ = CR;
    *b->last++ = LF;

    node->expected++;

    return NGX_OK;
}


ngx_uint_t
ngx_smtp_relay_node_fresh(ngx_smtp_relay_node_t *node)
{
    return (node->reused
            && ngx_current_msec - node->used < NGX_SMTP_RELAY_NODE_FRESH
            && ngx_smtp_relay_node_silent(node));
}


ngx_uint_t
ngx_smtp_relay_node_silent(ngx_smtp_relay_node_t *node)
{
    u_char  buf[1];

    return (recv(node->connection->fd, (char *) buf, 1, MSG_PEEK) == -1
            && ngx_socket_errno == NGX_EAGAIN);
}


void
ngx_smtp_relay_node_expect(ngx_smtp_relay_node_t *node)
{
    node->expected++;

    ngx_add_timer(node->connection->read, node->conf->reply_timeout);
}


ngx_int_t
ngx_smtp_relay_node_flush(ngx_smtp_relay_node_t *node)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = node->connection;

    if (node->out == NULL) {

        if (c->write->timer_set) {
            ngx_del_timer(c->write);
        }

        return NGX_OK;
    }

    rc = ngx_smtp_relay_buf_send(c, node->out);

    if (rc != NGX_OK) {
        return (rc == NGX_AGAIN) ? ngx_smtp_relay_node_wait_write(node) : rc;
    }

    ngx_smtp_relay_node_put_out(node);

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    if (node->expected) {
        ngx_add_timer(c->read, node->conf->reply_timeout);
    }

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_node_send(ngx_smtp_relay_node_t *node, ngx_chain_t **chain)
{
    ngx_chain_t       *cl, commands;
    ngx_connection_t  *c;

    c = node->connection;
    cl = *chain;

    if (node->out) {
        commands.buf = node->out;
        commands.next = cl;
        cl = &commands;
    }

    cl = c->send_chain(c, cl, 0);

    if (cl == NGX_CHAIN_ERROR) {
        c->error = 1;
        return NGX_ERROR;
    }

    if (cl != &commands) {
        ngx_smtp_relay_node_put_out(node);
        *chain = cl;
    }

    if (cl == NULL) {

        if (c->write->timer_set) {
            ngx_del_timer(c->write);
        }

        return NGX_OK;
    }

    return (ngx_smtp_relay_node_wait_write(node) == NGX_ERROR) ? NGX_ERROR
                                                               : NGX_OK;
}


/* buffers are given to others as they are */

void
ngx_smtp_relay_node_put_out(ngx_smtp_relay_node_t *node)
{
    ngx_buf_t  *b;

    b = node->out;

    if (b && node->secret) {
        ngx_explicit_memzero(b->start, b->last - b->start);
        node->secret = 0;
    }

    ngx_smtp_relay_buf_put(&node->out);
}


static ngx_int_t
ngx_smtp_relay_node_wait_write(ngx_smtp_relay_node_t *node)
{
    ngx_connection_t  *c;

    c = node->connection;

    ngx_add_timer(c->write, node->conf->reply_timeout);

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}
