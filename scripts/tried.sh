# How a script that tries something out tells what came of it; sourced, never run. One line for each thing that was tried, and
# at the end, whatever happens, `N passed, N failed, N skipped`.
# shellcheck shell=bash

# What the engines say; its end is shown if something failed.
log=$(mktemp)
passed=0
failed=0
skipped=0

# expect WHAT FOUND WANTED
expect() {
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
        echo "ok $1"
    else
        failed=$((failed + 1))
        echo "FAILED $1: '$2', expected '$3'"
    fi
}

# skip WHAT WHY
skip() {
    skipped=$((skipped + 1))
    echo "skip $1: $2"
}

# The exit code of a command, whose output goes to the log.
code() {
    local status=0
    "$@" >>"$log" 2>&1 || status=$?
    echo "$status"
}

# soon COMMAND...: what it prints, once it succeeds; at the latest after ten seconds, which an idle machine never needs.
soon() {
    local tries
    for tries in $(seq 100); do
        "$@" 2>/dev/null && return
        sleep 0.1
    done
    echo "not in ten seconds, $tries tries"
}

over() {
    local status=$1
    # It did not come to its end.
    [ "$status" = 0 ] || failed=$((failed + 1))
    [ "$failed" = 0 ] || tail -n 40 "$log" >&2
    rm -f -- "$log"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ] || exit 1
}
trap 'over $?' EXIT
# Else the end by a time limit would look like a good one.
trap 'exit 143' TERM
