"""``byre explain``: one rule of the standard."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from byre.cli.output import Output

if TYPE_CHECKING:
    from byre.audit.rule import Rule
    from byre.cli.output import Printer

SUMMARY = "Print a rule of the standard: what it looks at, why, what the user would see, how to mend it."
EXAMPLES = """
  byre explain BOOT-014
  byre explain PORT-001 --json
"""
VERDICTS = "   0 printed"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rule", metavar="RULE", help="a rule's id, as 'byre audit' prints it")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.audit.catalogue import rule_named
    from byre.audit.rule import STANDARD

    rule = rule_named(args.rule)
    payload = {"standard": STANDARD, **{f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)}}
    out.result("explain", payload, lambda console: _print(console, rule))
    return 0


def _print(console: Printer, rule: Rule) -> None:
    from byre.audit.rule import STANDARD
    from byre.audit.standard import fields
    from byre.cli.layout import facts, title

    title(console, f"{rule.id}: {rule.title}")
    facts(console, [("standard", STANDARD), ("question", rule.question), *fields(rule)])
