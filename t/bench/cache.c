
/*
 * Speed of the cache of verdicts: the hash that a login is known by, and a
 * look for it among many entries, at random, hits all of them.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <sys/mman.h>
#include "ngx_smtp_relay_auth_cache_key.h"
#include "ngx_smtp_relay_auth_cache_zone.h"


#define CACHE_ENTRIES  1000000
#define CACHE_LOOKS    2000000
#define CACHE_DATA     200
#define CACHE_PARTS    10


static ngx_int_t cache_fill(void);
static void cache_hash(ngx_uint_t n, u_char *key);
static double cache_now(void);


/* what the sources need of nginx */

ngx_pid_t                      ngx_pid = 1;
ngx_uint_t                     ngx_pagesize_shift = 12;

static ngx_slab_pool_t         cache_pool;
static ngx_smtp_relay_cache_t  cache;
static ngx_atomic_t            cache_lock;
static ngx_uint_t              cache_entries = CACHE_ENTRIES;


void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    while (!ngx_atomic_cmp_set(&cache_lock, 0, 1)) { /* void */ }
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    (void) ngx_atomic_cmp_set(&cache_lock, 1, 0);
}


void *
ngx_slab_alloc(ngx_slab_pool_t *pool, size_t size)
{
    void  *p;

    p = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_ANONYMOUS|MAP_SHARED, -1,
             0);

    return (p == MAP_FAILED) ? NULL : p;
}


void *
ngx_slab_calloc(ngx_slab_pool_t *pool, size_t size)
{
    return calloc(1, size);
}


void
ngx_explicit_memzero(void *buf, size_t n)
{
    ngx_memzero(buf, n);
}


void
ngx_ssl_error(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, char *fmt, ...)
{
    fprintf(stderr, "%s\n", fmt);
}


int
main(int argc, char **argv)
{
    double                          start, hash, look, both;
    u_char                        (*keys)[NGX_SMTP_RELAY_CACHE_KEY_LEN], *key;
    uint32_t                        r;
    ngx_uint_t                      i, hits;
    ngx_smtp_relay_cache_op_t       op;
    ngx_smtp_relay_cache_stats_t    stats;

    if (argc > 1) {
        cache_entries = strtoul(argv[1], NULL, 10);
    }

    keys = malloc((size_t) cache_entries * NGX_SMTP_RELAY_CACHE_KEY_LEN);

    if (keys == NULL
        || ngx_smtp_relay_cache_key_init(NULL) != NGX_OK
        || cache_fill() != NGX_OK)
    {
        fprintf(stderr, "no memory\n");
        return 1;
    }

    for (i = 0, r = 1; i < cache_entries; i++) {
        r = r * 1664525 + 1013904223;
        cache_hash(((uint64_t) r * cache_entries) >> 32, keys[i]);
    }

    ngx_smtp_relay_cache_stats(&cache, &stats);

    ngx_memzero(&op, sizeof(ngx_smtp_relay_cache_op_t));

    op.service = 1;
    op.now = 2000;
    hits = 0;

    /* the hash alone; a look alone; one after the other, as in a login */

    key = keys[0];
    start = cache_now();

    for (i = 0; i < CACHE_LOOKS; i++) {
        cache_hash(0, key);
    }

    hash = cache_now() - start;
    start = cache_now();

    for (i = 0; i < CACHE_LOOKS; i++) {
        op.key = keys[i % cache_entries];
        op.now += !(i % 1024);

        hits += (ngx_smtp_relay_cache_look(&cache, &op)
                 == NGX_SMTP_RELAY_CACHE_HIT);
    }

    look = cache_now() - start;
    start = cache_now();

    op.key = key;

    for (i = 0; i < CACHE_LOOKS; i++) {
        r = r * 1664525 + 1013904223;

        cache_hash(((uint64_t) r * cache_entries) >> 32, key);

        op.now += !(i % 1024);

        hits += (ngx_smtp_relay_cache_look(&cache, &op)
                 == NGX_SMTP_RELAY_CACHE_HIT);
    }

    both = cache_now() - start;

    printf("%12s %12s %12s %10s %10s %10s\n", "entries", "octets each",
           "hits", "hash, ns", "look, ns", "both, ns");
    printf("%12lu %12.0f %11.2f%% %10.0f %10.0f %10.0f\n",
           (unsigned long) stats.entries,
           (double) stats.used / (stats.entries ? stats.entries : 1),
           hits * 50.0 / CACHE_LOOKS,
           hash * 1e9 / CACHE_LOOKS, look * 1e9 / CACHE_LOOKS,
           both * 1e9 / CACHE_LOOKS);

    free(keys);

    return 0;
}


static ngx_int_t
cache_fill(void)
{
    u_char                      key[NGX_SMTP_RELAY_CACHE_KEY_LEN];
    u_char                      data[CACHE_DATA];
    ngx_uint_t                  i;
    ngx_smtp_relay_cache_op_t   op;

    cache.shpool = &cache_pool;
    cache_pool.pfree = (cache_entries * 400) >> ngx_pagesize_shift;
    cache_pool.pfree += 16;

    if (ngx_smtp_relay_cache_format(&cache) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_memset(data, 'x', CACHE_DATA);

    for (i = 0; i < cache_entries; i++) {
        cache_hash(i, key);

        ngx_memzero(&op, sizeof(ngx_smtp_relay_cache_op_t));

        op.key = key;
        op.service = 1;
        op.timeout = 1000;
        op.now = i % 1000;

        (void) ngx_smtp_relay_cache_look(&cache, &op);

        op.ok = 1;
        op.data = data;
        op.len = CACHE_DATA;
        op.valid = 3600000;
        op.account = i * 2654435761;

        (void) ngx_smtp_relay_cache_end(&cache, &op,
                                        NGX_SMTP_RELAY_CACHE_KEEP);
    }

    return NGX_OK;
}


/* the parts are those of a login by AUTH PLAIN over TLS */

static void
cache_hash(ngx_uint_t n, u_char *key)
{
    u_char      user[32];
    ngx_str_t   parts[CACHE_PARTS];
    ngx_uint_t  method;

    method = 2;

    ngx_memzero(parts, sizeof(parts));

    ngx_str_set(&parts[0], "https");

    parts[1].len = sizeof(ngx_uint_t);
    parts[1].data = (u_char *) &method;

    parts[3].len = snprintf((char *) user, sizeof(user), "customer-%lu",
                            (unsigned long) n);
    parts[3].data = user;

    ngx_str_set(&parts[4], "0123456789abcdef0123456789abcdef01234567");
    ngx_str_set(&parts[5], "TLS");
    ngx_str_set(&parts[7], "192.0.2.100");
    ngx_str_set(&parts[8], "auth.example.com:8443");
    ngx_str_set(&parts[9], "/smtp/auth");

    (void) ngx_smtp_relay_cache_hash(parts, CACHE_PARTS, key);
}


static double
cache_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}
