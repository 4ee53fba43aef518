#!/usr/bin/env bash
# Everything that must hold: set-up, lints, a release build, all tests, the quickstart. `.ci/run` is this.
#
# `test.sh full` (scripts/test-full.sh) is more: all checks in every lane, with every kernel.
#
# A part that fails does not stop the next ones. The end is: seconds per part, what was skipped and why, the parts
# that failed, and as the last line the sum over all tests, `N passed, N failed, N skipped`.
#
# Nothing may be left on the machine: a part that runs containers fails if it leaves a mount, cgroup, process, loop
# device, keyring, BPF program or file of ours, and says what (`conformance leaks --here`).
#
# A test that can't run here passes, and appends `its name: why` to the file that CORTEN_SKIPS names: it is then
# counted as skipped and not as passed.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$repo" || exit 1
case ${1:-} in
    '' | full) everything=${1:-} ;;
    *) die "usage: test.sh [full]" ;;
esac

logs=$(mktemp -d "${TMPDIR:-/tmp}/corten-test.XXXXXX")
trap 'rm -rf -- "$logs"' EXIT
export CORTEN_SKIPS=$logs/skips
: >"$CORTEN_SKIPS"
# Tests of another user (sudo) append to it too.
chmod 666 "$CORTEN_SKIPS"
chmod 755 "$logs"

# What the lanes' machines have of what a check can need, by lane; `conformance list` tells the needs.
declare -A machine_has machine_kernel
machine_has[uml]='controller cpu
controller io
controller memory
controller pids
every capability
a machine of its own'
machine_kernel[uml]=6.1
machine_has[uml-newest]="${machine_has[uml]}
time namespaces"
machine_kernel[uml-newest]=7.2
machine_has[full]="${machine_has[uml-newest]}
controller cpuset
controller hugetlb
controller misc
controller rdma
systemd"
machine_kernel[full]=6.12
# How many checks may be skipped in them.
skips_in_machines=0
# And with the engines of a Debian: a pod of podman 4.3.
declare -A engine_skips=([bookworm]=1 [trixie]=0)

times=()
failed=()

# part NAME COMMAND...: runs one part, notes its time and whether it failed.
part() {
    local name=$1 begin=$SECONDS
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" || failed+=("$name")
    times+=("$((SECONDS - begin)) s  $name")
}

skip() {
    printf '%s: %s\n' "$1" "$2" >>"$CORTEN_SKIPS"
}

# Adds up what the runners said: nextest's `Summary` line, libtest's `test result:` lines.
count() {
    awk '
        function number_before(word) {
            return match($0, "[0-9]+ " word) ? substr($0, RSTART) + 0 : 0
        }
        { gsub(/\033\[[0-9;]*m/, "") }
        # These are ignored where all the others run.
        FILENAME ~ /machines.log$/ && (/^ *Summary \[/ || /^test result: /) {
            ignored -= number_before("passed") + number_before("failed") + number_before("timed out")
        }
        /^ *Summary \[.*tests? run:/ {
            passed += number_before("passed")
            failed += number_before("failed") + number_before("timed out") + number_before("exec failed")
            ignored += number_before("skipped")
        }
        /^test result: / {
            passed += number_before("passed")
            failed += number_before("failed")
            ignored += number_before("ignored")
        }
        # conformance run. What it skipped is in the file of skips too, and taken off at the end.
        /^[0-9]+ passed, [0-9]+ failed/ {
            passed += number_before("passed") + number_before("skipped")
            failed += number_before("failed")
        }
        END { print passed + 0, failed + 0, ignored + 0 }' "$logs"/*.log
}

logged() {
    local log=$logs/$1.log
    shift
    "$@" 2>&1 | tee "$log"
}

# Tests that make containers put themselves into a lane: private namespaces, cgroup v2 on /sys/fs/cgroup inside them
# only (`conformance native`). That needs root, so cargo starts each test program by sudo where we are not.
use_sudo() {
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || die "the tests need root, and there is no sudo here"
    local variable=${triple^^}
    export "CARGO_TARGET_${variable//-/_}_RUNNER=sudo --preserve-env env PATH=$PATH"
}

build_tests() {
    # The binaries as well: the checks drive the `corten` that lies beside them.
    cargo build --workspace && cargo test --workspace --no-run
}

# Runs a command that may leave nothing behind on the machine.
watched() {
    "$target_dir/$triple/debug/conformance" leaks --here -- "$@"
}

run_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        logged tests watched cargo nextest run --workspace --no-fail-fast
    else
        echo "cargo-nextest is not installed: cargo test runs them"
        logged tests watched cargo test --workspace --no-fail-fast --lib --bins --tests
    fi
}

# What the shim that users get costs when it has nothing to do; a debug build is larger.
run_idle() {
    watched env "CORTEN_SHIM=$bin/containerd-shim-corten-v2" cargo test --workspace --test shim -- --test-threads 1 idle::
}

run_examples_in_docs() {
    logged doc cargo test --workspace --no-fail-fast --doc
}

# The programs that embed the library, on the example bundle, each in a lane that looks for what they leave behind.
run_example_programs() {
    local built=$target_dir/$triple/debug program failures=0
    bash scripts/bundle.sh "$logs/bundle" || return
    for program in run_bundle twenty; do
        echo "-- $program"
        # The state directory's root stays, and must be empty. The quotes keep the script for the inner shell.
        # shellcheck disable=SC2016
        as_root "$built/conformance" leaks --limit 60 -- \
            sh -c '"$1" "$2" && rmdir /run/corten-example' sh "$built/$program" "$logs/bundle" ||
            failures=$((failures + 1))
    done
    [ "$failures" = 0 ]
}

# Checks again in a lane's machine, which is made if it is not there. Fails where that can't be done, and if other checks
# are skipped than those that need what the machine does not have: run_in MACHINE [WORD...]
run_in() {
    local machine=$1 conformance=$target_dir/$triple/debug/conformance lane=(--lane "${1%%-*}") expected status
    shift
    [ "$machine" != uml-newest ] || lane+=(--kernel newest)
    expected=$(expected_skips "${machine_has[$machine]}" "${machine_kernel[$machine]}" "$@")
    skips_in_machines=$((skips_in_machines + expected))
    # sudo may have another home; the machines are kept in this one.
    logged "$machine" as_root env "XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}" "$conformance" leaks --here -- \
        "$conformance" run "${lane[@]}" --quiet --expect-skips "$expected" "$@"
    status=$?
    sed -n "s/^skip \([^:]*::[^:]*\): /\1 in the $machine lane: /p" "$logs/$machine.log" >>"$CORTEN_SKIPS"
    return "$status"
}

# The native lane's checks again with the `corten` that users get: it has another C library and other optimisations than
# the one that is built beside the tests.
run_release() {
    local conformance=$target_dir/$triple/debug/conformance status
    logged release as_root env -u CORTEN_SKIPS "$conformance" leaks --here -- \
        "$conformance" run --quiet --runtime "$bin/corten"
    status=$?
    sed -n 's/^skip \([^:]*::[^:]*\): /\1 with the release build: /p' "$logs/release.log" >>"$CORTEN_SKIPS"
    return "$status"
}

# What comes out of the lanes' machines, also when it goes wrong in there.
run_machines() {
    local test=(--workspace --no-fail-fast --test machine)
    if cargo nextest --version >/dev/null 2>&1; then
        logged machines watched cargo nextest run "${test[@]}" --run-ignored ignored-only
    else
        logged machines watched cargo test "${test[@]}" -- --ignored --test-threads 2
    fi
}

# containerd, Docker and podman of some releases of Debian.
try_engines() {
    local suite status
    logged engines watched bash scripts/try-engines.sh "$@"
    status=$?
    for suite in "$@"; do skips_in_machines=$((skips_in_machines + engine_skips[$suite])); done
    sed -nE 's/^([^:]*): skip ([^:]*): (.*)/\2 (\1): \3/p' "$logs/engines.log" >>"$CORTEN_SKIPS"
    return "$status"
}

# What a container sees must be what it sees with runc, but for what docs/differences.md explains. Several times: what
# differs now and then is noticed.
compare_with_peers() {
    local peers peer arguments
    arguments=(--runtime "$bin/corten")
    peers=$(bash scripts/peers.sh) || return
    for peer in $peers; do
        arguments+=(--runtime "$peer")
    done
    for _ in 1 2 3; do
        as_root "$target_dir/$triple/debug/conformance" compare --suite "${arguments[@]}" || return
    done
}

# Every step of the plans must be missed by some check: in the native lane, and in uml what only checks with needs have.
mutate() {
    local conformance=$target_dir/$triple/debug/conformance lane
    for lane in native uml; do
        # It calls cargo.
        as_root env "PATH=$PATH" "HOME=$HOME" "$conformance" mutate --lane "$lane" || return
    done
}

# Tells how many checks need something else than these lines, or a newer kernel: expected_skips LINES KERNEL [WORD...]
expected_skips() {
    "$target_dir/$triple/debug/conformance" list "${@:3}" | here=$1 awk -F'\t' -v release="$2" '
        BEGIN {
            count = split(ENVIRON["here"], lines, "\n")
            for (i = 1; i <= count; i++) has[lines[i]] = 1
            has["-"] = 1
        }
        function lacks(need) {
            if (sub(/^kernel /, "", need)) return number(need) > number(release)
            if (sub(/^to be without /, "", need)) return need in has
            if (need ~ /^capability / && "every capability" in has) return 0
            return !(need in has)
        }
        function number(release, part) {
            split(release, part, /[.-]/)
            return part[1] * 1000 + part[2]
        }
        {
            count = split($3, needs, ", ")
            for (i = 1; i <= count && !lacks(needs[i]); i++);
            missing += i <= count
        }
        END { print missing + 0 }'
}

# Fails if anything was skipped but the checks that need what their lane does not have.
compare_skips() {
    local conformance=$target_dir/$triple/debug/conformance here native expected skipped
    here=$(
        as_root "$conformance" native -- cat /sys/fs/cgroup/cgroup.controllers |
            tr ' ' '\n' | sed 's/^/controller /' || exit
        as_root setpriv --dump | sed -n 's/^Capability bounding set: //p' |
            tr 'a-z,' 'A-Z\n' | sed 's/^/capability CAP_/'
        for link in /proc/self/ns/*; do echo "${link##*/} namespaces"; done
    ) || return
    native=$(expected_skips "$here" "$(uname -r)")
    # With the tests' own build, and with the one for use.
    expected=$((2 * native + skips_in_machines))
    skipped=$(sort -u "$CORTEN_SKIPS" | wc -l)
    echo "$skipped skipped; expected $expected: 2 times $native in the native lane, $skips_in_machines in machines and with engines"
    [ "$skipped" = "$expected" ]
}

part set-up bash scripts/setup.sh test
set_target
# The machines in it are root's, the folder itself is not.
mkdir -p "${XDG_CACHE_HOME:-$HOME/.cache}/corten"
if ! musl_target >/dev/null; then
    skip "release build with musl" "Rust's target for it is not to be had here; glibc's is tested"
    skips_in_machines=1
fi
part lints bash scripts/lint.sh
# What quickstart builds too; --workspace would unify features differently and build all of it twice.
part "release build" bash scripts/build.sh
use_sudo
part "test build" build_tests
part tests run_tests
part "checks of the release build" run_release
part "idle shim of the release build" run_idle
# An old kernel with the controllers of cgroup v2, where limits are enforced.
part uml run_in uml
if [ "$everything" ]; then
    part "uml, newest kernel" run_in uml-newest
    part "full lane" run_in full
    part engines try_engines bookworm trixie
    part compare compare_with_peers
    part mutate mutate
else
    # It is slow: what only this machine has the controllers for, and the life cycle.
    part "full lane smoke" run_in full cgroup:: disks:: lifecycle:: limits:: systemd::
    part engines try_engines trixie
fi
part "lanes' machines" run_machines
part "examples in the documentation" run_examples_in_docs
part "example programs" run_example_programs
part quickstart watched bash scripts/quickstart.sh
part skips compare_skips

read -r passed broken ignored < <(count)
skipped=$(sort -u "$CORTEN_SKIPS" | wc -l)

printf '\n== seconds per part\n'
printf '%s\n' "${times[@]}"
printf '\n== skipped, and why\n'
if [ "$((skipped + ignored))" = 0 ]; then
    echo "nothing"
else
    sort -u "$CORTEN_SKIPS"
    # The runner prints the reason of an ignored test only on request.
    [ "$ignored" = 0 ] || grep -rn --include=*.rs -A1 '#\[ignore' runtime-core runtime-cli shim conformance examples
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nfailed parts: %s\n' "$(printf '%s, ' "${failed[@]}" | sed 's/, $//')"
    # A lint or a build that fails is not in the runners' numbers.
    [ "$broken" -gt 0 ] || broken=${#failed[@]}
fi
# Tests that skip themselves have passed for their runner.
printf '\n%s passed, %s failed, %s skipped\n' "$((passed > skipped ? passed - skipped : 0))" "$broken" "$((skipped + ignored))"
[ ${#failed[@]} = 0 ]
