
#include "ngx_smtp_relay.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_http_smtp_relay_page.h"


static ngx_int_t ngx_http_smtp_relay_page_hash(char *open, char *close,
    u_char *hash);
static ngx_int_t ngx_http_smtp_relay_page_header(ngx_http_request_t *r,
    char *name, ngx_str_t *value);


/* an octet string, without a NUL at its end */

static u_char  ngx_http_smtp_relay_page[] = {
#include "ngx_http_smtp_relay_page_html.h"
};


#define NGX_HTTP_SMTP_RELAY_PAGE_HASH_LEN                                     \
    ngx_base64_encoded_length(SHA256_DIGEST_LENGTH)


ngx_int_t
ngx_http_smtp_relay_page_policy(ngx_pool_t *pool, ngx_str_t *policy)
{
    u_char  *p;
    size_t   len;
    u_char   style[NGX_HTTP_SMTP_RELAY_PAGE_HASH_LEN];
    u_char   script[NGX_HTTP_SMTP_RELAY_PAGE_HASH_LEN];

    static char  format[] =
        "default-src 'none'; style-src 'sha256-%*s'; "
        "script-src 'sha256-%*s'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    if (ngx_http_smtp_relay_page_hash("<style>", "</style>", style) != NGX_OK
        || ngx_http_smtp_relay_page_hash("<script>", "</script>", script)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    len = sizeof(format) + 2 * NGX_HTTP_SMTP_RELAY_PAGE_HASH_LEN;

    p = ngx_pnalloc(pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    policy->data = p;
    policy->len = ngx_snprintf(p, len, format, sizeof(style), style,
                               sizeof(script), script)
                  - p;

    return NGX_OK;
}


/* SHA-256, in base64, of what is between two tags */

static ngx_int_t
ngx_http_smtp_relay_page_hash(char *open, char *close, u_char *hash)
{
    u_char     *p, *end, *last;
    ngx_str_t   src, dst;
    u_char      digest[EVP_MAX_MD_SIZE];

    last = ngx_http_smtp_relay_page + sizeof(ngx_http_smtp_relay_page);

    p = ngx_strlcasestrn(ngx_http_smtp_relay_page, last, (u_char *) open,
                         ngx_strlen(open) - 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    p += ngx_strlen(open);

    end = ngx_strlcasestrn(p, last, (u_char *) close, ngx_strlen(close) - 1);
    if (end == NULL) {
        return NGX_ERROR;
    }

    if (EVP_Digest(p, end - p, digest, NULL, EVP_sha256(), NULL) != 1) {
        return NGX_ERROR;
    }

    src.len = SHA256_DIGEST_LENGTH;
    src.data = digest;
    dst.data = hash;

    ngx_encode_base64(&dst, &src);

    return NGX_OK;
}


ngx_int_t
ngx_http_smtp_relay_page_send(ngx_http_request_t *r, ngx_str_t *policy)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    static ngx_str_t  nosniff = ngx_string("nosniff");
    static ngx_str_t  no_referrer = ngx_string("no-referrer");

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_smtp_relay_page_header(r, "Content-Security-Policy", policy)
        != NGX_OK
        || ngx_http_smtp_relay_page_header(r, "X-Content-Type-Options",
                                           &nosniff)
           != NGX_OK
        || ngx_http_smtp_relay_page_header(r, "Referrer-Policy", &no_referrer)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&r->headers_out.content_type, "text/html; charset=utf-8");
    r->headers_out.content_type_len = sizeof("text/html") - 1;
    r->headers_out.content_type_lowcase = NULL;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = sizeof(ngx_http_smtp_relay_page);

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->pos = ngx_http_smtp_relay_page;
    b->last = ngx_http_smtp_relay_page + sizeof(ngx_http_smtp_relay_page);
    b->memory = 1;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


static ngx_int_t
ngx_http_smtp_relay_page_header(ngx_http_request_t *r, char *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key.len = ngx_strlen(name);
    h->key.data = (u_char *) name;
    h->value = *value;

    return NGX_OK;
}

#endif
