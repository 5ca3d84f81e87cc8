#!/usr/bin/env python3
"""``make demo``: what Byre is for, on a copy of the image that ships with it. All output is the verbs' own."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

import byre

FOLDER = Path("demo")
IMAGE = "farm.qcow2"
MACHINE = "specimen.qcow2"
SAMPLES = Path(byre.__file__).parent / "samples"

console = Console(highlight=False, emoji=False)


def main() -> int:
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for name in (MACHINE, IMAGE):
        if not (SAMPLES / name).exists():
            console.print(f"the sample image is missing: {SAMPLES / name}", markup=False)
            return 1
        shutil.copyfile(SAMPLES / name, FOLDER / name)
    opening()
    audit()
    look_inside()
    look()
    keep()
    break_it()
    bring_back()
    move_on()
    hand_over()
    slim_down()
    closing(time.monotonic() - began)
    return 0


def opening() -> None:
    console.print()
    text = Text.assemble(
        ("Byre", "bold"),
        ", a home for the disk images of machines that can't be replaced.\n",
        "You will see a machine audited without booting it, before and after a visit;\n"
        "then a disk snapshotted, broken, brought back, converted and checked.\n",
        (f"Both come with Byre and hold nothing of Microsoft's. All is in ./{FOLDER}/.", "dim"),
    )
    console.print(Panel(text, border_style="green", padding=(0, 1)))


def audit() -> None:
    step(
        1,
        "A machine from a shelf: will it boot, where, can it be trusted?",
        "Nothing is booted, nothing mounted, no root. Every word rests on a rule: see 'byre explain'.",
    )
    run("audit", f"{MACHINE}@clean", "--report", "clean.json", expected=(0, 2))
    step(
        2,
        "The same machine, a week later",
        "Only what is new since the first audit counts; the HTML report shows all of it.",
    )
    run(
        *("audit", f"{MACHINE}@infected", "--baseline", "clean.json"),
        *("--report", "infected.html"),
        expected=(0, 2),
    )
    note(f"Open ./{FOLDER}/infected.html in a browser: it loads nothing and runs nothing.")


def look_inside() -> None:
    step(
        3,
        "What did the visitor change?",
        "The two snapshots of that machine, told as files, registry and services.",
    )
    run("diff", f"{MACHINE}@clean", f"{MACHINE}@infected", expected=(1,))


def look() -> None:
    step(4, "Another disk, an NTFS that QEMU wrote", "No root, no mounting, no QEMU: only the file.")
    run("info", IMAGE)
    run("tree", IMAGE)


def keep() -> None:
    step(
        5,
        "Before anybody touches it: a snapshot",
        "It shares its clusters with the disk, so it costs next to nothing.",
    )
    run("snapshot", "create", IMAGE, "before-the-visit")
    run("snapshot", "list", IMAGE)


def break_it() -> None:
    step(
        6,
        "The accident",
        "Somebody overwrites the first sector, the partition table with it. In Python:",
    )
    source = (
        f'with byre.open_disk("{IMAGE}", writable=True) as disk:\n'
        '    disk.write(0, b"Kilroy was here. " * 30 + bytes(2))'
    )
    console.print(Padding(Text(source, style="cyan"), (0, 0, 0, 2)))
    console.print()
    with byre.open_disk(FOLDER / IMAGE, writable=True) as disk:
        disk.write(0, b"Kilroy was here. " * 30 + bytes(2))  # type: ignore[attr-defined]
    run("read", IMAGE, "0", "64", "--hex")
    note("This machine would not start any more. What else was changed? Only this:")
    run("compare", IMAGE, f"{IMAGE}@before-the-visit", expected=(1,))


def bring_back() -> None:
    step(7, "Undo", "Back to the snapshot. A power cut halfway would leave the old state or the new, never half.")
    run("snapshot", "revert", IMAGE, "before-the-visit")
    run("compare", IMAGE, f"{IMAGE}@before-the-visit")


def move_on() -> None:
    step(
        8,
        "Take it elsewhere",
        "One state as a raw disk for any hypervisor; all of them, compressed, for the shelf.",
    )
    run("convert", f"{IMAGE}@clean", "farm-as-it-was.raw")
    run("convert", IMAGE, "farm-for-the-shelf.qcow2", "--with-snapshots", "--compress", "zstd")
    run("compare", f"{IMAGE}@spring", "farm-for-the-shelf.qcow2@spring")
    step(9, "Is it all sound?", "Every reference, refcount, flag and snapshot table, in both images.")
    run("check", IMAGE)
    run("check", "farm-for-the-shelf.qcow2")


def hand_over() -> None:
    step(
        10,
        "Hand the machine to a hypervisor",
        "Disk and settings in its own words, nothing plugged in. A start that would fail is refused beforehand.",
    )
    run("export", MACHINE, "--to", "virtualbox")
    run("export", MACHINE, "--to", "kubevirt", expected=(69,))


def slim_down() -> None:
    step(11, "Make it lean", "What can go, and what needs it; gone on a copy, which is proved before it is written.")
    run("slim", f"{MACHINE}@clean", "--profile", "lite", "-o", "lean.qcow2", "--compress")


def closing(seconds: float) -> None:
    sizes = "\n".join(
        f"  {path.name:<26} {path.stat().st_size / 1024:>8,.0f} KiB" for path in sorted(FOLDER.iterdir())
    )
    text = Text.assemble(
        (f"Done in {seconds:.1f} s. ", "bold green"),
        f"In ./{FOLDER}/ you have\n{sizes}\n\n",
        ("Now your own image ", "bold"),
        "(the first five only look):",
        "\n  .venv/bin/byre audit YOUR.qcow2             will it boot, is it clean?\n"
        "  .venv/bin/byre info YOUR.qcow2              what the image is\n"
        "  .venv/bin/byre inspect YOUR.qcow2           what machine is in it\n"
        "  .venv/bin/byre check YOUR.qcow2             is it sound?\n"
        "  .venv/bin/byre slim --list YOUR.qcow2       what could go from it?\n"
        "  .venv/bin/byre snapshot create YOUR.qcow2 before-i-touch-it\n"
        "  .venv/bin/byre convert YOUR.vmdk NEW.qcow2  from one format to another\n"
        "  .venv/bin/byre --help                       all verbs",
    )
    console.print()
    console.print(Panel(text, border_style="green", padding=(0, 1)))


def step(number: int, what: str, why: str) -> None:
    console.print(Rule(Text(f"{number}. {what}", style="bold"), align="left", style="green"))
    note(why)


def note(text: str) -> None:
    console.print(Text(text, style="dim"))
    console.print()


def run(*arguments: str, expected: tuple[int, ...] = (0,)) -> None:
    """Show the command as one would type it, then run it for real and show what it says."""
    console.print(Text.assemble(("$ ", "dim"), (shlex.join(["byre", *arguments]), "bold cyan")), soft_wrap=True)
    done = subprocess.run(
        [sys.executable, "-m", "byre", *arguments],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    for line in done.stdout.rstrip().splitlines():
        console.print(Text(f"  {line}"), soft_wrap=True)
    if done.returncode not in expected:
        wanted = " or ".join(map(str, expected))
        console.print(f"the demo stops: exit status {done.returncode}, not {wanted}", style="bold red")
        sys.exit(1)
    if done.returncode:
        console.print(Text(f"  (exit status {done.returncode})", style="dim"))
    console.print()


if __name__ == "__main__":
    sys.exit(main())
