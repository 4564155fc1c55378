
/*
 * What becomes of a transaction when its node is lost, or none is to be had:
 * another node, or an end.  Between these files of a transaction only.
 */


#ifndef _NGX_SMTP_RELAY_FAILOVER_H_INCLUDED_
#define _NGX_SMTP_RELAY_FAILOVER_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_transaction.h"


/*
 * Goes on with the result of asking for a node: NGX_OK, NGX_AGAIN (it is
 * coming) or NGX_ERROR (there is none).
 */
void ngx_smtp_relay_transaction_use(ngx_smtp_relay_transaction_t *t,
    ngx_int_t rc);

/* The first of these commands that another node is to be given. */
ngx_smtp_relay_envelope_t *ngx_smtp_relay_transaction_skip(
    ngx_smtp_relay_envelope_t *e);

/* Tells the client the reply to a command, and notes what it was. */
void ngx_smtp_relay_transaction_tell(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_envelope_t *e, ngx_uint_t code, ngx_str_t *text);


#endif /* _NGX_SMTP_RELAY_FAILOVER_H_INCLUDED_ */
