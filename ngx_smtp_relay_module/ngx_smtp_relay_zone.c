
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_zone.h"


ngx_shm_zone_t *
ngx_smtp_relay_zone_add(ngx_conf_t *cf, ngx_command_t *cmd, ngx_str_t *arg,
    char *prefix, void *tag)
{
    u_char          *p;
    size_t           len;
    ssize_t          size;
    ngx_str_t        name, text;
    ngx_shm_zone_t  *zone;

    len = ngx_strlen(prefix);

    if (arg->len < len
        || ngx_strncmp(arg->data, (u_char *) prefix, len) != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid parameter \"%V\"",
                           &cmd->name, arg);
        return NULL;
    }

    name.data = arg->data + len;
    name.len = arg->len - len;

    p = ngx_strlchr(name.data, name.data + name.len, ':');

    if (p == NULL || p == name.data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid zone \"%V\"",
                           &cmd->name, arg);
        return NULL;
    }

    text.data = p + 1;
    text.len = name.data + name.len - text.data;

    name.len = p - name.data;

    size = ngx_parse_size(&text);

    if (size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid zone size \"%V\"",
                           &cmd->name, arg);
        return NULL;
    }

    if (size < (ssize_t) (8 * ngx_pagesize)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": zone \"%V\" is too small",
                           &cmd->name, arg);
        return NULL;
    }

    zone = ngx_shared_memory_add(cf, &name, size, tag);

    if (zone && zone->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": zone \"%V\" is already defined",
                           &cmd->name, &name);
        return NULL;
    }

    return zone;
}


ngx_shm_zone_t *
ngx_smtp_relay_zone_get(ngx_conf_t *cf, ngx_command_t *cmd, ngx_str_t *arg,
    void *tag)
{
    ngx_str_t  name;

    name = *arg;

    if (name.len >= 5 && ngx_strncmp(name.data, "zone=", 5) == 0) {
        name.data += 5;
        name.len -= 5;
    }

    if (name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has an invalid zone \"%V\"",
                           &cmd->name, arg);
        return NULL;
    }

    return ngx_shared_memory_add(cf, &name, 0, tag);
}
