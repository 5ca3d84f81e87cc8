#!/usr/bin/env python3
"""Runs the mutation suite and writes ``docs/accuracy.md``: how often the audit is right, question by question.

The mutations and the healthy systems are those of the tests (``tests/builders/mutations.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from builders.audited import facts_of  # noqa: E402
from builders.mutations import Mutation, all_healthy, all_mutations  # noqa: E402
from byre.audit.catalogue import RULES  # noqa: E402
from byre.audit.judging import Report, judge  # noqa: E402
from byre.audit.platforms import platform_named  # noqa: E402
from byre.audit.rule import QUESTIONS, STANDARD, rank  # noqa: E402

PAGE = ROOT / "docs" / "accuracy.md"


@dataclass
class Score:
    """One question's count of (mutation, rule) pairs. Mutable: it counts."""

    mutations: int = 0
    found: int = 0
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)

    @property
    def precision(self) -> str:
        return _share(self.found, self.found + len(self.false))

    @property
    def recall(self) -> str:
        return _share(self.found, self.found + len(self.missed))


@dataclass
class Measured:
    """What a run of the suite gave. Mutable: it counts."""

    scores: dict[str, Score] = field(default_factory=lambda: {question: Score() for question in QUESTIONS})
    predicted: int = 0
    mispredicted: list[str] = field(default_factory=list)
    mutations: int = 0
    healthy: int = 0
    alarms: list[str] = field(default_factory=list)


def measure() -> Measured:
    """Every mutation and every healthy system, audited in memory."""
    done = Measured()
    for mutation in all_mutations():
        done.mutations += 1
        _count(done, mutation, judge(facts_of(mutation.plant), (platform_named(mutation.target),)))
    for name, plant in all_healthy().items():
        done.healthy += 1
        done.alarms += [f"{name}: {rule}" for rule in sorted(_spoken(judge(facts_of(plant)), "medium"))]
    return done


def _count(done: Measured, mutation: Mutation, report: Report) -> None:
    """Found and missed over all rules that must fire; false over what spoke at medium and above without being told
    to. Low findings beyond those are no alarms: a healthy system has them too."""
    wanted = mutation.fires | mutation.notes
    spoken = _spoken(report, "low")
    for question in {RULES[rule].question for rule in wanted}:
        done.scores[question].mutations += 1
    for rule in sorted(wanted):
        score = done.scores[RULES[rule].question]
        if rule in spoken:
            score.found += 1
        else:
            score.missed.append(f"{mutation.name}: {rule}")
    for rule in sorted(_spoken(report, "medium") - wanted):
        done.scores[RULES[rule].question].false.append(f"{mutation.name}: {rule}")
    told = next(each for each in report.predictions if each.target == mutation.target)
    says = mutation.says
    right = told.starts is True if says is None else told.starts is False and says.lower() in told.sentence.lower()
    done.predicted += right
    if not right:
        done.mispredicted.append(mutation.name)


def _spoken(report: Report, least: str) -> set[str]:
    return {found.rule.id for found in report.findings if rank(found.severity) >= rank(least)}


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else "-"


def page(done: Measured) -> str:
    """``docs/accuracy.md``."""
    tripped = {rule for mutation in all_mutations() for rule in mutation.fires | mutation.notes}
    rows = []
    for question, score in done.scores.items():
        own = [rule for rule in RULES.values() if rule.question == question]
        if not own:
            rows.append(f"| {question.capitalize()} | 0 | | | | | | |")
            continue
        rows.append(
            f"| {question.capitalize()} | {len(own)} | {score.mutations} | {score.found} | {len(score.missed)} | "
            f"{len(score.false)} | {score.precision} | {score.recall} |"
        )
    untried = sorted(set(RULES) - tripped)
    wrong = [each for score in done.scores.values() for each in (*score.missed, *score.false)]
    return "\n".join(
        [
            "# Accuracy",
            "",
            f"Written by `tools/measure_accuracy.py` from the mutation suite; standard {STANDARD}. A test holds the "
            "page to it.",
            "",
            f"{done.mutations} defects, each planted alone in a copy of the specimen, and {done.healthy} healthy "
            "systems that look odd.",
            "",
            "| question | rules | defects | found | missed | false alarms | precision | recall |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            f"- Predictions of what the machine would do that are right: {done.predicted} of {done.mutations}."
            + _listed(" Wrong: ", done.mispredicted),
            f"- Alarms at medium and above on the {done.healthy} healthy systems: {len(done.alarms)}."
            + _listed(" ", done.alarms),
            f"- Rules without a defect that trips them: {len(untried)}." + _listed(" ", untried),
            *([f"- Not as expected: {', '.join(wrong)}."] if wrong else []),
            "",
            "A defect counts for every question whose rules it must trip. *Found* and *missed* are rules that must "
            "speak; a *false alarm* is another rule that speaks at medium or above. A low finding beyond those is no "
            "alarm: healthy systems have them.",
            "",
            "## What this doesn't say",
            "",
            "Whoever planted the defects wrote the rules. The table shows that each rule finds what it is for and "
            "nothing else on a system that Byre's own builders made; it can't show what nobody thought of. Ones in "
            "every row are the aim of a regression suite, not a claim about the world. What was tried beyond it:",
            "",
            "- The boot stages and their blue screens: ReactOS 0.4.16 under QEMU, one file removed at a time "
            "(the sources of the rules say which).",
            "- Real hives (`tests/audit/test_healthy_guests.py`, field tests): those of a Windows 7 machine and of "
            "an XP user are whole, and the former's drivers and services raise no alarm where their files are there; "
            "a damaged XP hive is called damaged.",
            "- Wine's program files, 64-bit, as Debian builds them, in place of a guest's system folder, each of its "
            "programs started as a service (the same file): no library and no export that is there is called "
            "missing, no file is called damaged.",
            "",
        ]
    )


def _listed(before: str, names: Iterable[str]) -> str:
    rows = list(names)
    return f"{before}{', '.join(rows)}." if rows else ""


if __name__ == "__main__":
    PAGE.write_text(page(measure()), encoding="utf-8")
    print(PAGE)
