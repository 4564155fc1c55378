
/* The commands of a client (RFC 5321, 4.1.), one function each. */


#ifndef _NGX_SMTP_RELAY_COMMAND_H_INCLUDED_
#define _NGX_SMTP_RELAY_COMMAND_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"


/* Greets the client; commands may follow. */
void ngx_smtp_relay_command_greeting(ngx_smtp_relay_session_t *ss);

/*
 * Takes one line of the client and carries it out.
 *
 *     NGX_OK     done; there may be another one
 *     NGX_AGAIN  input is needed
 *     NGX_BUSY   replies of the node, or room for replies, are waited for
 *     NGX_ERROR  the session must be closed
 */
ngx_int_t ngx_smtp_relay_command_process(ngx_smtp_relay_session_t *ss);

/*
 * Drops the chunk of a BDAT that was refused, then says why.  NGX_OK,
 * NGX_AGAIN (input is needed) or NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_command_skip(ngx_smtp_relay_session_t *ss,
    ngx_buf_t *b);

/*
 * Turns a command away: logs why, counts an error of the client, and
 * replies, or ends the session if there were too many.  reply is a whole
 * line with CRLF.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_command_refuse(ngx_smtp_relay_session_t *ss,
    ngx_str_t *reply);

/*
 * The same for a command that is in order but not granted: no error of the
 * client is counted.
 */
ngx_int_t ngx_smtp_relay_command_decline(ngx_smtp_relay_session_t *ss,
    ngx_str_t *reply);

/*
 * The same for MAIL: RCPT, DATA and BDAT that were sent with it are turned
 * away as out of order, but are no errors of the client, either.
 */
ngx_int_t ngx_smtp_relay_command_decline_mail(ngx_smtp_relay_session_t *ss,
    ngx_str_t *reply);


/* replies that several commands have */

extern ngx_str_t  ngx_smtp_relay_syntax;
extern ngx_str_t  ngx_smtp_relay_not_implemented;


#endif /* _NGX_SMTP_RELAY_COMMAND_H_INCLUDED_ */
