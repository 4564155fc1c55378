
/* The dialogue of AUTH (RFC 4954); the verdict comes from elsewhere. */


#ifndef _NGX_SMTP_RELAY_LOGIN_H_INCLUDED_
#define _NGX_SMTP_RELAY_LOGIN_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"


/*
 * AUTH and its argument.  The octets of arg are overwritten: they hold a
 * secret.  NGX_OK or NGX_ERROR (the session must be closed).
 */
ngx_int_t ngx_smtp_relay_login_auth(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg);

/* A line in answer to 334; likewise. */
ngx_int_t ngx_smtp_relay_login_response(ngx_smtp_relay_session_t *ss,
    ngx_str_t *line);

/* A line in answer to 334 that was no line, or too long. */
ngx_int_t ngx_smtp_relay_login_bad_response(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_line_error_e error);

/* Tells the client the verdict.  NGX_OK, NGX_BUSY or NGX_ERROR. */
ngx_int_t ngx_smtp_relay_login_process(ngx_smtp_relay_session_t *ss);

/* The time a refusal was held back for is over. */
void ngx_smtp_relay_login_delayed(ngx_smtp_relay_session_t *ss);

/* Whether a client need not log in: method "none". */
ngx_uint_t ngx_smtp_relay_login_none(ngx_smtp_relay_session_t *ss);

/*
 * MAIL, a good one, of such a client that has not logged in.
 *
 *     NGX_BUSY   the verdict is asked for; MAIL is to be given again
 *     NGX_OK     it has been answered
 *     NGX_ERROR  the session must be closed
 */
ngx_int_t ngx_smtp_relay_login_mail(ngx_smtp_relay_session_t *ss);

/*
 * The mechanisms that this client may use now, a mask of
 * NGX_SMTP_RELAY_AUTH_...: what is advertised is what is accepted.
 */
ngx_uint_t ngx_smtp_relay_login_methods(ngx_smtp_relay_session_t *ss);


#endif /* _NGX_SMTP_RELAY_LOGIN_H_INCLUDED_ */
