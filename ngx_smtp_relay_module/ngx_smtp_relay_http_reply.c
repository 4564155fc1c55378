
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_http.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_smtp_relay_http_reply.h"


/* more headers than that are no reply */

#define NGX_SMTP_RELAY_HTTP_COUNT  128


static ngx_int_t ngx_smtp_relay_http_parse_status(
    ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_parse_headers(
    ngx_smtp_relay_http_conn_t *hc);
static void ngx_smtp_relay_http_line_end(ngx_smtp_relay_http_conn_t *hc);
static ngx_int_t ngx_smtp_relay_http_add_header(
    ngx_smtp_relay_http_conn_t *hc);
static void ngx_smtp_relay_http_framing(ngx_smtp_relay_http_conn_t *hc);


ngx_int_t
ngx_smtp_relay_http_reply_parse(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_int_t  rc;

    for ( ;; ) {

        if (!hc->status_done) {
            rc = ngx_smtp_relay_http_parse_status(hc);

            if (rc != NGX_OK) {
                return rc;
            }
        }

        rc = ngx_smtp_relay_http_parse_headers(hc);

        if (rc != NGX_OK) {
            return rc;
        }

        if (hc->status.code >= 200) {
            break;
        }

        /* RFC 9110, 15.2.: an interim reply; the final one follows */

        hc->status_done = 0;
        hc->r.state = 0;
        hc->http->headers.nelts = 0;
        ngx_memzero(&hc->status, sizeof(ngx_http_status_t));
    }

    ngx_smtp_relay_http_framing(hc);

    hc->http->status = hc->status.code;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_http_parse_status(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_int_t  rc;

    rc = ngx_http_parse_status_line(&hc->r, hc->in, &hc->status);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    /* what follows a 101, which was not asked for, is no HTTP any more */

    if (rc != NGX_OK
        || hc->status.http_version < 1000
        || hc->status.http_version >= 2000
        || hc->status.code < 100
        || hc->status.code == NGX_HTTP_SWITCHING_PROTOCOLS)
    {
        ngx_log_error(NGX_LOG_ERR, hc->connection->log, 0,
                      "auth service sent no HTTP/1.x reply");
        return NGX_ERROR;
    }

    ngx_smtp_relay_http_line_end(hc);

    hc->status_done = 1;
    hc->r.state = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_http_parse_headers(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_int_t  rc;

    for ( ;; ) {
        rc = ngx_http_parse_header_line(&hc->r, hc->in, 1);

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        ngx_smtp_relay_http_line_end(hc);

        if (rc == NGX_HTTP_PARSE_HEADER_DONE) {
            return NGX_OK;
        }

        /* nginx's parser takes a line without a colon for a header, too */

        if (rc != NGX_OK
            || hc->r.header_name_start == hc->r.header_name_end
            || *hc->r.header_name_end != ':')
        {
            ngx_log_error(NGX_LOG_ERR, hc->connection->log, 0,
                          "auth service sent an invalid header");
            return NGX_ERROR;
        }

        if (ngx_smtp_relay_http_add_header(hc) != NGX_OK) {
            return NGX_ERROR;
        }
    }
}


/* RFC 9112, 2.2.: a LF on its own may end a line, but need not for others */

static void
ngx_smtp_relay_http_line_end(ngx_smtp_relay_http_conn_t *hc)
{
    u_char  *p;

    p = hc->in->pos;

    if (p - hc->in->start < 2 || p[-2] != CR) {
        hc->bare = 1;
    }
}


static ngx_int_t
ngx_smtp_relay_http_add_header(ngx_smtp_relay_http_conn_t *hc)
{
    u_char                 *p;
    size_t                  len;
    ngx_keyval_t           *kv;
    ngx_http_request_t     *r;
    ngx_smtp_relay_http_t  *http;

    r = &hc->r;
    http = hc->http;

    if (http->headers.nelts == NGX_SMTP_RELAY_HTTP_COUNT) {
        ngx_log_error(NGX_LOG_ERR, hc->connection->log, 0,
                      "auth service sent too many headers");
        return NGX_ERROR;
    }

    /* the parser takes off blanks, but no tabs */

    while (r->header_start < r->header_end
           && (*r->header_start == '\t' || *r->header_start == ' '))
    {
        r->header_start++;
    }

    while (r->header_start < r->header_end
           && (r->header_end[-1] == '\t' || r->header_end[-1] == ' '))
    {
        r->header_end--;
    }

    len = r->header_name_end - r->header_name_start;

    p = ngx_pnalloc(http->pool, len + (r->header_end - r->header_start));
    kv = p ? ngx_array_push(&http->headers) : NULL;

    if (kv == NULL) {
        return NGX_ERROR;
    }

    kv->key.len = len;
    kv->value.len = r->header_end - r->header_start;

    kv->key.data = p;
    ngx_strlow(p, r->header_name_start, kv->key.len);

    p += kv->key.len;

    kv->value.data = p;
    ngx_memcpy(p, r->header_start, kv->value.len);

    return NGX_OK;
}


static void
ngx_smtp_relay_http_framing(ngx_smtp_relay_http_conn_t *hc)
{
    ngx_str_t         *cl, *te, *co;
    ngx_uint_t         ncl, nte, nco, close, keep;

    static ngx_str_t   content_length = ngx_string("content-length");
    static ngx_str_t   transfer_encoding = ngx_string("transfer-encoding");
    static ngx_str_t   connection = ngx_string("connection");

    cl = ngx_smtp_relay_http_header(hc->http, &content_length, &ncl);
    te = ngx_smtp_relay_http_header(hc->http, &transfer_encoding, &nte);
    co = ngx_smtp_relay_http_header(hc->http, &connection, &nco);

    close = (nco > 1)
            || (co && !(co->len == 10
                        && ngx_strncasecmp(co->data, (u_char *) "keep-alive",
                                           10) == 0));
    keep = (co && !close);

    hc->keep = (hc->keepalive
                && !close
                && !hc->bare
                && (keep || hc->status.http_version > 1000)
                && hc->http->request->pos == hc->http->request->last);

    if (nte) {
        hc->chunked = (te && te->len == 7 && ncl == 0
                       && hc->status.http_version > 1000
                       && ngx_strncasecmp(te->data, (u_char *) "chunked", 7)
                          == 0);

        if (!hc->chunked) {
            hc->keep = 0;
        }

        return;
    }

    if (ncl) {
        hc->body = cl ? ngx_atoof(cl->data, cl->len) : NGX_ERROR;

        /* a body that is longer would not be read to its end */

        if (hc->body == NGX_ERROR || hc->body > NGX_SMTP_RELAY_HTTP_BODY) {
            hc->keep = 0;
        }
    }

    if (hc->status.code == 204 || hc->status.code == 304) {

        /* it has no body; a server that announces one may well send it */

        if (hc->body) {
            hc->keep = 0;
        }

        return;
    }

    if (ncl == 0) {
        hc->keep = 0;
    }
}


ngx_int_t
ngx_smtp_relay_http_reply_skip(ngx_smtp_relay_http_conn_t *hc)
{
    off_t       n;
    ngx_int_t   rc;
    ngx_buf_t  *b;

    b = hc->in;

    if (!hc->keep) {
        return NGX_ERROR;
    }

    hc->drained += b->last - b->pos;

    if (hc->drained > NGX_SMTP_RELAY_HTTP_BODY) {
        return NGX_ERROR;
    }

    if (!hc->chunked) {
        n = ngx_min((off_t) (b->last - b->pos), hc->body);

        b->pos += n;
        hc->body -= n;

        rc = hc->body ? NGX_AGAIN : NGX_DONE;

    } else {

        while ((rc = ngx_smtp_relay_parse_chunked(&hc->r, b, &hc->chunked_ctx))
               == NGX_OK)
        {
            n = ngx_min((off_t) (b->last - b->pos), hc->chunked_ctx.size);

            b->pos += n;
            hc->chunked_ctx.size -= n;
        }
    }

    if (rc == NGX_AGAIN) {
        b->pos = b->start;
        b->last = b->start;

        return NGX_AGAIN;
    }

    /* what follows a complete reply was not asked for */

    return (rc == NGX_DONE && b->pos == b->last) ? NGX_DONE : NGX_ERROR;
}


ngx_str_t *
ngx_smtp_relay_http_header(ngx_smtp_relay_http_t *http, ngx_str_t *name,
    ngx_uint_t *count)
{
    ngx_str_t     *value;
    ngx_uint_t     i;
    ngx_keyval_t  *kv;

    value = NULL;
    *count = 0;

    kv = http->headers.elts;

    for (i = 0; i < http->headers.nelts; i++) {
        if (kv[i].key.len == name->len
            && ngx_strncmp(kv[i].key.data, name->data, name->len) == 0)
        {
            value = &kv[i].value;
            (*count)++;
        }
    }

    return (*count == 1) ? value : NULL;
}


#endif
