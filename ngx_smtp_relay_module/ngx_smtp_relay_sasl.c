
/*
 * SASL messages: base64, the messages of each mechanism, and what user names
 * and secrets may be.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_md5.h>
#include "ngx_smtp_relay_parse.h"
#include "ngx_smtp_relay_sasl.h"


#define NGX_SMTP_RELAY_MD5_LEN    16
#define NGX_SMTP_RELAY_MD5_BLOCK  64

/* what separates the parts of an OAuth message, ^A (RFC 7628, 3.1.) */

#define NGX_SMTP_RELAY_KVSEP      0x01


typedef struct {
    ngx_str_t               name;
    ngx_str_t               lower;
    ngx_uint_t              method;
} ngx_smtp_relay_mechanism_t;


static ngx_int_t ngx_smtp_relay_check_base64(ngx_str_t *b64);
static ngx_int_t ngx_smtp_relay_base64_value(u_char ch);
static void ngx_smtp_relay_hmac_md5(ngx_str_t *key, ngx_str_t *text,
    u_char *digest);
static ngx_int_t ngx_smtp_relay_oauth_gs2(u_char **pos, u_char *last,
    ngx_str_t *user);
static ngx_int_t ngx_smtp_relay_oauth_saslname(ngx_str_t *name);
static ngx_int_t ngx_smtp_relay_oauth_pairs(u_char *p, u_char *last,
    ngx_smtp_relay_credentials_t *cr);
static ngx_int_t ngx_smtp_relay_oauth_pair(ngx_str_t *key, ngx_str_t *value,
    ngx_smtp_relay_credentials_t *cr);
static ngx_int_t ngx_smtp_relay_oauth_token(ngx_str_t *value,
    ngx_str_t *token);


/* in the order in which they are offered */

static ngx_smtp_relay_mechanism_t  ngx_smtp_relay_mechanisms[] = {

    { ngx_string("PLAIN"), ngx_string("plain"),
      NGX_SMTP_RELAY_AUTH_PLAIN },

    { ngx_string("LOGIN"), ngx_string("login"),
      NGX_SMTP_RELAY_AUTH_LOGIN },

    { ngx_string("CRAM-MD5"), ngx_string("cram-md5"),
      NGX_SMTP_RELAY_AUTH_CRAM_MD5 },

    { ngx_string("XOAUTH2"), ngx_string("xoauth2"),
      NGX_SMTP_RELAY_AUTH_XOAUTH2 },

    { ngx_string("OAUTHBEARER"), ngx_string("oauthbearer"),
      NGX_SMTP_RELAY_AUTH_OAUTHBEARER },

    { ngx_string("EXTERNAL"), ngx_string("external"),
      NGX_SMTP_RELAY_AUTH_EXTERNAL },

    { ngx_null_string, ngx_string("none"), 0 }
};


ngx_str_t *
ngx_smtp_relay_sasl_name(ngx_uint_t method)
{
    ngx_smtp_relay_mechanism_t  *m;

    for (m = ngx_smtp_relay_mechanisms; m->name.len; m++) {
        if (m->method == method) {
            break;
        }
    }

    return &m->lower;
}


u_char *
ngx_smtp_relay_sasl_list(ngx_uint_t methods, u_char *p)
{
    ngx_smtp_relay_mechanism_t  *m;

    for (m = ngx_smtp_relay_mechanisms; m->name.len; m++) {
        if (m->method & methods) {
            *p++ = ' ';
            p = ngx_cpymem(p, m->name.data, m->name.len);
        }
    }

    return p;
}


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

    cr->method = NGX_SMTP_RELAY_AUTH_PLAIN;
    cr->authzid = found.authzid;
    cr->user = found.user;
    cr->secret = found.secret;

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_sasl_cram_md5(ngx_str_t *msg, ngx_smtp_relay_credentials_t *cr)
{
    u_char     *p, *last;
    ngx_str_t   user, digest;

    if (msg->len <= NGX_SMTP_RELAY_CRAM_DIGEST + 1) {
        return NGX_DECLINED;
    }

    last = msg->data + msg->len;

    digest.len = NGX_SMTP_RELAY_CRAM_DIGEST;
    digest.data = last - digest.len;

    for (p = digest.data; p < last; p++) {
        if ((*p < '0' || *p > '9') && ((*p | 0x20) < 'a' || (*p | 0x20) > 'f'))
        {
            return NGX_DECLINED;
        }
    }

    user.data = msg->data;
    user.len = digest.data - 1 - user.data;

    if (user.data[user.len] != ' '
        || ngx_smtp_relay_sasl_check_user(&user) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    cr->method = NGX_SMTP_RELAY_AUTH_CRAM_MD5;
    cr->user = user;
    cr->secret = digest;

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_sasl_cram_md5_verify(ngx_str_t *challenge, ngx_str_t *secret,
    ngx_str_t *digest)
{
    u_char      hash[NGX_SMTP_RELAY_MD5_LEN];
    u_char      hex[NGX_SMTP_RELAY_CRAM_DIGEST];
    ngx_uint_t  i, differ;

    if (digest->len != NGX_SMTP_RELAY_CRAM_DIGEST) {
        return NGX_DECLINED;
    }

    ngx_smtp_relay_hmac_md5(secret, challenge, hash);
    ngx_hex_dump(hex, hash, NGX_SMTP_RELAY_MD5_LEN);

    differ = 0;

    for (i = 0; i < NGX_SMTP_RELAY_CRAM_DIGEST; i++) {
        differ |= hex[i] ^ ngx_tolower(digest->data[i]);
    }

    ngx_explicit_memzero(hash, sizeof(hash));
    ngx_explicit_memzero(hex, sizeof(hex));

    return differ ? NGX_DECLINED : NGX_OK;
}


/*
 * Of nginx's own MD5: that of a library may be disabled by its policy, which
 * is no reason to take a right digest for a wrong one.
 */

static void
ngx_smtp_relay_hmac_md5(ngx_str_t *key, ngx_str_t *text, u_char *digest)
{
    ngx_md5_t   md5;
    ngx_uint_t  i;
    u_char      pad[NGX_SMTP_RELAY_MD5_BLOCK];

    ngx_memzero(pad, sizeof(pad));

    if (key->len > sizeof(pad)) {
        ngx_md5_init(&md5);
        ngx_md5_update(&md5, key->data, key->len);
        ngx_md5_final(pad, &md5);

    } else {
        ngx_memcpy(pad, key->data, key->len);
    }

    for (i = 0; i < sizeof(pad); i++) {
        pad[i] ^= 0x36;
    }

    ngx_md5_init(&md5);
    ngx_md5_update(&md5, pad, sizeof(pad));
    ngx_md5_update(&md5, text->data, text->len);
    ngx_md5_final(digest, &md5);

    /* from the inner pad to the outer one */

    for (i = 0; i < sizeof(pad); i++) {
        pad[i] ^= 0x36 ^ 0x5c;
    }

    ngx_md5_init(&md5);
    ngx_md5_update(&md5, pad, sizeof(pad));
    ngx_md5_update(&md5, digest, NGX_SMTP_RELAY_MD5_LEN);
    ngx_md5_final(digest, &md5);

    ngx_explicit_memzero(pad, sizeof(pad));
    ngx_explicit_memzero(&md5, sizeof(md5));
}


ngx_int_t
ngx_smtp_relay_sasl_xoauth2(ngx_str_t *msg, ngx_smtp_relay_credentials_t *cr)
{
    ngx_smtp_relay_credentials_t  found;

    ngx_memzero(&found, sizeof(ngx_smtp_relay_credentials_t));

    found.method = NGX_SMTP_RELAY_AUTH_XOAUTH2;

    if (ngx_smtp_relay_oauth_pairs(msg->data, msg->data + msg->len, &found)
        != NGX_OK
        || found.user.len == 0)
    {
        return NGX_DECLINED;
    }

    *cr = found;

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_sasl_oauthbearer(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr)
{
    u_char                        *p, *last;
    ngx_smtp_relay_credentials_t   found;

    ngx_memzero(&found, sizeof(ngx_smtp_relay_credentials_t));

    found.method = NGX_SMTP_RELAY_AUTH_OAUTHBEARER;

    p = msg->data;
    last = msg->data + msg->len;

    if (ngx_smtp_relay_oauth_gs2(&p, last, &found.user) != NGX_OK
        || ngx_smtp_relay_oauth_pairs(p, last, &found) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    *cr = found;

    return NGX_OK;
}


/* RFC 5801, 4.: "n,a=user," and, here, the separator that follows it */

static ngx_int_t
ngx_smtp_relay_oauth_gs2(u_char **pos, u_char *last, ngx_str_t *user)
{
    u_char  *p, *comma;

    p = *pos;

    /* "y" says that the client could bind to a channel, but the relay not */

    if (last - p < 4 || (*p != 'n' && *p != 'y') || p[1] != ',') {
        return NGX_DECLINED;
    }

    p += 2;

    if (*p != ',') {

        if (p[0] != 'a' || p[1] != '=') {
            return NGX_DECLINED;
        }

        p += 2;

        comma = ngx_strlchr(p, last, ',');
        if (comma == NULL) {
            return NGX_DECLINED;
        }

        user->data = p;
        user->len = comma - p;

        if (ngx_smtp_relay_oauth_saslname(user) != NGX_OK) {
            return NGX_DECLINED;
        }

        p = comma;
    }

    p++;

    if (p == last || *p != NGX_SMTP_RELAY_KVSEP) {
        return NGX_DECLINED;
    }

    *pos = p + 1;

    return NGX_OK;
}


/* RFC 5801, 4.: "=2C" is a comma and "=3D" an equals sign */

static ngx_int_t
ngx_smtp_relay_oauth_saslname(ngx_str_t *name)
{
    u_char  *p, *last, *dst;

    last = name->data + name->len;
    dst = name->data;

    for (p = name->data; p < last; p++) {

        if (*p != '=') {
            *dst++ = *p;
            continue;
        }

        if (last - p < 3) {
            return NGX_DECLINED;
        }

        if (p[1] == '2' && p[2] == 'C') {
            *dst++ = ',';

        } else if (p[1] == '3' && p[2] == 'D') {
            *dst++ = '=';

        } else {
            return NGX_DECLINED;
        }

        p += 2;
    }

    name->len = dst - name->data;

    return ngx_smtp_relay_sasl_check_user(name);
}


/* RFC 7628, 3.1.: *( key "=" value ^A ) ^A, and nothing behind it */

static ngx_int_t
ngx_smtp_relay_oauth_pairs(u_char *p, u_char *last,
    ngx_smtp_relay_credentials_t *cr)
{
    u_char     *sep;
    ngx_str_t   key, value;

    while (p < last && *p != NGX_SMTP_RELAY_KVSEP) {

        key.data = p;

        while (p < last && (*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') {
            p++;
        }

        key.len = p - key.data;

        if (key.len == 0 || p == last || *p != '=') {
            return NGX_DECLINED;
        }

        value.data = ++p;

        sep = ngx_strlchr(p, last, NGX_SMTP_RELAY_KVSEP);
        if (sep == NULL) {
            return NGX_DECLINED;
        }

        value.len = sep - value.data;

        if (ngx_smtp_relay_oauth_pair(&key, &value, cr) != NGX_OK) {
            return NGX_DECLINED;
        }

        p = sep + 1;
    }

    return (last - p == 1 && cr->secret.len) ? NGX_OK : NGX_DECLINED;
}


/* keys that are not known say nothing (RFC 7628, 3.1.) */

static ngx_int_t
ngx_smtp_relay_oauth_pair(ngx_str_t *key, ngx_str_t *value,
    ngx_smtp_relay_credentials_t *cr)
{
    if (key->len != 4) {
        return NGX_OK;
    }

    if (ngx_strncmp(key->data, "auth", 4) == 0) {

        if (cr->secret.len) {
            return NGX_DECLINED;
        }

        return ngx_smtp_relay_oauth_token(value, &cr->secret);
    }

    if (cr->method == NGX_SMTP_RELAY_AUTH_XOAUTH2
        && ngx_strncmp(key->data, "user", 4) == 0)
    {
        if (cr->user.len) {
            return NGX_DECLINED;
        }

        cr->user = *value;

        return ngx_smtp_relay_sasl_check_user(value);
    }

    return NGX_OK;
}


/* "Bearer" and a token (RFC 6750, 2.1.), of whatever visible characters */

static ngx_int_t
ngx_smtp_relay_oauth_token(ngx_str_t *value, ngx_str_t *token)
{
    u_char  *p, *last;

    p = value->data;
    last = value->data + value->len;

    if (value->len < 7 || ngx_strncasecmp(p, (u_char *) "Bearer ", 7) != 0) {
        return NGX_DECLINED;
    }

    p += 7;

    while (p < last && *p == ' ') {
        p++;
    }

    token->data = p;
    token->len = last - p;

    for ( /* void */ ; p < last; p++) {
        if (*p <= 0x20 || *p >= 0x7f) {
            return NGX_DECLINED;
        }
    }

    return ngx_smtp_relay_sasl_check_secret(token);
}


ngx_int_t
ngx_smtp_relay_sasl_external(ngx_str_t *msg, ngx_smtp_relay_credentials_t *cr)
{
    if (msg->len && ngx_smtp_relay_sasl_check_user(msg) != NGX_OK) {
        return NGX_DECLINED;
    }

    ngx_memzero(cr, sizeof(ngx_smtp_relay_credentials_t));

    cr->method = NGX_SMTP_RELAY_AUTH_EXTERNAL;

    if (msg->len) {
        cr->user = *msg;
        cr->authzid = *msg;
    }

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
