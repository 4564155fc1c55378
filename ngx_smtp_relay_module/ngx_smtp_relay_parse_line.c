
/*
 * Command lines: where they end, their verbs, the argument of HELO.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"


#define ngx_smtp_relay_is_blank(ch)  ((ch) == ' ' || (ch) == '\t')


typedef struct {
    ngx_str_t               name;
    ngx_smtp_relay_verb_e   verb;
} ngx_smtp_relay_verb_name_t;


static ngx_int_t ngx_smtp_relay_skip_line(ngx_smtp_relay_line_t *st,
    ngx_buf_t *b);
static ngx_int_t ngx_smtp_relay_end_line(ngx_smtp_relay_line_t *st,
    ngx_buf_t *b, size_t max, u_char *lf, ngx_str_t *line);
static void ngx_smtp_relay_check_octet(ngx_smtp_relay_line_t *st, u_char prev,
    u_char ch);
static ngx_uint_t ngx_smtp_relay_is_foreign(ngx_str_t *line, size_t word);


static ngx_smtp_relay_verb_name_t  ngx_smtp_relay_verbs[] = {

    { ngx_string("HELO"),      NGX_SMTP_RELAY_HELO },
    { ngx_string("EHLO"),      NGX_SMTP_RELAY_EHLO },
    { ngx_string("STARTTLS"),  NGX_SMTP_RELAY_STARTTLS },
    { ngx_string("AUTH"),      NGX_SMTP_RELAY_AUTH },
    { ngx_string("MAIL"),      NGX_SMTP_RELAY_MAIL },
    { ngx_string("RCPT"),      NGX_SMTP_RELAY_RCPT },
    { ngx_string("DATA"),      NGX_SMTP_RELAY_DATA },
    { ngx_string("BDAT"),      NGX_SMTP_RELAY_BDAT },
    { ngx_string("RSET"),      NGX_SMTP_RELAY_RSET },
    { ngx_string("NOOP"),      NGX_SMTP_RELAY_NOOP },
    { ngx_string("QUIT"),      NGX_SMTP_RELAY_QUIT },
    { ngx_string("HELP"),      NGX_SMTP_RELAY_HELP },
    { ngx_string("VRFY"),      NGX_SMTP_RELAY_VRFY },
    { ngx_string("EXPN"),      NGX_SMTP_RELAY_EXPN },
    { ngx_string("TURN"),      NGX_SMTP_RELAY_TURN },
    { ngx_string("ETRN"),      NGX_SMTP_RELAY_ETRN },

    { ngx_null_string,         NGX_SMTP_RELAY_UNKNOWN }
};


/* first words of HTTP requests; their case matters */

static ngx_str_t  ngx_smtp_relay_methods[] = {
    ngx_string("GET"),
    ngx_string("POST"),
    ngx_string("HEAD"),
    ngx_string("PUT"),
    ngx_string("DELETE"),
    ngx_string("OPTIONS"),
    ngx_string("CONNECT"),
    ngx_string("PATCH"),
    ngx_string("TRACE"),
    ngx_string("PRI"),
    ngx_null_string
};


/* headers that HTTP clients send and mail has no command like them */

static ngx_str_t  ngx_smtp_relay_headers[] = {
    ngx_string("Host:"),
    ngx_string("User-Agent:"),
    ngx_string("Accept:"),
    ngx_string("Accept-Encoding:"),
    ngx_string("Accept-Language:"),
    ngx_string("Authorization:"),
    ngx_string("Cache-Control:"),
    ngx_string("Connection:"),
    ngx_string("Content-Length:"),
    ngx_string("Content-Type:"),
    ngx_string("Cookie:"),
    ngx_string("Origin:"),
    ngx_string("Proxy-Connection:"),
    ngx_string("Referer:"),
    ngx_string("Transfer-Encoding:"),
    ngx_string("Upgrade:"),
    ngx_null_string
};


ngx_int_t
ngx_smtp_relay_parse_line(ngx_smtp_relay_line_t *st, ngx_buf_t *b, size_t max,
    ngx_str_t *line)
{
    u_char  *p, prev;

    if (st->skip) {
        return ngx_smtp_relay_skip_line(st, b);
    }

    if (st->seen == 0) {
        st->error = NGX_SMTP_RELAY_LINE_OK;
    }

    p = b->pos + st->seen;
    prev = st->seen ? p[-1] : 0;

    for ( /* void */ ; p < b->last; p++) {

        if (*p == LF) {
            return ngx_smtp_relay_end_line(st, b, max, p, line);
        }

        ngx_smtp_relay_check_octet(st, prev, *p);

        prev = *p;
    }

    st->seen = b->last - b->pos;

    /* one octet more than max may be the CR of a line end */

    if (st->seen > max && (st->seen > max + 1 || prev != CR)) {
        st->error = NGX_SMTP_RELAY_LINE_LONG;
        st->seen = 0;
        st->skip = 1;
        b->pos = b->last;
    }

    return NGX_AGAIN;
}


static ngx_int_t
ngx_smtp_relay_skip_line(ngx_smtp_relay_line_t *st, ngx_buf_t *b)
{
    u_char  *lf;

    lf = ngx_strlchr(b->pos, b->last, LF);

    if (lf == NULL) {
        b->pos = b->last;
        return NGX_AGAIN;
    }

    b->pos = lf + 1;
    st->skip = 0;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_smtp_relay_end_line(ngx_smtp_relay_line_t *st, ngx_buf_t *b, size_t max,
    u_char *lf, ngx_str_t *line)
{
    u_char  *end;

    end = lf;

    if (lf > b->pos && lf[-1] == CR) {
        end--;

    } else if (st->error == NGX_SMTP_RELAY_LINE_OK) {
        st->error = NGX_SMTP_RELAY_LINE_BARE;
    }

    line->len = end - b->pos;
    line->data = b->pos;

    if (line->len > max) {
        st->error = NGX_SMTP_RELAY_LINE_LONG;
    }

    b->pos = lf + 1;
    st->seen = 0;

    return (st->error == NGX_SMTP_RELAY_LINE_OK) ? NGX_OK : NGX_DECLINED;
}


static void
ngx_smtp_relay_check_octet(ngx_smtp_relay_line_t *st, u_char prev, u_char ch)
{
    if (st->error != NGX_SMTP_RELAY_LINE_OK) {
        return;
    }

    if (prev == CR) {
        st->error = NGX_SMTP_RELAY_LINE_BARE;

    } else if (ch == '\0') {
        st->error = NGX_SMTP_RELAY_LINE_NUL;
    }
}


ngx_smtp_relay_verb_e
ngx_smtp_relay_parse_verb(ngx_str_t *line, ngx_str_t *arg)
{
    u_char                      *p, *last;
    size_t                       len;
    ngx_smtp_relay_verb_name_t  *v;

    p = line->data;
    last = p + line->len;

    while (p < last && !ngx_smtp_relay_is_blank(*p)) {
        p++;
    }

    len = p - line->data;

    while (p < last && ngx_smtp_relay_is_blank(*p)) {
        p++;
    }

    while (last > p && ngx_smtp_relay_is_blank(last[-1])) {
        last--;
    }

    arg->len = last - p;
    arg->data = p;

    for (v = ngx_smtp_relay_verbs; v->name.len; v++) {
        if (v->name.len == len
            && ngx_strncasecmp(v->name.data, line->data, len) == 0)
        {
            return v->verb;
        }
    }

    if (ngx_smtp_relay_is_foreign(line, len)) {
        return NGX_SMTP_RELAY_FOREIGN;
    }

    return NGX_SMTP_RELAY_UNKNOWN;
}


static ngx_uint_t
ngx_smtp_relay_is_foreign(ngx_str_t *line, size_t word)
{
    ngx_str_t  *name;

    if (word < line->len && line->data[word] == ' ') {

        for (name = ngx_smtp_relay_methods; name->len; name++) {
            if (name->len == word
                && ngx_strncmp(name->data, line->data, word) == 0)
            {
                return 1;
            }
        }
    }

    for (name = ngx_smtp_relay_headers; name->len; name++) {
        if (name->len <= word
            && ngx_strncasecmp(name->data, line->data, name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_smtp_relay_parse_helo(ngx_str_t *arg)
{
    u_char  *p, *last;
    size_t   n;

    if (arg->len == 0 || arg->len > NGX_SMTP_RELAY_MAX_DOMAIN) {
        return NGX_ERROR;
    }

    p = arg->data;
    last = p + arg->len;

    if (arg->len > 2 && *p == '[' && last[-1] == ']') {
        p++;
        last--;
    }

    while (p < last) {

        switch (*p) {

        case ' ':
        case '<':
        case '>':
        case '(':
        case ')':
        case '[':
        case '\\':
        case ']':
        case ',':
        case ';':
        case '"':
        case '@':
            return NGX_ERROR;
        }

        n = ngx_smtp_relay_printable(p, last);

        if (n == 0) {
            return NGX_ERROR;
        }

        p += n;
    }

    return NGX_OK;
}
