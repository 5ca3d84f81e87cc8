"""One component of a plan, told in lines: what goes, what goes along, what depends on it, what is lost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from byre.units import format_size

_PLURALS = {"class": "classes"}


def part_lines(part: Mapping[str, Any], *, folders: int, named: int) -> list[tuple[str, list[str]]]:
    """(heading, lines) of a component as the JSON has it; ``folders`` and ``named`` say how many of a kind are told
    by name."""
    listed = sorted(part["folders"], key=lambda each: (-each["allocated"], each["path"]))
    files = [f"{_folder(each)}  {summed(each)}" for each in listed[:folders]]
    if len(listed) > folders:
        rest = listed[folders:]
        total = {name: sum(each[name] for each in rest) for name in ("files", "allocated")}
        files.append(f"{len(rest)} more folders  {summed(total)}")
    edits: list[str] = []
    for kind in dict.fromkeys(each["kind"] for each in part["edits"]):
        edits += _some([each["said"] for each in part["edits"] if each["kind"] == kind], named, f"more ({kind})")
    told = part["needed_by"]["named"]
    along = [each["name"] for each in told if each["along"] and each["kind"] not in ("class", "service", "start")]
    later = [f"{each['name']}, for {each['path'].rpartition('/')[2]}" for each in told if each["later"]]
    found = [
        ("lost", [part["consequence"]]),
        ("goes", files),
        ("shortcuts", _some(part["shortcuts"], named, "more shortcuts")),
        ("registry", edits),
        ("goes along", _some([*part["dependents"], *along], named, "more")),
        ("asked for only when needed", _some(later, named, "more programs")),
    ]
    return [(heading, lines) for heading, lines in found if lines]


def _some(lines: Sequence[str], limit: int, rest: str) -> list[str]:
    more = [f"{len(lines) - limit} {rest}"] if len(lines) > limit else []
    return [*lines[:limit], *more]


def summed(each: Mapping[str, Any]) -> str:
    """Bytes and files of a component or a folder."""
    files = "1 file" if each["files"] == 1 else f"{each['files']} files"
    return f"{format_size(each['allocated'])}, {files}"


def placed(volume: Mapping[str, Any]) -> str:
    """A volume by its drive letter, or by its partition where the guest has none for it; with a colon."""
    return volume["drive"] or f"partition {volume['partition']}:"


def _folder(each: Mapping[str, Any]) -> str:
    """A folder that goes itself, or the files that go from it: by name where they are few."""
    if each["whole"]:
        return f"{each['path']}/"
    path, names = each["path"].rstrip("/"), each["names"]
    if each["files"] > len(names):
        return f"{path}/{{{', '.join(names)}, ...}}"
    return f"{path}/{names[0]}" if len(names) == 1 else f"{path}/{{{', '.join(names)}}}"


def needs_in_short(part: Mapping[str, Any]) -> str:
    """What would stop a plan: components by name, the rest by kind, by name where it is one of its kind."""
    found: list[str] = list(part["dependents"])
    for kind, count in part["needed_by"]["stop"].items():
        name = next((each["name"] for each in _stopping(part) if each["kind"] == kind), kind)
        found.append(_short(name, kind) if count == 1 else _counted(count, kind))
    return ", ".join(found) or "-"


def _stopping(part: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return (each for each in part["needed_by"]["named"] if not each["along"] and not each["later"])


def _short(name: str, kind: str) -> str:
    """A dependent's name for a table's cell: of a program its file."""
    return name.rpartition("/")[2] if kind == "program" else name.removeprefix("the ")


def _counted(count: int, kind: str) -> str:
    if kind == "start":
        return f"the start ({count} files)"
    return f"{count} {_PLURALS.get(kind, f'{kind}s')}"
