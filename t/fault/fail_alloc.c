
/*
 * Makes one allocation fail.  Linked into an nginx for tests, in front of
 * nginx's allocators (ld --wrap).  Which allocation it is, a test says in the
 * file that SMTP_RELAY_FAULT names:
 *
 *     uint32_t  countdown   1: the next one fails; 0: none
 *     uint32_t  fired       how many have failed
 *     uint64_t  first       allocations asked for by code in this range
 *     uint64_t  last          count
 */


#include <ngx_config.h>
#include <ngx_core.h>


typedef struct {
    volatile uint32_t   countdown;
    volatile uint32_t   fired;
    volatile uint64_t   first;
    volatile uint64_t   last;
} fault_t;


static fault_t *
fault_map(void)
{
    int              fd;
    char            *name;
    static fault_t  *fault;
    static int       tried;

    if (tried) {
        return fault;
    }

    /* a worker gets its environment only after some allocations */

    name = getenv("SMTP_RELAY_FAULT");

    if (name == NULL) {
        return NULL;
    }

    tried = 1;

    fd = open(name, O_RDWR);

    if (fd != -1) {
        fault = mmap(NULL, sizeof(fault_t), PROT_READ|PROT_WRITE, MAP_SHARED,
                     fd, 0);
        close(fd);

        if (fault == MAP_FAILED) {
            fault = NULL;
        }
    }

    return fault;
}


static int
fault_here(void *caller)
{
    fault_t  *fault;

    /* those of the configuration, in a process that does nothing else */

    if (ngx_process != NGX_PROCESS_WORKER
        && getenv("SMTP_RELAY_FAULT_CONF") == NULL)
    {
        return 0;
    }

    fault = fault_map();

    if (fault == NULL
        || fault->countdown == 0
        || (uint64_t) (uintptr_t) caller < fault->first
        || (uint64_t) (uintptr_t) caller > fault->last
        || --fault->countdown)
    {
        return 0;
    }

    fault->fired++;

    if (getenv("SMTP_RELAY_FAULT_ABORT")) {
        abort();
    }

    return 1;
}


#define fault_wrap(name, args, call)                                          \
    void *__real_##name args;                                                 \
    void *__wrap_##name args;                                                 \
                                                                              \
    void *                                                                    \
    __wrap_##name args                                                        \
    {                                                                         \
        if (fault_here(__builtin_return_address(0))) {                        \
            return NULL;                                                      \
        }                                                                     \
                                                                              \
        return __real_##name call;                                            \
    }


fault_wrap(ngx_alloc, (size_t size, ngx_log_t *log), (size, log))
fault_wrap(ngx_calloc, (size_t size, ngx_log_t *log), (size, log))
fault_wrap(ngx_create_pool, (size_t size, ngx_log_t *log), (size, log))
fault_wrap(ngx_palloc, (ngx_pool_t *pool, size_t size), (pool, size))
fault_wrap(ngx_pnalloc, (ngx_pool_t *pool, size_t size), (pool, size))
fault_wrap(ngx_pcalloc, (ngx_pool_t *pool, size_t size), (pool, size))
fault_wrap(ngx_pmemalign, (ngx_pool_t *pool, size_t size, size_t alignment),
           (pool, size, alignment))
fault_wrap(ngx_pool_cleanup_add, (ngx_pool_t *pool, size_t size), (pool, size))
fault_wrap(ngx_create_temp_buf, (ngx_pool_t *pool, size_t size), (pool, size))
fault_wrap(ngx_alloc_chain_link, (ngx_pool_t *pool), (pool))
fault_wrap(ngx_array_create, (ngx_pool_t *pool, ngx_uint_t n, size_t size),
           (pool, n, size))
fault_wrap(ngx_array_push, (ngx_array_t *array), (array))
fault_wrap(ngx_array_push_n, (ngx_array_t *array, ngx_uint_t n), (array, n))
fault_wrap(ngx_pstrdup, (ngx_pool_t *pool, ngx_str_t *src), (pool, src))
fault_wrap(ngx_slab_alloc, (ngx_slab_pool_t *pool, size_t size), (pool, size))
fault_wrap(ngx_slab_alloc_locked, (ngx_slab_pool_t *pool, size_t size),
           (pool, size))
fault_wrap(ngx_slab_calloc, (ngx_slab_pool_t *pool, size_t size),
           (pool, size))
fault_wrap(ngx_slab_calloc_locked, (ngx_slab_pool_t *pool, size_t size),
           (pool, size))
