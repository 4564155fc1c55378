
/*
 * Paths: source routes, local parts, domains, address literals.
 *
 * The parsers of elements take where an element starts and where the
 * argument ends, and return where the element ends, or NULL if there is no
 * such element.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "ngx_smtp_relay_parse_path.h"


#define NGX_SMTP_RELAY_MAX_IPV6  45   /* with an IPv4 address at its end */


static u_char *ngx_smtp_relay_parse_route(u_char *p, u_char *last);
static u_char *ngx_smtp_relay_parse_quoted(u_char *p, u_char *last);
static u_char *ngx_smtp_relay_parse_literal(u_char *p, u_char *last);
static ngx_uint_t ngx_smtp_relay_is_ipv4(u_char *p, u_char *last);


ngx_smtp_relay_arg_error_e
ngx_smtp_relay_parse_path(u_char **pos, u_char *last,
    ngx_smtp_relay_path_t *path)
{
    u_char  *p, *start, *local, *domain;

    p = *pos;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    if (p == last || *p != '<' || ngx_strlchr(p, last, '>') == NULL) {
        return NGX_SMTP_RELAY_ARG_SYNTAX;
    }

    start = ++p;

    if (*p == '>') {
        *pos = p + 1;
        ngx_str_set(&path->path, "");
        path->local = path->path;
        path->domain = path->path;
        return NGX_SMTP_RELAY_ARG_OK;
    }

    p = ngx_smtp_relay_parse_route(p, last);

    if (p == NULL) {
        return NGX_SMTP_RELAY_ARG_SENDER;
    }

    local = p;
    p = ngx_smtp_relay_parse_local(p, last);

    if (p == NULL || p == last) {
        return NGX_SMTP_RELAY_ARG_SENDER;
    }

    domain = p;

    if (*p == '@') {
        domain++;
        p = ngx_smtp_relay_parse_domain(domain, last);
    }

    if (p == NULL || p == last || *p != '>'
        || p - local > NGX_SMTP_RELAY_MAX_PATH)
    {
        return NGX_SMTP_RELAY_ARG_SENDER;
    }

    path->path.len = p - local;
    path->path.data = local;

    path->local.len = (domain == p) ? p - local : domain - 1 - local;
    path->local.data = local;

    path->domain.len = p - domain;
    path->domain.data = domain;

    path->utf8 = ngx_smtp_relay_is_8bit(start, p);

    *pos = p + 1;

    return NGX_SMTP_RELAY_ARG_OK;
}


/*
 * RFC 5321, 4.1.2., A-d-l: "@a,@b:" in front of a mailbox.  Where none
 * starts, p is returned.
 */

static u_char *
ngx_smtp_relay_parse_route(u_char *p, u_char *last)
{
    if (*p != '@') {
        return p;
    }

    for ( ;; ) {

        p = ngx_smtp_relay_parse_domain(p + 1, last);

        if (p == NULL || p == last) {
            return NULL;
        }

        if (*p == ':') {
            return p + 1;
        }

        if (*p++ != ',' || p == last || *p != '@') {
            return NULL;
        }
    }
}


u_char *
ngx_smtp_relay_parse_local(u_char *p, u_char *last)
{
    u_char  *start;

    start = p;

    if (p < last && *p == '"') {
        p = ngx_smtp_relay_parse_quoted(p, last);

    } else {

        for ( ;; ) {
            p = ngx_smtp_relay_parse_atom(p, last);

            if (p == NULL || p == last || *p != '.') {
                break;
            }

            p++;
        }
    }

    if (p == NULL || p - start > NGX_SMTP_RELAY_MAX_LOCAL) {
        return NULL;
    }

    return p;
}


static u_char *
ngx_smtp_relay_parse_quoted(u_char *p, u_char *last)
{
    size_t  n;

    p++;

    while (p < last) {

        switch (*p) {

        case '"':
            return p + 1;

        case '\\':

            p++;

            if (p == last || *p >= 0x80) {
                return NULL;
            }

            break;
        }

        n = ngx_smtp_relay_printable(p, last);

        if (n == 0) {
            return NULL;
        }

        p += n;
    }

    return NULL;
}


u_char *
ngx_smtp_relay_parse_atom(u_char *p, u_char *last)
{
    u_char  *start;
    size_t   n;

    start = p;

    while (p < last) {

        switch (*p) {

        case ' ':
        case '"':
        case '(':
        case ')':
        case ',':
        case '.':
        case ':':
        case ';':
        case '<':
        case '>':
        case '@':
        case '[':
        case '\\':
        case ']':
            return (p == start) ? NULL : p;
        }

        n = ngx_smtp_relay_printable(p, last);

        if (n == 0) {
            return NULL;
        }

        p += n;
    }

    return (p == start) ? NULL : p;
}


u_char *
ngx_smtp_relay_parse_domain(u_char *p, u_char *last)
{
    u_char  *start, *label;
    size_t   n;

    if (p < last && *p == '[') {
        return ngx_smtp_relay_parse_literal(p, last);
    }

    start = p;
    label = p;

    while (p < last) {

        if (ngx_smtp_relay_is_alnum(*p) || *p == '_'
            || (*p == '-' && p != label))
        {
            p++;
            continue;
        }

        if (*p == '.') {

            if (p == label || p[-1] == '-') {
                return NULL;
            }

            label = ++p;
            continue;
        }

        if (*p < 0x80) {
            break;
        }

        n = ngx_smtp_relay_printable(p, last);

        if (n == 0) {
            return NULL;
        }

        p += n;
    }

    if (p == label || p[-1] == '-'
        || p - start > NGX_SMTP_RELAY_MAX_DOMAIN)
    {
        return NULL;
    }

    return p;
}


/*
 * RFC 5321, 4.1.3.  Of an IPv6 address only the characters are checked:
 * a node that cares for more will tell.
 */

static u_char *
ngx_smtp_relay_parse_literal(u_char *p, u_char *last)
{
    u_char      *start, *end;
    ngx_uint_t   colons;

    start = p + 1;
    end = ngx_strlchr(start, last, ']');

    if (end == NULL) {
        return NULL;
    }

    if (end - start < 5
        || ngx_strncasecmp(start, (u_char *) "IPv6:", 5) != 0)
    {
        return ngx_smtp_relay_is_ipv4(start, end) ? end + 1 : NULL;
    }

    start += 5;
    colons = 0;

    for (p = start; p < end; p++) {

        if (*p == ':') {
            colons++;

        } else if (*p != '.' && ngx_smtp_relay_hex(*p) == NGX_ERROR) {
            return NULL;
        }
    }

    if (colons < 2 || colons > 8 || end - start > NGX_SMTP_RELAY_MAX_IPV6) {
        return NULL;
    }

    return end + 1;
}


static ngx_uint_t
ngx_smtp_relay_is_ipv4(u_char *p, u_char *last)
{
    ngx_uint_t  n, value, digits;

    for (n = 0; n < 4; n++) {

        if (n > 0 && (p == last || *p++ != '.')) {
            return 0;
        }

        value = 0;
        digits = 0;

        while (p < last && ngx_smtp_relay_is_digit(*p) && digits < 3) {
            value = value * 10 + (*p++ - '0');
            digits++;
        }

        if (digits == 0 || value > 255) {
            return 0;
        }
    }

    return p == last;
}


ngx_uint_t
ngx_smtp_relay_is_8bit(u_char *p, u_char *last)
{
    while (p < last) {
        if (*p++ >= 0x80) {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_smtp_relay_hex(u_char ch)
{
    if (ngx_smtp_relay_is_digit(ch)) {
        return ch - '0';
    }

    ch |= 0x20;

    if (ch >= 'a' && ch <= 'f') {
        return ch - 'a' + 10;
    }

    return NGX_ERROR;
}
