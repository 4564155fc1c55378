
/*
 * A plan: what an auth reply says about the session that it lets in.  It is
 * flat, so that it can be copied and kept with little ado.
 */


#ifndef _NGX_SMTP_RELAY_PLAN_H_INCLUDED_
#define _NGX_SMTP_RELAY_PLAN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* a rate: count messages or recipients in period seconds; 1, 60, 3600, 86400 */

typedef struct {
    ngx_uint_t                      count;
    ngx_uint_t                      period;     /* 0: not set */
} ngx_smtp_relay_rate_t;


typedef struct {
    ngx_smtp_relay_rate_t           limit_msg;       /* Auth-Limit-Msg */
    ngx_smtp_relay_rate_t           limit_rcpt;      /* Auth-Limit-Rcpt */
    ngx_uint_t                      limit_conn;      /* Auth-Limit-Conn */
    ngx_uint_t                      max_recipients;  /* 0: no limit */
    off_t                           max_size;        /* 0: no limit */
    ngx_str_t                       senders;         /* as they came; empty:
                                                      * any sender */
    unsigned                        limit_conn_set:1;
    unsigned                        max_recipients_set:1;
    unsigned                        max_size_set:1;
} ngx_smtp_relay_plan_t;


/*
 * Parses "Nr/s", "Nr/m", "Nr/h", "Nr/d", N from 1.  NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_smtp_relay_plan_rate(ngx_str_t *text,
    ngx_smtp_relay_rate_t *rate);

/*
 * Parses the value of the header "auth-…", in lower case, into the plan;
 * strings point into value.  NGX_OK: parsed; NGX_DONE: it is no header of a
 * plan; NGX_DECLINED: the value cannot be understood.
 */
ngx_int_t ngx_smtp_relay_plan_header(ngx_smtp_relay_plan_t *plan,
    ngx_str_t *name, ngx_str_t *value);

/*
 * Whether a plan's senders allow a mailbox as MAIL FROM names it, without
 * its brackets; empty: the null reverse-path.
 */
ngx_uint_t ngx_smtp_relay_plan_sender(ngx_smtp_relay_plan_t *plan,
    ngx_str_t *mailbox);


#endif /* _NGX_SMTP_RELAY_PLAN_H_INCLUDED_ */
