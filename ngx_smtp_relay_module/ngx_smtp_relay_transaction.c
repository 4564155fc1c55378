
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_failover.h"
#include "ngx_smtp_relay_early.h"
#include "ngx_smtp_relay_content.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_upstream.h"
#include "ngx_smtp_relay_limit.h"
#include "ngx_smtp_relay_log.h"


/* the envelope of a usual message fits into one block */

#define NGX_SMTP_RELAY_TRANSACTION_POOL_SIZE  4096


static ngx_int_t ngx_smtp_relay_transaction_add(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_verb_e verb,
    ngx_str_t *text, ngx_uint_t needs);
static void ngx_smtp_relay_transaction_connect(
    ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_transaction_command(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_envelope_t *e);
static ngx_str_t *ngx_smtp_relay_transaction_unfit(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_envelope_t *e);


static ngx_str_t  ngx_smtp_relay_no_8bitmime =
    ngx_string("554 5.6.3 8BITMIME is not supported by the delivery node"
               CRLF);
static ngx_str_t  ngx_smtp_relay_no_smtputf8 =
    ngx_string("550 5.6.7 SMTPUTF8 is not supported by the delivery node"
               CRLF);
static ngx_str_t  ngx_smtp_relay_no_dsn =
    ngx_string("555 5.5.4 DSN is not supported by the delivery node" CRLF);
static ngx_str_t  ngx_smtp_relay_rcptmax =
    ngx_string("452 4.5.3 Too many recipients for the delivery node" CRLF);
static ngx_str_t  ngx_smtp_relay_go_ahead = ngx_string("354 Go ahead" CRLF);
static ngx_str_t  ngx_smtp_relay_no_recipients =
    ngx_string("554 5.5.1 No valid recipients" CRLF);


ngx_smtp_relay_transaction_t *
ngx_smtp_relay_transaction_create(ngx_smtp_relay_session_t *ss)
{
    ngx_pool_t                    *pool;
    ngx_smtp_relay_transaction_t  *t;

    pool = ngx_create_pool(NGX_SMTP_RELAY_TRANSACTION_POOL_SIZE,
                           ss->connection->log);
    if (pool == NULL) {
        return NULL;
    }

    t = ngx_pcalloc(pool, sizeof(ngx_smtp_relay_transaction_t));

    if (t == NULL
        || ngx_smtp_relay_scope_init(&t->scope, ss, pool) != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    t->pool = pool;
    t->session = ss;
    t->last = &t->first;
    t->size = -1;
    t->start = ngx_current_msec;
    t->stat = &ngx_smtp_relay_stat_no_node;

    return t;
}


ngx_int_t
ngx_smtp_relay_transaction_mail(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_mail_t *mail)
{
    size_t     len;
    u_char    *p;
    ngx_str_t  text;

    len = sizeof("MAIL FROM:<> BODY= SMTPUTF8 RET= ENVID=") - 1
          + mail->path.path.len + mail->body.len + mail->ret.len
          + mail->envid.len;

    p = ngx_pnalloc(t->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text.data = p;

    p = ngx_sprintf(p, "MAIL FROM:<%V>", &mail->path.path);

    t->mail_from.len = mail->path.path.len;
    t->mail_from.data = p - 1 - mail->path.path.len;

    if (mail->body.len) {
        p = ngx_sprintf(p, " BODY=%V", &mail->body);
    }

    if (mail->smtputf8) {
        p = ngx_sprintf(p, " SMTPUTF8");
    }

    if (mail->ret.len) {
        p = ngx_sprintf(p, " RET=%V", &mail->ret);
    }

    if (mail->envid.len) {
        p = ngx_sprintf(p, " ENVID=%V", &mail->envid);
    }

    text.len = p - text.data;

    t->size = mail->size;
    t->smtputf8 = mail->smtputf8;

    return ngx_smtp_relay_transaction_add(t, NGX_SMTP_RELAY_MAIL, &text,
                                          mail->needs);
}


ngx_int_t
ngx_smtp_relay_transaction_rcpt(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_rcpt_t *rcpt)
{
    size_t     len;
    u_char    *p;
    ngx_str_t  text;

    len = sizeof("RCPT TO:<> NOTIFY= ORCPT=") - 1
          + rcpt->path.path.len + rcpt->notify.len + rcpt->orcpt.len;

    p = ngx_pnalloc(t->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text.data = p;

    p = ngx_sprintf(p, "RCPT TO:<%V>", &rcpt->path.path);

    if (t->recipients++ == 0) {
        t->rcpt_to.len = rcpt->path.path.len;
        t->rcpt_to.data = p - 1 - rcpt->path.path.len;
    }

    if (rcpt->notify.len) {
        p = ngx_sprintf(p, " NOTIFY=%V", &rcpt->notify);
    }

    if (rcpt->orcpt.len) {
        p = ngx_sprintf(p, " ORCPT=%V", &rcpt->orcpt);
    }

    text.len = p - text.data;

    return ngx_smtp_relay_transaction_add(t, NGX_SMTP_RELAY_RCPT, &text,
                                          rcpt->needs);
}


ngx_int_t
ngx_smtp_relay_transaction_data(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t quiet)
{
    static ngx_str_t  text = ngx_string("DATA");

    t->data = 1;
    t->bdat = quiet;

    ngx_smtp_relay_scan_init(&t->scan, !quiet, 1);

    return ngx_smtp_relay_transaction_add(t, NGX_SMTP_RELAY_DATA, &text, 0);
}


static ngx_int_t
ngx_smtp_relay_transaction_add(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_verb_e verb, ngx_str_t *text, ngx_uint_t needs)
{
    ngx_smtp_relay_envelope_t  *e;

    e = ngx_pcalloc(t->pool, sizeof(ngx_smtp_relay_envelope_t));
    if (e == NULL) {
        return NGX_ERROR;
    }

    e->text = *text;
    e->verb = verb;
    e->needs = needs;
    e->quiet = (verb == NGX_SMTP_RELAY_DATA && t->bdat);

    *t->last = e;
    t->last = &e->next;

    if (t->send == NULL) {
        t->send = e;
    }

    if (t->wait == NULL) {
        t->wait = e;
    }

    t->pending++;

    return NGX_OK;
}


void
ngx_smtp_relay_transaction_hold(ngx_smtp_relay_transaction_t *t)
{
    ngx_smtp_relay_envelope_t  *e;

    for (e = t->wait; e->next; e = e->next) { /* void */ }

    t->held = e;
}


void
ngx_smtp_relay_transaction_flush(ngx_smtp_relay_transaction_t *t)
{
    if (t->state != NGX_SMTP_RELAY_T_ENVELOPE
        || t->send == NULL || t->send == t->held)
    {
        return;
    }

    if (!t->started) {
        t->started = 1;
        ngx_smtp_relay_transaction_connect(t);
        return;
    }

    if (t->node == NULL || t->node->state != NGX_SMTP_RELAY_NODE_READY) {
        return;
    }

    if (ngx_smtp_relay_transaction_send(t) != NGX_OK) {
        ngx_smtp_relay_transaction_lost(t);
    }
}


static void
ngx_smtp_relay_transaction_connect(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t  rc;

    rc = ngx_smtp_relay_upstream_init(t);

    if (rc == NGX_AGAIN) {
        return;
    }

    ngx_smtp_relay_transaction_resolved(t, rc);
}


void
ngx_smtp_relay_transaction_resolved(ngx_smtp_relay_transaction_t *t,
    ngx_int_t rc)
{
    if (rc == NGX_OK) {
        rc = ngx_smtp_relay_upstream_next(t);
    }

    ngx_smtp_relay_transaction_use(t, rc);
}


void
ngx_smtp_relay_transaction_node_ready(ngx_smtp_relay_transaction_t *t)
{
    if (ngx_smtp_relay_transaction_send(t) != NGX_OK) {
        ngx_smtp_relay_transaction_lost(t);
    }
}


void
ngx_smtp_relay_transaction_node_writable(ngx_smtp_relay_transaction_t *t)
{
    if (t->state == NGX_SMTP_RELAY_T_ENVELOPE && t->out == NULL) {

        if (t->node->state == NGX_SMTP_RELAY_NODE_READY) {
            ngx_smtp_relay_transaction_node_ready(t);
        }

        return;
    }

    ngx_smtp_relay_session_wake(t->session);
}


ngx_int_t
ngx_smtp_relay_transaction_send(ngx_smtp_relay_transaction_t *t)
{
    ngx_int_t                   rc;
    ngx_str_t                  *text;
    ngx_smtp_relay_node_t      *node;
    ngx_smtp_relay_envelope_t  *e;

    node = t->node;

    while (t->send && t->send != t->held) {
        e = t->send;

        if (node->expected
            && !(node->features.ext & NGX_SMTP_RELAY_EXT_PIPELINING))
        {
            break;
        }

        if (e->early && e->next == NULL && e->verb == NGX_SMTP_RELAY_MAIL) {

            /* it goes with the first RCPT */

            break;
        }

        if (t->wait == e && ngx_smtp_relay_early_data(t, e)) {
            break;
        }

        if (e->quiet && (node->features.ext & NGX_SMTP_RELAY_EXT_CHUNKING)) {

            /*
             * the content goes on as it comes, by BDAT (RFC 3030), once it
             * is known that there is somebody to get it
             */

            if (t->wait != e) {

                if (t->ahead) {
                    break;
                }

                rc = ngx_smtp_relay_content_ahead(t);

                if (rc == NGX_DECLINED) {
                    break;
                }

                return rc;
            }

            text = t->accepted ? &ngx_smtp_relay_go_ahead
                               : &ngx_smtp_relay_no_recipients;

            if (!t->ahead) {
                t->bdat_out = 1;
                ngx_smtp_relay_scan_init(&t->scan, 0, 0);
            }

        } else if (e->verb == NGX_SMTP_RELAY_RCPT
                   && node->features.rcptmax
                   && t->node_rcpts >= node->features.rcptmax)
        {
            /* LIMITS of the node (RFC 9422, 4.2.) */

            text = &ngx_smtp_relay_rcptmax;

        } else {
            text = ngx_smtp_relay_transaction_unfit(t, e);
        }

        if (text) {

            if (t->wait != e) {

                /* what was sent before it is answered first */

                break;
            }

            t->send = ngx_smtp_relay_transaction_skip(e->next);

            if (ngx_smtp_relay_transaction_answer(t,
                                   ngx_atoi(text->data, 3), text)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            if (t->state != NGX_SMTP_RELAY_T_ENVELOPE) {
                return NGX_OK;
            }

            continue;
        }

        if (e->quiet) {
            t->bdat_out = 0;
            ngx_smtp_relay_scan_init(&t->scan, 0, 1);
        }

        rc = ngx_smtp_relay_transaction_command(t, e);

        if (rc == NGX_AGAIN) {
            break;
        }

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (e->verb == NGX_SMTP_RELAY_RCPT) {
            t->node_rcpts++;
        }

        t->send = ngx_smtp_relay_transaction_skip(e->next);
    }

    return (ngx_smtp_relay_node_flush(node) == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_transaction_command(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_envelope_t *e)
{
    u_char     *p;
    ngx_str_t   text;
    u_char      buf[NGX_SMTP_RELAY_MAX_LINE + NGX_OFF_T_LEN + 8];

    if (e->verb != NGX_SMTP_RELAY_MAIL
        || t->size < 0
        || !(t->node->features.ext & NGX_SMTP_RELAY_EXT_SIZE))
    {
        return ngx_smtp_relay_node_command(t->node, &e->text);
    }

    /* RFC 1870: SIZE goes only to a node that offers it */

    p = ngx_cpymem(buf, e->text.data, e->text.len);
    p = ngx_sprintf(p, " SIZE=%O", t->size);

    text.len = p - buf;
    text.data = buf;

    return ngx_smtp_relay_node_command(t->node, &text);
}


/*
 * A reply of the relay's own to a command that the node is not fit for, or
 * NULL.
 */

static ngx_str_t *
ngx_smtp_relay_transaction_unfit(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_envelope_t *e)
{
    ngx_uint_t  missing;

    missing = e->needs & ~t->node->features.ext;

    if (missing & NGX_SMTP_RELAY_EXT_SMTPUTF8) {
        return &ngx_smtp_relay_no_smtputf8;
    }

    if (missing & NGX_SMTP_RELAY_EXT_8BITMIME) {
        return &ngx_smtp_relay_no_8bitmime;
    }

    if (missing & NGX_SMTP_RELAY_EXT_DSN) {
        return &ngx_smtp_relay_no_dsn;
    }

    /* RFC 2920, 3.1.: without a valid recipient DATA may be answered 354 */

    if (e->verb == NGX_SMTP_RELAY_DATA && t->wait == e && t->accepted == 0) {
        return &ngx_smtp_relay_no_recipients;
    }

    return NULL;
}


ngx_smtp_relay_envelope_t *
ngx_smtp_relay_transaction_skip(ngx_smtp_relay_envelope_t *e)
{
    while (e && e->told && !e->accepted) {
        e = e->next;
    }

    return e;
}


void
ngx_smtp_relay_transaction_result(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *text)
{
    ngx_str_t  line;

    t->status = ngx_atoi(text->data, 3);
    t->end = ngx_current_msec;

    line = *text;

    while (line.len && (line.data[line.len - 1] == LF
                        || line.data[line.len - 1] == CR))
    {
        line.len--;
    }

    t->reply.data = ngx_pstrdup(t->pool, &line);
    t->reply.len = t->reply.data ? line.len : 0;

    ngx_smtp_relay_sanitize(&t->reply, NGX_SMTP_RELAY_MAX_REPLY_LINE);
}


void
ngx_smtp_relay_transaction_destroy(ngx_smtp_relay_transaction_t *t)
{
    ngx_smtp_relay_node_t  *node;

    node = t->node;

    if (node) {

        if (t->open || t->data || t->pending) {

            /* never given an end of data, so nothing half is delivered */

            ngx_smtp_relay_node_close(node);

        } else {
            ngx_smtp_relay_node_release(node, 0);
        }
    }

    ngx_smtp_relay_limit_cancel(t);

    ngx_smtp_relay_upstream_cleanup(t);

    ngx_smtp_relay_stat_message(t);
    ngx_smtp_relay_log_message(t);

    ngx_destroy_pool(t->pool);
}
