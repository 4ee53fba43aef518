#!/usr/bin/env bash
# Everything that must hold: set-up, lints, a release build, all tests, the quickstart. `.ci/run` is this.
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

logs=$(mktemp -d "${TMPDIR:-/tmp}/corten-test.XXXXXX")
trap 'rm -rf -- "$logs"' EXIT
export CORTEN_SKIPS=$logs/skips
: >"$CORTEN_SKIPS"
# Tests of another user (sudo) append to it too.
chmod 666 "$CORTEN_SKIPS"
chmod 755 "$logs"

# What the uml lane has of what a check can need; `conformance list` tells the needs.
uml_has='controller cpu
controller io
controller memory
controller pids
every capability
a machine of its own'
uml_kernel=6.1

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
    sed 's/\x1b\[[0-9;]*m//g' "$logs"/*.log | awk '
        function number_before(word) {
            return match($0, "[0-9]+ " word) ? substr($0, RSTART) + 0 : 0
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
        END { print passed + 0, failed + 0, ignored + 0 }'
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

# All checks again on an old kernel with cgroup v2 controllers, where limits are enforced. It makes the lane if it is
# not there, and fails where that can't be done: it is never skipped.
run_in_uml() {
    local conformance=$target_dir/$triple/debug/conformance status
    logged uml as_root "$conformance" leaks --here -- \
        "$conformance" run --lane uml --quiet --expect-skips "$(expected_skips "$uml_has" "$uml_kernel")"
    status=$?
    sed -n 's/^skip \([^:]*::[^:]*\): /\1 in the uml lane: /p' "$logs/uml.log" >>"$CORTEN_SKIPS"
    return "$status"
}

# Tells how many checks need something else than these lines, or a newer kernel: expected_skips LINES KERNEL
expected_skips() {
    "$target_dir/$triple/debug/conformance" list | here=$1 awk -F'\t' -v release="$2" '
        BEGIN {
            count = split(ENVIRON["here"], lines, "\n")
            for (i = 1; i <= count; i++) has[lines[i]] = 1
            has["-"] = 1
        }
        function lacks(need) {
            if (sub(/^kernel /, "", need)) return number(need) > number(release)
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
    local conformance=$target_dir/$triple/debug/conformance here native uml skipped
    here=$(
        as_root "$conformance" native -- cat /sys/fs/cgroup/cgroup.controllers |
            tr ' ' '\n' | sed 's/^/controller /' || exit
        as_root setpriv --dump | sed -n 's/^Capability bounding set: //p' |
            tr 'a-z,' 'A-Z\n' | sed 's/^/capability CAP_/'
    ) || return
    native=$(expected_skips "$here" "$(uname -r)")
    uml=$(expected_skips "$uml_has" "$uml_kernel")
    skipped=$(sort -u "$CORTEN_SKIPS" | wc -l)
    echo "$skipped skipped; expected $((native + uml)): $native in the native lane, $uml in the uml lane"
    [ "$skipped" = "$((native + uml))" ]
}

part set-up bash scripts/setup.sh test
set_target
part lints bash scripts/lint.sh
# What quickstart builds too; --workspace would unify features differently and build all of it twice.
part "release build" cargo build --release -p corten-cli
use_sudo
part "test build" build_tests
part tests run_tests
part uml run_in_uml
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
