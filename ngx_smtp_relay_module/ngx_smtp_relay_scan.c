
/*
 * The scanner of message content.
 *
 * Almost all content is lines that end in CRLF and do not start with a dot.
 * Whether octets are like that shows in pairs of neighbors:
 *
 *     LF stands behind CR, and CR before LF, and nowhere else;
 *     no dot stands behind LF.
 *
 * ngx_smtp_relay_scan_clean() tests these pairs for many octets at once, by
 * comparing the octets with the same octets shifted by one.  It does not
 * look for line ends, so it has nothing to branch on and its speed does not
 * depend on how long lines are.  ngx_smtp_relay_scan() steps by octets where
 * a pair is not clean, and gets back into the clean run behind it.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_scan.h"

#if defined __SSE2__
#include <emmintrin.h>
#endif

#if defined __SSE2__ && defined __x86_64__ && defined __GNUC__                \
    && !defined NGX_SMTP_RELAY_AVX2
#include <immintrin.h>
#define NGX_SMTP_RELAY_AVX2  1
#endif


/* where in a line the scanner is, and what it holds */

typedef enum {
    sw_line = 0,      /* inside a line */
    sw_start,         /* a line starts: a dot is one of DATA */
    sw_bare,          /* a line starts: a dot is content */
    sw_cr,            /* CR is held */
    sw_dot,           /* sw_start, and a dot is held */
    sw_dot_cr         /* sw_start, and a dot and CR are held */
} ngx_smtp_relay_scan_state_e;


/* the output of a call */

typedef struct {
    ngx_smtp_relay_span_t   *spans;
    ngx_uint_t               n;
} ngx_smtp_relay_scan_out_t;


/* most spans that one step puts out, with the run that it leaves open */

#define NGX_SMTP_RELAY_STEP_SPANS  3


#define ngx_smtp_relay_scan_start(sc)  ((sc)->dots_in ? sw_start : sw_bare)


static ngx_int_t ngx_smtp_relay_scan_held(ngx_smtp_relay_scan_t *sc,
    u_char **pos, u_char *last, u_char **run, ngx_smtp_relay_scan_out_t *out);
static ngx_int_t ngx_smtp_relay_scan_dot(ngx_smtp_relay_scan_t *sc,
    u_char **pos, u_char *last, u_char **run, ngx_smtp_relay_scan_out_t *out);
static ngx_int_t ngx_smtp_relay_scan_newline(ngx_smtp_relay_scan_t *sc,
    u_char **pos, u_char *last, u_char **run, ngx_smtp_relay_scan_out_t *out);
static u_char *ngx_smtp_relay_scan_text(ngx_smtp_relay_scan_t *sc, u_char *p,
    u_char *last);
static u_char *ngx_smtp_relay_scan_clean(u_char *p, u_char *last,
    ngx_uint_t *nul);
static u_char *ngx_smtp_relay_scan_clean_octets(u_char *p, u_char *last,
    ngx_uint_t *nul);
#if (NGX_SMTP_RELAY_AVX2)
static u_char *ngx_smtp_relay_scan_blocks(u_char *p, u_char *last,
    ngx_uint_t *nul);
#endif
static void ngx_smtp_relay_scan_put(ngx_smtp_relay_scan_out_t *out,
    u_char *pos, u_char *last);


static u_char  ngx_smtp_relay_crlf[] = CRLF;
static u_char  ngx_smtp_relay_dot[] = ".";


void
ngx_smtp_relay_scan_init(ngx_smtp_relay_scan_t *sc, ngx_uint_t dots_in,
    ngx_uint_t dots_out)
{
    ngx_memzero(sc, sizeof(ngx_smtp_relay_scan_t));

    sc->dots_in = dots_in ? 1 : 0;
    sc->dots_out = dots_out ? 1 : 0;
    sc->state = ngx_smtp_relay_scan_start(sc);
}


ngx_int_t
ngx_smtp_relay_scan(ngx_smtp_relay_scan_t *sc, u_char **pos, u_char *last,
    ngx_smtp_relay_span_t *spans, ngx_uint_t *n)
{
    u_char                     *p, *run;
    ngx_int_t                   rc;
    ngx_uint_t                  max;
    ngx_smtp_relay_scan_out_t   out;

    out.spans = spans;
    out.n = 0;

    max = *n - NGX_SMTP_RELAY_STEP_SPANS;

    p = *pos;
    run = p;      /* [run, p) is output that is not in a span yet */

    rc = ngx_smtp_relay_scan_held(sc, &p, last, &run, &out);

    while (rc == NGX_OK && p < last) {

        if (out.n > max) {
            rc = NGX_AGAIN;
            break;
        }

        if (*p == '.' && sc->state != sw_line) {
            rc = ngx_smtp_relay_scan_dot(sc, &p, last, &run, &out);

        } else if (*p == CR || *p == LF) {
            rc = ngx_smtp_relay_scan_newline(sc, &p, last, &run, &out);

        } else {
            p = ngx_smtp_relay_scan_text(sc, p, last);
        }
    }

    if (rc == NGX_OK || rc == NGX_AGAIN) {
        ngx_smtp_relay_scan_put(&out, run, p);
    }

    /* each octet counts as content here; the steps settle the difference */

    sc->size += p - *pos;

    *pos = p;
    *n = out.n;

    return rc;
}


ngx_uint_t
ngx_smtp_relay_scan_finish(ngx_smtp_relay_scan_t *sc,
    ngx_smtp_relay_span_t *spans)
{
    ngx_smtp_relay_scan_out_t  out;

    out.spans = spans;
    out.n = 0;

    switch (sc->state) {

    case sw_line:

        if (!sc->dots_out) {
            break;
        }

        ngx_smtp_relay_scan_put(&out, ngx_smtp_relay_crlf,
                                ngx_smtp_relay_crlf + 2);
        sc->size += 2;
        break;

    case sw_cr:
    case sw_dot_cr:

        ngx_smtp_relay_scan_put(&out, ngx_smtp_relay_crlf,
                                ngx_smtp_relay_crlf + 2);
        sc->size += 2;
        sc->bare = 1;
        break;
    }

    sc->state = ngx_smtp_relay_scan_start(sc);

    return out.n;
}


/* tells by the first octet of this input what the last one left open */

static ngx_int_t
ngx_smtp_relay_scan_held(ngx_smtp_relay_scan_t *sc, u_char **pos, u_char *last,
    u_char **run, ngx_smtp_relay_scan_out_t *out)
{
    if (*pos == last) {
        return NGX_OK;
    }

    if (sc->state == sw_dot) {

        if (**pos == '.') {

            /* one dot of the two is content; towards DATA both go out */

            if (sc->dots_out) {
                ngx_smtp_relay_scan_put(out, ngx_smtp_relay_dot,
                                        ngx_smtp_relay_dot + 1);
            }

            sc->state = sw_line;
            (*pos)++;

            return NGX_OK;
        }

        sc->state = sw_bare;

        if (**pos == CR) {
            sc->state = sw_dot_cr;
            sc->size--;
            *run = ++(*pos);

            if (*pos == last) {
                return NGX_OK;
            }
        }
    }

    if (sc->state == sw_dot_cr && **pos == LF) {
        sc->size--;
        (*pos)++;

        return NGX_DONE;
    }

    if (sc->state == sw_cr && **pos == LF) {
        ngx_smtp_relay_scan_put(out, ngx_smtp_relay_crlf,
                                ngx_smtp_relay_crlf + 1);
        sc->size++;
        sc->state = ngx_smtp_relay_scan_start(sc);
        (*pos)++;

        return NGX_OK;
    }

    if (sc->state == sw_cr || sc->state == sw_dot_cr) {
        ngx_smtp_relay_scan_put(out, ngx_smtp_relay_crlf,
                                ngx_smtp_relay_crlf + 2);
        sc->size += 2;
        sc->state = sw_bare;
        sc->bare = 1;
    }

    return NGX_OK;
}


/* a dot where a line starts */

static ngx_int_t
ngx_smtp_relay_scan_dot(ngx_smtp_relay_scan_t *sc, u_char **pos, u_char *last,
    u_char **run, ngx_smtp_relay_scan_out_t *out)
{
    size_t   held;
    u_char  *p;

    p = *pos;

    if (sc->state == sw_bare) {
        sc->state = sw_line;
        *pos = p + 1;

        if (sc->dots_out) {

            /* the dot goes out twice: it ends a span and starts the next */

            ngx_smtp_relay_scan_put(out, *run, p + 1);
            *run = p;
        }

        return NGX_OK;
    }

    held = 0;

    if (last - p == 1) {
        sc->state = sw_dot;
        held = 1;

    } else if (p[1] == CR && last - p == 2) {
        sc->state = sw_dot_cr;
        held = 2;
    }

    if (held) {
        ngx_smtp_relay_scan_put(out, *run, p);
        sc->size -= held;
        *run = last;
        *pos = last;

        return NGX_OK;
    }

    if (p[1] == CR && p[2] == LF) {
        ngx_smtp_relay_scan_put(out, *run, p);
        sc->size -= 3;
        *pos = p + 3;

        return NGX_DONE;
    }

    sc->size--;

    if (p[1] == '.' && sc->dots_out) {
        sc->state = sw_line;
        *pos = p + 2;

        return NGX_OK;
    }

    ngx_smtp_relay_scan_put(out, *run, p);
    sc->state = sw_bare;
    *run = p + 1;
    *pos = p + 1;

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_scan_newline(ngx_smtp_relay_scan_t *sc, u_char **pos,
    u_char *last, u_char **run, ngx_smtp_relay_scan_out_t *out)
{
    u_char  *p, *missing;

    p = *pos;

    if (*p == CR) {

        if (last - p == 1) {
            ngx_smtp_relay_scan_put(out, *run, p);
            sc->size--;
            sc->state = sw_cr;
            *run = last;
            *pos = last;

            return NGX_OK;
        }

        p++;

        if (*p == LF) {
            sc->state = ngx_smtp_relay_scan_start(sc);
            *pos = p + 1;

            return NGX_OK;
        }

        /* LF is put behind the CR */

        missing = ngx_smtp_relay_crlf + 1;
        *pos = p;

    } else {

        /* CR is put in front of the LF */

        missing = ngx_smtp_relay_crlf;
        *pos = p + 1;
    }

    ngx_smtp_relay_scan_put(out, *run, p);
    ngx_smtp_relay_scan_put(out, missing, missing + 1);

    sc->size++;
    sc->state = sw_bare;
    sc->bare = 1;
    *run = p;

    return NGX_OK;
}


/*
 * Passes over an octet that has no meaning and all that is clean behind it.
 * CR is left to be looked at with what comes next.
 */

static u_char *
ngx_smtp_relay_scan_text(ngx_smtp_relay_scan_t *sc, u_char *p, u_char *last)
{
    ngx_uint_t  nul;

    nul = (*p == '\0');

    p = ngx_smtp_relay_scan_clean(p + 1, last, &nul);

    if (nul) {
        sc->nul = 1;
    }

    sc->state = sw_line;

    if (p[-1] == CR) {
        return p - 1;
    }

    if (p[-1] == LF) {
        sc->state = ngx_smtp_relay_scan_start(sc);
    }

    return p;
}


/*
 * Returns the first octet of [p, last) that does not go with the one before
 * it, or last.  p[-1] can be read and is neither CR nor LF.  *nul is set if
 * a NUL is in what was passed over.
 */

#if defined __SSE2__

/* nonzero octets where [p, p + 16) does not go with [p - 1, p + 15) */

static ngx_inline __m128i
ngx_smtp_relay_scan_pairs(u_char *p)
{
    __m128i  ch, prev, newline, dot;

    const __m128i  cr = _mm_set1_epi8('\r');
    const __m128i  lf = _mm_set1_epi8('\n');
    const __m128i  period = _mm_set1_epi8('.');

    ch = _mm_loadu_si128((__m128i *) p);
    prev = _mm_loadu_si128((__m128i *) (p - 1));

    newline = _mm_xor_si128(_mm_cmpeq_epi8(prev, cr), _mm_cmpeq_epi8(ch, lf));
    dot = _mm_and_si128(_mm_cmpeq_epi8(prev, lf), _mm_cmpeq_epi8(ch, period));

    return _mm_or_si128(newline, dot);
}


#if (NGX_SMTP_RELAY_AVX2)

/*
 * The same for octets in blocks of 64, by instructions that most machines
 * have and no compiler uses unasked.  Returns where the first block starts
 * that is not clean, or is not a whole one.
 */

__attribute__((target("avx2")))
static u_char *
ngx_smtp_relay_scan_blocks(u_char *p, u_char *last, ngx_uint_t *nul)
{
    __m256i     ch, next, prev, behind, newline, dot, least;

    const __m256i  cr = _mm256_set1_epi8('\r');
    const __m256i  lf = _mm256_set1_epi8('\n');
    const __m256i  period = _mm256_set1_epi8('.');

    least = _mm256_set1_epi8(1);

    for ( /* void */ ; last - p >= 64; p += 64) {

        ch = _mm256_loadu_si256((__m256i *) p);
        prev = _mm256_loadu_si256((__m256i *) (p - 1));
        next = _mm256_loadu_si256((__m256i *) (p + 32));
        behind = _mm256_loadu_si256((__m256i *) (p + 31));

        newline = _mm256_or_si256(
                      _mm256_xor_si256(_mm256_cmpeq_epi8(prev, cr),
                                       _mm256_cmpeq_epi8(ch, lf)),
                      _mm256_xor_si256(_mm256_cmpeq_epi8(behind, cr),
                                       _mm256_cmpeq_epi8(next, lf)));

        dot = _mm256_or_si256(
                      _mm256_and_si256(_mm256_cmpeq_epi8(prev, lf),
                                       _mm256_cmpeq_epi8(ch, period)),
                      _mm256_and_si256(_mm256_cmpeq_epi8(behind, lf),
                                       _mm256_cmpeq_epi8(next, period)));

        newline = _mm256_or_si256(newline, dot);

        if (!_mm256_testz_si256(newline, newline)) {
            break;
        }

        least = _mm256_min_epu8(least, _mm256_min_epu8(ch, next));
    }

    if (_mm256_movemask_epi8(_mm256_cmpeq_epi8(least,
                                               _mm256_setzero_si256())))
    {
        *nul = 1;
    }

    return p;
}

#endif


static u_char *
ngx_smtp_relay_scan_clean(u_char *p, u_char *last, ngx_uint_t *nul)
{
    __m128i   a, b, least;
    uint32_t  pairs, zeros;

    const __m128i  zero = _mm_setzero_si128();

#if (NGX_SMTP_RELAY_AVX2)

    if (__builtin_cpu_supports("avx2")) {
        p = ngx_smtp_relay_scan_blocks(p, last, nul);
    }

#endif

    /* the smallest octet of each column: NULs cost one instruction in 16 */

    least = _mm_set1_epi8(1);
    pairs = 0;

    while (last - p >= 64) {

        a = _mm_or_si128(ngx_smtp_relay_scan_pairs(p),
                         ngx_smtp_relay_scan_pairs(p + 16));
        b = _mm_or_si128(ngx_smtp_relay_scan_pairs(p + 32),
                         ngx_smtp_relay_scan_pairs(p + 48));

        if (_mm_movemask_epi8(_mm_or_si128(a, b))) {
            break;
        }

        a = _mm_min_epu8(_mm_loadu_si128((__m128i *) p),
                         _mm_loadu_si128((__m128i *) (p + 16)));
        b = _mm_min_epu8(_mm_loadu_si128((__m128i *) (p + 32)),
                         _mm_loadu_si128((__m128i *) (p + 48)));

        least = _mm_min_epu8(least, _mm_min_epu8(a, b));

        p += 64;
    }

    while (last - p >= 16) {

        pairs = _mm_movemask_epi8(ngx_smtp_relay_scan_pairs(p));

        if (pairs) {
            break;
        }

        least = _mm_min_epu8(least, _mm_loadu_si128((__m128i *) p));

        p += 16;
    }

    if (_mm_movemask_epi8(_mm_cmpeq_epi8(least, zero))) {
        *nul = 1;
    }

    if (pairs == 0) {
        return ngx_smtp_relay_scan_clean_octets(p, last, nul);
    }

    zeros = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128((__m128i *) p),
                                             zero));

    /* the lowest bit of pairs is where to stop; NULs behind it wait */

    if (zeros & (pairs - 1) & ~pairs) {
        *nul = 1;
    }

    return p + __builtin_ctz(pairs);
}

#else

#define NGX_SMTP_RELAY_ONES   UINT64_C(0x0101010101010101)
#define NGX_SMTP_RELAY_LOWER  UINT64_C(0x7f7f7f7f7f7f7f7f)

/* 0x80 in each octet of word that is ch, zero in the others */

#define ngx_smtp_relay_word_eq(word, ch)                                      \
    ngx_smtp_relay_word_zero((word) ^ (NGX_SMTP_RELAY_ONES * (ch)))
#define ngx_smtp_relay_word_zero(word)                                        \
    (~((((word) & NGX_SMTP_RELAY_LOWER) + NGX_SMTP_RELAY_LOWER)               \
       | (word) | NGX_SMTP_RELAY_LOWER))


static u_char *
ngx_smtp_relay_scan_clean(u_char *p, u_char *last, ngx_uint_t *nul)
{
    uint64_t  ch, prev, newline, dot, zeros;

    zeros = 0;

    while (last - p >= 8) {

        ngx_memcpy(&ch, p, 8);
        ngx_memcpy(&prev, p - 1, 8);

        newline = ngx_smtp_relay_word_eq(prev, '\r')
                  ^ ngx_smtp_relay_word_eq(ch, '\n');
        dot = ngx_smtp_relay_word_eq(prev, '\n')
              & ngx_smtp_relay_word_eq(ch, '.');

        if (newline | dot) {
            break;
        }

        zeros |= ngx_smtp_relay_word_zero(ch);

        p += 8;
    }

    if (zeros) {
        *nul = 1;
    }

    return ngx_smtp_relay_scan_clean_octets(p, last, nul);
}

#endif


static u_char *
ngx_smtp_relay_scan_clean_octets(u_char *p, u_char *last, ngx_uint_t *nul)
{
    for ( /* void */ ; p < last; p++) {

        if ((p[-1] == CR) != (*p == LF) || (p[-1] == LF && *p == '.')) {
            break;
        }

        if (*p == '\0') {
            *nul = 1;
        }
    }

    return p;
}


/*
 * Each step leaves out or puts in something where it ends a run, so no two
 * spans touch.
 */

static void
ngx_smtp_relay_scan_put(ngx_smtp_relay_scan_out_t *out, u_char *pos,
    u_char *last)
{
    ngx_smtp_relay_span_t  *span;

    if (pos == last) {
        return;
    }

    span = &out->spans[out->n++];

    span->pos = pos;
    span->last = last;
}
