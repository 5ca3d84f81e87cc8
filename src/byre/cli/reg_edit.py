"""``byre reg IMAGE set|delete|import``: the guest's registry changed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from byre.cli.changing import run_change
from byre.cli.output import Output, printable
from byre.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from byre.filesystems.opening import OpenVolume
    from byre.lite.changes import Change
    from byre.lite.hive_editor import Edit
    from byre.windows.inspection import Inspection
    from byre.windows.reg_paths import Registry

    Asked = Callable[[Registry], list[Edit]]

ACTIONS = ("set", "delete", "import")
TYPES = ("sz", "expand_sz", "multi_sz", "dword", "qword", "binary", "none")
MAX_REG_FILE = 64 << 20


def run_edit(args: argparse.Namespace, out: Output) -> int:
    """Carry out ``args.key`` (an action) with the words after it."""
    if args.code_page is not None and args.key != "import":
        raise UsageError("--code-page belongs to import")
    asked = {"set": _set, "delete": _delete, "import": _import}[args.key](args, out)

    details: list[str] = []

    def plan(guest: Inspection) -> list[tuple[OpenVolume, list[Change]]]:
        from byre.lite.registry_changes import hive_changes
        from byre.windows.reg_paths import Registry

        if not guest.roots:
            raise UnsupportedError("holds no installed Windows or ReactOS", path=args.image)
        volume, root = guest.roots[0]
        assert volume.filesystem is not None
        made = asked(Registry(volume.filesystem, root))
        edits = [replace(edit, key=of_user(edit.key, args.user)) for edit in made]
        changes = hive_changes(volume.filesystem, root, edits, image=args.image)
        details.extend(printable(_said(edit)) for edit in edits)
        return [(volume, changes)]

    return run_change(args, out, "reg", plan, details=details)


def _said(edit: Edit) -> str:
    """What a dry run says of an edit: where, and of which type; the data are the user's own."""
    from byre.lite.hive_editor import DeleteKey, DeleteValue, SetValue
    from byre.windows.registry.layout import ValueType

    if isinstance(edit, SetValue):
        kind = ValueType(edit.type).name if edit.type in set(ValueType) else f"type {edit.type:#x}"
        return f"set {edit.key}: {edit.name or '(default)'}, {kind}, {len(edit.data)} bytes"
    if isinstance(edit, DeleteValue):
        return f"delete {edit.key}: {edit.name or '(default)'}{', if it is there' if edit.if_there else ''}"
    if isinstance(edit, DeleteKey):
        return f"delete {edit.key} and all below it{', if it is there' if edit.if_there else ''}"
    return f"make {edit.key}"


def of_user(key: str, user: str | None) -> str:
    r"""The path with ``HKCU`` as that user's: nobody is logged on in an image."""
    if user is None:
        return key
    root, separator, rest = key.lstrip("[").partition("\\")
    return f"HKU\\{user}{separator}{rest}" if root.upper() in ("HKCU", "HKEY_CURRENT_USER") else key


def _set(args: argparse.Namespace, out: Output) -> Asked:
    from byre.lite.hive_editor import MakeKey, SetValue

    words = args.words
    if len(words) == 1:
        return lambda registry: [MakeKey(words[0])]
    if len(words) != 3:
        raise UsageError("set takes KEY, or KEY NAME DATA", hint="NAME @ is the key's default value.")
    key, name, text = words
    kind, data = value_data(args.type, text)
    return lambda registry: [SetValue(key, "" if name == "@" else name, kind, data)]


def _delete(args: argparse.Namespace, out: Output) -> Asked:
    from byre.lite.hive_editor import DeleteKey, DeleteValue

    words = args.words
    if len(words) == 1:
        return lambda registry: [DeleteKey(words[0])]
    if len(words) != 2:
        raise UsageError("delete takes KEY, which goes with all below it, or KEY NAME")
    return lambda registry: [DeleteValue(words[0], "" if words[1] == "@" else words[1])]


def _import(args: argparse.Namespace, out: Output) -> Asked:
    """The file is read at once; what its bytes mean may hang on the guest's own code page."""
    from byre.storage.small_file import read_small_file
    from byre.windows.ansi import UTF_8, codec_of, guest_code_page
    from byre.windows.reg_import import decode_reg, is_utf8

    if len(args.words) != 1:
        raise UsageError("import takes one FILE.reg")
    path, given = args.words[0], args.code_page
    if given is not None:
        codec_of(given)
    raw = read_small_file(Path(path), MAX_REG_FILE)

    def edits(registry: Registry) -> list[Edit]:
        @cache
        def page() -> int:
            number = guest_code_page(registry) if given is None else int(given)
            if given is None and is_utf8(raw) and not raw.isascii():
                out.notice(f"{path} is read in the guest's code page {number}; as UTF-8 with --code-page {UTF_8}")
            return number

        return _edits(decode_reg(raw, page, path=path, sure=given is not None), page, path)

    return edits


def _edits(text: str, page: Callable[[], int], path: str) -> list[Edit]:
    from byre.lite.hive_editor import DeleteKey, DeleteValue, MakeKey, SetValue
    from byre.windows.reg_import import parse_reg

    edits: list[Edit] = []
    for row in parse_reg(text, page, path=path):
        if row.name is None:
            edits.append(DeleteKey(row.key, if_there=True) if row.data is None else MakeKey(row.key))
        elif row.data is None:
            edits.append(DeleteValue(row.key, row.name, if_there=True))
        else:
            edits.append(SetValue(row.key, row.name, row.type, row.data))
    return edits


def value_data(kind: str, text: str) -> tuple[int, bytes]:
    """(REG_* number, bytes) of a value typed on the command line; UsageError where it doesn't fit the type."""
    from byre.windows.registry.layout import ValueType

    number = ValueType[kind.upper()]
    if number in (ValueType.SZ, ValueType.EXPAND_SZ):
        return number, text.encode("utf-16-le", "surrogatepass") + b"\0\0"
    if number == ValueType.MULTI_SZ:
        parts = text.split("|") if text else []
        return number, "".join(part + "\0" for part in parts).encode("utf-16-le", "surrogatepass") + b"\0\0"
    if number in (ValueType.DWORD, ValueType.QWORD):
        width = 4 if number == ValueType.DWORD else 8
        try:
            return number, int(text, 0).to_bytes(width, "little")
        except (ValueError, OverflowError) as error:
            raise UsageError(
                f"not a number of {width} bytes", found=repr(text), hint="For example 4 or 0x1f."
            ) from error
    digits = re.sub(r"[\s,:]", "", text)
    try:
        return number, bytes.fromhex(digits)
    except ValueError as error:
        raise UsageError("not bytes in hexadecimal", found=repr(text), hint="For example 01,ff,00.") from error
