#!/bin/sh
#
# Runs the fuzz targets briefly.
#
#     NGX_SRC             a configured nginx source tree; without it, or
#                         without clang's libFuzzer, all is skipped
#     TEST_FUZZ_SECONDS   for each target, 3 by default

dir=$(cd "$(dirname "$0")" && pwd)

. "$dir/unit/build.sh"

CLANG=${CLANG:-clang}
export CLANG

unit_sources || { echo "1..0 # SKIP $unit_reason"; exit 0; }

tmp=$(mktemp -d "${TMPDIR:-/tmp}/smtp-relay-fuzz.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

cat > "$tmp/try.c" << 'END'
int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size)
{
    return 0;
}
END

if ! $CLANG -fsanitize=fuzzer,address,undefined "$tmp/try.c" -o "$tmp/try" \
    > /dev/null 2>&1
then
    echo "1..0 # SKIP $CLANG has no libFuzzer: libclang-rt-dev is missing"
    exit 0
fi

# the programs are not to find options that are for nginx

unset ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS

FUZZ_BUILD=$tmp
export FUZZ_BUILD

targets="line command reply scan scan_portable sasl plan http"

"$dir/fuzz/run.sh" "${TEST_FUZZ_SECONDS:-3}" $targets > "$tmp/out" 2>&1
failed=$?

n=0

for target in $targets; do
    n=$((n + 1))

    if grep "^$target: nothing found" "$tmp/out" > "$tmp/result"; then
        echo "ok $n - $(cat "$tmp/result")"
    else
        echo "not ok $n - $target"
        failed=1
    fi
done

[ $failed -eq 0 ] || sed 's/^/# /' "$tmp/out"

echo "1..$n"
exit $failed
