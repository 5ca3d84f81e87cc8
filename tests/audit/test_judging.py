"""Verdicts, grades and what is never taken for a pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from builders import xp
from builders.audited import Plant, facts_of
from builders.defects import mbr
from byre.audit import catalogue
from byre.audit.catalogue import OWN, Check
from byre.audit.clean_autostarts import _Judge
from byre.audit.facts import Facts, Scan, Skipped
from byre.audit.finding import Finding, Unread
from byre.audit.judging import Answer, Report, judge
from byre.audit.platforms import Platform, platform_named
from byre.audit.rule import QUESTIONS, Rule
from byre.errors import MissingError, UsageError
from byre.reports.audit_markdown import as_markdown
from byre.windows.fact import known, unknown
from byre.windows.signed_data import Trust


@cache
def clean() -> Facts:
    return facts_of(Plant())


def answer(report: Report, question: str) -> Answer:
    return next(each for each in report.answers if each.question == question)


def test_a_system_without_signs_is_never_called_clean() -> None:
    report = judge(clean())
    assert (answer(report, "clean").verdict, answer(report, "clean").sentence) == ("pass", "no sign found")
    assert report.extra_quality


def test_extra_quality_is_not_granted_while_clean_is_unknown() -> None:
    report = judge(replace(clean(), programs=unknown("the volume can't be walked")))
    assert answer(report, "clean").verdict == "unknown"
    assert not report.extra_quality
    assert report.grade == "C"
    assert report.reason == "Extra Quality can't be granted: Clean is unknown"


def test_a_critical_finding_is_an_f() -> None:
    assert judge(facts_of(Plant(facts=mbr(False, False)))).grade == "F"


def test_a_hive_that_cannot_be_read_is_never_a_pass() -> None:
    report = judge(
        replace(clean(), system=unknown("bad sector"), guest=replace_guest(services=unknown("bad sector")))
    )
    assert answer(report, "complete").verdict != "pass"
    assert answer(report, "portable").verdict == "unknown"
    assert report.predictions[0].starts is not True


def replace_guest(**changes: object):  # type: ignore[no-untyped-def]
    return replace(clean().guest, **changes)  # type: ignore[type-var]


def test_a_container_that_cannot_be_checked_makes_sound_unknown() -> None:
    report = judge(replace(clean(), container=unknown("it is locked")))
    assert answer(report, "sound").verdict == "unknown"
    assert "it is locked" in answer(report, "sound").sentence


def test_an_import_closure_that_was_not_followed_makes_complete_unknown() -> None:
    report = judge(replace(clean(), imports=unknown("too deep")))
    assert answer(report, "complete").verdict == "unknown"
    assert report.predictions[0].starts is None


def test_an_image_without_a_system_is_not_called_private_or_lean() -> None:
    report = judge(replace(clean(), guest=None))
    assert [answer(report, each).verdict for each in ("private", "lean", "portable")] == ["unknown"] * 3


def test_questions_that_were_not_asked_are_unknown() -> None:
    report = judge(clean(), only=("portable",))
    assert {each.question for each in report.answers if each.sentence == "not asked"} == set(QUESTIONS) - {"portable"}
    assert {each.rule.question for each in report.findings} == {"portable"}


def test_several_machines_have_findings_of_their_own() -> None:
    report = judge(clean(), (platform_named("qemu:q35"), platform_named("vmware:lsi"), platform_named("qemu")))
    assert [each.finding.target for each in report.findings if each.rule.id == "PORT-001"] == [
        "qemu:q35",
        "vmware:lsi",
    ]
    assert len([each for each in report.findings if each.rule.id == "PORT-006"]) == 1


def test_the_first_thing_that_ends_the_start_is_predicted() -> None:
    gone = Plant(remove=(f"{xp.SYSTEM32}/winlogon.exe", "/NTLDR", f"{xp.SYSTEM32}/smss.exe"))
    told = judge(facts_of(gone)).predictions[0]
    assert (told.rule, told.stage) == ("BOOT-006", "loader")


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(UsageError, match="no machine 'amiga'"):
        platform_named("amiga")


def test_an_unknown_rule_is_missing() -> None:
    with pytest.raises(MissingError):
        catalogue.rule_named("BOOT-999")


RULE = Rule("LAB-001", "clean", "t", "high", True, "l", "w", "s", "y", "r")


def _finds(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    yield Finding("LAB-001", "/x", "there", "odd")
    yield Finding("BOOT-001", "/x", "not its own rule", "odd")


def _fails(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    raise ZeroDivisionError("lab")
    yield


def test_a_check_of_another_package_speaks_for_its_own_rules_only() -> None:
    report = judge(clean(), checks=(*OWN, Check("lab", (RULE,), _finds)))
    assert answer(report, "clean").verdict == "fail"
    assert [each.rule.id for each in report.findings if each.finding.where == "/x"] == ["LAB-001"]


def test_a_check_of_another_package_that_fails_makes_its_rules_unknown() -> None:
    report = judge(clean(), checks=(*OWN, Check("lab", (RULE,), _fails)))
    assert answer(report, "clean").verdict == "unknown"
    assert any("ZeroDivisionError" in row.reason for row in answer(report, "clean").unread)


class _Point:
    name = "lab"

    def __init__(self, made: object) -> None:
        self.made = made

    def load(self) -> object:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


def test_entry_points_are_taken_or_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    good = Check("lab", (RULE,), _finds)
    twice = Check("lab", (replace(RULE, id="BOOT-001"),), _finds)
    points = [_Point(good), _Point(twice), _Point("no check"), _Point(ImportError("gone"))]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: points if group == "byre.checks" else [])
    taken, refused = catalogue.installed_checks()
    assert taken == (good,)
    assert [("there already" in each, "is not a" in each, "gone" in each) for each in refused] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    assert catalogue.rule_named("lab-001") is RULE


def test_markdown_shows_the_guests_names_as_they_are() -> None:
    evil = Finding("SVC-002", "/<script>alert(1)</script>\x1b[31m\n# [x](http://a)", "*a*|b", "c")
    report = judge(clean(), checks=(Check("complete", OWN[1].rules, lambda facts, machine: [evil]),))
    text = as_markdown([report])
    assert "\x1b" not in text
    assert "<script>" not in text
    assert "\n# [x]" not in text
    assert r"\[x\]\(http" in text


def test_a_prediction_says_what_to_change() -> None:
    told = {each.target: each for each in judge(clean()).predictions}
    assert told["qemu"].remedy is None
    assert "attach the disk to an IDE controller" in (told["vmware:lsi"].remedy or "")
    gone = judge(facts_of(Plant(remove=("/NTLDR",)))).predictions[0]
    assert gone.remedy == catalogue.rule_named(gone.rule or "").remedy


def test_files_that_a_scanner_passed_over_are_named() -> None:
    facts = facts_of(Plant())
    scan = Scan("clamav", used=True, about="ClamAV", skipped=(Skipped("/big.iso", "too large"),), skipped_count=5)
    report = judge(replace(facts, census=replace(facts.census, scans=(scan,))))
    assert any("ClamAV did not look into /big.iso (too large) and 2 more" in each for each in report.notices)


def test_what_the_census_did_not_come_to_is_told() -> None:
    facts = facts_of(Plant())
    census = replace(facts.census, files=12, truncated=True, catalog_problems=("/CatRoot/nt5.cat: is cut short",))
    report = judge(replace(facts, census=census))
    assert "the volume holds too many files: 12 were looked at, the rest was not" in report.notices
    assert "what a security catalog vouches for isn't known: /CatRoot/nt5.cat: is cut short" in report.notices
    verdicts = [{each.question: each.verdict for each in told.answers}["clean"] for told in (report, judge(facts))]
    assert verdicts == ["unknown", "pass"]
    assert not [each for each in judge(facts).notices if "catalog" in each or "too many" in each]


def test_a_catalog_whose_signature_is_not_proven_is_told_where_it_vouches() -> None:
    facts = facts_of(Plant())
    assert facts.programs.value is not None
    programs = tuple(replace(each, known="own.cat") for each in facts.programs.value)
    guest = facts.guest
    assert guest is not None
    row = next(each for each in guest.autostarts.value or () if each.files and not each.missing)
    for verdict, told in (("trusted", False), ("unsigned", True), ("unknown root", True)):
        census = replace(facts.census, catalogs=(("own.cat", Trust(verdict)),))
        judged = _Judge(replace(facts, programs=known(programs), census=census), guest)
        assert ("(a catalog whose signature isn't proven)" in judged.told(row)) is told
