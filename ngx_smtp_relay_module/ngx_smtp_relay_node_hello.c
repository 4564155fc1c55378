
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_session.h"
#include "ngx_smtp_relay_transaction.h"
#include "ngx_smtp_relay_node.h"
#include "ngx_smtp_relay_node_hello.h"


/* RFC 5321, 4.5.3.1.4.: with its CRLF */

#define NGX_SMTP_RELAY_NODE_COMMAND  512


static ngx_int_t ngx_smtp_relay_node_hello_refused(ngx_smtp_relay_node_t *node,
    char *what);
static ngx_int_t ngx_smtp_relay_node_hello_send(ngx_smtp_relay_node_t *node,
    ngx_smtp_relay_node_state_e state, ngx_str_t *command);
static ngx_int_t ngx_smtp_relay_node_hello_ehlo(ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_hello_next(ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_hello_starttls(
    ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_hello_client(ngx_smtp_relay_node_t *node,
    ngx_str_t *lines, u_char *client);
static ngx_int_t ngx_smtp_relay_node_hello_xclient(
    ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_hello_xclient_line(
    ngx_smtp_relay_node_t *node);
static ngx_uint_t ngx_smtp_relay_node_hello_client_helo(
    ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_hello_auth(ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_hello_auth_plain(
    ngx_smtp_relay_node_t *node, ngx_uint_t command);
static ngx_int_t ngx_smtp_relay_node_hello_auth_send(
    ngx_smtp_relay_node_t *node, ngx_str_t *prefix, ngx_str_t *text);
static ngx_int_t ngx_smtp_relay_node_hello_auth_reply(
    ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_hello_auth_refused(
    ngx_smtp_relay_node_t *node);
static ngx_int_t ngx_smtp_relay_node_hello_ready(ngx_smtp_relay_node_t *node);


void
ngx_smtp_relay_node_hello_start(ngx_smtp_relay_node_t *node)
{
    ngx_connection_t  *c;

    c = node->connection;

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    if (node->greeted) {

        /* RFC 3207, 4.2.: what the node said before TLS is forgotten */

        ngx_memzero(&node->features, sizeof(ngx_smtp_relay_features_t));
        ngx_memzero(&node->reply, sizeof(ngx_smtp_relay_reply_t));

        if (ngx_smtp_relay_node_hello_ehlo(node) != NGX_OK) {
            ngx_smtp_relay_node_lost(node);
            return;
        }

    } else {
        ngx_smtp_relay_node_set_state(node, NGX_SMTP_RELAY_NODE_GREETING);

        node->expected = 1;
        ngx_add_timer(c->read, node->conf->reply_timeout);
    }

    ngx_smtp_relay_node_talk(node);
}


ngx_int_t
ngx_smtp_relay_node_hello_reply(ngx_smtp_relay_node_t *node)
{
    ngx_uint_t  code;

    code = node->reply.code;

    /*
     * commands go one by one here: octets behind a reply were sent before
     * they could answer anything, and behind that to STARTTLS they may be
     * anybody's
     */

    if (node->in->pos != node->in->last) {
        ngx_smtp_relay_node_invalid(node, "data before a command",
                                    node->in->pos,
                                    node->in->last - node->in->pos);
        return NGX_ERROR;
    }

    switch (node->state) {

    case NGX_SMTP_RELAY_NODE_GREETING:

        if (code != 220) {
            return ngx_smtp_relay_node_hello_refused(node, "invalid greeting");
        }

        node->greeted = 1;

        return ngx_smtp_relay_node_hello_ehlo(node);

    case NGX_SMTP_RELAY_NODE_EHLO:

        if (code >= 500 && node->client_helo) {

            /* one client's bad name is no fault of the node */

            node->client_helo = 0;

            return ngx_smtp_relay_node_hello_ehlo(node);
        }

        if (code != 250) {
            return ngx_smtp_relay_node_hello_refused(node,
                                                     "invalid reply to EHLO");
        }

        ngx_smtp_relay_parse_features(&node->reply, &node->features);

        ngx_log_debug1(NGX_LOG_DEBUG_STREAM, node->connection->log, 0,
                       "smtp relay node features: %xi", node->features.ext);

        return ngx_smtp_relay_node_hello_next(node);

    case NGX_SMTP_RELAY_NODE_STARTTLS:

        if (code != 220) {
            return ngx_smtp_relay_node_hello_refused(node,
                                                 "invalid reply to STARTTLS");
        }

        ngx_smtp_relay_node_set_state(node, NGX_SMTP_RELAY_NODE_TLS);

        return NGX_OK;

    case NGX_SMTP_RELAY_NODE_XCLIENT:

        if (code != 220) {
            return ngx_smtp_relay_node_hello_refused(node,
                                                  "invalid reply to XCLIENT");
        }

        return ngx_smtp_relay_node_hello_xclient_line(node);

    case NGX_SMTP_RELAY_NODE_AUTH:
        return ngx_smtp_relay_node_hello_auth_reply(node);

    default:
        return NGX_ERROR;
    }
}


static ngx_int_t
ngx_smtp_relay_node_hello_refused(ngx_smtp_relay_node_t *node, char *what)
{
    ngx_smtp_relay_node_invalid(node, what, node->reply.text.data,
                                node->reply.text.len);

    return NGX_ERROR;
}


static ngx_int_t
ngx_smtp_relay_node_hello_send(ngx_smtp_relay_node_t *node,
    ngx_smtp_relay_node_state_e state, ngx_str_t *command)
{
    ngx_smtp_relay_node_set_state(node, state);

    if (ngx_smtp_relay_node_command(node, command) != NGX_OK) {
        return NGX_ERROR;
    }

    return (ngx_smtp_relay_node_flush(node) == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_hello_ehlo(ngx_smtp_relay_node_t *node)
{
    u_char     *p;
    ngx_str_t   command, *helo;
    u_char      buf[sizeof("EHLO ") - 1 + NGX_SMTP_RELAY_MAX_DOMAIN];

    helo = node->client_helo ? &node->transaction->session->helo
                             : &node->transaction->profile.helo;

    p = ngx_cpymem(buf, "EHLO ", sizeof("EHLO ") - 1);
    p = ngx_cpymem(p, helo->data,
                   ngx_min(helo->len, NGX_SMTP_RELAY_MAX_DOMAIN));

    command.len = p - buf;
    command.data = buf;

    return ngx_smtp_relay_node_hello_send(node, NGX_SMTP_RELAY_NODE_EHLO,
                                          &command);
}


/*
 * What comes after EHLO.  XCLIENT takes a node back to its greeting: hence
 * it is behind TLS, which stays, and in front of AUTH, which does not.
 */

static ngx_int_t
ngx_smtp_relay_node_hello_next(ngx_smtp_relay_node_t *node)
{
    if (node->conf->ssl_mode == NGX_SMTP_RELAY_NODE_SSL_STARTTLS
        && node->connection->ssl == NULL)
    {
        return ngx_smtp_relay_node_hello_starttls(node);
    }

    if (node->conf->xclient && !node->xclient_done) {
        return ngx_smtp_relay_node_hello_xclient(node);
    }

    if (node->conf->auth != NGX_SMTP_RELAY_NODE_AUTH_OFF && !node->auth_done) {
        return ngx_smtp_relay_node_hello_auth(node);
    }

    return ngx_smtp_relay_node_hello_ready(node);
}


static ngx_int_t
ngx_smtp_relay_node_hello_starttls(ngx_smtp_relay_node_t *node)
{
    static ngx_str_t  command = ngx_string("STARTTLS");

    if (!(node->features.ext & NGX_SMTP_RELAY_EXT_STARTTLS)) {
        ngx_log_error(NGX_LOG_ERR, node->connection->log, 0,
                      "upstream does not offer STARTTLS");
        return NGX_ERROR;
    }

    return ngx_smtp_relay_node_hello_send(node, NGX_SMTP_RELAY_NODE_STARTTLS,
                                          &command);
}


ngx_int_t
ngx_smtp_relay_node_hello_again(ngx_smtp_relay_node_t *node)
{
    ngx_str_t  lines;
    u_char     client[NGX_SMTP_RELAY_NODE_CLIENT_LEN];

    if (!node->conf->xclient) {
        return NGX_OK;
    }

    if (ngx_smtp_relay_node_hello_client(node, &lines, client) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_memcmp(client, node->client, NGX_SMTP_RELAY_NODE_CLIENT_LEN) == 0)
    {
        return NGX_OK;
    }

    /* what was told of the last client has to be told of this one, too */

    if (!(node->features.ext & NGX_SMTP_RELAY_EXT_XCLIENT)
        || (node->attributes & ~node->features.xclient))
    {
        return NGX_DECLINED;
    }

    ngx_memcpy(node->client, client, NGX_SMTP_RELAY_NODE_CLIENT_LEN);

    node->xclient = lines;
    node->xclient_done = 1;

    if (ngx_smtp_relay_node_hello_xclient_line(node) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


/* the commands, and a hash of them, by which the client is known again */

static ngx_int_t
ngx_smtp_relay_node_hello_client(ngx_smtp_relay_node_t *node,
    ngx_str_t *lines, u_char *client)
{
    if (ngx_smtp_relay_node_xclient(node, lines) != NGX_OK) {
        return NGX_ERROR;
    }

    if (EVP_Digest(lines->data, lines->len, client, NULL, EVP_sha256(), NULL)
        == 0)
    {
        ngx_ssl_error(NGX_LOG_CRIT, node->connection->log, 0,
                      "EVP_Digest() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_node_hello_xclient(ngx_smtp_relay_node_t *node)
{
    if (!(node->features.ext & NGX_SMTP_RELAY_EXT_XCLIENT)) {
        ngx_log_error(NGX_LOG_ERR, node->connection->log, 0,
                      "upstream does not offer XCLIENT");
        return NGX_ERROR;
    }

    node->attributes = node->features.xclient;

    if (ngx_smtp_relay_node_hello_client(node, &node->xclient, node->client)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    node->xclient_done = 1;

    if (node->xclient.len == 0) {
        return ngx_smtp_relay_node_hello_next(node);
    }

    return ngx_smtp_relay_node_hello_xclient_line(node);
}


/* the next of the commands; EHLO behind the last */

static ngx_int_t
ngx_smtp_relay_node_hello_xclient_line(ngx_smtp_relay_node_t *node)
{
    u_char     *p;
    ngx_str_t   command, *lines;

    lines = &node->xclient;

    if (lines->len == 0) {

        /* EHLO replaces what XCLIENT said: it has to say the same */

        node->client_helo = ngx_smtp_relay_node_hello_client_helo(node);

        return ngx_smtp_relay_node_hello_ehlo(node);
    }

    node->auth_done = 0;

    p = ngx_strlchr(lines->data, lines->data + lines->len, CR);

    command.data = lines->data;
    command.len = p - lines->data;

    lines->data += command.len + 2;
    lines->len -= command.len + 2;

    return ngx_smtp_relay_node_hello_send(node, NGX_SMTP_RELAY_NODE_XCLIENT,
                                          &command);
}


/* the node wants to know the client's name, and can be told it by EHLO */

static ngx_uint_t
ngx_smtp_relay_node_hello_client_helo(ngx_smtp_relay_node_t *node)
{
    size_t      i;
    ngx_str_t  *helo;

    helo = &node->transaction->session->helo;

    if (!(node->attributes & NGX_SMTP_RELAY_XCLIENT_HELO)) {
        return 0;
    }

    for (i = 0; i < helo->len; i++) {
        if (helo->data[i] & 0x80) {
            return 0;
        }
    }

    return (helo->len != 0);
}


static ngx_int_t
ngx_smtp_relay_node_hello_auth(ngx_smtp_relay_node_t *node)
{
    static ngx_str_t  login = ngx_string("AUTH LOGIN");

    if (node->features.auth & NGX_SMTP_RELAY_AUTH_PLAIN) {
        return ngx_smtp_relay_node_hello_auth_plain(node, 1);
    }

    if (node->features.auth & NGX_SMTP_RELAY_AUTH_LOGIN) {
        node->auth_step = NGX_SMTP_RELAY_NODE_AUTH_USER;

        return ngx_smtp_relay_node_hello_send(node, NGX_SMTP_RELAY_NODE_AUTH,
                                              &login);
    }

    ngx_log_error(NGX_LOG_ERR, node->connection->log, 0,
                  "upstream offers neither AUTH PLAIN nor AUTH LOGIN");

    return NGX_ERROR;
}


/* with the command, or alone: the answer to a challenge */

static ngx_int_t
ngx_smtp_relay_node_hello_auth_plain(ngx_smtp_relay_node_t *node,
    ngx_uint_t command)
{
    u_char                         *p;
    ngx_int_t                       rc;
    ngx_str_t                       text, prefix;
    ngx_smtp_relay_node_profile_t  *profile;
    static ngx_str_t                plain = ngx_string("AUTH PLAIN");

    profile = &node->transaction->profile;

    ngx_str_set(&prefix, "AUTH PLAIN ");

    text.len = profile->user.len + profile->secret.len + 2;

    if (!command) {
        prefix.len = 0;

    } else if (prefix.len + ngx_base64_encoded_length(text.len) + 2
               > NGX_SMTP_RELAY_NODE_COMMAND)
    {
        /* RFC 4954, 4.: too long for an initial response */

        node->auth_step = NGX_SMTP_RELAY_NODE_AUTH_MESSAGE;

        return ngx_smtp_relay_node_hello_send(node, NGX_SMTP_RELAY_NODE_AUTH,
                                              &plain);
    }

    node->auth_step = NGX_SMTP_RELAY_NODE_AUTH_PLAIN;

    text.data = ngx_pnalloc(node->transaction->pool, text.len);
    if (text.data == NULL) {
        return NGX_ERROR;
    }

    p = text.data;
    *p++ = '\0';
    p = ngx_cpymem(p, profile->user.data, profile->user.len);
    *p++ = '\0';
    ngx_memcpy(p, profile->secret.data, profile->secret.len);

    rc = ngx_smtp_relay_node_hello_auth_send(node, &prefix, &text);

    ngx_explicit_memzero(text.data, text.len);

    return rc;
}


static ngx_int_t
ngx_smtp_relay_node_hello_auth_send(ngx_smtp_relay_node_t *node,
    ngx_str_t *prefix, ngx_str_t *text)
{
    size_t      size;
    ngx_int_t   rc;
    ngx_str_t   b64, command;

    size = prefix->len + ngx_base64_encoded_length(text->len);

    command.data = ngx_pnalloc(node->transaction->pool, size);
    if (command.data == NULL) {
        return NGX_ERROR;
    }

    b64.data = ngx_cpymem(command.data, prefix->data, prefix->len);

    ngx_encode_base64(&b64, text);

    command.len = prefix->len + b64.len;

    node->secret = 1;

    rc = ngx_smtp_relay_node_hello_send(node, NGX_SMTP_RELAY_NODE_AUTH,
                                        &command);

    ngx_explicit_memzero(command.data, size);

    return rc;
}


static ngx_int_t
ngx_smtp_relay_node_hello_auth_reply(ngx_smtp_relay_node_t *node)
{
    ngx_smtp_relay_node_profile_t  *profile;
    static ngx_str_t                none = ngx_string("");

    profile = &node->transaction->profile;

    if (node->reply.code == 235) {

        if (node->auth_step == NGX_SMTP_RELAY_NODE_AUTH_PLAIN) {
            node->auth_done = 1;
            return ngx_smtp_relay_node_hello_next(node);
        }

        return ngx_smtp_relay_node_hello_refused(node, "AUTH reply too early");
    }

    if (node->reply.code != 334) {
        return ngx_smtp_relay_node_hello_auth_refused(node);
    }

    switch (node->auth_step) {

    case NGX_SMTP_RELAY_NODE_AUTH_MESSAGE:
        return ngx_smtp_relay_node_hello_auth_plain(node, 0);

    case NGX_SMTP_RELAY_NODE_AUTH_USER:
        node->auth_step = NGX_SMTP_RELAY_NODE_AUTH_SECRET;

        return ngx_smtp_relay_node_hello_auth_send(node, &none,
                                                   &profile->user);

    case NGX_SMTP_RELAY_NODE_AUTH_SECRET:

        /* what follows is the verdict, as it is with PLAIN */

        node->auth_step = NGX_SMTP_RELAY_NODE_AUTH_PLAIN;

        return ngx_smtp_relay_node_hello_auth_send(node, &none,
                                                   &profile->secret);

    default: /* NGX_SMTP_RELAY_NODE_AUTH_PLAIN */
        return ngx_smtp_relay_node_hello_refused(node, "AUTH challenge");
    }
}


static ngx_int_t
ngx_smtp_relay_node_hello_auth_refused(ngx_smtp_relay_node_t *node)
{
    ngx_smtp_relay_node_srv_conf_t  *nscf;

    nscf = node->conf;

    /*
     * one user with a wrong secret must not take nodes away from others: it
     * is a fault of the node only if all users share the secret
     */

    if (node->reply.code >= 500
        && (nscf->auth == NGX_SMTP_RELAY_NODE_AUTH_PASS
            || nscf->auth_user->lengths || nscf->auth_secret->lengths))
    {
        node->transaction->profile.denied = 1;
    }

    return ngx_smtp_relay_node_hello_refused(node, "invalid reply to AUTH");
}


static ngx_int_t
ngx_smtp_relay_node_hello_ready(ngx_smtp_relay_node_t *node)
{
    ngx_smtp_relay_transaction_t  *t;

    t = node->transaction;

    ngx_smtp_relay_node_set_state(node, NGX_SMTP_RELAY_NODE_READY);

    ngx_smtp_relay_stat_conn(node, NGX_SMTP_RELAY_CONN_BUSY);

    if (t->upstream_state->connect_time == (ngx_msec_t) -1) {
        t->upstream_state->connect_time = ngx_current_msec - t->node_start;

        ngx_smtp_relay_stat_add(&node->stat->connect_time,
                                t->upstream_state->connect_time);
    }

    ngx_smtp_relay_transaction_node_ready(t);

    return NGX_OK;
}
