
/* smtp_relay_auth_cache_purge: what empties the cache of verdicts. */


#ifndef _NGX_HTTP_SMTP_RELAY_PURGE_H_INCLUDED_
#define _NGX_HTTP_SMTP_RELAY_PURGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* The directive: makes a location purge. */
char *ngx_http_smtp_relay_purge(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_SMTP_RELAY_PURGE_H_INCLUDED_ */
