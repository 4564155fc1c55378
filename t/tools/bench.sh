#!/bin/bash
#
# bench.sh [OPTION ...] - t/bench/bench.pl with nginx's sources; the peers
# that are not installed are left out.

. "$(dirname "$0")/common.sh"

"$tools/deps.sh" build demo

NGINX_SOURCE=$("$tools/sources.sh" "${VERSION:-1.26.3}")
export NGINX_SOURCE
export BENCH_BUILD=$build/bench

exec perl "$root/t/bench/bench.pl" "$@"
