
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_command.h"
#include "ngx_smtp_relay_login.h"


static ngx_int_t ngx_smtp_relay_login_begin(ngx_smtp_relay_session_t *ss,
    ngx_uint_t method, ngx_str_t *initial);
static ngx_int_t ngx_smtp_relay_login_message(ngx_smtp_relay_session_t *ss,
    ngx_str_t *b64);
static ngx_int_t ngx_smtp_relay_login_challenge(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_login_step_e step);
static ngx_int_t ngx_smtp_relay_login_refuse(ngx_smtp_relay_session_t *ss,
    ngx_str_t *reply);
static ngx_int_t ngx_smtp_relay_login_start(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_login_handler(ngx_smtp_relay_auth_t *auth);
static ngx_int_t ngx_smtp_relay_login_ok(ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_login_deny(ngx_smtp_relay_session_t *ss);
static ngx_uint_t ngx_smtp_relay_login_exhausted(
    ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_login_forget(ngx_smtp_relay_session_t *ss);


static ngx_str_t  ngx_smtp_relay_login_challenges[] = {
    ngx_string("334 " CRLF),
    ngx_string("334 VXNlcm5hbWU6" CRLF),
    ngx_string("334 UGFzc3dvcmQ6" CRLF)
};


static ngx_str_t  ngx_smtp_relay_login_done =
    ngx_string("235 2.7.0 Authentication successful" CRLF);
static ngx_str_t  ngx_smtp_relay_login_again =
    ngx_string("503 5.5.1 Already authenticated" CRLF);
static ngx_str_t  ngx_smtp_relay_login_no_helo =
    ngx_string("503 5.5.1 EHLO first" CRLF);
static ngx_str_t  ngx_smtp_relay_login_syntax =
    ngx_string("501 5.5.4 Syntax error in parameters" CRLF);
static ngx_str_t  ngx_smtp_relay_login_unknown =
    ngx_string("504 5.5.4 Authentication mechanism not supported" CRLF);
static ngx_str_t  ngx_smtp_relay_login_undecodable =
    ngx_string("501 5.5.2 Cannot decode response" CRLF);
static ngx_str_t  ngx_smtp_relay_login_canceled =
    ngx_string("501 5.0.0 Authentication canceled" CRLF);
static ngx_str_t  ngx_smtp_relay_login_long =
    ngx_string("500 5.5.6 Authentication exchange line is too long" CRLF);


u_char *
ngx_smtp_relay_login_methods(ngx_smtp_relay_session_t *ss, u_char *p)
{
    ngx_smtp_relay_auth_srv_conf_t  *ascf;

    ascf = ngx_stream_get_module_srv_conf(ss->stream,
                                          ngx_smtp_relay_auth_module);

    if (ascf->methods & NGX_SMTP_RELAY_AUTH_PLAIN) {
        p = ngx_cpymem(p, " PLAIN", 6);
    }

    if (ascf->methods & NGX_SMTP_RELAY_AUTH_LOGIN) {
        p = ngx_cpymem(p, " LOGIN", 6);
    }

    return p;
}


ngx_int_t
ngx_smtp_relay_login_auth(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    u_char                          *p, *last;
    ngx_int_t                        rc;
    ngx_str_t                        name, initial;
    ngx_uint_t                       method;
    ngx_smtp_relay_auth_srv_conf_t  *ascf;

    ascf = ngx_stream_get_module_srv_conf(ss->stream,
                                          ngx_smtp_relay_auth_module);

    p = arg->data;
    last = arg->data + arg->len;

    while (p < last && *p != ' ') {
        p++;
    }

    name.len = p - arg->data;
    name.data = arg->data;

    while (p < last && *p == ' ') {
        p++;
    }

    initial.len = last - p;
    initial.data = p;

    method = ngx_smtp_relay_sasl_method(&name);

    if (ss->authenticated) {
        rc = ngx_smtp_relay_login_refuse(ss, &ngx_smtp_relay_login_again);

    } else if (ss->helo.len == 0) {
        rc = ngx_smtp_relay_login_refuse(ss, &ngx_smtp_relay_login_no_helo);

    } else if (name.len == 0) {
        rc = ngx_smtp_relay_login_refuse(ss, &ngx_smtp_relay_login_syntax);

    } else if (!(method & ascf->methods)) {
        rc = ngx_smtp_relay_login_refuse(ss, &ngx_smtp_relay_login_unknown);

    } else {
        rc = ngx_smtp_relay_login_begin(ss, method, &initial);
    }

    ngx_explicit_memzero(initial.data, initial.len);

    return rc;
}


static ngx_int_t
ngx_smtp_relay_login_begin(ngx_smtp_relay_session_t *ss, ngx_uint_t method,
    ngx_str_t *initial)
{
    ngx_smtp_relay_login_step_e  step;

    /* nothing of an earlier attempt is left */

    ngx_smtp_relay_login_forget(ss);

    ss->auth = ngx_smtp_relay_auth_create(ss);
    if (ss->auth == NULL) {
        return NGX_ERROR;
    }

    ss->auth->credentials.method = method;

    step = (method == NGX_SMTP_RELAY_AUTH_LOGIN) ? NGX_SMTP_RELAY_LOGIN_USER
                                                 : NGX_SMTP_RELAY_LOGIN_PLAIN;

    if (initial->len == 0) {
        return ngx_smtp_relay_login_challenge(ss, step);
    }

    ss->login_step = step;

    return ngx_smtp_relay_login_message(ss, initial);
}


ngx_int_t
ngx_smtp_relay_login_response(ngx_smtp_relay_session_t *ss, ngx_str_t *line)
{
    ngx_int_t  rc;

    if (line->len == 1 && line->data[0] == '*') {
        return ngx_smtp_relay_login_refuse(ss, &ngx_smtp_relay_login_canceled);
    }

    rc = ngx_smtp_relay_login_message(ss, line);

    ngx_explicit_memzero(line->data, line->len);

    return rc;
}


ngx_int_t
ngx_smtp_relay_login_bad_response(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_line_error_e error)
{
    return ngx_smtp_relay_login_refuse(ss,
                                       (error == NGX_SMTP_RELAY_LINE_LONG)
                                       ? &ngx_smtp_relay_login_long
                                       : &ngx_smtp_relay_login_undecodable);
}


static ngx_int_t
ngx_smtp_relay_login_message(ngx_smtp_relay_session_t *ss, ngx_str_t *b64)
{
    ngx_int_t                      rc;
    ngx_str_t                      msg;
    ngx_smtp_relay_credentials_t  *cr;

    cr = &ss->auth->credentials;

    rc = ngx_smtp_relay_sasl_decode(ss->auth->pool, b64, &msg);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED) {
        return ngx_smtp_relay_login_refuse(ss,
                                           &ngx_smtp_relay_login_undecodable);
    }

    switch (ss->login_step) {

    case NGX_SMTP_RELAY_LOGIN_PLAIN:
        rc = ngx_smtp_relay_sasl_plain(&msg, cr);
        break;

    case NGX_SMTP_RELAY_LOGIN_USER:
        rc = ngx_smtp_relay_sasl_check_user(&msg);

        if (rc == NGX_OK) {
            cr->user = msg;
            return ngx_smtp_relay_login_challenge(ss,
                                                NGX_SMTP_RELAY_LOGIN_SECRET);
        }

        break;

    default: /* NGX_SMTP_RELAY_LOGIN_SECRET */
        rc = ngx_smtp_relay_sasl_check_secret(&msg);
        cr->secret = msg;
    }

    if (rc != NGX_OK) {
        ngx_explicit_memzero(msg.data, msg.len);

        return ngx_smtp_relay_login_refuse(ss,
                                           &ngx_smtp_relay_login_undecodable);
    }

    return ngx_smtp_relay_login_start(ss);
}


static ngx_int_t
ngx_smtp_relay_login_challenge(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_login_step_e step)
{
    ss->login_step = step;
    ss->state = NGX_SMTP_RELAY_ST_AUTH_RESPONSE;

    return ngx_smtp_relay_session_reply(ss,
                                      &ngx_smtp_relay_login_challenges[step]);
}


static ngx_int_t
ngx_smtp_relay_login_refuse(ngx_smtp_relay_session_t *ss, ngx_str_t *reply)
{
    if (!ss->authenticated) {
        ngx_smtp_relay_login_forget(ss);
    }

    ss->state = NGX_SMTP_RELAY_ST_COMMAND;

    return ngx_smtp_relay_command_refuse(ss, reply);
}


static ngx_int_t
ngx_smtp_relay_login_start(ngx_smtp_relay_session_t *ss)
{
    ss->state = NGX_SMTP_RELAY_ST_AUTH_WAIT;
    ss->connection->log->action = "authenticating client";

    ss->auth->attempt = ++ss->auth_attempts;
    ss->auth->handler = ngx_smtp_relay_login_handler;

    ngx_smtp_relay_auth_start(ss->auth);

    return NGX_OK;
}


static void
ngx_smtp_relay_login_handler(ngx_smtp_relay_auth_t *auth)
{
    auth->session->auth_done = 1;

    ngx_smtp_relay_session_wake(auth->session);
}


ngx_int_t
ngx_smtp_relay_login_process(ngx_smtp_relay_session_t *ss)
{
    if (!ss->auth_done || ss->auth_delay) {
        return NGX_BUSY;
    }

    if (ss->auth->status == NGX_SMTP_RELAY_AUTH_OK) {
        return ngx_smtp_relay_login_ok(ss);
    }

    return ngx_smtp_relay_login_deny(ss);
}


static ngx_int_t
ngx_smtp_relay_login_ok(ngx_smtp_relay_session_t *ss)
{
    ss->authenticated = 1;
    ngx_smtp_relay_session_maxima(ss);

    ss->auth_done = 0;
    ss->state = NGX_SMTP_RELAY_ST_COMMAND;
    ss->connection->log->action = "reading client command";

    ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0, "client logged in");

    return ngx_smtp_relay_session_reply(ss, &ngx_smtp_relay_login_done);
}


static ngx_int_t
ngx_smtp_relay_login_deny(ngx_smtp_relay_session_t *ss)
{
    ngx_msec_t                       delay;
    ngx_smtp_relay_auth_t           *auth;
    ngx_smtp_relay_auth_srv_conf_t  *ascf;

    auth = ss->auth;

    ascf = ngx_stream_get_module_srv_conf(ss->stream,
                                          ngx_smtp_relay_auth_module);

    delay = auth->wait;

    if (auth->status == NGX_SMTP_RELAY_AUTH_DENIED) {
        ss->auth_failures++;
        delay = ngx_max(delay, ascf->failure_delay);
    }

    if (delay) {
        ss->auth_delay = 1;
        ngx_add_timer(ss->connection->read, delay);
        return NGX_BUSY;
    }

    ngx_smtp_relay_login_delayed(ss);

    return NGX_OK;
}


void
ngx_smtp_relay_login_delayed(ngx_smtp_relay_session_t *ss)
{
    static ngx_str_t  crlf = ngx_string(CRLF);

    ss->auth_done = 0;
    ss->auth_delay = 0;
    ss->state = NGX_SMTP_RELAY_ST_COMMAND;
    ss->connection->log->action = "reading client command";

    if (ngx_smtp_relay_session_reply(ss, &ss->auth->reply) == NGX_OK) {
        (void) ngx_smtp_relay_session_reply(ss, &crlf);
    }

    if (ngx_smtp_relay_login_exhausted(ss)) {
        ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                      "client failed to log in too many times");

        ngx_smtp_relay_session_end(ss, "421 4.7.0",
                                   "Too many authentication failures",
                                   NGX_STREAM_FORBIDDEN);
    }
}


static ngx_uint_t
ngx_smtp_relay_login_exhausted(ngx_smtp_relay_session_t *ss)
{
    ngx_smtp_relay_auth_srv_conf_t  *ascf;

    ascf = ngx_stream_get_module_srv_conf(ss->stream,
                                          ngx_smtp_relay_auth_module);

    return (ascf->max_failures && ss->auth_failures >= ascf->max_failures);
}


static void
ngx_smtp_relay_login_forget(ngx_smtp_relay_session_t *ss)
{
    if (ss->auth) {
        ngx_smtp_relay_auth_destroy(ss->auth);
        ss->auth = NULL;
    }

    ss->auth_done = 0;
    ss->auth_delay = 0;
}
