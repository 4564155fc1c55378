
/*
 * SMTP submission load: sessions that log in and send messages, in one
 * thread.  Each reply is looked at, each message ends up accepted, refused,
 * lost (nobody knows) or aborted (not sent to its end).
 */


#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

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


static void options(int argc, char **argv);
static void usage(int rc);
static unsigned long number(const char *name, const char *value,
    unsigned long min, unsigned long max);
static void auth_make(const char *user, const char *secret);
static void tls_make(void);
static int tls_session(SSL *ssl, SSL_SESSION *session);

static void gate_handler(bench_conn_t *c);
static void gate_line(const char *p, size_t n);
static void wake(void);
static void progress(void);

static int more_sessions(void);
static void open_sessions(void);
static int session_open(void);
static int session_tls(load_session_t *s);
static void session_handler(bench_conn_t *c);
static void session_think(bench_conn_t *c);
static int session_read(load_session_t *s);
static int session_line(load_session_t *s, char *p, size_t n);
static int session_login(load_session_t *s, load_kind_e kind, unsigned code);
static void session_capability(load_session_t *s, const char *p);
static int session_ready(load_session_t *s);
static int session_reply(load_session_t *s, load_kind_e kind, unsigned code);
static int reply_data(load_session_t *s, load_msg_t *m, unsigned code);
static int session_pump(load_session_t *s);
static int may_start(load_session_t *s);
static int may_quit(load_session_t *s);
static int message_start(load_session_t *s);
static void message_next(load_session_t *s, load_msg_t *m);
static void message_content(load_session_t *s);
static void message_done(load_session_t *s, char result);
static void session_close(load_session_t *s, const char *why);

static void emit(load_session_t *s, load_kind_e kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void expect(load_session_t *s, load_kind_e kind);
static int emit_flush(load_session_t *s);
static void trouble(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

static void histogram_add(load_histogram_t *h, uint64_t usec);
static uint64_t histogram_get(load_histogram_t *h, double part);
static int summary(void);
static void results_write(void);


static const char *kind_names[] = {
    "greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA",
    "BDAT", "end of data", "RSET", "QUIT"
};


/* what was asked for */

static struct sockaddr_storage  addr;
static socklen_t                addrlen;
static load_mode_e              mode;
static load_tls_e               tls;
static const char              *ca, *results_path, *server_name;
static unsigned long            sessions = 1, messages = 1, per_session;
static unsigned long            size = 4096, line_length = 78;
static unsigned long            recipients = 1, depth = 1, chunk;
static unsigned long            think, ramp = 64, limit = 300, hold;
static unsigned long            max_errors = 10;
static uint64_t                 run;
static int                      gated, resume, keep_going;
static char                    *auth;

/* what is going on */

static SSL_CTX                 *ssl_ctx;
static SSL_SESSION             *ssl_session;
static unsigned                 ring;
static bench_conn_t             gate;
static int                      gate_open, gate_quit;
static load_session_t         **slots;
static load_msg_t              *free_msgs;
static unsigned long            live, ready, opened, reserved, next_seq;
static unsigned long            accepted, refused, lost, aborted;
static unsigned long            nlogins, nerrors;
static uint64_t                 started, ended, said_ready, not_before;
static char                    *results;
static load_histogram_t         message_times, login_times;
static unsigned char            obuf[RECORD * 2];
static size_t                   olen;
static unsigned char            ibuf[RECORD];


int
main(int argc, char **argv)
{
    uint64_t  begin;

    options(argc, argv);

    signal(SIGPIPE, SIG_IGN);
    bench_limits();
    bench_loop_init();

    if (tls != TLS_OFF) {
        tls_make();
    }

    /* replies of a message, twice for RSET, and those of a login */
    for (ring = 16; ring < (recipients + 5) * depth + 8; ring *= 2) {
        /* void */
    }

    if (chunk) {
        while (ring < (size / chunk + recipients + 6) * depth + 8) {
            ring *= 2;
        }
    }

    results = malloc(messages + 1);
    slots = calloc(sessions, sizeof(load_session_t *));

    if (results == NULL || slots == NULL) {
        bench_die("no memory");
    }

    memset(results, '-', messages);

    if (gated) {
        gate.handler = gate_handler;

        if (fcntl(gate.fd, F_SETFL, O_NONBLOCK) == -1
            || bench_conn_add(&gate) == -1)
        {
            bench_die("--gate needs a pipe or a terminal to read from");
        }
    }

    begin = bench_usec();
    started = begin;
    gate_open = !gated;

    for ( ;; ) {
        open_sessions();
        progress();

        if (live == 0 && !more_sessions()) {
            break;
        }

        bench_loop_once(20);

        if (bench_usec() - begin > limit * 1000000) {
            trouble("time limit of %lu s reached", limit);
            break;
        }

        if (nerrors >= max_errors && !keep_going) {
            trouble("too many errors");
            break;
        }
    }

    return summary();
}


static void
options(int argc, char **argv)
{
    int          c;
    const char  *user, *secret;

    enum {
        O_CONNECT = 1, O_TLS, O_STARTTLS, O_SESSIONS, O_MESSAGES,
        O_PER_SESSION, O_SIZE, O_LINE, O_MODE, O_DEPTH, O_CHUNK, O_USER,
        O_SECRET, O_RECIPIENTS, O_THINK, O_GATE, O_HOLD, O_RAMP, O_TIME,
        O_RUN, O_RESULTS, O_RESUME, O_CA, O_NAME, O_KEEP_GOING,
        O_MAX_ERRORS, O_HELP
    };

    static const struct option  opts[] = {
        { "connect", 1, NULL, O_CONNECT },
        { "tls", 0, NULL, O_TLS },
        { "starttls", 0, NULL, O_STARTTLS },
        { "sessions", 1, NULL, O_SESSIONS },
        { "messages", 1, NULL, O_MESSAGES },
        { "per-session", 1, NULL, O_PER_SESSION },
        { "size", 1, NULL, O_SIZE },
        { "line", 1, NULL, O_LINE },
        { "mode", 1, NULL, O_MODE },
        { "depth", 1, NULL, O_DEPTH },
        { "chunk", 1, NULL, O_CHUNK },
        { "user", 1, NULL, O_USER },
        { "secret", 1, NULL, O_SECRET },
        { "recipients", 1, NULL, O_RECIPIENTS },
        { "think", 1, NULL, O_THINK },
        { "gate", 0, NULL, O_GATE },
        { "hold", 1, NULL, O_HOLD },
        { "ramp", 1, NULL, O_RAMP },
        { "time", 1, NULL, O_TIME },
        { "run", 1, NULL, O_RUN },
        { "results", 1, NULL, O_RESULTS },
        { "resume", 0, NULL, O_RESUME },
        { "ca", 1, NULL, O_CA },
        { "name", 1, NULL, O_NAME },
        { "keep-going", 0, NULL, O_KEEP_GOING },
        { "max-errors", 1, NULL, O_MAX_ERRORS },
        { "help", 0, NULL, O_HELP },
        { NULL, 0, NULL, 0 }
    };

    user = NULL;
    secret = NULL;
    run = bench_usec() ^ ((uint64_t) getpid() << 40);

#define NUMBER(name, min, max)  number(name, optarg, min, max)

    while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {

        switch (c) {

        case O_CONNECT:
            addrlen = bench_addr(optarg, &addr);
            if (addrlen == 0) {
                bench_die("--connect needs address:port");
            }
            break;

        case O_TLS: tls = TLS_ON; break;
        case O_STARTTLS: tls = TLS_STARTTLS; break;
        case O_SESSIONS: sessions = NUMBER("sessions", 1, 100000); break;
        case O_MESSAGES: messages = NUMBER("messages", 0, 100000000); break;
        case O_PER_SESSION:
            per_session = NUMBER("per-session", 0, 100000000);
            break;
        case O_SIZE: size = NUMBER("size", 0, 2147483647); break;
        case O_LINE: line_length = NUMBER("line", 8, 65535); break;

        case O_MODE:
            if (strcmp(optarg, "lockstep") == 0) {
                mode = MODE_LOCKSTEP;

            } else if (strcmp(optarg, "pipelined") == 0) {
                mode = MODE_PIPELINED;

            } else if (strcmp(optarg, "bdat") == 0) {
                mode = MODE_BDAT;

            } else {
                bench_die("--mode is lockstep, pipelined or bdat");
            }
            break;

        case O_DEPTH: depth = NUMBER("depth", 1, 1000); break;
        case O_CHUNK: chunk = NUMBER("chunk", 0, 2147483647); break;
        case O_USER: user = optarg; break;
        case O_SECRET: secret = optarg; break;
        case O_RECIPIENTS:
            recipients = NUMBER("recipients", 1, 10000);
            break;
        case O_THINK: think = NUMBER("think", 0, 3600000); break;
        case O_GATE: gated = 1; break;
        case O_HOLD: hold = NUMBER("hold", 1, 86400); break;
        case O_RAMP: ramp = NUMBER("ramp", 1, 100000); break;
        case O_TIME: limit = NUMBER("time", 1, 86400); break;
        case O_RUN: run = strtoull(optarg, NULL, 16); break;
        case O_RESULTS: results_path = optarg; break;
        case O_RESUME: resume = 1; break;
        case O_CA: ca = optarg; break;
        case O_NAME: server_name = optarg; break;
        case O_KEEP_GOING: keep_going = 1; break;
        case O_MAX_ERRORS:
            max_errors = NUMBER("max-errors", 1, 100000000);
            break;
        case O_HELP: usage(0); break;
        default: usage(2);
        }
    }

#undef NUMBER

    if (addrlen == 0 || optind != argc) {
        usage(2);
    }

    if (mode == MODE_LOCKSTEP) {
        depth = 1;
    }

    if (user) {
        auth_make(user, secret ? secret : "");
    }
}


static void
usage(int rc)
{
    fputs("usage: load --connect address:port [options]\n"
          "  --tls | --starttls  --ca file  --name host  --resume\n"
          "  --user id --secret text\n"
          "  --sessions n        at one time (1)\n"
          "  --messages n        in all (1); 0: the sessions are idle\n"
          "  --per-session n     then QUIT, and another session\n"
          "  --mode lockstep | pipelined | bdat\n"
          "  --depth n           messages in flight in a session (1)\n"
          "  --chunk octets      of BDAT (the whole message)\n"
          "  --size octets (4096)  --line octets (78)  --recipients n (1)\n"
          "  --think ms          between messages, more or less\n"
          "  --gate              says \"ready\", sends after a line \"go\","
          " says \"done\",\n"
          "                      and quits after a line \"quit\"\n"
          "  --hold s            keeps the sessions that long, then quits\n"
          "  --ramp n            logins at one time (64)\n"
          "  --time s            no longer (300)\n"
          "  --run hex  --results file  --keep-going  --max-errors n (10)\n",
          rc ? stderr : stdout);

    exit(rc);
}


static unsigned long
number(const char *name, const char *value, unsigned long min,
    unsigned long max)
{
    char           *end;
    unsigned long   n;

    errno = 0;
    n = strtoul(value, &end, 10);

    if (*value < '0' || *value > '9' || *end || errno || n < min || n > max) {
        bench_die("--%s needs a number from %lu to %lu", name, min, max);
    }

    return n;
}


static void
auth_make(const char *user, const char *secret)
{
    size_t          n, u, s;
    unsigned char  *plain;

    u = strlen(user);
    s = strlen(secret);
    n = u + s + 2;

    plain = calloc(1, n);
    auth = malloc(n * 2 + 8);

    if (plain == NULL || auth == NULL) {
        bench_die("no memory");
    }

    memcpy(plain + 1, user, u);
    memcpy(plain + u + 2, secret, s);

    EVP_EncodeBlock((unsigned char *) auth, plain, n);
    free(plain);
}


static void
tls_make(void)
{
    ssl_ctx = SSL_CTX_new(TLS_client_method());

    if (ssl_ctx == NULL) {
        bench_die("SSL_CTX_new() failed");
    }

    if (ca) {
        if (SSL_CTX_load_verify_locations(ssl_ctx, ca, NULL) != 1) {
            bench_die("cannot read \"%s\"", ca);
        }

        SSL_CTX_set_verify(ssl_ctx, SSL_VERIFY_PEER, NULL);
    }

    SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_OFF);

    if (resume) {
        SSL_CTX_set_session_cache_mode(ssl_ctx,
                                       SSL_SESS_CACHE_CLIENT
                                       | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ssl_ctx, tls_session);
    }
}


static int
tls_session(SSL *ssl, SSL_SESSION *session)
{
    (void) ssl;

    SSL_SESSION_free(ssl_session);
    ssl_session = session;

    return 1;
}


static void
gate_handler(bench_conn_t *c)
{
    char     buf[256], *p, *nl;
    ssize_t  n;

    for ( ;; ) {
        n = read(c->fd, buf, sizeof(buf) - 1);

        if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }

        if (n <= 0) {
            gate_line("quit", 4);
            return;
        }

        buf[n] = '\0';

        for (p = buf; (nl = strchr(p, '\n')) != NULL; p = nl + 1) {
            gate_line(p, nl - p);
        }
    }
}


static void
gate_line(const char *p, size_t n)
{
    if (n == 2 && memcmp(p, "go", 2) == 0) {
        started = bench_usec();
        gate_open = 1;

    } else if (n == 4 && memcmp(p, "quit", 4) == 0) {
        gate_open = 1;
        gate_quit = 1;

    } else {
        return;
    }

    wake();
}


static void
wake(void)
{
    unsigned long  i;

    for (i = 0; i < sessions; i++) {
        if (slots[i]) {
            bench_conn_post(&slots[i]->c);
        }
    }
}


/* says how far the whole is; the sessions that wait for it go on */

static void
progress(void)
{
    if (!said_ready && ready == live && live && !more_sessions()) {
        said_ready = bench_usec();

        if (gated || hold) {
            puts("ready");
            fflush(stdout);
        }
    }

    if (ended == 0 && messages
        && accepted + refused + lost + aborted == messages)
    {
        ended = bench_usec();

        if (gated) {
            puts("done");
            fflush(stdout);
        }

        wake();
    }

    if (hold && said_ready && !gate_quit
        && bench_usec() - said_ready > hold * 1000000)
    {
        gate_quit = 1;
        wake();
    }
}


static int
more_sessions(void)
{
    if (gate_quit) {
        return 0;
    }

    if (messages == 0) {
        return opened < sessions;
    }

    if (per_session) {
        return reserved < messages;
    }

    return next_seq < messages && (opened < sessions || keep_going);
}


static void
open_sessions(void)
{
    if (not_before && bench_usec() < not_before) {
        return;
    }

    while (live < sessions && live - ready < ramp && more_sessions()) {
        if (session_open() != 0) {
            trouble("no session: %s", strerror(errno));
            break;
        }
    }
}


static int
session_open(void)
{
    int              fd;
    unsigned long    slot;
    load_session_t  *s;

    for (slot = 0; slots[slot]; slot++) {
        /* void */
    }

    fd = socket(addr.ss_family, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0);

    if (fd == -1) {
        return -1;
    }

    s = calloc(1, sizeof(load_session_t) + ring + LINE_SIZE);

    if (s == NULL) {
        close(fd);
        return -1;
    }

    s->c.fd = fd;
    s->c.handler = session_handler;
    s->c.timer = session_think;
    s->kinds = (unsigned char *) (s + 1);
    s->line = (char *) s->kinds + ring;
    s->slot = slot;
    s->start = bench_usec();

    if ((connect(fd, (struct sockaddr *) &addr, addrlen) == -1
         && errno != EINPROGRESS)
        || bench_conn_add(&s->c) == -1
        || (tls == TLS_ON && session_tls(s) != 0))
    {
        bench_conn_close(&s->c);
        return -1;
    }

    if (per_session) {
        s->quota = messages - reserved;

        if (s->quota > per_session) {
            s->quota = per_session;
        }

        reserved += s->quota;
    }

    expect(s, KIND_GREETING);

    slots[slot] = s;
    live++;
    opened++;

    return 0;
}


static int
session_tls(load_session_t *s)
{
    if (bench_conn_tls(&s->c, ssl_ctx, 0) != 0) {
        return -1;
    }

    s->tls_done = 1;

    if (server_name
        && (SSL_set_tlsext_host_name(s->c.ssl, server_name) != 1
            || (ca && SSL_set1_host(s->c.ssl, server_name) != 1)))
    {
        return -1;
    }

    if (ssl_session) {
        return SSL_set_session(s->c.ssl, ssl_session) == 1 ? 0 : -1;
    }

    return 0;
}


static void
session_handler(bench_conn_t *c)
{
    load_session_t  *s;

    s = (load_session_t *) c;

    if (c->handshake) {

        switch (bench_conn_handshake(c)) {

        case 0:
            return;

        case -1:
            session_close(s, "TLS handshake failed");
            return;
        }

        if (s->hello) {
            s->hello = 0;
            emit(s, KIND_EHLO, "EHLO client.bench.example\r\n");
        }
    }

    if (bench_conn_flush(c) != 0) {
        session_close(s, "connection lost");
        return;
    }

    if (session_read(s) != 0) {
        return;
    }

    if (session_pump(s) != 0) {
        session_close(s, "connection lost");
    }
}


static void
session_think(bench_conn_t *c)
{
    load_session_t  *s;

    s = (load_session_t *) c;
    s->thinking = 0;

    if (session_pump(s) != 0) {
        session_close(s, "connection lost");
    }
}


/* takes all the replies there are; -1: the session is no more */

static int
session_read(load_session_t *s)
{
    char     *p, *nl, *end;
    size_t    n;
    ssize_t   got;

    while (!s->c.handshake) {
        got = bench_conn_recv(&s->c, ibuf, sizeof(ibuf));

        if (got == 0) {
            return 0;
        }

        if (got == -1) {
            session_close(s, "connection closed");
            return -1;
        }

        p = (char *) ibuf;
        end = p + got;

        while (p < end) {
            nl = memchr(p, '\n', end - p);
            n = (nl ? nl + 1 : end) - p;

            if (s->nline + n >= LINE_SIZE) {
                session_close(s, "reply line too long");
                return -1;
            }

            memcpy(s->line + s->nline, p, n);
            s->nline += n;
            p += n;

            if (nl == NULL) {
                break;
            }

            s->line[s->nline] = '\0';
            n = s->nline;
            s->nline = 0;

            if (session_line(s, s->line, n) != 0) {
                return -1;
            }

            if (s->c.handshake && p < end) {
                session_close(s, "octets behind the reply to STARTTLS");
                return -1;
            }
        }
    }

    return 0;
}


/* -1: the session is no more */

static int
session_line(load_session_t *s, char *p, size_t n)
{
    int          rc;
    unsigned     code;
    load_kind_e  kind;

    if (n < 5 || p[n - 2] != '\r' || strspn(p, "0123456789") != 3
        || (p[3] != ' ' && p[3] != '-'))
    {
        session_close(s, "not a reply");
        return -1;
    }

    p[n - 2] = '\0';
    code = atoi(p);
    kind = s->nkinds ? s->kinds[s->head] : KIND_QUIT;

    if (s->nkinds && kind == KIND_EHLO) {
        session_capability(s, p + 4);
    }

    if (p[3] == '-') {
        return 0;
    }

    if (code >= 400) {
        trouble("%s: %s", s->nkinds ? kind_names[kind] : "unasked", p);
    }

    if (s->nkinds == 0) {
        session_close(s, code == 421 ? "told to go" : "unasked reply");
        return -1;
    }

    s->head = (s->head + 1) & (ring - 1);
    s->nkinds--;

    if (s->step == STEP_LOGIN) {
        rc = session_login(s, kind, code);

    } else {
        rc = session_reply(s, kind, code);
    }

    if (rc != 0) {
        session_close(s, kind_names[kind]);
        return -1;
    }

    return kind == KIND_QUIT ? -1 : 0;
}


static int
session_login(load_session_t *s, load_kind_e kind, unsigned code)
{
    switch (kind) {

    case KIND_GREETING:
        if (code != 220) {
            return -1;
        }

        emit(s, KIND_EHLO, "EHLO client.bench.example\r\n");
        return 0;

    case KIND_EHLO:
        if (code != 250) {
            return -1;
        }

        if (tls == TLS_STARTTLS && !s->tls_done) {
            if (!s->cap_starttls) {
                trouble("STARTTLS is not offered");
                return -1;
            }

            emit(s, KIND_STARTTLS, "STARTTLS\r\n");
            return 0;
        }

        if (auth == NULL) {
            return session_ready(s);
        }

        if (!s->cap_auth) {
            trouble("AUTH PLAIN is not offered");
            return -1;
        }

        emit(s, KIND_AUTH, "AUTH PLAIN %s\r\n", auth);
        return 0;

    case KIND_STARTTLS:
        if (code != 220 || session_tls(s) != 0) {
            return -1;
        }

        s->cap_auth = 0;
        s->cap_chunking = 0;
        s->cap_pipelining = 0;

        s->hello = 1;

        return bench_conn_handshake(&s->c) == -1 ? -1 : 0;

    case KIND_AUTH:
        return (code == 235) ? session_ready(s) : -1;

    default:
        return -1;
    }
}


static void
session_capability(load_session_t *s, const char *p)
{
    if (strcmp(p, "STARTTLS") == 0) {
        s->cap_starttls = 1;

    } else if (strcmp(p, "PIPELINING") == 0) {
        s->cap_pipelining = 1;

    } else if (strcmp(p, "CHUNKING") == 0) {
        s->cap_chunking = 1;

    } else if (strncmp(p, "AUTH ", 5) == 0 && strstr(p, " PLAIN")) {
        s->cap_auth = 1;
    }
}


static int
session_ready(load_session_t *s)
{
    if ((mode == MODE_PIPELINED && !s->cap_pipelining)
        || (mode == MODE_BDAT && !s->cap_chunking))
    {
        trouble("PIPELINING or CHUNKING is not offered");
        return -1;
    }

    s->ready = 1;
    s->step = STEP_IDLE;

    ready++;
    nlogins++;
    histogram_add(&login_times, bench_usec() - s->start);

    return 0;
}


static int
session_reply(load_session_t *s, load_kind_e kind, unsigned code)
{
    load_msg_t  *m;

    m = s->first;

    switch (kind) {

    case KIND_MAIL:
        if (mode != MODE_LOCKSTEP) {
            return 0;
        }

        if (code == 250) {
            message_next(s, m);

        } else {
            message_done(s, 'r');
        }

        return 0;

    case KIND_RCPT:
        if (code == 250 || code == 251) {
            m->rcpts_ok++;
        }

        if (mode != MODE_LOCKSTEP) {
            return 0;
        }

        if (m->rcpts < recipients || m->rcpts_ok) {
            message_next(s, m);

        } else {
            message_done(s, 'r');
        }

        return 0;

    case KIND_DATA:
        return reply_data(s, m, code);

    case KIND_CHUNK:
        if (code != 250) {
            m->refused = 1;
        }

        return 0;

    case KIND_LAST:
        message_done(s, (code == 250 && !m->refused) ? 'a' : 'r');
        return 0;

    case KIND_RSET:
        return (code == 250) ? 0 : -1;

    case KIND_QUIT:
        if (code != 221) {
            return -1;
        }

        session_close(s, NULL);
        return 0;

    default:
        return -1;
    }
}


static int
reply_data(load_session_t *s, load_msg_t *m, unsigned code)
{
    if (code != 354) {
        message_done(s, 'r');
        return 0;
    }

    if (m->rcpts_ok == 0) {

        /* nobody wants it, yet it has to be ended */

        m->refused = 1;
        m->pos = m->msg.length_stuffed;
    }

    s->step = STEP_CONTENT;

    return 0;
}


/* sends what can be sent; -1: the connection is broken */

static int
session_pump(load_session_t *s)
{
    unsigned  turn;

    if (s->c.handshake) {
        return 0;
    }

    if (think && gate_open && !s->begun && s->step == STEP_IDLE) {
        s->begun = 1;
        s->thinking = 1;
        bench_timer_set(&s->c, random() % think);
    }

    turn = 0;

    while (s->c.out_length == 0) {

        if (s->step == STEP_CONTENT) {

            if (turn++ == TURN) {
                bench_conn_post(&s->c);
                break;
            }

            message_content(s);

            if (olen >= RECORD && emit_flush(s) != 0) {
                return -1;
            }

            continue;
        }

        if (may_start(s)) {
            if (message_start(s) != 0) {
                return -1;
            }

            continue;
        }

        if (may_quit(s)) {
            s->step = STEP_QUIT;
            emit(s, KIND_QUIT, "QUIT\r\n");
        }

        break;
    }

    return emit_flush(s);
}


static int
may_start(load_session_t *s)
{
    return s->step == STEP_IDLE && gate_open && !gate_quit && !s->thinking
           && s->nmsgs < depth && next_seq < messages
           && (per_session == 0 || s->quota);
}


static int
may_quit(load_session_t *s)
{
    if (s->step != STEP_IDLE || s->nmsgs) {
        return 0;
    }

    if (gate_quit) {
        return 1;
    }

    if (gated || hold) {
        return per_session && s->quota == 0;
    }

    return next_seq == messages || (per_session && s->quota == 0);
}


static int
message_start(load_session_t *s)
{
    load_msg_t  *m;

    m = free_msgs;

    if (m) {
        free_msgs = m->next;

    } else {
        m = malloc(sizeof(load_msg_t));

        if (m == NULL) {
            return -1;
        }
    }

    m->next = NULL;
    m->pos = 0;
    m->chunk = 0;
    m->rcpts = 0;
    m->rcpts_ok = 0;
    m->sent = 0;
    m->refused = 0;
    m->start = bench_usec();

    if (bench_msg_init(&m->msg, run, next_seq, size, line_length) != 0) {
        bench_die("no such message");
    }

    next_seq++;

    if (per_session) {
        s->quota--;
    }

    if (s->first) {
        s->last->next = m;

    } else {
        s->first = m;
    }

    s->last = m;
    s->nmsgs++;
    s->step = STEP_WAIT;

    if (s->reset) {
        s->reset = 0;
        emit(s, KIND_RSET, "RSET\r\n");
    }

    emit(s, KIND_MAIL, "MAIL FROM:<sender@bench.example>\r\n");

    if (mode == MODE_LOCKSTEP) {
        return 0;
    }

    while (m->rcpts < recipients) {
        message_next(s, m);
    }

    message_next(s, m);

    return 0;
}


/* the next command of the envelope */

static void
message_next(load_session_t *s, load_msg_t *m)
{
    if (m->rcpts < recipients) {
        emit(s, KIND_RCPT, "RCPT TO:<r%u@bench.example>\r\n", m->rcpts);
        m->rcpts++;
        return;
    }

    if (mode == MODE_BDAT) {
        s->step = STEP_CONTENT;
        return;
    }

    emit(s, KIND_DATA, "DATA\r\n");
}


/* a record more of the last message */

static void
message_content(load_session_t *s)
{
    size_t       n, end;
    load_msg_t  *m;

    m = s->last;

    if (mode == MODE_BDAT) {
        end = m->msg.length;

        if (m->chunk == 0) {
            n = end - m->pos;
            m->chunk = (chunk && chunk < n) ? chunk : n;

            emit(s, m->chunk == n ? KIND_LAST : KIND_CHUNK, "BDAT %zu%s\r\n",
                 m->chunk, m->chunk == n ? " LAST" : "");
        }

    } else {
        end = m->msg.length_stuffed;
        m->chunk = end - m->pos;
    }

    n = (olen < RECORD) ? RECORD - olen : 0;
    n = (n < m->chunk) ? n : m->chunk;

    if (mode == MODE_BDAT) {
        n = bench_msg_copy(&m->msg, m->pos, obuf + olen, n);

    } else {
        n = bench_msg_copy_stuffed(&m->msg, m->pos, obuf + olen, n);
    }

    olen += n;
    m->pos += n;
    m->chunk -= n;

    if (m->pos < end) {
        return;
    }

    if (mode != MODE_BDAT) {
        emit(s, KIND_LAST, ".\r\n");
    }

    m->sent = 1;
    s->step = STEP_IDLE;
}


static void
message_done(load_session_t *s, char result)
{
    load_msg_t  *m;

    m = s->first;
    s->first = m->next;
    s->nmsgs--;

    results[m->msg.seq] = result;

    switch (result) {

    case 'a':
        accepted++;
        histogram_add(&message_times, bench_usec() - m->start);
        break;

    case 'r':
        refused++;
        s->reset = 1;
        break;

    case 'l':
        lost++;
        break;

    default:
        aborted++;
    }

    if (!m->sent && s->step == STEP_WAIT) {
        s->step = STEP_IDLE;
    }

    m->next = free_msgs;
    free_msgs = m;

    if (think && !s->thinking && !s->c.closed) {
        s->thinking = 1;
        bench_timer_set(&s->c, think / 2 + random() % (think + 1));
    }
}


static void
session_close(load_session_t *s, const char *why)
{
    if (s->c.closed) {
        return;
    }

    if (why) {
        trouble("%s, %u messages in flight", why, s->nmsgs);
        not_before = bench_usec() + 20000;
    }

    bench_conn_close(&s->c);

    while (s->first) {
        message_done(s, s->first->sent ? 'l' : 'x');
    }

    slots[s->slot] = NULL;
    olen = 0;
    live--;
    reserved -= s->quota;

    if (s->ready) {
        ready--;
    }
}


static void
emit(load_session_t *s, load_kind_e kind, const char *fmt, ...)
{
    int      n;
    va_list  args;

    expect(s, kind);

    if (olen >= RECORD) {
        (void) emit_flush(s);
    }

    va_start(args, fmt);
    n = vsnprintf((char *) obuf + olen, sizeof(obuf) - olen, fmt, args);
    va_end(args);

    if (n < 0 || (size_t) n >= sizeof(obuf) - olen) {
        bench_die("a command of %d octets", n);
    }

    olen += n;
}


static void
expect(load_session_t *s, load_kind_e kind)
{
    if (s->nkinds == ring) {
        bench_die("too many commands in flight");
    }

    s->kinds[(s->head + s->nkinds) & (ring - 1)] = kind;
    s->nkinds++;
}


static int
emit_flush(load_session_t *s)
{
    size_t  n;

    n = olen;
    olen = 0;

    return n ? bench_conn_send(&s->c, obuf, n) : 0;
}


static void
trouble(const char *fmt, ...)
{
    va_list  args;

    if (nerrors++ >= 20) {
        return;
    }

    fputs("load: ", stderr);

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);

    fputc('\n', stderr);
}


/* 32 buckets for each power of two: within 3 % */

static void
histogram_add(load_histogram_t *h, uint64_t usec)
{
    unsigned  power;

    if (usec > h->max) {
        h->max = usec;
    }

    for (power = 0; usec >> power >= 64; power++) {
        /* void */
    }

    h->count[power * 32 + (usec >> power)]++;
    h->total++;
}


static uint64_t
histogram_get(load_histogram_t *h, double part)
{
    unsigned  i, power;
    uint64_t  n, rank;

    rank = h->total * part;
    n = 0;

    for (i = 0; i < BUCKETS; i++) {
        n += h->count[i];

        if (n > rank) {
            power = (i < 64) ? 0 : i / 32 - 1;
            return (uint64_t) (i - power * 32) << power;
        }
    }

    return h->max;
}


static int
summary(void)
{
    double         seconds;
    unsigned long  missing;

    if (ended == 0) {
        ended = bench_usec();
    }

    seconds = (ended - started) / 1e6;
    missing = messages - accepted - refused - lost - aborted;

    printf("load run=%016llx messages=%lu accepted=%lu refused=%lu lost=%lu"
           " aborted=%lu missing=%lu sessions=%lu logins=%lu errors=%lu"
           " seconds=%.3f rate=%.1f",
           (unsigned long long) run, messages, accepted, refused, lost,
           aborted, missing, opened, nlogins, nerrors, seconds,
           accepted / (seconds > 0 ? seconds : 1));

    printf(" p50=%llu p99=%llu max=%llu login_p50=%llu login_p99=%llu\n",
           (unsigned long long) histogram_get(&message_times, 0.5),
           (unsigned long long) histogram_get(&message_times, 0.99),
           (unsigned long long) message_times.max,
           (unsigned long long) histogram_get(&login_times, 0.5),
           (unsigned long long) histogram_get(&login_times, 0.99));

    results_write();

    if (keep_going) {
        return missing ? 1 : 0;
    }

    return (nerrors || accepted != messages
            || (messages == 0 && nlogins != sessions)) ? 1 : 0;
}


/*
 * An octet for each message: a(ccepted), r(efused), l(ost: sent, no reply),
 * x (not sent to its end), - (not begun).
 */

static void
results_write(void)
{
    FILE  *f;

    if (results_path == NULL) {
        return;
    }

    f = fopen(results_path, "w");

    if (f == NULL || fwrite(results, 1, messages, f) != messages
        || fclose(f) != 0)
    {
        bench_die("cannot write \"%s\"", results_path);
    }
}
