
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_variables.h"


static ngx_int_t ngx_smtp_relay_event_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_smtp_relay_trace_id_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_smtp_relay_session_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_smtp_relay_date_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_smtp_relay_protocol_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_smtp_relay_auth_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_smtp_relay_auth_http_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_smtp_relay_limit_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_smtp_relay_message_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_smtp_relay_transaction_t *ngx_smtp_relay_variable_message(
    ngx_stream_session_t *s);
static ngx_int_t ngx_smtp_relay_variable_text(ngx_stream_variable_value_t *v,
    ngx_str_t *text);
static ngx_int_t ngx_smtp_relay_variable_number(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, off_t number);
static ngx_int_t ngx_smtp_relay_variable_time(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, ngx_msec_t ms);


typedef enum {
    NGX_SMTP_RELAY_VAR_SESSION_ID = 0,
    NGX_SMTP_RELAY_VAR_HOSTNAME,
    NGX_SMTP_RELAY_VAR_HELO,
    NGX_SMTP_RELAY_VAR_MESSAGES,
    NGX_SMTP_RELAY_VAR_ERRORS,

    NGX_SMTP_RELAY_VAR_AUTH_METHOD,
    NGX_SMTP_RELAY_VAR_USER,
    NGX_SMTP_RELAY_VAR_ACCOUNT,
    NGX_SMTP_RELAY_VAR_AUTH_STATUS,
    NGX_SMTP_RELAY_VAR_AUTH_SOURCE,
    NGX_SMTP_RELAY_VAR_AUTH_TIME,

    NGX_SMTP_RELAY_VAR_MAIL_FROM,
    NGX_SMTP_RELAY_VAR_RCPT_TO,
    NGX_SMTP_RELAY_VAR_RECIPIENTS,
    NGX_SMTP_RELAY_VAR_REJECTED,
    NGX_SMTP_RELAY_VAR_SIZE,
    NGX_SMTP_RELAY_VAR_STATUS,
    NGX_SMTP_RELAY_VAR_REPLY,
    NGX_SMTP_RELAY_VAR_TIME,
    NGX_SMTP_RELAY_VAR_REUSED
} ngx_smtp_relay_variable_e;


/* all of them change while a session lasts */

#define NGX_SMTP_RELAY_VAR  NGX_STREAM_VAR_NOCACHEABLE


static ngx_stream_variable_t  ngx_smtp_relay_vars[] = {

    { ngx_string("smtp_relay_event"), NULL,
      ngx_smtp_relay_event_variable,
      0, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_trace_id"), NULL,
      ngx_smtp_relay_trace_id_variable,
      0, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_session_id"), NULL,
      ngx_smtp_relay_session_variable,
      NGX_SMTP_RELAY_VAR_SESSION_ID, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_hostname"), NULL,
      ngx_smtp_relay_session_variable,
      NGX_SMTP_RELAY_VAR_HOSTNAME, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_helo"), NULL,
      ngx_smtp_relay_session_variable,
      NGX_SMTP_RELAY_VAR_HELO, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_messages"), NULL,
      ngx_smtp_relay_session_variable,
      NGX_SMTP_RELAY_VAR_MESSAGES, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_errors"), NULL,
      ngx_smtp_relay_session_variable,
      NGX_SMTP_RELAY_VAR_ERRORS, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_date"), NULL,
      ngx_smtp_relay_date_variable,
      0, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_protocol"), NULL,
      ngx_smtp_relay_protocol_variable,
      0, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_auth_method"), NULL,
      ngx_smtp_relay_auth_variable,
      NGX_SMTP_RELAY_VAR_AUTH_METHOD, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_user"), NULL,
      ngx_smtp_relay_auth_variable,
      NGX_SMTP_RELAY_VAR_USER, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_account"), NULL,
      ngx_smtp_relay_auth_variable,
      NGX_SMTP_RELAY_VAR_ACCOUNT, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_auth_status"), NULL,
      ngx_smtp_relay_auth_variable,
      NGX_SMTP_RELAY_VAR_AUTH_STATUS, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_auth_source"), NULL,
      ngx_smtp_relay_auth_variable,
      NGX_SMTP_RELAY_VAR_AUTH_SOURCE, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_auth_time"), NULL,
      ngx_smtp_relay_auth_variable,
      NGX_SMTP_RELAY_VAR_AUTH_TIME, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_auth_http_"), NULL,
      ngx_smtp_relay_auth_http_variable,
      0, NGX_SMTP_RELAY_VAR|NGX_STREAM_VAR_PREFIX, 0 },

    { ngx_string("smtp_relay_limit"), NULL,
      ngx_smtp_relay_limit_variable,
      0, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_mail_from"), NULL,
      ngx_smtp_relay_message_variable,
      NGX_SMTP_RELAY_VAR_MAIL_FROM, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_rcpt_to"), NULL,
      ngx_smtp_relay_message_variable,
      NGX_SMTP_RELAY_VAR_RCPT_TO, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_recipients"), NULL,
      ngx_smtp_relay_message_variable,
      NGX_SMTP_RELAY_VAR_RECIPIENTS, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_recipients_rejected"), NULL,
      ngx_smtp_relay_message_variable,
      NGX_SMTP_RELAY_VAR_REJECTED, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_message_size"), NULL,
      ngx_smtp_relay_message_variable,
      NGX_SMTP_RELAY_VAR_SIZE, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_message_status"), NULL,
      ngx_smtp_relay_message_variable,
      NGX_SMTP_RELAY_VAR_STATUS, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_message_reply"), NULL,
      ngx_smtp_relay_message_variable,
      NGX_SMTP_RELAY_VAR_REPLY, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_message_time"), NULL,
      ngx_smtp_relay_message_variable,
      NGX_SMTP_RELAY_VAR_TIME, NGX_SMTP_RELAY_VAR, 0 },

    { ngx_string("smtp_relay_node_reused"), NULL,
      ngx_smtp_relay_message_variable,
      NGX_SMTP_RELAY_VAR_REUSED, NGX_SMTP_RELAY_VAR, 0 },

      ngx_stream_null_variable
};


/* indexed by ngx_smtp_relay_auth_status_e and _source_e */

static ngx_str_t  ngx_smtp_relay_auth_statuses[] = {
    ngx_null_string,
    ngx_string("ok"),
    ngx_string("denied"),
    ngx_string("error")
};


static ngx_str_t  ngx_smtp_relay_auth_sources[] = {
    ngx_null_string,
    ngx_string("service"),
    ngx_string("cache"),
    ngx_string("stale"),
    ngx_string("file")
};


ngx_int_t
ngx_smtp_relay_add_variables(ngx_conf_t *cf)
{
    ngx_stream_variable_t  *var, *v;

    for (v = ngx_smtp_relay_vars; v->name.len; v++) {
        var = ngx_stream_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* a session that ends before the relay sees it is one of the relay, too */

static ngx_int_t
ngx_smtp_relay_event_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                        text;
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    nscf = ngx_stream_get_module_srv_conf(s, ngx_smtp_relay_node_module);

    if (nscf->upstream == NULL && nscf->upstream_value == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    if (ngx_smtp_relay_variable_message(s)) {
        ngx_str_set(&text, "message");

    } else {
        ngx_str_set(&text, "session");
    }

    return ngx_smtp_relay_variable_text(v, &text);
}


/*
 * A trace-id of Trace Context (W3C): the session, and which of its messages;
 * 0 is the session itself.
 */

static ngx_int_t
ngx_smtp_relay_trace_id_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    u_char                    *p;
    ngx_str_t                  text;
    ngx_uint_t                 number;
    ngx_smtp_relay_session_t  *ss;

    ss = ngx_smtp_relay_get_session(s);

    if (ss == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(s->connection->pool, NGX_SMTP_RELAY_ID_LEN + 8);
    if (p == NULL) {
        return NGX_ERROR;
    }

    number = ngx_smtp_relay_variable_message(s) ? ss->transactions : 0;

    text.data = p;
    text.len = NGX_SMTP_RELAY_ID_LEN + 8;

    p = ngx_cpymem(p, ss->id, NGX_SMTP_RELAY_ID_LEN);
    (void) ngx_sprintf(p, "%08xD", (uint32_t) number);

    return ngx_smtp_relay_variable_text(v, &text);
}


static ngx_int_t
ngx_smtp_relay_session_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                  text;
    ngx_smtp_relay_session_t  *ss;

    ss = ngx_smtp_relay_get_session(s);

    if (ss == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    switch (data) {

    case NGX_SMTP_RELAY_VAR_SESSION_ID:
        text.len = NGX_SMTP_RELAY_ID_LEN;
        text.data = ss->id;
        break;

    case NGX_SMTP_RELAY_VAR_HOSTNAME:
        text = ss->hostname;
        break;

    case NGX_SMTP_RELAY_VAR_HELO:

        if (ss->helo.len == 0) {

            /* none yet, or forgotten with STARTTLS */

            v->not_found = 1;
            return NGX_OK;
        }

        text = ss->helo;
        break;

    case NGX_SMTP_RELAY_VAR_MESSAGES:
        return ngx_smtp_relay_variable_number(s, v, ss->messages);

    default: /* NGX_SMTP_RELAY_VAR_ERRORS */
        return ngx_smtp_relay_variable_number(s, v, ss->errors);
    }

    return ngx_smtp_relay_variable_text(v, &text);
}


/* the time as RFC 5322, 3.3., has it, in the zone of the machine */

static ngx_int_t
ngx_smtp_relay_date_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    u_char      *p;
    ngx_tm_t     tm;
    ngx_int_t    zone;
    ngx_time_t  *tp;

    static char  *days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static char  *months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                               "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

    p = ngx_pnalloc(s->connection->pool,
                    sizeof("Mon, 28 Sep 1970 06:00:00 +0600") - 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    tp = ngx_timeofday();
    zone = tp->gmtoff;

    ngx_gmtime(tp->sec + zone * 60, &tm);

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = p;

    p = ngx_sprintf(p, "%s, %02d %s %4d %02d:%02d:%02d %c%02i%02i",
                    days[tm.ngx_tm_wday], tm.ngx_tm_mday,
                    months[tm.ngx_tm_mon - 1], tm.ngx_tm_year,
                    tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec,
                    zone < 0 ? '-' : '+',
                    ngx_abs(zone) / 60, ngx_abs(zone) % 60);

    v->len = p - v->data;

    return NGX_OK;
}


/* "with" protocol types of RFC 3848 and, with SMTPUTF8, RFC 6531, 4.3. */

static ngx_int_t
ngx_smtp_relay_protocol_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    u_char                        *p;
    ngx_str_t                      text;
    ngx_smtp_relay_session_t      *ss;
    ngx_smtp_relay_transaction_t  *t;

    ss = ngx_smtp_relay_get_session(s);

    if (ss == NULL || ss->helo.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    if (!ss->esmtp) {
        ngx_str_set(&text, "SMTP");
        return ngx_smtp_relay_variable_text(v, &text);
    }

    p = ngx_pnalloc(s->connection->pool, sizeof("UTF8SMTPSA") - 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text.data = p;

    t = ngx_smtp_relay_variable_message(s);

    if (t && t->smtputf8) {
        p = ngx_cpymem(p, "UTF8SMTP", 8);

    } else {
        p = ngx_cpymem(p, "ESMTP", 5);
    }

    if (s->connection->ssl) {
        *p++ = 'S';
    }

    /* by AUTH (RFC 3848, 2.), not by the client's address */

    if (ss->authenticated
        && ss->auth->credentials.method != NGX_SMTP_RELAY_AUTH_NONE)
    {
        *p++ = 'A';
    }

    text.len = p - text.data;

    return ngx_smtp_relay_variable_text(v, &text);
}


static ngx_int_t
ngx_smtp_relay_auth_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                  text;
    ngx_smtp_relay_auth_t     *auth;
    ngx_smtp_relay_session_t  *ss;

    ss = ngx_smtp_relay_get_session(s);
    auth = ss ? ss->auth : NULL;

    if (ss && data == NGX_SMTP_RELAY_VAR_USER
        && (auth == NULL || auth->user.len == 0))
    {
        ss->user_missed = 1;
    }

    if (auth == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_str_null(&text);

    switch (data) {

    case NGX_SMTP_RELAY_VAR_AUTH_METHOD:
        text = *ngx_smtp_relay_sasl_name(auth->credentials.method);
        break;

    case NGX_SMTP_RELAY_VAR_USER:
        text = auth->user;
        break;

    case NGX_SMTP_RELAY_VAR_ACCOUNT:

        if (ss->authenticated) {
            text = auth->account;
        }

        break;

    case NGX_SMTP_RELAY_VAR_AUTH_STATUS:
        text = ngx_smtp_relay_auth_statuses[auth->status];
        break;

    case NGX_SMTP_RELAY_VAR_AUTH_SOURCE:
        text = ngx_smtp_relay_auth_sources[auth->source];
        break;

    default: /* NGX_SMTP_RELAY_VAR_AUTH_TIME */

        if (auth->status == NGX_SMTP_RELAY_AUTH_PENDING) {
            break;
        }

        return ngx_smtp_relay_variable_time(s, v, auth->time);
    }

    return ngx_smtp_relay_variable_text(v, &text);
}


static ngx_int_t
ngx_smtp_relay_auth_http_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                 *name, *value;
    ngx_smtp_relay_session_t  *ss;

    name = (ngx_str_t *) data;
    value = NULL;

    ss = ngx_smtp_relay_get_session(s);

    if (ss && ss->auth) {
        value = ngx_smtp_relay_auth_header(ss->auth,
                          name->data + sizeof("smtp_relay_auth_http_") - 1,
                          name->len - (sizeof("smtp_relay_auth_http_") - 1));
    }

    if (value == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_smtp_relay_variable_text(v, value);
}


/* the zone that refused the message, or a recipient of it, or the session */

static ngx_int_t
ngx_smtp_relay_limit_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    ngx_smtp_relay_session_t      *ss;
    ngx_smtp_relay_transaction_t  *t;

    ss = ngx_smtp_relay_get_session(s);

    if (ss == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    t = ngx_smtp_relay_variable_message(s);

    return ngx_smtp_relay_variable_text(v, t ? &t->limit : &ss->limit);
}


static ngx_int_t
ngx_smtp_relay_message_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      text;
    ngx_smtp_relay_transaction_t  *t;

    t = ngx_smtp_relay_variable_message(s);

    if (t == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    switch (data) {

    case NGX_SMTP_RELAY_VAR_MAIL_FROM:
        text = t->mail_from;
        break;

    case NGX_SMTP_RELAY_VAR_RCPT_TO:
        text = t->rcpt_to;
        break;

    case NGX_SMTP_RELAY_VAR_RECIPIENTS:
        return ngx_smtp_relay_variable_number(s, v, t->accepted);

    case NGX_SMTP_RELAY_VAR_REJECTED:
        return ngx_smtp_relay_variable_number(s, v,
                                              t->rejected + t->refused);

    case NGX_SMTP_RELAY_VAR_SIZE:
        return ngx_smtp_relay_variable_number(s, v, t->scan.size);

    case NGX_SMTP_RELAY_VAR_STATUS:

        if (t->status == 0) {
            v->not_found = 1;
            return NGX_OK;
        }

        return ngx_smtp_relay_variable_number(s, v, t->status);

    case NGX_SMTP_RELAY_VAR_REPLY:
        text = t->reply;
        break;

    case NGX_SMTP_RELAY_VAR_TIME:
        return ngx_smtp_relay_variable_time(s, v,
                            (t->status ? t->end : ngx_current_msec)
                            - t->start);

    default: /* NGX_SMTP_RELAY_VAR_REUSED */
        return ngx_smtp_relay_variable_number(s, v, t->node_reused);
    }

    return ngx_smtp_relay_variable_text(v, &text);
}


/* within the scope of a message, and only there, its variables have values */

static ngx_smtp_relay_transaction_t *
ngx_smtp_relay_variable_message(ngx_stream_session_t *s)
{
    ngx_smtp_relay_session_t      *ss;
    ngx_smtp_relay_transaction_t  *t;

    ss = ngx_smtp_relay_get_session(s);

    if (ss == NULL) {
        return NULL;
    }

    t = ss->transaction;

    return (t && s->connection->pool == t->pool) ? t : NULL;
}


static ngx_int_t
ngx_smtp_relay_variable_text(ngx_stream_variable_value_t *v, ngx_str_t *text)
{
    if (text->data == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = text->len;
    v->data = text->data;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_variable_number(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, off_t number)
{
    u_char  *p;

    p = ngx_pnalloc(s->connection->pool, NGX_OFF_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = ngx_sprintf(p, "%O", number) - p;
    v->data = p;

    return NGX_OK;
}


/* seconds with milliseconds, as $session_time has them */

static ngx_int_t
ngx_smtp_relay_variable_time(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, ngx_msec_t ms)
{
    u_char  *p;

    p = ngx_pnalloc(s->connection->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = ngx_sprintf(p, "%T.%03M", (time_t) ms / 1000, ms % 1000) - p;
    v->data = p;

    return NGX_OK;
}
