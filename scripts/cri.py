#!/usr/bin/env python3
"""Kubernetes' Container Runtime Interface by hand: gRPC through curl, protobuf by field numbers.

The numbers are those of k8s.io/cri-api's runtime/v1 api.proto.
"""

import os
import subprocess
import sys
import tempfile

from protobuf import decode, encode


class Error(Exception):
    pass


class Runtime:
    """The runtime service behind a socket."""

    def __init__(self, socket):
        self.socket = socket

    def __call__(self, method, message):
        body = encode(message)
        with tempfile.NamedTemporaryFile() as headers:
            command = ["curl", "-s", "--http2-prior-knowledge", "--unix-socket", self.socket]
            command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
            command += ["--data-binary", "@-", "-D", headers.name]
            command += ["http://localhost/runtime.v1.RuntimeService/" + method]
            frame = b"\0" + len(body).to_bytes(4, "big") + body
            done = subprocess.run(command, input=frame, capture_output=True, check=True)
            lines = headers.read().decode().splitlines()
        said = dict(line.split(": ", 1) for line in lines if ": " in line)
        if said.get("grpc-status") != "0":
            raise Error(f"{method}: {said.get('grpc-message', said)}")
        return decode(done.stdout[5:])


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"FAILED {what}: {found!r}, expected {wanted!r}")
    print("ok", what, flush=True)


def wait(what, look):
    """Until that is true; containerd hears of an end a moment later."""
    import time

    for _ in range(100):
        if look():
            return
        time.sleep(0.1)
    sys.exit(f"FAILED {what}: not within 10 s")


def programs():
    """What runs here."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield os.readlink(f"/proc/{pid}/exe")
        except OSError:
            pass


def pod_config(name, network, pid, users, logs):
    options = {1: network, 2: pid, 5: users}
    config = {1: {1: name, 2: "uid-" + name, 3: "default"}, 3: logs, 8: {2: {1: options}}}
    if network == POD:
        # On the machine's network the host name is the machine's as well.
        config[2] = name + "-host"
    return config


NODE, POD, CONTAINER = 2, 0, 1


# A user namespace of a pod, and none.
MAPS = [{1: 200000, 2: 0, 3: 65536}]
USERS, NO_USERS = {1: POD, 2: MAPS, 3: MAPS}, {1: NODE}


def container_config(name, image, script, pid, users, hosts):
    return {
        1: {1: name},
        2: {1: image},
        3: ["sh", "-c", script],
        7: [{1: "/etc/hosts", 2: hosts}, {1: "/etc/resolv.conf", 2: hosts}],
        11: name + ".log",
        15: {2: {3: {2: pid, 5: users}}},
    }


def main(socket, handler, image, folder, network, pid, restart):
    """A pod of two containers: exec, logs, statistics, a killed containerd, stop, remove."""
    users = USERS if network == "users" else NO_USERS
    network = NODE if network == "node" else POD
    pid = {"container": CONTAINER, "pod": POD}[pid]
    cri = Runtime(socket)
    name = "pod-" + handler
    folder = tempfile.mkdtemp(dir=folder)
    hosts = folder + "/hosts"
    with open(hosts, "w") as file:
        file.write("127.0.0.1 localhost\n")
    config = pod_config(name, network, pid, users, folder)
    pod = cri("RunPodSandbox", {1: config, 2: handler})[1][0].decode()
    try:
        use(cri, pod, config, image, folder, pid, users, hosts, network, restart)
    finally:
        cri("StopPodSandbox", {1: pod})
        cri("RemovePodSandbox", {1: pod})
    expect("no pod is left", cri("ListPodSandbox", {}).get(1), None)


def use(cri, pod, config, image, folder, pid, users, hosts, network, restart):
    def state():
        status = decode(cri("PodSandboxStatus", {1: pod})[1][0])
        return status.get(3, [0])[0]

    def container(name, script):
        wanted = container_config(name, image, script, pid, users, hosts)
        id = cri("CreateContainer", {1: pod, 2: wanted, 3: config})[1][0].decode()
        cri("StartContainer", {1: id})
        return id

    def status(id):
        answer = decode(cri("ContainerStatus", {1: id})[1][0])
        return answer.get(3, [0])[0], answer.get(7, [0])[0]

    def run(id, *command):
        answer = cri("ExecSync", {1: id, 2: list(command), 3: 20})
        return answer.get(1, [b""])[0].decode().strip(), answer.get(3, [0])[0]

    expect("the pod is ready", state(), 0)
    names = {os.path.basename(program) for program in programs()}
    shims = {name for name in names if name.startswith("containerd-shim")}
    expect("the shim", shims, {"containerd-shim-corten-v2"})
    web = container("web", "echo started; echo wrong >&2; exec sleep 100000")
    side = container("side", "echo side; exit 3")
    wait("the end of a container", lambda: status(side)[0] == 2)
    expect("its exit code", status(side)[1], 3)
    expect("the other one runs", status(web)[0], 1)
    expect("exec", run(web, "echo", "hello"), ("hello", 0))
    expect("exec's exit code", run(web, "sh", "-c", "exit 9"), ("", 9))
    if network == POD:
        expect("the pod's host name", run(web, "hostname")[0], config[2])
        both = container("both", "sleep 100000")
        links = [run(id, "readlink", "/proc/self/ns/net")[0] for id in (web, both)]
        expect("one network for both", links[0] == links[1] != "", True)
        ip = decode(decode(cri("PodSandboxStatus", {1: pod})[1][0])[5][0])[1][0].decode()
        expect("an address", ip.startswith("10."), True)
        cri("StopContainer", {1: both, 2: 1})
        cri("RemoveContainer", {1: both})
    if users is USERS:
        maps = [run(web, "cat", f"/proc/self/{kind}_map")[0].split() for kind in ("uid", "gid")]
        expect("ids of a user namespace", maps, [["0", "200000", "65536"]] * 2)
        owner = run(web, "busybox", "stat", "-c", "%u", "/bin/busybox")[0]
        expect("the owner of the image's files", owner, "0")
    # The container's own first process has another number where the pod's is process 1.
    first = run(web, "cat", "/proc/1/cmdline")[0] == "sleep\x00100000\x00"
    expect("process 1", first, pid == CONTAINER)
    with open(folder + "/web.log") as log:
        lines = sorted(line.split(" ", 1)[1] for line in log.read().splitlines())
    expect("logs", lines, ["stderr F wrong", "stdout F started"])
    # Less than a tick of the clock may count as nothing.
    run(web, "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done")
    stats = decode(cri("ContainerStats", {1: web})[1][0])
    used = decode(decode(stats[2][0])[2][0]).get(1, [0])[0]
    expect("statistics", used > 0, True)
    subprocess.run([restart], check=True)
    expect("the pod after containerd", state(), 0)
    expect("the container after containerd", status(web)[0], 1)
    expect("exec after containerd", run(web, "echo", "again"), ("again", 0))
    cri("StopContainer", {1: web, 2: 1})
    # Process 1 of a namespace does not see a SIGTERM that it does not handle.
    expect("a stopped container's code", status(web), (2, 137 if pid == CONTAINER else 143))
    for id in (web, side):
        cri("RemoveContainer", {1: id})
    expect("no container is left", cri("ListContainers", {}).get(1), None)
    cri("StopPodSandbox", {1: pod})
    expect("the pod is not ready", state(), 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
