#!/usr/bin/env bash
# Makes a folder of `scripts/engines.sh` the root file system, in the native lane, and runs a command there.
#
# Usage: conformance native -- scripts/in-root.sh ROOT PROGRAMS COMMAND...
#
# What is written goes to the lane's memory, the folder stays as it is. The command sees PROGRAMS (a folder with
# containerd-shim-corten-v2 and corten) as /host/bin, first on its PATH, and scripts/ as /host/scripts.
set -euo pipefail
[ "${CORTEN_LANE:-}" ] || { echo "run me in a lane" >&2; exit 1; }
here=$(readlink -f "$(dirname "$0")")
root=$(readlink -f "$1")
programs=$(readlink -f "$2")
shift 2

# The lane's root is shared, and pivot_root(2) wants none such.
mount --make-rprivate /
mkdir -p /run/root /run/written/{upper,work}
mount -t overlay -o "lowerdir=$root,upperdir=/run/written/upper,workdir=/run/written/work" engines /run/root
cd /run/root
mkdir -p old host/{bin,scripts}
mount --bind "$here" host/scripts
mount --bind "$programs" host/bin
for of_lane in proc sys dev; do mount --rbind "/$of_lane" "$of_lane"; done
# Engines put overlays into theirs, which can't lie on another one.
for own in run tmp home/tester var/lib/{cni,containerd,containers,docker}; do
    mkdir -p "$own"
    mount -t tmpfs -o mode=0755 tmpfs "$own"
done
chmod 1777 tmp
chroot . chown tester: /home/tester
pivot_root . old
umount -l /old
rmdir /old
mount --make-rshared /
cd /
# Folders of the user outside are none in here.
unset "${!XDG_@}"
export PATH=/host/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp
exec "$@"
