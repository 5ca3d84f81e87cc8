"""What ``byre slim`` shows in a terminal: the components of an image, a plan as a tree, a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from byre.cli.layout import table
from byre.cli.output import Printer, printable
from byre.units import format_size

SHOWN = 20
NAMED = 3
FOLDERS = 6
_PLURALS = {"class": "classes"}


def show_list(console: Printer, payload: Mapping[str, Any]) -> None:
    rows = [
        (
            each["id"],
            each["profile"],
            format_size(each["allocated"]),
            str(each["files"]),
            _needs(each),
            each["consequence"],
        )
        for each in payload["components"]
    ]
    columns = ("component", "profile", "takes", "files", "needed in this image by", "what is lost")
    table(console, columns, rows, right=("takes", "files"))
    _print_worth(console, payload["profiles"])


def _needs(part: Mapping[str, Any]) -> str:
    """What would stop a plan, by kind; the first of a kind by name where it is alone."""
    found = list(part["dependents"])
    stop = part["needed_by"]["stop"]
    for kind, count in stop.items():
        name = next((each["name"] for each in part["needed_by"]["named"] if each["kind"] == kind), kind)
        found.append(_short(name, kind) if count == 1 else _counted(count, kind))
    return ", ".join(found) or "-"


def _short(name: str, kind: str) -> str:
    """A dependent's name for a table's cell: of a program its file."""
    return name.rpartition("/")[2] if kind == "program" else name.removeprefix("the ")


def _counted(count: int, kind: str) -> str:
    if kind == "start":
        return f"the start ({count} files)"
    return f"{count} {kind if count == 1 else _PLURALS.get(kind, f'{kind}s')}"


def _print_worth(console: Printer, profiles: Mapping[str, int]) -> None:
    console.print("each profile would give: " + ", ".join(f"{name} {format_size(n)}" for name, n in profiles.items()))


def show_result(console: Printer, payload: Mapping[str, Any]) -> None:
    if payload["proof"] is None:
        _print_tree(console, payload)
    else:
        rows = [
            (each["id"], format_size(each["allocated"]), str(each["files"]), each["consequence"])
            for each in payload["parts"]
        ]
        table(console, ("component", "takes", "files", "what is lost"), rows, right=("takes", "files"))
        edits = sum(len(each["edits"]) for each in payload["parts"]) + len(payload["edits"])
        if edits:
            console.print(f"{edits} edits of the registry; --dry-run and --json tell each")
    _print_left(console, payload)
    _print_worth(console, payload["profiles"])
    if payload["refused"]:
        ids = [each for each in dict.fromkeys(row["component"] for row in payload["reasons"]) if each != "dropped"]
        hint = f" Say --keep-needed, or: --keep {' --keep '.join(ids)}" if ids else " Drop less."
        console.print(f"refused: nothing was written.{hint}")
    elif payload["proof"] is None:
        said = "would remove" if payload["dry_run"] else "nothing to remove of"
        console.print(f"{said} {payload['files']} files, {format_size(payload['allocated'])}")
    else:
        _print_proof(console, payload)


def _print_tree(console: Printer, payload: Mapping[str, Any]) -> None:
    """Each component with what goes, what goes along, what depends on it and what is lost."""
    for part in payload["parts"]:
        console.print(printable(f"{part['id']}  {_sum(part)}: {part['title']}"), style="bold")
        for line in _part_lines(part):
            console.print(printable(f"  {line}"))
    for edit in payload["edits"]:
        console.print(printable(edit["said"]))


def _sum(each: Mapping[str, Any]) -> str:
    files = "1 file" if each["files"] == 1 else f"{each['files']} files"
    return f"{format_size(each['allocated'])}, {files}"


def _folder(each: Mapping[str, Any]) -> str:
    """A folder that goes itself, or the files that go from it: by name where they are few."""
    if each["whole"]:
        return f"{each['path']}/"
    path = each["path"].rstrip("/")
    names = each["names"]
    if each["files"] > len(names):
        return f"{path}/{{{', '.join(names)}, ...}}"
    return f"{path}/{names[0]}" if len(names) == 1 else f"{path}/{{{', '.join(names)}}}"


def _part_lines(part: Mapping[str, Any]) -> Iterator[str]:
    yield f"lost: {part['consequence']}"
    folders = sorted(part["folders"], key=lambda each: (-each["allocated"], each["path"]))
    for each in folders[:FOLDERS]:
        yield f"{_folder(each)}  {_sum(each)}"
    if len(folders) > FOLDERS:
        rest = folders[FOLDERS:]
        total = {name: sum(each[name] for each in rest) for name in ("files", "allocated")}
        yield f"{len(rest)} more folders  {_sum(total)}"
    for path in part["shortcuts"][:NAMED]:
        yield f"shortcut {path}"
    if len(part["shortcuts"]) > NAMED:
        yield f"{len(part['shortcuts']) - NAMED} more shortcuts"
    kinds = dict.fromkeys(each["kind"] for each in part["edits"])
    for kind in kinds:
        said = [each["said"] for each in part["edits"] if each["kind"] == kind]
        yield from said[:NAMED]
        if len(said) > NAMED:
            yield f"{len(said) - NAMED} more of this kind ({kind})"
    for name in part["dependents"]:
        yield f"the component {name} needs it, and goes as well"
    named = part["needed_by"]["named"]
    along = [each for each in named if each["along"] and each["kind"] not in ("class", "service", "start")]
    later = [each for each in named if each["later"] and not each["along"]]
    for each in along[:NAMED]:
        yield f"goes along: {each['name']}"
    if len(along) > NAMED:
        yield f"{len(along) - NAMED} more go along"
    for each in later[:NAMED]:
        yield f"asks for {each['path'].rpartition('/')[2]} only when it needs it: {each['name']}"
    if len(later) > NAMED:
        yield f"{len(later) - NAMED} more programs ask for it only when they need it"


def _print_left(console: Printer, payload: Mapping[str, Any]) -> None:
    by_reason = payload["left"]
    for each in by_reason[:SHOWN]:
        files = each["paths"]
        what = files[0] if each["files"] == 1 else f"{each['files']} files"
        console.print(printable(f"stays: {each['component']}: {what}: {each['why']}"))
    if len(by_reason) > SHOWN:
        console.print(f"... {len(by_reason) - SHOWN} more stay: --json")
    for note in payload["notes"]:
        console.print(printable(f"note: {note}"))
    for each in payload["kept"][:SHOWN]:
        console.print(printable(f"kept: {each['component']}: {' -> '.join(each['chain'])}"))
    for each in payload["reasons"][:SHOWN]:
        console.print(printable(f"needed: {each['component']}: {' -> '.join(each['chain'])}"), style="bold")
    if len(payload["reasons"]) > SHOWN:
        console.print(f"... {len(payload['reasons']) - SHOWN} more: --json")


def _print_proof(console: Printer, payload: Mapping[str, Any]) -> None:
    proof = payload["proof"]
    verdicts = ", ".join(f"{row['question']} {row['before']} -> {row['after']}" for row in proof["audit"])
    console.print(
        f"proved: file systems sound; {proof['compared']} streams unchanged, {proof['written']} written as planned, "
        f"{proof['gone']} files gone; {verdicts}"
    )
    sizes = f"{format_size(payload['before'])} -> {format_size(payload['after'])}"
    console.print(printable(f"removed {payload['files']} files; {sizes}: {payload['output']}"))
