
/* What the rooms of the sink share. */


#ifndef _SINK_H_INCLUDED_
#define _SINK_H_INCLUDED_


#include "bench.h"


#define LINE_SIZE   4096
#define HTTP_SIZE   16384
#define RUNS        256
#define LISTENS     80
#define SEQ_MAX     100000000
#define TURN        16                  /* buffers read from one peer */


typedef enum {
    LISTEN_SMTP = 0,
    LISTEN_AUTH
} sink_listen_e;


typedef enum {
    STATE_COMMAND = 0,
    STATE_AUTH,                         /* a line of credentials */
    STATE_DATA,
    STATE_BDAT
} sink_state_e;


typedef enum {
    CONTENT_SEEK = 0,                   /* the line that names the message */
    CONTENT_MATCH,
    CONTENT_BAD
} sink_content_e;


typedef enum {
    EOD_START = 0,                      /* behind a CRLF */
    EOD_DOT,
    EOD_DOT_CR,
    EOD_MIDDLE,
    EOD_CR
} sink_eod_e;


typedef struct {
    bench_conn_t      c;                /* the first */
    sink_listen_e     type;
    unsigned          tls:1;
    unsigned          starttls:1;
} sink_listen_t;


typedef struct {
    bench_conn_t      c;                /* the first */

    sink_listen_e     type;
    sink_state_e      state;
    sink_content_e    content;
    sink_eod_e        eod;

    size_t            chunk;            /* rest of BDAT */
    size_t            pos;              /* octets of the message */

    char             *line;             /* part of a line */
    size_t            nline;
    size_t            line_size;

    unsigned char    *held;             /* input that waits for the delay */
    size_t            nheld;

    bench_msg_t      *msg;

    unsigned          starttls:1;
    unsigned          hello:1;
    unsigned          mail:1;
    unsigned          last:1;           /* BDAT LAST */
    unsigned          chunked:1;        /* a BDAT of this message was seen */
    unsigned          delayed:1;
    unsigned          quit:1;
    unsigned          rcpts;
} sink_session_t;


typedef struct {
    uint64_t          run;
    unsigned char    *count;
    size_t            size;
} sink_run_t;


typedef struct {
    const char       *name;
    unsigned          on;
} sink_capability_t;


typedef struct {
    unsigned long               connections;
    unsigned long               tls;
    unsigned long               sessions;
    unsigned long               messages;
    unsigned long long          octets;
    unsigned long               unique;
    unsigned long               duplicates;
    unsigned long               bad;
    unsigned long               unknown;
    unsigned long               extra;
    unsigned long               aborted;
    unsigned long               errors;
    unsigned long               auth_connections;
    unsigned long               auth_requests;
    unsigned long               auth_denied;
} sink_counts_t;


/* sink_session.c */

void session_open(sink_listen_t *l, int fd);
void reset(sink_session_t *s);
int starts(const char *p, const char *word);
void reply(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

/* sink_message.c */

void message_start(sink_session_t *s);
const unsigned char *data_feed(sink_session_t *s,
    const unsigned char *p, const unsigned char *end, int *complete);
void content_feed(sink_session_t *s, const unsigned char *p, size_t n);
int message_end(sink_session_t *s);

/* sink_http.c */

int http_feed(sink_session_t *s, const unsigned char *p, size_t n);


extern sink_capability_t        capabilities[];

extern SSL_CTX                 *ssl_ctx;
extern const char              *user, *secret, *auth_server;
extern int                      check;
extern unsigned long            delay, nodes;
extern int                      first_port;
extern sink_run_t               runs[RUNS];
extern unsigned                 nruns;

extern sink_counts_t            counts;

extern unsigned long            nopen;


#endif /* _SINK_H_INCLUDED_ */
