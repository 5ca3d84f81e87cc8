"""The published standard, written from the rules. Pure: ``tools/write_standard.py`` puts it on disk."""

from __future__ import annotations

from byre.audit.catalogue import ABOUT_AUDITS, RULES
from byre.audit.platforms import PLATFORMS
from byre.audit.rule import ALL_GUESTS, COVERED, GUESTS, QUESTIONS, STANDARD, Rule

_HEAD = f"""\
# Extra Quality

Version: **{STANDARD}**. Written by `tools/write_standard.py` from the rules in `src/byre/audit/`; a test \
compares the two. A rule's id never changes and is never used again.

`byre audit IMAGE` holds an image against these rules without booting it. `byre explain RULE` prints one of them. \
A source that says "unchecked" was named from memory: \
the rule is then as good as its tests. So were the titles after "MSDN:".

**Versions.** Every report names the version that it was made with. The second number grows when rules are added or \
a severity changes, the first when the meaning of a verdict or of a grade does. A rule that is given up stays on \
this page, with what took its place; compare grades of one version only.

## The questions
"""

_VERDICTS = """\
## Verdicts

Each question is answered with one word:

| verdict | when |
|---|---|
| pass | nothing was found, and every required rule could be looked at |
| notes | findings of low or medium severity only |
| fail | a finding of high or critical severity |
| unknown | a required rule couldn't be looked at, the question wasn't asked, or Byre has no rules for it yet; \
never a pass |

Clean says "no sign found", never "clean": what nothing looks for isn't found. YARA, ClamAV \
and lists of known hashes are optional: the report says what was used, with its date, and "not checked" where it \
wasn't or where a file was too large; that lowers nothing.

A file is *vouched for* where a security catalog inside the guest, or an imported list of good hashes, has its \
digest. A catalog whose signature is broken vouches for nothing. One that nobody signed, or whose signature leads to \
no root that Byre knows, still does, since healthy systems carry such catalogs: the evidence of an autostart says \
so, and CLEAN-106 names the unsigned. Somebody who may write to the guest may add such a catalog; `--reference` and \
`byre known` don't depend on what the guest says of itself.

## Grades

The grade is that of the worst finding of Sound, Complete, Clean, Portable and Genuine; Private and Lean \
describe and don't lower it.

| grade | the worst finding |
|---|---|
| A | none |
| B | low |
| C | medium; also the best that is given while one of those five questions is unknown |
| D | high |
| F | critical: it doesn't start, or data is at risk |

**Extra Quality** is granted when Sound, Complete, Clean and Portable are answered for the chosen machines, each \
with pass or with notes of low severity only, and no required rule is unknown.

## What counts

The exit status of `byre audit` goes by the findings from `--fail-on` upwards. One that a waiver accepts, or that \
the baseline has, stays in every report and lowers the grade as before; it only doesn't count. A question that is \
unknown is no finding: with `--fail-on-unknown` it makes the exit status 2 as well.

## Machines

Findings are for the machines that `--for` names (by default `qemu`); the prediction is made for all.

| name | machine | boot controller | PCI id | known from |
|---|---|---|---|---|
"""


_ABOUT = """\
## About the audit itself

These belong to none of the questions and change no grade; they count for the exit status of `byre audit`.

"""


def page() -> str:
    """``docs/extra-quality.md``."""
    rows = [f"| {name.capitalize()} | {asks} | {_count(name)} |" for name, asks in QUESTIONS.items()]
    machines = [
        f"| `{each.name}` | {each.title} | {each.controller} | {each.vendor}:{each.device} | {each.source} |"
        for each in PLATFORMS
    ]
    parts = [
        _HEAD,
        "| question | asks | rules |\n|---|---|---|\n" + "\n".join(rows) + "\n",
        _VERDICTS + "\n".join(machines) + "\n",
    ]
    for name in QUESTIONS:
        own = [rule for rule in RULES.values() if rule.question == name]
        if own:
            parts.append(f"## {name.capitalize()}\n\n" + "\n".join(_section(rule) for rule in own))
    parts.append(_ABOUT + "\n".join(_section(rule) for rule in ABOUT_AUDITS.values()))
    return "\n".join(parts)


def _count(question: str) -> str:
    count = sum(rule.question == question for rule in RULES.values())
    return str(count) if count and question in COVERED else "not checked yet"


def _section(rule: Rule) -> str:
    rows = "\n".join(f"- {label}: {text}" for label, text in fields(rule))
    return f"### {rule.id}\n\n{rule.title}.\n\n{rows}\n"


def fields(rule: Rule) -> tuple[tuple[str, str], ...]:
    """What a rule says, labelled, in the order of the page and of ``byre explain``."""
    guests = "all" if rule.guests == ALL_GUESTS else ", ".join(GUESTS[each] for each in rule.guests)
    return (
        ("severity", rule.severity),
        ("required for Extra Quality", "yes" if rule.required else "no"),
        ("looks at", rule.looks_at),
        ("why", rule.why),
        ("source", rule.source),
        ("seen by the user", rule.symptom),
        ("to mend it", rule.remedy),
        ("guests", guests),
    )
