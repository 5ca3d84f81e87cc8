"""Reports as SARIF 2.1.0 for code scanning: a run for each image. Pure.

What viewers want beyond the schema: a physical location for each result (the image; the guest's path is a logical
one), ``security-severity`` as text, ``partialFingerprints`` that outlive a version, ``suppressions`` for what was
waived, and at most 25,000 results in a run (the limit of GitHub's upload).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from byre import __version__
from byre.audit.judging import Found, Report
from byre.audit.rule import Rule
from byre.audit.running import Failure
from byre.reports.printable import printable

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MAX_RESULTS = 25_000
LEVELS = {"low": "note", "medium": "warning", "high": "error", "critical": "error"}
SCORES = {"low": "2.0", "medium": "5.5", "high": "8.0", "critical": "9.5"}


def as_sarif(results: Sequence[Report | Failure]) -> dict[str, Any]:
    """The log with a run for each image, the ones that couldn't be audited too."""
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [_run(each) if isinstance(each, Report) else _failed(each) for each in results],
    }


def _run(report: Report) -> dict[str, Any]:
    findings = report.findings[:MAX_RESULTS]  # the gravest come first
    rules = list({found.rule.id: found.rule for found in findings}.values())
    index = {rule.id: number for number, rule in enumerate(rules)}
    seen: Counter[str] = Counter()
    rows = []
    for found in findings:
        seen[found.fingerprint] += 1
        rows.append(_result(found, report.image, index[found.rule.id], seen[found.fingerprint]))
    return {
        "tool": _tool(rules, report.standard),
        "automationDetails": {"id": f"byre/{printable(report.image)}/"},
        "columnKind": "utf16CodeUnits",
        "artifacts": [{"location": {"uri": uri(report.image)}, "roles": ["analysisTarget"]}],
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": _notifications(report)}],
        "results": rows,
        "properties": {"grade": report.grade, "extraQuality": report.extra_quality, "targets": list(report.targets)},
    }


def _failed(failure: Failure) -> dict[str, Any]:
    said = {"level": "error", "message": {"text": message(str(failure.error))}}
    return {
        "tool": _tool([], None),
        "automationDetails": {"id": f"byre/{printable(failure.image)}/"},
        "invocations": [
            {
                "executionSuccessful": False,
                "exitCode": failure.error.exit_code,
                "toolExecutionNotifications": [said],
            }
        ],
        "results": [],
    }


def _tool(rules: Sequence[Rule], standard: str | None) -> dict[str, Any]:
    driver: dict[str, Any] = {
        "name": "Byre",
        "version": __version__,
        "rules": [_rule(rule) for rule in rules],
    }
    if standard is not None:
        driver["properties"] = {"standard": standard}
    return {"driver": driver}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.id.replace("-", ""),
        "shortDescription": {"text": message(f"{rule.title}.")},
        "fullDescription": {"text": message(f"Looks at: {rule.looks_at}. Why: {rule.why}. Source: {rule.source}.")},
        "help": {"text": message(f"What the user would see: {rule.symptom}. To mend it: {rule.remedy}.")},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
        "properties": {
            "security-severity": SCORES[rule.severity],
            "tags": [rule.question],
            "precision": "high",
            "required": rule.required,
        },
    }


def _result(found: Found, image: str, index: int, number: int) -> dict[str, Any]:
    row = found.finding
    machine = f" (for {row.target})" if row.target else ""
    result: dict[str, Any] = {
        "ruleId": found.rule.id,
        "ruleIndex": index,
        "level": LEVELS[found.severity],
        "message": {"text": message(f"{row.where}: {row.evidence}. Consequence{machine}: {row.consequence}.")},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": uri(image)}, "region": {"startLine": 1}},
                "logicalLocations": [{"fullyQualifiedName": printable(row.where), "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"primaryLocationLineHash": f"{found.fingerprint}:{number}"},
        "properties": {"security-severity": SCORES[found.severity], "severity": found.severity},
    }
    if found.new is not None:
        result["baselineState"] = "new" if found.new else "unchanged"
    if found.waiver is not None:
        waiver = found.waiver
        said = printable(f"{waiver.reason} ({waiver.who}, until {waiver.expires})")
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": said}]
    return result


def _notifications(report: Report) -> list[dict[str, Any]]:
    """What couldn't be looked at, and what else the report says aside."""
    rows = [
        {
            "level": "warning",
            "message": {"text": message(f"{unread.rule} is unknown: {unread.reason}")},
            "associatedRule": {"id": unread.rule},
        }
        for answer in report.answers
        for unread in answer.unread
    ]
    said = list(report.notices)
    said += [f"{each.name}: {each.problem or each.state}" for each in report.profile.looked if each.state != "used"]
    if len(report.findings) > MAX_RESULTS:
        said.append(f"{len(report.findings) - MAX_RESULTS} lesser findings are left out here")
    return [*rows, *({"level": "note", "message": {"text": message(text)}} for text in said)]


def message(text: str) -> str:
    """Text for a SARIF message, in which ``[text](place)`` would be a link: brackets lose that meaning."""
    return printable(text).replace("[", "\\[").replace("]", "\\]")


def uri(image: str) -> str:
    """The image as a URI reference: an address as it is, a path with everything strange percent-encoded."""
    if re.match(r"[a-z][a-z0-9+.-]+://", image):
        return quote(image, safe="/:?=&%#+,;~", errors="replace")
    path = quote(image.encode("utf-8", "surrogateescape"), safe="/")
    return path or "image"
