
/*
 * Characters, xtext, and text of other parties made harmless.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "unit.h"


typedef struct {
    ngx_str_t               text;
    size_t                  max;
    ngx_str_t               expected;
} text_case_t;


static text_case_t  text_xtext[] = {

    { unit_text(""), 0, unit_text("") },
    { unit_text("user@example.com"), 0, unit_text("user@example.com") },
    { unit_text("!\"#$%&'()*,-./:;<>?@[\\]^_`{|}~"), 0,
      unit_text("!\"#$%&'()*,-./:;<>?@[\\]^_`{|}~") },
    { unit_text("a+b=c"), 0, unit_text("a+2Bb+3Dc") },
    { unit_text("a b"), 0, unit_text("a+20b") },
    { unit_text("\0\r\n\x7f\xff"), 0, unit_text("+00+0D+0A+7F+FF") },
    { unit_text("\xc3\xbc"), 0, unit_text("+C3+BC") },
};


static text_case_t  text_sanitize[] = {

    { unit_text(""), 10, unit_text("") },
    { unit_text("plain text"), 10, unit_text("plain text") },
    { unit_text("plain text"), 5, unit_text("plain") },
    { unit_text("plain text"), 0, unit_text("") },

    { unit_text("a\r\n250 b"), 99, unit_text("a  250 b") },
    { unit_text("a\0b\tc\x1b[2J\x7f"), 99, unit_text("a b c [2J ") },

    { unit_text("b\xc3\xbc" "cher \xe2\x82\xac \xf0\x9f\x93\xa7"), 99,
      unit_text("b\xc3\xbc" "cher \xe2\x82\xac \xf0\x9f\x93\xa7") },

    /* U+0085, U+009B: one blank for each */

    { unit_text("a\xc2\x85z\xc2\x9b"), 99, unit_text("a z ") },
    { unit_text("\xc2\xa0"), 99, unit_text("\xc2\xa0") },

    /* no UTF-8 */

    { unit_text("\xff\xfe"), 99, unit_text("??") },
    { unit_text("a\xc3"), 99, unit_text("a?") },
    { unit_text("\xc3(\xe2\x82("), 99, unit_text("?(?" "?(") },
    { unit_text("\xc0\xaf"), 99, unit_text("??") },
    { unit_text("\xe0\x9f\xbf"), 99, unit_text("???") },
    { unit_text("\xed\xa0\x80"), 99, unit_text("???") },
    { unit_text("\xf0\x8f\xbf\xbf"), 99, unit_text("????") },
    { unit_text("\xf4\x90\x80\x80"), 99, unit_text("????") },
    { unit_text("\xf5\x80\x80\x80"), 99, unit_text("????") },
    { unit_text("\xc2"), 99, unit_text("?") },

    /* no half of a character is left at the cut */

    { unit_text("a\xc3\xbc"), 3, unit_text("a\xc3\xbc") },
    { unit_text("a\xc3\xbc"), 2, unit_text("a") },
    { unit_text("\xe2\x82\xac\xe2\x82\xac"), 5, unit_text("\xe2\x82\xac") },
    { unit_text("\xf0\x9f\x93\xa7"), 3, unit_text("") },

    /* what shrinks makes room */

    { unit_text("\xc2\x85\xc2\x85" "abc"), 4, unit_text("  ab") },
};


static void
text_run_xtext(text_case_t *c)
{
    char        name[1280];
    u_char     *end;
    size_t      len;
    ngx_str_t   src, out;

    src.len = c->text.len;
    src.data = unit_copy(c->text.data, c->text.len);

    sprintf(name, "xtext of \"%s\"", unit_show(&src));

    len = (size_t) ngx_smtp_relay_xtext(NULL, &src);
    unit_ok(len == c->expected.len, "%s: length", name);

    out.data = malloc(len);

    if (out.data == NULL) {
        printf("Bail out! no memory\n");
        exit(2);
    }

    end = (u_char *) ngx_smtp_relay_xtext(out.data, &src);
    out.len = end - out.data;

    unit_same(name, &out, &c->expected);

    free(src.data);
    free(out.data);
}


static void
text_run_sanitize(text_case_t *c)
{
    char        name[1280];
    ngx_str_t   text;

    text.len = c->text.len;
    text.data = unit_copy(c->text.data, c->text.len);

    sprintf(name, "sanitize \"%s\" to %d", unit_show(&text), (int) c->max);

    ngx_smtp_relay_sanitize(&text, c->max);

    unit_same(name, &text, &c->expected);

    free(text.data);
}


/* every code point, encoded here in another way */

static void
text_every_character(void)
{
    u_char     *p, octets[4];
    size_t      len, expected;
    uint32_t    ch;

    for (ch = 0; ch < 0x120000; ch++) {

        p = octets;

        if (ch < 0x80) {
            *p++ = (u_char) ch;

        } else if (ch < 0x800) {
            *p++ = (u_char) (0xc0 | ch >> 6);
            *p++ = (u_char) (0x80 | (ch & 0x3f));

        } else if (ch < 0x10000) {
            *p++ = (u_char) (0xe0 | ch >> 12);
            *p++ = (u_char) (0x80 | (ch >> 6 & 0x3f));
            *p++ = (u_char) (0x80 | (ch & 0x3f));

        } else {
            *p++ = (u_char) (0xf0 | ch >> 18);
            *p++ = (u_char) (0x80 | (ch >> 12 & 0x3f));
            *p++ = (u_char) (0x80 | (ch >> 6 & 0x3f));
            *p++ = (u_char) (0x80 | (ch & 0x3f));
        }

        len = p - octets;
        expected = len;

        if (ch < 0x20 || (ch >= 0x7f && ch < 0xa0)
            || (ch >= 0xd800 && ch < 0xe000) || ch > 0x10ffff)
        {
            expected = 0;
        }

        if (ngx_smtp_relay_printable(octets, p) != expected) {
            break;
        }

        if (len > 1 && ngx_smtp_relay_printable(octets, p - 1) != 0) {
            break;
        }
    }

    unit_ok(ch == 0x120000, "every code point%s",
            ch == 0x120000 ? "" : ": fails");
}


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_count(text_xtext); i++) {
        text_run_xtext(&text_xtext[i]);
    }

    for (i = 0; i < unit_count(text_sanitize); i++) {
        text_run_sanitize(&text_sanitize[i]);
    }

    text_every_character();

    return unit_done();
}
