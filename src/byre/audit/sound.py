"""Sound: the container, the partition table, the file systems, the hives and the program files of the start."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit import boot_path
from byre.audit.facts import Facts, PeFacts, VolumeState
from byre.audit.finding import Finding, Stage, Unread
from byre.audit.platforms import Platform
from byre.audit.rule import Rule

SHOWN = 3
_READABLE = ("ntfs", "fat12", "fat16", "fat32", "exfat", "iso9660")
CHECKSUMMED = (Stage.KERNEL, Stage.BOOT_DISK)
"""Where the loader itself compares a program's checksum."""

RULES = (
    Rule(
        "SOUND-001",
        "sound",
        "The image's own metadata is consistent",
        "critical",
        True,
        "everything that 'byre check' compares: tables, reference counts, overlaps",
        "a cluster that two things claim is overwritten by the next write to either",
        "the format's specification (docs/formats)",
        "read errors, or old data in new files, at any time",
        "'byre check IMAGE --repair all --dry-run', then without --dry-run",
    ),
    Rule(
        "SOUND-002",
        "sound",
        "No space in the container is lost",
        "low",
        False,
        "clusters that are counted as used and that nothing refers to",
        "they only take room on the host",
        "the format's specification (docs/formats)",
        "nothing; the file is larger than it needs to be",
        "'byre check IMAGE --repair leaks'",
    ),
    Rule(
        "SOUND-003",
        "sound",
        "The partition table fits the disk and itself",
        "high",
        True,
        "partitions past the end of the disk, overlapping, or in a chain that loops",
        "data in the part that isn't there is lost; two file systems in one place destroy each other",
        "UEFI specification 5.2 (MBR and GPT); Microsoft's Disk Sectors on MBR Disks",
        "'Invalid partition table', or damage that grows",
        "restore the image from its source; a cut partition means that the image is cut",
    ),
    Rule(
        "SOUND-004",
        "sound",
        "Every file system can be opened",
        "high",
        True,
        "partitions whose boot sector says a file system that Byre reads",
        "what can't be opened can't be vouched for, and Windows may not open it either",
        "the file system's own structures (docs/filesystems.md)",
        "'The disk is not formatted', or 'Missing operating system'",
        "work on a copy: chkdsk from another Windows, or a restore",
    ),
    Rule(
        "SOUND-005",
        "sound",
        "The file system is consistent",
        "high",
        True,
        "fixups, the mirror of the MFT, bitmaps against allocations, clusters claimed twice, indexes",
        "files may hold other files' bytes, and the next write may destroy more",
        "the file system's own structures (docs/filesystems.md)",
        "a long autochk at the next start; lost or mixed-up files",
        "work on a copy: let the guest's own chkdsk /f mend it, then audit again",
    ),
    Rule(
        "SOUND-006",
        "sound",
        "The volume was unmounted cleanly",
        "medium",
        False,
        "the dirty flag and the state of the journal",
        "the machine was running or was switched off when the image was made: the last writes may be missing",
        "[MS-FSCC] and the NTFS literature on $Volume and $LogFile",
        "autochk runs at the next start",
        "start it once in a throwaway overlay and shut it down",
    ),
    Rule(
        "SOUND-007",
        "sound",
        "The system isn't hibernated",
        "medium",
        False,
        "hiberfil.sys on the volume",
        "a session lies in it: on other hardware it can't be resumed, and writing to the volume from outside "
        "contradicts what it remembers",
        "observed on hibernation files; see docs/filesystems.md",
        "the resume fails, or the machine hangs",
        "resume and shut it down on the machine it comes from, or byre mend IMAGE hibernation --discard-session",
    ),
    Rule(
        "SOUND-008",
        "sound",
        "The registry's hives are whole",
        "high",
        True,
        "header, checksum, sequence numbers, cells, key lists and values of the five machine hives",
        "what a damaged list held is gone for Windows, though Byre may still find it",
        "the published notes on the format of registry hives",
        "'one of the files containing the system's registry data had to be recovered', or services that are gone",
        "take the hive from a snapshot, a restore point or the repair folder",
    ),
    Rule(
        "SOUND-009",
        "sound",
        "The hives were written to the end",
        "low",
        False,
        "sequence numbers of the hives, and whether a log completes them",
        "the next boot replays the log: nothing is lost, but the machine wasn't shut down",
        "the published notes on the format of registry hives",
        "nothing",
        "byre mend IMAGE hives, or start it once and shut it down",
    ),
    Rule(
        "SOUND-010",
        "sound",
        "The program files of the start can be read and are programs",
        "critical",
        True,
        "content and PE headers of every program between the loader and the shell",
        "the loader refuses what isn't a program",
        "Microsoft's PE format specification",
        "the message or STOP code of the file's being missing; see the finding",
        "take the file from the same service pack's media",
    ),
    Rule(
        "SOUND-011",
        "sound",
        "The program files of the start aren't cut off",
        "critical",
        True,
        "whether each section's bytes lie within the file",
        "a cut file maps with holes or not at all",
        "Microsoft's PE format specification",
        "the message or STOP code of the file's being missing; see the finding",
        "take the file from the same service pack's media",
    ),
    Rule(
        "SOUND-012",
        "sound",
        "The checksums of what the loader loads are right",
        "high",
        True,
        "the PE checksum of the kernel, the HAL and the boot drivers, where the header carries one",
        "a wrong one means that the file was altered after it was linked; the loader of NT 5 refuses such files",
        "Microsoft KB 101096 and KB 314474 (STOP C0000221), which except the loader's own files: what it does with "
        "those is unchecked",
        "STOP 0xC0000221, or the loader's 'missing or corrupt'",
        "take the file from the same service pack's media",
        ("nt5", "nt6"),
    ),
    Rule(
        "SOUND-013",
        "sound",
        "Every image below this one is consistent",
        "critical",
        True,
        "the same as SOUND-001, for each file of the backing chain",
        "what the image doesn't hold itself is read from them",
        "the format's specification (docs/formats)",
        "read errors, or old data in new files, at any time",
        "'byre check' on the file that the finding names; a repair there changes every image above it",
    ),
)


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """Every breach of this module's rules."""
    yield from _container(facts)
    yield from _chain(facts)
    for problem in facts.table.problems:
        if problem.kind == "corruption":
            yield Finding("SOUND-003", "partition table", problem.message, "part of the disk may be unreachable")
    for volume in facts.volumes:
        yield from _volume(volume)
    if facts.guest is not None:
        yield from _hives(facts)
        yield from _programs(facts)


def _container(facts: Facts) -> Iterator[Finding | Unread]:
    if facts.container.state == "unknown":
        yield Unread("SOUND-001", facts.container.reason or "the container can't be checked")
    report = facts.container.value
    if report is None:
        return
    if report.corruptions:
        said = "; ".join(problem.message for problem in report.problems if problem.kind == "corruption")
        yield Finding("SOUND-001", report.format, f"{report.corruptions} errors: {said[:500]}", "data may be lost")
    if report.leaks:
        yield Finding("SOUND-002", report.format, f"{report.leaks} leaked clusters", "room on the host is lost")


def _chain(facts: Facts) -> Iterator[Finding | Unread]:
    for name, state in facts.chain:
        if state.state == "unknown":
            yield Unread("SOUND-013", f"{name}: {state.reason}")
        elif state.value is not None and state.value.corruptions:
            said = "; ".join(each.message for each in state.value.problems if each.kind == "corruption")
            yield Finding("SOUND-013", name, f"{state.value.corruptions} errors: {said[:500]}", "data may be lost")


def _volume(volume: VolumeState) -> Iterator[Finding | Unread]:
    where = f"partition {volume.index}"
    if volume.facts is None:
        if volume.corrupt:
            yield Finding("SOUND-004", where, volume.reason or "can't be opened", "its files can't be reached")
        elif volume.type in _READABLE:
            yield Unread("SOUND-004", f"{where}: {volume.reason}")
        return
    if volume.check.state == "unknown":
        yield Unread("SOUND-005", f"{where}: {volume.check.reason}")
    report = volume.check.value
    if report is not None and report.corruptions:
        wrong = [problem for problem in report.problems if problem.kind == "corruption"]
        said = "; ".join(f"{problem.message} [{problem.code}]" for problem in wrong[:SHOWN])
        yield Finding("SOUND-005", where, f"{report.corruptions} errors: {said}", "files may be lost or mixed up")
    if volume.facts.dirty or volume.facts.log == "unclean":
        said = "the dirty flag is set" if volume.facts.dirty else "the journal holds unfinished work"
        yield Finding("SOUND-006", where, said, "autochk runs at the next start")
    if volume.facts.hibernated:
        yield Finding("SOUND-007", f"{where}: /hiberfil.sys", "holds a session", "the next start tries to resume it")


def _hives(facts: Facts) -> Iterator[Finding | Unread]:
    for hive in facts.hives:
        if hive.state == "unknown":
            yield Finding("SOUND-008", hive.path, hive.reason or "can't be read", "Windows can't read it either")
        elif hive.problems:
            said = "; ".join(hive.problems[:SHOWN])
            more = f" and {len(hive.problems) - SHOWN} more" if len(hive.problems) > SHOWN else ""
            yield Finding("SOUND-008", hive.path, said + more, "settings below the damage are lost")
        if hive.replayed:
            yield Finding("SOUND-009", hive.path, "a log completes it", "the next boot replays the log")


def _programs(facts: Facts) -> Iterator[Finding | Unread]:
    assert facts.guest is not None
    seen = set()
    plan = boot_path.steps(facts.guest, facts.kind, None, facts.system.value, facts.logon.value)
    for step in plan:
        for path in step.paths:
            file = facts.file(path)
            if file is None or file.path.lower() in seen or file.state == "missing":
                continue
            seen.add(file.path.lower())
            severity = step.severity or (None if step.stage is not None else "high")
            if file.state == "unread":
                if file.corrupt:
                    said = file.reason or "can't be read"
                    yield Finding("SOUND-010", file.path, said, step.consequence, step.stage, severity)
                else:
                    yield Unread("SOUND-010", f"{file.path}: {file.reason}")
            elif not step.pe:
                if not file.size:
                    yield Finding("SOUND-010", file.path, "is empty", step.consequence, step.stage, severity)
            elif file.pe is not None and file.pe.problem is not None:
                yield Finding("SOUND-010", file.path, file.pe.problem, step.consequence, step.stage, severity)
            elif file.pe is not None and file.pe.truncated:
                said = f"a section goes on past the file's end at {file.size} bytes"
                yield Finding("SOUND-011", file.path, said, step.consequence, step.stage, severity)
            elif file.pe is not None and step.stage in CHECKSUMMED and _altered(file.pe):
                said = f"the header says {file.pe.checksum:#x}, the bytes add up to {file.pe.computed_checksum:#x}"
                yield Finding("SOUND-012", file.path, said, "STOP 0xC0000221, or 'missing or corrupt'", step.stage)


def _altered(pe: PeFacts) -> bool:
    return pe.checksum != 0 and pe.checksum != pe.computed_checksum
