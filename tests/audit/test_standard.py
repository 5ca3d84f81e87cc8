"""The published page and the rules are the same, and the rules are well-formed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from byre.audit.catalogue import OWN, RULES
from byre.audit.platforms import PLATFORMS
from byre.audit.rule import COVERED, GUESTS, QUESTIONS, SEVERITIES, Rule
from byre.audit.standard import page

PAGE = Path(__file__).parents[2] / "docs" / "extra-quality.md"


def test_the_page_is_what_the_rules_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run tools/write_standard.py"


def test_no_id_is_used_twice() -> None:
    assert len(RULES) == sum(len(check.rules) for check in OWN)


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_rule_says_everything(rule: Rule) -> None:
    assert re.fullmatch(r"[A-Z]+-\d{3}", rule.id)
    assert rule.question in QUESTIONS
    assert rule.severity in SEVERITIES
    assert rule.guests
    assert set(rule.guests) <= set(GUESTS)
    for text in (rule.title, rule.looks_at, rule.why, rule.source, rule.symptom, rule.remedy):
        assert text
        assert not text.endswith(".")
    assert f"### {rule.id}\n" in page()


def test_the_page_says_which_questions_have_no_rules_yet() -> None:
    for question in set(QUESTIONS) - set(COVERED):
        assert f"| {question.capitalize()} | {QUESTIONS[question]} | not checked yet |" in page()


def test_the_page_names_every_machine() -> None:
    for machine in PLATFORMS:
        assert f"| `{machine.name}` |" in page()
