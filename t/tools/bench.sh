#!/bin/bash
#
# bench.sh [OPTION ...] - t/bench/bench.pl with nginx's sources.  HAProxy is
# unpacked if it is not installed, Postfix left out.

. "$(dirname "$0")/common.sh"

"$tools/deps.sh" bench

NGINX_SOURCE=$("$tools/sources.sh" "${VERSION:-1.26.3}")
export NGINX_SOURCE
export BENCH_BUILD=$build/bench

for HAPROXY in "$(command -v haproxy || :)" /usr/sbin/haproxy \
    "$packages/haproxy/usr/sbin/haproxy"
do
    [ ! -x "$HAPROXY" ] || break
done

export HAPROXY

exec perl "$root/t/bench/bench.pl" "$@"
