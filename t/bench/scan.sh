#!/bin/sh
#
# Builds scan.c, the benchmark of the content scanner, and runs it.
#
#     NGX_SRC   a configured nginx source tree, needed
#     CC        the compiler, cc
#     CFLAGS    -O2; "-O2 -U__SSE2__" for the scanner of other machines

dir=$(cd "$(dirname "$0")/.." && pwd)

. "$dir/unit/build.sh"

if ! unit_sources; then
    echo "scan.sh: $unit_reason" >&2
    exit 2
fi

tmp=$(mktemp -d "${TMPDIR:-/tmp}/smtp-relay-bench.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

${CC:-cc} ${CFLAGS:--O2} $unit_includes "$dir/bench/scan.c" "$unit_scan" \
    -o "$tmp/scan" && "$tmp/scan"
