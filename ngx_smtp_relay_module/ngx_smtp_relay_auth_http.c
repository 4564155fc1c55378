
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_http.h"
#include "ngx_smtp_relay_auth_identity.h"
#include "ngx_smtp_relay_auth_reply.h"
#include "ngx_smtp_relay_http.h"
#include "ngx_smtp_relay_session.h"


#if (NGX_SMTP_RELAY_HTTP)


static ngx_int_t ngx_smtp_relay_auth_http_request(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http,
    ngx_smtp_relay_auth_srv_conf_t *ascf);
static ngx_int_t ngx_smtp_relay_auth_http_headers(
    ngx_smtp_relay_auth_t *auth, ngx_smtp_relay_http_t *http,
    ngx_array_t *headers);
static ngx_int_t ngx_smtp_relay_auth_http_sasl(
    ngx_smtp_relay_credentials_t *cr, ngx_pool_t *pool, ngx_array_t *headers);
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
static void ngx_smtp_relay_auth_http_handler(ngx_smtp_relay_http_t *http);
static void ngx_smtp_relay_auth_http_failure(ngx_smtp_relay_auth_t *auth,
    ngx_uint_t status);


ngx_int_t
ngx_smtp_relay_auth_http_start(ngx_smtp_relay_auth_t *auth)
{
    ngx_msec_t                       waited;
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

    /* an attempt may have waited for another one that did not come to an end */

    waited = ngx_current_msec - auth->start;

    http->timeout = (waited < ascf->timeout) ? ascf->timeout - waited : 1;
    http->keepalive = ascf->keepalive;
    http->ssl = &ascf->ssl;

    auth->request = http;

    if (ngx_smtp_relay_auth_http_request(auth, http, ascf) != NGX_OK
        || ngx_smtp_relay_http_start(http) != NGX_OK)
    {
        ngx_smtp_relay_stat_service(auth, NGX_SMTP_RELAY_SERVICE_NO_REPLY);
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

    len = sizeof("GET  HTTP/1.1" CRLF CRLF) - 1 + http->uri.len;

    for (i = 0; i < headers.nelts; i++) {
        len += kv[i].key.len + sizeof(": " CRLF) - 1 + kv[i].value.len;
    }

    b = ngx_create_temp_buf(http->pool, len);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->last = ngx_sprintf(b->last, "GET %V HTTP/1.1" CRLF, &http->uri);

    for (i = 0; i < headers.nelts; i++) {
        b->last = ngx_sprintf(b->last, "%V: %V" CRLF,
                              &kv[i].key, &kv[i].value);
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
    ngx_str_t                      protocol, user;
    ngx_connection_t              *c;
    ngx_smtp_relay_credentials_t  *cr;

    c = auth->session->connection;
    cr = &auth->credentials;

    ngx_str_set(&protocol, "smtp");

    if (ngx_smtp_relay_auth_http_escape(http->pool, &cr->user, &user)
        != NGX_OK
        || ngx_smtp_relay_auth_http_escape(http->pool, &cr->secret,
                                           &http->secret)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_auth_http_add(headers, "Host", &http->host)
        != NGX_OK
        || ngx_smtp_relay_auth_http_add(headers, "Auth-Method",
                                        ngx_smtp_relay_sasl_name(cr->method))
           != NGX_OK
        || ngx_smtp_relay_auth_http_push(headers, "Auth-User", &user)
           != NGX_OK
        || ngx_smtp_relay_auth_http_push(headers, "Auth-Pass",
                                         &http->secret)
           != NGX_OK
        || ngx_smtp_relay_auth_http_sasl(cr, http->pool, headers) != NGX_OK
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


/* what only some of the mechanisms have */

static ngx_int_t
ngx_smtp_relay_auth_http_sasl(ngx_smtp_relay_credentials_t *cr,
    ngx_pool_t *pool, ngx_array_t *headers)
{
    ngx_str_t  identity;

    if (cr->challenge.len
        && ngx_smtp_relay_auth_http_add(headers, "Auth-Salt", &cr->challenge)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (!ngx_smtp_relay_auth_acts(cr)) {
        return NGX_OK;
    }

    if (ngx_smtp_relay_auth_http_escape(pool, &cr->authzid, &identity)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_auth_http_push(headers, "Auth-Authzid", &identity);
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
            && !ngx_smtp_relay_has_control(&value)
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

        if (ngx_smtp_relay_has_control(&kv->value)) {
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

    if (ngx_smtp_relay_has_control(value)) {
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


static void
ngx_smtp_relay_auth_http_handler(ngx_smtp_relay_http_t *http)
{
    ngx_smtp_relay_auth_t             *auth;
    ngx_smtp_relay_auth_status_e       status;
    ngx_smtp_relay_service_failure_e   failure;

    auth = http->data;

    if (http->status) {
        status = ngx_smtp_relay_auth_reply(auth, http);
        failure = (status == NGX_SMTP_RELAY_AUTH_ERROR)
                  ? NGX_SMTP_RELAY_SERVICE_BAD_REPLY
                  : NGX_SMTP_RELAY_SERVICE_FAILURES;

    } else {
        status = NGX_SMTP_RELAY_AUTH_ERROR;
        failure = NGX_SMTP_RELAY_SERVICE_NO_REPLY;
    }

    ngx_smtp_relay_stat_service(auth, failure);

    if (status == NGX_SMTP_RELAY_AUTH_OK) {
        status = ngx_smtp_relay_auth_confirm(auth);
    }

    ngx_smtp_relay_auth_http_failure(auth, http->status);

    ngx_smtp_relay_auth_http_cancel(auth);

    ngx_smtp_relay_auth_done(auth, status);
}


/*
 * Whether a status, 0 if there was no reply, is one of a service that is out
 * of order, so that what it said before may serve.  With most of 4xx it finds
 * fault with the request, of which a client chooses parts, its name in EHLO
 * say: who does it in such a way that it is refused must gain nothing.
 */

static void
ngx_smtp_relay_auth_http_failure(ngx_smtp_relay_auth_t *auth,
    ngx_uint_t status)
{
    if (status >= 200 && status < 300) {
        return;
    }

    if (status < 400 || status > 499) {
        auth->failed = 1;
        auth->refused = (status >= 300 && status < 400);
        return;
    }

    switch (status) {

    case 404:
    case 408:
    case 429:
        auth->failed = 1;
        auth->refused = 1;
    }
}


#endif
