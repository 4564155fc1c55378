
/* A connection to the sink: its input, commands and replies. */


#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "sink.h"


static void session_handler(bench_conn_t *c);
static void session_delay(bench_conn_t *c);
static int session_feed(sink_session_t *s, const unsigned char *p, size_t n);
static void session_close(sink_session_t *s);
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
static int wrong(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));
static int reply_flush(sink_session_t *s);


static unsigned char            ibuf[BENCH_READ_SIZE];
static char                     obuf[BENCH_READ_SIZE];
static size_t                   olen;


void
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
        counts.auth_connections++;
        return;
    }

    counts.connections++;

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

        counts.tls++;

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
        counts.aborted++;
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


void
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
        counts.sessions++;
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
    counts.sessions++;

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


int
starts(const char *p, const char *word)
{
    return strncasecmp(p, word, strlen(word)) == 0;
}


void
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

    if (counts.errors++ < 20) {
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
