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
from byre.disks.refused import REFUSED
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
    aliases: tuple[str, ...] = ()
    """Other names that people know it by."""
    options: tuple[str, ...] = ()
    """The names that ``create`` takes in its options."""
    refusal: str | None = None
    """For a format without a module: what would read it."""

    def load(self, path: str | None = None) -> FormatModule:
        """Its module; an UnsupportedError that names ``path`` where the format is only known by sight."""
        if self.module is None:
            raise UnsupportedError(f"{self.title} images are recognised but not read", path=path, hint=self.refusal)
        return cast(FormatModule, import_module(self.module))


def _starts(magic: bytes) -> Callable[[Probe], bool]:
    return lambda probe: probe.head.startswith(magic)


def _vhd(probe: Probe) -> bool:
    """A footer at the end, also the 511 bytes of old tools; a dynamic image has a copy in front."""
    return b"conectix" in (probe.head[:8], probe.tail[-512:-504], probe.tail[-511:-503])


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
        name="vdi",
        title="VDI",
        recognise=lambda probe: probe.head[64:68] == b"\x7f\x10\xda\xbe",
        module="byre.disks.vdi",
        suffixes=(".vdi",),
        writes=True,
        options=(
            "subformat",
            "uuid",
            "modification_uuid",
            "keep_uuid",
            "parent_uuid",
            "parent_modification_uuid",
            "backing_file",
            "backing_format",
            "block_size",
            "sparse",
        ),
    ),
    Format(
        name="vhd",
        title="VHD",
        recognise=_vhd,
        module="byre.disks.vhd",
        suffixes=(".vhd", ".vpc"),
        aliases=("vpc",),
        writes=True,
        options=(
            "subformat",
            "uuid",
            "keep_uuid",
            "timestamp",
            "size_rule",
            "parent_uuid",
            "parent_timestamp",
            "backing_file",
            "backing_format",
            "block_size",
            "sparse",
        ),
    ),
    Format(
        name="vhdx",
        title="VHDX",
        recognise=_starts(b"vhdxfile"),
        module="byre.disks.vhdx",
        suffixes=(".vhdx", ".avhdx"),
        writes=True,
        options=(
            "subformat",
            "block_size",
            "sector_size",
            "physical_sector_size",
            "backing_file",
            "backing_format",
            "disk_guid",
            "data_guid",
            "parent_guid",
            "sparse",
        ),
    ),
    Format(
        name="qcow",
        title="qcow version 1",
        recognise=_qcow((1,)),
        module="byre.disks.qcow1",
        suffixes=(".qcow1",),
    ),
    *(Format(entry.name, entry.title, entry.recognise, None, refusal=entry.refusal) for entry in REFUSED),
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
            "backing_format",
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
    """The row of a format by its name or an alias, in any case. Raises UsageError."""
    for entry in FORMATS:
        if name.lower() in (entry.name, *entry.aliases):
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
    """The format of what is in the storage; raw where nothing is recognised.

    A fixed VHD is known by its end and leaves its beginning to the guest, other formats the reverse: a file that
    is two formats at once was made so by a guest, and only the user can say which it is. That is a UsageError.
    """
    size = storage.size
    head = storage.read(0, min(HEAD_BYTES, size))
    tail_length = min(TAIL_BYTES, size)
    tail = storage.read(size - tail_length, tail_length)
    looked = Probe(head=head, tail=tail, size=size)
    fits = [entry for entry in FORMATS if entry.recognise(looked)]
    if len(fits) > 1:
        names = " and ".join(entry.name for entry in fits)
        raise UsageError(
            f"could be {names}: its beginning says one, its end the other",
            path=storage.name,
            hint="Say which with -f, by where the file comes from: a guest can write either mark into its disk.",
        )
    return fits[0] if fits else RAW
