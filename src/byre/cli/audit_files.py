"""The files that ``byre audit`` writes: reports in four forms and the list of what is installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from byre.cli.audit_boots import Trials, sections, with_boots
from byre.cli.publishing import publish, refuse_taken
from byre.errors import UsageError

if TYPE_CHECKING:
    from byre.audit.judging import Report
    from byre.audit.running import Failure

SUFFIXES = (".html", ".json", ".sarif", ".md")


def check_targets(reports: Sequence[Path], sbom: Path | None) -> None:
    """Refuse what can't be written before the work, not after it."""
    for path in reports:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"a report's name ends in {', '.join(SUFFIXES)}", path=path)
    paths = [*reports, *([sbom] if sbom is not None else [])]
    for path in paths:
        refuse_taken(path)
    if len({path.absolute() for path in paths}) != len(paths):
        raise UsageError("two reports would have the same name", path=paths[0])


def write_report(path: Path, results: Sequence[Report | Failure], *, several: bool, trials: Trials) -> None:
    """The reports of all images as one file, in the form that its name says."""
    suffix = path.suffix.lower()
    if suffix == ".md":
        from byre.reports.audit_markdown import as_markdown

        text = as_markdown(results)
    elif suffix == ".sarif":
        from byre.reports.sarif import as_sarif

        text = json.dumps(as_sarif(results), indent=1) + "\n"
    elif suffix == ".html":
        from byre.reports.html import as_html

        text = as_html(results, boots=sections(trials))
    else:
        text = json_text(results, several=several, trials=trials)
    publish(path, text)


def json_text(results: Sequence[Report | Failure], *, several: bool, trials: Trials) -> str:
    """``byre/audit/1``, or ``byre/audits/1`` where several images were asked for."""
    from byre.audit.judging import Report
    from byre.reports.audit_json import ONE, SEVERAL, as_json, several_json

    only = results[0]
    if several or not isinstance(only, Report):
        payload = several_json(results)
        payload["reports"] = [with_boots(each, trials) for each in payload["reports"]]
        return json.dumps({"schema": SEVERAL, **payload}, indent=2) + "\n"
    return json.dumps({"schema": ONE, **with_boots(as_json(only), trials)}, indent=2) + "\n"
