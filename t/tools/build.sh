#!/bin/bash
#
# build.sh - builds the module.
#
#   build.sh                 build/ngx_smtp_relay_module.so for the nginx of
#                            Debian (installed, or unpacked by deps.sh)
#   VERSION=1.26.3 build.sh  nginx of that version from source, and the .so
#   NGINX_SRC=dir build.sh   nginx of that source, and the .so
#
# With VERSION or NGINX_SRC:
#
#   STATIC=1                 nginx with the module in it
#   SANITIZE=1               the same with ASan and UBSan (CC=gcc or clang)
#   VALGRIND=1               the same, to be run by valgrind
#   FAULT=1                  the same with ASan and t/fault, for fail_alloc.t
#   COVERAGE=dir             the same with t/fault, by clang; what has been run
#                            of the module is noted in dir/*.profraw
#   TREE=1                   sources configured for it, nothing built
#   TREE=module              the same with the module
#
# nginx is always built in a copy of its sources.  RESULT=file has the
# environment of the tests, or NGX_SRC of TREE, written there.

. "$(dirname "$0")/common.sh"

cc=${CC:-gcc}
warn_opt="-Wall -Wextra -Wno-unused-parameter -Werror"

common_opt=(
    --with-compat --with-debug --with-threads
    --with-stream --with-stream_ssl_module --with-stream_ssl_preread_module
    --with-stream_realip_module
    --with-http_ssl_module --with-http_stub_status_module
)


# configure TREE FROM OPTION ... - a configured copy of FROM, made anew
# only when something that configure looks at has changed
configure() {
    local tree=$1 from=$2 key
    shift 2

    key=$(
        {
            printf '%s\n' "$cc" "$from" "$@"
            cat "$root/config" "$root/$name"/*.html "$from/src/core/nginx.h"
            ls "$root/$name"
        } | sha256sum
    )

    if [ "$(cat "$tree/.key" 2>/dev/null || :)" = "$key" ]; then
        return
    fi

    say "configuring nginx $(source_version "$from") in ${tree#"$root"/}"

    rm -rf "$tree"
    mkdir -p "$tree"
    cp -R "$from/." "$tree"
    rm -rf "$tree/objs" "$tree/Makefile"
    [ -f "$tree/configure" ] || ln -s auto/configure "$tree/configure"
    (cd "$tree" && quietly ./configure --with-cc="$cc" "$@")
    echo "$key" >"$tree/.key"
}

compile() {
    say "building $2 of ${1#"$root"/}"
    quietly make -s -C "$1" -f objs/Makefile -j "$jobs" $2
}

# does nginx take the module?
check_load() {
    local tmp

    tmp=$(mktemp -d "$build/load.XXXXXX")
    cat >"$tmp/nginx.conf" <<END
error_log stderr;
pid $tmp/nginx.pid;
$2
events {}
END

    if ! quietly "$1" -t -q -p "$tmp" -e stderr -c "$tmp/nginx.conf"; then
        rm -rf "$tmp"
        die "nginx does not load the module"
    fi

    rm -rf "$tmp"
}

# result NAME=value ...
result() {
    local v

    for v; do
        [ "${v#*=}" = "" ] || say "${v#*=}"
    done

    [ -z "${RESULT:-}" ] || printf "%s\n" "$@" >"$RESULT"
}


build_debian() {
    local tree=$build/nginx-debian info cc_opt ld_opt so

    debian_nginx
    [ -x "$nginx" ] && [ -f "$nginx_dev/configure" ] \
        || die "Debian's packages nginx, libnginx-mod-stream and nginx-dev" \
               "are not here: run t/tools/deps.sh build, or say" \
               "NGINX_SRC=/path/to/nginx"

    # the flags that the packaged nginx was built with

    info=$("$nginx" -V 2>&1)
    cc_opt=$(sed -n "s/.*--with-cc-opt='\([^']*\)'.*/\1/p" <<<"$info")
    ld_opt=$(sed -n "s/.*--with-ld-opt='\([^']*\)'.*/\1/p" <<<"$info")

    grep -q "nginx/$(source_version "$nginx_dev")" <<<"$info" \
        || die "$nginx and the headers in $nginx_dev are of different" \
               "versions"

    # conf_flags are Debian's configure options for modules; what they leave
    # out does not change the layout of a structure, but our config asks for
    # stream with TLS

    NGX_CONF_FLAGS=()
    . "$nginx_dev/conf_flags"

    configure "$tree" "$nginx_dev" \
        --with-cc-opt="$cc_opt $warn_opt" --with-ld-opt="$ld_opt" \
        "${NGX_CONF_FLAGS[@]}" --with-stream --with-stream_ssl_module \
        --add-dynamic-module="$root"

    compile "$tree" modules

    so=$build/$name.so
    cp "$tree/objs/$name.so" "$so.tmp"
    mv "$so.tmp" "$so"

    check_load "$nginx" "load_module $nginx_modules/ngx_stream_module.so;
        load_module $so;"

    result \
        "TEST_NGINX_BINARY=$nginx" \
        "TEST_NGINX_STREAM_MODULE=$nginx_modules/ngx_stream_module.so" \
        "TEST_NGINX_MODULE=$so"
}

build_dynamic() {
    local tree=$build/nginx-$1 so

    configure "$tree" "$2" "${common_opt[@]}" \
        --with-cc-opt="-g -O2 $warn_opt" --add-dynamic-module="$root"

    compile "$tree" "binary modules"

    so=$tree/objs/$name.so
    check_load "$tree/objs/nginx" "load_module $so;"

    # sources of one's own: this is the module that is wanted
    [ -z "$own" ] || cp "$so" "$build/$name.so"

    result \
        "TEST_NGINX_BINARY=$tree/objs/nginx" \
        "TEST_NGINX_STREAM_MODULE=" \
        "TEST_NGINX_MODULE=$so"
}

# configured, not built: for those who build parts of nginx themselves
build_tree() {
    local tree=$build/nginx-$1-tree add=()

    if [ "$TREE" = module ]; then
        tree=$build/nginx-$1-module
        add=(--add-module="$root")
    fi

    configure "$tree" "$2" "${common_opt[@]}" --with-cc-opt="-g -O2" \
        "${add[@]}"
    result "NGX_SRC=$tree"
}

build_static() {
    local tree=$build/nginx-$1-$3 cc_opt=$4 ld_opt=$5

    configure "$tree" "$2" "${common_opt[@]}" \
        --with-poll_module --with-select_module \
        --with-cc-opt="$cc_opt $warn_opt" --with-ld-opt="$ld_opt" \
        --add-module="$root" "${@:6}"

    compile "$tree" binary
    check_load "$tree/objs/nginx" ""

    result \
        "TEST_NGINX_BINARY=$tree/objs/nginx" \
        "TEST_NGINX_STREAM_MODULE=" \
        "TEST_NGINX_MODULE="
}

# UBSan: nginx before 1.27 passes NULL with length 0 to memcpy() and reads
# integers unaligned where the CPU can; neither is of interest here.
sanitize_cc="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined
    -fno-sanitize-recover=undefined -fno-sanitize=nonnull-attribute
    -DNGX_DEBUG_PALLOC=1 -DNGX_HAVE_NONALIGNED=0"
sanitize_cc=$(echo $sanitize_cc)

# NGX_DEBUG_PALLOC gives each allocation its own block, so that the tools
# see what pools hide


if [ -z "${NGINX_SRC:-}${VERSION:-}" ]; then
    if [ -n "${STATIC:-}${SANITIZE:-}${VALGRIND:-}${FAULT:-}${COVERAGE:-}" ]; then
        VERSION=1.26.3
    else
        build_debian
        exit 0
    fi
fi

own=${NGINX_SRC:-}

if [ -z "$own" ]; then
    from=$("$tools/sources.sh" "$VERSION")
else
    from=$(cd "$own" && pwd)
    [ -f "$from/auto/configure" ] || [ -f "$from/configure" ] \
        || die "no nginx sources in $own"
fi

version=$(source_version "$from")

if [ -n "${TREE:-}" ]; then
    build_tree "$version" "$from"
elif [ -n "${SANITIZE:-}" ]; then
    # leaks of nginx -t are nobody's
    export ASAN_OPTIONS=detect_leaks=0
    build_static "$version" "$from" sanitize "$sanitize_cc" \
        "-fsanitize=address,undefined"
elif [ -n "${VALGRIND:-}" ]; then
    build_static "$version" "$from" valgrind "-O1 -g -DNGX_DEBUG_PALLOC=1" ""
elif [ -n "${FAULT:-}" ]; then
    export ASAN_OPTIONS=detect_leaks=0
    build_static "$version" "$from" fault "$sanitize_cc -fno-pie" \
        "-fsanitize=address,undefined -no-pie" --add-module="$root/t/fault"
elif [ -n "${COVERAGE:-}" ]; then
    cc=${CLANG:-clang}
    mkdir -p "$COVERAGE"
    echo "src:$root/$name/*" >"$COVERAGE/list"
    cover="-fprofile-instr-generate=$COVERAGE/nginx-%4m.profraw"
    cover="$cover -fcoverage-mapping -fprofile-list=$COVERAGE/list"
    build_static "$version" "$from" coverage "-O1 -g -fno-pie $cover" \
        "-no-pie -fprofile-instr-generate" --add-module="$root/t/fault"
elif [ -n "${STATIC:-}" ]; then
    build_static "$version" "$from" static "-g -O2" ""
else
    build_dynamic "$version" "$from"
fi
