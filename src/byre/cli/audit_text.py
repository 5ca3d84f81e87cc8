"""An audit on the terminal: the verdict first, then what it rests on. Short: the whole is in the other reports."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from byre.cli.layout import facts, title
from byre.cli.output import printable
from byre.reports.sentences import heading, verdict

if TYPE_CHECKING:
    from byre.audit.judging import Found, Prediction, Report
    from byre.cli.output import Printer

STYLES = {"A": "bold green", "B": "bold green", "C": "bold yellow", "D": "bold red", "F": "bold red"}
MAX_NOTES = 12
MAX_FINDINGS = 50
MAX_SENTENCE = 100


def print_report(console: Printer, report: Report) -> None:
    """One image."""
    console.print(printable(heading(report)), style=STYLES[report.grade])
    console.print(f"  {printable(verdict(report))}")
    if not report.extra_quality:
        console.print(f"  {printable(report.reason)}.")
    console.print()
    rows = [("system", report.system or "none was found")]
    rows += [(each.question.capitalize(), f"{each.verdict:<8}{_short(each.sentence)}") for each in report.answers]
    rows += _elsewhere([each for each in report.predictions if each.target not in report.targets])
    rows += _looked(report)
    facts(console, rows)
    counting = [each for each in report.findings if each.counts]
    grave = [each for each in counting if each.severity != "low"]
    for found in grave[:MAX_FINDINGS]:
        console.print()
        _print_finding(console, found)
    if len(grave) > MAX_FINDINGS:
        console.print(f"\n  and {len(grave) - MAX_FINDINGS} more: '--report FILE.html' shows all.")
    _print_rows(console, "notes", [each for each in counting if each.severity == "low"])
    _print_rows(console, "waived", [each for each in report.findings if each.waiver is not None])
    known = Counter(each.rule.id for each in report.findings if each.waiver is None and each.new is False)
    if known:
        console.print()
        title(console, f"known from the baseline ({known.total()})")
        console.print(f"  {', '.join(f'{rule} ({count})' if count > 1 else rule for rule, count in known.items())}")
    if report.notices:
        console.print()
    for notice in report.notices:
        console.print(f"  {printable(notice)}")
    console.print()
    console.print(f"  {report.standard}. 'byre explain RULE' tells more of a finding.", style="dim")


def _short(text: str) -> str:
    return text if len(text) <= MAX_SENTENCE else text[: MAX_SENTENCE - 3] + "..."


def _elsewhere(others: list[Prediction]) -> list[tuple[str, str]]:
    """The other machines, one line for each thing that can be said of them."""
    rows: list[tuple[str, str]] = []
    for starts, words in ((True, "would start"), (False, "would not start"), (None, "can't be told")):
        for rule in dict.fromkeys(each.rule for each in others if each.starts is starts):
            names = ", ".join(each.target for each in others if each.starts is starts and each.rule == rule)
            rows.append(("" if rows else "elsewhere", f"{words}: {names}{f' ({rule})' if rule else ''}"))
    return rows


def _looked(report: Report) -> list[tuple[str, str]]:
    """What looked into the files, with the age of what it knows; what didn't is named as well."""
    rows = []
    for each in report.profile.looked:
        if each.state == "not checked":
            continue
        date = f" of {each.date}" if each.date else ""
        skipped = f", {each.skipped} files not looked into" if each.skipped else ""
        said = (
            f"failed: {each.problem}" if each.state == "failed" else f"{each.about}{date}, {each.hits} hits{skipped}"
        )
        rows.append((each.name, said))
    unused = [each.name for each in report.profile.looked if each.state == "not checked"]
    return [*rows, *([("not checked", ", ".join(unused))] if unused else [])]


def _print_finding(console: Printer, found: Found) -> None:
    row = found.finding
    target = f" for {row.target}" if row.target else ""
    title(console, f"{found.severity}  {found.rule.id}{target}: {row.consequence}")
    facts(console, [("where", row.where), ("found", row.evidence), ("to mend it", found.rule.remedy)])


def _print_rows(console: Printer, what: str, rows: list[Found]) -> None:
    if not rows:
        return
    console.print()
    title(console, f"{what} ({len(rows)})")
    facts(console, [(each.rule.id, _row(each)) for each in rows[:MAX_NOTES]])
    if len(rows) > MAX_NOTES:
        console.print(f"  and {len(rows) - MAX_NOTES} more: '--report FILE.html' shows all.")


def _row(found: Found) -> str:
    text = f"{found.finding.where}: {found.finding.evidence}"
    waiver = found.waiver
    return text if waiver is None else f"{text} ({waiver.who}, until {waiver.expires}: {waiver.reason})"
