"""What ``byre slim`` shows in a terminal."""

from __future__ import annotations

from typing import Any

from byre.cli.layout import table
from byre.cli.output import Printer, printable
from byre.lite.slim_plan import Part, worth
from byre.units import format_size

SHOWN = 20


def show_list(console: Printer, parts: tuple[Part, ...]) -> None:
    rows = [
        (
            part.component.id,
            part.component.profile,
            format_size(part.allocated),
            str(len(part.files)),
            ", ".join(part.dependents) or "-",
            part.component.consequence,
        )
        for part in parts
    ]
    table(
        console,
        ("component", "profile", "takes", "files", "needed by", "what is lost"),
        rows,
        right=("takes", "files"),
    )
    _print_worth(console, dict(worth(parts)))


def _print_worth(console: Printer, profiles: dict[str, int]) -> None:
    console.print("each profile would give: " + ", ".join(f"{name} {format_size(n)}" for name, n in profiles.items()))


def show_result(console: Printer, payload: dict[str, Any]) -> None:
    rows = [
        (each["id"], format_size(each["allocated"]), str(each["files"]), each["consequence"])
        for each in payload["parts"]
    ]
    table(console, ("component", "takes", "files", "what is lost"), rows, right=("takes", "files"))
    for each in payload["services"]:
        console.print(printable(f"the service {each} is disabled"))
    if payload["classes"]:
        console.print(f"{len(payload['classes'])} registered classes go with their servers")
    for each in payload["kept"][:SHOWN]:
        console.print(printable(f"kept: {each['component']}: {' -> '.join(each['chain'])}"))
    for each in payload["reasons"][:SHOWN]:
        console.print(printable(f"needed: {each['component']}: {' -> '.join(each['chain'])}"), style="bold")
    if len(payload["reasons"]) > SHOWN:
        console.print(f"... {len(payload['reasons']) - SHOWN} more: --json")
    _print_worth(console, payload["profiles"])
    if payload["proof"] is not None:
        _print_proof(console, payload)
    elif payload["refused"]:
        ids = [each for each in dict.fromkeys(row["component"] for row in payload["reasons"]) if each != "dropped"]
        hint = f" Say --keep-needed, or: --keep {' --keep '.join(ids)}" if ids else " Drop less."
        console.print(f"refused: nothing was written.{hint}")
    else:
        said = "would remove" if payload["dry_run"] else "nothing to remove of"
        console.print(f"{said} {payload['files']} files, {format_size(payload['allocated'])}")


def _print_proof(console: Printer, payload: dict[str, Any]) -> None:
    proof = payload["proof"]
    verdicts = ", ".join(f"{row['question']} {row['before']} -> {row['after']}" for row in proof["audit"])
    console.print(
        f"proved: {_checked(proof['readers'])}; {proof['compared']} streams unchanged, "
        f"{proof['written']} written as planned, {proof['gone']} files gone; {verdicts}"
    )
    if payload["boot"] is not None:
        console.print(printable(f"boot test: {payload['boot']['sentence']}"))
    if payload["refused"]:
        console.print("refused: nothing was written. Drop less, or see what the result lacks.")
        return
    sizes = f"{format_size(payload['before'])} -> {format_size(payload['after'])}"
    console.print(printable(f"removed {payload['files']} files; {sizes}: {payload['output']}"))
    if payload["advice"] is not None:
        console.print(payload["advice"])
    if payload["give_back"] is not None:
        console.print(printable(f"the image as it was is the snapshot {payload['snapshot']!r}."))
        console.print("Its space comes back only when that is deleted; once you trust the result:")
        console.print(printable(f"  {payload['give_back']}"))


def _checked(readers: list[dict[str, Any]]) -> str:
    """Who says that the file systems are sound."""
    others = sorted({each["reader"] for each in readers if each["reader"] is not None})
    said = f"file systems sound by Byre's check{''.join(f' and {name}' for name in others)}"
    notes = "".join(f"; partition {each['partition']}: {each['note']}" for each in readers if each["note"])
    return printable(f"{said}{notes}")
