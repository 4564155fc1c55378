
/*
 * SASL messages: what decodes is what encodes to the same text, and the
 * parts of a message put together are the message.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_sasl.h"
#include "fuzz.h"


static void
fuzz_plain(ngx_str_t *msg)
{
    u_char                        *first, *second;
    ngx_int_t                      rc;
    ngx_smtp_relay_credentials_t   cr;

    memset(&cr, 0xa5, sizeof(ngx_smtp_relay_credentials_t));

    rc = ngx_smtp_relay_sasl_plain(msg, &cr);

    if (rc != NGX_OK) {
        fuzz_check(rc == NGX_DECLINED);
        fuzz_check(cr.user.len == 0 && cr.secret.len == 0
                   && cr.authzid.len == 0 && cr.method == 0);
        return;
    }

    first = memchr(msg->data, '\0', msg->len);
    fuzz_check(first != NULL);

    second = memchr(first + 1, '\0', msg->data + msg->len - first - 1);
    fuzz_check(second != NULL);

    fuzz_check(cr.method == NGX_SMTP_RELAY_AUTH_PLAIN);

    fuzz_check(cr.authzid.data == msg->data);
    fuzz_check(cr.authzid.data + cr.authzid.len == first);
    fuzz_check(cr.user.data == first + 1);
    fuzz_check(cr.user.data + cr.user.len == second);
    fuzz_check(cr.secret.data == second + 1);
    fuzz_check(cr.secret.data + cr.secret.len == msg->data + msg->len);

    fuzz_check(cr.user.len && cr.user.len <= NGX_SMTP_RELAY_MAX_USER);
    fuzz_check(cr.authzid.len <= NGX_SMTP_RELAY_MAX_USER);
    fuzz_check(cr.secret.len && cr.secret.len <= NGX_SMTP_RELAY_MAX_SECRET);

    fuzz_check(!fuzz_has_control(&cr.user));
    fuzz_check(!fuzz_has_control(&cr.authzid));
    fuzz_check(memchr(cr.secret.data, '\0', cr.secret.len) == NULL);
    fuzz_check(memchr(cr.secret.data, '\r', cr.secret.len) == NULL);
    fuzz_check(memchr(cr.secret.data, '\n', cr.secret.len) == NULL);

    fuzz_check(ngx_smtp_relay_sasl_check_user(&cr.user) == NGX_OK);
    fuzz_check(ngx_smtp_relay_sasl_check_secret(&cr.secret) == NGX_OK);
}


typedef ngx_int_t (*fuzz_decode_pt)(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr);


/* what a mechanism makes of a copy of a message, and what always holds */

static ngx_int_t
fuzz_split(fuzz_decode_pt decode, ngx_uint_t method, ngx_str_t *msg,
    ngx_str_t *copy, ngx_smtp_relay_credentials_t *cr)
{
    ngx_int_t  rc;

    copy->len = msg->len;
    copy->data = fuzz_copy(msg->data, msg->len);

    memset(cr, 0, sizeof(ngx_smtp_relay_credentials_t));

    rc = decode(copy, cr);

    if (rc != NGX_OK) {
        fuzz_check(rc == NGX_DECLINED);
        fuzz_check(cr->user.len == 0 && cr->secret.len == 0
                   && cr->authzid.len == 0 && cr->method == 0);
        return rc;
    }

    fuzz_check(cr->method == method);
    fuzz_check(cr->user.len <= NGX_SMTP_RELAY_MAX_USER);
    fuzz_check(cr->authzid.len <= NGX_SMTP_RELAY_MAX_USER);
    fuzz_check(cr->secret.len <= NGX_SMTP_RELAY_MAX_SECRET);

    fuzz_check(!fuzz_has_control(&cr->user));
    fuzz_check(!fuzz_has_control(&cr->authzid));
    fuzz_check(!fuzz_has_control(&cr->secret));

    return NGX_OK;
}


static void
fuzz_cram_md5(ngx_str_t *msg)
{
    fuzz_text_t                   *text;
    ngx_str_t                      copy;
    ngx_smtp_relay_credentials_t   cr;

    if (fuzz_split(ngx_smtp_relay_sasl_cram_md5, NGX_SMTP_RELAY_AUTH_CRAM_MD5,
                   msg, &copy, &cr)
        == NGX_OK)
    {
        fuzz_check(cr.secret.len == NGX_SMTP_RELAY_CRAM_DIGEST);
        fuzz_check(cr.user.len);

        text = calloc(1, sizeof(fuzz_text_t));
        fuzz_check(text != NULL);

        fuzz_add(text, cr.user.data, cr.user.len);
        fuzz_add_text(text, " ");
        fuzz_add(text, cr.secret.data, cr.secret.len);

        fuzz_check(text->len == msg->len
                   && memcmp(text->data, msg->data, msg->len) == 0);

        free(text);

        /* whatever the secret is: it is not found by chance */

        fuzz_check(ngx_smtp_relay_sasl_cram_md5_verify(&cr.user, &copy,
                                                       &cr.secret)
                   == NGX_DECLINED);
    }

    free(copy.data);
}


/*
 * The message that the parts make is not the one that came, which may have
 * more keys, but it must split into the same parts.
 */

static void
fuzz_oauth(ngx_str_t *msg, ngx_uint_t bearer)
{
    size_t                         i;
    fuzz_text_t                   *text;
    ngx_str_t                      copy, again, made;
    ngx_smtp_relay_credentials_t   cr, same;

    if (fuzz_split(bearer ? ngx_smtp_relay_sasl_oauthbearer
                          : ngx_smtp_relay_sasl_xoauth2,
                   bearer ? NGX_SMTP_RELAY_AUTH_OAUTHBEARER
                          : NGX_SMTP_RELAY_AUTH_XOAUTH2,
                   msg, &copy, &cr)
        != NGX_OK)
    {
        free(copy.data);
        return;
    }

    fuzz_check(cr.authzid.len == 0);
    fuzz_check(cr.secret.len);
    fuzz_check(cr.user.len || bearer);
    fuzz_check(memchr(cr.secret.data, ' ', cr.secret.len) == NULL);

    text = calloc(1, sizeof(fuzz_text_t));
    fuzz_check(text != NULL);

    if (bearer) {
        fuzz_add_text(text, cr.user.len ? "n,a=" : "n,");

        for (i = 0; i < cr.user.len; i++) {
            switch (cr.user.data[i]) {

            case ',':
                fuzz_add_text(text, "=2C");
                break;

            case '=':
                fuzz_add_text(text, "=3D");
                break;

            default:
                fuzz_add(text, &cr.user.data[i], 1);
            }
        }

        fuzz_add_text(text, ",");

    } else {
        fuzz_add_text(text, "user=");
        fuzz_add(text, cr.user.data, cr.user.len);
    }

    fuzz_add_text(text, "\1auth=Bearer ");
    fuzz_add(text, cr.secret.data, cr.secret.len);
    fuzz_add_text(text, "\1\1");

    made.len = text->len;
    made.data = text->data;

    fuzz_check(fuzz_split(bearer ? ngx_smtp_relay_sasl_oauthbearer
                                 : ngx_smtp_relay_sasl_xoauth2,
                          cr.method, &made, &again, &same)
               == NGX_OK);

    fuzz_check(same.user.len == cr.user.len);
    fuzz_check(cr.user.len == 0
               || memcmp(same.user.data, cr.user.data, cr.user.len) == 0);
    fuzz_check(same.secret.len == cr.secret.len
               && memcmp(same.secret.data, cr.secret.data, cr.secret.len)
                  == 0);

    free(text);
    free(again.data);
    free(copy.data);
}


static void
fuzz_external(ngx_str_t *msg)
{
    ngx_int_t                      rc;
    ngx_str_t                      copy;
    ngx_smtp_relay_credentials_t   cr;

    rc = fuzz_split(ngx_smtp_relay_sasl_external,
                    NGX_SMTP_RELAY_AUTH_EXTERNAL, msg, &copy, &cr);

    fuzz_check((rc == NGX_OK)
               == (msg->len == 0
                   || ngx_smtp_relay_sasl_check_user(msg) == NGX_OK));

    if (rc == NGX_OK) {
        fuzz_check(cr.user.len == msg->len && cr.authzid.len == msg->len);
        fuzz_check(memcmp(copy.data, msg->data, msg->len) == 0);
    }

    free(copy.data);
}


static void
fuzz_message(ngx_str_t *msg)
{
    fuzz_plain(msg);
    fuzz_cram_md5(msg);
    fuzz_oauth(msg, 0);
    fuzz_oauth(msg, 1);
    fuzz_external(msg);
}


static void
fuzz_decode(ngx_pool_t *pool, ngx_str_t *b64)
{
    ngx_int_t   rc;
    ngx_str_t   decoded, plain, text;
    ngx_uint_t  right;

    /* right is what nginx decodes and then encodes to the same text */

    plain.data = malloc(ngx_base64_decoded_length(b64->len) + 1);
    text.data = malloc(ngx_base64_encoded_length(b64->len + 4));
    fuzz_check(plain.data && text.data);

    right = 0;

    if (ngx_decode_base64(&plain, b64) == NGX_OK) {
        ngx_encode_base64(&text, &plain);

        right = text.len == b64->len
                && memcmp(text.data, b64->data, b64->len) == 0;
    }

    rc = ngx_smtp_relay_sasl_decode(pool, b64, &decoded);

    if (b64->len == 0 || (b64->len == 1 && b64->data[0] == '=')) {
        fuzz_check(rc == NGX_OK && decoded.len == 0);

    } else if (right) {
        fuzz_check(rc == NGX_OK);
        fuzz_check(decoded.len == plain.len);
        fuzz_check(memcmp(decoded.data, plain.data, plain.len) == 0);

        fuzz_message(&decoded);

    } else {
        fuzz_check(rc == NGX_DECLINED);
    }

    free(plain.data);
    free(text.data);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_log_t    log;
    ngx_str_t    input, text;
    ngx_pool_t  *pool;

    ngx_memzero(&log, sizeof(ngx_log_t));

    pool = ngx_create_pool(1024, &log);
    fuzz_check(pool != NULL);

    input.len = size;
    input.data = fuzz_copy(data, size);

    fuzz_decode(pool, &input);
    fuzz_message(&input);

    (void) ngx_smtp_relay_sasl_method(&input);

    /* and text that is base64 */

    text.data = malloc(ngx_base64_encoded_length(size) + 1);
    fuzz_check(text.data != NULL);

    ngx_encode_base64(&text, &input);
    fuzz_decode(pool, &text);

    free(text.data);
    free(input.data);

    ngx_destroy_pool(pool);

    return 0;
}
