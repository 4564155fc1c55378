
/*
 * Lines: what is taken out of a buffer does not depend on how the octets
 * arrive in it.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "unit.h"


#define LINE_MAX_OCTETS  8


typedef struct {
    const char  *name;
    ngx_str_t    input;
    ngx_str_t    expected;   /* [line], or what is wrong with it */
} line_case_t;


static line_case_t  line_valid[] = {

    { "nothing",
      unit_text(""),
      unit_text("") },

    { "one line",
      unit_text("QUIT\r\n"),
      unit_text("[QUIT]") },

    { "an empty line",
      unit_text("\r\n"),
      unit_text("[]") },

    { "pipelined lines",
      unit_text("NOOP\r\nRSET\r\n\r\nQUIT\r\n"),
      unit_text("[NOOP][RSET][][QUIT]") },

    { "a line that has not ended is no line",
      unit_text("NOOP\r\nQUIT\r"),
      unit_text("[NOOP]") },

    { "a line of the greatest length",
      unit_text("12345678\r\nQUIT\r\n"),
      unit_text("[12345678][QUIT]") },

    { "8-bit octets and controls are not for the line to judge",
      unit_text("\xff\x01\t\x7f\r\n"),
      unit_text("[\xff\x01\t\x7f]") },
};


static line_case_t  line_refused[] = {

    { "one octet too many",
      unit_text("123456789\r\nQUIT\r\n"),
      unit_text("LONG[QUIT]") },

    { "far too many octets",
      unit_text("12345678901234567890123456789012345\r\nQUIT\r\n"),
      unit_text("LONG[QUIT]") },

    { "two lines too long",
      unit_text("123456789\r\n12345678901\r\nQUIT\r\n"),
      unit_text("LONG" "LONG[QUIT]") },

    { "CRs count for the length unless LF follows",
      unit_text("1234567\r\r\r\n12345678\r\n"),
      unit_text("LONG[12345678]") },

    { "too long, and an LF without CR ends it",
      unit_text("123456789\nQUIT\r\n"),
      unit_text("LONG[QUIT]") },

    { "too long and a NUL in it: too long",
      unit_text("1234\0" "6789\r\n"),
      unit_text("LONG") },

    { "too long and a bare CR in it: too long",
      unit_text("1234\r6789\r\n"),
      unit_text("LONG") },

    { "a NUL",
      unit_text("QU\0IT\r\nQUIT\r\n"),
      unit_text("NUL[QUIT]") },

    { "a NUL alone",
      unit_text("\0\r\n"),
      unit_text("NUL") },

    { "an LF without CR",
      unit_text("QUIT\nQUIT\r\n"),
      unit_text("BARE[QUIT]") },

    { "an LF alone",
      unit_text("\n\r\n"),
      unit_text("BARE[]") },

    { "a CR within a line",
      unit_text("QU\rIT\r\nQUIT\r\n"),
      unit_text("BARE[QUIT]") },

    { "two CRs in front of LF",
      unit_text("QUIT\r\r\nQUIT\r\n"),
      unit_text("BARE[QUIT]") },

    { "LF, then CR",
      unit_text("QUIT\n\rQUIT\r\n"),
      unit_text("BARE" "BARE") },

    { "what was wrong with a line is not said of the next",
      unit_text("\0\r\nA\r\nB\n\r\nC\r\n"),
      unit_text("NUL[A]BARE[][C]") },

    { "a refused line that has not ended is not refused yet",
      unit_text("Q\0IT"),
      unit_text("") },
};


/*
 * Feeds input in pieces of step octets.  Each call sees the octets that are
 * left in new memory of their exact length.
 */

static void
line_feed(ngx_str_t *input, size_t step, ngx_str_t *events, size_t *most)
{
    u_char                 *data;
    size_t                  n, left, arrived;
    ngx_buf_t               b;
    ngx_int_t               rc;
    ngx_str_t               line, octets;
    ngx_smtp_relay_line_t   st;

    static const char  *errors[] = { "OK?", "LONG", "NUL", "BARE" };

    ngx_memzero(&st, sizeof(ngx_smtp_relay_line_t));
    ngx_memzero(&b, sizeof(ngx_buf_t));

    unit_text_init(&octets);

    left = 0;
    arrived = 0;
    *most = 0;

    for ( ;; ) {

        data = unit_copy(octets.data, left);

        b.start = data;
        b.pos = data;
        b.last = data + left;
        b.end = b.last;

        rc = ngx_smtp_relay_parse_line(&st, &b, LINE_MAX_OCTETS, &line);

        if (rc == NGX_OK) {
            unit_add(events, "[");
            unit_add_octets(events, line.data, line.len);
            unit_add(events, "]");

        } else if (rc == NGX_DECLINED) {
            unit_add(events, "%s", errors[st.error]);
        }

        left = b.last - b.pos;

        if (left) {
            ngx_memmove(octets.data, b.pos, left);
        }

        free(data);

        if (rc != NGX_AGAIN) {
            continue;
        }

        *most = ngx_max(*most, left);

        if (arrived == input->len) {
            break;
        }

        n = ngx_min(step, input->len - arrived);

        ngx_memcpy(octets.data + left, input->data + arrived, n);

        left += n;
        arrived += n;
    }

    free(octets.data);
}


static void
line_run(line_case_t *c)
{
    char        name[256];
    size_t      step, most;
    ngx_str_t   events;

    unit_text_init(&events);
    line_feed(&c->input, c->input.len + 1, &events, &most);
    unit_same(c->name, &events, &c->expected);

    for (step = 1; step <= c->input.len && step <= 5; step++) {
        events.len = 0;
        line_feed(&c->input, step, &events, &most);
        sprintf(name, "%s, by %d", c->name, (int) step);
        unit_same(name, &events, &c->expected);

        unit_ok(most <= LINE_MAX_OCTETS + 1,
                "%s: no more than a line and CR stays", name);
    }

    free(events.data);
}


static void
line_dropped(void)
{
    u_char                 *data;
    ngx_buf_t               b;
    ngx_int_t               rc;
    ngx_str_t               line;
    ngx_smtp_relay_line_t   st;

    ngx_memzero(&st, sizeof(ngx_smtp_relay_line_t));
    ngx_memzero(&b, sizeof(ngx_buf_t));

    data = unit_copy((u_char *) "123456789012", 12);
    b.pos = data;
    b.last = data + 12;

    rc = ngx_smtp_relay_parse_line(&st, &b, LINE_MAX_OCTETS, &line);

    unit_ok(rc == NGX_AGAIN && b.pos == b.last,
            "the start of a line too long is dropped at once");
    unit_ok(st.seen == 0, "nothing is seen of an empty buffer");

    free(data);

    data = unit_copy((u_char *) "34\r\nQUIT\r\n", 10);
    b.pos = data;
    b.last = data + 10;

    rc = ngx_smtp_relay_parse_line(&st, &b, LINE_MAX_OCTETS, &line);

    unit_ok(rc == NGX_DECLINED && st.error == NGX_SMTP_RELAY_LINE_LONG
            && b.pos == data + 4,
            "another buffer brings its end");

    rc = ngx_smtp_relay_parse_line(&st, &b, LINE_MAX_OCTETS, &line);

    unit_ok(rc == NGX_OK && st.error == NGX_SMTP_RELAY_LINE_OK
            && line.len == 4 && line.data == data + 4 && b.pos == b.last,
            "and the next line, which points into the buffer");

    free(data);
}


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_count(line_valid); i++) {
        line_run(&line_valid[i]);
    }

    for (i = 0; i < unit_count(line_refused); i++) {
        line_run(&line_refused[i]);
    }

    line_dropped();

    return unit_done();
}
