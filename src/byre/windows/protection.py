"""What protects an installed system and what was changed about it: firewall, file protection, updates, hosts, proxy,
root certificates, hidden accounts. Facts only; what is right or wrong is the audit's business.

Sources: Microsoft KB 842242 and the "Windows Firewall" registry documentation (FirewallPolicy), KB 222193 (Windows
File Protection), KB 328010 (Automatic Updates), KB 314053 (TCP/IP parameters).

"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.windows.certificates import RootCertificate, read_root_certificates
from byre.windows.fact import Fact, attempt
from byre.windows.hives import Hives
from byre.windows.paths import SystemPaths
from byre.windows.registry import Key
from byre.windows.registry.hive import Value

_NT = r"Microsoft\Windows NT\CurrentVersion"
_INTERNET = r"Software\Microsoft\Windows\CurrentVersion\Internet Settings"
_FIREWALL = r"Services\SharedAccess\Parameters\FirewallPolicy"
PROFILES = ("StandardProfile", "DomainProfile")
MAX_TEXT_FILE = 8 << 20
MAX_LINES = 200_000
MAX_ROWS = 4096


@dataclass(frozen=True, slots=True)
class FirewallHole:
    """One exception of the firewall that is on. ``kind``: ``program`` or ``port``; ``value`` as it stands."""

    profile: str
    kind: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class HostsLine:
    """One line of the hosts file that counts: names in lower case."""

    address: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A user's web proxy: the server where it is switched on, the address of a configuration script."""

    user: str
    server: str | None
    script: str | None


@dataclass(frozen=True, slots=True)
class AutorunFile:
    """What an ``autorun.inf`` starts: (key, command)."""

    path: str
    commands: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Protection:
    """Settings as the hives hold them; None where a value isn't there."""

    sfc_disable: int | None = None
    auto_logon: str | None = None
    """The account that is logged on by itself."""
    firewall: tuple[tuple[str, int], ...] = ()
    """(profile or policy, EnableFirewall)."""
    holes: tuple[FirewallHole, ...] = ()
    no_updates: tuple[str, ...] = ()
    """The values that switch Automatic Updates off."""
    muted: tuple[str, ...] = ()
    """The values that keep the Security Center silent."""
    deny_terminal: int | None = None
    limit_blank_passwords: int | None = None
    database_path: str | None = None
    proxies: tuple[Proxy, ...] = ()
    roots: tuple[RootCertificate, ...] = ()
    hidden_users: tuple[str, ...] = ()
    pending_renames: tuple[tuple[str, str], ...] = ()
    """(from, to); an empty second one deletes."""
    known_dll_directory: str | None = None
    hosts: Fact[tuple[HostsLine, ...]] = field(default_factory=lambda: Fact("absent"))
    hosts_path: str = ""
    autoruns: tuple[AutorunFile, ...] = ()


def read_protection(files: FileSystem, hives: Hives, control_set: Key | None, paths: SystemPaths) -> Protection:
    """All of it. Raises ByreError where a hive that is there can't be walked to a setting."""
    software = hives.get("SOFTWARE")
    top = software.root if software is not None else None
    base = _text(control_set, r"Services\Tcpip\Parameters", "DataBasePath")
    folder = (paths.resolve(base) if base else None) or f"{paths.root}/system32/drivers/etc"
    return Protection(
        sfc_disable=_number(top, rf"{_NT}\Winlogon", "SFCDisable"),
        auto_logon=_auto_logon(top),
        firewall=tuple(_firewall(control_set, top)),
        holes=tuple(_holes(control_set))[:MAX_ROWS],
        no_updates=tuple(_no_updates(top)),
        muted=tuple(_muted(top)),
        deny_terminal=_number(control_set, r"Control\Terminal Server", "fDenyTSConnections"),
        limit_blank_passwords=_number(control_set, r"Control\Lsa", "limitblankpassworduse"),
        database_path=base,
        proxies=tuple(_proxies(hives)),
        roots=_roots(hives, top),
        hidden_users=tuple(_hidden_users(top)),
        pending_renames=_renames(control_set),
        known_dll_directory=_text(control_set, r"Control\Session Manager\KnownDLLs", "DllDirectory"),
        hosts=attempt(lambda: _hosts(files, f"{folder}/hosts")),
        hosts_path=f"{folder}/hosts",
        autoruns=tuple(_autoruns(files)),
    )


def _value(key: Key | None, path: str, name: str) -> Value | None:
    below = key.at(path) if key is not None else None
    return below.value(name) if below is not None else None


def _text(key: Key | None, path: str, name: str) -> str | None:
    value = _value(key, path, name)
    return value.text if value is not None else None


def _number(key: Key | None, path: str, name: str) -> int | None:
    value = _value(key, path, name)
    return value.number if value is not None else None


def _auto_logon(top: Key | None) -> str | None:
    if (_text(top, rf"{_NT}\Winlogon", "AutoAdminLogon") or "0").strip() != "1":
        return None
    return _text(top, rf"{_NT}\Winlogon", "DefaultUserName") or "(no name)"


def _firewall(control_set: Key | None, top: Key | None) -> Iterator[tuple[str, int]]:
    for profile in PROFILES:
        number = _number(control_set, rf"{_FIREWALL}\{profile}", "EnableFirewall")
        if number is not None:
            yield profile, number
        number = _number(top, rf"Policies\Microsoft\WindowsFirewall\{profile}", "EnableFirewall")
        if number is not None:
            yield f"policy {profile}", number


def _holes(control_set: Key | None) -> Iterator[FirewallHole]:
    lists = (("program", r"AuthorizedApplications\List"), ("port", r"GloballyOpenPorts\List"))
    for profile in PROFILES:
        for kind, where in lists:
            key = control_set.at(rf"{_FIREWALL}\{profile}\{where}") if control_set is not None else None
            for value in key.values() if key is not None else ():
                if value.text and ":enabled" in value.text.lower():
                    yield FirewallHole(profile, kind, value.name, value.text)


def _no_updates(top: Key | None) -> Iterator[str]:
    policy = r"Policies\Microsoft\Windows\WindowsUpdate\AU"
    if _number(top, policy, "NoAutoUpdate") == 1:
        yield rf"{policy}\NoAutoUpdate = 1"
    own = r"Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update"
    if _number(top, own, "AUOptions") == 1:
        yield rf"{own}\AUOptions = 1"


def _muted(top: Key | None) -> Iterator[str]:
    key = top.at(r"Microsoft\Security Center") if top is not None else None
    for value in key.values() if key is not None else ():
        silent = value.name.lower().endswith(("disablenotify", "override"))
        if silent and value.number == 1:
            yield value.name


def _proxies(hives: Hives) -> Iterator[Proxy]:
    for user in hives.users:
        top = user.hive.value.root if user.hive.value is not None else None
        on = _number(top, _INTERNET, "ProxyEnable") == 1
        server = _text(top, _INTERNET, "ProxyServer") if on else None
        script = _text(top, _INTERNET, "AutoConfigURL")
        if server or script:
            yield Proxy(user.user, server or None, script or None)


def _roots(hives: Hives, top: Key | None) -> tuple[RootCertificate, ...]:
    found = list(read_root_certificates(top, "", "the machine"))
    for user in hives.users:
        if user.hive.value is not None:
            found += read_root_certificates(user.hive.value.root, "Software\\", user.user)
    return tuple(found[:MAX_ROWS])


def _hidden_users(top: Key | None) -> Iterator[str]:
    key = top.at(rf"{_NT}\Winlogon\SpecialAccounts\UserList") if top is not None else None
    for value in key.values() if key is not None else ():
        if value.number == 0:
            yield value.name


def _renames(control_set: Key | None) -> tuple[tuple[str, str], ...]:
    value = _value(control_set, r"Control\Session Manager", "PendingFileRenameOperations")
    # Pairs, of which the second may be empty: the usual reading of a list would stop there.
    texts = value.data.decode("utf-16-le", "replace").split("\0") if value is not None else []
    return tuple(zip(texts[: 2 * MAX_ROWS : 2], texts[1 : 2 * MAX_ROWS : 2], strict=False))


def _read(files: FileSystem, path: str) -> str | None:
    """A text file; None where it isn't there."""
    try:
        entry = files.lookup(path)
    except ByreError:
        return None
    if entry.is_dir:
        return None
    data = files.read(entry, length=MAX_TEXT_FILE)
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252", "replace")


def _hosts(files: FileSystem, path: str) -> tuple[HostsLine, ...] | None:
    text = _read(files, path)
    if text is None:
        return None
    found = []
    for line in text.splitlines()[:MAX_LINES]:
        words = line.partition("#")[0].split()
        if len(words) > 1:
            found.append(HostsLine(words[0], tuple(word.lower() for word in words[1:])))
    return tuple(found)


def _autoruns(files: FileSystem) -> Iterator[AutorunFile]:
    """``autorun.inf`` in the volume's root: what it would start."""
    path = "/autorun.inf"
    text = _quietly(lambda: _read(files, path))
    if text is None:
        return
    commands = []
    for line in text.splitlines()[:1000]:
        key, equals, command = line.partition("=")
        name = key.strip().lower()
        if equals and command.strip() and (name in ("open", "shellexecute") or name.endswith("\\command")):
            commands.append((name, command.strip()))
    if commands:
        yield AutorunFile(path, tuple(commands))


def _quietly(read: Callable[[], str | None]) -> str | None:
    """A file that can't be read is one that starts nothing; Sound says that it can't be read."""
    try:
        return read()
    except ByreError:
        return None
