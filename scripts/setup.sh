#!/usr/bin/env bash
# Installs the Debian packages that are missing: setup.sh build|run|test|measure
#
# build: compile the workspace; run: and run the example bundle; test: and run the lints and all tests;
# measure: build, and compare with other runtimes (scripts/peers.sh fetches these).
# Looks for the thing itself, not for the package, so nothing is touched on a machine that has it from elsewhere.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"

missing=()

# need PACKAGE COMMAND...: the package is missing when the command fails.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

# The binaries are static, so the C library's archive is needed, not only its headers.
has_libc_archive() {
    local archive
    archive=$(cc -print-file-name=libc.a) && [ -f "$archive" ]
}

what=${1:-test}
case $what in
    build | run | test | measure) ;;
    *) die "usage: setup.sh build|run|test|measure" ;;
esac

need make command -v make
need gcc command -v cc
need libc6-dev has_libc_archive
if [ "$what" != build ]; then
    need binutils command -v readelf
    need busybox-static static_busybox
    need util-linux command -v unshare
    need mount command -v mount
fi
if [ "$what" = test ]; then
    need binutils command -v nm
    need strace command -v strace
    need shellcheck command -v shellcheck
    # `corten ps` runs it, and tests kill(1).
    need procps command -v ps
    # Checks of network devices.
    need iproute2 command -v ip
    need mmdebstrap command -v mmdebstrap
    # Debian's python, whatever other one comes first in PATH: a test compares filters with libseccomp's.
    need python3-seccomp /usr/bin/python3 -c 'import seccomp'
fi
if [ "$what" = measure ]; then
    need strace command -v strace
    need hyperfine command -v hyperfine
    need jq command -v jq
    # For the shim's figures.
    need containerd command -v containerd
    need busybox-static static_busybox
    need procps command -v pgrep
    need python3 command -v python3
fi

if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    command -v apt-get >/dev/null || die "not Debian; please install: ${missing[*]}"
    echo "setup: installing ${missing[*]}"
    apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    # A foreign source that can't be reached must not end it here: the packages are Debian's own.
    as_root "${apt[@]}" update || echo "setup: apt-get update failed, trying with the lists at hand" >&2
    as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
fi

command -v cargo >/dev/null || die "no cargo: install Rust first (https://rustup.rs)"
# rust-toolchain.toml names the version; rustup fetches it if it has another one.
wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$repo/rust-toolchain.toml")
found=$(cd "$repo" && rustc --version | cut -d' ' -f2)
[ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n1)" = "$wanted" ] ||
    die "rustc is $found, at least $wanted is needed: rustup toolchain install $wanted"

# Only a test needs them, and it is skipped without.
if [ "$what" = test ]; then
    bash "$repo/scripts/profiles.sh" >/dev/null || echo "setup: without the seccomp profiles of Docker and podman" >&2
fi
