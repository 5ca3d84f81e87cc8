"""The one table of formats: what each is called, how it is recognised, which module reads and writes it.

A new format is a row here and a module with the functions of ``FormatModule``; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from byre.disks.context import OpenContext
from byre.disks.disk import Disk
from byre.disks.writer import ImageWriter, Target
from byre.errors import UnsupportedError, UsageError
from byre.storage.base import Storage

HEAD_BYTES = 4096
TAIL_BYTES = 512


class FormatModule(Protocol):
    """What a format's module offers."""

    def open_disk(self, storage: Storage, context: OpenContext) -> Disk:
        """Open the image. The disk owns the storage from then on, also when opening fails."""
        ...

    def create(self, target: Target, size: int, options: Mapping[str, object]) -> ImageWriter:
        """Begin a new image of ``size`` bytes. Unknown or impossible options are a UsageError."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """What recognition looks at: the first 4096 and the last 512 bytes of the file, fewer where it is shorter."""

    head: bytes
    tail: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Format:
    """One disk format. ``module`` is imported when it is first used; None: recognised and refused by name."""

    name: str
    title: str
    recognise: Callable[[Probe], bool]
    module: str | None
    suffixes: tuple[str, ...] = ()
    writes: bool = False
    options: tuple[str, ...] = ()
    """The names that ``create`` takes in its options."""
    refusal: str | None = None
    """For a format without a module: what would read it."""

    def load(self) -> FormatModule:
        if self.module is None:
            raise UnsupportedError(f"{self.title} images are recognised but not read", hint=self.refusal)
        return cast(FormatModule, import_module(self.module))


def _starts(magic: bytes) -> Callable[[Probe], bool]:
    return lambda probe: probe.head.startswith(magic)


def _vmdk(probe: Probe) -> bool:
    """A hosted sparse, COWD or seSparse header, or a descriptor's first line."""
    if probe.head[:4] in (b"KDMV", b"COWD"):
        return True
    if probe.head[:8] == b"\xbe\xba\xfe\xca\0\0\0\0" and probe.head[8:16] == b"\1\0\0\0\2\0\0\0":
        return True
    first = probe.head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")[:64].split(b"\n", 1)[0]
    return b"".join(first.lower().split()) == b"#diskdescriptorfile"


def _qcow(version: tuple[int, ...]) -> Callable[[Probe], bool]:
    def recognise(probe: Probe) -> bool:
        return probe.head.startswith(b"QFI\xfb") and int.from_bytes(probe.head[4:8], "big") in version

    return recognise


FORMATS: tuple[Format, ...] = (
    Format(
        name="qcow2",
        title="qcow2",
        recognise=lambda probe: probe.head.startswith(b"QFI\xfb") and not _qcow((1,))(probe),
        module="byre.disks.qcow2",
        suffixes=(".qcow2", ".qcow", ".img.qcow2"),
        writes=True,
        options=(
            "cluster_size",
            "version",
            "refcount_bits",
            "extended_l2",
            "compression",
            "level",
            "compress",
            "preallocation",
            "lazy_refcounts",
            "backing_file",
            "backing_format",
            "data_file",
            "data_file_raw",
        ),
    ),
    Format(
        name="vmdk",
        title="VMDK",
        recognise=_vmdk,
        module="byre.disks.vmdk",
        suffixes=(".vmdk",),
        writes=True,
        options=(
            "subformat",
            "adapter_type",
            "hw_version",
            "grain_size",
            "backing_file",
            "parent_cid",
            "cid",
            "header_version",
            "level",
            "uuid",
        ),
    ),
    Format(
        name="raw",
        title="raw",
        recognise=lambda probe: False,  # nothing marks it: it is what is left
        module="byre.disks.raw",
        suffixes=(".raw", ".img", ".dd", ".bin"),
        writes=True,
        options=("preallocation",),
    ),
)

RAW = next(entry for entry in FORMATS if entry.name == "raw")


def format_named(name: str) -> Format:
    for entry in FORMATS:
        if entry.name == name.lower():
            return entry
    known = ", ".join(entry.name for entry in FORMATS if entry.module)
    raise UsageError(f"there is no disk format called {name!r}", expected=f"one of {known}")


def format_for_suffix(path: str) -> Format | None:
    """The format that people mean by a file's name, or None where the suffix says nothing."""
    lower = path.lower()
    fits = [
        (len(suffix), entry)
        for entry in FORMATS
        for suffix in entry.suffixes
        if lower.endswith(suffix) and entry.module
    ]
    return max(fits, key=lambda fit: fit[0])[1] if fits else None


def probe(storage: Storage) -> Format:
    """The format of what is in the storage; raw where nothing is recognised."""
    size = storage.size
    head = storage.read(0, min(HEAD_BYTES, size))
    tail_length = min(TAIL_BYTES, size)
    tail = storage.read(size - tail_length, tail_length)
    looked = Probe(head=head, tail=tail, size=size)
    return next((entry for entry in FORMATS if entry.recognise(looked)), RAW)
