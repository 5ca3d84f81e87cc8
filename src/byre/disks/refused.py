"""Formats that Byre knows by sight and doesn't read, each with what would read it.

Without these a QED file or a gzipped image would be taken for a raw disk and converted to rubbish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from byre.disks.formats import Probe

FORCE = "If it really is a raw disk that begins like this: -f raw."


@dataclass(frozen=True, slots=True)
class Refused:
    """A format by its signature. ``refusal`` says what reads it."""

    name: str
    title: str
    recognise: Callable[[Probe], bool]
    refusal: str


def _starts(*magics: bytes) -> Callable[[Probe], bool]:
    return lambda probe: probe.head.startswith(magics)


def _is_ova(probe: Probe) -> bool:
    """A tar whose first member is an OVF descriptor, as the OVF specification demands of an OVA."""
    name = probe.head[:100].split(b"\0", 1)[0].lower()
    return probe.head[257:262] == b"ustar" and name.endswith(b".ovf")


def _qemu(format: str) -> str:
    return f"'qemu-img convert -f {format} -O qcow2 IN OUT' reads it."


def _unpack(command: str) -> str:
    return f"Unpack it first: '{command}'. {FORCE}"


REFUSED: tuple[Refused, ...] = (
    Refused("qed", "QED", _starts(b"QED\0"), _qemu("qed")),
    Refused("parallels", "Parallels", _starts(b"WithoutFreeSpace", b"WithouFreSpacExt"), _qemu("parallels")),
    Refused("bochs", "Bochs", _starts(b"Bochs Virtual HD Image"), _qemu("bochs")),
    Refused("dmg", "Apple DMG", lambda probe: probe.tail.startswith(b"koly"), _qemu("dmg")),
    Refused(
        "cloop",
        "cloop (compressed loopback)",
        _starts(b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
        _qemu("cloop"),
    ),
    Refused(
        "ewf",
        "Expert Witness (E01, Ex01, L01)",
        _starts(b"EVF\x09\x0d\x0a\xff\x00", b"LVF\x09\x0d\x0a\xff\x00", b"EVF2\x0d\x0a\x81\x00"),
        "'ewfexport' or 'ewfmount' of libewf read it.",
    ),
    Refused("aff", "AFF", _starts(b"AFF10\r\n\0"), "'affconvert' of afflib reads it."),
    Refused(
        "luks",
        "LUKS-encrypted",
        _starts(b"LUKS\xba\xbe"),
        "Open it with 'cryptsetup open' and give Byre the device; or 'qemu-img convert' with the key.",
    ),
    Refused("ova", "OVA", _is_ova, "Unpack it with 'tar -xf' and give Byre the disk inside."),
    Refused("gzip", "gzip-compressed", _starts(b"\x1f\x8b\x08"), _unpack("gunzip -k FILE")),
    Refused("xz", "xz-compressed", _starts(b"\xfd7zXZ\0"), _unpack("unxz -k FILE")),
    Refused("zstd", "zstd-compressed", _starts(b"\x28\xb5\x2f\xfd"), _unpack("unzstd FILE")),
    Refused(
        "bzip2",
        "bzip2-compressed",
        lambda probe: probe.head.startswith(b"BZh") and probe.head[4:10] == b"1AY&SY",
        _unpack("bunzip2 -k FILE"),
    ),
    Refused("7z", "7-Zip", _starts(b"7z\xbc\xaf\x27\x1c"), _unpack("7z x FILE")),
    Refused("zip", "Zip", _starts(b"PK\x03\x04"), _unpack("unzip FILE")),
    Refused("rar", "RAR", _starts(b"Rar!\x1a\x07"), _unpack("unrar x FILE")),
    Refused(
        "wim", "Windows imaging (WIM)", _starts(b"MSWIM\0\0\0"), "'wimapply' of wimlib reads it: it holds files."
    ),
    Refused(
        "android-sparse",
        "Android sparse",
        _starts(b"\x3a\xff\x26\xed"),
        "'simg2img' makes a raw image of it.",
    ),
    Refused(
        "partclone",
        "Partclone",
        _starts(b"partclone-image"),
        "'partclone.restore' writes it to a partition or a file.",
    ),
    Refused("partimage", "Partimage", _starts(b"PaRtImAgE-VoLuMe"), "'partimage restore' writes it to a partition."),
    Refused(
        "ntfsclone",
        "ntfsclone",
        _starts(b"\0ntfsclone-image"),
        "'ntfsclone --restore-image' writes it to a partition or a file.",
    ),
    Refused("ghost", "Norton Ghost", _starts(b"\xfe\xef\x01"), f"Ghost Explorer or Ghost itself reads it. {FORCE}"),
)
