#!/usr/bin/env python3
"""Runs the sessions on README and the verbs' pages again and puts today's output in where it has changed.

``tools/refresh_sessions.py [PAGE ...]``. An output that was cut short with ``...`` stays as short as it was. What
differs from run to run (times, space on the host) is left alone. ``tests/test_docs.py`` holds the pages to it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import byre

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from sessions import BLOCK, SESSION, comparable  # noqa: E402

SAMPLES = Path(byre.__file__).parent / "samples"


def main() -> int:
    named = [Path(word) for word in sys.argv[1:]]
    for page in named or [ROOT / "README.md", *sorted((ROOT / "docs" / "verbs").glob("*.md"))]:
        before = page.read_text(encoding="utf-8")
        after = refreshed(before, whole=page.name == "README.md")
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"{page}: changed")
    return 0


def refreshed(text: str, *, whole: bool) -> str:
    """The page with the outputs of its sessions as they are today. ``whole``: only ``...`` may cut one short."""
    with tempfile.TemporaryDirectory(prefix="byre-sessions-") as folder:
        for sample in SAMPLES.glob("*.qcow2"):
            shutil.copyfile(sample, Path(folder) / sample.name)
        return BLOCK.sub(lambda block: _block(block, Path(folder), whole), text)


def _block(block: re.Match[str], folder: Path, whole: bool) -> str:
    inside = SESSION.sub(lambda session: _session(session, folder, whole), block[1])
    return f"```console\n{inside}```"


def _session(session: re.Match[str], folder: Path, whole: bool) -> str:
    command, shown = session[1], session[2].rstrip("\n")
    words = [sys.executable, "-m", "byre", *shlex.split(command, comments=True)[1:]]
    environment = {**os.environ, "XDG_DATA_HOME": "/nonexistent", "XDG_CACHE_HOME": str(folder / ".cache")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode >= 64:
        sys.exit(f"{command}: exit status {done.returncode}\n{done.stderr}")
    expected = comparable(shown.removesuffix("..."))
    today = comparable(done.stdout)
    cut = shown.endswith("...")
    if not shown or (today if whole and not cut else today[: len(expected)]) == expected:
        return session[0]
    lines = done.stdout.rstrip("\n").splitlines()
    if cut or not whole:
        lines = [*lines[: len(expected)], *(["..."] if cut else [])]
    return "\n".join([f"$ {command}", *(line.rstrip() for line in lines), ""])


if __name__ == "__main__":
    sys.exit(main())
