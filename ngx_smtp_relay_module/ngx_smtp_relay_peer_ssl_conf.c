
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_peer_ssl.h"


static ngx_int_t ngx_smtp_relay_peer_ssl_share(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *prev,
    ngx_smtp_relay_peer_ssl_conf_t *conf);
static ngx_int_t ngx_smtp_relay_peer_ssl_init(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *conf, char *family);
static ngx_int_t ngx_smtp_relay_peer_ssl_init_certificate(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *conf, char *family);
static ngx_int_t ngx_smtp_relay_peer_ssl_init_verify(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *conf);
static char *ngx_smtp_relay_peer_ssl_check_trusted(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_smtp_relay_peer_ssl_check_crl(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_smtp_relay_peer_ssl_check_ciphers(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_smtp_relay_peer_ssl_check_command(ngx_conf_t *cf, void *post,
    void *data);
static ngx_int_t ngx_smtp_relay_peer_ssl_try(ngx_conf_t *cf, ngx_ssl_t *ssl);
static char *ngx_smtp_relay_peer_ssl_checked(ngx_ssl_t *ssl, ngx_int_t rc);


ngx_conf_bitmask_t  ngx_smtp_relay_peer_ssl_protocols[] = {
    { ngx_string("SSLv2"), NGX_SSL_SSLv2 },
    { ngx_string("SSLv3"), NGX_SSL_SSLv3 },
    { ngx_string("TLSv1"), NGX_SSL_TLSv1 },
    { ngx_string("TLSv1.1"), NGX_SSL_TLSv1_1 },
    { ngx_string("TLSv1.2"), NGX_SSL_TLSv1_2 },
    { ngx_string("TLSv1.3"), NGX_SSL_TLSv1_3 },
    { ngx_null_string, 0 }
};


ngx_conf_post_t  ngx_smtp_relay_peer_ssl_trusted_post =
    { ngx_smtp_relay_peer_ssl_check_trusted };
ngx_conf_post_t  ngx_smtp_relay_peer_ssl_crl_post =
    { ngx_smtp_relay_peer_ssl_check_crl };
ngx_conf_post_t  ngx_smtp_relay_peer_ssl_ciphers_post =
    { ngx_smtp_relay_peer_ssl_check_ciphers };
ngx_conf_post_t  ngx_smtp_relay_peer_ssl_command_post =
    { ngx_smtp_relay_peer_ssl_check_command };


void
ngx_smtp_relay_peer_ssl_create(ngx_smtp_relay_peer_ssl_conf_t *conf)
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
ngx_smtp_relay_peer_ssl_merge(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *prev, ngx_smtp_relay_peer_ssl_conf_t *conf,
    char *family, ngx_uint_t used)
{
    if (used && ngx_smtp_relay_peer_ssl_share(cf, prev, conf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (conf->certificate == NGX_CONF_UNSET_PTR) {
        conf->file_name = prev->file_name;
        conf->line = prev->line;
    }

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

    return used ? ngx_smtp_relay_peer_ssl_init(cf, conf, family) : NGX_OK;
}


/* called before the values are merged, while it shows which are set here */

static ngx_int_t
ngx_smtp_relay_peer_ssl_share(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *prev, ngx_smtp_relay_peer_ssl_conf_t *conf)
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
    conf->id = ngx_pnalloc(cf->pool, NGX_SMTP_RELAY_PEER_SSL_ID);

    if (conf->ssl == NULL || conf->id == NULL) {
        return NGX_ERROR;
    }

    if (RAND_bytes(conf->id, NGX_SMTP_RELAY_PEER_SSL_ID) != 1) {
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
ngx_smtp_relay_peer_ssl_init(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *conf, char *family)
{
    ngx_pool_cleanup_t  *cln;

    if (conf->certificate && conf->certificate->value.len
        && conf->certificate_key == NULL)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%s_certificate\" needs \"%s_certificate_key\" "
                      "in %s:%ui", family, family, conf->file_name,
                      conf->line);
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_peer_ssl_dynamic(conf)) {
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
        || ngx_smtp_relay_peer_ssl_init_certificate(cf, conf, family) != NGX_OK
        || ngx_smtp_relay_peer_ssl_init_verify(cf, conf) != NGX_OK
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
ngx_smtp_relay_peer_ssl_init_certificate(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *conf, char *family)
{
    if (conf->certificate == NULL
        || conf->certificate->value.len == 0
        || ngx_smtp_relay_peer_ssl_dynamic(conf))
    {
        return NGX_OK;
    }

    if (ngx_ssl_certificate(cf, conf->ssl, &conf->certificate->value,
                            &conf->certificate_key->value, conf->passwords)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%s_certificate\" cannot be used in %s:%ui",
                      family, conf->file_name, conf->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_peer_ssl_init_verify(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *conf)
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


char *
ngx_smtp_relay_peer_ssl_certificate(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char  *p = conf;

    ngx_command_t                    command;
    ngx_smtp_relay_peer_ssl_conf_t  *sscf;

    sscf = (ngx_smtp_relay_peer_ssl_conf_t *) (p + cmd->offset);

    /* whether there is a key shows when all is read */

    sscf->file_name = cf->conf_file->file.name.data;
    sscf->line = cf->conf_file->line;

    command = *cmd;
    command.offset += offsetof(ngx_smtp_relay_peer_ssl_conf_t, certificate);

    return ngx_stream_set_complex_value_zero_slot(cf, &command, conf);
}


char *
ngx_smtp_relay_peer_ssl_password_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char  *p = conf;

    ngx_str_t                       *value;
    ngx_smtp_relay_peer_ssl_conf_t  *sscf;

    sscf = (ngx_smtp_relay_peer_ssl_conf_t *) (p + cmd->offset);

    if (sscf->passwords != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    sscf->passwords = ngx_ssl_read_password_file(cf, &value[1]);

    return sscf->passwords ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/*
 * The SSL_CTX is made when all is read, and OpenSSL's errors come without a
 * line then: hence values are tried where they stand, each on its own.
 */

static char *
ngx_smtp_relay_peer_ssl_check_trusted(ngx_conf_t *cf, void *post, void *data)
{
    ngx_ssl_t   ssl;
    ngx_str_t  *file = data;

    if (ngx_smtp_relay_peer_ssl_try(cf, &ssl) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_smtp_relay_peer_ssl_checked(&ssl,
                              ngx_ssl_trusted_certificate(cf, &ssl, file, 1));
}


static char *
ngx_smtp_relay_peer_ssl_check_crl(ngx_conf_t *cf, void *post, void *data)
{
    ngx_ssl_t   ssl;
    ngx_str_t  *file = data;

    if (ngx_smtp_relay_peer_ssl_try(cf, &ssl) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_smtp_relay_peer_ssl_checked(&ssl, ngx_ssl_crl(cf, &ssl, file));
}


static char *
ngx_smtp_relay_peer_ssl_check_ciphers(ngx_conf_t *cf, void *post, void *data)
{
    ngx_ssl_t   ssl;
    ngx_str_t  *ciphers = data;

    if (ngx_smtp_relay_peer_ssl_try(cf, &ssl) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_smtp_relay_peer_ssl_checked(&ssl,
                                      ngx_ssl_ciphers(cf, &ssl, ciphers, 0));
}


static char *
ngx_smtp_relay_peer_ssl_check_command(ngx_conf_t *cf, void *post, void *data)
{
#ifndef SSL_CONF_FLAG_FILE

    return "is not supported on this platform";

#else

    ngx_ssl_t     ssl;
    ngx_array_t   commands;

    ngx_memzero(&commands, sizeof(ngx_array_t));

    commands.elts = data;
    commands.nelts = 1;

    if (ngx_smtp_relay_peer_ssl_try(cf, &ssl) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_smtp_relay_peer_ssl_checked(&ssl,
                                  ngx_ssl_conf_commands(cf, &ssl, &commands));

#endif
}


static ngx_int_t
ngx_smtp_relay_peer_ssl_try(ngx_conf_t *cf, ngx_ssl_t *ssl)
{
    ngx_memzero(ssl, sizeof(ngx_ssl_t));

    ssl->log = cf->log;

    return ngx_ssl_create(ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL);
}


static char *
ngx_smtp_relay_peer_ssl_checked(ngx_ssl_t *ssl, ngx_int_t rc)
{
    ngx_ssl_cleanup_ctx(ssl);

    return (rc == NGX_OK) ? NGX_CONF_OK : "has an invalid value";
}
