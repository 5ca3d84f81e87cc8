"""Systems that Byre has no rules for: what they would do is unknown, never a defect of theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

import byre
from builders.linux_guest import linux_disk


@pytest.mark.oracle
def test_a_linux_disk_that_boots_is_not_said_to_have_nothing_to_start(tmp_path: Path) -> None:
    report = byre.audit(linux_disk(tmp_path, "console=ttyS0"))
    assert not report.at_least("medium")
    assert {each.starts for each in report.predictions} == {None}
    answer = next(each for each in report.answers if each.question == "complete")
    assert answer.verdict == "unknown" and "SYSLINUX" in answer.sentence
