#!/usr/bin/env bash
# rustfmt, clippy and shellcheck over the whole repository; a warning is an error. Runs all three, then says which failed.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
set_target
cd "$repo" || exit 1

failed=()
cargo fmt --all --check || failed+=(rustfmt)
# No target of cargo: conformance/build.rs compiles it.
rustfmt --check --edition 2024 conformance/floor/main.rs || failed+=("rustfmt of floor")
cargo clippy --workspace --all-targets -- -D warnings || failed+=(clippy)
# Everything that begins as a shell script, and what is sourced. Notes on style (info) are advice, warnings are not.
mapfile -t scripts < <(
    find . \( -name target -o -name .git \) -prune -o -type f \
        -exec awk '/^#!.*sh( |$)/ { print FILENAME } { nextfile }' {} +
    printf '%s\n' scripts/env.sh scripts/tried.sh
)
shellcheck --external-sources --severity=warning "${scripts[@]}" ||
    failed+=(shellcheck)

[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
