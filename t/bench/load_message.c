
/* One message of a session: its commands, its content, its end. */


#include <stdlib.h>
#include <string.h>

#include "load.h"


static load_msg_t              *free_msgs;


int
message_start(load_session_t *s)
{
    load_msg_t  *m;

    m = free_msgs;

    if (m) {
        free_msgs = m->next;

    } else {
        m = malloc(sizeof(load_msg_t));

        if (m == NULL) {
            return -1;
        }
    }

    m->next = NULL;
    m->pos = 0;
    m->chunk = 0;
    m->rcpts = 0;
    m->rcpts_ok = 0;
    m->sent = 0;
    m->refused = 0;
    m->start = bench_usec();

    if (bench_msg_init(&m->msg, run, next_seq, size, line_length) != 0) {
        bench_die("no such message");
    }

    next_seq++;

    if (per_session) {
        s->quota--;
    }

    if (s->first) {
        s->last->next = m;

    } else {
        s->first = m;
    }

    s->last = m;
    s->nmsgs++;
    s->step = STEP_WAIT;

    if (s->reset) {
        s->reset = 0;
        emit(s, KIND_RSET, "RSET\r\n");
    }

    emit(s, KIND_MAIL, "MAIL FROM:<sender@bench.example>\r\n");

    if (mode == MODE_LOCKSTEP) {
        return 0;
    }

    while (m->rcpts < recipients) {
        message_next(s, m);
    }

    message_next(s, m);

    return 0;
}


/* the next command of the envelope */

void
message_next(load_session_t *s, load_msg_t *m)
{
    if (m->rcpts < recipients) {
        emit(s, KIND_RCPT, "RCPT TO:<r%u@bench.example>\r\n", m->rcpts);
        m->rcpts++;
        return;
    }

    if (mode == MODE_BDAT) {
        s->step = STEP_CONTENT;
        return;
    }

    emit(s, KIND_DATA, "DATA\r\n");
}


/* a record more of the last message */

void
message_content(load_session_t *s)
{
    size_t       n, end;
    load_msg_t  *m;

    m = s->last;

    if (mode == MODE_BDAT) {
        end = m->msg.length;

        if (m->chunk == 0) {
            n = end - m->pos;
            m->chunk = (chunk && chunk < n) ? chunk : n;

            emit(s, m->chunk == n ? KIND_LAST : KIND_CHUNK, "BDAT %zu%s\r\n",
                 m->chunk, m->chunk == n ? " LAST" : "");
        }

    } else {
        end = m->msg.length_stuffed;
        m->chunk = end - m->pos;
    }

    n = (olen < RECORD) ? RECORD - olen : 0;
    n = (n < m->chunk) ? n : m->chunk;

    if (mode == MODE_BDAT) {
        n = bench_msg_copy(&m->msg, m->pos, obuf + olen, n);

    } else {
        n = bench_msg_copy_stuffed(&m->msg, m->pos, obuf + olen, n);
    }

    olen += n;
    m->pos += n;
    m->chunk -= n;

    if (m->pos < end) {
        return;
    }

    if (mode != MODE_BDAT) {
        emit(s, KIND_LAST, ".\r\n");
    }

    m->sent = 1;
    s->step = STEP_IDLE;
}


void
message_done(load_session_t *s, char result)
{
    load_msg_t  *m;

    m = s->first;
    s->first = m->next;
    s->nmsgs--;

    results[m->msg.seq] = result;

    switch (result) {

    case 'a':
        accepted++;
        histogram_add(&message_times, bench_usec() - m->start);
        break;

    case 'r':
        refused++;
        s->reset = 1;
        break;

    case 'l':
        lost++;
        break;

    default:
        aborted++;
    }

    if (!m->sent && s->step == STEP_WAIT) {
        s->step = STEP_IDLE;
    }

    m->next = free_msgs;
    free_msgs = m;

    if (think && !s->thinking && !s->c.closed) {
        s->thinking = 1;
        bench_timer_set(&s->c, think / 2 + random() % (think + 1));
    }
}
