#!/bin/bash
#
# test.sh [TEST ...] - gets what is missing, builds, runs the tests (all of
# t/*.t by default).  Those that fail are run once more, one by one and
# verbosely; what counts is the first run.
#
# VERSION, NGINX_SRC, STATIC, SANITIZE, VALGRIND choose the build, see
# build.sh.  TEST_JOBS: how many tests at a time; most of them wait.

. "$(dirname "$0")/common.sh"

cd "$root"

groups="build demo test"
[ -z "${SANITIZE:-}" ] || groups="$groups sanitize"
[ -z "${VALGRIND:-}" ] || groups="$groups valgrind"

"$tools/deps.sh" $groups
run_build

# configured sources with all of nginx's C files, for t/unit and t/fuzz

NGX_SRC=${TEST_NGINX_BINARY%/objs/nginx}

if [ "$NGX_SRC" = "$TEST_NGINX_BINARY" ]; then
    debian_nginx
    run_build TREE=1 VERSION="$(source_version "$nginx_dev")"
fi

export NGX_SRC

if [ -n "${SANITIZE:-}" ]; then
    # nginx frees what belongs to a configuration only by ending
    lsan=suppressions=$tools/lsan.supp:print_suppressions=0
    export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
    export UBSAN_OPTIONS=print_stacktrace=1
    export LSAN_OPTIONS=$lsan
fi

if [ -n "${VALGRIND:-}" ]; then
    export VALGRIND_OPTS="--suppressions=$tools/valgrind.supp"
    export TEST_NGINX_VALGRIND=1
    export TEST_NGINX_TIMEOUT_FACTOR=${TEST_NGINX_TIMEOUT_FACTOR:-10}
fi

find_smtp_sink
export SMTP_SINK=$smtp_sink

[ $# -gt 0 ] || set -- t/*.t

say "testing $("$TEST_NGINX_BINARY" -v 2>&1 | sed 's/.*: //'): $# files"

state=$build/prove.state
rm -f "$state"

if prove -j "${TEST_JOBS:-$((jobs * 2))}" --timer -I t/lib \
        --statefile "$state" --state=save "$@" </dev/null
then
    exit 0
fi

say "what failed, once more"

prove -v -I t/lib --statefile "$state" --state=failed </dev/null || :
exit 1
