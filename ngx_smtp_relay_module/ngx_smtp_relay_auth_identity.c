
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_identity.h"
#include "ngx_smtp_relay_session.h"


static ngx_uint_t ngx_smtp_relay_auth_same(ngx_str_t *a, ngx_str_t *b);
static ngx_int_t ngx_smtp_relay_auth_digest(ngx_smtp_relay_auth_t *auth);
static ngx_int_t ngx_smtp_relay_auth_authzid(ngx_smtp_relay_auth_t *auth);
static ngx_int_t ngx_smtp_relay_auth_account(ngx_smtp_relay_auth_t *auth);
static ngx_int_t ngx_smtp_relay_auth_certified(ngx_smtp_relay_auth_t *auth,
    ngx_str_t *identity);
static ngx_int_t ngx_smtp_relay_auth_common_name(ngx_smtp_relay_auth_t *auth,
    X509 *cert, ngx_str_t *name);
static ngx_int_t ngx_smtp_relay_auth_subject(ngx_smtp_relay_auth_t *auth);


ngx_uint_t
ngx_smtp_relay_auth_acts(ngx_smtp_relay_credentials_t *cr)
{
    if (cr->authzid.len == 0) {
        return 0;
    }

    return (cr->method == NGX_SMTP_RELAY_AUTH_EXTERNAL
            || !ngx_smtp_relay_auth_same(&cr->authzid, &cr->user));
}


static ngx_uint_t
ngx_smtp_relay_auth_same(ngx_str_t *a, ngx_str_t *b)
{
    return (a->len == b->len && ngx_memcmp(a->data, b->data, a->len) == 0);
}


ngx_smtp_relay_auth_status_e
ngx_smtp_relay_auth_confirm(ngx_smtp_relay_auth_t *auth)
{
    if (ngx_smtp_relay_auth_digest(auth) != NGX_OK
        || ngx_smtp_relay_auth_authzid(auth) != NGX_OK)
    {
        ngx_smtp_relay_auth_reset(auth);
        return NGX_SMTP_RELAY_AUTH_DENIED;
    }

    if (ngx_smtp_relay_auth_account(auth) != NGX_OK) {
        ngx_smtp_relay_auth_reset(auth);
        return NGX_SMTP_RELAY_AUTH_ERROR;
    }

    return NGX_SMTP_RELAY_AUTH_OK;
}


/*
 * With CRAM-MD5, Auth-Pass is the client's secret in plain text, and a digest
 * that was not made with it is denied even if the service did not look at it.
 * Together with the name of somebody else it is that one's, for the node.
 */

static ngx_int_t
ngx_smtp_relay_auth_digest(ngx_smtp_relay_auth_t *auth)
{
    ngx_smtp_relay_credentials_t  *cr;

    cr = &auth->credentials;

    if (cr->method != NGX_SMTP_RELAY_AUTH_CRAM_MD5
        || auth->node_secret.len == 0
        || (auth->node_user.len
            && !ngx_smtp_relay_auth_same(&auth->node_user, &cr->user)))
    {
        return NGX_OK;
    }

    if (ngx_smtp_relay_sasl_cram_md5_verify(&cr->challenge,
                                            &auth->node_secret, &cr->secret)
        == NGX_OK)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_INFO, auth->session->connection->log, 0,
                  "client login failed: wrong CRAM-MD5 digest of user \"%V\", "
                  "by Auth-Pass of the auth service", &auth->user);

    return NGX_DECLINED;
}


/* acting for somebody else takes the service's own word (RFC 4616, 2.) */

static ngx_int_t
ngx_smtp_relay_auth_authzid(ngx_smtp_relay_auth_t *auth)
{
    ngx_smtp_relay_credentials_t  *cr;

    cr = &auth->credentials;

    if (!ngx_smtp_relay_auth_acts(cr)
        || ngx_smtp_relay_auth_same(&cr->authzid, &auth->node_user))
    {
        return NGX_OK;
    }

    if (cr->method == NGX_SMTP_RELAY_AUTH_EXTERNAL
        && ngx_smtp_relay_auth_certified(auth, &cr->authzid) == NGX_OK)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_INFO, auth->session->connection->log, 0,
                  "client login failed: auth service did not name identity "
                  "\"%V\" of user \"%V\" in Auth-User",
                  &cr->authzid, &auth->user);

    return NGX_DECLINED;
}


static ngx_int_t
ngx_smtp_relay_auth_account(ngx_smtp_relay_auth_t *auth)
{
    ngx_smtp_relay_credentials_t  *cr;

    cr = &auth->credentials;

    if (auth->account.len) {
        return NGX_OK;
    }

    if (auth->node_user.len
        && (auth->user.len == 0 || ngx_smtp_relay_auth_acts(cr)))
    {
        auth->account = auth->node_user;
    }

    if (auth->account.len
        || auth->user.len
        || cr->method == NGX_SMTP_RELAY_AUTH_NONE)
    {
        return NGX_OK;
    }

    if (cr->method == NGX_SMTP_RELAY_AUTH_EXTERNAL
        && ngx_smtp_relay_auth_subject(auth) == NGX_OK)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_ERR, auth->session->connection->log, 0,
                  "auth service sent neither Auth-Account nor Auth-User for "
                  "a client without a name");

    return NGX_ERROR;
}


/* NGX_OK: the certificate itself is for this name or address */

static ngx_int_t
ngx_smtp_relay_auth_certified(ngx_smtp_relay_auth_t *auth,
    ngx_str_t *identity)
{
    X509       *cert;
    ngx_int_t   rc;
    ngx_str_t   name;

    cert = SSL_get_peer_certificate(auth->session->connection->ssl->connection);

    if (cert == NULL) {
        return NGX_DECLINED;
    }

    rc = NGX_DECLINED;

    if (ngx_smtp_relay_auth_common_name(auth, cert, &name) == NGX_OK
        && ngx_smtp_relay_auth_same(&name, identity))
    {
        rc = NGX_OK;

    } else if (X509_check_email(cert, (char *) identity->data, identity->len,
                                0)
               == 1)
    {
        rc = NGX_OK;
    }

    X509_free(cert);

    return rc;
}


/* the one common name of the subject, in memory of auth->pool */

static ngx_int_t
ngx_smtp_relay_auth_common_name(ngx_smtp_relay_auth_t *auth, X509 *cert,
    ngx_str_t *name)
{
    int               i, len;
    u_char           *p;
    X509_NAME        *subject;
    X509_NAME_ENTRY  *entry;

    subject = X509_get_subject_name(cert);
    if (subject == NULL) {
        return NGX_DECLINED;
    }

    i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

    if (i < 0
        || X509_NAME_get_index_by_NID(subject, NID_commonName, i) >= 0)
    {
        return NGX_DECLINED;
    }

    entry = X509_NAME_get_entry(subject, i);

    len = ASN1_STRING_to_UTF8(&p, X509_NAME_ENTRY_get_data(entry));

    if (len < 0) {
        ERR_clear_error();
        return NGX_DECLINED;
    }

    name->len = len;
    name->data = ngx_pnalloc(auth->pool, len + 1);

    if (name->data) {
        ngx_memcpy(name->data, p, len);
    }

    OPENSSL_free(p);

    if (name->data == NULL) {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_sasl_check_user(name);
}


/* who has not told a name is who the certificate is for */

static ngx_int_t
ngx_smtp_relay_auth_subject(ngx_smtp_relay_auth_t *auth)
{
    X509              *cert;
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = auth->session->connection;

    cert = SSL_get_peer_certificate(c->ssl->connection);

    if (cert == NULL) {
        return NGX_DECLINED;
    }

    rc = ngx_smtp_relay_auth_common_name(auth, cert, &auth->account);

    X509_free(cert);

    if (rc == NGX_OK) {
        return NGX_OK;
    }

    rc = ngx_ssl_get_subject_dn(c, auth->pool, &auth->account);

    if (rc == NGX_OK) {
        rc = ngx_smtp_relay_sasl_check_user(&auth->account);
    }

    if (rc != NGX_OK) {
        ngx_str_null(&auth->account);
    }

    return rc;
}
