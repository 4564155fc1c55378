
/*
 * The shared memory of the cache: looks and ends, what makes room for what,
 * services that are down, purges.  Time is what a test says.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <sys/wait.h>
#include "ngx_smtp_relay_auth_cache_zone.h"
#include "unit.h"


#define CACHE_PAGES    16
#define CACHE_SERVICE  7


static void cache_create(void);
static ngx_smtp_relay_cache_op_t *cache_op(ngx_uint_t n);
static ngx_smtp_relay_cache_answer_e cache_look(
    ngx_smtp_relay_cache_op_t *op);
static ngx_smtp_relay_cache_answer_e cache_end(ngx_smtp_relay_cache_op_t *op,
    ngx_smtp_relay_cache_outcome_e outcome);
static void cache_keep(ngx_uint_t n, ngx_uint_t ok, size_t len);
static ngx_uint_t cache_has(ngx_uint_t n);
static u_char cache_octet(ngx_uint_t n, size_t i);
static void cache_verdicts(void);
static void cache_flights(void);
static void cache_lost(void);
static void cache_full(void);
static void cache_sizes(void);
static void cache_services(void);
static void cache_purges(void);
static void cache_random(void);


/* what the zone needs of nginx */

ngx_pid_t                            ngx_pid;
ngx_uint_t                           ngx_pagesize_shift = 12;

static ngx_slab_pool_t               cache_pool;
static ngx_smtp_relay_cache_t        cache;
static ngx_msec_t                    cache_now;
static void                         *cache_memory[2];
static ngx_uint_t                    cache_locked;
static u_char                        cache_data[NGX_SMTP_RELAY_CACHE_DATA_LEN];


void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    if (cache_locked++) {
        abort();
    }
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    if (--cache_locked) {
        abort();
    }
}


void *
ngx_slab_alloc(ngx_slab_pool_t *pool, size_t size)
{
    cache_memory[1] = malloc(size);

    if (cache_memory[1]) {
        memset(cache_memory[1], 0xa5, size);
    }

    return cache_memory[1];
}


void *
ngx_slab_calloc(ngx_slab_pool_t *pool, size_t size)
{
    cache_memory[0] = calloc(1, size);

    return cache_memory[0];
}


int
main(void)
{
    ngx_pid = getpid();

    cache_verdicts();
    cache_flights();
    cache_lost();
    cache_full();
    cache_sizes();
    cache_services();
    cache_purges();
    cache_random();

    free(cache_memory[0]);
    free(cache_memory[1]);

    return unit_done();
}


/* a new zone; time goes on from a moment before it wraps */

static void
cache_create(void)
{
    free(cache_memory[0]);
    free(cache_memory[1]);

    ngx_memzero(&cache, sizeof(ngx_smtp_relay_cache_t));

    cache.shpool = &cache_pool;
    cache_pool.pfree = CACHE_PAGES;
    cache_now = (ngx_msec_t) -5000;

    if (ngx_smtp_relay_cache_format(&cache) != NGX_OK) {
        abort();
    }
}


/* one who wants to know about key n: valid until the 16th next call */

static ngx_smtp_relay_cache_op_t *
cache_op(ngx_uint_t n)
{
    ngx_smtp_relay_cache_op_t         *op;

    static ngx_uint_t                  next;
    static u_char                      keys[16][NGX_SMTP_RELAY_CACHE_KEY_LEN];
    static ngx_smtp_relay_cache_op_t   ops[16];

    next = (next + 1) % 16;
    op = &ops[next];

    ngx_memzero(op, sizeof(ngx_smtp_relay_cache_op_t));
    ngx_memzero(keys[next], NGX_SMTP_RELAY_CACHE_KEY_LEN);

    /* with collisions in the hash table */

    keys[next][0] = n % 7;
    ngx_memcpy(&keys[next][8], &n, sizeof(ngx_uint_t));

    op->key = keys[next];
    op->service = CACHE_SERVICE;
    op->timeout = 10000;

    return op;
}


static ngx_smtp_relay_cache_answer_e
cache_look(ngx_smtp_relay_cache_op_t *op)
{
    op->now = cache_now;

    return ngx_smtp_relay_cache_look(&cache, op);
}


static ngx_smtp_relay_cache_answer_e
cache_end(ngx_smtp_relay_cache_op_t *op,
    ngx_smtp_relay_cache_outcome_e outcome)
{
    size_t      i;
    ngx_uint_t  n;

    op->now = cache_now;

    if (outcome == NGX_SMTP_RELAY_CACHE_KEEP) {
        ngx_memcpy(&n, &op->key[8], sizeof(ngx_uint_t));

        op->data = cache_data;

        for (i = 0; i < op->len; i++) {
            cache_data[i] = cache_octet(n, i);
        }
    }

    return ngx_smtp_relay_cache_end(&cache, op, outcome);
}


/* a verdict of len octets, valid for 10 seconds, then stale for 20 */

static void
cache_keep(ngx_uint_t n, ngx_uint_t ok, size_t len)
{
    ngx_smtp_relay_cache_op_t  *op;

    op = cache_op(n);

    if (cache_look(op) == NGX_SMTP_RELAY_CACHE_HIT) {
        return;
    }

    op->ok = ok;
    op->len = len;
    op->valid = 10000;
    op->stale = ok ? 20000 : 0;
    op->account = n % 3;

    (void) cache_end(op, NGX_SMTP_RELAY_CACHE_KEEP);
}


/* whether a verdict is there, as it was kept */

static ngx_uint_t
cache_has(ngx_uint_t n)
{
    size_t                          i;
    ngx_smtp_relay_cache_op_t      *op;
    ngx_smtp_relay_cache_answer_e   answer;

    op = cache_op(n);
    answer = cache_look(op);

    if (answer == NGX_SMTP_RELAY_CACHE_ASK) {
        (void) cache_end(op, NGX_SMTP_RELAY_CACHE_CANCELED);
    }

    if (answer != NGX_SMTP_RELAY_CACHE_HIT) {
        return 0;
    }

    for (i = 0; i < op->len; i++) {
        if (op->data[i] != cache_octet(n, i)) {
            return 0;
        }
    }

    return 1;
}


static u_char
cache_octet(ngx_uint_t n, size_t i)
{
    return (u_char) (n * 31 + i * 7 + i / 100);
}


static void
cache_verdicts(void)
{
    ngx_smtp_relay_cache_op_t     *op;
    ngx_smtp_relay_cache_stats_t   stats;

    cache_create();

    op = cache_op(1);
    unit_ok(cache_look(op) == NGX_SMTP_RELAY_CACHE_ASK, "nothing: ask");

    op->ok = 1;
    op->len = 300;
    op->valid = 10000;
    op->stale = 20000;
    cache_end(op, NGX_SMTP_RELAY_CACHE_KEEP);

    unit_ok(cache_has(1), "a verdict is found");
    unit_ok(!cache_has(2), "not by another key");

    cache_now += 9999;
    unit_ok(cache_has(1), "as long as it is valid");

    cache_now += 1;
    unit_ok(!cache_has(1), "and no longer");

    op = cache_op(1);
    unit_ok(cache_look(op) == NGX_SMTP_RELAY_CACHE_ASK, "it is asked for");
    unit_ok(cache_end(op, NGX_SMTP_RELAY_CACHE_FAILURE)
            == NGX_SMTP_RELAY_CACHE_STALE
            && op->len == 300 && op->data[5] == cache_octet(1, 5),
            "a failure: it is stale");

    op = cache_op(1);
    cache_now += 1500;
    unit_ok(cache_look(op) == NGX_SMTP_RELAY_CACHE_ASK, "asked for again");
    op->ok = 0;
    op->len = 10;
    op->valid = op->stale = 0;
    cache_end(op, NGX_SMTP_RELAY_CACHE_KEEP);
    unit_ok(!cache_has(1), "a denial that is not kept takes its place");

    op = cache_op(1);
    (void) cache_look(op);
    unit_ok(cache_end(op, NGX_SMTP_RELAY_CACHE_FAILURE)
            == NGX_SMTP_RELAY_CACHE_FAILED, "it is no stale verdict");

    ngx_smtp_relay_cache_stats(&cache, &stats);
    unit_ok(stats.hits == 2 && stats.stores == 2 && stats.stale == 1
            && stats.entries == 1 && stats.evictions == 0, "it is counted");
}


static void
cache_flights(void)
{
    ngx_smtp_relay_cache_op_t  *asks, *waits, *later;

    cache_create();

    asks = cache_op(1);
    waits = cache_op(1);

    (void) cache_look(asks);
    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_WAIT
            && cache_look(waits) == NGX_SMTP_RELAY_CACHE_WAIT,
            "one asks, the other one waits");

    asks->len = 5;
    cache_end(asks, NGX_SMTP_RELAY_CACHE_KEEP);
    later = cache_op(1);

    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_HIT,
            "it shares a verdict that is not valid any more");
    unit_ok(cache_look(later) == NGX_SMTP_RELAY_CACHE_ASK,
            "one who comes later does not");

    waits = cache_op(1);
    (void) cache_look(waits);
    cache_end(later, NGX_SMTP_RELAY_CACHE_FAILURE);
    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_FAILED,
            "it shares a failure");

    asks = cache_op(2);
    waits = cache_op(2);
    later = cache_op(2);
    (void) cache_look(asks);
    (void) cache_look(waits);
    (void) cache_look(later);
    cache_end(asks, NGX_SMTP_RELAY_CACHE_CANCELED);
    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_ASK
            && cache_look(later) == NGX_SMTP_RELAY_CACHE_WAIT,
            "canceled: another one asks, the rest wait");
    cache_end(waits, NGX_SMTP_RELAY_CACHE_TEMPORARY);
    unit_ok(cache_look(later) == NGX_SMTP_RELAY_CACHE_FAILED,
            "and share its outcome");

    asks = cache_op(3);
    waits = cache_op(3);
    (void) cache_look(asks);
    (void) cache_look(waits);
    cache_end(asks, NGX_SMTP_RELAY_CACHE_CANCELED);
    asks = cache_op(3);
    (void) cache_look(asks);
    asks->len = 5;
    cache_end(asks, NGX_SMTP_RELAY_CACHE_KEEP);
    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_HIT,
            "the outcome of a later request does as well");

    asks = cache_op(4);
    waits = cache_op(4);
    (void) cache_look(asks);
    (void) cache_look(waits);
    cache_end(asks, NGX_SMTP_RELAY_CACHE_UNKEPT);
    later = cache_op(4);
    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_ALONE
            && cache_look(later) == NGX_SMTP_RELAY_CACHE_ALONE,
            "verdicts that are not kept: each asks alone");

    cache_now += 10000;
    unit_ok(cache_look(cache_op(4)) == NGX_SMTP_RELAY_CACHE_ASK,
            "after a while it is tried again");

    later->ok = 1;
    later->len = 5;
    later->valid = 10000;
    cache_end(later, NGX_SMTP_RELAY_CACHE_KEEP);
    unit_ok(cache_has(4), "what one finds who asks alone is kept");
}


static void
cache_lost(void)
{
    int                         status;
    pid_t                       pid;
    ngx_smtp_relay_cache_op_t  *asks, *waits;

    cache_create();

    pid = fork();

    if (pid == 0) {
        _exit(0);
    }

    waitpid(pid, &status, 0);

    asks = cache_op(1);
    waits = cache_op(1);

    ngx_pid = pid;
    (void) cache_look(asks);
    ngx_pid = getpid();

    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_ASK,
            "the process that asks is gone");

    asks = cache_op(2);
    waits = cache_op(2);

    ngx_pid = getppid();
    (void) cache_look(asks);
    ngx_pid = getpid();

    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_WAIT,
            "it is alive");

    cache_now += 9999;
    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_WAIT, "it takes long");

    waits->last = 1;
    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_FAILED, "too long");

    cache_now += 1;
    waits->last = 0;
    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_ASK, "it is given up");

    asks->ok = 1;
    asks->len = 5;
    asks->valid = 10000;
    cache_end(asks, NGX_SMTP_RELAY_CACHE_KEEP);
    unit_ok(cache_has(2), "what it finds in the end is kept");
}


static void
cache_full(void)
{
    ngx_uint_t                     i, n, kept;
    ngx_smtp_relay_cache_op_t     *asks;
    ngx_smtp_relay_cache_stats_t   stats;

    cache_create();

    /* how many there is room for */

    for (n = 0; /* void */ ; n++) {
        ngx_smtp_relay_cache_stats(&cache, &stats);

        if (stats.used + 3 * 128 > stats.size) {
            break;
        }

        cache_keep(n, 1, 200);
    }

    unit_ok(n > 100 && stats.entries == n && stats.evictions == 0,
            "%lu verdicts in %lu pages", (unsigned long) n,
            (unsigned long) CACHE_PAGES);

    /* the one that was used last stays */

    cache_now += 2000;
    unit_ok(cache_has(0), "the first one is used");

    cache_keep(n, 1, 200);
    unit_ok(cache_has(n) && cache_has(0) && !cache_has(1),
            "one more makes the oldest go");

    /* guesses */

    cache_create();

    for (i = 0; i < 100; i++) {
        cache_keep(i, 1, 200);
    }

    for (i = 0; i < 3000; i++) {
        cache_keep(1000 + i, 0, 50);
    }

    for (i = 0, kept = 0; i < 100; i++) {
        kept += cache_has(i);
    }

    unit_ok(kept == 100, "3000 denials push out none of 100 who were let in");

    /* what is being asked for stays */

    asks = cache_op(5000);
    (void) cache_look(asks);

    for (i = 0; i < 3000; i++) {
        cache_keep(6000 + i, 0, 50);
    }

    unit_ok(cache_look(cache_op(5000)) == NGX_SMTP_RELAY_CACHE_WAIT,
            "what is being asked for is not pushed out");
}


static void
cache_sizes(void)
{
    size_t                         len;
    ngx_uint_t                     n, failed;
    ngx_smtp_relay_cache_stats_t   stats;

    cache_create();
    failed = 0;

    for (len = 1; len < NGX_SMTP_RELAY_CACHE_DATA_LEN; len += 61) {
        cache_keep(len, 1, len);
        failed += !cache_has(len);
    }

    unit_ok(failed == 0, "octets of all lengths come out as they went in");

    /* more than there is room for: nothing, but no harm */

    cache_create();

    for (n = 0; n < 5; n++) {
        cache_keep(n, 1, 15000);
    }

    ngx_smtp_relay_cache_stats(&cache, &stats);
    unit_ok(stats.entries == 4 && stats.evictions == 1 && cache_has(4),
            "large ones make room for one another");
}


static void
cache_services(void)
{
    ngx_uint_t                  i, asked;
    ngx_smtp_relay_cache_op_t  *op, *probe;

    cache_create();

    for (i = 0; i < 100; i++) {
        cache_keep(i, 1, 20);
    }

    cache_now += 10000;

    /* what is no proof that it is down */

    op = cache_op(1000);
    (void) cache_look(op);
    (void) cache_end(op, NGX_SMTP_RELAY_CACHE_FAILURE);
    op = cache_op(1);
    unit_ok(cache_look(op) == NGX_SMTP_RELAY_CACHE_ASK,
            "a failure of a key that was never good concerns nobody else");

    op->refused = 1;
    unit_ok(cache_end(op, NGX_SMTP_RELAY_CACHE_FAILURE)
            == NGX_SMTP_RELAY_CACHE_STALE && op->stales == 0,
            "nor does one that was refused");

    op = cache_op(0);
    unit_ok(cache_look(op) == NGX_SMTP_RELAY_CACHE_ASK,
            "the next one is asked for");
    unit_ok(cache_end(op, NGX_SMTP_RELAY_CACHE_FAILURE)
            == NGX_SMTP_RELAY_CACHE_STALE && op->stales == 1,
            "the first failure");

    op = cache_op(1);
    unit_ok(cache_look(op) == NGX_SMTP_RELAY_CACHE_STALE && op->stales == 0,
            "others need not ask");
    unit_ok(cache_look(cache_op(1000)) == NGX_SMTP_RELAY_CACHE_ASK,
            "but those without a verdict do");

    op = cache_op(2);
    op->service = CACHE_SERVICE + 1;
    unit_ok(cache_look(op) == NGX_SMTP_RELAY_CACHE_ASK,
            "another service is not concerned");
    cache_end(op, NGX_SMTP_RELAY_CACHE_CANCELED);

    cache_now += 1000;
    probe = cache_op(3);
    unit_ok(cache_look(probe) == NGX_SMTP_RELAY_CACHE_ASK,
            "after a second one asks");
    unit_ok(cache_look(cache_op(4)) == NGX_SMTP_RELAY_CACHE_STALE
            && cache_look(cache_op(3)) == NGX_SMTP_RELAY_CACHE_STALE,
            "and nobody else");

    cache_now += 5000;
    unit_ok(cache_look(cache_op(4)) == NGX_SMTP_RELAY_CACHE_STALE,
            "as long as that takes");
    cache_end(probe, NGX_SMTP_RELAY_CACHE_FAILURE);
    unit_ok(cache_look(cache_op(4)) == NGX_SMTP_RELAY_CACHE_STALE,
            "it failed");

    cache_now += 1000;
    probe = cache_op(4);
    unit_ok(cache_look(probe) == NGX_SMTP_RELAY_CACHE_ASK, "one asks again");
    cache_end(probe, NGX_SMTP_RELAY_CACHE_CANCELED);
    probe = cache_op(5);
    unit_ok(cache_look(probe) == NGX_SMTP_RELAY_CACHE_ASK,
            "canceled: another one does");

    cache_now += 4000;
    op = cache_op(6);
    unit_ok(cache_look(op) == NGX_SMTP_RELAY_CACHE_STALE && op->stales == 7,
            "the log is told how many, now and then");

    probe->ok = 1;
    probe->len = 20;
    probe->valid = 10000;
    cache_end(probe, NGX_SMTP_RELAY_CACHE_KEEP);
    unit_ok(probe->back, "it is back");

    for (i = 10, asked = 0; i < 100; i++) {
        asked += (cache_look(cache_op(i)) == NGX_SMTP_RELAY_CACHE_ASK);
    }

    unit_ok(asked == 16, "few ask at first");

    cache_now += 1000;

    for (i = 30; i < 100; i++) {
        asked += (cache_look(cache_op(i)) == NGX_SMTP_RELAY_CACHE_ASK);
    }

    unit_ok(asked == 16 + 32, "more a second later");

    /* more services than there are places */

    cache_create();

    for (i = 0; i < 100; i++) {
        cache_keep(i, 1, 20);
    }

    cache_now += 10000;

    for (i = 0, asked = 0; i < 100; i++) {
        op = cache_op(i);
        op->service = 100 + i;
        (void) cache_look(op);
        asked += (cache_end(op, NGX_SMTP_RELAY_CACHE_FAILURE)
                  == NGX_SMTP_RELAY_CACHE_STALE && op->stales == 1);
        cache_now++;
    }

    unit_ok(asked == 100, "a hundred services that are down");
}


static void
cache_purges(void)
{
    ngx_uint_t                     i, n;
    ngx_smtp_relay_cache_op_t     *op, *waits;
    ngx_smtp_relay_cache_stats_t   stats;

    cache_create();

    for (i = 0; i < 90; i++) {
        cache_keep(i, i % 2, 150);
    }

    unit_ok(ngx_smtp_relay_cache_purge(&cache, 1) == 30, "an account");
    unit_ok(!cache_has(1) && cache_has(0) && cache_has(2), "and no other one");
    unit_ok(ngx_smtp_relay_cache_purge(&cache, 1) == 0, "is purged once");

    op = cache_op(200);
    waits = cache_op(200);
    (void) cache_look(op);
    (void) cache_look(waits);
    (void) ngx_smtp_relay_cache_purge(&cache, 77);

    op->ok = 1;
    op->len = 20;
    op->valid = 10000;
    cache_end(op, NGX_SMTP_RELAY_CACHE_KEEP);
    unit_ok(!cache_has(200), "what was on its way is not kept");
    unit_ok(cache_look(waits) == NGX_SMTP_RELAY_CACHE_ASK,
            "nor shared: it is asked for again");

    unit_ok(ngx_smtp_relay_cache_purge_all(&cache) == 60, "all the rest");

    ngx_smtp_relay_cache_stats(&cache, &stats);
    unit_ok(stats.entries == 0 && stats.used == 128 && stats.purged == 90,
            "nothing is left");

    waits->len = 20;
    waits->valid = 10000;
    cache_end(waits, NGX_SMTP_RELAY_CACHE_KEEP);

    for (i = 0, n = 0; i < 90; i++) {
        n += cache_has(i);
    }

    unit_ok(n == 0, "nor comes again");
}


/* all of it in any order: what is found is what was kept */

static void
cache_random(void)
{
    u_char                          key[8][NGX_SMTP_RELAY_CACHE_KEY_LEN];
    ngx_uint_t                      i, k, n, wrong;
    ngx_smtp_relay_cache_op_t       ops[8], *op;
    ngx_smtp_relay_cache_stats_t    stats;
    ngx_smtp_relay_cache_answer_e   answer[8];

    cache_create();
    srandom(1);

    wrong = 0;

    for (i = 0; i < 8; i++) {
        answer[i] = NGX_SMTP_RELAY_CACHE_HIT;
        ngx_memzero(&ops[i], sizeof(ngx_smtp_relay_cache_op_t));
    }

    for (i = 0; i < 300000; i++) {
        k = random() % 8;
        op = &ops[k];

        if (answer[k] == NGX_SMTP_RELAY_CACHE_ASK
            || answer[k] == NGX_SMTP_RELAY_CACHE_ALONE)
        {
            op->ok = random() % 2;
            op->len = 1 + random() % (random() % 20 ? 500 : 15000);
            op->valid = random() % 20000;
            op->stale = random() % 20000;
            op->account = random() % 20;

            n = random() % 100;

            (void) cache_end(op, n < 70 ? NGX_SMTP_RELAY_CACHE_KEEP
                                 : (ngx_smtp_relay_cache_outcome_e) (n % 5));

            answer[k] = NGX_SMTP_RELAY_CACHE_HIT;
            continue;
        }

        if (answer[k] != NGX_SMTP_RELAY_CACHE_WAIT) {
            *op = *cache_op(random() % 400);
            ngx_memcpy(key[k], op->key, NGX_SMTP_RELAY_CACHE_KEY_LEN);
            op->key = key[k];
        }

        answer[k] = cache_look(op);

        if (answer[k] == NGX_SMTP_RELAY_CACHE_HIT
            || answer[k] == NGX_SMTP_RELAY_CACHE_STALE)
        {
            ngx_memcpy(&n, &key[k][8], sizeof(ngx_uint_t));
            wrong += (op->data[op->len - 1] != cache_octet(n, op->len - 1));
        }

        cache_now += random() % 50;

        if (random() % 1000 == 0) {
            (void) ngx_smtp_relay_cache_purge(&cache, random() % 20);
        }

        if (random() % 20000 == 0) {
            (void) ngx_smtp_relay_cache_purge_all(&cache);
        }
    }

    ngx_smtp_relay_cache_stats(&cache, &stats);

    unit_ok(wrong == 0, "each key has the octets that were kept for it");
    unit_ok(stats.hits > 1000 && stats.evictions > 1000 && stats.waits > 1000
            && stats.used <= stats.size, "of many, in many ways");
}
