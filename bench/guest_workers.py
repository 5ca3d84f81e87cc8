"""One job by one reader, timed inside: ``guest_workers.py READER JOB PATH``. Says ``count`` and ``seconds``.

``count`` is files, keys and values, or names, for a look at whether all found the same. Runs in Byre's environment
and in the peers', so it imports only what the reader needs.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HASHED = 500


def tree_byre(path: str) -> Iterator[tuple[int, Any]]:
    import byre
    from byre.filesystems.opening import open_filesystem

    files = open_filesystem(byre.open_disk(path))
    for entry in files.walk():
        if not entry.is_dir:
            yield entry.size, lambda entry=entry: files.read(entry)


def tree_pyfsntfs(path: str) -> Iterator[tuple[int, Any]]:
    import pyfsntfs

    volume = pyfsntfs.volume()
    volume.open(path)
    stack = [volume.get_root_directory()]
    while stack:
        folder = stack.pop()
        for index in range(folder.number_of_sub_file_entries):
            entry = folder.get_sub_file_entry(index)
            if entry.name.startswith("$"):
                continue
            if entry.has_directory_entries_index():
                stack.append(entry)
            else:
                yield entry.size, lambda entry=entry: entry.read_buffer(entry.size)


def tree_pytsk3(path: str) -> Iterator[tuple[int, Any]]:
    import pytsk3

    system = pytsk3.FS_Info(pytsk3.Img_Info(path))
    stack = [system.open_dir("/")]
    while stack:
        for entry in stack.pop():
            name, meta = entry.info.name.name, entry.info.meta
            if name in (b".", b"..") or name.startswith(b"$") or meta is None:
                continue
            if meta.type == pytsk3.TSK_FS_META_TYPE_DIR:
                stack.append(entry.as_directory())
            else:
                yield meta.size, lambda entry=entry, size=meta.size: entry.read_random(0, size)


def tree_dissect(path: str) -> Iterator[tuple[int, Any]]:
    from dissect.ntfs import NTFS

    volume = NTFS(Path(path).open("rb"))  # noqa: SIM115  (read until the process ends)
    for record in volume.mft.segments():
        if record.segment < 24 or record.is_dir() or not record.filenames() or not record.attributes.DATA:
            continue
        _ = record.full_path()
        yield record.size(), lambda record=record: record.open().read()


def list_tree(tree: Iterator[tuple[int, Any]]) -> int:
    return sum(1 for _ in tree)


def hash_tree(tree: Iterator[tuple[int, Any]]) -> int:
    count = 0
    for size, read in tree:
        if size and count < HASHED:
            hashlib.sha256(read()).digest()
            count += 1
    return count


def hive_byre(path: str) -> int:
    from byre.windows.registry import open_hive

    hive = open_hive(Path(path).read_bytes(), path=path)
    return sum(1 + sum(len(value.data) >= 0 for value in key.values()) for _, key in hive.walk())


def hive_pyregf(path: str) -> int:
    import pyregf

    hive = pyregf.file()
    hive.open(path)
    count, stack = 0, [hive.get_root_key()]
    while stack:
        key = stack.pop()
        _ = key.name
        count += 1
        for value in key.values:
            _ = value.name, value.data
            count += 1
        stack.extend(key.sub_keys)
    return count


def pe_byre(path: str) -> int:
    from byre.windows.pe import parse_pe

    count = 0
    for name in Path(path).read_text().split("\n"):
        pe = parse_pe(Path(name).read_bytes(), path=name)
        count += sum(len(each.symbols) for each in pe.imports) + len(pe.exports)
    return count


def pe_lief(path: str) -> int:
    import lief

    config = lief.PE.ParserConfig()
    for extra in ("parse_signature", "parse_rsrc", "parse_reloc"):
        setattr(config, extra, False)
    count = 0
    for name in Path(path).read_text().split("\n"):
        binary = lief.PE.parse(name, config)
        count += sum(len(each.entries) for each in binary.imports)
        exports = binary.get_export()
        count += len(exports.entries) if exports else 0
    return count


def main() -> None:
    reader, job, path = sys.argv[1:]
    work: Any
    if job in ("list", "hash"):
        tree = globals()[f"tree_{reader}"]
        step = list_tree if job == "list" else hash_tree
        work = lambda: step(tree(path))  # noqa: E731
    else:
        run = globals()[f"{job}_{reader}"]
        work = lambda: run(path)  # noqa: E731
    if reader == "byre":
        # What every reader's import costs isn't counted.
        for name in (
            "filesystems.opening",
            "filesystems.ntfs.filesystem",
            "disks.raw",
            "disks.opening",
            "storage.local",
            "windows.registry",
            "windows.pe",
        ):
            __import__(f"byre.{name}")
    else:
        __import__({"dissect": "dissect.ntfs"}.get(reader, reader))
    started = time.perf_counter()
    count = work()
    print(json.dumps({"count": count, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
