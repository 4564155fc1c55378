
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_peer_ssl.h"


static void ngx_smtp_relay_peer_ssl_cut_port(ngx_str_t *name);
static ngx_int_t ngx_smtp_relay_peer_ssl_set_name(ngx_connection_t *c,
    ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_peer_ssl_check_name(ngx_connection_t *c,
    ngx_str_t *name);
static ngx_uint_t ngx_smtp_relay_peer_ssl_is_address(ngx_str_t *name);


ngx_int_t
ngx_smtp_relay_peer_ssl_eval(ngx_stream_session_t *s,
    ngx_smtp_relay_peer_ssl_conf_t *conf, ngx_str_t *host,
    ngx_smtp_relay_peer_ssl_params_t *params)
{
    params->name = *host;

    if (conf->name
        && ngx_stream_complex_value(s, conf->name, &params->name) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_smtp_relay_peer_ssl_cut_port(&params->name);

    if (!ngx_smtp_relay_peer_ssl_dynamic(conf)) {
        return NGX_OK;
    }

    if (ngx_stream_complex_value(s, conf->certificate, &params->certificate)
        != NGX_OK
        || ngx_stream_complex_value(s, conf->certificate_key,
                                    &params->certificate_key)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* both end in a null, which may be all there is */

    if (params->certificate.len && *params->certificate.data == '\0') {
        params->certificate.len = 0;
    }

    return NGX_OK;
}


/* a name may be given as it is in smtp_relay_pass, with a port */

static void
ngx_smtp_relay_peer_ssl_cut_port(ngx_str_t *name)
{
    u_char  *p, *last;

    p = name->data;
    last = p + name->len;

    if (name->len && *p == '[') {
        p = ngx_strlchr(p, last, ']');

        if (p) {
            name->data++;
            name->len = p - name->data;
        }

        return;
    }

    p = ngx_strlchr(p, last, ':');

    /* more than one are of an IPv6 address */

    if (p && ngx_strlchr(p + 1, last, ':') == NULL) {
        name->len = p - name->data;
    }
}


ngx_int_t
ngx_smtp_relay_peer_ssl_context(ngx_smtp_relay_peer_ssl_conf_t *conf,
    ngx_smtp_relay_peer_ssl_params_t *params, u_char *context)
{
    u_char       server_name;
    ngx_int_t    rc;
    EVP_MD_CTX  *ctx;

    ctx = EVP_MD_CTX_create();
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    server_name = conf->server_name ? 1 : 0;

    /* a null that ends each makes the whole unambiguous */

    rc = (EVP_DigestInit_ex(ctx, EVP_sha256(), NULL)
          && EVP_DigestUpdate(ctx, conf->id, NGX_SMTP_RELAY_PEER_SSL_ID)
          && EVP_DigestUpdate(ctx, &server_name, 1)
          && EVP_DigestUpdate(ctx, params->name.data, params->name.len)
          && EVP_DigestUpdate(ctx, "", 1)
          && EVP_DigestUpdate(ctx, params->certificate.data,
                              params->certificate.len)
          && EVP_DigestUpdate(ctx, "", 1)
          && EVP_DigestUpdate(ctx, params->certificate_key.data,
                              params->certificate_key.len)
          && EVP_DigestFinal_ex(ctx, context, NULL))
         ? NGX_OK : NGX_ERROR;

    EVP_MD_CTX_destroy(ctx);

    return rc;
}


ngx_int_t
ngx_smtp_relay_peer_ssl_connection(ngx_connection_t *c,
    ngx_smtp_relay_peer_ssl_conf_t *conf,
    ngx_smtp_relay_peer_ssl_params_t *params)
{
    ngx_str_t  cert, key;

    /*
     * no buffering within TLS: what is sent is gathered already, and the
     * buffer would stay with an idle connection
     */

    if (ngx_ssl_create_connection(conf->ssl, c, NGX_SSL_CLIENT) != NGX_OK) {
        return NGX_ERROR;
    }

    if (conf->server_name
        && ngx_smtp_relay_peer_ssl_set_name(c, &params->name) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* nginx makes a relative name a full one in place, in memory of c->pool */

    cert = params->certificate;
    key = params->certificate_key;

    if (cert.len == 0) {
        return NGX_OK;
    }

    return ngx_smtp_relay_ssl_connection_certificate(c, c->pool, &cert, &key,
                                                     conf->passwords);
}


static ngx_int_t
ngx_smtp_relay_peer_ssl_set_name(ngx_connection_t *c, ngx_str_t *value)
{
#ifdef SSL_CTRL_SET_TLSEXT_HOSTNAME

    u_char  *name;

    /* RFC 6066, 3.: addresses are not permitted */

    if (value->len == 0 || ngx_smtp_relay_peer_ssl_is_address(value)) {
        return NGX_OK;
    }

    name = ngx_pnalloc(c->pool, value->len + 1);
    if (name == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_cpystrn(name, value->data, value->len + 1);

    if (SSL_set_tlsext_host_name(c->ssl->connection, (char *) name) == 0) {
        ngx_ssl_error(NGX_LOG_ERR, c->log, 0,
                      "SSL_set_tlsext_host_name(\"%s\") failed", name);
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_peer_ssl_verify(ngx_connection_t *c,
    ngx_smtp_relay_peer_ssl_conf_t *conf,
    ngx_smtp_relay_peer_ssl_params_t *params, char *peer)
{
    long   rc;
    X509  *cert;

    if (!conf->verify) {
        return NGX_OK;
    }

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "%s SSL certificate verify error: (%l:%s)",
                      peer, rc, X509_verify_cert_error_string(rc));
        return NGX_ERROR;
    }

    /* ciphers without a certificate would pass for verified */

    cert = SSL_get_peer_certificate(c->ssl->connection);

    if (cert == NULL) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "%s sent no SSL certificate", peer);
        return NGX_ERROR;
    }

    X509_free(cert);

    if (ngx_smtp_relay_peer_ssl_check_name(c, &params->name) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "%s SSL certificate does not match \"%V\"",
                      peer, &params->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_peer_ssl_check_name(ngx_connection_t *c, ngx_str_t *name)
{
    X509      *cert;
    u_char     text[NGX_SOCKADDR_STRLEN];
    ngx_int_t  rc;

    /* OpenSSL takes an empty name for one of unknown length */

    if (name->len == 0) {
        return NGX_ERROR;
    }

    if (!ngx_smtp_relay_peer_ssl_is_address(name)) {
        return ngx_ssl_check_host(c, name);
    }

    if (name->len >= sizeof(text)) {
        return NGX_ERROR;
    }

    (void) ngx_cpystrn(text, name->data, name->len + 1);

    cert = SSL_get_peer_certificate(c->ssl->connection);

    if (cert == NULL) {
        return NGX_ERROR;
    }

    rc = (X509_check_ip_asc(cert, (char *) text, 0) == 1) ? NGX_OK
                                                           : NGX_ERROR;
    X509_free(cert);

    return rc;
}


static ngx_uint_t
ngx_smtp_relay_peer_ssl_is_address(ngx_str_t *name)
{
#if (NGX_HAVE_INET6)
    u_char  addr[16];

    if (ngx_inet6_addr(name->data, name->len, addr) == NGX_OK) {
        return 1;
    }
#endif

    return (ngx_inet_addr(name->data, name->len) != INADDR_NONE);
}


void
ngx_smtp_relay_peer_ssl_close(ngx_connection_t *c)
{
    if (c->ssl == NULL) {
        return;
    }

    c->ssl->no_wait_shutdown = 1;

    if (c->error || c->timedout) {
        c->ssl->no_send_shutdown = 1;
    }

    if (ngx_ssl_shutdown(c) == NGX_AGAIN) {

        /* there is no room even for that much: not worth waiting for */

        c->error = 1;
        (void) ngx_ssl_shutdown(c);
    }
}
