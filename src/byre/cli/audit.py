"""``byre audit``: will it boot, where, and can it be trusted."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byre.cli.layout import facts, title
from byre.cli.options import add_image, open_image
from byre.cli.output import Output, printable
from byre.errors import ExistsError, UsageError

if TYPE_CHECKING:
    from byre.audit.judging import Found, Report
    from byre.cli.output import Printer
    from byre.cli.progress import Progress

SUMMARY = """\
Audit an image against the standard (docs/extra-quality.md): will it boot, where, and what is wrong with it.

Nothing is booted and nothing is changed. Questions that this version has no rules for are unknown, never passed."""
EXAMPLES = """
  byre audit xp.qcow2
  byre audit xp.qcow2@clean --for virtualbox --for vmware:ide
  byre audit xp.vmdk --fail-on medium --report xp.md --report xp.json
"""
VERDICTS = "   0 no finding at or above --fail-on   2 findings at or above it"
LEVELS = ("low", "medium", "high", "critical")
ASKED = ("sound", "complete", "clean", "portable", "private", "lean", "genuine")
SUFFIXES = (".json", ".md")


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument(
        "--for",
        dest="targets",
        metavar="TARGET",
        action="append",
        help="a machine it shall run on (qemu, qemu:q35, proxmox, virtualbox, vmware:ide, vmware:lsi, "
        "vmware:buslogic, hyperv); may be repeated; default qemu",
    )
    parser.add_argument(
        "--only", metavar="QUESTION", action="append", choices=ASKED, help="only this question; may be repeated"
    )
    parser.add_argument(
        "--fail-on", metavar="LEVEL", choices=LEVELS, default="high", help="low, medium, high (default) or critical"
    )
    parser.add_argument(
        "--rules",
        metavar="DIR",
        type=Path,
        help="YARA rules (*.yar, *.yara) to run over every file, beside Byre's own",
    )
    parser.add_argument(
        "--known", metavar="DB", type=Path, help="the database of known hashes; default that of 'byre known'"
    )
    parser.add_argument(
        "--clamd", metavar="SOCKET", help="ask this ClamAV daemon of every file: a socket or HOST:PORT"
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        action="append",
        default=[],
        type=Path,
        help="write the report as FILE.json or FILE.md as well; may be repeated",
    )


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.audit.running import audit_disk
    from byre.audit.scanners import Scanners
    from byre.reports.audit_json import as_json

    _check_reports(args.report)
    with open_image(args) as disk, out.progress("audit") as bar:
        report = audit_disk(
            disk,
            name=args.image,
            targets=args.targets or ("qemu",),
            only=args.only or (),
            scanners=Scanners(rules=args.rules, clamd=args.clamd, known=args.known),
            progress=lambda stage: _stage(bar, stage),
        )
    payload = as_json(report)
    for path in args.report:
        _write(path, report, payload)
    out.result("audit", payload, lambda console: _print(console, report))
    return 2 if report.at_least(args.fail_on) else 0


def _stage(bar: Progress, stage: str) -> None:
    bar.what = f"audit: {stage}"
    bar.advance(0)


def _check_reports(paths: list[Path]) -> None:
    """Refuse what can't be written before the work, not after it."""
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError("a report's name ends in .json or .md", path=path)
        if path.exists() or path.is_symlink():
            raise ExistsError("the report is there already", path=path, hint="Choose another name or remove it.")


def _write(path: Path, report: Report, payload: dict[str, Any]) -> None:
    """The report under its name at once and whole, and never over another file."""
    from byre.reports.audit_json import as_markdown

    if path.suffix.lower() == ".md":
        text = as_markdown(report)
    else:
        text = json.dumps({"schema": "byre/audit/1", **payload}, indent=2) + "\n"
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    except FileExistsError as error:
        raise ExistsError("the report is there already", path=path) from error
    finally:
        part.unlink(missing_ok=True)


def _print(console: Printer, report: Report) -> None:
    title(console, f"{report.image}: grade {report.grade}")
    console.print(f"  {printable(report.reason)}.")
    for each in report.predictions:
        if each.target in report.targets:
            console.print(f"  {printable(each.sentence)}")
    console.print(f"  {printable(report.system or 'No installed system was found.')}")
    console.print()
    facts(console, [(each.question.capitalize(), f"{each.verdict:<8}{each.sentence}") for each in report.answers])
    for answer in report.answers:
        for row in answer.checked:
            console.print(f"  {answer.question}, checked: {printable(row)}")
        for row in answer.not_checked:
            console.print(f"  {answer.question}, not checked: {printable(row)}")
    others = [each for each in report.predictions if each.target not in report.targets]
    if others:
        console.print()
        title(console, "elsewhere")
        words = {True: "would start", False: "would not start", None: "can't be told"}
        facts(console, [(each.target, f"{words[each.starts]}{_rule(each.rule)}") for each in others])
    shown = [each for each in report.findings if each.severity != "low"]
    low = [each for each in report.findings if each.severity == "low"]
    for found in shown:
        console.print()
        _print_finding(console, found)
    if low:
        console.print()
        title(console, f"notes ({len(low)})")
        facts(console, [(each.rule.id, f"{each.finding.where}: {each.finding.evidence}") for each in low])
    for notice in report.notices:
        console.print(f"  {printable(notice)}")
    console.print()
    console.print(f"  {report.standard}. 'byre explain RULE' tells more of a finding.")


def _rule(rule: str | None) -> str:
    return f" ({rule})" if rule is not None else ""


def _print_finding(console: Printer, found: Found) -> None:
    row = found.finding
    target = f" for {row.target}" if row.target else ""
    title(console, f"{found.severity}  {found.rule.id}{target}: {row.consequence}")
    facts(
        console,
        [
            ("where", row.where),
            ("found", row.evidence),
            ("rule", found.rule.title),
            ("to mend it", found.rule.remedy),
        ],
    )
