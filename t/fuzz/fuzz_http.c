
/*
 * Replies of the auth service: the same however they arrive; a connection is
 * used again only if there is one way to tell where the reply ends, and if
 * it ended there.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_http_reply.h"
#include "fuzz.h"


typedef struct {
    ngx_int_t               rc;        /* NGX_DONE: can be used again */
    ngx_uint_t              status;    /* 0: there is no verdict */
    size_t                  end;       /* of the headers */
    fuzz_text_t             headers;
} fuzz_result_t;


static fuzz_result_t  fuzz_whole;
static fuzz_result_t  fuzz_split;


static void
fuzz_headers(ngx_smtp_relay_http_t *http, fuzz_text_t *text)
{
    ngx_uint_t     i;
    ngx_keyval_t  *kv;

    kv = http->headers.elts;

    for (i = 0; i < http->headers.nelts; i++) {
        fuzz_check(kv[i].key.len);
        fuzz_check(ngx_strlchr(kv[i].key.data,
                               kv[i].key.data + kv[i].key.len, ':') == NULL);
        fuzz_check(!fuzz_has_control(&kv[i].key));
        fuzz_check(memchr(kv[i].value.data, LF, kv[i].value.len) == NULL);
        fuzz_check(memchr(kv[i].value.data, '\0', kv[i].value.len) == NULL);

        fuzz_add(text, kv[i].key.data, kv[i].key.len);
        fuzz_add_text(text, ":");
        fuzz_add(text, kv[i].value.data, kv[i].value.len);
        fuzz_add_text(text, "\n");
    }
}


/* what must be true of a reply whose connection is used again */

static void
fuzz_reused(ngx_smtp_relay_http_t *http, size_t body)
{
    off_t         length;
    ngx_str_t    *cl, *te, *co;
    ngx_uint_t    ncl, nte, nco;

    static ngx_str_t  content_length = ngx_string("content-length");
    static ngx_str_t  transfer_encoding = ngx_string("transfer-encoding");
    static ngx_str_t  connection = ngx_string("connection");

    cl = ngx_smtp_relay_http_header(http, &content_length, &ncl);
    te = ngx_smtp_relay_http_header(http, &transfer_encoding, &nte);
    co = ngx_smtp_relay_http_header(http, &connection, &nco);

    fuzz_check(nco == 0 || (co && co->len == 10));
    fuzz_check(ncl + nte <= 1);

    if (nte) {

        /* nginx's parser of chunks takes a LF for a line's end, too */

        fuzz_check(te->len == 7);
        fuzz_check(body >= 3);
        return;
    }

    if (ncl == 0) {
        fuzz_check(http->status == 204 || http->status == 304);
        fuzz_check(body == 0);
        return;
    }

    length = ngx_atoof(cl->data, cl->len);

    fuzz_check(length >= 0 && (size_t) length == body);
}


/* as ngx_smtp_relay_http_read() does it */

static void
fuzz_read(ngx_smtp_relay_http_conn_t *hc, const uint8_t *data, size_t size,
    fuzz_pieces_t *pieces, fuzz_result_t *result)
{
    size_t      n, at;
    ngx_buf_t  *b;

    b = hc->in;
    at = 0;

    result->rc = NGX_AGAIN;
    result->status = 0;
    result->end = 0;
    result->headers.len = 0;

    while (at < size) {

        if (b->last == b->end) {
            result->rc = NGX_ERROR;
            return;
        }

        n = fuzz_piece(pieces, size - at);

        if (n > (size_t) (b->end - b->last)) {
            n = b->end - b->last;
        }

        memcpy(b->last, data + at, n);
        b->last += n;
        at += n;

        if (result->status == 0) {
            result->rc = ngx_smtp_relay_http_reply_parse(hc);

            if (result->rc == NGX_AGAIN) {
                continue;
            }

            if (result->rc == NGX_ERROR) {
                fuzz_check(hc->http->status == 0);
                return;
            }

            fuzz_check(hc->http->status >= 200 && hc->http->status <= 999);

            result->status = hc->http->status;
            result->end = at - (b->last - b->pos);

            fuzz_headers(hc->http, &result->headers);
        }

        result->rc = ngx_smtp_relay_http_reply_skip(hc);

        if (result->rc == NGX_AGAIN) {
            continue;
        }

        /* what comes when it is idle closes it */

        if (result->rc == NGX_DONE && at < size) {
            result->rc = NGX_ERROR;
        }

        if (result->rc == NGX_DONE) {
            fuzz_reused(hc->http, size - result->end);
        }

        return;
    }
}


static void
fuzz_reply(const uint8_t *data, size_t size, fuzz_feed_e feed, u_char seed,
    fuzz_result_t *result)
{
    ngx_log_t                    log;
    ngx_buf_t                    request;
    ngx_pool_t                  *pool;
    fuzz_pieces_t                pieces;
    ngx_connection_t             c;
    ngx_smtp_relay_http_t        http;
    ngx_smtp_relay_http_conn_t  *hc;

    memset(&log, 0, sizeof(ngx_log_t));
    memset(&c, 0, sizeof(ngx_connection_t));
    memset(&http, 0, sizeof(ngx_smtp_relay_http_t));
    memset(&request, 0, sizeof(ngx_buf_t));

    pool = ngx_create_pool(1024, &log);
    fuzz_check(pool != NULL);

    hc = ngx_pcalloc(pool, sizeof(ngx_smtp_relay_http_conn_t));
    fuzz_check(hc != NULL);

    hc->in = ngx_create_temp_buf(pool, NGX_SMTP_RELAY_HTTP_HEADERS);
    fuzz_check(hc->in != NULL);

    fuzz_check(ngx_array_init(&http.headers, pool, 8, sizeof(ngx_keyval_t))
               == NGX_OK);

    c.log = &log;
    http.pool = pool;
    http.conn = hc;
    http.request = &request;

    hc->connection = &c;
    hc->r.connection = &c;
    hc->http = &http;
    hc->keepalive = 1;

    fuzz_pieces(&pieces, feed, seed);
    fuzz_read(hc, data, size, &pieces, result);

    ngx_destroy_pool(pool);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_feed_e  feed;

    if (size == 0) {
        return 0;
    }

    fuzz_reply(data + 1, size - 1, FUZZ_WHOLE, data[0], &fuzz_whole);

    for (feed = FUZZ_OCTETS; feed < FUZZ_FEEDS; feed++) {
        fuzz_reply(data + 1, size - 1, feed, data[0], &fuzz_split);

        fuzz_check(fuzz_split.rc == fuzz_whole.rc);
        fuzz_check(fuzz_split.status == fuzz_whole.status);
        fuzz_check(fuzz_split.end == fuzz_whole.end);
        fuzz_check(fuzz_same(&fuzz_split.headers, &fuzz_whole.headers));
    }

    return 0;
}
