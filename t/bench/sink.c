
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "sink.h"


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
static void report(void);
static void forget(void);
static void dump(void);


sink_capability_t  capabilities[] = {
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


SSL_CTX                        *ssl_ctx;
static const char              *certificate, *key, *dump_path;
const char                     *user, *secret, *auth_server;
int                             check = 1;
unsigned long                   delay, nodes = 1;
int                             first_port;
static sink_listen_t            listens[LISTENS];
static unsigned                 nlistens;
static bench_conn_t             control;

static volatile sig_atomic_t    stop, ask;
sink_run_t                      runs[RUNS];
unsigned                        nruns;

sink_counts_t                   counts;

unsigned long                   nopen;


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

    return (counts.duplicates || counts.bad || counts.unknown) ? 1 : 0;
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
report(void)
{
    printf("sink connections=%lu tls=%lu sessions=%lu messages=%lu"
           " octets=%llu unique=%lu duplicates=%lu bad=%lu unknown=%lu"
           " extra=%lu aborted=%lu errors=%lu open=%lu"
           " auth_connections=%lu auth_requests=%lu auth_denied=%lu\n",
           counts.connections, counts.tls, counts.sessions, counts.messages,
           counts.octets, counts.unique, counts.duplicates, counts.bad,
           counts.unknown, counts.extra, counts.aborted, counts.errors,
           nopen, counts.auth_connections, counts.auth_requests,
           counts.auth_denied);

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

    memset(&counts, 0, sizeof(counts));
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
