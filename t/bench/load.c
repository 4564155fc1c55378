
/*
 * SMTP submission load: sessions that log in and send messages, in one
 * thread.  Each reply is looked at, each message ends up accepted, refused,
 * lost (nobody knows) or aborted (not sent to its end).
 */


#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "load.h"


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


/* what was asked for */

struct sockaddr_storage         addr;
socklen_t                       addrlen;
load_mode_e                     mode;
load_tls_e                      tls;
const char                     *ca, *results_path, *server_name;
unsigned long                   sessions = 1, messages = 1, per_session;
unsigned long                   size = 4096, line_length = 78;
unsigned long                   recipients = 1, depth = 1, chunk;
unsigned long                   think, ramp = 64, limit = 300, hold;
static unsigned long            max_errors = 10;
uint64_t                        run;
int                             gated, resume, keep_going;
char                           *auth;

/* what is going on */

SSL_CTX                        *ssl_ctx;
SSL_SESSION                    *ssl_session;
unsigned                        ring;
static bench_conn_t             gate;
int                             gate_open, gate_quit;
load_session_t                **slots;
unsigned long                   live, ready, opened, reserved, next_seq;
unsigned long                   accepted, refused, lost, aborted;
unsigned long                   nlogins, nerrors;
uint64_t                        started, ended, said_ready, not_before;
char                           *results;
load_histogram_t                message_times, login_times;
unsigned char                   obuf[RECORD * 2];
size_t                          olen;


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


int
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
