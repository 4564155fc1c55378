
/* What a node answers, and what the client is told of it. */


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_failover.h"
#include "ngx_smtp_relay_early.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_upstream.h"
#include "ngx_smtp_relay_log.h"


static void ngx_smtp_relay_transaction_envelope_reply(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_reply_t *reply);
static void ngx_smtp_relay_transaction_early_reply(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_reply_t *reply);
static void ngx_smtp_relay_transaction_final_reply(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_reply_t *reply);


void
ngx_smtp_relay_transaction_node_reply(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_reply_t *reply)
{
    switch (t->state) {

    case NGX_SMTP_RELAY_T_ENVELOPE:
        ngx_smtp_relay_transaction_envelope_reply(t, reply);
        break;

    case NGX_SMTP_RELAY_T_CONTENT:
        ngx_smtp_relay_transaction_early_reply(t, reply);
        break;

    case NGX_SMTP_RELAY_T_END:
        ngx_smtp_relay_transaction_final_reply(t, reply);
        break;

    default:
        break;
    }

    ngx_smtp_relay_session_wake(t->session);
}


/* a node may have seen enough of the content while it is still being sent */

ngx_uint_t
ngx_smtp_relay_transaction_may_refuse(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t code)
{
    return (t->state == NGX_SMTP_RELAY_T_CONTENT
            || (t->state == NGX_SMTP_RELAY_T_END && t->out && code >= 400));
}


static void
ngx_smtp_relay_transaction_envelope_reply(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_reply_t *reply)
{
    ngx_uint_t                  class;
    ngx_smtp_relay_envelope_t  *e;

    e = t->wait;
    class = reply->code / 100;

    /*
     * 421 says that the node is closing, and must not reach the client,
     * whose session goes on; other codes out of place mean no SMTP server
     */

    if (e == NULL || reply->code == 421 || class < 2
        || (e->verb == NGX_SMTP_RELAY_DATA ? class == 2 : class == 3))
    {
        ngx_smtp_relay_node_invalid(t->node, "unexpected reply",
                                    reply->text.data, reply->text.len);

        if (reply->code == 421 && t->accepted == 0) {

            /* content for nobody is not taken */

            t->ahead = 0;
        }

        ngx_smtp_relay_transaction_lost(t);
        return;
    }

    t->node_spoke = 1;

    if (e->verb == NGX_SMTP_RELAY_RCPT && class > 2) {
        t->node_rcpts--;

    } else if (class > 3 && (!e->told || e->early)) {
        ngx_smtp_relay_stat_node_message(t, reply->code);
    }

    if (ngx_smtp_relay_transaction_answer(t, reply->code, &reply->text)
        != NGX_OK)
    {
        ngx_smtp_relay_transaction_lost(t);
        return;
    }

    if (t->state == NGX_SMTP_RELAY_T_ENVELOPE && t->send && t->node) {

        if (ngx_smtp_relay_transaction_send(t) != NGX_OK) {
            ngx_smtp_relay_transaction_lost(t);
        }
    }
}


ngx_int_t
ngx_smtp_relay_transaction_answer(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t code, ngx_str_t *text)
{
    ngx_smtp_relay_envelope_t  *e;

    e = t->wait;
    t->wait = ngx_smtp_relay_transaction_skip(e->next);

    if (!e->told) {
        ngx_smtp_relay_transaction_tell(t, e, code, text);

    } else if (code >= 400) {

        if (ngx_smtp_relay_early_refused(t, e, text) == NGX_OK) {
            return NGX_OK;
        }

        t->contradicted = 1;
        return NGX_ERROR;
    }

    if (e->verb == NGX_SMTP_RELAY_MAIL && code < 400) {
        t->mail_taken = 1;
    }

    if (e->verb == NGX_SMTP_RELAY_DATA && code < 400) {
        t->open = 1;
        t->state = NGX_SMTP_RELAY_T_CONTENT;

        if (t->ahead) {
            t->content = 1;
            t->sent_end = 1;
            t->state = NGX_SMTP_RELAY_T_END;
        }
    }

    ngx_smtp_relay_session_wake(t->session);

    return NGX_OK;
}


void
ngx_smtp_relay_transaction_tell(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_envelope_t *e, ngx_uint_t code, ngx_str_t *text)
{
    e->told = 1;
    e->accepted = (code < 400);
    t->pending--;

    if (!e->quiet) {
        ngx_smtp_relay_session_reply(t->session, text);
    }

    switch (e->verb) {

    case NGX_SMTP_RELAY_MAIL:
        t->mail_ok = e->accepted;

        if (!e->accepted) {
            ngx_smtp_relay_transaction_result(t, text);
        }

        break;

    case NGX_SMTP_RELAY_RCPT:

        if (!e->accepted) {
            t->rejected++;

            ngx_smtp_relay_log_recipient(t, &e->text, text);

            /* what the message comes to if nobody else gets it */

            if (t->status == 0 && t->accepted == 0) {
                ngx_smtp_relay_transaction_result(t, text);
            }

        } else if (t->accepted++ == 0 && t->mail_ok) {
            t->status = 0;
            t->reply.len = 0;
        }

        break;

    default: /* NGX_SMTP_RELAY_DATA */

        if (!e->accepted) {

            if (t->accepted || t->status == 0) {
                ngx_smtp_relay_transaction_result(t, text);
            }

            if (e->quiet) {
                ngx_smtp_relay_transaction_discard(t, text);
                return;
            }

            t->data_refused = 1;
        }
    }

    /* without MAIL or DATA there is no message: done when all is told */

    if (t->pending == 0 && (!t->mail_ok || t->data_refused)) {
        t->state = NGX_SMTP_RELAY_T_OVER;
    }
}


static void
ngx_smtp_relay_transaction_early_reply(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_reply_t *reply)
{
    if (t->bdat_out && reply->code / 100 == 2) {

        /* of a chunk; the session goes on when all are in */

        return;
    }

    ngx_smtp_relay_node_invalid(t->node, "reply before the end of data",
                                reply->text.data, reply->text.len);

    /* the node has not been given the end of data: it delivers nothing */

    if (reply->code >= 400 && reply->code != 421) {
        ngx_smtp_relay_stat_node_message(t, reply->code);
        ngx_smtp_relay_transaction_discard(t, &reply->text);
        return;
    }

    ngx_smtp_relay_transaction_lost(t);
}


static void
ngx_smtp_relay_transaction_final_reply(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_reply_t *reply)
{
    ngx_uint_t              class;
    ngx_smtp_relay_node_t  *node;

    class = reply->code / 100;

    if (t->bdat_out && class == 2 && (t->node->expected || t->out)) {

        /* of a chunk in front of the last one, which may not be sent yet */

        return;
    }

    if (reply->code == 421 || class == 3 || class < 2) {
        ngx_smtp_relay_node_invalid(t->node,
                                    "unexpected reply to the end of data",
                                    reply->text.data, reply->text.len);
        ngx_smtp_relay_transaction_lost(t);
        return;
    }

    ngx_smtp_relay_stat_node_message(t, reply->code);

    if (t->out == NULL) {
        ngx_smtp_relay_stat_add(&t->stat->reply_time,
                                ngx_current_msec - t->end_time);
    }

    ngx_smtp_relay_transaction_result(t, &reply->text);
    ngx_smtp_relay_session_reply(t->session, &reply->text);

    if (class == 2) {
        t->session->messages++;
        t->session->no_node = 0;
    }

    t->state = NGX_SMTP_RELAY_T_OVER;

    node = t->node;

    ngx_smtp_relay_upstream_free(t, 0);

    if (t->out) {

        /* refused before all of it was sent: the node waits for the rest */

        t->out = NULL;
        ngx_smtp_relay_node_close(node);
        return;
    }

    ngx_smtp_relay_node_release(node, 1);
}
