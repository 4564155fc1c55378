
#include <ngx_config.h>
#include <ngx_core.h>
#include "unit.h"


#define UNIT_TEXT  65536


static ngx_uint_t  unit_tests;
static ngx_uint_t  unit_failed;


void
unit_ok(ngx_uint_t ok, const char *fmt, ...)
{
    va_list  args;

    unit_tests++;

    if (!ok) {
        unit_failed++;
    }

    printf("%sok %lu - ", ok ? "" : "not ", (unsigned long) unit_tests);

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);

    printf("\n");
    fflush(stdout);
}


void
unit_same(const char *name, ngx_str_t *got, ngx_str_t *expected)
{
    ngx_uint_t  same;

    same = got->len == expected->len
           && (got->len == 0
               || memcmp(got->data, expected->data, got->len) == 0);

    unit_ok(same, "%s", name);

    if (!same) {
        printf("#      got: %s\n", unit_show(got));
        printf("# expected: %s\n", unit_show(expected));
        fflush(stdout);
    }
}


int
unit_done(void)
{
    printf("1..%lu\n", (unsigned long) unit_tests);

    return (unit_failed || unit_tests == 0) ? 1 : 0;
}


u_char *
unit_copy(const u_char *data, size_t len)
{
    u_char  *p;

    p = malloc(len);

    if (p == NULL) {

        if (len == 0) {
            return NULL;
        }

        printf("Bail out! no memory\n");
        exit(2);
    }

    if (len) {
        memcpy(p, data, len);
    }

    return p;
}


const char *
unit_show(ngx_str_t *text)
{
    char    *p, *end;
    size_t   i;
    u_char   ch;

    static char        ring[8][1024];
    static ngx_uint_t  next;

    p = ring[next++ % 8];
    end = p + sizeof(ring[0]) - 8;

    for (i = 0; i < text->len; i++) {

        if (p >= end) {
            p = stpcpy(p, "...");
            break;
        }

        ch = text->data[i];

        if (ch == '\r') {
            p = stpcpy(p, "\\r");

        } else if (ch == '\n') {
            p = stpcpy(p, "\\n");

        } else if (ch < 0x20 || ch >= 0x7f || ch == '\\' || ch == '#') {
            p += sprintf(p, "\\x%02x", ch);

        } else {
            *p++ = ch;
        }
    }

    *p = '\0';

    return ring[(next - 1) % 8];
}


void
unit_text_init(ngx_str_t *buf)
{
    buf->len = 0;
    buf->data = malloc(UNIT_TEXT);

    if (buf->data == NULL) {
        printf("Bail out! no memory\n");
        exit(2);
    }
}


void
unit_add(ngx_str_t *buf, const char *fmt, ...)
{
    int      n;
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf((char *) buf->data + buf->len, UNIT_TEXT - buf->len, fmt,
                  args);
    va_end(args);

    if (n < 0 || (size_t) n >= UNIT_TEXT - buf->len) {
        printf("Bail out! text too long\n");
        exit(2);
    }

    buf->len += n;
}


void
unit_add_octets(ngx_str_t *buf, const u_char *data, size_t len)
{
    if (len > UNIT_TEXT - buf->len) {
        printf("Bail out! text too long\n");
        exit(2);
    }

    if (len) {
        memcpy(buf->data + buf->len, data, len);
    }

    buf->len += len;
}
