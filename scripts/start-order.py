#!/usr/bin/env python3
"""Writes scripts/start.ld: which functions of `corten` a start needs, for the linker to lay them side by side.

A page of the program costs memory and a fault when it is first touched. What `run`, `exec` and `create` execute is a
third of the program; spread over all of it, it touches every page. This runs the commands step by step (ptrace(2)),
takes every function that is executed, and lists them in the order of the commands.

    sudo scripts/with-cgroup2.sh python3 scripts/start-order.py

Again when page faults or memory in `conformance bench` go up. Names are without the compiler's hashes: one that no
longer exists is passed over by the linker, a new one lies with the rest. The link map that this reads is GNU ld's,
as of programs that are linked with musl.
"""
import bisect
import ctypes
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

REPO = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = REPO / "scripts/start.ld"
HEAD = """/* The functions that a start executes, side by side, so that few pages of the program are touched.
   Written by scripts/start-order.py: not to be edited. */
"""

PTRACE_TRACEME, PTRACE_PEEKUSER, PTRACE_SINGLESTEP = 0, 3, 9
PTRACE_SETOPTIONS, PTRACE_O_EXITKILL, PTRACE_O_TRACECLONE = 0x4200, 1 << 20, 1 << 3
RIP = 16 * 8  # of struct user_regs_struct
WALL = 0x40000000


def build(link_map):
    """A release build with symbols and a link map. Nothing else differs from the usual one."""
    target = subprocess.run(["bash", "-ec", ". scripts/env.sh; musl_target"], cwd=REPO, check=True,
                            stdout=subprocess.PIPE, text=True).stdout.strip()
    command = ["cargo", "rustc", "--profile", "dist", "--target", target, "-p", "corten-cli", "--bin", "corten",
               "--config", "profile.release.strip='none'", "--message-format=json",
               "--", "-C", f"link-arg=-Wl,-Map={link_map}"]
    out = subprocess.run(command, cwd=REPO, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in out.splitlines()]
    return pathlib.Path(next(m["executable"] for m in messages if m.get("executable")))


def sections(link_map):
    """Input sections of the code, by address: (address, size, file, section)."""
    found = []
    # A long name has a line of its own; what was left out has the address 0.
    line = re.compile(r"^ (\.text\S*)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) (\S.*)$", re.MULTILINE)
    for match in line.finditer(link_map.read_text(encoding="utf-8")):
        address, size = int(match[2], 16), int(match[3], 16)
        if address and size:
            found.append((address, size, match[4].rsplit("/", 1)[-1], match[1]))
    if not found:
        sys.exit("no map of GNU ld")
    return sorted(found)


def executed(command):
    """Addresses that a command's own threads execute, but no child of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    child = os.fork()
    if child == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1):
            os.dup2(null, fd)
        libc.ptrace(PTRACE_TRACEME, 0, None, None)
        os.execv(command[0], command)
    os.waitpid(child, 0)
    libc.ptrace(PTRACE_SETOPTIONS, child, None, PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE)
    threads, addresses = {child}, set()
    libc.ptrace(PTRACE_SINGLESTEP, child, None, None)
    while threads:
        thread, status = os.waitpid(-1, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            threads.discard(thread)
            if thread == child and os.waitstatus_to_exitcode(status):
                sys.exit(f"{command}: {os.waitstatus_to_exitcode(status)}")
            continue
        threads.add(thread)
        addresses.add(libc.ptrace(PTRACE_PEEKUSER, thread, RIP, None))
        signal = os.WSTOPSIG(status)
        pass_on = None if signal in (5, 19) else signal  # steps, and the first stop of a thread
        libc.ptrace(PTRACE_SINGLESTEP, thread, None, pass_on)
    return addresses


def pattern(file, section):
    """What to call an input section in the script, whatever the compiler's hashes are."""
    library = re.match(r"(lib[a-z_]+)[^(]*\.(a|rlib)\((.*\.l?o)\)$", file)
    if library and not library[3].endswith(".rcgu.o"):
        return f"*{library[1]}*.{library[2]}:{library[3]}({section})"
    section = re.sub(r"17h[0-9a-f]{16}E.*", "17h*", section)
    section = re.sub(r"Cs[0-9A-Za-z]+_(?=\d)", "Cs*_", section)
    section = re.sub(r"\.\d+$", "*", section)
    return f"*({section})" if file.rstrip(")").endswith(".rcgu.o") else f"*{file}({section})" if file == "crt1.o" else None


def bundle(folder, arguments, seccomp):
    """An example bundle with these arguments, perhaps with Docker's profile."""
    subprocess.run(["bash", REPO / "scripts/bundle.sh", folder], check=True, stdout=subprocess.DEVNULL)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["process"].update(args=arguments, terminal=False)
    config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    if seccomp:
        profile = REPO / "conformance/src/bench/docker-seccomp.json"
        config["linux"]["seccomp"] = json.loads(profile.read_text())
    path.write_text(json.dumps(config))
    return ["--bundle", str(folder)]


def main():
    patterns = {}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        # With its symbols it is not to be taken for the usual one.
        corten = shutil.move(build(scratch / "map"), scratch / "corten")
        code = sections(scratch / "map")
        starts = [section[0] for section in code]
        plain = bundle(scratch / "plain", ["true"], False)
        docker = bundle(scratch / "docker", ["true"], True)
        stays = bundle(scratch / "stays", ["sleep", "1000"], False)
        for command in (["run", *plain, "a"], ["run", *docker, "b"], ["create", *stays, "c"], ["start", "c"],
                        ["exec", "c", "true"], ["kill", "c", "KILL"], ["delete", "--force", "c"]):
            for address in sorted(executed([str(corten), "--root", str(scratch / "root"), *command])):
                at = bisect.bisect(starts, address) - 1
                if at >= 0 and address < code[at][0] + code[at][1]:
                    patterns.setdefault(pattern(*code[at][2:]))
    lines, line = [], ""
    for name in filter(None, patterns):
        if len(line) + len(name) > 110:
            lines, line = [*lines, line], ""
        line += " " + name
    body = "".join(f"       {line}\n" for line in [*lines, line])
    SCRIPT.write_text(f"{HEAD}SECTIONS\n{{\n    .text.start :\n    {{\n{body}    }}\n}}\nINSERT BEFORE .text;\n")


main()
