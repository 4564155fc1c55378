
/*
 * What the logs tell: a line of access_log for each message; in the error
 * log, what becomes of messages and recipients at info, and at debug the
 * dialogue, without secrets and content.
 */


#ifndef _NGX_SMTP_RELAY_LOG_H_INCLUDED_
#define _NGX_SMTP_RELAY_LOG_H_INCLUDED_


#include "ngx_smtp_relay.h"


/*
 * A message is over: runs nginx's log phase for it, in the scope of the
 * transaction, where $smtp_relay_event is "message", and tells the error log.
 */
void ngx_smtp_relay_log_message(ngx_smtp_relay_transaction_t *t);

/* A recipient was refused by command, "RCPT TO:<...> ...", with a reply. */
void ngx_smtp_relay_log_recipient(ngx_smtp_relay_transaction_t *t,
    ngx_str_t *command, ngx_str_t *reply);

/*
 * Lines that were sent or received, each on a line of its own at debug.
 * who says whose they are.  Not for what may carry a secret or content.
 */

#if (NGX_DEBUG)

#define ngx_smtp_relay_log_dialogue(log, who, text)                           \
    if ((log)->log_level & NGX_LOG_DEBUG_STREAM) {                            \
        ngx_smtp_relay_log_lines(log, who, text);                             \
    }

void ngx_smtp_relay_log_lines(ngx_log_t *log, char *who, ngx_str_t *text);

#else

#define ngx_smtp_relay_log_dialogue(log, who, text)

#endif


#endif /* _NGX_SMTP_RELAY_LOG_H_INCLUDED_ */
