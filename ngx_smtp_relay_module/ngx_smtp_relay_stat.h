
/*
 * Counters of all workers, in a zone of shared memory.
 *
 * A worker adds to blocks of its own, so without a lock; whoever reads sums
 * the blocks of all workers up.  Without a zone, and when it is full, there
 * is a block that nobody reads: counting is never a question of whether.
 */


#ifndef _NGX_SMTP_RELAY_STAT_H_INCLUDED_
#define _NGX_SMTP_RELAY_STAT_H_INCLUDED_


#include "ngx_smtp_relay.h"


#define NGX_SMTP_RELAY_STAT_BUCKETS  12


/* how a session ended: by $status, save for the last one */

typedef enum {
    NGX_SMTP_RELAY_END_OK = 0,
    NGX_SMTP_RELAY_END_CLIENT_ERROR,
    NGX_SMTP_RELAY_END_DENIED,
    NGX_SMTP_RELAY_END_TIMEOUT,
    NGX_SMTP_RELAY_END_ERROR,
    NGX_SMTP_RELAY_END_NO_NODE,
    NGX_SMTP_RELAY_END_LIMITED,
    NGX_SMTP_RELAY_END_LOST,             /* its worker was killed */
    NGX_SMTP_RELAY_ENDS
} ngx_smtp_relay_end_e;


typedef enum {
    NGX_SMTP_RELAY_TLS_IMPLICIT = 0,
    NGX_SMTP_RELAY_TLS_STARTTLS,
    NGX_SMTP_RELAY_TLS_WAYS
} ngx_smtp_relay_tls_e;


typedef enum {
    NGX_SMTP_RELAY_TLS_TIMEOUT = 0,
    NGX_SMTP_RELAY_TLS_CLOSED,
    NGX_SMTP_RELAY_TLS_HANDSHAKE,
    NGX_SMTP_RELAY_TLS_CERTIFICATE,
    NGX_SMTP_RELAY_TLS_FAILURES
} ngx_smtp_relay_tls_failure_e;


/* what became of AUTH: pairs of a result and a source, and two more */

#define NGX_SMTP_RELAY_STAT_METHODS   8    /* the last: unknown ones */
#define NGX_SMTP_RELAY_STAT_SOURCES   5
#define NGX_SMTP_RELAY_STAT_REFUSED   15
#define NGX_SMTP_RELAY_STAT_CANCELED  16
#define NGX_SMTP_RELAY_STAT_VERDICTS  17


typedef enum {
    NGX_SMTP_RELAY_SERVICE_NO_REPLY = 0,
    NGX_SMTP_RELAY_SERVICE_BAD_REPLY,
    NGX_SMTP_RELAY_SERVICE_FAILURES
} ngx_smtp_relay_service_failure_e;


typedef enum {
    NGX_SMTP_RELAY_ACCEPTED = 0,
    NGX_SMTP_RELAY_DEFERRED,
    NGX_SMTP_RELAY_REJECTED,
    NGX_SMTP_RELAY_ABORTED,
    NGX_SMTP_RELAY_RESULTS
} ngx_smtp_relay_result_e;


typedef enum {
    NGX_SMTP_RELAY_FAILED_CONNECT = 0,
    NGX_SMTP_RELAY_FAILED_TIMEOUT,
    NGX_SMTP_RELAY_FAILED_TLS,
    NGX_SMTP_RELAY_FAILED_PROTOCOL,
    NGX_SMTP_RELAY_FAILED_AUTH,
    NGX_SMTP_RELAY_FAILED_LOST,
    NGX_SMTP_RELAY_FAILURES              /* none */
} ngx_smtp_relay_failure_e;


/* why a connection that could be kept was not, or not any longer */

typedef enum {
    NGX_SMTP_RELAY_POOL_FULL = 0,        /* others were idle less long */
    NGX_SMTP_RELAY_POOL_IDLE,            /* for too long */
    NGX_SMTP_RELAY_POOL_SPENT,           /* it had its number of messages */
    NGX_SMTP_RELAY_POOL_CLOSED,          /* by the node */
    NGX_SMTP_RELAY_POOL_STALE,           /* likewise, seen only when used */
    NGX_SMTP_RELAY_POOL_ENDS
} ngx_smtp_relay_pool_end_e;


typedef enum {
    NGX_SMTP_RELAY_CONN_CONNECTING = 0,
    NGX_SMTP_RELAY_CONN_BUSY,
    NGX_SMTP_RELAY_CONN_IDLE,
    NGX_SMTP_RELAY_CONNS                 /* none of these any more */
} ngx_smtp_relay_conn_e;


/* all members of blocks are uint64_t; durations are milliseconds */

typedef struct {
    uint64_t                        sum;
    uint64_t                        count;
} ngx_smtp_relay_stat_sum_t;


typedef struct {
    uint64_t                        sum;
    uint64_t                        buckets[NGX_SMTP_RELAY_STAT_BUCKETS + 1];
} ngx_smtp_relay_stat_histogram_t;


/* a server: what came to one listening socket */

typedef struct {
    uint64_t                        open;       /* may go down */
    uint64_t                        started;
    uint64_t                        ended[NGX_SMTP_RELAY_ENDS];

    uint64_t                        tls[NGX_SMTP_RELAY_TLS_WAYS];
    uint64_t                        tls_failed[NGX_SMTP_RELAY_TLS_FAILURES];

    uint64_t                        auth[NGX_SMTP_RELAY_STAT_METHODS]
                                        [NGX_SMTP_RELAY_STAT_VERDICTS];

    uint64_t                        service_opened;     /* connections */
    uint64_t                        service_reused;
    uint64_t                        service_failed
                                        [NGX_SMTP_RELAY_SERVICE_FAILURES];
    ngx_smtp_relay_stat_histogram_t service_time;

    uint64_t                        messages[NGX_SMTP_RELAY_RESULTS];
    uint64_t                        recipients;         /* accepted */
    uint64_t                        recipients_rejected;
    uint64_t                        content;            /* octets */
    uint64_t                        received;
    uint64_t                        sent;

    ngx_smtp_relay_stat_histogram_t message_time;
    ngx_smtp_relay_stat_histogram_t message_size;
} ngx_smtp_relay_stat_server_t;


typedef struct {
    uint64_t                        conns[NGX_SMTP_RELAY_CONNS];
                                                        /* may go down */
    uint64_t                        opened;
    uint64_t                        reused;
    uint64_t                        pool[NGX_SMTP_RELAY_POOL_ENDS];
    uint64_t                        failures[NGX_SMTP_RELAY_FAILURES];
    uint64_t                        messages[NGX_SMTP_RELAY_ABORTED];
    uint64_t                        sent;               /* octets */
    uint64_t                        received;

    ngx_smtp_relay_stat_sum_t       connect_time;
    ngx_smtp_relay_stat_sum_t       reply_time;
} ngx_smtp_relay_stat_node_t;


/* counting: none of these fails */

/* A session starts, and ends; ss->stat is set by the first. */
void ngx_smtp_relay_stat_session(ngx_smtp_relay_session_t *ss);
void ngx_smtp_relay_stat_session_end(ngx_smtp_relay_session_t *ss);

/* TLS of a client has started, or has not. */
void ngx_smtp_relay_stat_tls(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_tls_e via);
void ngx_smtp_relay_stat_tls_failed(ngx_connection_t *c,
    ngx_smtp_relay_stat_server_t *stat);

/* A verdict is in; AUTH that did not get that far: canceled or refused. */
void ngx_smtp_relay_stat_auth(ngx_smtp_relay_auth_t *auth);
void ngx_smtp_relay_stat_auth_refused(ngx_smtp_relay_session_t *ss,
    ngx_uint_t canceled);

/*
 * A request to the auth service has ended; NGX_SMTP_RELAY_SERVICE_FAILURES:
 * with a verdict.
 */
void ngx_smtp_relay_stat_service(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_service_failure_e failure);

/* The message of a transaction has ended. */
void ngx_smtp_relay_stat_message(ngx_smtp_relay_transaction_t *t);

/* The transaction has chosen a node: t->stat is its block. */
void ngx_smtp_relay_stat_choose(ngx_smtp_relay_transaction_t *t);

/* A connection is of another kind now, or, NGX_SMTP_RELAY_CONNS, gone. */
void ngx_smtp_relay_stat_conn(ngx_smtp_relay_node_t *node,
    ngx_smtp_relay_conn_e kind);

/* What the connection of a node failed by, when it is given up. */
ngx_smtp_relay_failure_e ngx_smtp_relay_stat_failure(
    ngx_smtp_relay_node_t *node);

/* The node of the transaction had the final word on its message. */
void ngx_smtp_relay_stat_node_message(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t code);

#define ngx_smtp_relay_stat_add(s, ms)                                        \
    (s)->sum += (ms);                                                         \
    (s)->count++


/* upper bounds of histograms: milliseconds, octets */

extern const uint64_t  ngx_smtp_relay_stat_times[NGX_SMTP_RELAY_STAT_BUCKETS];
extern const uint64_t
    ngx_smtp_relay_stat_lengths[NGX_SMTP_RELAY_STAT_BUCKETS];

/* what counts when nobody looks */

extern ngx_smtp_relay_stat_node_t  ngx_smtp_relay_stat_no_node;


extern ngx_module_t  ngx_smtp_relay_stat_module;


#endif /* _NGX_SMTP_RELAY_STAT_H_INCLUDED_ */
