"""Running ``byre`` as a user does: as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

COMMAND = [sys.executable, "-m", "byre"]
PEAK = "1024 * int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
"""Python for a process's own peak memory, in bytes. Unlike ``ru_maxrss`` it doesn't begin with that of the process
which started it."""


def byre(
    *arguments: str | os.PathLike[str],
    status: int | None = 0,
    environment: Mapping[str, str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run it; another exit status than ``status`` (None: any) fails with what it said."""
    done = subprocess.run(
        [*COMMAND, *map(os.fspath, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=folder,
        env={**os.environ, **(environment or {})},
    )
    assert status is None or done.returncode == status, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def byre_json(
    *arguments: str | os.PathLike[str], status: int | None = 0, folder: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Run it with --json and parse the one object on stdout."""
    payload = json.loads(byre(*arguments, "--json", status=status, folder=folder).stdout)
    assert isinstance(payload, dict)
    return payload
