"""System files that were altered: what their own headers, the media's list and the guest's catalogs say against them.

One sign alone may be a hotfix's doing; each rule says what it leaves out for that. Pure, over the census.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from byre.audit import boot_path
from byre.audit.facts import Facts, ProgramFile
from byre.audit.finding import Finding, Unread
from byre.audit.platforms import Platform
from byre.audit.rule import Rule
from byre.audit.sound import CHECKSUMMED
from byre.windows.inf import SourceFile

_MEDIA = "take it from the same service pack's media, and look for what altered it"
_PE = "Microsoft KB 101096 and KB 314474 (STOP C0000221: drivers and system DLLs are checked when Windows starts)"
_AUTHENTICODE = "Microsoft's Windows Authenticode Portable Executable Signature Format"
MIN_JUDGED, AGREEING = 20, 0.9
"""The media's list is of this service pack, or the guest's catalogs are complete, where nine in ten files of at
least twenty agree with them: only then does one that doesn't stand out."""
SHOWN = 8
ROLLED_UP = {
    ("5.1", 2600): (0, 1106, 2180, 5512),
    ("5.2", 3790): (0, 1830, 3959),
}
"""(version, build) → the last number of file versions on the media of each service pack; others are hotfixes'."""
GUARDED = [
    "smss.exe",
    "csrss.exe",
    "winlogon.exe",
    "services.exe",
    "lsass.exe",
    "svchost.exe",
    "userinit.exe",
    "explorer.exe",
    "spoolsv.exe",
    "taskmgr.exe",
    "logonui.exe",
    "rundll32.exe",
    "sethc.exe",
    "utilman.exe",
    "osk.exe",
    "magnify.exe",
    "narrator.exe",
    "regsvr32.exe",
    "cmd.exe",
    "msgina.dll",
    "sfc_os.dll",
    "sfc.dll",
]
"""Programs that the system starts by itself or that anybody may start before logging on: another program under one
of these names isn't Windows' own doing."""
RENAMED = {
    "ntoskrnl.exe": ("ntkrnlmp.exe", "ntkrnlpa.exe", "ntkrpamp.exe"),
    "ntkrnlpa.exe": ("ntkrpamp.exe", "ntoskrnl.exe", "ntkrnlmp.exe"),
}
"""Names that Setup gives to one of several files."""

RULES = (
    Rule(
        "CLEAN-101",
        "clean",
        "System programs are what their names say",
        "high",
        False,
        "OriginalFilename of the programs that start by themselves or before logging on; the kernel and HAL apart",
        "another program under such a name is started by the system itself, with all its rights",
        "public descriptions of replaced accessibility programs (sethc.exe, utilman.exe)",
        "a command prompt before logging on, or anything else",
        _MEDIA,
        ("nt5", "nt6"),
    ),
    Rule(
        "CLEAN-102",
        "clean",
        "No signed program was altered after it was signed",
        "high",
        True,
        "the Authenticode digest inside each signed program of the system's folders against its own bytes",
        "the signature was made for other bytes",
        _AUTHENTICODE,
        "nothing, or a message that the file's signature isn't valid",
        _MEDIA,
    ),
    Rule(
        "CLEAN-103",
        "clean",
        "No system file was altered after it was linked",
        "medium",
        True,
        "the PE checksum of Microsoft's files and of those of the media's list in the system's folders, where the "
        "header carries one and no catalog of the guest lists the file; the loader's own files are SOUND-012's",
        "Microsoft's linker writes it and its installers keep it; who patches a file mostly doesn't",
        _PE,
        "STOP 0xC0000221 with the file's name where it is a driver or one of the DLLs of the start; else nothing",
        _MEDIA,
        ("nt5", "nt6"),
    ),
    Rule(
        "CLEAN-104",
        "clean",
        "System files have the size that the media's list says",
        "medium",
        False,
        "size against inf\\layout.inf, for files that no hotfix replaced (by their version), no catalog lists, and "
        "where nearly all others agree with the list",
        "a file of the media's version and another size isn't the media's",
        "Microsoft's INF SourceDisksFiles section; versions of Windows XP's and 2003's service packs",
        "nothing; Windows File Protection may ask for the CD",
        _MEDIA,
        ("nt5",),
    ),
    Rule(
        "CLEAN-105",
        "clean",
        "Microsoft's system files are in the guest's catalogs",
        "low",
        False,
        "the digest of each file of Microsoft's in the system's folders against the catalogs in CatRoot, where "
        "nearly all of them are listed",
        "what Setup, service packs and hotfixes install is listed; what somebody put there by hand isn't",
        _AUTHENTICODE,
        "nothing",
        "look at the files that the finding names",
        ("nt5", "nt6"),
    ),
    Rule(
        "CLEAN-106",
        "clean",
        "The guest's security catalogs are what was signed",
        "high",
        False,
        "the signature of every catalog in CatRoot, held against the time that a countersignature vouches for",
        "a catalog that was changed vouches for whatever was put into it",
        "RFC 2315 (PKCS #7); Microsoft's root certificates by their published thumbprints",
        "nothing",
        "take the catalog from the same service pack's or hotfix's media",
        ("nt5", "nt6"),
    ),
)


@dataclass
class Signs:
    """What speaks against one file: rule → evidence. Mutable while it is gathered."""

    program: ProgramFile
    by_rule: dict[str, str] = field(default_factory=dict)


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """Every breach of this module's rules."""
    if facts.guest is None:
        return
    yield from _catalogs(facts)
    if facts.programs.value is None:
        reason = facts.programs.reason or "the files weren't looked at"
        for rule in ("CLEAN-101", "CLEAN-102", "CLEAN-103", "CLEAN-104", "CLEAN-105"):
            yield Unread(rule, reason)
        return
    loaders = _loaders_own(facts)
    for signs in contradicted(facts).values():
        for rule, said in signs.by_rule.items():
            if rule != "CLEAN-103" or signs.program.path.lower() not in loaders:
                yield Finding(rule, signs.program.path, said, _CONSEQUENCES[rule])
    yield from _unlisted(facts)


_CONSEQUENCES = {
    "CLEAN-101": "the system starts another program under this name",
    "CLEAN-102": "altered after it was signed",
    "CLEAN-103": "altered after it was linked",
    "CLEAN-104": "isn't the file of the media",
}


def contradicted(facts: Facts) -> Mapping[str, Signs]:
    """The system files against which something speaks, by path in lower case."""
    found: dict[str, Signs] = {}
    judged = dict(_sized(facts))
    for program in system_files(facts):
        signs = Signs(program)
        for rule, said in _signs(facts, program, judged):
            signs.by_rule[rule] = said
        if signs.by_rule:
            found[program.path.lower()] = signs
    return found


def _signs(facts: Facts, program: ProgramFile, judged: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    pe = program.pe
    if pe is None or pe.problem is not None:
        return
    other = _other_program(facts, program)
    if other is not None:
        yield "CLEAN-101", f"its version resource says {other}"
    if pe.signature_valid is False:
        yield "CLEAN-102", "the signature inside is of other bytes"
    if pe.checksum not in (0, pe.computed_checksum) and program.known is None and _expected(facts, program):
        yield "CLEAN-103", f"the header says {pe.checksum:#x}, the bytes add up to {pe.computed_checksum:#x}"
    if program.path.lower() in judged:
        yield "CLEAN-104", judged[program.path.lower()]


def system_files(facts: Facts) -> Iterator[ProgramFile]:
    """The programs in the folders that Setup fills: Windows, system32, drivers, and those of Windows' own parts."""
    root = facts.guest.root.lower() if facts.guest else ""
    folders = {root, f"{root}/system32", f"{root}/system32/drivers", f"{root}/system32/wbem"}
    for program in facts.programs.value or ():
        if program.path.lower().rpartition("/")[0] in folders:
            yield program


def base_name(path: str) -> str:
    """The last part of a guest path, in lower case."""
    return path.rpartition("/")[2].lower()


def by_microsoft(program: ProgramFile) -> bool:
    return (program.company or "").lower().startswith("microsoft")


def _expected(facts: Facts, program: ProgramFile) -> bool:
    """Whether Microsoft made it, or its list names it: others' files may lack what Microsoft's linker writes."""
    name = base_name(program.path)
    return by_microsoft(program) or any(row.name.lower() == name for row in facts.media)


def _other_program(facts: Facts, program: ProgramFile) -> str | None:
    """The name of another system program that a guarded one says it is."""
    name = base_name(program.path)
    original = (program.pe.original_filename or "").lower().removesuffix(".mui") if program.pe else ""
    if name not in GUARDED or not original or original == name or original in RENAMED.get(name, ()):
        return None
    root = facts.guest.root.lower() if facts.guest else ""
    there = {path for path in (f"{root}/{original}", f"{root}/system32/{original}") if path in facts.paths}
    return original if there or original in GUARDED else None


def _sized(facts: Facts) -> Iterator[tuple[str, str]]:
    """(path, evidence) of the files whose size isn't the media's, where the media's list is of this system."""
    sizes = {(row.target or row.name).lower(): row for row in facts.media if row.size}
    judged = [
        (program, sizes[base_name(program.path)])
        for program in system_files(facts)
        if base_name(program.path) in sizes and _of_the_media(facts, program)
    ]
    if len(judged) < MIN_JUDGED:
        return
    odd = [(program, row) for program, row in judged if not _same_size(program, row)]
    if len(odd) > (1 - AGREEING) * len(judged):
        return
    for program, row in odd:
        if program.known is None and base_name(program.path) not in ("hal.dll", *RENAMED):
            share = f"{len(judged) - len(odd)} of {len(judged)} files agree with the list"
            yield program.path.lower(), f"{program.size} bytes, the media's list says {row.size}; {share}"


def _same_size(program: ProgramFile, row: SourceFile) -> bool:
    return program.size == row.size


def _of_the_media(facts: Facts, program: ProgramFile) -> bool:
    """Whether a file's version is one that service packs' media have, not a hotfix's."""
    version = program.pe.file_version if program.pe else None
    stated = facts.guest.version.value if facts.guest else None
    if version is None or stated is None:
        return False
    numbers = ROLLED_UP.get((stated, version[2]))
    return numbers is not None and version[3] in numbers


def catalogs_are_complete(facts: Facts) -> bool:
    """Whether nearly all of Microsoft's system files are in the guest's own catalogs."""
    known = [program.known is not None for program in system_files(facts) if by_microsoft(program)]
    return len(known) >= MIN_JUDGED and sum(known) >= AGREEING * len(known)


def _unlisted(facts: Facts) -> Iterator[Finding]:
    if not catalogs_are_complete(facts):
        return
    odd = [each for each in system_files(facts) if by_microsoft(each) and each.known is None and not each.signed]
    if odd:
        named = ", ".join(base_name(each.path) for each in odd[:SHOWN])
        more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
        yield Finding(
            "CLEAN-105", "system32\\CatRoot", f"not listed: {named}{more}", "nobody vouches for these files"
        )


def _catalogs(facts: Facts) -> Iterator[Finding | Unread]:
    for name, trust in facts.census.catalogs:
        if trust.verdict == "broken":
            said = f"{trust.reason or 'the signature is broken'}" + (
                f"; signed by {trust.signer}" if trust.signer else ""
            )
            yield Finding("CLEAN-106", f"system32\\CatRoot: {name}", said, "vouches for nothing")
        elif trust.verdict == "unsigned":
            said = "nobody signed it"
            yield Finding("CLEAN-106", f"system32\\CatRoot: {name}", said, "vouches for nothing", severity="low")


def _loaders_own(facts: Facts) -> frozenset[str]:
    """The files whose checksum SOUND-012 judges."""
    assert facts.guest is not None
    plan = boot_path.steps(facts.guest, facts.kind, None, facts.system.value, facts.logon.value)
    return frozenset(path.lower() for step in plan if step.stage in CHECKSUMMED for path in step.paths)
