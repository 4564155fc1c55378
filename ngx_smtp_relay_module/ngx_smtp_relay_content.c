
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_content.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_add_header.h"


static ngx_int_t ngx_smtp_relay_content_ready(ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_content_whole(ngx_smtp_relay_transaction_t *t,
    ngx_buf_t *b);
static ngx_int_t ngx_smtp_relay_content_drop(ngx_smtp_relay_transaction_t *t,
    ngx_buf_t *b);
static void ngx_smtp_relay_content_check(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t end);
static ngx_int_t ngx_smtp_relay_content_send(ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_content_push(ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_content_chain(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_span_t *spans, ngx_uint_t n, ngx_uint_t end);
static ngx_chain_t **ngx_smtp_relay_content_link(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_span_t *span,
    ngx_chain_t **ll);
static ngx_int_t ngx_smtp_relay_content_chunk_end(
    ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_content_refuse(
    ngx_smtp_relay_transaction_t *t);


static ngx_str_t  ngx_smtp_relay_too_big =
    ngx_string("552 5.3.4 Message too big" CRLF);
static ngx_str_t  ngx_smtp_relay_bare_newline =
    ngx_string("550 5.5.2 Message contains a bare CR or LF" CRLF);


ngx_int_t
ngx_smtp_relay_content_data(ngx_smtp_relay_transaction_t *t, ngx_buf_t *b)
{
    ngx_int_t              rc;
    ngx_uint_t             n;
    ngx_smtp_relay_span_t  spans[NGX_SMTP_RELAY_SPANS];

    for ( ;; ) {
        rc = ngx_smtp_relay_content_ready(t);

        if (rc == NGX_DONE) {
            return NGX_OK;
        }

        if (rc == NGX_DECLINED) {
            return ngx_smtp_relay_content_drop(t, b);
        }

        if (rc != NGX_OK) {
            return rc;
        }

        if (b->pos == b->last) {
            return NGX_AGAIN;
        }

        if (t->session->defer) {

            /* what is taken here is sent here: a node may be lost between */

            return NGX_BUSY;
        }

        if (t->undecided) {
            rc = ngx_smtp_relay_content_whole(t, b);

            if (rc == NGX_DECLINED) {

                /* the session has DATA sent */

                return NGX_BUSY;
            }

            if (rc != NGX_OK) {
                return rc;
            }

            continue;
        }

        /*
         * the spans point into b, which stays as it is until the node has
         * taken all of them: content is not copied on its way
         */

        t->content = 1;

        n = NGX_SMTP_RELAY_SPANS;
        rc = ngx_smtp_relay_scan(&t->scan, &b->pos, b->last, spans, &n);

        ngx_smtp_relay_content_check(t, rc == NGX_DONE);

        if (t->state == NGX_SMTP_RELAY_T_DISCARD) {

            if (rc == NGX_DONE) {
                return ngx_smtp_relay_content_refuse(t);
            }

            continue;
        }

        if (ngx_smtp_relay_content_chain(t, spans, n, rc == NGX_DONE)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (rc == NGX_DONE) {
            t->state = NGX_SMTP_RELAY_T_END;
            t->sent_end = 1;
        }
    }
}


ngx_int_t
ngx_smtp_relay_content_bdat(ngx_smtp_relay_transaction_t *t, ngx_buf_t *b)
{
    u_char                 *pos;
    ngx_int_t               rc;
    ngx_uint_t              n, end;
    ngx_smtp_relay_span_t   spans[NGX_SMTP_RELAY_SPANS];

    if (t->ahead && t->state != NGX_SMTP_RELAY_T_ENVELOPE && t->out == NULL) {

        /* the chunk has been scanned, whatever became of it */

        t->ahead = 0;
        b->pos += t->chunk;
        t->chunk = 0;
    }

    for ( ;; ) {
        rc = ngx_smtp_relay_content_ready(t);

        if (rc == NGX_DONE) {
            return NGX_OK;
        }

        if (rc == NGX_DECLINED) {
            n = ngx_min((off_t) (b->last - b->pos), t->chunk);
            b->pos += n;
            t->chunk -= n;
            t->scan.size += n;

            if (t->chunk) {
                return NGX_AGAIN;
            }

            return ngx_smtp_relay_content_refuse(t);
        }

        if (rc != NGX_OK) {
            return rc;
        }

        if (t->chunk == 0 && !t->bdat_last) {

            if (t->bdat_out && t->node->expected) {
                return NGX_BUSY;
            }

            return ngx_smtp_relay_content_chunk_end(t);
        }

        if (b->pos == b->last && t->chunk) {
            return NGX_AGAIN;
        }

        if (t->session->defer) {
            return NGX_BUSY;
        }

        pos = b->pos;
        n = NGX_SMTP_RELAY_SPANS - NGX_SMTP_RELAY_MIN_SPANS;

        rc = ngx_smtp_relay_scan(&t->scan, &b->pos,
                         pos + ngx_min((off_t) (b->last - pos), t->chunk),
                         spans, &n);

        t->chunk -= b->pos - pos;
        t->content |= (b->pos != pos);

        end = (rc == NGX_OK && t->chunk == 0 && t->bdat_last);

        if (end) {
            n += ngx_smtp_relay_scan_finish(&t->scan, &spans[n]);
        }

        ngx_smtp_relay_content_check(t, end);

        if (t->state == NGX_SMTP_RELAY_T_DISCARD) {
            continue;
        }

        if (ngx_smtp_relay_content_chain(t, spans, n, end) != NGX_OK) {
            return NGX_ERROR;
        }

        if (end) {
            t->state = NGX_SMTP_RELAY_T_END;
            t->sent_end = 1;
        }
    }
}


/*
 * Brings the transaction to where it takes content.
 *
 *     NGX_OK        it takes more
 *     NGX_BUSY      the node is waited for
 *     NGX_DECLINED  content is dropped
 *     NGX_DONE      there is, or comes, no content
 */

static ngx_int_t
ngx_smtp_relay_content_ready(ngx_smtp_relay_transaction_t *t)
{
    switch (t->state) {

    case NGX_SMTP_RELAY_T_ENVELOPE:

        if (t->undecided) {
            return NGX_OK;
        }

        if (t->out && ngx_smtp_relay_content_push(t) != NGX_OK) {
            ngx_smtp_relay_transaction_lost(t);

            return ngx_smtp_relay_content_ready(t);
        }

        return NGX_BUSY;

    case NGX_SMTP_RELAY_T_CONTENT:

        if (t->session->defer && t->out) {
            return NGX_BUSY;
        }

        return ngx_smtp_relay_content_send(t);

    case NGX_SMTP_RELAY_T_END:

        if (t->session->defer) {
            return NGX_BUSY;
        }

        if (t->out) {
            return ngx_smtp_relay_content_send(t);
        }

        return NGX_BUSY;

    case NGX_SMTP_RELAY_T_DISCARD:
        return NGX_DECLINED;

    case NGX_SMTP_RELAY_T_FAILED:
        return t->bdat ? NGX_DECLINED : NGX_DONE;

    default: /* NGX_SMTP_RELAY_T_OVER */
        return NGX_DONE;
    }
}


/*
 * The client has been told to send content.  If all of it is here it goes on
 * by BDAT.  If it is not, or something is wrong with it, the node is asked by
 * DATA: a chunk would have to be told how large it is, and then be answered.
 * So is a node that may be lost: content it has not been sent can move on.
 *
 *     NGX_OK        it is on its way
 *     NGX_DECLINED  DATA is to be asked first
 *     NGX_ERROR     no memory
 */

static ngx_int_t
ngx_smtp_relay_content_whole(ngx_smtp_relay_transaction_t *t, ngx_buf_t *b)
{
    off_t                   max;
    u_char                 *pos;
    ngx_int_t               rc;
    ngx_uint_t              n;
    ngx_smtp_relay_span_t   spans[NGX_SMTP_RELAY_SPANS];

    t->undecided = 0;

    ngx_smtp_relay_scan_init(&t->scan, 1, 0);

    pos = b->pos;
    n = NGX_SMTP_RELAY_SPANS;

    rc = ngx_smtp_relay_scan(&t->scan, &pos, b->last, spans, &n);

    max = t->session->max_message_size;

    if (rc != NGX_DONE
        || t->scan.bare
        || (max && t->scan.size > max)
        || !ngx_smtp_relay_node_silent(t->node))
    {
        t->whole_data = 1;
        ngx_smtp_relay_scan_init(&t->scan, 1, 1);

        return NGX_DECLINED;
    }

    b->pos = pos;
    t->bdat_out = 1;

    if (ngx_smtp_relay_content_chain(t, spans, n, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    t->send = NULL;
    t->wait = NULL;
    t->sent_end = 1;
    t->state = NGX_SMTP_RELAY_T_END;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_content_send(ngx_smtp_relay_transaction_t *t)
{
    if (t->out == NULL) {

        /* without PIPELINING a chunk waits for the reply to the last one */

        return (t->bdat_out && t->node->expected
                && !(t->node->features.ext & NGX_SMTP_RELAY_EXT_PIPELINING))
               ? NGX_BUSY : NGX_OK;
    }

    t->content = 1;      /* an empty chunk is one, too */

    if (ngx_smtp_relay_content_push(t) != NGX_OK) {
        ngx_smtp_relay_node_close(t->node);
        ngx_smtp_relay_transaction_lost(t);

        return ngx_smtp_relay_content_ready(t);
    }

    return (t->out || t->state == NGX_SMTP_RELAY_T_END) ? NGX_BUSY : NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_content_push(ngx_smtp_relay_transaction_t *t)
{
    ngx_chain_t  *cl, *next;

    cl = t->out;

    if (ngx_smtp_relay_node_send(t->node, &t->out) != NGX_OK) {
        return NGX_ERROR;
    }

    for ( /* void */ ; cl && cl != t->out; cl = next) {
        next = cl->next;
        cl->next = t->links;
        t->links = cl;
    }

    if (t->out == NULL
        && (t->bdat_out || t->state == NGX_SMTP_RELAY_T_END))
    {
        ngx_smtp_relay_node_expect(t->node);
        t->end_time = ngx_current_msec;
    }

    return NGX_OK;
}


/*
 * A node that is lost now may have the message, so it goes to no other one.
 * Hence only a connection that is as good as certainly up is trusted with
 * it; any other one has to answer the envelope first.
 */

ngx_int_t
ngx_smtp_relay_content_ahead(ngx_smtp_relay_transaction_t *t)
{
    off_t                      sent;
    u_char                    *pos;
    ngx_buf_t                 *b;
    ngx_int_t                  rc;
    ngx_uint_t                 n;
    ngx_smtp_relay_scan_t      scan;
    ngx_smtp_relay_span_t      spans[NGX_SMTP_RELAY_SPANS];
    ngx_smtp_relay_session_t  *ss;

    ss = t->session;
    b = ss->in;

    if (!t->bdat_last
        || b == NULL
        || b->last - b->pos < t->chunk
        || t->moved
        || ss->conf->add_headers
        || !(t->node->features.ext & NGX_SMTP_RELAY_EXT_PIPELINING)
        || !ngx_smtp_relay_node_fresh(t->node))
    {
        return NGX_DECLINED;
    }

    ngx_smtp_relay_scan_init(&scan, 0, 0);

    pos = b->pos;
    n = NGX_SMTP_RELAY_SPANS - NGX_SMTP_RELAY_MIN_SPANS;

    rc = ngx_smtp_relay_scan(&scan, &pos, pos + t->chunk, spans, &n);

    if (rc != NGX_OK) {
        return NGX_DECLINED;
    }

    n += ngx_smtp_relay_scan_finish(&scan, &spans[n]);

    if (scan.bare
        || (ss->max_message_size && scan.size > ss->max_message_size))
    {
        return NGX_DECLINED;
    }

    t->scan = scan;
    t->bdat_out = 1;

    if (ngx_smtp_relay_content_chain(t, spans, n, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    t->ahead = 1;
    sent = t->node->connection->sent;

    if (ngx_smtp_relay_content_push(t) == NGX_OK) {
        return NGX_OK;
    }

    if (t->node->connection->sent == sent) {
        t->ahead = 0;
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_smtp_relay_content_drop(ngx_smtp_relay_transaction_t *t, ngx_buf_t *b)
{
    ngx_int_t              rc;
    ngx_uint_t             n;
    ngx_smtp_relay_span_t  spans[NGX_SMTP_RELAY_SPANS];

    do {
        n = NGX_SMTP_RELAY_SPANS;
        rc = ngx_smtp_relay_scan(&t->scan, &b->pos, b->last, spans, &n);
    } while (rc == NGX_AGAIN);

    if (rc == NGX_DONE) {
        return ngx_smtp_relay_content_refuse(t);
    }

    return NGX_AGAIN;
}


/*
 * What is wrong with the content turns the message away, but only at its
 * end: a client in the middle of it does not read replies.
 */

static void
ngx_smtp_relay_content_check(ngx_smtp_relay_transaction_t *t, ngx_uint_t end)
{
    ngx_connection_t           *c;
    ngx_smtp_relay_session_t   *ss;
    ngx_smtp_relay_srv_conf_t  *rscf;

    ss = t->session;
    c = ss->connection;
    rscf = ss->conf;

    if (ss->max_message_size && t->scan.size > ss->max_message_size) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "client sent a message larger than %O octets",
                      ss->max_message_size);

        ngx_smtp_relay_transaction_discard(t, &ngx_smtp_relay_too_big);
        return;
    }

    if (!t->scan.bare) {
        return;
    }

    if (rscf->bare_newline == NGX_SMTP_RELAY_NEWLINE_REJECT) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "client sent a message with a bare CR or LF");

        ngx_smtp_relay_transaction_discard(t, &ngx_smtp_relay_bare_newline);
        return;
    }

    if (end) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "client sent a message with a bare CR or LF, "
                      "normalized");
    }
}


/*
 * Makes the chain to be sent out of spans.  Links are used again: a message
 * makes as many as it ever needs at one time, most make two.
 */

static ngx_int_t
ngx_smtp_relay_content_chain(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_span_t *spans, ngx_uint_t n, ngx_uint_t end)
{
    off_t                   size;
    ngx_uint_t              i;
    ngx_chain_t           **ll;
    ngx_smtp_relay_span_t   frame, filtered[NGX_SMTP_RELAY_SPANS
                                            + NGX_SMTP_RELAY_HEADER_SPANS];

    static u_char           dot[] = "." CRLF;

    ll = &t->out;

    if (t->session->conf->add_headers) {
        spans = ngx_smtp_relay_add_headers(t, spans, &n, end, filtered);
        if (spans == NULL) {
            return NGX_ERROR;
        }
    }

    if (t->bdat_out) {

        size = 0;

        for (i = 0; i < n; i++) {
            size += spans[i].last - spans[i].pos;
        }

        if (size == 0 && !end) {
            return NGX_OK;
        }

        frame.pos = t->bdat_line;
        frame.last = ngx_sprintf(t->bdat_line, "BDAT %O%s" CRLF, size,
                                 end ? " LAST" : "");

        ll = ngx_smtp_relay_content_link(t, &frame, ll);
    }

    for (i = 0; i < n && ll; i++) {
        ll = ngx_smtp_relay_content_link(t, &spans[i], ll);
    }

    if (end && !t->bdat_out && ll) {
        frame.pos = dot;
        frame.last = dot + sizeof(dot) - 1;

        ll = ngx_smtp_relay_content_link(t, &frame, ll);
    }

    if (ll == NULL) {
        t->out = NULL;
        return NGX_ERROR;
    }

    *ll = NULL;

    return NGX_OK;
}


/* appends a span to a chain; NULL: no memory */

static ngx_chain_t **
ngx_smtp_relay_content_link(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_span_t *span, ngx_chain_t **ll)
{
    ngx_chain_t  *cl;

    cl = ngx_chain_get_free_buf(t->pool, &t->links);
    if (cl == NULL) {
        return NULL;
    }

    cl->buf->pos = span->pos;
    cl->buf->last = span->last;
    cl->buf->memory = 1;
    cl->buf->flush = 1;

    *ll = cl;

    return &cl->next;
}


static ngx_int_t
ngx_smtp_relay_content_chunk_end(ngx_smtp_relay_transaction_t *t)
{
    static ngx_str_t  ok = ngx_string("250 2.0.0 Chunk received" CRLF);

    return (ngx_smtp_relay_session_reply(t->session, &ok) == NGX_OK)
           ? NGX_OK : NGX_ERROR;
}


/* the end of content, or of a chunk, that was dropped */

static ngx_int_t
ngx_smtp_relay_content_refuse(ngx_smtp_relay_transaction_t *t)
{
    if (ngx_smtp_relay_session_reply(t->session, &t->refusal) != NGX_OK) {
        return NGX_ERROR;
    }

    t->state = (t->bdat && !t->bdat_last) ? NGX_SMTP_RELAY_T_FAILED
                                          : NGX_SMTP_RELAY_T_OVER;
    return NGX_OK;
}
