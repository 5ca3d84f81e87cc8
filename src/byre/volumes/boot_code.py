"""Whose boot code lies in a sector: recognised by digests of the code without its data, or by how it is laid out.

No loader's code is kept here, only digests of what doesn't change from disk to disk: not the messages, which are
translated, not the fields for the geometry. Digests of Windows', GRUB's, TrueCrypt's and SafeBoot's code: the
whitelist of ANSSI's bootcode_parser, of which those for NT 5 were computed again; SYSLINUX, another GRUB, mkntfs and
mkfs.fat: measured on what Debian's packages write; Byre's own: what tools/assemble_boot.py prints. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

SECTOR = 512
_CODE_END = 0x1B8
"""Where the disk signature of an MBR begins."""

MASTER = {
    "b5ed343494f0326a08aa6abf7cc9aa4d96207532cf0d2b39453c6eb7bede19e3": "Windows 2000, XP and Server 2003",
    "4799e8c92d32bca8e5103110a322523adb7a3909324132bd9abab8f3345e094a": "Windows Vista",
    "088995559ab317af9b3291408da689651e8353f62e0a478d92eb0b5a947063fd": "Windows 7 and later",
    "955ff28fdffd869e617dfc1d44a6a40b45005c5d76491069e06ad48817499fea": "GRUB 2",
    "ff0109a1f7a3c88d2bdf95d3c2fcf477e164c674e00bc4c63cf0d78a6b06ecf6": "GRUB 2",
    "bbd0975e1e0dea007c4cb707f6310fc849f035862cdc0d6f33996617b0f26c71": "GRUB 2",
    "4746f74bc9b9d3d579c41988a4a29bb7ac932ad1c70470ea779ea161eb799b64": "SYSLINUX",
    "65ba590c40fbf8527700e203f2edb461893997554b15dead6cd15ee5a8a4be51": "SYSLINUX",
    "d2a9081727f91f4c38494e52cdeb86ebd9009fead17a739effbad4011c581d1f": "SYSLINUX",
    "001d5131e3446043d81223cb60df79c83b1767a933093e7ff2bdb338d5849427": "Byre's own (byre mend)",
    "e6e6605c48665800786de4651ade2893970aafb1237a06db0943a8603dd4fce1": "TrueCrypt",
    "8a029cf94efd555b34d5564cc5c8e290a6ba5a52b6cdf9f02253f0d939f4dcec": "SafeBoot",
    "eedc57fa55ab1c71aa2fd511ff121e7d635b1e4bf7e7aeaa2a860360442790e1": "SafeBoot",
}
VOLUME = {
    "5cb5aa385e0ada266690a2821e3a36ad372720d2ff47c0b1cd9d6ebcab25bf4e": "Windows 2000, XP and Server 2003 (NTFS)",
    "a1932aaba7d6d3adb1637e2ee0c8355706842ba825ea811728165420c518c0b1": "Windows Vista (NTFS)",
    "96d38c1be37b9124fb71d1d0f5c52969f0074687fe17aef0e1bafc54428674f6": "Windows 7 (NTFS)",
    "a987cba0068c5bb11d3f8bacb0f79907aa9871302e1ebd407bdc486571f28aed": "mkntfs (not bootable)",
    "d9462ae3f92ea177fe64b7e964bb2f42711007d48d14b44eb21741222f760d1e": "mkfs.fat (not bootable)",
    "193de0d3526de6a2c6ed5acca85619e7eac62556967d263d007b38cae8cf7a42": "mkfs.fat (not bootable)",
    "51643dcce7e93d795b08e1f19e38374ae4deaf3b1217527561a44aa9913ded23": "Windows 8 and later (NTFS)",
    "fca16950a763f11010e7106c295618f99d4e77826a4802a8e49a2f86afcfb254": "Byre's own (byre mend, NTLDR on NTFS)",
    "4f3e23c0ddbb20567c132d67d89f10c701cc3f69bc6553fbca57149ebc3f8643": "Byre's own (byre mend, NTLDR on FAT12)",
    "41d20fa875895326b42885bf3659250e36d784f4b4199b90fc620823f77e245a": "Byre's own (byre mend, NTLDR on FAT16)",
    "d57ec544820faabcb27d70c72c6fc55deb8b5786c12dad7d49235a4ea4bef125": "Byre's own (byre mend, NTLDR on FAT32)",
    "3625fd3c9fedb4a5623abab1d8e54ec2fa8336ac0d1402e20157db5c64584726": "Byre's own (byre mend, FREELDR on FAT12)",
    "507e17c6db036a8c0eddfeca9ca3d38ca88a013f9b53dbff888c109aa6ac41be": "Byre's own (byre mend, FREELDR on FAT16)",
    "94e3af85c118c63ef6cf66deb757ebfe24be17f00e5a145adf898e53f26e3a48": "Byre's own (byre mend, FREELDR on FAT32)",
}
_FURTHER = {
    "fca16950a763f11010e7106c295618f99d4e77826a4802a8e49a2f86afcfb254": (
        1536,
        "7ed4650c04ca633117c8f722d481ae8c3ba1f7371c0444b8c408c4db491db297",
    ),
}
"""Code that goes on behind its first sector: digest of the first -> bytes behind it, and their digest."""
_HOOKS = re.compile(
    rb"\xff\x0e\x13\x04|[\x83\x81]\x2e\x13\x04|\x29.\x13\x04|\xa3\x13\x04"  # the BIOS's size of memory made less
    rb"|\xa3\x4c\x00|\xc7\x06\x4c\x00|\x89[\x06\x0e\x16\x1e]\x4c\x00|\x87[\x06\x0e\x16\x1e]\x4c\x00",  # INT 13h
    re.DOTALL,
)
"""Machine code that boot viruses and bootkits need and loaders don't: memory taken from the BIOS (the word at 0:413h)
so that something stays in it, or the vector of the disk's interrupt (0:4Ch) changed."""
_MESSAGE = re.compile(rb"[\r\n\x20-\xff]{3,120}")
_IDLE = ("(not bootable)", "without its other sectors", "none: ")
_LOADERS = {
    b"NTLDR": "Windows NT's (NTLDR)",
    b"BOOTMGR": "Windows Vista's and later (BOOTMGR)",
    b"FREELDR SYS": "ReactOS's (FREELDR)",
    b"FREELDR": "ReactOS's (FREELDR)",
    b"SYSLINUX": "SYSLINUX",
    b"GRUB ": "GRUB",
    b"IO      SYS": "MS-DOS's and Windows 9x's (IO.SYS)",
}


@dataclass(frozen=True, slots=True)
class BootCode:
    """The code of one boot sector. ``loader`` names whose it is, ``known`` says by a digest, not merely by its
    layout; ``hooks``: it does what only something that wants to stay in memory does."""

    loader: str | None
    known: bool
    hooks: bool
    digest: str
    """SHA-256 of all its code, for a report."""

    @property
    def idle(self) -> bool:
        """It is known to start nothing: what a formatting program leaves, or a part of a loader without the rest."""
        return self.loader is not None and any(said in self.loader for said in _IDLE)


def recognise_master(sector: bytes) -> BootCode:
    """The code of a master boot record: a whole sector, of which the first 440 bytes count."""
    code = sector[:_CODE_END].ljust(_CODE_END, b"\0")
    digest = hashlib.sha256(code).hexdigest()
    hooks = _HOOKS.search(code) is not None
    for part in _master_parts(code):
        name = MASTER.get(hashlib.sha256(part).hexdigest())
        if name is not None:
            return BootCode(name, True, hooks, digest)
    loader = None
    if not hooks and _has_messages(code) and b"\xbc\x00\x7c" in code[:16] and b"\xcd\x13" in code:
        loader = "laid out like Windows'"
    return BootCode(loader, False, hooks, digest)


def _master_parts(code: bytes) -> Iterator[bytes]:
    """What may be known of it, as the loaders lay themselves out: all, without messages, without GRUB's fields."""
    yield code
    first = min((each for each in code[0x1B5:0x1B8] if each), default=0)
    if first:
        yield code[: 0x100 + first]
    yield code[:3] + code[0x65:]
    yield code[:3] + code[0x26:]


def _has_messages(code: bytes) -> bool:
    """Three messages one after the other, their places in the last three bytes: Windows' MBR in any language."""
    places = [0x100 + each for each in code[0x1B5:0x1B8]]
    if len(places) < 3 or not 0x100 < places[0] < places[1] < places[2] < 0x1B5:
        return False
    for place, after in zip(places, (*places[1:], None), strict=True):
        end = code.find(b"\0", place)
        if end < 0 or not _MESSAGE.fullmatch(code[place:end]) or (after is not None and end + 1 != after):
            return False
    return True


def recognise_volume(data: bytes) -> BootCode:
    """The code of a volume's first sector; ``data`` may go on with the sectors behind it, where some loaders name
    the file that they load."""
    sector = data[:SECTOR].ljust(SECTOR, b"\0")
    start = _code_start(sector)
    code = sector[start:0x1FE]
    digest = hashlib.sha256(code).hexdigest()
    hooks = _HOOKS.search(code) is not None
    for part in _volume_parts(sector, start):
        found = hashlib.sha256(part).hexdigest()
        name = VOLUME.get(found)
        if name is not None and not _goes_on(data, found):
            return BootCode(f"{name}, without its other sectors", False, hooks, digest)
        if name is not None:
            return BootCode(name, True, hooks, digest)
    loader = None
    if not hooks:
        if len(set(code)) <= 1:
            loader = "none: filled with one byte"
        elif b"\xcd\x13" in data:
            loader = next((name for text, name in _LOADERS.items() if text in data or _wide(text) in data), None)
    return BootCode(loader, False, hooks, digest)


def _goes_on(data: bytes, found: str) -> bool:
    """Whether what lies behind the first sector belongs to it, as far as ``data`` goes."""
    length, digest = _FURTHER.get(found, (0, ""))
    behind = data[SECTOR : SECTOR + length]
    return not behind or hashlib.sha256(behind).hexdigest() == digest


def _wide(text: bytes) -> bytes:
    return text.decode("ascii").encode("utf-16-le")


def _code_start(sector: bytes) -> int:
    """Where the jump over the file system's fields leads to; the sector's start without one."""
    if sector[0] == 0xEB and sector[1] < 0x80:
        return sector[1] + 2
    if sector[0] == 0xE9:
        return min(int.from_bytes(sector[1:3], "little") + 3, 0x1FE)
    return 0


def _volume_parts(sector: bytes, start: int) -> Iterator[bytes]:
    yield sector[:3] + sector[start:0x1FE]
    for first in (0x100 + sector[0x1F8], int.from_bytes(sector[0x1F6:0x1F8], "little")):
        if start < first < 0x1FE:
            yield sector[:3] + sector[start:first]
