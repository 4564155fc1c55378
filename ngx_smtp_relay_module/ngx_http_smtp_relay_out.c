
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_http_smtp_relay_out.h"


#define NGX_HTTP_SMTP_RELAY_OUT_SIZE  16384


static u_char *ngx_http_smtp_relay_out_room(ngx_http_smtp_relay_out_t *out,
    size_t size);
static u_char *ngx_http_smtp_relay_out_escape(u_char *dst, ngx_str_t *text,
    ngx_uint_t json);


void
ngx_http_smtp_relay_out_init(ngx_http_smtp_relay_out_t *out, ngx_pool_t *pool)
{
    ngx_memzero(out, sizeof(ngx_http_smtp_relay_out_t));

    out->pool = pool;
    out->last = &out->first;
}


/* room for size octets in one piece; NULL: no memory */

static u_char *
ngx_http_smtp_relay_out_room(ngx_http_smtp_relay_out_t *out, size_t size)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = out->buf;

    if (b && (size_t) (b->end - b->last) >= size) {
        return b->last;
    }

    if (out->error) {
        return NULL;
    }

    b = ngx_create_temp_buf(out->pool,
                            ngx_max(size, NGX_HTTP_SMTP_RELAY_OUT_SIZE));
    cl = ngx_alloc_chain_link(out->pool);

    if (b == NULL || cl == NULL) {
        out->error = 1;
        out->buf = NULL;
        return NULL;
    }

    cl->buf = b;
    cl->next = NULL;

    *out->last = cl;
    out->last = &cl->next;
    out->buf = b;

    return b->last;
}


void ngx_cdecl
ngx_http_smtp_relay_out_printf(ngx_http_smtp_relay_out_t *out,
    const char *fmt, ...)
{
    u_char   *p;
    va_list   args;

    p = ngx_http_smtp_relay_out_room(out, NGX_HTTP_SMTP_RELAY_OUT_LINE);
    if (p == NULL) {
        return;
    }

    va_start(args, fmt);
    out->buf->last = ngx_vslprintf(p, p + NGX_HTTP_SMTP_RELAY_OUT_LINE, fmt,
                                   args);
    va_end(args);
}


void
ngx_http_smtp_relay_out_text(ngx_http_smtp_relay_out_t *out, u_char *data,
    size_t len)
{
    u_char  *p;

    p = ngx_http_smtp_relay_out_room(out, len);

    if (p) {
        out->buf->last = ngx_cpymem(p, data, len);
    }
}


void
ngx_http_smtp_relay_out_json(ngx_http_smtp_relay_out_t *out, ngx_str_t *text)
{
    u_char  *p;

    /* the longest escape is that of a control character: \u0000 */

    p = ngx_http_smtp_relay_out_room(out, text->len * 6);

    if (p) {
        out->buf->last = ngx_http_smtp_relay_out_escape(p, text, 1);
    }
}


void
ngx_http_smtp_relay_out_label(ngx_http_smtp_relay_out_t *out, ngx_str_t *text)
{
    u_char  *p;

    p = ngx_http_smtp_relay_out_room(out, text->len * 2);

    if (p) {
        out->buf->last = ngx_http_smtp_relay_out_escape(p, text, 0);
    }
}


u_char *
ngx_http_smtp_relay_out_escape_label(u_char *dst, ngx_str_t *text)
{
    return ngx_http_smtp_relay_out_escape(dst, text, 0);
}


/*
 * Of control characters, labels can have a line feed alone, as "\n"; the
 * others become "?" in them, and a code in JSON.
 */

static u_char *
ngx_http_smtp_relay_out_escape(u_char *dst, ngx_str_t *text, ngx_uint_t json)
{
    u_char    ch, *p, *last, *start;
    uint32_t  code;

    p = text->data;
    last = text->data + text->len;

    while (p < last) {
        ch = *p;

        if (ch >= 0x80) {
            start = p;
            code = ngx_utf8_decode(&p, last - p);

            if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
                p = start + 1;
                *dst++ = '?';
                continue;
            }

            dst = ngx_cpymem(dst, start, p - start);
            continue;
        }

        p++;

        if (ch == '"' || ch == '\\') {
            *dst++ = '\\';
            *dst++ = ch;

        } else if (ch == LF) {
            *dst++ = '\\';
            *dst++ = 'n';

        } else if (ch >= 0x20 && ch != 0x7f) {
            *dst++ = ch;

        } else if (json) {
            dst = ngx_sprintf(dst, "\\u%04xd", (uint32_t) ch);

        } else {
            *dst++ = '?';
        }
    }

    return dst;
}


ngx_int_t
ngx_http_smtp_relay_out_done(ngx_http_smtp_relay_out_t *out)
{
    ngx_chain_t  *cl;

    if (out->error || out->first == NULL) {
        return NGX_ERROR;
    }

    for (cl = out->first; cl; cl = cl->next) {
        out->size += cl->buf->last - cl->buf->pos;
    }

    out->buf->last_in_chain = 1;

    return NGX_OK;
}
