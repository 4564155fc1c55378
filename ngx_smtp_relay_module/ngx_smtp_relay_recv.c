
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_recv.h"


/*
 * nginx reads TLS until the socket says EAGAIN, so each flight of a dialogue
 * costs two calls of read(), and the second one a buffer of OpenSSL that is
 * allocated, found to be of no use, and freed.  Plain connections are spared
 * that: a read() that returns less than it was asked for has emptied the
 * socket, and what comes later is another event.
 *
 * The same can be told through OpenSSL.  With "read ahead", which nginx
 * switches on, it asks for as much as its buffer takes, a whole record and
 * more; the socket's BIO counts what it got.
 */


#if (NGX_STREAM_SSL && NGX_HAVE_EPOLLRDHUP                                    \
     && !defined OPENSSL_IS_BORINGSSL && !defined LIBRESSL_VERSION_NUMBER)
#define NGX_SMTP_RELAY_SSL_RECV  1
#endif


#if (NGX_SMTP_RELAY_SSL_RECV)

static ngx_uint_t ngx_smtp_relay_ssl_recv_ready(ngx_connection_t *c);
static ssize_t ngx_smtp_relay_ssl_recv(ngx_connection_t *c, u_char *buf,
    size_t size);
static ngx_int_t ngx_smtp_relay_ssl_recv_failed(ngx_connection_t *c, int n);

#endif


ssize_t
ngx_smtp_relay_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
#if (NGX_SMTP_RELAY_SSL_RECV)

    if (c->ssl && ngx_smtp_relay_ssl_recv_ready(c)) {
        return ngx_smtp_relay_ssl_recv(c, buf, size);
    }

#endif

    return c->recv(c, buf, size);
}


#if (NGX_SMTP_RELAY_SSL_RECV)

/*
 * Without EPOLLRDHUP an end of file behind the last octets would be missed;
 * kernel TLS gives single records, however much it has.
 */

static ngx_uint_t
ngx_smtp_relay_ssl_recv_ready(ngx_connection_t *c)
{
    if (!(ngx_event_flags & NGX_USE_EPOLL_EVENT) || !ngx_use_epoll_rdhup) {
        return 0;
    }

    if (c->ssl->in_early
        || c->ssl->last == NGX_ERROR
        || c->ssl->last == NGX_DONE
        || c->ssl->saved_write_handler)
    {
        return 0;
    }

#ifdef BIO_get_ktls_recv

    if (BIO_get_ktls_recv(SSL_get_rbio(c->ssl->connection))) {
        return 0;
    }

#endif

    return (SSL_get_read_ahead(c->ssl->connection) && ERR_peek_error() == 0);
}


static ssize_t
ngx_smtp_relay_ssl_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    int              n;
    BIO             *bio;
    size_t           bytes;
    uint64_t         before, got;
    ngx_uint_t       pending, empty;
    ngx_ssl_conn_t  *ssl;

    ssl = c->ssl->connection;
    bio = SSL_get_rbio(ssl);

    bytes = 0;
    empty = 0;
    pending = SSL_has_pending(ssl);

    do {
        before = BIO_number_read(bio);

        n = SSL_read(ssl, buf + bytes, (int) (size - bytes));

        ngx_log_debug1(NGX_LOG_DEBUG_EVENT, c->log, 0,
                       "smtp relay SSL_read: %d", n);

        if (n <= 0) {

            if (ngx_smtp_relay_ssl_recv_failed(c, n) == NGX_AGAIN) {
                c->read->ready = 0;
                return bytes ? (ssize_t) bytes : NGX_AGAIN;
            }

            /* what it was is found again */

            c->read->ready = 1;
            return bytes ? (ssize_t) bytes : c->recv(c, buf, size);
        }

        bytes += n;
        got = BIO_number_read(bio) - before;

        if (got) {

            /* a buffer that was not empty may have had room for less */

            empty = (!pending && got < SSL3_RT_MAX_PLAIN_LENGTH);
        }

        pending = SSL_has_pending(ssl);

    } while (pending && bytes < size);

    c->ssl->last = NGX_OK;
    c->read->ready = (pending || !empty || c->read->pending_eof);

    return bytes;
}


/* NGX_AGAIN, or NGX_OK: c->recv() tells, by c->ssl->last or by itself */

static ngx_int_t
ngx_smtp_relay_ssl_recv_failed(ngx_connection_t *c, int n)
{
    int  sslerr;

    sslerr = SSL_get_error(c->ssl->connection, n);

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "smtp relay SSL_get_error: %d", sslerr);

    if (sslerr == SSL_ERROR_WANT_READ) {
        return NGX_AGAIN;
    }

    if (sslerr == SSL_ERROR_WANT_WRITE) {
        return NGX_OK;
    }

    c->ssl->no_wait_shutdown = 1;
    c->ssl->no_send_shutdown = 1;

    if (sslerr == SSL_ERROR_ZERO_RETURN || ERR_peek_error() == 0) {
        c->ssl->last = NGX_DONE;
        return NGX_OK;
    }

    /* errors must not stay in OpenSSL's queue, which connections share */

    c->ssl->last = NGX_ERROR;

    ngx_ssl_error((c->log_error == NGX_ERROR_INFO) ? NGX_LOG_INFO
                                                   : NGX_LOG_ERR,
                  c->log, 0, "SSL_read() failed");

    return NGX_OK;
}

#endif
