
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_node_hello.h"
#include "ngx_smtp_relay_node_ssl.h"


#define NGX_SMTP_RELAY_NODE_SSL_ID       16
#define NGX_SMTP_RELAY_NODE_SSL_CONTEXT  32   /* SHA-256 */


static ngx_int_t ngx_smtp_relay_node_ssl_share(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *prev,
    ngx_smtp_relay_node_ssl_conf_t *conf);
static ngx_int_t ngx_smtp_relay_node_ssl_init(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *conf);
static ngx_int_t ngx_smtp_relay_node_ssl_init_certificate(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *conf);
static ngx_int_t ngx_smtp_relay_node_ssl_init_verify(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *conf);
static ngx_int_t ngx_smtp_relay_node_ssl_prepare(ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_ssl_set_name(ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_ssl_set_session(
    ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_ssl_context(ngx_smtp_relay_node_t *node,
    u_char *context);
static void ngx_smtp_relay_node_ssl_save_session(ngx_connection_t *c);
static void ngx_smtp_relay_node_ssl_handler(ngx_connection_t *c);
static ngx_int_t ngx_smtp_relay_node_ssl_verify(ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_ssl_check_name(ngx_connection_t *c,
    ngx_str_t *name);
static ngx_uint_t ngx_smtp_relay_node_ssl_is_address(ngx_str_t *name);


void
ngx_smtp_relay_node_ssl_create(ngx_smtp_relay_node_ssl_conf_t *conf)
{
    /*
     * zeroed by the caller:
     *
     *     conf->ssl = NULL;
     *     conf->id = NULL;
     *     conf->trusted_certificate = { 0, NULL };
     *     conf->crl = { 0, NULL };
     *     conf->protocols = 0;
     *     conf->ciphers = { 0, NULL };
     *     conf->file_name = NULL;
     *     conf->line = 0;
     */

    conf->mode = NGX_CONF_UNSET_UINT;
    conf->verify = NGX_CONF_UNSET;
    conf->verify_depth = NGX_CONF_UNSET_UINT;
    conf->name = NGX_CONF_UNSET_PTR;
    conf->server_name = NGX_CONF_UNSET;
    conf->session_reuse = NGX_CONF_UNSET;
    conf->conf_commands = NGX_CONF_UNSET_PTR;
    conf->certificate = NGX_CONF_UNSET_PTR;
    conf->certificate_key = NGX_CONF_UNSET_PTR;
    conf->passwords = NGX_CONF_UNSET_PTR;
}


ngx_int_t
ngx_smtp_relay_node_ssl_merge(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *prev, ngx_smtp_relay_node_ssl_conf_t *conf,
    ngx_uint_t used)
{
    if (used && ngx_smtp_relay_node_ssl_share(cf, prev, conf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (conf->certificate == NGX_CONF_UNSET_PTR) {
        conf->file_name = prev->file_name;
        conf->line = prev->line;
    }

    ngx_conf_merge_uint_value(conf->mode, prev->mode,
                              NGX_SMTP_RELAY_NODE_SSL_OFF);
    ngx_conf_merge_value(conf->verify, prev->verify, 1);
    ngx_conf_merge_uint_value(conf->verify_depth, prev->verify_depth, 1);
    ngx_conf_merge_str_value(conf->trusted_certificate,
                             prev->trusted_certificate, "");
    ngx_conf_merge_str_value(conf->crl, prev->crl, "");
    ngx_conf_merge_ptr_value(conf->name, prev->name, NULL);
    ngx_conf_merge_value(conf->server_name, prev->server_name, 0);
    ngx_conf_merge_bitmask_value(conf->protocols, prev->protocols,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3));
    ngx_conf_merge_str_value(conf->ciphers, prev->ciphers, "DEFAULT");
    ngx_conf_merge_value(conf->session_reuse, prev->session_reuse, 1);
    ngx_conf_merge_ptr_value(conf->conf_commands, prev->conf_commands, NULL);
    ngx_conf_merge_ptr_value(conf->certificate, prev->certificate, NULL);
    ngx_conf_merge_ptr_value(conf->certificate_key, prev->certificate_key,
                             NULL);
    ngx_conf_merge_ptr_value(conf->passwords, prev->passwords, NULL);

    if (!used || conf->mode == NGX_SMTP_RELAY_NODE_SSL_OFF) {
        return NGX_OK;
    }

    return ngx_smtp_relay_node_ssl_init(cf, conf);
}


/* called before the values are merged, while it shows which are set here */

static ngx_int_t
ngx_smtp_relay_node_ssl_share(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *prev, ngx_smtp_relay_node_ssl_conf_t *conf)
{
    ngx_uint_t  own;

    own = (conf->verify != NGX_CONF_UNSET
           || conf->verify_depth != NGX_CONF_UNSET_UINT
           || conf->trusted_certificate.data
           || conf->crl.data
           || conf->protocols
           || conf->ciphers.data
           || conf->session_reuse != NGX_CONF_UNSET
           || conf->conf_commands != NGX_CONF_UNSET_PTR
           || conf->certificate != NGX_CONF_UNSET_PTR
           || conf->certificate_key != NGX_CONF_UNSET_PTR
           || conf->passwords != NGX_CONF_UNSET_PTR);

    if (!own && prev->ssl) {
        conf->ssl = prev->ssl;
        conf->id = prev->id;
        return NGX_OK;
    }

    conf->ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    conf->id = ngx_pnalloc(cf->pool, NGX_SMTP_RELAY_NODE_SSL_ID);

    if (conf->ssl == NULL || conf->id == NULL) {
        return NGX_ERROR;
    }

    if (RAND_bytes(conf->id, NGX_SMTP_RELAY_NODE_SSL_ID) != 1) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    conf->ssl->log = cf->log;

    if (!own) {
        prev->ssl = conf->ssl;
        prev->id = conf->id;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_ssl_init(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *conf)
{
    ngx_pool_cleanup_t  *cln;

    if (conf->certificate && conf->certificate->value.len
        && conf->certificate_key == NULL)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"smtp_relay_ssl_certificate\" needs "
                      "\"smtp_relay_ssl_certificate_key\" in %s:%ui",
                      conf->file_name, conf->line);
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_node_ssl_dynamic(conf)) {
        conf->passwords = ngx_ssl_preserve_passwords(cf, conf->passwords);
        if (conf->passwords == NULL) {
            return NGX_ERROR;
        }
    }

    if (conf->ssl->ctx) {
        return NGX_OK;
    }

    if (ngx_ssl_create(conf->ssl, conf->protocols, NULL) != NGX_OK) {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(conf->ssl);
        return NGX_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = conf->ssl;

    if (ngx_ssl_ciphers(cf, conf->ssl, &conf->ciphers, 0) != NGX_OK
        || ngx_smtp_relay_node_ssl_init_certificate(cf, conf) != NGX_OK
        || ngx_smtp_relay_node_ssl_init_verify(cf, conf) != NGX_OK
        || ngx_ssl_client_session_cache(cf, conf->ssl, conf->session_reuse)
           != NGX_OK
        || ngx_ssl_conf_commands(cf, conf->ssl, conf->conf_commands)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_ssl_init_certificate(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *conf)
{
    if (conf->certificate == NULL
        || conf->certificate->value.len == 0
        || ngx_smtp_relay_node_ssl_dynamic(conf))
    {
        return NGX_OK;
    }

    return ngx_ssl_certificate(cf, conf->ssl, &conf->certificate->value,
                               &conf->certificate_key->value,
                               conf->passwords);
}


static ngx_int_t
ngx_smtp_relay_node_ssl_init_verify(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *conf)
{
    if (!conf->verify) {
        return NGX_OK;
    }

    /* without a file this sets the depth only */

    if (ngx_ssl_trusted_certificate(cf, conf->ssl, &conf->trusted_certificate,
                                    conf->verify_depth)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (conf->trusted_certificate.len == 0
        && SSL_CTX_set_default_verify_paths(conf->ssl->ctx) == 0)
    {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_ERROR;
    }

    return ngx_ssl_crl(cf, conf->ssl, &conf->crl);
}


void
ngx_smtp_relay_node_ssl_start(ngx_smtp_relay_node_t *node)
{
    ngx_connection_t  *c;

    c = node->connection;

    ngx_smtp_relay_node_set_state(node, NGX_SMTP_RELAY_NODE_TLS);

    /*
     * no buffering within TLS: what is sent is gathered already, and the
     * buffer would stay with an idle connection
     */

    if (ngx_ssl_create_connection(node->conf->ssl.ssl, c, NGX_SSL_CLIENT)
        != NGX_OK
        || ngx_smtp_relay_node_ssl_prepare(node) != NGX_OK)
    {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    /* from the start TLS belongs to connecting, which is timed already */

    if (!c->write->timer_set) {
        ngx_add_timer(c->write, node->conf->connect_timeout);
    }

    if (ngx_ssl_handshake(c) == NGX_AGAIN) {
        c->ssl->handler = ngx_smtp_relay_node_ssl_handler;
        return;
    }

    ngx_smtp_relay_node_ssl_handler(c);
}


static ngx_int_t
ngx_smtp_relay_node_ssl_prepare(ngx_smtp_relay_node_t *node)
{
    ngx_str_t                        cert, key;
    ngx_connection_t                *c;
    ngx_smtp_relay_node_profile_t   *profile;
    ngx_smtp_relay_node_ssl_conf_t  *sscf;

    c = node->connection;
    sscf = &node->conf->ssl;
    profile = &node->transaction->profile;

    if (sscf->server_name && ngx_smtp_relay_node_ssl_set_name(node) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* nginx makes a relative name a full one in place, in memory of c->pool */

    cert = profile->certificate;
    key = profile->certificate_key;

    if (cert.len
        && ngx_smtp_relay_ssl_connection_certificate(c, c->pool, &cert, &key,
                                                     sscf->passwords)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return sscf->session_reuse ? ngx_smtp_relay_node_ssl_set_session(node)
                               : NGX_OK;
}


/*
 * A session comes with all that was found out when it was made: the chain
 * was trusted, the node knew the client's certificate.  The balancer keeps
 * one for a peer, whichever server and name it was made for: hence it is
 * marked with these, and used only where they are the same.
 */

static ngx_int_t
ngx_smtp_relay_node_ssl_set_session(ngx_smtp_relay_node_t *node)
{
    unsigned int                    len;
    ngx_ssl_conn_t                 *ssl;
    const u_char                   *id;
    ngx_ssl_session_t              *session;
    ngx_stream_upstream_t          *u;
    u_char                          context[NGX_SMTP_RELAY_NODE_SSL_CONTEXT];

    ssl = node->connection->ssl->connection;
    u = node->transaction->scope.upstream;

    if (ngx_smtp_relay_node_ssl_context(node, context) != NGX_OK
        || SSL_set_session_id_context(ssl, context, sizeof(context)) == 0)
    {
        ngx_ssl_error(NGX_LOG_CRIT, node->connection->log, 0,
                      "SSL_set_session_id_context() failed");
        return NGX_ERROR;
    }

    node->connection->ssl->save_session = ngx_smtp_relay_node_ssl_save_session;

    if (u->peer.set_session(&u->peer, u->peer.data) != NGX_OK) {
        return NGX_ERROR;
    }

    session = SSL_get_session(ssl);

    if (session == NULL) {
        return NGX_OK;
    }

    id = SSL_SESSION_get0_id_context(session, &len);

    if (len == sizeof(context) && ngx_memcmp(id, context, len) == 0) {
        return NGX_OK;
    }

    return (SSL_set_session(ssl, NULL) == 0) ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_ssl_context(ngx_smtp_relay_node_t *node, u_char *context)
{
    u_char                         *p, *text;
    size_t                          len;
    ngx_smtp_relay_node_profile_t  *profile;

    profile = &node->transaction->profile;

    len = NGX_SMTP_RELAY_NODE_SSL_ID + profile->ssl_name.len
          + profile->certificate.len + profile->certificate_key.len + 2;

    text = ngx_pnalloc(node->transaction->pool, len);
    if (text == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(text, node->conf->ssl.id, NGX_SMTP_RELAY_NODE_SSL_ID);
    p = ngx_sprintf(p, "%V%Z%V%Z%V", &profile->ssl_name,
                    &profile->certificate, &profile->certificate_key);

    return (EVP_Digest(text, p - text, context, NULL, EVP_sha256(), NULL) == 0)
           ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_ssl_set_name(ngx_smtp_relay_node_t *node)
{
#ifdef SSL_CTRL_SET_TLSEXT_HOSTNAME

    u_char            *name;
    ngx_str_t         *value;
    ngx_connection_t  *c;

    c = node->connection;
    value = &node->transaction->profile.ssl_name;

    /* RFC 6066, 3.: addresses are not permitted */

    if (value->len == 0 || ngx_smtp_relay_node_ssl_is_address(value)) {
        return NGX_OK;
    }

    name = ngx_pnalloc(node->transaction->pool, value->len + 1);
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


/*
 * OpenSSL calls this whenever a ticket comes, with TLS 1.3 also long after
 * the handshake.  The balancer can be given it only while it still holds
 * the peer for the transaction that made this very connection.
 */

static void
ngx_smtp_relay_node_ssl_save_session(ngx_connection_t *c)
{
    ngx_smtp_relay_node_t  *node;
    ngx_stream_upstream_t  *u;

    node = c->data;

    if (node->transaction == NULL || node->transaction->node != node) {
        return;
    }

    u = node->transaction->scope.upstream;

    if (u->peer.sockaddr && u->peer.connection == c) {
        u->peer.save_session(&u->peer, u->peer.data);
    }
}


static void
ngx_smtp_relay_node_ssl_handler(ngx_connection_t *c)
{
    ngx_smtp_relay_node_t  *node;

    node = c->data;

    if (c->write->timedout) {
        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "upstream timed out");
        c->timedout = 1;
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (!c->ssl->handshaked) {
        c->error = 1;
        ngx_smtp_relay_node_lost(node);
        return;
    }

    if (node->conf->ssl.verify
        && ngx_smtp_relay_node_ssl_verify(node) != NGX_OK)
    {
        ngx_smtp_relay_node_lost(node);
        return;
    }

    ngx_smtp_relay_node_hello_start(node);
}


static ngx_int_t
ngx_smtp_relay_node_ssl_verify(ngx_smtp_relay_node_t *node)
{
    long               rc;
    X509              *cert;
    ngx_str_t         *name;
    ngx_connection_t  *c;

    c = node->connection;

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "upstream SSL certificate verify error: (%l:%s)",
                      rc, X509_verify_cert_error_string(rc));
        return NGX_ERROR;
    }

    /* ciphers without a certificate would pass for verified */

    cert = SSL_get_peer_certificate(c->ssl->connection);

    if (cert == NULL) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "upstream sent no SSL certificate");
        return NGX_ERROR;
    }

    X509_free(cert);

    name = &node->transaction->profile.ssl_name;

    if (ngx_smtp_relay_node_ssl_check_name(c, name) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "upstream SSL certificate does not match \"%V\"", name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_ssl_check_name(ngx_connection_t *c, ngx_str_t *name)
{
    X509       *cert;
    u_char      text[NGX_SOCKADDR_STRLEN];
    ngx_int_t   rc;

    /* OpenSSL takes an empty name for one of unknown length */

    if (name->len == 0) {
        return NGX_ERROR;
    }

    if (!ngx_smtp_relay_node_ssl_is_address(name)) {
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
ngx_smtp_relay_node_ssl_is_address(ngx_str_t *name)
{
#if (NGX_HAVE_INET6)
    u_char  addr[16];

    if (ngx_inet6_addr(name->data, name->len, addr) == NGX_OK) {
        return 1;
    }
#endif

    return (ngx_inet_addr(name->data, name->len) != INADDR_NONE);
}
