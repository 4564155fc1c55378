#!/bin/sh
#
# Builds limit.c, the benchmark of the zones of limits, and runs it.
#
#     NGX_SRC   a configured nginx source tree, needed
#     CC        the compiler, cc
#     CFLAGS    -O2

dir=$(cd "$(dirname "$0")/.." && pwd)

. "$dir/unit/build.sh"

if ! unit_sources; then
    echo "limit.sh: $unit_reason" >&2
    exit 2
fi

tmp=$(mktemp -d "${TMPDIR:-/tmp}/smtp-relay-bench.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

${CC:-cc} ${CFLAGS:--O2} -w $unit_includes "$dir/bench/limit.c" \
    "$dir/unit/stub.c" $unit_nginx $unit_nginx_zone $unit_zone \
    "$unit_module/ngx_smtp_relay_limit_bucket.c" -lcrypto \
    -o "$tmp/limit" && "$tmp/limit"
