"""``byre audit``: will it boot, where, and can it be trusted."""

from __future__ import annotations

import argparse
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from byre.cli.audit_boots import Trials, check_can_boot, print_trials, status_of, try_all, with_boots
from byre.cli.audit_files import check_targets, write_report
from byre.cli.options import add_open_options, open_options
from byre.cli.output import Output
from byre.cli.progress import ticking
from byre.cli.publishing import publish
from byre.errors import MissingError, UsageError

if TYPE_CHECKING:
    from byre.audit.judging import Report
    from byre.audit.running import Failure, Request
    from byre.cli.output import Printer
    from byre.cli.progress import Progress

SUMMARY = """\
Audit images against the standard (docs/extra-quality.md): will they boot, where, what is wrong with them, and is
there any sign of something that doesn't belong.

Nothing is changed, and without --boot nothing is booted. What couldn't be looked at is unknown, never passed."""
EXAMPLES = """
  byre audit xp.qcow2
  byre audit xp.qcow2@clean --for virtualbox --for vmware:ide
  byre audit xp.vmdk --fail-on medium --report xp.html --report xp.sarif
  byre audit 'shelf/*.qcow2' --jobs 4 --waivers accepted.toml --baseline last-week.json
  byre audit xp.qcow2 --sbom xp.cdx.json
  byre audit xp.qcow2 --for virtualbox --boot
"""
VERDICTS = """\
   0 no finding at or above --fail-on that is new and not waived   2 there are such findings
     with --boot also 2 where a machine that was tried didn't start
     a question that is unknown is no finding: --fail-on-unknown makes it one
     of several images the worst counts; one that couldn't be audited (64 and more) goes before findings"""
LEVELS = ("low", "medium", "high", "critical")
ASKED = ("sound", "complete", "clean", "portable", "private", "lean", "genuine")
MAX_IMAGES = 100_000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="path of an image, IMAGE@SNAPSHOT, or a quoted pattern such as '*.vdi'",
    )
    parser.add_argument(
        "--for",
        dest="targets",
        metavar="TARGET",
        action="append",
        help="a machine it shall run on (qemu, qemu:q35, proxmox, virtualbox, vmware:ide, vmware:lsi, "
        "vmware:buslogic, esxi, esxi:lsi, esxi:buslogic, hyperv, azure, aws, utm, kubevirt); may be repeated; "
        "default qemu",
    )
    parser.add_argument(
        "--only", metavar="QUESTION", action="append", choices=ASKED, help="only this question; may be repeated"
    )
    parser.add_argument(
        "--boot",
        action="store_true",
        help="then boot each image on each of these machines, and say where that and the audit disagree",
    )
    parser.add_argument(
        "--reference",
        metavar="ISO|FOLDER|IMAGE",
        help="hold the system's files against the media or the image that they should come from",
    )
    parser.add_argument(
        "--signed-by",
        metavar="KEY",
        action="append",
        default=[],
        help="a minisign public key (RW..., or its file) whose signature beside the image counts; may be repeated",
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
    parser.add_argument("--jobs", metavar="N", type=int, help="processes for several images (default: one a CPU)")
    parser.add_argument("--no-cache", action="store_true", help="neither use nor keep facts of unchanged images")
    add_open_options(parser)
    _add_counting(parser)
    _add_files(parser)


def _add_counting(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what counts")
    group.add_argument(
        "--fail-on", metavar="LEVEL", choices=LEVELS, default="high", help="low, medium, high (default) or critical"
    )
    group.add_argument(
        "--fail-on-unknown", action="store_true", help="exit with 2 also where a question that was asked is unknown"
    )
    group.add_argument(
        "--waivers",
        metavar="FILE",
        type=Path,
        help="TOML: findings that somebody accepts, until a day; they stay shown",
    )
    group.add_argument(
        "--baseline", metavar="FILE", type=Path, help="an earlier report in JSON: only what it hasn't counts"
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("files")
    group.add_argument(
        "--report",
        metavar="FILE",
        action="append",
        default=[],
        type=Path,
        help="write FILE.html, FILE.json, FILE.sarif or FILE.md with the reports of all images; may be repeated",
    )
    group.add_argument(
        "--sbom",
        metavar="FILE",
        type=Path,
        help="write the installed programs, hotfixes and drivers as CycloneDX JSON (one image)",
    )


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.audit.judging import Report

    check_targets(args.report, args.sbom)
    images, several = expand(args.images)
    if several and args.sbom is not None:
        raise UsageError("--sbom describes one image", found=f"{len(images)} images", hint="Audit them one by one.")
    if args.jobs is not None and args.jobs < 1:
        raise UsageError("--jobs is at least 1", found=args.jobs)
    if args.boot:
        check_can_boot()
    request = _request(args, alone=len(images) == 1)
    results = _audit_several(images, request, args, out) if several else [_audit_one(images[0], request, out)]
    trials = try_all(results, open_options(args), out) if args.boot else {}
    for path in args.report:
        write_report(path, results, several=several, trials=trials)
    reports = [each for each in results if isinstance(each, Report)]
    if args.sbom is not None:
        import json

        from byre.reports.sbom import as_cyclonedx

        publish(args.sbom, json.dumps(as_cyclonedx(reports[0]), indent=1) + "\n")
    _tell(results, out, several=several, trials=trials)
    return max(_status(results, args), status_of(trials))


def expand(words: Sequence[str]) -> tuple[list[str], bool]:
    """The images that the arguments name, and whether several were asked for: more than one argument, or a pattern.

    A file of exactly that name wins over the pattern; ``@SNAPSHOT`` may follow one. A pattern without a match is a
    MissingError."""
    images: list[str] = []
    patterns = False
    for word in words:
        if not any(sign in word for sign in "*?[") or "://" in word or os.path.lexists(word):
            images.append(word)
            continue
        patterns = True
        found = sorted(_matches(word))
        if not found:
            raise MissingError("no file fits this pattern", path=word)
        images += found
        if len(images) > MAX_IMAGES:
            raise UsageError("too many images", found=len(images), expected=f"at most {MAX_IMAGES}")
    return list(dict.fromkeys(images)), patterns or len(words) > 1


def _matches(word: str) -> Iterator[str]:
    found = _files(word)
    pattern, mark, snapshot = word.rpartition("@")
    if found or not mark or "/" in snapshot:
        yield from found
    else:
        yield from (f"{path}@{snapshot}" for path in _files(pattern))


def _files(pattern: str) -> list[str]:
    # glob.glob, not Path.glob: absolute patterns, and names as the user would type them.
    return [path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()]  # noqa: PTH207


def _request(args: argparse.Namespace, *, alone: bool) -> Request:
    from byre.audit.baseline import read_baseline
    from byre.audit.facts_cache import user_cache
    from byre.audit.running import Request, check_request
    from byre.audit.scanners import Scanners
    from byre.audit.waivers import read_waivers

    request = Request(
        targets=tuple(args.targets or ("qemu",)),
        only=tuple(args.only or ()),
        opening=open_options(args),
        waivers=read_waivers(args.waivers) if args.waivers is not None else (),
        baseline=read_baseline(args.baseline) if args.baseline is not None else None,
        alone=alone,
        scanners=Scanners(rules=args.rules, clamd=args.clamd, known=args.known),
        reference=args.reference,
        keys=tuple(args.signed_by),
        # What a running machine writes while it is read isn't worth keeping.
        cache=None if args.no_cache or args.force_share else user_cache(),
    )
    check_request(request)
    return request


def _audit_one(image: str, request: Request, out: Output) -> Report:
    from byre.audit.gathering import STAGES
    from byre.audit.running import audit_address

    with out.progress("audit", len(STAGES) + 1, unit="steps") as bar, ticking(bar):
        return audit_address(image, request, lambda stage: _stage(bar, stage, STAGES))


def _stage(bar: Progress, stage: str, stages: Sequence[str]) -> None:
    """The bar stands at the stage that begins now; stages of others don't move it, and "rules" is the last."""
    bar.what = f"audit: {stage}"
    bar.done = max(bar.done, stages.index(stage) if stage in stages else 0, len(stages) if stage == "rules" else 0)


def _audit_several(
    images: Sequence[str], request: Request, args: argparse.Namespace, out: Output
) -> list[Report | Failure]:
    from byre.audit.running import Failure, audit_all

    jobs = args.jobs or min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 8)
    with out.progress("audit", len(images), unit="images") as bar, ticking(bar):
        results = []
        for result in audit_all(images, request, jobs=jobs):
            results.append(result)
            if isinstance(result, Failure):
                out.notice(str(result.error))
            bar.done += 1
    return results


def _tell(results: Sequence[Report | Failure], out: Output, *, several: bool, trials: Trials) -> None:
    from byre.audit.judging import Report
    from byre.cli.audit_text import print_report
    from byre.reports.audit_json import as_json, several_json

    only = results[0]

    def one(console: Printer) -> None:
        assert isinstance(only, Report)
        print_report(console, only)
        print_trials(console, trials)

    def all_of_them(console: Printer) -> None:
        _print_several(console, results)
        print_trials(console, trials)

    if not several and isinstance(only, Report):
        out.result("audit", with_boots(as_json(only), trials), one)
        return
    payload = several_json(results)
    payload["reports"] = [with_boots(each, trials) for each in payload["reports"]]
    out.result("audits", payload, all_of_them)


def _print_several(console: Printer, results: Sequence[Report | Failure]) -> None:
    from byre.audit.judging import Report
    from byre.cli.audit_text import print_report
    from byre.cli.layout import table

    rows = []
    for each in results:
        if isinstance(each, Report):
            starts = [row.starts for row in each.predictions if row.target in each.targets]
            word = "no" if False in starts else "unknown" if None in starts else "yes"
            counting = [found for found in each.findings if found.counts]
            worst = next((level for level in reversed(LEVELS) if any(f.severity == level for f in counting)), "none")
            rows.append((each.image, each.grade, word, worst))
        else:
            rows.append((each.image, "-", "-", f"not audited: {each.error.kind}"))
    table(console, ("IMAGE", "GRADE", "STARTS", "WORST FINDING"), rows)
    for each in results:
        if isinstance(each, Report):
            console.print()
            print_report(console, each)


def _status(results: Sequence[Report | Failure], args: argparse.Namespace) -> int:
    """What couldn't be audited goes before findings, findings before none."""
    from byre.audit.running import Failure

    for each in results:
        if isinstance(each, Failure):
            return each.error.exit_code
    return 2 if any(_fails(each, args) for each in results if not isinstance(each, Failure)) else 0


def _fails(report: Report, args: argparse.Namespace) -> bool:
    asked = args.only or ASKED
    unknown = args.fail_on_unknown and any(
        each.verdict == "unknown" for each in report.answers if each.question in asked
    )
    return unknown or bool(report.counting(args.fail_on))
