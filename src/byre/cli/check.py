"""``byre check``: is an image's own metadata sound, and what can be mended."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from byre.cli.options import add_image, add_write_options, open_image
from byre.cli.output import Output, printable
from byre.disks.disk import CheckedDisk, CheckReport, Problem
from byre.errors import UnsupportedError, UsageError
from byre.units import format_size

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.convert.targets import TargetReport
    from byre.disks.qcow2.repair import RepairPlan

SUMMARY = """\
Check an image's own metadata: references, refcounts, flags, overlaps, snapshots, bitmaps. Guest data isn't read.

--repair leaks gives back clusters that nothing uses. --repair all also mends refcounts and flags. A repair is
planned first (--dry-run shows the plan and changes nothing), is crash-safe, and leaves what would need a guess.

--files looks inside instead: are the file systems sound? Tables and directories are read, no file's data.

--for PLACE asks something else: would that place take this file as it is? Each of its rules gets a verdict."""
EXAMPLES = """
  byre check xp.qcow2
  byre check xp.qcow2 --repair all --dry-run
  byre check xp.qcow2 --repair all
  byre check xp.vmdk --files
  byre check xp.vhd --for azure
"""
VERDICTS = """\
   0 sound   2 corrupt   3 leaked clusters only (with --repair: the state after it)
   with --files: the worst of its file systems
   with --for: 0 every rule holds   1 some can't be told here   2 one is broken"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser, snapshot=False)
    parser.add_argument("--files", action="store_true", help="check the file systems inside; IMAGE@SNAPSHOT too")
    parser.add_argument("--repair", choices=("leaks", "all"), help="mend it in place")
    parser.add_argument("-n", "--dry-run", action="store_true", help="with --repair: only show what it would do")
    parser.add_argument("--for", dest="target_name", metavar="PLACE", help="check the rules of one of 'byre targets'")
    add_write_options(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.disks.opening import open_bare
    from byre.storage.publish import stale_parts

    if args.dry_run and not args.repair:
        raise UsageError("--dry-run belongs to --repair")
    for left in stale_parts(args.image):
        out.notice(f"{left}: left behind by a run that was killed; it may be deleted")
    if args.files:
        if args.repair or args.target_name is not None:
            raise UsageError("--files goes with neither --repair nor --for")
        return _check_files(args, out)
    if args.target_name is not None:
        if args.repair:
            raise UsageError("--repair and --for exclude each other")
        return _check_for(args, out)
    storage, format = open_bare(
        args.image,
        format=args.format,
        writable=bool(args.repair) and not args.dry_run,
        force_share=args.force_share,
        force_unlocked=args.force_unlocked,
    )
    if format.name != "qcow2":
        storage.close()
        return _check_other(args, out, format.title)
    try:
        return _check_qcow2(storage, args, out)
    finally:
        storage.close()


def _check_qcow2(storage: Any, args: argparse.Namespace, out: Output) -> int:
    from byre.disks.qcow2.check import check_image, report
    from byre.disks.qcow2.repair import apply_repair, plan_repair
    from byre.disks.qcow2.survey import survey

    if not args.repair:
        return _say(args, out, check_image(storage))
    found = survey(storage)
    before = report(found)
    plan = plan_repair(found, args.repair)
    if args.dry_run:
        return _say(args, out, before, plan=plan)
    apply_repair(found, plan)
    return _say(args, out, check_image(storage), plan=plan, before=before)


def _check_other(args: argparse.Namespace, out: Output, title: str) -> int:
    with open_image(args, out=out, with_backing=False) as disk:
        if not isinstance(disk, CheckedDisk):
            raise UnsupportedError(f"the metadata of {title} images isn't checked", path=args.image)
        if args.repair:
            raise UnsupportedError(f"{title} images can be checked but not repaired", path=args.image)
        return _say(args, out, disk.check())


def _check_files(args: argparse.Namespace, out: Output) -> int:
    from byre.filesystems.opening import open_volumes

    with open_image(args, out=out) as disk:
        rows: list[dict[str, Any]] = []
        reports: list[CheckReport] = []
        for volume in open_volumes(disk):
            row: dict[str, Any] = {"partition": volume.partition.index, "type": volume.type, "reason": None}
            if volume.filesystem is None:
                row["reason"] = str(volume.reason) if volume.reason else None
            else:
                report = volume.filesystem.check()
                facts = volume.filesystem.facts()
                row |= _as_json(report) | {"dirty": facts.dirty, "log": facts.log}
                reports.append(report)
            rows.append(row)
        if not reports:
            raise UnsupportedError("no file system that Byre reads", path=args.image)
        worst = 2 if any(each.corruptions for each in reports) else 3 if any(each.leaks for each in reports) else 0
        out.result("check-files", {"image": args.image, "volumes": rows}, lambda console: _print_files(console, rows))
    return worst


def _print_files(console: Printer, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        name = f"partition {row['partition']}" if row["partition"] else "the disk"
        if "verdict" not in row:
            console.print(f"{name}: not checked: {printable(row['reason'] or 'nothing recognised')}")
            continue
        _print_problems(console, row["problems"])
        said = {
            "sound": "sound",
            "leaks": f"sound, but {_count(row['leaks'], 'cluster')} lost (in use, and no file's)",
            "corrupt": f"damaged: {_count(row['corruptions'], 'error')}",
        }[row["verdict"]]
        state = ", marked dirty" if row["dirty"] else ""
        state += (
            ", its log unclean: what Windows replays at the next start isn't counted"
            if row["log"] == "unclean"
            else ""
        )
        console.print(f"{name}: {str(row['type']).upper()}, {said}{state}")


def _check_for(args: argparse.Namespace, out: Output) -> int:
    from byre.convert.targets import gather, target_named, verify

    target = target_named(args.target_name)
    with open_image(args, out=out, with_backing=False, force_share=True) as disk:
        report = verify(gather(disk, args.image), target)
    out.result("check-for", report.as_json(), lambda console: _print_rules(console, report))
    return report.exit_status


def _print_rules(console: Printer, report: TargetReport) -> None:
    for result in report.results:
        console.print(f"  {result.verdict:<8}{result.rule.id:<24}{result.rule.says}: {printable(result.found)}")
        if result.verdict != "pass":
            console.print(f"          why     {result.rule.reason}")
            console.print(f"          source  {result.rule.source} ({result.rule.checked})")
    broken, unknown = len(report.having("fail")), len(report.having("unknown"))
    title = report.target.title
    if broken:
        said = f"{title} would not take it: {broken} rule{'s' if broken > 1 else ''} broken"
    elif unknown:
        said = f"nothing speaks against {title}, but {unknown} can't be told here"
    else:
        said = f"fit for {title}: all {len(report.results)} rules hold"
    console.print(f"{printable(report.path)}: {said}")
    for note in report.target.notes:
        console.print(f"  note    {note}")


def _say(
    args: argparse.Namespace,
    out: Output,
    report: CheckReport,
    *,
    plan: RepairPlan | None = None,
    before: CheckReport | None = None,
) -> int:
    payload: dict[str, object] = {"image": args.image, **_as_json(report)}
    if plan is not None:
        payload["repair"] = {
            "mode": plan.mode,
            "dry_run": args.dry_run,
            "actions": plan.actions,
            "refusals": plan.refusals,
            "before": None if before is None else _as_json(before),
        }
    out.result("check", payload, lambda console: _print(console, args, report, plan, before))
    return report.exit_status


def _as_json(report: CheckReport) -> dict[str, object]:
    return {
        "format": report.format,
        "verdict": {0: "sound", 2: "corrupt", 3: "leaks"}[report.exit_status],
        "corruptions": report.corruptions,
        "leaks": report.leaks,
        "problems": report.problems,
        "allocated_blocks": report.allocated_blocks,
        "total_blocks": report.total_blocks,
        "image_end": report.image_end,
        "details": report.details,
    }


def _print(
    console: Printer,
    args: argparse.Namespace,
    report: CheckReport,
    plan: RepairPlan | None,
    before: CheckReport | None,
) -> None:
    name = printable(args.image)
    if plan is not None:
        if before is not None:
            console.print(f"{name}: {_verdict(before)}")
        _print_plan(console, plan, dry_run=args.dry_run)
    _print_problems(console, report.problems)
    console.print(f"{name}: {_verdict(report)}")
    if report.allocated_blocks is not None and report.total_blocks:
        fragmented = report.details.get("fragmented_clusters")
        compressed = report.details.get("compressed_clusters")
        share = 100 * report.allocated_blocks / report.total_blocks
        unit = "clusters" if report.format == "qcow2" else "blocks"
        text = f"  {report.allocated_blocks} of {report.total_blocks} {unit} allocated ({share:.1f} %)"
        if fragmented is not None and compressed is not None:
            text += f", {fragmented} fragmented, {compressed} compressed"
        console.print(text)
    if report.image_end is not None:
        console.print(f"  image ends at {report.image_end} ({format_size(report.image_end)})")


def _print_problems(console: Printer, problems: Iterable[Problem]) -> None:
    for problem in problems:
        where = "" if problem.offset is None else f", first at {problem.offset:#x}"
        times = "" if problem.count == 1 else f" ({problem.count} times)"
        console.print(f"  {problem.kind}: {printable(problem.message)}{times}{where}  [{problem.code}]")


def _print_plan(console: Printer, plan: RepairPlan, *, dry_run: bool) -> None:
    said = "would" if dry_run else "did"
    for action in plan.actions:
        console.print(f"  {said}: {action}")
    for refusal in plan.refusals:
        console.print(f"  left: {printable(refusal)}")
    if not plan.actions and not plan.refusals:
        console.print("  nothing to repair")


def _verdict(report: CheckReport) -> str:
    match report.exit_status:
        case 0:
            return "sound"
        case 3:
            unit = "cluster" if report.format == "qcow2" else "block"
            verb = "is" if report.leaks == 1 else "are"
            return f"sound, but {_count(report.leaks, unit)} {verb} leaked (the space is lost until a repair)"
        case _:
            leaks = f", {_count(report.leaks, 'leak')}" if report.leaks else ""
            return f"corrupt: {_count(report.corruptions, 'error')}{leaks}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
