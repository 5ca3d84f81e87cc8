"""What a hypervisor or cloud demands of a disk file: rules as pure functions over the facts of one file.

A rule says yes, no, or *unknown* where the file doesn't tell; unknown is never taken for yes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TypeAlias

from byre.units import GIB, MIB, SECTOR, TIB, align_up, format_size

HEAD_BYTES = 4096
TAIL_BYTES = 1024


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the rules look at. Sizes are bytes; ``head`` and ``tail`` are the file's first 4096 and last 1024."""

    name: str
    format: str
    subformat: str | None
    virtual_size: int
    sector_size: int
    file_size: int
    has_holes: bool | None
    """Whether the file is sparse on this host; None where the file system doesn't say."""
    backing: str | None
    data_file: str | None
    encrypted: bool
    snapshots: int
    head: bytes
    tail: bytes
    extents: tuple[str, ...] = ()
    """The names of the other files that hold the disk itself: those of a split or flat VMDK."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``holds`` None: the file doesn't tell. ``found`` is what was seen, for the report."""

    holds: bool | None
    found: str


Check: TypeAlias = Callable[[FileFacts], Verdict]


@dataclass(frozen=True, slots=True)
class Rule:
    """One demand of a target. ``source`` is where it stands; ``checked`` how far that was followed up: *read*
    (in that source), *ran* (seen in a test), *unchecked* (general knowledge)."""

    id: str
    says: str
    reason: str
    source: str
    checked: str
    check: Check


@dataclass(frozen=True, slots=True)
class Target:
    """One place. ``size_multiple`` is what the virtual size is rounded up to; ``sparse`` whether the file may
    have holes on the host; ``suffix`` what its name should end in."""

    name: str
    title: str
    format: str
    suffix: str
    options: Mapping[str, object] = field(default_factory=dict)
    size_multiple: int = SECTOR
    sparse: bool = True
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()

    def round_size(self, size: int) -> int:
        """The virtual size that a disk of ``size`` bytes gets there; what is added is zeros."""
        return align_up(size, self.size_multiple)


def format_is(*allowed: str) -> Check:
    """The file is in one of these formats."""

    def check(facts: FileFacts) -> Verdict:
        return Verdict(facts.format in allowed, facts.format)

    return check


def subformat_is(format: str, *allowed: str) -> Check:
    """A file of this format is of one of these kinds; other formats are not this rule's business."""

    def check(facts: FileFacts) -> Verdict:
        if facts.format != format:
            return Verdict(True, f"not a {format}")
        if facts.subformat is None:
            return Verdict(None, "subformat unknown")
        return Verdict(facts.subformat.lower() in {entry.lower() for entry in allowed}, facts.subformat)

    return check


def virtual_size_multiple(unit: int) -> Check:
    """The virtual size is a multiple of ``unit`` bytes."""

    def check(facts: FileFacts) -> Verdict:
        rest = facts.virtual_size % unit
        return Verdict(rest == 0, f"{facts.virtual_size} bytes" + (f", {rest} too many" if rest else ""))

    return check


def virtual_size_at_most(limit: int, format: str | None = None) -> Check:
    """The virtual size is at most ``limit`` bytes, where the file is of this format."""

    def check(facts: FileFacts) -> Verdict:
        applies = format in (None, facts.format)
        return Verdict(not applies or facts.virtual_size <= limit, format_size(facts.virtual_size))

    return check


def virtual_size_at_least(limit: int) -> Check:
    """The virtual size is at least ``limit`` bytes."""

    def check(facts: FileFacts) -> Verdict:
        return Verdict(facts.virtual_size >= limit, format_size(facts.virtual_size))

    return check


def suffix_is(*allowed: str) -> Check:
    """The name ends in one of these, in lower case and with the dot."""

    def check(facts: FileFacts) -> Verdict:
        suffix = PurePath(facts.name).suffix.lower()
        return Verdict(suffix in allowed, suffix or "no suffix")

    return check


def self_contained(facts: FileFacts) -> Verdict:
    """Nothing of the disk lies in a parent or a data file that would stay behind."""
    needs = facts.backing or facts.data_file
    return Verdict(needs is None, f"needs {needs}" if needs else "whole")


def one_file(facts: FileFacts) -> Verdict:
    """As ``self_contained``, and the disk isn't spread over several files either."""
    if facts.extents:
        more = f" and {len(facts.extents) - 1} more" if len(facts.extents) > 1 else ""
        return Verdict(False, f"needs {facts.extents[0]}{more}")
    return self_contained(facts)


def not_encrypted(facts: FileFacts) -> Verdict:
    """The disk can be read without a key."""
    return Verdict(not facts.encrypted, "encrypted" if facts.encrypted else "plain")


def sectors_of_512(facts: FileFacts) -> Verdict:
    """The guest sees sectors of 512 bytes."""
    return Verdict(facts.sector_size == 512, f"{facts.sector_size} bytes")


def not_sparse(facts: FileFacts) -> Verdict:
    """The file has no holes; undecided where its file system doesn't tell."""
    if facts.has_holes is None:
        return Verdict(None, "the file system doesn't say")
    return Verdict(not facts.has_holes, "has holes" if facts.has_holes else "no holes")


def vhd_footer_matches(facts: FileFacts) -> Verdict:
    """The file is the disk and then a 512-byte footer that says the same size."""
    footer = facts.tail[-512:]
    if not footer.startswith(b"conectix"):
        return Verdict(False, "no VHD footer in the last 512 bytes")
    current = int.from_bytes(footer[48:56], "big")
    kind = int.from_bytes(footer[60:64], "big")
    if kind != 2:
        return Verdict(False, f"disk type {kind}")
    holds = current + 512 == facts.file_size
    return Verdict(holds, f"footer says {current} bytes, the file has {facts.file_size - 512} before it")


def stream_ends_at_marker(facts: FileFacts) -> Verdict:
    """The last two sectors are the footer and the end-of-stream marker, which is all zeros."""
    if facts.format != "vmdk" or facts.subformat != "streamOptimized":
        return Verdict(True, "not streamOptimized")
    footer, marker = facts.tail[-1024:-512], facts.tail[-512:]
    holds = footer.startswith(b"KDMV") and not any(marker)
    return Verdict(holds, "ends with its marker" if holds else "bytes follow the end-of-stream marker")


def stream_header_version(facts: FileFacts) -> Verdict:
    """A streamOptimized VMDK states version 3 of its header."""
    if facts.format != "vmdk" or facts.subformat != "streamOptimized" or not facts.head.startswith(b"KDMV"):
        return Verdict(True, "not streamOptimized")
    version = int.from_bytes(facts.head[4:8], "little")
    return Verdict(version == 3, f"version {version}")


def vdi_has_uuid(facts: FileFacts) -> Verdict:
    """VirtualBox knows a medium by the UUID in its header (offset 0x188 of a VDI)."""
    if facts.format != "vdi":
        return Verdict(True, "not a VDI")
    uuid = facts.head[0x188:0x198]
    return Verdict(len(uuid) == 16 and any(uuid), uuid.hex())


def name_of_ascii(facts: FileFacts) -> Verdict:
    """The names of all files hold only what Proxmox VE's OVF import takes in a name."""
    names = [PurePath(facts.name).name, *facts.extents]
    bad = [
        name for name in names if not all(each.isascii() and (each.isalnum() or each in " -.+=_") for each in name)
    ]
    return Verdict(not bad, (bad or names)[0])


# Limits that several rules name.
AZURE_SMALLEST = 20 * MIB
AZURE_LARGEST = 32 * TIB
VHD_LARGEST = 2040 * GIB
VHDX_LARGEST = 64 * TIB
MBR_LARGEST = 2 * TIB
