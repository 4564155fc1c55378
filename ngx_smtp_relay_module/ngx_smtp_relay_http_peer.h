
/*
 * An HTTP service as a URL names it: where its servers are, known from the
 * configuration or found out for each request, and what a worker keeps of
 * it, idle connections and TLS sessions.
 */


#ifndef _NGX_SMTP_RELAY_HTTP_PEER_H_INCLUDED_
#define _NGX_SMTP_RELAY_HTTP_PEER_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_http.h"


#if (NGX_SMTP_RELAY_HTTP)


struct ngx_smtp_relay_http_peer_s {
    ngx_uint_t                      ssl;        /* https */

    /* one of the two: what follows the scheme, if its host has variables */
    ngx_stream_complex_value_t     *url;
    ngx_str_t                       authority;  /* as written */

    ngx_stream_complex_value_t     *uri_value;  /* with variables */
    ngx_str_t                       uri;

    /* of the authority */
    ngx_str_t                       host;
    in_port_t                       port;
    unsigned                        no_port:1;
    unsigned                        local:1;    /* a unix: path */
    unsigned                        name:1;     /* neither address nor group */

    ngx_stream_upstream_srv_conf_t *upstream;   /* NULL: no server needs it */

    u_char                         *file_name;  /* where it stands */
    ngx_uint_t                      line;

    ngx_queue_t                     idle;       /* the latest first */
    ngx_uint_t                      nidle;
    ngx_queue_t                     surplus;    /* idle, but too many */

    ngx_queue_t                     sessions;   /* of TLS, the latest first */
    ngx_uint_t                      nsessions;
};


/* Parses a URL.  NULL: it is invalid, which is logged with cmd's name. */
ngx_smtp_relay_http_peer_t *ngx_smtp_relay_http_peer_add(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_str_t *url);

/*
 * Finds the servers as far as they are to be known at start, for the server
 * that is being merged.  NGX_OK or NGX_ERROR, which is logged.
 */
ngx_int_t ngx_smtp_relay_http_peer_init(ngx_conf_t *cf,
    ngx_smtp_relay_http_peer_t *peer);

/*
 * Evaluates the URL for a request, within its scope: http->host, http->uri
 * and, in http->scope, what is needed to choose a server.  NGX_OK or
 * NGX_ERROR, which is logged.
 */
ngx_int_t ngx_smtp_relay_http_peer_eval(ngx_smtp_relay_http_t *http);

/*
 * Readies the balancer of a request, within its scope.
 *
 *     NGX_OK     a server can be asked for
 *     NGX_AGAIN  a name is being resolved; ngx_smtp_relay_http_resolved()
 *                will be called
 *     NGX_ERROR  there is no server; the reason is logged
 */
ngx_int_t ngx_smtp_relay_http_peer_choose(ngx_smtp_relay_http_t *http);

/* Ends what ngx_smtp_relay_http_peer_choose() started, at any time. */
void ngx_smtp_relay_http_peer_cancel(ngx_smtp_relay_http_t *http);


#endif


#endif /* _NGX_SMTP_RELAY_HTTP_PEER_H_INCLUDED_ */
