
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_cache_key.h"
#include "ngx_smtp_relay_auth_cache_verdict.h"


/* each field is a tag, a length of two octets, and octets */

#define NGX_SMTP_RELAY_CACHE_FIELD_LEN  3
#define NGX_SMTP_RELAY_CACHE_FIELD_MAX  65535

/* longest that Cache-Control can keep a verdict, seconds: ten years */

#define NGX_SMTP_RELAY_CACHE_MAX_AGE    315360000


typedef enum {
    NGX_SMTP_RELAY_CACHE_F_STATUS = 1,
    NGX_SMTP_RELAY_CACHE_F_USER,
    NGX_SMTP_RELAY_CACHE_F_ACCOUNT,
    NGX_SMTP_RELAY_CACHE_F_REPLY,
    NGX_SMTP_RELAY_CACHE_F_WAIT,
    NGX_SMTP_RELAY_CACHE_F_NODE_USER,
    NGX_SMTP_RELAY_CACHE_F_NODE_SECRET,
    NGX_SMTP_RELAY_CACHE_F_SERVER,
    NGX_SMTP_RELAY_CACHE_F_PORT,
    NGX_SMTP_RELAY_CACHE_F_UPSTREAM,
    NGX_SMTP_RELAY_CACHE_F_PLAN,
    NGX_SMTP_RELAY_CACHE_F_SENDERS,
    NGX_SMTP_RELAY_CACHE_F_NAME,
    NGX_SMTP_RELAY_CACHE_F_VALUE
} ngx_smtp_relay_cache_field_e;


typedef struct {
    u_char                         *pos;
    u_char                         *last;
    ngx_uint_t                      full;
} ngx_smtp_relay_cache_writer_t;


/* what Cache-Control has said so far */

typedef struct {
    ngx_smtp_relay_cache_op_t      *op;
    ngx_uint_t                      shared;     /* s-maxage */
    ngx_uint_t                      strict;     /* must-revalidate */
} ngx_smtp_relay_cache_control_t;


static void ngx_smtp_relay_auth_cache_put(ngx_smtp_relay_cache_writer_t *w,
    ngx_uint_t field, void *data, size_t len);
static void ngx_smtp_relay_auth_cache_put_str(
    ngx_smtp_relay_cache_writer_t *w, ngx_uint_t field, ngx_str_t *text);
static ngx_int_t ngx_smtp_relay_auth_cache_put_secret(
    ngx_smtp_relay_cache_writer_t *w, ngx_smtp_relay_auth_t *auth,
    u_char *key);
static void ngx_smtp_relay_auth_cache_put_plan(
    ngx_smtp_relay_cache_writer_t *w, ngx_smtp_relay_plan_t *plan);
static ngx_int_t ngx_smtp_relay_auth_cache_get(ngx_smtp_relay_auth_t *auth,
    u_char *key, ngx_uint_t field, ngx_str_t *value,
    ngx_smtp_relay_auth_status_e *status);
static ngx_int_t ngx_smtp_relay_auth_cache_get_number(ngx_str_t *value,
    void *number, size_t len);
static ngx_int_t ngx_smtp_relay_auth_cache_get_secret(
    ngx_smtp_relay_auth_t *auth, u_char *key, ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_auth_cache_get_header(
    ngx_smtp_relay_auth_t *auth, ngx_uint_t field, ngx_str_t *value);
static ngx_int_t ngx_smtp_relay_auth_cache_seal_key(
    ngx_smtp_relay_auth_t *auth, u_char *key, u_char *seal);
static ngx_int_t ngx_smtp_relay_auth_cache_control_header(
    ngx_smtp_relay_cache_control_t *control, ngx_str_t *header);
static ngx_int_t ngx_smtp_relay_auth_cache_directive(
    ngx_smtp_relay_cache_control_t *control, ngx_str_t *name,
    ngx_str_t *value);
static ngx_uint_t ngx_smtp_relay_auth_cache_is(ngx_str_t *word, char *name);
static ngx_int_t ngx_smtp_relay_auth_cache_seconds(ngx_str_t *value,
    ngx_msec_t *msec);


static u_char  ngx_smtp_relay_auth_cache_octets[NGX_SMTP_RELAY_CACHE_DATA_LEN];


ngx_int_t
ngx_smtp_relay_auth_cache_pack(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_auth_status_e status, u_char *key, ngx_str_t *octets)
{
    u_char                          ok;
    ngx_uint_t                      i;
    ngx_keyval_t                   *kv;
    ngx_smtp_relay_cache_writer_t   w;

    w.pos = ngx_smtp_relay_auth_cache_octets;
    w.last = w.pos + NGX_SMTP_RELAY_CACHE_DATA_LEN;
    w.full = 0;

    ok = (status == NGX_SMTP_RELAY_AUTH_OK);

    ngx_smtp_relay_auth_cache_put(&w, NGX_SMTP_RELAY_CACHE_F_STATUS, &ok, 1);

    if (auth->user.data != auth->credentials.user.data) {
        ngx_smtp_relay_auth_cache_put_str(&w, NGX_SMTP_RELAY_CACHE_F_USER,
                                          &auth->user);
    }

    ngx_smtp_relay_auth_cache_put_str(&w, NGX_SMTP_RELAY_CACHE_F_ACCOUNT,
                                      &auth->account);
    ngx_smtp_relay_auth_cache_put_str(&w, NGX_SMTP_RELAY_CACHE_F_REPLY,
                                      &auth->reply);
    ngx_smtp_relay_auth_cache_put_str(&w, NGX_SMTP_RELAY_CACHE_F_NODE_USER,
                                      &auth->node_user);
    ngx_smtp_relay_auth_cache_put_str(&w, NGX_SMTP_RELAY_CACHE_F_SERVER,
                                      &auth->server);
    ngx_smtp_relay_auth_cache_put_str(&w, NGX_SMTP_RELAY_CACHE_F_UPSTREAM,
                                      &auth->upstream);

    if (auth->wait) {
        ngx_smtp_relay_auth_cache_put(&w, NGX_SMTP_RELAY_CACHE_F_WAIT,
                                      &auth->wait, sizeof(ngx_msec_t));
    }

    if (auth->port) {
        ngx_smtp_relay_auth_cache_put(&w, NGX_SMTP_RELAY_CACHE_F_PORT,
                                      &auth->port, sizeof(in_port_t));
    }

    ngx_smtp_relay_auth_cache_put_plan(&w, &auth->plan);

    if (auth->headers) {
        kv = auth->headers->elts;

        for (i = 0; i < auth->headers->nelts; i++) {
            ngx_smtp_relay_auth_cache_put(&w, NGX_SMTP_RELAY_CACHE_F_NAME,
                                          kv[i].key.data, kv[i].key.len);
            ngx_smtp_relay_auth_cache_put(&w, NGX_SMTP_RELAY_CACHE_F_VALUE,
                                          kv[i].value.data, kv[i].value.len);
        }
    }

    if (ngx_smtp_relay_auth_cache_put_secret(&w, auth, key) != NGX_OK
        || w.full)
    {
        return NGX_DECLINED;
    }

    octets->data = ngx_smtp_relay_auth_cache_octets;
    octets->len = w.pos - octets->data;

    return NGX_OK;
}


static void
ngx_smtp_relay_auth_cache_put(ngx_smtp_relay_cache_writer_t *w,
    ngx_uint_t field, void *data, size_t len)
{
    if (len > NGX_SMTP_RELAY_CACHE_FIELD_MAX
        || (size_t) (w->last - w->pos) < NGX_SMTP_RELAY_CACHE_FIELD_LEN + len)
    {
        w->full = 1;
        return;
    }

    *w->pos++ = (u_char) field;
    *w->pos++ = (u_char) (len >> 8);
    *w->pos++ = (u_char) len;

    w->pos = ngx_cpymem(w->pos, data, len);
}


static void
ngx_smtp_relay_auth_cache_put_str(ngx_smtp_relay_cache_writer_t *w,
    ngx_uint_t field, ngx_str_t *text)
{
    if (text->len) {
        ngx_smtp_relay_auth_cache_put(w, field, text->data, text->len);
    }
}


static ngx_int_t
ngx_smtp_relay_auth_cache_put_secret(ngx_smtp_relay_cache_writer_t *w,
    ngx_smtp_relay_auth_t *auth, u_char *key)
{
    u_char     *p, seal[NGX_SMTP_RELAY_CACHE_HASH_LEN];
    size_t      len;
    ngx_int_t   rc;

    if (auth->node_secret.len == 0) {
        return NGX_OK;
    }

    len = auth->node_secret.len + NGX_SMTP_RELAY_CACHE_SEAL_LEN;

    if (len > NGX_SMTP_RELAY_CACHE_FIELD_MAX
        || (size_t) (w->last - w->pos) < NGX_SMTP_RELAY_CACHE_FIELD_LEN + len
        || ngx_smtp_relay_auth_cache_seal_key(auth, key, seal) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    p = w->pos;

    *p++ = NGX_SMTP_RELAY_CACHE_F_NODE_SECRET;
    *p++ = (u_char) (len >> 8);
    *p++ = (u_char) len;

    rc = ngx_smtp_relay_cache_seal(seal, &auth->node_secret, p);

    ngx_explicit_memzero(seal, NGX_SMTP_RELAY_CACHE_HASH_LEN);

    w->pos = p + len;

    return rc;
}


static void
ngx_smtp_relay_auth_cache_put_plan(ngx_smtp_relay_cache_writer_t *w,
    ngx_smtp_relay_plan_t *plan)
{
    ngx_smtp_relay_plan_t  flat;

    ngx_smtp_relay_auth_cache_put_str(w, NGX_SMTP_RELAY_CACHE_F_SENDERS,
                                      &plan->senders);

    if (plan->limit_msg.period == 0
        && plan->limit_rcpt.period == 0
        && !plan->limit_conn_set
        && !plan->max_recipients_set
        && !plan->max_size_set)
    {
        return;
    }

    /* members one by one: what is between them is anything */

    ngx_memzero(&flat, sizeof(ngx_smtp_relay_plan_t));

    flat.limit_msg = plan->limit_msg;
    flat.limit_rcpt = plan->limit_rcpt;
    flat.limit_conn = plan->limit_conn;
    flat.max_recipients = plan->max_recipients;
    flat.max_size = plan->max_size;
    flat.limit_conn_set = plan->limit_conn_set;
    flat.max_recipients_set = plan->max_recipients_set;
    flat.max_size_set = plan->max_size_set;

    ngx_smtp_relay_auth_cache_put(w, NGX_SMTP_RELAY_CACHE_F_PLAN, &flat,
                                  sizeof(ngx_smtp_relay_plan_t));
}


ngx_int_t
ngx_smtp_relay_auth_cache_unpack(ngx_smtp_relay_auth_t *auth, u_char *key,
    ngx_str_t *octets, ngx_smtp_relay_auth_status_e *status)
{
    u_char      *p, *last;
    ngx_str_t    value;
    ngx_uint_t   field;

    ngx_smtp_relay_auth_reset(auth);

    /* strings of the verdict point into this one */

    p = ngx_pnalloc(auth->pool, octets->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = ngx_cpymem(p, octets->data, octets->len);

    *status = NGX_SMTP_RELAY_AUTH_PENDING;

    while (last - p >= NGX_SMTP_RELAY_CACHE_FIELD_LEN) {

        field = p[0];
        value.len = (p[1] << 8) | p[2];
        value.data = p + NGX_SMTP_RELAY_CACHE_FIELD_LEN;

        p = value.data + value.len;

        if (p > last
            || ngx_smtp_relay_auth_cache_get(auth, key, field, &value, status)
               != NGX_OK)
        {
            *status = NGX_SMTP_RELAY_AUTH_PENDING;
            break;
        }
    }

    if (*status == NGX_SMTP_RELAY_AUTH_PENDING) {

        /* nothing of it is left for the verdict that takes its place */

        ngx_smtp_relay_auth_reset(auth);

        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_cache_get(ngx_smtp_relay_auth_t *auth, u_char *key,
    ngx_uint_t field, ngx_str_t *value, ngx_smtp_relay_auth_status_e *status)
{
    ngx_str_t  senders;

    switch (field) {

    case NGX_SMTP_RELAY_CACHE_F_STATUS:
        *status = value->data[0] ? NGX_SMTP_RELAY_AUTH_OK
                                 : NGX_SMTP_RELAY_AUTH_DENIED;
        return NGX_OK;

    case NGX_SMTP_RELAY_CACHE_F_USER:
        auth->user = *value;
        return NGX_OK;

    case NGX_SMTP_RELAY_CACHE_F_ACCOUNT:
        auth->account = *value;
        return NGX_OK;

    case NGX_SMTP_RELAY_CACHE_F_REPLY:
        auth->reply = *value;
        return NGX_OK;

    case NGX_SMTP_RELAY_CACHE_F_WAIT:
        return ngx_smtp_relay_auth_cache_get_number(value, &auth->wait,
                                                    sizeof(ngx_msec_t));

    case NGX_SMTP_RELAY_CACHE_F_NODE_USER:
        auth->node_user = *value;
        return NGX_OK;

    case NGX_SMTP_RELAY_CACHE_F_NODE_SECRET:
        return ngx_smtp_relay_auth_cache_get_secret(auth, key, value);

    case NGX_SMTP_RELAY_CACHE_F_SERVER:
        auth->server = *value;
        return NGX_OK;

    case NGX_SMTP_RELAY_CACHE_F_PORT:
        return ngx_smtp_relay_auth_cache_get_number(value, &auth->port,
                                                    sizeof(in_port_t));

    case NGX_SMTP_RELAY_CACHE_F_UPSTREAM:
        auth->upstream = *value;
        return NGX_OK;

    case NGX_SMTP_RELAY_CACHE_F_PLAN:
        senders = auth->plan.senders;

        if (ngx_smtp_relay_auth_cache_get_number(value, &auth->plan,
                                                sizeof(ngx_smtp_relay_plan_t))
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        auth->plan.senders = senders;
        return NGX_OK;

    case NGX_SMTP_RELAY_CACHE_F_SENDERS:
        auth->plan.senders = *value;
        return NGX_OK;

    default: /* NGX_SMTP_RELAY_CACHE_F_NAME, _VALUE */
        return ngx_smtp_relay_auth_cache_get_header(auth, field, value);
    }
}


static ngx_int_t
ngx_smtp_relay_auth_cache_get_number(ngx_str_t *value, void *number,
    size_t len)
{
    if (value->len != len) {
        return NGX_ERROR;
    }

    ngx_memcpy(number, value->data, len);

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_cache_get_secret(ngx_smtp_relay_auth_t *auth, u_char *key,
    ngx_str_t *value)
{
    u_char     *p, seal[NGX_SMTP_RELAY_CACHE_HASH_LEN];
    size_t      len;
    ngx_int_t   rc;

    if (value->len < NGX_SMTP_RELAY_CACHE_SEAL_LEN) {
        return NGX_ERROR;
    }

    len = value->len - NGX_SMTP_RELAY_CACHE_SEAL_LEN;

    p = ngx_pnalloc(auth->pool, len);

    if (p == NULL
        || ngx_smtp_relay_auth_cache_seal_key(auth, key, seal) != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_smtp_relay_cache_open(seal, value, p);

    ngx_explicit_memzero(seal, NGX_SMTP_RELAY_CACHE_HASH_LEN);

    if (rc == NGX_OK) {
        auth->node_secret.len = len;
        auth->node_secret.data = p;
    }

    return rc;
}


static ngx_int_t
ngx_smtp_relay_auth_cache_get_header(ngx_smtp_relay_auth_t *auth,
    ngx_uint_t field, ngx_str_t *value)
{
    ngx_keyval_t  *kv;

    if (auth->headers == NULL) {
        auth->headers = ngx_array_create(auth->pool, 4, sizeof(ngx_keyval_t));
        if (auth->headers == NULL) {
            return NGX_ERROR;
        }
    }

    if (field == NGX_SMTP_RELAY_CACHE_F_NAME) {
        kv = ngx_array_push(auth->headers);
        if (kv == NULL) {
            return NGX_ERROR;
        }

        kv->key = *value;
        ngx_str_null(&kv->value);

        return NGX_OK;
    }

    if (field != NGX_SMTP_RELAY_CACHE_F_VALUE || auth->headers->nelts == 0) {
        return NGX_ERROR;
    }

    kv = auth->headers->elts;
    kv[auth->headers->nelts - 1].value = *value;

    return NGX_OK;
}


/* it takes the key of the process and the client's secret to make it */

static ngx_int_t
ngx_smtp_relay_auth_cache_seal_key(ngx_smtp_relay_auth_t *auth, u_char *key,
    u_char *seal)
{
    ngx_str_t  parts[3];

    ngx_str_set(&parts[0], "seal");

    parts[1].len = NGX_SMTP_RELAY_CACHE_KEY_LEN;
    parts[1].data = key;

    parts[2] = auth->credentials.secret;

    return ngx_smtp_relay_cache_hash(parts, 3, seal);
}


ngx_int_t
ngx_smtp_relay_auth_cache_control(ngx_smtp_relay_auth_t *auth,
    ngx_smtp_relay_cache_op_t *op)
{
    ngx_uint_t                       i;
    ngx_keyval_t                    *kv;
    ngx_smtp_relay_cache_control_t   control;

    static ngx_str_t  name = ngx_string("cache_control");

    if (auth->headers == NULL) {
        return NGX_OK;
    }

    ngx_memzero(&control, sizeof(ngx_smtp_relay_cache_control_t));

    control.op = op;
    kv = auth->headers->elts;

    for (i = 0; i < auth->headers->nelts; i++) {

        if (kv[i].key.len == name.len
            && ngx_strncmp(kv[i].key.data, name.data, name.len) == 0
            && ngx_smtp_relay_auth_cache_control_header(&control, &kv[i].value)
               != NGX_OK)
        {
            return NGX_DECLINED;
        }
    }

    if (control.strict) {
        op->stale = 0;
    }

    return NGX_OK;
}


/* directives in a list with commas, a name or name=value each */

static ngx_int_t
ngx_smtp_relay_auth_cache_control_header(
    ngx_smtp_relay_cache_control_t *control, ngx_str_t *header)
{
    u_char     *p, *last, *end;
    ngx_str_t   name, value;

    p = header->data;
    last = p + header->len;

    while (p < last) {

        end = ngx_strlchr(p, last, ',');
        if (end == NULL) {
            end = last;
        }

        while (p < end && *p == ' ') {
            p++;
        }

        name.data = p;

        while (p < end && *p != '=' && *p != ' ') {
            p++;
        }

        name.len = p - name.data;

        value.data = p + 1;
        value.len = (p < end && *p == '=') ? end - value.data : 0;

        if (ngx_smtp_relay_auth_cache_directive(control, &name, &value)
            != NGX_OK)
        {
            return NGX_DECLINED;
        }

        p = end + 1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_cache_directive(ngx_smtp_relay_cache_control_t *control,
    ngx_str_t *name, ngx_str_t *value)
{
    ngx_smtp_relay_cache_op_t  *op;

    op = control->op;

    if (ngx_smtp_relay_auth_cache_is(name, "no-store")
        || ngx_smtp_relay_auth_cache_is(name, "no-cache")
        || ngx_smtp_relay_auth_cache_is(name, "private"))
    {
        return NGX_DECLINED;
    }

    if (ngx_smtp_relay_auth_cache_is(name, "must-revalidate")
        || ngx_smtp_relay_auth_cache_is(name, "proxy-revalidate"))
    {
        control->strict = 1;
        return NGX_OK;
    }

    if (ngx_smtp_relay_auth_cache_is(name, "s-maxage")) {
        control->shared = 1;
        return ngx_smtp_relay_auth_cache_seconds(value, &op->valid);
    }

    if (ngx_smtp_relay_auth_cache_is(name, "max-age") && !control->shared) {
        return ngx_smtp_relay_auth_cache_seconds(value, &op->valid);
    }

    if (ngx_smtp_relay_auth_cache_is(name, "stale-if-error")) {
        return ngx_smtp_relay_auth_cache_seconds(value, &op->stale);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_smtp_relay_auth_cache_is(ngx_str_t *word, char *name)
{
    return word->len == ngx_strlen(name)
           && ngx_strncasecmp(word->data, (u_char *) name, word->len) == 0;
}


/* what cannot be understood is as good as "no-store" (RFC 9111, 4.2.1.) */

static ngx_int_t
ngx_smtp_relay_auth_cache_seconds(ngx_str_t *value, ngx_msec_t *msec)
{
    size_t      i;
    u_char     *p;
    ngx_msec_t  n;

    p = value->data;
    n = 0;

    while (value->len && p[value->len - 1] == ' ') {
        value->len--;
    }

    if (value->len >= 2 && p[0] == '"' && p[value->len - 1] == '"') {
        p++;
        value->len -= 2;
    }

    if (value->len == 0) {
        return NGX_DECLINED;
    }

    for (i = 0; i < value->len; i++) {

        if (p[i] < '0' || p[i] > '9') {
            return NGX_DECLINED;
        }

        n = ngx_min(n * 10 + (p[i] - '0'), NGX_SMTP_RELAY_CACHE_MAX_AGE);
    }

#if (NGX_PTR_SIZE == 4)
    n = ngx_min(n, NGX_MAX_INT32_VALUE / 4000);
#endif

    *msec = n * 1000;

    return NGX_OK;
}
