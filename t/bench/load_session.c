
/*
 * A session: connecting, TLS, the dialogue up to the login and from message to
 * message.
 */


#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"


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
static void session_close(load_session_t *s, const char *why);
static void expect(load_session_t *s, load_kind_e kind);
static int emit_flush(load_session_t *s);


static const char *kind_names[] = {
    "greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA",
    "BDAT", "end of data", "RSET", "QUIT"
};
static unsigned char            ibuf[RECORD];


void
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


void
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
