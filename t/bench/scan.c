
/*
 * Speed of the content scanner: bodies of several sizes and line lengths,
 * as DATA to DATA, fed in pieces of 16 KiB.  Prints GB/s of each.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_scan.h"


#define SCAN_PIECE    16384
#define SCAN_SPANS    64
#define SCAN_SECONDS  0.3


static u_char *scan_body(size_t size, size_t width);
static size_t scan_message(u_char *body, size_t len);
static double scan_now(void);


int
main(void)
{
    u_char      *body;
    double       start, time;
    ngx_uint_t   i, k, n, count;

    static size_t  sizes[] = { 4096, 65536, 1048576 };
    static size_t  widths[] = { 20, 76, 998 };

    printf("%10s %6s %10s\n", "body", "lines", "GB/s");

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (k = 0; k < sizeof(widths) / sizeof(widths[0]); k++) {

            body = scan_body(sizes[i], widths[k]);

            if (body == NULL) {
                fprintf(stderr, "no memory\n");
                return 1;
            }

            count = 0;
            start = scan_now();

            do {
                for (n = 0; n < 1 + 1048576 / sizes[i]; n++) {

                    if (scan_message(body, sizes[i]) == 0) {
                        fprintf(stderr, "end of data not found\n");
                        return 1;
                    }
                }

                count += n;
                time = scan_now() - start;

            } while (time < SCAN_SECONDS);

            printf("%10lu %6lu %10.2f\n", (unsigned long) sizes[i],
                   (unsigned long) widths[k],
                   (double) count * sizes[i] / time / 1e9);

            free(body);
        }
    }

    return 0;
}


/* text of size octets, its end of data included */

static u_char *
scan_body(size_t size, size_t width)
{
    u_char  *body;
    size_t   i, column;

    body = malloc(size);

    if (body == NULL) {
        return NULL;
    }

    size -= 5;

    for (i = 0, column = 0; i < size; i++) {

        if (column == width && i + 1 < size) {
            body[i++] = '\r';
            body[i] = '\n';
            column = 0;
            continue;
        }

        body[i] = (column % 7 == 6) ? ' ' : (u_char) ('a' + column % 26);
        column++;
    }

    ngx_memcpy(body + size, "\r\n.\r\n", 5);

    return body;
}


/* returns how many octets came out, 0 if the end was not found */

static size_t
scan_message(u_char *body, size_t len)
{
    u_char                 *p, *last, *end;
    size_t                  out;
    ngx_int_t               rc;
    ngx_uint_t              i, n;
    ngx_smtp_relay_scan_t   sc;
    ngx_smtp_relay_span_t   spans[SCAN_SPANS];

    ngx_smtp_relay_scan_init(&sc, 1, 1);

    out = 0;
    p = body;
    end = body + len;

    while (p < end) {

        last = ngx_min(p + SCAN_PIECE, end);
        n = SCAN_SPANS;

        rc = ngx_smtp_relay_scan(&sc, &p, last, spans, &n);

        for (i = 0; i < n; i++) {
            out += spans[i].last - spans[i].pos;
        }

        if (rc == NGX_DONE) {
            return out;
        }
    }

    return 0;
}


static double
scan_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}
