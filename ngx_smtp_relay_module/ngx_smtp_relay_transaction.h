
/*
 * A transaction: one message, from MAIL to the reply to its content
 * (RFC 5321, 3.3.).  It owns a pool and everything that its message needs,
 * borrows a node, and moves to another one while that can be done without
 * the client being told a contradiction.
 */


#ifndef _NGX_SMTP_RELAY_TRANSACTION_H_INCLUDED_
#define _NGX_SMTP_RELAY_TRANSACTION_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_header.h"


typedef enum {
    NGX_SMTP_RELAY_T_ENVELOPE = 0,  /* MAIL, RCPT, DATA being exchanged */
    NGX_SMTP_RELAY_T_CONTENT,       /* content flows to the node */
    NGX_SMTP_RELAY_T_DISCARD,       /* it is dropped; t->refusal at its end */
    NGX_SMTP_RELAY_T_END,           /* sent; the node's word is awaited */
    NGX_SMTP_RELAY_T_FAILED,        /* t->refusal to every further command */
    NGX_SMTP_RELAY_T_OVER           /* nothing more is to come */
} ngx_smtp_relay_transaction_state_e;


/* a command of the envelope, kept for another node */

typedef struct ngx_smtp_relay_envelope_s  ngx_smtp_relay_envelope_t;

struct ngx_smtp_relay_envelope_s {
    ngx_smtp_relay_envelope_t      *next;
    ngx_str_t                       text;       /* to the node, no CRLF */
    ngx_smtp_relay_verb_e           verb;
    ngx_uint_t                      needs;      /* NGX_SMTP_RELAY_EXT_… */
    unsigned                        told:1;     /* the client has a reply */
    unsigned                        accepted:1; /* and it was positive */
    unsigned                        quiet:1;    /* the client asked not */
    unsigned                        early:1;    /* told before a node was
                                                 * asked */
};


struct ngx_smtp_relay_transaction_s {
    ngx_pool_t                     *pool;
    ngx_smtp_relay_session_t       *session;
    ngx_smtp_relay_scope_t          scope;

    ngx_smtp_relay_transaction_state_e  state;

    ngx_smtp_relay_node_t          *node;       /* NULL: none now */

    ngx_smtp_relay_envelope_t      *first;
    ngx_smtp_relay_envelope_t     **last;
    ngx_smtp_relay_envelope_t      *send;       /* next to be sent */
    ngx_smtp_relay_envelope_t      *wait;       /* next to be answered */
    ngx_smtp_relay_envelope_t      *held;       /* not to be sent yet */
    ngx_uint_t                      pending;    /* not told to the client */

    ngx_smtp_relay_limit_checks_t  *limit_mail; /* NULL: not evaluated */
    ngx_smtp_relay_limit_checks_t  *limit_rcpt;

    ngx_str_t                       refusal;    /* DISCARD, FAILED */

    /* the content */
    ngx_smtp_relay_scan_t           scan;
    off_t                           chunk;      /* of BDAT, still to come */
    ngx_chain_t                    *out;        /* not taken by the node */
    u_char                          bdat_line[sizeof("BDAT  LAST" CRLF)
                                              + NGX_OFF_T_LEN];
    ngx_chain_t                    *links;      /* free ones */
    ngx_smtp_relay_header_t        *header;     /* NULL: nothing added */

    /* the balancer */
    ngx_stream_upstream_state_t    *upstream_state;
    ngx_smtp_relay_node_profile_t   profile;    /* of its connection */
    ngx_msec_t                      upstream_start;
    ngx_msec_t                      node_start;
    ngx_int_t                       resolve_rc;

    /* for the status */
    ngx_smtp_relay_stat_node_t     *stat;       /* of the node, never NULL */
    ngx_smtp_relay_failure_e        failure;    /* of its connection */
    ngx_msec_t                      end_time;   /* when all was sent */

    /* for the log */
    ngx_msec_t                      start;
    ngx_msec_t                      end;        /* when status was known */
    off_t                           size;       /* SIZE= of MAIL, or -1 */
    ngx_str_t                       mail_from;
    ngx_str_t                       rcpt_to;    /* the first */
    ngx_uint_t                      recipients; /* RCPT given so far */
    ngx_uint_t                      accepted;
    ngx_uint_t                      node_rcpts; /* of them, at this node */
    ngx_uint_t                      rejected;
    ngx_uint_t                      refused;    /* by the relay itself */
    ngx_uint_t                      status;     /* final code, 0: none */
    ngx_str_t                       reply;      /* final text */
    ngx_str_t                       limit;      /* the zone that refused */

    unsigned                        started:1;  /* a node has been asked for */
    unsigned                        smtputf8:1;
    unsigned                        mail_ok:1;  /* the client read 250 */
    unsigned                        mail_taken:1;   /* a node said so */
    unsigned                        bdat:1;     /* content comes by BDAT */
    unsigned                        bdat_last:1;
    unsigned                        bdat_out:1; /* and goes on by BDAT */
    unsigned                        data:1;     /* DATA is in the envelope */
    unsigned                        data_refused:1;
    unsigned                        undecided:1;    /* whether DATA is asked,
                                                     * or BDAT sent */
    unsigned                        whole_data:1;   /* it is asked */
    unsigned                        contradicted:1;
    unsigned                        open:1;     /* 354 was given */
    unsigned                        content:1;  /* an octet was taken */
    unsigned                        ahead:1;    /* all of it was, with the
                                                 * envelope */
    unsigned                        sent_end:1; /* the end may have been */
    unsigned                        node_reused:1;
    unsigned                        node_timedout:1;
    unsigned                        node_spoke:1;    /* and not just 421 */
    unsigned                        again:1;    /* the last node was given
                                                 * a second chance */
    unsigned                        moved:1;    /* to another node */
    unsigned                        resolving:1;
};


/* Starts a transaction.  NULL: no memory. */
ngx_smtp_relay_transaction_t *ngx_smtp_relay_transaction_create(
    ngx_smtp_relay_session_t *ss);

/*
 * Add a command; its reply will go to the client in due order.  A node is
 * asked for at the first.  All is sent by _flush().  NGX_OK or NGX_ERROR
 * (no memory).  quiet: the reply is not for the client (DATA for a BDAT).
 */
ngx_int_t ngx_smtp_relay_transaction_mail(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_mail_t *mail);
ngx_int_t ngx_smtp_relay_transaction_rcpt(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_rcpt_t *rcpt);
ngx_int_t ngx_smtp_relay_transaction_data(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t quiet);

/*
 * Holds back the command that was added last: it and what follows it is not
 * sent until t->held is NULL again.
 */
void ngx_smtp_relay_transaction_hold(ngx_smtp_relay_transaction_t *t);

/* Sends what can be sent.  To be called once per flight of the client. */
void ngx_smtp_relay_transaction_flush(ngx_smtp_relay_transaction_t *t);

/*
 * Gives up the message for a reason of the relay's own: what was to be
 * told is told text (one line with CRLF, static or of t->pool), and so is
 * every further command of the transaction.
 */
void ngx_smtp_relay_transaction_fail(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *text);

/*
 * Turns away content that is still coming: the node, which has not been
 * given the end of it, is closed, the rest is read and dropped.
 */
void ngx_smtp_relay_transaction_discard(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *text);

/* Notes the final result for the log; text is copied. */
void ngx_smtp_relay_transaction_result(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *text);

/*
 * Ends a transaction at any time: gives the node back or closes it, writes
 * the message's log line, destroys the pool.
 */
void ngx_smtp_relay_transaction_destroy(ngx_smtp_relay_transaction_t *t);


/* called by the node, the balancer and the resolver */

void ngx_smtp_relay_transaction_node_ready(ngx_smtp_relay_transaction_t *t);
void ngx_smtp_relay_transaction_node_writable(ngx_smtp_relay_transaction_t *t);
void ngx_smtp_relay_transaction_node_reply(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_reply_t *reply);
void ngx_smtp_relay_transaction_lost(ngx_smtp_relay_transaction_t *t);
void ngx_smtp_relay_transaction_resolved(ngx_smtp_relay_transaction_t *t,
    ngx_int_t rc);

/* Whether a reply that nothing was asked for may be about the content. */
ngx_uint_t ngx_smtp_relay_transaction_may_refuse(
    ngx_smtp_relay_transaction_t *t, ngx_uint_t code);


#endif /* _NGX_SMTP_RELAY_TRANSACTION_H_INCLUDED_ */
