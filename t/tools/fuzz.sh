#!/bin/bash
#
# fuzz.sh [ARGUMENT ...] - t/fuzz/run.sh with what it needs.

. "$(dirname "$0")/common.sh"

"$tools/deps.sh" build test

run_build TREE=1 VERSION="${VERSION:-1.26.3}"

export FUZZ_BUILD=$build/fuzz

exec "$root/t/fuzz/run.sh" "$@"
