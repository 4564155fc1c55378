
/*
 * SASL messages: mechanisms, base64, PLAIN, user names and secrets.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_sasl.h"
#include "unit.h"


typedef struct {
    ngx_str_t               input;
    ngx_str_t               expected;
} sasl_case_t;


static struct {
    ngx_str_t               name;
    ngx_uint_t              method;
} sasl_methods[] = {
    { unit_text("PLAIN"), NGX_SMTP_RELAY_AUTH_PLAIN },
    { unit_text("plain"), NGX_SMTP_RELAY_AUTH_PLAIN },
    { unit_text("Login"), NGX_SMTP_RELAY_AUTH_LOGIN },
    { unit_text("CRAM-MD5"), NGX_SMTP_RELAY_AUTH_CRAM_MD5 },
    { unit_text("XOAUTH2"), NGX_SMTP_RELAY_AUTH_XOAUTH2 },
    { unit_text("OAUTHBEARER"), NGX_SMTP_RELAY_AUTH_OAUTHBEARER },
    { unit_text("EXTERNAL"), NGX_SMTP_RELAY_AUTH_EXTERNAL },
    { unit_text(""), 0 },
    { unit_text("NONE"), 0 },
    { unit_text("PLAI"), 0 },
    { unit_text("PLAIN "), 0 },
    { unit_text("PLAIN2"), 0 },
    { unit_text("DIGEST-MD5"), 0 },
};


static sasl_case_t  sasl_base64_valid[] = {

    { unit_text(""), unit_text("") },
    { unit_text("="), unit_text("") },
    { unit_text("Zg=="), unit_text("f") },
    { unit_text("Zm8="), unit_text("fo") },
    { unit_text("Zm9v"), unit_text("foo") },
    { unit_text("Zm9vYmFy"), unit_text("foobar") },
    { unit_text("AGEAYg=="), unit_text("\0a\0b") },
    { unit_text("+/+/"), unit_text("\xfb\xff\xbf") },
};


static ngx_str_t  sasl_base64_invalid[] = {
    unit_text("Z"),
    unit_text("Zg"),
    unit_text("Zg="),
    unit_text("Zg==="),
    unit_text("Zm8"),
    unit_text("Zm8=="),
    unit_text("=="),
    unit_text("===="),
    unit_text("Z==="),
    unit_text("Z=g="),
    unit_text("Zg==Zg=="),
    unit_text("Zm9v="),
    unit_text("Zm9v\r\n"),
    unit_text(" Zm9v"),
    unit_text("Zm 9"),
    unit_text("Zm9\0"),
    unit_text("Zm9\xff"),
    unit_text("-_-_"),
    unit_text("*"),

    /* bits to spare that are not zero */

    unit_text("Zh=="),
    unit_text("Zm9="),
};


static sasl_case_t  sasl_plain[] = {

    { unit_text("\0user\0secret"), unit_text("[][user][secret]") },
    { unit_text("id\0user\0secret"), unit_text("[id][user][secret]") },
    { unit_text("\0a@b.example\0a b\t\xff"),
      unit_text("[][a@b.example][a b\t\xff]") },
    { unit_text("\0\xc3\xbc\0s"), unit_text("[][\xc3\xbc][s]") },

    { unit_text(""), unit_text("declined") },
    { unit_text("\0"), unit_text("declined") },
    { unit_text("\0\0"), unit_text("declined") },
    { unit_text("user"), unit_text("declined") },
    { unit_text("user\0secret"), unit_text("declined") },
    { unit_text("\0user"), unit_text("declined") },
    { unit_text("\0user\0"), unit_text("declined") },
    { unit_text("\0\0secret"), unit_text("declined") },
    { unit_text("id\0\0secret"), unit_text("declined") },
    { unit_text("\0user\0secret\0"), unit_text("declined") },
    { unit_text("\0user\0sec\0ret"), unit_text("declined") },
    { unit_text("\0user\0secret\r\n"), unit_text("declined") },
    { unit_text("\0us\rer\0secret"), unit_text("declined") },
    { unit_text("\0us\ter\0secret"), unit_text("declined") },
    { unit_text("\0us\xff" "er\0secret"), unit_text("declined") },
    { unit_text("\0us\xc2\x85" "er\0secret"), unit_text("declined") },
    { unit_text("i\nd\0user\0secret"), unit_text("declined") },
    { unit_text("\xff\0user\0secret"), unit_text("declined") },
};


static void
sasl_base64(ngx_pool_t *pool, ngx_str_t *text, ngx_str_t *expected)
{
    char        name[1280];
    ngx_int_t   rc;
    ngx_str_t   b64, out;

    b64.len = text->len;
    b64.data = unit_copy(text->data, text->len);

    sprintf(name, "base64 \"%s\"", unit_show(&b64));

    rc = ngx_smtp_relay_sasl_decode(pool, &b64, &out);

    if (expected) {
        unit_ok(rc == NGX_OK, "%s is right", name);
        unit_same(name, &out, expected);

    } else {
        unit_ok(rc == NGX_DECLINED && out.len == 0, "%s is refused", name);
    }

    free(b64.data);
}


static void
sasl_run_plain(sasl_case_t *c)
{
    char                           name[1280];
    ngx_str_t                      msg, out;
    ngx_smtp_relay_credentials_t   cr;

    msg.len = c->input.len;
    msg.data = unit_copy(c->input.data, c->input.len);

    unit_text_init(&out);
    memset(&cr, 0xa5, sizeof(ngx_smtp_relay_credentials_t));

    if (ngx_smtp_relay_sasl_plain(&msg, &cr) == NGX_OK) {
        unit_add(&out, "[%.*s][%.*s][%.*s]%s",
                 (int) cr.authzid.len, cr.authzid.data,
                 (int) cr.user.len, cr.user.data,
                 (int) cr.secret.len, cr.secret.data,
                 cr.method == NGX_SMTP_RELAY_AUTH_PLAIN ? "" : "method?");

    } else {
        unit_add(&out, "declined%s",
                 cr.user.len || cr.secret.len || cr.authzid.len || cr.method
                 ? ", but set" : "");
    }

    sprintf(name, "PLAIN \"%s\"", unit_show(&msg));
    unit_same(name, &out, &c->expected);

    free(msg.data);
    free(out.data);
}


static void
sasl_bounds(void)
{
    ngx_str_t  text;

    text.len = NGX_SMTP_RELAY_MAX_SECRET + 1;
    text.data = malloc(text.len);

    if (text.data == NULL) {
        printf("Bail out! no memory\n");
        exit(2);
    }

    memset(text.data, 'a', text.len);

    unit_ok(ngx_smtp_relay_sasl_check_secret(&text) == NGX_DECLINED,
            "a secret too long");

    text.len--;
    unit_ok(ngx_smtp_relay_sasl_check_secret(&text) == NGX_OK,
            "the longest secret");

    text.len = NGX_SMTP_RELAY_MAX_USER + 1;
    unit_ok(ngx_smtp_relay_sasl_check_user(&text) == NGX_DECLINED,
            "a user name too long");

    text.len--;
    unit_ok(ngx_smtp_relay_sasl_check_user(&text) == NGX_OK,
            "the longest user name");

    text.len = 0;
    unit_ok(ngx_smtp_relay_sasl_check_user(&text) == NGX_DECLINED,
            "an empty user name");
    unit_ok(ngx_smtp_relay_sasl_check_secret(&text) == NGX_DECLINED,
            "an empty secret");

    text.len = 3;
    text.data[1] = '\0';
    unit_ok(ngx_smtp_relay_sasl_check_secret(&text) == NGX_DECLINED,
            "a NUL in a secret");

    free(text.data);
}


int
main(void)
{
    ngx_log_t    log;
    ngx_pool_t  *pool;
    ngx_uint_t   i;

    ngx_memzero(&log, sizeof(ngx_log_t));

    pool = ngx_create_pool(4096, &log);

    if (pool == NULL) {
        printf("Bail out! no memory\n");
        return 2;
    }

    for (i = 0; i < unit_count(sasl_methods); i++) {
        unit_ok(ngx_smtp_relay_sasl_method(&sasl_methods[i].name)
                == sasl_methods[i].method,
                "mechanism \"%s\"", unit_show(&sasl_methods[i].name));
    }

    for (i = 0; i < unit_count(sasl_base64_valid); i++) {
        sasl_base64(pool, &sasl_base64_valid[i].input,
                    &sasl_base64_valid[i].expected);
    }

    for (i = 0; i < unit_count(sasl_base64_invalid); i++) {
        sasl_base64(pool, &sasl_base64_invalid[i], NULL);
    }

    for (i = 0; i < unit_count(sasl_plain); i++) {
        sasl_run_plain(&sasl_plain[i]);
    }

    sasl_bounds();

    ngx_destroy_pool(pool);

    return unit_done();
}
