#!/usr/bin/env python3
"""Writes an OCI image archive with busybox, for `ctr image import`: oci-image.py OUT BUSYBOX [NAME COMMAND...].

With `--root` as NAME only its root file system, for `docker import`.
"""

import hashlib
import io
import json
import platform
import sys
import tarfile

# This machine's, as Go calls it.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PROGRAMS = (
    "cat date dd echo env false grep head hostname httpd id kill ls mount ps readlink seq sh sleep stty tail test timeout "
    "touch true tty wc wget yes"
)
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n",
    "etc/group": "root:x:0:\nalice:x:1000:\n",
}


def layer(busybox):
    """The root file system as a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"]:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            info.mode = 0o1777 if name == "tmp" else 0o755
            tar.addfile(info)
        add(tar, "bin/busybox", busybox, 0o755)
        for name in PROGRAMS.split():
            info = tarfile.TarInfo("bin/" + name)
            info.type = tarfile.SYMTYPE
            info.linkname = "busybox"
            tar.addfile(info)
        for name, text in FILES.items():
            add(tar, name, text.encode())
    return out.getvalue()


def add(tar, name, data, mode=0o644):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = mode
    tar.addfile(info, io.BytesIO(data))


def main(out, busybox, name="busybox", *command):
    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}

    with open(busybox, "rb") as file:
        tree = layer(file.read())
    if name == "--root":
        with open(out, "wb") as file:
            file.write(tree)
        return
    root = blob(tree, "layer.v1.tar")
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": list(command) or ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [root["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [root],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["platform"] = {"architecture": ARCHITECTURE, "os": "linux"}
    entry["annotations"] = {
        "io.containerd.image.name": f"docker.io/library/{name}:latest",
        "org.opencontainers.image.ref.name": "latest",
    }
    with tarfile.open(out, "w") as tar:
        add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        index = {"schemaVersion": 2, "manifests": [entry]}
        add(tar, "index.json", json.dumps(index).encode())
        for digest, data in blobs.items():
            add(tar, "blobs/sha256/" + digest, data)


if __name__ == "__main__":
    main(*sys.argv[1:])
