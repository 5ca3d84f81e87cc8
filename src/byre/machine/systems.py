"""What each system needs and brings with it: memory, and the devices whose drivers are in the box.

Memory: what it is at ease with, and the least that its vendor documents; both from the vendors' requirements as
commonly stated (unchecked). Cards in the box: from the systems' own INF files (unchecked, but for ReactOS, tried).
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Habits:
    """One system. Memory in bytes; ``network``, ``display`` and ``sound`` are words of ``hardware``."""

    title: str
    memory: int
    least: int
    network: str
    display: str
    sound: str
    local_time: bool
    usb: bool
    """Drivers for USB pointing devices are in the box."""


SYSTEMS: dict[str, Habits] = {
    "nt4": Habits("Windows NT 4.0", 64 * MIB, 12 * MIB, "pcnet", "cirrus", "none", True, False),
    "win2000": Habits("Windows 2000", 128 * MIB, 32 * MIB, "rtl8139", "cirrus", "es1370", True, True),
    "winxp": Habits("Windows XP", 256 * MIB, 64 * MIB, "rtl8139", "std", "ac97", True, True),
    "winxp64": Habits("Windows XP x64", 512 * MIB, 256 * MIB, "e1000", "std", "none", True, True),
    "win2003": Habits("Windows Server 2003", 384 * MIB, 128 * MIB, "rtl8139", "std", "none", True, True),
    "vista": Habits("Windows Vista", 1024 * MIB, 512 * MIB, "e1000", "std", "hda", True, True),
    "win7": Habits("Windows 7", 1024 * MIB, 512 * MIB, "e1000", "std", "hda", True, True),
    "reactos": Habits("ReactOS", 256 * MIB, 64 * MIB, "rtl8139", "std", "ac97", True, False),
    "linux": Habits("Linux", 512 * MIB, 32 * MIB, "e1000", "std", "none", False, True),
    "dos": Habits("DOS", 32 * MIB, 1 * MIB, "ne2k_pci", "cirrus", "sb16", True, False),
    "unknown": Habits("an unknown system", 256 * MIB, 1 * MIB, "rtl8139", "std", "none", True, False),
}
