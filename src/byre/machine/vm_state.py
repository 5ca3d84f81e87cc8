"""The saved state of a machine inside a qcow2 snapshot: what it says of its machine, and feeding it to a QEMU.

``savevm`` writes the same stream as a migration does (QEMU's ``migration/savevm.c``): "QEVM", version 3, a
configuration section with the machine's type, then sections; RAM's comes first and lists its blocks. A QEMU that
waits with ``-incoming defer`` takes it from a Unix socket.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from byre.errors import ByreError, StorageError
from byre.machine.qemu.process import QemuProcess
from byre.machine.qemu.qmp import QmpClosedError

Read = Callable[[int, int], bytes]
"""``read(offset, length)``: bytes of the state."""
MAGIC, VERSION = b"QEVM", 3
_CONFIGURATION, _SECTION_START = 7, 1
_MEMORY_SIZE_FLAG = 4
_TYPE = re.compile(r"pc-(i440fx|q35)-\d{1,2}\.\d{1,2}")
_DEAD = frozenset({"internal-error", "guest-panicked", "shutdown", "io-error"})
"""States of QEMU's that a machine doesn't come back from by going on."""
LOAD_SECONDS = 300.0
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class SavedMachine:
    """What a state says of its machine. ``type`` is QEMU's versioned name; ``memory`` counts bytes; each None where
    it isn't said, or isn't of a kind that Byre would start."""

    type: str | None = None
    memory: int | None = None


def saved_machine(read: Read, size: int) -> SavedMachine:
    """The start of a state, read as far as it is understood; hostile bytes give None, never an error of their own."""
    head = read(0, min(size, 4096))
    if head[:4] != MAGIC or len(head) < 13 or int.from_bytes(head[4:8], "big") != VERSION:
        return SavedMachine()
    position, kind = 8, None
    if head[8] == _CONFIGURATION:
        length = int.from_bytes(head[9:13], "big")
        if length > 64 or 13 + length >= len(head):
            return SavedMachine()
        name = head[13 : 13 + length].decode("ascii", "replace")
        kind = name if _TYPE.fullmatch(name) else None
        position = 13 + length
        # The configuration may carry subsections (page size, capabilities): RAM's section is looked for behind them.
    mark = head.find(b"\x03ram", position)
    return SavedMachine(kind, _main_memory(head, mark + 4) if mark > 0 else None)


def _main_memory(head: bytes, position: int) -> int | None:
    """The size of the block ``pc.ram``: instance, version, total with a flag, then (length, name, size) of each."""
    try:
        _, _, total = struct.unpack_from(">IIQ", head, position)
        if not total & _MEMORY_SIZE_FLAG:
            return None
        position += 16
        for _ in range(16):
            length = head[position]
            name = head[position + 1 : position + 1 + length]
            (size,) = struct.unpack_from(">Q", head, position + 1 + length)
            if name == b"pc.ram":
                return int(size)
            position += 9 + length
    except (struct.error, IndexError):
        return None
    return None


def feed(
    process: QemuProcess, socket_path: Path, read: Read, size: int, *, timeout: float = LOAD_SECONDS
) -> str | None:
    """Give the state to a QEMU that waits for one. None where it runs on from there, else why it doesn't: QEMU has
    ended then, and a new one must be started."""
    watch = process.connect()
    try:
        watch.execute("migrate-incoming", uri=f"unix:{socket_path}")
    except ByreError as error:
        return error.what
    problem: list[str] = []

    def send() -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
                channel.settimeout(timeout)
                channel.connect(str(socket_path))
                for offset in range(0, size, CHUNK):
                    channel.sendall(read(offset, min(CHUNK, size - offset)))
        except ByreError as error:
            problem.append(str(error))
        except OSError:
            return  # QEMU has had enough: it says itself whether that was good or bad

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    until = time.monotonic() + timeout
    try:
        while time.monotonic() < until:
            status = watch.execute("query-status")["status"]
            if problem:
                break
            if status not in ("inmigrate", "postmigrate", "restore-vm"):
                if status in _DEAD:
                    return f"the machine stood still when it was saved ({status})"
                if status != "running":
                    watch.execute("cont")
                return None
            time.sleep(0.05)
    except QmpClosedError:
        process.ended(5)
        return _reason(process.said())
    finally:
        with contextlib.suppress(OSError):
            socket_path.unlink()
        sender.join(5)
    return problem[0] if problem else f"it wasn't taken within {timeout:.0f} s"


def _reason(said: str) -> str:
    """QEMU's first complaint of the many that one mismatch gives."""
    lines = [line for line in said.splitlines() if "qemu-system" in line and "warning:" not in line]
    return re.sub(r"^\S*qemu-system-\w+: ", "", lines[0]) if lines else "QEMU ended without a word"


def reader_of(path: Path, snapshot_id: str) -> tuple[Read, Callable[[], None]]:
    """(read, close) of the VM state in the snapshot with this id."""
    from byre.disks.opening import open_disk
    from byre.disks.qcow2.image import Qcow2Disk

    disk = open_disk(path, with_backing=False)
    if not isinstance(disk, Qcow2Disk):
        disk.close()
        raise StorageError(f"{disk.format} images hold no machine states", path=path)
    opened = disk
    return (lambda offset, length: opened.read_vm_state(snapshot_id, offset, length)), opened.close
