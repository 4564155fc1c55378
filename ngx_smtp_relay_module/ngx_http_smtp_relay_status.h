
/*
 * smtp_relay_status: what all workers have counted, for people and programs.
 * A snapshot is taken first; then it is written, in the format wanted.
 */


#ifndef _NGX_HTTP_SMTP_RELAY_STATUS_H_INCLUDED_
#define _NGX_HTTP_SMTP_RELAY_STATUS_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_slot.h"
#include "ngx_smtp_relay_stat_zone.h"


#if (NGX_SMTP_RELAY_HTTP)

#include <ngx_http.h>
#include "ngx_http_smtp_relay_out.h"


#define NGX_HTTP_SMTP_RELAY_STATUS_OFF         0
#define NGX_HTTP_SMTP_RELAY_STATUS_AUTO        1
#define NGX_HTTP_SMTP_RELAY_STATUS_PROMETHEUS  2
#define NGX_HTTP_SMTP_RELAY_STATUS_JSON        3
#define NGX_HTTP_SMTP_RELAY_STATUS_HTML        4


typedef enum {
    NGX_SMTP_RELAY_STATE_UP = 0,
    NGX_SMTP_RELAY_STATE_BUSY,
    NGX_SMTP_RELAY_STATE_FAILED,
    NGX_SMTP_RELAY_STATE_DOWN,
    NGX_SMTP_RELAY_STATE_UNKNOWN,
    NGX_SMTP_RELAY_STATES
} ngx_smtp_relay_state_name_e;


typedef struct {
    ngx_smtp_relay_slot_t           slot;
    ngx_uint_t                      number;
    uint64_t                        sessions;   /* open */
} ngx_http_smtp_relay_worker_t;


typedef struct {
    ngx_str_t                       name;
    ngx_str_t                       labels;     /* as Prometheus has them */
    ngx_smtp_relay_stat_server_t    stat;
} ngx_http_smtp_relay_server_t;


typedef struct {
    ngx_str_t                       group;
    ngx_str_t                       name;
    ngx_str_t                       labels;
    ngx_str_t                       server;     /* as configured */
    ngx_smtp_relay_state_name_e     state;
    ngx_uint_t                      backup;
    ngx_int_t                       weight;
    ngx_uint_t                      active;
    ngx_uint_t                      shared;     /* known to all workers */
    ngx_smtp_relay_stat_node_t      stat;
} ngx_http_smtp_relay_node_t;


/* servers and nodes are sorted by name; nodes of a group stand together */

typedef struct {
    ngx_str_t                       zone;
    size_t                          zone_size;
    size_t                          zone_free;
    ngx_uint_t                      zone_full;
    uint64_t                        now;        /* milliseconds */
    uint64_t                        start;
    ngx_uint_t                      generation;
    ngx_array_t                     workers;    /* as above */
    ngx_array_t                     servers;    /* pointers to the above */
    ngx_array_t                     nodes;
} ngx_http_smtp_relay_snapshot_t;


/* names of what is counted, as it is shown: by the enums of stat.h */

extern ngx_str_t  ngx_http_smtp_relay_ends[];
extern ngx_str_t  ngx_http_smtp_relay_tls_ways[];
extern ngx_str_t  ngx_http_smtp_relay_tls_failures[];
extern ngx_str_t  ngx_http_smtp_relay_methods[];
extern ngx_str_t  ngx_http_smtp_relay_service_failures[];
extern ngx_str_t  ngx_http_smtp_relay_results[];
extern ngx_str_t  ngx_http_smtp_relay_failures[];
extern ngx_str_t  ngx_http_smtp_relay_pool_ends[];
extern ngx_str_t  ngx_http_smtp_relay_conns[];
extern ngx_str_t  ngx_http_smtp_relay_states[];

/* The result and the source of an AUTH verdict, by its index. */
void ngx_http_smtp_relay_verdict(ngx_uint_t verdict, ngx_str_t *result,
    ngx_str_t *source);


/* Takes a snapshot, in memory of pool.  NGX_OK or NGX_ERROR: no memory. */
ngx_int_t ngx_http_smtp_relay_snapshot(ngx_http_smtp_relay_snapshot_t *sn,
    ngx_pool_t *pool);

/* Write a snapshot. */
void ngx_http_smtp_relay_json(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn);
void ngx_http_smtp_relay_prometheus(ngx_http_smtp_relay_out_t *out,
    ngx_http_smtp_relay_snapshot_t *sn);

/* Write what zones of caches, limits and blocks count, as part of it. */
void ngx_http_smtp_relay_json_zones(ngx_http_smtp_relay_out_t *out);
void ngx_http_smtp_relay_prometheus_zones(ngx_http_smtp_relay_out_t *out);

/* The directive, and the check that there is a zone to show. */
char *ngx_http_smtp_relay_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_smtp_relay_status_check(ngx_cycle_t *cycle);


/* configuration of a location */

typedef struct {
    ngx_uint_t                      status;     /* …_STATUS_… */
} ngx_http_smtp_relay_loc_conf_t;


/* where smtp_relay_status stands */

typedef struct {
    u_char                         *file;
    ngx_uint_t                      line;
    ngx_str_t                       policy;     /* of the page */
} ngx_http_smtp_relay_main_conf_t;


extern ngx_module_t  ngx_http_smtp_relay_module;

#endif


#endif /* _NGX_HTTP_SMTP_RELAY_STATUS_H_INCLUDED_ */
