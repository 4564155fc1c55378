
/*
 * Zones of blocked keys: random failures against a model, answers compared
 * at every step; and a zone that is too small for its keys.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_auth_block_zone.h"
#include "unit.h"


#define ZONE_SIZE   (64 * 4096)
#define ZONE_KEYS   40
#define ZONE_STEPS  200000
#define ZONE_TIMES  16


typedef struct {
    ngx_uint_t                  n;
    ngx_msec_t                  times[ZONE_TIMES];    /* the last in front */
    ngx_uint_t                  blocked;
    ngx_msec_t                  until;
} zone_model_t;


volatile ngx_msec_t             ngx_current_msec = (ngx_msec_t) -2000000;
ngx_pid_t                       ngx_pid = 1;

static ngx_log_t                zone_log;
static ngx_cycle_t              zone_cycle;
static uint64_t                 zone_seed = 7;

static zone_model_t             zone_models[ZONE_KEYS];

static ngx_shm_zone_t           zone_shm;
static ngx_smtp_relay_auth_block_zone_t  zone;

static ngx_smtp_relay_auth_block_rule_t  zone_rules[] = {
    { &zone, &zone_shm, 1, 1000, 3000, NULL, 0 },
    { &zone, &zone_shm, 3, 1000, 5000, NULL, 0 },
    { &zone, &zone_shm, 7, 10000, 20000, NULL, 0 },
    { &zone, &zone_shm, 12, 30000, 100, NULL, 0 },
};


/* what the file under test needs of nginx */

void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    /* void */
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    /* void */
}


ngx_int_t
ngx_shmtx_create(ngx_shmtx_t *mtx, ngx_shmtx_sh_t *addr, u_char *name)
{
    return NGX_OK;
}


void
ngx_debug_point(void)
{
    /* void */
}


static ngx_uint_t
zone_random(ngx_uint_t n)
{
    zone_seed = zone_seed * 6364136223846793005ULL + 1442695040888963407ULL;

    return (zone_seed >> 33) % n;
}


static void
zone_start(size_t size, ngx_uint_t failures, ngx_msec_t window)
{
    static ngx_slab_pool_t  *pool;

    free(pool);
    pool = calloc(1, size);

    if (pool == NULL) {
        printf("Bail out! no memory\n");
        exit(2);
    }

    pool->end = (u_char *) pool + size;
    pool->min_shift = 3;
    pool->addr = (u_char *) pool;

    ngx_slab_init(pool);

    memset(&zone, 0, sizeof(zone));
    memset(&zone_shm, 0, sizeof(zone_shm));

    zone_shm.shm.addr = (u_char *) pool;
    zone_shm.shm.size = size;
    zone_shm.shm.log = &zone_log;
    ngx_str_set(&zone_shm.shm.name, "zone");
    zone_shm.data = &zone;

    zone.shm_zone = &zone_shm;
    zone.size = failures;
    zone.window = window;

    if (ngx_smtp_relay_auth_block_zone_init(&zone_shm, NULL) != NGX_OK) {
        printf("Bail out! no zone\n");
        exit(2);
    }
}


/* keys of all lengths, some of them the start of others */

static ngx_str_t *
zone_key(ngx_uint_t n)
{
    ngx_uint_t  i;

    static u_char     octets[NGX_SMTP_RELAY_AUTH_BLOCK_KEY];
    static ngx_str_t  key = { 0, octets };

    if (n < ZONE_KEYS) {
        key.len = 1 + n * 254 / (ZONE_KEYS - 1);

        for (i = 0; i < key.len; i++) {
            octets[i] = (u_char) (i * 7);
        }

        return &key;
    }

    key.len = ngx_sprintf(octets, "key-%ui", n) - octets;

    return &key;
}


static ngx_uint_t
zone_model_blocked(zone_model_t *m)
{
    return m->blocked && (ngx_msec_int_t) (m->until - ngx_current_msec) > 0;
}


static ngx_uint_t
zone_model_fail(zone_model_t *m, ngx_smtp_relay_auth_block_rule_t *rule)
{
    if (m->blocked) {

        if (zone_model_blocked(m)) {
            return 0;
        }

        m->blocked = 0;
        m->n = 0;
    }

    memmove(&m->times[1], &m->times[0],
            (ZONE_TIMES - 1) * sizeof(ngx_msec_t));

    m->times[0] = ngx_current_msec;
    m->n++;

    if (m->n >= rule->failures
        && ngx_current_msec - m->times[rule->failures - 1] <= rule->window)
    {
        m->blocked = 1;
        m->until = ngx_current_msec + rule->time;
        return 1;
    }

    return 0;
}


static void
zone_run_model(void)
{
    ngx_str_t                         *key;
    ngx_uint_t                         step, k, wrong, blocked, refused;
    ngx_smtp_relay_auth_block_rule_t  *rule;

    zone_start(ZONE_SIZE, 12, 30000);

    wrong = 0;
    blocked = 0;
    refused = 0;

    for (step = 0; step < ZONE_STEPS && wrong == 0; step++) {

        /* through the end of what a number can count, too */

        ngx_current_msec += zone_random(4) ? zone_random(20)
                                           : zone_random(400);
        k = zone_random(ZONE_KEYS);
        key = zone_key(k);

        if (ngx_smtp_relay_auth_block_zone_check(&zone, key)
            != zone_model_blocked(&zone_models[k]))
        {
            wrong = step + 1;
        }

        refused += zone_model_blocked(&zone_models[k]);

        if (zone_random(3)) {
            continue;
        }

        rule = &zone_rules[1 + (zone_random(20) ? k % 3 : zone_random(3))];

        if (ngx_smtp_relay_auth_block_zone_fail(rule, key)
            != zone_model_fail(&zone_models[k], rule))
        {
            wrong = step + 1;
        }

        blocked += (zone_models[k].blocked
                    && zone_models[k].until == ngx_current_msec + rule->time);
    }

    unit_ok(wrong == 0, "%d steps as in the model, to %lu", ZONE_STEPS,
            (unsigned long) wrong);
    unit_ok(blocked > 100 && refused > 1000,
            "with %lu keys blocked, %lu attempts refused",
            (unsigned long) blocked, (unsigned long) refused);
    unit_ok(zone.sh->stat.blocked == blocked
            && zone.sh->stat.refused == refused,
            "which were counted");
    unit_ok(zone.sh->stat.entries <= ZONE_KEYS
            && zone.sh->stat.evicted == 0 && zone.sh->stat.full == 0,
            "there was room for all");
}


/* a rule with more failures comes by a reload */

static void
zone_run_grow(void)
{
    ngx_uint_t  n, early;

    zone_start(ZONE_SIZE, 3, 1000);

    for (n = 0; n < 2; n++) {
        ngx_smtp_relay_auth_block_zone_fail(&zone_rules[1], zone_key(5));
    }

    zone.size = 12;
    zone.window = 30000;
    early = 0;

    for (n = 2; n < 11; n++) {
        ngx_current_msec += 100;
        early += ngx_smtp_relay_auth_block_zone_fail(&zone_rules[3],
                                                     zone_key(5));
    }

    unit_ok(early == 0, "a rule that needs more times: not before");
    unit_ok(ngx_smtp_relay_auth_block_zone_fail(&zone_rules[3], zone_key(5)),
            "a rule that needs more times: the twelfth");
    unit_ok(ngx_smtp_relay_auth_block_zone_check(&zone, zone_key(5)),
            "which is blocked then");

    zone_start(ZONE_SIZE, 1, 1000);
    ngx_smtp_relay_auth_block_zone_fail(&zone_rules[0], zone_key(6));
    ngx_smtp_relay_auth_block_zone_fail(&zone_rules[3], zone_key(6));

    unit_ok(ngx_smtp_relay_auth_block_zone_check(&zone, zone_key(6)),
            "who is blocked stays so when such a rule comes");
}


/* more keys than there is room for */

static void
zone_run_full(void)
{
    ngx_uint_t  n, kept, entries;

    zone_start(10 * 4096, 3, 30000);

    for (n = 0; n < 10; n++) {
        ngx_smtp_relay_auth_block_zone_fail(&zone_rules[0], zone_key(n));
    }

    for (n = 1000; n < 4000; n++) {
        ngx_smtp_relay_auth_block_zone_fail(&zone_rules[2], zone_key(n));
    }

    kept = 0;

    for (n = 0; n < 10; n++) {
        kept += ngx_smtp_relay_auth_block_zone_check(&zone, zone_key(n));
    }

    unit_ok(kept == 10, "full: who is blocked stays so, %lu of 10",
            (unsigned long) kept);
    unit_ok(zone.sh->stat.evicted > 1000 && zone.sh->stat.full == 0,
            "full: %lu went, %lu found no room",
            (unsigned long) zone.sh->stat.evicted,
            (unsigned long) zone.sh->stat.full);

    entries = zone.sh->stat.entries;
    unit_ok(entries + zone.sh->stat.evicted == 3010,
            "full: %lu are there", (unsigned long) entries);

    /* all of them blocked: the oldest go */

    for (n = 5000; n < 6000; n++) {
        ngx_smtp_relay_auth_block_zone_fail(&zone_rules[0], zone_key(n));
    }

    unit_ok(ngx_smtp_relay_auth_block_zone_check(&zone, zone_key(5999))
            && !ngx_smtp_relay_auth_block_zone_check(&zone, zone_key(5000)),
            "full of blocked ones: the oldest go");
}


int
main(void)
{
    zone_cycle.log = &zone_log;
    ngx_cycle = &zone_cycle;

    ngx_pagesize = 4096;
    ngx_cacheline_size = 64;

    for (ngx_pagesize_shift = 0; (1 << ngx_pagesize_shift) < 4096;
         ngx_pagesize_shift++)
    {
        /* void */
    }

    ngx_slab_sizes_init();

    if (ngx_crc32_table_init() != NGX_OK) {
        return 2;
    }

    zone_run_model();
    zone_run_grow();
    zone_run_full();

    return unit_done();
}
