
/* Zones of shared memory as directives name them. */


#ifndef _NGX_SMTP_RELAY_ZONE_H_INCLUDED_
#define _NGX_SMTP_RELAY_ZONE_H_INCLUDED_


#include "ngx_smtp_relay.h"


/*
 * Adds the zone of an argument "zone=name:size", or "name:size" if prefix is
 * empty, for the module tag.  The caller sets init and data; data that is
 * set says that the zone is defined already.  NULL: an error, logged with
 * directive and line; sizes under 8 pages are one.
 */
ngx_shm_zone_t *ngx_smtp_relay_zone_add(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *arg, char *prefix, void *tag);

/*
 * Refers to a zone "name" or "zone=name" that is defined elsewhere, perhaps
 * further down: whether it is, data not NULL, can be told only when all of
 * the configuration is read.  NULL: an error, logged.
 */
ngx_shm_zone_t *ngx_smtp_relay_zone_get(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *arg, void *tag);


#endif /* _NGX_SMTP_RELAY_ZONE_H_INCLUDED_ */
