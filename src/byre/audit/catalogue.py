"""All checks with their rules: Byre's own, and those that other packages offer as entry points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points

from byre.audit import altered, clean, complete, genuine, lacking, lean, portable, private, reference_check, sound
from byre.audit.facts import Facts
from byre.audit.finding import Finding, Unread
from byre.audit.platforms import Platform
from byre.audit.rule import QUESTIONS, SEVERITIES, Rule
from byre.errors import MissingError

ENTRY_POINTS = "byre.checks"
"""The group in which another package names its ``Check`` objects."""


@dataclass(frozen=True, slots=True)
class Check:
    """Rules, and the pure function that holds an image's facts against them. ``per_target``: it is asked once for
    each machine, else once."""

    name: str
    rules: tuple[Rule, ...]
    run: Callable[[Facts, Platform], Iterable[Finding | Unread]]
    per_target: bool = False


OWN = (
    Check("sound", sound.RULES, sound.check),
    Check("complete", complete.RULES, complete.check),
    Check("lacking", lacking.RULES, lacking.check),
    Check("altered", altered.RULES, altered.check),
    Check("clean", clean.RULES, clean.check),
    Check("portable", portable.RULES, portable.check, per_target=True),
    Check("private", private.RULES, private.check),
    Check("lean", lean.RULES, lean.check),
    Check("genuine", genuine.RULES, genuine.check),
    Check("reference", reference_check.RULES, reference_check.check),
)
RULES: dict[str, Rule] = {rule.id: rule for check in OWN for rule in check.rules}
"""The standard's rules by id."""
EXPIRED = Rule(
    "WAIV-001",
    "waivers",
    "No waiver for the image has expired",
    "high",
    False,
    "the file that --waivers names",
    "a waiver is a promise to look again: whoever accepted the finding did so up to that day",
    "this standard",
    "nothing; the audit's exit status is 2 again",
    "mend what was waived, or let the person who is named decide anew and set another date",
)
"""A rule about the audit itself: it belongs to none of the seven questions and changes no grade."""
ABOUT_AUDITS: dict[str, Rule] = {EXPIRED.id: EXPIRED}


def installed_checks() -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """The checks of other packages, and why some of them can't be used."""
    found, refused = [], []
    taken = set(RULES)
    for point in entry_points(group=ENTRY_POINTS):
        try:
            check = point.load()
        except Exception as error:  # somebody else's code: told, never fatal
            refused.append(f"{point.name}: {type(error).__name__}: {error}")
            continue
        problem = _problem(check, taken)
        if problem is None:
            taken |= {rule.id for rule in check.rules}
            found.append(check)
        else:
            refused.append(f"{point.name}: {problem}")
    return tuple(found), tuple(refused)


def _problem(check: object, taken: set[str]) -> str | None:
    if not isinstance(check, Check):
        return "is not a byre.audit.catalogue.Check"
    for rule in check.rules:
        if rule.id in taken:
            return f"its rule {rule.id} is there already"
        if rule.question not in QUESTIONS or rule.severity not in SEVERITIES:
            return f"its rule {rule.id} has a question or a severity that Byre doesn't know"
    return None


def run_check(check: Check, facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """What a check says; one that fails leaves all its rules unread, never passed."""
    if check in OWN:
        yield from check.run(facts, platform)
        return
    known = {rule.id for rule in check.rules}
    try:
        said = [row for row in check.run(facts, platform) if row.rule in known]
    except Exception as error:  # somebody else's code
        for rule in check.rules:
            yield Unread(rule.id, f"the check {check.name} failed: {type(error).__name__}: {error}")
        return
    yield from said


def rule_named(identifier: str) -> Rule:
    """The rule of this id; MissingError where there is none."""
    wanted = identifier.upper()
    if wanted in RULES:
        return RULES[wanted]
    if wanted in ABOUT_AUDITS:
        return ABOUT_AUDITS[wanted]
    for check in installed_checks()[0]:
        for rule in check.rules:
            if rule.id.upper() == wanted:
                return rule
    families = sorted({rule.partition("-")[0] for rule in RULES})
    hint = f"Rules are {', '.join(f'{each}-001' for each in families)} and so on; docs/extra-quality.md lists them."
    raise MissingError(f"there is no rule {identifier!r}", hint=hint)
