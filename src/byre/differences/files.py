"""The files of two states of a volume: added, removed, changed, renamed, or other metadata only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from byre.differences.blocks import Blocks
from byre.differences.noise import file_noise
from byre.errors import ByreError
from byre.extents import Kind
from byre.filesystems.base import REPARSE_POINT, Entry, FileSystem
from byre.filesystems.ntfs.untouched import Untouched
from byre.volumes.problems import Problems

ALWAYS_COMPARED = frozenset({"/$boot"})
"""Of the file system's own files only this one is compared unless everything is asked for: code starts there."""
MAX_HASHED = 256 << 20
"""Bytes in each state that are read, at most, to find renamed files by their content."""
TIMES_ONLY = "times only"
_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file or folder that differs. ``kind``: ``added``, ``removed``, ``changed``, ``renamed``, ``metadata``.

    ``what`` names what differs: ``content``, ``size``, ``attributes``, ``created``, ``modified``, ``accessed``,
    ``short name``, ``reparse point``, ``stream NAME``. ``noise`` says why it is folded away, None where it isn't.
    """

    kind: str
    path: str
    before: Entry | None
    after: Entry | None
    what: tuple[str, ...] = ()
    noise: str | None = None

    @property
    def is_dir(self) -> bool:
        entry = self.after or self.before
        return entry is not None and entry.is_dir

    @property
    def old_path(self) -> str | None:
        """Where a renamed file was before."""
        return self.before.path if self.kind == "renamed" and self.before is not None else None


class FileComparison:
    """Two states of one volume. ``blocks`` None: they lie at other places of their disks, so that only reading
    can say whether a file is the same."""

    def __init__(
        self, old: FileSystem, new: FileSystem, blocks: Blocks | None, problems: Problems, *, everything: bool = False
    ) -> None:
        self.old = old
        self.new = new
        self.blocks = blocks
        self.problems = problems
        self.everything = everything
        self.bytes_read = 0
        self.untouched = Untouched(old, new, blocks.apart if blocks is not None else None)

    def changes(self) -> list[FileChange]:
        """All of them by path; what is folded away is there too, with its ``noise``."""
        left, right = (list(files.walk(system=True)) for files in (self.old, self.new))
        self.untouched.learn()
        before = {entry.path: entry for entry in left if self._is_wanted(entry.path)}
        after = {entry.path: entry for entry in right if self._is_wanted(entry.path)}
        found: list[FileChange] = []
        for path, entry in before.items():
            other = after.get(path)
            if other is not None and other.is_dir == entry.is_dir:
                change = self._compare(entry, other)
                if change is not None:
                    found.append(change)
        gone = {path: entry for path, entry in before.items() if not _stays(entry, after)}
        come = {path: entry for path, entry in after.items() if not _stays(entry, before)}
        found += self._renamed(gone, come)
        found += [FileChange("removed", path, entry, None, (), file_noise(path)) for path, entry in gone.items()]
        found += [FileChange("added", path, None, entry, (), file_noise(path)) for path, entry in come.items()]
        return sorted(found, key=lambda change: (change.path, change.kind))

    def _is_wanted(self, path: str) -> bool:
        return self.everything or not _is_own(path) or path.casefold() in ALWAYS_COMPARED

    # Two entries of one file

    def _compare(self, old: Entry, new: Entry, kind: str = "") -> FileChange | None:
        if not kind and old == new and self.untouched.is_same(old, new):
            return None
        what = [] if old.is_dir else self._content(old, new)
        what += self._streams(old, new)
        noise = None
        if what:
            noise = file_noise(new.path)
        else:
            what, noise = _metadata(old, new)
            if kind and noise == TIMES_ONLY:
                what = []
        if not what and not kind:
            return None
        told = kind or ("changed" if any(_is_content(each) for each in what) else "metadata")
        return FileChange(told, new.path, old, new, tuple(what), noise if not kind else file_noise(new.path))

    def _content(self, old: Entry, new: Entry) -> list[str]:
        if old.size != new.size:
            return ["content", "size"]
        return ["content"] if old.size and self._bytes_differ(old, new, "") else []

    def _streams(self, old: Entry, new: Entry) -> list[str]:
        if not old.streams and not new.streams:
            return []
        before = {stream.name: stream.size for stream in old.streams}
        after = {stream.name: stream.size for stream in new.streams}
        return [
            f"stream {name}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name) or (before[name] and self._bytes_differ(old, new, name))
        ]

    def _bytes_differ(self, old: Entry, new: Entry, stream: str) -> bool:
        try:
            if self.blocks is not None:
                first, second = self.old.extents(old, stream), self.new.extents(new, stream)
                if np.array_equal(first, second) and not _is_resident(first):
                    return self._extents_differ(first)
                if np.array_equal(first, second) and not self._touched(first):
                    return False
            return self._read_differs(old, new, stream)
        except ByreError as error:
            self.problems.add("differences.unreadable", f"{new.path} can't be compared: {error}")
            return old.modified != new.modified

    def _touched(self, extents: np.ndarray) -> bool:
        """Whether a resident value's sectors may differ: all of them, for the fixups at their ends."""
        assert self.blocks is not None
        return any(
            self.blocks.touches(disk - disk % 512, -(-(disk + stored) // 512) * 512)
            for disk, stored in zip(extents["disk"].tolist(), extents["stored"].tolist(), strict=True)
        )

    def _extents_differ(self, extents: np.ndarray) -> bool:
        assert self.blocks is not None
        held = extents[extents["kind"] != Kind.ZERO]
        return any(
            self.blocks.differ(disk, disk + stored)
            for disk, stored in zip(held["disk"].tolist(), held["stored"].tolist(), strict=True)
        )

    def _read_differs(self, old: Entry, new: Entry, stream: str) -> bool:
        pairs = zip(
            self.old.chunks(old, stream, _STEP), self.new.chunks(new, stream, _STEP), strict=False
        )  # of equal size: the caller has looked
        for first, second in pairs:
            self.bytes_read += len(first)
            if first != second:
                return True
        return False

    # Renames

    def _renamed(self, gone: dict[str, Entry], come: dict[str, Entry]) -> list[FileChange]:
        """Pairs of what has gone and what has come that are one file; they are taken out of both."""
        pairs = self._by_id(gone, come)
        pairs += self._by_content(gone, come)
        folders = {old.path: new.path for old, new in pairs if old.is_dir}
        found = []
        for old, new in pairs:
            change = self._compare(old, new, "renamed")
            assert change is not None
            parent, _, name = old.path.rpartition("/")
            if folders.get(parent) is not None and f"{folders[parent]}/{name}" == new.path:
                # The folder above was renamed and has told it; a change beyond the name still counts.
                change = self._compare(old, new)
                if change is None:
                    continue
            found.append(change)
        return found

    def _by_id(self, gone: dict[str, Entry], come: dict[str, Entry]) -> list[tuple[Entry, Entry]]:
        """By the MFT reference, which has a sequence number: another file in the same record has another one."""
        if self.old.type != "ntfs" or self.new.type != "ntfs" or self.blocks is None:
            return []
        by_id: dict[int, Entry] = {}
        for entry in gone.values():
            by_id.setdefault(entry.id, entry)
        pairs = []
        for path, entry in list(come.items()):
            old = by_id.get(entry.id)
            if old is not None and old.is_dir == entry.is_dir and old.created == entry.created:
                pairs.append((old, entry))
                del by_id[entry.id], gone[old.path], come[path]
        return pairs

    def _by_content(self, gone: dict[str, Entry], come: dict[str, Entry]) -> list[tuple[Entry, Entry]]:
        wanted = {entry.size for entry in gone.values() if entry.size and not entry.is_dir}
        wanted &= {entry.size for entry in come.values() if not entry.is_dir}
        left = [e for e in gone.values() if e.size in wanted and not e.is_dir]
        right = [e for e in come.values() if e.size in wanted and not e.is_dir]
        known: dict[bytes, list[Entry]] = {}
        for entry, digest in self._digests(self.old, left):
            known.setdefault(digest, []).append(entry)
        pairs = []
        for entry, digest in self._digests(self.new, right):
            if known.get(digest):
                old = known[digest].pop(0)
                pairs.append((old, entry))
                del gone[old.path], come[entry.path]
        return pairs

    def _digests(self, files: FileSystem, entries: list[Entry]) -> Iterator[tuple[Entry, bytes]]:
        left = MAX_HASHED
        for entry in sorted(entries, key=lambda entry: entry.size):
            left -= entry.size
            if left < 0:
                return
            digest = hashlib.sha256()
            try:
                for chunk in files.chunks(entry):
                    digest.update(chunk)
            except ByreError:
                continue
            self.bytes_read += entry.size
            yield entry, digest.digest()


def _stays(entry: Entry, others: dict[str, Entry]) -> bool:
    other = others.get(entry.path)
    return other is not None and other.is_dir == entry.is_dir


def _is_own(path: str) -> bool:
    """Whether it is one of NTFS's own files: they stand in the root, and below $Extend."""
    return path.startswith("/$") and not path.startswith("/$OrphanFiles")


def _is_content(what: str) -> bool:
    return what == "content" or what.startswith("stream ")


def _is_resident(extents: np.ndarray) -> bool:
    """Whether a value lies inside an MFT record, whose sectors end in fixups that change by themselves."""
    return len(extents) == 1 and int(extents["disk"][0]) % 512 != 0


def _metadata(old: Entry, new: Entry) -> tuple[list[str], str | None]:
    """What differs besides the bytes, and why it says nothing. A folder's times follow from what is in it."""
    what = []
    if old.attributes & ~REPARSE_POINT != new.attributes & ~REPARSE_POINT:
        what.append("attributes")
    if old.reparse != new.reparse:
        what.append("reparse point")
    if old.short_name != new.short_name:
        what.append("short name")
    times = [name for name in ("created", "modified") if getattr(old, name) != getattr(new, name)]
    if what or (times and not new.is_dir):
        return what + times, file_noise(new.path)
    if old.accessed != new.accessed:
        times.append("accessed")
    return times, TIMES_ONLY if times else None
