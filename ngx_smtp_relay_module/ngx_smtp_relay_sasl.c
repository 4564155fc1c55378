
/*
 * SASL messages: base64, PLAIN, and what user names and secrets may be.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "ngx_smtp_relay_sasl.h"


typedef struct {
    ngx_str_t               name;
    ngx_uint_t              method;
} ngx_smtp_relay_mechanism_t;


static ngx_int_t ngx_smtp_relay_base64_value(u_char ch);
static ngx_int_t ngx_smtp_relay_check_base64(ngx_str_t *b64);


static ngx_smtp_relay_mechanism_t  ngx_smtp_relay_mechanisms[] = {
    { ngx_string("PLAIN"),        NGX_SMTP_RELAY_AUTH_PLAIN },
    { ngx_string("LOGIN"),        NGX_SMTP_RELAY_AUTH_LOGIN },
    { ngx_string("CRAM-MD5"),     NGX_SMTP_RELAY_AUTH_CRAM_MD5 },
    { ngx_string("XOAUTH2"),      NGX_SMTP_RELAY_AUTH_XOAUTH2 },
    { ngx_string("OAUTHBEARER"),  NGX_SMTP_RELAY_AUTH_OAUTHBEARER },
    { ngx_string("EXTERNAL"),     NGX_SMTP_RELAY_AUTH_EXTERNAL },
    { ngx_null_string,            0 }
};


ngx_uint_t
ngx_smtp_relay_sasl_method(ngx_str_t *name)
{
    ngx_smtp_relay_mechanism_t  *m;

    for (m = ngx_smtp_relay_mechanisms; m->name.len; m++) {
        if (m->name.len == name->len
            && ngx_strncasecmp(m->name.data, name->data, name->len) == 0)
        {
            return m->method;
        }
    }

    return 0;
}


ngx_int_t
ngx_smtp_relay_sasl_decode(ngx_pool_t *pool, ngx_str_t *b64, ngx_str_t *dst)
{
    ngx_str_set(dst, "");

    if (b64->len == 0 || (b64->len == 1 && b64->data[0] == '=')) {
        return NGX_OK;
    }

    if (ngx_smtp_relay_check_base64(b64) != NGX_OK) {
        return NGX_DECLINED;
    }

    dst->data = ngx_pnalloc(pool, ngx_base64_decoded_length(b64->len));

    if (dst->data == NULL) {
        ngx_str_set(dst, "");
        return NGX_ERROR;
    }

    if (ngx_decode_base64(dst, b64) != NGX_OK) {
        ngx_str_set(dst, "");
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/*
 * ngx_decode_base64() stops at the first "=" and looks no further, hence a
 * check of its own.  Bits that the last digit has to spare must be zero, so
 * that there is one text only for each message.
 */

static ngx_int_t
ngx_smtp_relay_check_base64(ngx_str_t *b64)
{
    size_t     i, len;
    ngx_int_t  value;

    if (b64->len % 4) {
        return NGX_DECLINED;
    }

    len = b64->len;

    if (b64->data[len - 1] == '=') {
        len--;

        if (b64->data[len - 1] == '=') {
            len--;
        }
    }

    value = 0;

    for (i = 0; i < len; i++) {
        value = ngx_smtp_relay_base64_value(b64->data[i]);

        if (value == NGX_ERROR) {
            return NGX_DECLINED;
        }
    }

    if ((len % 4 == 2 && (value & 0x0f)) || (len % 4 == 3 && (value & 0x03))) {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_base64_value(u_char ch)
{
    if (ch >= 'A' && ch <= 'Z') {
        return ch - 'A';
    }

    if (ch >= 'a' && ch <= 'z') {
        return ch - 'a' + 26;
    }

    if (ch >= '0' && ch <= '9') {
        return ch - '0' + 52;
    }

    return (ch == '+') ? 62 : (ch == '/') ? 63 : NGX_ERROR;
}


ngx_int_t
ngx_smtp_relay_sasl_plain(ngx_str_t *msg, ngx_smtp_relay_credentials_t *cr)
{
    u_char                        *p, *last, *user, *secret;
    ngx_smtp_relay_credentials_t   found;

    ngx_memzero(cr, sizeof(ngx_smtp_relay_credentials_t));

    p = msg->data;
    last = p + msg->len;

    user = ngx_strlchr(p, last, '\0');

    if (user == NULL) {
        return NGX_DECLINED;
    }

    found.authzid.len = user - p;
    found.authzid.data = p;

    secret = ngx_strlchr(++user, last, '\0');

    if (secret == NULL) {
        return NGX_DECLINED;
    }

    found.user.len = secret - user;
    found.user.data = user;

    found.secret.len = last - ++secret;
    found.secret.data = secret;

    if ((found.authzid.len
         && ngx_smtp_relay_sasl_check_user(&found.authzid) != NGX_OK)
        || ngx_smtp_relay_sasl_check_user(&found.user) != NGX_OK
        || ngx_smtp_relay_sasl_check_secret(&found.secret) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    found.method = NGX_SMTP_RELAY_AUTH_PLAIN;

    *cr = found;

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_sasl_check_user(ngx_str_t *user)
{
    u_char  *p, *last;
    size_t   n;

    if (user->len == 0 || user->len > NGX_SMTP_RELAY_MAX_USER) {
        return NGX_DECLINED;
    }

    last = user->data + user->len;

    for (p = user->data; p < last; p += n) {
        n = ngx_smtp_relay_printable(p, last);

        if (n == 0) {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_sasl_check_secret(ngx_str_t *secret)
{
    u_char  *p, *last;

    if (secret->len == 0 || secret->len > NGX_SMTP_RELAY_MAX_SECRET) {
        return NGX_DECLINED;
    }

    last = secret->data + secret->len;

    for (p = secret->data; p < last; p++) {
        if (*p == '\0' || *p == CR || *p == LF) {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}
