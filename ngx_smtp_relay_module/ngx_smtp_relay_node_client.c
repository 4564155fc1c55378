
/* Who the client is, as a node is told: XCLIENT and the PROXY protocol. */


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_node_hello.h"


/* a line of several attributes, with its CRLF */

#define NGX_SMTP_RELAY_XCLIENT_LINE       512
#define NGX_SMTP_RELAY_XCLIENT_MAX        6

#define NGX_SMTP_RELAY_PROXY_V2_PROXY     0x21
#define NGX_SMTP_RELAY_PROXY_V2_TCP4      0x11
#define NGX_SMTP_RELAY_PROXY_V2_TCP6      0x21

/* PP2_TYPE_UNIQUE_ID */
#define NGX_SMTP_RELAY_PROXY_V2_UNIQUE_ID 0x05


typedef struct {
    ngx_uint_t                      bit;
    ngx_str_t                       name;
} ngx_smtp_relay_xclient_name_t;


static ngx_int_t ngx_smtp_relay_xclient_values(ngx_smtp_relay_node_t *node,
    ngx_str_t *values);
static ngx_int_t ngx_smtp_relay_xclient_addr(ngx_smtp_relay_node_t *node,
    ngx_str_t *addr, ngx_str_t *port);
static void ngx_smtp_relay_xclient_login(ngx_smtp_relay_node_t *node,
    ngx_str_t *login);
static u_char *ngx_smtp_relay_proxy_v2(ngx_connection_t *c, u_char *id,
    u_char *p);
static u_char *ngx_smtp_relay_proxy_v2_addr(struct sockaddr *sockaddr,
    ngx_uint_t v4, u_char *p);


/* in the order in which they are sent, and of the values */

static ngx_smtp_relay_xclient_name_t  ngx_smtp_relay_xclient_names[] = {
    { NGX_SMTP_RELAY_XCLIENT_NAME, ngx_string(" NAME=") },
    { NGX_SMTP_RELAY_XCLIENT_ADDR, ngx_string(" ADDR=") },
    { NGX_SMTP_RELAY_XCLIENT_PORT, ngx_string(" PORT=") },
    { NGX_SMTP_RELAY_XCLIENT_PROTO, ngx_string(" PROTO=") },
    { NGX_SMTP_RELAY_XCLIENT_HELO, ngx_string(" HELO=") },
    { NGX_SMTP_RELAY_XCLIENT_LOGIN, ngx_string(" LOGIN=") }
};


ngx_int_t
ngx_smtp_relay_node_xclient(ngx_smtp_relay_node_t *node, ngx_str_t *lines)
{
    u_char                         *p, *line;
    size_t                          size, len;
    ngx_str_t                       values[NGX_SMTP_RELAY_XCLIENT_MAX];
    ngx_uint_t                      i;
    ngx_smtp_relay_xclient_name_t  *name;

    ngx_str_null(lines);

    if (ngx_smtp_relay_xclient_values(node, values) != NGX_OK) {
        return NGX_ERROR;
    }

    name = ngx_smtp_relay_xclient_names;
    size = 0;

    for (i = 0; i < NGX_SMTP_RELAY_XCLIENT_MAX; i++) {

        if (values[i].len == 0) {
            ngx_str_set(&values[i], "[UNAVAILABLE]");
        }

        size += sizeof("XCLIENT" CRLF) - 1 + name[i].name.len
                + values[i].len * 3;
    }

    p = ngx_pnalloc(node->transaction->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    lines->data = p;
    line = NULL;

    for (i = 0; i < NGX_SMTP_RELAY_XCLIENT_MAX; i++) {

        if (!(node->attributes & name[i].bit)) {
            continue;
        }

        len = name[i].name.len
              + (size_t) ngx_smtp_relay_xtext(NULL, &values[i]);

        if (line && p - line + len + 2 > NGX_SMTP_RELAY_XCLIENT_LINE) {
            *p++ = CR;
            *p++ = LF;
            line = NULL;
        }

        if (line == NULL) {
            line = p;
            p = ngx_cpymem(p, "XCLIENT", sizeof("XCLIENT") - 1);
        }

        p = ngx_cpymem(p, name[i].name.data, name[i].name.len);
        p = (u_char *) ngx_smtp_relay_xtext(p, &values[i]);
    }

    if (line) {
        *p++ = CR;
        *p++ = LF;
    }

    lines->len = p - lines->data;

    return NGX_OK;
}


/* an empty value: not known */

static ngx_int_t
ngx_smtp_relay_xclient_values(ngx_smtp_relay_node_t *node, ngx_str_t *values)
{
    ngx_smtp_relay_session_t  *ss;

    ss = node->transaction->session;

    ngx_str_null(&values[0]);

    if (ngx_smtp_relay_xclient_addr(node, &values[1], &values[2]) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ss->esmtp) {
        ngx_str_set(&values[3], "ESMTP");

    } else {
        ngx_str_set(&values[3], "SMTP");
    }

    values[4] = ss->helo;

    ngx_smtp_relay_xclient_login(node, &values[5]);

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_xclient_addr(ngx_smtp_relay_node_t *node, ngx_str_t *addr,
    ngx_str_t *port)
{
    u_char            *p, *last;
    ngx_connection_t  *c;

    c = node->transaction->session->connection;

    ngx_str_null(addr);
    ngx_str_null(port);

    switch (c->sockaddr->sa_family) {

    case AF_INET:
#if (NGX_HAVE_INET6)
    case AF_INET6:
#endif
        break;

    default:
        return NGX_OK;
    }

    p = ngx_pnalloc(node->transaction->pool,
                    sizeof("IPV6:") - 1 + NGX_SOCKADDR_STRLEN
                    + sizeof("65535") - 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = p + sizeof("IPV6:") - 1 + NGX_SOCKADDR_STRLEN;
    addr->data = p;

#if (NGX_HAVE_INET6)
    if (c->sockaddr->sa_family == AF_INET6) {
        p = ngx_cpymem(p, "IPV6:", sizeof("IPV6:") - 1);
    }
#endif

    p += ngx_sock_ntop(c->sockaddr, c->socklen, p, last - p, 0);
    addr->len = p - addr->data;

    port->data = p;
    p = ngx_sprintf(p, "%ui", (ngx_uint_t) ngx_inet_get_port(c->sockaddr));
    port->len = p - port->data;

    return NGX_OK;
}


/*
 * A login makes the client an authenticated one, to whom a node refuses
 * AUTH: only one of the two can be had.
 */

static void
ngx_smtp_relay_xclient_login(ngx_smtp_relay_node_t *node, ngx_str_t *login)
{
    ngx_smtp_relay_session_t  *ss;

    ss = node->transaction->session;

    ngx_str_null(login);

    if (node->conf->auth == NGX_SMTP_RELAY_NODE_AUTH_OFF
        && ss->authenticated && ss->auth)
    {
        *login = ss->auth->account;
    }
}


ngx_int_t
ngx_smtp_relay_node_proxy(ngx_smtp_relay_node_t *node)
{
    u_char            *p;
    ssize_t            n, size;
    ngx_connection_t  *c, *client;
    u_char             buf[NGX_PROXY_PROTOCOL_V1_MAX_HEADER];

    c = node->connection;
    client = node->transaction->session->connection;

    if (ngx_connection_local_sockaddr(client, NULL, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    if (node->conf->proxy_protocol == NGX_SMTP_RELAY_NODE_PROXY_V1) {
        p = ngx_proxy_protocol_write(client, buf, buf + sizeof(buf));
        if (p == NULL) {
            return NGX_ERROR;
        }

    } else {
        p = ngx_smtp_relay_proxy_v2(client, node->transaction->session->id,
                                    buf);
    }

    size = p - buf;

    n = c->send(c, buf, size);

    /* a socket that is new takes so little at once */

    if (n != size) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "could not send PROXY protocol header at once");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static u_char *
ngx_smtp_relay_proxy_v2(ngx_connection_t *c, u_char *id, u_char *p)
{
    u_char           *len;
    ngx_uint_t        v4, v6;
    struct sockaddr  *src, *dst;

    src = c->sockaddr;
    dst = c->local_sockaddr;

    v4 = (src->sa_family == AF_INET && dst->sa_family == AF_INET);

#if (NGX_HAVE_INET6)

    /* an address behind another proxy may be of the other family */

    v6 = (!v4 && (src->sa_family == AF_INET || src->sa_family == AF_INET6)
          && (dst->sa_family == AF_INET || dst->sa_family == AF_INET6));

#else

    v6 = 0;

#endif

    p = ngx_cpymem(p, "\r\n\r\n\0\r\nQUIT\n", 12);

    *p++ = NGX_SMTP_RELAY_PROXY_V2_PROXY;
    *p++ = (u_char) (v4 ? NGX_SMTP_RELAY_PROXY_V2_TCP4
                        : v6 ? NGX_SMTP_RELAY_PROXY_V2_TCP6 : 0);

    len = p;
    p += 2;

    if (v4 || v6) {
        p = ngx_smtp_relay_proxy_v2_addr(src, v4, p);
        p = ngx_smtp_relay_proxy_v2_addr(dst, v4, p);

        *p++ = (u_char) (ngx_inet_get_port(src) >> 8);
        *p++ = (u_char) ngx_inet_get_port(src);
        *p++ = (u_char) (ngx_inet_get_port(dst) >> 8);
        *p++ = (u_char) ngx_inet_get_port(dst);

        /* one name of the session wherever it is spoken of */

        *p++ = NGX_SMTP_RELAY_PROXY_V2_UNIQUE_ID;
        *p++ = 0;
        *p++ = NGX_SMTP_RELAY_ID_LEN;
        p = ngx_cpymem(p, id, NGX_SMTP_RELAY_ID_LEN);
    }

    len[0] = 0;
    len[1] = (u_char) (p - len - 2);

    return p;
}


static u_char *
ngx_smtp_relay_proxy_v2_addr(struct sockaddr *sockaddr, ngx_uint_t v4,
    u_char *p)
{
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;

    if (sockaddr->sa_family == AF_INET6) {
        sin6 = (struct sockaddr_in6 *) sockaddr;
        return ngx_cpymem(p, &sin6->sin6_addr, 16);
    }

#endif

    if (!v4) {
        ngx_memzero(p, 10);
        p += 10;
        *p++ = 0xff;
        *p++ = 0xff;
    }

    sin = (struct sockaddr_in *) sockaddr;

    return ngx_cpymem(p, &sin->sin_addr, 4);
}
