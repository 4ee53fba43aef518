#!/usr/bin/env bash
# A real containerd with the shim, in the native lane: does it work, and what does it cost? (The cost: by `conformance
# bench shim`, which starts this and makes a report of the samples that are printed here.)
#
# Usage: conformance native -- scripts/containerd.sh WHAT SHIM_DIR [CONTAINERD_DIR]
#
# WHAT is one of
#   check    run, exec, terminal, pause, metrics; a killed shim; containerd killed while a
#            container writes and in the middle of creates; then nothing must be left
#   memory   PSS (kB) and threads of one shim with 1, 10, 100 containers, beside the Go shim's with PEERS;
#            COUNTS are other numbers of containers
#   latency  us of `ctr run --rm true` and `ctr task exec true`, beside the Go shim's with PEERS, and of `ctr version`,
#            in ROUNDS rounds
#   execs    what `ctr run --rm` executes between the shim's start and its end (needs strace)
#
# SHIM_DIR has containerd-shim-corten-v2, CONTAINERD_DIR containerd, ctr and the Go shim (else
# those on the PATH); PEERS ("crun runc") are runtimes on the PATH. containerd has its own state
# directories below /run, which is the lane's own. Versions that this was run with: 1.6, 1.7, 2.1.
set -euo pipefail
here=$(readlink -f "$(dirname "$0")")
what=$1
PATH=$(readlink -f "$2")${3:+:$(readlink -f "$3")}:$PATH
[ "${CORTEN_LANE:-}" ] || { echo "run me in a lane" >&2; exit 1; }

mkdir -p /run/cd
cat >/run/cd/config.toml <<'CONFIG'
version = 2
root = "/run/cd/root"
state = "/run/cd/state"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "/run/cd/c.sock"
CONFIG

c() { ctr -a /run/cd/c.sock "$@"; }
engine() {
    containerd -c /run/cd/config.toml >>/run/cd/log 2>&1 &
    engine=$!
    for _ in $(seq 100); do
        c version >/dev/null 2>&1 && return
        sleep 0.1
    done
    cat /run/cd/log >&2
    exit 1
}
# Without controllers containerd's default cpu.shares can't be set.
run() { c run --cpu-shares 0 --runtime "${runtime:-io.containerd.corten.v2}" "$@"; }
end() {
    c task kill -s KILL "$1" 2>/dev/null || true
    for _ in $(seq 50); do
        c task rm "$1" >/dev/null 2>&1 && break
        sleep 0.1
    done
    c container rm "$1" >/dev/null 2>&1 || true
}
shims() { pgrep -f 'containerd-shim-[a-z-]*v2 .*-id'; }
expect() {
    [ "$2" = "$3" ] || { echo "FAILED $1: $2, expected $3" >&2; cat /run/cd/log >&2; exit 1; }
    echo "ok $1"
}
code() { local status=0; "$@" >/dev/null 2>&1 || status=$?; echo "$status"; }

check() {
    expect "run" "$(run --rm "$image" one echo hello)" hello
    expect "by path" "$(runtime=$(command -v containerd-shim-corten-v2) run --rm "$image" one echo hello)" hello
    expect "exit code" "$(code run --rm "$image" one sh -c 'exit 7')" 7
    run -d "$image" two sleep 1000
    expect "exec" "$(c task exec --exec-id a two echo hi)" hi
    expect "exec code" "$(code c task exec --exec-id a two sh -c 'exit 9')" 9
    expect "terminal" "$(script -qec "ctr -a /run/cd/c.sock task exec -t --exec-id t two sh -c 'tty | wc -l'" /dev/null </dev/null | tr -dc '0-9')" 1
    c task pause two
    expect "paused" "$(c task ls | awk '$1 == "two" { print $3 }')" PAUSED
    c task resume two
    expect "metrics" "$(c task metrics two | grep -c cpu.usage_usec)" 1
    end two

    run -d "$image" killed sleep 1000
    local pid
    pid=$(c task ls | awk '$1 == "killed" { print $2 }')
    kill -9 "$(shims)"
    for _ in $(seq 50); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
    expect "no process after a killed shim" "$(code test -d "/proc/$pid")" 1
    sleep 0.5
    c container rm killed
    expect "no socket after a killed shim" "$(ls /run/containerd/s)" ""

    run -d "$image" writer sh -c 'while :; do echo tick; sleep 0.1; done' >/dev/null
    kill -9 "$engine"
    sleep 1
    engine
    expect "alive after containerd" "$(c task exec --exec-id a writer echo alive)" alive
    end writer

    local children=()
    for n in $(seq 40); do
        run --rm "$image" "many$n" sh -c 'echo out; exit 3' >"/run/cd/out.$n" 2>&1 &
        children+=($!)
    done
    wait "${children[@]}" || true
    expect "forty at once" "$(cat /run/cd/out.* | grep -c '^out$')" 40

    for n in 1 2 3 4 5 6; do
        run -d "$image" "mid$n" sleep 1000 >/dev/null 2>&1 &
        sleep "0.0$((n * 2))"
        kill -9 "$engine"
        wait %% 2>/dev/null || true
        engine
        sleep 1
        end "mid$n"
    done
    for _ in $(seq 80); do shims >/dev/null || break; sleep 1; done
    expect "no shim is left" "$(code shims)" 1
    expect "no socket is left" "$(ls /run/containerd/s)" ""
    expect "no state is left" "$(ls /run/containerd/corten/default)" ""
    expect "no mount is left" "$(grep -c ^overlay /proc/mounts || true)" 0
}

# What `ctr run` is told of a subject: corten, or the name of a runtime for the Go shim.
options() {
    case $1 in
        corten) echo "--runtime io.containerd.corten.v2" ;;
        *) echo "--runtime io.containerd.runc.v2 --runc-binary $(command -v "$1")" ;;
    esac
}
# $1: the subject; the rest as for ctr. Without controllers containerd's default cpu.shares can't be set.
run_by() {
    local options
    read -ra options <<<"$(options "$1")"
    c run --cpu-shares 0 "${options[@]}" "${@:2}"
}
read -ra subjects <<<"corten ${PEERS:-crun runc}"

memory() {
    local name n counts shim made
    read -ra counts <<<"${COUNTS:-1 10 100}"
    for name in "${subjects[@]}"; do
        made=0
        for n in "${counts[@]}"; do
            while [ "$made" -lt "$n" ]; do
                made=$((made + 1))
                run_by "$name" -d --annotation io.containerd.runc.v2.group=g "$image" "g$made" sleep 1000
                [ "$made" = 1 ] && c task exec --exec-id e g1 true
            done
            # Idle: the shim gives its pages back after two seconds.
            sleep 10
            shim=$(shims)
            echo "pss $name $n $(awk '/^Pss:/ { print $2 }' "/proc/$shim/smaps_rollup")"
            echo "threads $name $n $(find "/proc/$shim/task" -mindepth 1 -maxdepth 1 | wc -l)"
        done
        for n in $(seq "$made"); do end "g$n"; done
        for _ in $(seq 50); do shims >/dev/null || break; sleep 0.1; done
    done
}

latency() {
    local round turn name
    # $1: what for; the rest: a command.
    took() {
        local from=$EPOCHREALTIME to
        "${@:2}" >/dev/null 2>>/run/cd/log
        to=$EPOCHREALTIME
        echo "$1 $((${to/./} - ${from/./}))"
    }
    for name in "${subjects[@]}"; do run_by "$name" -d "$image" "x$name" sleep 1000; done
    for round in $(seq 0 "${ROUNDS:-20}"); do
        for turn in "${!subjects[@]}"; do
            name=${subjects[(round + turn) % ${#subjects[@]}]}
            took "run $name" run_by "$name" --rm "$image" "r$round$name" true
            took "exec $name" c task exec --exec-id "e$round" "x$name" true
        done
        took "version ctr" c version
    done | awk -v "skip=$((2 * ${#subjects[@]} + 1))" 'NR > skip' # the first round warms up
    for name in "${subjects[@]}"; do end "x$name"; done
}

execs() {
    kill "$engine"
    wait "$engine" || true
    strace -f -qq -e trace=execve -o /run/cd/execs containerd -c /run/cd/config.toml >>/run/cd/log 2>&1 &
    engine=$!
    for _ in $(seq 100); do c version >/dev/null 2>&1 && break; sleep 0.2; done
    run --rm "$image" traced true
    kill "$(pgrep -x containerd)"
    wait "$engine" || true
    grep -o 'execve("[^"]*", \[[^]]*\]' /run/cd/execs
}

engine
archive=/run/cd/busybox.tar
"$here/oci-image.py" "$archive" "$(command -v busybox)"
c image import "$archive" >/dev/null
image=docker.io/library/busybox:latest
"$what"
kill "$engine" 2>/dev/null || true
