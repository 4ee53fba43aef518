#!/usr/bin/python3
"""What libseccomp makes of a profile, called as runc calls it; needs the package python3-seccomp.

Reads {"architectures": [...], "profile": linux.seccomp, "runs": N} from standard input; the
profile's own architectures are not looked at. Writes {"program": [[code, jt, jf, k], ...], "unknown": {arch:
[names that it has no number for]}, "micros": N}, the time of the fastest run.
"""
import json
import struct
import sys
import tempfile
import time

import seccomp as lib

OPERATORS = {
    "SCMP_CMP_NE": lib.NE, "SCMP_CMP_LT": lib.LT, "SCMP_CMP_LE": lib.LE, "SCMP_CMP_EQ": lib.EQ,
    "SCMP_CMP_GE": lib.GE, "SCMP_CMP_GT": lib.GT, "SCMP_CMP_MASKED_EQ": lib.MASKED_EQ,
}


def action(name, errno):
    errno = 1 if errno is None else errno
    return {
        "SCMP_ACT_KILL": lib.KILL, "SCMP_ACT_KILL_THREAD": lib.KILL,
        "SCMP_ACT_KILL_PROCESS": lib.KILL_PROCESS, "SCMP_ACT_TRAP": lib.TRAP,
        "SCMP_ACT_ERRNO": lib.ERRNO(errno), "SCMP_ACT_TRACE": lib.TRACE(errno),
        "SCMP_ACT_ALLOW": lib.ALLOW, "SCMP_ACT_LOG": lib.LOG,
        "SCMP_ACT_NOTIFY": lib.NOTIFY,
    }[name]


def argument(arg):
    index, op, value = arg.get("index", 0), OPERATORS[arg["op"]], arg.get("value", 0)
    if op == lib.MASKED_EQ:
        return lib.Arg(index, op, value, arg.get("valueTwo", 0))
    return lib.Arg(index, op, value)


def add(rules, act, name, args):
    try:
        rules.add_rule(act, name, *args)
    except (RuntimeError, ValueError, OSError):
        pass  # A name that libseccomp does not know, or a rule that it has already.


def build(job):
    profile = job["profile"]
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    rules = lib.SyscallFilter(default)
    rules.set_attr(lib.Attr.CTL_OPTIMIZE, 2)  # The binary tree, as runc.
    rules.remove_arch(lib.Arch())
    for name in job["architectures"]:
        rules.add_arch(lib.Arch(name))
    for rule in profile.get("syscalls", []):
        act = action(rule["action"], rule.get("errnoRet"))
        if act == default:
            continue
        indexes = [arg.get("index", 0) for arg in rule.get("args", [])]
        args = [argument(arg) for arg in rule.get("args", [])]
        for name in rule["names"]:
            if len(set(indexes)) < len(indexes):
                for arg in args:
                    add(rules, act, name, [arg])
            else:
                add(rules, act, name, args)
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def main():
    job = json.load(sys.stdin)
    names = {name for rule in job["profile"].get("syscalls", []) for name in rule["names"]}
    unknown = {}
    for arch in job["architectures"]:
        def number(name):
            return lib.resolve_syscall(lib.Arch(arch), name)
        unknown[arch] = sorted(name for name in names if number(name) < 0)
    micros = float("inf")
    for _ in range(job["runs"]):
        start = time.perf_counter()
        raw = build(job)
        micros = min(micros, (time.perf_counter() - start) * 1e6)
    order = ">HBBI" if "s390x" in job["architectures"] else "<HBBI"
    program = [list(insn) for insn in struct.iter_unpack(order, raw)]
    json.dump({"program": program, "unknown": unknown, "micros": micros}, sys.stdout)


main()
