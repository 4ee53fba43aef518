#!/usr/bin/env bash
# A real containerd's CRI with the shim, in the native lane: a pod of two containers, in several ways.
#
# Usage: conformance native -- scripts/cri.sh SHIM_DIR CNI_DIR [CONTAINERD_DIR]
#
# SHIM_DIR has containerd-shim-corten-v2, CNI_DIR CNI's plugins (package containernetworking-plugins), CONTAINERD_DIR
# containerd and ctr (else those on the PATH). The pod is made for a runtime with runc's name and the shim's path, for
# one with the shim's own name, and by the shim's Sandbox service, on the machine's network or its own, with shared processes
# or without. Ends with `N passed, N failed, N skipped`. containerd is killed in the middle of each. Versions that this was run with: 1.6, 1.7, 2.1.
set -euo pipefail
here=$(readlink -f "$(dirname "$0")")
shims=$(readlink -f "$1")
cni=$(readlink -f "$2")
PATH=$shims${3:+:$(readlink -f "$3")}:$PATH
[ "${CORTEN_LANE:-}" ] || { echo "run me in a lane" >&2; exit 1; }
if [ "${CRI_NETWORK:-}" != own ]; then
    CRI_NETWORK=own exec unshare --net -- "$0" "$@"
fi
ip link set lo up

mkdir -p /run/cd/net.d /run/cd/logs /run/netns
cat >/run/cd/net.d/10-pods.conflist <<'CONFIG'
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "dataDir": "/run/cd/cni", "ranges": [[{"subnet": "10.88.0.0/24"}]]}}]}
CONFIG
# Where there are no controllers, CRI's default cpu.shares can't be set.
case " $(cat /sys/fs/cgroup/cgroup.controllers) " in *" cpu "*) no_cgroups=false ;; *) no_cgroups=true ;; esac
cri='plugins."io.containerd.grpc.v1.cri"'
cat >/run/cd/config.toml <<CONFIG
version = 2
root = "/run/cd/root"
state = "/run/cd/state"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "/run/cd/c.sock"
[$cri]
sandbox_image = "docker.io/library/pause:latest"
restrict_oom_score_adj = true
disable_cgroup = $no_cgroups
disable_apparmor = true
[$cri.cni]
bin_dir = "$cni"
conf_dir = "/run/cd/net.d"
[$cri.containerd]
default_runtime_name = "by-path"
[$cri.containerd.runtimes.by-path]
runtime_type = "io.containerd.runc.v2"
runtime_path = "$shims/containerd-shim-corten-v2"
[$cri.containerd.runtimes.by-name]
runtime_type = "io.containerd.corten.v2"
# Here containerd looks at no path.
[$cri.containerd.runtimes.sandbox]
runtime_type = "io.containerd.corten.v2"
sandboxer = "shim"
CONFIG

# Kills containerd if there is one, and starts it: the shims must not mind.
cat >/run/cd/restart <<'RESTART'
#!/bin/sh
[ ! -f /run/cd/pid ] || kill -9 "$(cat /run/cd/pid)"
containerd -c /run/cd/config.toml >>/run/cd/log 2>&1 &
echo $! >/run/cd/pid
for _ in $(seq 100); do
    # Of its services that one comes last.
    ctr -a /run/cd/c.sock plugins ls 2>/dev/null | grep -q ' cri .* ok' && exit
    sleep 0.1
done
exit 1
RESTART
chmod +x /run/cd/restart
skipped=0
over() {
    local failed=0
    [ "$1" = 0 ] || { failed=1; tail -n 30 /run/cd/log >&2; }
    kill "$(cat /run/cd/pid)" 2>/dev/null || true
    echo "$(grep -c '^ok ' /run/cd/told) passed, $failed failed, $skipped skipped"
}
trap 'over $?' EXIT
/run/cd/restart
c() { ctr -a /run/cd/c.sock -n k8s.io "$@"; }
busybox=$(command -v busybox)
"$here/oci-image.py" /run/cd/busybox.tar "$busybox"
"$here/oci-image.py" /run/cd/pause.tar "$busybox" pause sleep 1000000
for image in busybox pause; do c image import "/run/cd/$image.tar" >/dev/null; done

pod() {
    echo "-- $1, network: $2, processes: $3"
    "$here/cri.py" /run/cd/c.sock "$1" docker.io/library/busybox:latest /run/cd/logs "$2" "$3" /run/cd/restart |
        tee -a /run/cd/told
}
version=$(containerd --version)
echo "$version"
is_2() { [[ $version == *" v2."* || $version == *" 2."* ]]; }
if is_2 && "$no_cgroups"; then
    echo "skip the sandboxer podsandbox: containerd 2 needs the cpu controller for it (scripts/cri-machine.sh)"
    skipped=1
else
    # 1.6 does not know runtime_path, and would take the Go shim.
    path=by-path
    [[ $version != *" 1.6."* ]] || path=by-name
    pod "$path" node container
    pod "$path" pod container
    pod "$path" pod pod
    pod by-name pod container
    ! is_2 || pod by-path users container
fi
if is_2; then
    # On the machine's network containerd 2.1 panics: it takes the pod's missing config.json for one.
    pod sandbox pod container
    pod sandbox pod pod
    pod sandbox users container
else
    echo "-- the Sandbox service: not with containerd 1"
fi
for _ in $(seq 100); do
    [ "$(ls -A /run/containerd/s)" ] || break
    sleep 0.1
done
for left in /run/containerd/s /run/containerd/corten/k8s.io; do
    [ -d "$left" ] || { echo "FAILED: $left is not there" >&2; exit 1; }
    [ -z "$(ls "$left")" ] || { echo "FAILED: $left: $(ls "$left")" >&2; exit 1; }
done
if grep ^overlay /proc/mounts; then
    echo "FAILED: a root file system is still mounted" >&2
    exit 1
fi
echo "ok nothing is left" | tee -a /run/cd/told
