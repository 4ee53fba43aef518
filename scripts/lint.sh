#!/usr/bin/env bash
# rustfmt, clippy and shellcheck over the whole repository; a warning is an error. Runs all three, then says which failed.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
set_target
cd "$repo" || exit 1

failed=()
cargo fmt --all --check || failed+=(rustfmt)
cargo clippy --workspace --all-targets -- -D warnings || failed+=(clippy)
# Notes on style (info) are advice, warnings are not.
shellcheck --external-sources --severity=warning .ci/run scripts/*.sh examples/bundle/rootfs/hello ||
    failed+=(shellcheck)

[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
