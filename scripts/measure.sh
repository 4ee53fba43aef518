#!/usr/bin/env bash
# Repeats the measurements of docs/measured.md: corten against runc and crun.
#
# Usage: scripts/measure.sh [RUNS] >BLOCK.md      (default: 100 runs of each)
#
# Prints a Markdown block: sizes, system calls of one `run` and of one `exec`, one hyperfine
# run of each with all three, and what a creation costs a large program. Everything is the same for each: the
# bundle is what `spec` writes (of runc, without a terminal) around one static `true`, on
# a tmpfs, in the native lane, with cgroup v2. The peers are those of scripts/peers.sh;
# needs root, strace, hyperfine.
set -euo pipefail
here=$(readlink -f "$(dirname "$0")")
runs=${1:-100}

# The second half, in the lane: $1 the directory of the binaries, then the runtimes.
if [ "${1:-}" = --in-lane ]; then
    built=$2 runs=$3
    shift 3
    mkdir -p /run/bundle/rootfs/{dev,proc,sys,tmp}
    cd /run/bundle
    cp "$built/probe" rootfs/true
    "$2" spec
    jq '.process.terminal = false | .process.args = ["/true", "true"]' config.json >new.json
    mv new.json config.json

    # $1: the command and its arguments; $2...: the runtimes.
    measure() {
        local what=$1 runtime name calls failed processes execs commands=()
        shift
        echo "| runtime | bytes | system calls | failed | processes and threads | execs |"
        echo "|---|---|---|---|---|---|"
        for runtime; do
            name=${runtime##*/}
            read -ra words <<<"${what//NAME/$name}"
            strace -qq -f -o /run/trace "$runtime" --root /run/state "${words[@]}"
            strace -qq -f -c -o /run/counts "$runtime" --root /run/state "${words[@]}"
            read -r calls failed < <(awk '$NF == "total" { print $(NF - 2), $(NF - 1) }' /run/counts)
            processes=$(awk '{ print $1 }' /run/trace | sort -u | wc -l)
            execs=$(awk '$NF ~ /^execve(at)?$/ { done += $4 - (NF == 6 ? $5 : 0) } END { print done }' /run/counts)
            echo "| $name | $(stat -Lc %s "$runtime") | $calls | $failed | $processes | $execs |"
            commands+=(-n "$name" "$runtime --root /run/state ${words[*]}")
        done
        echo
        hyperfine -N --warmup 10 --runs "$runs" --export-markdown /run/times.md "${commands[@]}" >&2
        cat /run/times.md
    }
    measure "run measured" "$@"

    # One container each, whose process sleeps.
    echo
    jq '.process.args = ["/true", "sleep"]' config.json >new.json
    mv new.json config.json
    for runtime; do "$runtime" --root /run/state run --detach "${runtime##*/}" <&- >&- 2>&-; done
    measure "exec NAME /true true" "$@"
    for runtime; do "$runtime" --root /run/state delete --force "${runtime##*/}"; done
    exit
fi

cd "$here/.."
for tool in strace hyperfine jq; do
    command -v "$tool" >/dev/null || { echo "measure: $tool is missing" >&2; exit 1; }
done
# shellcheck source=scripts/env.sh
. scripts/env.sh
set_target
bash scripts/build.sh corten
cargo build --release --quiet -p corten-conformance
built=$target_dir/$triple/release
mapfile -t peers < <("$here/peers.sh")
crun=${peers[0]} runc=${peers[1]}

echo "$(uname -sr), $(nproc) CPUs; $("$runc" --version | head -1); $("$crun" --version | head -1)."
echo
"$built/conformance" native -- "$here/measure.sh" --in-lane "$built" "$runs" \
    "$bin/corten" "$runc" "$crun"

# From a small program and from one with 2 GiB resident, in turn, in a lane of its own.
echo
cargo bench --quiet -p corten-core --bench resident
