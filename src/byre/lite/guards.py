r"""What no verb changes: where passwords lie, and what product activation rests on.

Byre mends and slims systems for their owners; it is no way round a logon or a licence. Files are judged by the names
that the volume has for them, not by those that were typed: 8.3 names, other cases, hard links and folders that hold
one all come to the same. Registry keys are judged by their place in the hive, with the control set's real name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from itertools import chain

from byre.errors import ByreError, MissingError, UnsupportedError
from byre.filesystems.base import Entry, FileSystem
from byre.filesystems.paths import split_path
from byre.lite.changes import Change, Content, MakeFolder, Move, Overwrite, Put, Remove
from byre.lite.hive_editor import DeleteKey, DeleteValue, Edit, SetValue
from byre.windows.hives import MAX_HIVE_FILE, list_folder, read_hive
from byre.windows.registry import Hive, open_hive
from byre.windows.secrets import is_secret

_LOGON_HIVES = r"(?:sam|security)(?:\.(?:log[12]?|sav|alt))?"
_NEVER = re.compile(
    rf"(?:/.*)?/system32/(?:config/{_LOGON_HIVES}|wpa\.(?:dbl|bak)|oembios\.\w+|(?:dllcache/)?(?:licdll\.dll|dpcdll\.dll"
    r"|pidgen\.dll|winlogon\.exe|msgina\.dll|lsass\.exe|lsasrv\.dll|msv1_0\.dll|samsrv\.dll|authui\.dll|slsvc\.exe"
    r"|sppsvc\.exe|spp(?:winob|objs)\.dll)|spp/.*|7b296fb0-[^/]*)"
    r"|.*/softwareprotectionplatform/.*"
)
"""Passwords, who checks them, and what says that a system is activated (XP and 2003, Vista, 7)."""
_NEVER_PUT = re.compile(
    rf"(?:/.*)?/(?:repair|config/regback)/{_LOGON_HIVES}|.*/_registry_machine_(?:sam|security)"
    r"|(?:/.*)?/system32/(?:config/(?:system|software)\.(?:log[12]?|sav|alt)"
    r"|(?:dllcache/)?(?:sethc|utilman|osk|magnify|narrator|displayswitch|atbroker|logonui)\.exe)"
)
"""What a repair of Windows puts back, logs that are played into a hive, and programs that run before the logon."""
_HIVES = re.compile(r"((?:/.*)?)/system32/config/(system|software)")
_INSIDE = "Set passwords and activate from inside the guest."
_SET = r"controlset\d+"
_NT = r"microsoft\\windows nt\\currentversion"
_ACTIVATION = {
    "SYSTEM": re.compile(r"wpa(?:\\.*)?", re.DOTALL),
    "SOFTWARE": re.compile(rf"{_NT}\\(?:wpaevents|softwareprotectionplatform)(?:\\.*)?", re.DOTALL),
}
_BOOT_KEY = re.compile(rf"{_SET}\\control\\lsa\\(?:jd|skew1|gbg|data)(?:\\.*)?", re.DOTALL)
_ABOVE = {
    "SYSTEM": re.compile(rf"{_SET}(?:\\control(?:\\lsa)?)?|setup"),
    "SOFTWARE": re.compile(r"microsoft(?:\\windows nt(?:\\currentversion)?)?"),
}
"""Keys that hold one of those: they aren't deleted with all below them."""
_LOGON_VALUES = (
    (re.compile(rf"{_NT}\\winlogon"), ("ginadll",)),
    (
        re.compile(
            rf"{_NT}\\image file execution options\\"
            r"(?:sethc|utilman|osk|magnify|narrator|displayswitch|atbroker|logonui|winlogon|lsass)\.exe"
        ),
        ("debugger",),
    ),
    (re.compile(r"setup"), ("cmdline", "setuptype")),
    (re.compile(rf"{_SET}\\control\\lsa"), ("limitblankpassworduse",)),
    (
        re.compile(rf"{_SET}\\control\\session manager"),
        ("pendingfilerenameoperations", "pendingfilerenameoperations2"),
    ),
)
"""Values that would run something in the place of the logon, or put other files there at the next start; they may be
deleted, and set to nothing."""


def refuse_files(changes: Iterable[Change], files: FileSystem, *, image: str) -> None:
    """UnsupportedError where a change would touch a file that guards a logon or a licence. Nothing is changed."""
    linked: dict[int, list[str]] = {}
    for change in chain.from_iterable(_parts(each) for each in changes):
        path, entry = _real(files, change.path)
        for name in _touched(change, path, entry, files, linked):
            lower = name.lower()
            if _NEVER.fullmatch(lower):
                raise _refusal("what guards a logon or a licence", image, name)
            if not isinstance(change, Remove) and _NEVER_PUT.fullmatch(lower):
                raise _refusal("what a logon could be got round with", image, name)
            match = _HIVES.fullmatch(lower)
            if match is not None:
                _refuse_hive(change, name, match[2].upper(), files, image)


def _parts(change: Change) -> tuple[Change, ...]:
    """What a change does to names: a move is one that goes, and one that is put."""
    if isinstance(change, Move):
        return Remove(change.path), Put(change.target, Content.of(b""))
    return () if isinstance(change, MakeFolder) else (change,)


def refuse_links(files: FileSystem, path: str, root: str, *, image: str) -> None:
    """UnsupportedError where the hive at ``path`` is another name of a hive that holds passwords."""
    entry = files.lookup(path)
    if entry.links > 1 and entry.id in _protected_ids(files, root, ("SAM", "SECURITY")):
        raise _refusal("accounts and their passwords", image, entry.path)


def _refusal(what: str, image: str, found: str, hint: str = _INSIDE) -> UnsupportedError:
    return UnsupportedError(f"Byre doesn't change {what}", path=image, found=found, hint=hint)


def _real(files: FileSystem, path: str) -> tuple[str, Entry | None]:
    """The path with the volume's own names as far as they are there, and the entry where all of it is."""
    names = split_path(path)
    for depth in range(len(names), 0, -1):
        try:
            entry = files.lookup("/" + "/".join(names[:depth]))
        except MissingError:
            continue
        rest = names[depth:]
        return "/".join([entry.path, *rest]), None if rest else entry
    return "/" + "/".join(names), None


def _touched(
    change: Change, path: str, entry: Entry | None, files: FileSystem, linked: dict[int, list[str]]
) -> Iterable[str]:
    """Every name that a change is about: those below a folder, and the other names of a file that is written.
    ``linked``: the names of all files that have several, by their ids; filled here, once for all changes."""
    yield path
    if entry is None:
        return
    if isinstance(change, Remove):
        if entry.is_dir and entry.reparse is None:
            for below in files.walk(entry):
                yield below.path
    elif entry.links > 1:
        if not linked:
            for other in files.walk("/"):
                if other.links > 1:
                    linked.setdefault(other.id, []).append(other.path)
        yield from linked.get(entry.id, ())


def _protected_ids(files: FileSystem, root: str, names: tuple[str, ...]) -> set[int]:
    """Several files may have the name in several cases."""
    return {each.id for each in list_folder(files, f"{root}/system32/config") if each.name.upper() in names}


def _refuse_hive(change: Change, path: str, kind: str, files: FileSystem, image: str) -> None:
    """SYSTEM and SOFTWARE are put in place only where activation, product key and boot key stay what they were."""
    before = read_hive(files, path).value
    if before is None and not isinstance(change, Remove):
        return  # nothing that could be read is lost
    hint = "Import the keys that are needed: byre reg IMAGE import FILE.reg."
    if isinstance(change, Put):
        try:
            if change.content.size > MAX_HIVE_FILE:
                raise _refusal("a hive for one of that size", image, path)
            after = open_hive(_all(change.content), path=path)
            if before is not None and _licence(before, kind) == _licence(after, kind):
                return
        except ByreError as error:
            if isinstance(error, UnsupportedError):
                raise
            raise _refusal(f"a hive for what is none ({error.what})", image, path, hint) from error
    elif isinstance(change, Overwrite):
        return  # made by the editor, edit by edit
    raise _refusal(
        f"the activation, product key or boot key in {kind}, which another hive would bring", image, path, hint
    )


def _all(content: Content) -> bytes:
    return b"".join(content.read(at, min(1 << 20, content.size - at)) for at in range(0, content.size, 1 << 20))


def _licence(hive: Hive, kind: str) -> dict[str, object]:
    """What in a hive of this kind guards a logon or a licence, by path."""
    found: dict[str, object] = {}
    for path, key in hive.walk():
        lower = path.lower()
        if _ACTIVATION[kind].fullmatch(lower) or (kind == "SYSTEM" and _BOOT_KEY.fullmatch(lower)):
            found[lower] = key.class_name
            found |= {f"{lower}\\{value.name}": (value.type, value.data) for value in key.values()}
        elif lower == _NT.replace("\\\\", "\\") or lower == "setup":
            for value in key.values():
                if is_secret(kind, path, value.name):
                    found[f"{lower}\\{value.name}"] = (value.type, value.data)
    return found


def refuse_edit(kind: str, edit: Edit, *, image: str) -> None:
    """UnsupportedError where an edit touches passwords or activation. ``kind`` is the hive's as ``secrets`` wants it;
    the edit's key is the path in that hive, with the control set's own name."""
    kind = kind.upper()
    key = "\\".join(part for part in edit.key.lower().split("\\") if part)
    reason = {"SAM": "accounts and their passwords", "SECURITY": "stored passwords"}.get(kind)
    if reason is None and kind in _ACTIVATION and _ACTIVATION[kind].fullmatch(key):
        reason = "product activation"
    if reason is None and kind == "SYSTEM" and _BOOT_KEY.fullmatch(key):
        reason = "the key that passwords are kept with"
    if reason is None and isinstance(edit, DeleteKey) and kind in _ABOVE and _ABOVE[kind].fullmatch(key):
        reason = "what guards a logon or a licence, which lies below that key"
    if reason is None and isinstance(edit, (SetValue, DeleteValue)):
        if is_secret(kind, edit.key, edit.name):
            reason = "a secret"
        elif isinstance(edit, SetValue) and _around_logon(kind, key, edit):
            reason = "what a logon could be got round with"
    if reason is not None:
        raise _refusal(reason, image, edit.key)


def _around_logon(kind: str, key: str, edit: SetValue) -> bool:
    if kind not in _ACTIVATION or not any(
        where.fullmatch(key) and edit.name.lower() in names for where, names in _LOGON_VALUES
    ):
        return False
    if edit.name.lower() == "limitblankpassworduse":
        return not any(edit.data)
    return any(edit.data)


def from_inside(image: str) -> str:
    """What to do where a volume may only be changed after its own system has finished with it."""
    return (
        f"Run {shlex.join(('byre', 'run', '--keep', image))}: it starts on the controller that the guest knows, "
        "behind a snapshot. Let it check its disk, shut it down from inside, then try again."
    )
