
/*
 * The arithmetic of rates: how much a key has taken, and when it may take
 * more.  Numbers in, numbers out: no shared memory, no clock.
 *
 * A rate by the second, minute or hour is a leaky bucket.  It is counted in
 * units that are small enough for each of them to run off evenly: the level
 * is exact whatever the rate, and keeps its meaning when the rate changes.
 *
 * A rate by the day is a quota: a window from midnight to midnight UTC.  One
 * number and the day are all that has to be kept, the count is exact, and a
 * client can be told a time when all of it is there again; with a window
 * that slides neither holds.  The price is that two days' worth can be taken
 * around a midnight, which a limit by the hour beside it prevents.
 */


#ifndef _NGX_SMTP_RELAY_LIMIT_BUCKET_H_INCLUDED_
#define _NGX_SMTP_RELAY_LIMIT_BUCKET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_plan.h"


/* units in a bucket for each message or recipient */

#define NGX_SMTP_RELAY_LIMIT_UNIT  3600000

#define NGX_SMTP_RELAY_LIMIT_DAY   86400

/* the largest burst; rates have the same bound */

#define NGX_SMTP_RELAY_LIMIT_MAX   1000000000


/* zeroed: nothing taken */

typedef struct {
    uint64_t                        level;   /* units, at the time of last */
    ngx_msec_t                      last;
    uint32_t                        drain;   /* units that run off in 1 ms */
    uint32_t                        count;   /* taken in the day */
    uint32_t                        day;     /* since the epoch */
} ngx_smtp_relay_limit_bucket_t;


typedef struct {
    ngx_smtp_relay_rate_t           rate;
    ngx_uint_t                      burst;   /* that may be ahead of it */
    ngx_uint_t                      delay;   /* of these, not held back */
} ngx_smtp_relay_limit_rate_t;


#define ngx_smtp_relay_limit_is_quota(rate)                                   \
    ((rate)->period == NGX_SMTP_RELAY_LIMIT_DAY)


/*
 * Takes one out of *b.  now is of ngx_current_msec, sec of the wall clock.
 *
 *     NGX_OK        taken; *wait: it is to be held back so long, or 0
 *     NGX_DECLINED  not taken, *b is as before; *wait: when to try again
 */
ngx_int_t ngx_smtp_relay_limit_bucket_take(ngx_smtp_relay_limit_bucket_t *b,
    ngx_smtp_relay_limit_rate_t *rate, ngx_msec_t now, time_t sec,
    ngx_msec_t *wait);

/*
 * Gives back what was taken and is not used after all; taken is *b as it was
 * after _take().  While it was to be held back, *b becomes what it were had
 * there been no such taking; later, what has run off of it stays taken.
 */
void ngx_smtp_relay_limit_bucket_give(ngx_smtp_relay_limit_bucket_t *b,
    ngx_smtp_relay_limit_bucket_t *taken, ngx_smtp_relay_limit_rate_t *rate,
    ngx_msec_t now);

/* Whether *b is worth no more than a new one. */
ngx_uint_t ngx_smtp_relay_limit_bucket_idle(ngx_smtp_relay_limit_bucket_t *b,
    ngx_msec_t now, time_t sec);


#endif /* _NGX_SMTP_RELAY_LIMIT_BUCKET_H_INCLUDED_ */
