"""The page of what slimming did, or would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from byre.reports.html.frame import data_uri, render_page
from byre.units import format_size


def slim_page(payload: Mapping[str, Any], screenshot: bytes | None = None) -> str:
    """The page for one result of ``byre slim``, as its JSON has it (``byre/slim/1``). ``screenshot``: the last
    picture of the result's boot test, as PNG."""
    facts = [("result", payload["output"] or "nothing written")]
    if payload["after"] is not None:
        facts += [("before", format_size(payload["before"])), ("after", format_size(payload["after"]))]
    facts += [(f"profile {name} would give", format_size(size)) for name, size in payload["profiles"].items()]
    proof = payload["proof"]
    if proof is not None:
        facts.append(("proved", f"{proof['compared']} streams are what they were, {proof['written']} as planned"))
        facts += [(row["question"], f"{row['before']} before, {row['after']} after") for row in proof["audit"]]
    if payload.get("boot") is not None:
        facts.append(("boot test", payload["boot"]["sentence"]))
    return render_page(
        "slim.html.j2",
        title=f"{'Not slimmed' if payload['refused'] else 'Slimmed'}: {payload['image']}",
        facts=facts,
        goes=[
            (each["id"], format_size(each["allocated"]), each["files"], each["title"], each["consequence"])
            for each in payload["parts"]
        ],
        reasons=_chains(payload["reasons"]),
        kept=_chains(payload["kept"]),
        screenshot=data_uri(screenshot),
    )


def _chains(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["component"], " -> ".join(each["chain"])) for each in rows]
