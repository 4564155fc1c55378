
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_command.h"
#include "ngx_smtp_relay_starttls.h"
#include "ngx_smtp_relay_limit.h"


static void ngx_smtp_relay_starttls_forget(ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_starttls_no_write(ngx_event_t *wev);


static ngx_str_t  ngx_smtp_relay_starttls_ready =
    ngx_string("220 2.0.0 Ready to start TLS" CRLF);
static ngx_str_t  ngx_smtp_relay_starttls_argument =
    ngx_string("501 5.5.4 STARTTLS takes no argument" CRLF);
static ngx_str_t  ngx_smtp_relay_starttls_active =
    ngx_string("503 5.5.1 TLS is active already" CRLF);
static ngx_str_t  ngx_smtp_relay_starttls_off =
    ngx_string("502 5.5.1 STARTTLS is not offered" CRLF);


ngx_int_t
ngx_smtp_relay_starttls_command(ngx_smtp_relay_session_t *ss, ngx_str_t *arg)
{
    if (ss->connection->ssl) {
        return ngx_smtp_relay_command_refuse(ss,
                                             &ngx_smtp_relay_starttls_active);
    }

    if (ss->conf->starttls == NGX_SMTP_RELAY_STARTTLS_OFF) {
        return ngx_smtp_relay_command_refuse(ss, &ngx_smtp_relay_starttls_off);
    }

    if (arg->len) {
        return ngx_smtp_relay_command_refuse(ss,
                                           &ngx_smtp_relay_starttls_argument);
    }

    /*
     * octets behind STARTTLS came in clear, from anybody on the way; to
     * take them for the client's under TLS is CVE-2011-0411
     */

    if (ss->in->pos != ss->in->last) {
        ngx_log_error(NGX_LOG_INFO, ss->connection->log, 0,
                      "client sent plaintext data after STARTTLS");

        ss->state = NGX_SMTP_RELAY_ST_CLOSE;
        ss->status = NGX_STREAM_BAD_REQUEST;

        return NGX_OK;
    }

    ss->state = NGX_SMTP_RELAY_ST_STARTTLS;

    return ngx_smtp_relay_session_reply(ss, &ngx_smtp_relay_starttls_ready);
}


void
ngx_smtp_relay_starttls_run(ngx_smtp_relay_session_t *ss)
{
    ngx_connection_t             *c;
    ngx_stream_phase_t           *phases;
    ngx_stream_session_t         *s;
    ngx_stream_core_main_conf_t  *cmcf;

    s = ss->stream;
    c = ss->connection;

    ngx_smtp_relay_starttls_forget(ss);

    c->idle = 0;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    c->read->handler = ngx_stream_session_handler;
    c->write->handler = ngx_smtp_relay_starttls_no_write;

    /*
     * nginx's phases go on from the SSL phase, as if the connection had just
     * come to it: handshake, its timeout, SNI, the client's certificate and
     * what is logged of them are those of "listen ... ssl"
     */

    cmcf = ngx_stream_get_module_main_conf(s, ngx_stream_core_module);
    phases = cmcf->phases;

    s->ssl = 1;
    s->phase_handler = phases[NGX_STREAM_POST_ACCEPT_PHASE].handlers.nelts
                       + phases[NGX_STREAM_PREACCESS_PHASE].handlers.nelts
                       + phases[NGX_STREAM_ACCESS_PHASE].handlers.nelts;

    ngx_stream_core_run_phases(s);
}


/* RFC 3207, 4.2.: all that was learned before TLS is discarded */

static void
ngx_smtp_relay_starttls_forget(ngx_smtp_relay_session_t *ss)
{
    ngx_uint_t                    i;
    ngx_stream_session_t         *s;
    ngx_stream_variable_value_t  *vv;
    ngx_stream_core_main_conf_t  *cmcf;

    s = ss->stream;

    ngx_smtp_relay_session_reset(ss);
    ngx_smtp_relay_limit_forget(ss);

    if (ss->auth) {
        ngx_smtp_relay_auth_destroy(ss->auth);
        ss->auth = NULL;
    }

    ngx_smtp_relay_buf_put(&ss->in);
    ngx_memzero(&ss->line, sizeof(ngx_smtp_relay_line_t));

    s->connection->buffer = NULL;

    ss->helo.len = 0;
    ss->esmtp = 0;
    ss->authenticated = 0;
    ss->auth_done = 0;
    ss->auth_delay = 0;
    ss->hold = 0;

    if (ss->wake.posted) {
        ngx_delete_posted_event(&ss->wake);
    }

    /* variables that had no value so far, $ssl_…, have one soon */

    cmcf = ngx_stream_get_module_main_conf(s, ngx_stream_core_module);

    vv = s->variables;

    for (i = 0; i < cmcf->variables.nelts; i++) {
        if (vv[i].not_found) {
            vv[i].not_found = 0;
            vv[i].valid = 0;
        }
    }
}


static void
ngx_smtp_relay_starttls_no_write(ngx_event_t *wev)
{
    ngx_log_debug0(NGX_LOG_DEBUG_STREAM, wev->log, 0,
                   "smtp relay write event before TLS");
}
