
/*
 * Lines: the same however they arrive, and the same as a model says that
 * splits all octets at LF.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "fuzz.h"


static fuzz_text_t  fuzz_model;
static fuzz_text_t  fuzz_events;
static fuzz_text_t  fuzz_unread;


static void
fuzz_event(fuzz_text_t *events, const char *what, u_char *data, size_t len)
{
    fuzz_add_text(events, what);
    fuzz_add(events, data, len);
    fuzz_add_text(events, "\n");
}


static void
fuzz_line_model(ngx_str_t *input, size_t max)
{
    u_char  *p, *end, *lf;
    size_t   len;

    fuzz_model.len = 0;

    p = input->data;
    end = p + input->len;

    while (p < end && (lf = memchr(p, '\n', end - p)) != NULL) {

        len = lf - p;

        if (len && p[len - 1] == '\r') {
            len--;
        }

        if (len > max) {
            fuzz_event(&fuzz_model, "LONG", NULL, 0);

        } else if (memchr(p, '\r', len) || p + len == lf) {

            /* whichever comes first */

            if (memchr(p, '\0', len)
                && (memchr(p, '\r', len) == NULL
                    || memchr(p, '\0', len) < memchr(p, '\r', len)))
            {
                fuzz_event(&fuzz_model, "NUL", NULL, 0);

            } else {
                fuzz_event(&fuzz_model, "BARE", NULL, 0);
            }

        } else if (memchr(p, '\0', len)) {
            fuzz_event(&fuzz_model, "NUL", NULL, 0);

        } else {
            fuzz_event(&fuzz_model, "LINE", p, len);
        }

        p = lf + 1;
    }
}


static void
fuzz_line(ngx_str_t *input, size_t max, fuzz_pieces_t *pieces)
{
    u_char                 *data;
    size_t                  n, arrived;
    ngx_buf_t               b;
    ngx_int_t               rc;
    ngx_str_t               line;
    ngx_smtp_relay_line_t   st;

    static const char  *errors[] = { "OK?", "LONG", "NUL", "BARE" };

    ngx_memzero(&st, sizeof(ngx_smtp_relay_line_t));
    ngx_memzero(&b, sizeof(ngx_buf_t));

    fuzz_events.len = 0;
    fuzz_unread.len = 0;
    arrived = 0;

    for ( ;; ) {

        data = fuzz_copy(fuzz_unread.data, fuzz_unread.len);

        b.start = data;
        b.pos = data;
        b.last = data + fuzz_unread.len;
        b.end = b.last;

        do {
            rc = ngx_smtp_relay_parse_line(&st, &b, max, &line);

            fuzz_check(b.pos >= b.start && b.pos <= b.last);

            if (rc == NGX_OK) {
                fuzz_check(line.len <= max);
                fuzz_event(&fuzz_events, "LINE", line.data, line.len);

            } else if (rc == NGX_DECLINED) {
                fuzz_event(&fuzz_events, errors[st.error], NULL, 0);
            }

        } while (rc != NGX_AGAIN);

        fuzz_check((size_t) (b.last - b.pos) <= max + 1);
        fuzz_check(st.seen == (size_t) (b.last - b.pos));

        fuzz_unread.len = 0;
        fuzz_add(&fuzz_unread, b.pos, b.last - b.pos);

        free(data);

        if (arrived == input->len) {
            break;
        }

        n = fuzz_piece(pieces, input->len - arrived);
        fuzz_add(&fuzz_unread, input->data + arrived, n);
        arrived += n;
    }

    fuzz_check(fuzz_same(&fuzz_events, &fuzz_model));
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t          max;
    ngx_str_t       input;
    fuzz_feed_e     feed;
    fuzz_pieces_t   pieces;

    static const size_t  lengths[] = { 0, 1, 8, 64 };

    if (size < 1) {
        return 0;
    }

    max = lengths[data[0] & 3];

    input.data = (u_char *) data + 1;
    input.len = size - 1;

    fuzz_line_model(&input, max);

    for (feed = FUZZ_WHOLE; feed < FUZZ_FEEDS; feed++) {
        fuzz_pieces(&pieces, feed, data[0]);
        fuzz_line(&input, max, &pieces);
    }

    return 0;
}
