
#include "ngx_smtp_relay.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_http_smtp_relay_status.h"
#include "ngx_http_smtp_relay_accept.h"
#include "ngx_http_smtp_relay_page.h"


static ngx_int_t ngx_http_smtp_relay_status_handler(ngx_http_request_t *r);
static ngx_uint_t ngx_http_smtp_relay_status_format(ngx_http_request_t *r);
static ngx_int_t ngx_http_smtp_relay_status_headers(ngx_http_request_t *r);
static ngx_int_t ngx_http_smtp_relay_status_header(ngx_http_request_t *r,
    char *name, char *value);
static ngx_int_t ngx_http_smtp_relay_status_send(ngx_http_request_t *r,
    ngx_http_smtp_relay_out_t *out, ngx_str_t *type);


static ngx_str_t  ngx_http_smtp_relay_type_html = ngx_string("text/html");
static ngx_str_t  ngx_http_smtp_relay_type_json =
    ngx_string("application/json");
static ngx_str_t  ngx_http_smtp_relay_type_text = ngx_string("text/plain");


ngx_str_t  ngx_http_smtp_relay_ends[] = {
    ngx_string("ok"),
    ngx_string("client_error"),
    ngx_string("denied"),
    ngx_string("timeout"),
    ngx_string("error"),
    ngx_string("no_node"),
    ngx_string("limited"),
    ngx_string("lost"),
    ngx_null_string
};

ngx_str_t  ngx_http_smtp_relay_tls_ways[] = {
    ngx_string("implicit"),
    ngx_string("starttls"),
    ngx_null_string
};

ngx_str_t  ngx_http_smtp_relay_tls_failures[] = {
    ngx_string("timeout"),
    ngx_string("closed"),
    ngx_string("handshake"),
    ngx_string("certificate"),
    ngx_null_string
};

ngx_str_t  ngx_http_smtp_relay_methods[] = {
    ngx_string("plain"),
    ngx_string("login"),
    ngx_string("cram-md5"),
    ngx_string("xoauth2"),
    ngx_string("oauthbearer"),
    ngx_string("external"),
    ngx_string("none"),
    ngx_string("other"),
    ngx_null_string
};

static ngx_str_t  ngx_http_smtp_relay_verdicts[] = {
    ngx_string("ok"),
    ngx_string("denied"),
    ngx_string("error"),
    ngx_string("refused"),
    ngx_string("canceled")
};

static ngx_str_t  ngx_http_smtp_relay_sources[] = {
    ngx_string("none"),
    ngx_string("service"),
    ngx_string("cache"),
    ngx_string("stale"),
    ngx_string("file")
};

ngx_str_t  ngx_http_smtp_relay_service_failures[] = {
    ngx_string("no_reply"),
    ngx_string("bad_reply"),
    ngx_null_string
};

ngx_str_t  ngx_http_smtp_relay_results[] = {
    ngx_string("accepted"),
    ngx_string("deferred"),
    ngx_string("rejected"),
    ngx_string("aborted"),
    ngx_null_string
};

ngx_str_t  ngx_http_smtp_relay_failures[] = {
    ngx_string("connect"),
    ngx_string("timeout"),
    ngx_string("tls"),
    ngx_string("protocol"),
    ngx_string("auth"),
    ngx_string("lost"),
    ngx_null_string
};

ngx_str_t  ngx_http_smtp_relay_pool_ends[] = {
    ngx_string("full"),
    ngx_string("idle"),
    ngx_string("spent"),
    ngx_string("closed"),
    ngx_string("stale"),
    ngx_null_string
};

ngx_str_t  ngx_http_smtp_relay_conns[] = {
    ngx_string("connecting"),
    ngx_string("busy"),
    ngx_string("idle"),
    ngx_null_string
};

ngx_str_t  ngx_http_smtp_relay_states[] = {
    ngx_string("up"),
    ngx_string("busy"),
    ngx_string("failed"),
    ngx_string("down"),
    ngx_string("unknown"),
    ngx_null_string
};


void
ngx_http_smtp_relay_verdict(ngx_uint_t verdict, ngx_str_t *result,
    ngx_str_t *source)
{
    if (verdict < NGX_SMTP_RELAY_STAT_REFUSED) {
        *result = ngx_http_smtp_relay_verdicts[verdict
                                               / NGX_SMTP_RELAY_STAT_SOURCES];
        *source = ngx_http_smtp_relay_sources[verdict
                                              % NGX_SMTP_RELAY_STAT_SOURCES];
        return;
    }

    *result = ngx_http_smtp_relay_verdicts[3 + verdict
                                           - NGX_SMTP_RELAY_STAT_REFUSED];
    *source = ngx_http_smtp_relay_sources[0];
}


static ngx_int_t
ngx_http_smtp_relay_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                         rc;
    ngx_str_t                         type;
    ngx_uint_t                        format;
    ngx_http_smtp_relay_out_t         out;
    ngx_http_smtp_relay_snapshot_t    sn;
    ngx_http_smtp_relay_main_conf_t  *rmcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_smtp_relay_status_headers(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    format = ngx_http_smtp_relay_status_format(r);

    if (format == NGX_HTTP_SMTP_RELAY_STATUS_HTML) {
        rmcf = ngx_http_get_module_main_conf(r, ngx_http_smtp_relay_module);

        return ngx_http_smtp_relay_page_send(r, &rmcf->policy);
    }

    ngx_http_smtp_relay_out_init(&out, r->pool);

    if (ngx_http_smtp_relay_snapshot(&sn, r->pool) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (format == NGX_HTTP_SMTP_RELAY_STATUS_JSON) {
        ngx_str_set(&type, "application/json");
        ngx_http_smtp_relay_json(&out, &sn);

    } else {
        ngx_str_set(&type, "text/plain; version=0.0.4; charset=utf-8");
        ngx_http_smtp_relay_prometheus(&out, &sn);
    }

    if (ngx_http_smtp_relay_out_done(&out) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_smtp_relay_status_send(r, &out, &type);
}


static ngx_uint_t
ngx_http_smtp_relay_status_format(ngx_http_request_t *r)
{
    ngx_uint_t                       html, json, text;
    ngx_http_smtp_relay_loc_conf_t  *rlcf;

    rlcf = ngx_http_get_module_loc_conf(r, ngx_http_smtp_relay_module);

    if (rlcf->status != NGX_HTTP_SMTP_RELAY_STATUS_AUTO) {
        return rlcf->status;
    }

    /* what is only put up with, as part of a range, gets the last of them */

    html = ngx_http_smtp_relay_accept(r, &ngx_http_smtp_relay_type_html, 0);
    json = ngx_http_smtp_relay_accept(r, &ngx_http_smtp_relay_type_json, 0);
    text = ngx_http_smtp_relay_accept(r, &ngx_http_smtp_relay_type_text, 1);

    if (html && html >= json && html >= text) {
        return NGX_HTTP_SMTP_RELAY_STATUS_HTML;
    }

    if (json && json >= text) {
        return NGX_HTTP_SMTP_RELAY_STATUS_JSON;
    }

    return NGX_HTTP_SMTP_RELAY_STATUS_PROMETHEUS;
}


static ngx_int_t
ngx_http_smtp_relay_status_headers(ngx_http_request_t *r)
{
    ngx_http_smtp_relay_loc_conf_t  *rlcf;

    rlcf = ngx_http_get_module_loc_conf(r, ngx_http_smtp_relay_module);

    if (rlcf->status == NGX_HTTP_SMTP_RELAY_STATUS_AUTO
        && ngx_http_smtp_relay_status_header(r, "Vary", "Accept") != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_smtp_relay_status_header(r, "Cache-Control", "no-store");
}


static ngx_int_t
ngx_http_smtp_relay_status_header(ngx_http_request_t *r, char *name,
    char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    /* later versions have more members */

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

    return NGX_OK;
}


static ngx_int_t
ngx_http_smtp_relay_status_send(ngx_http_request_t *r,
    ngx_http_smtp_relay_out_t *out, ngx_str_t *type)
{
    u_char     *end;
    ngx_int_t   rc;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = out->size;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_lowcase = NULL;

    /* without parameters, which "gzip_types" and the like do not look at */

    end = ngx_strlchr(type->data, type->data + type->len, ';');
    r->headers_out.content_type_len = end ? (size_t) (end - type->data)
                                          : type->len;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out->buf->last_buf = (r == r->main);

    return ngx_http_output_filter(r, out->first);
}


char *
ngx_http_smtp_relay_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_smtp_relay_loc_conf_t *rlcf = conf;

    ngx_str_t                        *value;
    ngx_uint_t                        i;
    ngx_http_core_loc_conf_t         *clcf;
    ngx_http_smtp_relay_main_conf_t  *rmcf;

    static ngx_conf_enum_t  formats[] = {
        { ngx_string("prometheus"), NGX_HTTP_SMTP_RELAY_STATUS_PROMETHEUS },
        { ngx_string("json"), NGX_HTTP_SMTP_RELAY_STATUS_JSON },
        { ngx_string("html"), NGX_HTTP_SMTP_RELAY_STATUS_HTML },
        { ngx_null_string, NGX_HTTP_SMTP_RELAY_STATUS_AUTO }
    };

    if (rlcf->status != NGX_HTTP_SMTP_RELAY_STATUS_OFF) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is duplicate", &cmd->name);
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 0; formats[i].name.len; i++) {
        if (cf->args->nelts > 1
            && value[1].len == formats[i].name.len
            && ngx_strncmp(value[1].data, formats[i].name.data, value[1].len)
               == 0)
        {
            break;
        }
    }

    if (cf->args->nelts > 1 && formats[i].name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid format \"%V\", it must be "
                           "\"prometheus\", \"json\" or \"html\"",
                           &cmd->name, &value[1]);
        return NGX_CONF_ERROR;
    }

    rlcf->status = formats[i].value;

    rmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_smtp_relay_module);

    if (rmcf->file == NULL) {
        rmcf->file = cf->conf_file->file.name.data;
        rmcf->line = cf->conf_file->line;

        if (ngx_http_smtp_relay_page_policy(cf->pool, &rmcf->policy)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_smtp_relay_status_handler;

    return NGX_CONF_OK;
}


char *
ngx_http_smtp_relay_status_check(ngx_cycle_t *cycle)
{
    ngx_http_smtp_relay_main_conf_t  *rmcf;
    ngx_smtp_relay_stat_main_conf_t  *smcf;

    rmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_smtp_relay_module);

    if (rmcf == NULL || rmcf->file == NULL) {
        return NGX_CONF_OK;
    }

    smcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                                 ngx_smtp_relay_stat_module);

    if (smcf == NULL || smcf->zone == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "\"smtp_relay_status\" needs \"smtp_relay_status_zone\" "
                      "in the \"stream\" block in %s:%ui",
                      rmcf->file, rmcf->line);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}

#endif
