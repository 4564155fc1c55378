#!/bin/bash
#
# sources.sh VERSION - prints the path of nginx's sources of that version,
# without touching them: build/src/nginx-VERSION, which is downloaded when
# it is not there.  VERSION: 1.22.1 (Debian 12), 1.26.3 (Debian 13), newest
# (of Debian unstable).
#
# They come from Debian's archive: from the mirror that this machine uses,
# through an apt configuration of its own below build/apt, with apt's check
# of signatures.  The machine's own configuration and lists stay untouched.

. "$(dirname "$0")/common.sh"

version=${1:?usage: sources.sh VERSION}
src=$build/src/nginx-$version

if [ -n "${NGINX_SRC:-}" ] && [ "$(source_version "$NGINX_SRC")" = "$version" ]
then
    (cd "$NGINX_SRC" && pwd)
    exit 0
fi

if [ -f "$src/configure" ]; then
    echo "$src"
    exit 0
fi

case $version in
    1.22.1) suite=bookworm ;;
    1.26.3) suite=trixie ;;
    newest) suite=sid ;;
    *) die "nginx $version is not in Debian's archive: get its sources" \
           "and say NGINX_SRC=/path/to/nginx-$version" ;;
esac

command -v apt-get >/dev/null \
    || die "there is no apt here: get the sources of nginx $version" \
           "and say NGINX_SRC=/path/to/nginx-$version"


# the mirror of Debian's archive that this machine is configured to use
mirror() {
    apt-get indextargets --format '$(LABEL)|$(SITE)' 'Created-By: Packages' \
        | sed -n 's/^Debian|//p' | head -n 1
}

# the same where no list has been downloaded yet
mirror_unlabeled() {
    apt-get indextargets --format '$(SITE)' 'Created-By: Packages' \
        | grep -E '/debian/?$' | head -n 1
}

uri=$(mirror)
[ -n "$uri" ] || uri=$(mirror_unlabeled || :)
[ -n "$uri" ] \
    || die "apt is not configured for Debian's archive here: get the" \
           "sources of nginx $version and say NGINX_SRC=/path/to/them"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keyring" ] && signed="[signed-by=$keyring] " || signed=

apt=$build/apt/$suite
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/dl"
mkdir -p "$build/src"

echo "deb-src $signed$uri $suite main" >"$apt/sources.list"

# read last, over the machine's own, whose proxies and the like stay
cat >"$apt/apt.conf" <<END
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
END

say "downloading nginx $version from $uri ($suite)" >&2

quietly apt-get -qq -c "$apt/apt.conf" update

(cd "$apt/dl" && quietly apt-get -qq -c "$apt/apt.conf" \
    source --download-only --tar-only nginx)

file=$version
[ "$version" != newest ] || file=*
tar=$(echo "$apt/dl/nginx_"$file.orig.tar.*)
[ -f "$tar" ] || die "$suite has another nginx than $version: $(ls "$apt/dl")"

rm -rf "$src.tmp"
mkdir "$src.tmp"
tar -xf "$tar" -C "$src.tmp" --strip-components=1 --no-same-owner
mv "$src.tmp" "$src"
rm -rf "$apt"
rmdir "$build/apt" 2>/dev/null || :

echo "$src"
