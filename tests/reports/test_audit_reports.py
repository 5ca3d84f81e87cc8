"""What programs read: JSON, SARIF and CycloneDX, each against the published schema of its form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from builders.audited import Plant, facts_of
from builders.reports import broken, healthy, hostile
from byre.audit.baseline import apply_baseline, parse_baseline
from byre.audit.facts import Census, Scan
from byre.audit.judging import Found, Report, Waiver, judge
from byre.audit.profile import Profile
from byre.audit.running import Failure
from byre.audit.waivers import apply_waivers
from byre.errors import MissingError
from byre.reports.audit_json import ONE, SEVERAL, as_json, several_json
from byre.reports.audit_markdown import as_markdown
from byre.reports.html import as_html
from byre.reports.sarif import MAX_RESULTS, as_sarif, message, uri
from byre.reports.sbom import as_cyclonedx
from byre.reports.sentences import verdict

ROOT = Path(__file__).parents[2]
REPORTS = [pytest.param(each, id=each.__name__) for each in (healthy, broken, hostile)]
FAILURE = Failure("gone.qcow2", MissingError("no such file", path="gone.qcow2"))


def schema(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


@cache
def validator(name: str) -> Draft202012Validator:
    ours = [schema(path) for path in (ROOT / "docs" / "schemas").glob("*.json")]
    registry: Registry[Any] = Registry().with_resources((each["$id"], Resource.from_contents(each)) for each in ours)
    checked = Draft202012Validator(schema(ROOT / "docs" / "schemas" / f"{name}.schema.json"), registry=registry)
    checked.check_schema(checked.schema)
    return checked


@cache
def sarif_validator() -> Draft202012Validator:
    return Draft202012Validator(schema(ROOT / "tests" / "reports" / "schemas" / "sarif-2.1.0.json"))


def through_json(value: object) -> Any:
    return json.loads(json.dumps(value))


def waived(report: Report) -> Report:
    accepted = Waiver("SVC-002", "no printer there", "hazel", "2030-01-01")
    old = Waiver("BOOT-014", "until the disk is back", "hazel", "2020-01-01")
    marked = apply_waivers(report, [accepted, old], date(2026, 11, 21))
    return apply_baseline(marked, parse_baseline({"schema": ONE, **as_json(healthy())}), alone=True)


@pytest.mark.parametrize("made", REPORTS)
def test_json_is_what_its_schema_says(made: Callable[[], Report]) -> None:
    validator("audit-1").validate(through_json({"schema": ONE, **as_json(made())}))
    validator("audit-1").validate(through_json({"schema": ONE, **as_json(waived(made()))}))


def test_json_of_several_images_is_what_its_schema_says() -> None:
    payload = through_json({"schema": SEVERAL, **several_json([healthy(), FAILURE, broken()])})
    validator("audits-1").validate(payload)
    assert [each["image"] for each in payload["reports"]] == ["shelf/parlour.qcow2", "shelf/broken.qcow2"]
    assert payload["failed"] == [
        {"image": "gone.qcow2", "error": "missing", "exit_status": 66, "message": "gone.qcow2: no such file."}
    ]


def test_the_schema_refuses_what_it_does_not_know() -> None:
    payload = through_json({"schema": ONE, **as_json(healthy())})
    assert not validator("audit-1").is_valid({**payload, "grade": "G"})
    assert not validator("audit-1").is_valid({**payload, "extra": 1})


@pytest.mark.parametrize("made", REPORTS)
def test_sarif_is_what_its_schema_says(made: Callable[[], Report]) -> None:
    log = through_json(as_sarif([made(), waived(made()), FAILURE]))
    sarif_validator().validate(log)
    assert len(log["runs"]) == 3


def test_sarif_says_what_viewers_want() -> None:
    run = as_sarif([broken()])["runs"][0]
    first = run["results"][0]
    assert first["ruleId"] == "BOOT-014"
    assert first["level"] == "error"
    assert first["properties"]["security-severity"] == "9.5"
    place = first["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "shelf/broken.qcow2"
    assert place["logicalLocations"][0]["fullyQualifiedName"] == "/WINDOWS/system32/drivers/atapi.sys"
    assert run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"] == "BOOT-014"
    prints = [row["partialFingerprints"]["primaryLocationLineHash"] for row in run["results"]]
    assert len(set(prints)) == len(prints)
    assert "baselineState" not in first


def test_sarif_keeps_what_was_waived_and_says_what_is_new() -> None:
    rows = {row["ruleId"]: row for row in as_sarif([waived(broken())])["runs"][0]["results"]}
    assert rows["SVC-002"]["suppressions"][0]["justification"] == "no printer there (hazel, until 2030-01-01)"
    assert "suppressions" not in rows["BOOT-014"]
    assert rows["BOOT-014"]["baselineState"] == "new"
    assert rows["PORT-006"]["baselineState"] == "unchanged"
    assert rows["WAIV-001"]["level"] == "error"


def test_sarif_of_an_image_that_could_not_be_audited_is_no_clean_run() -> None:
    run = as_sarif([FAILURE])["runs"][0]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert run["results"] == []


def test_sarif_holds_at_most_what_viewers_take() -> None:
    many = replace(broken(), findings=broken().findings[:1] * (MAX_RESULTS + 5))
    run = as_sarif([many])["runs"][0]
    assert len(run["results"]) == MAX_RESULTS
    notes = [each["message"]["text"] for each in run["invocations"][0]["toolExecutionNotifications"]]
    assert "5 lesser findings are left out here" in notes


def test_sarif_text_of_the_guest_is_no_link_and_no_control_sequence() -> None:
    assert message("[click](http://a)\x1b[2J") == "\\[click\\](http://a)\\x1b\\[2J"
    text = json.dumps(as_sarif([hostile()]), ensure_ascii=False)
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_an_images_name_is_a_uri_whatever_is_in_it() -> None:
    assert uri("a b/x#1%.qcow2") == "a%20b/x%231%25.qcow2"
    assert uri("https://host/x.qcow2?a=b") == "https://host/x.qcow2?a=b"
    assert uri("x\udcff.vdi") == "x%FF.vdi"


@pytest.mark.parametrize("made", REPORTS)
def test_the_bill_of_materials_is_cyclonedx(made: Callable[[], Report]) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = json.dumps(as_cyclonedx(made()))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_the_bill_of_materials_names_programs_hotfixes_and_drivers() -> None:
    bill = as_cyclonedx(healthy())
    named = {each["name"]: each for each in bill["components"]}
    assert bill["metadata"]["component"]["name"] == "Microsoft Windows XP"
    assert named["Instrument Control"]["publisher"] == "Byre specimen"
    assert {"KB958644", "ACPI"} <= set(named)
    assert named["ACPI"]["version"].startswith("5.1.")
    assert bill["compositions"][0]["aggregate"] == "incomplete"
    assert bill == as_cyclonedx(healthy()), "the same guest gives the same bill"


def test_a_bill_of_what_could_not_be_read_says_so() -> None:
    blind = replace(healthy(), profile=Profile(installed_unknown="the hive is damaged"))
    assert as_cyclonedx(blind)["compositions"][0]["aggregate"] == "unknown"


def test_markdown_shows_what_was_waived_and_what_failed() -> None:
    page = as_markdown([waived(broken()), FAILURE])
    assert "**Waived** by hazel until 2030-01-01" in page
    assert "# gone.qcow2: not audited" in page


def test_markdown_of_a_hostile_guest_holds_no_markup() -> None:
    page = as_markdown([hostile()])
    assert "<script" not in page
    assert "<img" not in page
    assert "\x1b" not in page


def test_the_verdict_says_what_happens_and_whether_it_is_clean() -> None:
    assert verdict(healthy()).startswith("It would start on QEMU's default machine. ")
    assert verdict(broken()).startswith("On QEMU's default machine: the loader stops at atapi.sys")
    answers = tuple(
        replace(each, verdict="fail", findings=3) if each.question == "clean" else each for each in healthy().answers
    )
    said = verdict(replace(healthy(), answers=answers))
    assert said.endswith("3 signs were found of something that doesn't belong there.")


def test_fingerprints_outlive_a_change_of_words_and_of_case() -> None:
    found = broken().findings[0]
    other = replace(found.finding, where=found.finding.where.upper(), evidence="in other words")
    assert Found(other, found.rule, "low").fingerprint == found.fingerprint


def test_scanners_that_were_not_used_are_named_and_those_that_were_say_how_old_they_are() -> None:
    scans = (
        Scan("yara", True, "built-in rules", "2026-11-01", skipped_count=3),
        Scan("clamav", False, problem="nobody answers at the socket"),
    )
    facts = replace(facts_of(Plant()), census=Census(scans=scans))
    report = judge(facts)
    states = {each.name: each.state for each in report.profile.looked}
    assert states == {
        "YARA rules": "used",
        "ClamAV": "not checked",
        "known hashes": "not checked",
    }
    for page in (as_markdown([report]), as_html([report]), json.dumps(as_json(report))):
        assert "2026-11-01" in page
        assert "nobody answers at the socket" in page
    (invocation,) = as_sarif([report])["runs"][0]["invocations"]
    notes = [row["message"]["text"] for row in invocation["toolExecutionNotifications"]]
    assert "ClamAV: nobody answers at the socket" in notes
    assert "known hashes: not checked" in notes
