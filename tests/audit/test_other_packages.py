"""The check on docs/checks.md, installed as its page says: an entry point of another package."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import byre as package
from programs import byre, byre_json

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"
SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's package as an installer would leave it, with its module to be changed by the test."""
    about = tmp_path / "lab_checks-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-checks\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[byre.checks]\nlab = lab_checks:CHECK\n")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "lab_checks.py").write_text(code.replace("ParlourDial", "Instrument"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    return tmp_path / "lab_checks.py"


def test_a_rule_of_another_package_finds_and_is_explained(installed: Path) -> None:
    payload = byre_json("audit", f"{SPECIMEN}@clean", "--fail-on", "medium", status=2)
    (found,) = [row for row in payload["findings"] if row["rule"] == "LAB-001"]
    assert (found["question"], found["where"]) == ("clean", "Instrument Control")
    assert byre("explain", "LAB-001").stdout.startswith("LAB-001: The old dialler is gone")
    assert "LAB-001" in byre("explain", "clean").stdout


def test_a_check_that_fails_is_told_and_its_rules_are_unknown(installed: Path) -> None:
    installed.write_text(installed.read_text().replace("for program in", "1 / 0\n    for program in"))
    payload = byre_json("audit", f"{SPECIMEN}@clean", status=None)
    (clean,) = [row for row in payload["questions"] if row["question"] == "clean"]
    assert [row["reason"] for row in clean["unread"] if row["rule"] == "LAB-001"] == [
        "the check lab failed: ZeroDivisionError: division by zero"
    ]


def test_a_package_that_cannot_be_imported_is_told(installed: Path) -> None:
    installed.write_text("import nowhere_to_be_found\n")
    payload = byre_json("audit", f"{SPECIMEN}@clean", status=None)
    assert any("lab: ModuleNotFoundError" in notice for notice in payload["notices"])
