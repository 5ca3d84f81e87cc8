"""``byre mend``: what keeps a guest from booting elsewhere, put right by plan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byre.cli.changing import Saved, add_destination, changing, check_destination, save, undo
from byre.cli.options import add_image
from byre.cli.output import Output, Printer, printable
from byre.errors import ByreError, UsageError

if TYPE_CHECKING:
    from byre.audit.finding import Finding
    from byre.disks.scratch import ScratchDisk
    from byre.lite.mending.carrying import Mending, Prepared
    from byre.lite.mending.plan import Mend, Options, Refusal

SHOWN = 12
"""Steps of one mend that are shown without --all-steps; the JSON has all."""
SUMMARY = """\
Mend what the audit found, by a plan that is shown: without WHAT, all that could be mended; with it, on a copy or
behind a snapshot.

Afterwards the audit is asked again. Passwords and product activation are not touched."""
EXAMPLES = r"""
  byre mend xp.qcow2
  byre mend xp.qcow2 portable --dry-run
  byre mend xp.qcow2 portable intelppm -o moved.qcow2
  byre mend xp.qcow2 portable --drivers ~/xpsp3/i386 --in-place
  byre mend xp.qcow2 autostart --autostart updater --autostart service:wuauserv --in-place
  byre mend xp.qcow2 autostart
  byre mend xp.qcow2 autostart --enable updater --in-place
  byre mend xp.qcow2 hibernation --discard-session -o awake.qcow2
"""
VERDICTS = """\
   0 all that was asked is mended, or there was nothing to mend
   1 something of what was asked can't be mended; what could be was, and the rest is named with what would mend it"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser, snapshot=False)
    parser.add_argument(
        "what",
        metavar="WHAT",
        nargs="*",
        help="boot: what starts before the kernel; hives: registry logs; portable: IDE controllers, against 0x7B; "
        "hal: which HAL it is; intelppm: Intel's processor driver off; all: these five; hibernation, autostart: with "
        "their options",
    )
    parser.add_argument(
        "--drivers",
        metavar="DIR",
        type=Path,
        help="where to take missing files from first: loose, compressed (ATAPI.SY_), in driver.cab, or in I386 below",
    )
    parser.add_argument(
        "--autostart",
        metavar="NAME",
        action="append",
        default=[],
        help="with autostart, an entry to disable: NAME, KIND:NAME, its place and name, or service:NAME (repeatable)",
    )
    parser.add_argument(
        "--enable",
        metavar="NAME",
        action="append",
        default=[],
        help="with autostart, an entry that Byre disabled to enable again (repeatable)",
    )
    parser.add_argument("--discard-session", action="store_true", help="with hibernation: what was open is lost")
    parser.add_argument(
        "--new-mbr", action="store_true", help="with boot: replace the MBR's code even where there is some"
    )
    parser.add_argument(
        "--new-vbr", action="store_true", help="with boot: the same for the active partition's boot sector"
    )
    parser.add_argument("--all-steps", action="store_true", help="show every step of a plan")
    add_destination(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.lite.mending.carrying import carry_out, left_over
    from byre.lite.mending.plan import Options
    from byre.lite.mending.table import chosen

    mends = chosen(tuple(args.what))
    _check(args, {mend.name for mend in mends})
    options = Options(
        autostarts=tuple(args.autostart),
        enables=tuple(args.enable),
        discard_session=args.discard_session,
        new_mbr=args.new_mbr,
        new_vbr=args.new_vbr,
    )
    with changing(args) as (disk, work, _):
        prepared = _prepare(args, out, work, mends, options)
        if not args.what or args.dry_run or _only_tells(args):
            return _tell(args, out, prepared, None, None)
        if not any(each.plan.steps for each in prepared.mendings):
            return _tell(args, out, prepared, None, left_over(work, prepared, image=args.image))
        with out.progress("changing", max(1, sum(len(changes) for _, changes in prepared.volumes))) as bar:
            applied = carry_out(work, prepared, advance=bar.advance)
        left = left_over(work, prepared, image=args.image)
        saved = save(args, disk, work, applied, out, verb="mend")
    return _tell(args, out, prepared, saved, left)


def _check(args: argparse.Namespace, names: set[str]) -> None:
    """UsageError for what doesn't go together, before any work."""
    if args.what and not _only_tells(args):
        check_destination(args)
    elif args.output or args.in_place:
        raise UsageError("say what to mend", hint="'all', or some of what 'byre mend IMAGE' lists.")
    named = args.autostart or args.enable
    if bool(named) != ("autostart" in names) and not _only_tells(args):
        raise UsageError(
            "the mend autostart and --autostart NAME, or --enable NAME, belong together",
            hint="byre mend IMAGE autostart --autostart NAME --in-place; without a name it lists what was disabled.",
        )
    if args.drivers and not names & {"portable", "boot"}:
        raise UsageError("--drivers belongs to portable and boot")
    options = {
        "discard-session": (args.discard_session, "hibernation"),
        "new-mbr": (args.new_mbr, "boot"),
        "new-vbr": (args.new_vbr, "boot"),
    }
    for option, (given, name) in options.items():
        if given and name not in names:
            raise UsageError(f"--{option} belongs to {name}")


def _only_tells(args: argparse.Namespace) -> bool:
    """``byre mend IMAGE autostart`` lists what Byre disabled, ``byre mend IMAGE hal`` tells of the HAL: neither needs
    to know where a result would go."""
    telling = bool(args.what) and set(args.what) <= {"autostart", "hal"}
    return telling and not (args.autostart or args.enable or args.output or args.in_place)


def _prepare(
    args: argparse.Namespace, out: Output, work: ScratchDisk, mends: tuple[Mend, ...], options: Options
) -> Prepared:
    from byre.lite.mending.carrying import prepare

    with out.progress("looking", None, unit="") as bar:
        return prepare(
            work,
            mends,
            options,
            image=args.image,
            drivers=args.drivers,
            progress=lambda stage: bar.advance(0),
        )


def _tell(
    args: argparse.Namespace, out: Output, prepared: Prepared, saved: Saved | None, left: tuple[Finding, ...] | None
) -> int:
    """``left``: what the audit finds afterwards; None where nothing was to be carried out."""
    obstacle: str | None = None
    if saved is None and any(each.plan.steps for each in prepared.mendings):
        try:
            prepared.refuse_unsafe()
        except ByreError as error:
            obstacle = str(error)
    payload: dict[str, Any] = {
        "image": args.image,
        "dry_run": left is None,
        "mends": [_row(each) for each in prepared.mendings],
        "refused": [_refused(each) for each in prepared.refusals],
        "obstacle": obstacle,
        **(saved.payload() if saved is not None else {}),
        "left": None if left is None else [_finding(each) for each in left],
    }
    out.result("mend", payload, lambda console: _show(args, console, prepared, saved, left, obstacle))
    if saved is not None and saved.snapshot is not None:
        out.notice(undo(args.image, saved.snapshot))
    unmended = (
        any(each.plan.refusals for each in prepared.mendings)
        or bool(prepared.refusals or left)
        or obstacle is not None
    )
    return 1 if args.what and unmended else 0


def _row(mending: Mending) -> dict[str, Any]:
    return {
        "name": mending.mend.name,
        "title": mending.mend.title,
        "rules": list(mending.mend.rules),
        "findings": [_finding(each) for each in mending.findings],
        "steps": list(mending.plan.said),
        "notes": list(mending.plan.notes),
        "refused": [_refused(each) for each in mending.plan.refusals],
    }


def _refused(refusal: Refusal) -> dict[str, str]:
    return {"what": refusal.what, "reason": refusal.reason, "remedy": refusal.remedy}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "where": finding.where,
        "evidence": finding.evidence,
        "consequence": finding.consequence,
        "target": finding.target,
    }


def _show(
    args: argparse.Namespace,
    console: Printer,
    prepared: Prepared,
    saved: Saved | None,
    left: tuple[Finding, ...] | None,
    obstacle: str | None,
) -> None:
    def say(text: str) -> None:
        console.print(printable(text))

    verb = "did" if saved is not None else "would"
    for each in prepared.mendings:
        plan = each.plan
        told = plan.steps or plan.refusals or (each.mend.tells and plan.notes)
        state = each.mend.title if told else "nothing to mend"
        say(f"{each.mend.name}: {state}")
        for line in _found(each.findings):
            say(f"  found  {line}")
        shown = plan.said if args.all_steps else plan.said[:SHOWN]
        for line in shown:
            say(f"  {verb:5}  {line}")
        if len(plan.said) > len(shown):
            say(f"  {'':5}  and {len(plan.said) - len(shown)} more (--all-steps)")
        for note in plan.notes:
            say(f"  note   {note}")
        for refusal in plan.refusals:
            say(f"  can't  {refusal.what}: {refusal.reason}")
            say(f"         {refusal.remedy}")
    for refusal in prepared.refusals:
        say(f"can't    {refusal.what}: {refusal.reason}; {refusal.remedy}")
    if obstacle is not None:
        console.print("")
        say(f"not yet: {obstacle}")
    for line in _found(left or ()):
        say(f"still    {line}")
    if saved is not None:
        say(f"mended: {saved.path}")
    elif left is not None:
        say("nothing was written")


def _found(findings: tuple[Finding, ...]) -> list[str]:
    """A line for each rule and place, with the machines that it is about."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for each in findings:
        grouped.setdefault((each.rule, each.where, each.consequence), []).append(each.target or "")
    rows = []
    for (rule, where, consequence), targets in grouped.items():
        names = ", ".join(sorted(name for name in targets if name))
        rows.append(f"{rule} {where}: {consequence}" + (f" [{names}]" if names else ""))
    return rows
