
/*
 * TLS of the connections that the relay makes, to nodes and to the auth
 * service: directives, SSL_CTX, names, certificates and what is checked.
 */


#ifndef _NGX_SMTP_RELAY_PEER_SSL_H_INCLUDED_
#define _NGX_SMTP_RELAY_PEER_SSL_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_conf.h"


#define NGX_SMTP_RELAY_PEER_SSL_ID       16
#define NGX_SMTP_RELAY_PEER_SSL_CONTEXT  32   /* SHA-256 */


typedef struct {
    ngx_ssl_t                      *ssl;
    u_char                         *id;         /* of ssl, random */

    ngx_flag_t                      verify;
    ngx_uint_t                      verify_depth;
    ngx_str_t                       trusted_certificate;
    ngx_str_t                       crl;
    ngx_stream_complex_value_t     *name;
    ngx_flag_t                      server_name;

    ngx_uint_t                      protocols;
    ngx_str_t                       ciphers;
    ngx_flag_t                      session_reuse;
    ngx_array_t                    *conf_commands;

    ngx_stream_complex_value_t     *certificate;
    ngx_stream_complex_value_t     *certificate_key;
    ngx_array_t                    *passwords;

    /* of the certificate, for what can be checked only later */
    u_char                         *file_name;
    ngx_uint_t                      line;
} ngx_smtp_relay_peer_ssl_conf_t;


/* the values that may have variables, as they are for one connection */

typedef struct {
    ngx_str_t                       name;       /* of the certificate, SNI */
    ngx_str_t                       certificate;      /* with variables, */
    ngx_str_t                       certificate_key;  /* else empty */
} ngx_smtp_relay_peer_ssl_params_t;


/* the certificate or its key differ between connections */

#define ngx_smtp_relay_peer_ssl_dynamic(conf)                                 \
    ((conf)->certificate && (conf)->certificate->value.len                    \
     && ((conf)->certificate->lengths || (conf)->certificate_key->lengths))


/* Makes all values unset; conf is zeroed. */
void ngx_smtp_relay_peer_ssl_create(ngx_smtp_relay_peer_ssl_conf_t *conf);

/*
 * Merges the values and, if used, makes the SSL_CTX.  Servers that set
 * nothing of their own share one.  family is what the names of directives
 * begin with.  NGX_OK or NGX_ERROR, which is logged.
 */
ngx_int_t ngx_smtp_relay_peer_ssl_merge(ngx_conf_t *cf,
    ngx_smtp_relay_peer_ssl_conf_t *prev, ngx_smtp_relay_peer_ssl_conf_t *conf,
    char *family, ngx_uint_t used);

/*
 * Evaluates what has variables; host, with or without a port, is the name
 * if none is configured.  Octets belong to the pool of the scope, to the
 * configuration, or to host.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_peer_ssl_eval(ngx_stream_session_t *s,
    ngx_smtp_relay_peer_ssl_conf_t *conf, ngx_str_t *host,
    ngx_smtp_relay_peer_ssl_params_t *params);

/*
 * All that a TLS connection or session depends on, as a hash: what was made
 * under another one will not do.  NGX_OK or NGX_ERROR (no memory).
 */
ngx_int_t ngx_smtp_relay_peer_ssl_context(ngx_smtp_relay_peer_ssl_conf_t *conf,
    ngx_smtp_relay_peer_ssl_params_t *params, u_char *context);

/*
 * Readies a connection, which has a pool of its own, for the handshake.
 * NGX_OK or NGX_ERROR, which is logged.
 */
ngx_int_t ngx_smtp_relay_peer_ssl_connection(ngx_connection_t *c,
    ngx_smtp_relay_peer_ssl_conf_t *conf,
    ngx_smtp_relay_peer_ssl_params_t *params);

/*
 * Checks, after the handshake, the peer's certificate and its name, unless
 * verification is off.  NGX_OK, or NGX_ERROR: the peer must not be talked
 * to; why is logged, with peer as the subject.
 */
ngx_int_t ngx_smtp_relay_peer_ssl_verify(ngx_connection_t *c,
    ngx_smtp_relay_peer_ssl_conf_t *conf,
    ngx_smtp_relay_peer_ssl_params_t *params, char *peer);

/* Ends TLS, if there is any, without waiting; the connection stays open. */
void ngx_smtp_relay_peer_ssl_close(ngx_connection_t *c);


/*
 * The directives of a family, all but the one that turns TLS on: prefix is
 * what their names begin with, member the ngx_smtp_relay_peer_ssl_conf_t in
 * the configuration of a server, which is of that type.
 */

#define NGX_SMTP_RELAY_PEER_SSL_COMMANDS(prefix, type, member)                \
                                                                              \
    { ngx_string(prefix "verify"),                                            \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,                 \
      ngx_conf_set_flag_slot,                                                 \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.verify),                                          \
      NULL },                                                                 \
                                                                              \
    { ngx_string(prefix "verify_depth"),                                      \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,                \
      ngx_conf_set_num_slot,                                                  \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.verify_depth),                                    \
      NULL },                                                                 \
                                                                              \
    { ngx_string(prefix "trusted_certificate"),                               \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,                \
      ngx_conf_set_str_slot,                                                  \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.trusted_certificate),                             \
      &ngx_smtp_relay_peer_ssl_trusted_post },                                \
                                                                              \
    { ngx_string(prefix "crl"),                                               \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,                \
      ngx_conf_set_str_slot,                                                  \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.crl),                                             \
      &ngx_smtp_relay_peer_ssl_crl_post },                                    \
                                                                              \
    { ngx_string(prefix "name"),                                              \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,                \
      ngx_stream_set_complex_value_slot,                                      \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.name),                                            \
      NULL },                                                                 \
                                                                              \
    { ngx_string(prefix "server_name"),                                       \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,                 \
      ngx_conf_set_flag_slot,                                                 \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.server_name),                                     \
      NULL },                                                                 \
                                                                              \
    { ngx_string(prefix "protocols"),                                         \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_1MORE,                \
      ngx_smtp_relay_conf_bitmask,                                            \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.protocols),                                       \
      &ngx_smtp_relay_peer_ssl_protocols },                                   \
                                                                              \
    { ngx_string(prefix "ciphers"),                                           \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,                \
      ngx_conf_set_str_slot,                                                  \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.ciphers),                                         \
      &ngx_smtp_relay_peer_ssl_ciphers_post },                                \
                                                                              \
    { ngx_string(prefix "session_reuse"),                                     \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,                 \
      ngx_conf_set_flag_slot,                                                 \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.session_reuse),                                   \
      NULL },                                                                 \
                                                                              \
    { ngx_string(prefix "certificate"),                                       \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,                \
      ngx_smtp_relay_peer_ssl_certificate,                                    \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member),                                                 \
      NULL },                                                                 \
                                                                              \
    { ngx_string(prefix "certificate_key"),                                   \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,                \
      ngx_stream_set_complex_value_zero_slot,                                 \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.certificate_key),                                 \
      NULL },                                                                 \
                                                                              \
    { ngx_string(prefix "password_file"),                                     \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,                \
      ngx_smtp_relay_peer_ssl_password_file,                                  \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member),                                                 \
      NULL },                                                                 \
                                                                              \
    { ngx_string(prefix "conf_command"),                                      \
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE2,                \
      ngx_conf_set_keyval_slot,                                               \
      NGX_STREAM_SRV_CONF_OFFSET,                                             \
      offsetof(type, member.conf_commands),                                   \
      &ngx_smtp_relay_peer_ssl_command_post }


/* for that table only */

char *ngx_smtp_relay_peer_ssl_certificate(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_smtp_relay_peer_ssl_password_file(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);


extern ngx_conf_bitmask_t  ngx_smtp_relay_peer_ssl_protocols[];
extern ngx_conf_post_t     ngx_smtp_relay_peer_ssl_trusted_post;
extern ngx_conf_post_t     ngx_smtp_relay_peer_ssl_crl_post;
extern ngx_conf_post_t     ngx_smtp_relay_peer_ssl_ciphers_post;
extern ngx_conf_post_t     ngx_smtp_relay_peer_ssl_command_post;


#endif /* _NGX_SMTP_RELAY_PEER_SSL_H_INCLUDED_ */
