
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_conf.h"
#include "ngx_smtp_relay_auth.h"
#include "ngx_smtp_relay_auth_methods.h"


/*
 * What ngx_stream_access_module, which may not be there, keeps for a server:
 * arrays of rules, NULL if there are none
 */

typedef struct {
    ngx_array_t  *rules;
#if (NGX_HAVE_INET6)
    ngx_array_t  *rules6;
#endif
#if (NGX_HAVE_UNIX_DOMAIN)
    ngx_array_t  *rules_un;
#endif
} ngx_smtp_relay_access_conf_t;


static ngx_uint_t ngx_smtp_relay_auth_bounded(ngx_conf_t *cf,
    ngx_stream_core_srv_conf_t *cscf);
static ngx_uint_t ngx_smtp_relay_auth_has_access(ngx_conf_t *cf,
    ngx_stream_core_srv_conf_t *cscf);
static ngx_uint_t ngx_smtp_relay_auth_is_local(struct sockaddr *sockaddr);


static ngx_conf_bitmask_t  ngx_smtp_relay_auth_method_names[] = {
    { ngx_string("plain"), NGX_SMTP_RELAY_AUTH_PLAIN },
    { ngx_string("login"), NGX_SMTP_RELAY_AUTH_LOGIN },
    { ngx_string("cram-md5"), NGX_SMTP_RELAY_AUTH_CRAM_MD5 },
    { ngx_string("xoauth2"), NGX_SMTP_RELAY_AUTH_XOAUTH2 },
    { ngx_string("oauthbearer"), NGX_SMTP_RELAY_AUTH_OAUTHBEARER },
    { ngx_string("external"), NGX_SMTP_RELAY_AUTH_EXTERNAL },
    { ngx_string("none"), NGX_SMTP_RELAY_AUTH_NONE },
    { ngx_null_string, 0 }
};


char *
ngx_smtp_relay_auth_methods(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_smtp_relay_auth_srv_conf_t *ascf = conf;

    ngx_command_t  names;

    ascf->methods_file = cf->conf_file->file.name.data;
    ascf->methods_line = cf->conf_file->line;

    names = *cmd;
    names.post = &ngx_smtp_relay_auth_method_names;

    return ngx_smtp_relay_conf_bitmask(cf, &names, conf);
}


ngx_int_t
ngx_smtp_relay_auth_methods_check(ngx_conf_t *cf,
    ngx_stream_core_srv_conf_t *cscf)
{
    ngx_conf_bitmask_t              *m;
    ngx_stream_ssl_srv_conf_t       *sscf;
    ngx_smtp_relay_auth_srv_conf_t  *ascf;

    ascf = cscf->ctx->srv_conf[ngx_smtp_relay_auth_module.ctx_index];
    sscf = cscf->ctx->srv_conf[ngx_stream_ssl_module.ctx_index];

    for (m = ngx_smtp_relay_auth_method_names; m->name.len; m++) {

        if ((ascf->methods & m->mask)
            && !(m->mask & NGX_SMTP_RELAY_AUTH_SECRETS)
            && ascf->service == NULL)
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"%V\" in \"smtp_relay_auth_methods\" needs "
                          "\"smtp_relay_auth\" in %s:%ui",
                          &m->name, ascf->methods_file, ascf->methods_line);
            return NGX_ERROR;
        }
    }

    if ((ascf->methods & NGX_SMTP_RELAY_AUTH_EXTERNAL) && !sscf->verify) {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "\"external\" in \"smtp_relay_auth_methods\" is never "
                      "offered without \"ssl_verify_client\" in %s:%ui",
                      ascf->methods_file, ascf->methods_line);
    }

    if ((ascf->methods & NGX_SMTP_RELAY_AUTH_NONE)
        && !ngx_smtp_relay_auth_bounded(cf, cscf))
    {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "\"none\" in \"smtp_relay_auth_methods\" without "
                      "\"allow\" and \"deny\" asks nobody for a login in "
                      "%s:%ui",
                      ascf->methods_file, ascf->methods_line);
    }

    return NGX_OK;
}


/* rules of access, or addresses that nobody else can reach */

static ngx_uint_t
ngx_smtp_relay_auth_bounded(ngx_conf_t *cf, ngx_stream_core_srv_conf_t *cscf)
{
    ngx_uint_t                     i, n;
    ngx_stream_core_main_conf_t   *cmcf;

#if (NGX_SMTP_RELAY_STREAM_PORTS)
    ngx_uint_t                     k;
    ngx_stream_conf_port_t        *port;
    ngx_stream_conf_addr_t        *addr;
    ngx_stream_core_srv_conf_t   **server;
#else
    ngx_stream_listen_t           *ls;
#endif

    if (ngx_smtp_relay_auth_has_access(cf, cscf)) {
        return 1;
    }

    cmcf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_core_module);

#if (NGX_SMTP_RELAY_STREAM_PORTS)

    if (cmcf->ports == NULL) {
        return 1;
    }

    port = cmcf->ports->elts;

    for (i = 0; i < cmcf->ports->nelts; i++) {
        addr = port[i].addrs.elts;

        for (n = 0; n < port[i].addrs.nelts; n++) {
            server = addr[n].servers.elts;

            for (k = 0; k < addr[n].servers.nelts; k++) {

                if (server[k] == cscf
                    && !ngx_smtp_relay_auth_is_local(addr[n].opt.sockaddr))
                {
                    return 0;
                }
            }
        }
    }

#else

    ls = cmcf->listen.elts;
    n = cmcf->listen.nelts;

    for (i = 0; i < n; i++) {
        if (ls[i].ctx == cscf->ctx
            && !ngx_smtp_relay_auth_is_local(ls[i].sockaddr))
        {
            return 0;
        }
    }

#endif

    return 1;
}


static ngx_uint_t
ngx_smtp_relay_auth_has_access(ngx_conf_t *cf,
    ngx_stream_core_srv_conf_t *cscf)
{
    ngx_uint_t                     i;
    ngx_module_t                  *module;
    ngx_smtp_relay_access_conf_t  *acf;

    for (i = 0; cf->cycle->modules[i]; i++) {
        module = cf->cycle->modules[i];

        if (ngx_strcmp(module->name, "ngx_stream_access_module") != 0) {
            continue;
        }

        acf = cscf->ctx->srv_conf[module->ctx_index];

#if (NGX_HAVE_INET6)
        if (acf->rules6) {
            return 1;
        }
#endif

        return (acf->rules != NULL);
    }

    return 0;
}


static ngx_uint_t
ngx_smtp_relay_auth_is_local(struct sockaddr *sockaddr)
{
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    switch (sockaddr->sa_family) {

#if (NGX_HAVE_INET6)
    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) sockaddr;
        return IN6_IS_ADDR_LOOPBACK(&sin6->sin6_addr);
#endif

#if (NGX_HAVE_UNIX_DOMAIN)
    case AF_UNIX:
        return 1;
#endif

    default: /* AF_INET */
        sin = (struct sockaddr_in *) sockaddr;
        return (ntohl(sin->sin_addr.s_addr) >> 24 == 127);
    }
}
