
/* Configuration of the client's side of a server. */


#ifndef _NGX_SMTP_RELAY_CONF_H_INCLUDED_
#define _NGX_SMTP_RELAY_CONF_H_INCLUDED_


#include "ngx_smtp_relay.h"


#define NGX_SMTP_RELAY_STARTTLS_OFF       0
#define NGX_SMTP_RELAY_STARTTLS_ON        1
#define NGX_SMTP_RELAY_STARTTLS_REQUIRED  2

#define NGX_SMTP_RELAY_NEWLINE_NORMALIZE  0
#define NGX_SMTP_RELAY_NEWLINE_REJECT     1

#define NGX_SMTP_RELAY_EARLY_OFF          0x0002
#define NGX_SMTP_RELAY_EARLY_MAIL         0x0004
#define NGX_SMTP_RELAY_EARLY_DATA         0x0008


typedef struct {
    ngx_stream_complex_value_t     *hostname;      /* NULL: the machine's */

    ngx_uint_t                      starttls;
    ngx_uint_t                      bare_newline;
    ngx_uint_t                      early_replies; /* …_EARLY_… */
    ngx_uint_t                      capabilities;  /* NGX_SMTP_RELAY_EXT_… */

    ngx_msec_t                      greeting_delay;
    ngx_msec_t                      login_timeout;
    ngx_msec_t                      timeout;
    ngx_msec_t                      data_timeout;

    ngx_uint_t                      max_errors;         /* 0: no limit */
    ngx_uint_t                      max_recipients;     /* 0: no limit */
    ngx_uint_t                      max_messages;       /* 0: no limit */
    off_t                           max_message_size;   /* 0: no limit */

    size_t                          buffer_size;

    ngx_smtp_relay_add_headers_t   *add_headers;   /* NULL: none */

    /* where it was set, for what can be checked only later */
    u_char                         *starttls_file;
    ngx_uint_t                      starttls_line;
} ngx_smtp_relay_srv_conf_t;


/* As ngx_conf_set_enum_slot() and _bitmask_slot(), naming the directive. */
char *ngx_smtp_relay_conf_enum(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_smtp_relay_conf_bitmask(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


extern ngx_module_t  ngx_smtp_relay_module;


#endif /* _NGX_SMTP_RELAY_CONF_H_INCLUDED_ */
