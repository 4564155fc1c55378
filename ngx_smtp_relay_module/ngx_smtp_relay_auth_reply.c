
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_reply.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_upstream.h"


#if (NGX_SMTP_RELAY_HTTP)


/* longest text of the service that goes into a reply, and longest wait */

#define NGX_SMTP_RELAY_AUTH_TEXT  400
#define NGX_SMTP_RELAY_AUTH_CODE  16
#define NGX_SMTP_RELAY_AUTH_WAIT  60


static ngx_smtp_relay_auth_status_e ngx_smtp_relay_auth_reply_denied(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http,
    ngx_str_t *text);
static ngx_int_t ngx_smtp_relay_auth_reply_wait(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http);
static ngx_int_t ngx_smtp_relay_auth_reply_denial(ngx_smtp_relay_auth_t *auth,
    ngx_str_t *code, ngx_str_t *text);
static ngx_uint_t ngx_smtp_relay_auth_reply_is_enhanced(u_char *p,
    u_char *last);
static ngx_int_t ngx_smtp_relay_auth_reply_keep(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http);
static ngx_int_t ngx_smtp_relay_auth_reply_plan(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http);
static ngx_int_t ngx_smtp_relay_auth_reply_copy(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, char *name, ngx_str_t *value);
static ngx_str_t *ngx_smtp_relay_auth_reply_header(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http, ngx_str_t *name,
    ngx_uint_t *count);
static ngx_int_t ngx_smtp_relay_auth_reply_copy_headers(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http);


ngx_smtp_relay_auth_status_e
ngx_smtp_relay_auth_reply(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http)
{
    ngx_log_t   *log;
    ngx_str_t   *status;
    ngx_uint_t   count;

    static ngx_str_t  name = ngx_string("auth-status");

    log = auth->session->connection->log;

    switch (http->status) {

    case 401:
    case 403:
        return ngx_smtp_relay_auth_reply_denied(auth, http, NULL);

    case 429:
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "auth service is asked too often, user \"%V\"",
                      &auth->user);
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    if (http->status < 200 || http->status > 299) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "auth service sent HTTP status %ui, user \"%V\"",
                      http->status, &auth->user);
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    status = ngx_smtp_relay_http_header(http, &name, &count);

    if (count > 1) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "auth service sent several Auth-Status headers");
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    if (status && !(status->len == 2
                    && ngx_strncasecmp(status->data, (u_char *) "OK", 2) == 0))
    {
        return ngx_smtp_relay_auth_reply_denied(auth, http, status);
    }

    if (ngx_smtp_relay_auth_reply_keep(auth, http) != NGX_OK) {
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    return NGX_SMTP_RELAY_AUTH_OK;
}


/* text: what Auth-Status says, NULL: the HTTP status said no */

static ngx_smtp_relay_auth_status_e
ngx_smtp_relay_auth_reply_denied(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, ngx_str_t *text)
{
    ngx_log_t   *log;
    ngx_str_t   *header, code;
    ngx_uint_t   count;

    static ngx_str_t  name = ngx_string("auth-error-code");

    log = auth->session->connection->log;

    if (text) {
        ngx_smtp_relay_sanitize(text, NGX_SMTP_RELAY_AUTH_TEXT);
    }

    if (ngx_smtp_relay_auth_reply_wait(auth, http) != NGX_OK) {
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    ngx_str_set(&code, "535");

    header = ngx_smtp_relay_auth_reply_header(auth, http, &name, &count);

    if (count && header == NULL) {
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    if (header) {
        code = *header;
        ngx_smtp_relay_sanitize(&code, NGX_SMTP_RELAY_AUTH_CODE);
    }

    if (ngx_smtp_relay_auth_reply_denial(auth, &code, text) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "auth service sent invalid Auth-Error-Code \"%V\"",
                      &code);
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    if (ngx_smtp_relay_auth_reply_copy_headers(auth, http) != NGX_OK) {
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    ngx_log_error(NGX_LOG_INFO, log, 0,
                  "client login failed: user \"%V\" denied by auth service: "
                  "\"%V\"", &auth->user, &auth->reply);

    /* a 4xx code: the service itself says that the client may try again */

    return (auth->reply.data[0] == '4') ? NGX_SMTP_RELAY_AUTH_ERROR
                                        : NGX_SMTP_RELAY_AUTH_DENIED;
}


static ngx_int_t
ngx_smtp_relay_auth_reply_wait(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http)
{
    time_t       wait;
    ngx_str_t   *header;
    ngx_uint_t   count;

    static ngx_str_t  name = ngx_string("auth-wait");

    header = ngx_smtp_relay_auth_reply_header(auth, http, &name, &count);

    if (header == NULL) {
        return count ? NGX_ERROR : NGX_OK;
    }

    wait = ngx_atotm(header->data, header->len);

    if (wait == (time_t) NGX_ERROR) {
        ngx_log_error(NGX_LOG_ERR, auth->session->connection->log, 0,
                      "auth service sent invalid header \"%V: %V\"",
                      &name, header);
        return NGX_ERROR;
    }

    auth->wait = ngx_min(wait, NGX_SMTP_RELAY_AUTH_WAIT) * 1000;

    return NGX_OK;
}


/* "CODE ENHANCED TEXT": an enhanced code that is missing is put in */

static ngx_int_t
ngx_smtp_relay_auth_reply_denial(ngx_smtp_relay_auth_t *auth, ngx_str_t *code,
    ngx_str_t *text)
{
    u_char      *p, *last;
    ngx_int_t    n;
    ngx_str_t    given;
    char        *enhanced;

    static ngx_str_t  failed = ngx_string("Authentication failed");

    n = (code->len >= 3) ? ngx_atoi(code->data, 3) : NGX_ERROR;

    /* 421 says that the connection is closed, which it is not */

    if (n < 400 || n > 599 || n == 421
        || (code->len > 3 && code->data[3] != ' '))
    {
        return NGX_ERROR;
    }

    if (text == NULL || text->len == 0) {
        text = &failed;
    }

    given = *code;
    enhanced = "";

    last = code->data + code->len;

    if (!ngx_smtp_relay_auth_reply_is_enhanced(code->data + 3, last)
        && !ngx_smtp_relay_auth_reply_is_enhanced(text->data,
                                                 text->data + text->len))
    {
        enhanced = (n == 535) ? " 5.7.8" : (n < 500) ? " 4.7.0" : " 5.7.0";
    }

    auth->reply.data = ngx_pnalloc(auth->pool, given.len + text->len + 8);
    if (auth->reply.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(auth->reply.data, "%*s%s", (size_t) 3, given.data,
                    enhanced);

    if (given.len > 4) {
        p = ngx_sprintf(p, " %*s", given.len - 4, given.data + 4);
    }

    p = ngx_sprintf(p, " %V", text);

    auth->reply.len = p - auth->reply.data;

    return NGX_OK;
}


/* blanks, then "5.7.1" (RFC 3463, 2.) and nothing or a blank behind it */

static ngx_uint_t
ngx_smtp_relay_auth_reply_is_enhanced(u_char *p, u_char *last)
{
    ngx_uint_t  dots;

    while (p < last && *p == ' ') {
        p++;
    }

    if (last - p < 5 || (*p != '4' && *p != '5') || p[1] != '.') {
        return 0;
    }

    for (dots = 0; p < last && *p != ' '; p++) {

        if (*p == '.') {
            dots++;

        } else if (*p < '0' || *p > '9') {
            return 0;
        }
    }

    return (dots == 2);
}


/* what a login that is OK says about the session */

static ngx_int_t
ngx_smtp_relay_auth_reply_keep(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http)
{
    ngx_int_t    n;
    ngx_log_t   *log;
    ngx_str_t    port;

    log = auth->session->connection->log;

    ngx_str_null(&port);

    if (ngx_smtp_relay_auth_reply_copy(auth, http, "auth-account",
                                      &auth->account)
        != NGX_OK
        || ngx_smtp_relay_auth_reply_copy(auth, http, "auth-user",
                                         &auth->node_user)
           != NGX_OK
        || ngx_smtp_relay_auth_reply_copy(auth, http, "auth-pass",
                                         &auth->node_secret)
           != NGX_OK
        || ngx_smtp_relay_auth_reply_copy(auth, http, "auth-server",
                                         &auth->server)
           != NGX_OK
        || ngx_smtp_relay_auth_reply_copy(auth, http, "auth-port", &port)
           != NGX_OK
        || ngx_smtp_relay_auth_reply_copy(auth, http, "auth-upstream",
                                         &auth->upstream)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (port.len) {
        n = ngx_atoi(port.data, port.len);

        if (n < 1 || n > 65535) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "auth service sent invalid Auth-Port \"%V\"",
                          &port);
            return NGX_ERROR;
        }

        auth->port = (in_port_t) n;
    }

    if (ngx_smtp_relay_auth_reply_plan(auth, http) != NGX_OK
        || ngx_smtp_relay_upstream_check(auth) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_auth_reply_copy_headers(auth, http);
}


/* a plan that cannot be understood is not guessed at */

static ngx_int_t
ngx_smtp_relay_auth_reply_plan(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http)
{
    ngx_int_t               rc;
    ngx_str_t               value;
    ngx_uint_t              i, count;
    ngx_keyval_t           *kv;
    ngx_smtp_relay_plan_t  *plan;

    plan = &auth->plan;
    kv = http->headers.elts;

    for (i = 0; i < http->headers.nelts; i++) {

        rc = ngx_smtp_relay_plan_header(plan, &kv[i].key, &kv[i].value);

        if (rc == NGX_DONE) {
            continue;
        }

        (void) ngx_smtp_relay_http_header(http, &kv[i].key, &count);

        if (count > 1) {
            ngx_log_error(NGX_LOG_ERR, auth->session->connection->log, 0,
                          "auth service sent more than one header \"%V\"",
                          &kv[i].key);
            return NGX_ERROR;
        }

        if (rc != NGX_OK) {
            value = kv[i].value;
            ngx_smtp_relay_sanitize(&value, NGX_SMTP_RELAY_AUTH_TEXT);

            ngx_log_error(NGX_LOG_ERR, auth->session->connection->log, 0,
                          "auth service sent invalid header \"%V: %V\"",
                          &kv[i].key, &value);
            return NGX_ERROR;
        }
    }

    if (plan->senders.len) {
        value = plan->senders;

        plan->senders.data = ngx_pstrdup(auth->pool, &value);
        if (plan->senders.data == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_reply_copy(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, char *name, ngx_str_t *value)
{
    ngx_str_t   key, *header;
    ngx_uint_t  count;

    key.len = ngx_strlen(name);
    key.data = (u_char *) name;

    header = ngx_smtp_relay_auth_reply_header(auth, http, &key, &count);

    if (header == NULL) {
        return count ? NGX_ERROR : NGX_OK;
    }

    if (header->len == 0) {
        return NGX_OK;
    }

    value->data = ngx_pstrdup(auth->pool, header);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    value->len = header->len;

    return NGX_OK;
}


/* NULL: none, or one (*count is not 0) that cannot be understood */

static ngx_str_t *
ngx_smtp_relay_auth_reply_header(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, ngx_str_t *name, ngx_uint_t *count)
{
    ngx_str_t  *header;

    header = ngx_smtp_relay_http_header(http, name, count);

    if (*count == 0) {
        return NULL;
    }

    if (header == NULL || ngx_smtp_relay_has_control(header)) {
        ngx_log_error(NGX_LOG_ERR, auth->session->connection->log, 0,
                      "auth service sent %s header \"%V\"",
                      header ? "an invalid" : "more than one", name);
        return NULL;
    }

    return header;
}


/* for $smtp_relay_auth_http_…: all but the secret among them */

static ngx_int_t
ngx_smtp_relay_auth_reply_copy_headers(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http)
{
    u_char        *p;
    ngx_uint_t     i, n;
    ngx_keyval_t  *kv, *copy;

    auth->headers = ngx_array_create(auth->pool, http->headers.nelts + 1,
                                     sizeof(ngx_keyval_t));
    if (auth->headers == NULL) {
        return NGX_ERROR;
    }

    kv = http->headers.elts;

    for (i = 0; i < http->headers.nelts; i++) {

        if (kv[i].key.len == 9
            && ngx_strncmp(kv[i].key.data, "auth-pass", 9) == 0)
        {
            ngx_explicit_memzero(kv[i].value.data, kv[i].value.len);
            continue;
        }

        copy = ngx_array_push(auth->headers);
        p = ngx_pnalloc(auth->pool, kv[i].key.len + kv[i].value.len);

        if (copy == NULL || p == NULL) {
            return NGX_ERROR;
        }

        copy->key.len = kv[i].key.len;
        copy->key.data = p;

        for (n = 0; n < kv[i].key.len; n++) {
            *p++ = (kv[i].key.data[n] == '-') ? '_' : kv[i].key.data[n];
        }

        copy->value.len = kv[i].value.len;
        copy->value.data = p;
        ngx_memcpy(p, kv[i].value.data, kv[i].value.len);

        ngx_smtp_relay_sanitize(&copy->value, copy->value.len);
    }

    return NGX_OK;
}


#endif
