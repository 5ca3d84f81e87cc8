"""An earlier report as a baseline: what it has is known, and only what it hasn't counts. Pure but for reading it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from byre.audit.judging import Report, fingerprint
from byre.audit.rule import SEVERITIES, rank
from byre.errors import UsageError
from byre.storage.small_file import read_small_file

MAX_FILE = 256 << 20
SCHEMAS = ("byre/audit/1", "byre/audits/1")


@dataclass(frozen=True, slots=True)
class Baseline:
    """Findings of earlier reports: for each image how often each fingerprint was seen, at which highest severity."""

    images: Mapping[str, Mapping[str, tuple[int, str]]]


def read_baseline(path: Path) -> Baseline:
    """A report that ``byre audit --report FILE.json`` or ``--json`` wrote; UsageError where it is none,
    and what ``read_small_file`` raises."""
    data = read_small_file(path, MAX_FILE)
    try:
        return parse_baseline(json.loads(data))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        hint = "A baseline is what 'byre audit IMAGE --report FILE.json' wrote."
        raise UsageError(
            "isn't an audit report in JSON", path=path, expected=" or ".join(SCHEMAS), hint=hint
        ) from error


def parse_baseline(payload: Mapping[str, Any]) -> Baseline:
    """The baseline in a report's fields. Raises ValueError, KeyError or TypeError where they are others."""
    if payload["schema"] not in SCHEMAS:
        raise ValueError(payload["schema"])
    reports = payload["reports"] if payload["schema"] == SCHEMAS[1] else [payload]
    images: dict[str, dict[str, tuple[int, str]]] = {}
    for report in reports:
        counts: Counter[str] = Counter()
        worst: dict[str, str] = {}
        for row in report["findings"]:
            target = row["target"]
            if (
                row["severity"] not in SEVERITIES
                or not isinstance(row["rule"], str)
                or not isinstance(row["where"], str)
            ):
                raise ValueError(row["severity"])
            key = fingerprint(row["rule"], row["where"], target if isinstance(target, str) else None)
            counts[key] += 1
            worst[key] = max(worst.get(key, "low"), row["severity"], key=rank)
        images[str(report["image"])] = {key: (counts[key], worst[key]) for key in counts}
    return Baseline(images)


def apply_baseline(report: Report, baseline: Baseline, *, alone: bool) -> Report:
    """The report with each finding marked new or known. ``alone``: the only image of this audit, which a baseline of
    one image is for, whatever that was called then. A finding that is graver now is new."""
    seen = _row(report, baseline, alone=alone)
    if seen is None:
        notice = "the baseline has no report of this image: every finding is new"
        marked = tuple(replace(found, new=True) for found in report.findings)
        return replace(report, findings=marked, notices=(*report.notices, notice))
    left = {key: count for key, (count, _) in seen.items()}
    findings = []
    for found in report.findings:
        key = found.fingerprint
        known = left.get(key, 0) > 0 and rank(found.severity) <= rank(seen[key][1])
        if known:
            left[key] -= 1
        findings.append(replace(found, new=not known))
    gone = sum(left.values())
    notices = (
        (*report.notices, f"{gone} of the baseline's findings {'is' if gone == 1 else 'are'} gone") if gone else ()
    )
    return replace(report, findings=tuple(findings), notices=notices or report.notices)


def _row(report: Report, baseline: Baseline, *, alone: bool) -> Mapping[str, tuple[int, str]] | None:
    images = baseline.images
    if alone and len(images) == 1:
        return next(iter(images.values()))
    if report.image in images:
        return images[report.image]
    named = [row for image, row in images.items() if PurePath(image).name == PurePath(report.image).name]
    return named[0] if len(named) == 1 else None
