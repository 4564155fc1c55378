
/*
 * Commands: what is accepted has no control character, keeps its bounds,
 * and is accepted again when it is put together anew.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "fuzz.h"


#define FUZZ_EXT                                                              \
    (NGX_SMTP_RELAY_EXT_8BITMIME | NGX_SMTP_RELAY_EXT_SMTPUTF8                \
     | NGX_SMTP_RELAY_EXT_DSN | NGX_SMTP_RELAY_EXT_SIZE)


static fuzz_text_t  fuzz_text;


static void
fuzz_path(ngx_smtp_relay_path_t *path, ngx_str_t *arg)
{
    size_t     i;
    ngx_str_t  *s;

    s = &path->path;

    fuzz_check(fuzz_within(s, arg));
    fuzz_check(fuzz_within(&path->local, s));
    fuzz_check(fuzz_within(&path->domain, s));

    fuzz_check(s->len <= NGX_SMTP_RELAY_MAX_PATH);
    fuzz_check(path->local.len <= NGX_SMTP_RELAY_MAX_LOCAL);
    fuzz_check(path->domain.len <= NGX_SMTP_RELAY_MAX_DOMAIN);

    fuzz_check(!fuzz_has_control(s));

    fuzz_check(s->len == path->local.len + path->domain.len
                         + (path->domain.len ? 1 : 0));

    if (s->len) {
        fuzz_check(path->local.len && path->local.data == s->data);
    }

    if (path->domain.len) {
        fuzz_check(path->domain.data[-1] == '@');
        fuzz_check(memchr(path->domain.data, ' ', path->domain.len) == NULL);
        fuzz_check(memchr(path->domain.data, '@', path->domain.len) == NULL);
        fuzz_check(memchr(path->domain.data, '>', path->domain.len) == NULL);
    }

    for (i = 0; i < s->len && s->data[i] < 0x80; i++) { /* void */ }

    fuzz_check(i == s->len || path->utf8);
}


/* a value of a parameter can be sent on as it is */

static void
fuzz_value(ngx_str_t *value, ngx_str_t *arg, size_t max)
{
    fuzz_check(fuzz_within(value, arg));
    fuzz_check(value->len <= max);
    fuzz_check(!fuzz_has_control(value));

    if (value->len) {
        fuzz_check(memchr(value->data, ' ', value->len) == NULL);
        fuzz_check(memchr(value->data, '=', value->len) == NULL);
    }
}


static void
fuzz_mail(ngx_str_t *arg, ngx_uint_t ext)
{
    ngx_str_t                    again;
    ngx_smtp_relay_mail_t        mail, other;
    ngx_smtp_relay_arg_error_e   rc;

    memset(&mail, 0xa5, sizeof(ngx_smtp_relay_mail_t));

    rc = ngx_smtp_relay_parse_mail(arg, ext, &mail);

    fuzz_path(&mail.path, arg);

    if (rc != NGX_SMTP_RELAY_ARG_OK) {
        return;
    }

    fuzz_value(&mail.body, arg, 8);
    fuzz_value(&mail.ret, arg, 4);
    fuzz_value(&mail.envid, arg, 100);
    fuzz_value(&mail.auth, arg, 500);

    fuzz_check(mail.size >= -1);
    fuzz_check((mail.needs & ~ext) == 0);
    fuzz_check(mail.path.path.len == 0 || mail.path.domain.len);
    fuzz_check(!mail.path.utf8 || mail.smtputf8);

    fuzz_text.len = 0;
    fuzz_add_text(&fuzz_text, "FROM:<");
    fuzz_add(&fuzz_text, mail.path.path.data, mail.path.path.len);
    fuzz_add_text(&fuzz_text, ">");

    if (mail.smtputf8) {
        fuzz_add_text(&fuzz_text, " SMTPUTF8");
    }

    if (mail.envid.len) {
        fuzz_add_text(&fuzz_text, " ENVID=");
        fuzz_add(&fuzz_text, mail.envid.data, mail.envid.len);
    }

    again.data = fuzz_text.data;
    again.len = fuzz_text.len;

    fuzz_check(ngx_smtp_relay_parse_mail(&again, ext, &other)
               == NGX_SMTP_RELAY_ARG_OK);
    fuzz_check(other.path.path.len == mail.path.path.len);
    fuzz_check(other.path.local.len == mail.path.local.len);
    fuzz_check(other.envid.len == mail.envid.len);
}


static void
fuzz_rcpt(ngx_str_t *arg, ngx_uint_t ext, ngx_uint_t smtputf8)
{
    ngx_str_t                    again;
    ngx_smtp_relay_rcpt_t        rcpt, other;
    ngx_smtp_relay_arg_error_e   rc;

    memset(&rcpt, 0xa5, sizeof(ngx_smtp_relay_rcpt_t));

    rc = ngx_smtp_relay_parse_rcpt(arg, ext, smtputf8, &rcpt);

    fuzz_path(&rcpt.path, arg);

    if (rc != NGX_SMTP_RELAY_ARG_OK) {
        return;
    }

    fuzz_value(&rcpt.notify, arg, 21);
    fuzz_value(&rcpt.orcpt, arg, 500);

    fuzz_check((rcpt.needs & ~ext) == 0);
    fuzz_check(rcpt.path.path.len);
    fuzz_check(!rcpt.path.utf8 || smtputf8);

    fuzz_text.len = 0;
    fuzz_add_text(&fuzz_text, "TO:<");
    fuzz_add(&fuzz_text, rcpt.path.path.data, rcpt.path.path.len);
    fuzz_add_text(&fuzz_text, ">");

    if (rcpt.orcpt.len) {
        fuzz_add_text(&fuzz_text, " ORCPT=");
        fuzz_add(&fuzz_text, rcpt.orcpt.data, rcpt.orcpt.len);
    }

    again.data = fuzz_text.data;
    again.len = fuzz_text.len;

    fuzz_check(ngx_smtp_relay_parse_rcpt(&again, ext, smtputf8, &other)
               == NGX_SMTP_RELAY_ARG_OK);
    fuzz_check(other.path.path.len == rcpt.path.path.len);
    fuzz_check(other.path.local.len == rcpt.path.local.len);
    fuzz_check(other.orcpt.len == rcpt.orcpt.len);
}


static void
fuzz_bdat(ngx_str_t *arg)
{
    off_t        size;
    char         text[32];
    size_t       zeros;
    ngx_uint_t   last;

    if (ngx_smtp_relay_parse_bdat(arg, &size, &last) != NGX_OK) {
        fuzz_check(size == 0 && last == 0);
        return;
    }

    fuzz_check(size >= 0);

    for (zeros = 0;
         zeros + 1 < arg->len && arg->data[zeros] == '0'
         && arg->data[zeros + 1] >= '0' && arg->data[zeros + 1] <= '9';
         zeros++)
    {
        /* void */
    }

    sprintf(text, "%lld", (long long) size);
    fuzz_check(arg->len - zeros >= strlen(text));
    fuzz_check(memcmp(arg->data + zeros, text, strlen(text)) == 0);
}


static void
fuzz_helo(ngx_str_t *arg)
{
    if (ngx_smtp_relay_parse_helo(arg) != NGX_OK) {
        return;
    }

    fuzz_check(arg->len && arg->len <= NGX_SMTP_RELAY_MAX_DOMAIN);
    fuzz_check(!fuzz_has_control(arg));
    fuzz_check(memchr(arg->data, ' ', arg->len) == NULL);
    fuzz_check(memchr(arg->data, '<', arg->len) == NULL);
}


/* takes xtext apart again */

static void
fuzz_xtext(ngx_str_t *src)
{
    u_char        *p, *end;
    size_t         len, i;
    unsigned int   ch;

    fuzz_text.len = 0;

    len = (size_t) ngx_smtp_relay_xtext(NULL, src);
    fuzz_check(len >= src->len && len <= src->len * 3);

    p = malloc(len);
    fuzz_check(p != NULL);

    end = (u_char *) ngx_smtp_relay_xtext(p, src);
    fuzz_check((size_t) (end - p) == len);

    for (i = 0; i < len; /* void */ ) {

        fuzz_check(p[i] > 0x20 && p[i] < 0x7f && p[i] != '=');

        if (p[i] != '+') {
            fuzz_add(&fuzz_text, &p[i], 1);
            i++;
            continue;
        }

        fuzz_check(len - i >= 3);
        fuzz_check(sscanf((char [3]) { p[i + 1], p[i + 2], '\0' }, "%2X", &ch)
                   == 1);
        fuzz_add(&fuzz_text, (u_char [1]) { ch }, 1);
        i += 3;
    }

    fuzz_check(fuzz_text.len == src->len);
    fuzz_check(memcmp(fuzz_text.data, src->data, src->len) == 0);

    free(p);
}


static void
fuzz_sanitize(ngx_str_t *src, size_t max)
{
    u_char     *p, *end;
    size_t      n;
    ngx_str_t   text;

    text.len = src->len;
    text.data = fuzz_copy(src->data, src->len);

    ngx_smtp_relay_sanitize(&text, max);

    fuzz_check(text.len <= src->len && text.len <= max);

    end = text.data + text.len;

    for (p = text.data; p < end; p += n) {
        n = ngx_smtp_relay_printable(p, end);
        fuzz_check(n);
    }

    /* what is harmless stays as it is */

    fuzz_text.len = 0;
    fuzz_add(&fuzz_text, text.data, text.len);

    ngx_smtp_relay_sanitize(&text, max);

    fuzz_check(text.len == fuzz_text.len);
    fuzz_check(memcmp(text.data, fuzz_text.data, text.len) == 0);

    free(text.data);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_str_t               line, arg;
    ngx_uint_t              ext, smtputf8;
    ngx_smtp_relay_verb_e   verb;

    if (size < 1) {
        return 0;
    }

    ext = (data[0] & 1) ? FUZZ_EXT : (data[0] * 0x21u) & FUZZ_EXT;
    smtputf8 = (data[0] & 2) ? 1 : 0;

    line.len = size - 1;
    line.data = fuzz_copy(data + 1, line.len);

    verb = ngx_smtp_relay_parse_verb(&line, &arg);

    fuzz_check(verb < NGX_SMTP_RELAY_VERBS);
    fuzz_check(fuzz_within(&arg, &line));

    switch (verb) {

    case NGX_SMTP_RELAY_MAIL:
        fuzz_mail(&arg, ext);
        break;

    case NGX_SMTP_RELAY_RCPT:
        fuzz_rcpt(&arg, ext, smtputf8);
        break;

    case NGX_SMTP_RELAY_BDAT:
        fuzz_bdat(&arg);
        break;

    case NGX_SMTP_RELAY_HELO:
    case NGX_SMTP_RELAY_EHLO:
        fuzz_helo(&arg);
        break;

    default:

        /* arguments without verbs */

        fuzz_mail(&line, ext);
        fuzz_rcpt(&line, ext, smtputf8);
        fuzz_bdat(&line);
        fuzz_helo(&line);
        fuzz_xtext(&line);
        fuzz_sanitize(&line, data[0]);
    }

    free(line.data);

    return 0;
}
