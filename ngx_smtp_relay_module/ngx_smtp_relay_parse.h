
/*
 * Parsing of SMTP (RFC 5321), both sides.
 *
 * Pure functions: octets and a state in, a result out.  No event, no
 * connection, no log, so that a unit test or a fuzzer can call them with
 * nothing else running.  Unless said otherwise every ngx_str_t returned
 * points into the octets given and lives as long as they do.
 */


#ifndef _NGX_SMTP_RELAY_PARSE_H_INCLUDED_
#define _NGX_SMTP_RELAY_PARSE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* limits, octets without the line end */

#define NGX_SMTP_RELAY_MAX_LINE        4096   /* a command line */
#define NGX_SMTP_RELAY_MAX_AUTH_LINE   12288  /* RFC 4954, 4. */
#define NGX_SMTP_RELAY_MAX_PATH        254    /* RFC 5321, 4.5.3.1.3. */
#define NGX_SMTP_RELAY_MAX_LOCAL       64     /* RFC 5321, 4.5.3.1.1. */
#define NGX_SMTP_RELAY_MAX_DOMAIN      255    /* RFC 5321, 4.5.3.1.2. */


/*
 * Service extensions, in what the relay offers, in what a node offers and
 * in what a message needs.
 */

#define NGX_SMTP_RELAY_EXT_PIPELINING  0x0002  /* RFC 2920 */
#define NGX_SMTP_RELAY_EXT_8BITMIME    0x0004  /* RFC 6152 */
#define NGX_SMTP_RELAY_EXT_SMTPUTF8    0x0008  /* RFC 6531 */
#define NGX_SMTP_RELAY_EXT_CHUNKING    0x0010  /* RFC 3030 */
#define NGX_SMTP_RELAY_EXT_DSN         0x0020  /* RFC 3461 */
#define NGX_SMTP_RELAY_EXT_ENHANCED    0x0040  /* RFC 2034 */
#define NGX_SMTP_RELAY_EXT_SIZE        0x0080  /* RFC 1870 */
#define NGX_SMTP_RELAY_EXT_STARTTLS    0x0100  /* RFC 3207 */
#define NGX_SMTP_RELAY_EXT_AUTH        0x0200  /* RFC 4954 */
#define NGX_SMTP_RELAY_EXT_XCLIENT     0x0400  /* Postfix XCLIENT_README */
#define NGX_SMTP_RELAY_EXT_LIMITS      0x0800  /* RFC 9422 */


/* SASL mechanisms that a relay or a node may speak, a bit mask, likewise */

#define NGX_SMTP_RELAY_AUTH_PLAIN        0x02
#define NGX_SMTP_RELAY_AUTH_LOGIN        0x04
#define NGX_SMTP_RELAY_AUTH_CRAM_MD5     0x08
#define NGX_SMTP_RELAY_AUTH_XOAUTH2      0x10
#define NGX_SMTP_RELAY_AUTH_OAUTHBEARER  0x20
#define NGX_SMTP_RELAY_AUTH_EXTERNAL     0x40
#define NGX_SMTP_RELAY_AUTH_NONE         0x80


/* --- lines ------------------------------------------------------------- */

typedef enum {
    NGX_SMTP_RELAY_LINE_OK = 0,
    NGX_SMTP_RELAY_LINE_LONG,      /* more than max octets */
    NGX_SMTP_RELAY_LINE_NUL,       /* a NUL in it */
    NGX_SMTP_RELAY_LINE_BARE       /* a CR or LF that is no CRLF */
} ngx_smtp_relay_line_error_e;


typedef struct {
    size_t                        seen;    /* of b->pos, looked at */
    ngx_smtp_relay_line_error_e   error;   /* of the line in progress */
    unsigned                      skip:1;  /* the line is being dropped */
} ngx_smtp_relay_line_t;


/*
 * Takes one line that ends in CRLF (RFC 5321, 2.3.8.) out of b.
 *
 * A zeroed *st starts a stream; it is kept between calls, so that no octet
 * is looked at twice however the octets arrive.  A line ends at LF; one
 * with a NUL, a bare CR or an LF without CR in it is complete but refused.
 *
 *     NGX_OK        *line is the line without its CRLF; b->pos is behind it
 *     NGX_AGAIN     incomplete; octets of a line that is too long have been
 *                   dropped from b, so that b never fills with them
 *     NGX_DECLINED  a line ended but is refused for st->error; b->pos is
 *                   behind it, and the next call starts the next line
 */
ngx_int_t ngx_smtp_relay_parse_line(ngx_smtp_relay_line_t *st, ngx_buf_t *b,
    size_t max, ngx_str_t *line);


/* --- commands ---------------------------------------------------------- */

typedef enum {
    NGX_SMTP_RELAY_UNKNOWN = 0,
    NGX_SMTP_RELAY_HELO,
    NGX_SMTP_RELAY_EHLO,
    NGX_SMTP_RELAY_STARTTLS,
    NGX_SMTP_RELAY_AUTH,
    NGX_SMTP_RELAY_MAIL,
    NGX_SMTP_RELAY_RCPT,
    NGX_SMTP_RELAY_DATA,
    NGX_SMTP_RELAY_BDAT,
    NGX_SMTP_RELAY_RSET,
    NGX_SMTP_RELAY_NOOP,
    NGX_SMTP_RELAY_QUIT,
    NGX_SMTP_RELAY_HELP,
    NGX_SMTP_RELAY_VRFY,
    NGX_SMTP_RELAY_EXPN,
    NGX_SMTP_RELAY_TURN,
    NGX_SMTP_RELAY_ETRN,
    NGX_SMTP_RELAY_FOREIGN,        /* GET, POST, CONNECT, Host: and such */
    NGX_SMTP_RELAY_VERBS           /* how many there are */
} ngx_smtp_relay_verb_e;


/*
 * Splits a line into verb and argument.  The verb is matched without
 * regard to case; white space around the argument is cut off.  MAIL FROM:
 * and RCPT TO: give the argument behind the verb ("FROM:<a@b> SIZE=1").
 * Never fails: what is no verb is NGX_SMTP_RELAY_UNKNOWN.
 */
ngx_smtp_relay_verb_e ngx_smtp_relay_parse_verb(ngx_str_t *line,
    ngx_str_t *arg);


/*
 * Checks the argument of HELO and EHLO (RFC 5321, 4.1.1.1.).  Clients name
 * themselves badly and always have: anything of 1 to 255 octets without
 * white space, control characters and the characters <>()[\],;"@ passes,
 * except that an address literal ([192.0.2.1], [IPv6:2001:db8::1]) may
 * have its brackets.  8-bit octets pass only as valid UTF-8.
 * NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_parse_helo(ngx_str_t *arg);


/* why an argument was refused; the reply of each is RFC 5321, 4.2.4. */

typedef enum {
    NGX_SMTP_RELAY_ARG_OK = 0,
    NGX_SMTP_RELAY_ARG_SYNTAX,     /* 501 5.5.4 */
    NGX_SMTP_RELAY_ARG_SENDER,     /* 501 5.1.7: the path of MAIL */
    NGX_SMTP_RELAY_ARG_RECIPIENT,  /* 501 5.1.3: the path of RCPT */
    NGX_SMTP_RELAY_ARG_PARAMETER,  /* 555 5.5.4: not known or not offered */
    NGX_SMTP_RELAY_ARG_VALUE,      /* 501 5.5.4: value of a parameter */
    NGX_SMTP_RELAY_ARG_UTF8        /* 553 5.6.7: UTF-8 without SMTPUTF8 */
} ngx_smtp_relay_arg_error_e;


typedef struct {
    ngx_str_t                     path;    /* without <>, without a source
                                            * route; empty: <> */
    ngx_str_t                     local;   /* as sent, quotes included */
    ngx_str_t                     domain;  /* or literal, or empty */
    unsigned                      utf8:1;  /* 8-bit octets in it */
} ngx_smtp_relay_path_t;


typedef struct {
    ngx_smtp_relay_path_t         path;
    off_t                         size;      /* SIZE=, -1: none */
    ngx_str_t                     body;      /* BODY=, 7BIT or 8BITMIME */
    ngx_str_t                     ret;       /* RET=, FULL or HDRS */
    ngx_str_t                     envid;     /* ENVID=, xtext as sent */
    ngx_str_t                     auth;      /* AUTH=, xtext as sent */
    ngx_uint_t                    needs;     /* NGX_SMTP_RELAY_EXT_… that
                                              * the node must offer */
    unsigned                      smtputf8:1;
} ngx_smtp_relay_mail_t;


typedef struct {
    ngx_smtp_relay_path_t         path;
    ngx_str_t                     notify;    /* NOTIFY=, as sent */
    ngx_str_t                     orcpt;     /* ORCPT=, as sent */
    ngx_uint_t                    needs;     /* NGX_SMTP_RELAY_EXT_… */
} ngx_smtp_relay_rcpt_t;


/*
 * Parse the arguments of MAIL (RFC 5321, 4.1.1.2.) and RCPT (4.1.1.3.)
 * strictly: dot-string and quoted-string local parts, domains, address
 * literals, UTF-8 (RFC 6531, 3.3.), source routes (taken off).  "FROM:"
 * and "TO:" in any case; white space behind the colon is forgiven, since
 * many clients send it.  RCPT also takes <Postmaster> without a domain.
 *
 * ext are the extensions offered: parameters of others are refused, and a
 * parameter may be given once only.  8-bit octets in a path of MAIL need
 * SMTPUTF8 among its parameters; for RCPT smtputf8 tells whether MAIL had
 * it.  All out fields are set, also on failure.
 */
ngx_smtp_relay_arg_error_e ngx_smtp_relay_parse_mail(ngx_str_t *arg,
    ngx_uint_t ext, ngx_smtp_relay_mail_t *mail);
ngx_smtp_relay_arg_error_e ngx_smtp_relay_parse_rcpt(ngx_str_t *arg,
    ngx_uint_t ext, ngx_uint_t smtputf8, ngx_smtp_relay_rcpt_t *rcpt);


/*
 * Parses "SIZE [LAST]" of BDAT (RFC 3030, 2.): *size octets follow the
 * line; *last is 1 for the last chunk.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_parse_bdat(ngx_str_t *arg, off_t *size,
    ngx_uint_t *last);


/* --- replies of a node ------------------------------------------------- */

/* bounds of one reply; what is beyond them is a broken node */

#define NGX_SMTP_RELAY_MAX_REPLY_LINE   1024
#define NGX_SMTP_RELAY_MAX_REPLY_LINES  128


typedef struct {
    ngx_uint_t                    code;     /* 200 .. 599 */
    ngx_str_t                     text;     /* all lines as sent, with CRLF */

    /* private: how far the reply in progress has been looked at */
    size_t                        seen;
    size_t                        line;     /* where its last line starts */
    ngx_uint_t                    lines;
} ngx_smtp_relay_reply_t;


/*
 * Takes one reply (RFC 5321, 4.2.) out of b.  A zeroed *r starts a stream
 * and is kept between calls; b->pos does not move before the reply is
 * whole, so b must hold a whole reply.
 *
 *     NGX_OK     r->code and r->text are set, b->pos is behind the reply;
 *                the next call starts the next reply
 *     NGX_AGAIN  incomplete
 *     NGX_ERROR  no reply: a line without CRLF or code, codes that differ
 *                between lines, a control character (other than TAB) in a
 *                line, too long, too many lines
 */
ngx_int_t ngx_smtp_relay_parse_reply(ngx_smtp_relay_reply_t *r,
    ngx_buf_t *b);


/*
 * Walks the lines of a whole reply.  *pos starts at r->text.data and is
 * moved; *line is the text behind the code and its separator, without
 * CRLF.  NGX_OK, or NGX_DONE behind the last line.
 */
ngx_int_t ngx_smtp_relay_reply_line(ngx_smtp_relay_reply_t *r, u_char **pos,
    ngx_str_t *line);


/* XCLIENT attributes, a bit mask */

#define NGX_SMTP_RELAY_XCLIENT_NAME      0x01
#define NGX_SMTP_RELAY_XCLIENT_ADDR      0x02
#define NGX_SMTP_RELAY_XCLIENT_PORT      0x04
#define NGX_SMTP_RELAY_XCLIENT_PROTO     0x08
#define NGX_SMTP_RELAY_XCLIENT_HELO      0x10
#define NGX_SMTP_RELAY_XCLIENT_LOGIN     0x20
#define NGX_SMTP_RELAY_XCLIENT_DESTADDR  0x40
#define NGX_SMTP_RELAY_XCLIENT_DESTPORT  0x80


typedef struct {
    ngx_uint_t                    ext;      /* NGX_SMTP_RELAY_EXT_… */
    ngx_uint_t                    auth;     /* NGX_SMTP_RELAY_AUTH_… */
    ngx_uint_t                    xclient;  /* NGX_SMTP_RELAY_XCLIENT_… */
    off_t                         size;     /* SIZE, 0: none or not told */
    ngx_uint_t                    rcptmax;  /* LIMITS, 0: none told */
    ngx_uint_t                    mailmax;
} ngx_smtp_relay_features_t;


/*
 * Reads what a 250 reply to EHLO offers (RFC 5321, 4.1.1.1.) into *f,
 * which it zeroes.  The first line is the greeting and is passed over;
 * unknown keywords, too.  "AUTH=LOGIN" of old servers counts as AUTH.
 */
void ngx_smtp_relay_parse_features(ngx_smtp_relay_reply_t *r,
    ngx_smtp_relay_features_t *f);


/* --- text encodings ---------------------------------------------------- */

/*
 * Returns how many octets the character at p takes, p < last: 1 to 4, or 0
 * if it is a control character (U+0000 .. U+001F, U+007F .. U+009F) or no
 * valid UTF-8 (RFC 3629, 4.).
 */
size_t ngx_smtp_relay_printable(u_char *p, u_char *last);

/*
 * Writes src as xtext (RFC 3461, 4.) to dst and returns its end.  dst NULL:
 * returns the length needed as a pointer difference from NULL, as
 * ngx_escape_uri() counts; at most src->len * 3.
 */
uintptr_t ngx_smtp_relay_xtext(u_char *dst, ngx_str_t *src);

/*
 * Makes text of another party fit for one line of a reply or of a log:
 * each control character becomes a blank, invalid UTF-8 becomes '?', and
 * what exceeds max octets is cut off at a character's edge.  In place:
 * text->len may shrink.
 */
void ngx_smtp_relay_sanitize(ngx_str_t *text, size_t max);

/* Whether there is an octet below 0x20, or 0x7f, in it. */
ngx_uint_t ngx_smtp_relay_has_control(ngx_str_t *text);


#endif /* _NGX_SMTP_RELAY_PARSE_H_INCLUDED_ */
