"""The page of what differs between two images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from byre.reports.diff_rows import SECTIONS, fact_row, file_row, key_rows, range_row
from byre.reports.html.frame import render_page

KINDS = ("added", "removed", "changed", "renamed", "metadata")
"""The kinds of change that the style sheet has a colour for."""


def diff_page(payload: Mapping[str, Any]) -> str:
    """The page for one result of ``byre diff``, as its JSON has it (``byre/diff/1``)."""
    return render_page(
        "diff.html.j2",
        title=f"{payload['image']} → {payload['other']}",
        blocks=payload["blocks"],
        same=payload["same"],
        complete=payload["complete"],
        folded=payload["folded"],
        kinds=KINDS,
        sections=_sections(payload),
    )


def _sections(payload: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], Sequence[Sequence[str]]]]:
    """Name, columns and rows of each table, the empty ones too."""
    yield "Disk", ("", "offset", "size", "where"), [range_row(each) for each in payload["disk"]]
    for system in payload["systems"]:
        for section, name in SECTIONS.items():
            rows = [fact_row(row) for row in system["facts"] if row.section == section]
            yield f"{name[0].upper()}{name[1:]}", ("", "name", "what"), rows
    for volume in payload["volumes"]:
        rows = [file_row(row) for row in volume["files"]]
        yield f"Files of partition {volume['partition']}", ("", "size", "path", "what"), rows
    for system in payload["systems"]:
        rows = [row for change in system["registry"] for row in key_rows(change)]
        yield f"Registry of {system['root']}", ("", "key, value", "data"), rows
    yield "Problems", ("what",), [[problem.message] for problem in payload["problems"]]
    yield "Folded away", ("count", "why"), [[str(count), reason] for reason, count in payload["folded"].items()]
