
/* A session is made, gets the configuration of its server, is cleaned up. */


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_session_create.h"
#include "ngx_smtp_relay_limit.h"


static ngx_int_t ngx_smtp_relay_session_set_hostname(
    ngx_smtp_relay_session_t *ss);
static void ngx_smtp_relay_session_cleanup(void *data);
static u_char *ngx_smtp_relay_session_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


ngx_smtp_relay_session_t *
ngx_smtp_relay_session_create(ngx_stream_session_t *s)
{
    u_char                     random[8];
    ngx_connection_t          *c;
    ngx_pool_cleanup_t        *cln;
    ngx_smtp_relay_session_t  *ss;

    c = s->connection;

    ss = ngx_pcalloc(c->pool, sizeof(ngx_smtp_relay_session_t));
    if (ss == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(c->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    if (RAND_bytes(random, 8) != 1) {
        ngx_ssl_error(NGX_LOG_ERR, c->log, 0, "RAND_bytes() failed");
        return NULL;
    }

    ngx_hex_dump(ngx_sprintf(ss->id, "%08xD", (uint32_t) s->start_sec),
                 random, 8);

    cln->handler = ngx_smtp_relay_session_cleanup;
    cln->data = ss;

    ss->stream = s;
    ss->connection = c;
    ss->status = NGX_STREAM_OK;

    ngx_stream_set_ctx(s, ss, ngx_smtp_relay_module);

    s->log_handler = ngx_smtp_relay_session_log_error;

    ngx_smtp_relay_stat_session(ss);

    return ss;
}


ngx_int_t
ngx_smtp_relay_session_init(ngx_smtp_relay_session_t *ss)
{
    size_t                        size;
    ngx_connection_t             *c;
    ngx_stream_session_t         *s;
    ngx_stream_core_srv_conf_t   *cscf;
    ngx_stream_core_main_conf_t  *cmcf;

    s = ss->stream;
    c = ss->connection;

    ss->conf = ngx_stream_get_module_srv_conf(s, ngx_smtp_relay_module);

    c->log->action = "reading client command";

#ifdef SSL_OP_CLEANSE_PLAINTEXT

    /* OpenSSL leaves what it has decrypted in memory that it frees */

    if (c->ssl) {
        SSL_set_options(c->ssl->connection, SSL_OP_CLEANSE_PLAINTEXT);
    }

#endif

    ngx_smtp_relay_session_maxima(ss);

    if (ngx_smtp_relay_session_set_hostname(ss) != NGX_OK) {
        return NGX_ERROR;
    }

    cscf = ngx_stream_get_module_srv_conf(s, ngx_stream_core_module);

    if (c->sockaddr->sa_family != AF_UNIX
        && cscf->tcp_nodelay && ngx_tcp_nodelay(c) != NGX_OK)
    {
        return NGX_ERROR;
    }

    cmcf = ngx_stream_get_module_main_conf(s, ngx_stream_core_module);

    size = cmcf->variables.nelts * sizeof(ngx_stream_variable_value_t);

    if (ss->variables == NULL) {
        ss->variables = ngx_palloc(c->pool, size);
        if (ss->variables == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_memcpy(ss->variables, s->variables, size);

    return NGX_OK;
}


void
ngx_smtp_relay_session_maxima(ngx_smtp_relay_session_t *ss)
{
    ngx_smtp_relay_plan_t  *plan;

    ss->max_message_size = ss->conf->max_message_size;
    ss->max_recipients = ss->conf->max_recipients;

    if (!ss->authenticated) {
        return;
    }

    plan = &ss->auth->plan;

    if (plan->max_size_set) {
        ss->max_message_size = plan->max_size;
    }

    if (plan->max_recipients_set) {
        ss->max_recipients = plan->max_recipients;
    }
}


static ngx_int_t
ngx_smtp_relay_session_set_hostname(ngx_smtp_relay_session_t *ss)
{
    ss->hostname = ngx_cycle->hostname;

    if (ss->conf->hostname == NULL) {
        return NGX_OK;
    }

    if (ngx_stream_complex_value(ss->stream, ss->conf->hostname, &ss->hostname)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_parse_helo(&ss->hostname) != NGX_OK) {
        ngx_smtp_relay_sanitize(&ss->hostname, NGX_SMTP_RELAY_MAX_DOMAIN);

        ngx_log_error(NGX_LOG_ERR, ss->connection->log, 0,
                      "invalid \"smtp_relay_hostname\" value \"%V\", "
                      "\"%V\" is used", &ss->hostname, &ngx_cycle->hostname);

        ss->hostname = ngx_cycle->hostname;
    }

    return NGX_OK;
}


/* frees what is not of the connection's pool, whoever closed it */

static void
ngx_smtp_relay_session_cleanup(void *data)
{
    ngx_smtp_relay_session_t *ss = data;

    ngx_connection_t  *c;

    c = ss->connection;

    if (ss->state == NGX_SMTP_RELAY_ST_STARTTLS) {

        /* nginx has ended it in its SSL phase */

        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "client TLS handshake after STARTTLS %s",
                      c->read->timedout ? "timed out" : "failed");
    }

    ngx_smtp_relay_session_reset(ss);
    ngx_smtp_relay_limit_release(ss);

    if (ss->wake.posted) {
        ngx_delete_posted_event(&ss->wake);
    }

    if (ss->auth) {
        ngx_smtp_relay_auth_destroy(ss->auth);
        ss->auth = NULL;
    }

    if (ss->in && !ss->authenticated) {

        /* a line of AUTH that was not to be completed */

        ngx_explicit_memzero(ss->in->start, ss->in->last - ss->in->start);
    }

    ngx_smtp_relay_buf_put(&ss->in);
    ngx_smtp_relay_buf_put(&ss->out);

    ngx_smtp_relay_stat_session_end(ss);
}


static u_char *
ngx_smtp_relay_session_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char                    *p;
    ngx_stream_session_t      *s;
    ngx_smtp_relay_session_t  *ss;

    s = log->data;
    ss = ngx_smtp_relay_get_session(s);

    if (ss == NULL) {
        return buf;
    }

    p = ngx_snprintf(buf, len, ", session: %*s",
                     (size_t) NGX_SMTP_RELAY_ID_LEN, ss->id);

    if (ss->authenticated && ss->auth) {
        len -= p - buf;
        p = ngx_snprintf(p, len, ", account: \"%V\"", &ss->auth->account);
    }

    return p;
}
