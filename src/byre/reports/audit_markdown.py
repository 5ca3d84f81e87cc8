"""Reports as a Markdown page. Pure; text from the guest is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from byre.audit.judging import Found, Report
from byre.audit.profile import Looked
from byre.audit.running import Failure
from byre.reports.printable import printable
from byre.reports.sentences import heading, verdict

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: markup and control characters lose their meaning."""
    marked = _MARKUP.sub(r"\\\1", printable(text))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def as_markdown(results: Sequence[Report | Failure]) -> str:
    """The reports as one page."""
    return "\n".join(_section(each) if isinstance(each, Report) else _failed(each) for each in results)


def _failed(failure: Failure) -> str:
    said = markdown_text
    return f"# {said(failure.image)}: not audited\n\n{said(str(failure.error))}\n"


def _section(report: Report) -> str:
    said = markdown_text
    lines = [
        f"# {said(heading(report))}",
        "",
        said(verdict(report)),
        "",
        f"{said(report.reason)}. Standard: {report.standard}, for {', '.join(report.targets)}.",
        "",
        said(report.system or "No installed system was found."),
        "",
        "| question | verdict | |",
        "|---|---|---|",
        *(f"| {each.question.capitalize()} | {each.verdict} | {said(each.sentence)} |" for each in report.answers),
        "",
        "## On each machine",
        "",
        *(
            f"- {said(each.sentence)}{f' To change: {said(each.remedy)}.' if each.remedy else ''}"
            for each in report.predictions
        ),
        "",
        "## Findings",
        "",
        *(_finding(each) for each in report.findings),
    ]
    if not report.findings:
        lines.append("None.")
    unused = [
        f"{said(each.name)}{f' ({said(each.problem)})' if each.problem else ''}"
        for each in report.profile.looked
        if each.state == "not checked"
    ]
    lines += ["", *(f"- {said(_scan(each))}" for each in report.profile.looked if each.state != "not checked")]
    lines += [f"- Not checked: {', '.join(unused)}."] if unused else []
    lines += [f"- {said(notice)}" for notice in report.notices]
    return "\n".join(lines).rstrip() + "\n"


def _scan(row: Looked) -> str:
    date = f" of {row.date}" if row.date else ""
    return f"{row.name}: {row.about}{date}, {row.hits} hits, {row.skipped} files not looked into"


def _finding(found: Found) -> str:
    said, row = markdown_text, found.finding
    where = f" ({row.target})" if row.target else ""
    known = " (known from the baseline)" if found.new is False else ""
    waiver = found.waiver
    waived = (
        f" **Waived** by {said(waiver.who)} until {waiver.expires}: {said(waiver.reason)}."
        if waiver is not None
        else ""
    )
    return (
        f"- **{found.severity} {found.rule.id}**{where}{known} {said(row.where)}: {said(row.evidence)}; "
        f"{said(row.consequence)}. To mend it: {said(found.rule.remedy)}.{waived}"
    )
