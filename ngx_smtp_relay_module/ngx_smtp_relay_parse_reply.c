
/*
 * Replies of a node, and what its reply to EHLO offers.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "ngx_smtp_relay_sasl.h"


typedef struct {
    ngx_str_t               name;
    ngx_uint_t              bit;
} ngx_smtp_relay_word_t;


static ngx_int_t ngx_smtp_relay_end_reply_line(ngx_smtp_relay_reply_t *r,
    u_char *line, u_char *lf);
static void ngx_smtp_relay_parse_feature(ngx_str_t *line,
    ngx_smtp_relay_features_t *f);
static void ngx_smtp_relay_parse_limit(ngx_str_t *word,
    ngx_smtp_relay_features_t *f);
static ngx_int_t ngx_smtp_relay_next_word(ngx_str_t *text, ngx_str_t *word);
static ngx_uint_t ngx_smtp_relay_find_word(ngx_smtp_relay_word_t *words,
    ngx_str_t *name);


static ngx_smtp_relay_word_t  ngx_smtp_relay_extensions[] = {
    { ngx_string("PIPELINING"),           NGX_SMTP_RELAY_EXT_PIPELINING },
    { ngx_string("8BITMIME"),             NGX_SMTP_RELAY_EXT_8BITMIME },
    { ngx_string("SMTPUTF8"),             NGX_SMTP_RELAY_EXT_SMTPUTF8 },
    { ngx_string("CHUNKING"),             NGX_SMTP_RELAY_EXT_CHUNKING },
    { ngx_string("DSN"),                  NGX_SMTP_RELAY_EXT_DSN },
    { ngx_string("ENHANCEDSTATUSCODES"),  NGX_SMTP_RELAY_EXT_ENHANCED },
    { ngx_string("SIZE"),                 NGX_SMTP_RELAY_EXT_SIZE },
    { ngx_string("STARTTLS"),             NGX_SMTP_RELAY_EXT_STARTTLS },
    { ngx_string("AUTH"),                 NGX_SMTP_RELAY_EXT_AUTH },
    { ngx_string("XCLIENT"),              NGX_SMTP_RELAY_EXT_XCLIENT },
    { ngx_string("LIMITS"),               NGX_SMTP_RELAY_EXT_LIMITS },
    { ngx_null_string,                    0 }
};


static ngx_smtp_relay_word_t  ngx_smtp_relay_xclient_attributes[] = {
    { ngx_string("NAME"),                 NGX_SMTP_RELAY_XCLIENT_NAME },
    { ngx_string("ADDR"),                 NGX_SMTP_RELAY_XCLIENT_ADDR },
    { ngx_string("PORT"),                 NGX_SMTP_RELAY_XCLIENT_PORT },
    { ngx_string("PROTO"),                NGX_SMTP_RELAY_XCLIENT_PROTO },
    { ngx_string("HELO"),                 NGX_SMTP_RELAY_XCLIENT_HELO },
    { ngx_string("LOGIN"),                NGX_SMTP_RELAY_XCLIENT_LOGIN },
    { ngx_string("DESTADDR"),             NGX_SMTP_RELAY_XCLIENT_DESTADDR },
    { ngx_string("DESTPORT"),             NGX_SMTP_RELAY_XCLIENT_DESTPORT },
    { ngx_null_string,                    0 }
};


ngx_int_t
ngx_smtp_relay_parse_reply(ngx_smtp_relay_reply_t *r, ngx_buf_t *b)
{
    u_char     *p, *line;
    ngx_int_t   rc;

    line = b->pos + r->line;

    for (p = b->pos + r->seen; p < b->last; p++) {

        if (*p == LF) {

            rc = ngx_smtp_relay_end_reply_line(r, line, p);

            if (rc == NGX_AGAIN) {
                line = p + 1;
                continue;
            }

            if (rc == NGX_OK) {
                r->text.len = p + 1 - b->pos;
                r->text.data = b->pos;
                r->seen = 0;
                r->line = 0;
                r->lines = 0;

                b->pos = p + 1;
            }

            return rc;
        }

        /* CR is good for nothing but the line end */

        if ((p > line && p[-1] == CR)
            || (*p < 0x20 && *p != CR && *p != '\t')
            || *p == 0x7f)
        {
            return NGX_ERROR;
        }

        if (p - line >= NGX_SMTP_RELAY_MAX_REPLY_LINE && *p != CR) {
            return NGX_ERROR;
        }
    }

    r->line = line - b->pos;
    r->seen = p - b->pos;

    return NGX_AGAIN;
}


/* NGX_OK: the line was the last one of the reply; NGX_AGAIN: more follow */

static ngx_int_t
ngx_smtp_relay_end_reply_line(ngx_smtp_relay_reply_t *r, u_char *line,
    u_char *lf)
{
    size_t     len;
    ngx_int_t  code;

    len = lf - line;

    if (len < 4 || lf[-1] != CR) {
        return NGX_ERROR;
    }

    code = ngx_atoi(line, 3);

    if (code < 200 || code > 599) {
        return NGX_ERROR;
    }

    if (r->lines == 0) {
        r->code = code;

    } else if (r->code != (ngx_uint_t) code) {
        return NGX_ERROR;
    }

    if (++r->lines > NGX_SMTP_RELAY_MAX_REPLY_LINES) {
        return NGX_ERROR;
    }

    switch (line[3]) {

    case CR:
    case ' ':
        return NGX_OK;

    case '-':
        return NGX_AGAIN;
    }

    return NGX_ERROR;
}


ngx_int_t
ngx_smtp_relay_reply_line(ngx_smtp_relay_reply_t *r, u_char **pos,
    ngx_str_t *line)
{
    u_char  *p, *last, *lf;

    p = *pos;
    last = r->text.data + r->text.len;

    lf = (p < last) ? ngx_strlchr(p, last, LF) : NULL;

    if (lf == NULL) {
        ngx_str_null(line);
        return NGX_DONE;
    }

    *pos = lf + 1;

    /* "250" CRLF has no separator */

    p += (p[3] == CR) ? 3 : 4;

    line->len = lf - 1 - p;
    line->data = p;

    return NGX_OK;
}


void
ngx_smtp_relay_parse_features(ngx_smtp_relay_reply_t *r,
    ngx_smtp_relay_features_t *f)
{
    u_char     *p;
    ngx_str_t   line;

    ngx_memzero(f, sizeof(ngx_smtp_relay_features_t));

    p = r->text.data;

    if (ngx_smtp_relay_reply_line(r, &p, &line) != NGX_OK) {
        return;
    }

    while (ngx_smtp_relay_reply_line(r, &p, &line) == NGX_OK) {
        ngx_smtp_relay_parse_feature(&line, f);
    }
}


static void
ngx_smtp_relay_parse_feature(ngx_str_t *line, ngx_smtp_relay_features_t *f)
{
    off_t        size;
    ngx_str_t    text, word;
    ngx_uint_t   ext;

    text = *line;

    /* "AUTH=LOGIN PLAIN" of old servers: the same list as with a blank */

    if (text.len > 5
        && ngx_strncasecmp(text.data, (u_char *) "AUTH=", 5) == 0)
    {
        word.len = 4;
        word.data = text.data;
        text.len -= 5;
        text.data += 5;

    } else if (ngx_smtp_relay_next_word(&text, &word) != NGX_OK) {
        return;
    }

    ext = ngx_smtp_relay_find_word(ngx_smtp_relay_extensions, &word);

    f->ext |= ext;

    while (ngx_smtp_relay_next_word(&text, &word) == NGX_OK) {

        switch (ext) {

        case NGX_SMTP_RELAY_EXT_SIZE:
            size = ngx_atoof(word.data, word.len);
            f->size = (size == NGX_ERROR) ? 0 : size;
            return;

        case NGX_SMTP_RELAY_EXT_AUTH:
            f->auth |= ngx_smtp_relay_sasl_method(&word);
            break;

        case NGX_SMTP_RELAY_EXT_XCLIENT:
            f->xclient |= ngx_smtp_relay_find_word(
                                    ngx_smtp_relay_xclient_attributes, &word);
            break;

        case NGX_SMTP_RELAY_EXT_LIMITS:
            ngx_smtp_relay_parse_limit(&word, f);
            break;

        default:
            return;
        }
    }
}


/* RFC 9422, 4.: a limit that is not understood is none */

static void
ngx_smtp_relay_parse_limit(ngx_str_t *word, ngx_smtp_relay_features_t *f)
{
    ngx_int_t    n;
    ngx_uint_t  *limit;

    static const size_t  len = sizeof("RCPTMAX=") - 1;

    if (word->len <= len) {
        return;
    }

    if (ngx_strncasecmp(word->data, (u_char *) "RCPTMAX=", len) == 0) {
        limit = &f->rcptmax;

    } else if (ngx_strncasecmp(word->data, (u_char *) "MAILMAX=", len) == 0) {
        limit = &f->mailmax;

    } else {
        return;
    }

    n = ngx_atoi(word->data + len, word->len - len);

    if (n != NGX_ERROR) {
        *limit = n;
    }
}


/* takes a word off the front of text; NGX_DONE: none is left */

static ngx_int_t
ngx_smtp_relay_next_word(ngx_str_t *text, ngx_str_t *word)
{
    u_char  *p, *last;

    p = text->data;
    last = p + text->len;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    word->data = p;

    while (p < last && *p != ' ' && *p != '\t') {
        p++;
    }

    word->len = p - word->data;

    text->len = last - p;
    text->data = p;

    return word->len ? NGX_OK : NGX_DONE;
}


static ngx_uint_t
ngx_smtp_relay_find_word(ngx_smtp_relay_word_t *words, ngx_str_t *name)
{
    for ( /* void */ ; words->name.len; words++) {
        if (words->name.len == name->len
            && ngx_strncasecmp(words->name.data, name->data, name->len) == 0)
        {
            return words->bit;
        }
    }

    return 0;
}
