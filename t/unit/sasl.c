
/*
 * SASL messages: mechanisms, base64, what each mechanism sends, user names and
 * secrets.
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


#define DIGEST  "b913a602c7eda7a495b4e6e7334d3890"


static sasl_case_t  sasl_cram_md5[] = {

    { unit_text("tim " DIGEST), unit_text("[][tim][" DIGEST "]") },
    { unit_text("a b " DIGEST), unit_text("[][a b][" DIGEST "]") },
    { unit_text("tim B913A602C7EDA7A495B4E6E7334D3890"),
      unit_text("[][tim][B913A602C7EDA7A495B4E6E7334D3890]") },
    { unit_text("\xc3\xbc " DIGEST), unit_text("[][\xc3\xbc][" DIGEST "]") },

    { unit_text(""), unit_text("declined") },
    { unit_text("tim"), unit_text("declined") },
    { unit_text("tim "), unit_text("declined") },
    { unit_text(DIGEST), unit_text("declined") },
    { unit_text(" " DIGEST), unit_text("declined") },
    { unit_text("x" DIGEST), unit_text("declined") },
    { unit_text("timx" DIGEST), unit_text("declined") },
    { unit_text("tim " DIGEST " "), unit_text("declined") },
    { unit_text("tim " DIGEST "\r\n"), unit_text("declined") },
    { unit_text("tim 0" DIGEST), unit_text("declined") },
    { unit_text("tim b913a602c7eda7a495b4e6e7334d389"),
      unit_text("declined") },
    { unit_text("tim b913a602c7eda7a495b4e6e7334d389g"),
      unit_text("declined") },
    { unit_text("tim b913a602c7eda7a495b4e6e7334d389\0"),
      unit_text("declined") },
    { unit_text("t\0m " DIGEST), unit_text("declined") },
    { unit_text("t\rm " DIGEST), unit_text("declined") },
    { unit_text("t\nm " DIGEST), unit_text("declined") },
    { unit_text("t\xff" "m " DIGEST), unit_text("declined") },
};


/* challenge, secret and digest: RFC 2195, RFC 2202, and a long key */

static struct {
    ngx_str_t               challenge;
    ngx_str_t               secret;
    ngx_str_t               digest;
    ngx_int_t               rc;
} sasl_digests[] = {

    { unit_text("<1896.697170952@postoffice.reston.mci.net>"),
      unit_text("tanstaaftanstaaf"), unit_text(DIGEST), NGX_OK },
    { unit_text("<1896.697170952@postoffice.reston.mci.net>"),
      unit_text("tanstaaftanstaaf"),
      unit_text("B913A602C7EDA7A495B4E6E7334D3890"), NGX_OK },
    { unit_text("what do ya want for nothing?"), unit_text("Jefe"),
      unit_text("750c783e6ab0b503eaa86e310a5db738"), NGX_OK },
    { unit_text("Test Using Larger Than Block-Size Key - Hash Key First"),
      unit_text("\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa"
                "\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa"
                "\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa"
                "\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa"
                "\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa"
                "\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa"),
      unit_text("6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"), NGX_OK },

    { unit_text("<1896.697170953@postoffice.reston.mci.net>"),
      unit_text("tanstaaftanstaaf"), unit_text(DIGEST), NGX_DECLINED },
    { unit_text("<1896.697170952@postoffice.reston.mci.net>"),
      unit_text("tanstaaftanstaag"), unit_text(DIGEST), NGX_DECLINED },
    { unit_text("<1896.697170952@postoffice.reston.mci.net>"),
      unit_text("tanstaaftanstaaf"),
      unit_text("b913a602c7eda7a495b4e6e7334d3891"), NGX_DECLINED },
    { unit_text("<1896.697170952@postoffice.reston.mci.net>"),
      unit_text("tanstaaftanstaaf"),
      unit_text("a913a602c7eda7a495b4e6e7334d3890"), NGX_DECLINED },
    { unit_text("<1896.697170952@postoffice.reston.mci.net>"),
      unit_text("tanstaaftanstaaf"), unit_text("b913"), NGX_DECLINED },
    { unit_text("<1896.697170952@postoffice.reston.mci.net>"),
      unit_text("tanstaaftanstaaf"), unit_text(""), NGX_DECLINED },
};


static sasl_case_t  sasl_xoauth2[] = {

    { unit_text("user=a@b.example\1auth=Bearer t0k.en\1\1"),
      unit_text("[][a@b.example][t0k.en]") },
    { unit_text("auth=bearer t0ken==\1user=a\1\1"),
      unit_text("[][a][t0ken==]") },
    { unit_text("user=a=b\1auth=Bearer  t\1\1"), unit_text("[][a=b][t]") },
    { unit_text("user=a\1host=x y\1port=587\1auth=Bearer t\1\1"),
      unit_text("[][a][t]") },

    { unit_text(""), unit_text("declined") },
    { unit_text("\1"), unit_text("declined") },
    { unit_text("\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t\1\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t\1\1x"), unit_text("declined") },
    { unit_text("\1user=a\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("user=\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("user=a\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer \1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Basic dDp0\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t t\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t\0t\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t\r\n\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t\xff\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t\x7f\1\1"), unit_text("declined") },
    { unit_text("user=a\0b\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("user=a\rb\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("user=a\nb\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("user=\xff\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("user=a\1user=b\1auth=Bearer t\1\1"),
      unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t\1auth=Bearer u\1\1"),
      unit_text("declined") },
    { unit_text("user\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("=a\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("us er=a\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a,\1auth=Bearer t\1\1"), unit_text("declined") },
};


static sasl_case_t  sasl_oauthbearer[] = {

    /* the examples of RFC 7628, 4.1. and 4.3. */

    { unit_text("n,a=user@example.com,\1host=server.example.com\1port=143\1"
                "auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1"),
      unit_text("[][user@example.com]"
                "[vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==]") },
    { unit_text("n,a=user@example.com,\1host=server.example.com\1port=143\1"
                "auth=\1\1"),
      unit_text("declined") },

    { unit_text("n,,\1auth=Bearer t\1\1"), unit_text("[][][t]") },
    { unit_text("y,,\1auth=bearer t\1\1"), unit_text("[][][t]") },
    { unit_text("y,a=a,\1auth=Bearer t\1\1"), unit_text("[][a][t]") },
    { unit_text("n,a=a=2Cb=3Dc,\1auth=Bearer t\1\1"),
      unit_text("[][a,b=c][t]") },
    { unit_text("n,a=a,\1user=b\1auth=Bearer t\1qs=x=y&z\1\1"),
      unit_text("[][a][t]") },

    { unit_text(""), unit_text("declined") },
    { unit_text("\1"), unit_text("declined") },
    { unit_text("n"), unit_text("declined") },
    { unit_text("n,"), unit_text("declined") },
    { unit_text("n,,"), unit_text("declined") },
    { unit_text("n,,\1"), unit_text("declined") },
    { unit_text("n,,\1\1"), unit_text("declined") },
    { unit_text("n,a"), unit_text("declined") },
    { unit_text("n,a="), unit_text("declined") },
    { unit_text("n,a=,"), unit_text("declined") },
    { unit_text("n,a=,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,b=a,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a,auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a,x\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("p=tls-unique,,\1auth=Bearer t\1\1"),
      unit_text("declined") },
    { unit_text("F,n,,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("N,,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a=2cb,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a=,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a=3,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a=40b,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a\0b,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a\rb,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a\nb,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=a\1b,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,a=\xff,\1auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("n,,\1auth=Bearer t\1"), unit_text("declined") },
    { unit_text("n,,\1auth=Bearer \0\1\1"), unit_text("declined") },
    { unit_text("n,,\1Auth=Bearer t\1\1"), unit_text("declined") },
    { unit_text("user=a\1auth=Bearer t\1\1"), unit_text("declined") },
};


static sasl_case_t  sasl_external[] = {

    { unit_text(""), unit_text("[][][]") },
    { unit_text("a@b.example"), unit_text("[a@b.example][a@b.example][]") },
    { unit_text("CN=a b,O=\xc3\xbc"),
      unit_text("[CN=a b,O=\xc3\xbc][CN=a b,O=\xc3\xbc][]") },

    { unit_text("\0"), unit_text("declined") },
    { unit_text("a\0b"), unit_text("declined") },
    { unit_text("a\r"), unit_text("declined") },
    { unit_text("a\nb"), unit_text("declined") },
    { unit_text("\xff"), unit_text("declined") },
};


typedef ngx_int_t (*sasl_decode_pt)(ngx_str_t *msg,
    ngx_smtp_relay_credentials_t *cr);


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
sasl_run(const char *mechanism, ngx_uint_t method, sasl_decode_pt decode,
    sasl_case_t *c)
{
    char                           name[1280];
    ngx_str_t                      msg, out;
    ngx_smtp_relay_credentials_t   cr;

    msg.len = c->input.len;
    msg.data = unit_copy(c->input.data, c->input.len);

    sprintf(name, "%s \"%s\"", mechanism, unit_show(&msg));

    unit_text_init(&out);
    memset(&cr, 0, sizeof(ngx_smtp_relay_credentials_t));

    if (decode(&msg, &cr) == NGX_OK) {
        unit_add(&out, "[%.*s][%.*s][%.*s]%s",
                 (int) cr.authzid.len, cr.authzid.data,
                 (int) cr.user.len, cr.user.data,
                 (int) cr.secret.len, cr.secret.data,
                 cr.method == method ? "" : "method?");

    } else {
        unit_add(&out, "declined%s",
                 cr.user.len || cr.secret.len || cr.authzid.len || cr.method
                 ? ", but set" : "");
    }

    unit_same(name, &out, &c->expected);

    free(msg.data);
    free(out.data);
}


static void
sasl_digest(ngx_uint_t i)
{
    ngx_str_t  secret;

    secret.len = sasl_digests[i].secret.len;
    secret.data = unit_copy(sasl_digests[i].secret.data, secret.len);

    unit_ok(ngx_smtp_relay_sasl_cram_md5_verify(&sasl_digests[i].challenge,
                                                &secret,
                                                &sasl_digests[i].digest)
            == sasl_digests[i].rc,
            "CRAM-MD5 digest %u is %s", (unsigned) i,
            sasl_digests[i].rc == NGX_OK ? "right" : "wrong");

    free(secret.data);
}


static void
sasl_names(void)
{
    u_char      buf[NGX_SMTP_RELAY_SASL_LIST], *last;
    ngx_str_t   name, all, lower;
    ngx_uint_t  i;

    static ngx_str_t  list =
        unit_text(" PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER EXTERNAL");
    static ngx_str_t  two = unit_text(" LOGIN EXTERNAL");
    static ngx_str_t  nothing = unit_text("");
    static ngx_str_t  none = unit_text("none");

    all.data = buf;

    last = ngx_smtp_relay_sasl_list(0xffff, buf);
    all.len = last - buf;
    unit_same("list of all mechanisms", &all, &list);

    last = ngx_smtp_relay_sasl_list(NGX_SMTP_RELAY_AUTH_EXTERNAL
                                    |NGX_SMTP_RELAY_AUTH_LOGIN
                                    |NGX_SMTP_RELAY_AUTH_NONE, buf);
    all.len = last - buf;
    unit_same("list of two", &all, &two);

    last = ngx_smtp_relay_sasl_list(NGX_SMTP_RELAY_AUTH_NONE, buf);
    all.len = last - buf;
    unit_same("list of \"none\"", &all, &nothing);

    unit_same("name of \"none\"",
              ngx_smtp_relay_sasl_name(NGX_SMTP_RELAY_AUTH_NONE), &none);

    for (i = NGX_SMTP_RELAY_AUTH_PLAIN; i < NGX_SMTP_RELAY_AUTH_NONE; i <<= 1)
    {
        name = *ngx_smtp_relay_sasl_name(i);

        lower.len = name.len;
        lower.data = buf;
        ngx_strlow(buf, name.data, name.len);

        unit_same("a name is in lower case", &name, &lower);
        unit_ok(ngx_smtp_relay_sasl_method(&name) == i,
                "and leads back to the method");
    }
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
        sasl_run("PLAIN", NGX_SMTP_RELAY_AUTH_PLAIN,
                 ngx_smtp_relay_sasl_plain, &sasl_plain[i]);
    }

    for (i = 0; i < unit_count(sasl_cram_md5); i++) {
        sasl_run("CRAM-MD5", NGX_SMTP_RELAY_AUTH_CRAM_MD5,
                 ngx_smtp_relay_sasl_cram_md5, &sasl_cram_md5[i]);
    }

    for (i = 0; i < unit_count(sasl_digests); i++) {
        sasl_digest(i);
    }

    for (i = 0; i < unit_count(sasl_xoauth2); i++) {
        sasl_run("XOAUTH2", NGX_SMTP_RELAY_AUTH_XOAUTH2,
                 ngx_smtp_relay_sasl_xoauth2, &sasl_xoauth2[i]);
    }

    for (i = 0; i < unit_count(sasl_oauthbearer); i++) {
        sasl_run("OAUTHBEARER", NGX_SMTP_RELAY_AUTH_OAUTHBEARER,
                 ngx_smtp_relay_sasl_oauthbearer, &sasl_oauthbearer[i]);
    }

    for (i = 0; i < unit_count(sasl_external); i++) {
        sasl_run("EXTERNAL", NGX_SMTP_RELAY_AUTH_EXTERNAL,
                 ngx_smtp_relay_sasl_external, &sasl_external[i]);
    }

    sasl_names();

    sasl_bounds();

    ngx_destroy_pool(pool);

    return unit_done();
}
