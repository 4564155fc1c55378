
/* What limits tell: the log, and the texts of replies. */


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_limit.h"


static void ngx_smtp_relay_limit_log_rate(ngx_smtp_relay_session_t *ss,
    ngx_int_t rc, ngx_smtp_relay_limit_check_t *by);


/* indexed by ngx_smtp_relay_limit_kind_e */

static ngx_str_t  ngx_smtp_relay_limit_things[] = {
    ngx_string("connections"),
    ngx_string("messages"),
    ngx_string("recipients")
};


u_char *
ngx_smtp_relay_limit_text(u_char *buf, ngx_smtp_relay_limit_check_t *by)
{
    u_char                 *p, *last;
    ngx_tm_t                tm;
    ngx_str_t              *thing;
    ngx_smtp_relay_rate_t  *rate;

    p = buf;
    last = buf + NGX_SMTP_RELAY_LIMIT_TEXT_LEN;

    thing = &ngx_smtp_relay_limit_things[by->zone->kind];
    rate = &by->rate.rate;

    if (by->full) {
        p = ngx_slprintf(p, last, "450 4.7.1 Too many senders, "
                         "try again later" CRLF);

    } else if (ngx_smtp_relay_limit_is_quota(rate)) {
        ngx_gmtime(ngx_time() + (time_t) (by->wait / 1000), &tm);

        p = ngx_slprintf(p, last, "452 4.7.1 Too many %V, the limit is %ui "
                         "per day, try again after "
                         "%4d-%02d-%02d %02d:%02d:%02d UTC" CRLF,
                         thing, rate->count,
                         tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                         tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);

    } else {
        p = ngx_slprintf(p, last, "450 4.7.1 Too many %V, the limit is %ui "
                         "per %s, try again in %M s" CRLF,
                         thing, rate->count,
                         rate->period == 1 ? "second"
                         : rate->period == 60 ? "minute" : "hour",
                         (by->wait + 999) / 1000);
    }

    return p;
}


void
ngx_smtp_relay_limit_log(ngx_smtp_relay_session_t *ss, ngx_int_t rc,
    ngx_smtp_relay_limit_check_t *by)
{
    ngx_smtp_relay_limit_srv_conf_t  *lscf;

    lscf = ss->limits->conf;

    if (!by->log) {
        return;
    }

    if (by->full) {
        ngx_log_error(lscf->log_level, ss->connection->log, 0,
                      "limiting %V%s, zone \"%V\" is full",
                      &ngx_smtp_relay_limit_things[by->zone->kind],
                      lscf->dry_run ? ", dry run" : "",
                      &by->zone->shm_zone->shm.name);
        return;
    }

    if (by->zone->kind == NGX_SMTP_RELAY_LIMIT_CONN) {
        ngx_log_error(lscf->log_level, ss->connection->log, 0,
                      "limiting connections%s by zone \"%V\", limit: %ui",
                      lscf->dry_run ? ", dry run," : "",
                      &by->zone->shm_zone->shm.name, by->max);
        return;
    }

    ngx_smtp_relay_limit_log_rate(ss, rc, by);
}


static void
ngx_smtp_relay_limit_log_rate(ngx_smtp_relay_session_t *ss, ngx_int_t rc,
    ngx_smtp_relay_limit_check_t *by)
{
    char                              unit;
    ngx_smtp_relay_rate_t            *rate;
    ngx_smtp_relay_limit_srv_conf_t  *lscf;

    lscf = ss->limits->conf;
    rate = &by->rate.rate;

    unit = (rate->period == 1) ? 's' : (rate->period == 60) ? 'm'
           : (rate->period == 3600) ? 'h' : 'd';

    ngx_log_error((rc == NGX_OK) ? lscf->delay_log_level : lscf->log_level,
                  ss->connection->log, 0,
                  "%s %V%s by zone \"%V\", limit: %uir/%c, wait: %M ms",
                  (rc == NGX_OK) ? "delaying" : "limiting",
                  &ngx_smtp_relay_limit_things[by->zone->kind],
                  lscf->dry_run ? ", dry run," : "",
                  &by->zone->shm_zone->shm.name, rate->count, unit,
                  by->wait);
}


void
ngx_smtp_relay_limit_log_full(ngx_smtp_relay_session_t *ss,
    ngx_smtp_relay_limit_checks_t *checks)
{
    ngx_uint_t                     i;
    ngx_smtp_relay_limit_check_t  *check;

    check = checks->checks;

    for (i = 0; i < checks->n; i++) {

        if (check[i].full && check[i].log && !check[i].zone->closed) {
            ngx_log_error(NGX_LOG_ERR, ss->connection->log, 0,
                          "zone \"%V\" is full, %V are not limited by it",
                          &check[i].zone->shm_zone->shm.name,
                          &ngx_smtp_relay_limit_things[check[i].zone->kind]);
        }
    }
}
