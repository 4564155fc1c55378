
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_failover.h"
#include "ngx_smtp_relay_early.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_upstream.h"


static ngx_str_t  ngx_smtp_relay_early_ok = ngx_string("250 2.1.0 Ok" CRLF);
static ngx_str_t  ngx_smtp_relay_early_go_ahead =
    ngx_string("354 End data with <CR><LF>.<CR><LF>" CRLF);


void
ngx_smtp_relay_early_mail(ngx_smtp_relay_transaction_t *t)
{
    ngx_smtp_relay_session_t   *ss;
    ngx_smtp_relay_envelope_t  *e;

    ss = t->session;

    if (!(ss->conf->early_replies & NGX_SMTP_RELAY_EARLY_MAIL)
        || t->held
        || (ss->in && ss->in->pos < ss->in->last))
    {
        return;
    }

    e = t->first;
    e->early = 1;

    ngx_smtp_relay_transaction_tell(t, e, 250, &ngx_smtp_relay_early_ok);
}


ngx_uint_t
ngx_smtp_relay_early_data(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_envelope_t *e)
{
    if (t->undecided) {
        return 1;
    }

    if (!(t->session->conf->early_replies & NGX_SMTP_RELAY_EARLY_DATA)
        || !(t->node->features.ext & NGX_SMTP_RELAY_EXT_CHUNKING)
        || e->verb != NGX_SMTP_RELAY_DATA
        || e->quiet
        || t->accepted == 0
        || t->whole_data)
    {
        return 0;
    }

    if (!e->told) {
        e->early = 1;
        t->open = 1;

        ngx_smtp_relay_transaction_tell(t, e, 354,
                                        &ngx_smtp_relay_early_go_ahead);
    }

    t->undecided = 1;

    ngx_smtp_relay_session_wake(t->session);

    return 1;
}


ngx_int_t
ngx_smtp_relay_early_refused(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_envelope_t *e, ngx_str_t *text)
{
    ngx_str_t               refusal;
    ngx_smtp_relay_node_t  *node;

    if (!e->early) {
        return NGX_DECLINED;
    }

    if (e->verb == NGX_SMTP_RELAY_DATA) {
        ngx_smtp_relay_transaction_discard(t, text);
        return NGX_OK;
    }

    /* MAIL */

    if (t->accepted) {

        /* another node has taken a recipient */

        return NGX_DECLINED;
    }

    refusal.len = text->len;
    refusal.data = ngx_pstrdup(t->pool, text);

    if (refusal.data == NULL) {
        return NGX_DECLINED;
    }

    node = t->node;

    if (node->expected == 0) {
        ngx_smtp_relay_upstream_free(t, 0);
        ngx_smtp_relay_node_release(node, 0);
    }

    ngx_smtp_relay_transaction_fail(t, &refusal);

    return NGX_OK;
}
