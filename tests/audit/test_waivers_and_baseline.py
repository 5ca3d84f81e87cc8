"""What counts: waivers with a reason and an end, and baselines of earlier reports."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from builders.reports import broken, healthy
from byre.audit.baseline import apply_baseline, parse_baseline, read_baseline
from byre.audit.judging import Report, Waiver
from byre.audit.waivers import MAX_FILE, apply_waivers, like, parse_waivers, read_waivers
from byre.errors import MissingError, UsageError
from byre.reports.audit_json import ONE, SEVERAL, as_json
from effort import at_most

TODAY = date(2026, 11, 21)
ONE_WAIVER = """
[[waiver]]
rule = "boot-014"
where = "/WINDOWS/system32/drivers/*.sys"
image = "*.qcow2"
reason = "the driver comes with the next update"
who = "hazel"
expires = 2027-06-30
"""


def waiver(**changes: str | None) -> Waiver:
    return replace(Waiver("BOOT-014", "a reason", "hazel", "2027-06-30"), **changes)  # type: ignore[arg-type]


def rules(report: Report, severity: str = "high") -> list[str]:
    return [each.rule.id for each in report.counting(severity)]


def test_a_waiver_is_read() -> None:
    assert parse_waivers(ONE_WAIVER) == (
        Waiver(
            "BOOT-014",
            "the driver comes with the next update",
            "hazel",
            "2027-06-30",
            "/WINDOWS/system32/drivers/*.sys",
            "*.qcow2",
        ),
    )


@pytest.mark.parametrize("field", ["rule", "reason", "who", "expires"])
def test_a_waiver_without_a_mandatory_field_is_refused(field: str) -> None:
    text = "\n".join(line for line in ONE_WAIVER.splitlines() if not line.startswith(f"{field} ="))
    with pytest.raises(UsageError, match=f"waiver 1 has no {field}"):
        parse_waivers(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("expires = 2027-06-30", 'expires = "next year"'), "is no date"),
        (("expires = 2027-06-30", 'expires = "2027-13-40"'), "is no date"),
        (("expires = 2027-06-30", "expires = true"), "is no date"),
        (('who = "hazel"', "who = 7"), "'who' is a text"),
        (('who = "hazel"', 'who = "  "'), "'who' is a text"),
        (('who = "hazel"', 'whom = "hazel"'), "no field 'whom'"),
        (("[[waiver]]", "[[waivers]]"), "no setting 'waivers'"),
        (("[[waiver]]", "waiver = 3\n[x]"), "no setting 'x'"),
    ],
)
def test_a_mistake_in_a_waiver_is_named(change: tuple[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_waivers(ONE_WAIVER.replace(*change))


def test_files_of_waivers_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    for data in (b"\xff\xfe", b"[[waiver", b"x" * (MAX_FILE + 1), b"a=" + b"[" * 20_000):
        file.write_bytes(data)
        with pytest.raises(UsageError) as caught:
            read_waivers(file)
        assert caught.value.path == str(file)
    with pytest.raises(MissingError):
        read_waivers(tmp_path / "none.toml")


def test_what_is_waived_does_not_count_and_stays_in_the_report() -> None:
    before = broken()
    after = apply_waivers(before, [waiver()], TODAY)
    assert "BOOT-014" in rules(before)
    assert "BOOT-014" not in rules(after)
    assert len(after.findings) == len(before.findings)
    assert (after.grade, after.answers, after.extra_quality) == (before.grade, before.answers, before.extra_quality)


def test_a_waiver_is_for_its_place_and_its_image_only() -> None:
    for changes in ({"where": "/elsewhere"}, {"image": "other*"}, {"rule": "BOOT-015"}):
        assert "BOOT-014" in rules(apply_waivers(broken(), [waiver(**changes)], TODAY)), changes
    for changes in ({"where": r"\windows\SYSTEM32\drivers\atapi.sys"}, {"image": "broken.*"}, {"image": "shelf/*"}):
        assert "BOOT-014" not in rules(apply_waivers(broken(), [waiver(**changes)], TODAY)), changes


def test_a_waiver_holds_on_its_last_day_and_is_a_finding_on_the_next() -> None:
    last = waiver(expires=TODAY.isoformat())
    assert "BOOT-014" not in rules(apply_waivers(broken(), [last], TODAY))
    after = apply_waivers(broken(), [last], date(2026, 11, 22))
    assert {"BOOT-014", "WAIV-001"} <= set(rules(after))
    assert after.findings[0].rule.id == "WAIV-001"
    assert "hazel until 2026-11-21" in after.findings[0].finding.evidence
    assert after.grade == broken().grade


def test_an_expired_waiver_of_another_image_says_nothing() -> None:
    old = waiver(expires="2020-01-01", image="other.vdi")
    assert "WAIV-001" not in rules(apply_waivers(broken(), [old], TODAY))


def test_a_waiver_that_fits_nothing_is_told() -> None:
    report = apply_waivers(healthy(), [waiver()], TODAY)
    assert "a waiver for BOOT-014 fits no finding any more" in report.notices


def test_patterns_take_no_longer_than_their_lengths() -> None:
    with at_most(seconds=2):
        assert not like("a" * 1000, "*a" * 400 + "b")
    assert like("C:\\Windows\\x.dll", "c:/windows/*.DLL")
    assert like("", "*")
    assert not like("ab", "a")
    assert like("abc", "a?c")


def test_only_what_the_baseline_has_not_counts() -> None:
    earlier = parse_baseline({"schema": ONE, **as_json(healthy())})
    report = apply_baseline(broken(), earlier, alone=True)
    states = {each.rule.id: each.new for each in report.findings}
    assert states["BOOT-014"] is True
    assert states["PORT-006"] is False
    assert set(rules(report, "low")) == {"BOOT-014", "PORT-004", "SVC-002"}
    again = apply_baseline(broken(), parse_baseline({"schema": ONE, **as_json(broken())}), alone=True)
    assert rules(again, "low") == []
    assert len(again.findings) == len(broken().findings)


def test_what_is_gone_since_the_baseline_is_told() -> None:
    earlier = parse_baseline({"schema": ONE, **as_json(broken())})
    report = apply_baseline(healthy(), earlier, alone=True)
    assert "3 of the baseline's findings are gone" in report.notices


def test_a_finding_that_is_graver_than_in_the_baseline_is_new() -> None:
    payload = json.loads(json.dumps({"schema": ONE, **as_json(broken())}))
    for row in payload["findings"]:
        row["severity"] = "low"
    report = apply_baseline(broken(), parse_baseline(payload), alone=True)
    assert set(rules(report, "low")) == {"BOOT-014", "PORT-004", "SVC-002"}


def test_a_second_finding_at_the_same_place_is_new() -> None:
    twice = replace(broken(), findings=(broken().findings[0], *broken().findings))
    report = apply_baseline(twice, parse_baseline({"schema": ONE, **as_json(broken())}), alone=True)
    assert rules(report, "low") == ["BOOT-014"]


def test_a_baseline_of_several_images_is_asked_by_name() -> None:
    both = {"schema": SEVERAL, "reports": [{"schema": ONE, **as_json(each)} for each in (healthy(), broken())]}
    baseline = parse_baseline(both)
    assert rules(apply_baseline(broken(), baseline, alone=True), "low") == []
    moved = apply_baseline(replace(broken(), image="elsewhere/broken.qcow2"), baseline, alone=True)
    assert rules(moved, "low") == []
    other = apply_baseline(replace(broken(), image="x.qcow2"), baseline, alone=True)
    assert "BOOT-014" in rules(other)
    assert "the baseline has no report of this image: every finding is new" in other.notices


ODD = {"rule": 1, "where": 2, "target": 3, "severity": "low"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "byre/info/1"}',
        '{"schema": "byre/audit/1"}',
        "[" * 100_000,
        json.dumps({"schema": ONE, "image": "x", "findings": [ODD]}),
        json.dumps({"schema": ONE, "image": "x", "findings": [7]}),
    ],
)
def test_a_baseline_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "b.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="isn't an audit report"):
        read_baseline(file)
