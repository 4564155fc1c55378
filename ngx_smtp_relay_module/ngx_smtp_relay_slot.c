
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_slot.h"


#define NGX_SMTP_RELAY_MIN_SLOTS  8
#define NGX_SMTP_RELAY_MAX_SLOTS  256


ngx_uint_t
ngx_smtp_relay_slots(ngx_cycle_t *cycle)
{
    ngx_uint_t        n;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    n = (ccf->worker_processes > 0) ? ccf->worker_processes : ngx_ncpu;

    /* three generations of workers at one time */

    n = ngx_max(n * 3, NGX_SMTP_RELAY_MIN_SLOTS);

    return ngx_min(n, NGX_SMTP_RELAY_MAX_SLOTS);
}


ngx_uint_t
ngx_smtp_relay_slot_take(ngx_smtp_relay_slot_t *slots, ngx_uint_t n,
    ngx_uint_t *dead)
{
    ngx_uint_t  i, found;

    *dead = 0;
    found = NGX_SMTP_RELAY_NO_SLOT;

    for (i = 0; i < n; i++) {

        if (slots[i].pid == ngx_pid) {
            return i;
        }

        if (slots[i].pid == 0 && found == NGX_SMTP_RELAY_NO_SLOT) {
            found = i;
        }
    }

    /* what a killed worker has left is put right first */

    for (i = 0; i < n; i++) {

        if (slots[i].pid && ngx_smtp_relay_slot_dead(&slots[i])) {
            *dead = 1;
            found = i;
            break;
        }
    }

    if (found != NGX_SMTP_RELAY_NO_SLOT) {
        slots[found].pid = ngx_pid;
        slots[found].since = ngx_time();
    }

    return found;
}


void
ngx_smtp_relay_slot_give(ngx_smtp_relay_slot_t *slot)
{
    slot->pid = 0;
}


ngx_uint_t
ngx_smtp_relay_slot_dead(ngx_smtp_relay_slot_t *slot)
{
    return (kill(slot->pid, 0) == -1 && ngx_errno == NGX_ESRCH);
}
