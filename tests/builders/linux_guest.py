"""A Linux guest that boots from its own disk: Debian's kernel and static busybox, started by SYSLINUX from FAT.

``tools/linux-guest.sh`` fetches kernel and busybox; the initramfs is written here, so that no root is needed.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from oracles import run_tool

FILES = Path(__file__).parents[2] / ".oracle" / "linux"
MBR = Path("/usr/lib/syslinux/mbr/mbr.bin")
PARTITION_AT = 1 << 20
SIZE = 24 << 20
_INIT = b"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc
/bin/busybox mount -t proc none /proc
if /bin/busybox grep -q byre=panic /proc/cmdline; then exit 1; fi
if /bin/busybox grep -q byre=off /proc/cmdline; then /bin/busybox poweroff -f; fi
if /bin/busybox grep -q byre=reboot /proc/cmdline; then /bin/busybox reboot -f; fi
/bin/busybox echo "Byre's Linux guest is up"
export PS1='guest:~# '
exec /bin/busybox sh
"""


def linux_disk(folder: Path, command_line: str, *, name: str = "linux.img") -> Path:
    """A raw disk that boots into a shell. ``command_line`` goes to the kernel: ``console=ttyS0`` for the serial port,
    ``byre=panic``, ``byre=off`` or ``byre=reboot`` for an early end."""
    if not (FILES / "vmlinuz").exists() or not (FILES / "busybox").exists():
        pytest.skip("no Linux guest: run 'sh tools/linux-guest.sh'")
    if not MBR.exists():
        pytest.skip("SYSLINUX's boot sector is missing: install syslinux-common")
    initramfs = folder / "initrd.gz"
    initramfs.write_bytes(_initramfs((FILES / "busybox").read_bytes()))
    volume = folder / "boot.fat"
    with volume.open("wb") as file:
        file.truncate(SIZE - PARTITION_AT)
    run_tool("mkfs.fat", "-F", "16", "-h", str(PARTITION_AT // 512), "-i", "12345678", volume)
    menu = folder / "syslinux.cfg"
    menu.write_text(f"DEFAULT byre\nLABEL byre\n KERNEL vmlinuz\n INITRD initrd.gz\n APPEND {command_line}\n")
    for source in (FILES / "vmlinuz", initramfs, menu):
        run_tool("mcopy", "-i", volume, source, f"::/{source.name}")
    run_tool("syslinux", "--install", volume)
    entry = b"\x80\xfe\xff\xff\x0e\xfe\xff\xff" + (PARTITION_AT // 512).to_bytes(4, "little")
    entry += ((SIZE - PARTITION_AT) // 512).to_bytes(4, "little")
    image = folder / name
    with image.open("wb") as file:
        file.write(MBR.read_bytes()[:440].ljust(446, b"\0") + entry + bytes(48) + b"\x55\xaa")
        file.seek(PARTITION_AT)
        file.write(volume.read_bytes())
    return image


def _initramfs(busybox: bytes) -> bytes:
    """A cpio archive in the new ASCII format, which can hold device nodes without anyone being root."""
    nodes = [
        ("dev", 0o40755, b"", 0, 0),
        ("dev/console", 0o20600, b"", 5, 1),
        ("dev/null", 0o20666, b"", 1, 3),
        ("bin", 0o40755, b"", 0, 0),
        ("bin/busybox", 0o100755, busybox, 0, 0),
        ("init", 0o100755, _INIT, 0, 0),
        ("TRAILER!!!", 0, b"", 0, 0),
    ]
    archive = bytearray()
    for inode, (path, mode, data, major, minor) in enumerate(nodes, 1):
        name = path.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name), 0)
        archive += b"070701" + b"".join(b"%08X" % value for value in fields) + name
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return gzip.compress(bytes(archive), 6, mtime=0)
