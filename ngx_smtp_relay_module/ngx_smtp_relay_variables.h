
/* Variables $smtp_relay_…, and the log lines they are written into. */


#ifndef _NGX_SMTP_RELAY_VARIABLES_H_INCLUDED_
#define _NGX_SMTP_RELAY_VARIABLES_H_INCLUDED_


#include "ngx_smtp_relay.h"


/* preconfiguration: makes the variables known */
ngx_int_t ngx_smtp_relay_add_variables(ngx_conf_t *cf);

/*
 * Runs nginx's log phase for the transaction's message, in the scope of the
 * transaction: $smtp_relay_event is "message" in it.
 */
void ngx_smtp_relay_log_message(ngx_smtp_relay_transaction_t *t);


#endif /* _NGX_SMTP_RELAY_VARIABLES_H_INCLUDED_ */
