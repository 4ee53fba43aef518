#!/usr/bin/env bash
# Builds programs for use and puts them into target/bin: build.sh [corten] [shim], by default both.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
set_target
cd "$repo"
mkdir -p "$bin"

# put FILE [KIB]: for use, unless it is larger than that.
put() {
    local size
    size=$(stat -c %s "$1")
    [ "$size" -lt $((${2:-65536} * 1024)) ] || die "${1##*/} has $size bytes, and may have $2 KiB: what is new in it?"
    # A new file, and not new contents: the old one may be running.
    install -m755 "$1" "$bin/.${1##*/}"
    mv -f "$bin/.${1##*/}" "$bin/${1##*/}"
}

[ $# -gt 0 ] || set -- corten shim
for what; do
    case $what in
        corten)
            # Started once per call, it saves what glibc's start costs, see docs/adr/0024.
            if musl=$(musl_target); then
                cargo build --profile dist --target "$musl" -p corten-cli
                put "$target_dir/$musl/dist/corten" 2048
            else
                echo "build: no target for musl here: corten is linked with glibc, which makes every start slower" >&2
                cargo build --release -p corten-cli
                put "$target_dir/$triple/release/corten"
            fi
            ;;
        shim)
            cargo build --release -p corten-shim
            put "$target_dir/$triple/release/containerd-shim-corten-v2" 4096
            ;;
        *) die "usage: build.sh [corten] [shim]" ;;
    esac
done
