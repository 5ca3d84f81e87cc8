"""A report as values for JSON and as a Markdown page. Pure; text from the guest is escaped."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from byre.audit.judging import Found, Report
from byre.audit.rule import QUESTIONS

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|[\ud800-\udfff]")
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


def as_json(report: Report) -> dict[str, Any]:
    """The fields of ``byre/audit/1``."""
    return {
        "standard": report.standard,
        "image": report.image,
        "system": report.system,
        "targets": list(report.targets),
        "grade": report.grade,
        "extra_quality": report.extra_quality,
        "reason": report.reason,
        "questions": [
            {
                "question": each.question,
                "asks": QUESTIONS[each.question],
                "verdict": each.verdict,
                "findings": each.findings,
                "worst": each.worst,
                "sentence": each.sentence,
                "unread": [{"rule": row.rule, "reason": row.reason, "target": row.target} for row in each.unread],
                "checked": list(each.checked),
                "not_checked": list(each.not_checked),
            }
            for each in report.answers
        ],
        "predictions": [dataclasses.asdict(each) for each in report.predictions],
        "findings": [_finding_json(each) for each in report.findings],
        "notices": list(report.notices),
    }


def _finding_json(found: Found) -> dict[str, Any]:
    row = found.finding
    return {
        "rule": found.rule.id,
        "question": found.rule.question,
        "title": found.rule.title,
        "severity": found.severity,
        "where": row.where,
        "evidence": row.evidence,
        "consequence": row.consequence,
        "stage": row.stage.name.lower() if row.stage is not None else None,
        "target": row.target,
        "remedy": found.rule.remedy,
    }


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: markup and control characters lose their meaning."""
    plain = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    marked = _MARKUP.sub(r"\\\1", plain)
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def as_markdown(report: Report) -> str:
    """The report as a page."""
    said = markdown_text
    lines = [
        f"# {said(report.image)}: grade {report.grade}",
        "",
        f"{said(report.reason)}. Standard: {report.standard}, for {', '.join(report.targets)}.",
        "",
        said(report.system or "No installed system was found."),
        "",
        "| question | verdict | |",
        "|---|---|---|",
        *(f"| {each.question.capitalize()} | {each.verdict} | {said(each.sentence)} |" for each in report.answers),
        "",
        *(f"- {each.question.capitalize()}, checked: {said(row)}" for each in report.answers for row in each.checked),
        *(
            f"- {each.question.capitalize()}, not checked: {said(row)}"
            for each in report.answers
            for row in each.not_checked
        ),
        "",
        "## On each machine",
        "",
        *(f"- {said(each.sentence)}" for each in report.predictions),
        "",
        "## Findings",
        "",
    ]
    for found in report.findings:
        row = found.finding
        where = f" ({row.target})" if row.target else ""
        lines += [
            f"- **{found.severity} {found.rule.id}**{where} {said(row.where)}: {said(row.evidence)}; "
            f"{said(row.consequence)}. To mend it: {said(found.rule.remedy)}."
        ]
    if not report.findings:
        lines.append("None.")
    lines += ["", *(f"- {said(notice)}" for notice in report.notices)]
    return "\n".join(lines).rstrip() + "\n"
