"""Directory indexes (``$I30``) held against the MFT: the same names, told twice.

A directory keeps its names in a tree: the root in its MFT record, the rest in blocks with fixups, of which a bitmap
says which are in use. Byre lists directories by the MFT's own names; where the index says otherwise, Windows sees
other files than Byre does. Blocks are read in slices, and the k-th entry of every block is handled at once. Only
blocks in use are looked at; that the tree leads to each of them isn't.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from byre.errors import ByreError, CorruptImageError
from byre.filesystems.ntfs.content import read_content
from byre.filesystems.ntfs.names import IS_DIRECTORY, alive
from byre.filesystems.ntfs.records import (
    BITMAP,
    FILE_NAME,
    INDEX_ALLOCATION,
    INDEX_ROOT,
    REFERENCE_MASK,
    Attribute,
    Bytes2D,
    Record,
    apply_fixups,
    parse_record,
)
from byre.filesystems.ntfs.streams import StreamMap, stream_map
from byre.filesystems.ntfs.table import Int64s, numbers_at
from byre.volumes.problems import Problems

if TYPE_CHECKING:
    from byre.filesystems.ntfs.filesystem import NtfsFileSystem

NAME = "$I30"
SLICE_BYTES = 4 << 20
_HEADER = 16
"""Bytes of an index node's header; in a block it starts at 0x18, in the root attribute at 0x10."""
_LAST_ENTRY = 2
_KEY = 16
"""Where an entry's key, a $FILE_NAME, starts."""
_MAX_TOLD = 1000

Uint64s = npt.NDArray[np.uint64]
_WEIGHTS = np.random.Generator(np.random.PCG64(0x4930)).integers(1, 1 << 63, 256, dtype=np.uint64) | np.uint64(1)
"""A name's hash is the sum of its units, each times the weight of its place, modulo 2^64."""


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Index nodes of any directories, a row of bytes each: whose, and where in the row the entries begin and end."""

    rows: Bytes2D
    directory: Int64s
    begin: Int64s
    end: Int64s


def check_indexes(fs: NtfsFileSystem) -> None:
    """Report names that only the index or only the MFT has, and indexes that can't be read."""
    _Comparison(fs).run()


class _Comparison:
    """One comparison. Mutable: it strikes off the MFT's names as the indexes name them."""

    def __init__(self, fs: NtfsFileSystem) -> None:
        self.fs = fs
        self.table = fs.table
        names, facts = self.table.names, self.table.facts
        living = alive(facts)
        parent = np.where(names["parent"] < len(facts), names["parent"], 0)
        attached = (
            living[names["record"]]
            & (names["parent"] < len(facts))
            & living[parent]
            & (facts["flags"][parent] & IS_DIRECTORY != 0)
            & ((facts["sequence"][parent] == names["parent_sequence"]) | (names["parent_sequence"] == 0))
        )
        self.rows = np.flatnonzero(attached)
        self.directories = np.flatnonzero(living & (facts["flags"] & IS_DIRECTORY != 0))
        self.unread: set[int] = set()
        self.left = fs.boot.clusters * fs.boot.cluster_size
        """Bytes of indexes that may still be read: together they can't be larger than the volume."""
        self.keys = self._mft_keys()
        self.sorted = np.sort(self.keys)
        self.found = np.zeros(len(self.keys), dtype=np.bool_)
        """Parallel to ``sorted``; of equal keys the first stands for all."""

    def run(self) -> None:
        for nodes in self._nodes():
            self._compare(nodes)
        lost = self.rows[~self.found[np.searchsorted(self.sorted, self.keys)]]
        for row in lost.tolist()[:_MAX_TOLD]:
            name = self.table.names[row]
            directory = int(name["parent"])
            if directory in self.unread:
                continue
            text = self.table.text(int(name["text"]), int(name["length"]))
            self.fs.problems.add(
                "ntfs.index-lacks",
                f"MFT record {int(name['record'])} is {text!r} in directory record {directory}, whose index lacks it",
            )

    def _mft_keys(self) -> Uint64s:
        names = self.table.names[self.rows]
        record = names["record"]
        reference = record.astype(np.uint64) | self.table.facts["sequence"][record].astype(np.uint64) << np.uint64(48)
        units = np.frombuffer(self.table.pool.encode("utf-16-le", "surrogatepass"), dtype="<u2")
        hashes = name_hashes(units, names["text"].astype(np.int64), names["length"].astype(np.int64))
        return name_keys(names["parent"].astype(np.int64), reference, names["space"].astype(np.int64), hashes)

    # The nodes

    def _nodes(self) -> Iterator[_Nodes]:
        """All nodes of all directories, those of many at a time."""
        roots: list[tuple[int, bytes]] = []
        blocks: list[_Nodes] = []
        held = 0
        for number, record in self._records():
            try:
                attributes = self.fs.attributes_of(record or self.fs.mft.record(number))
                roots.append((number, self._root(attributes)))
                for nodes in self._blocks(number, attributes):
                    blocks.append(nodes)
                    held += nodes.rows.size
            except ByreError as error:
                self.unread.add(number)
                self.fs.problems.add("ntfs.index", f"the index of directory record {number} can't be read: {error}")
            if held >= SLICE_BYTES:
                yield _joined(blocks)
                blocks, held = [], 0
            if len(roots) >= SLICE_BYTES // self.fs.boot.record_size:
                yield _of_roots(roots)
                roots = []
        if blocks:
            yield _joined(blocks)
        if roots:
            yield _of_roots(roots)

    def _records(self) -> Iterator[tuple[int, Record | None]]:
        """The directories with their records, which come out of one pass; None for one that this didn't bring."""
        left = self.directories
        for first, rows in self.fs.mft.slices(Problems()):
            low, high = np.searchsorted(left, (first, first + len(rows))).tolist()
            yield from ((number, None) for number in left[:low].tolist())
            for number in left[low:high].tolist():
                try:
                    yield number, parse_record(rows[number - first].tobytes(), number)
                except ByreError:
                    yield number, None
            left = left[high:]
        yield from ((number, None) for number in left.tolist())

    def _root(self, attributes: list[Attribute]) -> bytes:
        root = next((each for each in attributes if each.type == INDEX_ROOT and each.name == NAME), None)
        if root is None or not root.resident or len(root.value) < 32:
            raise CorruptImageError("there is no index root")
        if int.from_bytes(root.value[:4], "little") != FILE_NAME:
            raise CorruptImageError("it isn't an index of names", found=root.value[:4])
        begin, end = (int.from_bytes(root.value[at : at + 4], "little") for at in (16, 20))
        if not _HEADER <= begin <= end <= len(root.value) - 16:
            raise CorruptImageError("the index root's entries leave it", found=f"{begin} to {end}")
        return root.value[16 : 16 + end]

    def _blocks(self, number: int, attributes: list[Attribute]) -> Iterator[_Nodes]:
        boot = self.fs.boot
        stream = self._map(attributes, INDEX_ALLOCATION)
        if stream is None or not stream.size:
            return
        size = boot.index_record_size
        bits = self._map(attributes, BITMAP)
        count = stream.size // size
        needed = -(-count // 8)
        if bits is None or bits.size < needed:
            raise CorruptImageError("the bitmap of the index is too short", found=bits.size if bits else 0)
        step = SLICE_BYTES // size
        for first in range(0, count, step):
            stop = min(first + step, count)
            low, high = first // 8, -(-stop // 8)
            raw = read_content(self.fs.volume, bits, boot.cluster_size, low, high)
            used = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), bitorder="little")[: stop - first]
            if not used.any():
                continue
            self.left -= (stop - first) * size
            if self.left < 0:
                raise CorruptImageError("the indexes take more than the whole volume")
            data = bytearray(read_content(self.fs.volume, stream, boot.cluster_size, first * size, stop * size))
            rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, size)[used != 0].copy()
            yield self._sound(number, rows)

    def _map(self, attributes: list[Attribute], kind: int) -> StreamMap | None:
        boot = self.fs.boot
        return stream_map(attributes, kind, NAME, boot.cluster_size, boot.clusters)

    def _sound(self, number: int, rows: Bytes2D) -> _Nodes:
        """Blocks with their fixups undone; the broken ones are reported and left out."""
        _, sound = apply_fixups(rows, b"INDX")
        quads = rows.view("<u4")
        begin, end = (0x18 + quads[:, at].astype(np.int64) for at in (6, 7))
        sound &= (begin >= 0x18 + _HEADER) & (begin <= end) & (end <= rows.shape[1])
        if not sound.all():
            self.unread.add(number)
            self.fs.problems.add(
                "ntfs.index",
                f"the index of directory record {number} has {int((~sound).sum())} blocks in use that are broken",
            )
        good = np.flatnonzero(sound)
        return _Nodes(rows[good], np.full(len(good), number, dtype=np.int64), begin[good], end[good])

    # The entries

    def _compare(self, nodes: _Nodes) -> None:
        # Numbers are gathered 8 bytes at a time: the padding keeps the last entry's inside.
        flat = np.concatenate((nodes.rows.reshape(-1), np.zeros(512 + 80, dtype=np.uint8)))
        for at, directory in self._entries(nodes, flat):
            reference = numbers_at(flat, at)[:, 0]
            units = flat[at + _KEY + 64].astype(np.int64)
            name_at = at + _KEY + 66
            hashes = name_hashes(flat[:-1] | flat[1:].astype(np.uint16) << 8, name_at, units, stride=2)
            keys = name_keys(directory, reference, flat[at + _KEY + 65].astype(np.int64), hashes)
            place = np.searchsorted(self.sorted, keys)
            place[place == len(self.sorted)] = 0
            known = self.sorted[place] == keys if len(self.sorted) else np.zeros(len(keys), dtype=np.bool_)
            self.found[place[known]] = True
            for row in np.flatnonzero(~known).tolist()[:_MAX_TOLD]:
                start = int(name_at[row])
                text = flat[start : start + 2 * int(units[row])].tobytes().decode("utf-16-le", "surrogatepass")
                self.fs.problems.add(
                    "ntfs.index-extra",
                    f"the index of directory record {int(directory[row])} has {text!r} as MFT record "
                    f"{int(reference[row]) & REFERENCE_MASK}, which doesn't have that name there",
                )

    def _entries(self, nodes: _Nodes, flat: Any) -> Iterator[tuple[Int64s, Int64s]]:
        """Where the entries with names lie and whose they are, all of these nodes in one table."""
        width = nodes.rows.shape[1]
        base = np.arange(len(nodes.rows), dtype=np.int64) * width
        position, end, directory = base + nodes.begin, base + nodes.end, nodes.directory
        places: list[Int64s] = []
        owners: list[Int64s] = []
        for _ in range(width // 16 + 1):
            if not len(position):
                break
            head = numbers_at(flat, position + 8)[:, 0]
            length = (head & np.uint64(0xFFFF)).astype(np.int64)
            key = (head >> np.uint64(16) & np.uint64(0xFFFF)).astype(np.int64)
            last = (head >> np.uint64(32) & np.uint64(_LAST_ENTRY)) != 0
            sound = (position + 16 <= end) & (length >= 16) & (length % 8 == 0) & (position + length <= end)
            units = flat[position + _KEY + 64].astype(np.int64)
            named = (key >= 68) & (key + _KEY <= length) & (units > 0) & (66 + 2 * units <= key)
            for number in np.unique(directory[~sound | (~last & ~named)]).tolist():
                self.unread.add(number)
                self.fs.problems.add("ntfs.index", f"the index of directory record {number} has a malformed entry")
            chosen = sound & named & ~last
            places.append(position[chosen])
            owners.append(directory[chosen])
            going = sound & ~last
            position, end, directory = (position + length)[going], end[going], directory[going]
        if places and sum(map(len, places)):
            yield np.concatenate(places), np.concatenate(owners)


def _joined(parts: list[_Nodes]) -> _Nodes:
    return _Nodes(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.directory for part in parts]),
        np.concatenate([part.begin for part in parts]),
        np.concatenate([part.end for part in parts]),
    )


def _of_roots(roots: list[tuple[int, bytes]]) -> _Nodes:
    width = -(-max(len(node) for _, node in roots) // 8) * 8
    rows = np.zeros((len(roots), width), dtype=np.uint8)
    for row, (_, node) in enumerate(roots):
        rows[row, : len(node)] = np.frombuffer(node, dtype=np.uint8)
    return _Nodes(
        rows,
        np.array([number for number, _ in roots], dtype=np.int64),
        rows[:, :4].copy().view("<u4")[:, 0].astype(np.int64),
        np.array([len(node) for _, node in roots], dtype=np.int64),
    )


def name_hashes(units: Any, start: Int64s, length: Int64s, *, stride: int = 1) -> Uint64s:
    """A hash of each name of ``length`` units from ``start``; ``stride`` places of ``units`` apart."""
    if not len(start):
        return np.zeros(0, dtype=np.uint64)
    ends = np.cumsum(length)
    begins = ends - length
    place = np.arange(int(ends[-1])) - np.repeat(begins, length)
    values = units[np.repeat(start, length) + stride * place].astype(np.uint64)
    hashes: Uint64s = np.add.reduceat(values * _WEIGHTS[place], begins)
    return hashes


def name_keys(directory: Int64s, reference: Uint64s, space: Int64s, hashes: Uint64s) -> Uint64s:
    """One number for a name in a directory: equal numbers are equal names."""
    mixed: Uint64s = directory.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ reference * np.uint64(0xC2B2AE3D27D4EB4F)) * np.uint64(0xFF51AFD7ED558CCD)
    keys: Uint64s = (mixed ^ (mixed >> np.uint64(29))) + hashes * np.uint64(31) + space.astype(np.uint64)
    return keys
