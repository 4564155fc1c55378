
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_limit.h"


/* for the keys of a session, evaluated all at one time */

#define NGX_SMTP_RELAY_LIMIT_POOL_SIZE  4096


static ngx_int_t ngx_smtp_relay_limit_create(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_limit_give(ngx_smtp_relay_limits_t *ls,
    ngx_uint_t i);
static ngx_int_t ngx_smtp_relay_limit_session(ngx_smtp_relay_session_t *ss,
    ngx_uint_t early);
static ngx_int_t ngx_smtp_relay_limit_note_early(
    ngx_smtp_relay_session_t *ss, ngx_pool_t *pool);
static ngx_int_t ngx_smtp_relay_limit_places(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_limit_checks_t *checks);
static void ngx_smtp_relay_limit_refuse(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_limit_check_t *by);
static void ngx_smtp_relay_limit_number(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_limit_t *limit, ngx_uint_t planned,
    ngx_smtp_relay_limit_check_t *check);
static void ngx_smtp_relay_limit_planned_rate(
    ngx_smtp_relay_limit_rate_t *rate, ngx_smtp_relay_rate_t *planned);
static void ngx_smtp_relay_limit_plan(ngx_smtp_relay_session_t *ss);
static ngx_uint_t ngx_smtp_relay_limit_plan_kind(ngx_smtp_relay_limits_t *ls,
    ngx_uint_t kind, ngx_smtp_relay_rate_t *rate);


ngx_int_t
ngx_smtp_relay_limit_accept(ngx_smtp_relay_session_t *ss)
{
    ngx_smtp_relay_limit_srv_conf_t  *lscf;

    lscf = ngx_stream_get_module_srv_conf(ss->stream,
                                          ngx_smtp_relay_limit_module);

    if (ss->limits && ss->limits->conf != lscf) {

        /* TLS has led to another server, by SNI */

        ngx_smtp_relay_limit_release(ss);
        ss->limits = NULL;
    }

    if (ss->limits == NULL
        && ngx_smtp_relay_limit_create(ss) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ss->limits == NULL) {
        return NGX_OK;
    }

    return ngx_smtp_relay_limit_session(ss, 1);
}


static ngx_int_t
ngx_smtp_relay_limit_create(ngx_smtp_relay_session_t *ss)
{
    ngx_uint_t                        n;
    ngx_smtp_relay_limits_t          *ls;
    ngx_smtp_relay_limit_srv_conf_t  *lscf;

    lscf = ngx_stream_get_module_srv_conf(ss->stream,
                                          ngx_smtp_relay_limit_module);

    n = lscf->limits[NGX_SMTP_RELAY_LIMIT_CONN].nelts;

    if (n == 0 && lscf->limits[NGX_SMTP_RELAY_LIMIT_MSG].nelts == 0
        && lscf->limits[NGX_SMTP_RELAY_LIMIT_RCPT].nelts == 0)
    {
        return NGX_OK;
    }

    ls = ngx_pcalloc(ss->connection->pool, sizeof(ngx_smtp_relay_limits_t)
                     + n * sizeof(ngx_smtp_relay_limit_hold_t *));
    if (ls == NULL) {
        return NGX_ERROR;
    }

    ls->conf = lscf;
    ls->holds = (ngx_smtp_relay_limit_hold_t **) &ls[1];

    ss->limits = ls;

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_limit_login(ngx_smtp_relay_session_t *ss)
{
    if (ss->limits == NULL) {
        return NGX_OK;
    }

    ngx_smtp_relay_limit_plan(ss);

    if (ss->limits->conf->limits[NGX_SMTP_RELAY_LIMIT_CONN].nelts == 0) {
        return NGX_OK;
    }

    return ngx_smtp_relay_limit_session(ss, 0);
}


void
ngx_smtp_relay_limit_forget(ngx_smtp_relay_session_t *ss)
{
    ngx_uint_t                i, n, kind;
    ngx_smtp_relay_limits_t  *ls;

    ls = ss->limits;

    if (ls == NULL) {
        return;
    }

    n = ls->conf->limits[NGX_SMTP_RELAY_LIMIT_CONN].nelts;

    for (i = 0; i < n; i++) {

        if (!(ls->early[NGX_SMTP_RELAY_LIMIT_CONN] & ((ngx_uint_t) 1 << i))) {
            ngx_smtp_relay_limit_give(ls, i);
        }
    }

    for (kind = 0; kind < NGX_SMTP_RELAY_LIMIT_KINDS; kind++) {
        ls->planned[kind] = 0;
    }
}


void
ngx_smtp_relay_limit_release(ngx_smtp_relay_session_t *ss)
{
    ngx_uint_t                i, n;
    ngx_smtp_relay_limits_t  *ls;

    ls = ss->limits;

    if (ls == NULL) {
        return;
    }

    n = ls->conf->limits[NGX_SMTP_RELAY_LIMIT_CONN].nelts;

    for (i = 0; i < n; i++) {
        ngx_smtp_relay_limit_give(ls, i);
    }
}


static void
ngx_smtp_relay_limit_give(ngx_smtp_relay_limits_t *ls, ngx_uint_t i)
{
    ngx_smtp_relay_limit_t  *limit;

    if (ls->holds[i] == NULL) {
        return;
    }

    limit = ls->conf->limits[NGX_SMTP_RELAY_LIMIT_CONN].elts;

    ngx_smtp_relay_limit_conn_give(limit[i].zone, ls->holds[i]);

    ls->holds[i] = NULL;
}


/*
 * Takes the places of a session whose keys are there now.  Keys are
 * evaluated in a scope of their own: what a "map" makes of them before AUTH
 * must not be remembered after it.
 */

static ngx_int_t
ngx_smtp_relay_limit_session(ngx_smtp_relay_session_t *ss, ngx_uint_t early)
{
    ngx_int_t                       rc;
    ngx_pool_t                     *pool;
    ngx_smtp_relay_scope_t          scope;
    ngx_smtp_relay_limit_checks_t   checks;

    pool = ngx_create_pool(NGX_SMTP_RELAY_LIMIT_POOL_SIZE,
                           ss->connection->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_smtp_relay_scope_init(&scope, ss, pool);

    if (rc == NGX_OK) {
        ngx_smtp_relay_scope_enter(&scope, ss->stream);

        if (early) {
            rc = ngx_smtp_relay_limit_note_early(ss, pool);
        }

        if (rc == NGX_OK) {
            rc = ngx_smtp_relay_limit_checks(ss, NGX_SMTP_RELAY_LIMIT_CONN,
                                             pool, &checks);
        }

        ngx_smtp_relay_scope_leave(&scope, ss->stream);
    }

    if (rc == NGX_OK && checks.n) {
        rc = ngx_smtp_relay_limit_places(ss, &checks);
    }

    ngx_destroy_pool(pool);

    return rc;
}


static ngx_int_t
ngx_smtp_relay_limit_note_early(ngx_smtp_relay_session_t *ss,
    ngx_pool_t *pool)
{
    ngx_str_t                 key;
    ngx_uint_t                i, kind;
    ngx_array_t              *limits;
    ngx_smtp_relay_limit_t   *limit;
    ngx_smtp_relay_limits_t  *ls;

    ls = ss->limits;

    for (kind = 0; kind < NGX_SMTP_RELAY_LIMIT_KINDS; kind++) {
        limits = &ls->conf->limits[kind];
        limit = limits->elts;

        for (i = 0; i < limits->nelts; i++) {

            if (ngx_stream_complex_value(ss->stream, &limit[i].zone->key,
                                         &key)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            if (key.len) {
                ls->early[kind] |= (ngx_uint_t) 1 << i;
            }
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_smtp_relay_limit_checks(ngx_smtp_relay_session_t *ss, ngx_uint_t kind,
    ngx_pool_t *pool, ngx_smtp_relay_limit_checks_t *checks)
{
    ngx_str_t                      key;
    ngx_uint_t                     i, planned;
    ngx_array_t                   *limits;
    ngx_smtp_relay_limit_t        *limit;
    ngx_smtp_relay_limits_t       *ls;
    ngx_smtp_relay_limit_check_t  *check;

    ls = ss->limits;
    limits = &ls->conf->limits[kind];
    limit = limits->elts;

    checks->n = 0;
    checks->refusal.len = 0;
    checks->refusal.data = NULL;

    check = ngx_pcalloc(pool, (limits->nelts + 1)
                              * sizeof(ngx_smtp_relay_limit_check_t));
    if (check == NULL) {
        return NGX_ERROR;
    }

    checks->checks = check;

    for (i = 0; i < limits->nelts; i++) {
        planned = (ls->planned[kind] >> i) & 1;

        if (kind == NGX_SMTP_RELAY_LIMIT_CONN) {
            check->hold = ls->holds[i];

            if (check->hold && !planned) {
                continue;
            }
        }

        if (ngx_stream_complex_value(ss->stream, &limit[i].zone->key, &key)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (key.len == 0) {
            continue;
        }

        check->zone = limit[i].zone;

        if (ngx_smtp_relay_limit_zone_key(check, &key, pool) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_smtp_relay_limit_number(ss, &limit[i], planned, check);

        check++;
        checks->n++;
    }

    return NGX_OK;
}


static void
ngx_smtp_relay_limit_number(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_limit_t *limit, ngx_uint_t planned,
    ngx_smtp_relay_limit_check_t *check)
{
    ngx_smtp_relay_plan_t  *plan;

    check->max = limit->max;
    check->rate.rate = limit->zone->rate;
    check->rate.burst = limit->burst;
    check->rate.delay = limit->delay;

    if (!planned) {
        return;
    }

    plan = &ss->auth->plan;

    switch (limit->zone->kind) {

    case NGX_SMTP_RELAY_LIMIT_CONN:
        check->max = plan->limit_conn;
        break;

    case NGX_SMTP_RELAY_LIMIT_MSG:
        ngx_smtp_relay_limit_planned_rate(&check->rate, &plan->limit_msg);
        break;

    default: /* NGX_SMTP_RELAY_LIMIT_RCPT */
        ngx_smtp_relay_limit_planned_rate(&check->rate, &plan->limit_rcpt);
    }
}


/*
 * The burst was set for the rate that was configured.  With a slower one it
 * would hold back clients until they give up, time and again, instead of
 * telling them when to come.
 */

static void
ngx_smtp_relay_limit_planned_rate(ngx_smtp_relay_limit_rate_t *rate,
    ngx_smtp_relay_rate_t *planned)
{
    uint64_t  held;

    held = (uint64_t) NGX_SMTP_RELAY_LIMIT_PATIENCE * planned->count
           / planned->period;

    rate->rate = *planned;

    if (rate->burst > rate->delay && rate->burst - rate->delay > held) {
        rate->burst = rate->delay + held;
    }
}


static ngx_int_t
ngx_smtp_relay_limit_places(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_limit_checks_t *checks)
{
    ngx_int_t                       rc;
    ngx_uint_t                      i, j;
    ngx_smtp_relay_limit_t         *limit;
    ngx_smtp_relay_limits_t        *ls;
    ngx_smtp_relay_limit_check_t   *by;

    ls = ss->limits;

    rc = ngx_smtp_relay_limit_conn_take(checks->checks, checks->n,
                                        ls->conf->dry_run, &by);

    limit = ls->conf->limits[NGX_SMTP_RELAY_LIMIT_CONN].elts;

    /* checks are in the order of limits, some of which have none */

    for (i = 0, j = 0; i < checks->n; i++, j++) {

        while (limit[j].zone != checks->checks[i].zone) {
            j++;
        }

        ls->holds[j] = checks->checks[i].hold;
    }

    ngx_smtp_relay_limit_log_full(ss, checks);

    if (rc == NGX_OK) {
        return NGX_OK;
    }

    ngx_smtp_relay_limit_log(ss, rc, by);

    if (ls->conf->dry_run) {
        return NGX_OK;
    }

    ngx_smtp_relay_limit_refuse(ss, by);

    return NGX_DECLINED;
}


static void
ngx_smtp_relay_limit_refuse(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_limit_check_t *by)
{
    u_char  *p;
    u_char   text[NGX_SMTP_RELAY_LIMIT_TEXT_LEN];

    ss->limit = by->zone->shm_zone->shm.name;

    if (by->full) {
        p = ngx_snprintf(text, sizeof(text) - 1,
                         "Too many clients, try again later");
    } else {
        p = ngx_snprintf(text, sizeof(text) - 1,
                         "Too many connections, the limit is %ui at one time, "
                         "try again when one has ended", by->max);
    }

    *p = '\0';

    ngx_smtp_relay_session_end(ss, "421 4.7.0", (char *) text,
                               NGX_STREAM_SERVICE_UNAVAILABLE);
}


/*
 * What the auth service says of a login counts in the limits whose key came
 * with the login; where there is none of a kind, in all of that kind.
 */

static void
ngx_smtp_relay_limit_plan(ngx_smtp_relay_session_t *ss)
{
    ngx_smtp_relay_plan_t    *plan;
    ngx_smtp_relay_limits_t  *ls;

    ls = ss->limits;
    plan = &ss->auth->plan;

    if (plan->limit_conn_set) {
        ls->planned[NGX_SMTP_RELAY_LIMIT_CONN] =
            ngx_smtp_relay_limit_plan_kind(ls, NGX_SMTP_RELAY_LIMIT_CONN,
                                           NULL);
    }

    if (plan->limit_msg.period) {
        ls->planned[NGX_SMTP_RELAY_LIMIT_MSG] =
            ngx_smtp_relay_limit_plan_kind(ls, NGX_SMTP_RELAY_LIMIT_MSG,
                                           &plan->limit_msg);
    }

    if (plan->limit_rcpt.period) {
        ls->planned[NGX_SMTP_RELAY_LIMIT_RCPT] =
            ngx_smtp_relay_limit_plan_kind(ls, NGX_SMTP_RELAY_LIMIT_RCPT,
                                           &plan->limit_rcpt);
    }
}


static ngx_uint_t
ngx_smtp_relay_limit_plan_kind(ngx_smtp_relay_limits_t *ls, ngx_uint_t kind,
    ngx_smtp_relay_rate_t *rate)
{
    ngx_uint_t               i, bit, all, same;
    ngx_array_t             *limits;
    ngx_smtp_relay_limit_t  *limit;

    limits = &ls->conf->limits[kind];
    limit = limits->elts;

    all = 0;
    same = 0;

    for (i = 0; i < limits->nelts; i++) {
        all |= (ngx_uint_t) 1 << i;
    }

    if (all & ~ls->early[kind]) {
        all &= ~ls->early[kind];
    }

    if (rate == NULL) {
        return all;
    }

    /* a quota does not replace a rate where there is a quota, nor reverse */

    for (i = 0; i < limits->nelts; i++) {
        bit = (ngx_uint_t) 1 << i;

        if ((all & bit)
            && ngx_smtp_relay_limit_is_quota(&limit[i].zone->rate)
               == ngx_smtp_relay_limit_is_quota(rate))
        {
            same |= bit;
        }
    }

    return same ? same : all;
}
