
#include "ngx_smtp_relay.h"
#include "ngx_smtp_relay_auth_file.h"
#include <ngx_crypt.h>
#include <openssl/evp.h>
#include <openssl/crypto.h>


#define NGX_SMTP_RELAY_SHA256_LEN  32


/* two changes within a second are two changes, where that can be told */

#if (NGX_LINUX)
#define ngx_smtp_relay_mtime_nsec(fi)  ((fi)->st_mtim.tv_nsec)
#else
#define ngx_smtp_relay_mtime_nsec(fi)  0
#endif


typedef enum {
    NGX_SMTP_RELAY_HASH_SHA256 = 0,
    NGX_SMTP_RELAY_HASH_SSHA256,
    NGX_SMTP_RELAY_HASH_CRYPT
} ngx_smtp_relay_hash_e;


typedef struct {
    ngx_str_node_t                sn;         /* the user */
    ngx_smtp_relay_hash_e         type;
    ngx_str_t                     hash;       /* decoded, or of crypt(3) */
    ngx_str_t                     account;
} ngx_smtp_relay_key_t;


struct ngx_smtp_relay_auth_file_s {
    ngx_str_t                     name;
    ngx_log_t                    *log;        /* of the cycle */
    ngx_pool_t                   *pool;       /* of the keys below */
    ngx_rbtree_t                  tree;
    ngx_rbtree_node_t             sentinel;

    time_t                        checked;
    time_t                        mtime;
    long                          mtime_nsec;
    off_t                         size;
    ngx_file_uniq_t               uniq;

    unsigned                      failed:1;   /* the last re-reading did */
};


static ngx_int_t ngx_smtp_relay_auth_file_load(
    ngx_smtp_relay_auth_file_t *file, ngx_log_t *log);
static ngx_int_t ngx_smtp_relay_auth_file_read(
    ngx_smtp_relay_auth_file_t *file, ngx_log_t *log, ngx_pool_t *pool,
    ngx_str_t *text);
static ngx_int_t ngx_smtp_relay_auth_file_parse(
    ngx_smtp_relay_auth_file_t *file, ngx_log_t *log, ngx_str_t *text);
static char *ngx_smtp_relay_auth_file_line(ngx_smtp_relay_auth_file_t *file,
    ngx_str_t *line);
static char *ngx_smtp_relay_auth_file_hash(ngx_smtp_relay_auth_file_t *file,
    ngx_smtp_relay_key_t *key, ngx_str_t *text);
static void ngx_smtp_relay_auth_file_refresh(ngx_smtp_relay_auth_file_t *file,
    ngx_log_t *log);
static ngx_int_t ngx_smtp_relay_auth_file_verify(ngx_smtp_relay_key_t *key,
    ngx_pool_t *pool, ngx_str_t *secret);
static ngx_int_t ngx_smtp_relay_auth_file_verify_crypt(
    ngx_smtp_relay_key_t *key, ngx_pool_t *pool, ngx_str_t *secret);
static void ngx_smtp_relay_auth_file_cleanup(void *data);


static char  ngx_smtp_relay_auth_file_no_memory[] = "no memory";


ngx_smtp_relay_auth_file_t *
ngx_smtp_relay_auth_file_add(ngx_conf_t *cf, ngx_array_t *files,
    ngx_str_t *name)
{
    ngx_uint_t                    i;
    ngx_pool_cleanup_t           *cln;
    ngx_smtp_relay_auth_file_t   *file, **filep;

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NULL;
    }

    filep = files->elts;

    for (i = 0; i < files->nelts; i++) {
        if (filep[i]->name.len == name->len
            && ngx_strncmp(filep[i]->name.data, name->data, name->len) == 0)
        {
            return filep[i];
        }
    }

    file = ngx_pcalloc(cf->pool, sizeof(ngx_smtp_relay_auth_file_t));
    if (file == NULL) {
        return NULL;
    }

    file->name = *name;
    file->log = &cf->cycle->new_log;

    if (ngx_smtp_relay_auth_file_load(file, cf->log) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "cannot load \"%V\" for \"smtp_relay_auth_file\"",
                           name);
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    filep = ngx_array_push(files);

    if (cln == NULL || filep == NULL) {
        ngx_destroy_pool(file->pool);
        return NULL;
    }

    cln->handler = ngx_smtp_relay_auth_file_cleanup;
    cln->data = file;

    *filep = file;

    return file;
}


static void
ngx_smtp_relay_auth_file_cleanup(void *data)
{
    ngx_smtp_relay_auth_file_t *file = data;

    if (file->pool) {

        /* the log that the configuration was read with may be gone */

        file->pool->log = ngx_cycle->log;
        ngx_destroy_pool(file->pool);
        file->pool = NULL;
    }
}


/* replaces the keys by those of the file; on failure the old ones stay */

static ngx_int_t
ngx_smtp_relay_auth_file_load(ngx_smtp_relay_auth_file_t *file, ngx_log_t *log)
{
    ngx_int_t      rc;
    ngx_str_t      text;
    ngx_pool_t    *temp, *pool, *old;
    ngx_rbtree_t   tree;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, file->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    temp = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, log);
    if (temp == NULL) {
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    if (ngx_smtp_relay_auth_file_read(file, log, temp, &text) != NGX_OK) {
        ngx_destroy_pool(temp);
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    old = file->pool;
    tree = file->tree;

    file->pool = pool;
    ngx_rbtree_init(&file->tree, &file->sentinel, ngx_str_rbtree_insert_value);

    rc = ngx_smtp_relay_auth_file_parse(file, log, &text);

    ngx_explicit_memzero(text.data, text.len);
    ngx_destroy_pool(temp);

    if (rc != NGX_OK) {

        /* it has changed still */

        file->size = -1;

        file->pool = old;
        file->tree = tree;

        ngx_destroy_pool(pool);

        return NGX_ERROR;
    }

    if (old) {
        old->log = log;
        ngx_destroy_pool(old);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_smtp_relay_auth_file_read(ngx_smtp_relay_auth_file_t *file, ngx_log_t *log,
    ngx_pool_t *pool, ngx_str_t *text)
{
    off_t            size;
    ssize_t          n;
    ngx_fd_t         fd;
    ngx_int_t        rc;
    ngx_uint_t       level;
    ngx_file_info_t  fi;

    /* it is tried again every second, but logged once */

    level = file->failed ? NGX_LOG_DEBUG : NGX_LOG_ERR;

    fd = ngx_open_file(file->name.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(level, log, ngx_errno,
                      ngx_open_file_n " \"%s\" failed", file->name.data);
        return NGX_ERROR;
    }

    rc = NGX_ERROR;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                      ngx_fd_info_n " \"%s\" failed", file->name.data);
        goto done;
    }

    if (!ngx_is_file(&fi)) {
        ngx_log_error(level, log, 0,
                      "\"%s\" is not a regular file", file->name.data);
        goto done;
    }

    size = ngx_file_size(&fi);

    text->len = 0;
    text->data = ngx_pnalloc(pool, size ? size : 1);
    if (text->data == NULL) {
        goto done;
    }

    while ((off_t) text->len < size) {

        n = ngx_read_fd(fd, text->data + text->len, size - text->len);

        if (n == -1) {
            ngx_log_error(level, log, ngx_errno,
                          ngx_read_fd_n " \"%s\" failed", file->name.data);
            goto done;
        }

        if (n == 0) {
            break;
        }

        text->len += n;
    }

    file->mtime = ngx_file_mtime(&fi);
    file->mtime_nsec = ngx_smtp_relay_mtime_nsec(&fi);
    file->size = size;
    file->uniq = ngx_file_uniq(&fi);

    rc = NGX_OK;

done:

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_errno,
                      ngx_close_file_n " \"%s\" failed", file->name.data);
    }

    return rc;
}


static ngx_int_t
ngx_smtp_relay_auth_file_parse(ngx_smtp_relay_auth_file_t *file,
    ngx_log_t *log, ngx_str_t *text)
{
    char        *err;
    u_char      *p, *last, *eol;
    ngx_str_t    line;
    ngx_uint_t   n;

    p = text->data;
    last = text->data + text->len;

    for (n = 1; p < last; n++, p = eol + 1) {

        eol = ngx_strlchr(p, last, LF);

        if (eol == NULL) {
            eol = last;
        }

        line.data = p;
        line.len = eol - p;

        if (line.len && line.data[line.len - 1] == CR) {
            line.len--;
        }

        if (line.len == 0 || line.data[0] == '#') {
            continue;
        }

        err = ngx_smtp_relay_auth_file_line(file, &line);

        if (err == ngx_smtp_relay_auth_file_no_memory) {
            return NGX_ERROR;
        }

        if (err) {
            ngx_log_error(NGX_LOG_ERR, log, 0, "%s in %V:%ui, line skipped",
                          err, &file->name, n);
        }
    }

    return NGX_OK;
}


static char *
ngx_smtp_relay_auth_file_line(ngx_smtp_relay_auth_file_t *file,
    ngx_str_t *line)
{
    char                  *err;
    u_char                *p, *last;
    uint32_t               crc;
    ngx_str_t              user, hash, account;
    ngx_smtp_relay_key_t  *key;

    if (line->len > NGX_SMTP_RELAY_AUTH_FILE_LINE) {
        return "too long line";
    }

    last = line->data + line->len;

    p = ngx_strlchr(line->data, last, ':');
    if (p == NULL) {
        return "no \":\"";
    }

    user.data = line->data;
    user.len = p - line->data;

    hash.data = p + 1;

    p = ngx_strlchr(hash.data, last, ':');

    hash.len = (p ? p : last) - hash.data;

    account = user;

    if (p) {
        account.data = p + 1;
        account.len = last - account.data;

        if (ngx_smtp_relay_sasl_check_user(&account) != NGX_OK) {
            return "invalid account";
        }
    }

    if (ngx_smtp_relay_sasl_check_user(&user) != NGX_OK) {
        return "invalid id";
    }

    crc = ngx_crc32_long(user.data, user.len);

    if (ngx_str_rbtree_lookup(&file->tree, &user, crc)) {
        return "duplicate id";
    }

    key = ngx_palloc(file->pool, sizeof(ngx_smtp_relay_key_t));
    if (key == NULL) {
        return ngx_smtp_relay_auth_file_no_memory;
    }

    err = ngx_smtp_relay_auth_file_hash(file, key, &hash);

    if (err) {
        return err;
    }

    key->sn.node.key = crc;
    key->sn.str.len = user.len;
    key->sn.str.data = ngx_pstrdup(file->pool, &user);
    key->account.len = account.len;
    key->account.data = ngx_pstrdup(file->pool, &account);

    if (key->sn.str.data == NULL || key->account.data == NULL) {
        return ngx_smtp_relay_auth_file_no_memory;
    }

    ngx_rbtree_insert(&file->tree, &key->sn.node);

    return NULL;
}


static char *
ngx_smtp_relay_auth_file_hash(ngx_smtp_relay_auth_file_t *file,
    ngx_smtp_relay_key_t *key, ngx_str_t *text)
{
    size_t     skip;
    ngx_int_t  rc;
    ngx_str_t  b64;

    if (text->len > 8
        && ngx_strncmp(text->data, "{SHA256}", 8) == 0)
    {
        key->type = NGX_SMTP_RELAY_HASH_SHA256;
        skip = 8;

    } else if (text->len > 9
               && ngx_strncmp(text->data, "{SSHA256}", 9) == 0)
    {
        key->type = NGX_SMTP_RELAY_HASH_SSHA256;
        skip = 9;

    } else if (text->len > 3
               && text->data[0] == '$'
               && ngx_strncmp(text->data, "$apr1$", 6) != 0)
    {
#if !(NGX_CRYPT)
        return "crypt(3) hash, which this nginx is built without,";
#endif

        /* "$5$", "$6$", "$y$" and whatever else libc has for crypt(3) */

        key->type = NGX_SMTP_RELAY_HASH_CRYPT;

        /* crypt(3) takes a terminated string */

        key->hash.len = text->len;
        key->hash.data = ngx_pnalloc(file->pool, text->len + 1);

        if (key->hash.data == NULL) {
            return ngx_smtp_relay_auth_file_no_memory;
        }

        (void) ngx_cpystrn(key->hash.data, text->data, text->len + 1);

        return NULL;

    } else {
        return "unknown kind of hash";
    }

    b64.len = text->len - skip;
    b64.data = text->data + skip;

    rc = ngx_smtp_relay_sasl_decode(file->pool, &b64, &key->hash);

    if (rc == NGX_ERROR) {
        return ngx_smtp_relay_auth_file_no_memory;
    }

    if (rc != NGX_OK
        || key->hash.len < NGX_SMTP_RELAY_SHA256_LEN
        || (key->type == NGX_SMTP_RELAY_HASH_SHA256
            && key->hash.len != NGX_SMTP_RELAY_SHA256_LEN))
    {
        return "invalid hash";
    }

    return NULL;
}


ngx_int_t
ngx_smtp_relay_auth_file_check(ngx_smtp_relay_auth_file_t *file,
    ngx_pool_t *pool, ngx_log_t *log, ngx_smtp_relay_credentials_t *cr,
    ngx_str_t *account)
{
    uint32_t               crc;
    ngx_int_t              rc;
    ngx_smtp_relay_key_t  *key, nobody;
    u_char                 zero[NGX_SMTP_RELAY_SHA256_LEN];

    ngx_smtp_relay_auth_file_refresh(file, log);

    crc = ngx_crc32_long(cr->user.data, cr->user.len);

    key = (ngx_smtp_relay_key_t *)
              ngx_str_rbtree_lookup(&file->tree, &cr->user, crc);

    if (key == NULL) {

        /* an unknown user takes as long as a known one */

        ngx_memzero(zero, NGX_SMTP_RELAY_SHA256_LEN);

        nobody.type = NGX_SMTP_RELAY_HASH_SHA256;
        nobody.hash.len = NGX_SMTP_RELAY_SHA256_LEN;
        nobody.hash.data = zero;

        (void) ngx_smtp_relay_auth_file_verify(&nobody, pool, &cr->secret);

        return NGX_DONE;
    }

    rc = ngx_smtp_relay_auth_file_verify(key, pool, &cr->secret);

    if (rc != NGX_OK) {
        return rc;
    }

    /* the key goes when the file changes */

    account->data = ngx_pstrdup(pool, &key->account);
    if (account->data == NULL) {
        return NGX_ERROR;
    }

    account->len = key->account.len;

    return NGX_OK;
}


static void
ngx_smtp_relay_auth_file_refresh(ngx_smtp_relay_auth_file_t *file,
    ngx_log_t *log)
{
    ngx_file_info_t  fi;

    if (file->checked == ngx_time()) {
        return;
    }

    file->checked = ngx_time();

    if (ngx_file_info(file->name.data, &fi) == NGX_FILE_ERROR) {

        if (!file->failed) {
            ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                          ngx_file_info_n " \"%s\" failed, "
                          "the keys read before are used", file->name.data);
        }

        file->failed = 1;
        return;
    }

    if (ngx_file_mtime(&fi) == file->mtime
        && ngx_smtp_relay_mtime_nsec(&fi) == file->mtime_nsec
        && ngx_file_size(&fi) == file->size
        && ngx_file_uniq(&fi) == file->uniq)
    {
        file->failed = 0;
        return;
    }

    if (ngx_smtp_relay_auth_file_load(file, ngx_cycle->log) == NGX_OK) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0, "\"%V\" has changed, "
                      "keys are read again", &file->name);
        file->failed = 0;
        return;
    }

    file->failed = 1;
}


static ngx_int_t
ngx_smtp_relay_auth_file_verify(ngx_smtp_relay_key_t *key, ngx_pool_t *pool,
    ngx_str_t *secret)
{
    size_t       salt;
    ngx_int_t    rc;
    EVP_MD_CTX  *ctx;
    u_char       hash[EVP_MAX_MD_SIZE];

    if (key->type == NGX_SMTP_RELAY_HASH_CRYPT) {
        return ngx_smtp_relay_auth_file_verify_crypt(key, pool, secret);
    }

    ctx = EVP_MD_CTX_new();
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    rc = NGX_ERROR;
    salt = key->hash.len - NGX_SMTP_RELAY_SHA256_LEN;

    if (EVP_DigestInit_ex(ctx, EVP_sha256(), NULL)
        && EVP_DigestUpdate(ctx, secret->data, secret->len)
        && EVP_DigestUpdate(ctx, key->hash.data + NGX_SMTP_RELAY_SHA256_LEN,
                            salt)
        && EVP_DigestFinal_ex(ctx, hash, NULL))
    {
        rc = CRYPTO_memcmp(hash, key->hash.data, NGX_SMTP_RELAY_SHA256_LEN)
             ? NGX_DECLINED : NGX_OK;
    }

    EVP_MD_CTX_free(ctx);

    ngx_explicit_memzero(hash, sizeof(hash));

    return rc;
}


static ngx_int_t
ngx_smtp_relay_auth_file_verify_crypt(ngx_smtp_relay_key_t *key,
    ngx_pool_t *pool, ngx_str_t *secret)
{
    u_char     *copy, *encrypted;
    ngx_int_t   rc;

    copy = ngx_pnalloc(pool, secret->len + 1);
    if (copy == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_cpystrn(copy, secret->data, secret->len + 1);

#if (NGX_CRYPT)
    rc = ngx_crypt(pool, copy, key->hash.data, &encrypted);
#else
    rc = NGX_ERROR;
    encrypted = NULL;
#endif

    ngx_explicit_memzero(copy, secret->len);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_strlen(encrypted) != key->hash.len
        || CRYPTO_memcmp(encrypted, key->hash.data, key->hash.len) != 0)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}
