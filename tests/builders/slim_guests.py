"""Guests in memory to plan slimming for, and the files that are planted in them: shortcuts and tasks."""

from __future__ import annotations

import struct

from builders import xp
from builders.audited import Plant, healthy_disk, planted_files
from byre.audit.gathering import gather_system
from byre.lite.slimming.guest import SlimGuest, plan_guest, read_slim_guest
from byre.lite.slimming.parts import SlimPlan
from byre.lite.slimming.plan import Choice
from byre.windows.components import Component, built_in_components, parse_components

COMPONENTS = tuple(each for each in built_in_components() if "winxp" in each.systems)
_LINK = bytes.fromhex("4c0000000114020000000000c000000000000046")


def slim_guest(plant: Plant | None = None) -> SlimGuest:
    """The specimen with what is planted in it."""
    memory = planted_files(plant or Plant())
    facts = gather_system(healthy_disk(memory), memory, xp.ROOT, volume=1, loader=memory, file_system="ntfs")
    return read_slim_guest(memory, facts)


def plan_of(choice: Choice, plant: Plant | None = None, *own: Component) -> SlimPlan:
    mine = {each.id for each in own}
    listed = (*own, *(each for each in COMPONENTS if each.id not in mine))
    return plan_guest(choice, slim_guest(plant), listed)


def component(id: str, *files: str, profile: str = "lite", **more: list[str] | str) -> Component:
    """One component of Windows XP, as an owner's own file has it."""
    rows = [f"{name} = {_toml(value)}" for name, value in more.items()]
    text = (
        f'[[component]]\nid = "{id}"\ntitle = "{id}"\nsystems = ["winxp"]\nprofile = "{profile}"\n'
        f'consequence = "lost"\nsource = "test"\nfiles = {_toml(list(files))}\nmarks = ["x"]\n' + "\n".join(rows)
    )
    return parse_components(text, path="own.toml")[0]


def _toml(value: list[str] | str) -> str:
    return f"'{value}'" if isinstance(value, str) else f"[{', '.join(map(_toml, value))}]"


def build_shortcut(
    *,
    variable: str | None = None,
    local: str | None = None,
    items: tuple[str, ...] = (),
    arguments: str | None = None,
    unicode: bool = True,
) -> bytes:
    """A ``.lnk`` that says its target as a path with variables, in its link info, or as a list of shell items."""
    flags = (1 if items else 0) | (2 if local else 0) | (32 if arguments is not None else 0) | (128 if unicode else 0)
    data = _LINK + struct.pack("<I", flags) + bytes(52)
    if items:
        listed = b"".join(_item(name, first=not number) for number, name in enumerate(items)) + bytes(2)
        data += struct.pack("<H", len(listed)) + listed
    if local is not None:
        path = local.encode("cp1252") + b"\0"
        head = 28
        data += struct.pack("<7I", head + len(path) + 1, head, 1, 0, head, 0, head + len(path)) + path + b"\0"
    if arguments is not None:
        encoded = arguments.encode("utf-16-le" if unicode else "cp1252")
        data += struct.pack("<H", len(arguments)) + encoded
    if variable is not None:
        narrow = variable.encode("ascii", "replace")[:259].ljust(260, b"\0")
        data += struct.pack("<II", 0x314, 0xA0000001) + narrow + variable.encode("utf-16-le").ljust(520, b"\0")
    return data + bytes(4)


def _item(name: str, *, first: bool) -> bytes:
    if first:
        body = b"\x2f" + f"{name}\\".encode("ascii").ljust(22, b"\0")
    else:
        short = name[:8].encode("ascii", "replace") + b"\0"
        short += bytes(len(short) % 2)
        long = name.encode("utf-16-le") + b"\0\0"
        extension = struct.pack("<HHI8x2xH", 20 + len(long) + 2, 3, 0xBEEF0004, 0) + long + b"\0\0"
        body = b"\x32\0" + bytes(10) + short + extension
    return struct.pack("<H", len(body) + 2) + body


def build_job(program: str) -> bytes:
    """A scheduled task that runs a program."""
    texts = b"".join(
        struct.pack("<H", len(text) + 1) + (text + "\0").encode("utf-16-le") for text in (program, "", "", "x", "")
    )
    return struct.pack("<HH16xHH", 0x0501, 1, 70, 0) + bytes(46) + texts
