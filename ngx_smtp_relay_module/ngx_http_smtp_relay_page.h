
/*
 * The status page: one HTML document that asks its own address for JSON and
 * draws it.  The build makes ngx_http_smtp_relay_page_html.h of the file
 * ngx_http_smtp_relay_page.html.
 */


#ifndef _NGX_HTTP_SMTP_RELAY_PAGE_H_INCLUDED_
#define _NGX_HTTP_SMTP_RELAY_PAGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * Makes the value of Content-Security-Policy, which names the document's own
 * style and script by their hashes and allows nothing else.  To be called
 * once for a configuration; octets of pool.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_smtp_relay_page_policy(ngx_pool_t *pool,
    ngx_str_t *policy);

/*
 * Sends the document, its type and the header fields that make it safe.  To
 * be called by a content handler that has discarded the request's body; what
 * it returns is the handler's to return.
 */
ngx_int_t ngx_http_smtp_relay_page_send(ngx_http_request_t *r,
    ngx_str_t *policy);


#endif /* _NGX_HTTP_SMTP_RELAY_PAGE_H_INCLUDED_ */
