"""``byre inspect``: what is on a disk, on one screen, without booting or mounting it."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from byre.cli.layout import facts, table, title
from byre.cli.options import add_image, open_image
from byre.cli.output import Output
from byre.units import format_size

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.storage.base import Storage
    from byre.windows.autostarts import Autostart
    from byre.windows.fact import Fact
    from byre.windows.guest import Guest
    from byre.windows.inspection import Inspection

SUMMARY = "Say what is on a disk: partitions, file systems, the system installed there and what starts with it."
EXAMPLES = """
  byre inspect xp.qcow2
  byre inspect xp.qcow2@clean --json
  byre inspect https://example.com/xp.vmdk     moves a few per cent of it
"""
VERDICTS = "   0 told\n   1 told as far as a damaged file system can be read: files may be missing from what is told"
SHOWN = 8
"""Rows of a list on the one screen; --json has all of them."""


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("--all", action="store_true", help="show lists whole")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.windows.inspection import inspect

    with open_image(args, out=out) as disk:
        found = inspect(disk, name=args.image)
        payload = as_json(found)
        payload["traffic"] = traffic(disk.files)
        out.result("inspect", payload, lambda console: _print(console, found, payload, whole=args.all))
    return 0 if payload["complete"] else 1


def as_json(found: Inspection) -> dict[str, Any]:
    """All facts; secrets are only ever present or absent."""
    guests = found.guests  # read before the volumes are asked for the damage that was met
    volumes = []
    for volume in found.volumes:
        row = dataclasses.asdict(volume.partition)
        row["file_system"] = volume.filesystem.facts() if volume.filesystem else None
        row["detected"] = volume.detected.name if volume.detected else None
        row["reason"] = str(volume.reason) if volume.reason else None
        row["problems"] = list(volume.filesystem.problems) if volume.filesystem else []
        volumes.append(row)
    return {
        "image": found.name,
        "format": found.disk.format,
        "virtual_size": found.disk.size,
        "partition_table": {
            "scheme": found.table.scheme,
            "sector_size": found.table.sector_size,
            "id": found.table.id,
            "dynamic": found.table.dynamic,
            "problems": found.table.problems,
        },
        "volumes": volumes,
        "drives": {letter: volume.partition.index for letter, volume in sorted(found.drives.items())},
        "guests": guests,
        "complete": not found.hides_names(),
    }


def traffic(files: tuple[Storage, ...]) -> dict[str, int] | None:
    """What was moved over the wire; None for local images."""
    counted = [each.traffic for each in files if hasattr(each, "traffic")]
    if not counted:
        return None
    size = sum(each.size for each in files if hasattr(each, "traffic"))
    return {"requests": sum(t.requests for t in counted), "bytes": sum(t.bytes for t in counted), "size": size}


def _print(console: Printer, found: Inspection, payload: dict[str, Any], *, whole: bool) -> None:
    title(console, found.name)
    facts(console, [("disk", f"{found.disk.format}, {format_size(found.disk.size)}, {_scheme(found)}")])
    _print_volumes(console, found)
    for problem in found.table.problems:
        facts(console, [("partitions", problem.message)])
    for guest in found.guests:
        _print_guest(console, guest, whole=whole)
    for volume in found.volumes:
        problems = list(volume.filesystem.problems) if volume.filesystem else []
        if problems:
            more = f" and {len(problems) - 1} more: --json" if len(problems) > 1 else ""
            facts(console, [("damage", f"partition {volume.partition.index}: {problems[0].message}{more}")])
    if not found.guests:
        facts(console, [("system", "; ".join(["no installed Windows or ReactOS found", *found.unsearched()]))])
    if payload["traffic"]:
        moved = payload["traffic"]
        share = moved["bytes"] / max(1, moved["size"])
        facts(
            console, [("moved", f"{format_size(moved['bytes'])} in {moved['requests']} requests, {share:.1%} of it")]
        )


def _scheme(found: Inspection) -> str:
    scheme = {"mbr": "MBR", "gpt": "GPT", "superfloppy": "no partition table", "none": "nothing recognised"}
    text = scheme.get(found.table.scheme, found.table.scheme)
    return f"{text} {found.table.id}" if found.table.id else text


def _print_volumes(console: Printer, found: Inspection) -> None:
    letters: dict[int, str] = {}
    for letter, volume in sorted(found.drives.items()):
        letters.setdefault(volume.partition.index, f"{letter}:")
    rows = []
    for volume in found.volumes:
        part = volume.partition
        if volume.filesystem is not None:
            about = volume.filesystem.facts()
            state = [word for word, on in (("dirty", about.dirty), ("hibernated", about.hibernated)) if on]
            if about.log == "unclean":
                state.append("log unclean")
            if volume.filesystem.problems:
                state.append("damaged")
            kind = f"{about.type.upper()} {about.version or ''}".strip()
            free = format_size(about.free) if about.free is not None else "?"
            rows.append(
                [
                    str(part.index),
                    letters.get(part.index, ""),
                    kind,
                    about.label or "",
                    format_size(part.length),
                    free,
                    ", ".join(state) or "clean",
                ]
            )
        else:
            kind = volume.detected.name if volume.detected else part.type_name
            rows.append(
                [
                    str(part.index),
                    "",
                    kind,
                    "",
                    format_size(part.length),
                    "",
                    volume.reason.what if volume.reason else "",
                ]
            )
    if rows:
        table(
            console,
            ["#", "drive", "file system", "label", "size", "free", "state"],
            rows,
            right=["#", "size", "free"],
        )


def _print_guest(console: Printer, guest: Guest, *, whole: bool) -> None:
    name = " ".join(filter(None, (_text(guest.product), guest.service_pack.value)))
    console.print()
    title(console, f"{name} in {guest.root} on partition {guest.volume}")
    version = (
        f"{_text(guest.version)} build {_text(guest.build)}, {_text(guest.architecture)}, {_text(guest.edition)}"
    )
    facts(
        console,
        [
            ("version", version),
            ("language", _text(guest.language)),
            ("computer", f"{_text(guest.computer_name)}, owner {_text(guest.owner)}"),
            ("installed", f"{_text(guest.installed)}, time zone {_text(guest.time_zone)}"),
            ("HAL, kernel", f"{_text(guest.hal)}, {_text(guest.kernel)}"),
            ("boots from", _controllers(guest)),
            ("network", ", ".join(guest.network_adapters.value or ()) or _none(guest.network_adapters)),
            ("accounts", _accounts(guest)),
            ("services", _services(guest)),
            (
                "programs",
                _few(
                    [f"{p.name} {p.version or ''}".strip() for p in guest.programs.value or () if not p.hidden],
                    whole,
                    guest.programs,
                ),
            ),
            ("hotfixes", _few([h.id for h in guest.hotfixes.value or ()], whole, guest.hotfixes)),
            ("secrets", _secrets(guest)),
        ],
    )
    rows = [
        [a.kind, a.name or "(default)", a.command, _file_state(a)]
        for a in guest.autostarts.value or ()
        if a.kind in _SHOWN_KINDS
    ]
    if rows:
        console.print()
        cut = rows if whole else rows[: SHOWN * 2]
        table(console, ["starts by itself", "name", "command", "file"], cut)
        if len(cut) < len(rows):
            console.print(f"  ... {len(rows) - len(cut)} more: --all")
    for problem in guest.problems[: None if whole else SHOWN]:
        facts(console, [("problem", problem)])


_SHOWN_KINDS = {
    *("run-key", "winlogon", "appinit", "image-debugger", "shell-delay-load", "shared-task", "shell-execute-hook"),
    *(
        "browser-helper",
        "active-setup",
        "command-processor",
        "boot-execute",
        "startup-folder",
        "task",
        "winlogon-notify",
    ),
}


def _text(fact: Fact[str]) -> str:
    return fact.value if fact.value is not None else _none(fact)


def _none(fact: Fact[Any]) -> str:
    return "none" if fact.state != "unknown" else f"unknown ({fact.reason})"


def _few(items: list[str], whole: bool, fact: Fact[Any]) -> str:
    if fact.state == "unknown":
        return _none(fact)
    shown = items if whole else items[:SHOWN]
    rest = len(items) - len(shown)
    return (", ".join(shown) or "none") + (f" and {rest} more" if rest else "")


def _controllers(guest: Guest) -> str:
    if guest.boot_controllers.value is None:
        return _none(guest.boot_controllers)
    able = [f"{c.id} ({c.service})" for c in guest.boot_controllers.value if c.bootable]
    return ", ".join(able) or "no controller that is complete: id, service at Start=0 and driver file"


def _accounts(guest: Guest) -> str:
    if guest.users.value is None:
        return _none(guest.users)
    rows = []
    for account in guest.users.value:
        marks = [
            word
            for word, on in (
                ("administrator", account.administrator),
                ("disabled", account.disabled),
                ("no password", account.blank_password and not account.disabled),
            )
            if on
        ]
        rows.append(account.name + (f" ({', '.join(marks)})" if marks else ""))
    return ", ".join(rows) or "none"


def _services(guest: Guest) -> str:
    if guest.services.value is None:
        return _none(guest.services)
    drivers = [service for service in guest.services.value if service.is_driver]
    boot = sum(1 for service in drivers if service.start == 0)
    auto = sum(1 for service in guest.services.value if service.start == 2)
    others = len(guest.services.value) - len(drivers)
    return f"{len(drivers)} drivers ({boot} at boot), {others} services, {auto} start by themselves"


def _file_state(row: Autostart) -> str:
    """What is worth a word: a task that is switched off, or a file that isn't there."""
    return "switched off" if row.enabled is False else "missing" if row.missing else ""


def _secrets(guest: Guest) -> str:
    rows = []
    for field in dataclasses.fields(guest.secrets):
        present = getattr(guest.secrets, field.name)
        rows.append(
            f"{field.name.replace('_', ' ')} {'present' if present else 'unknown' if present is None else 'absent'}"
        )
    return ", ".join(rows)
