
/*
 * Plans: the headers of an auth reply that set limits, and senders.
 *
 * Nothing is guessed at: a value that has anything in it besides what is
 * asked for is none.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "ngx_smtp_relay_parse_path.h"
#include "ngx_smtp_relay_plan.h"


/* the largest number that a plan can have, so that sums do not overflow */

#define NGX_SMTP_RELAY_PLAN_MAX  1000000000


typedef ngx_int_t (*ngx_smtp_relay_plan_pt)(ngx_smtp_relay_plan_t *plan,
    ngx_str_t *value);


typedef struct {
    ngx_str_t                  name;
    ngx_smtp_relay_plan_pt     parse;
} ngx_smtp_relay_plan_header_t;


static ngx_int_t ngx_smtp_relay_plan_limit_conn(ngx_smtp_relay_plan_t *plan,
    ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_plan_limit_msg(ngx_smtp_relay_plan_t *plan,
    ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_plan_limit_rcpt(ngx_smtp_relay_plan_t *plan,
    ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_plan_max_recipients(
    ngx_smtp_relay_plan_t *plan, ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_plan_max_size(ngx_smtp_relay_plan_t *plan,
    ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_plan_senders(ngx_smtp_relay_plan_t *plan,
    ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_plan_number(ngx_str_t *text, ngx_uint_t min,
    ngx_uint_t *number);
static ngx_int_t ngx_smtp_relay_plan_next(u_char **pos, u_char *last,
    ngx_str_t *entry);
static u_char *ngx_smtp_relay_plan_entry(u_char *p, u_char *last);
static ngx_uint_t ngx_smtp_relay_plan_match(ngx_str_t *entry,
    ngx_str_t *mailbox, ngx_str_t *domain);


static ngx_smtp_relay_plan_header_t  ngx_smtp_relay_plan_headers[] = {
    { ngx_string("auth-limit-conn"), ngx_smtp_relay_plan_limit_conn },
    { ngx_string("auth-limit-msg"), ngx_smtp_relay_plan_limit_msg },
    { ngx_string("auth-limit-rcpt"), ngx_smtp_relay_plan_limit_rcpt },
    { ngx_string("auth-max-recipients"), ngx_smtp_relay_plan_max_recipients },
    { ngx_string("auth-max-size"), ngx_smtp_relay_plan_max_size },
    { ngx_string("auth-senders"), ngx_smtp_relay_plan_senders },
    { ngx_null_string, NULL }
};


ngx_int_t
ngx_smtp_relay_plan_header(ngx_smtp_relay_plan_t *plan, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_smtp_relay_plan_header_t  *h;

    for (h = ngx_smtp_relay_plan_headers; h->parse; h++) {

        if (h->name.len == name->len
            && ngx_strncmp(h->name.data, name->data, name->len) == 0)
        {
            return h->parse(plan, value);
        }
    }

    return NGX_DONE;
}


static ngx_int_t
ngx_smtp_relay_plan_limit_conn(ngx_smtp_relay_plan_t *plan, ngx_str_t *value)
{
    /* none at all is no limit that a login could be good for */

    if (ngx_smtp_relay_plan_number(value, 1, &plan->limit_conn) != NGX_OK) {
        return NGX_DECLINED;
    }

    plan->limit_conn_set = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_plan_limit_msg(ngx_smtp_relay_plan_t *plan, ngx_str_t *value)
{
    return ngx_smtp_relay_plan_rate(value, &plan->limit_msg);
}


static ngx_int_t
ngx_smtp_relay_plan_limit_rcpt(ngx_smtp_relay_plan_t *plan, ngx_str_t *value)
{
    return ngx_smtp_relay_plan_rate(value, &plan->limit_rcpt);
}


static ngx_int_t
ngx_smtp_relay_plan_max_recipients(ngx_smtp_relay_plan_t *plan,
    ngx_str_t *value)
{
    if (ngx_smtp_relay_plan_number(value, 0, &plan->max_recipients)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    plan->max_recipients_set = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_plan_max_size(ngx_smtp_relay_plan_t *plan, ngx_str_t *value)
{
    off_t  size;

    if (value->len == 0) {
        return NGX_DECLINED;
    }

    size = ngx_parse_offset(value);

    if (size == NGX_ERROR) {
        return NGX_DECLINED;
    }

    plan->max_size = size;
    plan->max_size_set = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_plan_senders(ngx_smtp_relay_plan_t *plan, ngx_str_t *value)
{
    u_char      *p, *last;
    ngx_int_t    rc;
    ngx_str_t    entry;
    ngx_uint_t   n;

    p = value->data;
    last = value->data + value->len;

    for (n = 0; /* void */ ; n++) {
        rc = ngx_smtp_relay_plan_next(&p, last, &entry);

        if (rc != NGX_OK) {
            break;
        }
    }

    /* a list of nobody may be meant for anybody or for nobody */

    if (rc != NGX_DONE || n == 0) {
        return NGX_DECLINED;
    }

    plan->senders = *value;

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_plan_rate(ngx_str_t *text, ngx_smtp_relay_rate_t *rate)
{
    ngx_str_t   number;
    ngx_uint_t  count, period;

    if (text->len < 4
        || text->data[text->len - 3] != 'r'
        || text->data[text->len - 2] != '/')
    {
        return NGX_DECLINED;
    }

    switch (text->data[text->len - 1]) {

    case 's':
        period = 1;
        break;

    case 'm':
        period = 60;
        break;

    case 'h':
        period = 3600;
        break;

    case 'd':
        period = 86400;
        break;

    default:
        return NGX_DECLINED;
    }

    number.len = text->len - 3;
    number.data = text->data;

    if (ngx_smtp_relay_plan_number(&number, 1, &count) != NGX_OK) {
        return NGX_DECLINED;
    }

    rate->count = count;
    rate->period = period;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_plan_number(ngx_str_t *text, ngx_uint_t min,
    ngx_uint_t *number)
{
    ngx_int_t  n;

    n = ngx_atoi(text->data, text->len);

    if (n == NGX_ERROR
        || n > NGX_SMTP_RELAY_PLAN_MAX || (ngx_uint_t) n < min)
    {
        return NGX_DECLINED;
    }

    *number = n;

    return NGX_OK;
}


ngx_uint_t
ngx_smtp_relay_plan_sender(ngx_smtp_relay_plan_t *plan, ngx_str_t *mailbox)
{
    u_char     *p, *at, *last;
    ngx_str_t   entry, domain;

    /* <> claims to be nobody: receipts and notices are sent so */

    if (plan->senders.len == 0 || mailbox->len == 0) {
        return 1;
    }

    last = mailbox->data + mailbox->len;

    /* a domain has no "@" in it, a local part in quotes may have */

    for (at = last; at > mailbox->data && at[-1] != '@'; at--) { /* void */ }

    domain.len = last - at;
    domain.data = at;

    p = plan->senders.data;
    last = plan->senders.data + plan->senders.len;

    while (ngx_smtp_relay_plan_next(&p, last, &entry) == NGX_OK) {

        if (ngx_smtp_relay_plan_match(&entry, mailbox, &domain)) {
            return 1;
        }
    }

    return 0;
}


/* NGX_OK: an entry; NGX_DONE: no more of them; NGX_DECLINED: it is none */

static ngx_int_t
ngx_smtp_relay_plan_next(u_char **pos, u_char *last, ngx_str_t *entry)
{
    u_char  *p;

    /* RFC 9110, 5.6.1.2.: empty elements are passed over */

    for (p = *pos; p < last; p++) {
        if (*p != ',' && *p != ' ' && *p != '\t') {
            break;
        }
    }

    if (p == last) {
        return NGX_DONE;
    }

    entry->data = p;

    p = ngx_smtp_relay_plan_entry(p, last);

    if (p == NULL) {
        return NGX_DECLINED;
    }

    entry->len = p - entry->data;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    if (p < last && *p != ',') {
        return NGX_DECLINED;
    }

    *pos = p;

    return NGX_OK;
}


/* where "example.com", "*.example.org" or "a@b.example" ends, or NULL */

static u_char *
ngx_smtp_relay_plan_entry(u_char *p, u_char *last)
{
    u_char  *start;

    start = p;

    if (*p == '*') {

        /* "*@example.org" is a mailbox, but was hardly meant to be one */

        if (last - p < 3 || p[1] != '.' || p[2] == '[') {
            return NULL;
        }

        return ngx_smtp_relay_parse_domain(p + 2, last);
    }

    p = ngx_smtp_relay_parse_local(start, last);

    if (p && p < last && *p == '@') {
        return ngx_smtp_relay_parse_domain(p + 1, last);
    }

    return ngx_smtp_relay_parse_domain(start, last);
}


static ngx_uint_t
ngx_smtp_relay_plan_match(ngx_str_t *entry, ngx_str_t *mailbox,
    ngx_str_t *domain)
{
    u_char  *p, *last;
    size_t   len, local;

    last = entry->data + entry->len;

    if (entry->data[0] == '*') {

        /* of any number of labels, but one at least */

        len = entry->len - 1;

        return domain->len > len
               && ngx_strncasecmp(domain->data + domain->len - len,
                                  entry->data + 1, len)
                  == 0;
    }

    for (p = last; p > entry->data && p[-1] != '@'; p--) { /* void */ }

    len = last - p;

    if (domain->len != len || ngx_strncasecmp(domain->data, p, len) != 0) {
        return 0;
    }

    if (p == entry->data) {
        return 1;
    }

    /* RFC 5321, 2.4.: only who is there knows what case means in a name */

    local = p - entry->data;

    return mailbox->len - len == local
           && ngx_memcmp(mailbox->data, entry->data, local) == 0;
}
