
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

/* digits of an HMAC-MD5 in hex */

#define NGX_SMTP_RELAY_CRAM_DIGEST  32


typedef struct {
    ngx_uint_t                    method;   /* one NGX_SMTP_RELAY_AUTH_… */
    ngx_str_t                     authzid;  /* empty: none given */
    ngx_str_t                     user;
    ngx_str_t                     secret;   /* a token with OAuth, a digest
                                             * in hex with CRAM-MD5 */
    ngx_str_t                     challenge;    /* that of CRAM-MD5 */
} ngx_smtp_relay_credentials_t;


/*
 * Returns the mechanism's NGX_SMTP_RELAY_AUTH_… bit, 0: unknown.  Without
 * regard to case.
 */
ngx_uint_t ngx_smtp_relay_sasl_method(ngx_str_t *name);

/*
 * Returns the name of a method, a static string in lower case, as it is
 * told to the auth service and in logs: "plain", ..., "none".
 */
ngx_str_t *ngx_smtp_relay_sasl_name(ngx_uint_t method);

/*
 * Writes the mechanisms of a mask of methods, " PLAIN LOGIN", at p and
 * returns the end.  At most NGX_SMTP_RELAY_SASL_LIST octets.
 */
#define NGX_SMTP_RELAY_SASL_LIST  64

u_char *ngx_smtp_relay_sasl_list(ngx_uint_t methods, u_char *p);

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
 * Splits a decoded answer to CRAM-MD5 (RFC 2195, 2.): user SP digest.  The
 * digest, cr->secret, is 32 hex digits; a user may have blanks.  Points
 * into msg; cr->challenge is left as it is.  NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_smtp_relay_sasl_cram_md5(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr);

/*
 * Checks a digest in hex against the secret it is said to be made with
 * (RFC 2104, 2.), in a time that does not depend on where they differ.
 * NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_smtp_relay_sasl_cram_md5_verify(ngx_str_t *challenge,
    ngx_str_t *secret, ngx_str_t *digest);

/*
 * Splits a decoded XOAUTH2 message: "user=" user ^A "auth=Bearer " token
 * ^A ^A.  Points into msg.  NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_smtp_relay_sasl_xoauth2(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr);

/*
 * Splits a decoded OAUTHBEARER message (RFC 7628, 3.1.): GS2 header ^A
 * pairs ^A.  The identity of the header is the user, who may be left for
 * the token to tell: then cr->user is empty.  Channel binding is not
 * offered and refused.  Points into msg, where escapes of the identity are
 * undone in place.  NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_smtp_relay_sasl_oauthbearer(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr);

/*
 * Takes a decoded EXTERNAL message (RFC 4422, A.): an identity, which is
 * user as well as authzid, or nothing.  NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_smtp_relay_sasl_external(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr);

/*
 * Check a decoded user name and secret, of LOGIN say, for the same rules.
 * A secret is any octets but NUL, CR, LF.  NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_smtp_relay_sasl_check_user(ngx_str_t *user);
ngx_int_t ngx_smtp_relay_sasl_check_secret(ngx_str_t *secret);


#endif /* _NGX_SMTP_RELAY_SASL_H_INCLUDED_ */
