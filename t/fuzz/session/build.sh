#!/bin/bash
#
# build.sh NGINX_SRC OUT - builds OUT/session, nginx with the module and
# session.c in one program, with clang's libFuzzer and sanitizers.  COVERAGE=1:
# for llvm-cov.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
from=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
clang=${CLANG:-clang}

flags="-g -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined
    -fno-sanitize=nonnull-attribute,function,pointer-overflow,alignment
    -fno-sanitize-recover=undefined -DNGX_DEBUG_PALLOC=1
    -DNGX_HAVE_NONALIGNED=0"
link="-fsanitize=address,undefined"

if [ -n "${COVERAGE:-}" ]; then
    flags="$flags -fprofile-instr-generate -fcoverage-mapping"
    link="$link -fprofile-instr-generate"
fi

tree=$out/nginx

if [ ! -f "$tree/objs/Makefile" ] || [ "$root/config" -nt "$tree/objs/Makefile" ]
then
    rm -rf "$tree"
    mkdir -p "$tree"
    cp -R "$from/." "$tree"
    rm -rf "$tree/objs"
    [ -f "$tree/configure" ] || ln -s auto/configure "$tree/configure"
    (cd "$tree" && ASAN_OPTIONS=detect_leaks=0 ./configure \
        --with-cc="$clang" --with-stream --with-stream_ssl_module \
        --with-cc-opt="$(echo $flags) -Wno-error" --with-ld-opt="$link" \
        --add-module="$root") > "$out/configure.log" 2>&1 \
        || { tail -n 5 "$out/configure.log"; exit 1; }
fi

ASAN_OPTIONS=detect_leaks=0 make -s -C "$tree" -f objs/Makefile -j "${JOBS:-2}" \
    objs/nginx > "$out/make.log" 2>&1 || { tail -n 20 "$out/make.log"; exit 1; }

# main() is the fuzzer's

mapfile -t objects < <(find "$tree/objs" -name '*.o' ! -name 'main_*.o')
libraries=$(grep -oE '(^|[[:space:]])-l[a-z0-9-]+' "$tree/objs/Makefile" \
    | sort -u | tr '\n' ' ')

objcopy --redefine-sym main=ngx_main "$tree/objs/src/core/nginx.o" \
    "$tree/objs/src/core/main_nginx.o"
mapfile -t objects < <(printf '%s\n' "${objects[@]}" \
    | grep -v '/src/core/nginx\.o$')

$clang $flags -D_GNU_SOURCE -I "$tree/src/core" -I "$tree/src/event" \
    -I "$tree/src/event/modules" -I "$tree/src/event/quic" \
    -I "$tree/src/os/unix" -I "$tree/objs" -c "$here/session.c" \
    -o "$out/session.o"

$clang -fsanitize=fuzzer,address,undefined $link \
    -Wl,--wrap=ngx_single_process_cycle -Wl,-E -o "$out/session" \
    "$out/session.o" "$tree/objs/src/core/main_nginx.o" "${objects[@]}" \
    $libraries
