"""Dependences between services on real hives: none is missing in a healthy one, and a damaged one says nothing."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import pytest

from builders import xp
from builders.audited import Plant, facts_of
from byre.audit.judging import judge
from byre.audit.lacking import missing_dependences
from byre.windows.paths import SystemPaths
from byre.windows.registry import open_hive
from byre.windows.services import read_services

DATA = Path(os.environ.get("BYRE_FIELD_DATA", Path(__file__).parents[3] / "shared" / "data"))


def hive(name: str) -> bytes:
    path = DATA / f"{name}.xz"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return lzma.decompress(path.read_bytes())


@pytest.mark.field
def test_no_dependence_is_missing_in_a_healthy_hive() -> None:
    key = open_hive(hive("SYSTEM"), path="SYSTEM").key("ControlSet001")
    assert key is not None
    services = read_services(key, SystemPaths("/WINDOWS"))
    assert len(services) > 400
    assert missing_dependences(services) == {}


@pytest.mark.field
def test_a_damaged_hive_is_no_proof_that_a_service_is_gone() -> None:
    facts = facts_of(Plant(write={f"{xp.SYSTEM32}/config/SYSTEM": hive("corrupted_system_hive")}))
    report = judge(facts)
    assert "COMP-004" not in {each.rule.id for each in report.findings}
    assert any(row.rule == "COMP-004" for each in report.answers for row in each.unread)


@pytest.mark.field
def test_the_kernels_note_of_a_real_system_is_its_set_up() -> None:
    """Measured: 2008-09-19, and no evaluation."""
    facts = facts_of(Plant(write={f"{xp.SYSTEM32}/config/SYSTEM": hive("corrupted_system_hive")}))
    told = facts.provenance.value
    assert told is not None
    assert (told.set_up, told.trial_minutes, told.activation) == ("2008-09-19T20:27:16Z", 0, True)
