
/*
 * Zones of limits as several workers use them: random events against a
 * model, numbers compared at every step.  Workers are made up; locks are not
 * needed.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_limit_zone.h"
#include "unit.h"


#define ZONE_SIZE     (64 * 4096)
#define ZONE_ZONES    3
#define ZONE_WORKERS  4
#define ZONE_KEYS     12
#define ZONE_SESSION  400


typedef struct {
    ngx_uint_t                    worker;     /* of none: ZONE_WORKERS */
    ngx_uint_t                    n;
    ngx_uint_t                    zone[ZONE_ZONES];
    ngx_uint_t                    key[ZONE_ZONES];
    ngx_smtp_relay_limit_hold_t  *hold[ZONE_ZONES];
} zone_session_t;


ngx_pid_t                       ngx_pid = 1;
ngx_uint_t                      ngx_process = NGX_PROCESS_WORKER;
volatile ngx_msec_t             ngx_current_msec = 1000000;
volatile ngx_time_t            *ngx_cached_time;

static ngx_time_t               zone_time;
static ngx_log_t                zone_log;
static ngx_cycle_t              zone_cycle;
static uint64_t                 zone_seed = 7;

static ngx_shm_zone_t           zone_shm[ZONE_ZONES];
static ngx_smtp_relay_limit_zone_t
                                zone_of[ZONE_WORKERS][ZONE_ZONES];
static ngx_pid_t                zone_pid[ZONE_WORKERS];
static ngx_pid_t                zone_last_pid = 100;

static ngx_uint_t               zone_live[ZONE_ZONES][ZONE_KEYS];
static ngx_uint_t               zone_ghost[ZONE_ZONES][ZONE_KEYS];
static zone_session_t           zone_session[ZONE_SESSION];


/* what the files under test need of nginx */

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


ngx_uint_t
ngx_smtp_relay_slot_dead(ngx_smtp_relay_slot_t *slot)
{
    ngx_uint_t  i;

    for (i = 0; i < ZONE_WORKERS; i++) {
        if (zone_pid[i] == slot->pid) {
            return 0;
        }
    }

    return 1;
}


void
ngx_smtp_relay_slot_give(ngx_smtp_relay_slot_t *slot)
{
    slot->pid = 0;
}


static ngx_uint_t
zone_random(ngx_uint_t n)
{
    zone_seed = zone_seed * 6364136223846793005ULL + 1442695040888963407ULL;

    return (ngx_uint_t) (zone_seed >> 33) % n;
}


static void
zone_pass(ngx_msec_t ms)
{
    ngx_current_msec += ms;
    zone_time.sec = 1700000000 + ngx_current_msec / 1000;
}


/* the zones, and the workers' views of them */

static void
zone_create(ngx_uint_t kind, size_t size)
{
    ngx_uint_t                    i, j;
    ngx_slab_pool_t              *pool;
    ngx_smtp_relay_limit_zone_t  *zone;

    for (i = 0; i < ZONE_ZONES; i++) {
        free(zone_shm[i].shm.addr);

        if (posix_memalign((void **) &zone_shm[i].shm.addr, 4096, size)) {
            printf("Bail out! no memory\n");
            exit(2);
        }

        memset(zone_shm[i].shm.addr, 0, size);

        ngx_str_set(&zone_shm[i].shm.name, "zone");
        zone_shm[i].shm.size = size;
        zone_shm[i].shm.exists = 0;
        zone_shm[i].shm.log = &zone_log;

        pool = (ngx_slab_pool_t *) zone_shm[i].shm.addr;
        pool->end = zone_shm[i].shm.addr + size;
        pool->min_shift = 3;
        pool->addr = zone_shm[i].shm.addr;
        ngx_slab_init(pool);

        for (j = 0; j < ZONE_WORKERS; j++) {
            zone = &zone_of[j][i];
            memset(zone, 0, sizeof(ngx_smtp_relay_limit_zone_t));

            zone->kind = kind;
            zone->shm_zone = &zone_shm[i];
            zone_shm[i].data = zone;

            if (ngx_smtp_relay_limit_zone_init(&zone_shm[i], NULL)
                != NGX_OK)
            {
                printf("Bail out! no zone\n");
                exit(2);
            }

            zone_shm[i].shm.exists = 1;
        }
    }
}


/* a zone of sessions that one worker has for itself, and that is closed */

static ngx_smtp_relay_limit_zone_t *
zone_only(size_t size)
{
    ngx_smtp_relay_limit_zone_t  *zone;

    zone_create(NGX_SMTP_RELAY_LIMIT_CONN, size);

    zone_pid[0] = ++zone_last_pid;
    ngx_pid = zone_pid[0];

    zone = &zone_of[0][0];
    zone->closed = 1;
    ngx_smtp_relay_limit_conn_start(zone);

    return zone;
}


static void
zone_check(ngx_smtp_relay_limit_check_t *check,
    ngx_smtp_relay_limit_zone_t *zone, ngx_uint_t key)
{
    ngx_str_t      text;
    static u_char  buf[ZONE_ZONES][32];
    static int     n;

    n = (n + 1) % ZONE_ZONES;

    memset(check, 0, sizeof(ngx_smtp_relay_limit_check_t));

    text.data = buf[n];
    text.len = sprintf((char *) buf[n], "%lu", (unsigned long) key);

    check->zone = zone;
    ngx_smtp_relay_limit_zone_key(check, &text, NULL);
}


static void
zone_start(ngx_uint_t w)
{
    ngx_uint_t  i, k;

    zone_pid[w] = ++zone_last_pid;
    ngx_pid = zone_pid[w];

    for (i = 0; i < ZONE_ZONES; i++) {
        ngx_smtp_relay_limit_conn_start(&zone_of[w][i]);

        for (k = 0; k < ZONE_KEYS; k++) {
            zone_ghost[i][k] = 0;
        }
    }
}


static void
zone_kill(ngx_uint_t w)
{
    ngx_uint_t       i;
    zone_session_t  *s;

    zone_pid[w] = 0;

    for (s = zone_session; s < zone_session + ZONE_SESSION; s++) {
        if (s->worker != w) {
            continue;
        }

        for (i = 0; i < s->n; i++) {
            zone_live[s->zone[i]][s->key[i]]--;
            zone_ghost[s->zone[i]][s->key[i]]++;
        }

        s->worker = ZONE_WORKERS;
    }
}


static void
zone_end(zone_session_t *s)
{
    ngx_uint_t  i;

    for (i = 0; i < s->n; i++) {
        ngx_smtp_relay_limit_conn_give(&zone_of[s->worker][s->zone[i]],
                                       s->hold[i]);
        zone_live[s->zone[i]][s->key[i]]--;
    }

    s->worker = ZONE_WORKERS;
}


/* a session comes; 1: what came of it is as the model says */

static ngx_uint_t
zone_begin(zone_session_t *s, ngx_uint_t w)
{
    ngx_int_t                      rc, expected;
    ngx_uint_t                     i, k, z, max[ZONE_ZONES];
    ngx_smtp_relay_limit_check_t   checks[ZONE_ZONES], *by;

    s->n = 0;
    expected = NGX_OK;

    for (z = 0; z < ZONE_ZONES; z++) {

        if (zone_random(3) == 0) {
            continue;
        }

        k = zone_random(ZONE_KEYS);
        i = s->n++;

        s->zone[i] = z;
        s->key[i] = k;
        max[i] = 1 + zone_random(2) * k;

        zone_check(&checks[i], &zone_of[w][z], k);
        checks[i].max = max[i];

        if (zone_live[z][k] + zone_ghost[z][k] >= max[i]) {
            memset(zone_ghost[z], 0, sizeof(zone_ghost[z]));
        }

        if (zone_live[z][k] >= max[i]) {
            expected = NGX_DECLINED;
        }
    }

    if (s->n == 0) {
        return 1;
    }

    ngx_pid = zone_pid[w];

    rc = ngx_smtp_relay_limit_conn_take(checks, s->n, 0, &by);

    if (rc == NGX_OK) {
        s->worker = w;

        for (i = 0; i < s->n; i++) {
            zone_live[s->zone[i]][s->key[i]]++;
            s->hold[i] = checks[i].hold;
        }
    }

    return (rc == expected);
}


/* 1: all numbers are those of the model */

static ngx_uint_t
zone_same(void)
{
    ngx_uint_t                     z, k, n, sum;
    ngx_rbtree_node_t             *node;
    ngx_smtp_relay_limit_check_t   check;

    for (z = 0; z < ZONE_ZONES; z++) {
        sum = 0;

        for (k = 0; k < ZONE_KEYS; k++) {
            zone_check(&check, &zone_of[0][z], k);
            node = ngx_smtp_relay_limit_zone_find(&check);

            n = node ? ngx_smtp_relay_limit_node(node)->u.conn : 0;

            if (n != zone_live[z][k] + zone_ghost[z][k]) {
                return 0;
            }

            sum += n;
        }

        if (zone_of[0][z].sh->stat.held != sum) {
            return 0;
        }
    }

    return 1;
}


static void
zone_sessions(void)
{
    ngx_uint_t       i, w, wrong, different, killed;
    zone_session_t  *s;

    zone_create(NGX_SMTP_RELAY_LIMIT_CONN, ZONE_SIZE);

    for (i = 0; i < ZONE_SESSION; i++) {
        zone_session[i].worker = ZONE_WORKERS;
    }

    for (w = 0; w < ZONE_WORKERS; w++) {
        zone_start(w);
    }

    wrong = 0;
    different = 0;
    killed = 0;

    for (i = 0; i < 200000; i++) {
        zone_pass(1000);

        s = &zone_session[zone_random(ZONE_SESSION)];
        w = zone_random(ZONE_WORKERS);

        if (zone_random(500) == 0) {
            zone_kill(w);
            killed++;

        } else if (zone_pid[w] == 0) {

            if (zone_random(4) == 0) {
                zone_start(w);
            }

        } else if (s->worker != ZONE_WORKERS) {
            zone_end(s);

        } else {
            wrong += !zone_begin(s, w);
        }

        different += !zone_same();
    }

    unit_ok(wrong == 0 && different == 0 && killed > 100,
            "sessions: 200000 events, %lu workers killed, %lu decisions and "
            "%lu times numbers not those of the model",
            (unsigned long) killed, (unsigned long) wrong,
            (unsigned long) different);

    for (w = 0; w < ZONE_WORKERS; w++) {
        zone_pid[w] = 0;
    }

    for (w = 0; w < ZONE_WORKERS; w++) {
        zone_start(w);
    }

    unit_ok(zone_of[0][0].sh->stat.held == 0
            && zone_of[0][1].sh->stat.held == 0
            && zone_of[0][2].sh->stat.held == 0,
            "sessions: when all workers were killed nothing is left");
}


/* memory: nothing is lost, however often it is full */

static void
zone_memory(ngx_uint_t closed)
{
    ngx_int_t                      rc;
    ngx_uint_t                     i, j, n, wrong, least;
    ngx_smtp_relay_limit_zone_t   *zone;
    ngx_smtp_relay_limit_check_t   check, *by;
    static ngx_smtp_relay_limit_hold_t  *hold[4000];

    zone_create(NGX_SMTP_RELAY_LIMIT_CONN, 8 * 4096);

    zone_pid[0] = ++zone_last_pid;
    ngx_pid = zone_pid[0];

    zone = &zone_of[0][0];
    zone->closed = closed;
    ngx_smtp_relay_limit_conn_start(zone);

    wrong = 0;
    least = 4000;

    for (j = 0; j < 20; j++) {
        n = 0;

        for (i = 0; i < 4000; i++) {
            zone_pass(1000);
            zone_check(&check, zone, j % 2 ? i : i / 3);
            check.max = 100;

            rc = ngx_smtp_relay_limit_conn_take(&check, 1, 0, &by);

            wrong += (rc != ((check.full && closed) ? NGX_DECLINED : NGX_OK));
            wrong += (check.full != (check.hold == NULL));

            hold[i] = check.hold;
            n += (check.hold != NULL);
        }

        wrong += (zone->sh->stat.held != n);
        least = ngx_min(least, n);

        for (i = 0; i < 4000; i++) {
            if (hold[i]) {
                ngx_smtp_relay_limit_conn_give(zone, hold[i]);
            }
        }

        wrong += (zone->sh->stat.held != 0);
    }

    unit_ok(wrong == 0 && least > 50 && zone->sh->stat.full
            && zone->sh->stat.evicted,
            "memory, %s: %lu sessions or more each time it is full, %lu wrong",
            closed ? "closed" : "open", (unsigned long) least,
            (unsigned long) wrong);
}


/*
 * Few keys and many sessions: memory is full of sessions, and keys without
 * any are what can go, even the one that is asked for.
 */

static void
zone_crowd(void)
{
    ngx_int_t                      rc;
    ngx_uint_t                     i, j, n, wrong;
    ngx_smtp_relay_limit_zone_t   *zone;
    ngx_smtp_relay_limit_check_t   check, *by;
    static ngx_smtp_relay_limit_hold_t  *hold[4000];

    zone = zone_only(8 * 4096);

    wrong = 0;

    for (j = 0; j < 20; j++) {

        /* keys that are idle */

        for (i = 1; i < 5; i++) {
            zone_pass(1000);
            zone_check(&check, zone, i);
            check.max = 1;

            if (ngx_smtp_relay_limit_conn_take(&check, 1, 0, &by) == NGX_OK) {
                ngx_smtp_relay_limit_conn_give(zone, check.hold);
            }
        }

        /* one that is not */

        for (n = 0; n < 4000; n++) {
            zone_check(&check, zone, 0);
            check.max = 10000;

            rc = ngx_smtp_relay_limit_conn_take(&check, 1, 0, &by);

            if (rc != NGX_OK) {
                break;
            }

            hold[n] = check.hold;
        }

        wrong += (n < 100 || n == 4000 || !check.full);

        /* keys for whose entries there is room, but not for a session */

        for (i = 1; i < 10; i++) {
            zone_pass(1000);
            zone_check(&check, zone, i);
            check.max = 1;

            rc = ngx_smtp_relay_limit_conn_take(&check, 1, 0, &by);

            wrong += (rc != NGX_DECLINED || !check.full || check.hold);
            wrong += (zone->sh->stat.held != n);

            zone_check(&check, zone, 0);
            wrong += (ngx_smtp_relay_limit_node(
                          ngx_smtp_relay_limit_zone_find(&check))->u.conn
                      != n);
        }

        for (i = 0; i < n; i++) {
            ngx_smtp_relay_limit_conn_give(zone, hold[i]);
        }

        wrong += (zone->sh->stat.held != 0);
    }

    unit_ok(wrong == 0, "memory: full of the sessions of one key, %lu wrong",
            (unsigned long) wrong);
}


/* idle keys go, however many that are not are older */

static void
zone_crowded(void)
{
    ngx_uint_t                     i, n, wrong;
    ngx_smtp_relay_limit_zone_t   *zone;
    ngx_smtp_relay_limit_check_t   check, *by;

    zone = zone_only(16 * 4096);

    wrong = 0;

    /* those that stay */

    for (i = 0; i < 100; i++) {
        zone_check(&check, zone, i);
        check.max = 1;
        wrong += ngx_smtp_relay_limit_conn_take(&check, 1, 0, &by) != NGX_OK;
    }

    /* those that go, as long as there is room */

    for (n = 100; n < 4000; n++) {
        zone_check(&check, zone, n);
        check.max = 1;

        if (ngx_smtp_relay_limit_conn_take(&check, 1, 0, &by) != NGX_OK) {
            break;
        }
    }

    for (i = 100; i < n; i++) {
        zone_check(&check, zone, i);
        check.max = 1;
        wrong += ngx_smtp_relay_limit_conn_take(&check, 1, 0, &by)
                 != NGX_DECLINED;
    }

    for (i = 100; i < n; i++) {
        ngx_smtp_relay_limit_conn_give(zone,
            ngx_queue_data(ngx_queue_head(&zone->worker->holds),
                           ngx_smtp_relay_limit_hold_t, queue));
    }

    /* in the very second in which lines were logged of them */

    for (i = 0; i < n - 100; i++) {
        zone_check(&check, zone, 10000 + i);
        check.max = 1;
        wrong += ngx_smtp_relay_limit_conn_take(&check, 1, 0, &by) != NGX_OK;
    }

    for (i = 0; i < 100; i++) {
        zone_check(&check, zone, i);
        wrong += (ngx_smtp_relay_limit_zone_find(&check) == NULL);
    }

    unit_ok(wrong == 0 && n > 200,
            "memory: %lu idle keys make room for as many new ones, others "
            "stay, %lu wrong", (unsigned long) n - 100,
            (unsigned long) wrong);
}


/* entries that go while others stay make no difference */

static void
zone_rates(void)
{
    uint64_t                       t;
    ngx_int_t                      rc, expected;
    ngx_uint_t                     i, j, k, w, n, wrong, ok, full, z;
    ngx_smtp_relay_limit_check_t   checks[ZONE_ZONES], *by;
    static uint64_t                tat[ZONE_ZONES][2000];
    static ngx_uint_t              count[ZONE_ZONES] = { 3, 60, 7 };
    static ngx_uint_t              period[ZONE_ZONES] = { 1, 60, 60 };
    static ngx_uint_t              burst[ZONE_ZONES] = { 2, 0, 5 };

    zone_create(NGX_SMTP_RELAY_LIMIT_MSG, 12 * 4096);

    wrong = 0;
    ok = 0;
    full = 0;

    for (i = 0; i < 300000; i++) {
        zone_pass(zone_random(120));

        w = zone_random(ZONE_WORKERS);
        n = 0;
        expected = NGX_OK;

        for (z = 0; z < ZONE_ZONES; z++) {

            if (zone_random(3) == 0) {
                continue;
            }

            k = zone_random(zone_random(4) ? 20 : 2000);

            zone_check(&checks[n], &zone_of[w][z], k);
            checks[n].rate.rate.count = count[z];
            checks[n].rate.rate.period = period[z];
            checks[n].rate.burst = burst[z];
            checks[n].max = k;
            n++;

            t = (uint64_t) ngx_current_msec * count[z];

            if (tat[z][k] < t) {
                tat[z][k] = t;
            }

            if (tat[z][k] - t > (uint64_t) burst[z] * period[z] * 1000) {
                expected = NGX_DECLINED;
            }
        }

        if (n == 0) {
            continue;
        }

        rc = ngx_smtp_relay_limit_rate_take(checks, n, 0, &by);

        for (j = 0; j < n; j++) {
            full += checks[j].full;
        }

        wrong += (rc != expected);

        if (rc == NGX_OK) {
            ok++;

            for (j = 0; j < n; j++) {
                z = checks[j].zone - &zone_of[w][0];

                if (!checks[j].full) {
                    tat[z][checks[j].max] += period[z] * 1000;
                }
            }
        }
    }

    unit_ok(wrong == 0 && ok > 10000 && ok < 290000 && full == 0
            && zone_of[0][0].sh->stat.entries < 2000
            && zone_of[0][0].sh->stat.passed
               + zone_of[0][0].sh->stat.delayed > 1000,
            "rates: 300000 questions to several zones, %lu accepted, %lu not "
            "as by the model, %lu of 2000 entries", (unsigned long) ok,
            (unsigned long) wrong,
            (unsigned long) zone_of[0][0].sh->stat.entries);
}


/* full: idle entries go, the oldest first; others never */

static void
zone_full(void)
{
    ngx_int_t                      rc;
    ngx_uint_t                     i, n, wrong;
    ngx_smtp_relay_limit_zone_t   *zone;
    ngx_smtp_relay_limit_check_t   check, *by;

    zone_create(NGX_SMTP_RELAY_LIMIT_RCPT, 8 * 4096);

    zone = &zone_of[0][0];
    wrong = 0;

    for (n = 0; n < 4000; n++) {
        zone_check(&check, zone, n);
        check.rate.rate.count = 1;
        check.rate.rate.period = 3600;

        if (ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by) != NGX_OK
            || check.full)
        {
            break;
        }
    }

    unit_ok(check.full && check.log && n > 100 && n < 300
            && zone->sh->stat.full == 1,
            "full: after %lu keys that are not idle; passed on",
            (unsigned long) n);

    rc = ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by);
    unit_ok(rc == NGX_OK && check.full && !check.log,
            "full: logged once in a second");

    zone->closed = 1;
    rc = ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by);
    unit_ok(rc == NGX_DECLINED && by == &check && check.full
            && zone->sh->stat.refused == 1, "full: refused, if it is closed");
    zone->closed = 0;

    for (i = 0; i < n; i++) {
        zone_check(&check, zone, i);
        check.rate.rate.count = 1;
        check.rate.rate.period = 3600;
        wrong += ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by)
                 != NGX_DECLINED;
    }

    unit_ok(wrong == 0 && zone->sh->stat.entries == n,
            "full: no key has been forgotten");

    /* half of them are used again; the other half is idle then */

    zone_pass(3600 * 1000);

    for (i = 0; i < n; i += 2) {
        zone_check(&check, zone, i);
        check.rate.rate.count = 1;
        check.rate.rate.period = 3600;
        wrong += ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by) != NGX_OK;
    }

    for (i = 0; i < n / 2; i++) {
        zone_check(&check, zone, 100000 + i);
        check.rate.rate.count = 1;
        check.rate.rate.period = 3600;
        wrong += ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by) != NGX_OK;
        wrong += check.full;
    }

    for (i = 0; i < n; i += 2) {
        zone_check(&check, zone, i);
        wrong += (ngx_smtp_relay_limit_zone_find(&check) == NULL);
    }

    unit_ok(wrong == 0, "full: idle ones make room for as many new ones");
}


/* a line for each key and second at most, though keys come and go */

static void
zone_lines(void)
{
    ngx_uint_t                     i, lines;
    ngx_smtp_relay_limit_check_t   check, *by;

    zone_create(NGX_SMTP_RELAY_LIMIT_MSG, 64 * 4096);

    zone_pass(1000 - ngx_current_msec % 1000);

    lines = 0;

    for (i = 0; i < 400; i++) {
        zone_pass(2);

        zone_check(&check, &zone_of[0][0], 0);
        check.rate.rate.count = 1000;
        check.rate.rate.period = 1;
        ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by);
        ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by);
        lines += by && by->log;

        zone_pass(2);

        zone_check(&check, &zone_of[0][0], i + 1);
        check.rate.rate.count = 1000;
        check.rate.rate.period = 1;
        ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by);
    }

    unit_ok(lines == 2, "lines: %lu in two seconds", (unsigned long) lines);
}


/* keys of any octets and lengths are told apart */

static void
zone_keys(void)
{
    u_char                        *data;
    ngx_str_t                      key;
    ngx_pool_t                    *pool;
    ngx_uint_t                     i, n, wrong;
    ngx_smtp_relay_limit_check_t   check, *by;

    zone_create(NGX_SMTP_RELAY_LIMIT_MSG, 1024 * 4096);

    pool = ngx_create_pool(4096, &zone_log);
    wrong = 0;

    for (n = 0; n < 2; n++) {

        for (i = 0; i < 256 + 300; i++) {
            key.len = (i < 256) ? 255 : i - 255;
            data = malloc(key.len);
            memset(data, i < 256 ? (int) i : 0, key.len);
            key.data = data;

            memset(&check, 0, sizeof(check));
            check.zone = &zone_of[0][0];
            check.rate.rate.count = 1;
            check.rate.rate.period = 3600;

            ngx_smtp_relay_limit_zone_key(&check, &key, pool);

            wrong += ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by)
                     != (n || (i == 255 + 255) ? NGX_DECLINED : NGX_OK);
            free(data);
        }
    }

    unit_ok(wrong == 0, "keys of 1 to 300 octets, of any value: %lu wrong",
            (unsigned long) wrong);

    /* those of the same hash, of which there are some among many */

    wrong = 0;

    for (n = 0; n < 2; n++) {

        for (i = 0; i < 20000; i++) {
            zone_check(&check, &zone_of[0][1], i);
            check.hash &= 0xff;
            check.rate.rate.count = 1;
            check.rate.rate.period = 3600;

            wrong += ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by)
                     != (n ? NGX_DECLINED : NGX_OK);
        }
    }

    unit_ok(wrong == 0 && zone_of[0][1].sh->stat.entries == 20000,
            "keys of equal hashes: %lu wrong", (unsigned long) wrong);

    ngx_destroy_pool(pool);
}


static void
zone_counters(void)
{
    ngx_smtp_relay_limit_stat_t   *stat;
    ngx_smtp_relay_limit_check_t   check, *by;

    zone_create(NGX_SMTP_RELAY_LIMIT_MSG, 8 * 4096);

    stat = &zone_of[0][0].sh->stat;

    zone_check(&check, &zone_of[0][0], 1);
    check.rate.rate.count = 1;
    check.rate.rate.period = 1;
    check.rate.burst = 1;

    zone_pass(1000);

    ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by);
    unit_ok(stat->passed == 1 && by == NULL, "counted: passed");

    ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by);
    unit_ok(stat->delayed == 1 && by == &check && by->wait == 1000 && by->log,
            "counted: delayed");

    ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by);
    unit_ok(stat->refused == 1 && by == &check && by->log,
            "counted: refused, and logged besides");

    ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by);
    unit_ok(stat->refused == 2 && by == &check && !by->log,
            "counted: refused, not logged in the same second");

    zone_pass(1000);

    ngx_smtp_relay_limit_rate_take(&check, 1, 1, &by);
    ngx_smtp_relay_limit_rate_take(&check, 1, 1, &by);
    unit_ok(stat->dry_run_delayed == 1 && stat->dry_run_refused == 1
            && stat->delayed == 1 && stat->refused == 2 && stat->entries == 1,
            "counted: dry run");

    ngx_smtp_relay_limit_rate_give(&check, 1);
    unit_ok(ngx_smtp_relay_limit_rate_take(&check, 1, 0, &by)
            == NGX_DECLINED, "nothing that was refused is given back");
}


int
main(void)
{
    ngx_cached_time = &zone_time;
    ngx_cycle = &zone_cycle;
    zone_cycle.log = &zone_log;

    ngx_pagesize = 4096;
    ngx_pagesize_shift = 12;
    ngx_cacheline_size = 64;

    ngx_slab_sizes_init();
    zone_pass(0);

    zone_sessions();
    zone_memory(0);
    zone_memory(1);
    zone_crowd();
    zone_crowded();
    zone_rates();
    zone_full();
    zone_keys();
    zone_counters();
    zone_lines();

    return unit_done();
}
