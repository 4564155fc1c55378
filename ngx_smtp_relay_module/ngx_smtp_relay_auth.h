
/*
 * AUTH: from credentials to a verdict.  The session decodes what the client
 * sent and asks; a file of keys and an HTTP service answer.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_peer_ssl.h"
#include "ngx_smtp_relay_plan.h"


/* methods with a secret that can be compared, by a file or at a node */

#define NGX_SMTP_RELAY_AUTH_SECRETS                                           \
    (NGX_SMTP_RELAY_AUTH_PLAIN|NGX_SMTP_RELAY_AUTH_LOGIN)


typedef enum {
    NGX_SMTP_RELAY_AUTH_PENDING = 0,
    NGX_SMTP_RELAY_AUTH_OK,
    NGX_SMTP_RELAY_AUTH_DENIED,
    NGX_SMTP_RELAY_AUTH_ERROR        /* temporary: nobody could tell */
} ngx_smtp_relay_auth_status_e;


typedef enum {
    NGX_SMTP_RELAY_AUTH_BY_NONE = 0,
    NGX_SMTP_RELAY_AUTH_BY_SERVICE,
    NGX_SMTP_RELAY_AUTH_BY_CACHE,
    NGX_SMTP_RELAY_AUTH_BY_STALE,
    NGX_SMTP_RELAY_AUTH_BY_FILE
} ngx_smtp_relay_auth_source_e;


typedef struct ngx_smtp_relay_auth_lookup_s      ngx_smtp_relay_auth_lookup_t;
typedef struct ngx_smtp_relay_auth_cache_conf_s
    ngx_smtp_relay_auth_cache_conf_t;


typedef void (*ngx_smtp_relay_auth_handler_pt)(ngx_smtp_relay_auth_t *auth);


/* one attempt: it owns its pool and everything in it */

struct ngx_smtp_relay_auth_s {
    ngx_pool_t                     *pool;
    ngx_smtp_relay_session_t       *session;

    /* set by the session before ngx_smtp_relay_auth_start() */

    ngx_smtp_relay_credentials_t    credentials;  /* octets of pool */
    ngx_uint_t                      attempt;      /* 1, 2, … in a session */
    ngx_smtp_relay_auth_handler_pt  handler;

    /* the verdict, valid when handler has been called; octets of pool */

    ngx_smtp_relay_auth_status_e    status;
    ngx_smtp_relay_auth_source_e    source;
    ngx_msec_t                      time;         /* that it took */

    ngx_str_t                       user;         /* as the client sent it */
    ngx_str_t                       account;      /* else user */
    ngx_str_t                       reply;        /* to a login that is not
                                                   * OK: "535 5.7.8 text",
                                                   * one line, no CRLF */
    ngx_msec_t                      wait;         /* before that reply;
                                                   * Auth-Wait */
    ngx_str_t                       node_user;    /* Auth-User */
    ngx_str_t                       node_secret;  /* Auth-Pass */
    ngx_str_t                       server;       /* Auth-Server */
    in_port_t                       port;         /* Auth-Port, 0: none */
    ngx_str_t                       upstream;     /* Auth-Upstream */
    ngx_smtp_relay_plan_t           plan;         /* Auth-Limit-…, … */
    ngx_array_t                    *headers;      /* of ngx_keyval_t: all
                                                   * of the auth reply;
                                                   * names in lower case,
                                                   * '-' made '_' */

    /* private to the auth files */

    ngx_msec_t                      start;
    void                           *request;      /* to the service */
    ngx_smtp_relay_auth_lookup_t   *lookup;       /* in the cache; NULL: it
                                                   * neither asks nor waits */
    ngx_event_t                     event;        /* calls handler */

    unsigned                        failed:1;     /* the service gave no
                                                   * verdict */
    unsigned                        refused:1;    /* that may be due to the
                                                   * request */
};


typedef struct ngx_smtp_relay_auth_file_s  ngx_smtp_relay_auth_file_t;


/* configuration of ngx_smtp_relay_auth_module in stream{} */

typedef struct {
    ngx_array_t                     files;   /* ngx_smtp_relay_auth_file_t * */
    ngx_array_t                     zones;   /* ngx_shm_zone_t *: caches */
    ngx_array_t                     caches;  /* smtp_relay_auth_cache: of
                                              * …_auth_cache_conf_t * */
} ngx_smtp_relay_auth_main_conf_t;


/* smtp_relay_auth_set_header */

typedef struct {
    ngx_str_t                       name;
    ngx_stream_complex_value_t      value;
} ngx_smtp_relay_set_header_t;


/* configuration of ngx_smtp_relay_auth_module in a server */

typedef struct {
    ngx_uint_t                      methods;        /* bit mask */
    u_char                         *methods_file;   /* NULL: not set */
    ngx_uint_t                      methods_line;
    ngx_uint_t                      max_failures;   /* 0: no limit */
    ngx_msec_t                      failure_delay;

    ngx_smtp_relay_auth_file_t     *file;           /* NULL: none */

    ngx_smtp_relay_http_peer_t     *service;        /* NULL: none */
    ngx_array_t                    *set_headers;    /* or NULL */
    ngx_msec_t                      connect_timeout;
    ngx_msec_t                      timeout;
    ngx_uint_t                      keepalive;
    ngx_smtp_relay_peer_ssl_conf_t  ssl;            /* to the service */

    ngx_smtp_relay_auth_cache_conf_t  *cache;       /* NULL: off */
    ngx_stream_complex_value_t        *cache_key;   /* NULL: the address */
} ngx_smtp_relay_auth_srv_conf_t;


/*
 * Creates an attempt of the session with a pool of its own.  NULL: no
 * memory.  The session owns it and ends it with _destroy().
 */
ngx_smtp_relay_auth_t *ngx_smtp_relay_auth_create(
    ngx_smtp_relay_session_t *ss);

/*
 * Asks for the verdict.  auth->handler is called exactly once, later, from
 * the event loop and never from within this call, whatever happens; the
 * time that takes is bounded by the configured timeouts.  When it is
 * called the credentials' secret has been wiped.
 */
void ngx_smtp_relay_auth_start(ngx_smtp_relay_auth_t *auth);

/*
 * Ends an attempt at any time: cancels what is in progress (the handler is
 * not called any more), wipes what is secret, destroys the pool.
 */
void ngx_smtp_relay_auth_destroy(ngx_smtp_relay_auth_t *auth);

/*
 * For the parts that find a verdict: it is in auth, the handler is to be
 * called.  May be called from anywhere, once for an attempt.
 */
void ngx_smtp_relay_auth_done(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_status_e status);

/*
 * For the cache: nobody else knows, so the service is to be asked.  May be
 * called from the event loop.
 */
void ngx_smtp_relay_auth_ask(ngx_smtp_relay_auth_t *auth);

/* Takes back all that a verdict, which is none, has said. */
void ngx_smtp_relay_auth_reset(ngx_smtp_relay_auth_t *auth);

/* The value of a header of the auth reply by its name as in headers. */
ngx_str_t *ngx_smtp_relay_auth_header(ngx_smtp_relay_auth_t *auth,
    u_char *name, size_t len);


extern ngx_module_t  ngx_smtp_relay_auth_module;


#endif /* _NGX_SMTP_RELAY_AUTH_H_INCLUDED_ */
