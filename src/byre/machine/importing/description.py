"""What a descriptor says of a machine, as far as Byre has a word for it; and what of it is left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from byre.machine.overrides import Value

MAX_TEXT = 200
MAX_DISKS = 32
MAX_LISTED = 200


@dataclass(frozen=True, slots=True)
class StateName:
    """A snapshot of the machine: what it is called, and the file that holds the disk as it was then."""

    path: str
    name: str
    created: str | None = None


@dataclass(frozen=True, slots=True)
class DiskReference:
    """A disk as the descriptor names it. ``format`` is in Byre's words, None where it isn't said; ``states`` are the
    machine's snapshots that this disk has files for; ``parents`` other files of its chain."""

    path: str
    format: str | None = None
    states: tuple[StateName, ...] = ()
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """One machine. ``settings`` are fields of ``hardware.Machine`` in its words; the boot disk comes first.
    ``dropped`` lists what is not taken over on purpose: host devices, shares, arguments for QEMU."""

    kind: str
    name: str
    title: str
    settings: Mapping[str, Value]
    disks: tuple[DiskReference, ...]
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Collected:
    """A description in the making. Mutable for that reason."""

    settings: dict[str, Value] = field(default_factory=dict)
    disks: list[DiskReference] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def say(self, field_name: str, words: Mapping[str, str], found: str | None, what: str) -> None:
        """The setting, where the descriptor's word has one of ours; else a note."""
        if found is None:
            return
        if found in words:
            self.settings[field_name] = words[found]
        else:
            self.notes.append(f"{what} {clip(found)} is none that Byre knows: the guest's own facts decide")

    def drop(self, what: str) -> None:
        if len(self.dropped) < MAX_LISTED:
            self.dropped.append(clip(what))

    def done(self, kind: str, name: str, title: str) -> Description:
        return Description(
            kind,
            clip(name) or "machine",
            clip(title),
            dict(self.settings),
            tuple(self.disks[:MAX_DISKS]),
            tuple(dict.fromkeys(self.dropped)),
            tuple(dict.fromkeys(self.notes)),
        )


def clip(text: str) -> str:
    """Text of bounded length."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def turned(words: Mapping[str, str], *more: tuple[str, str]) -> dict[str, str]:
    """The words of an exporter read backwards; ``more`` are spellings that only others use."""
    made: dict[str, str] = {}
    for ours, theirs in words.items():
        made.setdefault(theirs, ours)
    return {**made, **dict(more)}


def whole_number(text: str | None, low: int, high: int) -> int | None:
    """The number in decimal digits, None where there is none or it is out of range."""
    if text is None or not text.strip().isdecimal() or not text.isascii() or len(text) > 20:
        return None
    number = int(text)
    return number if low <= number <= high else None


def memory_setting(mebibytes: int | None) -> int | None:
    """A memory size in bytes that a machine may have, from MiB."""
    return mebibytes << 20 if mebibytes is not None and 1 <= mebibytes <= 64 << 10 else None
