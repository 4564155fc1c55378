
/*
 * A file of API keys, "id:secret-hash[:account]" a line: the service that is
 * built in.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_FILE_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_FILE_H_INCLUDED_


#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth.h"


/* longest line of a file, octets */

#define NGX_SMTP_RELAY_AUTH_FILE_LINE  4096


/*
 * Loads a file at configuration time; servers that name the same file share
 * it.  NULL: it cannot be read, which is logged with directive and line.
 */
ngx_smtp_relay_auth_file_t *ngx_smtp_relay_auth_file_add(ngx_conf_t *cf,
    ngx_array_t *files, ngx_str_t *name);

/*
 * Checks credentials.  The file is read again if it has changed, which is
 * looked at once a second at most.
 *
 *     NGX_OK        right; *account is set, in memory of pool
 *     NGX_DECLINED  the user is known, the secret is wrong
 *     NGX_DONE      the user is not known
 *     NGX_ERROR     no memory, or a hash that crypt(3) refuses
 */
ngx_int_t ngx_smtp_relay_auth_file_check(ngx_smtp_relay_auth_file_t *file,
    ngx_pool_t *pool, ngx_log_t *log, ngx_smtp_relay_credentials_t *cr,
    ngx_str_t *account);


#endif /* _NGX_SMTP_RELAY_AUTH_FILE_H_INCLUDED_ */
