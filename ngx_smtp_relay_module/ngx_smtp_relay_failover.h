
/*
 * What the files of a transaction have of each other: commands are sent,
 * answered, and given to another node if there has to be one.
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

/*
 * Sends what the node can take now: everything at once where it offers
 * PIPELINING (RFC 2920), else one command at a time.  NGX_OK, or NGX_ERROR:
 * the node is lost.
 */
ngx_int_t ngx_smtp_relay_transaction_send(ngx_smtp_relay_transaction_t *t);

/*
 * Takes the answer to the command that waits for one, the node's or the
 * relay's own.  NGX_ERROR: it contradicts what the client was told of an
 * earlier node.
 */
ngx_int_t ngx_smtp_relay_transaction_answer(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t code, ngx_str_t *text);

/* Tells the client the reply to a command, and notes what it was. */
void ngx_smtp_relay_transaction_tell(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_envelope_t *e, ngx_uint_t code, ngx_str_t *text);


#endif /* _NGX_SMTP_RELAY_FAILOVER_H_INCLUDED_ */
