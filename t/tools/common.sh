# What the scripts of this directory share.  To be sourced by bash.

set -eu -o pipefail

# no stdin, no questions: the scripts run in CI as they do by hand
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=$root/t/tools
build=${BUILD:-$root/build}
case $build in /*) ;; *) build=$root/$build ;; esac
export BUILD=$build
packages=$build/packages      # Debian packages, unpacked but not installed
jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}
name=ngx_smtp_relay_module


say() {
    printf '==> %s\n' "$*"
}

warn() {
    printf 'warning: %s\n' "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# run a command quietly; show what it said only if it fails
quietly() {
    local log rc=0

    mkdir -p "$build"
    log=$(mktemp "$build/log.XXXXXX")
    "$@" </dev/null >"$log" 2>&1 || rc=$?

    if [ $rc -ne 0 ]; then
        cat "$log" >&2
        rm -f "$log"
        printf 'error: "%s" failed\n' "$*" >&2
        return $rc
    fi

    rm -f "$log"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif ! command -v sudo >/dev/null; then
        die "\"$*\" needs root, and there is no sudo"
    elif [ -t 2 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || :)" \
        = installed ]
}


# --- nginx ---------------------------------------------------------------

# Where Debian's nginx is: installed, or unpacked below $packages.  Sets
# nginx (binary), nginx_dev (headers, configure) and nginx_modules.
debian_nginx() {
    if installed nginx && installed libnginx-mod-stream; then
        nginx=/usr/sbin/nginx
        nginx_modules=/usr/lib/nginx/modules
    else
        nginx=$packages/nginx/usr/sbin/nginx
        nginx_modules=$packages/libnginx-mod-stream/usr/lib/nginx/modules
    fi

    if installed nginx-dev; then
        nginx_dev=/usr/share/nginx/src
    else
        nginx_dev=$packages/nginx-dev/usr/share/nginx/src
    fi
}

# the version of a source tree
source_version() {
    sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$1/src/core/nginx.h"
}

# run_build [NAME=value ...] - runs build.sh with these in its environment,
# and exports what it has to tell
run_build() {
    local file line

    mkdir -p "$build"
    file=$(mktemp "$build/result.XXXXXX")

    if ! env "$@" RESULT="$file" "$tools/build.sh"; then
        rm -f "$file"
        return 1
    fi

    while read -r line; do
        export "${line?}"
    done <"$file"

    rm -f "$file"
}

# The smtp-sink to use; sets smtp_sink, and the path of its libraries.
find_smtp_sink() {
    if command -v smtp-sink >/dev/null; then
        smtp_sink=$(command -v smtp-sink)
    elif [ -x /usr/sbin/smtp-sink ]; then
        smtp_sink=/usr/sbin/smtp-sink
    else
        smtp_sink=$packages/postfix/usr/sbin/smtp-sink
        export LD_LIBRARY_PATH=$packages/postfix/usr/lib/postfix
    fi
}
