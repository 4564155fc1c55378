
/*
 * Sessions at one time.
 *
 * A session that counts has a hold: it points to the entry of its key, and
 * stands in the queue of its worker.  When a worker is killed, the holds in
 * its queue are given back by whoever finds out first: the worker that takes
 * its place, or one that is about to refuse a session.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_limit_zone.h"


static ngx_int_t ngx_smtp_relay_limit_conn_check(
    ngx_smtp_relay_limit_check_t *check);
static void ngx_smtp_relay_limit_conn_find(
    ngx_smtp_relay_limit_check_t *check);
static ngx_uint_t ngx_smtp_relay_limit_conn_over(
    ngx_smtp_relay_limit_check_t *check);
static ngx_int_t ngx_smtp_relay_limit_conn_hold(
    ngx_smtp_relay_limit_check_t *check);
static ngx_smtp_relay_limit_hold_t *ngx_smtp_relay_limit_conn_alloc(
    ngx_smtp_relay_limit_check_t *check);
static ngx_int_t ngx_smtp_relay_limit_conn_full(
    ngx_smtp_relay_limit_check_t *check);
static void ngx_smtp_relay_limit_conn_settle(
    ngx_smtp_relay_limit_check_t *check, ngx_uint_t taken);
static void ngx_smtp_relay_limit_conn_free(ngx_smtp_relay_limit_zone_t *zone,
    ngx_smtp_relay_limit_hold_t *hold);
static ngx_uint_t ngx_smtp_relay_limit_conn_reap(
    ngx_smtp_relay_limit_zone_t *zone);
static ngx_uint_t ngx_smtp_relay_limit_conn_free_all(
    ngx_smtp_relay_limit_zone_t *zone, ngx_smtp_relay_limit_worker_t *worker);
static ngx_smtp_relay_limit_worker_t *ngx_smtp_relay_limit_conn_worker(
    ngx_smtp_relay_limit_zone_t *zone);


ngx_int_t
ngx_smtp_relay_limit_conn_take(ngx_smtp_relay_limit_check_t *checks,
    ngx_uint_t n, ngx_uint_t dry_run, ngx_smtp_relay_limit_check_t **by)
{
    ngx_uint_t                     i;
    ngx_smtp_relay_limit_stat_t   *stat;
    ngx_smtp_relay_limit_check_t  *worst;

    worst = NULL;

    for (i = 0; i < n; i++) {
        ngx_smtp_relay_limit_lock(checks[i].zone);

        if (ngx_smtp_relay_limit_conn_check(&checks[i]) != NGX_OK
            && worst == NULL)
        {
            worst = &checks[i];
        }
    }

    if (worst) {
        stat = &worst->zone->sh->stat;

        if (dry_run) {
            stat->dry_run_refused++;

        } else {
            stat->refused++;
        }

        if (!worst->full) {
            worst->log = ngx_smtp_relay_limit_zone_log(worst->zone,
                                                       worst->node);
        }
    }

    for (i = 0; i < n; i++) {
        ngx_smtp_relay_limit_conn_settle(&checks[i], worst == NULL);
        ngx_smtp_relay_limit_unlock(checks[i].zone);
    }

    *by = worst;

    return worst ? NGX_DECLINED : NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_limit_conn_check(ngx_smtp_relay_limit_check_t *check)
{
    check->fresh = 0;
    check->full = 0;
    check->log = 0;

    ngx_smtp_relay_limit_conn_find(check);

    if (ngx_smtp_relay_limit_conn_over(check)) {

        if (!ngx_smtp_relay_limit_conn_reap(check->zone)) {
            return NGX_DECLINED;
        }

        ngx_smtp_relay_limit_conn_find(check);

        if (ngx_smtp_relay_limit_conn_over(check)) {
            return NGX_DECLINED;
        }
    }

    return check->hold ? NGX_OK : ngx_smtp_relay_limit_conn_hold(check);
}


/* a place counts for the key it was taken with, whatever became of that */

static void
ngx_smtp_relay_limit_conn_find(ngx_smtp_relay_limit_check_t *check)
{
    check->node = check->hold ? check->hold->node
                              : ngx_smtp_relay_limit_zone_find(check);
}


static ngx_uint_t
ngx_smtp_relay_limit_conn_over(ngx_smtp_relay_limit_check_t *check)
{
    ngx_uint_t  conn;

    conn = check->node ? ngx_smtp_relay_limit_node(check->node)->u.conn : 0;

    return check->hold ? (conn > check->max) : (conn >= check->max);
}


/* what is needed for a place is got before it is known to be wanted */

static ngx_int_t
ngx_smtp_relay_limit_conn_hold(ngx_smtp_relay_limit_check_t *check)
{
    ngx_smtp_relay_limit_hold_t   *hold;
    ngx_smtp_relay_limit_node_t   *ln;
    ngx_smtp_relay_limit_zone_t   *zone;
    ngx_smtp_relay_limit_shctx_t  *sh;

    zone = check->zone;
    sh = zone->sh;

    hold = ngx_smtp_relay_limit_conn_alloc(check);

    if (hold == NULL) {
        sh->stat.full++;
        return ngx_smtp_relay_limit_conn_full(check);
    }

    if (check->node == NULL) {
        check->node = ngx_smtp_relay_limit_zone_add(check);

        if (check->node == NULL) {
            ngx_queue_insert_head(&sh->free, &hold->queue);
            return ngx_smtp_relay_limit_conn_full(check);
        }
    }

    ln = ngx_smtp_relay_limit_node(check->node);

    if (ln->u.conn++ == 0) {
        ngx_smtp_relay_limit_zone_keep(zone, check->node);
    }

    sh->stat.held++;

    hold->node = check->node;

    ngx_queue_insert_head(zone->worker ? &zone->worker->holds : &sh->orphans,
                          &hold->queue);

    check->hold = hold;
    check->fresh = 1;

    return NGX_OK;
}


static ngx_smtp_relay_limit_hold_t *
ngx_smtp_relay_limit_conn_alloc(ngx_smtp_relay_limit_check_t *check)
{
    ngx_queue_t                   *q;
    ngx_smtp_relay_limit_hold_t   *hold;
    ngx_smtp_relay_limit_shctx_t  *sh;

    sh = check->zone->sh;

    if (!ngx_queue_empty(&sh->free)) {
        q = ngx_queue_head(&sh->free);
        ngx_queue_remove(q);

        return ngx_queue_data(q, ngx_smtp_relay_limit_hold_t, queue);
    }

    hold = ngx_smtp_relay_limit_zone_alloc(check->zone,
                                         sizeof(ngx_smtp_relay_limit_hold_t));

    /* the entry, if it was idle, may have made room for it */

    check->node = ngx_smtp_relay_limit_zone_find(check);

    return hold;
}


static ngx_int_t
ngx_smtp_relay_limit_conn_full(ngx_smtp_relay_limit_check_t *check)
{
    check->full = 1;
    check->log = ngx_smtp_relay_limit_zone_log(check->zone, NULL);

    return check->zone->closed ? NGX_DECLINED : NGX_OK;
}


/* under the lock still: nobody has seen what is undone here */

static void
ngx_smtp_relay_limit_conn_settle(ngx_smtp_relay_limit_check_t *check,
    ngx_uint_t taken)
{
    if (taken) {

        if (check->fresh || check->full) {
            check->zone->sh->stat.passed++;
        }

    } else if (check->fresh) {
        ngx_smtp_relay_limit_conn_free(check->zone, check->hold);
        check->hold = NULL;
    }

    check->fresh = 0;
}


void
ngx_smtp_relay_limit_conn_give(ngx_smtp_relay_limit_zone_t *zone,
    ngx_smtp_relay_limit_hold_t *hold)
{
    ngx_smtp_relay_limit_lock(zone);

    ngx_smtp_relay_limit_conn_free(zone, hold);

    ngx_smtp_relay_limit_unlock(zone);
}


static void
ngx_smtp_relay_limit_conn_free(ngx_smtp_relay_limit_zone_t *zone,
    ngx_smtp_relay_limit_hold_t *hold)
{
    ngx_smtp_relay_limit_node_t   *ln;
    ngx_smtp_relay_limit_shctx_t  *sh;

    sh = zone->sh;
    ln = ngx_smtp_relay_limit_node(hold->node);

    ln->u.conn--;
    sh->stat.held--;

    if (ln->u.conn == 0) {
        ngx_smtp_relay_limit_zone_touch(zone, hold->node);
    }

    ngx_queue_remove(&hold->queue);
    ngx_queue_insert_head(&sh->free, &hold->queue);
}


/*
 * Gives back what dead workers hold; is there any?  Asking the system costs
 * time, under the lock: that is done once a second.
 */

static ngx_uint_t
ngx_smtp_relay_limit_conn_reap(ngx_smtp_relay_limit_zone_t *zone)
{
    uint32_t                        now;
    ngx_uint_t                      found;
    ngx_queue_t                    *q;
    ngx_smtp_relay_limit_shctx_t   *sh;
    ngx_smtp_relay_limit_worker_t  *worker;

    sh = zone->sh;
    now = (uint32_t) ngx_time();

    if (sh->reaped == now) {
        return 0;
    }

    sh->reaped = now;
    found = 0;

    for (q = ngx_queue_head(&sh->workers);
         q != ngx_queue_sentinel(&sh->workers);
         q = ngx_queue_next(q))
    {
        worker = ngx_queue_data(q, ngx_smtp_relay_limit_worker_t, queue);

        if (worker->slot.pid && worker->slot.pid != ngx_pid
            && ngx_smtp_relay_slot_dead(&worker->slot))
        {
            found |= ngx_smtp_relay_limit_conn_free_all(zone, worker);
            ngx_smtp_relay_slot_give(&worker->slot);
        }
    }

    return found;
}


static ngx_uint_t
ngx_smtp_relay_limit_conn_free_all(ngx_smtp_relay_limit_zone_t *zone,
    ngx_smtp_relay_limit_worker_t *worker)
{
    ngx_uint_t    n;
    ngx_queue_t  *q;

    for (n = 0; !ngx_queue_empty(&worker->holds); n++) {
        q = ngx_queue_head(&worker->holds);

        ngx_smtp_relay_limit_conn_free(zone,
                    ngx_queue_data(q, ngx_smtp_relay_limit_hold_t, queue));
    }

    if (n) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "%ui sessions of worker %P, which is gone, do not count "
                      "in zone \"%V\" any more",
                      n, worker->slot.pid, &zone->shm_zone->shm.name);
    }

    return (n != 0);
}


void
ngx_smtp_relay_limit_conn_start(ngx_smtp_relay_limit_zone_t *zone)
{
    ngx_smtp_relay_limit_shctx_t   *sh;
    ngx_smtp_relay_limit_worker_t  *worker;

    sh = zone->sh;

    ngx_smtp_relay_limit_lock(zone);

    sh->reaped = 0;
    (void) ngx_smtp_relay_limit_conn_reap(zone);

    worker = ngx_smtp_relay_limit_conn_worker(zone);

    if (worker == NULL) {
        worker = ngx_smtp_relay_limit_zone_alloc(zone,
                                      sizeof(ngx_smtp_relay_limit_worker_t));

        if (worker) {
            ngx_queue_init(&worker->holds);
            ngx_queue_insert_head(&sh->workers, &worker->queue);
        }
    }

    if (worker) {
        worker->slot.pid = ngx_pid;
        worker->slot.since = ngx_time();

    } else {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "zone \"%V\" is full: sessions of this worker count on "
                      "if it is killed", &zone->shm_zone->shm.name);
    }

    zone->worker = worker;

    ngx_smtp_relay_limit_unlock(zone);
}


/* the record of this process, or an unused one, or NULL */

static ngx_smtp_relay_limit_worker_t *
ngx_smtp_relay_limit_conn_worker(ngx_smtp_relay_limit_zone_t *zone)
{
    ngx_queue_t                    *q, *workers;
    ngx_smtp_relay_limit_worker_t  *worker, *unused;

    unused = NULL;
    workers = &zone->sh->workers;

    for (q = ngx_queue_head(workers);
         q != ngx_queue_sentinel(workers);
         q = ngx_queue_next(q))
    {
        worker = ngx_queue_data(q, ngx_smtp_relay_limit_worker_t, queue);

        if (worker->slot.pid == ngx_pid) {

            /*
             * left by another one that had this number; or, if there is but
             * one process, of this one before its configuration was reloaded
             */

            if (ngx_process != NGX_PROCESS_SINGLE) {
                (void) ngx_smtp_relay_limit_conn_free_all(zone, worker);
            }

            return worker;
        }

        if (worker->slot.pid == 0) {
            unused = worker;
        }
    }

    return unused;
}


void
ngx_smtp_relay_limit_conn_stop(ngx_smtp_relay_limit_zone_t *zone)
{
    if (zone->worker == NULL) {
        return;
    }

    ngx_smtp_relay_limit_lock(zone);

    (void) ngx_smtp_relay_limit_conn_free_all(zone, zone->worker);
    ngx_smtp_relay_slot_give(&zone->worker->slot);

    zone->worker = NULL;

    ngx_smtp_relay_limit_unlock(zone);
}
