"""Running QEMU's tools as oracles."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from oracles import require_tool


def qemu_img(*words: str | Path, ok: tuple[int, ...] = (0,)) -> str:
    """Run qemu-img; its standard output."""
    require_tool("qemu-img")
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, text=True)
    assert done.returncode in ok, (
        f"qemu-img {' '.join(map(str, words))}: {done.returncode} {done.stderr}{done.stdout}"
    )
    return done.stdout


def qemu_io(image: Path, commands: Iterable[str], *options: str) -> str:
    """Run qemu-io with one command after the other."""
    require_tool("qemu-io")
    script = "\n".join([*commands, "quit"]) + "\n"
    done = subprocess.run(["qemu-io", *options, str(image)], input=script, capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if "failed" in line or "rror" in line]
    assert done.returncode == 0 and not failed, f"qemu-io {image}: {failed} {done.stderr}"
    return done.stdout


def qemu_check(image: Path) -> dict[str, Any]:
    """What ``qemu-img check`` says, as its JSON; a broken image doesn't raise."""
    text = qemu_img("check", "-f", "qcow2", "--output=json", image, ok=(0, 2, 3))
    found: dict[str, Any] = json.loads(text)
    return found


def assert_sound(image: Path, *, leaks: bool = False) -> None:
    """Fail unless ``qemu-img check`` finds nothing; ``leaks``: leaked clusters are allowed."""
    found = qemu_check(image)
    assert not found.get("corruptions") and not found.get("check-errors"), found
    assert leaks or not found.get("leaks"), found


def assert_same(left: Path, right: Path, left_format: str = "qcow2", right_format: str = "raw") -> None:
    """Fail unless ``qemu-img compare`` sees the same bytes."""
    qemu_img("compare", "-f", left_format, "-F", right_format, left, right)


def create_encrypted(image: Path, method: str, *options: str, size: str = "4M") -> tuple[str, ...]:
    """An image that QEMU encrypts ("luks" or "aes"); the options with which its tools open it.

    On a busy machine QEMU fails to measure how fast it derives keys, so it is asked until it doesn't.
    """
    secret = ("--object", "secret,id=key,data=abc")
    quick = ["encrypt.iter-time=100"] if method == "luks" else []
    chosen = ",".join([f"encrypt.format={method}", "encrypt.key-secret=key", *quick, *options])
    for attempt in range(30):
        ok = (0,) if attempt == 29 else (0, 1)
        image.unlink(missing_ok=True)
        qemu_img("create", "-q", "-f", "qcow2", *secret, "-o", chosen, image, size, ok=ok)
        if image.exists():
            break
    return (
        *secret,
        "--image-opts",
        f"driver=qcow2,encrypt.format={method},encrypt.key-secret=key,file.filename={image}",
    )
