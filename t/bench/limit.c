
/*
 * What a question to the zones of limits costs: 1 and 4 zones with 1000 and
 * 1,000,000 keys each, of which some are asked again and again, or all in
 * random order, so that memory has to be waited for.  One process, so that
 * nobody else has the locks.  Prints nanoseconds for all zones together.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_limit_zone.h"


#define LIMIT_ZONES    4
#define LIMIT_SECONDS  0.5


static void limit_zone(ngx_uint_t i, size_t size);
static ngx_uint_t limit_ask(ngx_uint_t zones, ngx_uint_t key);
static double limit_now(void);


ngx_pid_t                           ngx_pid = 1;
ngx_uint_t                          ngx_process = NGX_PROCESS_WORKER;
ngx_int_t                           ngx_ncpu = 1;
volatile ngx_msec_t                 ngx_current_msec = 1000000;
volatile ngx_time_t                *ngx_cached_time;

static ngx_time_t                   limit_time;
static ngx_log_t                    limit_log;
static ngx_cycle_t                  limit_cycle;
static ngx_shm_zone_t               limit_shm[LIMIT_ZONES];
static ngx_smtp_relay_limit_zone_t  limit_of[LIMIT_ZONES];


void
ngx_debug_point(void)
{
    /* void */
}


/* locks that nobody else wants, at the price of such */

void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    while (!ngx_atomic_cmp_set((ngx_atomic_t *) mtx->lock, 0, ngx_pid)) {
        /* void */
    }
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    (void) ngx_atomic_cmp_set((ngx_atomic_t *) mtx->lock, ngx_pid, 0);
}


ngx_uint_t
ngx_smtp_relay_slot_dead(ngx_smtp_relay_slot_t *slot)
{
    return 0;
}


void
ngx_smtp_relay_slot_give(ngx_smtp_relay_slot_t *slot)
{
    /* void */
}


int
main(void)
{
    double      start, time;
    ngx_uint_t  i, k, n, keys, zones, hot, seed, full;

    static ngx_uint_t  numbers[] = { 1000, 1000000 };

    ngx_cached_time = &limit_time;
    ngx_cycle = &limit_cycle;
    limit_cycle.log = &limit_log;
    limit_time.sec = 1700000000;
    ngx_pagesize = getpagesize();

    for (n = ngx_pagesize; n >>= 1; ngx_pagesize_shift++) { /* void */ }

    ngx_slab_sizes_init();

    printf("%9s %6s %10s %8s\n", "keys", "zones", "asked", "ns");

    for (k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
        keys = numbers[k];
        full = 0;

        for (i = 0; i < LIMIT_ZONES; i++) {
            limit_zone(i, keys * 160 + 1024 * 1024);
        }

        for (i = 0; i < keys; i++) {
            full += limit_ask(LIMIT_ZONES, i);
        }

        if (full || limit_of[0].sh->stat.entries != keys) {
            fprintf(stderr, "%lu keys do not fit in\n", (unsigned long) keys);
            return 1;
        }

        for (zones = 1; zones <= LIMIT_ZONES; zones += 3) {

            for (hot = 0; hot < 2; hot++) {
                seed = 1;
                n = 0;
                start = limit_now();

                do {
                    for (i = 0; i < 1000; i++) {
                        seed = seed * 1664525 + 1013904223;
                        limit_ask(zones, (seed >> 8) % (hot ? 50 : keys));
                    }

                    n += 1000;
                    time = limit_now() - start;

                } while (time < LIMIT_SECONDS);

                printf("%9lu %6lu %10s %8.0f\n", (unsigned long) keys,
                       (unsigned long) zones, hot ? "50 of them" : "all",
                       time / n * 1e9);
            }
        }
    }

    return 0;
}


static void
limit_zone(ngx_uint_t i, size_t size)
{
    ngx_shm_zone_t   *zone;
    ngx_slab_pool_t  *pool;

    zone = &limit_shm[i];

    if (zone->shm.addr) {
        munmap(zone->shm.addr, zone->shm.size);
    }

    size = size / ngx_pagesize * ngx_pagesize;

    zone->shm.addr = mmap(NULL, size, PROT_READ|PROT_WRITE,
                          MAP_ANON|MAP_SHARED, -1, 0);

    if (zone->shm.addr == MAP_FAILED) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }

    zone->shm.size = size;
    zone->shm.log = &limit_log;
    zone->data = &limit_of[i];

    pool = (ngx_slab_pool_t *) zone->shm.addr;
    pool->end = zone->shm.addr + size;
    pool->min_shift = 3;
    pool->addr = zone->shm.addr;

    ngx_slab_init(pool);
    pool->mutex.lock = (ngx_atomic_t *) &pool->lock;

    limit_of[i].shm_zone = zone;
    limit_of[i].kind = NGX_SMTP_RELAY_LIMIT_MSG;

    if (ngx_smtp_relay_limit_zone_init(zone, NULL) != NGX_OK) {
        fprintf(stderr, "no zone\n");
        exit(1);
    }
}


/* all that is done for a message besides evaluating its keys */

static ngx_uint_t
limit_ask(ngx_uint_t zones, ngx_uint_t key)
{
    ngx_str_t                      text;
    ngx_uint_t                     i, full;
    ngx_smtp_relay_limit_check_t   checks[LIMIT_ZONES], *by;
    u_char                         buf[16];

    /* a name such as accounts have */

    for (i = 0; i < 16; i++) {
        buf[i] = 'a' + ((key >> (i % 8 * 4)) & 15);
    }

    text.len = 16;
    text.data = buf;

    for (i = 0; i < zones; i++) {
        ngx_memzero(&checks[i], sizeof(ngx_smtp_relay_limit_check_t));

        checks[i].zone = &limit_of[i];
        checks[i].rate.rate.count = 1;
        checks[i].rate.rate.period = 3600;
        checks[i].rate.burst = NGX_SMTP_RELAY_LIMIT_MAX;
        checks[i].rate.delay = NGX_SMTP_RELAY_LIMIT_MAX;

        (void) ngx_smtp_relay_limit_zone_key(&checks[i], &text, NULL);
    }

    (void) ngx_smtp_relay_limit_rate_take(checks, zones, 0, &by);

    full = 0;

    for (i = 0; i < zones; i++) {
        full += checks[i].full;
    }

    return full;
}


static double
limit_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}
