"""``byre slim --boot``: the result is booted before it is written, and isn't written where it starts no more."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from byre.cli.options import seconds_argument
from byre.cli.output import Output
from byre.errors import UsageError

if TYPE_CHECKING:
    from byre.disks.disk import Disk
    from byre.lite.starting import StartProof
    from byre.machine.watch.observation import Step


def add_boot(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the boot test")
    group.add_argument(
        "--boot",
        action="store_true",
        help="boot the result before it is written; one that starts no more, where IMAGE does, isn't written",
    )
    group.add_argument(
        "--boot-expect",
        metavar="WHAT",
        help="what a start is (default a desktop, a logon or a prompt): see byre boot",
    )
    group.add_argument(
        "--boot-timeout", metavar="S", type=seconds_argument, help="seconds until it is given up (default 300)"
    )
    group.add_argument("--boot-accel", metavar="NAME", help="kvm, hvf, whpx or tcg (default: the best that works)")


def check_boot(args: argparse.Namespace) -> None:
    """UsageError, or MissingError that says how to get QEMU, before any work."""
    more = (("--boot-expect", args.boot_expect), ("--boot-timeout", args.boot_timeout))
    for name, value in (*more, ("--boot-accel", args.boot_accel)):
        if value is not None and not args.boot:
            raise UsageError(f"{name} belongs to --boot")
    if not args.boot:
        return
    if args.dry_run:
        raise UsageError("--boot needs a result to boot", hint="Leave out --dry-run, or --boot.")
    from byre.machine.qemu.process import find_qemu

    if args.boot_expect is not None:
        _expected(args)
    find_qemu()


def try_start(args: argparse.Namespace, out: Output, before: Disk, after: Disk) -> StartProof:
    """Boot the result, and the image where the result alone doesn't say enough."""
    from byre.lite.starting import prove_start
    from byre.machine.boot import DEFAULT_TIMEOUT, BootOptions

    options = BootOptions(
        expected=_expected(args), timeout=args.boot_timeout or DEFAULT_TIMEOUT, accelerator=args.boot_accel
    )

    def tell(which: str, step: Step) -> None:
        out.notice(f"{which}: {step.seconds:6.1f} s  {step.what}")

    return prove_start(before, after, args.image, options, tell=tell, note=out.notice)


def boot_payload(proof: StartProof) -> dict[str, Any]:
    """The field ``boot`` of ``byre/slim/1``: its two results are ``byre/boot/1``."""
    from byre.reports.boot_json import boot_json

    return {
        "outcome": proof.outcome,
        "sentence": proof.sentence,
        "result": boot_json(proof.after),
        "image": boot_json(proof.before) if proof.before is not None else None,
    }


def _expected(args: argparse.Namespace) -> Any:
    from byre.lite.starting import STARTED
    from byre.machine.watch.expectation import parse_expectation

    return STARTED if args.boot_expect is None else parse_expectation(args.boot_expect)
