
/*
 * The keyed hashes under which the cache knows logins, and the sealing of
 * what nobody may read in its memory.
 *
 * The key is random, made when a configuration with a cache is read first,
 * and lives in the memory of the master process and its workers, through
 * reloads; it is never in shared memory.
 */


#ifndef _NGX_SMTP_RELAY_AUTH_CACHE_KEY_H_INCLUDED_
#define _NGX_SMTP_RELAY_AUTH_CACHE_KEY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* octets of a hash, and by how many a sealed text is longer */

#define NGX_SMTP_RELAY_CACHE_HASH_LEN  32
#define NGX_SMTP_RELAY_CACHE_SEAL_LEN  28


/* Makes the key if there is none yet.  NGX_OK, or NGX_ERROR, logged. */
ngx_int_t ngx_smtp_relay_cache_key_init(ngx_log_t *log);

/*
 * HMAC-SHA-256 (RFC 2104) over n parts, each with its length in front, so
 * that no two lists of parts are the same text.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_smtp_relay_cache_hash(ngx_str_t *parts, ngx_uint_t n,
    u_char *hash);

/*
 * Seals a text by AES-256-GCM under a key of HASH_LEN octets and a random
 * nonce: nonce, octets, tag, into sealed; and opens it again.  NGX_OK, or
 * NGX_ERROR: it is not what was sealed under this key.
 */
ngx_int_t ngx_smtp_relay_cache_seal(u_char *key, ngx_str_t *text,
    u_char *sealed);
ngx_int_t ngx_smtp_relay_cache_open(u_char *key, ngx_str_t *sealed,
    u_char *text);


#endif /* _NGX_SMTP_RELAY_AUTH_CACHE_KEY_H_INCLUDED_ */
