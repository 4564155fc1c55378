
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_header.h"


typedef enum {
    sw_start = 0,     /* a line starts */
    sw_name,          /* in what may be the name of a header */
    sw_space,         /* in white space behind it */
    sw_keep,          /* in a line that passes */
    sw_drop,          /* in a line that is dropped */
    sw_over           /* behind the header section */
} ngx_smtp_relay_header_state_e;


/*
 * The output of a call.  Spans before n are complete; pos and last are the
 * one in progress, which is within the span that is read.  The mark is where
 * the output was when the line started that is not decided on yet.
 */

typedef struct {
    ngx_smtp_relay_span_t   *spans;
    ngx_uint_t               n;
    u_char                  *pos;
    u_char                  *last;

    ngx_uint_t               mark;
    ngx_smtp_relay_span_t    marked;
    ngx_uint_t               here;   /* the mark is in the span in progress */
} ngx_smtp_relay_header_out_t;


#define ngx_smtp_relay_header_blank(ch)  ((ch) == ' ' || (ch) == '\t')

/* ftext of RFC 5322, 3.6.8. */

#define ngx_smtp_relay_header_ftext(ch)                                       \
    ((ch) > ' ' && (ch) < 0x7f && (ch) != ':')


static u_char *ngx_smtp_relay_header_fold(u_char **line, u_char *brk,
    u_char *p, u_char ch);
static void ngx_smtp_relay_header_span(ngx_smtp_relay_header_t *h,
    ngx_smtp_relay_span_t *in, ngx_smtp_relay_header_out_t *out);
static u_char *ngx_smtp_relay_header_start(ngx_smtp_relay_header_t *h,
    u_char *p, ngx_smtp_relay_header_out_t *out);
static u_char *ngx_smtp_relay_header_field(ngx_smtp_relay_header_t *h,
    u_char *p, u_char *last, u_char **run, ngx_smtp_relay_header_out_t *out);
static void ngx_smtp_relay_header_decide(ngx_smtp_relay_header_t *h,
    u_char *p, u_char **run, ngx_smtp_relay_header_out_t *out);
static void ngx_smtp_relay_header_over(ngx_smtp_relay_header_t *h, u_char *p,
    ngx_smtp_relay_header_out_t *out);
static u_char *ngx_smtp_relay_header_skip(ngx_smtp_relay_header_t *h,
    u_char *p, u_char *last);
static void ngx_smtp_relay_header_put(ngx_smtp_relay_header_out_t *out,
    u_char *pos, u_char *last);
static void ngx_smtp_relay_header_keep(ngx_smtp_relay_header_out_t *out,
    u_char *pos, u_char *last);
static void ngx_smtp_relay_header_close(ngx_smtp_relay_header_out_t *out);
static void ngx_smtp_relay_header_mark(ngx_smtp_relay_header_out_t *out);
static void ngx_smtp_relay_header_back(ngx_smtp_relay_header_out_t *out,
    u_char *p);


static u_char  ngx_smtp_relay_header_empty_line[] = CRLF;


ngx_int_t
ngx_smtp_relay_header_name(ngx_str_t *name)
{
    size_t  i;

    if (name->len == 0
        || name->len > NGX_SMTP_RELAY_HEADER_NAME
        || name->data[0] == '.')
    {
        return NGX_ERROR;
    }

    for (i = 0; i < name->len; i++) {
        if (!ngx_smtp_relay_header_ftext(name->data[i])) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


u_char *
ngx_smtp_relay_header_write(u_char *p, ngx_str_t *name, ngx_str_t *value)
{
    u_char  ch, *src, *last, *line, *start, *brk;

    src = value->data;
    last = src + value->len;

    while (src < last && (*src <= ' ' || *src == 0x7f)) {
        src++;
    }

    while (src < last && (last[-1] <= ' ' || last[-1] == 0x7f)) {
        last--;
    }

    if (src == last) {
        return p;
    }

    line = p;
    brk = NULL;

    p = ngx_cpymem(p, name->data, name->len);
    *p++ = ':';
    *p++ = ' ';

    start = p;

    for ( /* void */ ; src < last; src++) {
        ch = *src;

        if ((ch < ' ' && ch != '\t') || ch == 0x7f) {
            ch = ' ';
        }

        if (ngx_smtp_relay_header_blank(ch)) {

            /* no line has nothing but white space */

            if (line > start && p == line + 1) {
                continue;
            }

        } else if (p > start && p - 1 > line
                   && ngx_smtp_relay_header_blank(p[-1]))
        {
            brk = p - 1;
        }

        if (p - line == NGX_SMTP_RELAY_HEADER_LINE) {
            p = ngx_smtp_relay_header_fold(&line, brk, p, ch);
            brk = NULL;
        }

        *p++ = ch;
    }

    *p++ = CR;
    *p++ = LF;

    return p;
}


/* ends a line in front of the blank at brk, or where that is not possible */

static u_char *
ngx_smtp_relay_header_fold(u_char **line, u_char *brk, u_char *p, u_char ch)
{
    size_t      gap;
    u_char     *cut;
    ngx_uint_t  i;

    gap = 2;
    cut = brk;

    if (cut == NULL) {
        cut = p;

        if (!ngx_smtp_relay_header_blank(ch)) {
            gap = 3;

            /* not within a character of UTF-8 */

            for (i = 0; (ch & 0xc0) == 0x80; i++) {

                if (i == 3) {
                    cut = p;
                    break;
                }

                ch = *--cut;
            }
        }
    }

    ngx_memmove(cut + gap, cut, p - cut);

    cut[0] = CR;
    cut[1] = LF;

    if (gap == 3) {
        cut[2] = ' ';
    }

    *line = cut + 2;

    return p + gap;
}


void
ngx_smtp_relay_header_init(ngx_smtp_relay_header_t *h, ngx_str_t *names,
    ngx_uint_t n, ngx_str_t *block)
{
    h->names = names;
    h->n = n;
    h->block = *block;

    h->state = sw_start;
    h->len = 0;
    h->name = 0;
    h->held = 0;
    h->current = 0;
    h->field = 0;
    h->dropped = 0;
    h->passed = 0;
}


ngx_smtp_relay_span_t *
ngx_smtp_relay_header_filter(ngx_smtp_relay_header_t *h,
    ngx_smtp_relay_span_t *in, ngx_uint_t *n, ngx_uint_t end,
    ngx_smtp_relay_span_t *spans)
{
    u_char                       *p;
    ngx_uint_t                    i;
    ngx_smtp_relay_header_out_t   out;

    if (h->passed && h->state == sw_over) {
        return in;
    }

    ngx_memzero(&out, sizeof(ngx_smtp_relay_header_out_t));

    out.spans = spans;

    if (!h->passed) {
        h->passed = 1;

        if (h->block.len) {
            ngx_smtp_relay_header_put(&out, h->block.data,
                                      h->block.data + h->block.len);
        }
    }

    ngx_smtp_relay_header_mark(&out);

    p = h->buf[h->current];
    ngx_smtp_relay_header_put(&out, p, p + h->held);

    for (i = 0; i < *n; i++) {
        ngx_smtp_relay_header_span(h, &in[i], &out);
    }

    if (h->state == sw_name || h->state == sw_space) {

        if (end) {
            ngx_smtp_relay_header_over(h, NULL, &out);

        } else {
            ngx_smtp_relay_header_back(&out, NULL);
            h->held = h->len;
        }
    }

    *n = out.n;

    return spans;
}


/* [run, p) passes, or is not decided on, and is not in the output yet */

static void
ngx_smtp_relay_header_span(ngx_smtp_relay_header_t *h,
    ngx_smtp_relay_span_t *in, ngx_smtp_relay_header_out_t *out)
{
    u_char  *p, *run;

    p = in->pos;
    run = p;

    out->pos = p;
    out->last = p;

    while (p < in->last) {

        switch (h->state) {

        case sw_start:
            ngx_smtp_relay_header_keep(out, run, p);
            run = p;
            p = ngx_smtp_relay_header_start(h, p, out);
            break;

        case sw_name:
        case sw_space:
            p = ngx_smtp_relay_header_field(h, p, in->last, &run, out);
            break;

        case sw_keep:
            p = ngx_smtp_relay_header_skip(h, p, in->last);
            break;

        case sw_drop:
            p = ngx_smtp_relay_header_skip(h, p, in->last);
            run = p;
            break;

        default: /* sw_over */
            p = in->last;
            break;
        }
    }

    ngx_smtp_relay_header_keep(out, run, p);
    ngx_smtp_relay_header_close(out);
}


static u_char *
ngx_smtp_relay_header_start(ngx_smtp_relay_header_t *h, u_char *p,
    ngx_smtp_relay_header_out_t *out)
{
    h->len = 0;
    h->name = 0;

    ngx_smtp_relay_header_mark(out);

    if (*p == CR) {
        h->state = sw_over;

    } else if (!ngx_smtp_relay_header_blank(*p)) {
        h->state = sw_name;

    } else if (!h->field) {
        ngx_smtp_relay_header_over(h, p, out);

    } else {
        h->state = h->dropped ? sw_drop : sw_keep;
    }

    return p;
}


/*
 * What stands before the colon is copied, as it may come in pieces, and as
 * it has to be held if the colon does not come.
 */

static u_char *
ngx_smtp_relay_header_field(ngx_smtp_relay_header_t *h, u_char *p,
    u_char *last, u_char **run, ngx_smtp_relay_header_out_t *out)
{
    u_char  ch;

    for ( /* void */ ; p < last; p++) {
        ch = *p;

        if (ch == ':' && h->name) {
            ngx_smtp_relay_header_decide(h, p, run, out);
            return p;
        }

        if (ngx_smtp_relay_header_blank(ch)) {
            h->state = sw_space;

        } else if (h->state == sw_name && ngx_smtp_relay_header_ftext(ch)) {
            h->name++;

        } else {
            break;
        }

        if (h->len == NGX_SMTP_RELAY_HEADER_LINE) {
            break;
        }

        h->buf[h->current][h->len++] = ch;
    }

    if (p < last) {
        ngx_smtp_relay_header_over(h, p, out);
        *run = p;
    }

    return p;
}


static void
ngx_smtp_relay_header_decide(ngx_smtp_relay_header_t *h, u_char *p,
    u_char **run, ngx_smtp_relay_header_out_t *out)
{
    ngx_uint_t  i;

    h->field = 1;
    h->dropped = 0;

    for (i = 0; i < h->n; i++) {

        if (h->names[i].len == h->name
            && ngx_strncasecmp(h->names[i].data, h->buf[h->current], h->name)
               == 0)
        {
            h->dropped = 1;
            break;
        }
    }

    if (h->dropped) {
        h->state = sw_drop;

        ngx_smtp_relay_header_back(out, p);
        *run = p;

    } else {
        h->state = sw_keep;

        if (h->held) {
            h->current = !h->current;
        }
    }

    h->held = 0;
}


/* the line that is not decided on is no header field */

static void
ngx_smtp_relay_header_over(ngx_smtp_relay_header_t *h, u_char *p,
    ngx_smtp_relay_header_out_t *out)
{
    u_char  *line;

    h->state = sw_over;
    h->held = 0;

    ngx_smtp_relay_header_back(out, p);
    ngx_smtp_relay_header_close(out);

    line = ngx_smtp_relay_header_empty_line;
    ngx_smtp_relay_header_put(out, line, line + 2);

    line = h->buf[h->current];
    ngx_smtp_relay_header_put(out, line, line + h->len);

    out->pos = p;
    out->last = p;
}


/* to the end of a line */

static u_char *
ngx_smtp_relay_header_skip(ngx_smtp_relay_header_t *h, u_char *p, u_char *last)
{
    p = ngx_strlchr(p, last, LF);

    if (p == NULL) {
        return last;
    }

    h->state = sw_start;

    return p + 1;
}


/* a whole span */

static void
ngx_smtp_relay_header_put(ngx_smtp_relay_header_out_t *out, u_char *pos,
    u_char *last)
{
    if (pos == last) {
        return;
    }

    out->spans[out->n].pos = pos;
    out->spans[out->n].last = last;
    out->n++;
}


/* octets of the span that is read go to the end of the one in progress */

static void
ngx_smtp_relay_header_keep(ngx_smtp_relay_header_out_t *out, u_char *pos,
    u_char *last)
{
    if (pos == last) {
        return;
    }

    if (out->pos == out->last) {

        /* the mark, if it is here, has nothing in front of it either */

        out->pos = pos;
        out->last = pos;
    }

    if (out->last != pos) {
        ngx_memmove(out->last, pos, last - pos);
    }

    out->last += last - pos;
}


static void
ngx_smtp_relay_header_close(ngx_smtp_relay_header_out_t *out)
{
    ngx_smtp_relay_header_put(out, out->pos, out->last);

    out->pos = NULL;
    out->last = NULL;
    out->here = 0;
}


static void
ngx_smtp_relay_header_mark(ngx_smtp_relay_header_out_t *out)
{
    out->mark = out->n;
    out->marked.pos = out->pos;
    out->marked.last = out->last;
    out->here = 1;
}


/* drops what was put out since the mark */

static void
ngx_smtp_relay_header_back(ngx_smtp_relay_header_out_t *out, u_char *p)
{
    out->n = out->mark;

    if (!out->here) {
        ngx_smtp_relay_header_put(out, out->marked.pos, out->marked.last);

        out->pos = p;
        out->last = p;

        return;
    }

    out->pos = out->marked.pos;
    out->last = out->marked.last;
}
