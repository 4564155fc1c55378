
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_session_create.h"
#include "ngx_smtp_relay_session_io.h"
#include "ngx_smtp_relay_command.h"
#include "ngx_smtp_relay_login.h"
#include "ngx_smtp_relay_starttls.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_content.h"
#include "ngx_smtp_relay_limit.h"


/* reads in a row, after which other connections have their turn */

#define NGX_SMTP_RELAY_MAX_READS  32


static ngx_int_t ngx_smtp_relay_session_start(ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_session_preread(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_session_greet(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_session_read_handler(ngx_event_t *rev);
static void ngx_smtp_relay_session_timeout(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_session_write_handler(ngx_event_t *wev);
static void ngx_smtp_relay_session_wake_handler(ngx_event_t *ev);
static void ngx_smtp_relay_session_run(ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_session_process(ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_session_held(ngx_smtp_relay_session_t *ss);
static ngx_int_t ngx_smtp_relay_session_content(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_session_wait(ngx_smtp_relay_session_t *ss,
    ngx_int_t rc);
static ngx_uint_t ngx_smtp_relay_session_idle(ngx_smtp_relay_session_t *ss,
    ngx_int_t rc);
static ngx_msec_t ngx_smtp_relay_session_time_left(
    ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_session_shutdown(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_session_close(ngx_smtp_relay_session_t *ss,
    ngx_uint_t status);
static ngx_uint_t ngx_smtp_relay_session_result(
    ngx_smtp_relay_session_t *ss);


static ngx_buf_t  ngx_smtp_relay_no_input;


void
ngx_smtp_relay_session_handler(ngx_stream_session_t *s)
{
    ngx_smtp_relay_session_t  *ss;

    ss = ngx_smtp_relay_get_session(s);

    if (ss == NULL) {
        ss = ngx_smtp_relay_session_create(s);

        if (ss == NULL) {
            ngx_stream_finalize_session(s, NGX_STREAM_INTERNAL_SERVER_ERROR);
            return;
        }

        ss->wake.handler = ngx_smtp_relay_session_wake_handler;
        ss->wake.data = ss;
        ss->wake.log = s->connection->log;

        if (ngx_smtp_relay_session_start(ss) != NGX_OK) {
            ngx_smtp_relay_session_close(ss, NGX_STREAM_INTERNAL_SERVER_ERROR);
            return;
        }

        ngx_smtp_relay_session_greet(ss);
        return;
    }

    /* TLS has started, the server may be another one by SNI */

    if (ngx_smtp_relay_session_start(ss) != NGX_OK) {
        ngx_smtp_relay_session_close(ss, NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_log_debug0(NGX_LOG_DEBUG_STREAM, s->connection->log, 0,
                   "smtp relay STARTTLS done");

    ngx_smtp_relay_stat_tls(ss, NGX_SMTP_RELAY_TLS_STARTTLS);

    ss->state = NGX_SMTP_RELAY_ST_COMMAND;

    if (ngx_smtp_relay_limit_accept(ss) == NGX_ERROR) {
        ngx_smtp_relay_session_close(ss, NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_smtp_relay_session_run(ss);
}


static ngx_int_t
ngx_smtp_relay_session_start(ngx_smtp_relay_session_t *ss)
{
    ngx_connection_t  *c;

    c = ss->connection;

    c->read->handler = ngx_smtp_relay_session_read_handler;
    c->write->handler = ngx_smtp_relay_session_write_handler;

    return ngx_smtp_relay_session_init(ss);
}


/* what an earlier phase has read belongs to the session */

static ngx_int_t
ngx_smtp_relay_session_preread(ngx_smtp_relay_session_t *ss)
{
    size_t             size;
    ngx_connection_t  *c;

    c = ss->connection;

    if (c->buffer == NULL || c->buffer->pos >= c->buffer->last) {
        return NGX_OK;
    }

    size = c->buffer->last - c->buffer->pos;

    ss->in = ngx_smtp_relay_buf_get(ngx_max(size, ss->conf->buffer_size),
                                    c->log);
    if (ss->in == NULL) {
        return NGX_ERROR;
    }

    ss->in->last = ngx_cpymem(ss->in->last, c->buffer->pos, size);
    c->buffer->pos = c->buffer->last;

    return NGX_OK;
}


static void
ngx_smtp_relay_session_greet(ngx_smtp_relay_session_t *ss)
{
    ngx_connection_t  *c;

    c = ss->connection;

    ss->deadline = ngx_current_msec + ss->conf->login_timeout;

    ngx_log_error(NGX_LOG_INFO, c->log, 0, "session started");

    switch (ngx_smtp_relay_limit_accept(ss)) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        ngx_smtp_relay_session_run(ss);
        return;

    default: /* NGX_ERROR */
        ngx_smtp_relay_session_close(ss, NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    if (ngx_smtp_relay_session_preread(ss) != NGX_OK) {
        ngx_smtp_relay_session_close(ss, NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    if (ss->conf->greeting_delay == 0) {
        ngx_smtp_relay_command_greeting(ss);
        ngx_smtp_relay_session_run(ss);
        return;
    }

    ngx_add_timer(c->read, ss->conf->greeting_delay);

    c->idle = 1;

    if (ss->in || c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
        return;
    }

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_smtp_relay_session_close(ss, NGX_STREAM_INTERNAL_SERVER_ERROR);
    }
}


static void
ngx_smtp_relay_session_read_handler(ngx_event_t *rev)
{
    ngx_int_t                  rc;
    ngx_connection_t          *c;
    ngx_stream_session_t      *s;
    ngx_smtp_relay_session_t  *ss;

    c = rev->data;
    s = c->data;
    ss = ngx_smtp_relay_get_session(s);

    if (c->close) {
        ngx_smtp_relay_session_shutdown(ss);
        return;
    }

    if (rev->timedout) {
        rev->timedout = 0;
        ngx_smtp_relay_session_timeout(ss);
        return;
    }

    if (ss->state == NGX_SMTP_RELAY_ST_GREETING) {
        rc = ss->in ? NGX_OK : ngx_smtp_relay_session_read(ss);

        if (rc == NGX_AGAIN) {

            if (ngx_handle_read_event(rev, 0) != NGX_OK) {
                ngx_smtp_relay_session_close(ss,
                                             NGX_STREAM_INTERNAL_SERVER_ERROR);
            }

            return;
        }

        if (rc != NGX_OK) {
            ngx_smtp_relay_session_close(ss, NGX_STREAM_OK);
            return;
        }

        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "client sent data before the greeting");

        ngx_smtp_relay_session_end(ss, "554 5.5.1", "Data before greeting",
                                   NGX_STREAM_BAD_REQUEST);
    }

    /*
     * All sessions that have input are read before anything is sent: then
     * who is sent to is woken once for many of them.
     */

    ss->defer = 1;

    ngx_smtp_relay_session_run(ss);
}


static void
ngx_smtp_relay_session_timeout(ngx_smtp_relay_session_t *ss)
{
    switch (ss->state) {

    case NGX_SMTP_RELAY_ST_GREETING:
        ngx_smtp_relay_command_greeting(ss);
        break;

    case NGX_SMTP_RELAY_ST_LIMIT_WAIT:
        ngx_smtp_relay_limit_resume(ss);
        break;

    case NGX_SMTP_RELAY_ST_AUTH_WAIT:

        if (ss->auth_delay) {
            ngx_smtp_relay_login_delayed(ss);
            break;
        }

        /* fall through */

    default:
        ngx_log_error(NGX_LOG_INFO, ss->connection->log, NGX_ETIMEDOUT,
                      "client timed out");

        ngx_smtp_relay_session_end(ss, "421 4.4.2", "Timeout",
                                   NGX_SMTP_RELAY_CLIENT_TIMED_OUT);
    }

    ngx_smtp_relay_session_run(ss);
}


static void
ngx_smtp_relay_session_write_handler(ngx_event_t *wev)
{
    ngx_connection_t          *c;
    ngx_stream_session_t      *s;
    ngx_smtp_relay_session_t  *ss;

    c = wev->data;
    s = c->data;
    ss = ngx_smtp_relay_get_session(s);

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "client timed out, it does not read replies");

        c->timedout = 1;

        ngx_smtp_relay_session_close(ss, NGX_SMTP_RELAY_CLIENT_TIMED_OUT);
        return;
    }

    if (ss->out) {
        ngx_smtp_relay_session_run(ss);
        return;
    }

    /* takes it out of a level-triggered event method */

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ngx_smtp_relay_session_close(ss, NGX_STREAM_INTERNAL_SERVER_ERROR);
    }
}


static void
ngx_smtp_relay_session_wake_handler(ngx_event_t *ev)
{
    ngx_smtp_relay_session_run(ev->data);
}


void
ngx_smtp_relay_session_wake(ngx_smtp_relay_session_t *ss)
{
    if (!ss->closed) {
        ngx_post_event(&ss->wake, &ngx_posted_events);
    }
}


/*
 * Goes as far as it can: takes commands and content, sends replies.  All
 * that arrived together is answered together and forwarded together.
 */

static void
ngx_smtp_relay_session_run(ngx_smtp_relay_session_t *ss)
{
    ngx_int_t   rc;
    ngx_uint_t  reads;

    reads = 0;

    for ( ;; ) {
        rc = ngx_smtp_relay_session_process(ss);

        if (rc != NGX_AGAIN) {
            break;
        }

        if (!ss->connection->read->ready || ss->out) {

            /* replies are sent before more is read */

            break;
        }

        if (reads++ == NGX_SMTP_RELAY_MAX_READS) {
            ngx_smtp_relay_session_wake(ss);
            break;
        }

        rc = ngx_smtp_relay_session_read(ss);

        if (rc == NGX_DONE || rc == NGX_ERROR) {
            ngx_smtp_relay_session_close(ss, NGX_STREAM_OK);
            return;
        }

        if (rc == NGX_AGAIN) {
            break;
        }
    }

    if (rc == NGX_DONE) {
        ngx_smtp_relay_session_close(ss, NGX_STREAM_OK);
        return;
    }

    if (ss->defer) {
        ss->defer = 0;

        if (rc != NGX_ERROR && !ss->error) {
            ngx_smtp_relay_session_wake(ss);
            return;
        }
    }

    if (ss->transaction) {
        ngx_smtp_relay_transaction_flush(ss->transaction);
    }

    if (rc == NGX_ERROR || ss->error) {
        ngx_smtp_relay_session_close(ss, NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    switch (ngx_smtp_relay_session_flush(ss)) {

    case NGX_ERROR:
        ngx_smtp_relay_session_close(ss, NGX_STREAM_OK);
        return;

    case NGX_OK:

        if (ss->state == NGX_SMTP_RELAY_ST_CLOSE) {
            ngx_smtp_relay_session_close(ss, ss->status);
            return;
        }

        if (ss->state == NGX_SMTP_RELAY_ST_STARTTLS) {
            ngx_smtp_relay_starttls_run(ss);
            return;
        }

        if (ss->full) {
            ss->full = 0;
            ngx_smtp_relay_session_wake(ss);
        }

        break;

    default: /* NGX_AGAIN */
        break;
    }

    ngx_smtp_relay_session_wait(ss, rc);
}


/*
 *     NGX_AGAIN  input is needed
 *     NGX_BUSY   something else is waited for
 *     NGX_DONE   the client is gone
 *     NGX_ERROR  the session must be closed
 */

static ngx_int_t
ngx_smtp_relay_session_process(ngx_smtp_relay_session_t *ss)
{
    ngx_int_t                      rc;
    ngx_smtp_relay_transaction_t  *t;

    for ( ;; ) {
        t = ss->transaction;

        switch (ss->state) {

        case NGX_SMTP_RELAY_ST_COMMAND:

            if (t && t->state == NGX_SMTP_RELAY_T_OVER) {
                ngx_smtp_relay_session_reset(ss);
            }

            /* fall through */

        case NGX_SMTP_RELAY_ST_AUTH_RESPONSE:
            rc = ngx_smtp_relay_command_process(ss);
            break;

        case NGX_SMTP_RELAY_ST_AUTH_WAIT:
            rc = ngx_smtp_relay_login_process(ss);
            break;

        case NGX_SMTP_RELAY_ST_LIMIT_WAIT:
            rc = ngx_smtp_relay_session_held(ss);
            break;

        case NGX_SMTP_RELAY_ST_DATA:
        case NGX_SMTP_RELAY_ST_BDAT:
            rc = ngx_smtp_relay_session_content(ss);
            break;

        default: /* GREETING, STARTTLS, CLOSE */
            return NGX_BUSY;
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }
}


/* a command is held back; NGX_OK: it is not any more */

static ngx_int_t
ngx_smtp_relay_session_held(ngx_smtp_relay_session_t *ss)
{
    ngx_smtp_relay_transaction_t  *t;

    t = ss->transaction;

    if (t->state != NGX_SMTP_RELAY_T_ENVELOPE) {

        /* the node is lost, and the client has been told */

        ngx_smtp_relay_limit_cancel(t);
        ngx_smtp_relay_limit_resume(ss);

        return NGX_OK;
    }

    if (ngx_smtp_relay_session_gone(ss)) {
        ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                      "client closed connection");
        return NGX_DONE;
    }

    return NGX_BUSY;
}


static ngx_int_t
ngx_smtp_relay_session_content(ngx_smtp_relay_session_t *ss)
{
    ngx_int_t   rc;
    ngx_buf_t  *b;

    b = ss->in ? ss->in : &ngx_smtp_relay_no_input;

    if (ss->skip_reply) {
        rc = ngx_smtp_relay_command_skip(ss, b);

    } else if (ss->state == NGX_SMTP_RELAY_ST_DATA) {
        rc = ngx_smtp_relay_content_data(ss->transaction, b);

    } else {
        rc = ngx_smtp_relay_content_bdat(ss->transaction, b);
    }

    if (rc == NGX_OK) {
        ss->state = NGX_SMTP_RELAY_ST_COMMAND;
        ss->connection->log->action = "reading client command";
    }

    return rc;
}


/*
 * Ends a run.  Each way to wait holds a timer: on the client's read event
 * for input, on its write event for output; a node or an auth attempt holds
 * its own.
 */

static void
ngx_smtp_relay_session_wait(ngx_smtp_relay_session_t *ss, ngx_int_t rc)
{
    ngx_uint_t         pending;
    ngx_connection_t  *c;

    c = ss->connection;

    if (ss->in && ss->in->pos == ss->in->last
        && !(ss->transaction && ss->transaction->out))
    {
        ngx_smtp_relay_buf_put(&ss->in);
    }

    c->idle = ngx_smtp_relay_session_idle(ss, rc);

    if (c->idle && (ngx_exiting || ngx_terminate)) {
        ngx_smtp_relay_session_shutdown(ss);
        return;
    }

    /* a client that waits for replies of a node is not the one who is late */

    pending = (ss->transaction && ss->transaction->pending);

    if (rc == NGX_AGAIN && ss->out == NULL && c->read->ready) {
        ngx_smtp_relay_session_wake(ss);
    }

    if (rc == NGX_AGAIN && ss->out == NULL && !pending) {

        /* what a node does meanwhile gives the client no more time */

        if (ss->active || !c->read->timer_set) {
            ss->active = 0;
            ngx_add_timer(c->read, ngx_smtp_relay_session_time_left(ss));
        }

    } else if (c->read->timer_set && !ss->auth_delay
               && ss->state != NGX_SMTP_RELAY_ST_GREETING
               && ss->state != NGX_SMTP_RELAY_ST_LIMIT_WAIT)
    {
        ngx_del_timer(c->read);
    }

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_smtp_relay_session_close(ss, NGX_STREAM_INTERNAL_SERVER_ERROR);
    }
}


/* nothing begun, nothing unanswered: it can be closed at any time */

static ngx_uint_t
ngx_smtp_relay_session_idle(ngx_smtp_relay_session_t *ss, ngx_int_t rc)
{
    ngx_smtp_relay_transaction_t  *t;

    t = ss->transaction;

    if (ss->state == NGX_SMTP_RELAY_ST_LIMIT_WAIT) {

        /* MAIL that is held back has not begun anything */

        return (t->held == t->first && ss->out == NULL);
    }

    return (rc == NGX_AGAIN
            && t == NULL
            && ss->in == NULL
            && ss->out == NULL
            && ss->state != NGX_SMTP_RELAY_ST_BDAT);
}


static ngx_msec_t
ngx_smtp_relay_session_time_left(ngx_smtp_relay_session_t *ss)
{
    ngx_msec_int_t  left;

    if (ss->authenticated) {
        return (ss->state == NGX_SMTP_RELAY_ST_DATA
                || ss->state == NGX_SMTP_RELAY_ST_BDAT)
               ? ss->conf->data_timeout : ss->conf->timeout;
    }

    left = (ngx_msec_int_t) (ss->deadline - ngx_current_msec);

    return (left > 0) ? (ngx_msec_t) left : 1;
}


/*
 * The worker is on its way out.  An idle session ends at once; any other
 * gets here only when worker_shutdown_timeout is over.
 */

static void
ngx_smtp_relay_session_shutdown(ngx_smtp_relay_session_t *ss)
{
    ngx_connection_t  *c;

    c = ss->connection;

    ngx_log_error(NGX_LOG_INFO, c->log, 0, "worker is shutting down");

    ngx_smtp_relay_session_end(ss, "421 4.3.2", "Service shutting down",
                               NGX_STREAM_OK);

    (void) ngx_smtp_relay_session_flush(ss);

    ngx_smtp_relay_session_close(ss, ss->status);
}


void
ngx_smtp_relay_session_reset(ngx_smtp_relay_session_t *ss)
{
    if (ss->transaction) {
        ngx_smtp_relay_transaction_destroy(ss->transaction);
        ss->transaction = NULL;
    }

    ss->mail_refused = 0;
}


static void
ngx_smtp_relay_session_close(ngx_smtp_relay_session_t *ss, ngx_uint_t status)
{
    ngx_connection_t             *c;
    ngx_stream_session_t         *s;
    ngx_stream_core_main_conf_t  *cmcf;

    s = ss->stream;
    c = ss->connection;

    /* an AUTH attempt may end while TLS is being closed */

    ss->closed = 1;

    ngx_smtp_relay_session_reset(ss);
    ngx_smtp_relay_limit_release(ss);

    if (status == NGX_STREAM_OK) {
        status = ngx_smtp_relay_session_result(ss);
    }

    /* what was cached of variables on the way is not the session's end */

    if (ss->variables) {
        cmcf = ngx_stream_get_module_main_conf(s, ngx_stream_core_module);

        ngx_memcpy(s->variables, ss->variables,
                   cmcf->variables.nelts
                   * sizeof(ngx_stream_variable_value_t));
    }

    ngx_log_error(NGX_LOG_INFO, c->log, 0,
                  "session ended, status: %ui, messages: %ui, errors: %ui",
                  status, ss->messages, ss->errors);

    if (ss->wake.posted) {
        ngx_delete_posted_event(&ss->wake);
    }

    if (!c->error && !c->timedout) {
        ngx_smtp_relay_session_drain(c);
    }

#if (NGX_STREAM_SSL)

    if (c->ssl) {

        /*
         * The connection is closed in the flight of the last reply, with TLS
         * as without: nothing is waited for that the client may still send.
         */

        c->ssl->no_wait_shutdown = 1;
    }

#endif

    ngx_stream_finalize_session(s, status);
}


/* $status of a session that ended in due form */

static ngx_uint_t
ngx_smtp_relay_session_result(ngx_smtp_relay_session_t *ss)
{
    if (!ss->authenticated && ss->auth_failures) {
        return NGX_STREAM_FORBIDDEN;
    }

    return ss->no_node ? NGX_STREAM_BAD_GATEWAY : NGX_STREAM_OK;
}
