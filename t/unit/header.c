
/*
 * The header section of a message: what is put in front of it, and what is
 * left out.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_header.h"
#include "unit.h"


#define HEADER_MAX_SPANS  16


typedef struct {
    const char  *name;
    ngx_str_t    input;
    ngx_str_t    output;
} header_case_t;


typedef struct {
    const char  *name;
    ngx_str_t    header;
    ngx_str_t    value;
    ngx_str_t    output;
} header_write_t;


/* of the names that are dropped one starts as the other */

static ngx_str_t  header_names[] = {
    ngx_string("X-Key"),
    ngx_string("X-Key-Id"),
    ngx_string("To")
};


static ngx_str_t  header_block = ngx_string("X-New: 1\r\n");


static header_case_t  header_cases[] = {

    { "nothing",
      unit_text(""), unit_text("") },

    { "nothing to be dropped",
      unit_text("A: b\r\nC: d\r\n\r\ntext\r\n"),
      unit_text("A: b\r\nC: d\r\n\r\ntext\r\n") },

    { "the first one",
      unit_text("X-Key: a\r\nA: b\r\n\r\n"), unit_text("A: b\r\n\r\n") },

    { "the last one",
      unit_text("A: b\r\nX-Key: a\r\n\r\n"), unit_text("A: b\r\n\r\n") },

    { "one between others",
      unit_text("A: b\r\nX-Key: a\r\nC: d\r\n\r\nt"),
      unit_text("A: b\r\nC: d\r\n\r\nt") },

    { "the only one",
      unit_text("X-Key: a\r\n\r\nt"), unit_text("\r\nt") },

    { "several, and of several names",
      unit_text("X-Key: a\r\nTo: b\r\nA: b\r\nX-Key-Id: 1\r\nX-Key: \r\nE:\r\n"
                "to:x\r\n\r\nt"),
      unit_text("A: b\r\nE:\r\n\r\nt") },

    { "whatever the case",
      unit_text("x-kEY: a\r\nX-KEY-iD: b\r\nA: b\r\n\r\n"),
      unit_text("A: b\r\n\r\n") },

    { "names that start or end alike",
      unit_text("X-Ke: a\r\nX-Key2: a\r\nXX-Key: a\r\nKey: a\r\nT: a\r\n"
                "X-Key-I: a\r\nX-Key-: a\r\n\r\n"),
      unit_text("X-Ke: a\r\nX-Key2: a\r\nXX-Key: a\r\nKey: a\r\nT: a\r\n"
                "X-Key-I: a\r\nX-Key-: a\r\n\r\n") },

    { "without a value",
      unit_text("X-Key:\r\nA:\r\n\r\n"), unit_text("A:\r\n\r\n") },

    { "white space in front of the colon",
      unit_text("X-Key : a\r\nTo \t\t : b\r\nA \t: c\r\n\r\n"),
      unit_text("A \t: c\r\n\r\n") },

    { "folded",
      unit_text("X-Key: a\r\n b\r\n\tc\r\nA: b\r\n c\r\nTo:\r\n x\r\n\r\nt"),
      unit_text("A: b\r\n c\r\n\r\nt") },

    { "folded lines of white space",
      unit_text("X-Key: a\r\n \r\n\t\r\nA: b\r\n \r\n\r\nt"),
      unit_text("A: b\r\n \r\n\r\nt") },

    { "a folded line that looks like another header",
      unit_text("A: b\r\n X-Key: a\r\nTo: b\r\n C: d\r\n\r\n"),
      unit_text("A: b\r\n X-Key: a\r\n\r\n") },

    { "colons in values",
      unit_text("A: X-Key: b\r\nB::\r\nTo::\r\n\r\n"),
      unit_text("A: X-Key: b\r\nB::\r\n\r\n") },

    { "text is not looked at",
      unit_text("A: b\r\n\r\nX-Key: a\r\nTo: b\r\n\r\nTo: c\r\n"),
      unit_text("A: b\r\n\r\nX-Key: a\r\nTo: b\r\n\r\nTo: c\r\n") },

    { "no header section, an empty line",
      unit_text("\r\nX-Key: a\r\n"), unit_text("\r\nX-Key: a\r\n") },

    { "headers without text",
      unit_text("To: a\r\nA: b\r\nX-Key: a\r\n"), unit_text("A: b\r\n") },

    { "text without headers",
      unit_text("Hello world:\r\nX-Key: a\r\n"),
      unit_text("\r\nHello world:\r\nX-Key: a\r\n") },

    { "a line that is no header",
      unit_text("A: b\r\nTo: x\r\nbroken\r\nX-Key: a\r\n\r\nt"),
      unit_text("A: b\r\n\r\nbroken\r\nX-Key: a\r\n\r\nt") },

    { "the name alone is no header",
      unit_text("To\r\n: x\r\n\r\nt"), unit_text("\r\nTo\r\n: x\r\n\r\nt") },

    { "a line that continues nothing",
      unit_text(" x\r\nTo: a\r\n\r\nt"),
      unit_text("\r\n x\r\nTo: a\r\n\r\nt") },

    { "a tab that continues nothing",
      unit_text("\tx\r\n"), unit_text("\r\n\tx\r\n") },

    { "a line of a mailbox file",
      unit_text("From a@b Mon\r\nTo: a\r\n\r\nt"),
      unit_text("\r\nFrom a@b Mon\r\nTo: a\r\n\r\nt") },

    { "a colon without a name",
      unit_text(": a\r\nTo: b\r\n"), unit_text("\r\n: a\r\nTo: b\r\n") },

    { "controls and 8-bit octets in names",
      unit_text("A: b\r\nT\0: a\r\nTo: b\r\n"),
      unit_text("A: b\r\n\r\nT\0: a\r\nTo: b\r\n") },

    { "8-bit octets in a name",
      unit_text("A: b\r\nT\xc3\xb6: a\r\nTo: b\r\n"),
      unit_text("A: b\r\n\r\nT\xc3\xb6: a\r\nTo: b\r\n") },

    { "8-bit octets in values",
      unit_text("A: \xc3\xb6\xff\r\nTo: \xc3\r\n\r\n"),
      unit_text("A: \xc3\xb6\xff\r\n\r\n") },

    { "stuffed dots",
      unit_text("A: b\r\n..X-Key: a\r\nTo: b\r\n..\r\nTo: b\r\n"),
      unit_text("A: b\r\n..X-Key: a\r\n\r\n..\r\nTo: b\r\n") },

    { "no newline at the end, kept",
      unit_text("A: b"), unit_text("A: b") },

    { "no newline at the end, dropped",
      unit_text("A: b\r\nTo: c"), unit_text("A: b\r\n") },

    { "a name at the end",
      unit_text("A: b\r\nTo"), unit_text("A: b\r\n\r\nTo") },

    { "a name and white space at the end",
      unit_text("To \t"), unit_text("\r\nTo \t") },
};


static header_write_t  header_writes[] = {

    { "a value",
      unit_text("A"), unit_text("b c"), unit_text("A: b c\r\n") },

    { "no value",
      unit_text("A"), unit_text(""), unit_text("") },

    { "a value of white space",
      unit_text("A"), unit_text(" \t\r\n\x7f"), unit_text("") },

    { "white space around it",
      unit_text("A"), unit_text("\t b\t "), unit_text("A: b\r\n") },

    { "newlines and controls",
      unit_text("A"), unit_text("b\r\nC: d\n.\re\0f\x01\x7fg"),
      unit_text("A: b  C: d . e f  g\r\n") },

    { "tabs and 8-bit octets",
      unit_text("A"), unit_text("b\tc\xc3\xbc\xff\x80"),
      unit_text("A: b\tc\xc3\xbc\xff\x80\r\n") },

    { "one octet",
      unit_text("A"), unit_text("b"), unit_text("A: b\r\n") },
};


static void header_case(header_case_t *c, size_t piece, size_t span,
    ngx_str_t *block);
static void header_feed(ngx_str_t *input, size_t piece, size_t span,
    ngx_str_t *block, ngx_str_t *output);
static void header_long_names(void);
static void header_untouched(void);
static void header_random(void);
static void header_reference(ngx_str_t *input, ngx_str_t *output);
static void header_name_rules(void);
static void header_folds(void);
static void header_fold(const char *name, ngx_str_t *value,
    ngx_uint_t expected);
static ngx_uint_t header_utf8(ngx_str_t *text);


int
main(void)
{
    u_char      *p;
    size_t       piece, span;
    ngx_str_t    none, got, *value;
    ngx_uint_t   i;

    ngx_str_null(&none);

    for (i = 0; i < unit_count(header_cases); i++) {

        header_case(&header_cases[i], 4096, 4096, &header_block);
        header_case(&header_cases[i], 4096, 4096, &none);

        for (piece = 1; piece < 8; piece++) {
            for (span = 1; span <= piece; span++) {
                header_case(&header_cases[i], piece, span, &header_block);
            }
        }
    }

    for (i = 0; i < unit_count(header_writes); i++) {
        value = &header_writes[i].value;

        got.data = malloc(ngx_smtp_relay_header_size(&header_writes[i].header,
                                                     value));
        p = ngx_smtp_relay_header_write(got.data, &header_writes[i].header,
                                        value);
        got.len = p - got.data;

        unit_same(header_writes[i].name, &got, &header_writes[i].output);
        free(got.data);
    }

    header_long_names();
    header_untouched();
    header_random();
    header_name_rules();
    header_folds();

    return unit_done();
}


static void
header_case(header_case_t *c, size_t piece, size_t span, ngx_str_t *block)
{
    char        name[128];
    ngx_str_t   got, expected;

    unit_text_init(&got);
    unit_text_init(&expected);

    unit_add_octets(&expected, block->data, block->len);
    unit_add_octets(&expected, c->output.data, c->output.len);

    header_feed(&c->input, piece, span, block, &got);

    snprintf(name, sizeof(name), "%s, %sin pieces of %lu, spans of %lu",
             c->name, block->len ? "" : "nothing added, ",
             (unsigned long) piece, (unsigned long) span);

    unit_same(name, &got, &expected);

    free(got.data);
    free(expected.data);
}


/*
 * Filters input given in pieces, each in spans.  What came out of one call
 * is taken, and its input scribbled over, before the next.
 */

static void
header_feed(ngx_str_t *input, size_t piece, size_t span, ngx_str_t *block,
    ngx_str_t *output)
{
    u_char                   *buf;
    size_t                    pos, len, at, size;
    ngx_uint_t                i, n, given, end;
    ngx_smtp_relay_span_t    *out, *room;
    ngx_smtp_relay_span_t     in[HEADER_MAX_SPANS];
    ngx_smtp_relay_header_t  *h;

    h = malloc(sizeof(ngx_smtp_relay_header_t));
    memset(h, 0xa5, sizeof(ngx_smtp_relay_header_t));

    ngx_smtp_relay_header_init(h, header_names, unit_count(header_names),
                               block);
    pos = 0;

    do {
        len = ngx_min(input->len - pos, piece);
        buf = unit_copy(input->data + pos, len);
        pos += len;

        n = 0;

        for (at = 0; at < len; at += size) {
            size = ngx_min(len - at, span);
            in[n].pos = buf + at;
            in[n].last = buf + at + size;
            n++;
        }

        end = (pos == input->len);
        given = n;

        room = malloc((n + NGX_SMTP_RELAY_HEADER_SPANS)
                      * sizeof(ngx_smtp_relay_span_t));

        out = ngx_smtp_relay_header_filter(h, in, &n, end, room);

        if (n > given + NGX_SMTP_RELAY_HEADER_SPANS) {
            unit_ok(0, "%lu spans out of %lu", (unsigned long) n,
                    (unsigned long) given);
            exit(1);
        }

        for (i = 0; i < n; i++) {

            if (out[i].pos >= out[i].last) {
                unit_ok(0, "no empty spans");
            }

            unit_add_octets(output, out[i].pos, out[i].last - out[i].pos);
        }

        free(room);
        free(buf);

    } while (!end);

    free(h);
}


/* a name that is held may be as long as a line, and no longer */

static void
header_long_names(void)
{
    size_t      i, len, piece;
    ngx_str_t   input, got, expected, none;

    static struct {
        size_t       blanks;
        ngx_uint_t   dropped;
    } cases[] = {
        { NGX_SMTP_RELAY_HEADER_LINE - 6, 1 },
        { NGX_SMTP_RELAY_HEADER_LINE - 5, 1 },
        { NGX_SMTP_RELAY_HEADER_LINE - 4, 0 },
        { 5000, 0 }
    };

    ngx_str_null(&none);

    for (i = 0; i < unit_count(cases); i++) {
        for (piece = 1; piece < 5000; piece = piece * 3 + 1) {

            unit_text_init(&input);
            unit_text_init(&got);
            unit_text_init(&expected);

            unit_add(&input, "X-Key%*s: a\r\nA: b\r\nTo: c\r\n\r\nt",
                     (int) cases[i].blanks, "");

            if (cases[i].dropped) {
                unit_add(&expected, "A: b\r\n\r\nt");

            } else {
                unit_add(&expected, "\r\n");
                unit_add_octets(&expected, input.data, input.len);
            }

            header_feed(&input, piece, piece / 3 + 1, &none, &got);

            len = cases[i].blanks;
            unit_ok(got.len == expected.len
                    && memcmp(got.data, expected.data, got.len) == 0,
                    "%lu blanks behind a name, in pieces of %lu",
                    (unsigned long) len, (unsigned long) piece);

            free(input.data);
            free(got.data);
            free(expected.data);
        }
    }

    unit_text_init(&input);
    unit_text_init(&got);

    for (i = 0; i < NGX_SMTP_RELAY_HEADER_LINE; i++) {
        unit_add(&input, "n");
    }

    unit_add(&input, ": a\r\n\r\n");
    header_feed(&input, 7, 3, &none, &got);
    unit_same("a name as long as a line", &got, &input);

    free(input.data);
    free(got.data);
}


/* behind the header section the spans are those that were given */

static void
header_untouched(void)
{
    u_char                    text[] = "A: b\r\n\r\n";
    u_char                    more[] = "To: b\r\n";
    ngx_uint_t                n;
    ngx_smtp_relay_span_t     in[2], out[2 + NGX_SMTP_RELAY_HEADER_SPANS];
    ngx_smtp_relay_header_t   h;

    ngx_smtp_relay_header_init(&h, header_names, unit_count(header_names),
                               &header_block);

    in[0].pos = text;
    in[0].last = text + sizeof(text) - 1;
    n = 1;

    unit_ok(ngx_smtp_relay_header_filter(&h, in, &n, 0, out) == out && n == 2,
            "the block comes as a span of its own");
    unit_ok(out[0].pos == header_block.data
            && out[0].last == header_block.data + header_block.len
            && out[1].pos == in[0].pos && out[1].last == in[0].last,
            "and the content is where it was");

    in[0].pos = more;
    in[0].last = more + 2;
    in[1].pos = more + 2;
    in[1].last = more + sizeof(more) - 1;
    n = 2;

    unit_ok(ngx_smtp_relay_header_filter(&h, in, &n, 1, out) == in && n == 2,
            "behind the header section spans are not touched");
}


/* random messages, in all sizes of pieces, against a plain reference */

static void
header_random(void)
{
    size_t        piece, span;
    ngx_str_t     input, got, expected, none;
    ngx_uint_t    i, j, bad, kept;

    static const char  *parts[] = {
        "\r\n", "\r\n", "\r\n", "\r\n ", "To", "X-Key", "X-Key-Id", "x-key",
        ":", ":", ": ", ": v", "A: b\r\n", "To: b\r\n", "X-Key:\r\n\t", " ",
        "C", "\r\n\r\n", "To : x\r\n"
    };

    ngx_str_null(&none);
    srandom(20);

    bad = 0;
    kept = 0;

    for (i = 0; i < 20000; i++) {
        unit_text_init(&input);
        unit_text_init(&got);
        unit_text_init(&expected);

        for (j = random() % 16; j; j--) {
            unit_add(&input, "%s", parts[random() % unit_count(parts)]);
        }

        piece = 1 + random() % 12;
        span = ngx_max(1 + random() % piece, 1);

        header_reference(&input, &expected);
        header_feed(&input, piece, span, &none, &got);

        kept += (got.len == input.len);

        if (got.len != expected.len
            || memcmp(got.data, expected.data, got.len) != 0)
        {
            bad++;
            printf("#    input: %s (%lu, %lu)\n", unit_show(&input),
                   (unsigned long) piece, (unsigned long) span);
            printf("#      got: %s\n", unit_show(&got));
            printf("# expected: %s\n", unit_show(&expected));
        }

        free(input.data);
        free(got.data);
        free(expected.data);
    }

    unit_ok(bad == 0 && kept > 100 && kept < 19900,
            "random messages come out as the reference has them");
}


/* line by line, of the whole message */

static void
header_reference(ngx_str_t *input, ngx_str_t *output)
{
    size_t      len, name, i;
    u_char     *p, *last, *end;
    ngx_uint_t  drop, fields;

    p = input->data;
    last = p + input->len;
    drop = 0;
    fields = 0;

    for ( /* void */ ; p < last; p = end) {

        for (end = p; end < last && *end != '\n'; end++) { /* void */ }

        if (end < last) {
            end++;
        }

        len = end - p;

        if (*p == '\r') {
            break;
        }

        if (fields && (*p == ' ' || *p == '\t')) {

            if (!drop) {
                unit_add_octets(output, p, len);
            }

            continue;
        }

        for (i = 0; i < len && p[i] > ' ' && p[i] < 0x7f && p[i] != ':'; i++) {
            /* void */
        }

        name = i;

        while (i < len && (p[i] == ' ' || p[i] == '\t')) {
            i++;
        }

        if (name == 0 || i == len || p[i] != ':') {
            unit_add(output, "\r\n");
            break;
        }

        fields++;
        drop = 0;

        for (i = 0; i < unit_count(header_names); i++) {
            if (header_names[i].len == name
                && strncasecmp((char *) p, (char *) header_names[i].data,
                               name)
                   == 0)
            {
                drop = 1;
            }
        }

        if (!drop) {
            unit_add_octets(output, p, len);
        }
    }

    if (p < last) {
        unit_add_octets(output, p, last - p);
    }
}


static void
header_name_rules(void)
{
    u_char      text[NGX_SMTP_RELAY_HEADER_NAME + 1];
    ngx_str_t   name;
    ngx_uint_t  i, ok, expected;

    static ngx_str_t  good[] = {
        ngx_string("A"), ngx_string("X-Relay-Account"), ngx_string("a.b!~#{")
    };

    static ngx_str_t  bad[] = {
        ngx_string(""), ngx_string("."), ngx_string(".a"), ngx_string("a b"),
        ngx_string("a:"), ngx_string("a\r\n"), ngx_string("\xc3\xbc")
    };

    for (i = 0; i < unit_count(good); i++) {
        unit_ok(ngx_smtp_relay_header_name(&good[i]) == NGX_OK,
                "name: %s", unit_show(&good[i]));
    }

    for (i = 0; i < unit_count(bad); i++) {
        unit_ok(ngx_smtp_relay_header_name(&bad[i]) == NGX_ERROR,
                "no name: %s", unit_show(&bad[i]));
    }

    ok = 1;

    for (i = 0; i < 256; i++) {
        text[0] = 'a';
        text[1] = i;
        name.len = 2;
        name.data = text;
        expected = (i >= 33 && i <= 126 && i != ':');

        ok &= (ngx_smtp_relay_header_name(&name) == NGX_OK) == expected;
    }

    unit_ok(ok, "octets of names are those of RFC 5322");

    memset(text, 'a', sizeof(text));
    name.data = text;

    name.len = NGX_SMTP_RELAY_HEADER_NAME;
    unit_ok(ngx_smtp_relay_header_name(&name) == NGX_OK, "the longest name");

    name.len++;
    unit_ok(ngx_smtp_relay_header_name(&name) == NGX_ERROR, "one longer");
}


static void
header_folds(void)
{
    size_t      i, n;
    ngx_str_t   value;

    /* "A: " is in front of each, and takes 3 of 998 octets */

    unit_text_init(&value);

    for (i = 0; i < 995; i++) {
        unit_add(&value, "x");
    }

    header_fold("as long as a line", &value, 1);

    unit_add(&value, " y");
    header_fold("a word more", &value, 2);

    value.len = 995;
    unit_add(&value, "y");
    header_fold("an octet more, no white space", &value, 2);

    value.len = 0;

    for (i = 0; i < 1000; i++) {
        unit_add(&value, "word%c", i % 7 ? ' ' : '\t');
    }

    header_fold("words", &value, 6);

    value.len = 0;

    for (i = 0; i < 3000; i++) {
        unit_add(&value, "a ");
    }

    header_fold("short words", &value, 7);

    value.len = 0;

    for (i = 0; i < 3000; i++) {
        unit_add(&value, "x");
    }

    header_fold("one long word", &value, 4);

    value.len = 0;
    unit_add(&value, "word ");

    for (i = 0; i < 3000; i++) {
        unit_add(&value, "x");
    }

    header_fold("one long word behind a short one", &value, 5);

    unit_add(&value, " word\t");

    for (i = 0; i < 1500; i++) {
        unit_add(&value, "y");
    }

    header_fold("long and short words", &value, 7);

    value.len = 0;

    for (i = 0; i < 2995; i++) {
        unit_add(&value, i == 995 ? " " : "x");
    }

    header_fold("a line ends where a word does", &value, 4);

    value.len = 0;
    unit_add(&value, "x%4000sy", "");
    header_fold("white space", &value, 2);

    for (n = 985; n < 1000; n++) {
        value.len = 0;

        for (i = 0; i < n; i++) {
            unit_add(&value, "x");
        }

        unit_add(&value, "  yy  %20s zz", "");
        header_fold("white space where a line ends", &value, 0);

        value.len = 0;

        for (i = 0; i < n; i++) {
            unit_add(&value, "x");
        }

        for (i = 0; i < 600; i++) {
            unit_add(&value, "%s", i % 3 ? "\xe2\x82\xac"
                                         : "\xf0\x9f\x93\xa7");
        }

        header_fold("UTF-8 without white space", &value, 0);

        for (i = 0; i < 2000; i++) {
            value.data[i] = 0x80;
        }

        value.len = 2000;
        header_fold("octets that are no UTF-8", &value, 3);
    }

    free(value.data);
}


/* lines: how many are expected, 0: not told */

static void
header_fold(const char *name, ngx_str_t *value, ngx_uint_t expected)
{
    u_char      *p, *last, *start, *q;
    size_t       size;
    ngx_str_t    header, got, plain, want;
    ngx_uint_t   n, ok, words;

    ngx_str_set(&header, "A");

    size = ngx_smtp_relay_header_size(&header, value);
    got.data = malloc(size);

    last = ngx_smtp_relay_header_write(got.data, &header, value);
    got.len = last - got.data;

    unit_text_init(&plain);
    unit_text_init(&want);

    ok = 1;
    n = 0;

    for (p = got.data; p < last; p = q + 2) {
        start = p;

        for (q = p; q < last && *q != '\r'; q++) { /* void */ }

        ok &= (last - q >= 2 && q[1] == '\n');
        ok &= (q - start <= NGX_SMTP_RELAY_HEADER_LINE);
        ok &= (n == 0) || *start == ' ' || *start == '\t';

        for (words = 0; p < q; p++) {
            if (*p != ' ' && *p != '\t') {
                words++;
                unit_add_octets(&plain, p, 1);
            }
        }

        ok &= (words != 0);
        n++;
    }

    unit_add(&want, "A:");

    for (p = value->data; p < value->data + value->len; p++) {
        if (*p != ' ' && *p != '\t') {
            unit_add_octets(&want, p, 1);
        }
    }

    ok &= plain.len == want.len && !memcmp(plain.data, want.data, want.len);

    if (header_utf8(value)) {
        ok &= header_utf8(&got);
    }

    unit_ok(ok && got.len <= size, "%s: lines are right", name);

    if (expected) {
        unit_ok(n == expected, "%s: %lu lines", name, (unsigned long) n);
    }

    free(got.data);
    free(plain.data);
    free(want.data);
}


/* no sequence is broken off */

static ngx_uint_t
header_utf8(ngx_str_t *text)
{
    size_t      i;
    ngx_uint_t  more;

    more = 0;

    for (i = 0; i < text->len; i++) {

        if (((text->data[i] & 0xc0) == 0x80) != (more != 0)) {
            return 0;
        }

        if (more) {
            more--;

        } else if (text->data[i] >= 0xf0) {
            more = 3;

        } else if (text->data[i] >= 0xe0) {
            more = 2;

        } else if (text->data[i] >= 0xc0) {
            more = 1;
        }
    }

    return more == 0;
}
