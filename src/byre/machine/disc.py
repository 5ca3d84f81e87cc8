"""A folder of the host as a disc for a guest: ISO 9660 (ECMA-119) with Joliet names, written in one pass.

Windows since 95 reads Joliet; DOS reads the 8.3 names. Links and special files stay out: what lies behind them wasn't
shared. A library (pycdlib, LGPL) would do more than the 200 lines that this takes.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from byre.errors import MissingError, StorageError, UnsupportedError, UsageError
from byre.units import align_up, ceil_div

SECTOR = 2048
MAX_FILE = (1 << 32) - SECTOR
MAX_ENTRIES = 200_000
MAX_DEPTH = 32
MAX_NAME = 64
"""Of UCS-2 units in a Joliet name; Windows XP shows these."""
_FIRST_FREE = 19
_JOLIET_FORBIDDEN = re.compile(r"[\x00-\x1f*/:;?\\]")


@dataclass(slots=True)
class _Node:
    """A folder or file. Mutable: its place is settled after the tree is known. ``extents`` holds (sector, bytes) in
    the plain and in the Joliet tree; a file's are the same."""

    path: Path
    name: str
    parent: _Node | None
    folder: bool
    size: int
    mtime: float
    children: list[_Node] = field(default_factory=list)
    short: bytes = b""
    long: bytes = b""
    sectors: list[int] = field(default_factory=lambda: [0, 0])
    sizes: list[int] = field(default_factory=lambda: [0, 0])
    number: int = 0


@dataclass(frozen=True, slots=True)
class Disc:
    """What was written. ``skipped`` counts links and special files that stayed out."""

    files: int
    bytes: int
    skipped: int


def write_disc(folder: Path, target: Path, *, label: str = "BYRE") -> Disc:
    """Write the folder as an ISO image; the target must not exist.

    Raises MissingError and UsageError for what is no folder, UnsupportedError for what doesn't fit into the format,
    StorageError where reading or writing fails; no target is left behind then.
    """
    if not folder.is_dir():
        there = folder.exists()
        raise (UsageError if there else MissingError)("isn't a folder" if there else "isn't there", path=folder)
    root = _Node(folder, "", None, True, 0, folder.stat().st_mtime)
    skipped = _scan(root)
    _place(root)
    try:
        with target.open("xb") as stream:
            for piece in _pieces(root, label):
                stream.write(piece)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise StorageError(f"the disc can't be written: {error.strerror}", path=error.filename or target) from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    files = [node for node in _walk(root) if not node.folder]
    return Disc(len(files), sum(node.size for node in files), skipped)


def _scan(root: _Node) -> int:
    skipped, count = 0, 0
    waiting = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        try:
            entries = sorted(os.scandir(node.path), key=lambda entry: entry.name)
        except OSError as error:
            raise StorageError(f"can't be read: {error.strerror}", path=node.path) from error
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            if not is_folder and not stat.S_ISREG(status.st_mode):
                skipped += 1
                continue
            if status.st_size > MAX_FILE and not is_folder:
                raise UnsupportedError("is too large for a disc", path=entry.path, expected="less than 4 GiB")
            count += 1
            if count > MAX_ENTRIES or depth > MAX_DEPTH:
                expected = f"at most {MAX_ENTRIES} files, {MAX_DEPTH} folders deep"
                raise UnsupportedError("holds more than a disc is made for", path=root.path, expected=expected)
            size = 0 if is_folder else status.st_size
            child = _Node(Path(entry.path), entry.name, node, is_folder, size, status.st_mtime)
            node.children.append(child)
            if is_folder:
                waiting.append((child, depth + 1))
        _name(node.children)
    return skipped


def _name(nodes: list[_Node]) -> None:
    """Give each an 8.3 and a Joliet name, unlike its neighbours'."""
    shorts: set[str] = set()
    longs: set[str] = set()
    for node in nodes:
        stem, dot, suffix = node.name.rpartition(".")
        if not dot or node.folder:
            stem, suffix = node.name, ""
        plain = [
            re.sub(r"[^A-Z0-9_]", "_", part.upper().encode("ascii", "replace").decode()) for part in (stem, suffix)
        ]
        base, extension = plain[0][:8] or "_", plain[1][:3]
        name = f"{base}.{extension}" if not node.folder else base
        number = 0
        while name in shorts:
            number += 1
            cut = base[: 7 - len(str(number))] + f"_{number}"
            name = f"{cut}.{extension}" if not node.folder else cut
        shorts.add(name)
        node.short = (name if node.folder else name + ";1").encode()
        clean = _JOLIET_FORBIDDEN.sub("_", node.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        clean = "".join(each if ord(each) < 0x10000 else "_" for each in clean)
        long = clean[:MAX_NAME]
        number = 0
        while long.lower() in longs:
            number += 1
            mark = f"~{number}"
            head, _, tail = clean.rpartition(".")
            tail = f".{tail}" if head and len(tail) <= 8 else ""
            long = (head if tail else clean)[: MAX_NAME - len(mark) - len(tail)] + mark + tail
        longs.add(long.lower())
        node.long = long.encode("utf-16-be", "replace")


def _walk(node: _Node) -> Iterator[_Node]:
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting += reversed(current.children)


def _folders(root: _Node, tree: int) -> list[_Node]:
    """Folders in the order of the path table: by level, then by parent, then by name."""
    found, level = [root], [root]
    while level:
        level = [child for node in level for child in _sorted(node, tree) if child.folder]
        found += level
    return found


def _sorted(node: _Node, tree: int) -> list[_Node]:
    return sorted(node.children, key=lambda child: child.long if tree else child.short)


def _place(root: _Node) -> None:
    sector = _FIRST_FREE
    for tree in (0, 1):
        sector += 2 * ceil_div(len(_path_table(root, tree, "<")), SECTOR)
    for tree in (0, 1):
        for node in _folders(root, tree):
            node.sizes[tree] = _folder_size(node, tree)
            node.sectors[tree] = sector
            sector += node.sizes[tree] // SECTOR
    for node in _walk(root):
        if not node.folder:
            node.sectors = [sector, sector] if node.size else [0, 0]
            node.sizes = [node.size, node.size]
            sector += ceil_div(node.size, SECTOR)


def _record_size(name: bytes) -> int:
    return align_up(33 + len(name), 2)


def _folder_size(node: _Node, tree: int) -> int:
    position = 2 * 34
    for child in node.children:
        length = _record_size(child.long if tree else child.short)
        if position % SECTOR + length > SECTOR:  # a record never crosses a sector
            position = align_up(position, SECTOR)
        position += length
    return align_up(position, SECTOR)


def _record(node: _Node, tree: int, name: bytes) -> bytes:
    moment = time.gmtime(min(max(node.mtime, 0), 4_102_444_800))
    stamp = bytes((moment.tm_year - 1900, *moment[1:6], 0))
    length = _record_size(name)
    data = struct.pack("<BB", length, 0) + _both32(node.sectors[tree]) + _both32(node.sizes[tree]) + stamp
    data += struct.pack("<BBB", 2 if node.folder else 0, 0, 0) + _both16(1) + bytes([len(name)]) + name
    return data.ljust(length, b"\0")


def _both16(value: int) -> bytes:
    return struct.pack("<H", value) + struct.pack(">H", value)


def _both32(value: int) -> bytes:
    return struct.pack("<I", value) + struct.pack(">I", value)


def _folder_bytes(node: _Node, tree: int) -> bytes:
    data = _record(node, tree, b"\0") + _record(node.parent or node, tree, b"\1")
    for child in _sorted(node, tree):
        record = _record(child, tree, child.long if tree else child.short)
        if len(data) % SECTOR + len(record) > SECTOR:
            data = data.ljust(align_up(len(data), SECTOR), b"\0")
        data += record
    return data.ljust(node.sizes[tree], b"\0")


def _path_table(root: _Node, tree: int, order: str) -> bytes:
    data = bytearray()
    for number, node in enumerate(_folders(root, tree), 1):
        node.number = number
        name = b"\0" if node.parent is None else node.long if tree else node.short
        parent = node.parent.number if node.parent else 1
        data += struct.pack(f"{order}BBIH", len(name), 0, node.sectors[tree], min(parent, 0xFFFF)) + name
        data += b"\0" * (len(name) % 2)
    return bytes(data)


def _descriptor(root: _Node, tree: int, table: int, tables: tuple[int, int], sectors: int, label: str) -> bytes:
    def text(value: str, length: int) -> bytes:
        if tree:
            return value.ljust(length // 2)[: length // 2].encode("utf-16-be").ljust(length, b"\0")
        return value.encode("ascii", "replace")[:length].ljust(length)

    data = bytes([2 if tree else 1]) + b"CD001\1\0" + text("", 32) + text(label, 32) + bytes(8) + _both32(sectors)
    data += (b"%/E" if tree else b"").ljust(32, b"\0") + _both16(1) + _both16(1) + _both16(SECTOR) + _both32(table)
    data += struct.pack("<II", tables[0], 0) + struct.pack(">II", tables[1], 0) + _record(root, tree, b"\0")[:34]
    data += text("", 128) * 4 + text("", 37) * 3 + (b"0" * 16 + b"\0") * 4 + b"\1"
    return data.ljust(SECTOR, b"\0")


def _pieces(root: _Node, label: str) -> Iterator[bytes]:
    """The image's bytes in order."""
    tables = [(_path_table(root, tree, "<"), _path_table(root, tree, ">")) for tree in (0, 1)]
    lengths = [ceil_div(len(little), SECTOR) for little, _ in tables]
    starts = [_FIRST_FREE, _FIRST_FREE + 2 * lengths[0]]
    files = [node for node in _walk(root) if not node.folder and node.size]
    folders = root.sectors[0] + sum(n.sizes[t] // SECTOR for t in (0, 1) for n in _walk(root) if n.folder)
    sectors = folders + sum(ceil_div(node.size, SECTOR) for node in files)
    yield bytes(16 * SECTOR)
    for tree in (0, 1):
        places = (starts[tree], starts[tree] + lengths[tree])
        yield _descriptor(root, tree, len(tables[tree][0]), places, sectors, label)
    yield b"\xffCD001\1".ljust(SECTOR, b"\0")
    for tree in (0, 1):
        for table in tables[tree]:
            yield table.ljust(lengths[tree] * SECTOR, b"\0")
    for tree in (0, 1):
        for node in _folders(root, tree):
            yield _folder_bytes(node, tree)
    for node in files:
        yield from _file_pieces(node)


def _file_pieces(node: _Node) -> Iterator[bytes]:
    """Exactly the bytes that were counted: a file that grows meanwhile is cut, one that shrinks is padded."""
    left = node.size
    with node.path.open("rb") as stream:
        while left:
            data = stream.read(min(left, 1 << 20))
            if not data:
                yield bytes(left)
                break
            left -= len(data)
            yield data
    yield bytes(-node.size % SECTOR)
