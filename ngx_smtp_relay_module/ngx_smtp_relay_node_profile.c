
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_node_profile.h"


#define NGX_SMTP_RELAY_NODE_HASH_LEN  32   /* SHA-256 */


static ngx_int_t ngx_smtp_relay_node_profile_helo(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_node_srv_conf_t *nscf);
static ngx_int_t ngx_smtp_relay_node_profile_auth(
    ngx_smtp_relay_transaction_t *t, ngx_smtp_relay_node_srv_conf_t *nscf);
static ngx_int_t ngx_smtp_relay_node_profile_pair(ngx_stream_session_t *s,
    ngx_smtp_relay_node_srv_conf_t *nscf,
    ngx_smtp_relay_node_profile_t *profile);
static ngx_int_t ngx_smtp_relay_node_profile_key(
    ngx_smtp_relay_transaction_t *t);


ngx_int_t
ngx_smtp_relay_node_profile_init(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *host)
{
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    nscf = ngx_smtp_relay_node_conf(t);

    if (nscf->ssl_mode != NGX_SMTP_RELAY_NODE_SSL_OFF
        && ngx_smtp_relay_peer_ssl_eval(t->session->stream, &nscf->ssl, host,
                                        &t->profile.ssl)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_node_profile_helo(t, nscf) != NGX_OK
        || ngx_smtp_relay_node_profile_auth(t, nscf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_smtp_relay_node_profile_key(t);
}


static ngx_int_t
ngx_smtp_relay_node_profile_helo(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_node_srv_conf_t *nscf)
{
    ngx_str_t             *helo;
    ngx_stream_session_t  *s;

    s = t->session->stream;
    helo = &t->profile.helo;

    *helo = t->session->hostname;

    if (nscf->helo == NULL) {
        return NGX_OK;
    }

    if (ngx_stream_complex_value(s, nscf->helo, helo) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_parse_helo(helo) != NGX_OK) {
        ngx_smtp_relay_sanitize(helo, NGX_SMTP_RELAY_MAX_DOMAIN);

        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "invalid \"smtp_relay_node_helo\" value \"%V\", "
                      "\"%V\" is used", helo, &t->session->hostname);

        *helo = t->session->hostname;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_profile_auth(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_node_srv_conf_t *nscf)
{
    ngx_stream_session_t           *s;
    ngx_smtp_relay_auth_t          *auth;
    ngx_smtp_relay_node_profile_t  *profile;

    s = t->session->stream;
    auth = t->session->auth;
    profile = &t->profile;

    switch (nscf->auth) {

    case NGX_SMTP_RELAY_NODE_AUTH_OFF:
        return NGX_OK;

    case NGX_SMTP_RELAY_NODE_AUTH_PASS:

        /* these outlive the transaction */

        if (auth) {
            profile->user = auth->node_user;
            profile->secret = auth->node_secret;
        }

        break;

    default: /* NGX_SMTP_RELAY_NODE_AUTH_FIXED */

        if (ngx_smtp_relay_node_profile_pair(s, nscf, profile) != NGX_OK) {
            return NGX_ERROR;
        }

        profile->wipe = (nscf->auth_secret->lengths != NULL);
    }

    if (ngx_smtp_relay_sasl_check_user(&profile->user) != NGX_OK
        || ngx_smtp_relay_sasl_check_secret(&profile->secret) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "no valid user and secret for \"smtp_relay_node_auth\"");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_profile_pair(ngx_stream_session_t *s,
    ngx_smtp_relay_node_srv_conf_t *nscf,
    ngx_smtp_relay_node_profile_t *profile)
{
    ngx_int_t    rc;
    ngx_log_t   *log;
    ngx_uint_t   level;

    if (ngx_stream_complex_value(s, nscf->auth_user, &profile->user)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* at debug level nginx logs the values of variables */

    log = s->connection->log;
    level = log->log_level;

    if (level & NGX_LOG_DEBUG_ALL) {
        log->log_level = NGX_LOG_DEBUG;
    }

    rc = ngx_stream_complex_value(s, nscf->auth_secret, &profile->secret);

    log->log_level = level;

    return rc;
}


static ngx_int_t
ngx_smtp_relay_node_profile_key(ngx_smtp_relay_transaction_t *t)
{
    u_char                            *p;
    size_t                             len;
    ngx_str_t                         *key;
    ngx_smtp_relay_node_profile_t     *profile;
    ngx_smtp_relay_peer_ssl_params_t  *ssl;

    profile = &t->profile;
    key = &profile->key;

    /* none of the strings has a null in it, except for the file names' end */

    ssl = &profile->ssl;

    len = profile->helo.len + ssl->name.len + ssl->certificate.len
          + ssl->certificate_key.len + profile->user.len
          + 5 + NGX_SMTP_RELAY_NODE_HASH_LEN;

    p = ngx_pnalloc(t->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    key->data = p;

    p = ngx_sprintf(p, "%V%Z%V%Z%V%Z%V%Z%V%Z", &profile->helo,
                    &ssl->name, &ssl->certificate, &ssl->certificate_key,
                    &profile->user);

    if (profile->secret.len) {

        if (EVP_Digest(profile->secret.data, profile->secret.len, p, NULL,
                       EVP_sha256(), NULL)
            == 0)
        {
            ngx_ssl_error(NGX_LOG_CRIT, t->session->connection->log, 0,
                          "EVP_Digest() failed");
            return NGX_ERROR;
        }

        p += NGX_SMTP_RELAY_NODE_HASH_LEN;
    }

    key->len = p - key->data;

    return NGX_OK;
}


void
ngx_smtp_relay_node_profile_done(ngx_smtp_relay_transaction_t *t)
{
    ngx_smtp_relay_node_profile_t  *profile;

    profile = &t->profile;

    if (profile->wipe && profile->secret.len) {
        ngx_explicit_memzero(profile->secret.data, profile->secret.len);
    }

    profile->secret.len = 0;
}
