"""``byre explain``: one rule of the standard, or the list of them by question."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from byre.cli.output import Output, printable

if TYPE_CHECKING:
    from byre.audit.rule import Rule
    from byre.cli.output import Printer

SUMMARY = """\
Print a rule of the standard: what it looks at, why, what the user would see, how to mend it.

Without a rule, or with a question: the list of rules."""
EXAMPLES = """
  byre explain BOOT-014
  byre explain
  byre explain portable
  byre explain PORT-001 --json
"""
VERDICTS = "   0 printed"
WIDTH = 100


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "rule",
        metavar="RULE",
        nargs="?",
        help="a rule's id, as 'byre audit' prints it, or a question: sound, complete, clean, portable, private, "
        "lean, genuine",
    )


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.audit.catalogue import rule_named
    from byre.audit.rule import QUESTIONS, STANDARD

    if args.rule is None or args.rule.lower() in QUESTIONS:
        rows = _rules(args.rule.lower() if args.rule else None)
        payload: dict[str, Any] = {"standard": STANDARD, "rules": [_json(rule) for rule in rows]}
        out.result("explain", payload, lambda console: _print_list(console, rows))
        return 0
    rule = rule_named(args.rule)
    out.result("explain", {"standard": STANDARD, **_json(rule)}, lambda console: _print(console, rule))
    return 0


def _json(rule: Rule) -> dict[str, Any]:
    return {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}


def _rules(question: str | None) -> list[Rule]:
    """The rules of a question, or all of them, those of other packages too."""
    from byre.audit.catalogue import ABOUT_AUDITS, RULES, installed_checks
    from byre.audit.rule import QUESTIONS

    others = [rule for check in installed_checks()[0] for rule in check.rules]
    every = [*RULES.values(), *others]
    by_question = [rule for name in QUESTIONS for rule in every if rule.question == name]
    if question is not None:
        return [rule for rule in by_question if rule.question == question]
    return [*by_question, *ABOUT_AUDITS.values()]


def _print_list(console: Printer, rules: Sequence[Rule]) -> None:
    from byre.audit.rule import QUESTIONS, STANDARD
    from byre.cli.layout import facts, title

    for question in dict.fromkeys(rule.question for rule in rules):
        own = [rule for rule in rules if rule.question == question]
        title(console, f"{question.capitalize()}: {QUESTIONS.get(question, 'about the audit itself')}")
        facts(
            console, [(rule.id, f"{rule.severity:<8}  {'*' if rule.required else ' '} {rule.title}") for rule in own]
        )
        console.print()
    if not rules:
        console.print("There are no rules for it yet.")
    console.print(f"{STANDARD}. * Extra Quality needs an answer. 'byre explain RULE' tells more.")


def _print(console: Printer, rule: Rule) -> None:
    from byre.audit.rule import QUESTIONS, STANDARD
    from byre.audit.standard import fields
    from byre.cli.layout import title

    title(console, f"{rule.id}: {printable(rule.title)}")
    asked = QUESTIONS.get(rule.question, "about the audit itself")
    rows = [("question", f"{rule.question.capitalize()}: {asked}"), *fields(rule), ("standard", STANDARD)]
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        lines = textwrap.wrap(printable(value), WIDTH - width - 4) or [""]
        console.print(f"  {label:<{width}}", style="dim", end="")
        console.print(f"  {lines[0]}")
        for line in lines[1:]:
            console.print(f"  {'':<{width}}  {line}")
