
/* TLS towards nodes: from connecting, or by STARTTLS (RFC 3207). */


#ifndef _NGX_SMTP_RELAY_NODE_SSL_H_INCLUDED_
#define _NGX_SMTP_RELAY_NODE_SSL_H_INCLUDED_


#include "ngx_smtp_relay.h"


#define NGX_SMTP_RELAY_NODE_SSL_OFF       0
#define NGX_SMTP_RELAY_NODE_SSL_ON        1
#define NGX_SMTP_RELAY_NODE_SSL_STARTTLS  2


typedef struct {
    ngx_uint_t                      mode;
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
} ngx_smtp_relay_node_ssl_conf_t;


/* the certificate or its key differ between messages */

#define ngx_smtp_relay_node_ssl_dynamic(sscf)                                 \
    ((sscf)->certificate && (sscf)->certificate->value.len                    \
     && ((sscf)->certificate->lengths || (sscf)->certificate_key->lengths))


/* Makes all values unset; conf is zeroed. */
void ngx_smtp_relay_node_ssl_create(ngx_smtp_relay_node_ssl_conf_t *conf);

/*
 * Merges the values and, if used, makes the SSL_CTX.  Servers that set
 * nothing of their own share one.  NGX_OK or NGX_ERROR, which is logged.
 */
ngx_int_t ngx_smtp_relay_node_ssl_merge(ngx_conf_t *cf,
    ngx_smtp_relay_node_ssl_conf_t *prev, ngx_smtp_relay_node_ssl_conf_t *conf,
    ngx_uint_t used);

/*
 * Starts TLS on a connection that a transaction waits for, and goes on with
 * ngx_smtp_relay_node_hello_start() or, on any failure, with
 * ngx_smtp_relay_node_lost(): the node may be gone on return.
 */
void ngx_smtp_relay_node_ssl_start(ngx_smtp_relay_node_t *node);


#endif /* _NGX_SMTP_RELAY_NODE_SSL_H_INCLUDED_ */
