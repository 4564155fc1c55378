
/* What all connections that the relay makes have in common. */


#ifndef _NGX_SMTP_RELAY_CONNECT_H_INCLUDED_
#define _NGX_SMTP_RELAY_CONNECT_H_INCLUDED_


#include "ngx_smtp_relay.h"


/*
 * The result of a connect() that was in progress, when an event of the
 * connection says that it is known.  NGX_OK, or NGX_ERROR: it failed, why is
 * logged.
 */
ngx_int_t ngx_smtp_relay_test_connect(ngx_connection_t *c);


#endif /* _NGX_SMTP_RELAY_CONNECT_H_INCLUDED_ */
