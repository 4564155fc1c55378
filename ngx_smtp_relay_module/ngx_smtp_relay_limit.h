
/*
 * Limits on sessions, messages and recipients by key, as a session sees
 * them.  A limit acts as soon as its key is not empty, once for a session,
 * a message or a recipient.
 */


#ifndef _NGX_SMTP_RELAY_LIMIT_H_INCLUDED_
#define _NGX_SMTP_RELAY_LIMIT_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_limit_zone.h"


/* limits of one kind in a server; there is a bit for each in a mask */

#define NGX_SMTP_RELAY_LIMITS  32

/* RFC 5321, 4.5.3.2.: that long a client waits for the reply to MAIL, s */

#define NGX_SMTP_RELAY_LIMIT_PATIENCE  300


typedef struct {
    ngx_shm_zone_t                 *shm_zone;
    ngx_smtp_relay_limit_zone_t    *zone;
    ngx_uint_t                      max;         /* CONN */
    ngx_uint_t                      burst;
    ngx_uint_t                      delay;       /* of burst, without one */
    u_char                         *file;
    ngx_uint_t                      line;
    unsigned                        shaped:1;    /* burst, delay, nodelay */
} ngx_smtp_relay_limit_t;


typedef struct {
    /* of ngx_smtp_relay_limit_t; elts NULL: none on this level */
    ngx_array_t                     limits[NGX_SMTP_RELAY_LIMIT_KINDS];
    ngx_uint_t                      log_level;
    ngx_uint_t                      delay_log_level;
    ngx_flag_t                      dry_run;
} ngx_smtp_relay_limit_srv_conf_t;


typedef struct {
    ngx_array_t                     zones;  /* ngx_smtp_relay_limit_zone_t * */
} ngx_smtp_relay_limit_main_conf_t;


/* limits of a session: a part of it */

struct ngx_smtp_relay_limits_s {
    ngx_smtp_relay_limit_srv_conf_t  *conf;

    /* of each limit of sessions; NULL: not counted */
    ngx_smtp_relay_limit_hold_t     **holds;

    /* bits: the key was there before AUTH; the plan's number counts */
    ngx_uint_t                        early[NGX_SMTP_RELAY_LIMIT_KINDS];
    ngx_uint_t                        planned[NGX_SMTP_RELAY_LIMIT_KINDS];
};


/* limits of a message: questions of one kind, which can be asked again */

struct ngx_smtp_relay_limit_checks_s {
    ngx_uint_t                        n;
    ngx_smtp_relay_limit_check_t     *checks;
    ngx_str_t                         refusal;   /* len 0: none; the memory
                                                  * is there for the next */
};


/*
 * A session has started, or TLS has started in it.  NGX_OK; NGX_DECLINED:
 * one too many, the session has been ended with 421; NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_limit_accept(ngx_smtp_relay_session_t *ss);

/* The client has logged in, but was not told yet.  As the above. */
ngx_int_t ngx_smtp_relay_limit_login(ngx_smtp_relay_session_t *ss);

/* A login is forgotten, and what was counted by it. */
void ngx_smtp_relay_limit_forget(ngx_smtp_relay_session_t *ss);

/* A session ends: it does not count any more.  May be called again. */
void ngx_smtp_relay_limit_release(ngx_smtp_relay_session_t *ss);

/*
 * MAIL has been added to the transaction.  It goes on, or is held back, or is
 * refused and the transaction ended; all of that is done.  NGX_OK or
 * NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_limit_mail(ngx_smtp_relay_transaction_t *t);

/*
 * A recipient is about to be added to the transaction.
 *
 *     NGX_OK        it may be; *wait: it is to be held back so long, or 0
 *     NGX_DECLINED  it was refused, and the client has been told
 *     NGX_BUSY      it was refused; to be called again for the reply, when
 *                   the commands before it are answered
 *     NGX_ERROR     no memory
 */
ngx_int_t ngx_smtp_relay_limit_rcpt(ngx_smtp_relay_transaction_t *t,
    ngx_msec_t *wait);

/*
 * Holds back the command that was added last: nothing of the client's is
 * looked at until it goes on.
 */
void ngx_smtp_relay_limit_hold(ngx_smtp_relay_transaction_t *t,
    ngx_msec_t wait);

/* The command that is held back goes on. */
void ngx_smtp_relay_limit_resume(ngx_smtp_relay_session_t *ss);

/*
 * The command that is held back, if any, will not be carried out: what was
 * taken for it is given back.
 */
void ngx_smtp_relay_limit_cancel(ngx_smtp_relay_transaction_t *t);


/* between the files of limits */

#define NGX_SMTP_RELAY_LIMIT_TEXT_LEN  256

/*
 * Fills *checks, whose memory is of pool, with the limits of a kind that have
 * a key now, in the current scope.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_limit_checks(ngx_smtp_relay_session_t *ss,
    ngx_uint_t kind, ngx_pool_t *pool,
    ngx_smtp_relay_limit_checks_t *checks);

/*
 * The reply to a command that a limit on messages or recipients refuses, with
 * CRLF, into buf of NGX_SMTP_RELAY_LIMIT_TEXT_LEN octets; its end.
 */
u_char *ngx_smtp_relay_limit_text(u_char *buf,
    ngx_smtp_relay_limit_check_t *by);

/* Logs what by refuses (rc is NGX_DECLINED) or holds back (NGX_OK). */
void ngx_smtp_relay_limit_log(ngx_smtp_relay_session_t *ss, ngx_int_t rc,
    ngx_smtp_relay_limit_check_t *by);

/* Logs zones that are full and let through what they cannot count. */
void ngx_smtp_relay_limit_log_full(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_limit_checks_t *checks);


/* what is known of a zone, for those who show it */

typedef struct {
    ngx_str_t                       name;
    ngx_uint_t                      kind;
    ngx_smtp_relay_limit_stat_t     stat;
} ngx_smtp_relay_limit_status_t;


/*
 * The zones of a configuration, 0, 1, …, in the order of their directives;
 * what they count is of all workers.  NGX_DECLINED: there is none with that
 * index.
 */
ngx_int_t ngx_smtp_relay_limit_status(ngx_cycle_t *cycle, ngx_uint_t index,
    ngx_smtp_relay_limit_status_t *status);


extern ngx_module_t  ngx_smtp_relay_limit_module;


#endif /* _NGX_SMTP_RELAY_LIMIT_H_INCLUDED_ */
