
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_block.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_command.h"
#include "ngx_smtp_relay_command_mail.h"
#include "ngx_smtp_relay_hello.h"
#include "ngx_smtp_relay_login.h"
#include "ngx_smtp_relay_starttls.h"
#include "ngx_smtp_relay_transaction.h"
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


ngx_str_t  ngx_smtp_relay_syntax =
    ngx_string("501 5.5.4 Syntax error in parameters" CRLF);
ngx_str_t  ngx_smtp_relay_not_implemented =
    ngx_string("502 5.5.1 Command not implemented" CRLF);

static ngx_str_t  ngx_smtp_relay_ok = ngx_string("250 2.0.0 OK" CRLF);
static ngx_str_t  ngx_smtp_relay_help =
    ngx_string("214 2.0.0 See RFC 5321 and RFC 6409" CRLF);
static ngx_str_t  ngx_smtp_relay_need_tls =
    ngx_string("530 5.7.0 Must issue a STARTTLS command first" CRLF);
static ngx_str_t  ngx_smtp_relay_unknown =
    ngx_string("500 5.5.2 Command not recognized" CRLF);
static ngx_str_t  ngx_smtp_relay_long_line =
    ngx_string("500 5.5.2 Line too long" CRLF);
static ngx_str_t  ngx_smtp_relay_long_auth =
    ngx_string("500 5.5.6 Authentication exchange line is too long" CRLF);
static ngx_str_t  ngx_smtp_relay_nul =
    ngx_string("500 5.5.2 NUL in a command" CRLF);
static ngx_str_t  ngx_smtp_relay_bare =
    ngx_string("500 5.5.2 Lines must end in CRLF" CRLF);


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
