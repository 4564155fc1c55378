
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_session_io.h"
#include "ngx_smtp_relay_log.h"
#include "ngx_smtp_relay_recv.h"


ngx_int_t
ngx_smtp_relay_session_read(ngx_smtp_relay_session_t *ss)
{
    ssize_t            n;
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    c = ss->connection;

    if (ss->in == NULL) {
        ss->in = ngx_smtp_relay_buf_get(ss->conf->buffer_size, c->log);
        if (ss->in == NULL) {
            return NGX_ERROR;
        }
    }

    b = ss->in;

    if (b->pos == b->last) {
        b->pos = b->start;
        b->last = b->start;

    } else if (b->last == b->end) {

        /* the longest line fits in, so there is room in front of pos */

        b->last = ngx_movemem(b->start, b->pos, b->last - b->pos);
        b->pos = b->start;
    }

    n = ngx_smtp_relay_recv(c, b->last, b->end - b->last);

    if (n == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (n == NGX_ERROR) {
        c->error = 1;
        return NGX_ERROR;
    }

    if (n == 0) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0, "client closed connection");
        return NGX_DONE;
    }

    b->last += n;
    ss->active = 1;
    ss->stream->received += n;

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_session_flush(ngx_smtp_relay_session_t *ss)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = ss->connection;

    if (ss->out == NULL) {
        return NGX_OK;
    }

    rc = ngx_smtp_relay_buf_send(c, ss->out);

    if (rc == NGX_AGAIN) {

        /* the time is for the whole of it: trickling does not help */

        if (!c->write->timer_set) {
            ngx_add_timer(c->write, ss->authenticated
                                    ? ss->conf->timeout
                                    : ss->conf->login_timeout);
        }

        if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (rc != NGX_OK) {
        return rc;
    }

    ngx_smtp_relay_buf_put(&ss->out);

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_session_reply(ngx_smtp_relay_session_t *ss, ngx_str_t *text)
{
    size_t      len, used;
    ngx_buf_t  *b, *old;

    b = ss->out;
    used = b ? b->last - b->pos : 0;
    len = used + text->len;

    if (b == NULL || (size_t) (b->end - b->last) < text->len) {

        old = b;

        b = ngx_smtp_relay_buf_get(ngx_max(len * 2, ss->conf->buffer_size),
                                   ss->connection->log);
        if (b == NULL) {
            ss->error = 1;
            return NGX_ERROR;
        }

        if (old) {
            b->last = ngx_cpymem(b->last, old->pos, used);
            ngx_smtp_relay_buf_put(&old);
        }

        ss->out = b;
    }

    ngx_smtp_relay_log_dialogue(ss->connection->log, "reply", text);

    b->last = ngx_cpymem(b->last, text->data, text->len);
    ss->active = 1;

    return NGX_OK;
}


void
ngx_smtp_relay_session_end(ngx_smtp_relay_session_t *ss, char *code,
    char *text, ngx_uint_t status)
{
    ngx_str_t  reply;
    u_char     buf[NGX_SMTP_RELAY_MAX_DOMAIN + 256];

    reply.data = buf;
    reply.len = ngx_snprintf(buf, sizeof(buf), "%s %V %s" CRLF, code,
                             &ss->hostname, text)
                - buf;

    (void) ngx_smtp_relay_session_reply(ss, &reply);

    ss->state = NGX_SMTP_RELAY_ST_CLOSE;
    ss->status = status;
}


ngx_uint_t
ngx_smtp_relay_session_gone(ngx_smtp_relay_session_t *ss)
{
    int                n;
    char               buf[1];
    ngx_connection_t  *c;

    c = ss->connection;

    if (c->read->pending_eof) {
        return 1;
    }

    if (!c->read->ready
        || (ngx_event_flags & (NGX_USE_EPOLL_EVENT|NGX_USE_KQUEUE_EVENT)))
    {
        return 0;
    }

    /* other methods do not say so; octets in front of the end hide it */

    n = recv(c->fd, buf, 1, MSG_PEEK);

    return (n == 0 || (n == -1 && ngx_socket_errno != NGX_EAGAIN));
}


void
ngx_smtp_relay_session_drain(ngx_connection_t *c)
{
    ssize_t     n;
    ngx_uint_t  i;
    u_char      buf[4096];

    for (i = 0; i < 16 && c->read->ready; i++) {
        n = ngx_smtp_relay_recv(c, buf, sizeof(buf));

        if (n <= 0) {
            return;
        }
    }
}
