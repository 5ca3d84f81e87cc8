"""Genuine: when and from what the system was installed, whether it ends by itself, and who changed it since."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from byre.audit.altered import base_name, catalogs_are_complete, contradicted, system_files
from byre.audit.facts import Facts, Provenance
from byre.audit.finding import Finding, Unread
from byre.audit.genuine_rules import RULES as RULES
from byre.audit.platforms import Platform
from byre.windows.guest import Guest

RELEASED = {
    "4.0": "1996-07-31",
    "5.0": "1999-12-15",
    "5.1": "2001-08-24",
    "5.2": "2003-03-28",
    "6.0": "2006-11-08",
    "6.1": "2009-07-22",
}
"""Version → the day on which it was finished. Nothing of it was installed before, but by its testers."""
LAST_PACK = {"4.0": 6, "5.0": 4, "5.1": 3, "5.2": 2, "6.0": 2, "6.1": 1}
"""Version → its last service pack."""
LEVELS = {("5.1", 2600): (1106, 2180, 5512), ("5.2", 3790): (1830, 3959)}
"""(version, build) → from which last number of the kernel's version service pack 1, 2, 3 is in it."""
ACTIVATION = [
    "winlogon.exe",
    "licdll.dll",
    "licwmi.dll",
    "dpcdll.dll",
    "pidgen.dll",
    "regwizc.dll",
    "wpabaln.exe",
    "msoobe.exe",
    "wgalogon.dll",
    "wgatray.exe",
    "legitcheckcontrol.dll",
    "slcext.dll",
    "sppsvc.exe",
    "slc.dll",
]
"""Files in which product activation lives, and which patches that go round it change."""
PATCHED = {
    "tcpip.sys": "the limit of half-open connections",
    "uxtheme.dll": "the check of themes' signatures",
    "syssetup.dll": "the check of what Setup installs",
    "sfc.dll": "Windows File Protection",
    "sfc_os.dll": "Windows File Protection",
    "setupapi.dll": "the check of drivers' signatures",
    "termsrv.dll": "the limit of sessions",
}
"""Files that are patched by habit → what the patch takes away."""
PRODUCTS = ("microsoft windows", "microsoft(r) windows", "windows ", "hyper-v server", "reactos")
"""What ProductName begins with where Microsoft wrote it, in lower case: it made too many editions to list them."""
_EDITIONS = (
    "lite",
    "tiny",
    "micro",
    "nano",
    "black",
    "gamer",
    "ultimate xp",
    "integral",
    "sweet",
    "dark",
    "unattended",
)
"""Words in ProductName that repackagers add."""


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """Every breach of this module's rules."""
    yield from _beside(facts)
    guest = facts.guest
    if guest is None:
        yield Unread("GEN-001", "no installed system was found")
        return
    told = facts.provenance.value
    if told is None:
        reason = facts.provenance.reason or "SOFTWARE can't be read"
        for rule in ("GEN-001", "GEN-002", "GEN-003", "GEN-007", "GEN-008"):
            yield Unread(rule, reason)
    else:
        yield from _installed(told, guest)
        yield from _evaluation(told, guest)
        yield from _markers(told)
        yield from _name(guest)
    yield from _service_pack(facts, guest)
    yield from _patched(facts)


def summary(facts: Facts) -> str | None:
    """One sentence on where the system comes from, for people; None where nothing is known."""
    guest, told = facts.guest, facts.provenance.value
    if guest is None or told is None:
        return None
    parts = []
    if told.installed:
        parts.append(f"installed {told.installed[:10]}")
    parts.append(guest.service_pack.value or "no service pack")
    if told.build_lab:
        parts.append(f"build {told.build_lab}")
    if guest.hotfixes.value is not None:
        count = len(guest.hotfixes.value)
        parts.append("1 hotfix" if count == 1 else f"{count} hotfixes")
    if told.licence:
        parts.append(f"{told.licence} licence")
    if told.clone:
        parts.append("prepared with Sysprep")
    return ", ".join(parts)


def _installed(told: Provenance, guest: Guest) -> Iterator[Finding]:
    where = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\InstallDate"
    if told.installed is None:
        yield Finding("GEN-001", where, "isn't there", "when it was installed can't be told")
        return
    released = RELEASED.get(guest.version.value or "")
    if released is not None and told.installed[:10] < released:
        said = f"{told.installed[:10]}; this system was finished on {released}"
        yield Finding("GEN-001", where, said, "the clock was wrong, or the date was made up")


def _evaluation(told: Provenance, guest: Guest) -> Iterator[Finding]:
    where = "SYSTEM: Session Manager\\Executive\\PriorityQuantumMatrix"
    if told.trial_minutes:
        days = told.trial_minutes // 1440
        end = _later(told.set_up, told.trial_minutes)
        after = f"from {end} on" if end else f"{days} days after Setup"
        said = f"an evaluation of {days} days, set up {told.set_up or 'at an unknown time'}"
        what = f"{after} it stops an hour after each start: STOP 0x00000098"
        yield Finding("GEN-004", where, said, what)
    words = f"{guest.product.value or ''} {guest.edition.value or ''}".lower()
    if "evaluation" in words or (guest.edition.value or "").lower().endswith("eval"):
        said = f"{guest.product.value or ''} ({guest.edition.value or 'no edition'})"
        what = "it stops working when the evaluation is over"
        yield Finding("GEN-004", "SOFTWARE: ProductName, EditionID", said, what, severity="medium")


def _later(start: str | None, minutes: int) -> str | None:
    """The day on which so many minutes are over."""
    try:
        first = datetime.fromisoformat((start or "").replace("Z", "+00:00"))
        return (first + timedelta(minutes=minutes)).date().isoformat()
    except (ValueError, OverflowError):
        return None


def _markers(told: Provenance) -> Iterator[Finding]:
    for marker in told.markers:
        if marker.kind == "activation":
            said = f"what {marker.name} leaves behind"
            yield Finding("GEN-008", marker.where, said, "activation was gone round: the licence is in doubt")
        else:
            yield Finding("GEN-007", marker.where, f"what {marker.name} leaves behind", "not Microsoft's own media")


def _name(guest: Guest) -> Iterator[Finding]:
    name = guest.product.value
    plain = " ".join((name or "").lower().split())
    words = {word.strip("()[].,-") for word in plain.split()}
    odd = next((each for each in _EDITIONS if each in words or (" " in each and each in plain)), None)
    if name is None or (plain.startswith(PRODUCTS) and odd is None):
        return
    where = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\ProductName"
    yield Finding("GEN-007", where, f"{name[:200]!r}, which isn't a name of Microsoft's", "somebody's own edition")


def _service_pack(facts: Facts, guest: Guest) -> Iterator[Finding]:
    version = guest.version.value or ""
    stated = _number(guest.service_pack.value)
    where = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\CSDVersion"
    kernel = facts.file(f"{guest.root}/system32/ntoskrnl.exe")
    numbers = kernel.pe.file_version if kernel is not None and kernel.pe is not None else None
    levels = LEVELS.get((version, numbers[2])) if numbers else None
    own = sum(numbers[3] >= level for level in levels) if numbers and levels else None
    if own is not None and own != stated:
        said = f"it says {guest.service_pack.value or 'no service pack'}, the kernel is of service pack {own}"
        yield Finding("GEN-002", where, f"{said} ({'.'.join(map(str, numbers or ()))})", "parts of two service packs")
    last = LAST_PACK.get(version)
    if last is not None and stated < last:
        said = f"{guest.service_pack.value or 'none'}; the last is Service Pack {last}"
        yield Finding("GEN-003", where, said, "known holes are open, and later updates don't install")


def _number(text: str | None) -> int:
    digits = "".join(letter for letter in text or "" if letter.isascii() and letter.isdigit())
    return int(digits) if 0 < len(digits) < 3 else 0


def _patched(facts: Facts) -> Iterator[Finding | Unread]:
    """The files that patches change, where something speaks against them."""
    if facts.programs.value is None:
        reason = facts.programs.reason or "the files weren't looked at"
        yield Unread("GEN-005", reason)
        yield Unread("GEN-006", reason)
        return
    against = contradicted(facts)
    complete = catalogs_are_complete(facts)
    for program in system_files(facts):
        name = base_name(program.path)
        if name not in ACTIVATION and name not in PATCHED:
            continue
        signs = against.get(program.path.lower())
        said = "; ".join(signs.by_rule.values()) if signs is not None else ""
        severity = None
        if not said:
            if not complete or program.known is not None or program.signed:
                continue
            said, severity = "no catalog of the guest lists it, though they list nearly all others", "low"
        if name in ACTIVATION:
            what = "activation may have been gone round: the licence is in doubt"
            yield Finding("GEN-005", program.path, said, what, severity=severity)
        else:
            yield Finding("GEN-006", program.path, said, f"patched, it may lack {PATCHED[name]}", severity=severity)


def _beside(facts: Facts) -> Iterator[Finding | Unread]:
    found = facts.beside
    for file, said in found.contradicts:
        yield Finding("GEN-009", file, said, "this isn't the image that the statement is about")
    for file, said in found.forged:
        yield Finding("GEN-010", file, said, "the signature vouches for something else")
    for file, said in found.unknown_key:
        yield Finding("GEN-010", file, said, "nobody is known to vouch for it", severity="low")
    for file, said in found.unread:
        yield Unread("GEN-009", f"{file}: {said}")
