
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_node_pool.h"
#include "ngx_smtp_relay_node_hello.h"
#include "ngx_smtp_relay_log.h"
#include "ngx_smtp_relay_recv.h"


#define NGX_SMTP_RELAY_NODE_POOL_SIZE  1024


static void ngx_smtp_relay_node_read_handler(ngx_event_t *rev);
static ngx_int_t ngx_smtp_relay_node_read(ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_process(ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_reply(ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_reset(ngx_smtp_relay_node_t *node);
static void ngx_smtp_relay_node_write_handler(ngx_event_t *wev);
static void ngx_smtp_relay_node_store(ngx_smtp_relay_node_t *node);
static u_char *ngx_smtp_relay_node_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


static char  *ngx_smtp_relay_node_actions[] = {
    "connecting to upstream",
    "reading greeting from upstream",
    "reading reply to EHLO from upstream",
    "reading reply to STARTTLS from upstream",
    "SSL handshaking to upstream",
    "reading reply to XCLIENT from upstream",
    "reading reply to AUTH from upstream",
    "proxying to upstream",
    "resetting upstream connection",
    "keeping upstream connection",
    "closing upstream connection"
};


ngx_smtp_relay_node_t *
ngx_smtp_relay_node_create(ngx_smtp_relay_transaction_t *t,
    ngx_peer_connection_t *peer)
{
    u_char                 *p;
    size_t                  size;
    ngx_str_t              *key;
    ngx_pool_t             *pool;
    ngx_smtp_relay_node_t  *node;

    pool = ngx_create_pool(NGX_SMTP_RELAY_NODE_POOL_SIZE,
                           t->session->connection->log);
    if (pool == NULL) {
        return NULL;
    }

    node = ngx_pcalloc(pool, sizeof(ngx_smtp_relay_node_t));
    if (node == NULL) {
        goto failed;
    }

    node->pool = pool;
    node->conf = ngx_smtp_relay_node_conf(t);
    node->buffer_size = t->session->conf->buffer_size;

    key = &t->profile.key;
    size = key->len + (peer->name ? peer->name->len : 0);

    p = ngx_pnalloc(pool, size);
    if (p == NULL) {
        goto failed;
    }

    node->key.len = key->len;
    node->key.data = p;
    p = ngx_cpymem(p, key->data, key->len);

    if (peer->name) {
        node->name.len = peer->name->len;
        node->name.data = p;
        ngx_memcpy(p, peer->name->data, peer->name->len);
    }

    node->socklen = peer->socklen;
    node->sockaddr = ngx_palloc(pool, peer->socklen);
    if (node->sockaddr == NULL) {
        goto failed;
    }

    ngx_memcpy(node->sockaddr, peer->sockaddr, peer->socklen);

    if (peer->local) {
        node->local_len = peer->local->socklen;
        node->local = ngx_palloc(pool, node->local_len);
        if (node->local == NULL) {
            goto failed;
        }

        ngx_memcpy(node->local, peer->local->sockaddr, node->local_len);
    }

    node->hash = ngx_smtp_relay_node_hash(node->sockaddr, node->socklen,
                                          node->local, node->local_len,
                                          &node->key);
    node->group = t->scope.upstream->upstream;
    node->stat = t->stat;

    ngx_smtp_relay_stat_conn(node, NGX_SMTP_RELAY_CONN_CONNECTING);

    return node;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


void
ngx_smtp_relay_node_attach(ngx_smtp_relay_node_t *node,
    ngx_smtp_relay_transaction_t *t)
{
    ngx_connection_t  *c;

    node->transaction = t;
    node->received = 0;

    /* a connection is its session's in the log while it is used by it */

    node->log = *t->session->connection->log;
    node->log.handler = ngx_smtp_relay_node_log_error;
    node->log.data = node;
    node->log.action = ngx_smtp_relay_node_actions[node->state];
    node->pool->log = &node->log;

    c = node->connection;

    if (c == NULL) {
        return;
    }

    if (node->group != t->scope.upstream->upstream) {

        /* a node of another group, too */

        ngx_smtp_relay_stat_choose(t);

        node->group = t->scope.upstream->upstream;
        node->stat = t->stat;
    }

    t->stat = node->stat;
    t->stat->reused++;

    ngx_smtp_relay_stat_conn(node, NGX_SMTP_RELAY_CONN_BUSY);

    node->reused = 1;
    node->sent = c->sent;
    ngx_smtp_relay_node_set_state(node, NGX_SMTP_RELAY_NODE_READY);

    c->idle = 0;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }
}


void
ngx_smtp_relay_node_detach(ngx_smtp_relay_node_t *node)
{
    ngx_smtp_relay_transaction_t  *t;

    t = node->transaction;

    if (t == NULL) {
        return;
    }

    if (t->upstream_state && node->connection) {
        t->upstream_state->bytes_received = node->received;
        t->upstream_state->bytes_sent = node->connection->sent - node->sent;
        t->node_timedout = node->connection->timedout;

        node->stat->received += node->received;
        node->stat->sent += node->connection->sent - node->sent;
    }

    t->failure = ngx_smtp_relay_stat_failure(node);

    if (t->node == node) {
        t->node = NULL;
    }

    node->transaction = NULL;

    node->log = *ngx_cycle->log;
    node->log.handler = ngx_smtp_relay_node_log_error;
    node->log.data = node;
    node->log.action = ngx_smtp_relay_node_actions[node->state];
}


void
ngx_smtp_relay_node_set_state(ngx_smtp_relay_node_t *node,
    ngx_smtp_relay_node_state_e state)
{
    node->state = state;
    node->log.action = ngx_smtp_relay_node_actions[state];
}


void
ngx_smtp_relay_node_talk(ngx_smtp_relay_node_t *node)
{
    ngx_connection_t  *c;

    c = node->connection;

    c->read->handler = ngx_smtp_relay_node_read_handler;
    c->write->handler = ngx_smtp_relay_node_write_handler;

    ngx_smtp_relay_node_read_handler(c->read);
}


static void
ngx_smtp_relay_node_read_handler(ngx_event_t *rev)
{
    ngx_int_t               rc;
    ngx_connection_t       *c;
    ngx_smtp_relay_node_t  *node;

    c = rev->data;
    node = c->data;

    if (c->close) {

        if (node->state == NGX_SMTP_RELAY_NODE_IDLE) {
            ngx_smtp_relay_node_pool_remove(node);
            ngx_smtp_relay_node_quit(node);
            return;
        }

        ngx_log_error(NGX_LOG_INFO, c->log, 0, "shutdown timeout");
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (rev->timedout) {

        if (node->state == NGX_SMTP_RELAY_NODE_IDLE) {
            node->stat->pool[node->surplus ? NGX_SMTP_RELAY_POOL_FULL
                                           : NGX_SMTP_RELAY_POOL_IDLE]++;

            ngx_smtp_relay_node_pool_remove(node);
            ngx_smtp_relay_node_quit(node);
            return;
        }

        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "upstream timed out");
        c->timedout = 1;
        ngx_smtp_relay_node_lost(node);
        return;
    }

    /*
     * what a reply leads to may give the node up, or to the pool: it is
     * freed only when this function is through with it
     */

    node->busy = 1;

    rc = ngx_smtp_relay_node_read(node);

    node->busy = 0;

    if (node->closed) {
        ngx_smtp_relay_node_close(node);
        return;
    }

    if (rc != NGX_OK) {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (node->state == NGX_SMTP_RELAY_NODE_TLS) {

        /* nothing of what was read in the clear is left */

        ngx_smtp_relay_buf_put(&node->in);
        ngx_smtp_relay_node_ssl_start(node);
        return;
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (node->in && node->in->pos == node->in->last) {
        ngx_smtp_relay_buf_put(&node->in);
    }
}


static ngx_int_t
ngx_smtp_relay_node_read(ngx_smtp_relay_node_t *node)
{
    ssize_t            n;
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    c = node->connection;

    while (c->read->ready) {

        if (node->in == NULL) {
            node->in = ngx_smtp_relay_buf_get(node->buffer_size, c->log);
            if (node->in == NULL) {
                return NGX_ERROR;
            }
        }

        b = node->in;

        if (b->pos == b->last) {
            b->pos = b->start;
            b->last = b->start;

        } else if (b->last == b->end) {

            if (b->pos == b->start) {
                ngx_smtp_relay_node_invalid(node, "too long reply", b->pos,
                                        b->last - b->pos);
                return NGX_ERROR;
            }

            b->last = ngx_movemem(b->start, b->pos, b->last - b->pos);
            b->pos = b->start;
        }

        n = ngx_smtp_relay_recv(c, b->last, b->end - b->last);

        if (n == NGX_AGAIN) {
            return NGX_OK;
        }

        if (n == NGX_ERROR || n == 0) {

            if (node->state != NGX_SMTP_RELAY_NODE_IDLE) {
                ngx_log_error(NGX_LOG_ERR, c->log, 0,
                              "upstream prematurely closed connection");
            }

            c->error = 1;

            return NGX_ERROR;
        }

        node->received += n;
        b->last += n;

        if (ngx_smtp_relay_node_process(node) != NGX_OK) {
            return NGX_ERROR;
        }

        if (node->closed || node->state == NGX_SMTP_RELAY_NODE_TLS) {
            return NGX_OK;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_process(ngx_smtp_relay_node_t *node)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = node->connection;

    if (node->transaction && node->transaction->upstream_state
        && node->transaction->upstream_state->first_byte_time
           == (ngx_msec_t) -1)
    {
        node->transaction->upstream_state->first_byte_time =
                            ngx_current_msec - node->transaction->node_start;
    }

    while (node->in->pos < node->in->last) {

        if (node->state == NGX_SMTP_RELAY_NODE_IDLE) {
            ngx_log_error(NGX_LOG_INFO, c->log, 0,
                          "upstream sent data on an idle connection");
            return NGX_ERROR;
        }

        rc = ngx_smtp_relay_parse_reply(&node->reply, node->in);

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        if (rc == NGX_ERROR) {
            ngx_smtp_relay_node_invalid(node, "invalid reply", node->in->pos,
                                        node->in->last - node->in->pos);
            return NGX_ERROR;
        }

        if (ngx_smtp_relay_node_reply(node) != NGX_OK) {
            return NGX_ERROR;
        }

        if (node->closed) {
            return NGX_OK;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_reply(ngx_smtp_relay_node_t *node)
{
    ngx_connection_t              *c;
    ngx_smtp_relay_transaction_t  *t;

    c = node->connection;
    t = node->transaction;

    if (node->state == NGX_SMTP_RELAY_NODE_AUTH) {

        /* a node may quote what it was sent */

        ngx_log_debug1(NGX_LOG_DEBUG_STREAM, c->log, 0,
                       "smtp relay node reply: \"%ui ...\"",
                       node->reply.code);
    } else {
        ngx_smtp_relay_log_dialogue(c->log, "node reply", &node->reply.text);
    }

    if (node->expected) {
        node->expected--;

    } else if (t == NULL
               || !ngx_smtp_relay_transaction_may_refuse(t, node->reply.code))
    {
        ngx_smtp_relay_node_invalid(node, "a reply to nothing",
                                    node->reply.text.data,
                                    node->reply.text.len);
        return NGX_ERROR;
    }

    if (node->expected) {
        ngx_add_timer(c->read, node->conf->reply_timeout);

    } else if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    switch (node->state) {

    case NGX_SMTP_RELAY_NODE_GREETING:
    case NGX_SMTP_RELAY_NODE_EHLO:
    case NGX_SMTP_RELAY_NODE_STARTTLS:
    case NGX_SMTP_RELAY_NODE_XCLIENT:
    case NGX_SMTP_RELAY_NODE_AUTH:
        return ngx_smtp_relay_node_hello_reply(node);

    case NGX_SMTP_RELAY_NODE_READY:
        ngx_smtp_relay_transaction_node_reply(t, &node->reply);
        return NGX_OK;

    case NGX_SMTP_RELAY_NODE_RESET:
        return ngx_smtp_relay_node_reset(node);

    default:
        return NGX_ERROR;
    }
}


static ngx_int_t
ngx_smtp_relay_node_reset(ngx_smtp_relay_node_t *node)
{
    if (node->reply.code != 250) {
        ngx_smtp_relay_node_invalid(node, "invalid reply to RSET",
                                    node->reply.text.data,
                                    node->reply.text.len);
        return NGX_ERROR;
    }

    ngx_smtp_relay_node_store(node);

    return NGX_OK;
}


static void
ngx_smtp_relay_node_write_handler(ngx_event_t *wev)
{
    ngx_int_t               rc;
    ngx_connection_t       *c;
    ngx_smtp_relay_node_t  *node;

    c = wev->data;
    node = c->data;

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "upstream timed out");
        c->timedout = 1;
        ngx_smtp_relay_node_lost(node);
        return;
    }

    rc = ngx_smtp_relay_node_flush(node);

    if (rc == NGX_ERROR) {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (rc == NGX_AGAIN) {
        return;
    }

    /* takes it out of a level-triggered event method */

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (node->transaction) {
        ngx_smtp_relay_transaction_node_writable(node->transaction);
    }
}


void
ngx_smtp_relay_node_release(ngx_smtp_relay_node_t *node, ngx_uint_t clean)
{
    ngx_int_t         rc;
    static ngx_str_t  rset = ngx_string("RSET");

    if (node->state != NGX_SMTP_RELAY_NODE_READY
        || node->expected
        || node->out
        || node->connection->error
        || (node->in && node->in->pos != node->in->last))
    {
        ngx_smtp_relay_node_close(node);
        return;
    }

    ngx_smtp_relay_node_detach(node);

    node->messages++;

    /* a connection with a PROXY header is its client's alone */

    if (node->conf->keepalive == 0
        || node->conf->proxy_protocol != NGX_SMTP_RELAY_NODE_PROXY_OFF
        || ngx_exiting || ngx_terminate)
    {
        ngx_smtp_relay_node_quit(node);
        return;
    }

    if (node->messages >= node->conf->keepalive_messages
        || (node->features.mailmax
            && node->messages >= node->features.mailmax))
    {
        node->stat->pool[NGX_SMTP_RELAY_POOL_SPENT]++;

        ngx_smtp_relay_node_quit(node);
        return;
    }

    if (clean) {
        ngx_smtp_relay_node_store(node);
        return;
    }

    ngx_smtp_relay_node_set_state(node, NGX_SMTP_RELAY_NODE_RESET);

    /* a worker that quits does not wait for it */

    node->connection->idle = 1;

    rc = ngx_smtp_relay_node_command(node, &rset);

    if (rc == NGX_OK) {
        rc = ngx_smtp_relay_node_flush(node);
    }

    if (rc == NGX_ERROR) {
        ngx_smtp_relay_node_close(node);
    }
}


static void
ngx_smtp_relay_node_store(ngx_smtp_relay_node_t *node)
{
    ngx_connection_t  *c;

    c = node->connection;

    ngx_smtp_relay_node_set_state(node, NGX_SMTP_RELAY_NODE_IDLE);

    if (ngx_exiting || ngx_terminate
        || ngx_smtp_relay_node_pool_put(node) != NGX_OK)
    {
        ngx_smtp_relay_node_quit(node);
        return;
    }

    c->idle = 1;
    node->used = ngx_current_msec;

    ngx_smtp_relay_stat_conn(node, NGX_SMTP_RELAY_CONN_IDLE);

    ngx_add_timer(c->read, node->conf->keepalive_timeout);

    /* a close that came with the last reply is still to be seen */

    if (c->read->ready && !node->busy) {
        ngx_post_event(c->read, &ngx_posted_events);
    }
}


void
ngx_smtp_relay_node_quit(ngx_smtp_relay_node_t *node)
{
    node->state = NGX_SMTP_RELAY_NODE_QUIT;

    (void) node->connection->send(node->connection, (u_char *) "QUIT" CRLF,
                                  sizeof("QUIT" CRLF) - 1);

    ngx_smtp_relay_node_close(node);
}


void
ngx_smtp_relay_node_lost(ngx_smtp_relay_node_t *node)
{
    ngx_smtp_relay_transaction_t  *t;

    t = node->transaction;

    if (node->state == NGX_SMTP_RELAY_NODE_IDLE) {
        node->stat->pool[NGX_SMTP_RELAY_POOL_CLOSED]++;

        ngx_smtp_relay_node_pool_remove(node);
    }

    ngx_smtp_relay_node_close(node);

    if (t) {
        ngx_smtp_relay_transaction_lost(t);
    }
}


void
ngx_smtp_relay_node_close(ngx_smtp_relay_node_t *node)
{
    ngx_pool_t        *pool;
    ngx_connection_t  *c;

    ngx_smtp_relay_node_detach(node);

    if (node->busy) {
        node->closed = 1;
        return;
    }

    ngx_smtp_relay_stat_conn(node, NGX_SMTP_RELAY_CONNS);

    ngx_smtp_relay_buf_put(&node->in);
    ngx_smtp_relay_node_put_out(node);

    c = node->connection;
    pool = node->pool;

    if (c) {
        ngx_log_debug1(NGX_LOG_DEBUG_STREAM, c->log, 0,
                       "smtp relay close node connection: %d", c->fd);

        ngx_smtp_relay_peer_ssl_close(c);
        ngx_close_connection(c);
    }

    pool->log = ngx_cycle->log;

    ngx_destroy_pool(pool);
}


void
ngx_smtp_relay_node_invalid(ngx_smtp_relay_node_t *node, char *what,
    u_char *data, size_t len)
{
    size_t     i;
    ngx_str_t  text;
    u_char     buf[256];

    while (len && (data[len - 1] == LF || data[len - 1] == CR)) {
        len--;
    }

    text.len = ngx_min(len, sizeof(buf));
    text.data = buf;
    ngx_memcpy(buf, data, text.len);

    if (node->state == NGX_SMTP_RELAY_NODE_AUTH) {

        /* a node may quote what it was sent: the codes are all that is safe */

        for (i = 0; i < text.len; i++) {
            if (buf[i] != '.' && buf[i] != ' '
                && (buf[i] < '0' || buf[i] > '9'))
            {
                break;
            }
        }

        text.len = ngx_min(i, sizeof("535 5.7.8 ") - 1);
    }

    ngx_smtp_relay_sanitize(&text, sizeof(buf));

    ngx_log_error(NGX_LOG_ERR, node->connection->log, 0,
                  "upstream sent %s: \"%V\"", what, &text);
}


static u_char *
ngx_smtp_relay_node_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char                    *p;
    ngx_smtp_relay_node_t     *node;
    ngx_smtp_relay_session_t  *ss;

    node = log->data;

    if (log->action) {
        p = ngx_snprintf(buf, len, " while %s", log->action);
        len -= p - buf;
        buf = p;
    }

    if (node->transaction) {
        ss = node->transaction->session;

        p = ngx_snprintf(buf, len, ", client: %V, server: %V, session: %*s",
                         &ss->connection->addr_text,
                         &ss->connection->listening->addr_text,
                         (size_t) NGX_SMTP_RELAY_ID_LEN, ss->id);
        len -= p - buf;
        buf = p;

        if (ss->authenticated && ss->auth) {
            p = ngx_snprintf(buf, len, ", account: \"%V\"",
                             &ss->auth->account);
            len -= p - buf;
            buf = p;
        }
    }

    return ngx_snprintf(buf, len, ", upstream: \"%V\"", &node->name);
}
