#!/usr/bin/env bash
# containerd, its CRI, Docker and podman of Debian with Corten, natively: all of the scripts that try one.
#
# Usage: scripts/try-engines.sh [SUITE...]      (default: trixie)
#
# The programs are those of the debug build (`cargo build --workspace`). Each script runs in a native lane of its own, on a
# root file system that scripts/engines.sh makes; nothing of this machine is touched but the cache. A line begins with the
# suite and the script; the last one is the sum, `N passed, N failed, N skipped`.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
set_target
programs=$target_dir/$triple/debug
[ -x "$programs/conformance" ] || die "not built yet: cargo build --workspace"
declare -A sum=([passed]=0 [failed]=0 [skipped]=0)

# try SUITE ROOT SCRIPT ARGUMENT...
try() {
    local name="$1, ${3%.sh}" root=$2 said sum_line word status
    [[ ${4:-/} = /* ]] || name+=" $4"
    said=$(mktemp)
    as_root "$programs/conformance" native --limit 300 -- "$repo/scripts/in-root.sh" "$root" "$programs" \
        "/host/scripts/$3" "${@:4}" 2>&1 | tee "$said" | sed "s:^:$name\: :"
    status=$?
    sum_line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$said" | tail -n1) || sum_line="no sum: 0 passed, 1 failed"
    for word in passed failed skipped; do
        sum[$word]=$((sum[$word] + $(sed -nE "s/^.*\\b([0-9]+) $word.*/\\1/p" <<<"$sum_line" | grep . || echo 0)))
    done
    # What it left behind, say, is in no sum of its own.
    [ "$status" = 0 ] || [[ $sum_line =~ [1-9][0-9]*\ failed ]] || sum[failed]=$((sum[failed] + 1))
    rm -f -- "$said"
}

# The roots in it are root's, the folder itself is not.
mkdir -p "${XDG_CACHE_HOME:-$HOME/.cache}/corten"
for suite in "${@:-trixie}"; do
    if ! root=$(as_root env "XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}" "$repo/scripts/engines.sh" "$suite"); then
        sum[failed]=$((sum[failed] + 1))
        continue
    fi
    try "$suite" "$root" containerd.sh check /host/bin
    try "$suite" "$root" containerd.sh gobinary /host/bin
    try "$suite" "$root" cri.sh /host/bin /usr/lib/cni
    try "$suite" "$root" docker.sh
    try "$suite" "$root" podman.sh
done
echo "${sum[passed]} passed, ${sum[failed]} failed, ${sum[skipped]} skipped"
[ "${sum[failed]}" = 0 ]
