#!/bin/bash
#
# deps.sh GROUP ... - gets what is missing, and nothing else, from the
# distribution's archive.  Groups: build demo test browser sanitize valgrind
# bench check coverage.
#
# Compilers, libraries and clients are installed by apt.  Servers are not:
# the packages of nginx, Postfix, Exim and OpenSMTPD are only unpacked, below
# build/packages, so that no service is started, no port opened, and no mail
# server that runs on this machine replaced.  Those that are installed are
# used as they are.  Without anything missing there is no network access at
# all.

. "$(dirname "$0")/common.sh"

want=()         # packages to install
unpack=()       # packages to unpack
optional=       # those of them that can be done without
updated=


# a package, needed whatever is on the PATH
package() {
    local p

    for p; do
        installed "$p" || want+=("$p")
    done
}

# a command and the package that has it
tool() {
    command -v "$1" >/dev/null || want+=("$2")
}

has_libfuzzer() {
    command -v clang >/dev/null || return 1
    ls "$(clang -print-resource-dir)"/lib/*/libclang_rt.fuzzer-*.a \
        >/dev/null 2>&1
}

# a package to be unpacked, not installed
server() {
    local p

    for p; do
        installed "$p" || [ -e "$packages/$p/.complete" ] || unpack+=("$p")
    done
}

# one that only tests need that are skipped without it; they need root
optional_server() {
    [ "$(id -u)" = 0 ] || return 0
    optional="$optional $* "
    server "$@"
}

# one that only tests need that are skipped without it
optional_package() {
    optional="$optional $* "
    server "$@"
}

update() {
    [ -z "$updated" ] || return 1
    updated=1
    say "apt-get update"
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
}

# does apt know the package?
known() {
    apt-cache show --no-all-versions "$1" >/dev/null 2>&1
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -qq -y --no-install-recommends --no-remove \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
        -o Acquire::Retries=3 install "$@"
}

install() {
    local p

    mapfile -t want < <(printf '%s\n' "${want[@]}" | sort -u)
    set -- "${want[@]}"

    for p; do
        known "$p" || { update || :; break; }
    done

    say "apt-get install $*"

    # the lists may be older than the archive
    if ! quietly apt_install "$@" 2>"$build/apt.log"; then
        update || { cat "$build/apt.log" >&2; exit 1; }
        quietly apt_install "$@"
    fi

    rm -f "$build/apt.log"
}

# the version of a package that suits what is installed
candidate() {
    case $1 in
        nginx-dev | libnginx-mod-stream)
            if installed nginx; then
                dpkg-query -W -f '${source:Version}' nginx
                return
            fi
            ;;
    esac
}

download() {
    local version
    version=$(candidate "$1")

    (cd "$2" && {
        apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 \
            download "$1${version:+=$version}" ||
        apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 \
            download "$1"
    }) </dev/null
}

unpack() {
    local p tmp deb dep

    for p; do
        say "unpacking package $p below ${packages#"$root"/}"

        tmp=$packages/$p.tmp
        rm -rf "$tmp" "${packages:?}/$p"
        mkdir -p "$tmp/deb"

        known "$p" || update || :
        if ! quietly download "$p" "$tmp/deb" 2>"$build/apt.log"; then
            if ! update || ! quietly download "$p" "$tmp/deb"; then
                cat "$build/apt.log" >&2

                case $optional in
                    *" $p "*) ;;
                    *) die "cannot download package $p" ;;
                esac

                warn "cannot download package $p: tests will be skipped"
                rm -rf "$tmp" "$build/apt.log"
                continue
            fi
        fi
        rm -f "$build/apt.log"

        deb=$(echo "$tmp"/deb/*.deb)
        dpkg-deb -x "$deb" "$tmp"

        # what its programs link with
        if [ "$p" != nginx-dev ]; then
            for dep in $(dpkg-deb -f "$deb" Depends | tr ',' '\n' \
                         | sed -n 's/^ *\(lib[^ |(]*\).*/\1/p' \
                         | grep -v '^libjs-')
            do
                installed "$dep" || want+=("$dep")
            done
        fi

        rm -rf "$tmp/deb"
        touch "$tmp/.complete"
        mv "$tmp" "$packages/$p"
    done
}


[ $# -gt 0 ] || set -- build

for group; do
    case $group in
        build)
            package gcc make libc6-dev libssl-dev libpcre2-dev zlib1g-dev
            [ -n "${NGINX_SRC:-}${VERSION:-}" ] \
                || server nginx libnginx-mod-stream nginx-dev
            ;;
        demo)
            tool swaks swaks
            tool curl curl
            tool openssl openssl
            package libnet-ssleay-perl
            command -v smtp-sink >/dev/null || [ -x /usr/sbin/smtp-sink ] \
                || server postfix
            ;;
        test)
            package perl libio-socket-ssl-perl libnet-ssleay-perl
            tool swaks swaks
            tool curl curl
            tool openssl openssl
            tool msmtp msmtp
            tool python3 python3
            tool clang clang
            has_libfuzzer || want+=(libclang-rt-dev)
            optional_server exim4-daemon-light opensmtpd
            command -v promtool >/dev/null || optional_package prometheus
            ;;
        browser)
            # large, hence not among those of the tests, which skip without
            tool chromium chromium
            tool chromedriver chromium-driver
            package fonts-dejavu-core
            ;;
        sanitize)
            # gcc brings its own libasan and libubsan
            ;;
        valgrind)
            tool valgrind valgrind
            package libc6-dbg
            ;;
        bench)
            # nginx is built from sources; Postfix takes part if installed
            package gcc make libc6-dev libssl-dev libpcre2-dev zlib1g-dev perl
            tool openssl openssl
            tool taskset util-linux
            command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] \
                || server haproxy
            ;;
        coverage)
            tool clang clang
            tool llvm-cov llvm
            ;;
        check)
            tool cppcheck cppcheck
            tool clang-tidy clang-tidy
            ;;
        *)
            die "unknown group \"$group\""
            ;;
    esac
done

[ $((${#want[@]} + ${#unpack[@]})) -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    warn "there is no apt here; these packages of Debian, or what is" \
         "equal to them, are needed: ${want[*]} ${unpack[*]}"
    exit 0
fi

mkdir -p "$packages"
[ ${#unpack[@]} -eq 0 ] || unpack "${unpack[@]}"
[ ${#want[@]} -eq 0 ] || install
