
/*
 * Node connections: the relay as a client of a delivery node's SMTP.
 *
 * A node connection lives on its own: own pool, own log.  A transaction
 * borrows it; between transactions it waits in the pool of its worker.
 */


#ifndef _NGX_SMTP_RELAY_NODE_H_INCLUDED_
#define _NGX_SMTP_RELAY_NODE_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_peer_ssl.h"
#include "ngx_smtp_relay_node_ssl.h"
#include "ngx_smtp_relay_node_profile.h"


#define NGX_SMTP_RELAY_NODE_AUTH_OFF    0
#define NGX_SMTP_RELAY_NODE_AUTH_PASS   1   /* the client's, the service's */
#define NGX_SMTP_RELAY_NODE_AUTH_FIXED  2

#define NGX_SMTP_RELAY_NODE_PROXY_OFF   0
#define NGX_SMTP_RELAY_NODE_PROXY_V1    1
#define NGX_SMTP_RELAY_NODE_PROXY_V2    2

#define NGX_SMTP_RELAY_NODE_CLIENT_LEN  32  /* SHA-256 */


typedef struct ngx_smtp_relay_node_pool_s  ngx_smtp_relay_node_pool_t;


/* configuration of ngx_smtp_relay_node_module in a server */

typedef struct {
    ngx_stream_complex_value_t     *value;      /* of a bind with variables */
    ngx_addr_t                     *addr;
    ngx_uint_t                      transparent;
} ngx_smtp_relay_bind_t;


typedef struct {
    /* smtp_relay_pass: one of the two, and where it stands */
    ngx_stream_upstream_srv_conf_t *upstream;
    ngx_stream_complex_value_t     *upstream_value;
    u_char                         *file_name;
    ngx_uint_t                      line;

    ngx_msec_t                      connect_timeout;
    ngx_msec_t                      reply_timeout;

    ngx_flag_t                      next_upstream;
    ngx_uint_t                      next_upstream_tries;    /* 0: all */
    ngx_msec_t                      next_upstream_timeout;  /* 0: none */

    ngx_smtp_relay_bind_t          *bind;
    ngx_flag_t                      socket_keepalive;

    ngx_stream_complex_value_t     *helo;    /* NULL: the relay's name */

    ngx_uint_t                      ssl_mode;
    ngx_smtp_relay_peer_ssl_conf_t  ssl;

    ngx_flag_t                      xclient;
    ngx_uint_t                      proxy_protocol;

    ngx_uint_t                      auth;
    ngx_stream_complex_value_t     *auth_user;      /* of a fixed pair */
    ngx_stream_complex_value_t     *auth_secret;

    ngx_uint_t                      keepalive;
    ngx_msec_t                      keepalive_timeout;
    ngx_uint_t                      keepalive_messages;

    ngx_smtp_relay_node_pool_t     *pool;
} ngx_smtp_relay_node_srv_conf_t;


typedef enum {
    NGX_SMTP_RELAY_NODE_CONNECT = 0,
    NGX_SMTP_RELAY_NODE_GREETING,
    NGX_SMTP_RELAY_NODE_EHLO,
    NGX_SMTP_RELAY_NODE_STARTTLS,
    NGX_SMTP_RELAY_NODE_TLS,
    NGX_SMTP_RELAY_NODE_XCLIENT,
    NGX_SMTP_RELAY_NODE_AUTH,
    NGX_SMTP_RELAY_NODE_READY,       /* a transaction's commands */
    NGX_SMTP_RELAY_NODE_RESET,       /* on its way back to the pool */
    NGX_SMTP_RELAY_NODE_IDLE,        /* in the pool */
    NGX_SMTP_RELAY_NODE_QUIT,        /* QUIT is being sent */
    NGX_SMTP_RELAY_NODE_STATES
} ngx_smtp_relay_node_state_e;


typedef enum {
    NGX_SMTP_RELAY_NODE_AUTH_PLAIN = 0,     /* sent with the command */
    NGX_SMTP_RELAY_NODE_AUTH_MESSAGE,       /* 334 lets it be sent */
    NGX_SMTP_RELAY_NODE_AUTH_USER,
    NGX_SMTP_RELAY_NODE_AUTH_SECRET
} ngx_smtp_relay_node_auth_e;


struct ngx_smtp_relay_node_s {
    ngx_pool_t                     *pool;
    ngx_connection_t               *connection;
    ngx_log_t                       log;

    ngx_smtp_relay_node_srv_conf_t *conf;
    ngx_smtp_relay_transaction_t   *transaction;   /* NULL: nobody's */

    ngx_smtp_relay_node_state_e     state;
    ngx_smtp_relay_features_t       features;

    ngx_buf_t                      *in;         /* replies, NULL: none */
    ngx_buf_t                      *out;        /* commands, NULL: none */
    ngx_smtp_relay_reply_t          reply;      /* the one in progress */
    ngx_uint_t                      expected;   /* replies outstanding */

    size_t                          buffer_size;

    /* what a pooled connection must agree in with the one wanted */
    struct sockaddr                *sockaddr;
    socklen_t                       socklen;
    struct sockaddr                *local;
    socklen_t                       local_len;
    ngx_str_t                       name;       /* of the peer, for logs */
    ngx_str_t                       key;        /* of its profile */
    uint32_t                        hash;       /* of all of these */

    ngx_queue_t                     queue;      /* in the pool: by age */
    ngx_queue_t                     bucket;     /* and by hash */

    ngx_uint_t                      messages;
    ngx_msec_t                      used;       /* when it came to the pool */

    /* the dialogue in front of a message */
    ngx_smtp_relay_node_auth_e      auth_step;
    ngx_str_t                       xclient;    /* lines still to be sent */
    ngx_uint_t                      attributes; /* of XCLIENT, that were */
    u_char                          client[NGX_SMTP_RELAY_NODE_CLIENT_LEN];

    off_t                           received;   /* of this transaction */
    off_t                           sent;       /* before it */

    ngx_stream_upstream_srv_conf_t *group;      /* NULL: of none */
    ngx_smtp_relay_stat_node_t     *stat;
    uint64_t                       *gauge;      /* in stat; NULL: none */

    unsigned                        reused:1;
    unsigned                        surplus:1;  /* idle, but one too many */
    unsigned                        busy:1;     /* its handler is running */
    unsigned                        closed:1;   /* close when it is done */
    unsigned                        client_helo:1;    /* EHLO is its name */
    unsigned                        xclient_done:1;   /* client is set */
    unsigned                        greeted:1;
    unsigned                        auth_done:1;
    unsigned                        secret:1;   /* in out: to be wiped */
};


/*
 * Creates a connection object for a peer; addresses and names are copied.
 * NULL: no memory.
 */
ngx_smtp_relay_node_t *ngx_smtp_relay_node_create(
    ngx_smtp_relay_transaction_t *t, ngx_peer_connection_t *peer);

/*
 * Binds a node to a transaction, and lets go of it: logs carry the session
 * of the transaction in between.
 */
void ngx_smtp_relay_node_attach(ngx_smtp_relay_node_t *node,
    ngx_smtp_relay_transaction_t *t);
void ngx_smtp_relay_node_detach(ngx_smtp_relay_node_t *node);

/*
 * Starts the dialogue on a connection made by ngx_event_connect_peer(),
 * whose result rc is (NGX_OK or NGX_AGAIN).  The transaction is told by
 * ngx_smtp_relay_transaction_node_ready() or _lost(), later.
 */
void ngx_smtp_relay_node_start(ngx_smtp_relay_node_t *node,
    ngx_connection_t *c, ngx_int_t rc);

/*
 * Queues a command, a line without its CRLF, that will be answered by one
 * reply; it is sent by ngx_smtp_relay_node_flush().  NGX_OK, NGX_AGAIN (no
 * room: flush first) or NGX_ERROR (no memory).
 */
ngx_int_t ngx_smtp_relay_node_command(ngx_smtp_relay_node_t *node,
    ngx_str_t *command);

/*
 * Sends what is queued.  NGX_OK: all is sent; NGX_AGAIN: the rest goes
 * when the node takes it; NGX_ERROR: the connection is lost.
 */
ngx_int_t ngx_smtp_relay_node_flush(ngx_smtp_relay_node_t *node);

/*
 * Sends message data, and in front of it the commands that are queued, with
 * one system call.  On return *chain is what was not taken, NULL: nothing.
 * NGX_OK or NGX_ERROR.  When the node takes octets again the session of the
 * transaction is woken.
 */
ngx_int_t ngx_smtp_relay_node_send(ngx_smtp_relay_node_t *node,
    ngx_chain_t **chain);

/*
 * Whether it is as good as certain that a connection from the pool is still
 * up: it was used a moment ago, and nothing has arrived on it.
 */
ngx_uint_t ngx_smtp_relay_node_fresh(ngx_smtp_relay_node_t *node);

/*
 * Whether nothing has arrived on a connection, an end of it neither: what
 * has may not have been noticed yet.
 */
ngx_uint_t ngx_smtp_relay_node_silent(ngx_smtp_relay_node_t *node);

/* Says that one more reply is to come: to what _send() carried. */
void ngx_smtp_relay_node_expect(ngx_smtp_relay_node_t *node);

/*
 * Ends the transaction's use of a node.  clean: the message was answered,
 * the node is at its start; otherwise it gets RSET first.  What is not fit
 * for another message is closed.  The node is not the caller's any more.
 */
void ngx_smtp_relay_node_release(ngx_smtp_relay_node_t *node,
    ngx_uint_t clean);

/*
 * Says QUIT, which is a courtesy: nobody waits for its reply, and closes.
 * For a connection that is in no pool.
 */
void ngx_smtp_relay_node_quit(ngx_smtp_relay_node_t *node);

/* Closes the connection at once and frees the node. */
void ngx_smtp_relay_node_close(ngx_smtp_relay_node_t *node);


/* for the files of a node connection */

/* Changes the state, which log lines tell. */
void ngx_smtp_relay_node_set_state(ngx_smtp_relay_node_t *node,
    ngx_smtp_relay_node_state_e state);

/* Lets replies be read; the node may be gone on return. */
void ngx_smtp_relay_node_talk(ngx_smtp_relay_node_t *node);

/* Closes the connection and tells the transaction, if there is one. */
void ngx_smtp_relay_node_lost(ngx_smtp_relay_node_t *node);

/* Gives back what is queued to be sent; a secret in it is wiped. */
void ngx_smtp_relay_node_put_out(ngx_smtp_relay_node_t *node);

/* Logs at error what the node said that it should not have. */
void ngx_smtp_relay_node_invalid(ngx_smtp_relay_node_t *node, char *what,
    u_char *data, size_t len);


extern ngx_module_t  ngx_smtp_relay_node_module;


/* the configuration of nodes for a transaction's session */

#define ngx_smtp_relay_node_conf(t)                                           \
    ((ngx_smtp_relay_node_srv_conf_t *)                                       \
        ngx_stream_get_module_srv_conf((t)->session->stream,                  \
                                       ngx_smtp_relay_node_module))


#endif /* _NGX_SMTP_RELAY_NODE_H_INCLUDED_ */
