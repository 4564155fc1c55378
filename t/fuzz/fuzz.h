
/*
 * What the fuzz targets share: text to compare, and pieces to feed.
 *
 * The first octet of an input says in what pieces the rest is fed.  A piece
 * is always in memory of its own and of its exact length.
 */


#ifndef _FUZZ_H_INCLUDED_
#define _FUZZ_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define FUZZ_TEXT  (1024 * 1024)


/* a property that must hold */
#define fuzz_check(condition)                                                 \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fuzz_fail(__FILE__, __LINE__, #condition);                        \
        }                                                                     \
    } while (0)


typedef enum {
    FUZZ_WHOLE = 0,
    FUZZ_OCTETS,
    FUZZ_PIECES,
    FUZZ_FEEDS
} fuzz_feed_e;


typedef struct {
    size_t                  len;
    u_char                  data[FUZZ_TEXT];
} fuzz_text_t;


typedef struct {
    fuzz_feed_e             feed;
    uint32_t                seed;
} fuzz_pieces_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static inline void
fuzz_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}


static inline void
fuzz_add(fuzz_text_t *text, const u_char *data, size_t len)
{
    fuzz_check(len <= FUZZ_TEXT - text->len);

    if (len) {
        memcpy(text->data + text->len, data, len);
    }

    text->len += len;
}


static inline void
fuzz_add_text(fuzz_text_t *text, const char *s)
{
    fuzz_add(text, (const u_char *) s, strlen(s));
}


static inline ngx_uint_t
fuzz_same(fuzz_text_t *a, fuzz_text_t *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}


static inline u_char *
fuzz_copy(const u_char *data, size_t len)
{
    u_char  *p;

    p = malloc(len);
    fuzz_check(p != NULL);

    if (len) {
        memcpy(p, data, len);
    }

    return p;
}


static inline void
fuzz_pieces(fuzz_pieces_t *pieces, fuzz_feed_e feed, u_char seed)
{
    pieces->feed = feed;
    pieces->seed = seed;
}


/* the size of the next piece, of left octets */

static inline size_t
fuzz_piece(fuzz_pieces_t *pieces, size_t left)
{
    size_t  size;

    switch (pieces->feed) {

    case FUZZ_OCTETS:
        size = 1;
        break;

    case FUZZ_PIECES:
        pieces->seed = pieces->seed * 1664525u + 1013904223u;
        size = 1 + (pieces->seed >> 16) % (1u << ((pieces->seed >> 8) & 7));
        break;

    default:
        size = left;
    }

    return size < left ? size : left;
}


/* whether a character that may not be in a line is in it */

static inline ngx_uint_t
fuzz_has_control(ngx_str_t *s)
{
    size_t  i;

    for (i = 0; i < s->len; i++) {
        if (s->data[i] < 0x20 || s->data[i] == 0x7f) {
            return 1;
        }
    }

    return 0;
}


static inline ngx_uint_t
fuzz_within(ngx_str_t *s, ngx_str_t *whole)
{
    return s->len == 0
           || (s->data >= whole->data
               && s->data + s->len <= whole->data + whole->len);
}


#endif /* _FUZZ_H_INCLUDED_ */
