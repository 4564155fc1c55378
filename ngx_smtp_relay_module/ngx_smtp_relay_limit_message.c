
/* Limits on messages and recipients: what is let through, held, refused. */


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_failover.h"
#include "ngx_smtp_relay_limit.h"


static ngx_int_t ngx_smtp_relay_limit_message(
    ngx_smtp_relay_transaction_t *t, ngx_uint_t kind,
    ngx_smtp_relay_limit_checks_t **checksp, ngx_msec_t *wait);
static ngx_smtp_relay_limit_checks_t *ngx_smtp_relay_limit_evaluate(
    ngx_smtp_relay_transaction_t *t, ngx_uint_t kind);
static ngx_int_t ngx_smtp_relay_limit_refusal(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_limit_checks_t *checks,
    ngx_smtp_relay_limit_check_t *by);


ngx_int_t
ngx_smtp_relay_limit_mail(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t                       rc;
    ngx_msec_t                      wait;
    ngx_smtp_relay_session_t       *ss;

    ss = t->session;

    rc = ngx_smtp_relay_limit_message(t, NGX_SMTP_RELAY_LIMIT_MSG,
                                      &t->limit_mail, &wait);

    if (rc == NGX_DECLINED) {

        ngx_smtp_relay_transaction_fail(t, &t->limit_mail->refusal);
        ngx_smtp_relay_session_reset(ss);

        /* what a client has sent behind it is no error of the client's */

        ss->mail_refused = 1;
        ss->limited++;

        return NGX_OK;
    }

    if (rc == NGX_OK && wait) {
        ngx_smtp_relay_limit_hold(t, wait);
    }

    return rc;
}


ngx_int_t
ngx_smtp_relay_limit_rcpt(ngx_smtp_relay_transaction_t *t, ngx_msec_t *wait)
{
    ngx_int_t                       rc;
    ngx_smtp_relay_limit_checks_t  *checks;

    *wait = 0;
    checks = t->limit_rcpt;

    if (checks == NULL || checks->refusal.len == 0) {

        rc = ngx_smtp_relay_limit_message(t, NGX_SMTP_RELAY_LIMIT_RCPT,
                                          &t->limit_rcpt, wait);

        if (rc != NGX_DECLINED) {
            return rc;
        }

        checks = t->limit_rcpt;
    }

    if (t->pending) {
        return NGX_BUSY;
    }

    rc = ngx_smtp_relay_session_reply(t->session, &checks->refusal);

    /* what the message comes to if nobody else gets it */

    if (t->status == 0 && t->accepted == 0) {
        ngx_smtp_relay_transaction_result(t, &checks->refusal);
    }

    checks->refusal.len = 0;

    t->recipients++;
    t->rejected++;

    return (rc == NGX_OK) ? NGX_DECLINED : NGX_ERROR;
}


/* as ngx_smtp_relay_limit_rcpt(); the reply is in (*checksp)->refusal */

static ngx_int_t
ngx_smtp_relay_limit_message(ngx_smtp_relay_transaction_t *t, ngx_uint_t kind,
    ngx_smtp_relay_limit_checks_t **checksp, ngx_msec_t *wait)
{
    ngx_int_t                         rc;
    ngx_smtp_relay_session_t         *ss;
    ngx_smtp_relay_limit_check_t     *by;
    ngx_smtp_relay_limit_checks_t    *checks;
    ngx_smtp_relay_limit_srv_conf_t  *lscf;

    *wait = 0;

    ss = t->session;

    if (ss->limits == NULL || ss->limits->conf->limits[kind].nelts == 0) {
        return NGX_OK;
    }

    lscf = ss->limits->conf;

    /* keys are evaluated once for a message, which bounds their memory */

    if (*checksp == NULL) {
        *checksp = ngx_smtp_relay_limit_evaluate(t, kind);

        if (*checksp == NULL) {
            return NGX_ERROR;
        }
    }

    checks = *checksp;

    if (checks->n == 0) {
        return NGX_OK;
    }

    rc = ngx_smtp_relay_limit_rate_take(checks->checks, checks->n,
                                        lscf->dry_run, &by);

    ngx_smtp_relay_limit_log_full(ss, checks);

    if (by == NULL) {
        return NGX_OK;
    }

    ngx_smtp_relay_limit_log(ss, rc, by);

    if (lscf->dry_run) {
        return NGX_OK;
    }

    if (rc == NGX_OK) {
        *wait = by->wait;
        return NGX_OK;
    }

    t->limit = by->zone->shm_zone->shm.name;

    return ngx_smtp_relay_limit_refusal(t, checks, by);
}


static ngx_smtp_relay_limit_checks_t *
ngx_smtp_relay_limit_evaluate(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t kind)
{
    ngx_int_t                       rc;
    ngx_smtp_relay_session_t       *ss;
    ngx_smtp_relay_limit_checks_t  *checks;

    ss = t->session;

    checks = ngx_palloc(t->pool, sizeof(ngx_smtp_relay_limit_checks_t));
    if (checks == NULL) {
        return NULL;
    }

    ngx_smtp_relay_scope_enter(&t->scope, ss->stream);

    rc = ngx_smtp_relay_limit_checks(ss, kind, t->pool, checks);

    ngx_smtp_relay_scope_leave(&t->scope, ss->stream);

    return (rc == NGX_OK) ? checks : NULL;
}


/* NGX_DECLINED: the text is there, or NGX_ERROR */

static ngx_int_t
ngx_smtp_relay_limit_refusal(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_limit_checks_t *checks, ngx_smtp_relay_limit_check_t *by)
{
    u_char  *p;

    if (checks->refusal.data == NULL) {
        checks->refusal.data = ngx_pnalloc(t->pool,
                                           NGX_SMTP_RELAY_LIMIT_TEXT_LEN);
        if (checks->refusal.data == NULL) {
            return NGX_ERROR;
        }
    }

    p = ngx_smtp_relay_limit_text(checks->refusal.data, by);

    checks->refusal.len = p - checks->refusal.data;

    return NGX_DECLINED;
}


void
ngx_smtp_relay_limit_hold(ngx_smtp_relay_transaction_t *t, ngx_msec_t wait)
{
    ngx_connection_t          *c;
    ngx_smtp_relay_session_t  *ss;

    ss = t->session;
    c = ss->connection;

    ngx_smtp_relay_transaction_hold(t);

    ss->state = NGX_SMTP_RELAY_ST_LIMIT_WAIT;
    c->log->action = "holding back a reply to client";

    /* adding to a timer that is set may leave it as it is */

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    ngx_add_timer(c->read, wait);
}


void
ngx_smtp_relay_limit_resume(ngx_smtp_relay_session_t *ss)
{
    ngx_connection_t  *c;

    c = ss->connection;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    if (ss->transaction) {
        ss->transaction->held = NULL;
    }

    ss->state = NGX_SMTP_RELAY_ST_COMMAND;
    c->log->action = "reading client command";
}


void
ngx_smtp_relay_limit_cancel(ngx_smtp_relay_transaction_t *t)
{
    ngx_smtp_relay_limit_checks_t  *checks;

    if (t->held == NULL) {
        return;
    }

    checks = (t->held->verb == NGX_SMTP_RELAY_MAIL) ? t->limit_mail
                                                    : t->limit_rcpt;
    t->held = NULL;

    if (checks) {
        ngx_smtp_relay_limit_rate_give(checks->checks, checks->n);
    }
}
