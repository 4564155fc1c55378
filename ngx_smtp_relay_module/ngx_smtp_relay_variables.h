
/* Variables $smtp_relay_…. */


#ifndef _NGX_SMTP_RELAY_VARIABLES_H_INCLUDED_
#define _NGX_SMTP_RELAY_VARIABLES_H_INCLUDED_


#include "ngx_smtp_relay.h"


/* preconfiguration: makes the variables known */
ngx_int_t ngx_smtp_relay_add_variables(ngx_conf_t *cf);


#endif /* _NGX_SMTP_RELAY_VARIABLES_H_INCLUDED_ */
