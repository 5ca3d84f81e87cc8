"""The confined program that knows NTFS: started on one volume, answered, and ended.

The program (``ntfs_helper``) has no file open: this side serves its reads from a disk and takes its writes, each
checked to lie within the volume. What it does wrong, or its crash, is an error like any other.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from byre.disks.disk import Disk
from byre.errors import CorruptImageError, StorageError
from byre.lite.advance import Advance, quiet
from byre.lite.changes import Content
from byre.volumes.partition import Partition

HELPER = Path(__file__).with_name("ntfs_helper.py")
HEAD = struct.Struct("<cI")
"""Of a message: its letter, and how many bytes follow."""
MAX_READ = 1 << 20
MAX_WRITE = 1 << 20
SILENCE = 120
"""Seconds without a message after which the program is given up."""


Started: TypeAlias = Callable[[Callable[[], None]], None]


def _unheard(end: Callable[[], None]) -> None:
    return None


def run_program(
    disk: Disk,
    partition: Partition,
    head: dict[str, object],
    *,
    contents: Sequence[Content] = (),
    advance: Advance = quiet,
    write: Callable[[int, memoryview], None] | None = None,
    found: Callable[[bytes, bytes], None] | None = None,
    started: Started = _unheard,
) -> dict[str, object]:
    """Start the program on one volume and answer it until it ends; what it says then. ``write`` takes its writes
    (offset on the disk, bytes), ``found`` its listing (message, rows): without them it may do neither. ``started``
    hears how to end it from another thread, which is CorruptImageError here."""
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
        started(process.kill)
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
