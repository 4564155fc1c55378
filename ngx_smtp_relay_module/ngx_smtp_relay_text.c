
/*
 * Text encodings: characters, xtext, text of other parties made harmless.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"


size_t
ngx_smtp_relay_printable(u_char *p, u_char *last)
{
    size_t  i, len;
    u_char  ch, min, max;

    ch = *p;

    if (ch < 0x80) {
        return (ch >= 0x20 && ch != 0x7f) ? 1 : 0;
    }

    /*
     * RFC 3629, 4.: the second octet has its own range behind some first
     * octets, which rules out overlong forms, surrogates and what is above
     * U+10FFFF.  Behind C2 it rules out the controls U+0080 .. U+009F, too.
     */

    min = 0x80;
    max = 0xbf;

    if (ch < 0xc2 || ch > 0xf4) {
        return 0;

    } else if (ch < 0xe0) {
        len = 2;
        min = (ch == 0xc2) ? 0xa0 : min;

    } else if (ch < 0xf0) {
        len = 3;
        min = (ch == 0xe0) ? 0xa0 : min;
        max = (ch == 0xed) ? 0x9f : max;

    } else {
        len = 4;
        min = (ch == 0xf0) ? 0x90 : min;
        max = (ch == 0xf4) ? 0x8f : max;
    }

    if ((size_t) (last - p) < len || p[1] < min || p[1] > max) {
        return 0;
    }

    for (i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }

    return len;
}


uintptr_t
ngx_smtp_relay_xtext(u_char *dst, ngx_str_t *src)
{
    u_char      ch;
    size_t      i;
    uintptr_t   len;

    static u_char  hex[] = "0123456789ABCDEF";

    len = 0;

    for (i = 0; i < src->len; i++) {
        ch = src->data[i];

        if (ch > 0x20 && ch < 0x7f && ch != '+' && ch != '=') {
            len++;

            if (dst) {
                *dst++ = ch;
            }

            continue;
        }

        len += 3;

        if (dst) {
            *dst++ = '+';
            *dst++ = hex[ch >> 4];
            *dst++ = hex[ch & 0xf];
        }
    }

    return dst ? (uintptr_t) dst : len;
}


void
ngx_smtp_relay_sanitize(ngx_str_t *text, size_t max)
{
    u_char  *p, *dst, *last, *end;
    size_t   n;

    if (text->len == 0) {
        return;
    }

    p = text->data;
    last = p + text->len;

    /* what is written never gets ahead of what is read */

    dst = p;
    end = p + ngx_min(text->len, max);

    while (p < last && dst < end) {

        n = ngx_smtp_relay_printable(p, last);

        if (n == 0) {

            if (*p < 0x20 || *p == 0x7f) {
                *dst++ = ' ';
                p++;

            } else if (*p == 0xc2 && last - p > 1 && (p[1] & 0xe0) == 0x80) {
                *dst++ = ' ';
                p += 2;

            } else {
                *dst++ = '?';
                p++;
            }

            continue;
        }

        if ((size_t) (end - dst) < n) {
            break;
        }

        while (n--) {
            *dst++ = *p++;
        }
    }

    text->len = dst - text->data;
}


ngx_uint_t
ngx_smtp_relay_has_control(ngx_str_t *text)
{
    size_t  i;

    for (i = 0; i < text->len; i++) {
        if (text->data[i] < 0x20 || text->data[i] == 0x7f) {
            return 1;
        }
    }

    return 0;
}
