
/*
 * Slots: parts of shared memory that one worker alone writes to, so without
 * a lock.  A worker takes a slot when it starts; the slot of a worker that
 * is gone, killed perhaps, is found by its process, and taken over.
 */


#ifndef _NGX_SMTP_RELAY_SLOT_H_INCLUDED_
#define _NGX_SMTP_RELAY_SLOT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_SMTP_RELAY_NO_SLOT  ((ngx_uint_t) -1)


/* zeroed: nobody's */

typedef struct {
    ngx_pid_t                       pid;
    time_t                          since;
} ngx_smtp_relay_slot_t;


/*
 * A number of slots that is enough for the workers of a configuration and
 * for those of earlier ones that are still draining.
 */
ngx_uint_t ngx_smtp_relay_slots(ngx_cycle_t *cycle);

/*
 * Takes a slot of n for this process: its own from before, a free one, or
 * one whose worker is gone without giving it back; *dead says so.  To be
 * called under the lock of the zone.  The index, or NGX_SMTP_RELAY_NO_SLOT.
 */
ngx_uint_t ngx_smtp_relay_slot_take(ngx_smtp_relay_slot_t *slots,
    ngx_uint_t n, ngx_uint_t *dead);

/* Gives a slot back; likewise under the lock. */
void ngx_smtp_relay_slot_give(ngx_smtp_relay_slot_t *slot);

/* Whether the worker of a slot that has one is gone: a system call. */
ngx_uint_t ngx_smtp_relay_slot_dead(ngx_smtp_relay_slot_t *slot);


#endif /* _NGX_SMTP_RELAY_SLOT_H_INCLUDED_ */
