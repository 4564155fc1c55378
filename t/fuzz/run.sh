#!/bin/sh
#
# run.sh [SECONDS [TARGET ...]] - builds the fuzz targets and runs each for
# SECONDS, 10 by default.  TARGET: line command reply scan scan_portable sasl
# plan http; all by default.  Fails if one of them finds something.
#
#     NGX_SRC       a configured nginx source tree, needed
#     CLANG         the compiler, clang
#     FUZZ_BUILD    where to build, and what a run finds is kept: programs,
#                   the corpus as it grows, inputs that fail.  By default a
#                   temporary directory, which is removed if nothing was found
#
# A single input again: FUZZ_BUILD/TARGET FILE

dir=$(cd "$(dirname "$0")/.." && pwd)

. "$dir/unit/build.sh"

seconds=${1:-10}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- line command reply scan scan_portable sasl plan http

CLANG=${CLANG:-clang}

if ! unit_sources; then
    echo "run.sh: $unit_reason" >&2
    exit 2
fi

case $seconds in
    '' | *[!0-9]*) echo "run.sh: \"$seconds\" is no number" >&2; exit 2 ;;
esac

if [ -n "$FUZZ_BUILD" ]; then
    build=$FUZZ_BUILD
    mkdir -p "$build" || exit 2
    build=$(cd "$build" && pwd)
else
    build=$(mktemp -d "${TMPDIR:-/tmp}/smtp-relay-fuzz.XXXXXX") || exit 2
fi

found=0

finish() {
    if [ -z "$FUZZ_BUILD" ] && [ $found -eq 0 ]; then
        rm -rf "$build"
    fi
}

trap finish EXIT
trap 'exit 2' HUP INT TERM

flags="-g -O1 -fno-omit-frame-pointer -DNGX_DEBUG_PALLOC=1 -D_GNU_SOURCE
    $unit_includes"
warnings="-W -Wall -Wextra -Wno-unused-parameter -Werror"
sanitize="address,undefined"

compile() {    # directory, warnings, sources ...
    objects=$1
    more=$2
    shift 2

    mkdir -p "$objects" || return 1

    for source in "$@"; do
        $CLANG $flags $more -fsanitize=fuzzer-no-link,$sanitize \
            -fno-sanitize-recover=all -c "$source" \
            -o "$objects/$(basename "$source" .c).o" || return 1
    done
}

target() {    # name
    case $1 in
        scan_portable) name=scan ;;
        *) name=$1 ;;
    esac

    if [ ! -f "$dir/fuzz/fuzz_$name.c" ]; then
        echo "run.sh: no target \"$1\"" >&2
        return 1
    fi

    more_flags=
    [ "$1" != http ] || more_flags=$unit_includes_http

    compile "$build/obj-$1" "$warnings $more_flags" \
        "$dir/fuzz/fuzz_$name.c" || return 1

    if [ "$1" = http ]; then
        compile "$build/obj-$1" "-w $more_flags" $unit_nginx_http || return 1
        compile "$build/obj-$1" "$warnings $more_flags" $unit_http || return 1
    fi

    if [ "$1" = scan_portable ]; then
        compile "$build/obj-$1" "$warnings -U__SSE2__" "$unit_scan" || return 1
        set -- "$1" "$build/obj/ngx_string.o" "$build/obj/ngx_palloc.o" \
            "$build/obj/ngx_alloc.o" "$build/obj/stub.o"
    else
        set -- "$1" "$build"/obj/*.o
    fi

    out=$1
    shift

    $CLANG -fsanitize=fuzzer,$sanitize "$build/obj-$out"/*.o "$@" \
        -o "$build/$out"
}

run() {    # name
    case $1 in
        line | sasl | plan) len=512 ;;
        reply) len=8192 ;;
        http) len=10000 ;;
        scan | scan_portable) len=256 ;;
        *) len=1024 ;;
    esac

    mkdir -p "$build/corpus/$1" "$build/found"

    # after 8 seconds an input is too slow, above 1 GiB it takes too much

    if "$build/$1" -max_total_time="$seconds" -max_len=$len -timeout=8 \
        -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$build/found/$1-" \
        -dict="$dir/fuzz/$name.dict" \
        "$build/corpus/$1" "$dir/fuzz/corpus/$name" > "$build/$1.log" 2>&1
    then
        cov=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$build/$1.log" | tail -n 1)
        execs=$(sed -n 's/^stat::number_of_executed_units: *//p' \
                    "$build/$1.log")
        echo "$1: nothing found, $execs executions, $cov edges covered"
        return 0
    fi

    echo "$1: FAILED" >&2
    tail -n 60 "$build/$1.log" >&2
    return 1
}

{ compile "$build/obj" -w $unit_nginx \
    && compile "$build/obj" "$warnings" $unit_parsers "$dir/unit/stub.c"; } \
    || exit 2

for t in "$@"; do

    if ! target "$t"; then
        echo "run.sh: \"$t\" cannot be built" >&2
        exit 2
    fi

    if ! run "$t"; then
        found=1
    fi
done

[ $found -eq 0 ] || echo "run.sh: see $build" >&2

exit $found
