
/*
 * Replies of a node: the same however they arrive; what is taken for one
 * has one code and no control character.  Features of each of them.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "fuzz.h"


static fuzz_text_t  fuzz_whole;
static fuzz_text_t  fuzz_events;
static fuzz_text_t  fuzz_unread;


static void
fuzz_features(ngx_smtp_relay_reply_t *r)
{
    ngx_smtp_relay_features_t  f;

    memset(&f, 0xa5, sizeof(ngx_smtp_relay_features_t));

    ngx_smtp_relay_parse_features(r, &f);

    fuzz_check((f.ext & ~(2 * NGX_SMTP_RELAY_EXT_LIMITS - 1)) == 0);
    fuzz_check((f.auth & ~(2 * NGX_SMTP_RELAY_AUTH_NONE - 1)) == 0);
    fuzz_check((f.xclient & ~0xffu) == 0);
    fuzz_check(f.size >= 0);

    fuzz_check(f.auth == 0 || (f.ext & NGX_SMTP_RELAY_EXT_AUTH));
    fuzz_check(f.xclient == 0 || (f.ext & NGX_SMTP_RELAY_EXT_XCLIENT));
    fuzz_check(f.size == 0 || (f.ext & NGX_SMTP_RELAY_EXT_SIZE));
    fuzz_check((f.rcptmax | f.mailmax) == 0
               || (f.ext & NGX_SMTP_RELAY_EXT_LIMITS));
}


static void
fuzz_one_reply(ngx_smtp_relay_reply_t *r, ngx_buf_t *b)
{
    u_char      *p, code[4];
    size_t       len, i;
    ngx_str_t    line;
    ngx_uint_t   n;

    fuzz_check(r->code >= 200 && r->code <= 599);
    fuzz_check(r->text.len >= 5);
    fuzz_check(r->text.data + r->text.len == b->pos);

    sprintf((char *) code, "%03u", (unsigned) r->code);

    p = r->text.data;
    len = 0;

    for (n = 0; ngx_smtp_relay_reply_line(r, &p, &line) == NGX_OK; n++) {

        fuzz_check(memcmp(r->text.data + len, code, 3) == 0);
        fuzz_check(memcmp(p - 2, "\r\n", 2) == 0);
        fuzz_check(line.data + line.len == p - 2);
        fuzz_check(line.len <= NGX_SMTP_RELAY_MAX_REPLY_LINE);

        for (i = 0; i < line.len; i++) {
            fuzz_check((line.data[i] >= 0x20 || line.data[i] == '\t')
                       && line.data[i] != 0x7f);
        }

        len = p - r->text.data;
    }

    fuzz_check(len == r->text.len);
    fuzz_check(n >= 1 && n <= NGX_SMTP_RELAY_MAX_REPLY_LINES);

    fuzz_add(&fuzz_events, r->text.data, r->text.len);
    fuzz_add_text(&fuzz_events, "OK\n");

    fuzz_features(r);
}


static void
fuzz_reply(ngx_str_t *input, fuzz_pieces_t *pieces)
{
    u_char                  *data;
    size_t                   n, arrived;
    ngx_buf_t                b;
    ngx_int_t                rc;
    ngx_smtp_relay_reply_t   r;

    ngx_memzero(&r, sizeof(ngx_smtp_relay_reply_t));
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

        while ((rc = ngx_smtp_relay_parse_reply(&r, &b)) == NGX_OK) {
            fuzz_one_reply(&r, &b);
        }

        fuzz_unread.len = 0;
        fuzz_add(&fuzz_unread, b.pos, b.last - b.pos);

        free(data);

        if (rc == NGX_ERROR) {
            fuzz_add_text(&fuzz_events, "ERROR");
            break;
        }

        fuzz_check(rc == NGX_AGAIN);
        fuzz_check(fuzz_unread.len <= (NGX_SMTP_RELAY_MAX_REPLY_LINE + 2)
                                      * NGX_SMTP_RELAY_MAX_REPLY_LINES);

        if (arrived == input->len) {
            break;
        }

        n = fuzz_piece(pieces, input->len - arrived);
        fuzz_add(&fuzz_unread, input->data + arrived, n);
        arrived += n;
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_str_t       input;
    fuzz_feed_e     feed;
    fuzz_pieces_t   pieces;

    if (size < 1) {
        return 0;
    }

    input.data = (u_char *) data + 1;
    input.len = size - 1;

    for (feed = FUZZ_WHOLE; feed < FUZZ_FEEDS; feed++) {
        fuzz_pieces(&pieces, feed, data[0]);
        fuzz_reply(&input, &pieces);

        if (feed == FUZZ_WHOLE) {
            fuzz_whole.len = 0;
            fuzz_add(&fuzz_whole, fuzz_events.data, fuzz_events.len);
        }

        fuzz_check(fuzz_same(&fuzz_whole, &fuzz_events));
    }

    return 0;
}
