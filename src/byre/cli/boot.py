"""``byre boot``: the boot test. Starts the guest on an overlay, watches it, and says what came of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from byre.cli.machines import add_profile_options
from byre.cli.options import add_image, open_options, seconds_argument
from byre.cli.output import Output, Printer, printable
from byre.errors import UsageError

if TYPE_CHECKING:
    from byre.machine.watch.observation import BootResult, Step

SUMMARY = """Boot an image without a person and without a risk, and say how far it came: a desktop, a prompt, a STOP
with its parameters, a loader's message, a reset loop, a hang.

The guest runs headless in QEMU on an overlay that vanishes; the image is only read. A pass needs proof: the shell's
process and the picture of a taskbar, or a prompt."""
EXAMPLES = """
  byre boot xp.qcow2                               desktop or prompt?
  byre boot xp.qcow2 --for virtualbox              on the controllers that VirtualBox would give it
  byre boot xp.qcow2@clean --expect stop:0x7b      does it fail as foreseen?
  byre boot linux.vdi --expect 'text:login:'       until that is on the screen or the serial line
  byre boot xp.qcow2 --report boot.html --json     timeline and screenshot as a page, the result as JSON
"""
VERDICTS = """\
   0 it came to what was expected (without --expect: a desktop or a prompt)
   2 it came to something else"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    add_profile_options(parser, target="QEMU's nearest likeness of this target's controllers")
    group = parser.add_argument_group("the test")
    group.add_argument("--expect", metavar="WHAT", help="desktop, logon, prompt, stop, stop:0x7b, text:TEXT, ...")
    group.add_argument(
        "--timeout",
        type=seconds_argument,
        default=300.0,
        metavar="S",
        help="seconds until it is given up (default 300)",
    )
    group.add_argument("--accel", metavar="NAME", help="kvm, hvf, whpx or tcg (default: the best that works)")
    found = parser.add_argument_group("what is kept")
    found.add_argument("--screenshot", metavar="FILE.png", help="write the last picture of the screen")
    found.add_argument("--report", metavar="FILE.html", help="write a page with timeline and screenshot")
    found.add_argument("--force", action="store_true", help="replace these files where they exist")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.machine.boot import BootOptions, boot_image
    from byre.machine.overrides import parse_settings
    from byre.machine.watch.expectation import ANY_PROOF, parse_expectation

    expected = ANY_PROOF if args.expect is None else parse_expectation(args.expect)
    for name, suffix in ((args.screenshot, ".png"), (args.report, ".html")):
        _check_target(name, suffix, force=args.force)
    options = BootOptions(
        target=args.target,
        expected=expected,
        timeout=args.timeout,
        accelerator=args.accel,
        overrides=parse_settings(args.settings),
    )
    result = boot_image(args.image, options, tell=_teller(out), note=out.notice, **_opening(args))
    if args.screenshot is not None and result.screenshot is not None:
        _write(args.screenshot, result.screenshot, force=args.force)
    elif args.screenshot is not None:
        out.notice(f"{args.screenshot} isn't written: the machine never showed a picture")
    if args.report is not None:
        from byre.reports.html.boot_page import boot_page

        _write(args.report, boot_page(result).encode(), force=args.force)
    from byre.reports.boot_json import boot_json

    out.result("boot", boot_json(result), lambda printer: _print(result, printer))
    return 0 if result.met else 2


def _opening(args: argparse.Namespace) -> dict[str, object]:
    opening = open_options(args)
    del opening["force_unlocked"]
    return opening


def _teller(out: Output) -> Callable[[Step], None]:
    def tell(step: Step) -> None:
        out.notice(f"{step.seconds:6.1f} s  {step.what}")

    return tell


def _check_target(name: str | None, suffix: str, *, force: bool) -> None:
    """Before minutes are spent: whether the file can be written at all."""
    from byre.storage.publish import Publication

    if name is None:
        return
    if Path(name).suffix.lower() != suffix:
        raise UsageError(f"{name!r} would be a {suffix} file", hint=f"Give it a name that ends in {suffix}.")
    Publication(name, force=force).check()


def _write(name: str, data: bytes, *, force: bool) -> None:
    from byre.storage.publish import Publication

    with Publication(name, force=force) as target:
        target.storage.write(0, data)


def _print(result: BootResult, printer: Printer) -> None:
    verdict = result.verdict
    mark = "PASS" if result.met else "FAIL"
    printer.print(f"{mark}  {printable(result.image)}: {printable(verdict.sentence)}")
    printer.print(
        f"      expected: {printable(result.expected)}; after {result.seconds:.0f} s with {result.accelerator}"
    )
    for line in verdict.proof:
        printer.print(f"      proof: {printable(line)}")
    if verdict.stop is not None:
        shown = ", ".join(f"{value:#010x}" for value in verdict.stop.parameters)
        printer.print(f"      parameters: {shown or 'not known'}")
