
/*
 * Replies that a client gets before a node was asked, where
 * "smtp_relay_early_replies" says so: each spares an exchange with the node.
 *
 * MAIL goes to the node with the first RCPT.  DATA does not go at all if the
 * content comes in one piece and the node offers CHUNKING: BDAT is sent in
 * its place (RFC 3030).  What a node has against MAIL then answers RCPT, what
 * it has against DATA the content.  Nothing is told early of RCPT and of the
 * content itself.
 */


#ifndef _NGX_SMTP_RELAY_EARLY_H_INCLUDED_
#define _NGX_SMTP_RELAY_EARLY_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_transaction.h"


/*
 * Answers MAIL, the only command of the transaction, unless more has come
 * with it: replies to one flight leave in one.
 */
void ngx_smtp_relay_early_mail(ngx_smtp_relay_transaction_t *t);

/*
 * Answers DATA, which is next to be sent and to be answered, if the node
 * suits.  1: the content decides what is sent, t->undecided is set.
 */
ngx_uint_t ngx_smtp_relay_early_data(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_envelope_t *e);

/*
 * Takes a refusal, by the node or of the relay's own, of a command that was
 * answered early; text, which is copied, is for the client.
 *
 *     NGX_OK        it is, or will be, told; the envelope is over
 *     NGX_DECLINED  it contradicts what the client was told
 */
ngx_int_t ngx_smtp_relay_early_refused(ngx_smtp_relay_transaction_t *t,
    ngx_smtp_relay_envelope_t *e, ngx_str_t *text);


#endif /* _NGX_SMTP_RELAY_EARLY_H_INCLUDED_ */
