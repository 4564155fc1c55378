#!/bin/sh
#
# Unit tests of the pure parsers and of zones: compiles them with a few files of nginx and
# runs each as a subtest.
#
#     NGX_SRC      a configured nginx source tree; without it all is skipped
#     CC           the compiler, cc
#     UNIT_BUILD   where to build, and all is kept; by default a temporary
#                  directory

dir=$(cd "$(dirname "$0")" && pwd)

. "$dir/unit/build.sh"

unit_sources || { echo "1..0 # SKIP $unit_reason"; exit 0; }

if [ -n "$UNIT_BUILD" ]; then
    tmp=$UNIT_BUILD
else
    tmp=$(mktemp -d "${TMPDIR:-/tmp}/smtp-relay-unit.XXXXXX") || exit 1
    trap 'rm -rf "$tmp"' EXIT
fi

trap 'exit 1' HUP INT TERM

CC=${CC:-cc}
flags="-g -O1 -DNGX_DEBUG_PALLOC=1 $unit_includes"
warnings="-W -Wall -Wextra -Wno-unused-parameter -Werror"
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all"

echo 'int main(void) { return 0; }' > "$tmp/try.c"

if $CC $sanitize "$tmp/try.c" -o "$tmp/try" 2> /dev/null && "$tmp/try"; then
    flags="$flags $sanitize"
else
    echo "# $CC has no address and undefined behavior sanitizers"
fi

n=0
failed=0

report() {    # result name
    n=$((n + 1))

    if [ "$1" -eq 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        failed=1
    fi
}

run() {    # name program
    "$2" > "$tmp/out" 2> "$tmp/err"
    rc=$?

    sed 's/^/    /' "$tmp/out"
    sed 's/^/# /' "$tmp/err"

    report $rc "$1"
}

compile() {    # flags source ...
    more=$1
    shift

    for source in "$@"; do
        $CC $flags $more -c "$source" \
            -o "$tmp/$(basename "$source" .c).o" || return 1
    done
}

{ compile -w $unit_nginx && compile "$warnings" $unit_parsers \
    "$dir/unit/unit.c" "$dir/unit/stub.c"; } > "$tmp/cc" 2>&1
rc=$?

sed 's/^/# /' "$tmp/cc"
report $rc "compiled"

if [ $rc -ne 0 ]; then
    echo "1..$n"
    exit 1
fi

for test in line command reply text scan sasl header plan limit; do

    $CC $flags $warnings "$dir/unit/$test.c" "$tmp"/*.o -o "$tmp/$test" \
        2> "$tmp/cc"
    rc=$?

    if [ $rc -eq 0 ]; then
        run "$test" "$tmp/$test"
    else
        sed 's/^/# /' "$tmp/cc"
        report 1 "$test: does not compile"
    fi
done

# zones in shared memory

for test in limit_zone block_zone; do

    zone=$unit_zone
    [ $test = block_zone ] && zone=$unit_block_zone

    if $CC $flags -w $unit_nginx_zone $zone "$dir/unit/$test.c" \
        "$tmp"/*.o -lcrypto -o "$tmp/$test" 2> "$tmp/cc"
    then
        run "$test" "$tmp/$test"
    else
        sed 's/^/# /' "$tmp/cc"
        report 1 "$test: does not compile"
    fi
done

# the shared memory of the cache, which needs other parts of nginx

if $CC $flags $warnings "$dir/unit/cache.c" $unit_cache "$tmp/unit.o" \
    -o "$tmp/cache" 2> "$tmp/cc"
then
    run "cache" "$tmp/cache"
else
    sed 's/^/# /' "$tmp/cc"
    report 1 "cache: does not compile"
fi

# the scanner once more, as machines without SSE2 or without AVX2 have it

for without in __SSE2__ AVX2; do

    option=-U$without
    [ $without = AVX2 ] && option=-DNGX_SMTP_RELAY_AVX2=0

    if $CC $option $flags $warnings "$dir/unit/scan.c" "$unit_scan" \
        "$tmp/unit.o" "$tmp/stub.o" "$tmp"/ngx_string.o "$tmp"/ngx_palloc.o \
        "$tmp"/ngx_alloc.o -o "$tmp/scan_without" 2> "$tmp/cc"
    then
        run "scan, without $without" "$tmp/scan_without"
    else
        sed 's/^/# /' "$tmp/cc"
        report 1 "scan, without $without: does not compile"
    fi
done

echo "1..$n"
exit $failed
