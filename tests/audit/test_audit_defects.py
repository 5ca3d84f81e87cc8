"""One defect at a time: the rules that must speak, those that must not, and the prediction."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from builders.audited import Plant, facts_of
from builders.mutations import Mutation, all_healthy, all_mutations
from byre.audit.catalogue import RULES
from byre.audit.facts import Facts
from byre.audit.judging import Report, judge
from byre.audit.platforms import platform_named
from byre.audit.rule import rank

MUTATIONS = all_mutations()


@cache
def audited(index: int) -> Report:
    defect = MUTATIONS[index]
    return judge(facts_of(defect.plant), (platform_named(defect.target),))


def spoken(report: Report, *, least: str) -> set[str]:
    return {found.rule.id for found in report.findings if rank(found.severity) >= rank(least)}


def numbered(defects: tuple[Mutation, ...]) -> list[object]:
    return [pytest.param(index, id=defect.name) for index, defect in enumerate(defects)]


@pytest.mark.parametrize("index", numbered(MUTATIONS))
def test_a_defect_is_found_and_nothing_else(index: int) -> None:
    defect, report = MUTATIONS[index], audited(index)
    assert spoken(report, least="medium") == defect.fires
    assert defect.notes <= spoken(report, least="low")


@pytest.mark.parametrize("index", numbered(MUTATIONS))
def test_a_defect_has_its_consequence(index: int) -> None:
    defect, report = MUTATIONS[index], audited(index)
    told = next(each for each in report.predictions if each.target == defect.target)
    if defect.says is None:
        assert told.starts, told.sentence
    else:
        assert not told.starts
        assert defect.says.lower() in told.sentence.lower()


@pytest.mark.parametrize("name", all_healthy())
def test_a_healthy_system_is_left_alone(name: str) -> None:
    report = judge(facts_of(all_healthy()[name]))
    assert spoken(report, least="medium") == set()
    assert report.predictions[0].starts
    assert [each.verdict for each in report.answers[:2]] == ["pass", "pass"]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_has_a_defect_that_trips_it(rule: str) -> None:
    assert any(rule in defect.fires | defect.notes for defect in MUTATIONS)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_has_a_system_that_does_not_trip_it(rule: str) -> None:
    quiet = judge(facts_of(Plant(facts=no_system))) if rule.startswith(("PRIV", "LEAN", "PORT")) else judge(clean())
    assert rule not in spoken(quiet, least="low")


@cache
def clean() -> Facts:
    return facts_of(Plant())


def no_system(facts: Facts) -> Facts:
    return replace(facts, guest=None)


def test_there_are_at_least_sixty_defects() -> None:
    assert len({defect.name for defect in MUTATIONS}) == len(MUTATIONS) >= 60
