#!/usr/bin/env python3
"""Runs a command on a terminal of its own where nobody types, and prints what it writes there: on-terminal.py COMMAND..."""

import os
import pty
import sys

pid, master = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        data = os.read(master, 4096)
    except OSError:
        # EIO: nobody has the other end any more.
        break
    sys.stdout.buffer.write(data.replace(b"\r", b""))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
