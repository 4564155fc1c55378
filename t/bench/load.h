
/* What the rooms of the load generator share. */


#ifndef _LOAD_H_INCLUDED_
#define _LOAD_H_INCLUDED_


#include "bench.h"


#define RECORD      16384
#define TURN        64                  /* records sent by one session */
#define LINE_SIZE   1024
#define BUCKETS     2048                /* of a histogram */


typedef enum {
    MODE_LOCKSTEP = 0,
    MODE_PIPELINED,
    MODE_BDAT
} load_mode_e;


typedef enum {
    TLS_OFF = 0,
    TLS_ON,
    TLS_STARTTLS
} load_tls_e;


typedef enum {
    KIND_GREETING = 0,
    KIND_EHLO,
    KIND_STARTTLS,
    KIND_AUTH,
    KIND_MAIL,
    KIND_RCPT,
    KIND_DATA,
    KIND_CHUNK,
    KIND_LAST,
    KIND_RSET,
    KIND_QUIT
} load_kind_e;


typedef enum {
    STEP_LOGIN = 0,                     /* the session is not ours yet */
    STEP_IDLE,                          /* a message can be started */
    STEP_WAIT,                          /* for a reply to go on with it */
    STEP_CONTENT,
    STEP_QUIT
} load_step_e;


typedef struct load_msg_s  load_msg_t;

struct load_msg_s {
    bench_msg_t       msg;
    load_msg_t       *next;
    uint64_t          start;
    size_t            pos;
    size_t            chunk;            /* rest of a BDAT chunk */
    unsigned          rcpts;            /* sent, in lockstep */
    unsigned          rcpts_ok;
    unsigned          sent:1;           /* to the last octet */
    unsigned          refused:1;
};


typedef struct {
    bench_conn_t      c;                /* the first */

    load_step_e       step;
    load_msg_t       *first;            /* whose replies are awaited */
    load_msg_t       *last;             /* that is being sent */
    unsigned          nmsgs;
    unsigned long     quota;
    unsigned long     slot;
    uint64_t          start;

    unsigned char    *kinds;            /* a ring of replies to come */
    unsigned          head;
    unsigned          nkinds;

    char             *line;             /* part of a reply line */
    unsigned          nline;

    unsigned          tls_done:1;
    unsigned          hello:1;          /* to be said when TLS is up */
    unsigned          ready:1;
    unsigned          begun:1;
    unsigned          thinking:1;
    unsigned          reset:1;          /* RSET before the next message */
    unsigned          cap_starttls:1;
    unsigned          cap_auth:1;
    unsigned          cap_pipelining:1;
    unsigned          cap_chunking:1;
} load_session_t;


typedef struct {
    unsigned          count[BUCKETS];
    uint64_t          total;
    uint64_t          max;
} load_histogram_t;


/* load.c */

int more_sessions(void);

/* load_session.c */

void open_sessions(void);
void emit(load_session_t *s, load_kind_e kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* load_message.c */

int message_start(load_session_t *s);
void message_next(load_session_t *s, load_msg_t *m);
void message_content(load_session_t *s);
void message_done(load_session_t *s, char result);

/* load_report.c */

void trouble(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));
void histogram_add(load_histogram_t *h, uint64_t usec);
int summary(void);


/* what was asked for */

extern struct sockaddr_storage  addr;
extern socklen_t                addrlen;
extern load_mode_e              mode;
extern load_tls_e               tls;
extern const char              *ca, *results_path, *server_name;
extern unsigned long            sessions, messages, per_session;
extern unsigned long            size, line_length;
extern unsigned long            recipients, depth, chunk;
extern unsigned long            think, ramp, limit, hold;
extern uint64_t                 run;
extern int                      gated, resume, keep_going;
extern char                    *auth;

/* what is going on */

extern SSL_CTX                 *ssl_ctx;
extern SSL_SESSION             *ssl_session;
extern unsigned                 ring;
extern int                      gate_open, gate_quit;
extern load_session_t         **slots;
extern unsigned long            live, ready, opened, reserved, next_seq;
extern unsigned long            accepted, refused, lost, aborted;
extern unsigned long            nlogins, nerrors;
extern uint64_t                 started, ended, said_ready, not_before;
extern char                    *results;
extern load_histogram_t         message_times, login_times;
extern unsigned char            obuf[RECORD * 2];
extern size_t                   olen;


#endif /* _LOAD_H_INCLUDED_ */
