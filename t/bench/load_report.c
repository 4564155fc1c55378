
/* What is told at the end, and what is wrong on the way. */


#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "load.h"


static uint64_t histogram_get(load_histogram_t *h, double part);
static void results_write(void);


void
trouble(const char *fmt, ...)
{
    va_list  args;

    if (nerrors++ >= 20) {
        return;
    }

    fputs("load: ", stderr);

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);

    fputc('\n', stderr);
}


/* 32 buckets for each power of two: within 3 % */

void
histogram_add(load_histogram_t *h, uint64_t usec)
{
    unsigned  power;

    if (usec > h->max) {
        h->max = usec;
    }

    for (power = 0; usec >> power >= 64; power++) {
        /* void */
    }

    h->count[power * 32 + (usec >> power)]++;
    h->total++;
}


static uint64_t
histogram_get(load_histogram_t *h, double part)
{
    unsigned  i, power;
    uint64_t  n, rank;

    rank = h->total * part;
    n = 0;

    for (i = 0; i < BUCKETS; i++) {
        n += h->count[i];

        if (n > rank) {
            power = (i < 64) ? 0 : i / 32 - 1;
            return (uint64_t) (i - power * 32) << power;
        }
    }

    return h->max;
}


int
summary(void)
{
    double         seconds;
    unsigned long  missing;

    if (ended == 0) {
        ended = bench_usec();
    }

    seconds = (ended - started) / 1e6;
    missing = messages - accepted - refused - lost - aborted;

    printf("load run=%016llx messages=%lu accepted=%lu refused=%lu lost=%lu"
           " aborted=%lu missing=%lu sessions=%lu logins=%lu errors=%lu"
           " seconds=%.3f rate=%.1f",
           (unsigned long long) run, messages, accepted, refused, lost,
           aborted, missing, opened, nlogins, nerrors, seconds,
           accepted / (seconds > 0 ? seconds : 1));

    printf(" p50=%llu p99=%llu max=%llu login_p50=%llu login_p99=%llu\n",
           (unsigned long long) histogram_get(&message_times, 0.5),
           (unsigned long long) histogram_get(&message_times, 0.99),
           (unsigned long long) message_times.max,
           (unsigned long long) histogram_get(&login_times, 0.5),
           (unsigned long long) histogram_get(&login_times, 0.99));

    results_write();

    if (keep_going) {
        return missing ? 1 : 0;
    }

    return (nerrors || accepted != messages
            || (messages == 0 && nlogins != sessions)) ? 1 : 0;
}


/*
 * An octet for each message: a(ccepted), r(efused), l(ost: sent, no reply),
 * x (not sent to its end), - (not begun).
 */

static void
results_write(void)
{
    FILE  *f;

    if (results_path == NULL) {
        return;
    }

    f = fopen(results_path, "w");

    if (f == NULL || fwrite(results, 1, messages, f) != messages
        || fclose(f) != 0)
    {
        bench_die("cannot write \"%s\"", results_path);
    }
}
