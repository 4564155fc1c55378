
/*
 * A whole nginx with the module in it, driven by a fuzzer: an input says what
 * a client, two nodes and an auth service send, when they close, and how time
 * goes by.  Everything happens in one process and one thread, without a
 * wait: the event loop of nginx is turned by hand.
 *
 * An input is a sequence of steps of an octet what, an octet how, and for
 * some of them octets to send:
 *
 *     what % 8   0  the client sends how % 64 octets that follow
 *                1  the client sends a line of the table
 *                2  a node sends how % 32 octets that follow
 *                3  a node sends a line of the table
 *                4  the auth service sends how % 64 octets that follow
 *                5  the auth service sends a reply of the table
 *                6  time goes by
 *                7  something is closed, or acts by itself from now on
 *
 * What must hold: nothing that a sanitizer reports; no connection is left
 * when all have closed and time has passed; a client reads no more
 * acceptances of content than nodes have given, those that they give by
 * themselves: what an input has them say may be a lie.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <nginx.h>

#include <inttypes.h>
#include <sys/random.h>


#define PEERS    8      /* connections to a server at one time */
#define STEPS    256
#define LISTENERS  3

#define CLIENT   0
#define NODE     1      /* and 2 */
#define AUTH     3


typedef struct {
    int          fd;
    int          data;          /* content is coming, not commands */
    long         chunk;         /* of BDAT */
    int          last;
    size_t       len;
    char         in[4096];      /* a line in progress */
} peer_t;


typedef struct {
    int          listener;
    int          silent;        /* does nothing by itself */
    peer_t       peers[PEERS];
} server_t;


int ngx_main(int argc, char *const *argv);
void __wrap_ngx_single_process_cycle(ngx_cycle_t *cycle);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static const char *config =
    "daemon off; master_process off; error_log %s/error.log emerg;\n"
    "pid %s/nginx.pid; events { worker_connections 128; }\n"
    "stream {\n"
    "    log_format all escape=json '$smtp_relay_event $smtp_relay_helo"
    "        $smtp_relay_user $smtp_relay_account $smtp_relay_mail_from"
    "        $smtp_relay_rcpt_to $smtp_relay_message_reply $smtp_relay_errors"
    "        $smtp_relay_auth_http_x $upstream_addr $status';\n"
    "    access_log /dev/null all;\n"
    "    upstream nodes { server unix:%s/node1.sock max_fails=0;\n"
    "                     server unix:%s/node2.sock max_fails=0; }\n"
    "    smtp_relay_hostname r.example;\n"
    "    smtp_relay_starttls off;\n"
    "    smtp_relay_max_message_size 20k;\n"
    "    smtp_relay_max_recipients 5;\n"
    "    smtp_relay_keepalive 1;\n"
    "    smtp_relay_keepalive_messages 3;\n"
    "    smtp_relay_xclient %s;\n"
    "    smtp_relay_auth_failure_delay 1s;\n"
    "    smtp_relay_auth_methods plain login cram-md5 xoauth2 oauthbearer;\n"
    "    smtp_relay_add_header X-Session $smtp_relay_session_id;\n"
    "    smtp_relay_bare_newline %s;\n"
    "    smtp_relay_early_replies %s;\n"
    "    smtp_relay_auth http://unix:%s/auth.sock:/;\n"
    "%s"
    "    server { listen unix:%s/smtp.sock; smtp_relay_pass nodes; }\n"
    "}\n";

static const char *client_lines[] = {
    "EHLO c.example\r\n", "HELO c.example\r\n",
    "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n", "AUTH LOGIN\r\n", "dXNlcg==\r\n",
    "c2VjcmV0\r\n", "AUTH CRAM-MD5\r\n",
    "dXNlciA5ZjZkMDcxOTI3NTQ3NWY5MDlmOGZiZTJjNTYwZTZlYQ==\r\n",
    "AUTH XOAUTH2 dXNlcj11c2VyAWF1dGg9QmVhcmVyIHRva2VuAQE=\r\n",
    "AUTH OAUTHBEARER bixhPXVzZXIsAWF1dGg9QmVhcmVyIHRva2VuAQE=\r\n",
    "AQ==\r\n", "*\r\n",
    "MAIL FROM:<a@a.example>\r\n",
    "MAIL FROM:<> BODY=8BITMIME SIZE=100 SMTPUTF8 RET=HDRS ENVID=x\r\n",
    "RCPT TO:<b@b.example>\r\n",
    "RCPT TO:<c@b.example> NOTIFY=NEVER ORCPT=rfc822;c+40b.example\r\n",
    "DATA\r\n", "Subject: x\r\n\r\nHello\r\n", ".\r\n", "..\r\n", "\r\n.\r\n",
    "BDAT 5\r\nHello", "BDAT 7 LAST\r\nHello\r\n", "BDAT 0 LAST\r\n",
    "RSET\r\n", "NOOP\r\n", "QUIT\r\n", "VRFY x\r\n", "GET / HTTP/1.1\r\n",
    "MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n",
    "\r\n", "\n"
};

static const char *node_lines[] = {
    "220 n.example ESMTP\r\n", "250 2.0.0 Ok\r\n", "250-n.example\r\n",
    "250-PIPELINING\r\n250-CHUNKING\r\n250 SIZE\r\n",
    "250-PIPELINING\r\n250-XCLIENT NAME ADDR LOGIN\r\n250 8BITMIME\r\n",
    "250 n.example\r\n", "354 Go\r\n", "421 4.3.2 Bye\r\n",
    "450 4.2.0 Later\r\n", "550 5.1.1 No\r\n", "452 4.5.3 Too many\r\n",
    "500 5.5.2 What\r\n", "221 Bye\r\n", "999 x\r\n", "250\r\n", "25\r\n"
};

static const char *auth_replies[] = {
    "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nAuth-Account: acc\r\nX: y\r\n"
    "Auth-Max-Size: 1k\r\nAuth-Max-Recipients: 1\r\n"
    "Auth-Senders: a.example\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nAuth-Status: No\r\nAuth-Wait: 1\r\n"
    "Content-Length: 0\r\n\r\n",
    "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 401 No\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    "3\r\nabc\r\n0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nAuth-Limit-Msg: 1r/s\r\n"
    "Cache-Control: max-age=1\r\nContent-Length: 0\r\n\r\n"
};

static char               dir[64];
static struct sockaddr_un  smtp;
static server_t           servers[LISTENERS];     /* two nodes, the service */
static int                client;
static ngx_uint_t         baseline;
static size_t             taken;      /* content accepted by nodes */

/* what they say to it: of an input's own, for one might learn it by heart */

static char               acceptance[sizeof("250 2.0.0 Taken 0123456789abcdef"
                                            "\r\n")];


static void
fail(const char *what)
{
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}


/* what nginx does for a single process, up to its endless loop */

void
__wrap_ngx_single_process_cycle(ngx_cycle_t *cycle)
{
    ngx_uint_t  i;

    for (i = 0; cycle->modules[i]; i++) {
        if (cycle->modules[i]->init_process
            && cycle->modules[i]->init_process(cycle) == NGX_ERROR)
        {
            exit(2);
        }
    }
}


static void
address(struct sockaddr_un *sun, const char *name)
{
    memset(sun, 0, sizeof(struct sockaddr_un));
    sun->sun_family = AF_UNIX;
    snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/%s", dir, name);
}


static int
listener(const char *name)
{
    int                 fd;
    struct sockaddr_un  sun;

    address(&sun, name);

    fd = socket(AF_UNIX, SOCK_STREAM|SOCK_NONBLOCK, 0);

    if (fd == -1
        || bind(fd, (struct sockaddr *) &sun, sizeof(sun)) == -1
        || listen(fd, 64) == -1)
    {
        perror(name);
        exit(2);
    }

    return fd;
}


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    int          i, fd;
    FILE        *f;
    char         name[128];
    const char  *env, *more;
    char        *args[] = { "nginx", "-c", name, "-p", dir, "-e", "stderr",
                            NULL };

    snprintf(dir, sizeof(dir), "/tmp/smtp-relay-fuzz-XXXXXX");

    if (mkdtemp(dir) == NULL) {
        perror(dir);
        exit(2);
    }

    env = getenv("FUZZ_VARIANT");
    more = getenv("FUZZ_CONFIG");

    i = env ? atoi(env) : 0;

    snprintf(name, sizeof(name), "%s/nginx.conf", dir);
    f = fopen(name, "w");

    if (f == NULL) {
        perror(name);
        exit(2);
    }

    fprintf(f, config, dir, dir, dir, dir, (i & 1) ? "on" : "off",
            (i & 2) ? "reject" : "normalize",
            (i & 4) ? "mail data" : "off", dir, more ? more : "", dir);
    fclose(f);

    servers[0].listener = listener("node1.sock");
    servers[1].listener = listener("node2.sock");
    servers[2].listener = listener("auth.sock");

    address(&smtp, "smtp.sock");

    signal(SIGPIPE, SIG_IGN);

    /* nginx makes the error log its stderr, the fuzzer's is another one */

    fd = dup(STDERR_FILENO);

    if (fd == -1 || ngx_main(7, args) != 0) {
        exit(2);
    }

    dup2(fd, STDERR_FILENO);
    close(fd);

    baseline = ngx_cycle->free_connection_n;

    return 0;
}


/* as much as the other side takes; a fuzzer's input is small */

static void
put(int fd, const void *data, size_t len)
{
    if (fd != -1 && len) {
        (void) !send(fd, data, len, MSG_DONTWAIT|MSG_NOSIGNAL);
    }
}


static void
put_text(int fd, const char *text)
{
    put(fd, text, strlen(text));
}


static void
shut(int *fd)
{
    if (*fd != -1) {
        close(*fd);
        *fd = -1;
    }
}


static void
chunk_end(peer_t *p)
{
    taken += p->last;
    put_text(p->fd, p->last ? acceptance : "250 2.0.0 Chunk\r\n");
}


/* what a well-behaved node says to a line */

static void
node_line(peer_t *p, char *line)
{
    if (p->data) {

        if (strcmp(line, ".") == 0) {
            p->data = 0;
            taken++;
            put_text(p->fd, acceptance);
        }

        return;
    }

    if (strncasecmp(line, "EHLO", 4) == 0) {
        put_text(p->fd, "250-n.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n"
                        "250-SMTPUTF8\r\n250-DSN\r\n"
                        "250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN\r\n");
        put_text(p->fd, (p - servers[0].peers < PEERS)
                        ? "250-CHUNKING\r\n250 SIZE\r\n" : "250 SIZE\r\n");

    } else if (strcasecmp(line, "DATA") == 0) {
        p->data = 1;
        put_text(p->fd, "354 Go\r\n");

    } else if (strncasecmp(line, "BDAT ", 5) == 0) {
        p->chunk = strtol(line + 5, NULL, 10);
        p->last = (strcasestr(line, "LAST") != NULL);

        if (p->chunk == 0) {
            chunk_end(p);
        }

    } else if (strncasecmp(line, "QUIT", 4) == 0) {
        put_text(p->fd, "221 Bye\r\n");
        shut(&p->fd);

    } else if (strncasecmp(line, "XCLIENT", 7) == 0) {
        put_text(p->fd, "220 n.example again\r\n");

    } else {
        put_text(p->fd, "250 2.0.0 Ok\r\n");
    }
}


static void
node_octet(peer_t *p, char ch)
{
    if (p->chunk) {

        if (--p->chunk == 0) {
            chunk_end(p);
        }

        return;
    }

    if (p->len < sizeof(p->in) - 1) {
        p->in[p->len++] = ch;
    }

    if (ch == '\n' && p->len > 1 && p->in[p->len - 2] == '\r') {
        p->in[p->len - 2] = '\0';
        p->len = 0;
        node_line(p, p->in);
    }
}


static void
auth_octet(peer_t *p, char ch)
{
    if (p->len < sizeof(p->in) - 1) {
        p->in[p->len++] = ch;
    }

    if (p->len >= 4 && memcmp(p->in + p->len - 4, "\r\n\r\n", 4) == 0) {
        p->in[p->len] = '\0';
        p->len = 0;
        put_text(p->fd, strstr(p->in, "Auth-User: user") ? auth_replies[0]
                                                         : auth_replies[2]);
    }
}


/* takes connections and what they bring; whether there was something */

static int
serve(int n)
{
    int        fd, i, some;
    char       buf[8192];
    ssize_t    got, j;
    peer_t    *p;
    server_t  *s;

    some = 0;
    s = &servers[n];

    for ( ;; ) {
        fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK);

        if (fd == -1) {
            break;
        }

        some = 1;

        for (i = 0; i < PEERS && s->peers[i].fd != -1; i++) { /* void */ }

        if (i == PEERS) {
            close(fd);
            continue;
        }

        p = &s->peers[i];
        memset(p, 0, sizeof(peer_t));
        p->fd = fd;

        if (n < 2 && !s->silent) {
            put_text(fd, "220 n.example ESMTP\r\n");
        }
    }

    for (i = 0; i < PEERS; i++) {
        p = &s->peers[i];

        while (p->fd != -1) {
            got = recv(p->fd, buf, sizeof(buf), MSG_DONTWAIT);

            if (got == -1 && errno == EAGAIN) {
                break;
            }

            some = 1;

            if (got <= 0) {
                shut(&p->fd);
                break;
            }

            for (j = 0; j < got && p->fd != -1 && !s->silent; j++) {

                if (n < 2) {
                    node_octet(p, buf[j]);

                } else {
                    auth_octet(p, buf[j]);
                }
            }
        }
    }

    return some;
}


/* turns the event loop until nothing moves */

static void
turn(void)
{
    int         i, n, some;
    ngx_uint_t  posted;

    for (n = 0; n < 50; n++) {
        (void) ngx_process_events((ngx_cycle_t *) ngx_cycle, 0, 0);

        ngx_event_process_posted((ngx_cycle_t *) ngx_cycle,
                                 &ngx_posted_accept_events);
        ngx_event_expire_timers();
        ngx_event_process_posted((ngx_cycle_t *) ngx_cycle,
                                 &ngx_posted_events);

        posted = !ngx_queue_empty(&ngx_posted_next_events);
        ngx_event_move_posted_next((ngx_cycle_t *) ngx_cycle);

        some = 0;

        for (i = 0; i < LISTENERS; i++) {
            some |= serve(i);
        }

        if (!some && !posted && n > 1) {
            return;
        }
    }
}


static void
pass(ngx_msec_t ms)
{
    ngx_current_msec += ms;
    turn();
}


/* the connection of a server that is the newest, or -1 */

static int
newest(int n)
{
    int  i;

    for (i = PEERS - 1; i >= 0; i--) {
        if (servers[n].peers[i].fd != -1) {
            return servers[n].peers[i].fd;
        }
    }

    return -1;
}


static void
close_server(int n)
{
    int  i;

    for (i = 0; i < PEERS; i++) {
        shut(&servers[n].peers[i].fd);
    }
}


static void
misc(uint8_t how)
{
    int  n;

    n = how % 3;

    switch ((how / 3) % 6) {

    case 0:
        shut(&client);
        break;

    case 1:

        if (client != -1) {
            shutdown(client, SHUT_WR);
        }

        break;

    case 2:
        close_server(n);
        break;

    case 3:
        servers[n].silent = 1;
        break;

    case 4:
        servers[n].silent = 0;
        break;

    default:
        put(newest(n), "", 1);
    }
}


static void
step(uint8_t what, uint8_t how, const uint8_t **data, const uint8_t *last)
{
    size_t  len;

    static const ngx_msec_t  times[] = { 1, 100, 1000, 5000, 30000, 60000,
                                         300000, 10000 };

    len = 0;

    switch (what % 8) {

    case 0:
    case 4:
        len = how % 64;
        break;

    case 2:
        len = how % 32;
        break;
    }

    if (len > (size_t) (last - *data)) {
        len = last - *data;
    }

    switch (what % 8) {

    case 0:
        put(client, *data, len);
        break;

    case 1:
        put_text(client, client_lines[how % (sizeof(client_lines)
                                             / sizeof(client_lines[0]))]);
        break;

    case 2:
        put(newest(how / 32 % 2), *data, len);
        break;

    case 3:
        put_text(newest(how / 32 % 2),
                 node_lines[how % (sizeof(node_lines)
                                   / sizeof(node_lines[0]))]);
        break;

    case 4:
        put(newest(2), *data, len);
        break;

    case 5:
        put_text(newest(2), auth_replies[how % (sizeof(auth_replies)
                                                / sizeof(auth_replies[0]))]);
        break;

    case 6:
        pass(times[how % 8]);
        break;

    default:
        misc(how);
    }

    *data += len;

    /* pieces arrive together or each by itself */

    if (!(what & 0x80)) {
        turn();
    }
}


/* the client reads what there is; acceptances of content are counted */

static size_t
listen_to_relay(void)
{
    char     buf[65536], *p;
    size_t   told;
    ssize_t  n;

    told = 0;

    while (client != -1) {
        n = recv(client, buf, sizeof(buf) - 1, MSG_DONTWAIT);

        if (n <= 0) {
            break;
        }

        buf[n] = '\0';

        for (p = buf; (p = strstr(p, acceptance)) != NULL; p++) {
            told++;
        }
    }

    return told;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int             i, j, silent;
    size_t          told;
    uint8_t         what, how;
    uint64_t        random;
    const uint8_t  *last;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
        perror("getrandom");
        exit(2);
    }

    snprintf(acceptance, sizeof(acceptance), "250 2.0.0 Taken %016" PRIx64
             "\r\n", random);

    last = data + size;
    silent = size ? *data : 0;
    taken = 0;
    told = 0;

    for (i = 0; i < LISTENERS; i++) {
        servers[i].silent = (silent >> i) & 1;

        for (j = 0; j < PEERS; j++) {
            servers[i].peers[j].fd = -1;
        }
    }

    client = socket(AF_UNIX, SOCK_STREAM|SOCK_NONBLOCK, 0);

    if (client == -1
        || connect(client, (struct sockaddr *) &smtp, sizeof(smtp)) == -1)
    {
        perror("connect");
        exit(2);
    }

    turn();

    data += (size > 0);

    for (i = 0; i < STEPS && last - data >= 2; i++) {
        what = *data++;
        how = *data++;

        step(what, how, &data, last);

        told += listen_to_relay();
    }

    turn();
    told += listen_to_relay();

    if (told > taken) {
        fail("the client is told of no more than nodes have taken");
    }

    /* everybody goes, and time passes */

    shut(&client);
    turn();

    for (i = 0; i < LISTENERS; i++) {
        close_server(i);
        servers[i].silent = 0;
    }

    turn();

    for (i = 0; i < 20 && ngx_cycle->free_connection_n != baseline; i++) {
        pass(600000);

        for (j = 0; j < LISTENERS; j++) {
            close_server(j);
        }

        turn();
    }

    if (ngx_cycle->free_connection_n != baseline) {
        fail("no connection is left over");
    }

    return 0;
}
