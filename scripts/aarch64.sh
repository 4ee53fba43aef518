#!/usr/bin/env bash
# Runs checks on aarch64, in an emulated machine: builds the workspace for it, boots a kernel of Debian's with it.
#
# Usage: scripts/aarch64.sh [WORD...]      (default: lifecycle:: seccomp::)
#
# Ends with the line of `conformance run`, and its exit status. Everything is emulated: a check takes seconds, and those
# that wait for a moment of their own may fail. Needs root, and the packages of the first lines, which it installs.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
[ "$(id -u)" = 0 ] || die "run me as root"
set_target
cd "$repo"
target=aarch64-unknown-linux-gnu

packages=(cpio gcc-aarch64-linux-gnu libc6-dev-arm64-cross mmdebstrap qemu-system-arm)
dpkg -s "${packages[@]}" >/dev/null 2>&1 ||
    apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
rustup -q target add "$target" || die "no standard library of Rust for $target"

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Without what is for a debugger: all of it is the machine's memory.
export CARGO_PROFILE_DEV_DEBUG=0
cargo build --target "$target" -p corten-cli -p corten-conformance

work=$(mktemp -d "${TMPDIR:-/tmp}/corten-aarch64.XXXXXX")
trap 'rm -rf -- "$work"' EXIT

# Unpacked only: nothing of it could run here.
mmdebstrap --quiet --variant=extract --architectures=arm64 --mode=root \
    --include=busybox-static,linux-image-cloud-arm64,util-linux \
    --aptopt='APT::Install-Recommends "false"' bookworm "$work/root" "$(debian_mirror)"
kernel=("$work"/root/boot/vmlinuz-*)
mv "${kernel[0]}" "$work/vmlinuz"
rm -rf "$work"/root/{boot,usr/share,usr/lib/modules,lib/modules,var/lib,var/cache}
mkdir -p "$work"/root/{host,new}
ln -sf busybox "$work/root/bin/sh"
for program in corten conformance probe; do
    cp "$target_dir/$target/debug/$program" "$work/root/host/"
done
[ $# -gt 0 ] || set -- lifecycle:: seccomp::
echo "$*" >"$work/root/host/words"
echo 'root:x:0:0:root:/root:/bin/sh' >"$work/root/etc/passwd"
echo 'root:x:0:' >"$work/root/etc/group"

# pivot_root(2) does not work in the root that a kernel unpacks, so all of it moves to a tmpfs.
cat >"$work/root/init" <<'END'
#!/bin/busybox sh
busybox mount -t tmpfs tmpfs /new
for entry in *; do [ "$entry" = new ] || busybox cp -a "$entry" /new/; done
exec busybox switch_root /new /checks
END
cat >"$work/root/checks" <<'END'
#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
busybox mkdir -p /proc /sys /dev /run /tmp /root
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mkdir -p /dev/pts /dev/shm /dev/mqueue
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs tmpfs /dev/shm
busybox mount -t tmpfs tmpfs /run
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
busybox mount -t securityfs securityfs /sys/kernel/security
for controller in $(busybox cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
busybox chmod 1777 /tmp
busybox ip link set lo up
busybox uname -srm
# Checks may wreck this machine; they know one of their own by the disk that others have.
/host/conformance run --quiet $(busybox cat /host/words)
echo "status $?"
busybox poweroff -f
END
chmod 755 "$work/root/init" "$work/root/checks"
(cd "$work/root" && find . | cpio --quiet --create --format=newc | gzip -1) >"$work/initrd"

qemu-system-aarch64 -M virt -cpu max -smp 2 -m 3G -nographic -no-reboot -kernel "$work/vmlinuz" -initrd "$work/initrd" \
    -append "console=ttyAMA0 rdinit=/init root=/dev/nvme0n1 quiet cgroup_no_v1=all" </dev/null | tee "$work/log"
grep -q '^status 0' "$work/log"
