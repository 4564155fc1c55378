
/* What zones of caches, limits and blocks count themselves, shown. */


#include "ngx_smtp_relay.h"


#if (NGX_SMTP_RELAY_HTTP)

#include "ngx_http_smtp_relay_status.h"
#include "ngx_smtp_relay_auth_block.h"
#include "ngx_smtp_relay_auth_cache.h"
#include "ngx_smtp_relay_limit.h"


#define NGX_HTTP_SMTP_RELAY_ZONE_FIELDS  12


typedef struct {
    ngx_str_t                       name;
    ngx_str_t                       kind;       /* of limits */
    uint64_t                        values[NGX_HTTP_SMTP_RELAY_ZONE_FIELDS];
} ngx_http_smtp_relay_zone_t;


/* fields of one metric stand together; json NULL: the end */

typedef struct {
    const char                     *json;
    const char                     *metric;
    const char                     *result;     /* a label, or NULL */
    const char                     *type;
    const char                     *help;
} ngx_http_smtp_relay_zone_field_t;


typedef ngx_int_t (*ngx_http_smtp_relay_zone_get_pt)(ngx_uint_t index,
    ngx_http_smtp_relay_zone_t *zone);


typedef struct {
    const char                       *json;
    ngx_http_smtp_relay_zone_get_pt   get;
    ngx_http_smtp_relay_zone_field_t *fields;
} ngx_http_smtp_relay_zones_t;


static ngx_int_t ngx_http_smtp_relay_zone_cache(ngx_uint_t index,
    ngx_http_smtp_relay_zone_t *zone);
static ngx_int_t ngx_http_smtp_relay_zone_limit(ngx_uint_t index,
    ngx_http_smtp_relay_zone_t *zone);
static ngx_int_t ngx_http_smtp_relay_zone_block(ngx_uint_t index,
    ngx_http_smtp_relay_zone_t *zone);
static void ngx_http_smtp_relay_zones_metrics(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_zones_t *zones);


static ngx_http_smtp_relay_zone_field_t  ngx_http_smtp_relay_cache_fields[] = {

    { "entries", "smtp_relay_auth_cache_entries", NULL, "gauge",
      "Verdicts that are kept." },

    { "size", "smtp_relay_auth_cache_size_bytes", NULL, "gauge",
      "Memory for verdicts." },

    { "used", "smtp_relay_auth_cache_used_bytes", NULL, "gauge",
      "Memory that verdicts take." },

    { "hits", "smtp_relay_auth_cache_lookups_total", "hit", "counter",
      "Lookups, by what came of them." },

    { "misses", "smtp_relay_auth_cache_lookups_total", "miss", NULL, NULL },

    { "waits", "smtp_relay_auth_cache_lookups_total", "wait", NULL, NULL },

    { "stale", "smtp_relay_auth_cache_lookups_total", "stale", NULL, NULL },

    { "expired", "smtp_relay_auth_cache_expired_total", NULL, "counter",
      "Misses for which there was a verdict, but out of date." },

    { "stores", "smtp_relay_auth_cache_stores_total", NULL, "counter",
      "Verdicts that were kept." },

    { "evictions", "smtp_relay_auth_cache_evictions_total", NULL, "counter",
      "Verdicts that went to make room." },

    { "purged", "smtp_relay_auth_cache_purged_total", NULL, "counter",
      "Verdicts that were purged." },

    { NULL, NULL, NULL, NULL, NULL }
};


static ngx_http_smtp_relay_zone_field_t  ngx_http_smtp_relay_limit_fields[] = {

    { "keys", "smtp_relay_limit_keys", NULL, "gauge",
      "Keys that a limit knows." },

    { "held", "smtp_relay_limit_held", NULL, "gauge",
      "Sessions that count in a limit now." },

    { "passed", "smtp_relay_limit_checks_total", "passed", "counter",
      "What limits were asked, by what they said." },

    { "delayed", "smtp_relay_limit_checks_total", "delayed", NULL, NULL },

    { "refused", "smtp_relay_limit_checks_total", "refused", NULL, NULL },

    { "dry_run_delayed", "smtp_relay_limit_checks_total", "dry_run_delayed",
      NULL, NULL },

    { "dry_run_refused", "smtp_relay_limit_checks_total", "dry_run_refused",
      NULL, NULL },

    { "evicted", "smtp_relay_limit_evictions_total", NULL, "counter",
      "Keys that went to make room." },

    { "full", "smtp_relay_limit_full_total", NULL, "counter",
      "Checks for which there was no room." },

    { NULL, NULL, NULL, NULL, NULL }
};


static ngx_http_smtp_relay_zone_field_t  ngx_http_smtp_relay_block_fields[] = {

    { "keys", "smtp_relay_auth_block_keys", NULL, "gauge",
      "Keys that have failed to log in." },

    { "failures", "smtp_relay_auth_block_failures_total", NULL, "counter",
      "Failed logins that counted." },

    { "blocked", "smtp_relay_auth_block_blocked_total", NULL, "counter",
      "Keys that were blocked." },

    { "refused", "smtp_relay_auth_block_refused_total", NULL, "counter",
      "Attempts of keys that were blocked." },

    { "evicted", "smtp_relay_auth_block_evictions_total", NULL, "counter",
      "Keys that went to make room." },

    { "full", "smtp_relay_auth_block_full_total", NULL, "counter",
      "Failures for which there was no room." },

    { NULL, NULL, NULL, NULL, NULL }
};


static ngx_http_smtp_relay_zones_t  ngx_http_smtp_relay_zones[] = {

    { "caches", ngx_http_smtp_relay_zone_cache,
      ngx_http_smtp_relay_cache_fields },

    { "limits", ngx_http_smtp_relay_zone_limit,
      ngx_http_smtp_relay_limit_fields },

    { "blocks", ngx_http_smtp_relay_zone_block,
      ngx_http_smtp_relay_block_fields },

    { NULL, NULL, NULL }
};


static ngx_str_t  ngx_http_smtp_relay_limit_kinds[] = {
    ngx_string("conn"),
    ngx_string("msg"),
    ngx_string("rcpt")
};


static ngx_int_t
ngx_http_smtp_relay_zone_cache(ngx_uint_t index,
    ngx_http_smtp_relay_zone_t *zone)
{
    ngx_array_t                   *zones;
    ngx_shm_zone_t               **shm_zone;
    ngx_smtp_relay_cache_stats_t   st;

    zones = ngx_smtp_relay_auth_cache_zones((ngx_cycle_t *) ngx_cycle);

    if (zones == NULL || index >= zones->nelts) {
        return NGX_DECLINED;
    }

    shm_zone = zones->elts;

    ngx_smtp_relay_cache_stats(shm_zone[index]->data, &st);

    zone->name = shm_zone[index]->shm.name;
    zone->kind.len = 0;

    zone->values[0] = st.entries;
    zone->values[1] = st.size;
    zone->values[2] = st.used;
    zone->values[3] = st.hits;
    zone->values[4] = st.misses;
    zone->values[5] = st.waits;
    zone->values[6] = st.stale;
    zone->values[7] = st.expired;
    zone->values[8] = st.stores;
    zone->values[9] = st.evictions;
    zone->values[10] = st.purged;

    return NGX_OK;
}


static ngx_int_t
ngx_http_smtp_relay_zone_limit(ngx_uint_t index,
    ngx_http_smtp_relay_zone_t *zone)
{
    ngx_smtp_relay_limit_status_t  status;

    if (ngx_smtp_relay_limit_status((ngx_cycle_t *) ngx_cycle, index, &status)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    zone->name = status.name;
    zone->kind = ngx_http_smtp_relay_limit_kinds[status.kind];

    zone->values[0] = status.stat.entries;
    zone->values[1] = status.stat.held;
    zone->values[2] = status.stat.passed;
    zone->values[3] = status.stat.delayed;
    zone->values[4] = status.stat.refused;
    zone->values[5] = status.stat.dry_run_delayed;
    zone->values[6] = status.stat.dry_run_refused;
    zone->values[7] = status.stat.evicted;
    zone->values[8] = status.stat.full;

    return NGX_OK;
}


static ngx_int_t
ngx_http_smtp_relay_zone_block(ngx_uint_t index,
    ngx_http_smtp_relay_zone_t *zone)
{
    ngx_smtp_relay_auth_block_status_t  status;

    if (ngx_smtp_relay_auth_block_status((ngx_cycle_t *) ngx_cycle, index,
                                         &status)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    zone->name = status.name;
    zone->kind.len = 0;

    zone->values[0] = status.stat.entries;
    zone->values[1] = status.stat.failures;
    zone->values[2] = status.stat.blocked;
    zone->values[3] = status.stat.refused;
    zone->values[4] = status.stat.evicted;
    zone->values[5] = status.stat.full;

    return NGX_OK;
}


void
ngx_http_smtp_relay_json_zones(ngx_http_smtp_relay_out_t *out)
{
    ngx_uint_t                    i, n;
    ngx_http_smtp_relay_zone_t    zone;
    ngx_http_smtp_relay_zones_t  *zones;

    for (zones = ngx_http_smtp_relay_zones; zones->json; zones++) {

        ngx_http_smtp_relay_out_printf(out, ",\"%s\":[", zones->json);

        for (i = 0; zones->get(i, &zone) == NGX_OK; i++) {

            ngx_http_smtp_relay_out_printf(out, "%s{\"zone\":\"",
                                           i ? "," : "");
            ngx_http_smtp_relay_out_json(out, &zone.name);
            ngx_http_smtp_relay_out_printf(out, "\"");

            if (zone.kind.len) {
                ngx_http_smtp_relay_out_printf(out, ",\"kind\":\"%V\"",
                                               &zone.kind);
            }

            for (n = 0; zones->fields[n].json; n++) {
                ngx_http_smtp_relay_out_printf(out, ",\"%s\":%uL",
                                               zones->fields[n].json,
                                               zone.values[n]);
            }

            ngx_http_smtp_relay_out_printf(out, "}");
        }

        ngx_http_smtp_relay_out_printf(out, "]");
    }
}


void
ngx_http_smtp_relay_prometheus_zones(ngx_http_smtp_relay_out_t *out)
{
    ngx_http_smtp_relay_zone_t    zone;
    ngx_http_smtp_relay_zones_t  *zones;

    for (zones = ngx_http_smtp_relay_zones; zones->json; zones++) {

        if (zones->get(0, &zone) == NGX_OK) {
            ngx_http_smtp_relay_zones_metrics(out, zones);
        }
    }
}


static void
ngx_http_smtp_relay_zones_metrics(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_zones_t *zones)
{
    ngx_uint_t                         i, n;
    ngx_http_smtp_relay_zone_t         zone;
    ngx_http_smtp_relay_zone_field_t  *field;

    for (n = 0; zones->fields[n].json; n++) {
        field = &zones->fields[n];

        if (field->help) {
            ngx_http_smtp_relay_out_printf(out,
                                           "# HELP %s %s\n# TYPE %s %s\n",
                                           field->metric, field->help,
                                           field->metric, field->type);
        }

        for (i = 0; zones->get(i, &zone) == NGX_OK; i++) {

            ngx_http_smtp_relay_out_printf(out, "%s{zone=\"", field->metric);
            ngx_http_smtp_relay_out_label(out, &zone.name);
            ngx_http_smtp_relay_out_printf(out, "\"");

            if (zone.kind.len) {
                ngx_http_smtp_relay_out_printf(out, ",kind=\"%V\"",
                                               &zone.kind);
            }

            if (field->result) {
                ngx_http_smtp_relay_out_printf(out, ",result=\"%s\"",
                                               field->result);
            }

            ngx_http_smtp_relay_out_printf(out, "} %uL\n", zone.values[n]);
        }
    }
}

#endif
