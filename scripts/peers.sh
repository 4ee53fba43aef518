#!/bin/bash
# Fetches newer crun and runc than this machine's, to test and measure against.
#
# Usage: scripts/peers.sh [SUITE]      (default: sid)
#
# Prints two lines, the paths of a `crun` and a `runc` that run on this machine
# as they are: plain ELF files, no wrapper, so that a measured time is theirs.
# The second run costs nothing; `rm -r` of the cache directory starts afresh.
#
# The packages come through a private apt directory: own sources list, own state,
# own cache. The mirror is the one this machine's apt uses, only the suite differs,
# and nothing of the machine's own apt or dpkg state is read or changed. The newer
# C library lies beside the programs; their interpreter and library path are set
# to it. DT_RPATH (not RUNPATH) because libraries must find each other as well.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"

suite=${1:-sid}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/corten/peers/$suite
programs=(crun runc)
say() { printf 'peers: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

paths() { for program in "${programs[@]}"; do echo "$cache/bin/$program"; done; }
usable() {
    local program
    for program in "${programs[@]}"; do
        "$cache/bin/$program" --version >/dev/null 2>&1 || return 1
    done
}

private_apt() {
    local apt=$work/apt from
    from=$(debian_mirror)
    [ -n "$from" ] || die "no Debian archive in this machine's apt sources"
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,etc}
    : >"$apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from $suite main" \
        >"$apt/sources.list"
    # Check-Valid-Until: a mirror may hold an index of sid that is past its date.
    apt_options=(-qq -o APT::Sandbox::User=root
        -o Dir::State="$apt/state" -o Dir::State::status="$apt/status"
        -o Dir::Cache="$apt/cache" -o Dir::Etc::sourcelist="$apt/sources.list"
        -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Acquire::Check-Valid-Until=false -o Acquire::Check-Date=false
        -o Acquire::Languages=none -o APT::Install-Recommends=false
        -o APT::Get::AllowUnauthenticated=false -o Debug::NoLocking=1)
    apt-get "${apt_options[@]}" update >&2
    # An empty dpkg status: so the whole closure is fetched, the C library too.
    apt-get "${apt_options[@]}" --download-only --yes \
        -o Dir::Cache::archives="$apt/cache/archives" \
        install "${programs[@]}" patchelf >&2
}

build() {
    local deb program file loader
    work=$(mktemp -d "$cache.new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    say "fetching ${programs[*]} from $suite"
    private_apt
    for deb in "$work"/apt/cache/archives/*.deb; do dpkg-deb -x "$deb" "$work/root"; done

    mkdir -p "$work/bin" "$work/lib"
    find "$work/root" -path '*/lib/*-linux-gnu/*.so*' ! -path '*/gconv/*' -type f,l \
        -exec cp -a {} "$work/lib/" \;
    loader=$(find "$work/root" -name 'ld-linux*.so.*' -type f | head -1)
    [ -n "$loader" ] || die "no ELF loader among the packages of $suite"
    for program in "${programs[@]}"; do
        file=$(find "$work/root" -path "*bin/$program" -type f | head -1)
        [ -n "$file" ] || die "$suite has no $program"
        cp "$file" "$work/bin/$program"
        # patchelf itself is of the newer suite too: run it through its own loader.
        "$loader" --library-path "$work/lib" "$work/root/usr/bin/patchelf" \
            --set-interpreter "$cache/lib/${loader##*/}" --force-rpath --set-rpath "$cache/lib" \
            "$work/bin/$program"
    done
    rm -rf "$work/root" "$work/apt"
    rm -rf "$cache"
    mv -T "$work" "$cache"
}

mkdir -p "${cache%/*}"
exec 9>"${cache%/*}/.lock"
flock 9
usable || build
usable || die "the fetched programs don't start: $("$cache/bin/crun" --version 2>&1 | head -1)"
for program in "${programs[@]}"; do
    say "$("$cache/bin/$program" --version | head -1)"
done
paths
