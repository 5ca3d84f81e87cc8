"""The real programs that tests compare with: where they are, and what a test does without them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES: dict[str, str] = dict(
    line.split()
    for line in (Path(__file__).parents[1] / "tools" / "oracle-tools.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
"""Command -> Debian's package of it."""

UNDER_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
"""There a skipped oracle test is a failure: see conftest.py."""


def find_tool(name: str) -> str | None:
    """The tool's path; Debian's ordinary users lack the sbin folders that mkntfs and mkfs.fat lie in."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def require_tool(name: str) -> str:
    """The tool's path, or the test is skipped with the package that has it. ``python3:NAME`` is a module of the
    system's own interpreter, whose path it then is; a path from the root is a file, a loader's code perhaps."""
    interpreter, _, module = name.partition(":")
    if module:
        system = f"/usr/bin/{interpreter}"
        probe = [system, "-c", f"import {module}"]
        if Path(system).exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return system
    path = find_tool(name)
    if name.startswith("/") and Path(name).exists():
        path = name
    if path is None:
        pytest.skip(f"{name} is missing: install {PACKAGES.get(name, name)}")
    return path


def run_tool(name: str, *arguments: str | os.PathLike[str], status: int | None = 0, timeout: float = 600) -> str:
    """Run the tool and return its stdout. ``status`` None takes any; another than expected fails with its output."""
    command = [require_tool(name), *map(os.fspath, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if status is not None and done.returncode != status:
        pytest.fail(f"{' '.join(command)}\nexit status {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
    return done.stdout
