
/*
 * The types that the rooms of the relay share, and the headers of each.
 * What a file offers to others stands in its own header.
 */


#ifndef _NGX_SMTP_RELAY_H_INCLUDED_
#define _NGX_SMTP_RELAY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_stream.h>


#define NGX_SMTP_RELAY_VERSION  "0.2.0"


typedef struct ngx_smtp_relay_session_s      ngx_smtp_relay_session_t;
typedef struct ngx_smtp_relay_transaction_s  ngx_smtp_relay_transaction_t;
typedef struct ngx_smtp_relay_node_s         ngx_smtp_relay_node_t;
typedef struct ngx_smtp_relay_auth_s         ngx_smtp_relay_auth_t;
typedef struct ngx_smtp_relay_http_peer_s    ngx_smtp_relay_http_peer_t;
typedef struct ngx_smtp_relay_add_headers_s  ngx_smtp_relay_add_headers_t;
typedef struct ngx_smtp_relay_limits_s       ngx_smtp_relay_limits_t;
typedef struct ngx_smtp_relay_limit_checks_s  ngx_smtp_relay_limit_checks_t;


#include "ngx_smtp_relay_compat.h"
#include "ngx_smtp_relay_parse.h"
#include "ngx_smtp_relay_scan.h"
#include "ngx_smtp_relay_sasl.h"
#include "ngx_smtp_relay_scope.h"
#include "ngx_smtp_relay_buf.h"
#include "ngx_smtp_relay_stat.h"


#endif /* _NGX_SMTP_RELAY_H_INCLUDED_ */
