
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_log.h"


/* of a line of the dialogue, at debug */

#define NGX_SMTP_RELAY_LOG_LINE  512


static void ngx_smtp_relay_log_result(ngx_smtp_relay_transaction_t *t);


void
ngx_smtp_relay_log_message(ngx_smtp_relay_transaction_t *t)
{
    ngx_uint_t                    i, n, status;
    ngx_stream_session_t         *s;
    ngx_stream_handler_pt        *handlers;
    ngx_stream_core_main_conf_t  *cmcf;

    s = t->session->stream;

    ngx_smtp_relay_log_result(t);

    cmcf = ngx_stream_get_module_main_conf(s, ngx_stream_core_module);

    handlers = cmcf->phases[NGX_STREAM_LOG_PHASE].handlers.elts;
    n = cmcf->phases[NGX_STREAM_LOG_PHASE].handlers.nelts;

    ngx_smtp_relay_scope_enter(&t->scope, s);

    status = s->status;
    s->status = NGX_STREAM_OK;

    for (i = 0; i < n; i++) {
        (void) handlers[i](s);
    }

    s->status = status;

    ngx_smtp_relay_scope_leave(&t->scope, s);
}


static void
ngx_smtp_relay_log_result(ngx_smtp_relay_transaction_t *t)
{
    char       *what;
    ngx_log_t  *log;

    log = t->session->connection->log;

    if (log->log_level < NGX_LOG_INFO) {
        return;
    }

    switch (t->status / 100) {

    case 0:
        ngx_log_error(NGX_LOG_INFO, log, 0,
                      "message not completed, from <%V>, "
                      "%ui recipients, %O octets",
                      &t->mail_from, t->accepted, t->scan.size);
        return;

    case 2:
        what = "accepted";
        break;

    case 4:
        what = "deferred";
        break;

    default:
        what = "rejected";
    }

    ngx_log_error(NGX_LOG_INFO, log, 0,
                  "message %s: \"%V\", from <%V>, %ui recipients, %O octets",
                  what, &t->reply, &t->mail_from, t->accepted, t->scan.size);
}


void
ngx_smtp_relay_log_recipient(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *command, ngx_str_t *reply)
{
    ngx_str_t   path, text;
    ngx_log_t  *log;
    u_char      buf[NGX_SMTP_RELAY_MAX_REPLY_LINE];

    log = t->session->connection->log;

    if (log->log_level < NGX_LOG_INFO) {
        return;
    }

    text.len = ngx_min(reply->len, sizeof(buf));
    text.data = buf;
    ngx_memcpy(buf, reply->data, text.len);

    while (text.len && (buf[text.len - 1] == CR || buf[text.len - 1] == LF)) {
        text.len--;
    }

    ngx_smtp_relay_sanitize(&text, sizeof(buf));

    /* parameters are not of interest here; a path may hold ">" and " " */

    path.len = command->len - (sizeof("RCPT TO:") - 1);
    path.data = command->data + sizeof("RCPT TO:") - 1;

    ngx_log_error(NGX_LOG_INFO, log, 0, "recipient %V refused: \"%V\"",
                  &path, &text);
}


#if (NGX_DEBUG)

void
ngx_smtp_relay_log_lines(ngx_log_t *log, char *who, ngx_str_t *text)
{
    u_char     *p, *eol, *last;
    ngx_str_t   line;
    u_char      buf[NGX_SMTP_RELAY_LOG_LINE];

    last = text->data + text->len;

    for (p = text->data; p < last; p = eol + 1) {

        eol = ngx_strlchr(p, last, LF);
        if (eol == NULL) {
            eol = last;
        }

        line.len = eol - p;

        if (line.len && p[line.len - 1] == CR) {
            line.len--;
        }

        if (line.len == 0) {
            continue;
        }

        line.len = ngx_min(line.len, sizeof(buf));
        line.data = buf;
        ngx_memcpy(buf, p, line.len);

        ngx_smtp_relay_sanitize(&line, sizeof(buf));

        ngx_log_debug2(NGX_LOG_DEBUG_STREAM, log, 0,
                       "smtp relay %s: \"%V\"", who, &line);
    }
}

#endif
