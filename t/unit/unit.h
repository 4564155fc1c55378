
/*
 * A frame for unit tests: TAP, and octets in memory of their exact length,
 * so that a sanitizer sees any access beyond them.
 */


#ifndef _UNIT_H_INCLUDED_
#define _UNIT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define unit_text(s)  { sizeof(s) - 1, (u_char *) s }
#define unit_count(a) (sizeof(a) / sizeof((a)[0]))


/* reports a test whose name is made from fmt as with printf() */
void unit_ok(ngx_uint_t ok, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* reports whether two texts are the same, and shows them if not */
void unit_same(const char *name, ngx_str_t *got, ngx_str_t *expected);

/* ends the tests; what main() returns */
int unit_done(void);

/* a copy of len octets in memory of its own, for free() */
u_char *unit_copy(const u_char *data, size_t len);

/* text with control and 8-bit octets escaped; valid until the 8th next call */
const char *unit_show(ngx_str_t *text);

/* appends to the text in buf, of 64k octets, as printf() does */
void unit_add(ngx_str_t *buf, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void unit_add_octets(ngx_str_t *buf, const u_char *data, size_t len);

/* an empty text for unit_add(), for free() of its data */
void unit_text_init(ngx_str_t *buf);


#endif /* _UNIT_H_INCLUDED_ */
