
/*
 * Replies of a node, and what its reply to EHLO offers.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "unit.h"


typedef struct {
    ngx_str_t               input;
    ngx_str_t               expected;   /* code{line|line}, ERROR */
} reply_case_t;


typedef struct {
    ngx_str_t               reply;
    ngx_str_t               expected;
} reply_features_t;


static reply_case_t  reply_valid[] = {

    { unit_text(""), unit_text("") },
    { unit_text("250 OK\r\n"), unit_text("250{OK}") },
    { unit_text("250\r\n"), unit_text("250{}") },
    { unit_text("250 \r\n"), unit_text("250{}") },
    { unit_text("200 a\r\n"), unit_text("200{a}") },
    { unit_text("599 a\r\n"), unit_text("599{a}") },
    { unit_text("550 5.7.1 a\tb \xc3\xbc \xff\r\n"),
      unit_text("550{5.7.1 a\tb \xc3\xbc \xff}") },

    { unit_text("250-a\r\n250 b\r\n"), unit_text("250{a|b}") },
    { unit_text("250-a\r\n250-\r\n250\r\n"), unit_text("250{a||}") },

    { unit_text("250 a\r\n354 b\r\n451-c\r\n451 d\r\n"),
      unit_text("250{a}354{b}451{c|d}") },

    /* not whole yet */

    { unit_text("2"), unit_text("") },
    { unit_text("250 OK\r"), unit_text("") },
    { unit_text("250-a\r\n"), unit_text("") },
    { unit_text("250 a\r\n250-b\r\n250"), unit_text("250{a}") },
};


static reply_case_t  reply_invalid[] = {

    { unit_text("\r\n"), unit_text("ERROR") },
    { unit_text("OK\r\n"), unit_text("ERROR") },
    { unit_text("25\r\n"), unit_text("ERROR") },
    { unit_text("25 a\r\n"), unit_text("ERROR") },
    { unit_text("2500 a\r\n"), unit_text("ERROR") },
    { unit_text("250a\r\n"), unit_text("ERROR") },
    { unit_text("250\ta\r\n"), unit_text("ERROR") },
    { unit_text(" 250 a\r\n"), unit_text("ERROR") },
    { unit_text("-50 a\r\n"), unit_text("ERROR") },
    { unit_text("199 a\r\n"), unit_text("ERROR") },
    { unit_text("600 a\r\n"), unit_text("ERROR") },
    { unit_text("HTTP/1.1 400 Bad Request\r\n"), unit_text("ERROR") },

    { unit_text("250 a\n"), unit_text("ERROR") },
    { unit_text("250\n"), unit_text("ERROR") },
    { unit_text("250 a\r\r\n"), unit_text("ERROR") },
    { unit_text("250 a\rb\r\n"), unit_text("ERROR") },
    { unit_text("250 a\0b\r\n"), unit_text("ERROR") },
    { unit_text("250 a\x1b[2J\r\n"), unit_text("ERROR") },
    { unit_text("250 a\x7f\r\n"), unit_text("ERROR") },

    { unit_text("250-a\r\n251 b\r\n"), unit_text("ERROR") },
    { unit_text("250-a\r\nb\r\n250 c\r\n"), unit_text("ERROR") },
    { unit_text("250 a\r\n\r\n"), unit_text("250{a}ERROR") },
    { unit_text("250 a\r\n25x b\r\n"), unit_text("250{a}ERROR") },
};


static reply_features_t  reply_features[] = {

    { unit_text("250 a\r\n"), unit_text("") },

    /* the first line is the greeting */

    { unit_text("250 PIPELINING\r\n"), unit_text("") },
    { unit_text("250-SIZE 10\r\n250 DSN\r\n"), unit_text(" ext=0020") },

    { unit_text("250-a\r\n250-PIPELINING\r\n250-8BITMIME\r\n"
                "250-SMTPUTF8\r\n250-CHUNKING\r\n250-DSN\r\n"
                "250-ENHANCEDSTATUSCODES\r\n250-SIZE\r\n250-STARTTLS\r\n"
                "250-AUTH\r\n250-XCLIENT\r\n250 LIMITS\r\n"),
      unit_text(" ext=0ffe") },

    { unit_text("250-a\r\n250-pipelining\r\n250 size 1000\r\n"),
      unit_text(" ext=0082 size=1000") },

    { unit_text("250-a\r\n250-PIPELINE\r\n250-HELP\r\n250-\r\n250\r\n"),
      unit_text("") },

    { unit_text("250-a\r\n250 SIZE 0\r\n"), unit_text(" ext=0080") },
    { unit_text("250-a\r\n250 SIZE x\r\n"), unit_text(" ext=0080") },
    { unit_text("250-a\r\n250 SIZE -1\r\n"), unit_text(" ext=0080") },
    { unit_text("250-a\r\n250 SIZE 99999999999999999999999\r\n"),
      unit_text(" ext=0080") },

    { unit_text("250-a\r\n250 AUTH PLAIN login CRAM-MD5 GSSAPI\r\n"),
      unit_text(" ext=0200 auth=0e") },
    { unit_text("250-a\r\n250-AUTH XOAUTH2\r\n250 AUTH=PLAIN LOGIN\r\n"),
      unit_text(" ext=0200 auth=16") },
    { unit_text("250-a\r\n250 AUTH OAUTHBEARER EXTERNAL\r\n"),
      unit_text(" ext=0200 auth=60") },

    { unit_text("250-a\r\n250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN "
                "DESTADDR DESTPORT NEW\r\n"),
      unit_text(" ext=0400 xclient=ff") },
    { unit_text("250-a\r\n250 XCLIENT addr  login\r\n"),
      unit_text(" ext=0400 xclient=22") },

    { unit_text("250-a\r\n250 LIMITS RCPTMAX=100 MAILMAX=20\r\n"),
      unit_text(" ext=0800 rcptmax=100 mailmax=20") },
    { unit_text("250-a\r\n250 LIMITS RCPTMAX= MAILMAX=x RCPTDOMAINMAX=1\r\n"),
      unit_text(" ext=0800") },
};


/* feeds input in pieces of step octets into one buffer of its length */

static void
reply_feed(ngx_str_t *input, size_t step, ngx_str_t *out)
{
    u_char                  *data, *p;
    size_t                   n, arrived, base;
    ngx_buf_t                b;
    ngx_int_t                rc;
    ngx_str_t                line;
    ngx_uint_t               i;
    ngx_smtp_relay_reply_t   r;

    ngx_memzero(&r, sizeof(ngx_smtp_relay_reply_t));
    ngx_memzero(&b, sizeof(ngx_buf_t));

    base = 0;
    arrived = 0;
    data = unit_copy(input->data, 0);

    for ( ;; ) {

        b.pos = data + base;
        b.last = data + arrived;

        rc = ngx_smtp_relay_parse_reply(&r, &b);

        base = b.pos - data;

        if (rc == NGX_OK) {

            unit_add(out, "%lu{", (unsigned long) r.code);

            p = r.text.data;

            for (i = 0;
                 ngx_smtp_relay_reply_line(&r, &p, &line) == NGX_OK;
                 i++)
            {
                unit_add(out, "%s", i ? "|" : "");
                unit_add_octets(out, line.data, line.len);
            }

            unit_add(out, "}");

            if (r.text.data + r.text.len != b.pos) {
                unit_add(out, "text and position differ");
            }

            continue;
        }

        if (rc == NGX_ERROR) {
            unit_add(out, "ERROR");
            break;
        }

        if (arrived == input->len) {
            break;
        }

        /* the octets may move between calls */

        n = ngx_min(step, input->len - arrived);

        free(data);
        arrived += n;
        data = unit_copy(input->data, arrived);
    }

    free(data);
}


static void
reply_run(reply_case_t *c)
{
    char        name[1280];
    size_t      step;
    ngx_str_t   out;

    unit_text_init(&out);

    for (step = 1; step <= c->input.len + 1; step++) {
        out.len = 0;
        reply_feed(&c->input, step, &out);
        sprintf(name, "reply %s by %d", unit_show(&c->input), (int) step);
        unit_same(name, &out, &c->expected);
    }

    free(out.data);
}


static void
reply_run_features(reply_features_t *c)
{
    char                        name[1280];
    ngx_str_t                   out;
    ngx_smtp_relay_reply_t      r;
    ngx_smtp_relay_features_t   f;

    ngx_memzero(&r, sizeof(ngx_smtp_relay_reply_t));
    memset(&f, 0xa5, sizeof(ngx_smtp_relay_features_t));
    unit_text_init(&out);

    r.code = 250;
    r.text.len = c->reply.len;
    r.text.data = unit_copy(c->reply.data, c->reply.len);

    ngx_smtp_relay_parse_features(&r, &f);

    if (f.ext) {
        unit_add(&out, " ext=%04lx", (unsigned long) f.ext);
    }

    if (f.auth) {
        unit_add(&out, " auth=%02lx", (unsigned long) f.auth);
    }

    if (f.xclient) {
        unit_add(&out, " xclient=%02lx", (unsigned long) f.xclient);
    }

    if (f.size) {
        unit_add(&out, " size=%lld", (long long) f.size);
    }

    if (f.rcptmax) {
        unit_add(&out, " rcptmax=%lu", (unsigned long) f.rcptmax);
    }

    if (f.mailmax) {
        unit_add(&out, " mailmax=%lu", (unsigned long) f.mailmax);
    }

    sprintf(name, "features of %s", unit_show(&c->reply));
    unit_same(name, &out, &c->expected);

    free(r.text.data);
    free(out.data);
}


static ngx_int_t
reply_parse(ngx_str_t *text)
{
    ngx_buf_t                b;
    ngx_smtp_relay_reply_t   r;

    ngx_memzero(&r, sizeof(ngx_smtp_relay_reply_t));
    ngx_memzero(&b, sizeof(ngx_buf_t));

    b.pos = text->data;
    b.last = text->data + text->len;

    return ngx_smtp_relay_parse_reply(&r, &b);
}


static void
reply_bounds(void)
{
    size_t       i;
    ngx_str_t    text;

    unit_text_init(&text);

    unit_add(&text, "250 ");

    while (text.len < NGX_SMTP_RELAY_MAX_REPLY_LINE) {
        unit_add(&text, "a");
    }

    unit_add(&text, "\r\n");
    unit_ok(reply_parse(&text) == NGX_OK, "the longest line");

    text.len -= 2;
    unit_add(&text, "a");
    unit_ok(reply_parse(&text) == NGX_ERROR,
            "a line too long is no reply before it ends");

    unit_add(&text, "\r\n");
    unit_ok(reply_parse(&text) == NGX_ERROR, "nor when it ends");

    text.len = 0;

    for (i = 1; i < NGX_SMTP_RELAY_MAX_REPLY_LINES; i++) {
        unit_add(&text, "250-a\r\n");
    }

    unit_add(&text, "250 a\r\n");
    unit_ok(reply_parse(&text) == NGX_OK, "the most lines");

    text.len -= 7;
    unit_add(&text, "250-a\r\n");
    unit_ok(reply_parse(&text) == NGX_AGAIN, "the most lines, not whole");

    unit_add(&text, "250 a\r\n");
    unit_ok(reply_parse(&text) == NGX_ERROR, "one line too many");

    free(text.data);
}


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_count(reply_valid); i++) {
        reply_run(&reply_valid[i]);
    }

    for (i = 0; i < unit_count(reply_invalid); i++) {
        reply_run(&reply_invalid[i]);
    }

    for (i = 0; i < unit_count(reply_features); i++) {
        reply_run_features(&reply_features[i]);
    }

    reply_bounds();

    return unit_done();
}
