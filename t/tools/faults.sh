#!/bin/bash
#
# faults.sh - the tests with what goes wrong outside: every allocation fails
# once; sockets give and take one octet at a time; nginx has other event
# methods, more workers, shares its listening sockets.

. "$(dirname "$0")/common.sh"

cd "$root"
failed=0

# tests TITLE TEST ...
tests() {
    say "$1"
    shift
    [ $# -gt 0 ] || set -- t/*.t
    prove -j "${TEST_JOBS:-$((jobs * 2))}" -I t/lib "$@" </dev/null || failed=1
}

"$tools/deps.sh" build demo test sanitize

find_smtp_sink
export SMTP_SINK=$smtp_sink

run_build FAULT=1 VERSION="${VERSION:-1.26.3}"
NGX_SRC=${TEST_NGINX_BINARY%/objs/nginx}
export NGX_SRC

ASAN_OPTIONS=detect_leaks=0 \
    tests "each allocation of the module fails once" t/fail_alloc{,_conf,_status}.t

run_build STATIC=1 VERSION="${VERSION:-1.26.3}"
NGX_SRC=${TEST_NGINX_BINARY%/objs/nginx}

# What nginx itself reads in one piece or not at all, the header of the PROXY
# protocol, cannot be had; nor can what is measured.

short=$build/short_io.so
quietly "${CC:-gcc}" -O2 -shared -fPIC -o "$short" t/fault/short_io.c -ldl

TEST_NGINX_PRELOAD=$short TEST_NGINX_EVENTS="use poll;" \
TEST_NGINX_TIMEOUT_FACTOR=3 \
    tests "one octet at a time" t/{message,tls,bdat,commands,pipelining}.t \
        t/{bare_newline,end_of_data,failover,node_faults,node_auth}.t \
        t/{auth_http,auth_http_faults,auth_http_replies,auth_https}.t \
        t/{auth_methods_bad,auth_methods_external,add_header,extensions,size}.t

TEST_NGINX_EVENTS="use select;" tests "select"
TEST_NGINX_EVENTS="use poll;" tests "poll"
TEST_NGINX_EVENTS="multi_accept on; accept_mutex on;" \
    tests "multi_accept and accept_mutex"

# those that do not want all of their connections to be in one process

TEST_NGINX_WORKERS=4 TEST_NGINX_LISTEN=reuseport \
    tests "four workers, each with listening sockets of its own" \
        t/{message,tls,bdat,commands,pipelining,bare_newline,end_of_data}.t \
        t/{starttls,auth,auth_http,lines,size,extensions,add_header}.t \
        t/{smuggling,client_vanishes,exactly_once}.t \
        t/{limit_conn,limit_rate,status_counters}.t

if [ $failed -ne 0 ]; then
    die "some tests failed"
fi
