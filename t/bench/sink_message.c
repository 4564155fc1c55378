
/*
 * The content of a message: where it ends, whether its octets are the right
 * ones, and how often it came.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink.h"


static const unsigned char *content_seek(sink_session_t *s,
    const unsigned char *p, const unsigned char *end);
static void message_count(sink_session_t *s);


void
message_start(sink_session_t *s)
{
    s->content = CONTENT_SEEK;
    s->eod = EOD_START;
    s->pos = 0;
    s->nline = 0;
}


/* content is what is left when the doubled dots and the end are taken away */

const unsigned char *
data_feed(sink_session_t *s, const unsigned char *p,
    const unsigned char *end, int *complete)
{
    size_t                len;
    const unsigned char  *nl;

    while (p < end) {

        switch (s->eod) {

        case EOD_START:
            if (*p == '.') {
                s->eod = EOD_DOT;
                p++;
                break;
            }

            s->eod = EOD_MIDDLE;
            break;

        case EOD_DOT:
            if (*p == '\r') {
                s->eod = EOD_DOT_CR;
                p++;
                break;
            }

            s->eod = EOD_MIDDLE;
            break;

        case EOD_DOT_CR:
            if (*p == '\n') {
                *complete = 1;
                return p + 1;
            }

            content_feed(s, (unsigned char *) "\r", 1);
            s->eod = EOD_MIDDLE;
            break;

        case EOD_CR:
            s->eod = (*p == '\n') ? EOD_START : EOD_MIDDLE;

            if (*p == '\n') {
                content_feed(s, p, 1);
                p++;
            }

            break;

        case EOD_MIDDLE:
            nl = memchr(p, '\n', end - p);
            len = (nl ? nl + 1 : end) - p;

            content_feed(s, p, len);

            if (nl == NULL) {
                s->eod = (end[-1] == '\r') ? EOD_CR : EOD_MIDDLE;
                return end;
            }

            if (nl > p && nl[-1] == '\r') {
                s->eod = EOD_START;
            }

            p = nl + 1;
            break;
        }
    }

    return p;
}


void
content_feed(sink_session_t *s, const unsigned char *p, size_t len)
{
    const unsigned char  *end;

    counts.octets += len;

    if (!check) {
        return;
    }

    end = p + len;

    if (s->content == CONTENT_SEEK) {
        p = content_seek(s, p, end);
    }

    if (s->content == CONTENT_MATCH && p < end) {
        len = end - p;

        if (bench_msg_compare(s->msg, s->pos, p, len) != 0) {
            s->content = CONTENT_BAD;
            return;
        }

        s->pos += len;
    }
}


/* header fields in front of the identity were added on the way */

static const unsigned char *
content_seek(sink_session_t *s, const unsigned char *p,
    const unsigned char *end)
{
    size_t                len;
    const unsigned char  *nl;

    while (p < end) {
        nl = memchr(p, '\n', end - p);
        len = (nl ? nl + 1 : end) - p;

        if (s->line == NULL) {
            s->line = malloc(LINE_SIZE);

            if (s->line == NULL) {
                s->content = CONTENT_BAD;
                return end;
            }

            s->line_size = LINE_SIZE;
        }

        if (s->nline + len >= s->line_size) {
            s->content = CONTENT_BAD;
            break;
        }

        memcpy(s->line + s->nline, p, len);
        s->nline += len;
        p += len;

        if (nl == NULL) {
            return p;
        }

        s->line[s->nline] = '\0';

        if (starts(s->line, "X-Bench-Id: ")) {
            s->msg = malloc(sizeof(bench_msg_t));

            if (s->msg == NULL || bench_msg_parse(s->msg, s->line) != 0) {
                free(s->msg);
                s->msg = NULL;
                s->content = CONTENT_BAD;
                break;
            }

            s->content = CONTENT_MATCH;
            s->pos = s->nline;
            s->nline = 0;

            return p;
        }

        if (s->nline <= 2) {
            s->content = CONTENT_BAD;       /* the end of the header */
            break;
        }

        counts.extra += s->nline;
        s->nline = 0;
    }

    s->nline = 0;

    return end;
}


int
message_end(sink_session_t *s)
{
    counts.messages++;

    if (check) {
        message_count(s);
    }

    s->nline = 0;
    reset(s);

    if (delay) {
        s->delayed = 1;
        bench_timer_set(&s->c, delay);
        return 0;
    }

    reply("250 2.0.0 Ok\r\n");

    return 0;
}


static void
message_count(sink_session_t *s)
{
    size_t          size;
    sink_run_t     *run;
    unsigned char  *count;

    if (s->msg == NULL) {
        counts.unknown++;
        return;
    }

    if (s->content != CONTENT_MATCH || s->pos != s->msg->length) {
        counts.bad++;

        if (counts.bad <= 10) {
            fprintf(stderr, "sink: message %llu of run %016llx is bad at"
                    " octet %zu of %zu\n", (unsigned long long) s->msg->seq,
                    (unsigned long long) s->msg->run, s->pos,
                    s->msg->length);
        }

        return;
    }

    for (run = runs; run < runs + nruns; run++) {
        if (run->run == s->msg->run) {
            break;
        }
    }

    if (run == runs + nruns) {
        if (nruns == RUNS) {
            bench_die("more than %d runs", RUNS);
        }

        nruns++;
        memset(run, 0, sizeof(*run));
        run->run = s->msg->run;
    }

    if (s->msg->seq >= SEQ_MAX) {
        counts.unknown++;
        return;
    }

    if (s->msg->seq >= run->size) {
        size = (s->msg->seq + 1) * 2;
        count = realloc(run->count, size);

        if (count == NULL) {
            bench_die("no memory");
        }

        memset(count + run->size, 0, size - run->size);
        run->count = count;
        run->size = size;
    }

    if (run->count[s->msg->seq] == 0) {
        counts.unique++;

    } else {
        counts.duplicates++;
    }

    if (run->count[s->msg->seq] < 255) {
        run->count[s->msg->seq]++;
    }
}
