
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_cache.h"
#include "ngx_http_smtp_relay_purge.h"


static ngx_int_t ngx_http_smtp_relay_purge_handler(ngx_http_request_t *r);
static ngx_uint_t ngx_http_smtp_relay_purge_acts(ngx_http_request_t *r);
static ngx_int_t ngx_http_smtp_relay_purge_arg(ngx_http_request_t *r,
    char *name, ngx_str_t *value);
static ngx_int_t ngx_http_smtp_relay_purge_zones(ngx_http_request_t *r,
    ngx_str_t *account, ngx_uint_t *purged);
static ngx_int_t ngx_http_smtp_relay_purge_refuse(ngx_http_request_t *r);
static ngx_int_t ngx_http_smtp_relay_purge_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *text);


char *
ngx_http_smtp_relay_purge(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler == ngx_http_smtp_relay_purge_handler) {
        return "is duplicate";
    }

    clcf->handler = ngx_http_smtp_relay_purge_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_smtp_relay_purge_handler(ngx_http_request_t *r)
{
    ngx_int_t   rc;
    ngx_str_t   account, all, text;
    ngx_uint_t  purged;
    u_char      buf[sizeof("{\"purged\": }" CRLF) - 1 + NGX_INT_T_LEN];

    static ngx_str_t  what =
        ngx_string("{\"error\": \"account or all=1 must be given\"}\n");
    static ngx_str_t  unknown =
        ngx_string("{\"error\": \"no such zone\"}\n");

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    if (!ngx_http_smtp_relay_purge_acts(r)) {
        return ngx_http_smtp_relay_purge_refuse(r);
    }

    if (ngx_http_smtp_relay_purge_arg(r, "account", &account) != NGX_OK
        || ngx_http_smtp_relay_purge_arg(r, "all", &all) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* exactly one of them: a mistyped one must not purge everything */

    if ((account.len != 0) == (all.len == 1 && all.data[0] == '1')) {
        return ngx_http_smtp_relay_purge_send(r, NGX_HTTP_BAD_REQUEST, &what);
    }

    rc = ngx_http_smtp_relay_purge_zones(r, account.len ? &account : NULL,
                                         &purged);
    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {
        return ngx_http_smtp_relay_purge_send(r, NGX_HTTP_NOT_FOUND, &unknown);
    }

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "verdicts purged from the auth cache: %ui", purged);

    text.data = buf;
    text.len = ngx_sprintf(buf, "{\"purged\": %ui}\n", purged) - buf;

    return ngx_http_smtp_relay_purge_send(r, NGX_HTTP_OK, &text);
}


/* a link that is followed must not do anything (RFC 9110, 9.2.1.) */

static ngx_uint_t
ngx_http_smtp_relay_purge_acts(ngx_http_request_t *r)
{
    if (r->method & (NGX_HTTP_POST|NGX_HTTP_DELETE)) {
        return 1;
    }

    return r->method_name.len == 5
           && ngx_strncmp(r->method_name.data, "PURGE", 5) == 0;
}


/* the decoded value of an argument; empty: there is none */

static ngx_int_t
ngx_http_smtp_relay_purge_arg(ngx_http_request_t *r, char *name,
    ngx_str_t *value)
{
    u_char     *dst, *src;
    ngx_str_t   arg;

    ngx_str_null(value);

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &arg) != NGX_OK) {
        return NGX_OK;
    }

    dst = ngx_pnalloc(r->pool, arg.len + 1);
    if (dst == NULL) {
        return NGX_ERROR;
    }

    value->data = dst;
    src = arg.data;

    ngx_unescape_uri(&dst, &src, arg.len, 0);

    value->len = dst - value->data;

    return NGX_OK;
}


/* NGX_DECLINED: there is no zone, or none of the name that is asked for */

static ngx_int_t
ngx_http_smtp_relay_purge_zones(ngx_http_request_t *r, ngx_str_t *account,
    ngx_uint_t *purged)
{
    ngx_str_t         name, *zone_name;
    ngx_uint_t        i, found;
    ngx_array_t      *array;
    ngx_shm_zone_t  **zones;

    *purged = 0;
    found = 0;

    if (ngx_http_smtp_relay_purge_arg(r, "zone", &name) != NGX_OK) {
        return NGX_ERROR;
    }

    array = ngx_smtp_relay_auth_cache_zones((ngx_cycle_t *) ngx_cycle);
    if (array == NULL) {
        return NGX_DECLINED;
    }

    zones = array->elts;

    for (i = 0; i < array->nelts; i++) {
        zone_name = &zones[i]->shm.name;

        if (name.len
            && (name.len != zone_name->len
                || ngx_strncmp(name.data, zone_name->data, name.len) != 0))
        {
            continue;
        }

        found = 1;

        *purged += account
                   ? ngx_smtp_relay_auth_cache_purge(zones[i]->data, account)
                   : ngx_smtp_relay_cache_purge_all(zones[i]->data);
    }

    return found ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_smtp_relay_purge_refuse(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    static ngx_str_t  text =
        ngx_string("{\"error\": \"use POST, DELETE or PURGE\"}\n");

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    ngx_str_set(&h->key, "Allow");
    ngx_str_set(&h->value, "POST, DELETE, PURGE");

    return ngx_http_smtp_relay_purge_send(r, NGX_HTTP_NOT_ALLOWED, &text);
}


static ngx_int_t
ngx_http_smtp_relay_purge_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *text)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_length_n = text->len;
    r->headers_out.status = status;

    b = ngx_create_temp_buf(r->pool, text->len);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_cpymem(b->last, text->data, text->len);
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}
