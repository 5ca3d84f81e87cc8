"""What ``byre slim`` shows in a terminal: the components of an image, a plan as a tree, a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from byre.cli.layout import table
from byre.cli.output import Printer, printable
from byre.reports.slim_tree import needs_in_short, part_lines, placed, summed
from byre.units import format_size

SHOWN = 20
NAMED = 3
FOLDERS = 6
BARE = ("goes", "registry")
"""Lines that say themselves what they are."""


def show_list(console: Printer, payload: Mapping[str, Any]) -> None:
    rows = [
        (
            each["id"],
            each["profile"],
            format_size(each["allocated"]),
            str(each["files"]),
            needs_in_short(each),
            each["consequence"],
        )
        for each in payload["components"]
    ]
    columns = ("component", "profile", "takes", "files", "needed in this image by", "what is lost")
    table(console, columns, rows, right=("takes", "files"))
    _print_left(console, payload["left"])
    _print_worth(console, payload["profiles"])


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
        if rows:
            table(console, ("component", "takes", "files", "what is lost"), rows, right=("takes", "files"))
        edits = sum(len(each["edits"]) for each in payload["parts"]) + len(payload["edits"])
        if edits:
            console.print(f"{edits} edits of the registry; --dry-run and --json tell each")
    _print_drives(console, payload["drives"])
    _print_left(console, payload["left"])
    _print_reasons(console, payload)
    _print_worth(console, payload["profiles"])
    if payload["proof"] is not None:
        _print_proof(console, payload)
    elif payload["refused"]:
        ids = [each for each in dict.fromkeys(row["component"] for row in payload["reasons"]) if each != "dropped"]
        hint = f" Say --keep-needed, or: --keep {' --keep '.join(ids)}" if ids else " Drop less."
        console.print(f"refused: nothing was written.{hint}")
    else:
        would = f"would remove {_files(payload)}, {format_size(payload['allocated'])}"
        console.print(would if payload["dry_run"] and payload["files"] else "nothing to remove")


def _files(payload: Mapping[str, Any]) -> str:
    return "1 file" if payload["files"] == 1 else f"{payload['files']} files"


def _print_tree(console: Printer, payload: Mapping[str, Any]) -> None:
    """Each component with what goes, what goes along, what depends on it and what is lost."""
    for part in payload["parts"]:
        console.print(printable(f"{part['id']}  {summed(part)}: {part['title']}"), style="bold")
        for heading, lines in part_lines(part, folders=FOLDERS, named=NAMED):
            for line in lines:
                console.print(printable(f"  {line}" if heading in BARE else f"  {heading}: {line}"))
    for edit in payload["edits"]:
        console.print(printable(edit["said"]))


def _print_drives(console: Printer, drives: Sequence[Mapping[str, Any]]) -> None:
    if len(drives) > 1:
        console.print("by drive: " + "; ".join(f"{each['drive']} {summed(each)}" for each in drives))


def _print_left(console: Printer, by_reason: Sequence[Mapping[str, Any]]) -> None:
    for each in by_reason[:SHOWN]:
        what = each["paths"][0] if each["files"] == 1 else f"{each['files']} files"
        console.print(printable(f"stays: {each['component']}: {what}: {each['why']}"))
    if len(by_reason) > SHOWN:
        console.print(f"... {len(by_reason) - SHOWN} more stay: --json")


def _print_reasons(console: Printer, payload: Mapping[str, Any]) -> None:
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
    console.print("nothing was written:" if payload["refused"] else "proved before it was written:")
    console.print(printable(f"  file systems: sound by Byre's own check{_read_by(proof['readers'])}"))
    volumes = proof["volumes"]
    for each in volumes:
        where = f"on {placed(each)}" if len(volumes) > 1 else "files:"
        console.print(
            f"  {where} {each['compared']} streams of kept files unchanged, {each['written']} files written as "
            f"planned, {each['gone']} gone"
        )
    verdicts = ", ".join(f"{row['question']} {row['before']} -> {row['after']}" for row in proof["audit"])
    console.print(f"  audit: {verdicts}")
    if payload["boot"] is not None:
        console.print(printable(f"  boot test: {payload['boot']['sentence']}"))
    if payload["refused"]:
        console.print("refused: the result starts no more. Drop less.")
        return
    sizes = f"{format_size(payload['before'])} -> {format_size(payload['after'])} on the host"
    removed = f"removed {_files(payload)}" if payload["files"] else "nothing to remove"
    console.print(printable(f"{removed}; {sizes}: {payload['output']}"))
    if payload["advice"] is not None:
        console.print(payload["advice"])
    if payload["give_back"] is not None:
        console.print(printable(f"the image as it was is the snapshot {payload['snapshot']!r}."))
        console.print("Its space comes back only when that is deleted; once you trust the result:")
        console.print(printable(f"  {payload['give_back']}"))


def _read_by(readers: Sequence[Mapping[str, Any]]) -> str:
    """Who else has read the result, partition by partition; or why nobody has."""
    several = len(readers) > 1
    return "".join(
        (f"; on {placed(each)} " if several else "; ")
        + (f"{each['reader']} finds the same {each['names']} names" if each["reader"] else each["note"])
        for each in readers
    )
