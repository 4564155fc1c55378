
/*
 * The header section of a message: headers that are put in front of it, and
 * those of the client that are left out.
 *
 * Spans of content, as the scanner puts them out, go through a filter.  Its
 * output are spans again.  What stands behind a dropped header in the same
 * span is moved up in it, so that whatever a client sends, the output has
 * only a few spans more than the input; once the header section is over,
 * spans pass as they are.
 *
 * The header section ends at the empty line, or at a line that is no header
 * field and continues none.  What follows such a line is a matter of
 * opinion among those who read the message, so an empty line is put in front
 * of it: nothing behind can pass for a header then, nor can it continue one
 * that was put there by the relay.
 */


#ifndef _NGX_SMTP_RELAY_HEADER_H_INCLUDED_
#define _NGX_SMTP_RELAY_HEADER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_scan.h"


/* octets of a line without its CRLF (RFC 5322, 2.1.1.) */

#define NGX_SMTP_RELAY_HEADER_LINE   998

/* the longest name of a header that can be added */

#define NGX_SMTP_RELAY_HEADER_NAME   255

/* spans that one call of the filter puts out beyond those it was given */

#define NGX_SMTP_RELAY_HEADER_SPANS  4


typedef struct {
    ngx_str_t                    *names;    /* of headers to be dropped */
    ngx_uint_t                    n;
    ngx_str_t                     block;    /* to be put in front */

    /* private */

    ngx_uint_t                    state;
    size_t                        len;      /* of a line, up to its colon */
    size_t                        name;     /* of it without white space */
    size_t                        held;     /* of it, not put out yet */
    ngx_uint_t                    current;  /* buffer it is in */

    unsigned                      field:1;  /* there was one */
    unsigned                      dropped:1;    /* and it was dropped */
    unsigned                      passed:1; /* the block is out */

    /* what the last call put out is sent while the next name is held */
    u_char                        buf[2][NGX_SMTP_RELAY_HEADER_LINE];
} ngx_smtp_relay_header_t;


/* more than ngx_smtp_relay_header_write() ever writes */

#define ngx_smtp_relay_header_size(name, value)                               \
    ((name)->len + (value)->len + ((name)->len + (value)->len) / 100 + 32)


/*
 * Tells whether a name can be that of a header (RFC 5322, 3.6.8.).  One that
 * starts with a dot cannot: it would have to be doubled in DATA.  NGX_OK or
 * NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_header_name(ngx_str_t *name);

/*
 * Writes a header with its CRLF, and returns where it ends.  Control
 * characters of the value become blanks, save tabs; white space around it is
 * taken off, and nothing is written if that leaves nothing.  Lines that
 * would be too long are folded at white space, or cut if there is none.
 */
u_char *ngx_smtp_relay_header_write(u_char *p, ngx_str_t *name,
    ngx_str_t *value);

/*
 * Starts a message.  The names, and what block refers to, must stay as long
 * as it lasts.
 */
void ngx_smtp_relay_header_init(ngx_smtp_relay_header_t *h, ngx_str_t *names,
    ngx_uint_t n, ngx_str_t *block);

/*
 * Filters *n spans of content; end: they are the last.  Returns the spans to
 * be sent and sets *n to how many they are: those it was given, or those of
 * out, which has room for NGX_SMTP_RELAY_HEADER_SPANS more.  The content in
 * the spans may be moved; what is returned must have been sent before the
 * next call.
 */
ngx_smtp_relay_span_t *ngx_smtp_relay_header_filter(
    ngx_smtp_relay_header_t *h, ngx_smtp_relay_span_t *in, ngx_uint_t *n,
    ngx_uint_t end, ngx_smtp_relay_span_t *out);


#endif /* _NGX_SMTP_RELAY_HEADER_H_INCLUDED_ */
