"""What the guest's disk tells the watcher beforehand: the boot font in its bootvid.dll, and the name of its shell."""

from __future__ import annotations

import re
from dataclasses import dataclass

from byre.disks.disk import Disk
from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.machine.watch.boot_font import LARGEST_FILE, BootFont, find_boot_font
from byre.units import SECTOR
from byre.windows.hives import read_hive
from byre.windows.inspection import Inspection

DEFAULT_SHELL = "explorer.exe"
_FONT_FILES = ("bootvid.dll", "ntoskrnl.exe")
"""Where the table lies: in the boot video driver; Windows since 8 has it in the kernel."""
_CODE_END = 0x1B8
"""Where the disk signature of a master boot record begins."""
_ROOTS = ("WINDOWS", "WINNT", "REACTOS")
_WINLOGON = r"Microsoft\Windows NT\CurrentVersion\Winlogon"


@dataclass(frozen=True, slots=True, eq=False)
class Hints:
    """``fonts`` may be empty: then a STOP is read from memory only. ``shell`` is a file name. ``no_code``: a BIOS
    starts the disk's first sector, and zeros are what it finds there."""

    fonts: tuple[BootFont, ...] = ()
    shell: str = DEFAULT_SHELL
    no_code: bool = False


def read_hints(disk: Disk, *, name: str) -> Hints:
    """Look into the disk. Never raises for what is on it: what can't be read is no hint."""
    fonts: list[BootFont] = []
    shell = DEFAULT_SHELL
    no_code = _has_no_code(disk)
    try:
        volumes = Inspection(disk, name=name).volumes
    except ByreError:
        return Hints(no_code=no_code)
    for volume in volumes:
        if volume.filesystem is None:
            continue
        for root in _ROOTS:
            font = _font(volume.filesystem, f"/{root}/system32")
            fonts += [font] if font is not None else []
            shell = _shell(volume.filesystem, f"/{root}/system32") or shell
    return Hints(tuple(fonts), shell, no_code)


def _has_no_code(disk: Disk) -> bool:
    """Whether the first sector is marked as one to be started, and holds at most a partition table."""
    try:
        sector = disk.read(0, min(disk.size, SECTOR))
    except ByreError:
        return False
    return sector[510:] == b"\x55\xaa" and not any(sector[:_CODE_END])


def _font(files: FileSystem, folder: str) -> BootFont | None:
    for name in _FONT_FILES:
        try:
            found = find_boot_font(files.read(files.lookup(f"{folder}/{name}"), length=LARGEST_FILE))
        except ByreError:
            continue
        if found is not None:
            return found
    return None


def _shell(files: FileSystem, folder: str) -> str | None:
    try:
        hive = read_hive(files, f"{folder}/config/SOFTWARE").value
        key = hive.key(_WINLOGON) if hive is not None else None
        value = key.value("Shell") if key is not None else None
        return program_of(value.text or "") if value is not None else None
    except ByreError:
        return None


def program_of(command: str) -> str | None:
    """The file name of the program in a command line: ``"C:\\kiosk\\till.exe" /s`` -> ``till.exe``."""
    match = re.match(r'\s*(?:"([^"]+)"|([^\s,]+))', command)
    if match is None:
        return None
    name = re.split(r"[\\/]", match[1] or match[2])[-1]
    if not name:
        return None
    return name if "." in name else f"{name}.exe"
