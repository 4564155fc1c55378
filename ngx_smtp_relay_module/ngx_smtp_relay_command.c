
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_block.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_command.h"
#include "ngx_smtp_relay_hello.h"
#include "ngx_smtp_relay_login.h"
#include "ngx_smtp_relay_starttls.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_early.h"
#include "ngx_smtp_relay_limit.h"
#include "ngx_smtp_relay_log.h"


/* commands on their way to a node at one time, and replies not yet read */

#define NGX_SMTP_RELAY_MAX_PENDING  100
#define NGX_SMTP_RELAY_MAX_UNREAD   8192


typedef ngx_int_t (*ngx_smtp_relay_command_pt)(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);


typedef struct {
    ngx_smtp_relay_command_pt     handler;
    unsigned                      clear:1;     /* allowed before TLS */
    unsigned                      bare:1;      /* takes no argument */
    unsigned                      queue:1;     /* may follow unanswered ones */
} ngx_smtp_relay_command_t;


static ngx_uint_t ngx_smtp_relay_command_blocked(
    ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_command_execute(ngx_smtp_relay_session_t *ss,
    ngx_str_t *line);
static ngx_int_t ngx_smtp_relay_command_bad_line(
    ngx_smtp_relay_session_t *ss);
static ngx_uint_t ngx_smtp_relay_command_pending(
    ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_command_log(ngx_smtp_relay_session_t *ss,
    ngx_str_t *reply);
static ngx_uint_t ngx_smtp_relay_command_is_tls(
    ngx_smtp_relay_session_t *ss);

static ngx_int_t ngx_smtp_relay_command_mail(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_int_t ngx_smtp_relay_command_allow(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_mail_t *mail);
static ngx_int_t ngx_smtp_relay_command_rcpt(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_str_t *ngx_smtp_relay_command_missing(
    ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_command_bad_arg(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_arg_error_e error);
static ngx_int_t ngx_smtp_relay_command_data(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_int_t ngx_smtp_relay_command_bdat(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_str_t *ngx_smtp_relay_command_bad_content(
    ngx_smtp_relay_session_t *ss, ngx_uint_t bdat);
static ngx_int_t ngx_smtp_relay_command_refuse_content(
    ngx_smtp_relay_session_t *ss, ngx_str_t *reply);
static ngx_int_t ngx_smtp_relay_command_rset(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_int_t ngx_smtp_relay_command_noop(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_int_t ngx_smtp_relay_command_help(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_int_t ngx_smtp_relay_command_quit(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_int_t ngx_smtp_relay_command_foreign(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_int_t ngx_smtp_relay_command_unknown(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
static ngx_int_t ngx_smtp_relay_command_not_implemented(
    ngx_smtp_relay_session_t *ss, ngx_str_t *arg);


/* indexed by ngx_smtp_relay_verb_e: handler, clear, bare, queue */

static ngx_smtp_relay_command_t  ngx_smtp_relay_commands[] = {
    { ngx_smtp_relay_command_unknown,         0, 0, 0 },
    { ngx_smtp_relay_hello_helo,              1, 0, 0 },
    { ngx_smtp_relay_hello_ehlo,              1, 0, 0 },
    { ngx_smtp_relay_starttls_command,        1, 0, 0 },
    { ngx_smtp_relay_login_auth,              0, 0, 0 },
    { ngx_smtp_relay_command_mail,            0, 0, 0 },
    { ngx_smtp_relay_command_rcpt,            0, 0, 1 },
    { ngx_smtp_relay_command_data,            0, 1, 1 },
    { ngx_smtp_relay_command_bdat,            0, 0, 1 },
    { ngx_smtp_relay_command_rset,            1, 1, 0 },
    { ngx_smtp_relay_command_noop,            1, 0, 0 },
    { ngx_smtp_relay_command_quit,            1, 1, 0 },
    { ngx_smtp_relay_command_help,            1, 0, 0 },
    { ngx_smtp_relay_command_not_implemented, 0, 0, 0 },    /* VRFY */
    { ngx_smtp_relay_command_not_implemented, 0, 0, 0 },    /* EXPN */
    { ngx_smtp_relay_command_not_implemented, 0, 0, 0 },    /* TURN */
    { ngx_smtp_relay_command_not_implemented, 0, 0, 0 },    /* ETRN */
    { ngx_smtp_relay_command_foreign,         1, 0, 0 }
};


static ngx_str_t  ngx_smtp_relay_ok = ngx_string("250 2.0.0 OK" CRLF);
static ngx_str_t  ngx_smtp_relay_help =
    ngx_string("214 2.0.0 See RFC 5321 and RFC 6409" CRLF);
static ngx_str_t  ngx_smtp_relay_need_tls =
    ngx_string("530 5.7.0 Must issue a STARTTLS command first" CRLF);
static ngx_str_t  ngx_smtp_relay_need_auth =
    ngx_string("530 5.7.0 Authentication required" CRLF);
static ngx_str_t  ngx_smtp_relay_unknown =
    ngx_string("500 5.5.2 Command not recognized" CRLF);
static ngx_str_t  ngx_smtp_relay_not_implemented =
    ngx_string("502 5.5.1 Command not implemented" CRLF);
static ngx_str_t  ngx_smtp_relay_syntax =
    ngx_string("501 5.5.4 Syntax error in parameters" CRLF);
static ngx_str_t  ngx_smtp_relay_bad_sender =
    ngx_string("501 5.1.7 Bad sender address syntax" CRLF);
static ngx_str_t  ngx_smtp_relay_bad_recipient =
    ngx_string("501 5.1.3 Bad recipient address syntax" CRLF);
static ngx_str_t  ngx_smtp_relay_bad_parameter =
    ngx_string("555 5.5.4 Parameter not recognized or not implemented" CRLF);
static ngx_str_t  ngx_smtp_relay_bad_utf8 =
    ngx_string("553 5.6.7 Address needs SMTPUTF8" CRLF);
static ngx_str_t  ngx_smtp_relay_long_line =
    ngx_string("500 5.5.2 Line too long" CRLF);
static ngx_str_t  ngx_smtp_relay_long_auth =
    ngx_string("500 5.5.6 Authentication exchange line is too long" CRLF);
static ngx_str_t  ngx_smtp_relay_nul =
    ngx_string("500 5.5.2 NUL in a command" CRLF);
static ngx_str_t  ngx_smtp_relay_bare =
    ngx_string("500 5.5.2 Lines must end in CRLF" CRLF);
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


void
ngx_smtp_relay_command_greeting(ngx_smtp_relay_session_t *ss)
{
    ngx_str_t  reply;
    u_char     buf[sizeof("220  ESMTP ready" CRLF) + NGX_MAXHOSTNAMELEN];

    reply.data = buf;
    reply.len = ngx_snprintf(buf, sizeof(buf), "220 %V ESMTP ready" CRLF,
                             &ss->hostname)
                - buf;

    (void) ngx_smtp_relay_session_reply(ss, &reply);

    ss->state = NGX_SMTP_RELAY_ST_COMMAND;

    /* who is blocked is greeted, and that was it */

    if (ngx_smtp_relay_auth_block_check(ss) == NGX_ERROR) {
        ss->error = 1;
    }
}


ngx_int_t
ngx_smtp_relay_command_process(ngx_smtp_relay_session_t *ss)
{
    ngx_int_t    rc;
    ngx_str_t    line;
    ngx_buf_t   *b;

    if (ngx_smtp_relay_command_blocked(ss)) {
        return NGX_BUSY;
    }

    if (ss->bad_line) {
        return ngx_smtp_relay_command_bad_line(ss);
    }

    b = ss->in;

    if (b == NULL || b->pos == b->last) {
        return NGX_AGAIN;
    }

    if (ngx_smtp_relay_command_is_tls(ss)) {
        ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                      "client sent a TLS ClientHello to a plaintext port");

        /* no reply: what the client speaks it could not read */

        ss->state = NGX_SMTP_RELAY_ST_CLOSE;
        ss->status = NGX_STREAM_BAD_REQUEST;

        return NGX_OK;
    }

    /* which command a line is whose octets are dropped must be known now */

    if (!ss->line.skip) {
        ss->auth_line = (b->last - b->pos > NGX_SMTP_RELAY_MAX_LINE
                         && ngx_strncasecmp(b->pos, (u_char *) "AUTH ", 5)
                            == 0);
    }

    rc = ngx_smtp_relay_parse_line(&ss->line, b, NGX_SMTP_RELAY_MAX_AUTH_LINE,
                                   &line);

    if (rc == NGX_AGAIN) {

        if (ss->line.skip) {

            /* it may well have been a secret */

            ngx_explicit_memzero(b->start, b->pos - b->start);
        }

        return NGX_AGAIN;
    }

    if (rc == NGX_DECLINED) {
        ss->bad_line = ss->line.error;
        ss->hold = 1;

        return NGX_OK;
    }

    if (ss->state == NGX_SMTP_RELAY_ST_AUTH_RESPONSE) {
        return ngx_smtp_relay_login_response(ss, &line);
    }

    rc = ngx_smtp_relay_command_execute(ss, &line);

    if (rc == NGX_BUSY) {

        /* its turn comes when what was forwarded has been answered */

        ss->hold = 1;
        b->pos = line.data;
    }

    return rc;
}


static ngx_uint_t
ngx_smtp_relay_command_blocked(ngx_smtp_relay_session_t *ss)
{
    ngx_uint_t  pending;

    pending = ngx_smtp_relay_command_pending(ss);

    if (ss->hold) {

        if (pending) {
            return 1;
        }

        ss->hold = 0;
    }

    if (ss->out && ss->out->last - ss->out->pos > NGX_SMTP_RELAY_MAX_UNREAD) {
        ss->full = 1;
        return 1;
    }

    return (pending >= NGX_SMTP_RELAY_MAX_PENDING);
}


static ngx_uint_t
ngx_smtp_relay_command_pending(ngx_smtp_relay_session_t *ss)
{
    return ss->transaction ? ss->transaction->pending : 0;
}


/* a record of a handshake, of TLS 1.0 to 1.3 (RFC 8446, 5.1.) */

static ngx_uint_t
ngx_smtp_relay_command_is_tls(ngx_smtp_relay_session_t *ss)
{
    u_char  *p;

    p = ss->in->pos;

    return (ss->connection->ssl == NULL
            && ss->line.seen <= 1
            && !ss->line.skip
            && ss->in->last - p > 1
            && p[0] == 0x16
            && p[1] == 0x03);
}


/* as the above; NGX_BUSY: the line is to be given again */

static ngx_int_t
ngx_smtp_relay_command_execute(ngx_smtp_relay_session_t *ss, ngx_str_t *line)
{
    ngx_str_t                  arg;
    ngx_smtp_relay_verb_e      verb;
    ngx_smtp_relay_command_t  *cmd;

    verb = ngx_smtp_relay_parse_verb(line, &arg);
    cmd = &ngx_smtp_relay_commands[verb];

    if (!cmd->queue && ngx_smtp_relay_command_pending(ss)) {
        return NGX_BUSY;
    }

    if (verb == NGX_SMTP_RELAY_AUTH) {
        ngx_log_debug0(NGX_LOG_DEBUG_STREAM, ss->connection->log, 0,
                       "smtp relay command: \"AUTH ...\"");

    } else if (verb == NGX_SMTP_RELAY_UNKNOWN) {

        /* a secret or content, if the client did not read the reply */

        ngx_log_debug1(NGX_LOG_DEBUG_STREAM, ss->connection->log, 0,
                       "smtp relay command: unknown, %uz octets", line->len);

    } else {
        ngx_smtp_relay_log_dialogue(ss->connection->log, "command", line);
    }

    if (line->len > NGX_SMTP_RELAY_MAX_LINE && verb != NGX_SMTP_RELAY_AUTH) {
        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_long_line);
    }

    if (!cmd->clear
        && ss->connection->ssl == NULL
        && ss->conf->starttls == NGX_SMTP_RELAY_STARTTLS_REQUIRED)
    {
        ngx_explicit_memzero(line->data, line->len);
        line->len = 0;

        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_need_tls);
    }

    if (cmd->bare && arg.len) {
        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_syntax);
    }

    return cmd->handler(ss, &arg);
}


static ngx_int_t
ngx_smtp_relay_command_bad_line(ngx_smtp_relay_session_t *ss)
{
    ngx_smtp_relay_line_error_e  error;

    error = ss->bad_line;
    ss->bad_line = NGX_SMTP_RELAY_LINE_OK;

    if (ss->state == NGX_SMTP_RELAY_ST_AUTH_RESPONSE) {
        return ngx_smtp_relay_login_bad_response(ss, error);
    }

    switch (error) {

    case NGX_SMTP_RELAY_LINE_LONG:
        return ngx_smtp_relay_command_refuse(ss, ss->auth_line
                                                 ? &ngx_smtp_relay_long_auth
                                                 : &ngx_smtp_relay_long_line);

    case NGX_SMTP_RELAY_LINE_NUL:
        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_nul);

    default: /* NGX_SMTP_RELAY_LINE_BARE */
        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_bare);
    }
}


ngx_int_t
ngx_smtp_relay_command_refuse(ngx_smtp_relay_session_t *ss, ngx_str_t *reply)
{
    ngx_smtp_relay_srv_conf_t  *rscf;

    /* replies to commands in front of this one come first */

    if (ngx_smtp_relay_command_pending(ss)) {
        return NGX_BUSY;
    }

    rscf = ss->conf;

    ngx_smtp_relay_command_log(ss, reply);

    if (reply->data[0] == '5'
        && ++ss->errors > rscf->max_errors
        && rscf->max_errors)
    {
        ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                      "client sent too many bad commands");

        ngx_smtp_relay_session_end(ss, "421 4.7.0", "Too many errors",
                                   NGX_STREAM_BAD_REQUEST);
        return NGX_OK;
    }

    return ngx_smtp_relay_session_reply(ss, reply);
}


ngx_int_t
ngx_smtp_relay_command_decline(ngx_smtp_relay_session_t *ss, ngx_str_t *reply)
{
    if (ngx_smtp_relay_command_pending(ss)) {
        return NGX_BUSY;
    }

    ngx_smtp_relay_command_log(ss, reply);

    return ngx_smtp_relay_session_reply(ss, reply);
}


ngx_int_t
ngx_smtp_relay_command_decline_mail(ngx_smtp_relay_session_t *ss,
    ngx_str_t *reply)
{
    ss->mail_refused = 1;

    return ngx_smtp_relay_command_decline(ss, reply);
}


static void
ngx_smtp_relay_command_log(ngx_smtp_relay_session_t *ss, ngx_str_t *reply)
{
    ngx_str_t  text;

    text = *reply;
    text.len -= sizeof(CRLF) - 1;

    ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                  "client command refused: \"%V\"", &text);
}


static ngx_int_t
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


static ngx_int_t
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


static ngx_int_t
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


static ngx_int_t
ngx_smtp_relay_command_bdat(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    off_t                          size;
    ngx_str_t                     *reply;
    ngx_uint_t                     last;
    ngx_smtp_relay_transaction_t  *t;

    t = ss->transaction;

    if (ngx_smtp_relay_parse_bdat(arg, &size, &last) != NGX_OK) {

        if (ngx_smtp_relay_command_pending(ss)) {
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

        if (ngx_smtp_relay_command_pending(ss)) {
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


static ngx_int_t
ngx_smtp_relay_command_rset(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    ngx_smtp_relay_session_reset(ss);

    return ngx_smtp_relay_session_reply(ss, &ngx_smtp_relay_ok);
}


static ngx_int_t
ngx_smtp_relay_command_noop(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    return ngx_smtp_relay_session_reply(ss, &ngx_smtp_relay_ok);
}


static ngx_int_t
ngx_smtp_relay_command_help(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    return ngx_smtp_relay_session_reply(ss, &ngx_smtp_relay_help);
}


static ngx_int_t
ngx_smtp_relay_command_quit(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    ngx_smtp_relay_session_reset(ss);

    ngx_smtp_relay_session_end(ss, "221 2.0.0", "closing connection",
                               NGX_STREAM_OK);
    return NGX_OK;
}


/* nothing good comes of a web client, or of who uses one against us */

static ngx_int_t
ngx_smtp_relay_command_foreign(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                  "client sent a command of another protocol");

    ngx_smtp_relay_session_end(ss, "421 4.7.0", "This is an SMTP server",
                               NGX_STREAM_BAD_REQUEST);
    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_command_unknown(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_unknown);
}


static ngx_int_t
ngx_smtp_relay_command_not_implemented(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg)
{
    return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_not_implemented);
}
