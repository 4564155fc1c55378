
/* Choosing a node for a transaction, with the balancers of nginx. */


#ifndef _NGX_SMTP_RELAY_UPSTREAM_H_INCLUDED_
#define _NGX_SMTP_RELAY_UPSTREAM_H_INCLUDED_


#include "ngx_smtp_relay.h"


/*
 * Finds the upstream group of the transaction and readies its balancer.
 *
 *     NGX_OK     ngx_smtp_relay_upstream_next() may be called
 *     NGX_AGAIN  a name is being resolved;
 *                ngx_smtp_relay_transaction_resolved() will be called
 *     NGX_ERROR  no node can be had; the reason is logged
 */
ngx_int_t ngx_smtp_relay_upstream_init(ngx_smtp_relay_transaction_t *t);

/*
 * Whether Auth-Server and Auth-Upstream of a login name something that can
 * be had: an address, or a name with a resolver to ask; a group of the
 * configuration.  NGX_OK, or NGX_ERROR: they do not, why is logged.
 */
ngx_int_t ngx_smtp_relay_upstream_check(ngx_smtp_relay_auth_t *auth);

/*
 * Takes the next node, from the pool or by a new connection, into t->node.
 *
 *     NGX_OK     t->node is ready for commands
 *     NGX_AGAIN  t->node is connecting; the transaction will be told
 *     NGX_ERROR  there is no node left; the reason is logged
 */
ngx_int_t ngx_smtp_relay_upstream_next(ngx_smtp_relay_transaction_t *t);

/*
 * Connects anew to the node that is chosen already: for an idle connection
 * that turned out dead.  As ngx_smtp_relay_upstream_next().
 */
ngx_int_t ngx_smtp_relay_upstream_again(ngx_smtp_relay_transaction_t *t);

/*
 * Tells the balancer that the transaction is through with the node it
 * chose; state is 0 or NGX_PEER_FAILED.  Nothing happens if none is held.
 */
void ngx_smtp_relay_upstream_free(ngx_smtp_relay_transaction_t *t,
    ngx_uint_t state);

/* Ends what ngx_smtp_relay_upstream_init() started, at any time. */
void ngx_smtp_relay_upstream_cleanup(ngx_smtp_relay_transaction_t *t);


#endif /* _NGX_SMTP_RELAY_UPSTREAM_H_INCLUDED_ */
