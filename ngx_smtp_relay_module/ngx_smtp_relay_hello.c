
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_command.h"
#include "ngx_smtp_relay_hello.h"
#include "ngx_smtp_relay_login.h"


/* RFC 9422, 4.: a limit has six digits at most */

#define NGX_SMTP_RELAY_LIMITS_MAX  999999


static ngx_int_t ngx_smtp_relay_hello(ngx_smtp_relay_session_t *ss,
    ngx_str_t *arg, ngx_uint_t esmtp);
static u_char *ngx_smtp_relay_hello_extensions(ngx_smtp_relay_session_t *ss,
    u_char *p);
static u_char *ngx_smtp_relay_hello_limits(ngx_smtp_relay_session_t *ss,
    u_char *p);


static ngx_str_t  ngx_smtp_relay_hello_syntax =
    ngx_string("501 5.5.4 Syntax error in parameters" CRLF);


ngx_int_t
ngx_smtp_relay_hello_helo(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    return ngx_smtp_relay_hello(ss, arg, 0);
}


ngx_int_t
ngx_smtp_relay_hello_ehlo(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    return ngx_smtp_relay_hello(ss, arg, 1);
}


static ngx_int_t
ngx_smtp_relay_hello(ngx_smtp_relay_session_t *ss, ngx_str_t *arg,
    ngx_uint_t esmtp)
{
    u_char     *p;
    ngx_str_t   reply;
    u_char      buf[2048];

    if (ngx_smtp_relay_parse_helo(arg) != NGX_OK) {
        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_hello_syntax);
    }

    /* RFC 5321, 4.1.4.: a new EHLO ends a transaction as RSET does */

    ngx_smtp_relay_session_reset(ss);

    /* one piece of memory for all names a session ever gives itself */

    if (ss->helo.data == NULL) {
        ss->helo.data = ngx_pnalloc(ss->connection->pool,
                                    NGX_SMTP_RELAY_MAX_DOMAIN);
        if (ss->helo.data == NULL) {
            return NGX_ERROR;
        }
    }

    ss->helo.len = arg->len;
    ngx_memcpy(ss->helo.data, arg->data, arg->len);

    ss->esmtp = esmtp;

    p = ngx_sprintf(buf, "250%c%V Hello %V" CRLF, esmtp ? '-' : ' ',
                    &ss->hostname, &ss->helo);

    if (esmtp) {
        p = ngx_smtp_relay_hello_extensions(ss, p);
    }

    reply.len = p - buf;
    reply.data = buf;

    return ngx_smtp_relay_session_reply(ss, &reply);
}


static u_char *
ngx_smtp_relay_hello_extensions(ngx_smtp_relay_session_t *ss, u_char *p)
{
    ngx_uint_t                  ext, methods;
    ngx_smtp_relay_srv_conf_t  *rscf;

    rscf = ss->conf;
    ext = rscf->capabilities;

    if (ext & NGX_SMTP_RELAY_EXT_PIPELINING) {
        p = ngx_cpymem(p, "250-PIPELINING" CRLF, 16);
    }

    if (ext & NGX_SMTP_RELAY_EXT_8BITMIME) {
        p = ngx_cpymem(p, "250-8BITMIME" CRLF, 14);
    }

    if (ext & NGX_SMTP_RELAY_EXT_SMTPUTF8) {
        p = ngx_cpymem(p, "250-SMTPUTF8" CRLF, 14);
    }

    if (ext & NGX_SMTP_RELAY_EXT_CHUNKING) {
        p = ngx_cpymem(p, "250-CHUNKING" CRLF, 14);
    }

    if (ext & NGX_SMTP_RELAY_EXT_DSN) {
        p = ngx_cpymem(p, "250-DSN" CRLF, 9);
    }

    if (ext & NGX_SMTP_RELAY_EXT_ENHANCED) {
        p = ngx_cpymem(p, "250-ENHANCEDSTATUSCODES" CRLF, 25);
    }

    p = ngx_smtp_relay_hello_limits(ss, p);

    if (ss->connection->ssl == NULL
        && rscf->starttls != NGX_SMTP_RELAY_STARTTLS_OFF)
    {
        p = ngx_sprintf(p, "250-STARTTLS" CRLF);
    }

    methods = ngx_smtp_relay_login_methods(ss);

    if (methods) {
        p = ngx_sprintf(p, "250-AUTH");
        p = ngx_smtp_relay_sasl_list(methods, p);
        *p++ = CR;
        *p++ = LF;
    }

    if (ss->max_message_size) {
        return ngx_sprintf(p, "250 SIZE %O" CRLF, ss->max_message_size);
    }

    /* RFC 1870, 3.: without a number, or 0, there is no fixed limit */

    return ngx_cpymem(p, "250 SIZE" CRLF, 10);
}


/* a number that cannot be told is left out: the limit holds all the same */

static u_char *
ngx_smtp_relay_hello_limits(ngx_smtp_relay_session_t *ss, u_char *p)
{
    ngx_uint_t  rcptmax, mailmax;

    rcptmax = ss->max_recipients;
    mailmax = ss->conf->max_messages;

    if (rcptmax > NGX_SMTP_RELAY_LIMITS_MAX) {
        rcptmax = 0;
    }

    if (mailmax > NGX_SMTP_RELAY_LIMITS_MAX) {
        mailmax = 0;
    }

    if (rcptmax == 0 && mailmax == 0) {
        return p;
    }

    p = ngx_cpymem(p, "250-LIMITS", 10);

    if (rcptmax) {
        p = ngx_sprintf(p, " RCPTMAX=%ui", rcptmax);
    }

    if (mailmax) {
        p = ngx_sprintf(p, " MAILMAX=%ui", mailmax);
    }

    *p++ = CR;
    *p++ = LF;

    return p;
}
