#!/usr/bin/env bash
# Runs a command where /sys/fs/cgroup is cgroup v2: with-cgroup2.sh COMMAND [ARG...]
#
# On a machine that has cgroup v2 there already this is the command itself. Elsewhere (v1, hybrid) it gets a
# private mount namespace with a fresh sysfs and a cgroup2 mount inside it; the machine's own mounts stay as they are.
# Such a cgroup2 may have no controllers, so limits can't be set in it. Needs root.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
[ $# -gt 0 ] || die "usage: with-cgroup2.sh COMMAND [ARG...]"

if is_cgroup2; then
    exec "$@"
fi
echo "${0##*/}: /sys/fs/cgroup is not cgroup v2 here: using a private mount namespace in which it is" >&2
# The kernel refuses a second sysfs right on the first one (EBUSY), hence the tmpfs between them.
# The quotes keep the script for the inner shell.
# shellcheck disable=SC2016
exec unshare --mount --propagation private sh -euc '
    mount -t tmpfs -o size=64k,mode=755 none /sys
    mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
    exec "$@"' sh "$@"
