"""Protection that was switched off and settings that let others in: hosts, proxy, roots, accounts, firewall."""

from __future__ import annotations

import re
from collections.abc import Iterator

from byre.audit.facts import Facts
from byre.audit.finding import Finding, Unread
from byre.audit.placement import odd_place
from byre.windows.accounts import Account
from byre.windows.guest import Guest
from byre.windows.paths import SystemPaths, command_targets
from byre.windows.protection import HostsLine, Protection

_FROM_PROTECTION = tuple(f"CLEAN-{number:03d}" for number in (9, 18, 19, 20, 21, 24, 25, 26, 27, 29, 30))
_LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+|::1|0\.0\.0\.0")
_PROTECTORS = re.compile(
    r"update|antivir|virus|malware|spyware|security|symantec|norton|mcafee|kaspersky|avast|avira|bitdefender|eset\b|"
    r"f-secure|sophos|trendmicro|pandasoft|clamav|microsoft\.com|windowsupdate"
)
_ROOTS = frozenset(
    "18f7c1fcc3090203fd5baa2f861a754976c8dd25 245c97df7514e7cf2df8be72ae957b9e04741e85 "  # noqa: SIM905
    "3b1efd3a66ea28b16697394703a72ca340a05bd5 7f88cd7223f3c813818c994614a89c99fa3b5247 "
    "8f43288ad272f3103b6fb1428485ea3014c0bcfe a43489159a520f0d93d032ccaf37e7fe20a8b419 "
    "be36a4562fb2ee05dbb3d32323adf445084ed656 cdd4eeae6000ac7f40c3802c171e30148030c072".split()
)
"""Thumbprints of the roots that Windows itself installs. Source: MITRE ATT&CK T1553.004."""
_INTERCEPTS = re.compile(
    r"superfish|edellroot|dsdtestprovider|fiddler|mitmproxy|portswigger|charles proxy|komodia|privdog", re.IGNORECASE
)
_HIDDEN_BY_WINDOWS = re.compile(
    r"helpassistant|tsinternetuser|sqlagentcmdexec|netshowservices|iwam_.*|iusr_.*|vusr_.*|aspnet|ils_anonymous_user|"
    r"support_388945a0|krbtgt|(?:home)?groupuser\$",
    re.IGNORECASE,
)
_REMOTE = {
    "winvnc": "VNC",
    "winvnc4": "VNC",
    "uvnc_service": "UltraVNC",
    "tvnserver": "TightVNC",
    "r_server": "Radmin",
    "rserver3": "Radmin",
    "teamviewer": "TeamViewer",
    "teamviewer_service": "TeamViewer",
    "logmein": "LogMeIn",
    "anydesk": "AnyDesk",
    "aa_v3": "Ammyy Admin",
    "awhost32": "pcAnywhere",
    "dwrcs": "DameWare",
    "dntus26": "DameWare NT Utilities",
    "tlntsvr": "the Telnet server",
    "rutserv": "Remote Utilities",
    "psexesvc": "PsExec",
}
_HOLES = ("system32\\sessmgr.exe", "network diagnostic\\xpnetdiag.exe")
_PORTS = {"137:udp", "138:udp", "139:tcp", "445:tcp", "1900:udp", "2869:tcp"}
_SYSTEM_FOLDER = re.compile(r"\\system32\\(?:[^\\]+|drivers\\[^\\]+)\.(?:exe|dll|sys)$")
_FALSE_SFC = (0, 4)
"""0 is on; 4 is on without a word to the user. 1 and 2 are off, 0xFFFFFF9D off for good."""


def check_settings(facts: Facts, guest: Guest) -> Iterator[Finding | Unread]:
    """Accounts from SAM, everything else from ``Facts.protection``."""
    protection = facts.protection.value
    if protection is None:
        reason = facts.protection.reason or "the hives can't be read"
        yield from (Unread(identifier, reason) for identifier in _FROM_PROTECTION)
        protection = Protection()
    else:
        yield from _network_settings(protection, guest)
        yield from _switched_off(protection, guest, facts.kind)
        yield from _files(protection, guest)
    yield from _accounts(guest, protection)


def _network_settings(protection: Protection, guest: Guest) -> Iterator[Finding | Unread]:
    if protection.hosts.state == "unknown":
        yield Unread("CLEAN-018", protection.hosts.reason or "the hosts file can't be read")
    yield from _hosts(protection.hosts.value or (), protection.hosts_path)
    base = protection.database_path
    normal = f"{guest.root}/system32/drivers/etc".lower()
    if base and (SystemPaths(guest.root).resolve(base) or "").lower() != normal:
        yield Finding("CLEAN-019", r"Services\Tcpip\Parameters\DataBasePath", base, "another hosts file is used")
    for proxy in protection.proxies:
        told = ", ".join(filter(None, (proxy.server, proxy.script)))
        local = re.search(r"127\.0\.0\.1|localhost|file:", told, re.IGNORECASE)
        yield Finding(
            "CLEAN-020",
            f"the proxy of {proxy.user}",
            told,
            "what is read goes through it",
            severity="medium" if local else None,
        )
    for root in protection.roots:
        if root.thumbprint in _ROOTS:
            continue
        evil = root.subject is not None and _INTERCEPTS.search(root.subject)
        told = f"{root.subject or 'a certificate that can not be read'}, SHA-1 {root.thumbprint}"
        where = f"the {root.store} root store of {root.owner}"
        yield Finding("CLEAN-021", where, told, "its holder can imitate others", severity="high" if evil else None)


def _hosts(lines: tuple[HostsLine, ...], path: str) -> Iterator[Finding]:
    """One finding for each kind of redirection."""
    blocked, sent, silenced = [], [], 0
    for line in lines:
        for name in line.names:
            if name in ("localhost", "localhost.localdomain") or "." not in name:
                continue
            if not _LOOPBACK.fullmatch(line.address):
                sent.append(f"{name} to {line.address}")
            elif _PROTECTORS.search(name):
                blocked.append(name)
            else:
                silenced += 1
    if blocked:
        told = _some(blocked)
        yield Finding("CLEAN-018", path, f"lead nowhere: {told}", "updates or scanners are cut off", severity="high")
    if sent:
        yield Finding("CLEAN-018", path, _some(sent), "names lead somewhere else", severity="low")
    if silenced:
        told = f"{silenced} other names lead nowhere"
        yield Finding("CLEAN-018", path, told, "usually a list against advertisements", severity="low")


def _some(names: list[str]) -> str:
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")


def _switched_off(protection: Protection, guest: Guest, kind: str) -> Iterator[Finding]:
    sfc = protection.sfc_disable
    if sfc is not None and sfc not in _FALSE_SFC and kind in ("nt5", "unknown"):
        yield Finding("CLEAN-024", r"Winlogon\SFCDisable", f"{sfc:#x}", "system files may be replaced silently")
    services = {service.name.lower(): service for service in guest.services.value or ()}
    off = [f"{profile}: EnableFirewall = 0" for profile, on in protection.firewall if on == 0]
    if "sharedaccess" in services and services["sharedaccess"].start == 4:
        off.append("the service SharedAccess is disabled")
    remote = protection.deny_terminal == 0
    both = "medium" if off and remote else None
    if off:
        yield Finding("CLEAN-025", "the firewall", "; ".join(off), "nothing guards the network", severity=both)
    yield from _holes(protection, guest)
    silent = list(protection.no_updates)
    silent += [f"the Security Center's {name} = 1" for name in protection.muted]
    silent += [f"the service {name} is disabled" for name in ("wuauserv", "wscsvc") if _disabled(services.get(name))]
    if silent:
        yield Finding("CLEAN-026", "updates and warnings", "; ".join(silent), "nobody is told of what is missing")
    if remote:
        where = r"Control\Terminal Server\fDenyTSConnections"
        yield Finding("CLEAN-027", where, "0", "others may log on over the network", severity=both)
    for service in guest.services.value or ():
        program = (service.file or "").lower().rpartition("/")[2].rpartition(".")[0]
        title = _REMOTE.get(program) or _REMOTE.get(service.name.lower())
        if title is not None and service.start <= 2:
            yield Finding("CLEAN-027", f"the service {service.name}", title, "others may steer this machine")


def _disabled(service: object) -> bool:
    return getattr(service, "start", None) == 4


def _holes(protection: Protection, guest: Guest) -> Iterator[Finding]:
    paths = SystemPaths(guest.root)
    for hole in protection.holes:
        where = f"the firewall's {hole.profile}: {hole.name}"
        if hole.kind == "port":
            if hole.name.lower() not in _PORTS:
                yield Finding("CLEAN-025", where, hole.value, "the port is open")
            continue
        if hole.name.lower().replace("/", "\\").endswith(_HOLES):
            continue
        path = paths.resolve(command_targets(hole.name)[0])
        odd = odd_place(path) if path is not None else None
        told = f"{hole.value} ({odd})" if odd else hole.value
        yield Finding(
            "CLEAN-025", where, told, "the program may be reached from outside", severity="high" if odd else None
        )


def _files(protection: Protection, guest: Guest) -> Iterator[Finding]:
    directory = protection.known_dll_directory
    normal = f"{guest.root}/system32".lower()
    if directory and (SystemPaths(guest.root).resolve(directory) or "").lower() != normal:
        yield Finding("CLEAN-009", r"KnownDLLs\DllDirectory", directory, "Windows' libraries come from elsewhere")
    for autorun in protection.autoruns:
        told = "; ".join(f"{key} = {command}" for key, command in autorun.commands[:5])
        yield Finding("CLEAN-029", autorun.path, told, "opening the drive starts it")
    for source, target in protection.pending_renames:
        odd = odd_place("/" + source.replace("\\", "/").lstrip("/?").partition("/")[2])
        if target and odd and _SYSTEM_FOLDER.search(target.lower()):
            told = f"{source} ({odd}) becomes {target.lstrip('!')}"
            yield Finding("CLEAN-030", "PendingFileRenameOperations", told, "the next start replaces a system file")


def _accounts(guest: Guest, protection: Protection) -> Iterator[Finding | Unread]:
    accounts = guest.users.value
    if accounts is None:
        for identifier in ("CLEAN-022", "CLEAN-023"):
            yield Unread(identifier, guest.users.reason or "the accounts can't be read")
        return
    hidden = {name.lower() for name in protection.hidden_users if not _HIDDEN_BY_WINDOWS.fullmatch(name)}
    for account in accounts:
        why = _odd_account(account, hidden)
        if why is not None:
            yield Finding("CLEAN-022", f"the account {account.name}", why, "somebody may come back")
        if account.administrator and account.blank_password and not account.disabled:
            open_wide = protection.limit_blank_passwords == 0
            told = "an administrator without a password"
            told += "; LimitBlankPasswordUse is 0: over the network too" if open_wide else ""
            yield Finding(
                "CLEAN-023",
                f"the account {account.name}",
                told,
                "whoever sits there is administrator",
                severity="high" if open_wide else None,
            )


def _odd_account(account: Account, hidden: set[str]) -> str | None:
    if account.disabled:
        return None
    if account.administrator and account.name.endswith("$"):
        return "an administrator whose name ends in $, which 'net user' doesn't show"
    if account.name.lower() in hidden:
        kind = "an administrator" if account.administrator else "an account"
        return f"{kind} that SpecialAccounts\\UserList hides from the logon screen"
    if account.administrator and account.rid == 501:
        return "Guest is an administrator"
    if account.administrator and re.fullmatch(r"helpassistant|support_388945a0", account.name, re.IGNORECASE):
        return "a help account is an administrator"
    return None
