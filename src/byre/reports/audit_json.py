"""A report as values for JSON: ``byre/audit/1`` for one image, ``byre/audits/1`` for several. Pure.

Texts are the guest's own, unescaped: that is for whoever shows them. ``docs/schemas/`` has the JSON Schemas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from byre import __version__
from byre.audit.judging import Found, Report
from byre.audit.rule import QUESTIONS, SEVERITIES
from byre.audit.running import Failure
from byre.reports.sentences import verdict

ONE = "byre/audit/1"
SEVERAL = "byre/audits/1"


def as_json(report: Report) -> dict[str, Any]:
    """The fields of ``byre/audit/1``, without ``schema``."""
    return {
        "byre": __version__,
        "standard": report.standard,
        "image": report.image,
        "system": report.system,
        "targets": list(report.targets),
        "verdict": verdict(report),
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
            }
            for each in report.answers
        ],
        "predictions": [dataclasses.asdict(each) for each in report.predictions],
        "counts": {
            severity: sum(each.severity == severity and each.counts for each in report.findings)
            for severity in SEVERITIES
        },
        "findings": [finding_json(each) for each in report.findings],
        "guest": dataclasses.asdict(report.profile),
        "notices": list(report.notices),
    }


def several_json(results: Sequence[Report | Failure]) -> dict[str, Any]:
    """The fields of ``byre/audits/1``, without ``schema``: every report, and what couldn't be audited."""
    return {
        "byre": __version__,
        "reports": [{"schema": ONE, **as_json(each)} for each in results if isinstance(each, Report)],
        "failed": [
            {
                "image": each.image,
                "error": each.error.kind,
                "exit_status": each.error.exit_code,
                "message": str(each.error),
            }
            for each in results
            if isinstance(each, Failure)
        ],
    }


def finding_json(found: Found) -> dict[str, Any]:
    """One finding. ``counts``: it counts for the exit status."""
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
        "fingerprint": found.fingerprint,
        "counts": found.counts,
        "new": found.new,
        "waiver": dataclasses.asdict(found.waiver) if found.waiver is not None else None,
    }
