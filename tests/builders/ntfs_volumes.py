"""NTFS volumes that ntfs-3g writes, and a record of what was written."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from oracles import require_tool, run_tool


@dataclass
class Manifest:
    """``files``: path to SHA-256 of the unnamed stream; ``streams``: (path, name) to SHA-256."""

    image: Path
    files: dict[str, str] = field(default_factory=dict)
    streams: dict[tuple[str, str], str] = field(default_factory=dict)


def need(*tools: str) -> None:
    """Skip without the tools or without FUSE; under CI conftest.py makes a failure of that."""
    for name in tools:
        require_tool(name)
    if "ntfs-3g" in tools and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse can't be used: ntfs-3g can't mount")


def mkntfs(image: Path, size: int, *options: str) -> Path:
    with image.open("wb") as file:
        file.truncate(size)
    run_tool("mkntfs", "-F", "-Q", "-q", *options, image)
    return image


@contextmanager
def mounted(image: Path, options: str = "streams_interface=windows,compression") -> Iterator[Path]:
    folder = image.with_suffix(".mnt")
    folder.mkdir(exist_ok=True)
    # In the foreground: a detached ntfs-3g holds its lock for a moment after umount has returned.
    with subprocess.Popen(
        ["ntfs-3g", "-o", f"no_detach,{options}", image, folder], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as server:
        while not folder.is_mount():
            if server.poll() is not None:
                message = server.stderr.read().decode("utf-8", "replace") if server.stderr else ""
                pytest.skip(f"ntfs-3g can't mount here: {message}")
            time.sleep(0.01)
        try:
            yield folder
        finally:
            run_tool("umount", folder)
            server.wait(60)
    folder.rmdir()


def record(manifest: Manifest, root: Path) -> None:
    """What the mount shows, as ntfs-3g reads it."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink():
                continue
            shown = "/" + str(path.relative_to(root))
            manifest.files[shown] = hashlib.sha256(path.read_bytes()).hexdigest()


def set_attributes(path: Path, attributes: int) -> None:
    os.setxattr(path, "system.ntfs_attrib_be", struct.pack(">I", attributes))


def text_like(source: random.Random, size: int) -> bytes:
    """Bytes that compress about as program text does."""
    words = [source.randbytes(source.randint(3, 12)) for _ in range(200)]
    out = bytearray()
    while len(out) < size:
        out += source.choice(words)
    return bytes(out[:size])


def rich_volume(image: Path, options: tuple[str, ...] = ()) -> Manifest:
    """One volume with everything that the reader claims: about 20 MB."""
    need("mkntfs", "ntfs-3g")
    mkntfs(image, 40 << 20, "-L", "Rich Ünïcode", *options)
    manifest = Manifest(image)
    source = random.Random(20)
    with mounted(image) as root:
        _plain_files(root, source)
        _special_files(root, source)
        _fragmented_files(root, source)
        streams = {"note": b"a short stream", "Long Stream Name": source.randbytes(70_000)}
        for name, data in streams.items():
            Path(root, f"WINDOWS/system32/hal.dll:{name}").write_bytes(data)
            manifest.streams["/WINDOWS/system32/hal.dll", name] = hashlib.sha256(data).hexdigest()
        (root / "WINDOWS" / "deleted file.bin").write_bytes(b"gone but seen" * 100)
        (root / "gone").mkdir()
        (root / "gone" / "inner.txt").write_bytes(b"inner")
    with mounted(image) as root:
        record(manifest, root)
        (root / "WINDOWS" / "deleted file.bin").unlink()
        (root / "gone" / "inner.txt").unlink()
        (root / "gone").rmdir()
    for path in ("/WINDOWS/deleted file.bin", "/gone/inner.txt"):
        del manifest.files[path]
    return manifest


def _plain_files(root: Path, source: random.Random) -> None:
    system = root / "WINDOWS" / "system32"
    system.mkdir(parents=True)
    for name, size in {"hal.dll": 81_280, "ntoskrnl.exe": 2_000_001, "empty": 0, "one": 1, "4096": 4096}.items():
        (system / name).write_bytes(source.randbytes(size))
    for size in (10, 500, 600, 690, 700, 710, 720, 800, 1024):
        (root / f"around resident {size}").write_bytes(source.randbytes(size))
    for name in ("ÄÖÜ ß ñ", "日本語ファイル.txt", "emoji 😀.txt", "UPPER.TXT", "x" * 255):
        (root / name).write_bytes(name.encode())
    big = root / "big directory"
    big.mkdir()
    for number in range(1500):
        (big / f"entry number {number:05}.txt").write_bytes(str(number).encode())
    deep = root
    for level in range(40):
        deep = deep / f"level {level}"
        deep.mkdir()
    (deep / "bottom").write_bytes(b"bottom")


def _special_files(root: Path, source: random.Random) -> None:
    packed = root / "compressed"
    packed.mkdir()
    set_attributes(packed, 0x810)
    (packed / "text.txt").write_bytes(text_like(source, 700_001))
    (packed / "random.bin").write_bytes(source.randbytes(200_000))
    (packed / "zeros.bin").write_bytes(bytes(300_000))
    (packed / "mixed.bin").write_bytes(text_like(source, 100_000) + bytes(200_000) + source.randbytes(90_000))
    with (root / "sparse.bin").open("wb") as file:
        for offset in (0, 1 << 20, 5 << 20, 64 << 20):
            file.seek(offset)
            file.write(source.randbytes(5000))
        file.truncate(100 << 20)
    (root / "linked").write_bytes(b"linked content")
    for number in range(60):
        (root / "big directory" / f"link {number} {'y' * 100}").hardlink_to(root / "linked")
    target = "\\??\\C:\\WINDOWS".encode("utf-16-le")
    shown = "C:\\WINDOWS".encode("utf-16-le")
    body = struct.pack("<HHHH", 0, len(target), len(target) + 2, len(shown)) + target + b"\0\0" + shown + b"\0\0"
    (root / "junction").mkdir()
    os.setxattr(root / "junction", "system.ntfs_reparse_data", struct.pack("<IHH", 0xA0000003, len(body), 0) + body)
    long = root / "A rather long name.text"
    long.write_bytes(b"has a short name")
    os.setxattr(long, "system.ntfs_dos_name", b"ARATHE~1.TEX")


def _fragmented_files(root: Path, source: random.Random) -> None:
    """Two files that grow by turns, and holes made by deleting every other small one."""
    folder = root / "fragments"
    folder.mkdir()
    fillers = []
    for number in range(700):
        filler = folder / f"filler {number}"
        filler.write_bytes(source.randbytes(4096))
        fillers.append(filler)
    for filler in fillers[::2]:
        filler.unlink()
    with (folder / "left").open("wb", buffering=0) as left, (folder / "right").open("wb", buffering=0) as right:
        for _ in range(150):
            left.write(source.randbytes(8192))
            os.fsync(left.fileno())
            right.write(source.randbytes(4096))
            os.fsync(right.fileno())
    # Every other cluster of a large sparse file: too many runs for one MFT record.
    with (folder / "many runs").open("wb") as file:
        for number in range(600):
            file.seek(number * 8192)
            file.write(source.randbytes(100))


def many_files(image: Path, count: int) -> Manifest:
    """``count`` small files in folders of 100."""
    need("mkntfs", "ntfs-3g")
    mkntfs(image, 64 << 20)
    manifest = Manifest(image)
    with mounted(image) as root:
        for number in range(count):
            folder = root / f"folder {number // 100}"
            if number % 100 == 0:
                folder.mkdir()
            (folder / f"file number {number}.dat").write_bytes(str(number).encode())
    return manifest
