"""What starts by itself, place by place: against what a clean Windows has there, and by where its file lies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from byre.audit.facts import Facts, ProgramFile
from byre.audit.finding import Finding, Unread
from byre.audit.placement import deceptive_name, odd_place
from byre.windows.autostarts import Autostart
from byre.windows.guest import Guest
from byre.windows.services import Service

MAX_COMMAND = 1024
"""Letters of a command that are looked at: a made-up one may have a million."""
ENOUGH_CATALOGUED = 500
"""Digests in the guest's catalogs from which on "in no catalog" means something."""
_FROM_AUTOSTARTS = tuple(f"CLEAN-{number:03d}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15))
_NORMAL = {
    "shell": ("explorer.exe",),
    "userinit": ("userinit.exe", "nwscript.exe"),
    "gina": ("msgina.dll",),
    "ginadll": ("msgina.dll",),
    "uihost": ("logonui.exe",),
    "system": ("lsass.exe", "spoolss", "spoolsv.exe"),
    "taskman": (),
}
_LSA = frozenset(
    "msv1_0 kerberos schannel wdigest tspkg pku2u livessp negoexts cloudap scecli rassfm kdcsvc fpnwclnt negotiate "  # noqa: SIM905
    "msapsspc digest msnsspc credssp".split()
)
_PROVIDERS = frozenset(
    "mswsock.dll rsvpsp.dll winrnr.dll nlaapi.dll napinsp.dll pnrpnsp.dll wshbth.dll msafd.dll rnr20.dll "  # noqa: SIM905
    "drprov.dll ntlanman.dll davclnt.dll localspl.dll cnbjmon.dll pjlmon.dll tcpmon.dll usbmon.dll fxsmon.dll "
    "wsdmon.dll mdimon.dll msonpmon.dll sfmmon.dll lprmon.dll hpmon.dll appmon.dll winprint.dll ws2_32.dll nwprovau.dll".split()  # noqa: E501
)
_FILTERS = frozenset(
    "partmgr kbdclass mouclass volsnap irenum redbook imapi scfilter fvevol rdyboost i8042prt serenum mouhid kbdhid "  # noqa: SIM905
    "cdfs dfs pnpmem swenum storvsc bthport usbhub".split()
)
_SERVERS = frozenset({"basesrv", "winsrv", "sxssrv"})
_HOOKED = {"winlogon-notify", "shell-delay-load", "shared-task", "shell-execute-hook"}
_SHOWN = {"browser-helper", "browser-toolbar", "context-menu"}
_NETWORK = {"winsock", "winsock-names", "network-provider", "print-monitor"}
_NOTIFY = frozenset(
    "crypt32.dll cryptnet.dll cscdll.dll dimsntfy.dll wlnotify.dll sclgntfy.dll wgalogon.dll termsrv.dll igfxdev.dll "  # noqa: SIM905
    "ati2evxx.dll klogon.dll vmwin.dll".split()
)
_QUIET_MISSING = {"winlogon", "known-dlls", "subsystems", "boot-execute", "lsa", "security-providers"}
_EXAMPLE = "your image file name here without a path"


class _Judge:
    """One guest's autostarts being judged; stores what vouches for a file."""

    def __init__(self, facts: Facts, guest: Guest) -> None:
        self.guest = guest
        self.root = guest.root
        self.programs: Mapping[str, ProgramFile] = {each.path.lower(): each for each in facts.programs.value or ()}
        self.catalogued = facts.census.catalog_digests >= ENOUGH_CATALOGUED
        kernel = self.programs.get(f"{self.root}/system32/ntoskrnl.exe".lower())
        self.unproven = {name for name, trust in facts.census.catalogs if trust.verdict != "trusted"}
        self.maker = (kernel.company or "").strip().lower() if kernel is not None else ""

    def program(self, path: str) -> ProgramFile | None:
        return self.programs.get(path.lower())

    def trusted(self, paths: tuple[str, ...]) -> bool:
        """Every file is known to a catalog or a list; without catalogs, made by the maker of the kernel."""
        found = [self.program(path) for path in paths]
        if not found or None in found:
            return False
        return all(
            each is not None
            and (
                each.known is not None
                or (not self.catalogued and bool(self.maker) and (each.company or "").strip().lower() == self.maker)
            )
            for each in found
        )

    def told(self, row: Autostart) -> str:
        """The command with what is known of its file."""
        if row.missing:
            return f"{row.command} (its file isn't there)"
        notes = []
        for path in row.files:
            program = self.program(path)
            if program is None:
                continue
            vouch = f"listed in {program.known}" if program.known else "vouched for by nobody"
            # The guest's own catalogs are whoever's who can write there: a reader must know which were proven.
            vouch += " (a catalog whose signature isn't proven)" if program.known in self.unproven else ""
            signed = ", with a signature inside" if program.signed else ""
            notes.append(f"{path}: by {program.company or 'nobody that it names'}, {vouch}{signed}")
        return f"{row.command} ({'; '.join(notes)})" if notes else row.command


def check_autostarts(facts: Facts, guest: Guest) -> Iterator[Finding | Unread]:
    """Places in the registry and on disk, then services and drivers."""
    judge = _Judge(facts, guest)
    rows = guest.autostarts.value
    for hive in (each for each in facts.hives if each.name in ("SOFTWARE", "SYSTEM") and each.state != "known"):
        reason = f"{hive.name}: {hive.reason or 'the hive is not there'}"
        yield from (Unread(identifier, reason) for identifier in _FROM_AUTOSTARTS)
    if rows is None:
        for identifier in _FROM_AUTOSTARTS:
            yield Unread(identifier, guest.autostarts.reason or "the autostarts can't be read")
    for row in rows or ():
        yield from _place(judge, row)
        yield from _file(judge, row)
    for service in guest.services.value or ():
        yield from _service(judge, service)


def _where(row: Autostart) -> str:
    if row.location.startswith("HK"):
        return row.location if row.location.endswith(f"\\{row.name}") else f"{row.location}\\{row.name}"
    return f"{row.location}/{row.name}"


def _place(judge: _Judge, row: Autostart) -> Iterator[Finding]:
    """What is normal in its place, kind by kind."""
    kind, where, told = row.kind, _where(row), judge.told(row)
    if kind in ("winlogon", "policy-shell") and _odd_logon(row):
        yield Finding("CLEAN-001", where, told, "something else runs at every logon")
    elif kind == "image-debugger" and row.name.lower() != _EXAMPLE:
        explorer = "procexp" in row.command.lower() and row.name.lower() == "taskmgr.exe"
        severity = "low" if explorer and odd_place("".join(row.files)) is None else None
        yield Finding("CLEAN-002", where, told, f"whoever starts {row.name} starts this", severity=severity)
    elif kind in ("appinit", "appcert"):
        severity = "low" if judge.trusted(row.files) else None
        yield Finding("CLEAN-003", where, told, "it is loaded into other programs", severity=severity)
    elif kind == "boot-execute" and not re.match(r"autocheck\s+autochk(\s|$)", row.command.strip().lower()):
        severity = "low" if judge.trusted(row.files) else None
        yield Finding("CLEAN-004", where, told, "it runs before anything else does", severity=severity)
    elif kind in ("lsa", "security-providers"):
        odd = [
            name
            for name in re.split(r"[,\s]+", row.command[:MAX_COMMAND].strip().strip('"'))
            if name and not _is_lsa(name)
        ]
        if odd:
            severity = "low" if judge.trusted(row.files) else None
            yield Finding("CLEAN-005", where, f"{', '.join(odd)}: {told}", "it sees passwords", severity=severity)
    elif kind in _NETWORK and _base(row.command) not in _PROVIDERS and not judge.trusted(row.files):
        yield Finding("CLEAN-006", where, told, "what goes over the network or to the printer goes through it")
    elif kind == "class-filter" and row.command.lower() not in _FILTERS:
        keyboard = row.name.upper().startswith("{4D36E96B")
        service = next((s for s in judge.guest.services.value or () if s.name.lower() == row.command.lower()), None)
        trusted = service is not None and service.file is not None and judge.trusted((service.file,))
        if not trusted:
            told = f"{row.command} ({service.file if service is not None and service.file else 'no such service'})"
            yield Finding(
                "CLEAN-007", where, told, "it sees what the devices send", severity="medium" if keyboard else None
            )
    else:
        yield from _more_places(judge, row, where, told)


def _more_places(judge: _Judge, row: Autostart, where: str, told: str) -> Iterator[Finding]:
    kind, command = row.kind, row.command.strip().lower()
    if kind == "exe-open" and " ".join(command.split()) != '"%1" %*':
        yield Finding("CLEAN-008", where, told, "it runs with every program that is opened")
    elif kind == "command-processor":
        yield Finding("CLEAN-008", where, told, "it runs with every prompt", severity="medium")
    elif kind == "safe-boot-shell" and _base(command) not in ("cmd.exe", "explorer.exe"):
        yield Finding("CLEAN-008", where, told, "it runs in safe mode instead of the prompt")
    elif kind == "excluded-dll":
        yield Finding(
            "CLEAN-009", where, told, "programs load their own copy of a library of Windows", severity="low"
        )
    elif kind == "subsystems":
        odd = [
            name for name in re.findall(r"serverdll=([^:,\s]+)", command) if name.removesuffix(".dll") not in _SERVERS
        ]
        wrong = row.name.lower() == "kmode" and _base(command) != "win32k.sys"
        if odd or wrong or (row.name.lower() == "windows" and "csrss.exe" not in command):
            yield Finding("CLEAN-009", where, told, "something else runs as a part of Windows")
    elif kind in _HOOKED and not judge.trusted(row.files) and _base(row.command) not in _NOTIFY:
        medium = kind == "winlogon-notify" and bool(row.files)
        yield Finding("CLEAN-012", where, told, "it runs unseen", severity="medium" if medium else None)
    elif kind in _SHOWN and row.files and not judge.trusted(row.files):
        yield Finding("CLEAN-012", where, told, "it runs in the shell or the browser")


def _odd_logon(row: Autostart) -> bool:
    normal = _NORMAL.get(row.name.lower(), ())
    parts = [part.strip().strip('"') for part in row.command[:MAX_COMMAND].split(",") if part.strip()]
    return any(_base(part) not in normal or odd_place("/" + part.replace("\\", "/")[2:]) for part in parts)


def _base(command: str) -> str:
    """The file name of a command's program, in lower case."""
    name = command[:MAX_COMMAND].strip().strip('"').lower().replace("/", "\\")
    match = re.search(r"([^\\]+\.(?:exe|dll|sys|com|cmd|bat|scr))(?:[\s\"]|$)", name)
    return match[1] if match else name.rpartition("\\")[2]


def _is_lsa(name: str) -> bool:
    return name.lower().strip('"').removesuffix(".dll") in _LSA


def _file(judge: _Judge, row: Autostart) -> Iterator[Finding]:
    """Where its file lies and what it looks like, whatever the place that starts it."""
    where = _where(row)
    for path in row.files:
        yield from _odd_file(judge, path, f"started by {where}", row.user)
    if row.missing and row.kind not in _QUIET_MISSING:
        yield Finding("CLEAN-015", where, f"{row.command}: {row.missing[0]} isn't there", "it starts nothing")


def _odd_file(judge: _Judge, path: str, how: str, user: str | None = None) -> Iterator[Finding]:
    program = judge.program(path)
    if program is not None and program.known is not None:
        return
    why = odd_place(path) or deceptive_name(path, judge.root)
    who = f", as {user}" if user else ""
    if why is not None:
        yield Finding("CLEAN-010", path, f"{why}; {how}{who}", "it starts by itself from an odd place or name")
    if program is not None and program.packed is not None and not program.signed:
        yield Finding("CLEAN-014", path, f"{program.packed}; {how}{who}", "what it does is hidden from scanners")


def _service(judge: _Judge, service: Service) -> Iterator[Finding]:
    if service.start > 3:
        return
    how = f"the {'driver' if service.is_driver else 'service'} {service.name}"
    if service.file is not None:
        yield from _odd_file(judge, service.file, how)
    if service.service_dll is None:
        return
    yield from _odd_file(judge, service.service_dll, how)
    folder = f"{judge.root}/system32/".lower()
    program = judge.program(service.service_dll)
    inside = service.service_dll.lower().startswith((folder, f"{judge.root}/syswow64/".lower()))
    if not inside and program is not None and program.known is None:
        severity = "low" if program.signed else None
        consequence = "it runs in svchost under Windows' own name"
        yield Finding("CLEAN-013", service.service_dll, how, consequence, severity=severity)
