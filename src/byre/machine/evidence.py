"""What the profile of a machine is decided from: frozen facts about one disk. ``reading`` gathers them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from byre.audit.facts import Facts
from byre.windows.guest import Guest

UNIX_FILE_SYSTEMS = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "reiserfs", "jfs", "f2fs", "swap", "lvm2", "mdraid", "squashfs"}
)
_LINUX_NAMES = frozenset({"ldlinux.sys", "syslinux.cfg", "extlinux.conf"})
_DOS_NAMES = frozenset({"io.sys", "msdos.sys", "ibmbio.com", "ibmdos.com", "kernel.sys", "drbios.sys", "command.com"})
ACPI_HALS = ("halacpi.dll", "halaacpi.dll", "halmacpi.dll")
APIC_HALS = ("halaacpi.dll", "halmacpi.dll", "halapic.dll", "halmps.dll")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One disk. ``system`` and ``architecture`` are words of ``hardware``, ``why`` how the system was recognised;
    ``drivers`` the services (lower case) whose driver file is there and that aren't disabled."""

    name: str
    system: str
    why: str
    architecture: str | None = None
    facts: Facts | None = None
    """What the audit's rules on controllers look at; None where no Windows or ReactOS was found."""
    drivers: frozenset[str] = frozenset()
    scheme: str = "none"
    efi_only: bool = False
    """There is an EFI system partition and nothing that a BIOS would start."""

    @property
    def guest(self) -> Guest | None:
        return self.facts.guest if self.facts is not None else None

    @property
    def windows(self) -> bool:
        """A system of the NT family, for which there are facts."""
        return self.guest is not None

    @property
    def hal(self) -> str | None:
        """The name under which Windows ships the HAL that is installed, in lower case: ``halaacpi.dll``."""
        text = self.guest.hal.value if self.guest is not None else None
        match = re.search(r"\(([^()]+\.dll)\)$", text or "", re.IGNORECASE)
        return match[1].lower() if match else None


def windows_system(guest: Guest) -> tuple[str, str]:
    """(system, how it is known) of an installed system of the NT family."""
    if guest.family == "reactos":
        return "reactos", "ReactOS lies in " + guest.root
    version = guest.version.value or ""
    product = guest.product.value or f"NT {version}"
    wide = guest.architecture.value == "x64"
    workstation = "workstation" in (guest.edition.value or "").lower() or " xp" in product.lower()
    named = {
        "4.0": "nt4",
        "5.0": "win2000",
        "5.1": "winxp",
        "5.2": "winxp64" if wide and workstation else "win2003",
        "6.0": "vista",
        "6.1": "win7",
    }.get(version[:3])
    if named is None:
        return "unknown", f"{product} in {guest.root}, a version that Byre has no machine for"
    return named, f"{product} in {guest.root}"


def other_system(types: tuple[str, ...], scheme: str, names: frozenset[str] = frozenset()) -> tuple[str, str]:
    """(system, how it is known) of a disk without NT, from the types of its file systems and the lower-case names in
    the root folders of those that are FAT."""
    found = sorted(UNIX_FILE_SYSTEMS & set(types))
    if found:
        return "linux", f"file systems: {', '.join(found)}"
    kernels = sorted(name for name in names if name in _LINUX_NAMES or name.startswith(("vmlinuz", "bzimage")))
    if kernels:
        return "linux", f"{kernels[0]} lies in the root"
    systems = sorted(names & _DOS_NAMES)
    if systems and scheme != "gpt":
        return "dos", f"{', '.join(systems[:3])} in the root"
    return "unknown", "no system that Byre knows was found"
