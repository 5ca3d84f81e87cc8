"""Facts of unchanged images, kept from one audit to the next in the user's cache folder.

What is looked up is the content's identity, never the name: of each file of the image its device, inode, size, mtime
and ctime in nanoseconds, and a digest of samples of its bytes. A program can set mtime but not ctime, so a change
shows whatever tool made it. A file that was changed less than ``RACY_NS`` before it was looked at isn't cached: a
second change could fall into the same tick of the file system's clock (git calls such entries racy).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from byre import __version__
from byre.audit.facts import Facts
from byre.disks.disk import Disk
from byre.errors import ByreError
from byre.storage.base import Storage

LAYOUT = "byre facts 1"
MAX_BYTES = 256 << 20
"""Of all entries together: the oldest go first."""
MAX_ENTRY = 64 << 20
MAX_UNPACKED = 512 << 20
RACY_NS = 3_000_000_000
SAMPLES = 64
SAMPLE = 4096
SINGLE = ("raw", "qcow", "qcow2", "vdi", "vhd", "vhdx")
MAGIC = b"QFI\xfb"


@dataclass(frozen=True, slots=True)
class FactsCache:
    """A folder of entries. Whatever is wrong with it or in it, an audit goes on without."""

    folder: Path

    def key(self, disk: Disk, about: str) -> str | None:
        """The name of the entry for a disk, None where a change might go unnoticed: not local regular files, changed
        a moment ago, or of a format with files that the disk doesn't tell of. ``about``: what else the facts depend
        on, such as the snapshot."""
        files = disk.files
        try:
            if not files or not (_whole(disk) or all(_is_qcow2(each) for each in files)):
                return None
            identities = [_identity(each) for each in files]
            if any(each is None for each in identities):
                return None
            words = (LAYOUT, _code(), about, disk.format, str(disk.size))
            digest = sha256("\0".join(words).encode("utf-8", "surrogatepass"))
            for file, identity in zip(files, identities, strict=True):
                digest.update(repr(identity).encode())
                _sample(file, digest.update)
        except (ByreError, OSError):
            return None
        return digest.hexdigest()

    def get(self, key: str) -> Facts | None:
        """The facts of an entry, None where there is none that can be used."""
        path = self.folder / key
        try:
            if path.stat().st_size > MAX_ENTRY:
                return None
            data = path.read_bytes()
        except OSError:
            return None
        facts = _unpack(data)
        if facts is not None:
            with suppress(OSError):
                os.utime(path)  # the oldest by use go first
        return facts

    def put(self, key: str, facts: Facts) -> None:
        """Keep the facts; nothing happens where they can't be kept."""
        data = _pack(facts)
        if data is None or len(data) > MAX_ENTRY:
            return
        part = self.folder / f".{key}.{os.getpid()}.part"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            part.replace(self.folder / key)
            self._shrink()
        except OSError:
            part.unlink(missing_ok=True)

    def _shrink(self) -> None:
        entries = sorted(
            ((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in os.scandir(self.folder)),
            reverse=True,
        )
        total = 0
        for _, size, path in entries:
            total += size
            if total > MAX_BYTES:
                Path(path).unlink(missing_ok=True)


def user_cache() -> FactsCache | None:
    """The cache in the user's own folder (XDG), None where there is no such folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the specification: a relative path is invalid and to be ignored
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # nobody's home
            return None
    return FactsCache(base / "byre" / "facts")


def recall(disk: Disk, about: str, cache: FactsCache | None) -> tuple[str | None, Facts | None]:
    """The key of a disk's entry, and its facts where they are kept."""
    key = cache.key(disk, about) if cache is not None else None
    if cache is None or key is None:
        return None, None
    return key, cache.get(key)


def remember(disk: Disk, about: str, cache: FactsCache | None, key: str | None, facts: Facts) -> None:
    """Keep what was gathered under the key from before: not where the image has changed meanwhile."""
    if cache is not None and key is not None and cache.key(disk, about) == key:
        cache.put(key, facts)


def _whole(disk: Disk) -> bool:
    """Whether the image is the one file that the disk tells of: not so where a descriptor names that file."""
    return len(disk.files) == 1 and disk.format in SINGLE


def _is_qcow2(file: Storage) -> bool:
    return file.size >= 4 and file.read(0, 4) == MAGIC


def _identity(file: Storage) -> tuple[int, ...] | None:
    """What changes when a file's bytes do; of the very file that is open, whatever its name means by now."""
    descriptor = file.fileno()
    if descriptor is None:
        return None
    about = os.fstat(descriptor)
    newest = max(about.st_mtime_ns, about.st_ctime_ns)
    if not stat.S_ISREG(about.st_mode) or time.time_ns() - newest < RACY_NS:
        return None
    return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


def _sample(file: Storage, take: Callable[[bytes], None]) -> None:
    size = file.size
    step = max(SAMPLE, size // SAMPLES)
    for offset in range(0, size, step):
        take(file.read(offset, min(SAMPLE, size - offset)))
    if size > SAMPLE:
        take(file.read(size - SAMPLE, SAMPLE))


def _code() -> str:
    """What stands for the program that gathers: another one may see other facts in the same bytes."""
    package = Path(__file__).parents[1]
    rows = [__version__]
    for path in sorted(package.rglob("*.py")):
        about = path.stat()
        rows.append(f"{path.relative_to(package)} {about.st_size} {about.st_mtime_ns}")
    return sha256("\n".join(rows).encode()).hexdigest()


def _pack(facts: Facts) -> bytes | None:
    import msgspec
    import zstandard

    try:
        text = msgspec.msgpack.encode(replace(facts, image=""))
    except (TypeError, ValueError, OverflowError):  # half of a surrogate pair in a guest's name, a number too large
        return None
    return sha256(text).digest() + zstandard.ZstdCompressor(level=1).compress(text)


def _unpack(data: bytes) -> Facts | None:
    import msgspec
    import zstandard

    try:
        if not 0 <= zstandard.get_frame_parameters(data[32:]).content_size <= MAX_UNPACKED:
            return None
        text = zstandard.ZstdDecompressor().decompress(data[32:])
        if sha256(text).digest() != data[:32]:
            return None
        return msgspec.msgpack.decode(text, type=Facts)
    except (zstandard.ZstdError, msgspec.MsgspecError, ValueError, TypeError, MemoryError):
        return None
