
/*
 * Arguments of MAIL, RCPT and BDAT, and ESMTP parameters.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "ngx_smtp_relay_parse_path.h"


#define NGX_SMTP_RELAY_MAX_ENVID   100   /* RFC 3461, 4.4. */
#define NGX_SMTP_RELAY_MAX_XTEXT   500   /* RFC 3461, 4.2.; RFC 4954, 5. */
#define NGX_SMTP_RELAY_MAX_DIGITS  20    /* RFC 1870, 3.; RFC 3030, 2. */


#define ngx_smtp_relay_is(s, text)                                            \
    ((s)->len == sizeof(text) - 1                                             \
     && ngx_strncasecmp((s)->data, (u_char *) text, sizeof(text) - 1) == 0)


typedef ngx_smtp_relay_arg_error_e (*ngx_smtp_relay_param_pt)(
    ngx_str_t *value, void *data);


typedef struct {
    ngx_str_t                     name;
    ngx_uint_t                    ext;      /* it belongs to; 0: to none */
    ngx_smtp_relay_param_pt       handler;
} ngx_smtp_relay_param_t;


static ngx_smtp_relay_arg_error_e ngx_smtp_relay_parse_params(u_char *p,
    u_char *last, ngx_smtp_relay_param_t *params, ngx_uint_t ext, void *data);
static u_char *ngx_smtp_relay_parse_param(u_char *p, u_char *last,
    ngx_str_t *name, ngx_str_t *value);
static ngx_smtp_relay_arg_error_e ngx_smtp_relay_param_size(ngx_str_t *value,
    void *data);
static ngx_smtp_relay_arg_error_e ngx_smtp_relay_param_body(ngx_str_t *value,
    void *data);
static ngx_smtp_relay_arg_error_e ngx_smtp_relay_param_smtputf8(
    ngx_str_t *value, void *data);
static ngx_smtp_relay_arg_error_e ngx_smtp_relay_param_ret(ngx_str_t *value,
    void *data);
static ngx_smtp_relay_arg_error_e ngx_smtp_relay_param_envid(ngx_str_t *value,
    void *data);
static ngx_smtp_relay_arg_error_e ngx_smtp_relay_param_auth(ngx_str_t *value,
    void *data);
static ngx_smtp_relay_arg_error_e ngx_smtp_relay_param_notify(
    ngx_str_t *value, void *data);
static ngx_smtp_relay_arg_error_e ngx_smtp_relay_param_orcpt(ngx_str_t *value,
    void *data);
static ngx_int_t ngx_smtp_relay_check_xtext(u_char *p, u_char *last,
    ngx_uint_t utf8);


static ngx_smtp_relay_param_t  ngx_smtp_relay_mail_params[] = {

    { ngx_string("SIZE"),
      NGX_SMTP_RELAY_EXT_SIZE,
      ngx_smtp_relay_param_size },

    { ngx_string("BODY"),
      NGX_SMTP_RELAY_EXT_8BITMIME,
      ngx_smtp_relay_param_body },

    { ngx_string("SMTPUTF8"),
      NGX_SMTP_RELAY_EXT_SMTPUTF8,
      ngx_smtp_relay_param_smtputf8 },

    { ngx_string("RET"),
      NGX_SMTP_RELAY_EXT_DSN,
      ngx_smtp_relay_param_ret },

    { ngx_string("ENVID"),
      NGX_SMTP_RELAY_EXT_DSN,
      ngx_smtp_relay_param_envid },

    /* clients send it without having seen AUTH on this connection */

    { ngx_string("AUTH"),
      0,
      ngx_smtp_relay_param_auth },

    { ngx_null_string, 0, NULL }
};


static ngx_smtp_relay_param_t  ngx_smtp_relay_rcpt_params[] = {

    { ngx_string("NOTIFY"),
      NGX_SMTP_RELAY_EXT_DSN,
      ngx_smtp_relay_param_notify },

    { ngx_string("ORCPT"),
      NGX_SMTP_RELAY_EXT_DSN,
      ngx_smtp_relay_param_orcpt },

    { ngx_null_string, 0, NULL }
};


ngx_smtp_relay_arg_error_e
ngx_smtp_relay_parse_mail(ngx_str_t *arg, ngx_uint_t ext,
    ngx_smtp_relay_mail_t *mail)
{
    u_char                      *p, *last;
    ngx_smtp_relay_arg_error_e   rc;

    ngx_memzero(mail, sizeof(ngx_smtp_relay_mail_t));

    mail->size = -1;

    p = arg->data;
    last = p + arg->len;

    if (arg->len < 5 || ngx_strncasecmp(p, (u_char *) "FROM:", 5) != 0) {
        return NGX_SMTP_RELAY_ARG_SYNTAX;
    }

    p += 5;

    rc = ngx_smtp_relay_parse_path(&p, last, &mail->path);

    if (rc == NGX_SMTP_RELAY_ARG_OK
        && mail->path.path.len && mail->path.domain.len == 0)
    {
        rc = NGX_SMTP_RELAY_ARG_SENDER;
    }

    if (rc != NGX_SMTP_RELAY_ARG_OK) {
        return rc;
    }

    rc = ngx_smtp_relay_parse_params(p, last, ngx_smtp_relay_mail_params, ext,
                                     mail);

    if (rc == NGX_SMTP_RELAY_ARG_OK && mail->path.utf8 && !mail->smtputf8) {
        rc = NGX_SMTP_RELAY_ARG_UTF8;
    }

    return rc;
}


ngx_smtp_relay_arg_error_e
ngx_smtp_relay_parse_rcpt(ngx_str_t *arg, ngx_uint_t ext, ngx_uint_t smtputf8,
    ngx_smtp_relay_rcpt_t *rcpt)
{
    u_char                      *p, *last;
    ngx_str_t                   *orcpt;
    ngx_smtp_relay_arg_error_e   rc;

    ngx_memzero(rcpt, sizeof(ngx_smtp_relay_rcpt_t));

    p = arg->data;
    last = p + arg->len;

    if (arg->len < 3 || ngx_strncasecmp(p, (u_char *) "TO:", 3) != 0) {
        return NGX_SMTP_RELAY_ARG_SYNTAX;
    }

    p += 3;

    rc = ngx_smtp_relay_parse_path(&p, last, &rcpt->path);

    if (rc == NGX_SMTP_RELAY_ARG_SENDER) {
        return NGX_SMTP_RELAY_ARG_RECIPIENT;
    }

    if (rc != NGX_SMTP_RELAY_ARG_OK) {
        return rc;
    }

    /* RFC 5321, 4.5.1.: Postmaster is known without a domain */

    if (rcpt->path.domain.len == 0
        && !ngx_smtp_relay_is(&rcpt->path.local, "postmaster"))
    {
        return NGX_SMTP_RELAY_ARG_RECIPIENT;
    }

    rc = ngx_smtp_relay_parse_params(p, last, ngx_smtp_relay_rcpt_params, ext,
                                     rcpt);

    if (rc != NGX_SMTP_RELAY_ARG_OK || smtputf8) {
        return rc;
    }

    orcpt = &rcpt->orcpt;

    if (rcpt->path.utf8
        || (orcpt->len
            && ngx_smtp_relay_is_8bit(orcpt->data, orcpt->data + orcpt->len)))
    {
        return NGX_SMTP_RELAY_ARG_UTF8;
    }

    return NGX_SMTP_RELAY_ARG_OK;
}


ngx_int_t
ngx_smtp_relay_parse_bdat(ngx_str_t *arg, off_t *size, ngx_uint_t *last)
{
    u_char     *p, *end;
    size_t      len;
    ngx_str_t   rest;

    *size = 0;
    *last = 0;

    p = arg->data;
    end = p + arg->len;

    while (p < end && ngx_smtp_relay_is_digit(*p)) {
        p++;
    }

    len = p - arg->data;

    if (len == 0 || len > NGX_SMTP_RELAY_MAX_DIGITS) {
        return NGX_ERROR;
    }

    if (p < end) {

        if (*p != ' ') {
            return NGX_ERROR;
        }

        while (p < end && *p == ' ') {
            p++;
        }

        rest.len = end - p;
        rest.data = p;

        if (rest.len) {

            if (!ngx_smtp_relay_is(&rest, "LAST")) {
                return NGX_ERROR;
            }

            *last = 1;
        }
    }

    *size = ngx_atoof(arg->data, len);

    if (*size == NGX_ERROR) {
        *size = 0;
        *last = 0;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_smtp_relay_arg_error_e
ngx_smtp_relay_parse_params(u_char *p, u_char *last,
    ngx_smtp_relay_param_t *params, ngx_uint_t ext, void *data)
{
    ngx_str_t                    name, value;
    ngx_uint_t                   i, given;
    ngx_smtp_relay_arg_error_e   rc;

    given = 0;

    for ( ;; ) {

        if (p < last && *p != ' ') {
            return NGX_SMTP_RELAY_ARG_SYNTAX;
        }

        while (p < last && *p == ' ') {
            p++;
        }

        if (p == last) {
            return NGX_SMTP_RELAY_ARG_OK;
        }

        p = ngx_smtp_relay_parse_param(p, last, &name, &value);

        if (p == NULL) {
            return NGX_SMTP_RELAY_ARG_SYNTAX;
        }

        for (i = 0; params[i].name.len; i++) {
            if (params[i].name.len == name.len
                && ngx_strncasecmp(params[i].name.data, name.data, name.len)
                   == 0)
            {
                break;
            }
        }

        if (params[i].name.len == 0 || (params[i].ext & ~ext)) {
            return NGX_SMTP_RELAY_ARG_PARAMETER;
        }

        if (given & ((ngx_uint_t) 1 << i)) {
            return NGX_SMTP_RELAY_ARG_SYNTAX;
        }

        given |= (ngx_uint_t) 1 << i;

        rc = params[i].handler(&value, data);

        if (rc != NGX_SMTP_RELAY_ARG_OK) {
            return rc;
        }
    }
}


/*
 * RFC 5321, 4.1.2., esmtp-param.  What a value may consist of is left to
 * the parameter.  Without "=" value->data is NULL.
 */

static u_char *
ngx_smtp_relay_parse_param(u_char *p, u_char *last, ngx_str_t *name,
    ngx_str_t *value)
{
    name->data = p;

    while (p < last
           && (ngx_smtp_relay_is_alnum(*p) || (*p == '-' && p > name->data)))
    {
        p++;
    }

    name->len = p - name->data;

    ngx_str_null(value);

    if (name->len == 0) {
        return NULL;
    }

    if (p == last || *p != '=') {
        return p;
    }

    value->data = ++p;

    while (p < last && *p != ' ') {

        if (*p < 0x20 || *p == 0x7f) {
            return NULL;
        }

        p++;
    }

    value->len = p - value->data;

    return p;
}


/*
 * A size that off_t cannot hold is well-formed and too big for everyone, so
 * it becomes the greatest there is.
 */

static ngx_smtp_relay_arg_error_e
ngx_smtp_relay_param_size(ngx_str_t *value, void *data)
{
    ngx_smtp_relay_mail_t  *mail = data;

    off_t   size;
    size_t  i;

    if (value->len == 0 || value->len > NGX_SMTP_RELAY_MAX_DIGITS) {
        return NGX_SMTP_RELAY_ARG_VALUE;
    }

    for (i = 0; i < value->len; i++) {
        if (!ngx_smtp_relay_is_digit(value->data[i])) {
            return NGX_SMTP_RELAY_ARG_VALUE;
        }
    }

    size = ngx_atoof(value->data, value->len);

    mail->size = (size == NGX_ERROR) ? NGX_MAX_OFF_T_VALUE : size;

    return NGX_SMTP_RELAY_ARG_OK;
}


static ngx_smtp_relay_arg_error_e
ngx_smtp_relay_param_body(ngx_str_t *value, void *data)
{
    ngx_smtp_relay_mail_t  *mail = data;

    if (ngx_smtp_relay_is(value, "8BITMIME")) {
        mail->needs |= NGX_SMTP_RELAY_EXT_8BITMIME;

    } else if (ngx_smtp_relay_is(value, "BINARYMIME")) {
        return NGX_SMTP_RELAY_ARG_PARAMETER;

    } else if (!ngx_smtp_relay_is(value, "7BIT")) {
        return NGX_SMTP_RELAY_ARG_VALUE;
    }

    mail->body = *value;

    return NGX_SMTP_RELAY_ARG_OK;
}


static ngx_smtp_relay_arg_error_e
ngx_smtp_relay_param_smtputf8(ngx_str_t *value, void *data)
{
    ngx_smtp_relay_mail_t  *mail = data;

    if (value->data) {
        return NGX_SMTP_RELAY_ARG_VALUE;
    }

    mail->smtputf8 = 1;
    mail->needs |= NGX_SMTP_RELAY_EXT_SMTPUTF8;

    return NGX_SMTP_RELAY_ARG_OK;
}


static ngx_smtp_relay_arg_error_e
ngx_smtp_relay_param_ret(ngx_str_t *value, void *data)
{
    ngx_smtp_relay_mail_t  *mail = data;

    if (!ngx_smtp_relay_is(value, "FULL") && !ngx_smtp_relay_is(value, "HDRS"))
    {
        return NGX_SMTP_RELAY_ARG_VALUE;
    }

    mail->ret = *value;
    mail->needs |= NGX_SMTP_RELAY_EXT_DSN;

    return NGX_SMTP_RELAY_ARG_OK;
}


static ngx_smtp_relay_arg_error_e
ngx_smtp_relay_param_envid(ngx_str_t *value, void *data)
{
    ngx_smtp_relay_mail_t  *mail = data;

    if (value->len == 0 || value->len > NGX_SMTP_RELAY_MAX_ENVID
        || ngx_smtp_relay_check_xtext(value->data, value->data + value->len, 0)
           != NGX_OK)
    {
        return NGX_SMTP_RELAY_ARG_VALUE;
    }

    mail->envid = *value;
    mail->needs |= NGX_SMTP_RELAY_EXT_DSN;

    return NGX_SMTP_RELAY_ARG_OK;
}


/* RFC 4954, 5.: "<>" is xtext, too */

static ngx_smtp_relay_arg_error_e
ngx_smtp_relay_param_auth(ngx_str_t *value, void *data)
{
    ngx_smtp_relay_mail_t  *mail = data;

    if (value->len == 0 || value->len > NGX_SMTP_RELAY_MAX_XTEXT
        || ngx_smtp_relay_check_xtext(value->data, value->data + value->len, 0)
           != NGX_OK)
    {
        return NGX_SMTP_RELAY_ARG_VALUE;
    }

    mail->auth = *value;

    return NGX_SMTP_RELAY_ARG_OK;
}


static ngx_smtp_relay_arg_error_e
ngx_smtp_relay_param_notify(ngx_str_t *value, void *data)
{
    ngx_smtp_relay_rcpt_t  *rcpt = data;

    u_char      *p, *last;
    ngx_str_t    word;
    ngx_uint_t   bit, given;

    rcpt->needs |= NGX_SMTP_RELAY_EXT_DSN;

    if (ngx_smtp_relay_is(value, "NEVER")) {
        rcpt->notify = *value;
        return NGX_SMTP_RELAY_ARG_OK;
    }

    if (value->len == 0) {
        return NGX_SMTP_RELAY_ARG_VALUE;
    }

    p = value->data;
    last = p + value->len;
    given = 0;

    for ( ;; ) {

        word.data = p;

        while (p < last && *p != ',') {
            p++;
        }

        word.len = p - word.data;

        bit = ngx_smtp_relay_is(&word, "SUCCESS") ? 0x01
              : ngx_smtp_relay_is(&word, "FAILURE") ? 0x02
              : ngx_smtp_relay_is(&word, "DELAY") ? 0x04 : 0;

        if (bit == 0 || (given & bit)) {
            return NGX_SMTP_RELAY_ARG_VALUE;
        }

        given |= bit;

        if (p == last) {
            break;
        }

        p++;
    }

    rcpt->notify = *value;

    return NGX_SMTP_RELAY_ARG_OK;
}


/*
 * The type is an atom, but the whole is a value, so there is no "=" in it.
 * UTF-8 is right with SMTPUTF8 only (RFC 6533, 3.), which the caller knows.
 */

static ngx_smtp_relay_arg_error_e
ngx_smtp_relay_param_orcpt(ngx_str_t *value, void *data)
{
    ngx_smtp_relay_rcpt_t  *rcpt = data;

    u_char  *p, *last;

    if (value->len == 0 || value->len > NGX_SMTP_RELAY_MAX_XTEXT) {
        return NGX_SMTP_RELAY_ARG_VALUE;
    }

    last = value->data + value->len;
    p = ngx_smtp_relay_parse_atom(value->data, last);

    if (p == NULL || last - p < 2 || *p != ';'
        || ngx_smtp_relay_is_8bit(value->data, p)
        || ngx_strlchr(value->data, p, '=') != NULL
        || ngx_smtp_relay_check_xtext(p + 1, last, 1) != NGX_OK)
    {
        return NGX_SMTP_RELAY_ARG_VALUE;
    }

    rcpt->orcpt = *value;
    rcpt->needs |= NGX_SMTP_RELAY_EXT_DSN;

    return NGX_SMTP_RELAY_ARG_OK;
}


/*
 * RFC 3461, 4.  A control character is refused in its encoded form, too:
 * whoever decodes it would put it into a line.
 */

static ngx_int_t
ngx_smtp_relay_check_xtext(u_char *p, u_char *last, ngx_uint_t utf8)
{
    size_t     n;
    ngx_int_t  high, low;

    while (p < last) {

        if (*p == '+') {

            if (last - p < 3) {
                return NGX_ERROR;
            }

            high = (p[1] >= 'a') ? NGX_ERROR : ngx_smtp_relay_hex(p[1]);
            low = (p[2] >= 'a') ? NGX_ERROR : ngx_smtp_relay_hex(p[2]);

            if (high < 2 || low == NGX_ERROR || (high == 7 && low == 15)) {
                return NGX_ERROR;
            }

            p += 3;
            continue;
        }

        n = ngx_smtp_relay_printable(p, last);

        if (n == 0 || *p == ' ' || *p == '=' || (n > 1 && !utf8)) {
            return NGX_ERROR;
        }

        p += n;
    }

    return NGX_OK;
}
