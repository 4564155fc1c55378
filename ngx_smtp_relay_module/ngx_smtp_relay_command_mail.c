
/* The commands of a mail transaction (RFC 5321, 3.3.; RFC 3030). */


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_command.h"
#include "ngx_smtp_relay_command_mail.h"
#include "ngx_smtp_relay_login.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_early.h"
#include "ngx_smtp_relay_limit.h"


static ngx_int_t ngx_smtp_relay_command_allow(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_mail_t *mail);
static ngx_str_t *ngx_smtp_relay_command_missing(
    ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_command_bad_arg(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_arg_error_e error);
static ngx_str_t *ngx_smtp_relay_command_bad_content(
    ngx_smtp_relay_session_t *ss, ngx_uint_t bdat);
static ngx_int_t ngx_smtp_relay_command_refuse_content(
    ngx_smtp_relay_session_t *ss, ngx_str_t *reply);


static ngx_str_t  ngx_smtp_relay_need_auth =
    ngx_string("530 5.7.0 Authentication required" CRLF);
static ngx_str_t  ngx_smtp_relay_bad_sender =
    ngx_string("501 5.1.7 Bad sender address syntax" CRLF);
static ngx_str_t  ngx_smtp_relay_bad_recipient =
    ngx_string("501 5.1.3 Bad recipient address syntax" CRLF);
static ngx_str_t  ngx_smtp_relay_bad_parameter =
    ngx_string("555 5.5.4 Parameter not recognized or not implemented" CRLF);
static ngx_str_t  ngx_smtp_relay_bad_utf8 =
    ngx_string("553 5.6.7 Address needs SMTPUTF8" CRLF);
static ngx_str_t  ngx_smtp_relay_nested_mail =
    ngx_string("503 5.5.1 Nested MAIL command" CRLF);
static ngx_str_t  ngx_smtp_relay_no_mail =
    ngx_string("503 5.5.1 MAIL first" CRLF);
static ngx_str_t  ngx_smtp_relay_no_rcpt =
    ngx_string("503 5.5.1 RCPT first" CRLF);
static ngx_str_t  ngx_smtp_relay_no_valid_rcpt =
    ngx_string("554 5.5.1 No valid recipients" CRLF);
static ngx_str_t  ngx_smtp_relay_in_bdat =
    ngx_string("503 5.5.1 Message content has begun" CRLF);
static ngx_str_t  ngx_smtp_relay_declared_too_big =
    ngx_string("552 5.3.4 Message too big" CRLF);
static ngx_str_t  ngx_smtp_relay_not_allowed =
    ngx_string("550 5.7.1 Sender address not allowed" CRLF);
static ngx_str_t  ngx_smtp_relay_too_many_rcpt =
    ngx_string("452 4.5.3 Too many recipients" CRLF);



ngx_int_t
ngx_smtp_relay_command_mail(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    ngx_int_t                      rc;
    ngx_smtp_relay_mail_t          mail;
    ngx_smtp_relay_srv_conf_t     *rscf;
    ngx_smtp_relay_arg_error_e     error;
    ngx_smtp_relay_transaction_t  *t;

    rscf = ss->conf;

    if (!ss->authenticated && !ngx_smtp_relay_login_none(ss)) {
        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_need_auth);
    }

    if (ss->transaction) {
        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_nested_mail);
    }

    error = ngx_smtp_relay_parse_mail(arg, rscf->capabilities
                                           | NGX_SMTP_RELAY_EXT_SIZE, &mail);

    if (error != NGX_SMTP_RELAY_ARG_OK) {
        return ngx_smtp_relay_command_bad_arg(ss, error);
    }

    if (!ss->authenticated) {
        return ngx_smtp_relay_login_mail(ss);
    }

    if (rscf->max_messages
        && ss->transactions - ss->limited >= rscf->max_messages)
    {
        ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                      "client exceeded the messages of a session");

        ngx_smtp_relay_session_end(ss, "421 4.7.0",
                                   "Too many messages in this session",
                                   NGX_STREAM_SERVICE_UNAVAILABLE);
        return NGX_OK;
    }

    rc = ngx_smtp_relay_command_allow(ss, &mail);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    t = ngx_smtp_relay_transaction_create(ss);
    if (t == NULL) {
        return NGX_ERROR;
    }

    ss->transaction = t;
    ss->transactions++;

    if (ngx_smtp_relay_transaction_mail(t, &mail) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_smtp_relay_limit_mail(t);

    if (rc == NGX_OK && ss->transaction) {
        ngx_smtp_relay_early_mail(t);
    }

    return rc;
}


/* NGX_DECLINED: nothing speaks against the message; else it is answered */

static ngx_int_t
ngx_smtp_relay_command_allow(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_mail_t *mail)
{
    ngx_smtp_relay_auth_t  *auth;

    ss->mail_refused = 0;

    auth = ss->auth;

    if (ss->max_message_size && mail->size > ss->max_message_size) {
        return ngx_smtp_relay_command_decline_mail(ss,
                                            &ngx_smtp_relay_declared_too_big);
    }

    if (!ngx_smtp_relay_plan_sender(&auth->plan, &mail->path.path)) {
        ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                      "user \"%V\" may not send as \"%V\"",
                      &auth->user, &mail->path.path);

        return ngx_smtp_relay_command_decline_mail(ss,
                                                 &ngx_smtp_relay_not_allowed);
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_smtp_relay_command_rcpt(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    ngx_int_t                      rc;
    ngx_msec_t                     wait;
    ngx_smtp_relay_rcpt_t          rcpt;
    ngx_smtp_relay_srv_conf_t     *rscf;
    ngx_smtp_relay_arg_error_e     error;
    ngx_smtp_relay_transaction_t  *t;

    t = ss->transaction;
    rscf = ss->conf;

    if (t == NULL && ss->mail_refused) {
        return ngx_smtp_relay_command_decline(ss, &ngx_smtp_relay_no_mail);
    }

    if (t == NULL) {
        return ngx_smtp_relay_command_refuse(ss,
                                          ngx_smtp_relay_command_missing(ss));
    }

    if (t->state == NGX_SMTP_RELAY_T_FAILED) {
        t->refused++;
        return ngx_smtp_relay_session_reply(ss, &t->refusal);
    }

    if (t->data) {
        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_in_bdat);
    }

    error = ngx_smtp_relay_parse_rcpt(arg, rscf->capabilities, t->smtputf8,
                                      &rcpt);

    if (error != NGX_SMTP_RELAY_ARG_OK) {
        rc = ngx_smtp_relay_command_bad_arg(ss, error);
        t->refused += (rc == NGX_OK);

        return rc;
    }

    if (ss->max_recipients
        && t->recipients - t->rejected >= ss->max_recipients)
    {
        rc = ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_too_many_rcpt);
        t->refused += (rc == NGX_OK);

        return rc;
    }

    rc = ngx_smtp_relay_limit_rcpt(t, &wait);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : rc;
    }

    if (ngx_smtp_relay_transaction_rcpt(t, &rcpt) != NGX_OK) {
        return NGX_ERROR;
    }

    if (wait) {
        ngx_smtp_relay_limit_hold(t, wait);
    }

    return NGX_OK;
}


/* what has to come before RCPT and content */

static ngx_str_t *
ngx_smtp_relay_command_missing(ngx_smtp_relay_session_t *ss)
{
    if (ss->authenticated
        || ss->mail_refused
        || ngx_smtp_relay_login_none(ss))
    {
        return &ngx_smtp_relay_no_mail;
    }

    return &ngx_smtp_relay_need_auth;
}


static ngx_int_t
ngx_smtp_relay_command_bad_arg(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_arg_error_e error)
{
    ngx_str_t  *reply;

    switch (error) {

    case NGX_SMTP_RELAY_ARG_SENDER:
        reply = &ngx_smtp_relay_bad_sender;
        break;

    case NGX_SMTP_RELAY_ARG_RECIPIENT:
        reply = &ngx_smtp_relay_bad_recipient;
        break;

    case NGX_SMTP_RELAY_ARG_PARAMETER:
        reply = &ngx_smtp_relay_bad_parameter;
        break;

    case NGX_SMTP_RELAY_ARG_UTF8:
        reply = &ngx_smtp_relay_bad_utf8;
        break;

    default: /* NGX_SMTP_RELAY_ARG_SYNTAX, NGX_SMTP_RELAY_ARG_VALUE */
        reply = &ngx_smtp_relay_syntax;
    }

    return ngx_smtp_relay_command_refuse(ss, reply);
}


ngx_int_t
ngx_smtp_relay_command_data(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    ngx_str_t                     *reply;
    ngx_smtp_relay_transaction_t  *t;

    t = ss->transaction;

    if (t && t->state == NGX_SMTP_RELAY_T_FAILED) {
        return ngx_smtp_relay_session_reply(ss, &t->refusal);
    }

    reply = ngx_smtp_relay_command_bad_content(ss, 0);

    if (reply) {
        return ngx_smtp_relay_command_refuse_content(ss, reply);
    }

    ss->state = NGX_SMTP_RELAY_ST_DATA;
    ss->connection->log->action = "reading message content";

    return ngx_smtp_relay_transaction_data(t, 0);
}


ngx_int_t
ngx_smtp_relay_command_bdat(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    off_t                          size;
    ngx_str_t                     *reply;
    ngx_uint_t                     last;
    ngx_smtp_relay_transaction_t  *t;

    t = ss->transaction;

    if (ngx_smtp_relay_parse_bdat(arg, &size, &last) != NGX_OK) {

        if (t && t->pending) {
            return NGX_BUSY;
        }

        /* nobody knows where the chunk ends and commands go on */

        ss->state = NGX_SMTP_RELAY_ST_CLOSE;
        ss->status = NGX_STREAM_BAD_REQUEST;

        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_syntax);
    }

    if (t && t->state == NGX_SMTP_RELAY_T_FAILED) {

        /* the chunk is dropped, then the refusal repeated */

        t->bdat = 1;
        t->chunk = size;
        t->bdat_last = last;
        ss->state = NGX_SMTP_RELAY_ST_BDAT;

        return NGX_OK;
    }

    reply = ngx_smtp_relay_command_bad_content(ss, 1);

    if (reply) {

        if (t && t->pending) {
            return NGX_BUSY;
        }

        /* RFC 3030, 4.2.: the chunk follows all the same */

        ss->skip = size;
        ss->skip_reply = reply;
        ss->state = NGX_SMTP_RELAY_ST_BDAT;

        return NGX_OK;
    }

    t->chunk = size;
    t->bdat_last = last;

    ss->state = NGX_SMTP_RELAY_ST_BDAT;
    ss->connection->log->action = "reading message content";

    if (t->data) {
        return NGX_OK;
    }

    return ngx_smtp_relay_transaction_data(t, 1);
}


/* the reply to DATA or BDAT out of place, or NULL */

static ngx_str_t *
ngx_smtp_relay_command_bad_content(ngx_smtp_relay_session_t *ss,
    ngx_uint_t bdat)
{
    ngx_smtp_relay_transaction_t  *t;

    t = ss->transaction;

    if (bdat && !(ss->conf->capabilities & NGX_SMTP_RELAY_EXT_CHUNKING)) {
        return &ngx_smtp_relay_not_implemented;
    }

    if (t == NULL) {
        return ngx_smtp_relay_command_missing(ss);
    }

    if (t->data) {
        return bdat ? NULL : &ngx_smtp_relay_in_bdat;
    }

    if (t->recipients == 0) {
        return &ngx_smtp_relay_no_rcpt;
    }

    if (t->pending == 0 && t->accepted == 0) {
        return &ngx_smtp_relay_no_valid_rcpt;
    }

    return NULL;
}


/* RFC 2920, 3.1.: DATA may have left before MAIL or RCPT were refused */

static ngx_int_t
ngx_smtp_relay_command_refuse_content(ngx_smtp_relay_session_t *ss,
    ngx_str_t *reply)
{
    if (reply == &ngx_smtp_relay_no_valid_rcpt
        || (reply == &ngx_smtp_relay_no_mail && ss->mail_refused))
    {
        return ngx_smtp_relay_command_decline(ss, reply);
    }

    return ngx_smtp_relay_command_refuse(ss, reply);
}


ngx_int_t
ngx_smtp_relay_command_skip(ngx_smtp_relay_session_t *ss, ngx_buf_t *b)
{
    size_t      n;
    ngx_str_t  *reply;

    n = ngx_min((off_t) (b->last - b->pos), ss->skip);

    b->pos += n;
    ss->skip -= n;

    if (ss->skip) {
        return NGX_AGAIN;
    }

    reply = ss->skip_reply;
    ss->skip_reply = NULL;

    ss->state = NGX_SMTP_RELAY_ST_COMMAND;

    return ngx_smtp_relay_command_refuse_content(ss, reply);
}
