
/*
 * A session: one client connection, from accept to close.
 *
 * Whatever happens to a session's auth attempt, transaction or node ends in
 * ngx_smtp_relay_session_wake(); the session itself runs only from the event
 * loop, so nothing that others call can free it under them.
 */


#ifndef _NGX_SMTP_RELAY_SESSION_H_INCLUDED_
#define _NGX_SMTP_RELAY_SESSION_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_conf.h"


#define NGX_SMTP_RELAY_ID_LEN  24   /* hex digits: time and 64 random bits */

/* $status of a session that timed out, besides those of nginx */
#define NGX_SMTP_RELAY_CLIENT_TIMED_OUT  408


typedef enum {
    NGX_SMTP_RELAY_ST_GREETING = 0,   /* greeting delay */
    NGX_SMTP_RELAY_ST_COMMAND,
    NGX_SMTP_RELAY_ST_AUTH_RESPONSE,  /* the client's next SASL message */
    NGX_SMTP_RELAY_ST_AUTH_WAIT,      /* a verdict, or the delay after it */
    NGX_SMTP_RELAY_ST_LIMIT_WAIT,     /* MAIL or RCPT is held back */
    NGX_SMTP_RELAY_ST_DATA,           /* message content */
    NGX_SMTP_RELAY_ST_BDAT,           /* a chunk of it */
    NGX_SMTP_RELAY_ST_STARTTLS,       /* TLS starts when 220 is out */
    NGX_SMTP_RELAY_ST_CLOSE           /* closes when the reply is out */
} ngx_smtp_relay_state_e;


/* what the client's next SASL message is */

typedef enum {
    NGX_SMTP_RELAY_LOGIN_MESSAGE = 0, /* all that the mechanism has to say */
    NGX_SMTP_RELAY_LOGIN_USER,        /* the user name of LOGIN */
    NGX_SMTP_RELAY_LOGIN_SECRET,      /* its password */
    NGX_SMTP_RELAY_LOGIN_DUMMY        /* an answer to OAuth's error */
} ngx_smtp_relay_login_step_e;


struct ngx_smtp_relay_session_s {
    ngx_stream_session_t            *stream;
    ngx_connection_t                *connection;
    ngx_smtp_relay_srv_conf_t       *conf;

    ngx_smtp_relay_state_e           state;

    ngx_event_t                      wake;

    ngx_buf_t                       *in;       /* NULL: nothing unread */
    ngx_buf_t                       *out;      /* NULL: nothing unsent */
    ngx_smtp_relay_line_t            line;     /* the command in progress */

    ngx_smtp_relay_auth_t           *auth;     /* the last attempt */
    ngx_smtp_relay_transaction_t    *transaction;
    ngx_smtp_relay_limits_t         *limits;   /* NULL: there is none */

    ngx_stream_variable_value_t     *variables;   /* at the start */

    ngx_msec_t                       deadline;    /* of the login */

    ngx_str_t                        hostname; /* the relay's own */
    ngx_str_t                        helo;     /* as the client sent it */
    ngx_str_t                        limit;    /* the zone that refused */
    u_char                           id[NGX_SMTP_RELAY_ID_LEN];

    /* what holds now: the configuration's, or those of the plan */

    off_t                            max_message_size;  /* 0: no limit */
    ngx_uint_t                       max_recipients;    /* 0: no limit */

    off_t                            skip;     /* of a BDAT that is refused */
    ngx_str_t                       *skip_reply;    /* static; NULL: none */

    ngx_smtp_relay_stat_server_t    *stat;           /* never NULL */
    off_t                            stat_received;  /* counted there */
    off_t                            stat_sent;

    ngx_uint_t                       errors;
    ngx_uint_t                       auth_attempts;
    ngx_uint_t                       auth_failures;
    ngx_uint_t                       messages;        /* accepted */
    ngx_uint_t                       transactions;    /* begun */
    ngx_uint_t                       limited;  /* of them: refused by limits */
    ngx_uint_t                       status;   /* $status, when it closes */

    ngx_smtp_relay_login_step_e      login_step;
    ngx_smtp_relay_line_error_e      bad_line;  /* not answered yet */

    unsigned                         esmtp:1;      /* EHLO, not HELO */
    unsigned                         authenticated:1;
    unsigned                         auth_done:1;  /* the verdict is in */
    unsigned                         auth_delay:1; /* it is held back */
    unsigned                         mail_denied:1; /* it answers MAIL */
    unsigned                         hold:1;    /* until all is answered */
    unsigned                         auth_line:1;  /* bad_line was AUTH */
    unsigned                         mail_refused:1;    /* what follows it
                                                         * is no error */
    unsigned                         user_missed:1;     /* a variable asked
                                                         * for it in vain */
    unsigned                         no_node:1; /* for the last message */
    unsigned                         active:1;  /* a sign of the client */
    unsigned                         defer:1;   /* sending, to posted events */
    unsigned                         full:1;    /* of replies to be sent */
    unsigned                         error:1;   /* no memory: to be closed */
    unsigned                         closed:1;  /* TLS may take a moment */
};


#define ngx_smtp_relay_get_session(s)                                         \
    ((ngx_smtp_relay_session_t *)                                             \
        ngx_stream_get_module_ctx(s, ngx_smtp_relay_module))


/* the content handler of a server with smtp_relay_pass */
void ngx_smtp_relay_session_handler(ngx_stream_session_t *s);

/*
 * Makes the session look at what changed, soon, from the event loop.  To be
 * called by an auth attempt or a transaction; cheap and idempotent.
 */
void ngx_smtp_relay_session_wake(ngx_smtp_relay_session_t *ss);

/*
 * Appends a reply to what is sent to the client.  text are whole lines with
 * CRLF.  NGX_OK or NGX_ERROR (no memory: the session will be closed).
 */
ngx_int_t ngx_smtp_relay_session_reply(ngx_smtp_relay_session_t *ss,
    ngx_str_t *text);

/*
 * Ends the session with "CODE NAME text" as its last reply: code is, say,
 * "421 4.7.0", status the session's $status.  The connection is closed in
 * the same flight.
 */
void ngx_smtp_relay_session_end(ngx_smtp_relay_session_t *ss, char *code,
    char *text, ngx_uint_t status);

/*
 * Sets the maxima of the session: those of the server, and in their place
 * those of the plan, once there is a login with one.
 */
void ngx_smtp_relay_session_maxima(ngx_smtp_relay_session_t *ss);

/* Ends the transaction, if there is one. */
void ngx_smtp_relay_session_reset(ngx_smtp_relay_session_t *ss);


#endif /* _NGX_SMTP_RELAY_SESSION_H_INCLUDED_ */
