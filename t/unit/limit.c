
/*
 * The arithmetic of rates: buckets and quotas, against the time that passes
 * and against models made another way.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_limit_bucket.h"
#include "unit.h"


#define LIMIT_NOW  123456789
#define LIMIT_DAY  1700000000 / 86400 * 86400   /* a midnight */


static uint64_t  limit_seed = 1;


static ngx_uint_t
limit_random(ngx_uint_t n)
{
    limit_seed = limit_seed * 6364136223846793005ULL + 1442695040888963407ULL;

    return (ngx_uint_t) (limit_seed >> 33) % n;
}


static ngx_smtp_relay_limit_rate_t
limit_rate(ngx_uint_t count, ngx_uint_t period, ngx_uint_t burst,
    ngx_uint_t delay)
{
    ngx_smtp_relay_limit_rate_t  rate;

    rate.rate.count = count;
    rate.rate.period = period;
    rate.burst = burst;
    rate.delay = delay;

    return rate;
}


/* all that is let through in a time when as much as possible is asked */

static void
limit_greedy(ngx_uint_t count, ngx_uint_t period, ngx_uint_t burst,
    ngx_msec_t time, ngx_msec_t step)
{
    ngx_msec_t                     now, wait, next;
    ngx_uint_t                     taken, wrong;
    ngx_smtp_relay_limit_rate_t    rate;
    ngx_smtp_relay_limit_bucket_t  b, before;

    memset(&b, 0, sizeof(b));
    rate = limit_rate(count, period, burst, NGX_SMTP_RELAY_LIMIT_MAX);

    taken = 0;
    wrong = 0;
    next = 0;

    for (now = LIMIT_NOW; now <= LIMIT_NOW + time; now += step) {

        for ( ;; ) {
            before = b;

            if (ngx_smtp_relay_limit_bucket_take(&b, &rate, now, 0, &wait)
                != NGX_OK)
            {
                break;
            }

            wrong += (wait != 0) + (now < next);
            taken++;
        }

        /* it is right about when the next one is let through */

        wrong += memcmp(&b, &before, sizeof(b)) != 0 || wait == 0;
        wrong += next > now && next != now + wait;
        next = now + wait;
    }

    unit_ok(taken == burst + 1 + (ngx_uint_t) ((uint64_t) time * count
                                               / (period * 1000))
            && wrong == 0,
            "%lu in %lu s, burst %lu: %lu in %lu ms, %lu wrong",
            (unsigned long) count, (unsigned long) period,
            (unsigned long) burst, (unsigned long) taken,
            (unsigned long) time, (unsigned long) wrong);
}


/* who is held back goes at the rate, and nobody waits too long */

static void
limit_delay(void)
{
    ngx_msec_t                     wait, last;
    ngx_uint_t                     i, wrong;
    ngx_smtp_relay_limit_rate_t    rate;
    ngx_smtp_relay_limit_bucket_t  b;

    memset(&b, 0, sizeof(b));
    rate = limit_rate(7, 60, 100, 0);
    wrong = 0;
    last = 0;

    for (i = 0; i <= 100; i++) {
        wrong += ngx_smtp_relay_limit_bucket_take(&b, &rate, LIMIT_NOW, 0,
                                                  &wait)
                 != NGX_OK;
        last = (i * 60000 + 6) / 7;
        wrong += (wait != last);
    }

    unit_ok(wrong == 0, "each of a burst waits for its time");

    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, LIMIT_NOW, 0, &wait)
            == NGX_DECLINED && wait == (60000 + 6) / 7,
            "beyond it: declined, for the time of one");

    memset(&b, 0, sizeof(b));
    rate = limit_rate(10, 1, 5, 2);
    wrong = 0;

    for (i = 0; i < 6; i++) {
        wrong += ngx_smtp_relay_limit_bucket_take(&b, &rate, LIMIT_NOW, 0,
                                                  &wait)
                 != NGX_OK;
        wrong += (wait != (i > 2 ? (i - 2) * 100 : 0));
    }

    unit_ok(wrong == 0, "with a delay= part of them waits, and less");
}


/*
 * What was given back while it would have been held back has never been
 * there; what is given back later is never too much.
 */

static void
limit_give(void)
{
    ngx_msec_t                     now, wait, end;
    ngx_uint_t                     i, j, n, at, back, wrong, exact;
    ngx_smtp_relay_limit_rate_t    rate;
    ngx_smtp_relay_limit_bucket_t  with, without, taken;

    wrong = 0;
    exact = 0;

    for (i = 0; i < 20000; i++) {
        memset(&with, 0, sizeof(with));
        memset(&without, 0, sizeof(without));
        memset(&taken, 0, sizeof(taken));

        rate = limit_rate(1 + limit_random(20), limit_random(2) ? 1 : 60,
                          1000, 0);
        now = LIMIT_NOW;
        end = 0;
        n = 2 + limit_random(12);
        at = limit_random(n);
        back = at + limit_random(n - at);

        for (j = 0; j < n; j++) {
            now += limit_random(3) ? limit_random(2 * rate.rate.period * 1000
                                                  / rate.rate.count)
                                   : 0;

            ngx_smtp_relay_limit_bucket_take(&with, &rate, now, 0, &wait);

            if (j == at) {
                taken = with;
                end = now + wait;

            } else {
                ngx_smtp_relay_limit_bucket_take(&without, &rate, now, 0,
                                                 &wait);
            }

            if (j == back) {
                now += limit_random(500);
                ngx_smtp_relay_limit_bucket_give(&with, &taken, &rate, now);
                end = (now < end);
            }
        }

        now += 1000;
        ngx_smtp_relay_limit_bucket_take(&with, &rate, now, 0, &wait);
        ngx_smtp_relay_limit_bucket_take(&without, &rate, now, 0, &wait);

        wrong += (with.level < without.level || with.last != without.last);

        if (end) {
            wrong += (with.level != without.level);
            exact++;
        }
    }

    unit_ok(wrong == 0 && exact > 1000 && exact < 19000,
            "given back: as if it had not been taken (%lu of 20000 wrong, "
            "%lu while held back)", (unsigned long) wrong,
            (unsigned long) exact);
}


/* theoretical arrival times, in fractions of a millisecond: another way */

static void
limit_model(void)
{
    uint64_t                       tat[4], t;
    ngx_int_t                      rc, expected;
    ngx_msec_t                     now, wait, skew;
    ngx_uint_t                     i, k, wrong, ok;
    ngx_smtp_relay_limit_rate_t    rate[4];
    ngx_smtp_relay_limit_bucket_t  b[4];

    rate[0] = limit_rate(3, 1, 0, 0);
    rate[1] = limit_rate(7, 60, 4, 2);
    rate[2] = limit_rate(1, 3600, 2, 0);
    rate[3] = limit_rate(1000, 3600, 50, 50);

    memset(b, 0, sizeof(b));
    memset(tat, 0, sizeof(tat));

    now = LIMIT_NOW;
    wrong = 0;
    ok = 0;

    for (i = 0; i < 200000; i++) {
        k = limit_random(4);

        if (limit_random(3) == 0) {
            now += limit_random(limit_random(50) ? 400 : 100000);
        }

        t = (uint64_t) now * rate[k].rate.count;

        if (tat[k] < t) {
            tat[k] = t;
        }

        expected = (tat[k] - t <= (uint64_t) rate[k].burst
                                  * rate[k].rate.period * 1000)
                   ? NGX_OK : NGX_DECLINED;

        if (expected == NGX_OK) {
            tat[k] += rate[k].rate.period * 1000;
            ok++;
        }

        /* some are asked by a worker with an old time, when it is new */

        skew = 0;

        if (b[k].last == now && limit_random(2)) {
            skew = limit_random(50);
        }

        rc = ngx_smtp_relay_limit_bucket_take(&b[k], &rate[k], now - skew, 0,
                                              &wait);
        wrong += (rc != expected);
    }

    unit_ok(wrong == 0 && ok > 1000 && ok < 190000,
            "200000 random questions: %lu accepted, %lu otherwise than by "
            "the model", (unsigned long) ok, (unsigned long) wrong);
}


static void
limit_quota(void)
{
    time_t                         sec;
    ngx_int_t                      rc;
    ngx_msec_t                     wait;
    ngx_uint_t                     i, taken, wrong;
    ngx_smtp_relay_limit_rate_t    rate;
    ngx_smtp_relay_limit_bucket_t  b, given;

    memset(&b, 0, sizeof(b));
    rate = limit_rate(50000, NGX_SMTP_RELAY_LIMIT_DAY, 0, 0);

    taken = 0;
    wrong = 0;

    for (i = 0; i < 200000; i++) {
        sec = LIMIT_DAY + i;
        rc = ngx_smtp_relay_limit_bucket_take(&b, &rate, i, sec, &wait);

        if (rc == NGX_OK) {
            taken++;
            wrong += (wait != 0 || i % 86400 >= 50000);
            continue;
        }

        wrong += (wait != (86400 - i % 86400) * 1000);
    }

    unit_ok(taken == 50000 + 50000 + 27200 && wrong == 0,
            "50000 a day, one asked each second for 200000 s: %lu",
            (unsigned long) taken);

    rate.rate.count = 2;
    memset(&b, 0, sizeof(b));

    sec = LIMIT_DAY + 86399;
    ngx_smtp_relay_limit_bucket_take(&b, &rate, 0, sec, &wait);
    ngx_smtp_relay_limit_bucket_take(&b, &rate, 0, sec, &wait);

    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, 0, sec, &wait)
            == NGX_DECLINED && wait == 1000, "a second before midnight");

    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, 0, sec + 1, &wait)
            == NGX_OK, "midnight");
    given = b;
    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, 0, sec, &wait)
            == NGX_OK, "a worker that has not seen it counts in the new day");
    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, 0, sec, &wait)
            == NGX_DECLINED && wait == 86401000, "and is told its end");

    ngx_smtp_relay_limit_bucket_give(&b, &given, &rate, 0);
    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, 0, sec + 9, &wait)
            == NGX_OK, "what was given back is there");
    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, 0, sec + 9, &wait)
            == NGX_DECLINED, "once");

    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, 0, sec + 86401,
                                             &wait)
            == NGX_OK, "the day after");
    ngx_smtp_relay_limit_bucket_give(&b, &given, &rate, 0);
    unit_ok(b.count == 1, "what was of another day is not given back");

    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, 0,
                                             sec - 10 * 86400, &wait)
            == NGX_OK && b.count == 1, "a clock that was set back");
}


static void
limit_idle(void)
{
    ngx_msec_t                     wait;
    ngx_smtp_relay_limit_rate_t    rate;
    ngx_smtp_relay_limit_bucket_t  b;

    memset(&b, 0, sizeof(b));

    unit_ok(ngx_smtp_relay_limit_bucket_idle(&b, LIMIT_NOW, LIMIT_DAY),
            "a new one is idle");

    rate = limit_rate(2, 60, 5, 0);
    ngx_smtp_relay_limit_bucket_take(&b, &rate, LIMIT_NOW, 0, &wait);
    ngx_smtp_relay_limit_bucket_take(&b, &rate, LIMIT_NOW, 0, &wait);

    unit_ok(!ngx_smtp_relay_limit_bucket_idle(&b, LIMIT_NOW + 59999, 0),
            "not while it runs off");
    unit_ok(!ngx_smtp_relay_limit_bucket_idle(&b, LIMIT_NOW - 10, 0),
            "nor for a worker with an old time");
    unit_ok(ngx_smtp_relay_limit_bucket_idle(&b, LIMIT_NOW + 60000, 0),
            "but then");

    rate = limit_rate(5, NGX_SMTP_RELAY_LIMIT_DAY, 0, 0);
    memset(&b, 0, sizeof(b));
    ngx_smtp_relay_limit_bucket_take(&b, &rate, LIMIT_NOW, LIMIT_DAY, &wait);

    unit_ok(!ngx_smtp_relay_limit_bucket_idle(&b, LIMIT_NOW,
                                              LIMIT_DAY + 86399)
            && !ngx_smtp_relay_limit_bucket_idle(&b, LIMIT_NOW,
                                                 LIMIT_DAY - 1),
            "a quota is not on its day");
    unit_ok(ngx_smtp_relay_limit_bucket_idle(&b, LIMIT_NOW,
                                             LIMIT_DAY + 86400),
            "but after it");
}


/* the largest numbers that can be configured */

static void
limit_bounds(void)
{
    ngx_msec_t                     wait;
    ngx_uint_t                     i, wrong;
    ngx_smtp_relay_limit_rate_t    rate;
    ngx_smtp_relay_limit_bucket_t  b;

    memset(&b, 0, sizeof(b));
    rate = limit_rate(NGX_SMTP_RELAY_LIMIT_MAX, 1, NGX_SMTP_RELAY_LIMIT_MAX,
                      0);
    wrong = 0;

    for (i = 0; i < 1000; i++) {
        wrong += ngx_smtp_relay_limit_bucket_take(&b, &rate, LIMIT_NOW, 0,
                                                  &wait)
                 != NGX_OK;
    }

    unit_ok(wrong == 0 && wait == 1
            && ngx_smtp_relay_limit_bucket_idle(&b, LIMIT_NOW + 1000000, 0),
            "the highest rate");

    memset(&b, 0, sizeof(b));
    rate = limit_rate(1, 3600, NGX_SMTP_RELAY_LIMIT_MAX, 0);
    b.level = (uint64_t) NGX_SMTP_RELAY_LIMIT_MAX * NGX_SMTP_RELAY_LIMIT_UNIT;
    b.last = LIMIT_NOW;

    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, LIMIT_NOW, 0, &wait)
            == NGX_OK
            && wait == (ngx_msec_t) NGX_SMTP_RELAY_LIMIT_MAX * 3600000,
            "the longest burst at the lowest rate");
    unit_ok(ngx_smtp_relay_limit_bucket_take(&b, &rate, LIMIT_NOW + 1, 0,
                                             &wait)
            == NGX_DECLINED && wait == 3599999, "and its end");
}


int
main(void)
{
    limit_greedy(1, 1, 0, 100000, 1);
    limit_greedy(7, 1, 3, 100000, 1);
    limit_greedy(1000, 1, 0, 3000, 1);
    limit_greedy(1, 60, 0, 3600000, 8);
    limit_greedy(7, 60, 5, 3600000, 1);
    limit_greedy(1, 3600, 0, 36000000, 1000);
    limit_greedy(1, 3600, 10, 36000000, 1000);
    limit_greedy(11, 3600, 2, 36000000, 1);

    limit_delay();
    limit_give();
    limit_model();
    limit_quota();
    limit_idle();
    limit_bounds();

    return unit_done();
}
