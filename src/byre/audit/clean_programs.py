"""What the census shows: names that deceive, programs in streams, programs of Windows that aren't; boot code."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit.facts import Facts, ProgramFile
from byre.audit.finding import Finding, Unread
from byre.audit.placement import deceptive_name
from byre.volumes.boot_code import BootCode
from byre.windows.guest import Guest

_FROM_CENSUS = ("CLEAN-011", "CLEAN-016", "CLEAN-017")
_SHELLS = {"cmd.exe", "command.com", "explorer.exe", "taskmgr.exe", "powershell.exe", "mmc.exe", "regedit.exe"}
"""What is put in the place of the keyboard helpers."""
_SCANNED = {"yara": "CLEAN-031", "clamav": "CLEAN-032", "known": "CLEAN-033"}
GUARDED = (
    *("system32/sethc.exe", "system32/utilman.exe", "system32/osk.exe", "system32/magnify.exe"),
    *("system32/narrator.exe", "system32/displayswitch.exe", "system32/winlogon.exe", "system32/userinit.exe"),
    *("system32/svchost.exe", "system32/lsass.exe", "system32/services.exe", "system32/logonui.exe"),
    *("system32/taskmgr.exe", "explorer.exe"),
)
"""Programs whose replacement opens the machine or runs at every start."""


def check_programs(facts: Facts, guest: Guest) -> Iterator[Finding | Unread]:
    """The rules that need every program of the volume."""
    programs = facts.programs.value
    if programs is None:
        for identifier in _FROM_CENSUS:
            yield Unread(identifier, facts.programs.reason or "the files of the volume weren't read")
        return
    if facts.census.truncated:
        for identifier in _FROM_CENSUS:
            yield Unread(identifier, "the volume holds more files than an audit looks at")
    for program in programs:
        if program.stream:
            yield Finding("CLEAN-016", program.path, f"a program of {program.size} bytes", "it is hidden from sight")
            continue
        told = deceptive_name(program.path, guest.root) if program.known is None else None
        if told is not None:
            yield Finding("CLEAN-011", program.path, f"{told}; SHA-1 {program.sha1}", "its name is meant to deceive")
    for scan in (each for each in facts.census.scans if each.name in _SCANNED):
        for hit in scan.hits:
            told = f"{hit.name}: {hit.about}" if hit.about else hit.name
            yield Finding(_SCANNED[scan.name], hit.path, told, "a scanner knows it", severity=hit.severity)
    yield from _replaced({program.path.lower(): program for program in programs}, guest.root)


def _replaced(programs: dict[str, ProgramFile], root: str) -> Iterator[Finding]:
    by_bytes: dict[str, str] = {}
    for each in programs.values():
        stem = each.path.lower().rpartition("/")[2]
        if stem in _SHELLS:
            by_bytes.setdefault(each.sha1, stem)
    kernel = programs.get(f"{root}/system32/ntoskrnl.exe".lower())
    maker = kernel.company if kernel is not None else None
    for name in GUARDED:
        program = programs.get(f"{root}/{name}".lower())
        if program is None or program.known is not None or program.pe is None or program.pe.problem is not None:
            continue
        own = name.rpartition("/")[2]
        original = (program.pe.original_filename or "").lower().removesuffix(".mui")
        # Other names prove nothing: Windows' own Narrator calls itself SR.exe.
        if original in _SHELLS and original != own:
            why = f"it calls itself {original!r}"
        elif by_bytes.get(program.sha1, own) != own:
            why = f"the same bytes as {by_bytes[program.sha1]}"
        elif maker and (program.company or "").strip().lower() != maker.strip().lower():
            why = f"made by {program.company or 'nobody that it names'!r}, the kernel by {maker!r}"
        else:
            continue
        yield Finding("CLEAN-017", program.path, why, "another program runs in the place of Windows' own")


def check_boot_code(facts: Facts) -> Iterator[Finding | Unread]:
    """The code of the master boot record, and of the partition that it starts."""
    if facts.mbr.value is None:
        if facts.mbr.state == "unknown":
            yield Unread("CLEAN-028", facts.mbr.reason or "the first sector can't be read")
    elif facts.table.scheme == "mbr" and facts.mbr.value.code:
        yield from _judged(facts.mbr.value.boot_code, "the master boot record")
    for volume in facts.volumes:
        boot = volume.boot.value
        if volume.active and boot is not None and boot.code:
            yield from _judged(boot.boot_code, f"the boot sector of partition {volume.index}")


def _judged(code: BootCode | None, where: str) -> Iterator[Finding]:
    if code is None:
        return
    if code.hooks and not code.known:
        evidence = f"it takes memory from the BIOS or the disk's interrupt; SHA-256 {code.digest}"
        yield Finding("CLEAN-028", where, evidence, "something stays in memory below the system", severity="high")
    elif code.loader is None:
        yield Finding(
            "CLEAN-028", where, f"no loader that Byre knows; SHA-256 {code.digest}", "unknown code runs first"
        )
    elif not code.known:
        evidence = f"{code.loader}, but with no digest that Byre knows; SHA-256 {code.digest}"
        yield Finding("CLEAN-028", where, evidence, "a loader's code in a form that isn't known", severity="low")
