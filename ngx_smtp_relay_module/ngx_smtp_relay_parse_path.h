
/*
 * Elements of paths, for the files that parse arguments of commands.
 */


#ifndef _NGX_SMTP_RELAY_PARSE_PATH_H_INCLUDED_
#define _NGX_SMTP_RELAY_PARSE_PATH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"


#define ngx_smtp_relay_is_digit(ch)  ((ch) >= '0' && (ch) <= '9')
#define ngx_smtp_relay_is_alpha(ch)                                           \
    (((ch) | 0x20) >= 'a' && ((ch) | 0x20) <= 'z')
#define ngx_smtp_relay_is_alnum(ch)                                           \
    (ngx_smtp_relay_is_digit(ch) || ngx_smtp_relay_is_alpha(ch))


/*
 * Parses white space and a path (RFC 5321, 4.1.2.) at *pos and moves *pos
 * behind it.  A mailbox without a domain passes, with domain.len 0; so does
 * <>.  *path must be zeroed and is set with NGX_SMTP_RELAY_ARG_OK only.
 * Else returns NGX_SMTP_RELAY_ARG_SYNTAX: nothing in <>, or
 * NGX_SMTP_RELAY_ARG_SENDER: no path in it.
 */
ngx_smtp_relay_arg_error_e ngx_smtp_relay_parse_path(u_char **pos,
    u_char *last, ngx_smtp_relay_path_t *path);

/*
 * Return where the local part, dot-string or quoted-string, or the domain or
 * address literal at p ends, or NULL if none starts there.
 */
u_char *ngx_smtp_relay_parse_local(u_char *p, u_char *last);
u_char *ngx_smtp_relay_parse_domain(u_char *p, u_char *last);

/*
 * Returns where the atom at p ends, or NULL if none starts there or it
 * holds a control character or invalid UTF-8.
 */
u_char *ngx_smtp_relay_parse_atom(u_char *p, u_char *last);

/* Whether an octet above 0x7f is in [p, last). */
ngx_uint_t ngx_smtp_relay_is_8bit(u_char *p, u_char *last);

/* The value of a hexadecimal digit, or NGX_ERROR. */
ngx_int_t ngx_smtp_relay_hex(u_char ch);


#endif /* _NGX_SMTP_RELAY_PARSE_PATH_H_INCLUDED_ */
