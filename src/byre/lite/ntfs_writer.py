"""Changing an NTFS volume: the changes as operations on MFT records, done by libntfs-3g in a confined program.

The program (``ntfs_helper``) has no file open: this side serves its reads from the scratch disk and puts its writes
there, each checked to lie within the volume. What it does wrong, or its crash, is an error like any other, and the
scratch disk is then thrown away. Source: ../shared/facts are measured on libntfs-3g 2022.10.3.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from byre.disks.disk import Disk
from byre.disks.scratch import ScratchDisk
from byre.errors import CorruptImageError, StorageError, UnsupportedError, UsageError
from byre.filesystems.base import ENCRYPTED, REPARSE_POINT, Entry
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.ntfs.records import REFERENCE_MASK
from byre.lite.changes import Applied, Change, Content, MakeFolder, Put, Remove
from byre.lite.guards import from_inside
from byre.lite.planned_names import Made, PlannedNames, new_name
from byre.units import ceil_div
from byre.volumes.partition import Partition

HELPER = Path(__file__).with_name("ntfs_helper.py")
HEAD = struct.Struct("<cI")
"""Of a message: its letter, and how many bytes follow."""
MAX_READ = 1 << 20
MAX_WRITE = 1 << 20
SILENCE = 120
"""Seconds without a message after which the program is given up."""
RESIDENT = 1024
"""No larger file can lie within its MFT record of the usual size."""
FIRST_USER_RECORD = 24
"""MFT records below are the file system's own."""
EXTEND = "/$Extend"
Advance = Callable[[int], None]
Operation = dict[str, object]


def _quiet(amount: int) -> None:
    return None


@dataclass(slots=True)
class Script:
    """Operations for the helper, as they are made up."""

    names: PlannedNames
    operations: list[Operation] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    freed: int = 0
    siblings: dict[int, Entry] = field(default_factory=dict)
    """The file that new ones in a folder were made like, by the folder's MFT reference."""
    replaced: int = 0
    """Bytes allocated to what files held that get other content."""


def refuse_unsafe(files: NtfsFileSystem) -> None:
    """Raise UnsupportedError where the volume may not be changed from outside: dirty, hibernated, unfinished log."""
    facts = files.facts()
    name = files.volume.name
    inside = from_inside(name)
    if facts.hibernated or facts.hibernated is None:
        raise UnsupportedError("holds a hibernated session: its volume must not be changed", path=name, hint=inside)
    if facts.dirty or facts.dirty is None:
        raise UnsupportedError(
            "the volume is marked dirty: the guest wants to check it first", path=name, hint=inside
        )
    if facts.log not in ("clean", "empty"):
        raise UnsupportedError(
            "the volume's journal holds changes that aren't in place yet",
            path=name,
            found=f"$LogFile {facts.log}",
            hint=inside,
        )


def make_script(files: NtfsFileSystem, changes: Iterable[Change]) -> Script:
    """The changes as operations on MFT records. Raises MissingError for a path that isn't there, UsageError for one
    that can't be what is asked."""
    script = Script(PlannedNames(files))
    for change in changes:
        if isinstance(change, Remove):
            _remove(script, files, change.path)
        elif isinstance(change, MakeFolder):
            _make_folder(script, files, change.path)
        elif isinstance(change, Put):
            _put(script, files, change)
        else:
            raise UsageError("an Overwrite is not for the helper", path=change.path)
    return script


def _remove(script: Script, files: NtfsFileSystem, path: str) -> None:
    entry = script.names.existing(path)
    if entry is None:
        return
    if entry.path == "/":
        raise UsageError("the root folder can't be removed", path=files.volume.name)
    entries = [entry]
    if entry.is_dir and entry.reparse is None:
        entries += list(files.walk(entry))
    # Paths as the entries have them: a name may hold what a typed path can't.
    folders = {each.path: each.id for each in entries if each.is_dir}
    above = _above(entry)
    folders[above] = files.lookup(above).id
    for each in reversed(entries):
        if script.names.is_gone(each):
            continue
        _refuse_system(each, files)
        script.operations.append(
            {"do": "delete", "inode": each.id, "folder": folders[_above(each)], "name": each.name}
        )
        script.names.remove(each)
        script.removed.append(each.path)
        if each.links == 1:
            script.freed += each.allocated + sum(stream.allocated for stream in each.streams)


def _above(entry: Entry) -> str:
    return entry.path[: -len(entry.name) - 1] or "/"


def _refuse_system(entry: Entry, files: NtfsFileSystem) -> None:
    """``$Extend`` holds files of the file system whose records are no lower than users' are."""
    below = entry.path.lower().startswith(f"{EXTEND.lower()}/") and _is_first(files.lookup(EXTEND))
    if below or _is_first(entry):
        raise UsageError("is one of the file system's own files", path=files.volume.name, found=entry.path)


def _is_first(entry: Entry) -> bool:
    return entry.id & REFERENCE_MASK < FIRST_USER_RECORD


def _make_folder(script: Script, files: NtfsFileSystem, path: str) -> None:
    there = script.names.find(path)
    if there is not None:
        if not there.is_dir:
            raise UsageError("a file of that name is there", path=files.volume.name, found=there.path)
        return
    operation: Operation = {"do": "folder"}
    _add_name(script, files, path, operation)
    script.operations.append(operation)
    script.written.append(path)


def _put(script: Script, files: NtfsFileSystem, change: Put) -> None:
    operation: Operation = {"do": "put", "source": len(script.contents), "size": change.content.size}
    there = script.names.find(change.path)
    if isinstance(there, Made):
        what = "a folder of that name is there" if there.is_dir else "an earlier change puts a file there"
        raise UsageError(what, path=files.volume.name, found=there.path)
    if there is not None:
        _refuse_put_over(there, files)
        operation["inode"] = there.id
        script.replaced += there.allocated
    else:
        folder = _add_name(script, files, change.path, operation)
        like = _sibling(script, files, folder) if isinstance(folder, Entry) else None
        if like is not None:
            operation["like"] = like
    script.contents.append(change.content)
    script.operations.append(operation)
    script.written.append(there.path if there is not None else change.path)


def _add_name(script: Script, files: NtfsFileSystem, path: str, operation: Operation) -> Entry | Made:
    """Say in the operation which name it makes, and where; returns the folder."""
    name = new_name(path, files.volume.name)
    folder = script.names.folder(path)
    if isinstance(folder, Entry) and folder.path != "/":
        _refuse_system(folder, files)
    operation["folder"] = [folder.operation] if isinstance(folder, Made) else folder.id
    operation["name"] = name
    script.names.make(path, folder, is_dir=operation["do"] == "folder", operation=len(script.operations))
    return folder


def _refuse_put_over(entry: Entry, files: NtfsFileSystem) -> None:
    _refuse_system(entry, files)
    if entry.is_dir:
        raise UsageError("a folder of that name is there", path=files.volume.name, found=entry.path)
    if entry.attributes & (ENCRYPTED | REPARSE_POINT):
        raise UnsupportedError(
            "an encrypted file or a reparse point is not written over", path=files.volume.name, found=entry.path
        )


def _sibling(script: Script, files: NtfsFileSystem, folder: Entry) -> int | None:
    """A file of the same folder that stays, whose permissions a new one gets."""
    known = script.siblings.get(folder.id)
    for entry in files.listdir(folder) if known is None or script.names.is_gone(known) else (known,):
        if not entry.is_dir and entry.reparse is None and not script.names.is_gone(entry):
            script.siblings[folder.id] = entry
            return entry.id
    return None


def refuse_full(files: NtfsFileSystem, script: Script) -> None:
    """UnsupportedError where what is put in needs more clusters than there are, whatever the library does."""
    cluster = files.boot.cluster_size
    needed = sum(ceil_div(content.size, cluster) * cluster for content in script.contents if content.size > RESIDENT)
    free = files.facts().free
    if free is not None and needed > free + script.freed + script.replaced:
        raise UnsupportedError(
            "the guest's volume has no room for it",
            path=files.volume.name,
            found=f"{free} bytes free",
            expected=f"{needed}",
        )


def apply_script(
    work: ScratchDisk, partition: Partition, script: Script, *, confine: bool = True, advance: Advance = _quiet
) -> Applied:
    """Run the operations on the volume, all of them or none that counts: after an error the scratch disk is to be
    thrown away. Raises UnsupportedError without libntfs-3g, CorruptImageError where it gives up on the volume."""
    if not script.operations:
        return Applied((), (), 0)
    head = {"confine": confine, "operations": script.operations}
    end = run_helper(work, partition, head, contents=script.contents, advance=advance, write=work.write)
    _raise_failure(end, script, work)
    return Applied(tuple(script.removed), tuple(script.written), script.freed, str(end.get("confined")))


def run_helper(
    disk: Disk,
    partition: Partition,
    head: dict[str, object],
    *,
    contents: Sequence[Content] = (),
    advance: Advance = _quiet,
    write: Callable[[int, memoryview], None] | None = None,
    found: Callable[[bytes, bytes], None] | None = None,
) -> dict[str, object]:
    """Start the program on one volume and answer it until it ends; what it says then. ``write`` takes its writes
    (offset on the disk, bytes), ``found`` its listing (message, rows): without them it may do neither."""
    length = min(partition.length, disk.size - partition.start)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(HELPER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"LC_ALL": "C"},
        cwd="/",
        close_fds=True,
        pipesize=MAX_READ,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        server = _Server(process, disk, partition.start, length, contents, advance, write, found)
        server.send(b"S", json.dumps({"size": length, **head}).encode())
        return server.serve()
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


class _Server:
    """Answers one helper until it ends."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        disk: Disk,
        start: int,
        length: int,
        contents: Sequence[Content],
        advance: Advance,
        write: Callable[[int, memoryview], None] | None,
        found: Callable[[bytes, bytes], None] | None,
    ) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.input, self.output = process.stdin, process.stdout
        self.process = process
        self.disk = disk
        self.write, self.found = write, found
        self.start = start
        self.length = length
        self.contents = contents
        self.advance = advance
        self.done = 0
        self._buffer = b""
        self._answer = bytearray(HEAD.size + MAX_READ)
        """Bytes of the volume on their way: one place for all of them."""
        self._ready = select.poll()  # select() can't wait for a descriptor above 1023
        self._ready.register(self.output, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self.input, select.POLLOUT)
        os.set_blocking(self.input.fileno(), False)

    def serve(self) -> dict[str, object]:
        while True:
            letter, data = self._message()
            if letter == b"R":
                self._read(data)
            elif letter == b"P":
                self._content(data)
            elif letter == b"W" and self.write is not None:
                self._write(data, self.write)
            elif letter in (b"N", b"F") and self.found is not None:
                self.found(letter, data)
            elif letter == b"O" and len(data) == 4:
                (count,) = struct.unpack("<I", data)
                self.advance(max(0, count - self.done))
                self.done = max(self.done, count)
            elif letter == b"E":
                return self._end(data)
            else:
                raise self._nonsense(f"message {letter!r}")

    def _read(self, data: bytes) -> None:
        if len(data) != 12:
            raise self._nonsense("a request for bytes")
        offset, size = struct.unpack("<QI", data)
        if size > MAX_READ or offset + size > self.length:
            raise self._nonsense(f"a read of {size} bytes at {offset}")
        HEAD.pack_into(self._answer, 0, b"D", size)
        whole = memoryview(self._answer)[: HEAD.size + size]
        self.disk.read_into(self.start + offset, whole[HEAD.size :])
        self._send_all(whole)

    def _content(self, data: bytes) -> None:
        if len(data) != 16:
            raise self._nonsense("a request for content")
        number, offset, size = struct.unpack("<IQI", data)
        if number >= len(self.contents) or size > MAX_READ or offset + size > self.contents[number].size:
            raise self._nonsense(f"a request for content {number}")
        piece = self.contents[number].read(offset, size)
        if len(piece) != size:
            raise StorageError("a file that is put in became shorter", found=f"{len(piece)} bytes", expected=size)
        self.send(b"D", piece)

    def _write(self, data: bytes, write: Callable[[int, memoryview], None]) -> None:
        if len(data) < 9 or len(data) - 8 > MAX_WRITE:
            raise self._nonsense("a write")
        (offset,) = struct.unpack_from("<Q", data)
        body = memoryview(data)[8:]
        if offset + len(body) > self.length:
            raise self._nonsense(f"a write of {len(body)} bytes at {offset}")
        write(self.start + offset, body)

    def _end(self, data: bytes) -> dict[str, object]:
        try:
            end = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._nonsense("its end") from error
        if not isinstance(end, dict):
            raise self._nonsense("its end")
        return end

    def _message(self) -> tuple[bytes, bytes]:
        letter, size = HEAD.unpack(self._take(HEAD.size))
        if size > MAX_WRITE + 8:
            raise self._nonsense(f"a message of {size} bytes")
        return letter, self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._ready.poll(SILENCE * 1000):
                raise self._silent()
            piece = self.output.read1(1 << 16)  # type: ignore[attr-defined]
            if not piece:
                raise self._died()
            self._buffer += piece
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def send(self, letter: bytes, data: bytes) -> None:
        """One message to it."""
        self._send_all(memoryview(HEAD.pack(letter, len(data)) + data))

    def _send_all(self, rest: memoryview) -> None:
        """The pipe doesn't block: what doesn't read must not hold us up for ever."""
        while rest:
            try:
                rest = rest[os.write(self.input.fileno(), rest) :]
            except BlockingIOError:
                if not self._writable.poll(SILENCE * 1000):
                    raise self._silent() from None
            except BrokenPipeError as error:
                raise self._died() from error

    def _silent(self) -> StorageError:
        return StorageError(f"the NTFS helper was silent for {SILENCE} seconds and was ended", path=self._name)

    def _died(self) -> CorruptImageError:
        try:
            status = self.process.wait(timeout=SILENCE)
        except subprocess.TimeoutExpired:  # it closed its pipes and lives on
            self.process.kill()
            status = self.process.wait()
        return CorruptImageError(
            "the NTFS helper ended without an answer: nothing was changed",
            path=self._name,
            found=f"signal {-status}" if status < 0 else f"exit status {status}",
            hint="Check the file system in the guest (chkdsk /f), then try again.",
        )

    def _nonsense(self, what: str) -> CorruptImageError:
        return CorruptImageError("the NTFS helper asked for what it may not", path=self._name, found=what)

    @property
    def _name(self) -> str:
        return self.disk.files[0].name


def _raise_failure(end: dict[str, object], script: Script, work: ScratchDisk) -> None:
    if end.get("ok") is True:
        return
    name = work.files[0].name
    reason = str(end.get("reason", "no reason given"))
    if "isn't installed" in reason:
        raise UnsupportedError(
            "NTFS volumes are changed by libntfs-3g, which isn't installed",
            path=name,
            hint="Install it: apt install ntfs-3g.",
        )
    index = end.get("index")
    where = None
    if isinstance(index, int) and 0 <= index < len(script.operations):
        where = repr(script.operations[index].get("name", script.operations[index].get("inode")))
    if end.get("errno") == 28:
        raise UnsupportedError("the guest's volume has no room for it", path=name, found=where)
    raise CorruptImageError(
        f"libntfs-3g gave up: {reason}; nothing was changed",
        path=name,
        found=where,
        hint="Check the file system in the guest (chkdsk /f), then try again.",
    )
