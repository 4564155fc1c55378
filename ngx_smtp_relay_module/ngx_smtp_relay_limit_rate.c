
/* Messages and recipients in a time. */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_limit_zone.h"


static ngx_int_t ngx_smtp_relay_limit_rate_check(
    ngx_smtp_relay_limit_check_t *check);
static ngx_int_t ngx_smtp_relay_limit_rate_full(
    ngx_smtp_relay_limit_check_t *check);
static void ngx_smtp_relay_limit_rate_account(
    ngx_smtp_relay_limit_check_t *checks, ngx_uint_t n, ngx_uint_t dry_run,
    ngx_smtp_relay_limit_check_t *by);


ngx_int_t
ngx_smtp_relay_limit_rate_take(ngx_smtp_relay_limit_check_t *checks,
    ngx_uint_t n, ngx_uint_t dry_run, ngx_smtp_relay_limit_check_t **by)
{
    ngx_int_t                      rc;
    ngx_uint_t                     i;
    ngx_smtp_relay_limit_stat_t   *stat;
    ngx_smtp_relay_limit_check_t  *worst;

    *by = NULL;
    worst = NULL;
    rc = NGX_OK;

    for (i = 0; i < n; i++) {
        ngx_smtp_relay_limit_lock(checks[i].zone);

        if (ngx_smtp_relay_limit_rate_check(&checks[i]) != NGX_OK) {

            /* what lasts longest is what the client has to know */

            if (rc == NGX_OK || checks[i].wait > worst->wait) {
                worst = &checks[i];
            }

            rc = NGX_DECLINED;

        } else if (rc == NGX_OK && checks[i].wait
                   && (worst == NULL || checks[i].wait > worst->wait))
        {
            worst = &checks[i];
        }
    }

    if (rc == NGX_OK) {
        ngx_smtp_relay_limit_rate_account(checks, n, dry_run, worst);

    } else {
        stat = &worst->zone->sh->stat;

        if (dry_run) {
            stat->dry_run_refused++;

        } else {
            stat->refused++;
        }
    }

    if (worst && !worst->full) {
        worst->log = (rc == NGX_OK)
                     ? ngx_smtp_relay_limit_zone_log_delay(worst->node)
                     : ngx_smtp_relay_limit_zone_log(worst->zone,
                                                     worst->node);
    }

    for (i = 0; i < n; i++) {
        ngx_smtp_relay_limit_unlock(checks[i].zone);
    }

    *by = worst;

    return rc;
}


/* NGX_OK: there is one for the key, checks->bucket without it */

static ngx_int_t
ngx_smtp_relay_limit_rate_check(ngx_smtp_relay_limit_check_t *check)
{
    ngx_rbtree_node_t  *node;

    check->wait = 0;
    check->taken = 0;
    check->full = 0;
    check->log = 0;

    node = ngx_smtp_relay_limit_zone_find(check);

    if (node) {
        ngx_smtp_relay_limit_zone_touch(check->zone, node);

    } else {
        node = ngx_smtp_relay_limit_zone_add(check);

        if (node == NULL) {
            return ngx_smtp_relay_limit_rate_full(check);
        }
    }

    check->node = node;
    check->bucket = ngx_smtp_relay_limit_node(node)->u.bucket;

    return ngx_smtp_relay_limit_bucket_take(&check->bucket, &check->rate,
                                            ngx_current_msec, ngx_time(),
                                            &check->wait);
}


static ngx_int_t
ngx_smtp_relay_limit_rate_full(ngx_smtp_relay_limit_check_t *check)
{
    check->node = NULL;
    check->full = 1;
    check->log = ngx_smtp_relay_limit_zone_log(check->zone, NULL);

    return check->zone->closed ? NGX_DECLINED : NGX_OK;
}


static void
ngx_smtp_relay_limit_rate_account(ngx_smtp_relay_limit_check_t *checks,
    ngx_uint_t n, ngx_uint_t dry_run, ngx_smtp_relay_limit_check_t *by)
{
    ngx_uint_t                    i;
    ngx_smtp_relay_limit_stat_t  *stat;

    for (i = 0; i < n; i++) {
        stat = &checks[i].zone->sh->stat;

        if (checks[i].full) {
            stat->passed++;
            continue;
        }

        ngx_smtp_relay_limit_node(checks[i].node)->u.bucket = checks[i].bucket;
        checks[i].taken = 1;

        if (&checks[i] != by) {
            stat->passed++;

        } else if (dry_run) {
            stat->dry_run_delayed++;

        } else {
            stat->delayed++;
        }
    }
}


void
ngx_smtp_relay_limit_rate_give(ngx_smtp_relay_limit_check_t *checks,
    ngx_uint_t n)
{
    ngx_uint_t                    i;
    ngx_rbtree_node_t            *node;
    ngx_smtp_relay_limit_node_t  *ln;

    for (i = 0; i < n; i++) {

        if (!checks[i].taken) {
            continue;
        }

        checks[i].taken = 0;

        ngx_smtp_relay_limit_lock(checks[i].zone);

        /* the entry may have become idle, and gone */

        node = ngx_smtp_relay_limit_zone_find(&checks[i]);

        if (node) {
            ln = ngx_smtp_relay_limit_node(node);

            ngx_smtp_relay_limit_bucket_give(&ln->u.bucket, &checks[i].bucket,
                                             &checks[i].rate,
                                             ngx_current_msec);
        }

        ngx_smtp_relay_limit_unlock(checks[i].zone);
    }
}
