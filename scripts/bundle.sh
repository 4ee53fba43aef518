#!/usr/bin/env bash
# Makes the example bundle: bundle.sh DIRECTORY
#
# Copies examples/bundle and fills its root with a static busybox, a link for each of its commands and the
# directories that are mounted on. Needs no image, no network and no root. A bundle that is there is replaced.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
[ $# = 1 ] || die "usage: bundle.sh DIRECTORY"
bundle=$1

busybox=$(static_busybox) || die "no static busybox: run scripts/setup.sh run, or set CORTEN_BUSYBOX"
if [ -e "$bundle" ]; then
    [ -f "$bundle/config.json" ] || die "$bundle exists and is not a bundle"
    rm -rf -- "$bundle"
fi
mkdir -p "$bundle"
cp -R "$repo/examples/bundle/." "$bundle/"

rootfs=$bundle/rootfs
mkdir -p "$rootfs"/{bin,dev,proc,sys,tmp,root}
chmod 1777 "$rootfs/tmp"
chmod 755 "$rootfs/hello"
cp "$busybox" "$rootfs/bin/busybox"
for command in $("$busybox" --list); do
    [ "$command" = busybox ] || ln -s busybox "$rootfs/bin/$command"
done
