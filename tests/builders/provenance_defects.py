"""Mutations for Genuine, for altered system files, for lite builds and for the fuller Private, Lean and Portable."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from builders import xp
from builders.audited import Plant, clean_files
from builders.defects import SERVICES, value
from builders.hive import Node, build_hive, expand_sz
from builders.mutations import Mutation, mutation
from builders.pe import PeSpec, build_pe
from builders.signed_catalogs import authority, members, signed_catalog
from byre.audit.facts import Beside, Comparison, Facts, Layout, Odd
from byre.disks.disk import CheckReport, Problem
from byre.windows.fact import known
from byre.windows.pe import parse_pe

S32, DRV = xp.SYSTEM32, xp.DRIVERS
CURRENT = r"Microsoft\Windows NT\CurrentVersion"
EXECUTIVE = r"ControlSet001\Control\Session Manager\Executive"
SUBCOMPONENTS = r"Microsoft\Windows\CurrentVersion\Setup\OC Manager\Subcomponents"
CATROOT = f"{S32}/CatRoot/{{F750E6C3-38EE-11D1-85E5-00C04FC295EE}}"
EXPLORER = r"Software\Microsoft\Windows\CurrentVersion\Explorer"
SET_UP = 128_526_912_000_000_000  # 2008-04-15 as a FILETIME

MUTATIONS: list[Mutation] = []


def add(
    name: str, plant: Plant, fires: str = "", says: str | None = None, notes: str = "", target: str = "qemu"
) -> None:
    MUTATIONS.append(mutation(name, plant, fires, says, notes, target))


def beside(**rows: tuple[tuple[str, str], ...]) -> Plant:
    return Plant(facts=lambda facts: replace(facts, beside=Beside(**rows)))


def layout(**changes: int) -> Plant:
    return Plant(facts=lambda facts: replace(facts, layout=known(Layout(**changes))))


def evaluation(minutes: int) -> Callable[[Node], object]:
    """The kernel's note: the low half of the time, the minutes, the high half."""
    data = struct.pack("<III", SET_UP & 0xFFFFFFFF, minutes, SET_UP >> 32)
    return lambda root: root.at(EXECUTIVE).values.update({"PriorityQuantumMatrix": data})


def program(name: str, *, version: tuple[int, int, int, int] = (5, 1, 2600, 5512), **changes: object) -> bytes:
    """A program of Microsoft's, by its version resource."""
    strings = {"CompanyName": "Microsoft Corporation", "OriginalFilename": str(changes.pop("original", name))}
    spec = PeSpec(name=name, dll=not name.endswith(".exe"), version=version, strings=strings, **changes)  # type: ignore[arg-type]
    return build_pe(spec)


def flipped(data: bytes) -> bytes:
    """Another last byte: neither checksum nor digests fit any more."""
    return data[:-1] + bytes([data[-1] ^ 0x5A])


def media(rows: Mapping[str, tuple[int, str]]) -> bytes:
    """A layout.inf: name → (size, disposition)."""
    lines = "".join(f"{name} = 1,,{size or ''},,,,,2,0,{always}\r\n" for name, (size, always) in rows.items())
    return f"[SourceDisksFiles]\r\n{lines}".encode()


@cache
def extras() -> Mapping[str, bytes]:
    """Thirty of Microsoft's libraries in system32: enough that one that differs stands out."""
    return {f"{S32}/byre{number:02}.dll": program(f"byre{number:02}.dll", padding=number) for number in range(30)}


def sized(odd: str = "") -> dict[str, bytes]:
    """The thirty with a list of their sizes; ``odd`` is given another."""
    rows = {path.rpartition("/")[2]: (len(data), "0") for path, data in extras().items()}
    if odd:
        rows[odd] = (rows[odd][0] + 512, "0")
    return {**extras(), f"{xp.ROOT}/inf/layout.inf": media(rows)}


@cache
def listed(*leave_out: str) -> Mapping[str, bytes]:
    """The thirty in a catalog of our own making, but for those left out."""
    digests = [
        parse_pe(data, path=path).digest("sha1")
        for path, data in extras().items()
        if path.rpartition("/")[2] not in leave_out
    ]
    publisher = authority("A publisher")
    return {**extras(), f"{CATROOT}/byre.cat": signed_catalog(digests, publisher, [publisher])}


def vouched(*names: str) -> dict[str, bytes]:
    """A catalog that lists programs of system32."""
    publisher = authority("A publisher")
    digests = [parse_pe(clean_files()[f"{S32}/{name}"], path=name).digest("sha1") for name in names]
    return {f"{CATROOT}/byre.cat": signed_catalog(digests, publisher, [publisher])}


def broken_catalog() -> bytes:
    publisher = authority("A publisher")
    other = members([hashlib.sha1(b"x").digest()])
    return signed_catalog([hashlib.sha1(b"a").digest()], publisher, [publisher], signed_content=other)


def user_hive(change: Callable[[Node], object]) -> dict[str, bytes]:
    root = xp.user_hive()
    change(root)
    return {f"{xp.PROFILE}/operator/NTUSER.DAT": build_hive(root, name="ntuser.dat")}


def signed_for_other_bytes(name: str) -> bytes:
    """A program with a signature inside that was made for other bytes."""
    import asn1crypto.core

    data = program(name)
    headers = parse_pe(data, path=name).headers
    digest = hashlib.sha1(b"other bytes").digest()
    blob = _authenticode(digest, asn1crypto.core.ObjectIdentifier("1.3.14.3.2.26").dump())
    table = struct.pack("<IHH", 8 + len(blob), 0x200, 2) + blob
    table += bytes(-len(table) % 8)
    image = bytearray(data)
    struct.pack_into("<II", image, headers.security_entry_offset, len(data), len(table))
    image += table
    parsed = parse_pe(bytes(image), path=name)
    struct.pack_into("<I", image, headers.checksum_offset, parsed.computed_checksum)
    return bytes(image)


def _authenticode(digest: bytes, sha1: bytes) -> bytes:
    from builders.signed_catalogs import OCTETS, SEQUENCE, SET_OF, der, oid

    algorithm = der(SEQUENCE, sha1, der(0x05))
    indirect = der(
        SEQUENCE, der(SEQUENCE, oid("1.3.6.1.4.1.311.2.1.15")), der(SEQUENCE, algorithm, der(OCTETS, digest))
    )
    inner = der(SEQUENCE, oid("1.3.6.1.4.1.311.2.1.4"), der(0xA0, indirect))
    signed = der(SEQUENCE, der(0x02, b"\1"), der(SET_OF, algorithm), inner, der(0xA0), der(SET_OF))
    return der(SEQUENCE, oid("1.2.840.113549.1.7.2"), der(0xA0, signed))


# Genuine: provenance
add("no installation date", Plant(software=value(CURRENT, "InstallDate", None)), notes="GEN-001")
add("installed before it was made", Plant(software=value(CURRENT, "InstallDate", 978_307_200)), notes="GEN-001")
add(
    "states service pack 2",
    Plant(software=value(CURRENT, "CSDVersion", "Service Pack 2")),
    "GEN-002",
    notes="GEN-003",
)
add(
    "service pack 2, kernel and all",
    Plant(
        software=value(CURRENT, "CSDVersion", "Service Pack 2"),
        edit={
            f"{S32}/ntoskrnl.exe": lambda data: _with_version(data, (5, 1, 2600, 2180)),
        },
    ),
    notes="GEN-003",
)
add("evaluation of 120 days", Plant(system=evaluation(172_800)), "GEN-004")
add("evaluation by its name", Plant(software=value(CURRENT, "EditionID", "EnterpriseEval")), "GEN-004")
add("nLite's list", Plant(write={f"{xp.ROOT}/inf/nlite.inf": b"; "}), notes="GEN-007")
add("a key of an update pack", Plant(software=lambda root: root.at("RyanVM")), notes="GEN-007")
add(
    "somebody's own edition",
    Plant(software=value(CURRENT, "ProductName", "Microsoft Windows XP Lite")),
    notes="GEN-007",
)
add("AntiWPA's library", Plant(write={f"{S32}/antiwpa.dll": b"inert"}), "GEN-008")
add(
    "AntiWPA's key",
    Plant(software=lambda root: root.at(rf"{CURRENT}\Winlogon\Notify\AntiWPA").values.update({"Logon": "x"})),
    "GEN-008",
)
# What lies beside
add("a checksum that isn't the image's", beside(contradicts=(("SHA256SUMS", "another digest"),)), "GEN-009")
add("a forged signature", beside(forged=(("x.minisig", "made for something else"),)), "GEN-010")
add("a signature by nobody known", beside(unknown_key=(("x.minisig", "a key beside it"),)), notes="GEN-010")
# Patched files
add(
    "tcpip patched",
    Plant(write={f"{DRV}/tcpip.sys": flipped(clean_files()[f"{DRV}/tcpip.sys"])}),
    "CLEAN-103 GEN-006",
)
add(
    "winlogon patched",
    Plant(edit={f"{S32}/winlogon.exe": flipped}),
    "CLEAN-103 GEN-005",
)
add(
    "uxtheme patched, its checksum mended",
    Plant(
        write={
            **listed("uxtheme.dll"),
            f"{S32}/uxtheme.dll": program("uxtheme.dll", padding=77),
        },
    ),
    notes="GEN-006 CLEAN-105",
)
# Altered system files
add(
    "the command prompt as Sticky Keys",
    Plant(write={f"{S32}/sethc.exe": clean_files()[f"{S32}/cmd.exe"], **vouched("cmd.exe")}),
    "CLEAN-101",
)
add(
    "the command prompt as Utility Manager",
    Plant(write={f"{S32}/utilman.exe": clean_files()[f"{S32}/cmd.exe"], **vouched("cmd.exe")}),
    "CLEAN-101",
)
add(
    "signed for other bytes",
    Plant(write={f"{S32}/byre.dll": signed_for_other_bytes("byre.dll")}),
    "CLEAN-102",
)
add("a library altered", Plant(edit={f"{S32}/comctl32.dll": flipped}), "CLEAN-103")
add("a driver on demand altered", Plant(edit={f"{DRV}/rtl8139.sys": flipped}), "CLEAN-103")
add("another size than the media's", Plant(write=sized("byre07.dll")), "CLEAN-104")
add("one file that no catalog lists", Plant(write=dict(listed("byre07.dll"))), notes="CLEAN-105")
add(
    "a catalog changed after signing",
    Plant(write={f"{CATROOT}/oem1.cat": broken_catalog()}),
    "CLEAN-106",
)
# Lite builds
add(
    "a component gone that the media's list always copies",
    Plant(write={f"{xp.ROOT}/inf/layout.inf": media({"sol.exe": (0, "0"), "msimn.exe": (0, "0")})}),
    notes="COMP-001",
)
add(
    "a component gone that Setup noted",
    Plant(software=lambda root: root.at(SUBCOMPONENTS).values.update({"msnexplr": 1, "fax": 0})),
    notes="COMP-001",
)
add(
    "a stripped build without the media's list",
    Plant(remove=(f"{xp.ROOT}/inf/layout.inf",), write={f"{S32}/fill{n:03}.dll": b"x" for n in range(450)}),
    notes="COMP-001",
)
add(
    "a program that needs Outlook Express",
    Plant(
        write={
            "/Program Files/Mailer/mailer.exe": build_pe(
                PeSpec(
                    name="mailer.exe",
                    dll=False,
                    imports={"KERNEL32.dll": ["ExitProcess"], "MSOEACCT.dll": ["CreateAcctManager"]},
                )
            )
        }
    ),
    "COMP-002",
)
add(
    "a program that needs media player's library",
    Plant(
        write={
            "/Program Files/Kiosk/kiosk.exe": build_pe(
                PeSpec(name="kiosk.exe", dll=False, imports={"wmp.dll": ["DllGetClassObject"]})
            )
        }
    ),
    "COMP-002",
)
add(
    "a program without its own library",
    Plant(
        write={
            "/Program Files/Own/own.exe": build_pe(
                PeSpec(name="own.exe", dll=False, imports={"ownlib.dll": ["Start"]})
            )
        }
    ),
    notes="COMP-003",
)
add(
    "a service whose dependence is gone",
    Plant(
        system=lambda root: root.at(rf"{SERVICES}\Dhcp").values.update({"DependOnService": ["Tcpip", "NetBT", "Afd"]})
    ),
    "COMP-004",
)
add(
    "a service on demand whose dependence is gone",
    Plant(
        system=lambda root: root.at(rf"{SERVICES}\Srv").values.update({"DependOnService": ["NetDDE"]}),
    ),
    notes="COMP-004",
)
add(
    "a registered class without its server",
    Plant(
        software=lambda root: root.at(
            r"Classes\CLSID\{CFBFAE00-17A6-11D0-99CB-00C04FD64497}\InprocServer32"
        ).values.update({"": expand_sz(r"%SystemRoot%\system32\wmp.dll")})
    ),
    notes="COMP-005",
)
add(
    "much of the media's list gone",
    Plant(write={f"{xp.ROOT}/inf/layout.inf": media({f"gone{n:03}.dll": (0, "0") for n in range(60)})}),
    notes="COMP-006",
)
# The chain
add(
    "an image below is corrupt",
    Plant(
        facts=lambda facts: replace(
            facts,
            chain=(
                (
                    "base.qcow2",
                    known(CheckReport("qcow2", 2, 0, (Problem("corruption", "qcow2.refcount-too-low", "twice"),))),
                ),
            ),
        )
    ),
    "SOUND-013",
)


# The reference
def held(**rows: object) -> Plant:
    found = Comparison("cd.iso", "media", 100, **rows)  # type: ignore[arg-type]
    return Plant(facts=lambda facts: replace(facts, reference=known(found)))


ODD = (Odd(f"{S32}/user32.dll", "another"),)
add("the media has more", held(missing=("winhlp32.exe",)), notes="REF-001")
add("the media has other bytes", held(altered=ODD), "REF-002")
add("newer than the media", held(newer=ODD), notes="REF-003")
add("older than the media", held(older=ODD), notes="REF-004")
add("more than the media", held(added=(f"{S32}/svch0st.exe",)), notes="REF-005")
# Lean
add("dllcache is there", Plant(write={f"{S32}/dllcache/user32.dll": bytes(4096)}), notes="LEAN-002")
add("free clusters held", layout(clusters=4000, free=1 << 30, held=600 << 20, taken=600 << 20), notes="LEAN-003")
add("clusters out of order", layout(clusters=4000, out_of_order=900), notes="LEAN-004")
# Private
add(
    "lists of recent files",
    Plant(
        write=user_hive(
            lambda root: root.at(rf"{EXPLORER}\RecentDocs").values.update({"0": b"a", "1": b"b", "MRUListEx": b""})
        )
    ),
    notes="PRIV-003",
)
add(
    "a licence of a program",
    Plant(software=lambda root: root.at(r"Instruments\Reader").values.update({"SerialNumber": "not shown"})),
    notes="PRIV-004",
)
# Portable
add("activation keeps its state", Plant(system=lambda root: root.at(r"WPA\Key-ABC")), notes="PORT-009")


def _hal(original: str) -> bytes:
    exports = ("HalInitSystem", "HalQueryRealTimeClock", "READ_PORT_UCHAR")
    return build_pe(
        PeSpec(name="hal.dll", subsystem=1, exports=dict.fromkeys(exports), strings={"OriginalFilename": original})
    )


def _with_version(data: bytes, version: tuple[int, int, int, int]) -> bytes:
    """The kernel with another version: the fixed numbers are found by their signature and set, the sum mended."""
    image = bytearray(data)
    at = image.index(struct.pack("<I", 0xFEEF04BD))
    high, low = version[0] << 16 | version[1], version[2] << 16 | version[3]
    struct.pack_into("<IIII", image, at + 8, high, low, high, low)
    parsed = parse_pe(bytes(image), path="kernel")
    struct.pack_into("<I", image, parsed.headers.checksum_offset, parsed.computed_checksum)
    return bytes(image)


def _renamed(data: bytes, old: str, new: str) -> bytes:
    """The same file under another OriginalFilename of the same length, its checksum mended."""
    assert len(old) == len(new)
    image = bytearray(data.replace(old.encode("utf-16-le"), new.encode("utf-16-le")))
    parsed = parse_pe(bytes(image), path=new)
    struct.pack_into("<I", image, parsed.headers.checksum_offset, parsed.computed_checksum)
    return bytes(image)


add(
    "a HAL for several processors under a kernel for one",
    Plant(write={f"{S32}/hal.dll": _hal("halmacpi.dll")}),
    "PORT-010",
    "0x00000079",
)
add(
    "a PAE kernel",
    Plant(edit={f"{S32}/ntoskrnl.exe": lambda data: _renamed(data, "ntoskrnl.exe", "ntkrnlpa.exe")}),
    notes="PORT-011",
)
add("KubeVirt without AHCI", Plant(), "PORT-001", "0x000000A5", target="kubevirt")
add("ESXi with LSI Logic", Plant(), "PORT-001", "0x0000007B", target="esxi:lsi")


def _updated(facts: Facts) -> Facts:
    return replace(facts, layout=known(Layout(clusters=100_000, out_of_order=900, free=1 << 30)))


HEALTHY: dict[str, Plant] = {
    "everything looked at": Plant(),
    "a tree that was stripped after it was linked": Plant(
        write={path: flipped(data) for path, data in extras().items()}
    ),
    "sizes as the media's list has them": Plant(write=sized()),
    "a hotfix's file of another size": Plant(
        write={
            **sized("byre07.dll"),
            f"{S32}/byre07.dll": program("byre07.dll", version=(5, 1, 2600, 5755), padding=900),
        },
    ),
    "a media's list of another service pack": Plant(
        write={
            **extras(),
            f"{xp.ROOT}/inf/layout.inf": media({f"byre{n:02}.dll": (1000 + n, "0") for n in range(30)}),
        },
    ),
    "all files in a catalog": Plant(write=dict(listed())),
    "a maker's program with a wrong checksum": Plant(
        write={
            "/Program Files/Instrument/instrument.exe": flipped(
                clean_files()["/Program Files/Instrument/instrument.exe"]
            )
        },
    ),
    "programs that are what their names say, in a catalog": Plant(
        write=vouched("sethc.exe", "cmd.exe", "rundll32.exe", "winlogon.exe")
    ),
    "no evaluation": Plant(system=evaluation(0)),
    "optional parts that Setup was told to leave out": Plant(
        software=lambda root: root.at(SUBCOMPONENTS).values.update({"fax": 0, "netmeeting": 0, "msmsgs": 0})
    ),
    "a small system without the media's list": Plant(remove=(f"{xp.ROOT}/inf/layout.inf",)),
    "a service that depends on a group": Plant(
        system=lambda root: root.at(rf"{SERVICES}\Dhcp").values.update({"DependOnService": ["Tcpip", "Afd"]})
    ),
    "a list beside that fits": beside(agrees=(("SHA256SUMS", "fits"),)),
    "a few clusters out of order": Plant(facts=_updated),
    "a class served from another drive": Plant(
        software=lambda root: root.at(r"Classes\CLSID\{1}\InprocServer32").values.update({"": r"D:\x\y.dll"})
    ),
    "a multiprocessor kernel with its HAL": Plant(
        edit={f"{S32}/ntoskrnl.exe": lambda data: _renamed(data, "ntoskrnl.exe", "ntkrnlmp.exe")},
        write={f"{S32}/hal.dll": _hal("halmacpi.dll")},
    ),
}
