#!/bin/bash
#
# fuzz.sh [SECONDS [TARGET ...]] - t/fuzz/run.sh with what it needs, and the
# target "session": a whole nginx, its clients, nodes and auth service in the
# hands of the fuzzer.  All targets by default.

. "$(dirname "$0")/common.sh"

"$tools/deps.sh" build test

seconds=${1:-300}
[ $# -eq 0 ] || shift
session=
others=()

for target in "$@"; do
    if [ "$target" = session ]; then
        session=1
    else
        others+=("$target")
    fi
done

failed=0

if [ $# -eq 0 ] || [ ${#others[@]} -gt 0 ]; then
    run_build TREE=1 VERSION="${VERSION:-1.26.3}"

    FUZZ_BUILD=$build/fuzz "$root/t/fuzz/run.sh" "$seconds" "${others[@]}" \
        || failed=1
fi

[ $# -eq 0 ] || [ -n "$session" ] || exit $failed

# session: with different configurations, one after the other

from=$("$tools/sources.sh" "${VERSION:-1.26.3}")
out=$build/fuzz-session

say "building t/fuzz/session"
JOBS=$jobs "$root/t/fuzz/session/build.sh" "$from" "$out"
mkdir -p "$out/corpus" "$out/found"

export LSAN_OPTIONS=suppressions=$root/t/fuzz/session/lsan.supp
LSAN_OPTIONS=$LSAN_OPTIONS:print_suppressions=0
unset ASAN_OPTIONS UBSAN_OPTIONS

for variant in 0 1 2 3 4 6; do
    log=$out/log-$variant

    if FUZZ_VARIANT=$variant "$out/session" -max_total_time="$seconds" \
        -max_len=1024 -len_control=0 -timeout=20 -print_final_stats=1 \
        -artifact_prefix="$out/found/session-$variant-" \
        "$out/corpus" "$root/t/fuzz/corpus/session" >"$log" 2>&1
    then
        say "session, variant $variant: nothing found," \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
            "executions," \
            "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" \
            "edges covered"
    else
        warn "session, variant $variant: see $log"
        tail -n 40 "$log" >&2
        failed=1
    fi
done

rm -rf /tmp/smtp-relay-fuzz-??????
exit $failed
