"""The audit's page: values for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from byre.audit.judging import Report
from byre.audit.rule import QUESTIONS, SEVERITIES
from byre.audit.running import Failure
from byre.reports.audit_json import ONE, SEVERAL, as_json, several_json
from byre.reports.html.frame import data_uri, render_page, script_json
from byre.reports.html.picture import WIDTH, pieces
from byre.reports.html.sections import BootSection
from byre.reports.sentences import GRADES, heading, outcome, verdict

MAX_FINDINGS = 2_000
"""Of one image on the page; its machine-readable copy has all."""
MAX_ROWS = 1_000
NO_BOOTS: Mapping[str, BootSection] = MappingProxyType({})
MARKS = {"pass": "✓", "notes": "✎", "fail": "✕", "unknown": "?"}


def as_html(
    results: Sequence[Report | Failure], *, boots: Mapping[str, BootSection] = NO_BOOTS, title: str | None = None
) -> str:
    """The page for one or several images. ``boots``: boot tests by the image's name as the report has it."""
    reports = [each for each in results if isinstance(each, Report)]
    several = len(results) > 1
    copy: dict[str, Any]
    if several or not reports:
        copy = {"schema": SEVERAL, **several_json(results)}
    else:
        copy = {"schema": ONE, **as_json(reports[0])}
    return render_page(
        "audit.html.j2",
        title=title or (f"{len(results)} images audited" if several else heading(reports[0]) if reports else "audit"),
        images=[_image(number, each, boots) for number, each in enumerate(results, 1)],
        several=several,
        copy=script_json(copy),
        width=WIDTH,
        marks=MARKS,
        grades=GRADES,
        max_rows=MAX_ROWS,
    )


def _image(number: int, result: Report | Failure, boots: Mapping[str, BootSection]) -> dict[str, Any]:
    if isinstance(result, Failure):
        return {"id": f"image-{number}", "failed": str(result.error), "name": result.image, "report": None}
    counting = [each for each in result.findings if each.counts]
    waived = [each for each in result.findings if each.waiver is not None]
    known = [each for each in result.findings if each.waiver is None and each.new is False]
    groups = [
        (severity, [each for each in counting[:MAX_FINDINGS] if each.severity == severity])
        for severity in reversed(SEVERITIES)
    ]
    boot = boots.get(result.image)
    return {
        "id": f"image-{number}",
        "failed": None,
        "name": result.image,
        "report": result,
        "verdict": verdict(result),
        "asks": QUESTIONS,
        # The table names the machine already.
        "outcomes": [outcome(each) for each in result.predictions],
        "groups": [(severity, rows) for severity, rows in groups if rows],
        "counting": len(counting),
        "left_out": max(0, len(counting) - MAX_FINDINGS),
        "waived": waived[:MAX_FINDINGS],
        "known": known[:MAX_FINDINGS],
        "pieces": pieces(result.profile.space),
        "used": pieces([each for each in result.profile.space if each.kind != "free"]),
        "total": sum(each.bytes for each in result.profile.space),
        "boot": boot,
        "screenshot": data_uri(boot.screenshot) if boot is not None else None,
    }
