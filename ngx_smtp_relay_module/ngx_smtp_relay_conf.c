
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_conf.h"


static char *ngx_smtp_relay_conf_invalid(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *value);


/* nginx's own slots for these two do not name the directive at fault */

char *
ngx_smtp_relay_conf_enum(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t        *value;
    ngx_uint_t       *np;
    ngx_conf_enum_t  *e;

    np = (ngx_uint_t *) (p + cmd->offset);

    if (*np != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (e = cmd->post; e->name.len; e++) {
        if (e->name.len == value[1].len
            && ngx_strcasecmp(e->name.data, value[1].data) == 0)
        {
            *np = e->value;
            return NGX_CONF_OK;
        }
    }

    return ngx_smtp_relay_conf_invalid(cf, cmd, &value[1]);
}


char *
ngx_smtp_relay_conf_bitmask(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t           *value;
    ngx_uint_t          *np, i;
    ngx_conf_bitmask_t  *mask;

    np = (ngx_uint_t *) (p + cmd->offset);

    if (*np) {
        return "is duplicate";
    }

    *np = NGX_CONF_BITMASK_SET;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        for (mask = cmd->post; mask->name.len; mask++) {
            if (mask->name.len == value[i].len
                && ngx_strcasecmp(mask->name.data, value[i].data) == 0)
            {
                break;
            }
        }

        if (mask->name.len == 0) {
            return ngx_smtp_relay_conf_invalid(cf, cmd, &value[i]);
        }

        if (*np & mask->mask) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" has a duplicate value \"%V\"",
                               &cmd->name, &value[i]);
            return NGX_CONF_ERROR;
        }

        *np |= mask->mask;
    }

    return NGX_CONF_OK;
}


static char *
ngx_smtp_relay_conf_invalid(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *value)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"%V\" has an invalid value \"%V\"",
                       &cmd->name, value);

    return NGX_CONF_ERROR;
}
