
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_block.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_command.h"
#include "ngx_smtp_relay_login.h"
#include "ngx_smtp_relay_limit.h"


/* room for "<number.time@host>" */

#define NGX_SMTP_RELAY_CHALLENGE                                              \
    (sizeof("<.@>") + 20 + NGX_TIME_T_LEN + NGX_SMTP_RELAY_MAX_DOMAIN)

static ngx_uint_t ngx_smtp_relay_login_certified(
    ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_login_try(ngx_smtp_relay_session_t *ss,
    ngx_uint_t method, ngx_str_t *initial);
static ngx_int_t ngx_smtp_relay_login_unsupported(
    ngx_smtp_relay_session_t *ss, ngx_uint_t method);
static ngx_int_t ngx_smtp_relay_login_begin(ngx_smtp_relay_session_t *ss,
    ngx_uint_t method, ngx_str_t *initial);
static ngx_int_t ngx_smtp_relay_login_create(ngx_smtp_relay_session_t *ss,
    ngx_uint_t method);
static ngx_int_t ngx_smtp_relay_login_message(ngx_smtp_relay_session_t *ss,
    ngx_str_t *b64);
static ngx_int_t ngx_smtp_relay_login_credentials(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr);
static ngx_int_t ngx_smtp_relay_login_challenge(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_login_step_e step, ngx_str_t *text);
static ngx_int_t ngx_smtp_relay_login_cram_md5(ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_login_refuse(ngx_smtp_relay_session_t *ss,
    ngx_str_t *reply);
static ngx_int_t ngx_smtp_relay_login_start(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_login_handler(ngx_smtp_relay_auth_t *auth);
static ngx_int_t ngx_smtp_relay_login_ok(ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_login_deny(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_login_denied(ngx_smtp_relay_session_t *ss);
static ngx_uint_t ngx_smtp_relay_login_exhausted(
    ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_login_forget(ngx_smtp_relay_session_t *ss);


static ngx_str_t  ngx_smtp_relay_login_empty = ngx_string("334 " CRLF);
static ngx_str_t  ngx_smtp_relay_login_user =
    ngx_string("334 VXNlcm5hbWU6" CRLF);
static ngx_str_t  ngx_smtp_relay_login_secret =
    ngx_string("334 UGFzc3dvcmQ6" CRLF);

/* {"status":"invalid_token"} and {"status":"401","schemes":"bearer"} */

static ngx_str_t  ngx_smtp_relay_login_oauthbearer_error =
    ngx_string("334 eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=" CRLF);
static ngx_str_t  ngx_smtp_relay_login_xoauth2_error =
    ngx_string("334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=" CRLF);

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
static ngx_str_t  ngx_smtp_relay_login_no_initial =
    ngx_string("501 5.7.0 Mechanism takes no initial response" CRLF);
static ngx_str_t  ngx_smtp_relay_login_undecodable =
    ngx_string("501 5.5.2 Cannot decode response" CRLF);
static ngx_str_t  ngx_smtp_relay_login_canceled =
    ngx_string("501 5.0.0 Authentication canceled" CRLF);
static ngx_str_t  ngx_smtp_relay_login_long =
    ngx_string("500 5.5.6 Authentication exchange line is too long" CRLF);


ngx_uint_t
ngx_smtp_relay_login_methods(ngx_smtp_relay_session_t *ss)
{
    ngx_uint_t                       methods;
    ngx_smtp_relay_auth_srv_conf_t  *ascf;

    if (ss->connection->ssl == NULL
        && ss->conf->starttls == NGX_SMTP_RELAY_STARTTLS_REQUIRED)
    {
        return 0;
    }

    ascf = ngx_stream_get_module_srv_conf(ss->stream,
                                          ngx_smtp_relay_auth_module);

    methods = ascf->methods & ~(NGX_CONF_BITMASK_SET
                                |NGX_SMTP_RELAY_AUTH_NONE);

    if ((methods & NGX_SMTP_RELAY_AUTH_EXTERNAL)
        && !ngx_smtp_relay_login_certified(ss))
    {
        methods &= ~NGX_SMTP_RELAY_AUTH_EXTERNAL;
    }

    return methods;
}


/* the client has a certificate, and it was verified */

static ngx_uint_t
ngx_smtp_relay_login_certified(ngx_smtp_relay_session_t *ss)
{
    X509                       *cert;
    ngx_ssl_conn_t             *ssl_conn;
    ngx_stream_ssl_srv_conf_t  *sscf;

    if (ss->connection->ssl == NULL) {
        return 0;
    }

    sscf = ngx_stream_get_module_srv_conf(ss->stream, ngx_stream_ssl_module);

    ssl_conn = ss->connection->ssl->connection;

    if (!sscf->verify || SSL_get_verify_result(ssl_conn) != X509_V_OK) {
        return 0;
    }

    cert = SSL_get_peer_certificate(ssl_conn);

    if (cert == NULL) {
        return 0;
    }

    X509_free(cert);

    return 1;
}


ngx_int_t
ngx_smtp_relay_login_auth(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    u_char      *p, *last;
    ngx_int_t    rc;
    ngx_str_t    name, initial;
    ngx_uint_t   method;

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

    } else {
        rc = ngx_smtp_relay_login_try(ss, method, &initial);
    }

    ngx_explicit_memzero(initial.data, initial.len);

    return rc;
}


static ngx_int_t
ngx_smtp_relay_login_try(ngx_smtp_relay_session_t *ss, ngx_uint_t method,
    ngx_str_t *initial)
{
    ngx_int_t  rc;

    /* the user of an earlier attempt is not the one of this */

    ngx_smtp_relay_login_forget(ss);

    rc = ngx_smtp_relay_auth_block_check(ss);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

    if (!(method & ngx_smtp_relay_login_methods(ss))) {
        return ngx_smtp_relay_login_unsupported(ss, method);
    }

    return ngx_smtp_relay_login_begin(ss, method, initial);
}


/* every attempt with a mechanism that is not offered comes by here */

static ngx_int_t
ngx_smtp_relay_login_unsupported(ngx_smtp_relay_session_t *ss,
    ngx_uint_t method)
{
    ngx_str_t  *name;

    static ngx_str_t  unknown = ngx_string("unknown");

    /* what is no name of a mechanism may be a secret in the wrong place */

    name = method ? ngx_smtp_relay_sasl_name(method) : &unknown;

    ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                  "client tried a mechanism that is not offered: %V", name);

    if (ngx_smtp_relay_auth_block_fail(ss) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_login_refuse(ss, &ngx_smtp_relay_login_unknown);
}


static ngx_int_t
ngx_smtp_relay_login_begin(ngx_smtp_relay_session_t *ss, ngx_uint_t method,
    ngx_str_t *initial)
{
    if (ngx_smtp_relay_login_create(ss, method) != NGX_OK) {
        return NGX_ERROR;
    }

    if (method == NGX_SMTP_RELAY_AUTH_CRAM_MD5) {

        /* RFC 4954, 4.: the server has to speak first */

        if (initial->len) {
            return ngx_smtp_relay_login_refuse(ss,
                                            &ngx_smtp_relay_login_no_initial);
        }

        return ngx_smtp_relay_login_cram_md5(ss);
    }

    if (method == NGX_SMTP_RELAY_AUTH_LOGIN) {
        ss->login_step = NGX_SMTP_RELAY_LOGIN_USER;

    } else {
        ss->login_step = NGX_SMTP_RELAY_LOGIN_MESSAGE;
    }

    if (initial->len == 0) {
        return ngx_smtp_relay_login_challenge(ss, ss->login_step,
                                         method == NGX_SMTP_RELAY_AUTH_LOGIN
                                         ? &ngx_smtp_relay_login_user
                                         : &ngx_smtp_relay_login_empty);
    }

    return ngx_smtp_relay_login_message(ss, initial);
}


/* a fresh attempt: nothing of an earlier one is left */

static ngx_int_t
ngx_smtp_relay_login_create(ngx_smtp_relay_session_t *ss, ngx_uint_t method)
{
    ngx_smtp_relay_login_forget(ss);

    ss->auth = ngx_smtp_relay_auth_create(ss);
    if (ss->auth == NULL) {
        return NGX_ERROR;
    }

    ss->auth->credentials.method = method;

    return NGX_OK;
}


ngx_uint_t
ngx_smtp_relay_login_none(ngx_smtp_relay_session_t *ss)
{
    ngx_smtp_relay_auth_srv_conf_t  *ascf;

    ascf = ngx_stream_get_module_srv_conf(ss->stream,
                                          ngx_smtp_relay_auth_module);

    return (ascf->methods & NGX_SMTP_RELAY_AUTH_NONE) ? 1 : 0;
}


ngx_int_t
ngx_smtp_relay_login_mail(ngx_smtp_relay_session_t *ss)
{
    if (ss->mail_denied) {
        ss->mail_denied = 0;
        ss->mail_refused = 1;
        ngx_smtp_relay_login_denied(ss);
        return NGX_OK;
    }

    if (ss->helo.len == 0) {
        return ngx_smtp_relay_command_refuse(ss,
                                             &ngx_smtp_relay_login_no_helo);
    }

    if (ngx_smtp_relay_login_create(ss, NGX_SMTP_RELAY_AUTH_NONE) != NGX_OK
        || ngx_smtp_relay_login_start(ss) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_BUSY;
}


ngx_int_t
ngx_smtp_relay_login_response(ngx_smtp_relay_session_t *ss, ngx_str_t *line)
{
    ngx_int_t  rc;

    if (ss->login_step == NGX_SMTP_RELAY_LOGIN_DUMMY) {

        /* RFC 7628, 3.2.3.: the verdict is known, whatever this is */

        ngx_explicit_memzero(line->data, line->len);
        ngx_smtp_relay_login_denied(ss);

        return NGX_OK;
    }

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
    if (ss->login_step == NGX_SMTP_RELAY_LOGIN_DUMMY) {
        ngx_smtp_relay_login_denied(ss);
        return NGX_OK;
    }

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
    ngx_uint_t                     method;
    ngx_smtp_relay_credentials_t  *cr;

    cr = &ss->auth->credentials;
    method = cr->method;

    rc = ngx_smtp_relay_sasl_decode(ss->auth->pool, b64, &msg);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED) {
        return ngx_smtp_relay_login_refuse(ss,
                                           &ngx_smtp_relay_login_undecodable);
    }

    switch (ss->login_step) {

    case NGX_SMTP_RELAY_LOGIN_USER:
        rc = ngx_smtp_relay_sasl_check_user(&msg);

        if (rc == NGX_OK) {
            cr->user = msg;
            return ngx_smtp_relay_login_challenge(ss,
                                                NGX_SMTP_RELAY_LOGIN_SECRET,
                                                &ngx_smtp_relay_login_secret);
        }

        break;

    case NGX_SMTP_RELAY_LOGIN_SECRET:
        rc = ngx_smtp_relay_sasl_check_secret(&msg);
        cr->secret = msg;
        break;

    default: /* NGX_SMTP_RELAY_LOGIN_MESSAGE */
        rc = ngx_smtp_relay_login_credentials(&msg, cr);
    }

    if (rc != NGX_OK) {
        ngx_explicit_memzero(msg.data, msg.len);

        /* for the count of it */

        cr->method = method;

        return ngx_smtp_relay_login_refuse(ss,
                                           &ngx_smtp_relay_login_undecodable);
    }

    return ngx_smtp_relay_login_start(ss);
}


/* a message that is all the client has to say; it is split in place */

static ngx_int_t
ngx_smtp_relay_login_credentials(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr)
{
    switch (cr->method) {

    case NGX_SMTP_RELAY_AUTH_CRAM_MD5:
        return ngx_smtp_relay_sasl_cram_md5(msg, cr);

    case NGX_SMTP_RELAY_AUTH_XOAUTH2:
        return ngx_smtp_relay_sasl_xoauth2(msg, cr);

    case NGX_SMTP_RELAY_AUTH_OAUTHBEARER:
        return ngx_smtp_relay_sasl_oauthbearer(msg, cr);

    case NGX_SMTP_RELAY_AUTH_EXTERNAL:
        return ngx_smtp_relay_sasl_external(msg, cr);

    default: /* NGX_SMTP_RELAY_AUTH_PLAIN */
        return ngx_smtp_relay_sasl_plain(msg, cr);
    }
}


static ngx_int_t
ngx_smtp_relay_login_challenge(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_login_step_e step, ngx_str_t *text)
{
    ss->login_step = step;
    ss->state = NGX_SMTP_RELAY_ST_AUTH_RESPONSE;

    return ngx_smtp_relay_session_reply(ss, text);
}


/* RFC 2195, 2.: "<number.time@host>", which nobody can have seen before */

static ngx_int_t
ngx_smtp_relay_login_cram_md5(ngx_smtp_relay_session_t *ss)
{
    ngx_str_t   b64, text, *challenge;
    uint64_t    number;
    u_char      buf[sizeof("334 " CRLF)
                    + ngx_base64_encoded_length(NGX_SMTP_RELAY_CHALLENGE)];

    if (RAND_bytes((u_char *) &number, sizeof(uint64_t)) != 1) {
        ngx_ssl_error(NGX_LOG_ERR, ss->connection->log, 0,
                      "RAND_bytes() failed");
        return NGX_ERROR;
    }

    challenge = &ss->auth->credentials.challenge;

    challenge->data = ngx_pnalloc(ss->auth->pool, NGX_SMTP_RELAY_CHALLENGE);
    if (challenge->data == NULL) {
        return NGX_ERROR;
    }

    challenge->len = ngx_snprintf(challenge->data, NGX_SMTP_RELAY_CHALLENGE,
                                  "<%uL.%T@%V>", number, ngx_time(),
                                  &ss->hostname)
                     - challenge->data;

    b64.data = ngx_cpymem(buf, "334 ", 4);
    ngx_encode_base64(&b64, challenge);

    text.data = buf;
    text.len = ngx_sprintf(b64.data + b64.len, CRLF) - buf;

    return ngx_smtp_relay_login_challenge(ss, NGX_SMTP_RELAY_LOGIN_MESSAGE,
                                          &text);
}


static ngx_int_t
ngx_smtp_relay_login_refuse(ngx_smtp_relay_session_t *ss, ngx_str_t *reply)
{
    ngx_smtp_relay_stat_auth_refused(ss,
                                     reply == &ngx_smtp_relay_login_canceled);

    if (!ss->authenticated) {
        ngx_smtp_relay_login_forget(ss);
    }

    ss->state = NGX_SMTP_RELAY_ST_COMMAND;

    return ngx_smtp_relay_command_refuse(ss, reply);
}


static ngx_int_t
ngx_smtp_relay_login_start(ngx_smtp_relay_session_t *ss)
{
    ngx_int_t  rc;

    ss->auth->user = ss->auth->credentials.user;

    rc = ngx_smtp_relay_auth_block_check(ss);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

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
    ngx_int_t  rc;

    if (!ss->auth_done || ss->auth_delay) {
        return NGX_BUSY;
    }

    /*
     * others may have failed meanwhile: who asks a lot of times at once is
     * told no more than who asks again and again
     */

    rc = ngx_smtp_relay_auth_block_check(ss);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

    if (ss->auth->status == NGX_SMTP_RELAY_AUTH_OK) {
        return ngx_smtp_relay_login_ok(ss);
    }

    return ngx_smtp_relay_login_deny(ss);
}


static ngx_int_t
ngx_smtp_relay_login_ok(ngx_smtp_relay_session_t *ss)
{
    ngx_int_t  rc;

    ss->authenticated = 1;
    ngx_smtp_relay_session_maxima(ss);

#ifdef SSL_OP_CLEANSE_PLAINTEXT

    /* no secret comes any more, and wiping content would take time */

    if (ss->connection->ssl) {
        SSL_clear_options(ss->connection->ssl->connection,
                          SSL_OP_CLEANSE_PLAINTEXT);
    }

#endif

    ss->auth_done = 0;
    ss->state = NGX_SMTP_RELAY_ST_COMMAND;
    ss->connection->log->action = "reading client command";

    ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                  "client logged in with \"%V\"",
                  ngx_smtp_relay_sasl_name(ss->auth->credentials.method));

    rc = ngx_smtp_relay_limit_login(ss);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

    if (ss->auth->credentials.method == NGX_SMTP_RELAY_AUTH_NONE) {

        /* MAIL is given again now, and answered */

        return NGX_OK;
    }

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

        if (ngx_smtp_relay_auth_block_fail(ss) != NGX_OK) {
            return NGX_ERROR;
        }

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
    ngx_uint_t  method;

    ss->auth_done = 0;
    ss->auth_delay = 0;
    ss->state = NGX_SMTP_RELAY_ST_COMMAND;
    ss->connection->log->action = "reading client command";

    method = ss->auth->credentials.method;

    if (method == NGX_SMTP_RELAY_AUTH_NONE) {

        /* MAIL is given again now, and answered */

        ss->mail_denied = 1;
        return;
    }

    /* OAuth tells why not in a challenge, and an answer to that is read */

    if (ss->auth->status == NGX_SMTP_RELAY_AUTH_DENIED
        && (method == NGX_SMTP_RELAY_AUTH_OAUTHBEARER
            || method == NGX_SMTP_RELAY_AUTH_XOAUTH2))
    {
        (void) ngx_smtp_relay_login_challenge(ss, NGX_SMTP_RELAY_LOGIN_DUMMY,
                                  method == NGX_SMTP_RELAY_AUTH_OAUTHBEARER
                                  ? &ngx_smtp_relay_login_oauthbearer_error
                                  : &ngx_smtp_relay_login_xoauth2_error);
        return;
    }

    ngx_smtp_relay_login_denied(ss);
}


/* tells the client that it is not logged in */

static void
ngx_smtp_relay_login_denied(ngx_smtp_relay_session_t *ss)
{
    static ngx_str_t  crlf = ngx_string(CRLF);

    ss->state = NGX_SMTP_RELAY_ST_COMMAND;

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
    ss->mail_denied = 0;
}
