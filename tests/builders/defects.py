"""Mutations for Sound, Complete, Portable, Private and Lean: what is planted, which rules must fire, and what must be
predicted (``builders.mutations`` says what the fields mean)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from builders import xp
from builders.audited import PARTITION, TABLE, Plant, first_volume
from builders.hive import Node, expand_sz
from builders.mutations import Mutation, mutation
from builders.pe import PeSpec, build_pe
from byre.audit.facts import BootSector, Facts, MasterBootRecord
from byre.disks.disk import CheckReport, Problem
from byre.filesystems.base import VolumeFacts
from byre.volumes.boot_code import BootCode
from byre.volumes.partition import Partition
from byre.windows.fact import known

S32, DRV = xp.SYSTEM32, xp.DRIVERS
CONFIG = f"{S32}/config"
CDD = r"ControlSet001\Control\CriticalDeviceDatabase"
SERVICES = r"ControlSet001\Services"
MANAGER = r"ControlSet001\Control\Session Manager"
WINLOGON = r"Microsoft\Windows NT\CurrentVersion\Winlogon"


MUTATIONS: list[Mutation] = []


def add(
    name: str, plant: Plant, fires: str = "", says: str | None = None, notes: str = "", target: str = "qemu"
) -> None:
    MUTATIONS.append(mutation(name, plant, fires, says, notes, target))


def gone(*paths: str) -> Plant:
    return Plant(remove=paths)


def value(path: str, name: str, new: object) -> Callable[[Node], object]:
    """A change of one registry value; None takes it away."""

    def change(root: Node) -> None:
        if new is None:
            del root.at(path).values[name]
        else:
            root.at(path).values[name] = new  # type: ignore[assignment]

    return change


def without(path: str) -> Callable[[Node], object]:
    """A change that takes a key away."""

    def change(root: Node) -> None:
        parent, _, name = path.rpartition("\\")
        del (root.at(parent) if parent else root).keys[name]

    return change


def volume_facts(**changes: object) -> Callable[[Facts], Facts]:
    def change(facts: Facts) -> Facts:
        about = facts.volumes[0].facts
        assert isinstance(about, VolumeFacts)
        return first_volume(facts=replace(about, **changes))(facts)  # type: ignore[arg-type]

    return change


def table(*partitions: Partition, **changes: object) -> Callable[[Facts], Facts]:
    made = replace(TABLE, partitions=partitions or TABLE.partitions, **changes)  # type: ignore[arg-type]
    return lambda facts: replace(facts, table=made)


def mbr(signature: bool, code: bool) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, mbr=known(MasterBootRecord(signature, code)))


def boot_sector(**changes: object) -> Callable[[Facts], Facts]:
    return first_volume(boot=known(replace(BootSector(True, True, 63, 255, 63), **changes)))  # type: ignore[arg-type]


def container(corruptions: int, leaks: int) -> Callable[[Facts], Facts]:
    problem = Problem("corruption", "qcow2.refcount-too-low", "a cluster is used twice")
    return lambda facts: replace(facts, container=known(CheckReport("qcow2", corruptions, leaks, (problem,))))


def flip_checksum(data: bytes) -> bytes:
    """Another last byte: the checksum no longer adds up."""
    return data[:-1] + bytes([data[-1] ^ 0x5A])


def pe(name: str, imports: dict[str, list[str]], machine: int = 0x14C, original: str | None = None) -> bytes:
    strings = {"OriginalFilename": original or name, "CompanyName": xp.COMPANY}
    return build_pe(PeSpec(name=name, dll=False, subsystem=1, imports=imports, machine=machine, strings=strings))


def cut_cells(data: bytes) -> bytes:
    """A hive whose last bin is gone."""
    return data[:-4096]


# What lies below the file system
add("container corrupt", Plant(facts=container(3, 0)), "SOUND-001")
add("container leaks", Plant(facts=container(0, 9)), notes="SOUND-002")
add("partition cut", Plant(facts=table(problems=(Problem("corruption", "table.cut", "cut"),))), "SOUND-003")
add(
    "file system inconsistent",
    Plant(
        facts=first_volume(
            check=known(CheckReport("ntfs", 2, 0, (Problem("corruption", "ntfs.cross-linked", "shared"),)))
        )
    ),
    "SOUND-005",
)
add("volume dirty", Plant(facts=volume_facts(dirty=True)), "SOUND-006")
add("journal unclean", Plant(facts=volume_facts(log="unclean")), "SOUND-006")
add("hibernated", Plant(facts=volume_facts(hibernated=True)), "SOUND-007")
add(
    "second partition corrupt",
    Plant(
        facts=lambda facts: replace(
            facts,
            volumes=(
                *facts.volumes,
                replace(facts.volumes[0], index=2, active=False, facts=None, corrupt=True, reason="no MFT"),
            ),
        )
    ),
    "SOUND-004",
)
# The boot code
add("MBR without its signature", Plant(facts=mbr(False, True)), "BOOT-001", "no bootable device")
add("MBR without code", Plant(facts=mbr(True, False)), "BOOT-001", "a black screen")
add("an image of a partition", Plant(facts=table(scheme="superfloppy")), "BOOT-001", "as a hard disk")
add("no active partition", Plant(facts=table(replace(PARTITION, active=False))), "BOOT-002", "Missing operating")
add("two active partitions", Plant(facts=table(PARTITION, replace(PARTITION, index=2))), "BOOT-002", "Invalid part")
add("a GPT", Plant(facts=table(scheme="gpt")), "BOOT-002", "finds nothing to start")
add("VBR without its signature", Plant(facts=boot_sector(signature=False)), "BOOT-003", "Missing operating system")
add("VBR without code", Plant(facts=boot_sector(code=False)), "BOOT-003", "Missing operating system")
add(
    "VBR as mkntfs leaves it",
    Plant(facts=boot_sector(boot_code=BootCode("mkntfs (not bootable)", True, False, ""))),
    "BOOT-003",
    "starts nothing",
)
add("hidden sectors off by one", Plant(facts=boot_sector(hidden=62)), "BOOT-003", "A disk read error")
add("no heads", Plant(facts=boot_sector(heads=0)), "BOOT-004")
add("another machine's heads", Plant(facts=boot_sector(heads=240, geometry=(255, 63))), "BOOT-004")
add("another disk signature", Plant(facts=table(id="0x12345678")), "BOOT-023")
add("no system", Plant(facts=lambda facts: replace(facts, guest=None)), "BOOT-005", "nothing to start")
# The loader
add("NTLDR gone", gone("/NTLDR"), "BOOT-006", "NTLDR is missing")
add("NTDETECT.COM gone", gone("/NTDETECT.COM"), "BOOT-006", "NTDETECT failed")
add("NTLDR empty", Plant(write={"/NTLDR": b""}), "BOOT-006", "NTLDR is missing")
add("boot.ini gone", gone("/boot.ini"), "BOOT-007")
add(
    "boot.ini names another folder",
    Plant(edit={"/boot.ini": lambda b: b.replace(b"\\WINDOWS", b"\\WINNT")}),
    "BOOT-008",
    "hal.dll missing or corrupt",
)
add(
    "boot.ini names another partition",
    Plant(edit={"/boot.ini": lambda b: b.replace(b"partition(1)", b"partition(2)")}),
    "BOOT-008",
    "hal.dll missing",
)
for _disk in (b"multi(0)disk(0)rdisk(1)", b"scsi(0)disk(0)rdisk(0)", b"signature(1)disk(0)rdisk(0)"):
    add(
        f"boot.ini names {_disk.decode()}",
        Plant(edit={"/boot.ini": lambda b, disk=_disk: b.replace(b"multi(0)disk(0)rdisk(0)", disk)}),  # type: ignore[misc]
        "BOOT-008",
        "hal.dll missing",
    )
add("boot.ini names nothing", Plant(write={"/boot.ini": b"[boot loader]\r\n"}), "BOOT-008", "hal.dll missing")
# Hives
add("SYSTEM gone", gone(f"{CONFIG}/SYSTEM"), "BOOT-009", "config\\system missing or corrupt")
add("SYSTEM zeroed", Plant(write={f"{CONFIG}/SYSTEM": bytes(8192)}), "BOOT-009 SOUND-008", "system missing")
add("Select gone", Plant(system=without("Select")), "BOOT-010", "0x00000074")
add("Select names no control set", Plant(system=value("Select", "Default", 7)), "BOOT-010", "0x00000074")
add("last boot failed", Plant(system=value("Select", "Failed", 1)), notes="BOOT-024")
for hive in ("SOFTWARE", "SAM", "SECURITY", "DEFAULT"):
    add(f"{hive} zeroed", Plant(write={f"{CONFIG}/{hive}": bytes(8192)}), "BOOT-019 SOUND-008", "0xC0000218")
add("SAM gone", gone(f"{CONFIG}/SAM"), "BOOT-019", "0xC0000218")
add("hive cut", Plant(edit={f"{CONFIG}/DEFAULT": cut_cells}), "SOUND-008")
add(
    "hive that its log completes",
    Plant(facts=lambda facts: replace(facts, hives=(replace(facts.hives[0], replayed=True), *facts.hives[1:]))),
    notes="SOUND-009",
)
# Kernel
add("kernel gone", gone(f"{S32}/ntoskrnl.exe"), "BOOT-011 BOOT-025", "ntoskrnl.exe' is missing")
add("HAL gone", gone(f"{S32}/hal.dll"), "BOOT-011 BOOT-025", "hal.dll' is missing")
add("kdcom gone", gone(f"{S32}/kdcom.dll"), "BOOT-011 BOOT-025", "kdcom.dll")
add("bootvid gone", gone(f"{S32}/bootvid.dll"), "BOOT-011 BOOT-025", "bootvid.dll")
add(
    "/KERNEL= names nothing",
    Plant(edit={"/boot.ini": lambda b: b.replace(b"/fastdetect", b"/fastdetect /KERNEL=lite.exe")}),
    "BOOT-011",
    "lite.exe' is missing",
)
add("code page gone", gone(f"{S32}/c_1252.nls"), "BOOT-012", "c_1252.nls")
add("language table gone", gone(f"{S32}/l_intl.nls"), "BOOT-012", "l_intl.nls")
add(
    "code page value gone",
    Plant(system=value(r"ControlSet001\Control\Nls\CodePage", "ACP", None)),
    "BOOT-012",
    "a table is missing",
)
add("kernel cut", Plant(edit={f"{S32}/ntoskrnl.exe": lambda b: b[:2048]}), "SOUND-011", "ntoskrnl")
add("HAL isn't a program", Plant(write={f"{S32}/hal.dll": b"not a program"}), "SOUND-010 BOOT-025", "hal.dll")
add("HAL unreadable", Plant(unreadable=frozenset({f"{S32}/hal.dll"})), "SOUND-010 BOOT-025", "hal.dll")
add("kernel altered", Plant(edit={f"{S32}/ntoskrnl.exe": flip_checksum}), "SOUND-012", "0xC0000221")
add("driver altered", Plant(edit={f"{DRV}/disk.sys": flip_checksum}), "SOUND-012", "0xC0000221")
add("ntfs.sys gone", gone(f"{DRV}/ntfs.sys"), "BOOT-015", "ntfs.sys")
# Boot drivers
add("acpi.sys gone", gone(f"{DRV}/acpi.sys"), "BOOT-014", "acpi.sys")
add("disk.sys gone", gone(f"{DRV}/disk.sys"), "BOOT-014 PORT-004", "disk.sys")
add("atapi.sys gone", gone(f"{DRV}/atapi.sys"), "BOOT-014 PORT-004", "atapi.sys")
add("intelide.sys gone", gone(f"{DRV}/intelide.sys"), "BOOT-014 PORT-003", "intelide.sys")
add("sr.sys gone", gone(f"{DRV}/sr.sys"), "BOOT-014")
add("classpnp.sys gone", gone(f"{DRV}/classpnp.sys"), "BOOT-025", "disk.sys")
add("pciidex.sys gone", gone(f"{DRV}/pciidex.sys"), "BOOT-025", "intelide.sys")
add(
    "driver for another processor",
    Plant(write={f"{DRV}/disk.sys": pe("disk.sys", {}, machine=0x8664)}),
    "BOOT-013",
    "disk.sys",
)
# The session
add("ntdll gone", gone(f"{S32}/ntdll.dll"), "BOOT-016 BOOT-025", "0x0000006B")
add("smss gone", gone(f"{S32}/smss.exe"), "BOOT-016", "0x0000006F")
add("csrss gone", gone(f"{S32}/csrss.exe"), "BOOT-017", "0xC000021A")
add("win32k gone", gone(f"{S32}/win32k.sys"), "BOOT-017", "0xC000021A")
add("basesrv gone", gone(f"{S32}/basesrv.dll"), "BOOT-017", "0xC000021A")
add(
    "Windows not required",
    Plant(system=value(rf"{MANAGER}\SubSystems", "Required", ["Debug"])),
    "BOOT-017",
    "0xC000021A",
)
add("csrsrv gone", gone(f"{S32}/csrsrv.dll"), "BOOT-025", "0xC0000135")
add("user32 gone", gone(f"{S32}/user32.dll"), "BOOT-018 BOOT-025", "0xC0000135")
add("a KnownDLL gone", gone(f"{S32}/imagehlp.dll"), "BOOT-018")
add("autochk gone", gone(f"{S32}/autochk.exe"), notes="BOOT-020")
# Logon and shell
add("winlogon gone", gone(f"{S32}/winlogon.exe"), "BOOT-021", "0xC000021A")
add("msgina gone", gone(f"{S32}/msgina.dll"), "BOOT-021", "logon user interface")
add("lsass gone", gone(f"{S32}/lsass.exe"), "BOOT-021 SVC-002", "no logon")
add("lsasrv gone", gone(f"{S32}/lsasrv.dll"), "BOOT-025", "lsasrv.dll, which was not found")
add("msv1_0 gone", gone(f"{S32}/msv1_0.dll"), "BOOT-021")
add(
    "another GINA that isn't there",
    Plant(software=value(WINLOGON, "GinaDLL", "nwgina.dll")),
    "BOOT-021 CLEAN-001",
    "logon",
)
add("userinit gone", gone(f"{S32}/userinit.exe"), "BOOT-022", "logged off again")
add("Userinit empty", Plant(software=value(WINLOGON, "Userinit", "")), "BOOT-022", "logged off again")
add("shell gone", gone("/WINDOWS/explorer.exe"), "BOOT-022", "an empty screen")
add(
    "another shell that isn't there",
    Plant(software=value(WINLOGON, "Shell", r"C:\Lite\litestep.exe")),
    "BOOT-022 CLEAN-001",
    "an empty screen",
)
add(
    "export missing",
    Plant(write={f"{S32}/csrss.exe": pe("csrss.exe", {"ntdll.dll": ["NtNowhere"]})}),
    "BOOT-025",
    "0xC0000139",
)
# Services
add("system driver gone", gone(f"{DRV}/kbdclass.sys"), "SVC-001")
add("auto service's DLL gone", gone(f"{S32}/wkssvc.dll"), "SVC-002")
add("auto service's program gone", gone(f"{S32}/spoolsv.exe"), "SVC-002")
add("service's import gone", gone(f"{S32}/spoolss.dll"), "SVC-004")
add("demand driver gone", gone(f"{DRV}/rtl8139.sys"), notes="SVC-003")
add("system driver that may fail gone", gone(f"{DRV}/vga.sys"), notes="SVC-001")
# The machine
add(
    "no key for PIIX3, PCIIDE on demand",
    Plant(system=without(rf"{CDD}\pci#ven_8086&dev_7010")),
    "PORT-002",
    "0x0000007B",
)
add(
    "no key for any IDE controller",
    Plant(system=lambda root: [without(rf"{CDD}\{key}")(root) for key in ("pci#ven_8086&dev_7010", "pci#cc_0101")]),
    "PORT-001",
    "0x0000007B",
)
add("intelide disabled", Plant(system=value(rf"{SERVICES}\IntelIde", "Start", 4)), "PORT-002", "0x0000007B")
add("atapi on demand", Plant(system=value(rf"{SERVICES}\atapi", "Start", 3)), "PORT-004", "0x0000007B")
add("no key for the channel", Plant(system=without(rf"{CDD}\primary_ide_channel")), "PORT-004", "0x0000007B")
add("no key for the disk", Plant(system=without(rf"{CDD}\gendisk")), "PORT-004", "0x0000007B")
add(
    "VirtualBox's controller unknown",
    Plant(system=lambda root: [without(rf"{CDD}\{key}")(root) for key in ("pci#ven_8086&dev_7111", "pci#cc_0101")]),
    "PORT-001",
    "0x0000007B",
    target="virtualbox",
)
add("q35 without AHCI", Plant(), "PORT-001", "0x000000A5", target="qemu:q35")
add("LSI Logic unknown", Plant(), "PORT-001", "0x0000007B", target="vmware:lsi")
add("HAL empty", Plant(write={f"{S32}/hal.dll": b""}), "SOUND-010 BOOT-025", "hal.dll")
add("intelppm at the start", Plant(), notes="PORT-006 PORT-007 PRIV-001 PRIV-002 LEAN-001")


def _hal_of_another_make() -> Plant:
    exports = ("HalInitSystem", "HalQueryRealTimeClock", "READ_PORT_UCHAR")
    spec = PeSpec(
        name="hal.dll",
        subsystem=1,
        exports=dict.fromkeys(exports),
        strings={"OriginalFilename": "halsp.dll"},
    )
    return Plant(write={f"{S32}/hal.dll": build_pe(spec)})


add("a HAL of another make", _hal_of_another_make(), "PORT-005")
add(
    "a 64-bit kernel",
    Plant(facts=lambda facts: replace(facts, guest=replace(facts.guest, architecture=known("x64")))),
    "BOOT-013",
    "is for",
    notes="PORT-008",
)  # type: ignore[type-var]

HEALTHY: dict[str, Plant] = {
    "as it is": Plant(),
    "leftovers of a clean installation": Plant(
        system=lambda root: [
            root.at(rf"{SERVICES}\{name}").values.update({"Type": 1, "Start": start, "ErrorControl": 0})
            for name, start in (("Changer", 1), ("lbrtfdc", 1), ("PCIDump", 1), ("PDCOMP", 3), ("WDICA", 3))
        ]
    ),
    "a disabled driver without its file": Plant(
        system=lambda root: root.at(rf"{SERVICES}\abp480n5").values.update({"Type": 1, "Start": 4, "ErrorControl": 1})
    ),
    "a key below Services that is none": Plant(system=lambda root: root.at(rf"{SERVICES}\Legacy\Performance")),
    "a controller that was configured before": Plant(
        system=lambda root: [
            without(rf"{CDD}\pci#ven_8086&dev_7010")(root),
            without(rf"{CDD}\pci#cc_0101")(root),
            root.at(r"ControlSet001\Enum\PCI\VEN_8086&DEV_7010&SUBSYS_11001AF4&REV_00\3&13c0b0c5&0&09").values.update(
                {"Service": "intelide"}
            ),
        ]
    ),
    "names in another case": Plant(
        system=value(rf"{SERVICES}\Disk", "ImagePath", expand_sz(r"\SystemRoot\SYSTEM32\DRIVERS\DISK.SYS"))
    ),
    "a shell with arguments": Plant(software=value(WINLOGON, "Shell", r"C:\WINDOWS\Explorer.exe /x")),
    "MountedDevices of other disks": Plant(
        system=value("MountedDevices", r"\DosDevices\E:", struct.pack("<IQ", 1, 2))
    ),
}
