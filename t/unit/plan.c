
/*
 * Plans: numbers, sizes, rates, lists of senders, and who is on a list.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_plan.h"
#include "unit.h"


typedef struct {
    ngx_str_t               name;
    ngx_str_t               value;
    ngx_int_t               rc;
    long long               number;
} plan_header_case_t;


typedef struct {
    ngx_str_t               text;
    ngx_int_t               rc;
    ngx_uint_t              count;
    ngx_uint_t              period;
} plan_rate_case_t;


typedef struct {
    ngx_str_t               list;
    ngx_str_t               mailbox;
    ngx_uint_t              allowed;
} plan_sender_case_t;


static plan_header_case_t  plan_header_cases[] = {

    { unit_text("auth-max-size"), unit_text("1000"), NGX_OK, 1000 },
    { unit_text("auth-max-size"), unit_text("10k"), NGX_OK, 10240 },
    { unit_text("auth-max-size"), unit_text("10K"), NGX_OK, 10240 },
    { unit_text("auth-max-size"), unit_text("50m"), NGX_OK, 52428800 },
    { unit_text("auth-max-size"), unit_text("4g"), NGX_OK, 4294967296LL },
    { unit_text("auth-max-size"), unit_text("0"), NGX_OK, 0 },
    { unit_text("auth-max-size"), unit_text(""), NGX_DECLINED, 0 },
    { unit_text("auth-max-size"), unit_text("k"), NGX_DECLINED, 0 },
    { unit_text("auth-max-size"), unit_text("-1"), NGX_DECLINED, 0 },
    { unit_text("auth-max-size"), unit_text("1 k"), NGX_DECLINED, 0 },
    { unit_text("auth-max-size"), unit_text("1.5m"), NGX_DECLINED, 0 },
    { unit_text("auth-max-size"), unit_text("10mb"), NGX_DECLINED, 0 },
    { unit_text("auth-max-size"), unit_text("0x10"), NGX_DECLINED, 0 },
    { unit_text("auth-max-size"), unit_text("99999999999999999999"),
      NGX_DECLINED, 0 },
    { unit_text("auth-max-size"), unit_text("9999999999999999g"),
      NGX_DECLINED, 0 },

    { unit_text("auth-max-recipients"), unit_text("1"), NGX_OK, 1 },
    { unit_text("auth-max-recipients"), unit_text("0"), NGX_OK, 0 },
    { unit_text("auth-max-recipients"), unit_text("1000000000"), NGX_OK,
      1000000000 },
    { unit_text("auth-max-recipients"), unit_text("1000000001"),
      NGX_DECLINED, 0 },
    { unit_text("auth-max-recipients"), unit_text(""), NGX_DECLINED, 0 },
    { unit_text("auth-max-recipients"), unit_text("1k"), NGX_DECLINED, 0 },
    { unit_text("auth-max-recipients"), unit_text("+1"), NGX_DECLINED, 0 },
    { unit_text("auth-max-recipients"), unit_text("-1"), NGX_DECLINED, 0 },
    { unit_text("auth-max-recipients"), unit_text("1, 2"), NGX_DECLINED, 0 },

    { unit_text("auth-limit-conn"), unit_text("10"), NGX_OK, 10 },
    { unit_text("auth-limit-conn"), unit_text("0"), NGX_DECLINED, 0 },
    { unit_text("auth-limit-conn"), unit_text("ten"), NGX_DECLINED, 0 },

    { unit_text("auth-limit-msg"), unit_text("5r/s"), NGX_OK, 5 },
    { unit_text("auth-limit-msg"), unit_text("5"), NGX_DECLINED, 0 },
    { unit_text("auth-limit-rcpt"), unit_text("500r/d"), NGX_OK, 500 },
    { unit_text("auth-limit-rcpt"), unit_text("0r/d"), NGX_DECLINED, 0 },

    { unit_text("auth-senders"), unit_text("example.com"), NGX_OK, 0 },
    { unit_text("auth-senders"), unit_text(""), NGX_DECLINED, 0 },

    { unit_text("auth-account"), unit_text("x"), NGX_DONE, 0 },
    { unit_text("auth-max-siz"), unit_text("1"), NGX_DONE, 0 },
    { unit_text("auth-max-sizes"), unit_text("1"), NGX_DONE, 0 },
    { unit_text(""), unit_text("1"), NGX_DONE, 0 },
};


static plan_rate_case_t  plan_rate_cases[] = {

    { unit_text("1r/s"), NGX_OK, 1, 1 },
    { unit_text("60r/m"), NGX_OK, 60, 60 },
    { unit_text("100r/h"), NGX_OK, 100, 3600 },
    { unit_text("50000r/d"), NGX_OK, 50000, 86400 },
    { unit_text("1000000000r/s"), NGX_OK, 1000000000, 1 },

    { unit_text(""), NGX_DECLINED, 0, 0 },
    { unit_text("r/s"), NGX_DECLINED, 0, 0 },
    { unit_text("/s"), NGX_DECLINED, 0, 0 },
    { unit_text("s"), NGX_DECLINED, 0, 0 },
    { unit_text("0r/s"), NGX_DECLINED, 0, 0 },
    { unit_text("-1r/s"), NGX_DECLINED, 0, 0 },
    { unit_text("1.5r/s"), NGX_DECLINED, 0, 0 },
    { unit_text("1 r/s"), NGX_DECLINED, 0, 0 },
    { unit_text("1r/ s"), NGX_DECLINED, 0, 0 },
    { unit_text("1r/s "), NGX_DECLINED, 0, 0 },
    { unit_text("1r/w"), NGX_DECLINED, 0, 0 },
    { unit_text("1R/S"), NGX_DECLINED, 0, 0 },
    { unit_text("1/s"), NGX_DECLINED, 0, 0 },
    { unit_text("1r/sec"), NGX_DECLINED, 0, 0 },
    { unit_text("1000000001r/s"), NGX_DECLINED, 0, 0 },
    { unit_text("99999999999999999999r/s"), NGX_DECLINED, 0, 0 },
};


/* allowed 2: the list cannot be understood */

static plan_sender_case_t  plan_sender_cases[] = {

    /* nobody in particular */

    { unit_text("example.com"), unit_text(""), 1 },
    { unit_text("a@example.com"), unit_text(""), 1 },

    /* domains */

    { unit_text("example.com"), unit_text("a@example.com"), 1 },
    { unit_text("example.com"), unit_text("a@EXAMPLE.com"), 1 },
    { unit_text("Example.COM"), unit_text("a@example.com"), 1 },
    { unit_text("example.com"), unit_text("A.b@example.com"), 1 },
    { unit_text("example.com"), unit_text("\"a@b\"@example.com"), 1 },
    { unit_text("example.com"), unit_text("\"a@example.com\"@b.example"), 0 },
    { unit_text("example.com"), unit_text("a@mail.example.com"), 0 },
    { unit_text("example.com"), unit_text("a@notexample.com"), 0 },
    { unit_text("example.com"), unit_text("a@example.co"), 0 },
    { unit_text("example.com"), unit_text("a@example.com.evil.example"), 0 },
    { unit_text("example.com"), unit_text("example.com@b.example"), 0 },
    { unit_text("localhost"), unit_text("a@localhost"), 1 },
    { unit_text("[192.0.2.1]"), unit_text("a@[192.0.2.1]"), 1 },
    { unit_text("[192.0.2.1]"), unit_text("a@[192.0.2.2]"), 0 },
    { unit_text("[IPv6:2001:DB8::1]"), unit_text("a@[ipv6:2001:db8::1]"), 1 },

    /* wildcards */

    { unit_text("*.example.org"), unit_text("a@b.example.org"), 1 },
    { unit_text("*.example.org"), unit_text("a@c.b.EXAMPLE.ORG"), 1 },
    { unit_text("*.example.org"), unit_text("a@example.org"), 0 },
    { unit_text("*.example.org"), unit_text("a@bexample.org"), 0 },
    { unit_text("*.example.org"), unit_text("a.example.org@b.example"), 0 },
    { unit_text("*.org"), unit_text("a@example.org"), 1 },

    /* addresses */

    { unit_text("a@b.example"), unit_text("a@b.example"), 1 },
    { unit_text("a@b.example"), unit_text("a@B.Example"), 1 },
    { unit_text("a@b.example"), unit_text("A@b.example"), 0 },
    { unit_text("a@b.example"), unit_text("aa@b.example"), 0 },
    { unit_text("a@b.example"), unit_text("a@c.b.example"), 0 },
    { unit_text("a@b.example"), unit_text("\"a\"@b.example"), 0 },
    { unit_text("a+tag@b.example"), unit_text("a+tag@b.example"), 1 },
    { unit_text("a+tag@b.example"), unit_text("a@b.example"), 0 },
    { unit_text("\"a, b\"@c.example"), unit_text("\"a, b\"@c.example"), 1 },
    { unit_text("\"a\\\"@x\"@c.example"),
      unit_text("\"a\\\"@x\"@c.example"), 1 },
    { unit_text("a@[192.0.2.1]"), unit_text("a@[192.0.2.1]"), 1 },

    /* other scripts: as sent */

    { unit_text("b\xc3\xbc" "cher.example"),
      unit_text("a@b\xc3\xbc" "cher.example"), 1 },
    { unit_text("b\xc3\xbc" "cher.example"),
      unit_text("a@b\xc3\x9c" "cher.example"), 0 },
    { unit_text("b\xc3\xbc" "cher.example"),
      unit_text("a@xn--bcher-kva.example"), 0 },
    { unit_text("xn--bcher-kva.example"),
      unit_text("a@XN--BCHER-KVA.example"), 1 },
    { unit_text("\xe5\xbc\xa0@example.com"),
      unit_text("\xe5\xbc\xa0@example.com"), 1 },

    /* lists */

    { unit_text("a.example,b.example"), unit_text("x@a.example"), 1 },
    { unit_text("a.example,b.example"), unit_text("x@b.example"), 1 },
    { unit_text("a.example,b.example"), unit_text("x@c.example"), 0 },
    { unit_text("example.com, *.example.org, a@b.example"),
      unit_text("x@example.com"), 1 },
    { unit_text("example.com, *.example.org, a@b.example"),
      unit_text("x@y.example.org"), 1 },
    { unit_text("example.com, *.example.org, a@b.example"),
      unit_text("a@b.example"), 1 },
    { unit_text("example.com, *.example.org, a@b.example"),
      unit_text("b@b.example"), 0 },
    { unit_text("\t a.example ,\t, b.example , "),
      unit_text("x@b.example"), 1 },

    /* no lists */

    { unit_text(""), unit_text("a@b.example"), 2 },
    { unit_text(" "), unit_text("a@b.example"), 2 },
    { unit_text(","), unit_text("a@b.example"), 2 },
    { unit_text("*"), unit_text("a@b.example"), 2 },
    { unit_text("*."), unit_text("a@b.example"), 2 },
    { unit_text("*.*.example"), unit_text("a@b.c.example"), 2 },
    { unit_text("*example.com"), unit_text("a@b.example"), 2 },
    { unit_text("*@example.com"), unit_text("a@example.com"), 2 },
    { unit_text("*.[192.0.2.1]"), unit_text("a@b.example"), 2 },
    { unit_text("mail.*.example"), unit_text("a@b.example"), 2 },
    { unit_text("@example.com"), unit_text("a@example.com"), 2 },
    { unit_text("a@"), unit_text("a@b.example"), 2 },
    { unit_text("a@b@c.example"), unit_text("a@c.example"), 2 },
    { unit_text("a.example b.example"), unit_text("x@a.example"), 2 },
    { unit_text("a.example; b.example"), unit_text("x@a.example"), 2 },
    { unit_text("a.example, <b@c.example>"), unit_text("x@a.example"), 2 },
    { unit_text("Name <b@c.example>"), unit_text("b@c.example"), 2 },
    { unit_text("example.com."), unit_text("a@example.com"), 2 },
    { unit_text(".example.com"), unit_text("a@b.example.com"), 2 },
    { unit_text("exa mple.com"), unit_text("a@example.com"), 2 },
    { unit_text("\"a@b.example"), unit_text("a@b.example"), 2 },
    { unit_text("\xff.example"), unit_text("a@b.example"), 2 },
    { unit_text("a\x01@b.example"), unit_text("a@b.example"), 2 },
};


static long long
plan_number(ngx_smtp_relay_plan_t *plan)
{
    if (plan->max_size_set) {
        return plan->max_size;
    }

    if (plan->max_recipients_set) {
        return plan->max_recipients;
    }

    if (plan->limit_conn_set) {
        return plan->limit_conn;
    }

    return plan->limit_msg.count + plan->limit_rcpt.count;
}


static void
plan_run_header(plan_header_case_t *c)
{
    ngx_int_t              rc;
    ngx_str_t              name, value;
    ngx_smtp_relay_plan_t  plan;

    memset(&plan, 0, sizeof(ngx_smtp_relay_plan_t));

    name.len = c->name.len;
    name.data = unit_copy(c->name.data, c->name.len);
    value.len = c->value.len;
    value.data = unit_copy(c->value.data, c->value.len);

    rc = ngx_smtp_relay_plan_header(&plan, &name, &value);

    unit_ok(rc == c->rc && plan_number(&plan) == c->number,
            "\"%s: %s\"", unit_show(&name), unit_show(&value));

    free(name.data);
    free(value.data);
}


static void
plan_run_rate(plan_rate_case_t *c)
{
    ngx_int_t              rc;
    ngx_str_t              text;
    ngx_smtp_relay_rate_t  rate;

    memset(&rate, 0, sizeof(ngx_smtp_relay_rate_t));

    text.len = c->text.len;
    text.data = unit_copy(c->text.data, c->text.len);

    rc = ngx_smtp_relay_plan_rate(&text, &rate);

    unit_ok(rc == c->rc && rate.count == c->count && rate.period == c->period,
            "rate \"%s\"", unit_show(&text));

    free(text.data);
}


static void
plan_run_sender(plan_sender_case_t *c)
{
    ngx_int_t              rc;
    ngx_str_t              list, mailbox;
    ngx_uint_t             allowed;
    ngx_smtp_relay_plan_t  plan;

    static ngx_str_t    name = ngx_string("auth-senders");
    static const char  *is[] = { "is not one of", "is one of",
                                 "cannot be told to be one of" };

    memset(&plan, 0, sizeof(ngx_smtp_relay_plan_t));

    list.len = c->list.len;
    list.data = unit_copy(c->list.data, c->list.len);
    mailbox.len = c->mailbox.len;
    mailbox.data = unit_copy(c->mailbox.data, c->mailbox.len);

    rc = ngx_smtp_relay_plan_header(&plan, &name, &list);

    allowed = (rc == NGX_OK) ? ngx_smtp_relay_plan_sender(&plan, &mailbox) : 2;

    unit_ok(allowed == c->allowed, "\"%s\" %s \"%s\"", unit_show(&mailbox),
            is[c->allowed], unit_show(&list));

    free(list.data);
    free(mailbox.data);
}


static void
plan_run_no_list(void)
{
    ngx_str_t              mailbox = ngx_string("a@b.example");
    ngx_smtp_relay_plan_t  plan;

    memset(&plan, 0, sizeof(ngx_smtp_relay_plan_t));

    unit_ok(ngx_smtp_relay_plan_sender(&plan, &mailbox) == 1,
            "without a list anybody may send");
}


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_count(plan_header_cases); i++) {
        plan_run_header(&plan_header_cases[i]);
    }

    for (i = 0; i < unit_count(plan_rate_cases); i++) {
        plan_run_rate(&plan_rate_cases[i]);
    }

    for (i = 0; i < unit_count(plan_sender_cases); i++) {
        plan_run_sender(&plan_sender_cases[i]);
    }

    plan_run_no_list();

    return unit_done();
}
