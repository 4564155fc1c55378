
/*
 * SASL messages: what decodes is what encodes to the same text, and the
 * parts of PLAIN put together are the message.
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

        fuzz_plain(&decoded);

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
    fuzz_plain(&input);

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
