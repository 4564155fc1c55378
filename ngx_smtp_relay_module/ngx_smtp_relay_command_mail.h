
/* The commands of a mail transaction (RFC 5321, 3.3.; RFC 3030). */


#ifndef _NGX_SMTP_RELAY_COMMAND_MAIL_H_INCLUDED_
#define _NGX_SMTP_RELAY_COMMAND_MAIL_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"


/*
 * Carry out a command, whose argument is of the input buffer: valid during
 * the call only.  NGX_OK, NGX_AGAIN (input is needed), NGX_BUSY (something is
 * waited for, the command is given again) or NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_command_mail(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
ngx_int_t ngx_smtp_relay_command_rcpt(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
ngx_int_t ngx_smtp_relay_command_data(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);
ngx_int_t ngx_smtp_relay_command_bdat(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);


#endif /* _NGX_SMTP_RELAY_COMMAND_MAIL_H_INCLUDED_ */
