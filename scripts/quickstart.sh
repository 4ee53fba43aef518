#!/usr/bin/env bash
# From a fresh checkout to a real container: installs what is missing, builds, makes the example bundle, runs it.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"

step() {
    printf '\n== %s\n' "$*"
}

step "set-up: Debian packages that are missing"
bash "$repo/scripts/setup.sh" run
set_target

step "build: scripts/build.sh corten"
bash "$repo/scripts/build.sh" corten
corten=$bin/corten
echo "$corten: $(($(stat -c %s "$corten") / 1024)) KiB, static"

# On a file system of its own, since a checkout may be on one that is mounted nosuid or owned by somebody else.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/corten-quickstart.XXXXXX")
cleanup() {
    # A directory of root's making needs root to go.
    rm -rf -- "$scratch" 2>/dev/null || as_root rm -rf -- "$scratch"
}
trap cleanup EXIT
chmod 755 "$scratch"

step "bundle: examples/bundle, its root made from $(static_busybox)"
bash "$repo/scripts/bundle.sh" "$scratch/bundle"
(cd "$scratch/bundle" && du -sh . | cut -f1 && ls -d config.json rootfs/*)

step "run: corten run --bundle BUNDLE quickstart"
begin=$(date +%s%N)
status=0
as_root bash "$repo/scripts/with-cgroup2.sh" \
    "$corten" --root "$scratch/state" run --bundle "$scratch/bundle" quickstart | tee "$scratch/output" ||
    status=$?
took=$((($(date +%s%N) - begin) / 1000000))

step "the container ended with exit code $status after $took ms"
[ "$status" -eq 0 ] || die "the container did not run as it should: the example ends with 0"
grep -q weathering-steel "$scratch/output" || die "the container did not say its host name"
cat <<END
To go on by hand (as root):
    scripts/bundle.sh /tmp/bundle
    scripts/with-cgroup2.sh $corten run --bundle /tmp/bundle web
    $corten plan --bundle /tmp/bundle      every step it takes, without taking one
README.md tells the rest.
END
