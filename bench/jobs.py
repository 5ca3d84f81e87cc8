"""The rows of the table: what is run, by whom, and how it is proved that both did the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One row. ``theirs`` are candidates for qemu-img's best settings with equal durability; the fastest of a
    trial counts. ``{out}`` stands for the run's own output, ``{img}`` for its own copy of ``copy_of``."""

    name: str
    target: float
    ours: Command
    theirs: tuple[Command, ...]
    unsafe: Command | None = None
    """qemu-img as people type it, without a flush at the end."""
    compare_with: Path | None = None
    """Both outputs must equal this disk."""
    suffix: str = ".qcow2"
    copy_of: Path | None = None
    before: tuple[Command, ...] = ()
    """What each run's own copy needs first: snapshots to revert to."""
    check: bool = False
    """Both copies must be sound for qemu-img check afterwards."""
    verb: str = "convert"
    ok: tuple[int, ...] = (0,)
    extra: tuple[tuple[str, Command], ...] = field(default=())
    """Other settings of ours, shown beside it: (what, command)."""


def convert_jobs(byre: str, raw: Path, plain: Path, zlib: Path, zstd: Path) -> list[Job]:
    """The rows that move data."""

    def theirs(source: Path, source_format: str, *words: str) -> tuple[Command, ...]:
        head = ("qemu-img", "convert", "-t", "writeback", "-f", source_format)
        tail = (*words, str(source), "{out}")
        return ((*head, *tail), (*head, "-m", "16", "-W", *tail))

    def unsafe(source: Path, source_format: str, *words: str) -> Command:
        return ("qemu-img", "convert", "-f", source_format, *words, str(source), "{out}")

    def row(name: str, target: float, source: Path, kind: str, out: str, ours: Sequence[str], *words: str) -> Job:
        return Job(
            name=name,
            target=target,
            ours=(byre, "convert", str(source), "{out}", *ours),
            theirs=theirs(source, kind, "-O", out, *words),
            unsafe=unsafe(source, kind, "-O", out, *words),
            compare_with=raw,
            suffix=f".{out}",
        )

    level = (byre, "convert", str(raw), "{out}", "--compress", "zlib", "--level", "6")
    zlib_row = replace(
        row("raw → qcow2, zlib", 0.15, raw, "raw", "qcow2", ["--compress", "zlib"], "-c"),
        extra=(("--level 6, the size of qemu-img's", level),),
    )
    return [
        row("qcow2 → raw", 0.9, plain, "qcow2", "raw", []),
        row("raw → qcow2", 0.9, raw, "raw", "qcow2", []),
        row("qcow2 → qcow2", 0.9, plain, "qcow2", "qcow2", []),
        row("qcow2 (zlib) → raw", 0.5, zlib, "qcow2", "raw", []),
        zlib_row,
        row(
            "raw → qcow2, zstd",
            0.7,
            raw,
            "raw",
            "qcow2",
            ["--compress", "zstd"],
            "-c",
            "-o",
            "compression_type=zstd",
        ),
        _compare(byre, "compare raw, qcow2", 0.7, raw, plain),
        _compare(byre, "compare raw, qcow2 (zlib)", 0.4, raw, zlib),
        _compare(byre, "compare raw, qcow2 (zstd)", 0.4, raw, zstd),
    ]


FORMATS = {"vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx", "vmdk": "vmdk"}
"""Byre's names and qemu-img's."""


def format_jobs(byre: str, raw: Path, plain: Path, images: dict[str, Path], stream: Path) -> list[Job]:
    """Every other format: to qcow2 and back, to raw, and VMware's compressed stream both ways.

    ``images`` and ``stream`` were made by qemu-img, so that both read the same file.
    """

    def theirs(*words: str) -> tuple[Command, ...]:
        head = ("qemu-img", "convert", "-t", "writeback")
        return ((*head, *words), (*head, "-m", "16", "-W", *words))

    jobs = []
    for name, other in FORMATS.items():
        # A VHD keeps its exact size only if it is told to; Byre's always does.
        exact = ("-o", "force_size=on") if name == "vhd" else ()
        for source, kind, target, form in (
            (images[name], other, "raw", "raw"),
            (images[name], other, "qcow2", "qcow2"),
            (plain, "qcow2", name, other),
            (raw, "raw", name, other),
        ):
            words = exact if target == "vhd" else ()
            jobs.append(
                Job(
                    name=f"{'qcow2' if source is plain else 'raw' if source is raw else name} → {target}",
                    target=0.9,
                    ours=(byre, "convert", str(source), "{out}"),
                    theirs=theirs("-f", kind, "-O", form, *words, str(source), "{out}"),
                    compare_with=raw,
                    suffix=f".{target}",
                )
            )
    stream_words = ("-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", str(raw), "{out}")
    write = Job(
        name="raw → vmdk, streamOptimized",
        target=0.2,
        ours=(byre, "convert", str(raw), "{out}", "-o", "subformat=streamOptimized"),
        theirs=theirs(*stream_words),
        compare_with=raw,
        suffix=".vmdk",
    )
    read = Job(
        name="vmdk, streamOptimized → raw",
        target=0.5,
        ours=(byre, "convert", str(stream), "{out}"),
        theirs=theirs("-f", "vmdk", "-O", "raw", str(stream), "{out}"),
        compare_with=raw,
        suffix=".raw",
    )
    return [*jobs, write, read]


def _compare(byre: str, name: str, target: float, raw: Path, image: Path) -> Job:
    return Job(
        name=name,
        target=target,
        ours=(byre, "compare", str(raw), str(image), "-f", "raw"),
        theirs=(("qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(raw), str(image)),),
        verb="compare",
    )


def metadata_jobs(byre: str, huge: Path, label: str) -> list[Job]:
    """The rows over an image that is nothing but metadata."""

    def snapshot(name: str, ours: Sequence[str], theirs: Sequence[str], *, made: bool) -> Job:
        return Job(
            name=f"snapshot {name}, {label}",
            target=0.5,
            ours=(byre, "snapshot", name, "{img}", *ours),
            theirs=(("qemu-img", "snapshot", *theirs, "{img}"),),
            copy_of=huge,
            before=(("qemu-img", "snapshot", "-c", "one", "{img}"),) if made else (),
            check=True,
            verb="snapshot",
        )

    return [
        Job(
            name=f"check, {label}",
            target=0.5,
            ours=(byre, "check", str(huge)),
            theirs=(("qemu-img", "check", "-f", "qcow2", str(huge)),),
            verb="check",
        ),
        snapshot("create", ["one"], ["-c", "one"], made=False),
        snapshot("revert", ["one"], ["-a", "one"], made=True),
        snapshot("delete", ["one"], ["-d", "one"], made=True),
    ]
