#!/usr/bin/env python3
"""Runs `true` in a container by the task service of its shim, as containerd does it, and prints the microseconds that took:
Exec, Start, Wait and Delete, without standard input and output.

    task-exec.py BUNDLE EXEC_ID

BUNDLE is the bundle's directory of containerd, with the shim's address in it; its name is the container's. The numbers of
fields are those of containerd's task.proto and of ttrpc's request.proto.
"""

import json
import pathlib
import socket
import struct
import sys
import time

from protobuf import decode, encode

REQUEST, RESPONSE = 1, 2
PROCESS = {
    "args": ["/bin/true"],
    "cwd": "/",
    "env": ["PATH=/bin"],
    "user": {"uid": 0, "gid": 0},
}


def address(bundle):
    if (bundle / "bootstrap.json").exists():
        return json.loads((bundle / "bootstrap.json").read_text())["address"]
    return (bundle / "address").read_text()


class Task:
    """The service behind a socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.stream = 1

    def read(self, length):
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                sys.exit("the shim hung up")
            data += more
        return data

    def __call__(self, method, message):
        request = encode({1: "containerd.task.v2.Task", 2: method, 3: encode(message)})
        self.socket.sendall(struct.pack(">IIBB", len(request), self.stream, REQUEST, 0) + request)
        length, _, kind, _ = struct.unpack(">IIBB", self.read(10))
        response = decode(self.read(length))
        if kind != RESPONSE or decode(response.get(1, [b""])[0]).get(1, [0])[0]:
            sys.exit(f"{method}: {response}")
        self.stream += 2
        return decode(response.get(2, [b""])[0])


def main(bundle, exec_id):
    bundle = pathlib.Path(bundle)
    spec = {1: "types.containerd.io/opencontainers/runtime-spec/1/Process", 2: json.dumps(PROCESS)}
    path = address(bundle).removeprefix("unix://")
    which = {1: bundle.name, 2: exec_id}
    begin = time.monotonic()
    task = Task(path)
    task("Exec", {**which, 7: spec})
    task("Start", which)
    status = task("Wait", which).get(1, [0])[0]
    task("Delete", which)
    took = time.monotonic() - begin
    if status:
        sys.exit(f"status {status}")
    print(round(took * 1e6))


main(*sys.argv[1:])
