
/*
 * An SMTP sink: takes every message, compares each octet with what the load
 * generator must have sent, and counts how often each one came.  Beside it
 * an HTTP service that says yes to every login, for proxies that ask one.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                     /* accept4() */
#endif

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

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


static void options(int argc, char **argv);
static void usage(int rc);
static unsigned long number(const char *name, const char *value,
    unsigned long max);
static void capability_off(const char *name);
static void listen_add(const char *arg, sink_listen_e type);
static void listen_open(const char *text, sink_listen_t *options);
static void listen_handler(bench_conn_t *c);
static void control_handler(bench_conn_t *c);
static void on_signal(int signo);

static void session_open(sink_listen_t *l, int fd);
static void session_handler(bench_conn_t *c);
static void session_delay(bench_conn_t *c);
static int session_feed(sink_session_t *s, const unsigned char *p, size_t n);
static void session_close(sink_session_t *s);
static void reset(sink_session_t *s);

static const unsigned char *line_feed(sink_session_t *s,
    const unsigned char *p, const unsigned char *end, int *complete);
static int command(sink_session_t *s, char *p);
static int command_ehlo(sink_session_t *s);
static int command_auth(sink_session_t *s, const char *arg);
static int command_mail(sink_session_t *s, const char *arg);
static int command_rcpt(sink_session_t *s, const char *arg);
static int command_data(sink_session_t *s);
static int command_bdat(sink_session_t *s, const char *arg);
static int command_starttls(sink_session_t *s);
static int starts(const char *p, const char *word);

static void message_start(sink_session_t *s);
static const unsigned char *data_feed(sink_session_t *s,
    const unsigned char *p, const unsigned char *end, int *complete);
static void content_feed(sink_session_t *s, const unsigned char *p, size_t n);
static const unsigned char *content_seek(sink_session_t *s,
    const unsigned char *p, const unsigned char *end);
static int message_end(sink_session_t *s);
static void message_count(sink_session_t *s);

static int http_feed(sink_session_t *s, const unsigned char *p, size_t n);
static int http_request(sink_session_t *s, char *p);
static const char *http_header(const char *p, const char *name, char *value,
    size_t size);

static void reply(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));
static int wrong(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));
static int reply_flush(sink_session_t *s);
static void report(void);
static void forget(void);
static void dump(void);


static sink_capability_t  capabilities[] = {
    { "PIPELINING", 1 },
    { "8BITMIME", 1 },
    { "SIZE 0", 1 },
    { "CHUNKING", 1 },
    { "SMTPUTF8", 1 },
    { "DSN", 1 },
    { "ENHANCEDSTATUSCODES", 1 },
    { "AUTH PLAIN LOGIN", 0 },
    { "XCLIENT NAME ADDR PORT PROTO HELO LOGIN", 0 },
    { NULL, 0 }
};


static SSL_CTX                 *ssl_ctx;
static const char              *certificate, *key, *dump_path;
static const char              *user, *secret, *auth_server;
static int                      check = 1;
static unsigned long            delay, nodes = 1;
static int                      first_port;
static sink_listen_t            listens[LISTENS];
static unsigned                 nlistens;
static bench_conn_t             control;

static volatile sig_atomic_t    stop, ask;
static sink_run_t               runs[RUNS];
static unsigned                 nruns;
static unsigned char            ibuf[BENCH_READ_SIZE];
static char                     obuf[BENCH_READ_SIZE];
static size_t                   olen;

static struct {
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
} n;

static unsigned long            nopen;


int
main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGUSR1, on_signal);

    bench_limits();
    bench_loop_init();

    options(argc, argv);

    /* commands by standard input, if it is something that can wait */

    control.handler = control_handler;

    if (fcntl(control.fd, F_SETFL, O_NONBLOCK) != -1) {
        (void) bench_conn_add(&control);
    }

    puts("ready");
    fflush(stdout);

    while (!stop) {
        bench_loop_once(1000);

        if (ask) {
            ask = 0;
            report();
        }
    }

    report();
    dump();

    return (n.duplicates || n.bad || n.unknown) ? 1 : 0;
}


static void
options(int argc, char **argv)
{
    int  c;

    enum {
        O_LISTEN = 1, O_AUTH, O_NODES, O_CERT, O_KEY, O_WITHOUT, O_OFFER,
        O_NO_CHECK, O_DELAY, O_USER, O_SECRET, O_AUTH_SERVER, O_DUMP, O_HELP
    };

    static const struct option  opts[] = {
        { "listen", 1, NULL, O_LISTEN },
        { "auth", 1, NULL, O_AUTH },
        { "nodes", 1, NULL, O_NODES },
        { "cert", 1, NULL, O_CERT },
        { "key", 1, NULL, O_KEY },
        { "without", 1, NULL, O_WITHOUT },
        { "offer", 1, NULL, O_OFFER },
        { "no-check", 0, NULL, O_NO_CHECK },
        { "delay", 1, NULL, O_DELAY },
        { "user", 1, NULL, O_USER },
        { "secret", 1, NULL, O_SECRET },
        { "auth-server", 1, NULL, O_AUTH_SERVER },
        { "dump", 1, NULL, O_DUMP },
        { "help", 0, NULL, O_HELP },
        { NULL, 0, NULL, 0 }
    };

    while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {

        switch (c) {

        case O_LISTEN: listen_add(optarg, LISTEN_SMTP); break;
        case O_AUTH: listen_add(optarg, LISTEN_AUTH); break;
        case O_NODES: nodes = number("nodes", optarg, 64); break;
        case O_CERT: certificate = optarg; break;
        case O_KEY: key = optarg; break;
        case O_WITHOUT: capability_off(optarg); break;

        case O_OFFER:
            if (strcmp(optarg, "auth") == 0) {
                capabilities[7].on = 1;

            } else if (strcmp(optarg, "xclient") == 0) {
                capabilities[8].on = 1;

            } else {
                bench_die("--offer is auth or xclient");
            }
            break;

        case O_NO_CHECK: check = 0; break;
        case O_DELAY: delay = number("delay", optarg, 600000); break;
        case O_USER: user = optarg; break;
        case O_SECRET: secret = optarg; break;
        case O_AUTH_SERVER: auth_server = optarg; break;
        case O_DUMP: dump_path = optarg; break;
        case O_HELP: usage(0); break;
        default: usage(2);
        }
    }

    if (optind != argc || nlistens == 0) {
        usage(2);
    }
}


static void
usage(int rc)
{
    fputs("usage: sink [options] --listen address:port[/tls|/starttls] ...\n"
          "  --cert file --key file   for TLS, before --listen\n"
          "  --nodes n                so many ports for each --listen after"
          " it\n"
          "  --without word           do not offer PIPELINING, CHUNKING, …\n"
          "  --offer auth|xclient     AUTH: everybody may; XCLIENT\n"
          "  --no-check               do not look into messages\n"
          "  --delay ms               before a message is accepted\n"
          "  --auth address:port      HTTP service for logins\n"
          "  --user id --secret text  the login that it accepts (any)\n"
          "  --auth-server a:p        the node that it names (the first)\n"
          "  --dump file              at the end: how often each message"
          " came\n"
          "port 0 is any; the ports are printed.  Standard input: \"report\","
          " \"reset\",\n"
          "\"without WORD\", \"quit\".\n",
          rc ? stderr : stdout);

    exit(rc);
}


static unsigned long
number(const char *name, const char *value, unsigned long max)
{
    char           *end;
    unsigned long   num;

    num = strtoul(value, &end, 10);

    if (*value < '0' || *value > '9' || *end || num > max) {
        bench_die("--%s needs a number up to %lu", name, max);
    }

    return num;
}


static void
capability_off(const char *name)
{
    size_t              len;
    sink_capability_t  *cap;

    len = strlen(name);

    for (cap = capabilities; cap->name; cap++) {
        if (strncasecmp(cap->name, name, len) == 0
            && (cap->name[len] == '\0' || cap->name[len] == ' '))
        {
            cap->on = 0;
            return;
        }
    }

    bench_die("there is no extension \"%s\"", name);
}


static void
listen_add(const char *arg, sink_listen_e type)
{
    char           *p, text[128];
    unsigned long   i;
    sink_listen_t   l;

    memset(&l, 0, sizeof(l));
    l.type = type;

    if ((size_t) snprintf(text, sizeof(text), "%s", arg) >= sizeof(text)) {
        bench_die("bad address \"%s\"", arg);
    }

    p = strchr(text, '/');

    if (p) {
        *p++ = '\0';
        l.tls = (strcmp(p, "tls") == 0);
        l.starttls = (strcmp(p, "starttls") == 0);

        if (!l.tls && !l.starttls) {
            bench_die("\"/tls\" or \"/starttls\" expected in \"%s\"", arg);
        }
    }

    if ((l.tls || l.starttls) && ssl_ctx == NULL) {
        if (certificate == NULL || key == NULL) {
            bench_die("TLS needs --cert and --key");
        }

        ssl_ctx = SSL_CTX_new(TLS_server_method());

        if (ssl_ctx == NULL
            || SSL_CTX_use_certificate_chain_file(ssl_ctx, certificate) != 1
            || SSL_CTX_use_PrivateKey_file(ssl_ctx, key, SSL_FILETYPE_PEM)
               != 1)
        {
            bench_die("cannot use \"%s\" and \"%s\"", certificate, key);
        }
    }

    for (i = 0; i < (type == LISTEN_SMTP ? nodes : 1); i++) {
        listen_open(text, &l);
    }
}


static void
listen_open(const char *text, sink_listen_t *options)
{
    int                       fd, on;
    socklen_t                 len;
    sink_listen_t            *l;
    struct sockaddr_storage   ss;

    len = bench_addr(text, &ss);

    if (len == 0) {
        bench_die("bad address \"%s\"", text);
    }

    on = 1;
    fd = socket(ss.ss_family, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0);

    if (fd == -1
        || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1
        || bind(fd, (struct sockaddr *) &ss, len) == -1
        || listen(fd, 4096) == -1)
    {
        bench_die("cannot listen on %s: %s", text, strerror(errno));
    }

    if (nlistens == LISTENS) {
        bench_die("more than %d addresses to listen on", LISTENS);
    }

    l = &listens[nlistens++];
    *l = *options;
    l->c.fd = fd;
    l->c.handler = listen_handler;

    if (bench_conn_add(&l->c) == -1) {
        bench_die("epoll_ctl() failed: %s", strerror(errno));
    }

    if (l->type == LISTEN_SMTP && first_port == 0) {
        first_port = bench_port(fd);
    }

    printf("%s %d\n", l->type == LISTEN_AUTH ? "auth" : "listen",
           bench_port(fd));
}


static void
listen_handler(bench_conn_t *c)
{
    int  fd;

    for ( ;; ) {
        fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK|SOCK_CLOEXEC);

        if (fd == -1) {
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }

            if (errno != EAGAIN) {
                fprintf(stderr, "sink: accept4() failed: %s\n",
                        strerror(errno));
                bench_conn_post(c);
            }

            return;
        }

        session_open((sink_listen_t *) c, fd);
    }
}


static void
control_handler(bench_conn_t *c)
{
    char      buf[1024], *p, *nl;
    ssize_t   got;

    for ( ;; ) {
        got = read(c->fd, buf, sizeof(buf) - 1);

        if (got <= 0) {
            return;
        }

        buf[got] = '\0';

        for (p = buf; (nl = strchr(p, '\n')) != NULL; p = nl + 1) {
            *nl = '\0';

            if (strcmp(p, "report") == 0) {
                report();

            } else if (strcmp(p, "reset") == 0) {
                forget();
                puts("reset");
                fflush(stdout);

            } else if (strncmp(p, "without ", 8) == 0) {
                capability_off(p + 8);

            } else if (strcmp(p, "quit") == 0) {
                stop = 1;
            }
        }
    }
}


static void
on_signal(int signo)
{
    if (signo == SIGUSR1) {
        ask = 1;

    } else {
        stop = 1;
    }
}


static void
session_open(sink_listen_t *l, int fd)
{
    sink_session_t  *s;

    s = calloc(1, sizeof(sink_session_t));

    if (s == NULL) {
        close(fd);
        return;
    }

    s->c.fd = fd;
    s->c.handler = session_handler;
    s->c.timer = session_delay;
    s->type = l->type;
    s->starttls = l->starttls;

    if (bench_conn_add(&s->c) == -1
        || (l->tls && bench_conn_tls(&s->c, ssl_ctx, 1) != 0))
    {
        bench_conn_close(&s->c);
        return;
    }

    nopen++;

    if (s->type == LISTEN_AUTH) {
        n.auth_connections++;
        return;
    }

    n.connections++;

    if (!l->tls) {
        reply("220 node.bench.example ESMTP\r\n");

        if (reply_flush(s) != 0) {
            session_close(s);
        }
    }
}


static void
session_handler(bench_conn_t *c)
{
    int              rc, turn;
    ssize_t          got;
    sink_session_t  *s;

    s = (sink_session_t *) c;

    if (c->handshake) {
        rc = bench_conn_handshake(c);

        if (rc == 0) {
            return;
        }

        if (rc == -1) {
            session_close(s);
            return;
        }

        n.tls++;

        if (!s->starttls) {
            reply("220 node.bench.example ESMTP\r\n");
        }
    }

    if (bench_conn_flush(c) != 0) {
        session_close(s);
        return;
    }

    for (turn = 0; turn < TURN; turn++) {

        /* a peer that does not read is not read from */

        if (s->delayed || s->quit || c->out_length > sizeof(obuf)) {
            break;
        }

        got = bench_conn_recv(c, ibuf, sizeof(ibuf));

        if (got == 0) {
            break;
        }

        if (got == -1
            || (s->type == LISTEN_SMTP ? session_feed(s, ibuf, got)
                                       : http_feed(s, ibuf, got))
               != 0)
        {
            olen = 0;
            session_close(s);
            return;
        }

        /* a short read of a plain socket has emptied it */

        if (c->ssl == NULL && (size_t) got < sizeof(ibuf)) {
            break;
        }

        if (olen > sizeof(obuf) / 2 && reply_flush(s) != 0) {
            session_close(s);
            return;
        }

        if (c->handshake) {
            break;
        }
    }

    if (reply_flush(s) != 0 || (s->quit && c->out_length == 0)) {
        session_close(s);
        return;
    }

    if (turn == TURN) {
        bench_conn_post(c);
    }
}


static void
session_delay(bench_conn_t *c)
{
    size_t           nheld;
    unsigned char   *held;
    sink_session_t  *s;

    s = (sink_session_t *) c;

    held = s->held;
    nheld = s->nheld;

    s->held = NULL;
    s->nheld = 0;
    s->delayed = 0;

    reply("250 2.0.0 Ok\r\n");

    if (held) {
        if (session_feed(s, held, nheld) != 0) {
            olen = 0;
            free(held);
            session_close(s);
            return;
        }

        free(held);
    }

    session_handler(c);
}


/* -1: the session has to be closed */

static int
session_feed(sink_session_t *s, const unsigned char *p, size_t len)
{
    int                   complete;
    size_t                part;
    const unsigned char  *end;

    end = p + len;

    while (p < end && !s->quit) {

        if (s->delayed) {
            s->nheld = end - p;
            s->held = malloc(s->nheld);

            if (s->held == NULL) {
                return -1;
            }

            memcpy(s->held, p, s->nheld);
            return 0;
        }

        if (s->c.handshake) {
            (void) wrong("octets behind STARTTLS");
            return -1;
        }

        complete = 0;

        switch (s->state) {

        case STATE_DATA:
            p = data_feed(s, p, end, &complete);

            if (complete && message_end(s) != 0) {
                return -1;
            }

            break;

        case STATE_BDAT:
            part = end - p;
            part = (part < s->chunk) ? part : s->chunk;
            content_feed(s, p, part);
            p += part;
            s->chunk -= part;

            if (s->chunk) {
                break;
            }

            s->state = STATE_COMMAND;

            if (!s->last) {
                reply("250 2.0.0 Ok\r\n");

            } else if (message_end(s) != 0) {
                return -1;
            }

            break;

        default:
            p = line_feed(s, p, end, &complete);

            if (p == NULL) {
                (void) wrong("a command line too long");
                return -1;
            }

            if (!complete) {
                break;
            }

            if (command(s, s->line) != 0) {
                return -1;
            }

            s->nline = 0;
        }

        if (olen > sizeof(obuf) / 2 && reply_flush(s) != 0) {
            return -1;
        }
    }

    if (s->nline == 0 && s->line) {
        free(s->line);
        s->line = NULL;
        s->line_size = 0;
    }

    return 0;
}


static void
session_close(sink_session_t *s)
{
    if (s->c.closed) {
        return;
    }

    if (s->state == STATE_DATA || s->state == STATE_BDAT || s->chunked) {
        n.aborted++;
    }

    free(s->line);
    free(s->held);
    free(s->msg);

    s->line = NULL;
    s->held = NULL;
    s->msg = NULL;

    bench_conn_close(&s->c);
    nopen--;
}


static void
reset(sink_session_t *s)
{
    s->state = STATE_COMMAND;
    s->mail = 0;
    s->rcpts = 0;
    s->chunked = 0;
    s->last = 0;

    free(s->msg);
    s->msg = NULL;
}


/* NULL: the line is too long; *complete: it is in s->line, without CRLF */

static const unsigned char *
line_feed(sink_session_t *s, const unsigned char *p,
    const unsigned char *end, int *complete)
{
    char                 *line;
    size_t                len;
    const unsigned char  *nl;

    nl = memchr(p, '\n', end - p);
    len = (nl ? nl + 1 : end) - p;

    if (s->nline + len >= LINE_SIZE) {
        return NULL;
    }

    if (s->nline + len >= s->line_size) {
        line = realloc(s->line, s->nline + len + 128);

        if (line == NULL) {
            return NULL;
        }

        s->line = line;
        s->line_size = s->nline + len + 128;
    }

    memcpy(s->line + s->nline, p, len);
    s->nline += len;

    if (nl) {
        len = s->nline - 1;

        if (len && s->line[len - 1] == '\r') {
            len--;

        } else {
            (void) wrong("a bare LF in a command");
        }

        if (memchr(s->line, '\0', len)) {
            (void) wrong("a NUL in a command");
        }

        s->line[len] = '\0';
        *complete = 1;

        return nl + 1;
    }

    return end;
}


static int
command(sink_session_t *s, char *p)
{
    if (s->state == STATE_AUTH) {
        s->state = STATE_COMMAND;
        reply("235 2.7.0 Ok\r\n");
        return 0;
    }

    if (starts(p, "MAIL FROM:")) {
        return command_mail(s, p + 10);
    }

    if (starts(p, "RCPT TO:")) {
        return command_rcpt(s, p + 8);
    }

    if (strcasecmp(p, "DATA") == 0) {
        return command_data(s);
    }

    if (starts(p, "BDAT ")) {
        return command_bdat(s, p + 5);
    }

    if (starts(p, "EHLO ")) {
        return command_ehlo(s);
    }

    if (starts(p, "HELO ")) {
        reset(s);
        s->hello = 1;
        n.sessions++;
        reply("250 node.bench.example\r\n");
        return 0;
    }

    if (strcasecmp(p, "RSET") == 0) {
        reset(s);
        reply("250 2.0.0 Ok\r\n");
        return 0;
    }

    if (strcasecmp(p, "NOOP") == 0) {
        reply("250 2.0.0 Ok\r\n");
        return 0;
    }

    if (strcasecmp(p, "QUIT") == 0) {
        reply("221 2.0.0 Bye\r\n");
        s->quit = 1;
        return 0;
    }

    if (starts(p, "AUTH ")) {
        return command_auth(s, p + 5);
    }

    if (strcasecmp(p, "STARTTLS") == 0) {
        return command_starttls(s);
    }

    if (starts(p, "XCLIENT ") && capabilities[8].on) {
        reset(s);
        s->hello = 0;
        reply("220 node.bench.example ESMTP\r\n");
        return 0;
    }

    return wrong("an unknown command \"%.80s\"", p);
}


static int
command_ehlo(sink_session_t *s)
{
    sink_capability_t  *cap;

    reset(s);
    s->hello = 1;
    n.sessions++;

    reply("250-node.bench.example\r\n");

    for (cap = capabilities; cap->name; cap++) {
        if (cap->on) {
            reply("250-%s\r\n", cap->name);
        }
    }

    if (s->starttls && s->c.ssl == NULL) {
        reply("250-STARTTLS\r\n");
    }

    reply("250 HELP\r\n");

    return 0;
}


static int
command_auth(sink_session_t *s, const char *arg)
{
    if (!capabilities[7].on) {
        return wrong("AUTH that is not offered");
    }

    if (strncasecmp(arg, "PLAIN", 5) == 0 && arg[5] == ' ') {
        reply("235 2.7.0 Ok\r\n");
        return 0;
    }

    if (strcasecmp(arg, "PLAIN") == 0) {
        s->state = STATE_AUTH;
        reply("334 \r\n");
        return 0;
    }

    return wrong("a mechanism that is not known");
}


static int
command_mail(sink_session_t *s, const char *arg)
{
    if (!s->hello || s->mail || *arg != '<' || strchr(arg, '>') == NULL) {
        return wrong("MAIL out of order, or without an address");
    }

    s->mail = 1;
    reply("250 2.1.0 Ok\r\n");

    return 0;
}


static int
command_rcpt(sink_session_t *s, const char *arg)
{
    if (!s->mail || s->chunked || *arg != '<' || strchr(arg, '>') == NULL) {
        return wrong("RCPT out of order, or without an address");
    }

    s->rcpts++;
    reply("250 2.1.5 Ok\r\n");

    return 0;
}


static int
command_data(sink_session_t *s)
{
    if (s->rcpts == 0 || s->chunked) {
        return wrong("DATA out of order");
    }

    message_start(s);
    s->state = STATE_DATA;
    reply("354 Go ahead\r\n");

    return 0;
}


static int
command_bdat(sink_session_t *s, const char *arg)
{
    int                  len;
    unsigned long long   size;

    len = 0;

    if (*arg < '0' || *arg > '9' || sscanf(arg, "%20llu%n", &size, &len) != 1
        || (arg[len] && strcasecmp(arg + len, " LAST") != 0))
    {
        return wrong("BDAT without a size");
    }

    if (s->rcpts == 0 || !capabilities[3].on) {
        (void) wrong("BDAT out of order, or not offered");
        return -1;
    }

    if (!s->chunked) {
        message_start(s);
        s->chunked = 1;
    }

    s->chunk = size;
    s->last = (arg[len] != '\0');

    if (size) {
        s->state = STATE_BDAT;
        return 0;
    }

    if (s->last) {
        return message_end(s);
    }

    reply("250 2.0.0 Ok\r\n");

    return 0;
}


static int
command_starttls(sink_session_t *s)
{
    if (!s->starttls || s->c.ssl) {
        return wrong("STARTTLS that is not offered");
    }

    reset(s);
    s->hello = 0;

    reply("220 2.0.0 Go ahead\r\n");

    if (reply_flush(s) != 0 || s->c.out_length) {
        return -1;
    }

    return bench_conn_tls(&s->c, ssl_ctx, 1);
}


static int
starts(const char *p, const char *word)
{
    return strncasecmp(p, word, strlen(word)) == 0;
}


static void
message_start(sink_session_t *s)
{
    s->content = CONTENT_SEEK;
    s->eod = EOD_START;
    s->pos = 0;
    s->nline = 0;
}


/* content is what is left when the doubled dots and the end are taken away */

static const unsigned char *
data_feed(sink_session_t *s, const unsigned char *p,
    const unsigned char *end, int *complete)
{
    size_t                len;
    const unsigned char  *nl;

    while (p < end) {

        switch (s->eod) {

        case EOD_START:
            if (*p == '.') {
                s->eod = EOD_DOT;
                p++;
                break;
            }

            s->eod = EOD_MIDDLE;
            break;

        case EOD_DOT:
            if (*p == '\r') {
                s->eod = EOD_DOT_CR;
                p++;
                break;
            }

            s->eod = EOD_MIDDLE;
            break;

        case EOD_DOT_CR:
            if (*p == '\n') {
                *complete = 1;
                return p + 1;
            }

            content_feed(s, (unsigned char *) "\r", 1);
            s->eod = EOD_MIDDLE;
            break;

        case EOD_CR:
            s->eod = (*p == '\n') ? EOD_START : EOD_MIDDLE;

            if (*p == '\n') {
                content_feed(s, p, 1);
                p++;
            }

            break;

        case EOD_MIDDLE:
            nl = memchr(p, '\n', end - p);
            len = (nl ? nl + 1 : end) - p;

            content_feed(s, p, len);

            if (nl == NULL) {
                s->eod = (end[-1] == '\r') ? EOD_CR : EOD_MIDDLE;
                return end;
            }

            if (nl > p && nl[-1] == '\r') {
                s->eod = EOD_START;
            }

            p = nl + 1;
            break;
        }
    }

    return p;
}


static void
content_feed(sink_session_t *s, const unsigned char *p, size_t len)
{
    const unsigned char  *end;

    n.octets += len;

    if (!check) {
        return;
    }

    end = p + len;

    if (s->content == CONTENT_SEEK) {
        p = content_seek(s, p, end);
    }

    if (s->content == CONTENT_MATCH && p < end) {
        len = end - p;

        if (bench_msg_compare(s->msg, s->pos, p, len) != 0) {
            s->content = CONTENT_BAD;
            return;
        }

        s->pos += len;
    }
}


/* header fields in front of the identity were added on the way */

static const unsigned char *
content_seek(sink_session_t *s, const unsigned char *p,
    const unsigned char *end)
{
    size_t                len;
    const unsigned char  *nl;

    while (p < end) {
        nl = memchr(p, '\n', end - p);
        len = (nl ? nl + 1 : end) - p;

        if (s->line == NULL) {
            s->line = malloc(LINE_SIZE);

            if (s->line == NULL) {
                s->content = CONTENT_BAD;
                return end;
            }

            s->line_size = LINE_SIZE;
        }

        if (s->nline + len >= s->line_size) {
            s->content = CONTENT_BAD;
            break;
        }

        memcpy(s->line + s->nline, p, len);
        s->nline += len;
        p += len;

        if (nl == NULL) {
            return p;
        }

        s->line[s->nline] = '\0';

        if (starts(s->line, "X-Bench-Id: ")) {
            s->msg = malloc(sizeof(bench_msg_t));

            if (s->msg == NULL || bench_msg_parse(s->msg, s->line) != 0) {
                free(s->msg);
                s->msg = NULL;
                s->content = CONTENT_BAD;
                break;
            }

            s->content = CONTENT_MATCH;
            s->pos = s->nline;
            s->nline = 0;

            return p;
        }

        if (s->nline <= 2) {
            s->content = CONTENT_BAD;       /* the end of the header */
            break;
        }

        n.extra += s->nline;
        s->nline = 0;
    }

    s->nline = 0;

    return end;
}


static int
message_end(sink_session_t *s)
{
    n.messages++;

    if (check) {
        message_count(s);
    }

    s->nline = 0;
    reset(s);

    if (delay) {
        s->delayed = 1;
        bench_timer_set(&s->c, delay);
        return 0;
    }

    reply("250 2.0.0 Ok\r\n");

    return 0;
}


static void
message_count(sink_session_t *s)
{
    size_t          size;
    sink_run_t     *run;
    unsigned char  *count;

    if (s->msg == NULL) {
        n.unknown++;
        return;
    }

    if (s->content != CONTENT_MATCH || s->pos != s->msg->length) {
        n.bad++;

        if (n.bad <= 10) {
            fprintf(stderr, "sink: message %llu of run %016llx is bad at"
                    " octet %zu of %zu\n", (unsigned long long) s->msg->seq,
                    (unsigned long long) s->msg->run, s->pos,
                    s->msg->length);
        }

        return;
    }

    for (run = runs; run < runs + nruns; run++) {
        if (run->run == s->msg->run) {
            break;
        }
    }

    if (run == runs + nruns) {
        if (nruns == RUNS) {
            bench_die("more than %d runs", RUNS);
        }

        nruns++;
        memset(run, 0, sizeof(*run));
        run->run = s->msg->run;
    }

    if (s->msg->seq >= SEQ_MAX) {
        n.unknown++;
        return;
    }

    if (s->msg->seq >= run->size) {
        size = (s->msg->seq + 1) * 2;
        count = realloc(run->count, size);

        if (count == NULL) {
            bench_die("no memory");
        }

        memset(count + run->size, 0, size - run->size);
        run->count = count;
        run->size = size;
    }

    if (run->count[s->msg->seq] == 0) {
        n.unique++;

    } else {
        n.duplicates++;
    }

    if (run->count[s->msg->seq] < 255) {
        run->count[s->msg->seq]++;
    }
}


static int
http_feed(sink_session_t *s, const unsigned char *p, size_t len)
{
    char    *end, *line;
    size_t   rest;

    if (s->nline + len >= HTTP_SIZE) {
        return -1;
    }

    if (s->nline + len >= s->line_size) {
        line = realloc(s->line, s->nline + len + 1024);

        if (line == NULL) {
            return -1;
        }

        s->line = line;
        s->line_size = s->nline + len + 1024;
    }

    memcpy(s->line + s->nline, p, len);
    s->nline += len;
    s->line[s->nline] = '\0';

    while ((end = strstr(s->line, "\r\n\r\n")) != NULL) {
        end[2] = '\0';

        if (http_request(s, s->line) != 0) {
            return -1;
        }

        rest = s->line + s->nline - (end + 4);
        memmove(s->line, end + 4, rest + 1);
        s->nline = rest;
    }

    return 0;
}


static int
http_request(sink_session_t *s, char *p)
{
    int   close;
    char  value[256];

    n.auth_requests++;

    if (strncmp(p, "GET ", 4) != 0) {
        return -1;
    }

    close = strstr(p, " HTTP/1.0\r\n") != NULL
            || (http_header(p, "Connection: ", value, sizeof(value))
                && strcasecmp(value, "close") == 0);

    if ((user && (http_header(p, "Auth-User: ", value, sizeof(value)) == NULL
                  || strcmp(value, user) != 0))
        || (secret
            && (http_header(p, "Auth-Pass: ", value, sizeof(value)) == NULL
                || strcmp(value, secret) != 0)))
    {
        n.auth_denied++;

        reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: %s\r\n"
              "Auth-Status: Invalid login or password\r\n\r\n",
              close ? "close" : "keep-alive");

    } else {
        reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: %s\r\n"
              "Auth-Status: OK\r\n", close ? "close" : "keep-alive");

        if (auth_server) {
            reply("Auth-Server: %.*s\r\nAuth-Port: %s\r\n\r\n",
                  (int) strcspn(auth_server, ":"), auth_server,
                  auth_server + strcspn(auth_server, ":")
                  + (strchr(auth_server, ':') != NULL));

        } else if (first_port) {
            reply("Auth-Server: 127.0.0.1\r\nAuth-Port: %d\r\n\r\n",
                  first_port);

        } else {
            reply("\r\n");
        }
    }

    s->quit = close;

    return 0;
}


static const char *
http_header(const char *p, const char *name, char *value, size_t size)
{
    size_t  len;

    for (p = strstr(p, "\r\n"); p; p = strstr(p + 2, "\r\n")) {

        if (!starts(p + 2, name)) {
            continue;
        }

        p += 2 + strlen(name);
        len = strcspn(p, "\r\n");

        if (len >= size) {
            return NULL;
        }

        memcpy(value, p, len);
        value[len] = '\0';

        return value;
    }

    return NULL;
}


static void
reply(const char *fmt, ...)
{
    int      len;
    va_list  args;

    va_start(args, fmt);
    len = vsnprintf(obuf + olen, sizeof(obuf) - olen, fmt, args);
    va_end(args);

    if (len < 0 || (size_t) len >= sizeof(obuf) - olen) {
        bench_die("a reply of %d octets", len);
    }

    olen += len;
}


/* what no good client says: counted, told, refused */

static int
wrong(const char *fmt, ...)
{
    va_list  args;

    reply("503 5.5.1 Refused\r\n");

    if (n.errors++ < 20) {
        fputs("sink: ", stderr);

        va_start(args, fmt);
        vfprintf(stderr, fmt, args);
        va_end(args);

        fputc('\n', stderr);
    }

    return 0;
}


static int
reply_flush(sink_session_t *s)
{
    size_t  len;

    len = olen;
    olen = 0;

    return len ? bench_conn_send(&s->c, obuf, len) : 0;
}


static void
report(void)
{
    printf("sink connections=%lu tls=%lu sessions=%lu messages=%lu"
           " octets=%llu unique=%lu duplicates=%lu bad=%lu unknown=%lu"
           " extra=%lu aborted=%lu errors=%lu open=%lu"
           " auth_connections=%lu auth_requests=%lu auth_denied=%lu\n",
           n.connections, n.tls, n.sessions, n.messages, n.octets, n.unique,
           n.duplicates, n.bad, n.unknown, n.extra, n.aborted, n.errors,
           nopen, n.auth_connections, n.auth_requests, n.auth_denied);

    fflush(stdout);
}


static void
forget(void)
{
    dump();

    while (nruns) {
        nruns--;
        free(runs[nruns].count);
    }

    memset(&n, 0, sizeof(n));
}


/* a line for each run: its name, then a digit for each message, 9 is more */

static void
dump(void)
{
    FILE        *f;
    size_t       i;
    sink_run_t  *run;

    if (dump_path == NULL) {
        return;
    }

    f = fopen(dump_path, "w");

    if (f == NULL) {
        bench_die("cannot write \"%s\"", dump_path);
    }

    for (run = runs; run < runs + nruns; run++) {
        fprintf(f, "%016llx ", (unsigned long long) run->run);

        for (i = 0; i < run->size; i++) {
            fputc(run->count[i] > 9 ? '9' : '0' + run->count[i], f);
        }

        fputc('\n', f);
    }

    if (fclose(f) != 0) {
        bench_die("cannot write \"%s\"", dump_path);
    }
}
