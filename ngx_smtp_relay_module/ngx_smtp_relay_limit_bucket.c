
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_limit_bucket.h"


/* workers read the clock at different times, if not by as much as that */

#define NGX_SMTP_RELAY_LIMIT_SKEW  60000


static ngx_int_t ngx_smtp_relay_limit_bucket_quota(
    ngx_smtp_relay_limit_bucket_t *b, ngx_smtp_relay_rate_t *rate,
    time_t sec, ngx_msec_t *wait);
static uint64_t ngx_smtp_relay_limit_bucket_drain(
    ngx_smtp_relay_rate_t *rate);
static uint64_t ngx_smtp_relay_limit_bucket_rest(
    ngx_smtp_relay_limit_bucket_t *b, uint64_t drain, ngx_msec_t now);
static void ngx_smtp_relay_limit_bucket_touch(
    ngx_smtp_relay_limit_bucket_t *b, ngx_msec_t now);


ngx_int_t
ngx_smtp_relay_limit_bucket_take(ngx_smtp_relay_limit_bucket_t *b,
    ngx_smtp_relay_limit_rate_t *rate, ngx_msec_t now, time_t sec,
    ngx_msec_t *wait)
{
    uint64_t  drain, level, free;

    if (ngx_smtp_relay_limit_is_quota(&rate->rate)) {
        return ngx_smtp_relay_limit_bucket_quota(b, &rate->rate, sec, wait);
    }

    drain = ngx_smtp_relay_limit_bucket_drain(&rate->rate);
    level = ngx_smtp_relay_limit_bucket_rest(b, drain, now);

    free = (uint64_t) rate->burst * NGX_SMTP_RELAY_LIMIT_UNIT;

    if (level > free) {
        *wait = (ngx_msec_t) ((level - free + drain - 1) / drain);
        return NGX_DECLINED;
    }

    ngx_smtp_relay_limit_bucket_touch(b, now);

    b->level = level + NGX_SMTP_RELAY_LIMIT_UNIT;
    b->drain = (uint32_t) ngx_min(drain, (uint32_t) -1);

    free = (uint64_t) rate->delay * NGX_SMTP_RELAY_LIMIT_UNIT;

    *wait = (level > free)
            ? (ngx_msec_t) ((level - free + drain - 1) / drain) : 0;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_limit_bucket_quota(ngx_smtp_relay_limit_bucket_t *b,
    ngx_smtp_relay_rate_t *rate, time_t sec, ngx_msec_t *wait)
{
    uint32_t  day, count;

    day = (uint32_t) (sec / NGX_SMTP_RELAY_LIMIT_DAY);
    count = b->count;

    if (day + 1 == b->day) {

        /* another worker has seen midnight already */

        day = b->day;
    }

    if (day != b->day) {
        count = 0;
    }

    if (count >= rate->count) {
        *wait = (ngx_msec_t) (((time_t) day + 1) * NGX_SMTP_RELAY_LIMIT_DAY
                              - sec)
                * 1000;
        return NGX_DECLINED;
    }

    b->day = day;
    b->count = count + 1;

    *wait = 0;

    return NGX_OK;
}


/* units that run off in a millisecond */

static uint64_t
ngx_smtp_relay_limit_bucket_drain(ngx_smtp_relay_rate_t *rate)
{
    return (uint64_t) rate->count
           * (NGX_SMTP_RELAY_LIMIT_UNIT / 1000 / rate->period);
}


/* the level now */

static uint64_t
ngx_smtp_relay_limit_bucket_rest(ngx_smtp_relay_limit_bucket_t *b,
    uint64_t drain, ngx_msec_t now)
{
    ngx_msec_int_t  ms;

    ms = (ngx_msec_int_t) (now - b->last);

    if (ms <= 0) {
        return b->level;
    }

    if ((uint64_t) ms > b->level / drain) {
        return 0;
    }

    return b->level - (uint64_t) ms * drain;
}


static void
ngx_smtp_relay_limit_bucket_touch(ngx_smtp_relay_limit_bucket_t *b,
    ngx_msec_t now)
{
    ngx_msec_int_t  ms;

    ms = (ngx_msec_int_t) (now - b->last);

    if (ms > 0 || ms < -NGX_SMTP_RELAY_LIMIT_SKEW) {
        b->last = now;
    }
}


void
ngx_smtp_relay_limit_bucket_give(ngx_smtp_relay_limit_bucket_t *b,
    ngx_smtp_relay_limit_bucket_t *taken, ngx_smtp_relay_limit_rate_t *rate,
    ngx_msec_t now)
{
    uint64_t  drain, rest, level;

    if (ngx_smtp_relay_limit_is_quota(&rate->rate)) {

        if (b->day == taken->day && b->count) {
            b->count--;
        }

        return;
    }

    drain = ngx_smtp_relay_limit_bucket_drain(&rate->rate);

    /* it was on top, so what lay under it has run off first */

    rest = ngx_smtp_relay_limit_bucket_rest(taken, drain, now);
    rest = ngx_min(rest, NGX_SMTP_RELAY_LIMIT_UNIT);

    level = ngx_smtp_relay_limit_bucket_rest(b, drain, now);

    ngx_smtp_relay_limit_bucket_touch(b, now);

    b->level = level - ngx_min(level, rest);
}


ngx_uint_t
ngx_smtp_relay_limit_bucket_idle(ngx_smtp_relay_limit_bucket_t *b,
    ngx_msec_t now, time_t sec)
{
    uint32_t  day;

    day = (uint32_t) (sec / NGX_SMTP_RELAY_LIMIT_DAY);

    if (b->count && (b->day == day || b->day == day + 1)) {
        return 0;
    }

    return (b->level == 0
            || ngx_smtp_relay_limit_bucket_rest(b, b->drain, now) == 0);
}
