#!/bin/sh
#
# Builds cache.c, the benchmark of looks into the cache of verdicts, and runs
# it.
#
#     cache.sh [entries]    1,000,000
#
#     NGX_SRC   a configured nginx source tree, needed
#     CC        the compiler, cc
#     CFLAGS    -O2

dir=$(cd "$(dirname "$0")/.." && pwd)

. "$dir/unit/build.sh"

if ! unit_sources; then
    echo "cache.sh: $unit_reason" >&2
    exit 2
fi

tmp=$(mktemp -d "${TMPDIR:-/tmp}/smtp-relay-bench.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT

${CC:-cc} ${CFLAGS:--O2} $unit_includes "$dir/bench/cache.c" $unit_cache \
    "$unit_module/ngx_smtp_relay_auth_cache_key.c" -lcrypto \
    -o "$tmp/cache" && "$tmp/cache" "$@"
