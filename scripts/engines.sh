#!/usr/bin/env bash
# Makes a small Debian with container engines in it, to test with: containerd, Docker, podman and what they need.
#
# Usage: scripts/engines.sh [SUITE]      (default: trixie)
#
# Prints the folder, which `scripts/in-root.sh` makes the root file system of a lane. The second run costs nothing, the
# first a minute; `rm -r` of the folder starts afresh. Needs root and mmdebstrap. The mirror is the one that this machine's
# apt uses, and nothing is installed on this machine.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"

suite=${1:-trixie}
packages=(aardvark-dns busybox-static ca-certificates conmon containerd containernetworking-plugins crun curl docker.io
    fuse-overlayfs iproute2 iptables netavark nftables podman procps python3 runc slirp4netns strace uidmap util-linux)
# Before, docker.io had the client too.
[ "$suite" = bookworm ] || packages+=(docker-buildx docker-cli passt)
recipe=$(cat "$0" <(echo "$suite") | sha256sum | cut -c 1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/corten/engines/$suite-$recipe

make_root() {
    local work=$folder.new mirror
    command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: apt-get install mmdebstrap"
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "no Debian archive in this machine's apt sources"
    rm -rf -- "$work"
    echo "engines: a Debian $suite with ${packages[*]}" >&2
    # Check-Valid-Until: a mirror may hold an index of sid that is past its date.
    mmdebstrap --quiet --variant=apt --mode=root --include="$(IFS=,; echo "${packages[*]}")" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$work" "$mirror" >&2
    echo 'tester:x:1000:1000::/home/tester:/bin/sh' >>"$work/etc/passwd"
    echo 'tester:x:1000:' >>"$work/etc/group"
    echo "tester:100000:65536" | tee "$work/etc/subuid" >"$work/etc/subgid"
    # Of the machine that made it.
    echo >"$work/etc/resolv.conf"
    printf '127.0.0.1 localhost lane\n' >"$work/etc/hosts"
    : >"$work/etc/apt/sources.list"
    # What an older recipe made, or an interrupted run.
    find "${folder%/*}" -mindepth 1 -maxdepth 1 -name "$suite-*" ! -path "$work" -exec rm -rf -- {} +
    mv -T "$work" "$folder"
}

mkdir -p "${folder%/*}"
exec 9>"${folder%/*}/.lock"
flock 9
[ -d "$folder" ] || make_root
echo "$folder"
