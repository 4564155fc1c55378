
/*
 * What a transaction wants of its node connection besides the address: the
 * values of configuration that may hold variables.  A connection kept from
 * another transaction will do only if it was made with the same ones.
 */


#ifndef _NGX_SMTP_RELAY_NODE_PROFILE_H_INCLUDED_
#define _NGX_SMTP_RELAY_NODE_PROFILE_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_peer_ssl.h"


typedef struct {
    ngx_smtp_relay_peer_ssl_params_t  ssl;
    ngx_str_t                         helo;     /* EHLO argument */
    ngx_str_t                         user;     /* of AUTH */
    ngx_str_t                         secret;
    ngx_str_t                         key;      /* all of these, the secret
                                                 * as a hash */
    unsigned                          wipe:1;   /* secret is a copy */
    unsigned                          denied:1; /* a node refused secret */
} ngx_smtp_relay_node_profile_t;


/*
 * Fills t->profile, within the scope of the transaction; host is what the
 * upstream is called.  NGX_OK or NGX_ERROR, which is logged.
 */
ngx_int_t ngx_smtp_relay_node_profile_init(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *host);

/* Wipes the secret. */
void ngx_smtp_relay_node_profile_done(ngx_smtp_relay_transaction_t *t);


#endif /* _NGX_SMTP_RELAY_NODE_PROFILE_H_INCLUDED_ */
