
/*
 * Message content: what the scanner puts out is the same however it is fed,
 * and the same as a slow model says, which is written in another way: it
 * looks for the end of data in all octets at once, and takes dots off, makes
 * newlines and puts dots on in three passes.
 *
 * An octet above 0xdf stands for a run of up to 32 letters, so that short
 * inputs reach what the scanner does with long lines.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_scan.h"
#include "fuzz.h"


#define FUZZ_MAX_SPANS  17


typedef struct {
    size_t                  taken;
    size_t                  size;
    ngx_uint_t              done;
    ngx_uint_t              bare;
    ngx_uint_t              nul;
} fuzz_result_t;


static fuzz_text_t  fuzz_input;
static fuzz_text_t  fuzz_content;
static fuzz_text_t  fuzz_lines;
static fuzz_text_t  fuzz_model;
static fuzz_text_t  fuzz_output;


static void
fuzz_expand(const uint8_t *data, size_t size)
{
    size_t  i;

    fuzz_input.len = 0;

    for (i = 0; i < size; i++) {

        if (data[i] < 0xe0) {
            fuzz_add(&fuzz_input, &data[i], 1);
            continue;
        }

        fuzz_add(&fuzz_input, (u_char *) "abcdefghijklmnopqrstuvwxyz012345",
                 data[i] - 0xdf);
    }
}


static ngx_uint_t
fuzz_ends(fuzz_text_t *text, const char *end)
{
    size_t  len;

    len = strlen(end);

    return text->len >= len
           && memcmp(text->data + text->len - len, end, len) == 0;
}


/* pass 1: finds the end of data, or cuts off what is not decided yet */

static void
fuzz_model_end(fuzz_result_t *r)
{
    u_char  *end;

    r->done = 0;
    r->taken = fuzz_input.len;

    /* content begins as if a line had ended before it */

    fuzz_content.len = 0;
    fuzz_add_text(&fuzz_content, "\r\n");
    fuzz_add(&fuzz_content, fuzz_input.data, fuzz_input.len);

    end = memmem(fuzz_content.data, fuzz_content.len, "\r\n.\r\n", 5);

    if (end) {
        r->done = 1;
        r->taken = end - fuzz_content.data + 3;
        fuzz_content.len = end - fuzz_content.data + 2;

    } else if (fuzz_ends(&fuzz_content, "\r\n.\r")) {
        fuzz_content.len -= 2;

    } else if (fuzz_ends(&fuzz_content, "\r\n.")
               || fuzz_ends(&fuzz_content, "\r"))
    {
        fuzz_content.len--;
    }

    fuzz_content.len -= 2;
    memmove(fuzz_content.data, fuzz_content.data + 2, fuzz_content.len);
}


/* pass 2: takes dots off the lines, makes each bare CR or LF a newline */

static void
fuzz_model_lines(fuzz_result_t *r, ngx_uint_t dots_in)
{
    u_char  *p, *end, *line_end, *next;

    fuzz_lines.len = 0;
    r->bare = 0;

    p = fuzz_content.data;
    end = p + fuzz_content.len;

    while (p < end) {

        line_end = memmem(p, end - p, "\r\n", 2);
        next = line_end ? line_end + 2 : end;
        line_end = line_end ? line_end : end;

        if (dots_in && p < line_end && *p == '.') {
            p++;
        }

        for ( /* void */ ; p < line_end; p++) {

            if (*p == '\r' || *p == '\n') {
                fuzz_add_text(&fuzz_lines, "\r\n");
                r->bare = 1;

            } else {
                fuzz_add(&fuzz_lines, p, 1);
            }
        }

        if (line_end != next) {
            fuzz_add_text(&fuzz_lines, "\r\n");
        }

        p = next;
    }
}


/* pass 3: puts dots on */

static void
fuzz_model_dots(ngx_uint_t dots_out)
{
    u_char  *p, *end, *next;

    fuzz_model.len = 0;

    p = fuzz_lines.data;
    end = p + fuzz_lines.len;

    while (p < end) {

        next = memmem(p, end - p, "\r\n", 2);
        next = next ? next + 2 : end;

        if (dots_out && *p == '.') {
            fuzz_add_text(&fuzz_model, ".");
        }

        fuzz_add(&fuzz_model, p, next - p);
        p = next;
    }
}


static void
fuzz_run_model(ngx_uint_t dots_in, ngx_uint_t dots_out, fuzz_result_t *r)
{
    if (dots_in) {
        fuzz_model_end(r);

    } else {
        fuzz_content.len = 0;
        fuzz_add(&fuzz_content, fuzz_input.data, fuzz_input.len);

        r->done = 0;
        r->taken = fuzz_input.len;
    }

    r->nul = memchr(fuzz_content.data, '\0', fuzz_content.len) != NULL;

    fuzz_model_lines(r, dots_in);

    if (!dots_in && dots_out && fuzz_lines.len
        && !fuzz_ends(&fuzz_lines, "\r\n"))
    {
        fuzz_add_text(&fuzz_lines, "\r\n");
    }

    r->size = fuzz_lines.len;

    fuzz_model_dots(dots_out);
}


/* returns how many spans there were */

static ngx_uint_t
fuzz_collect(ngx_smtp_relay_span_t *spans, ngx_uint_t n, ngx_uint_t max)
{
    ngx_uint_t  i;

    fuzz_check(n <= max);

    for (i = 0; i < n; i++) {
        fuzz_check(spans[i].pos < spans[i].last);
        fuzz_check(i == 0 || spans[i - 1].last != spans[i].pos);

        fuzz_add(&fuzz_output, spans[i].pos, spans[i].last - spans[i].pos);
    }

    return n;
}


static void
fuzz_scan(ngx_uint_t dots_in, ngx_uint_t dots_out, fuzz_pieces_t *pieces,
    ngx_uint_t max, fuzz_result_t *r)
{
    u_char                 *data, *p, *last, *before;
    size_t                  len;
    ngx_int_t               rc;
    ngx_uint_t              n, spans_n;
    ngx_smtp_relay_scan_t   sc;
    ngx_smtp_relay_span_t  *spans;

    spans = malloc(max * sizeof(ngx_smtp_relay_span_t));
    fuzz_check(spans != NULL);

    memset(&sc, 0xa5, sizeof(ngx_smtp_relay_scan_t));
    ngx_smtp_relay_scan_init(&sc, dots_in, dots_out);

    fuzz_output.len = 0;
    r->taken = 0;
    r->done = 0;
    spans_n = 0;

    while (r->taken < fuzz_input.len && !r->done) {

        len = fuzz_piece(pieces, fuzz_input.len - r->taken);
        data = fuzz_copy(fuzz_input.data + r->taken, len);

        p = data;
        last = data + len;

        do {
            n = max;
            before = p;

            rc = ngx_smtp_relay_scan(&sc, &p, last, spans, &n);

            fuzz_check(p >= before && p <= last);
            fuzz_check(rc != NGX_AGAIN || p > before);

            spans_n += fuzz_collect(spans, n, max);

        } while (rc == NGX_AGAIN);

        fuzz_check(rc == NGX_DONE || (rc == NGX_OK && p == last));
        fuzz_check(rc != NGX_DONE || dots_in);

        r->done = (rc == NGX_DONE);
        r->taken += p - data;

        free(data);
    }

    if (!dots_in) {
        n = ngx_smtp_relay_scan_finish(&sc, spans);
        (void) fuzz_collect(spans, n, NGX_SMTP_RELAY_MIN_SPANS);
    }

    r->size = sc.size;
    r->bare = sc.bare;
    r->nul = sc.nul;

    /* clean content is not cut up */

    if (pieces->feed == FUZZ_WHOLE && dots_in && dots_out
        && fuzz_output.len
        && memcmp(fuzz_output.data, fuzz_input.data, fuzz_output.len) == 0)
    {
        fuzz_check(spans_n == 1);
    }

    free(spans);
}


/* whatever has been put in: no end of data and no bare CR or LF comes out */

static void
fuzz_safe(ngx_uint_t dots_out)
{
    size_t   i;
    u_char  *p;

    p = fuzz_output.data;

    for (i = 0; i < fuzz_output.len; i++) {

        if (p[i] == '\r') {
            fuzz_check(i + 1 < fuzz_output.len && p[i + 1] == '\n');
        }

        if (p[i] == '\n') {
            fuzz_check(i > 0 && p[i - 1] == '\r');
        }
    }

    if (dots_out) {
        fuzz_check(memmem(p, fuzz_output.len, "\r\n.\r\n", 5) == NULL);
        fuzz_check(fuzz_output.len < 3 || memcmp(p, ".\r\n", 3) != 0);
    }
}


static void
fuzz_compare(ngx_uint_t dots_in, ngx_uint_t dots_out, fuzz_pieces_t *pieces,
    ngx_uint_t max, fuzz_result_t *expected)
{
    fuzz_result_t  r;

    fuzz_scan(dots_in, dots_out, pieces, max, &r);

    fuzz_safe(dots_out);

    fuzz_check(fuzz_same(&fuzz_output, &fuzz_model));
    fuzz_check(r.done == expected->done);
    fuzz_check(r.taken == expected->taken);
    fuzz_check(r.size == expected->size);
    fuzz_check(r.bare == expected->bare);
    fuzz_check(r.nul == expected->nul);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_feed_e     feed;
    ngx_uint_t      mode, dots_in, dots_out, max;
    fuzz_pieces_t   pieces;
    fuzz_result_t   expected;

    if (size < 1) {
        return 0;
    }

    fuzz_expand(data + 1, size - 1);

    for (mode = 0; mode < 4; mode++) {

        dots_in = mode & 1;
        dots_out = mode >> 1;

        fuzz_run_model(dots_in, dots_out, &expected);

        for (feed = FUZZ_WHOLE; feed < FUZZ_FEEDS; feed++) {

            max = NGX_SMTP_RELAY_MIN_SPANS + (data[0] + feed) % 8;

            fuzz_pieces(&pieces, feed, data[0]);
            fuzz_compare(dots_in, dots_out, &pieces, max, &expected);
        }

        for (max = NGX_SMTP_RELAY_MIN_SPANS; max <= FUZZ_MAX_SPANS; max++) {
            fuzz_pieces(&pieces, FUZZ_WHOLE, 0);
            fuzz_compare(dots_in, dots_out, &pieces, max, &expected);
        }
    }

    return 0;
}
