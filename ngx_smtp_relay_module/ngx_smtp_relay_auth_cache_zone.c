
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_smtp_relay_auth_cache_zone.h"
#include "ngx_smtp_relay_auth_cache_table.h"


/*
 * times in milliseconds: logins with a key whose verdicts are not kept do
 * not wait for one another so long
 */
#define NGX_SMTP_RELAY_CACHE_UNKEPT_T   10000

/* a service that is down is asked so often; it is back for good after that */
#define NGX_SMTP_RELAY_CACHE_PROBE      1000
#define NGX_SMTP_RELAY_CACHE_RECOVERY   10000

/* and may be asked so often in the first second, twice that in the next ... */
#define NGX_SMTP_RELAY_CACHE_ASKED      16

/* stale verdicts are told to the log once in that */
#define NGX_SMTP_RELAY_CACHE_WARN       10000


/* whether flight a is b or a later one */

#define ngx_smtp_relay_cache_since(a, b)  ((int32_t) ((a) - (b)) >= 0)


static ngx_smtp_relay_cache_answer_e ngx_smtp_relay_cache_look_locked(
    ngx_smtp_relay_cache_sh_t *sh, ngx_smtp_relay_cache_op_t *op);
static ngx_smtp_relay_cache_answer_e ngx_smtp_relay_cache_failed(
    ngx_smtp_relay_cache_sh_t *sh, ngx_smtp_relay_cache_entry_t *e,
    ngx_smtp_relay_cache_op_t *op);
static ngx_smtp_relay_cache_answer_e ngx_smtp_relay_cache_take(
    ngx_smtp_relay_cache_sh_t *sh, ngx_smtp_relay_cache_entry_t *e,
    ngx_smtp_relay_cache_op_t *op);
static ngx_uint_t ngx_smtp_relay_cache_has_stale(
    ngx_smtp_relay_cache_entry_t *e, ngx_msec_t now);
static ngx_uint_t ngx_smtp_relay_cache_in_flight(
    ngx_smtp_relay_cache_entry_t *e, ngx_msec_t now);
static ngx_smtp_relay_cache_answer_e ngx_smtp_relay_cache_end_locked(
    ngx_smtp_relay_cache_sh_t *sh, ngx_smtp_relay_cache_op_t *op,
    ngx_smtp_relay_cache_outcome_e outcome);
static void ngx_smtp_relay_cache_store(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_smtp_relay_cache_op_t *op);
static void ngx_smtp_relay_cache_unkeep(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_msec_t now);
static ngx_smtp_relay_cache_service_t *ngx_smtp_relay_cache_service(
    ngx_smtp_relay_cache_sh_t *sh, uint32_t id);
static ngx_smtp_relay_cache_service_t *ngx_smtp_relay_cache_service_add(
    ngx_smtp_relay_cache_sh_t *sh, ngx_smtp_relay_cache_op_t *op);
static void ngx_smtp_relay_cache_service_result(
    ngx_smtp_relay_cache_sh_t *sh, ngx_smtp_relay_cache_entry_t *e,
    ngx_smtp_relay_cache_op_t *op, ngx_smtp_relay_cache_outcome_e outcome);
static ngx_uint_t ngx_smtp_relay_cache_proves(ngx_smtp_relay_cache_entry_t *e,
    ngx_smtp_relay_cache_op_t *op);
static ngx_uint_t ngx_smtp_relay_cache_spared(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_op_t *op);
static void ngx_smtp_relay_cache_count_stale(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_op_t *op);


ngx_smtp_relay_cache_answer_e
ngx_smtp_relay_cache_look(ngx_smtp_relay_cache_t *cache,
    ngx_smtp_relay_cache_op_t *op)
{
    ngx_smtp_relay_cache_answer_e  answer;

    op->stales = 0;

    ngx_shmtx_lock(&cache->shpool->mutex);

    answer = ngx_smtp_relay_cache_look_locked(cache->sh, op);

    ngx_shmtx_unlock(&cache->shpool->mutex);

    return answer;
}


static ngx_smtp_relay_cache_answer_e
ngx_smtp_relay_cache_look_locked(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_op_t *op)
{
    ngx_smtp_relay_cache_entry_t  *e;

    e = ngx_smtp_relay_cache_find(sh, op->key);

    if (e == NULL) {

        if (op->last) {
            return NGX_SMTP_RELAY_CACHE_FAILED;
        }

        return ngx_smtp_relay_cache_take(sh, NULL, op);
    }

    if (e->len
        && (ngx_smtp_relay_cache_before(op->now, e->expires)
            || (op->flight && e->by
                && ngx_smtp_relay_cache_since(e->by, op->flight))))
    {
        if (op->flight == 0) {
            sh->stats.hits++;
        }

        ngx_smtp_relay_cache_read(sh, e, op);

        return NGX_SMTP_RELAY_CACHE_HIT;
    }

    if (op->flight && ngx_smtp_relay_cache_since(e->ended, op->flight)) {

        switch (e->outcome) {

        case NGX_SMTP_RELAY_CACHE_FAILURE:
            return ngx_smtp_relay_cache_failed(sh, e, op);

        case NGX_SMTP_RELAY_CACHE_TEMPORARY:
            return NGX_SMTP_RELAY_CACHE_FAILED;

        default: /* nothing to share: look on */
            break;
        }
    }

    if (op->last) {
        return ngx_smtp_relay_cache_failed(sh, e, op);
    }

    if (ngx_smtp_relay_cache_has_stale(e, op->now)
        && ngx_smtp_relay_cache_service(sh, op->service)
        && (ngx_smtp_relay_cache_in_flight(e, op->now)
            || ngx_smtp_relay_cache_spared(sh, op)))
    {
        return ngx_smtp_relay_cache_failed(sh, e, op);
    }

    if (ngx_smtp_relay_cache_in_flight(e, op->now)) {

        if (op->flight == 0) {
            sh->stats.waits++;
        }

        op->flight = e->flight;

        return NGX_SMTP_RELAY_CACHE_WAIT;
    }

    return ngx_smtp_relay_cache_take(sh, e, op);
}


/* nobody can tell: a verdict that was good once, if there is one */

static ngx_smtp_relay_cache_answer_e
ngx_smtp_relay_cache_failed(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_smtp_relay_cache_op_t *op)
{
    if (!ngx_smtp_relay_cache_has_stale(e, op->now)) {
        return NGX_SMTP_RELAY_CACHE_FAILED;
    }

    ngx_smtp_relay_cache_read(sh, e, op);
    ngx_smtp_relay_cache_count_stale(sh, op);

    return NGX_SMTP_RELAY_CACHE_STALE;
}


/* e: NULL, or an entry that nobody asks for */

static ngx_smtp_relay_cache_answer_e
ngx_smtp_relay_cache_take(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_smtp_relay_cache_op_t *op)
{
    if (op->flight == 0) {
        sh->stats.misses++;

        if (e && e->len) {
            sh->stats.expired++;
        }
    }

    op->flight = 0;
    op->purges = sh->purges;

    if (e && e->unkept && ngx_smtp_relay_cache_before(op->now, e->expires)) {
        return NGX_SMTP_RELAY_CACHE_ALONE;
    }

    if (e == NULL) {
        e = ngx_smtp_relay_cache_create(sh, op->key, op->now);
        if (e == NULL) {
            return NGX_SMTP_RELAY_CACHE_ALONE;
        }
    }

    if (++sh->flights == 0) {
        sh->flights = 1;
    }

    e->flight = sh->flights;
    e->pid = ngx_pid;
    e->deadline = op->now + op->timeout;
    e->used = op->now;
    e->unkept = 0;

    op->flight = e->flight;

    return NGX_SMTP_RELAY_CACHE_ASK;
}


static ngx_uint_t
ngx_smtp_relay_cache_has_stale(ngx_smtp_relay_cache_entry_t *e, ngx_msec_t now)
{
    return e->len
           && e->queue == NGX_SMTP_RELAY_CACHE_OK
           && ngx_smtp_relay_cache_before(now, e->stale);
}


/* a worker that was killed tells nobody */

static ngx_uint_t
ngx_smtp_relay_cache_in_flight(ngx_smtp_relay_cache_entry_t *e, ngx_msec_t now)
{
    return ngx_smtp_relay_cache_asked(e, now)
           && (e->pid == ngx_pid
               || kill(e->pid, 0) != -1
               || ngx_errno != NGX_ESRCH);
}


ngx_smtp_relay_cache_answer_e
ngx_smtp_relay_cache_end(ngx_smtp_relay_cache_t *cache,
    ngx_smtp_relay_cache_op_t *op, ngx_smtp_relay_cache_outcome_e outcome)
{
    ngx_smtp_relay_cache_answer_e  answer;

    op->stales = 0;
    op->back = 0;

    ngx_shmtx_lock(&cache->shpool->mutex);

    answer = ngx_smtp_relay_cache_end_locked(cache->sh, op, outcome);

    ngx_shmtx_unlock(&cache->shpool->mutex);

    return answer;
}


static ngx_smtp_relay_cache_answer_e
ngx_smtp_relay_cache_end_locked(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_op_t *op, ngx_smtp_relay_cache_outcome_e outcome)
{
    ngx_smtp_relay_cache_entry_t  *e;

    e = ngx_smtp_relay_cache_find(sh, op->key);

    ngx_smtp_relay_cache_service_result(sh, e, op, outcome);

    /* whoever asked before a purge may have been told what holds no more */

    if (op->purges != sh->purges
        && (outcome == NGX_SMTP_RELAY_CACHE_KEEP
            || outcome == NGX_SMTP_RELAY_CACHE_UNKEPT))
    {
        outcome = NGX_SMTP_RELAY_CACHE_CANCELED;
    }

    if (e && op->flight && e->flight == op->flight) {
        e->ended = e->flight;
        e->flight = 0;
        e->outcome = outcome;
    }

    switch (outcome) {

    case NGX_SMTP_RELAY_CACHE_KEEP:

        if (e == NULL) {
            e = ngx_smtp_relay_cache_create(sh, op->key, op->now);
        }

        if (e) {
            ngx_smtp_relay_cache_store(sh, e, op);
        }

        break;

    case NGX_SMTP_RELAY_CACHE_UNKEPT:

        if (e) {
            ngx_smtp_relay_cache_unkeep(sh, e, op->now);
        }

        break;

    case NGX_SMTP_RELAY_CACHE_FAILURE:
        return e ? ngx_smtp_relay_cache_failed(sh, e, op)
                 : NGX_SMTP_RELAY_CACHE_FAILED;

    default:
        break;
    }

    return NGX_SMTP_RELAY_CACHE_HIT;
}


static void
ngx_smtp_relay_cache_store(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_smtp_relay_cache_op_t *op)
{
    if (ngx_smtp_relay_cache_write(sh, e, op) != NGX_OK) {
        ngx_smtp_relay_cache_unkeep(sh, e, op->now);
        return;
    }

    e->unkept = 0;
    e->by = op->flight;
    e->expires = op->now + op->valid;
    e->stale = e->expires + op->stale;
}


static void
ngx_smtp_relay_cache_unkeep(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_msec_t now)
{
    (void) ngx_smtp_relay_cache_drop(sh, e);

    e->unkept = 1;
    e->expires = now + NGX_SMTP_RELAY_CACHE_UNKEPT_T;
}


static ngx_smtp_relay_cache_service_t *
ngx_smtp_relay_cache_service(ngx_smtp_relay_cache_sh_t *sh, uint32_t id)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_SMTP_RELAY_CACHE_SERVICES; i++) {
        if (sh->services[i].id == id) {
            return &sh->services[i];
        }
    }

    return NULL;
}


/* a free place, else that of whoever is in this state for longest */

static ngx_smtp_relay_cache_service_t *
ngx_smtp_relay_cache_service_add(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_op_t *op)
{
    ngx_uint_t                       i;
    ngx_smtp_relay_cache_service_t  *s, *found;

    found = &sh->services[0];

    for (i = 0; i < NGX_SMTP_RELAY_CACHE_SERVICES; i++) {
        s = &sh->services[i];

        if (s->id == 0) {
            found = s;
            break;
        }

        if (ngx_smtp_relay_cache_before(s->since, found->since)) {
            found = s;
        }
    }

    ngx_memzero(found, sizeof(ngx_smtp_relay_cache_service_t));

    found->id = op->service;
    found->warned = op->now - NGX_SMTP_RELAY_CACHE_WARN;

    return found;
}


static void
ngx_smtp_relay_cache_service_result(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_entry_t *e, ngx_smtp_relay_cache_op_t *op,
    ngx_smtp_relay_cache_outcome_e outcome)
{
    ngx_uint_t                       probe;
    ngx_smtp_relay_cache_service_t  *s;

    s = ngx_smtp_relay_cache_service(sh, op->service);

    probe = op->probe;
    op->probe = 0;

    switch (outcome) {

    case NGX_SMTP_RELAY_CACHE_CANCELED:

        if (s && probe) {
            s->next = op->now;
        }

        return;

    case NGX_SMTP_RELAY_CACHE_FAILURE:

        if ((s == NULL || !s->down) && !ngx_smtp_relay_cache_proves(e, op)) {
            return;
        }

        if (s == NULL) {
            s = ngx_smtp_relay_cache_service_add(sh, op);
        }

        if (!s->down) {
            s->down = 1;
            s->since = op->now;
            probe = 1;
        }

        if (probe) {
            s->next = op->now + NGX_SMTP_RELAY_CACHE_PROBE;
        }

        return;

    default: /* it answered */

        if (s && s->down) {
            s->down = 0;
            s->asked = 0;
            s->second = 0;
            s->since = op->now;

            op->back = 1;
        }
    }
}


/*
 * Whether a failure shows that a service is down for all.  Anybody can make
 * up credentials that it chokes on, and would keep alive by that what it has
 * revoked: it takes some that it has let in before.
 */

static ngx_uint_t
ngx_smtp_relay_cache_proves(ngx_smtp_relay_cache_entry_t *e,
    ngx_smtp_relay_cache_op_t *op)
{
    return !op->refused && e && ngx_smtp_relay_cache_has_stale(e, op->now);
}


/*
 * Whether a service is left alone by those who have a stale verdict: while
 * it is down, but for one who tries, and at first when it is back, when all
 * that has expired would come at once.
 */

static ngx_uint_t
ngx_smtp_relay_cache_spared(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_op_t *op)
{
    ngx_msec_t                       time;
    ngx_smtp_relay_cache_service_t  *s;

    s = ngx_smtp_relay_cache_service(sh, op->service);

    if (s == NULL) {
        return 0;
    }

    if (s->down) {

        if (ngx_smtp_relay_cache_before(op->now, s->next)) {
            return 1;
        }

        s->next = op->now + op->timeout;
        op->probe = 1;

        return 0;
    }

    /* clocks of workers may differ by a little */

    time = ngx_smtp_relay_cache_before(op->now, s->since)
           ? 0 : op->now - s->since;

    if (time >= NGX_SMTP_RELAY_CACHE_RECOVERY) {
        s->id = 0;
        return 0;
    }

    if (s->second != time / 1000) {
        s->second = time / 1000;
        s->asked = 0;
    }

    return s->asked++ >= ((ngx_uint_t) NGX_SMTP_RELAY_CACHE_ASKED
                          << s->second);
}


static void
ngx_smtp_relay_cache_count_stale(ngx_smtp_relay_cache_sh_t *sh,
    ngx_smtp_relay_cache_op_t *op)
{
    ngx_smtp_relay_cache_service_t  *s;

    sh->stats.stale++;

    s = ngx_smtp_relay_cache_service(sh, op->service);

    if (s == NULL) {
        return;
    }

    s->stales++;

    if (ngx_smtp_relay_cache_before(op->now,
                                    s->warned + NGX_SMTP_RELAY_CACHE_WARN))
    {
        return;
    }

    op->stales = s->stales;

    s->stales = 0;
    s->warned = op->now;
}


ngx_uint_t
ngx_smtp_relay_cache_purge(ngx_smtp_relay_cache_t *cache, uint64_t account)
{
    uint32_t                       i;
    ngx_uint_t                     n;
    ngx_smtp_relay_cache_sh_t     *sh;
    ngx_smtp_relay_cache_entry_t  *e;

    sh = cache->sh;
    n = 0;

    ngx_shmtx_lock(&cache->shpool->mutex);

    sh->purges++;

    i = sh->accounts[account & sh->mask];

    while (i != NGX_SMTP_RELAY_CACHE_NONE) {
        e = ngx_smtp_relay_cache_entry(sh, i);
        i = e->account_next;

        if (e->account == account) {
            n += ngx_smtp_relay_cache_drop(sh, e);
        }
    }

    sh->stats.purged += n;

    ngx_shmtx_unlock(&cache->shpool->mutex);

    return n;
}


ngx_uint_t
ngx_smtp_relay_cache_purge_all(ngx_smtp_relay_cache_t *cache)
{
    ngx_uint_t                  n;
    ngx_smtp_relay_cache_sh_t  *sh;

    sh = cache->sh;

    ngx_shmtx_lock(&cache->shpool->mutex);

    ngx_smtp_relay_cache_clear(sh);

    n = sh->stats.entries;

    sh->purges++;
    sh->stats.purged += n;
    sh->stats.entries = 0;

    ngx_shmtx_unlock(&cache->shpool->mutex);

    return n;
}


void
ngx_smtp_relay_cache_stats(ngx_smtp_relay_cache_t *cache,
    ngx_smtp_relay_cache_stats_t *stats)
{
    ngx_shmtx_lock(&cache->shpool->mutex);

    *stats = cache->sh->stats;
    stats->used = ngx_smtp_relay_cache_used(cache->sh);

    ngx_shmtx_unlock(&cache->shpool->mutex);
}
