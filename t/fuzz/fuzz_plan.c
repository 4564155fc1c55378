
/*
 * Plans: what is a list of senders allows each of its entries, and only
 * what ends in the domain of an entry; a rate is what it is written as.
 *
 * The input is a header's value and, behind a LF, a mailbox.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_plan.h"
#include "fuzz.h"


static const char  *fuzz_names[] = {
    "auth-limit-conn", "auth-limit-msg", "auth-limit-rcpt",
    "auth-max-recipients", "auth-max-size", "auth-senders", "auth-account"
};


static void
fuzz_headers(ngx_str_t *value)
{
    ngx_int_t              rc;
    ngx_str_t              name;
    ngx_uint_t             i;
    ngx_smtp_relay_plan_t  plan, empty;

    memset(&empty, 0, sizeof(ngx_smtp_relay_plan_t));

    for (i = 0; i < sizeof(fuzz_names) / sizeof(fuzz_names[0]); i++) {
        memset(&plan, 0, sizeof(ngx_smtp_relay_plan_t));

        name.len = strlen(fuzz_names[i]);
        name.data = (u_char *) fuzz_names[i];

        rc = ngx_smtp_relay_plan_header(&plan, &name, value);

        fuzz_check(rc == NGX_OK || rc == NGX_DECLINED || rc == NGX_DONE);
        fuzz_check((rc == NGX_DONE) == (i == 6));
        fuzz_check(rc != NGX_OK || value->len);
        fuzz_check(plan.max_size >= 0);

        /* a value that is refused leaves nothing behind */

        if (rc != NGX_OK) {
            fuzz_check(memcmp(&plan, &empty, sizeof(plan)) == 0);
        }
    }
}


static void
fuzz_rate(ngx_str_t *value)
{
    char                   text[64];
    int                    len;
    size_t                 zeros;
    ngx_smtp_relay_rate_t  rate;

    memset(&rate, 0, sizeof(ngx_smtp_relay_rate_t));

    if (ngx_smtp_relay_plan_rate(value, &rate) != NGX_OK) {
        fuzz_check(rate.count == 0 && rate.period == 0);
        return;
    }

    fuzz_check(rate.count >= 1);

    len = sprintf(text, "%lur/%s", (unsigned long) rate.count,
                  rate.period == 1 ? "s" : rate.period == 60 ? "m"
                  : rate.period == 3600 ? "h" : "d");

    for (zeros = 0; value->data[zeros] == '0'; zeros++) { /* void */ }

    fuzz_check(value->len - zeros == (size_t) len);
    fuzz_check(memcmp(value->data + zeros, text, len) == 0);
}


static void
fuzz_senders(ngx_str_t *list, ngx_str_t *mailbox)
{
    u_char                 *at, *p;
    ngx_str_t               name = ngx_string("auth-senders");
    ngx_str_t               none = ngx_null_string;
    ngx_smtp_relay_plan_t   plan;

    memset(&plan, 0, sizeof(ngx_smtp_relay_plan_t));

    if (ngx_smtp_relay_plan_header(&plan, &name, list) != NGX_OK) {
        return;
    }

    fuzz_check(fuzz_within(&plan.senders, list));
    fuzz_check(ngx_smtp_relay_plan_sender(&plan, &none) == 1);

    if (!ngx_smtp_relay_plan_sender(&plan, mailbox) || mailbox->len == 0) {
        return;
    }

    /* the last label of an allowed domain is in the list, whatever its case */

    for (at = mailbox->data + mailbox->len; at > mailbox->data; at--) {
        if (at[-1] == '@' || at[-1] == '.') {
            break;
        }
    }

    for (p = list->data; p <= list->data + list->len
                             - (mailbox->data + mailbox->len - at); p++)
    {
        if (ngx_strncasecmp(p, at, mailbox->data + mailbox->len - at) == 0) {
            return;
        }
    }

    fuzz_fail(__FILE__, __LINE__, "the domain is in the list");
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_str_t       value, mailbox;
    const uint8_t  *lf;

    lf = size ? memchr(data, LF, size) : NULL;

    value.len = lf ? (size_t) (lf - data) : size;
    value.data = fuzz_copy(data, value.len);

    mailbox.len = lf ? size - value.len - 1 : 0;
    mailbox.data = fuzz_copy(lf ? lf + 1 : data, mailbox.len);

    fuzz_headers(&value);
    fuzz_rate(&value);
    fuzz_senders(&value, &mailbox);

    free(value.data);
    free(mailbox.data);

    return 0;
}
