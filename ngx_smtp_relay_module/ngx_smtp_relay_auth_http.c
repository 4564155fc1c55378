
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_http.h"
#include "ngx_smtp_relay_http.h"
#include "ngx_smtp_relay_session.h"


#if (NGX_SMTP_RELAY_HTTP)


/* longest text of the service that goes into a reply, and longest wait */

#define NGX_SMTP_RELAY_AUTH_TEXT  400
#define NGX_SMTP_RELAY_AUTH_CODE  16
#define NGX_SMTP_RELAY_AUTH_WAIT  60


static ngx_int_t ngx_smtp_relay_auth_http_request(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http,
    ngx_smtp_relay_auth_srv_conf_t *ascf);
static ngx_int_t ngx_smtp_relay_auth_http_headers(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http,
    ngx_array_t *headers);
static ngx_int_t ngx_smtp_relay_auth_http_ssl(ngx_connection_t *c,
    ngx_pool_t *pool, ngx_array_t *headers);
static ngx_int_t ngx_smtp_relay_auth_http_proxy_protocol(ngx_connection_t *c,
    ngx_pool_t *pool, ngx_array_t *headers);
static ngx_int_t ngx_smtp_relay_auth_http_set_headers(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http,
    ngx_array_t *set_headers, ngx_array_t *headers);
static ngx_int_t ngx_smtp_relay_auth_http_add(ngx_array_t *headers,
    char *name, ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_auth_http_push(ngx_array_t *headers,
    char *name, ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_auth_http_add_number(ngx_array_t *headers,
    ngx_pool_t *pool, char *name, ngx_uint_t number);
static ngx_int_t ngx_smtp_relay_auth_http_escape(ngx_pool_t *pool,
    ngx_str_t *text, ngx_str_t *escaped);
static ngx_uint_t ngx_smtp_relay_auth_http_has_control(ngx_str_t *text);
static void ngx_smtp_relay_auth_http_handler(ngx_smtp_relay_http_t *http);
static ngx_smtp_relay_auth_status_e ngx_smtp_relay_auth_http_verdict(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http);
static ngx_smtp_relay_auth_status_e ngx_smtp_relay_auth_http_denied(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http,
    ngx_str_t *text);
static ngx_int_t ngx_smtp_relay_auth_http_denial(ngx_smtp_relay_auth_t *auth,
    ngx_str_t *code, ngx_str_t *text);
static ngx_uint_t ngx_smtp_relay_auth_http_is_enhanced(u_char *p,
    u_char *last);
static ngx_int_t ngx_smtp_relay_auth_http_keep(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http);
static ngx_int_t ngx_smtp_relay_auth_http_copy(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, char *name, ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_auth_http_copy_headers(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http);


ngx_int_t
ngx_smtp_relay_auth_http_start(ngx_smtp_relay_auth_t *auth)
{
    ngx_smtp_relay_http_t           *http;
    ngx_smtp_relay_auth_srv_conf_t  *ascf;

    ascf = ngx_stream_get_module_srv_conf(auth->session->stream,
                                          ngx_smtp_relay_auth_module);

    http = ngx_smtp_relay_http_create(auth->session, ascf->service);
    if (http == NULL) {
        return NGX_ERROR;
    }

    http->handler = ngx_smtp_relay_auth_http_handler;
    http->data = auth;
    http->connect_timeout = ascf->connect_timeout;
    http->timeout = ascf->timeout;
    http->keepalive = ascf->keepalive;

    auth->request = http;

    if (ngx_smtp_relay_auth_http_request(auth, http, ascf) != NGX_OK
        || ngx_smtp_relay_http_start(http) != NGX_OK)
    {
        ngx_smtp_relay_auth_http_cancel(auth);
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_smtp_relay_auth_http_cancel(ngx_smtp_relay_auth_t *auth)
{
    if (auth->request) {
        ngx_smtp_relay_http_destroy(auth->request);
        auth->request = NULL;
    }
}


static ngx_int_t
ngx_smtp_relay_auth_http_request(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, ngx_smtp_relay_auth_srv_conf_t *ascf)
{
    size_t         len;
    ngx_buf_t     *b;
    ngx_uint_t     i;
    ngx_array_t    headers;
    ngx_keyval_t  *kv;

    if (ngx_array_init(&headers, http->pool, 16, sizeof(ngx_keyval_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_auth_http_headers(auth, http, &headers) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ascf->set_headers
        && ngx_smtp_relay_auth_http_set_headers(auth, http, ascf->set_headers,
                                                &headers)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    kv = headers.elts;

    len = sizeof("GET  HTTP/1.1" CRLF CRLF) - 1 + http->peer->uri.len;

    for (i = 0; i < headers.nelts; i++) {
        len += kv[i].key.len + sizeof(": " CRLF) - 1 + kv[i].value.len;
    }

    b = ngx_create_temp_buf(http->pool, len);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->last = ngx_sprintf(b->last, "GET %V HTTP/1.1" CRLF, &http->peer->uri);

    for (i = 0; i < headers.nelts; i++) {
        b->last = ngx_sprintf(b->last, "%V: %V" CRLF,
                              &kv[i].key, &kv[i].value);

        /* the copy of the escaped secret */

        if (kv[i].key.len == 9
            && ngx_strncmp(kv[i].key.data, "Auth-Pass", 9) == 0)
        {
            ngx_explicit_memzero(kv[i].value.data, kv[i].value.len);
        }
    }

    *b->last++ = CR;
    *b->last++ = LF;

    http->request = b;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_http_headers(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, ngx_array_t *headers)
{
    ngx_str_t                      method, protocol, user, secret;
    ngx_connection_t              *c;
    ngx_smtp_relay_credentials_t  *cr;

    c = auth->session->connection;
    cr = &auth->credentials;

    ngx_str_set(&protocol, "smtp");

    if (cr->method == NGX_SMTP_RELAY_AUTH_PLAIN) {
        ngx_str_set(&method, "plain");

    } else {
        ngx_str_set(&method, "login");
    }

    if (ngx_smtp_relay_auth_http_escape(http->pool, &cr->user, &user)
        != NGX_OK
        || ngx_smtp_relay_auth_http_escape(http->pool, &cr->secret, &secret)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_auth_http_add(headers, "Host", &http->peer->host)
        != NGX_OK
        || ngx_smtp_relay_auth_http_add(headers, "Auth-Method", &method)
           != NGX_OK
        || ngx_smtp_relay_auth_http_push(headers, "Auth-User", &user)
           != NGX_OK
        || ngx_smtp_relay_auth_http_push(headers, "Auth-Pass", &secret)
           != NGX_OK
        || ngx_smtp_relay_auth_http_add(headers, "Auth-Protocol", &protocol)
           != NGX_OK
        || ngx_smtp_relay_auth_http_add_number(headers, http->pool,
                                               "Auth-Login-Attempt",
                                               auth->attempt)
           != NGX_OK
        || ngx_smtp_relay_auth_http_add(headers, "Client-IP", &c->addr_text)
           != NGX_OK
        || ngx_smtp_relay_auth_http_add(headers, "Auth-SMTP-Helo",
                                        &auth->session->helo)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (c->ssl
        && ngx_smtp_relay_auth_http_ssl(c, http->pool, headers) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (c->proxy_protocol
        && ngx_smtp_relay_auth_http_proxy_protocol(c, http->pool, headers)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_http_ssl(ngx_connection_t *c, ngx_pool_t *pool,
    ngx_array_t *headers)
{
    ngx_str_t                   value;
    ngx_uint_t                  i;
    ngx_stream_session_t       *s;
    ngx_stream_ssl_srv_conf_t  *sscf;

    static struct {
        char         *name;
        ngx_int_t   (*get)(ngx_connection_t *c, ngx_pool_t *pool,
                           ngx_str_t *value);
    } certificate[] = {
        { "Auth-SSL-Verify", ngx_ssl_get_client_verify },
        { "Auth-SSL-Subject", ngx_ssl_get_subject_dn },
        { "Auth-SSL-Issuer", ngx_ssl_get_issuer_dn },
        { "Auth-SSL-Serial", ngx_ssl_get_serial_number },
        { "Auth-SSL-Fingerprint", ngx_ssl_get_fingerprint }
    };

    s = c->data;
    sscf = ngx_stream_get_module_srv_conf(s, ngx_stream_ssl_module);

    ngx_str_set(&value, "on");

    if (ngx_smtp_relay_auth_http_add(headers, "Auth-SSL", &value) != NGX_OK) {
        return NGX_ERROR;
    }

    /* of static strings, so their pool does not matter */

    if (ngx_ssl_get_protocol(c, pool, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    value.len = ngx_strlen(value.data);

    if (ngx_smtp_relay_auth_http_add(headers, "Auth-SSL-Protocol", &value)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_ssl_get_cipher_name(c, pool, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    value.len = ngx_strlen(value.data);

    if (ngx_smtp_relay_auth_http_add(headers, "Auth-SSL-Cipher", &value)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (!sscf->verify) {
        return NGX_OK;
    }

    for (i = 0; i < sizeof(certificate) / sizeof(certificate[0]); i++) {

        if (certificate[i].get(c, pool, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        /* the names in a certificate are anybody's choice */

        if (value.len
            && !ngx_smtp_relay_auth_http_has_control(&value)
            && ngx_smtp_relay_auth_http_add(headers, certificate[i].name,
                                            &value)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_http_proxy_protocol(ngx_connection_t *c, ngx_pool_t *pool,
    ngx_array_t *headers)
{
    ngx_proxy_protocol_t  *pp;

    pp = c->proxy_protocol;

    if (ngx_smtp_relay_auth_http_add(headers, "Proxy-Protocol-Addr",
                                     &pp->src_addr)
        != NGX_OK
        || ngx_smtp_relay_auth_http_add_number(headers, pool,
                                               "Proxy-Protocol-Port",
                                               pp->src_port)
           != NGX_OK
        || ngx_smtp_relay_auth_http_add(headers, "Proxy-Protocol-Server-Addr",
                                        &pp->dst_addr)
           != NGX_OK
        || ngx_smtp_relay_auth_http_add_number(headers, pool,
                                               "Proxy-Protocol-Server-Port",
                                               pp->dst_port)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_http_set_headers(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, ngx_array_t *set_headers,
    ngx_array_t *headers)
{
    ngx_int_t                     rc;
    ngx_uint_t                    i;
    ngx_keyval_t                 *kv;
    ngx_stream_session_t         *s;
    ngx_smtp_relay_set_header_t  *sh;

    s = auth->session->stream;
    sh = set_headers->elts;

    for (i = 0; i < set_headers->nelts; i++) {

        kv = ngx_array_push(headers);
        if (kv == NULL) {
            return NGX_ERROR;
        }

        kv->key = sh[i].name;

        ngx_smtp_relay_scope_enter(&http->scope, s);

        rc = ngx_stream_complex_value(s, &sh[i].value, &kv->value);

        ngx_smtp_relay_scope_leave(&http->scope, s);

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }

        /* an empty one is not sent, as with nginx's proxy_set_header */

        if (kv->value.len == 0) {
            headers->nelts--;
            continue;
        }

        if (ngx_smtp_relay_auth_http_has_control(&kv->value)) {
            ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                          "value of header \"%V\" to the auth service has "
                          "control characters, not sent", &kv->key);
            headers->nelts--;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_http_add(ngx_array_t *headers, char *name,
    ngx_str_t *value)
{
    /* the names of a certificate are anybody's choice */

    if (ngx_smtp_relay_auth_http_has_control(value)) {
        return NGX_OK;
    }

    return ngx_smtp_relay_auth_http_push(headers, name, value);
}


/* a value that is escaped: DEL stays as it is, as with nginx's mail */

static ngx_int_t
ngx_smtp_relay_auth_http_push(ngx_array_t *headers, char *name,
    ngx_str_t *value)
{
    ngx_keyval_t  *kv;

    kv = ngx_array_push(headers);
    if (kv == NULL) {
        return NGX_ERROR;
    }

    kv->key.len = ngx_strlen(name);
    kv->key.data = (u_char *) name;
    kv->value = *value;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_http_add_number(ngx_array_t *headers, ngx_pool_t *pool,
    char *name, ngx_uint_t number)
{
    ngx_str_t  value;

    value.data = ngx_pnalloc(pool, NGX_INT_T_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len = ngx_sprintf(value.data, "%ui", number) - value.data;

    return ngx_smtp_relay_auth_http_add(headers, name, &value);
}


static ngx_int_t
ngx_smtp_relay_auth_http_escape(ngx_pool_t *pool, ngx_str_t *text,
    ngx_str_t *escaped)
{
    uintptr_t  n;

    n = ngx_escape_uri(NULL, text->data, text->len, NGX_ESCAPE_MAIL_AUTH);

    escaped->len = text->len + 2 * n;
    escaped->data = ngx_pnalloc(pool, escaped->len);

    if (escaped->data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_escape_uri(escaped->data, text->data, text->len,
                          NGX_ESCAPE_MAIL_AUTH);
    return NGX_OK;
}


static ngx_uint_t
ngx_smtp_relay_auth_http_has_control(ngx_str_t *text)
{
    size_t  i;

    for (i = 0; i < text->len; i++) {
        if (text->data[i] < 0x20 || text->data[i] == 0x7f) {
            return 1;
        }
    }

    return 0;
}


static void
ngx_smtp_relay_auth_http_handler(ngx_smtp_relay_http_t *http)
{
    ngx_smtp_relay_auth_t         *auth;
    ngx_smtp_relay_auth_status_e   status;

    auth = http->data;

    status = http->status ? ngx_smtp_relay_auth_http_verdict(auth, http)
                          : NGX_SMTP_RELAY_AUTH_ERROR;

    ngx_smtp_relay_auth_http_cancel(auth);

    ngx_smtp_relay_auth_done(auth, status);
}


static ngx_smtp_relay_auth_status_e
ngx_smtp_relay_auth_http_verdict(ngx_smtp_relay_auth_t *auth,
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
        return ngx_smtp_relay_auth_http_denied(auth, http, NULL);

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
        return ngx_smtp_relay_auth_http_denied(auth, http, status);
    }

    if (ngx_smtp_relay_auth_http_keep(auth, http) != NGX_OK) {
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    return NGX_SMTP_RELAY_AUTH_OK;
}


/* text: what Auth-Status says, NULL: the HTTP status said no */

static ngx_smtp_relay_auth_status_e
ngx_smtp_relay_auth_http_denied(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, ngx_str_t *text)
{
    time_t       wait;
    ngx_log_t   *log;
    ngx_str_t   *header, code;
    ngx_uint_t   count;

    static ngx_str_t  auth_code = ngx_string("auth-error-code");
    static ngx_str_t  auth_wait = ngx_string("auth-wait");

    log = auth->session->connection->log;

    if (text) {
        ngx_smtp_relay_sanitize(text, NGX_SMTP_RELAY_AUTH_TEXT);
    }

    header = ngx_smtp_relay_http_header(http, &auth_wait, &count);

    if (header) {
        wait = ngx_atotm(header->data, header->len);

        if (wait != (time_t) NGX_ERROR) {
            auth->wait = ngx_min(wait, NGX_SMTP_RELAY_AUTH_WAIT) * 1000;
        }
    }

    ngx_str_set(&code, "535");

    header = ngx_smtp_relay_http_header(http, &auth_code, &count);

    if (header) {
        code = *header;
        ngx_smtp_relay_sanitize(&code, NGX_SMTP_RELAY_AUTH_CODE);
    }

    if (ngx_smtp_relay_auth_http_denial(auth, &code, text) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "auth service sent invalid Auth-Error-Code \"%V\"",
                      &code);
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    if (ngx_smtp_relay_auth_http_copy_headers(auth, http) != NGX_OK) {
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    ngx_log_error(NGX_LOG_INFO, log, 0,
                  "client login failed: user \"%V\" denied by auth service: "
                  "\"%V\"", &auth->user, &auth->reply);

    /* a 4xx code: the service itself says that the client may try again */

    return (auth->reply.data[0] == '4') ? NGX_SMTP_RELAY_AUTH_ERROR
                                        : NGX_SMTP_RELAY_AUTH_DENIED;
}


/* "CODE ENHANCED TEXT": an enhanced code that is missing is put in */

static ngx_int_t
ngx_smtp_relay_auth_http_denial(ngx_smtp_relay_auth_t *auth, ngx_str_t *code,
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

    if (!ngx_smtp_relay_auth_http_is_enhanced(code->data + 3, last)
        && !ngx_smtp_relay_auth_http_is_enhanced(text->data,
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
ngx_smtp_relay_auth_http_is_enhanced(u_char *p, u_char *last)
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
ngx_smtp_relay_auth_http_keep(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http)
{
    ngx_int_t    n;
    ngx_log_t   *log;
    ngx_str_t    port;

    log = auth->session->connection->log;

    ngx_str_null(&port);

    if (ngx_smtp_relay_auth_http_copy(auth, http, "auth-account",
                                      &auth->account)
        != NGX_OK
        || ngx_smtp_relay_auth_http_copy(auth, http, "auth-user",
                                         &auth->node_user)
           != NGX_OK
        || ngx_smtp_relay_auth_http_copy(auth, http, "auth-pass",
                                         &auth->node_secret)
           != NGX_OK
        || ngx_smtp_relay_auth_http_copy(auth, http, "auth-server",
                                         &auth->server)
           != NGX_OK
        || ngx_smtp_relay_auth_http_copy(auth, http, "auth-port", &port)
           != NGX_OK
        || ngx_smtp_relay_auth_http_copy(auth, http, "auth-upstream",
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

    return ngx_smtp_relay_auth_http_copy_headers(auth, http);
}


static ngx_int_t
ngx_smtp_relay_auth_http_copy(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_http_t *http, char *name, ngx_str_t *value)
{
    ngx_str_t   key, *header;
    ngx_uint_t  count;

    key.len = ngx_strlen(name);
    key.data = (u_char *) name;

    header = ngx_smtp_relay_http_header(http, &key, &count);

    if (count == 0) {
        return NGX_OK;
    }

    /* one that cannot be understood is not guessed at */

    if (header == NULL || ngx_smtp_relay_auth_http_has_control(header)) {
        ngx_log_error(NGX_LOG_ERR, auth->session->connection->log, 0,
                      "auth service sent %s header \"%V\"",
                      header ? "an invalid" : "more than one", &key);
        return NGX_ERROR;
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


/* for $smtp_relay_auth_http_…: all but the secret among them */

static ngx_int_t
ngx_smtp_relay_auth_http_copy_headers(ngx_smtp_relay_auth_t *auth,
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
