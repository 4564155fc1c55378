
/*
 * What the load generator and the sink share: messages that both can make
 * from a number, and connections in one thread with epoll and OpenSSL.
 */


#ifndef _BENCH_H_INCLUDED_
#define _BENCH_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <openssl/ssl.h>


#define BENCH_HEADER_SIZE  512
#define BENCH_ID_LENGTH    (12 + 16 + 1 + 10 + 1 + 10 + 1 + 5 + 2)
#define BENCH_READ_SIZE    65536


/*
 * A message is made of its run, its number in the run, its size and the
 * length of its lines, and of nothing else.  All four stand in its first
 * line, so that whoever gets it can tell each of its octets.
 */

typedef struct {
    const unsigned char    *raw;            /* lines of the body, a cycle */
    const unsigned char    *stuffed;        /* the same, dots doubled */
    const size_t           *offset;         /* of a line in stuffed */
    size_t                  line;
    size_t                  lines;
    size_t                  stuffed_length;
} bench_text_t;


typedef struct {
    const bench_text_t     *text;
    uint64_t                run;
    uint64_t                seq;
    size_t                  first;          /* line of the text */
    size_t                  body;           /* octets of whole lines */
    size_t                  body_stuffed;
    size_t                  tail;           /* octets of a last short line */
    size_t                  length;         /* octets of the message */
    size_t                  length_stuffed;
    size_t                  header_length;
    unsigned char           header[BENCH_HEADER_SIZE];
} bench_msg_t;


/* size is met to the octet, but for one that is less than the header */
int bench_msg_init(bench_msg_t *m, uint64_t run, uint64_t seq, size_t size,
    size_t line);

/* reads the first line of a message; 0: it is one of ours */
int bench_msg_parse(bench_msg_t *m, const char *line);

/* copies from an octet of the message on; returns how much it was */
size_t bench_msg_copy(const bench_msg_t *m, size_t pos, unsigned char *buf,
    size_t n);
size_t bench_msg_copy_stuffed(const bench_msg_t *m, size_t pos,
    unsigned char *buf, size_t n);

/* 0: these are the octets of the message from pos on */
int bench_msg_compare(const bench_msg_t *m, size_t pos,
    const unsigned char *p, size_t n);


/* connections: the first member of what a program keeps of a connection */

typedef struct bench_conn_s  bench_conn_t;

typedef void (*bench_conn_pt)(bench_conn_t *c);


struct bench_conn_s {
    int                     fd;
    SSL                    *ssl;
    bench_conn_pt           handler;        /* something can be done */
    bench_conn_pt           timer;          /* its time has come */

    unsigned char          *out;            /* what the socket did not take */
    size_t                  out_length;
    size_t                  out_size;

    bench_conn_t           *next;           /* posted, dead */
    bench_conn_t           *timer_next;
    bench_conn_t          **timer_prev;
    uint64_t                timer_at;       /* ms */

    unsigned                handshake:1;    /* TLS is not up yet */
    unsigned                posted:1;
    unsigned                closed:1;
};


uint64_t bench_usec(void);
void bench_die(const char *fmt, ...)
    __attribute__((noreturn, format(printf, 1, 2)));
void bench_limits(void);

void bench_loop_init(void);

/* waits, calls handlers and timers; frees what was closed */
void bench_loop_once(int timeout);

/* c->fd is a socket that does not block; 0: done */
int bench_conn_add(bench_conn_t *c);

/* the memory at c is freed after the events at hand */
void bench_conn_close(bench_conn_t *c);

/* the handler is called in the next turn */
void bench_conn_post(bench_conn_t *c);

void bench_timer_set(bench_conn_t *c, uint64_t msec);
void bench_timer_del(bench_conn_t *c);

/* starts TLS on the connection */
int bench_conn_tls(bench_conn_t *c, SSL_CTX *ctx, int server);

/* 1: TLS is up; 0: not yet; -1: failed */
int bench_conn_handshake(bench_conn_t *c);

/* octets; 0: none now; -1: closed or broken */
ssize_t bench_conn_recv(bench_conn_t *c, unsigned char *buf, size_t size);

/* 0: taken, by the socket or by c->out; -1: broken */
int bench_conn_send(bench_conn_t *c, const void *buf, size_t n);
int bench_conn_flush(bench_conn_t *c);

/* address:port, [address]:port; port 0 is any */
socklen_t bench_addr(const char *text, struct sockaddr_storage *ss);
int bench_port(int fd);


#endif /* _BENCH_H_INCLUDED_ */
