"""The page of what slimming did, or would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from byre.reports.html.frame import data_uri, render_page
from byre.reports.slim_tree import part_lines, placed, summed
from byre.units import format_size

FOLDERS, NAMED = 100, 200


def slim_page(payload: Mapping[str, Any], screenshot: bytes | None = None) -> str:
    """The page for one result of ``byre slim``, as its JSON has it (``byre/slim/1``). ``screenshot``: the last
    picture of the result's boot test, as PNG."""
    facts = [("result", payload["output"] or "nothing written"), ("profile", payload["profile"] or "none")]
    proof = payload["proof"]
    facts.append(("would go" if proof is None else "what went", summed(payload)))
    if len(payload["drives"]) > 1:
        facts += [(f"of that on {each['drive']}", summed(each)) for each in payload["drives"]]
    if proof is not None:
        facts.append(("proved", f"{proof['compared']} streams are what they were, {proof['written']} as planned"))
        several = len(proof["volumes"]) > 1
        facts += [
            (f"read alike on {placed(each)} by" if several else "read alike by", each["reader"] or each["note"])
            for each in proof["readers"]
        ]
    if payload["boot"] is not None:
        facts.append(("boot test", payload["boot"]["sentence"]))
    if payload["give_back"] is not None:
        facts.append(("as it was", f"the snapshot {payload['snapshot']!r}"))
        facts.append(("its space comes back with", payload["give_back"]))
    return render_page(
        "slim.html.j2",
        title=f"{_done(payload)}: {payload['image']}",
        facts=facts,
        sizes=_sizes(payload),
        goes=[
            {
                "id": each["id"],
                "lost": _lost(each),
                "sum": summed(each),
                "lines": part_lines(each, folders=FOLDERS, named=NAMED),
            }
            for each in payload["parts"]
        ],
        whole=[each["said"] for each in payload["edits"]] + list(payload["notes"]),
        left=[(each["component"], summed(each), each["why"]) for each in payload["left"]],
        profiles=_profiles(payload),
        reasons=_chains(payload["reasons"]),
        kept=_chains(payload["kept"]),
        screenshot=data_uri(screenshot),
    )


def _done(payload: Mapping[str, Any]) -> str:
    if payload["refused"]:
        return "Not slimmed"
    return "Slimmed" if payload["output"] is not None else "A plan, not carried out"


def _lost(part: Mapping[str, Any]) -> str:
    """What is lost, behind the title where the id doesn't say it."""
    named = part["title"].lower() == part["id"].replace("-", " ")
    return str(part["consequence"]) if named else f"{part['title']}: {part['consequence']}"


def _sizes(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What, and what it was before and is after; nothing where nothing was written."""
    proof = payload["proof"]
    if proof is None or payload["after"] is None:
        return []
    sizes = ("the image's files on the host", format_size(payload["before"]), format_size(payload["after"]))
    grades = [(row["question"], row["before"], row["after"]) for row in proof["audit"]]
    return [(what, before if before == after else f"{before} -> {after}") for what, before, after in (sizes, *grades)]


def _profiles(payload: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Each profile with what it would have given and the components that it adds to the one before."""
    return [
        (
            name,
            format_size(size),
            ", ".join(
                f"{each['id']} ({format_size(each['allocated'])})"
                for each in payload["present"]
                if each["profile"] == name
            ),
        )
        for name, size in payload["profiles"].items()
    ]


def _chains(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["component"], " -> ".join(each["chain"])) for each in rows]
