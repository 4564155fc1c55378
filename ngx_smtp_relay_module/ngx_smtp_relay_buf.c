
#include "ngx_smtp_relay.h"


/*
 * Free buffers of a worker.  Their number is bounded: what a burst took is
 * given back to the system.
 */

#if (NGX_DEBUG_PALLOC)

/* tools see what is wrong with a buffer that is given back, not kept */

#define NGX_SMTP_RELAY_FREE_BUFS  0
#else
#define NGX_SMTP_RELAY_FREE_BUFS  64
#endif


typedef struct ngx_smtp_relay_block_s  ngx_smtp_relay_block_t;

struct ngx_smtp_relay_block_s {
    ngx_buf_t                     buf;       /* first: a buffer is a block */
    size_t                        size;
    ngx_smtp_relay_block_t       *next;
};


static ngx_smtp_relay_block_t  *ngx_smtp_relay_free_blocks;
static ngx_uint_t               ngx_smtp_relay_nfree;


ngx_buf_t *
ngx_smtp_relay_buf_get(size_t size, ngx_log_t *log)
{
    ngx_smtp_relay_block_t  *block;

    block = ngx_smtp_relay_free_blocks;

    if (block) {
        ngx_smtp_relay_free_blocks = block->next;
        ngx_smtp_relay_nfree--;

        /*
         * servers with different sizes share the list; it is not searched,
         * so that taking a buffer stays O(1), and what is too small goes
         */

        if (block->size < size) {
            ngx_free(block);
            block = NULL;
        }
    }

    if (block == NULL) {
        block = ngx_alloc(sizeof(ngx_smtp_relay_block_t) + size, log);
        if (block == NULL) {
            return NULL;
        }

        ngx_memzero(block, sizeof(ngx_smtp_relay_block_t));

        block->size = size;
        block->buf.temporary = 1;
        block->buf.start = (u_char *) block + sizeof(ngx_smtp_relay_block_t);
    }

    block->buf.pos = block->buf.start;
    block->buf.last = block->buf.start;
    block->buf.end = block->buf.start + size;

    return &block->buf;
}


void
ngx_smtp_relay_buf_put(ngx_buf_t **b)
{
    ngx_smtp_relay_block_t  *block;

    if (*b == NULL) {
        return;
    }

    block = (ngx_smtp_relay_block_t *) *b;
    *b = NULL;

    if (ngx_smtp_relay_nfree == NGX_SMTP_RELAY_FREE_BUFS) {
        ngx_free(block);
        return;
    }

    block->next = ngx_smtp_relay_free_blocks;
    ngx_smtp_relay_free_blocks = block;
    ngx_smtp_relay_nfree++;
}


ngx_int_t
ngx_smtp_relay_buf_send(ngx_connection_t *c, ngx_buf_t *b)
{
    ssize_t  n;

    while (b->pos < b->last) {

        n = c->send(c, b->pos, b->last - b->pos);

        if (n == NGX_ERROR) {
            c->error = 1;
            return NGX_ERROR;
        }

        if (n == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        b->pos += n;
    }

    return NGX_OK;
}
