"""The specimen's system on a disk of several volumes, each with a drive letter: mkntfs and mkfs.fat make them, Byre's
own writers fill them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builders import xp
from builders.hive import Data, Node, build_hive
from byre.convert.convert import convert_image
from byre.disks.opening import open_disk
from byre.disks.scratch import ScratchDisk, open_scratch
from byre.filesystems.opening import open_volumes
from byre.lite.applying import apply_changes
from byre.lite.changes import Change, Content, MakeFolder, Put
from oracles import run_tool

TYPES = {"ntfs": 0x07, "fat16": 0x06, "fat32": 0x0C, None: 0x83}
_ALIGNED = 2048
LOADER = ("/NTLDR", "/NTDETECT.COM", "/boot.ini")


@dataclass(frozen=True)
class Volume:
    """One volume. ``letter`` None: the guest knows it by none; ``kind`` None: bytes of no file system; ``logical``:
    in an extended partition of its own, as Windows' Setup makes it."""

    letter: str | None
    kind: str | None = "ntfs"
    files: Mapping[str, bytes] = field(default_factory=dict)
    mib: int = 16
    logical: bool = False


def system_files(
    drive: str, letters: Mapping[str, int], paging: Sequence[str], more: Callable[[Node, Node], object] | None = None
) -> dict[str, bytes]:
    """The clean system as installed on a drive. ``letters``: where on the disk each drive begins; ``more`` changes
    the SYSTEM and the SOFTWARE hive."""
    files = xp.clean_files()
    system, software, user = xp.system_hive(), xp.software_hive(), xp.user_hive()
    for root in (system, software, user):
        _move(root, drive)
    system.at("MountedDevices").values = {
        rf"\DosDevices\{letter}:": struct.pack("<IQ", xp.DISK_SIGNATURE, start) for letter, start in letters.items()
    }
    for name in ("ControlSet001", "ControlSet002"):
        manager = system.at(rf"{name}\Control\Session Manager\Memory Management")
        manager.values["PagingFiles"] = list(paging)
    if more is not None:
        more(system, software)
    for name, root in (("SYSTEM", system), ("SOFTWARE", software), ("DEFAULT", user)):
        files[f"{xp.SYSTEM32}/config/{name}"] = build_hive(root, name=name)
    files[f"{xp.PROFILE}/operator/NTUSER.DAT"] = build_hive(user, name="ntuser.dat")
    del files["/pagefile.sys"]
    return files


def _move(node: Node, drive: str) -> None:
    """Every ``C:`` in a hive's texts becomes the drive's."""

    def moved(data: Data | tuple[int, bytes]) -> Data | tuple[int, bytes]:
        if isinstance(data, str):
            return re.sub(r"C:(?=\\)", f"{drive}:", data)
        if isinstance(data, list):
            return [re.sub(r"C:(?=\\)", f"{drive}:", each) for each in data]
        return data

    node.values = {name: moved(data) for name, data in node.values.items()}
    for below in node.keys.values():
        _move(below, drive)


def drives_disk(
    out: Path,
    volumes: Sequence[Volume],
    *,
    system: str = "C",
    paging: Sequence[str] = (r"C:\pagefile.sys 2 2",),
    more: Callable[[Node, Node], object] | None = None,
    signature: int = xp.DISK_SIGNATURE,
) -> Path:
    """A qcow2 image of the volumes, the first of them active and with the loader; the system lies on the drive
    ``system``. ``signature`` is the disk's own: another than the guest noted is a disk that was cloned."""
    raw = out.with_suffix(".raw")
    starts, at = [], 63
    for each in volumes:
        at += 63 if each.logical else 0
        starts.append(at * 512)
        at = -(-(at + (each.mib << 11)) // _ALIGNED) * _ALIGNED
    rows = [bytes(16)] * 4
    with raw.open("wb") as target:
        target.truncate(at * 512)
        for number, each in enumerate(volumes):
            target.seek(starts[number])
            target.write(_made(out.with_suffix(f".{number}"), each, starts[number]))
            active = 0 if number else 0x80
            first, sectors = starts[number] // 512, each.mib << 11
            rows[number] = _row(active, TYPES[each.kind], first, sectors)
            if each.logical:
                rows[number] = _row(0, 0x0F, first - 63, sectors + 63)
                target.seek((first - 63) * 512)
                target.write(bytes(446) + _row(0, TYPES[each.kind], 63, sectors).ljust(64, b"\0") + b"\x55\xaa")
        target.seek(440)
        target.write(struct.pack("<IH", signature, 0) + b"".join(rows) + b"\x55\xaa")
    letters = {each.letter: start for each, start in zip(volumes, starts, strict=True) if each.letter is not None}
    own = system_files(system, letters, paging, more)
    number = next(index for index, each in enumerate(volumes, 1) if each.letter == system)
    own["/boot.ini"] = own["/boot.ini"].replace(b"partition(1)", b"partition(%d)" % number)
    with open_disk(raw) as disk:
        work = open_scratch(disk, out.parent)
        try:
            for number, each in enumerate(volumes):
                loader = {path: data for path, data in own.items() if path in LOADER} if not number else {}
                rest = {path: data for path, data in own.items() if path not in LOADER}
                files = {**loader, **(rest if each.letter == system else {}), **each.files}
                if files:
                    fill(work, number, files)
            convert_image(work, out, "qcow2", force=True)
        finally:
            work.close()
    raw.unlink()
    return out


def _row(active: int, kind: int, first: int, sectors: int) -> bytes:
    """One row of a partition table."""
    return struct.pack("<B3sB3sII", active, b"\1\1\0", kind, b"\xfe\xff\xff", first, sectors)


def _made(path: Path, volume: Volume, start: int) -> bytes:
    """The bytes of an empty volume."""
    size = volume.mib << 20
    with path.open("wb") as file:
        file.truncate(size)
    if volume.kind == "ntfs":
        run_tool("mkntfs", "-F", "-Q", "-q", "-p", str(start // 512), path)
    elif volume.kind is not None:
        bits = volume.kind.removeprefix("fat")
        run_tool("mkfs.fat", "-F", bits, "-s", "1", "-h", str(start // 512), "-i", "0b7e0002", path)
    data = path.read_bytes() if volume.kind is not None else b"no file system " * (size // 16)
    path.unlink()
    return data


def fill(work: ScratchDisk, number: int, files: Mapping[str, bytes]) -> None:
    """Put files, and the folders above them, on the disk's volume of that number (from 0)."""
    changes: list[Change] = [MakeFolder(path) for path in xp.folders(files)]
    changes += [Put(path, Content.of(data)) for path, data in files.items()]
    apply_changes(work, open_volumes(work)[number], changes)
