"""What was foretold against what happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.stub_machines import message_disk
from byre.audit.judging import Prediction
from byre.machine.boot_trial import Trial, compare
from byre.machine.watch.observation import BootResult, Step, Stop, Verdict
from byre.reports.boot_trials import trials_json, trials_section
from programs import byre

FINE = Prediction("qemu", "QEMU", True, "On QEMU: would start.")
STOP_7B = Prediction("qemu:q35", "QEMU's q35", False, "On q35: STOP 0x0000007B (no driver).", "PORT-001", "kernel")
NO_LOADER = Prediction("qemu", "QEMU", False, "On QEMU: NTLDR is missing.", "BOOT-003", "loader")
UNTOLD = Prediction("qemu", "QEMU", None, "On QEMU: can't be told.")


def result(kind: str, code: int | None = None) -> BootResult:
    stop = Stop(code, (1, 2, 3, 4)) if code is not None else None
    verdict = Verdict(kind, "kernel", f"a {kind}", stop=stop)
    steps = (Step(0.5, "loader", "something <b>"),)
    return BootResult("x", "m", "qemu", "tcg", 9, "desktop", kind == "desktop", verdict, steps, screenshot=b"\x89PNG")


@pytest.mark.parametrize(
    ("prediction", "outcome", "started", "agrees"),
    [
        (FINE, result("desktop"), True, True),
        (FINE, result("logon"), True, True),
        (FINE, result("prompt"), True, True),
        (FINE, result("stop", 0x7B), False, False),
        (FINE, result("hang"), False, False),
        (FINE, result("timeout"), None, None),
        (STOP_7B, result("stop", 0x7B), False, True),
        (STOP_7B, result("stop", 0xA5), False, False),
        (STOP_7B, result("message"), False, False),
        (STOP_7B, result("desktop"), True, False),
        (NO_LOADER, result("message"), False, True),
        (UNTOLD, result("desktop"), True, None),
        (UNTOLD, result("stop", 0x7B), False, None),
        (FINE, result("no-sign-of-life"), None, None),
    ],
)
def test_prediction_and_reality(
    prediction: Prediction, outcome: BootResult, started: bool | None, agrees: bool | None
) -> None:
    trial = compare(prediction, outcome)
    assert (trial.started, trial.agrees) == (started, agrees)
    assert outcome.verdict.sentence in trial.sentence
    assert trial.sentence.startswith(prediction.target)


def test_several_machines_make_one_section_that_shows_the_failure() -> None:
    untried = Trial("vmware:lsi", None, None, None, "vmware:lsi: not tried: QEMU has none")
    section = trials_section([compare(FINE, result("desktop")), compare(STOP_7B, result("stop", 0x7B)), untried])
    assert section.reached is False
    assert [row.what for row in section.timeline] == ["qemu: something <b>", "qemu:q35: something <b>"]
    assert section.screenshot is not None
    assert "not tried" in section.verdict
    assert trials_section([compare(FINE, result("desktop"))]).reached is True
    assert trials_section([untried]).reached is None
    rows = trials_json([compare(STOP_7B, result("stop", 0x7B)), untried])
    assert rows[0]["boot"]["stop"]["name"] == "INACCESSIBLE_BOOT_DEVICE"
    assert rows[1]["boot"] is None
    json.dumps(rows)


@pytest.mark.oracle
@pytest.mark.slow
def test_audit_boots_and_says_whether_it_was_right(tmp_path: Path) -> None:
    """The audit finds nothing to start, and the machine says so too; q35 has its own line."""
    image = message_disk(tmp_path, "Missing operating system")
    page, copy = tmp_path / "report.html", tmp_path / "report.json"
    done = byre("audit", image, "--boot", "--report", page, "--report", copy, "--no-cache", status=2)
    assert "agrees" in done.stdout.split("boot test of")[1]
    assert "Missing operating system" in done.stdout
    (boot,) = json.loads(copy.read_text())["boots"]
    assert (boot["target"], boot["foretold"], boot["started"], boot["agrees"]) == ("qemu", False, False, True)
    assert boot["boot"]["verdict"] == "message"
    text = page.read_text()
    assert "Missing operating system" in text
    assert "data:image/png;base64," in text
