
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include "ngx_smtp_relay_auth_cache_key.h"


#define NGX_SMTP_RELAY_CACHE_NONCE_LEN  12
#define NGX_SMTP_RELAY_CACHE_TAG_LEN    16

/* octets that are hashed in one go */

#define NGX_SMTP_RELAY_CACHE_HASH_BUF   512


static void ngx_smtp_relay_cache_forget(void);


/*
 * Both are made once and used again and again: with OpenSSL 3 it takes
 * longer to look up an algorithm than to use it.  The first holds the key.
 */

static HMAC_CTX        *ngx_smtp_relay_cache_hmac;
static EVP_CIPHER_CTX  *ngx_smtp_relay_cache_cipher;


ngx_int_t
ngx_smtp_relay_cache_key_init(ngx_log_t *log)
{
    int              rc;
    u_char           key[NGX_SMTP_RELAY_CACHE_HASH_LEN];
    HMAC_CTX        *hmac;
    EVP_CIPHER_CTX  *cipher;

    if (ngx_smtp_relay_cache_hmac) {
        return NGX_OK;
    }

    hmac = HMAC_CTX_new();
    cipher = EVP_CIPHER_CTX_new();

    rc = hmac && cipher
         && RAND_bytes(key, NGX_SMTP_RELAY_CACHE_HASH_LEN) == 1
         && HMAC_Init_ex(hmac, key, NGX_SMTP_RELAY_CACHE_HASH_LEN,
                         EVP_sha256(), NULL)
         && EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, NULL, NULL, 1);

    ngx_explicit_memzero(key, NGX_SMTP_RELAY_CACHE_HASH_LEN);

    if (!rc) {
        ngx_ssl_error(NGX_LOG_EMERG, log, 0,
                      "key of the auth cache could not be made");

        HMAC_CTX_free(hmac);
        EVP_CIPHER_CTX_free(cipher);

        return NGX_ERROR;
    }

    ngx_smtp_relay_cache_hmac = hmac;
    ngx_smtp_relay_cache_cipher = cipher;

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_cache_hash(ngx_str_t *parts, ngx_uint_t n, u_char *hash)
{
    int          rc;
    u_char      *p, *last, buf[NGX_SMTP_RELAY_CACHE_HASH_BUF];
    HMAC_CTX    *hmac;
    ngx_uint_t   i;

    hmac = ngx_smtp_relay_cache_hmac;
    last = buf + NGX_SMTP_RELAY_CACHE_HASH_BUF;
    p = buf;

    /* without a key: the same one once more */

    rc = HMAC_Init_ex(hmac, NULL, 0, NULL, NULL);

    /* few updates of more octets cost less than many */

    for (i = 0; i < n && rc; i++) {

        if ((size_t) (last - p) < sizeof(size_t) + parts[i].len) {
            rc = HMAC_Update(hmac, buf, p - buf);
            p = buf;
        }

        p = ngx_cpymem(p, &parts[i].len, sizeof(size_t));

        if ((size_t) (last - p) < parts[i].len) {
            rc = rc && HMAC_Update(hmac, buf, p - buf)
                    && HMAC_Update(hmac, parts[i].data, parts[i].len);
            p = buf;
            continue;
        }

        p = ngx_cpymem(p, parts[i].data, parts[i].len);
    }

    rc = rc && HMAC_Update(hmac, buf, p - buf)
            && HMAC_Final(hmac, hash, NULL);

    ngx_explicit_memzero(buf, NGX_SMTP_RELAY_CACHE_HASH_BUF);

    return rc ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_smtp_relay_cache_seal(u_char *key, ngx_str_t *text, u_char *sealed)
{
    int              rc, len;
    u_char          *p;
    EVP_CIPHER_CTX  *ctx;

    ctx = ngx_smtp_relay_cache_cipher;
    p = sealed + NGX_SMTP_RELAY_CACHE_NONCE_LEN;

    rc = RAND_bytes(sealed, NGX_SMTP_RELAY_CACHE_NONCE_LEN) == 1
         && EVP_CipherInit_ex(ctx, NULL, NULL, key, sealed, 1)
         && EVP_CipherUpdate(ctx, p, &len, text->data, (int) text->len)
         && EVP_CipherFinal_ex(ctx, p + len, &len)
         && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG,
                                NGX_SMTP_RELAY_CACHE_TAG_LEN, p + text->len);

    ngx_smtp_relay_cache_forget();

    return rc ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_smtp_relay_cache_open(u_char *key, ngx_str_t *sealed, u_char *text)
{
    int              rc, len, n;
    u_char          *p;
    EVP_CIPHER_CTX  *ctx;

    if (sealed->len < NGX_SMTP_RELAY_CACHE_SEAL_LEN) {
        return NGX_ERROR;
    }

    ctx = ngx_smtp_relay_cache_cipher;
    p = sealed->data + NGX_SMTP_RELAY_CACHE_NONCE_LEN;
    n = (int) (sealed->len - NGX_SMTP_RELAY_CACHE_SEAL_LEN);

    rc = EVP_CipherInit_ex(ctx, NULL, NULL, key, sealed->data, 0)
         && EVP_CipherUpdate(ctx, text, &len, p, n)
         && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG,
                                NGX_SMTP_RELAY_CACHE_TAG_LEN, p + n)
         && EVP_CipherFinal_ex(ctx, text + len, &len) > 0;

    ngx_smtp_relay_cache_forget();

    if (!rc) {
        ngx_explicit_memzero(text, n);
        ERR_clear_error();
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* the schedule of a key stays in a context until the next one is set */

static void
ngx_smtp_relay_cache_forget(void)
{
    static u_char  zeros[NGX_SMTP_RELAY_CACHE_HASH_LEN];

    (void) EVP_CipherInit_ex(ngx_smtp_relay_cache_cipher, NULL, NULL, zeros,
                             zeros, 1);
}
