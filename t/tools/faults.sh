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

# One octet at a time is not for tests of what is in one piece or nothing: the
# header of the PROXY protocol, content behind an early reply, QUIT to a node;

not_short=(
    auth_block limit_{conn,full,model} proxy_protocol_out real_identity
    tracing xclient bdat_pipelined early_replies refused_unsent node_pool
)

# of clients and nodes that say more than is read by then, which is still in
# the socket when it is closed, or when TLS begins, or a reply is expected;

not_short+=(
    auth auth_cache commands lines max_{errors,messages} greeting starttls
    hostile_{starttls,replies}
)

# of time, or many octets (BDAT: a chunk for each); and without nginx

not_short+=(
    auth_failure_delay auth_methods{,_none} limit_time quiet hostile_slow
    backpressure bdat exactly_once header_edges memory node_tls size smuggling
    soak chaos status_counters real_nodes{,_more} status_page
    fail_alloc{,_conf,_status} fuzz harness promtool smtp_sink unit
)

short=$build/short_io.so
quietly "${CC:-gcc}" -O2 -shared -fPIC -o "$short" t/fault/short_io.c -ldl

TEST_NGINX_PRELOAD=$short TEST_NGINX_EVENTS="use poll;" \
TEST_NGINX_TIMEOUT_FACTOR=8 \
    tests "one octet at a time" \
        $(printf '%s\n' t/*.t | grep -v -x -f \
              <(printf 't/%s\\.t\n' "${not_short[@]}"))

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
