"""A QEMU whose KVM fails on demand, as no real one does: a program that plays it, and under TCG is the real one."""

from __future__ import annotations

import sys
from pathlib import Path

from oracles import require_tool

_PROGRAM = """#!{python}
import json, os, re, socket, sys

words = sys.argv[1:]
if not any("accel=kvm" in word for word in words):
    os.execv({real!r}, [{real!r}, *words])
if {how!r} == "refused":
    print("Could not access KVM kernel module: Permission denied", file=sys.stderr)
    print("qemu-system-x86_64: failed to initialize kvm: Permission denied", file=sys.stderr)
    raise SystemExit(1)
listening = socket.socket(socket.AF_UNIX)
listening.bind(next(re.search("id=watch,path=([^,]+)", word)[1] for word in words if "id=watch," in word))
listening.listen()
stream = listening.accept()[0].makefile("rw")
answers = {{
    "query-status": {{"status": "internal-error", "running": False}},
    "query-blockstats": [{{"stats": {{"wr_operations": {writes}, "unmap_operations": 0}}}}],
}}


def say(value):
    stream.write(json.dumps(value) + "\\n")
    stream.flush()


say({{"QMP": {{"version": {{"qemu": {{"major": 7, "minor": 2, "micro": 0}}}}}}}})
for line in stream:
    asked = json.loads(line)
    say({{"return": answers.get(asked["execute"], {{}}), "id": asked.get("id")}})
    if asked["execute"] == "set_link":  # the last thing that is asked before it is watched
        say({{"event": "STOP", "timestamp": {{"seconds": 1, "microseconds": 0}}}})
    if asked["execute"] == "quit":
        break
"""


def failing_kvm(folder: Path, how: str, *, writes: int = 0) -> Path:
    """The folder of such a program. ``how``: "refused" (it ends at once), "internal-error" (it starts, and KVM
    gives up when the guest has done that many writes)."""
    folder.mkdir(mode=0o755)
    program = folder / "qemu-system-x86_64"
    real = require_tool("qemu-system-x86_64")
    program.write_text(_PROGRAM.format(python=sys.executable, real=real, how=how, writes=writes))
    program.chmod(0o755)
    return folder
