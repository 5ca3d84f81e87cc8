"""``byre profile``: the machine that an image wants, each setting with its reason."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from byre.cli.layout import title
from byre.cli.machines import add_profile_options, machine_json, print_machine, problem_json
from byre.cli.options import add_image, open_image
from byre.cli.output import Output

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.machine.hardware import Machine
    from byre.machine.impossible import Impossible

SUMMARY = """\
Say which machine an image wants, each setting with its reason: read from the guest's own files, nothing is started.

MACHINE.toml beside the image overrides settings, --set overrides both."""
EXAMPLES = """
  byre profile xp.qcow2
  byre profile xp.qcow2 --for virtualbox
  byre profile xp.qcow2 --set nic=e1000 --set memory=512MiB
  byre profile xp.qcow2 --for kubevirt --json
"""
VERDICTS = """\
   0 the guest can live with this machine, as far as can be told
   2 it can't: each setting is named with the STOP that it would cause"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    add_profile_options(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.machine.impossible import problems
    from byre.machine.overrides import parse_settings
    from byre.machine.reading import beside, gather_evidence, settled

    overrides = (*beside(args.image), *parse_settings(args.settings))
    with open_image(args, out=out) as disk:
        evidence = gather_evidence(disk, name=args.image)
    machine = settled(evidence, args.target, overrides)
    found = problems(evidence, machine)
    payload = {
        "image": args.image,
        "target": args.target,
        "machine": machine_json(machine),
        "problems": [problem_json(problem) for problem in found],
    }
    out.result("profile", payload, lambda console: _print(console, args.image, args.target, machine, found))
    return 2 if any(problem.certain for problem in found) else 0


def _print(console: Printer, image: str, target: str, machine: Machine, found: tuple[Impossible, ...]) -> None:
    from byre.cli.output import printable

    title(console, f"{image} on {target}")
    print_machine(console, machine)
    for problem in found:
        word = "impossible" if problem.certain else "uncertain"
        console.print(f"\n{word}: {printable(f'{problem.setting}={problem.value}: {problem.consequence}')}.")
        console.print(f"  {printable(problem.remedy)}")
