#!/usr/bin/env bash
# scripts/cri.sh in a machine of the uml lane, where there is the cpu controller: containerd 2 needs it for its own sandboxer.
#
# Usage: scripts/cri-machine.sh CONFORMANCE SHIM_DIR CNI_DIR CONTAINERD_DIR
#
# The last two may be `"$(scripts/engines.sh sid)"/usr/{lib/cni,bin}`. The machine gets this machine's Python and curl, which its
# image lacks; CONFORMANCE is the built program.
set -euo pipefail
here=$(readlink -f "$(dirname "$0")")
conformance=$(readlink -f "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,lib,py/bin,py/lib,scripts,shim,cni,containerd}
cp "$here"/cri.sh "$here"/cri.py "$here"/protobuf.py "$here"/oci-image.py "$root/scripts"
cp "$2/containerd-shim-corten-v2" "$root/shim"
cp "$3"/{ptp,host-local,loopback} "$root/cni"
cp "$4"/{containerd,ctr} "$root/containerd"
strip "$root/shim/containerd-shim-corten-v2"

# Debian's own: another's libraries may be anywhere.
python=$(readlink -f /usr/bin/python3)
curl=$(command -v curl)
cp "$python" "$root/py/bin/python"
cp "$curl" "$root/py/bin/curl"
standard=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
tar -C "$(dirname "$standard")" --exclude=__pycache__ --exclude=test --exclude=dist-packages --exclude='config-*' \
    -c "$(basename "$standard")" | tar -C "$root/py/lib" -x
# The C library is the image's, which is newer.
ldd "$python" "$curl" | awk '/=> \// { print $3 }' | grep -vE '/(libc|libm|ld-linux[^/]*)\.so' | sort -u |
    xargs cp -Lt "$root/lib"
for program in python3:python curl:curl; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=/run/t/lib PYTHONHOME=/run/t/py exec /run/t/py/bin/%s "$@"\n' "${program#*:}" \
        >"$root/bin/${program%:*}"
    chmod +x "$root/bin/${program%:*}"
done
tar -C "$root" -cf "$work/tools.tar" .

# shellcheck disable=SC2016  # the machine expands it
inside='mkdir /run/t && tar -C /run/t -xf /host/tools.tar && cd /run/t && PATH=/run/t/bin:$PATH CORTEN_LANE=uml scripts/cri.sh shim cni containerd'
"$conformance" lane run uml --kernel newest --runtime "$work/tools.tar" --limit 900 -- sh -c "$inside"
