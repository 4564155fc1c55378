
/*
 * The scanner of message content: finds the end of data, takes off and puts
 * on the dots of RFC 5321, 4.5.2., and makes every bare CR or LF a CRLF.
 *
 * It writes no octet: its output is a list of spans that point into the
 * input or into constants of its own, so content is never copied.  Whatever
 * it puts out towards DATA is lines that end in CRLF, none of which is a
 * single dot; hence no content can end the data or become a command,
 * whatever a node makes of CR or LF on its own.
 */


#ifndef _NGX_SMTP_RELAY_SCAN_H_INCLUDED_
#define _NGX_SMTP_RELAY_SCAN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


typedef struct {
    u_char                       *pos;
    u_char                       *last;
} ngx_smtp_relay_span_t;


typedef struct {
    off_t                         size;     /* content so far, normalised,
                                             * without dots put on */
    ngx_uint_t                    state;    /* private */

    unsigned                      dots_in:1;   /* input is DATA: dots on it,
                                                * ends by CRLF.CRLF; else
                                                * BDAT: ends by count */
    unsigned                      dots_out:1;  /* output is DATA */
    unsigned                      bare:1;      /* a bare CR or LF was seen */
    unsigned                      nul:1;       /* a NUL was seen */
} ngx_smtp_relay_scan_t;


/* fewest spans that a call must be given */

#define NGX_SMTP_RELAY_MIN_SPANS  8


/* Starts a message.  It begins at the start of a line. */
void ngx_smtp_relay_scan_init(ngx_smtp_relay_scan_t *sc, ngx_uint_t dots_in,
    ngx_uint_t dots_out);

/*
 * Scans from *pos to last, moves *pos over what it took, and writes at
 * most *n spans, setting *n to how many.  Octets at the end of the input
 * whose meaning is not known yet (CR, CRLF., …) are taken and held in the
 * state; they come out of constants later.  Spans that touch are joined.
 *
 *     NGX_DONE   dots_in only: the end of data was there; *pos is behind
 *                it.  The end itself (the dot line) is not in the spans.
 *     NGX_OK     all input was taken
 *     NGX_AGAIN  the spans are full; call again with the rest
 */
ngx_int_t ngx_smtp_relay_scan(ngx_smtp_relay_scan_t *sc, u_char **pos,
    u_char *last, ngx_smtp_relay_span_t *spans, ngx_uint_t *n);

/*
 * Ends content whose end is known by count (BDAT LAST): puts out what is
 * held, and with dots_out a CRLF if the last line has none.  At most
 * NGX_SMTP_RELAY_MIN_SPANS spans; returns how many.
 */
ngx_uint_t ngx_smtp_relay_scan_finish(ngx_smtp_relay_scan_t *sc,
    ngx_smtp_relay_span_t *spans);


#endif /* _NGX_SMTP_RELAY_SCAN_H_INCLUDED_ */
