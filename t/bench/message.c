
/*
 * Messages that are made of a number: a header that names it, and a body
 * that is a run of lines out of a text, from a line that the number picks.
 * Some lines start with dots, as the last one does: a relay that counts
 * dots wrongly cannot pass.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"


#define TEXT_SIZE   262144
#define TEXT_LINES  64
#define TEXTS       16


static uint64_t mix(uint64_t n);
static const bench_text_t *text_get(size_t line);
static int text_make(bench_text_t *t, size_t line);
static size_t cycle_copy(const unsigned char *base, size_t size, size_t from,
    unsigned char *buf, size_t n);
static int cycle_compare(const unsigned char *base, size_t size, size_t from,
    const unsigned char *p, size_t n);
static unsigned char tail_octet(const bench_msg_t *m, size_t i);


static bench_text_t  texts[TEXTS];
static unsigned      ntexts;


static uint64_t
mix(uint64_t n)
{
    n += 0x9e3779b97f4a7c15;
    n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9;
    n = (n ^ (n >> 27)) * 0x94d049bb133111eb;

    return n ^ (n >> 31);
}


static const bench_text_t *
text_get(size_t line)
{
    unsigned  i;

    for (i = 0; i < ntexts; i++) {
        if (texts[i].line == line) {
            return &texts[i];
        }
    }

    if (ntexts == TEXTS || line < 8 || line > 65535) {
        return NULL;
    }

    if (text_make(&texts[ntexts], line) != 0) {
        return NULL;
    }

    return &texts[ntexts++];
}


static int
text_make(bench_text_t *t, size_t line)
{
    size_t          i, k, lines, *offset;
    uint64_t        r;
    unsigned char  *raw, *stuffed, *p;

    static const char  alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    lines = TEXT_SIZE / line;

    if (lines < TEXT_LINES) {
        lines = TEXT_LINES;
    }

    raw = malloc(lines * line);
    stuffed = malloc(lines * (line + 1));
    offset = malloc(lines * sizeof(size_t));

    if (raw == NULL || stuffed == NULL || offset == NULL) {
        return -1;
    }

    p = stuffed;

    for (k = 0; k < lines; k++) {
        r = mix(k);

        for (i = 0; i < line - 2; i++) {
            if (i % 10 == 0) {
                r = mix(r);
            }

            raw[k * line + i] = alphabet[(r >> (i % 10 * 6)) & 63];
        }

        raw[k * line + i] = '\r';
        raw[k * line + i + 1] = '\n';

        if (k % 32 == 3) {
            raw[k * line] = '.';
        }

        if (k % 64 == 3) {
            raw[k * line + 1] = '.';
        }

        offset[k] = p - stuffed;

        if (raw[k * line] == '.') {
            *p++ = '.';
        }

        memcpy(p, &raw[k * line], line);
        p += line;
    }

    t->raw = raw;
    t->stuffed = stuffed;
    t->offset = offset;
    t->line = line;
    t->lines = lines;
    t->stuffed_length = p - stuffed;

    return 0;
}


int
bench_msg_init(bench_msg_t *m, uint64_t run, uint64_t seq, size_t size,
    size_t line)
{
    int                  pad;
    size_t               end, lines, room;
    const bench_text_t  *t;

    t = text_get(line);

    if (t == NULL || size > 9999999999 || seq > 9999999999) {
        return -1;
    }

    m->text = t;
    m->run = run;
    m->seq = seq;
    m->first = mix(run ^ mix(seq)) % t->lines;

    /* a rest of one octet can be no line: the subject takes it */

    for (pad = 0; pad < 2; pad++) {
        m->header_length = snprintf((char *) m->header, sizeof(m->header),
            "X-Bench-Id: %016llx-%010llu-%010llu-%05u\r\n"
            "From: Bench <sender@bench.example>\r\n"
            "To: <r0@bench.example>\r\n"
            "Subject: A message of the benchmark%s\r\n"
            "Date: Tue, 01 Jan 2030 00:00:00 +0000\r\n"
            "Message-ID: <%016llx.%010llu@bench.example>\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=us-ascii\r\n"
            "\r\n",
            (unsigned long long) run, (unsigned long long) seq,
            (unsigned long long) size, (unsigned) line, pad ? "." : "",
            (unsigned long long) run, (unsigned long long) seq);

        room = (size > m->header_length) ? size - m->header_length : 0;

        if (room % line != 1) {
            break;
        }
    }

    lines = room / line;

    m->body = lines * line;
    m->tail = room % line;
    m->length = m->header_length + m->body + m->tail;

    m->body_stuffed = lines / t->lines * t->stuffed_length;
    end = m->first + lines % t->lines;

    if (end >= t->lines) {
        end -= t->lines;
        m->body_stuffed += t->stuffed_length;
    }

    m->body_stuffed += t->offset[end] - t->offset[m->first];
    m->length_stuffed = m->header_length + m->body_stuffed + m->tail
                        + (m->tail > 2);

    return 0;
}


int
bench_msg_parse(bench_msg_t *m, const char *line)
{
    int                 n;
    unsigned            length;
    unsigned long long  run, seq, size;

    n = 0;

    if (sscanf(line, "X-Bench-Id: %16llx-%10llu-%10llu-%5u\r\n%n",
               &run, &seq, &size, &length, &n)
        != 4
        || n != BENCH_ID_LENGTH)
    {
        return -1;
    }

    if (bench_msg_init(m, run, seq, size, length) != 0) {
        return -1;
    }

    return memcmp(m->header, line, BENCH_ID_LENGTH) ? -1 : 0;
}


static size_t
cycle_copy(const unsigned char *base, size_t size, size_t from,
    unsigned char *buf, size_t n)
{
    size_t  done, part;

    from %= size;

    for (done = 0; done < n; done += part) {
        part = (n - done < size - from) ? n - done : size - from;
        memcpy(buf + done, base + from, part);
        from = 0;
    }

    return n;
}


static int
cycle_compare(const unsigned char *base, size_t size, size_t from,
    const unsigned char *p, size_t n)
{
    size_t  part;

    from %= size;

    while (n) {
        part = (n < size - from) ? n : size - from;

        if (memcmp(p, base + from, part) != 0) {
            return -1;
        }

        p += part;
        n -= part;
        from = 0;
    }

    return 0;
}


static unsigned char
tail_octet(const bench_msg_t *m, size_t i)
{
    if (i + 2 == m->tail) {
        return '\r';
    }

    if (i + 1 == m->tail) {
        return '\n';
    }

    return (i == 0) ? '.' : 'e';
}


size_t
bench_msg_copy(const bench_msg_t *m, size_t pos, unsigned char *buf, size_t n)
{
    size_t               done, part;
    const bench_text_t  *t;

    t = m->text;
    done = 0;

    if (pos < m->header_length) {
        part = m->header_length - pos;
        part = (part < n) ? part : n;
        memcpy(buf, m->header + pos, part);
        done = part;
    }

    pos = pos + done - m->header_length;

    if (done < n && pos < m->body) {
        part = m->body - pos;
        part = (part < n - done) ? part : n - done;
        done += cycle_copy(t->raw, t->lines * t->line,
                           m->first * t->line + pos, buf + done, part);
        pos += part;
    }

    pos -= m->body;

    while (done < n && pos < m->tail) {
        buf[done++] = tail_octet(m, pos++);
    }

    return done;
}


size_t
bench_msg_copy_stuffed(const bench_msg_t *m, size_t pos, unsigned char *buf,
    size_t n)
{
    size_t               done, part, dot;
    const bench_text_t  *t;

    t = m->text;
    done = 0;

    if (pos < m->header_length) {
        part = m->header_length - pos;
        part = (part < n) ? part : n;
        memcpy(buf, m->header + pos, part);
        done = part;
    }

    pos = pos + done - m->header_length;

    if (done < n && pos < m->body_stuffed) {
        part = m->body_stuffed - pos;
        part = (part < n - done) ? part : n - done;
        done += cycle_copy(t->stuffed, t->stuffed_length,
                           t->offset[m->first] + pos, buf + done, part);
        pos += part;
    }

    pos -= m->body_stuffed;
    dot = (m->tail > 2);

    while (done < n && pos < m->tail + dot) {
        buf[done++] = (pos < dot) ? '.' : tail_octet(m, pos - dot);
        pos++;
    }

    return done;
}


int
bench_msg_compare(const bench_msg_t *m, size_t pos, const unsigned char *p,
    size_t n)
{
    size_t               part;
    const bench_text_t  *t;

    t = m->text;

    if (pos > m->length || n > m->length - pos) {
        return -1;
    }

    if (pos < m->header_length) {
        part = m->header_length - pos;
        part = (part < n) ? part : n;

        if (memcmp(p, m->header + pos, part) != 0) {
            return -1;
        }

        p += part;
        n -= part;
        pos += part;
    }

    if (n == 0) {
        return 0;
    }

    pos -= m->header_length;

    if (pos < m->body) {
        part = m->body - pos;
        part = (part < n) ? part : n;

        if (cycle_compare(t->raw, t->lines * t->line,
                          m->first * t->line + pos, p, part)
            != 0)
        {
            return -1;
        }

        p += part;
        n -= part;
        pos += part;
    }

    pos -= m->body;

    while (n) {
        if (*p != tail_octet(m, pos)) {
            return -1;
        }

        p++;
        n--;
        pos++;
    }

    return 0;
}
