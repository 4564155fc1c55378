
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_failover.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_upstream.h"


static ngx_uint_t ngx_smtp_relay_transaction_can_move(
    ngx_smtp_relay_transaction_t *t);
static ngx_uint_t ngx_smtp_relay_transaction_is_last(
    ngx_smtp_relay_transaction_t *t);
static ngx_uint_t ngx_smtp_relay_transaction_may_try(
    ngx_smtp_relay_transaction_t *t);


static ngx_str_t  ngx_smtp_relay_no_node =
    ngx_string("451 4.4.1 No delivery node available" CRLF);
static ngx_str_t  ngx_smtp_relay_node_lost_text =
    ngx_string("451 4.4.2 Delivery node lost" CRLF);


void
ngx_smtp_relay_transaction_use(ngx_smtp_relay_transaction_t *t, ngx_int_t rc)
{
    if (rc == NGX_AGAIN) {
        return;
    }

    if (rc == NGX_OK) {
        ngx_smtp_relay_transaction_node_ready(t);
        return;
    }

    t->session->no_node = 1;

    ngx_smtp_relay_transaction_fail(t, &ngx_smtp_relay_no_node);
}


/*
 * The node cannot be used any more.  Another one takes over as long as that
 * can neither double the message nor contradict what the client was told.
 */

void
ngx_smtp_relay_transaction_lost(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t   rc;
    ngx_str_t  *text;
    ngx_uint_t  stale;

    if (t->node) {
        ngx_smtp_relay_node_close(t->node);
    }

    /* a pooled connection may have been given up by the node at any time */

    stale = (t->node_reused && !t->node_spoke && !t->node_timedout);

    if (stale) {
        t->stat->pool[NGX_SMTP_RELAY_POOL_STALE]++;

    } else if (!t->contradicted
        && t->failure != NGX_SMTP_RELAY_FAILURES)
    {
        t->stat->failures[t->failure]++;
    }

    if (t->node_spoke && !t->node_timedout && !t->again
        && ngx_smtp_relay_transaction_is_last(t))
    {
        /* one that restarts takes the message all the same, a moment later */

        stale = 1;
        t->again = 1;
    }

    t->node_spoke = 0;
    t->node_rcpts = 0;
    t->undecided = 0;
    t->out = NULL;

    ngx_smtp_relay_session_wake(t->session);

    if (t->state != NGX_SMTP_RELAY_T_ENVELOPE
        && t->state != NGX_SMTP_RELAY_T_CONTENT
        && t->state != NGX_SMTP_RELAY_T_END)
    {
        ngx_smtp_relay_upstream_free(t, NGX_PEER_FAILED);
        return;
    }

    if (!t->contradicted && !t->content && !t->ahead && !t->sent_end) {

        t->state = NGX_SMTP_RELAY_T_ENVELOPE;
        t->scan.size = 0;
        t->send = ngx_smtp_relay_transaction_skip(t->first);
        t->wait = t->send;

        if (stale) {
            ngx_log_debug0(NGX_LOG_DEBUG_STREAM, t->session->connection->log,
                           0, "smtp relay replaces a stale connection");

            t->node_reused = 0;

            rc = ngx_smtp_relay_upstream_again(t);
            ngx_smtp_relay_transaction_use(t, rc);
            return;
        }

        ngx_smtp_relay_upstream_free(t, NGX_PEER_FAILED);

        if (ngx_smtp_relay_transaction_can_move(t)) {
            t->moved = 1;
            rc = ngx_smtp_relay_upstream_next(t);
            ngx_smtp_relay_transaction_use(t, rc);
            return;
        }

        /* nobody else to ask, or nobody else was asked */

        text = (t->mail_taken && !t->moved)
               ? &ngx_smtp_relay_node_lost_text : &ngx_smtp_relay_no_node;

        t->session->no_node = (text == &ngx_smtp_relay_no_node);

        ngx_smtp_relay_transaction_fail(t, text);
        return;
    }

    ngx_smtp_relay_upstream_free(t, t->contradicted ? 0 : NGX_PEER_FAILED);

    switch (t->state) {

    case NGX_SMTP_RELAY_T_ENVELOPE:
        ngx_smtp_relay_transaction_fail(t, &ngx_smtp_relay_node_lost_text);
        return;

    case NGX_SMTP_RELAY_T_CONTENT:
        ngx_smtp_relay_transaction_discard(t, &ngx_smtp_relay_node_lost_text);
        return;

    default: /* NGX_SMTP_RELAY_T_END */

        /*
         * RFC 5321, 4.5.3.2.6.: nobody knows whether the node took the
         * message; the client tries again, the relay must not
         */

        t->out = NULL;
        t->state = NGX_SMTP_RELAY_T_OVER;

        ngx_smtp_relay_transaction_result(t, &ngx_smtp_relay_node_lost_text);
        ngx_smtp_relay_session_reply(t->session,
                                     &ngx_smtp_relay_node_lost_text);
    }
}


static ngx_uint_t
ngx_smtp_relay_transaction_can_move(ngx_smtp_relay_transaction_t *t)
{
    return (t->scope.upstream->peer.tries
            && ngx_smtp_relay_transaction_may_try(t));
}


/* another try is allowed, but the balancer has no other node for it */

static ngx_uint_t
ngx_smtp_relay_transaction_is_last(ngx_smtp_relay_transaction_t *t)
{
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    nscf = ngx_smtp_relay_node_conf(t);

    return (t->scope.upstream->peer.sockaddr
            && t->scope.upstream->peer.tries <= 1
            && nscf->next_upstream_tries != 1
            && ngx_smtp_relay_transaction_may_try(t));
}


static ngx_uint_t
ngx_smtp_relay_transaction_may_try(ngx_smtp_relay_transaction_t *t)
{
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    nscf = ngx_smtp_relay_node_conf(t);

    return (nscf->next_upstream
            && (nscf->next_upstream_timeout == 0
                || ngx_current_msec - t->upstream_start
                   < nscf->next_upstream_timeout));
}


void
ngx_smtp_relay_transaction_fail(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *text)
{
    ngx_smtp_relay_envelope_t  *e;

    if (t->node) {
        ngx_smtp_relay_node_close(t->node);
        ngx_smtp_relay_upstream_free(t, 0);
    }

    if (t->open) {

        /* the client is sending content */

        ngx_smtp_relay_transaction_discard(t, text);
        return;
    }

    t->out = NULL;
    t->state = NGX_SMTP_RELAY_T_FAILED;
    t->refusal = *text;

    ngx_smtp_relay_transaction_result(t, text);

    for (e = t->first; e; e = e->next) {
        if (!e->told) {
            ngx_smtp_relay_transaction_tell(t, e, 451, text);
        }
    }

    ngx_smtp_relay_session_wake(t->session);
}


void
ngx_smtp_relay_transaction_discard(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *text)
{
    t->refusal.len = 0;
    t->refusal.data = ngx_pstrdup(t->pool, text);

    if (t->refusal.data) {
        t->refusal.len = text->len;

    } else {
        t->refusal = ngx_smtp_relay_node_lost_text;
    }

    /* without recipients it is they that tell why */

    if (t->accepted || t->status == 0) {
        ngx_smtp_relay_transaction_result(t, &t->refusal);
    }

    t->state = NGX_SMTP_RELAY_T_DISCARD;
    t->out = NULL;

    if (t->node) {
        ngx_smtp_relay_node_close(t->node);
    }

    ngx_smtp_relay_upstream_free(t, 0);
    ngx_smtp_relay_session_wake(t->session);
}
