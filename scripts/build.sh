#!/usr/bin/env bash
# Builds programs for use and puts them into target/bin: build.sh [corten] [shim], by default both.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
set_target
cd "$repo"
mkdir -p "$bin"

# A new file, and not new contents: the old one may be running.
put() {
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
                put "$target_dir/$musl/dist/corten"
            else
                echo "build: no target for musl here: corten is linked with glibc, which makes every start slower" >&2
                cargo build --release -p corten-cli
                put "$target_dir/$triple/release/corten"
            fi
            ;;
        shim)
            cargo build --release -p corten-shim
            put "$target_dir/$triple/release/containerd-shim-corten-v2"
            ;;
        *) die "usage: build.sh [corten] [shim]" ;;
    esac
done
