
#include "ngx_smtp_relay.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_http_smtp_relay_accept.h"


/* how well a range fits a type */

#define NGX_HTTP_SMTP_RELAY_FITS_NOT   0
#define NGX_HTTP_SMTP_RELAY_FITS_ANY   1           /* all types, text/... */
#define NGX_HTTP_SMTP_RELAY_FITS_TYPE  2
#define NGX_HTTP_SMTP_RELAY_FITS_BEST  3


static u_char *ngx_http_smtp_relay_accept_end(u_char *p, u_char *last,
    u_char ch);
static ngx_uint_t ngx_http_smtp_relay_accept_fits(u_char *p, u_char *last,
    ngx_str_t *type);
static ngx_uint_t ngx_http_smtp_relay_accept_quality(u_char *p, u_char *last);
static void ngx_http_smtp_relay_accept_trim(u_char **p, u_char **last);


ngx_uint_t
ngx_http_smtp_relay_accept(ngx_http_request_t *r, ngx_str_t *type,
    ngx_uint_t any)
{
    u_char           *p, *last, *end, *params;
    ngx_uint_t        i, fits, best, quality;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    best = any ? NGX_HTTP_SMTP_RELAY_FITS_NOT : NGX_HTTP_SMTP_RELAY_FITS_TYPE;
    quality = 0;

    /* nginx itself knows this header only if it was built to */

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != sizeof("Accept") - 1
                || ngx_strncasecmp(h[i].key.data, (u_char *) "Accept",
                                   sizeof("Accept") - 1)
                   != 0)
            {
                continue;
            }

            last = h[i].value.data + h[i].value.len;

            for (p = h[i].value.data; p < last; p = end + 1) {

                end = ngx_http_smtp_relay_accept_end(p, last, ',');
                params = ngx_http_smtp_relay_accept_end(p, end, ';');

                fits = ngx_http_smtp_relay_accept_fits(p, params, type);

                if (fits > best) {
                    best = fits;
                    quality = ngx_http_smtp_relay_accept_quality(params, end);
                }
            }
        }
    }

    return quality;
}


/* the next ch that does not stand in quotes, or last */

static u_char *
ngx_http_smtp_relay_accept_end(u_char *p, u_char *last, u_char ch)
{
    ngx_uint_t  quoted;

    quoted = 0;

    for ( /* void */ ; p < last; p++) {

        if (*p == '"') {
            quoted = !quoted;

        } else if (quoted && *p == '\\') {
            p++;

        } else if (!quoted && *p == ch) {
            return p;
        }
    }

    return last;
}


static ngx_uint_t
ngx_http_smtp_relay_accept_fits(u_char *p, u_char *last, ngx_str_t *type)
{
    size_t   len;
    u_char  *slash;

    ngx_http_smtp_relay_accept_trim(&p, &last);

    len = last - p;

    if (len == type->len && ngx_strncasecmp(p, type->data, len) == 0) {
        return NGX_HTTP_SMTP_RELAY_FITS_BEST;
    }

    if (len == 3 && ngx_strncmp(p, "*/*", 3) == 0) {
        return NGX_HTTP_SMTP_RELAY_FITS_ANY;
    }

    slash = ngx_strlchr(p, last, '/');

    if (slash
        && last - slash == 2 && slash[1] == '*'
        && ngx_strncasecmp(p, type->data, slash - p + 1) == 0)
    {
        return NGX_HTTP_SMTP_RELAY_FITS_TYPE;
    }

    return NGX_HTTP_SMTP_RELAY_FITS_NOT;
}


/* of parameters, each with ";" in front; without a valid "q" it is 1 */

static ngx_uint_t
ngx_http_smtp_relay_accept_quality(u_char *p, u_char *last)
{
    u_char     *end, *value;
    ngx_int_t   n;

    for ( /* void */ ; p < last; p = end) {

        value = p + 1;
        end = ngx_http_smtp_relay_accept_end(value, last, ';');
        p = end;

        ngx_http_smtp_relay_accept_trim(&value, &p);

        if (p - value > 2 && (*value | 0x20) == 'q' && value[1] == '=') {

            n = ngx_atofp(value + 2, p - value - 2, 3);

            return (n == NGX_ERROR || n > 1000) ? 1000 : n;
        }
    }

    return 1000;
}


static void
ngx_http_smtp_relay_accept_trim(u_char **p, u_char **last)
{
    while (*p < *last && (**p == ' ' || **p == '\t')) {
        (*p)++;
    }

    while (*p < *last && ((*last)[-1] == ' ' || (*last)[-1] == '\t')) {
        (*last)--;
    }
}

#endif
