
/* The directive "smtp_relay_auth_methods", and what it needs of others. */


#ifndef _NGX_SMTP_RELAY_AUTH_METHODS_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_METHODS_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"


/* the handler of the directive, of ngx_smtp_relay_auth_srv_conf_t */
char *ngx_smtp_relay_auth_methods(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/*
 * Checks the methods of a server when all of its directives are merged: each
 * must have somebody to verify it, and "none" should not be for everybody.
 * NGX_OK, perhaps with a warning, or NGX_ERROR, which is logged with
 * directive and line.
 */
ngx_int_t ngx_smtp_relay_auth_methods_check(ngx_conf_t *cf,
    ngx_stream_core_srv_conf_t *cscf);


#endif /* _NGX_SMTP_RELAY_AUTH_METHODS_H_INCLUDED_ */
