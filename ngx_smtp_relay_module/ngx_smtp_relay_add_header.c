
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_add_header.h"


static ngx_smtp_relay_add_headers_t *ngx_smtp_relay_add_headers_create(
    ngx_conf_t *cf);
static ngx_smtp_relay_header_t *ngx_smtp_relay_add_headers_start(
    ngx_smtp_relay_transaction_t *t);
static ngx_int_t ngx_smtp_relay_add_headers_block(
    ngx_smtp_relay_transaction_t *t, ngx_str_t *block);


char *
ngx_smtp_relay_add_header(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_srv_conf_t *rscf = conf;

    ngx_str_t                           *value, *name;
    ngx_smtp_relay_add_header_t         *header;
    ngx_stream_compile_complex_value_t   ccv;

    value = cf->args->elts;

    if (ngx_smtp_relay_header_name(&value[1]) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid header name \"%V\"",
                           &cmd->name, &value[1]);
        return NGX_CONF_ERROR;
    }

    if (rscf->add_headers == NGX_CONF_UNSET_PTR) {
        rscf->add_headers = ngx_smtp_relay_add_headers_create(cf);

        if (rscf->add_headers == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    header = ngx_array_push(&rscf->add_headers->headers);
    if (header == NULL) {
        return NGX_CONF_ERROR;
    }

    header->name = value[1];

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[2];
    ccv.complex_value = &header->value;

    if (ngx_stream_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* the trace of a message is never taken off it (RFC 5321, 4.4.) */

    if (value[1].len == sizeof("Received") - 1
        && ngx_strncasecmp(value[1].data, (u_char *) "Received",
                           sizeof("Received") - 1)
           == 0)
    {
        return NGX_CONF_OK;
    }

    name = ngx_array_push(&rscf->add_headers->dropped);
    if (name == NULL) {
        return NGX_CONF_ERROR;
    }

    *name = value[1];

    return NGX_CONF_OK;
}


static ngx_smtp_relay_add_headers_t *
ngx_smtp_relay_add_headers_create(ngx_conf_t *cf)
{
    ngx_smtp_relay_add_headers_t  *ah;

    ah = ngx_palloc(cf->pool, sizeof(ngx_smtp_relay_add_headers_t));
    if (ah == NULL) {
        return NULL;
    }

    if (ngx_array_init(&ah->headers, cf->pool, 4,
                       sizeof(ngx_smtp_relay_add_header_t))
        != NGX_OK
        || ngx_array_init(&ah->dropped, cf->pool, 4, sizeof(ngx_str_t))
           != NGX_OK)
    {
        return NULL;
    }

    return ah;
}


ngx_smtp_relay_span_t *
ngx_smtp_relay_add_headers(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_span_t *in, ngx_uint_t *n, ngx_uint_t end,
    ngx_smtp_relay_span_t *out)
{
    if (t->header == NULL) {
        t->header = ngx_smtp_relay_add_headers_start(t);

        if (t->header == NULL) {
            return NULL;
        }
    }

    return ngx_smtp_relay_header_filter(t->header, in, n, end, out);
}


static ngx_smtp_relay_header_t *
ngx_smtp_relay_add_headers_start(ngx_smtp_relay_transaction_t *t)
{
    ngx_str_t                      block;
    ngx_smtp_relay_header_t       *h;
    ngx_smtp_relay_add_headers_t  *ah;

    ah = t->session->conf->add_headers;

    h = ngx_palloc(t->pool, sizeof(ngx_smtp_relay_header_t));
    if (h == NULL) {
        return NULL;
    }

    if (ngx_smtp_relay_add_headers_block(t, &block) != NGX_OK) {
        return NULL;
    }

    ngx_smtp_relay_header_init(h, ah->dropped.elts, ah->dropped.nelts, &block);

    return h;
}


static ngx_int_t
ngx_smtp_relay_add_headers_block(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *block)
{
    size_t                         size;
    u_char                        *p;
    ngx_int_t                      rc;
    ngx_str_t                     *values;
    ngx_uint_t                     i, n;
    ngx_stream_session_t          *s;
    ngx_smtp_relay_add_header_t   *header;
    ngx_smtp_relay_add_headers_t  *ah;

    s = t->session->stream;
    ah = t->session->conf->add_headers;

    header = ah->headers.elts;
    n = ah->headers.nelts;

    values = ngx_palloc(t->pool, n * sizeof(ngx_str_t));
    if (values == NULL) {
        return NGX_ERROR;
    }

    ngx_smtp_relay_scope_enter(&t->scope, s);

    rc = NGX_OK;
    size = 0;

    for (i = 0; i < n && rc == NGX_OK; i++) {
        rc = ngx_stream_complex_value(s, &header[i].value, &values[i]);

        if (rc == NGX_OK) {
            size += ngx_smtp_relay_header_size(&header[i].name, &values[i]);
        }
    }

    ngx_smtp_relay_scope_leave(&t->scope, s);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(t->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    block->data = p;

    for (i = 0; i < n; i++) {
        p = ngx_smtp_relay_header_write(p, &header[i].name, &values[i]);
    }

    block->len = p - block->data;

    return NGX_OK;
}
