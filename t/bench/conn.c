
/*
 * Connections of one thread: edge-triggered epoll, TLS, a wheel of timers.
 */


#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

#include "bench.h"


#define EVENTS      512
#define WHEEL_SIZE  65536               /* slots of a millisecond */
#define KEEP_SIZE   4096                /* of an output buffer, when empty */


static void wheel_turn(void);
static int out_append(bench_conn_t *c, const unsigned char *p, size_t n);
static ssize_t conn_write(bench_conn_t *c, const unsigned char *p, size_t n);


static int            epfd = -1;
static bench_conn_t  *posted;
static bench_conn_t  *dead;
static bench_conn_t  *wheel[WHEEL_SIZE];
static uint64_t       wheel_now;        /* ms, done up to here */
static unsigned       ntimers;


uint64_t
bench_usec(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


void
bench_die(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);

    fputc('\n', stderr);
    exit(2);
}


/* as many descriptors as may be had */

void
bench_limits(void)
{
    struct rlimit  rl;

    rl.rlim_cur = 262144;
    rl.rlim_max = 262144;

    if (setrlimit(RLIMIT_NOFILE, &rl) == 0) {
        return;
    }

    if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
        rl.rlim_cur = rl.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &rl);
    }
}


void
bench_loop_init(void)
{
    epfd = epoll_create1(EPOLL_CLOEXEC);

    if (epfd == -1) {
        bench_die("epoll_create1() failed: %s", strerror(errno));
    }

    wheel_now = bench_usec() / 1000;
}


void
bench_loop_once(int timeout)
{
    int                  i, n;
    bench_conn_t        *c, *next;
    struct epoll_event   events[EVENTS];

    if (posted) {
        timeout = 0;

    } else if (ntimers && (timeout < 0 || timeout > 1)) {
        timeout = 1;
    }

    n = epoll_wait(epfd, events, EVENTS, timeout);

    if (n == -1 && errno != EINTR) {
        bench_die("epoll_wait() failed: %s", strerror(errno));
    }

    c = posted;
    posted = NULL;

    for (i = 0; i < n; i++) {
        bench_conn_t  *e = events[i].data.ptr;

        if (!e->closed) {
            e->handler(e);
        }
    }

    for ( /* void */ ; c; c = next) {
        next = c->next;
        c->posted = 0;
        c->next = NULL;

        if (!c->closed) {
            c->handler(c);

        } else {
            c->next = dead;
            dead = c;
        }
    }

    if (ntimers) {
        wheel_turn();
    }

    for (c = dead, dead = NULL; c; c = next) {
        next = c->next;
        free(c);
    }
}


static void
wheel_turn(void)
{
    uint64_t       now;
    bench_conn_t  *c, *next;

    now = bench_usec() / 1000;

    while (wheel_now < now) {
        wheel_now++;

        for (c = wheel[wheel_now % WHEEL_SIZE]; c; c = next) {
            next = c->timer_next;

            if (c->timer_at <= wheel_now) {
                bench_timer_del(c);
                c->timer(c);
            }
        }
    }
}


void
bench_timer_set(bench_conn_t *c, uint64_t msec)
{
    bench_conn_t  **slot;

    bench_timer_del(c);

    if (ntimers == 0) {
        wheel_now = bench_usec() / 1000;
    }

    c->timer_at = bench_usec() / 1000 + (msec ? msec : 1);

    slot = &wheel[c->timer_at % WHEEL_SIZE];

    c->timer_next = *slot;
    c->timer_prev = slot;

    if (*slot) {
        (*slot)->timer_prev = &c->timer_next;
    }

    *slot = c;
    ntimers++;
}


void
bench_timer_del(bench_conn_t *c)
{
    if (c->timer_prev == NULL) {
        return;
    }

    *c->timer_prev = c->timer_next;

    if (c->timer_next) {
        c->timer_next->timer_prev = c->timer_prev;
    }

    c->timer_prev = NULL;
    c->timer_next = NULL;
    ntimers--;
}


int
bench_conn_add(bench_conn_t *c)
{
    int                 on;
    struct epoll_event  ee;

    on = 1;
    (void) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));

    ee.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    ee.data.ptr = c;

    return epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &ee);
}


void
bench_conn_close(bench_conn_t *c)
{
    if (c->closed) {
        return;
    }

    bench_timer_del(c);

    if (c->ssl) {
        if (!c->handshake) {
            ERR_clear_error();
            (void) SSL_shutdown(c->ssl);
        }

        SSL_free(c->ssl);
    }

    close(c->fd);
    free(c->out);

    c->ssl = NULL;
    c->out = NULL;
    c->fd = -1;
    c->closed = 1;

    if (!c->posted) {
        c->next = dead;
        dead = c;
    }
}


void
bench_conn_post(bench_conn_t *c)
{
    if (c->posted || c->closed) {
        return;
    }

    c->posted = 1;
    c->next = posted;
    posted = c;
}


int
bench_conn_tls(bench_conn_t *c, SSL_CTX *ctx, int server)
{
    c->ssl = SSL_new(ctx);

    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1) {
        return -1;
    }

    if (server) {
        SSL_set_accept_state(c->ssl);

    } else {
        SSL_set_connect_state(c->ssl);
    }

    SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE
                         | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                         | SSL_MODE_RELEASE_BUFFERS);
    SSL_set_read_ahead(c->ssl, 1);      /* a record by one read() */

    c->handshake = 1;

    return 0;
}


int
bench_conn_handshake(bench_conn_t *c)
{
    int  n, err;

    if (!c->handshake) {
        return 1;
    }

    ERR_clear_error();

    n = SSL_do_handshake(c->ssl);

    if (n == 1) {
        c->handshake = 0;
        return 1;
    }

    err = SSL_get_error(c->ssl, n);

    return (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE)
           ? 0 : -1;
}


ssize_t
bench_conn_recv(bench_conn_t *c, unsigned char *buf, size_t size)
{
    int      err;
    ssize_t  n;

    if (c->ssl) {
        ERR_clear_error();
        n = SSL_read(c->ssl, buf, size);

        if (n > 0) {
            return n;
        }

        err = SSL_get_error(c->ssl, n);

        return (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE)
               ? 0 : -1;
    }

    do {
        n = recv(c->fd, buf, size, 0);
    } while (n == -1 && errno == EINTR);

    if (n > 0) {
        return n;
    }

    return (n == -1 && errno == EAGAIN) ? 0 : -1;
}


static ssize_t
conn_write(bench_conn_t *c, const unsigned char *p, size_t n)
{
    int      err;
    ssize_t  sent;

    if (c->ssl) {
        ERR_clear_error();
        sent = SSL_write(c->ssl, p, n);

        if (sent > 0) {
            return sent;
        }

        err = SSL_get_error(c->ssl, sent);

        return (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE)
               ? 0 : -1;
    }

    do {
        sent = send(c->fd, p, n, MSG_NOSIGNAL);
    } while (sent == -1 && errno == EINTR);

    if (sent >= 0) {
        return sent;
    }

    return (errno == EAGAIN) ? 0 : -1;
}


int
bench_conn_send(bench_conn_t *c, const void *buf, size_t n)
{
    ssize_t               sent;
    const unsigned char  *p;

    p = buf;

    while (n && c->out_length == 0) {
        sent = conn_write(c, p, n);

        if (sent == -1) {
            return -1;
        }

        if (sent == 0) {
            break;
        }

        p += sent;
        n -= sent;
    }

    return n ? out_append(c, p, n) : 0;
}


static int
out_append(bench_conn_t *c, const unsigned char *p, size_t n)
{
    size_t          size;
    unsigned char  *out;

    if (c->out_length + n > c->out_size) {
        size = (c->out_length + n) * 2;
        out = realloc(c->out, size);

        if (out == NULL) {
            return -1;
        }

        c->out = out;
        c->out_size = size;
    }

    memcpy(c->out + c->out_length, p, n);
    c->out_length += n;

    return 0;
}


int
bench_conn_flush(bench_conn_t *c)
{
    size_t   pos;
    ssize_t  sent;

    for (pos = 0; pos < c->out_length; pos += sent) {
        sent = conn_write(c, c->out + pos, c->out_length - pos);

        if (sent == -1) {
            return -1;
        }

        if (sent == 0) {
            break;
        }
    }

    if (pos == 0) {
        return 0;
    }

    memmove(c->out, c->out + pos, c->out_length - pos);
    c->out_length -= pos;

    if (c->out_length == 0 && c->out_size > KEEP_SIZE) {
        free(c->out);
        c->out = NULL;
        c->out_size = 0;
    }

    return 0;
}


socklen_t
bench_addr(const char *text, struct sockaddr_storage *ss)
{
    char                  host[64], *end;
    long                  port;
    size_t                n;
    const char           *p;
    struct sockaddr_in   *sin;
    struct sockaddr_in6  *sin6;

    p = strrchr(text, ':');

    if (p == NULL) {
        return 0;
    }

    n = p - text;
    port = strtol(p + 1, &end, 10);

    if (p[1] == '\0' || *end || port < 0 || port > 65535
        || n == 0 || n >= sizeof(host))
    {
        return 0;
    }

    memset(ss, 0, sizeof(*ss));

    if (text[0] == '[' && text[n - 1] == ']') {
        memcpy(host, text + 1, n - 2);
        host[n - 2] = '\0';

        sin6 = (struct sockaddr_in6 *) ss;
        sin6->sin6_family = AF_INET6;
        sin6->sin6_port = htons(port);

        return inet_pton(AF_INET6, host, &sin6->sin6_addr) == 1
               ? sizeof(*sin6) : 0;
    }

    memcpy(host, text, n);
    host[n] = '\0';

    sin = (struct sockaddr_in *) ss;
    sin->sin_family = AF_INET;
    sin->sin_port = htons(port);

    return inet_pton(AF_INET, host, &sin->sin_addr) == 1 ? sizeof(*sin) : 0;
}


int
bench_port(int fd)
{
    socklen_t                len;
    struct sockaddr_storage  ss;

    len = sizeof(ss);

    if (getsockname(fd, (struct sockaddr *) &ss, &len) == -1) {
        return -1;
    }

    return ntohs(ss.ss_family == AF_INET6
                 ? ((struct sockaddr_in6 *) &ss)->sin6_port
                 : ((struct sockaddr_in *) &ss)->sin_port);
}
