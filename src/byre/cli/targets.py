"""``byre targets``: the places that an image can go to, what is made for each, and what each demands."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from byre.cli.output import Output
from byre.units import format_size

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.convert.target_rules import Target

SUMMARY = "List the targets of 'convert --for' and 'check --for', with their rules and where each rule is from."
EXAMPLES = """
  byre targets
  byre targets azure
  byre targets --json
"""
VERDICTS = "   0 listed"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", nargs="?", help="only this one")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.convert.target_profiles import TARGETS
    from byre.convert.targets import target_named

    shown = TARGETS if args.target is None else (target_named(args.target),)
    payload = {"targets": [as_json(target) for target in shown]}
    out.result("targets", payload, lambda console: _print(console, shown, rules=args.target is not None))
    return 0


def as_json(target: Target) -> dict[str, object]:
    """A target with its rules; sizes in bytes."""
    from byre.convert.targets import rule_json

    return {
        "name": target.name,
        "title": target.title,
        "format": target.format,
        "suffix": target.suffix,
        "options": dict(target.options),
        "size_multiple": target.size_multiple,
        "sparse": target.sparse,
        "rules": [rule_json(rule) for rule in target.rules],
        "notes": list(target.notes),
    }


def _print(console: Printer, targets: tuple[Target, ...], *, rules: bool) -> None:
    for number, target in enumerate(targets):
        if number:
            console.print()
        kind = target.options.get("subformat")
        console.print(f"{target.name:<11} {target.title}")
        console.print(f"  made      {target.format}{f' {kind}' if kind else ''}, {_made(target)}")
        for rule in target.rules:
            console.print(f"  {rule.id:<22}{rule.says}")
            if rules:
                console.print(f"      why     {rule.reason}")
                console.print(f"      source  {rule.source} ({rule.checked})")
        for note in target.notes:
            console.print(f"  note      {note}")
    if not rules:
        console.print("\n'byre targets TARGET' gives each rule's reason and source.")


def _made(target: Target) -> str:
    unit = "whole sectors" if target.size_multiple == 512 else f"whole {format_size(target.size_multiple)}"
    return f"size in {unit}, {'may be sparse' if target.sparse else 'no holes'} on the host"
