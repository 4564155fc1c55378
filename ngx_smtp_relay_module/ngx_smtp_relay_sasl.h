
/*
 * SASL messages as SMTP AUTH carries them (RFC 4954): decoding, no I/O.
 */


#ifndef _NGX_SMTP_RELAY_SASL_H_INCLUDED_
#define _NGX_SMTP_RELAY_SASL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"


/* longest user name, identity and secret, octets */

#define NGX_SMTP_RELAY_MAX_USER     255
#define NGX_SMTP_RELAY_MAX_SECRET   8192


typedef struct {
    ngx_uint_t                    method;   /* one NGX_SMTP_RELAY_AUTH_… */
    ngx_str_t                     authzid;  /* empty: none given */
    ngx_str_t                     user;
    ngx_str_t                     secret;   /* a token, with OAuth */
} ngx_smtp_relay_credentials_t;


/*
 * Returns the mechanism's NGX_SMTP_RELAY_AUTH_… bit, 0: unknown.  Without
 * regard to case.
 */
ngx_uint_t ngx_smtp_relay_sasl_method(ngx_str_t *name);

/*
 * Decodes base64 strictly (RFC 4648, 4.: canonical alphabet, padding as it
 * must be, nothing behind it) into memory of pool.  Empty text gives an
 * empty string, as does "=" (RFC 4954, 4.: an empty initial response).
 * NGX_OK, NGX_DECLINED (no base64), NGX_ERROR (no memory).
 */
ngx_int_t ngx_smtp_relay_sasl_decode(ngx_pool_t *pool, ngx_str_t *b64,
    ngx_str_t *dst);

/*
 * Splits a decoded PLAIN message (RFC 4616): [authzid] NUL authcid NUL
 * passwd.  Points into msg.  User and secret must not be empty, user and
 * identity carry no NUL, control character or invalid UTF-8 and keep their
 * length.  NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_smtp_relay_sasl_plain(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr);

/*
 * Check a decoded user name and secret, of LOGIN say, for the same rules.
 * A secret is any octets but NUL, CR, LF.  NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_smtp_relay_sasl_check_user(ngx_str_t *user);
ngx_int_t ngx_smtp_relay_sasl_check_secret(ngx_str_t *secret);


#endif /* _NGX_SMTP_RELAY_SASL_H_INCLUDED_ */
