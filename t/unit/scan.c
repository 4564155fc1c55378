
/*
 * Message content: its end, its dots, its newlines.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_scan.h"
#include "unit.h"


#define SCAN_MAX_SPANS  12


typedef struct {
    const char  *name;
    ngx_str_t    input;
    ngx_str_t    output;
    const char  *flags;      /* bare, nul */
    const char  *rest;       /* behind the end of data; NULL: no end */
} scan_case_t;


/* DATA to DATA: dots stay on */

static scan_case_t  scan_clean[] = {

    { "a message",
      unit_text("a\r\nb\r\n.\r\n"), unit_text("a\r\nb\r\n"), "", "" },

    { "an empty message",
      unit_text(".\r\n"), unit_text(""), "", "" },

    { "an empty line",
      unit_text("\r\n.\r\n"), unit_text("\r\n"), "", "" },

    { "what follows the end is not touched",
      unit_text("a\r\n.\r\nQUIT\r\n\0"), unit_text("a\r\n"), "", "QUIT\r\n" },

    { "no end yet",
      unit_text("a\r\nb"), unit_text("a\r\nb"), "", NULL },

    { "dots within a line",
      unit_text("a.b\r\n .\r\na.\r\n.\r\n"),
      unit_text("a.b\r\n .\r\na.\r\n"), "", "" },

    { "a line of one dot",
      unit_text("..\r\n.\r\n"), unit_text("..\r\n"), "", "" },

    { "lines that start with dots",
      unit_text("..a\r\n...\r\n.\r\n"), unit_text("..a\r\n...\r\n"), "", "" },

    { "a dot that nothing was put on for is taken off",
      unit_text(".a\r\n.\r\n"), unit_text("a\r\n"), "", "" },

    { "8-bit octets and controls",
      unit_text("\xff\x80\x01\x1b\r\n.\r\n"),
      unit_text("\xff\x80\x01\x1b\r\n"), "", "" },

    { "a NUL passes and is told",
      unit_text("a\0b\r\n.\r\n"), unit_text("a\0b\r\n"), "nul", "" },

    { "a NUL starts a line",
      unit_text("\0\r\n.\r\n"), unit_text("\0\r\n"), "nul", "" },
};


static scan_case_t  scan_smuggled[] = {

    { "LF . LF is no end",
      unit_text("a\n.\nb\r\n.\r\n"),
      unit_text("a\r\n..\r\nb\r\n"), "bare", "" },

    { "LF . CRLF is no end",
      unit_text("a\n.\r\nb\r\n.\r\n"),
      unit_text("a\r\n..\r\nb\r\n"), "bare", "" },

    { "CR . CR is no end",
      unit_text("a\r.\rb\r\n.\r\n"),
      unit_text("a\r\n..\r\nb\r\n"), "bare", "" },

    { "CR . CRLF is no end",
      unit_text("a\r.\r\nb\r\n.\r\n"),
      unit_text("a\r\n..\r\nb\r\n"), "bare", "" },

    { "CRLF . LF is no end, the dot is taken off",
      unit_text("a\r\n.\nb\r\n.\r\n"),
      unit_text("a\r\n\r\nb\r\n"), "bare", "" },

    { "CRLF . CR is no end, the dot is taken off",
      unit_text("a\r\n.\rb\r\n.\r\n"),
      unit_text("a\r\n\r\nb\r\n"), "bare", "" },

    { "CRLF . CR CRLF is no end",
      unit_text("a\r\n.\r\r\nb\r\n.\r\n"),
      unit_text("a\r\n\r\n\r\nb\r\n"), "bare", "" },

    { "CRLF . NUL CRLF is no end",
      unit_text("a\r\n.\0\r\n.\r\n"), unit_text("a\r\n\0\r\n"), "nul", "" },

    { "LF CR . LF CR",
      unit_text("\n\r.\n\r\r\n.\r\n"),
      unit_text("\r\n\r\n..\r\n\r\n\r\n"), "bare", "" },

    { "CR CRLF is two newlines, and the second one is right",
      unit_text("a\r\r\n.\r\nQ"), unit_text("a\r\n\r\n"), "bare", "Q" },

    { "a bare LF at the start",
      unit_text("\n.\r\n.\r\n"), unit_text("\r\n..\r\n"), "bare", "" },

    { "a bare CR at the start",
      unit_text("\r.\r\n.\r\n"), unit_text("\r\n..\r\n"), "bare", "" },

    { "dots behind a bare LF are all content",
      unit_text("a\n..b\r\n.\r\n"),
      unit_text("a\r\n...b\r\n"), "bare", "" },

    { "a dot taken off, a second behind a bare LF put on",
      unit_text(".\n.\r\n.\r\n"), unit_text("\r\n..\r\n"), "bare", "" },

    { "bare LFs only",
      unit_text("a\nb\n\n.\n"),
      unit_text("a\r\nb\r\n\r\n..\r\n"), "bare", NULL },
};


/* DATA to BDAT: dots come off */

static scan_case_t  scan_unstuff[] = {

    { "a line of one dot",
      unit_text("..\r\n.\r\n"), unit_text(".\r\n"), "", "" },

    { "lines that start with dots",
      unit_text("..a\r\n...\r\nb\r\n.\r\n"),
      unit_text(".a\r\n..\r\nb\r\n"), "", "" },

    { "a dot behind a bare LF is content and stays",
      unit_text("a\n.\r\n..b\r\n.\r\n"),
      unit_text("a\r\n.\r\n.b\r\n"), "bare", "" },

    { "an empty message",
      unit_text(".\r\n"), unit_text(""), "", "" },
};


/* BDAT to DATA: dots go on, a newline at the end */

static scan_case_t  scan_stuff[] = {

    { "the end of DATA is a line like others",
      unit_text("a\r\n.\r\nb\r\n"), unit_text("a\r\n..\r\nb\r\n"), "", NULL },

    { "a dot at the start",
      unit_text(".\r\n"), unit_text("..\r\n"), "", NULL },

    { "dots",
      unit_text("..\r\n...a"), unit_text("...\r\n....a\r\n"), "", NULL },

    { "no newline at the end",
      unit_text("a"), unit_text("a\r\n"), "", NULL },

    { "nothing",
      unit_text(""), unit_text(""), "", NULL },

    { "CR at the end is a newline",
      unit_text("a\r"), unit_text("a\r\n"), "bare", NULL },

    { "LF at the end is a newline",
      unit_text("a\n"), unit_text("a\r\n"), "bare", NULL },

    { "bare newlines and dots",
      unit_text("a\n.\rb\r.\n"),
      unit_text("a\r\n..\r\nb\r\n..\r\n"), "bare", NULL },

    { "a NUL",
      unit_text(".\0"), unit_text("..\0\r\n"), "nul", NULL },
};


/* BDAT to BDAT: newlines only */

static scan_case_t  scan_raw[] = {

    { "dots are nothing",
      unit_text(".\r\n..\r\n.a"), unit_text(".\r\n..\r\n.a"), "", NULL },

    { "no newline at the end",
      unit_text("a"), unit_text("a"), "", NULL },

    { "CR at the end is a newline",
      unit_text("a\r"), unit_text("a\r\n"), "bare", NULL },

    { "bare newlines",
      unit_text("a\nb\rc\r\r\n"),
      unit_text("a\r\nb\r\nc\r\n\r\n"), "bare", NULL },
};


static void
scan_collect(ngx_smtp_relay_span_t *spans, ngx_uint_t n, ngx_str_t *output)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        unit_add_octets(output, spans[i].pos, spans[i].last - spans[i].pos);
    }
}


/* returns how many octets of input were taken */

static size_t
scan_feed(ngx_smtp_relay_scan_t *sc, ngx_str_t *input, size_t step,
    ngx_uint_t max, ngx_str_t *output, ngx_uint_t *done)
{
    u_char                 *data, *p, *last;
    size_t                  taken, len;
    ngx_int_t               rc;
    ngx_uint_t              n;
    ngx_smtp_relay_span_t  *spans;

    *done = 0;

    spans = malloc(max * sizeof(ngx_smtp_relay_span_t));

    if (spans == NULL) {
        printf("Bail out! no memory\n");
        exit(2);
    }

    for (taken = 0; taken < input->len && !*done; /* void */ ) {

        len = ngx_min(step, input->len - taken);
        data = unit_copy(input->data + taken, len);

        p = data;
        last = data + len;

        do {
            n = max;
            rc = ngx_smtp_relay_scan(sc, &p, last, spans, &n);

            if (n > max) {
                printf("Bail out! more spans than there is room for\n");
                exit(2);
            }

            scan_collect(spans, n, output);

        } while (rc == NGX_AGAIN);

        *done = (rc == NGX_DONE);
        taken += p - data;
        len -= p - data;

        free(data);

        if (rc == NGX_OK && len) {
            break;
        }
    }

    if (!sc->dots_in) {
        n = ngx_smtp_relay_scan_finish(sc, spans);
        scan_collect(spans, n, output);
    }

    free(spans);

    return taken;
}


/* content octets: the output without the dots that were put on */

static off_t
scan_size(ngx_str_t *output, ngx_uint_t dots)
{
    off_t   size;
    size_t  i;

    size = output->len;

    for (i = 0; dots && i < output->len; i++) {
        if (output->data[i] == '.'
            && (i == 0 || output->data[i - 1] == '\n'))
        {
            size--;
        }
    }

    return size;
}


static void
scan_run(scan_case_t *c, ngx_uint_t dots_in, ngx_uint_t dots_out)
{
    char                    name[256];
    size_t                  step, taken, rest, whole;
    ngx_str_t               output;
    ngx_uint_t              max, done;
    ngx_smtp_relay_scan_t   sc;

    unit_text_init(&output);

    rest = c->rest ? ngx_strlen(c->rest) : 0;

    /* the C string of what is left over stops at a NUL */

    whole = c->input.len - rest;

    if (rest && c->input.data[c->input.len - 1] == '\0') {
        whole--;
    }

    for (step = 1; step <= c->input.len + 1; step++) {

        for (max = NGX_SMTP_RELAY_MIN_SPANS; max <= SCAN_MAX_SPANS; max++) {

            output.len = 0;

            ngx_smtp_relay_scan_init(&sc, dots_in, dots_out);

            taken = scan_feed(&sc, &c->input, step, max, &output, &done);

            sprintf(name, "%s, by %d, %d spans", c->name, (int) step,
                    (int) max);

            unit_same(name, &output, &c->output);

            unit_ok(done == (c->rest != NULL) && taken == whole,
                    "%s: %d octets taken", name, (int) taken);

            unit_ok(sc.size == scan_size(&c->output, dots_out),
                    "%s: size is %d", name, (int) sc.size);

            unit_ok(sc.bare == (strcmp(c->flags, "bare") == 0)
                    && sc.nul == (strcmp(c->flags, "nul") == 0),
                    "%s: flags \"%s\"", name, c->flags);
        }
    }

    free(output.data);
}


/*
 * Content as most is: no octet is moved, whatever falls on a boundary of
 * the words that the scanner compares.
 */

static void
scan_identity(void)
{
    u_char                 *data, *p, *last;
    size_t                  len, width, i;
    ngx_int_t               rc;
    ngx_uint_t              n;
    ngx_smtp_relay_scan_t   sc;
    ngx_smtp_relay_span_t   spans[NGX_SMTP_RELAY_MIN_SPANS];

    for (width = 0; width < 150; width++) {

        len = 5 * (width + 2);
        data = malloc(len + 3);

        if (data == NULL) {
            printf("Bail out! no memory\n");
            exit(2);
        }

        for (i = 0; i < len; i += width + 2) {
            memset(data + i, 'x', width);
            memcpy(data + i + width, "\r\n", 2);
        }

        if (width > 2) {
            memcpy(data + 2 * (width + 2), "..", 2);
        }

        memcpy(data + len, ".\r\n", 3);

        p = data;
        last = data + len + 3;
        n = NGX_SMTP_RELAY_MIN_SPANS;

        ngx_smtp_relay_scan_init(&sc, 1, 1);

        rc = ngx_smtp_relay_scan(&sc, &p, last, spans, &n);

        unit_ok(rc == NGX_DONE && p == last && n == 1
                && spans[0].pos == data && spans[0].last == data + len,
                "lines of %d octets are one span of the input", (int) width);

        unit_ok(sc.size == (off_t) len - (width > 2 ? 1 : 0) && !sc.bare
                && !sc.nul,
                "lines of %d octets have their size", (int) width);

        free(data);
    }
}


/* one octet that is not as the others, at every place of a long run */

static void
scan_every_place(void)
{
    u_char                 *p;
    size_t                  i, k;
    ngx_str_t               input, output, expected;
    ngx_uint_t              done;
    ngx_smtp_relay_scan_t   sc;

    static struct {
        const char  *name;
        ngx_str_t    octets;
        ngx_str_t    output;
    } odd[] = {
        { "NUL", unit_text("\0"), unit_text("\0") },
        { "bare LF", unit_text("\n"), unit_text("\r\n") },
        { "bare CR", unit_text("\r"), unit_text("\r\n") },
        { "LF and a dot", unit_text("\n."), unit_text("\r\n..") },
        { "CRLF and a dot", unit_text("\r\n.x"), unit_text("\r\nx") },
        { "CRLF and dots", unit_text("\r\n.."), unit_text("\r\n..") },
    };

    unit_text_init(&input);
    unit_text_init(&output);
    unit_text_init(&expected);

    for (k = 0; k < unit_count(odd); k++) {

        for (i = 1; i < 200; i++) {

            input.len = 0;
            expected.len = 0;
            output.len = 0;

            for (p = (u_char *) "x"; input.len < i; /* void */ ) {
                unit_add_octets(&input, p, 1);
                unit_add_octets(&expected, p, 1);
            }

            unit_add_octets(&input, odd[k].octets.data, odd[k].octets.len);
            unit_add_octets(&expected, odd[k].output.data,
                            odd[k].output.len);

            while (input.len < 220) {
                unit_add_octets(&input, p, 1);
                unit_add_octets(&expected, p, 1);
            }

            /* a NUL behind the end is not of this message */

            unit_add_octets(&input, (u_char *) "\r\n.\r\n\0", 6);
            unit_add_octets(&expected, (u_char *) "\r\n", 2);

            ngx_smtp_relay_scan_init(&sc, 1, 1);

            if (scan_feed(&sc, &input, input.len, NGX_SMTP_RELAY_MIN_SPANS,
                          &output, &done)
                != input.len - 1
                || sc.nul != (k == 0) || !done
                || output.len != expected.len
                || memcmp(output.data, expected.data, output.len) != 0)
            {
                break;
            }
        }

        unit_ok(i == 200, "%s at every place%s", odd[k].name,
                i == 200 ? "" : ": fails");
    }

    free(input.data);
    free(output.data);
    free(expected.data);
}


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_count(scan_clean); i++) {
        scan_run(&scan_clean[i], 1, 1);
    }

    for (i = 0; i < unit_count(scan_smuggled); i++) {
        scan_run(&scan_smuggled[i], 1, 1);
    }

    for (i = 0; i < unit_count(scan_unstuff); i++) {
        scan_run(&scan_unstuff[i], 1, 0);
    }

    for (i = 0; i < unit_count(scan_stuff); i++) {
        scan_run(&scan_stuff[i], 0, 1);
    }

    for (i = 0; i < unit_count(scan_raw); i++) {
        scan_run(&scan_raw[i], 0, 0);
    }

    scan_identity();
    scan_every_place();

    return unit_done();
}
