"""Clean on registry hives of real machines: nothing at medium and above."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import pytest

from builders import xp
from builders.audited import Plant, facts_of
from byre.audit.judging import judge
from byre.audit.rule import rank

DATA = Path(os.environ.get("BYRE_FIELD_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no field data in {DATA} ($BYRE_FIELD_DATA)"),
]
HIVES = {
    "corrupted_system_hive.xz": f"{xp.SYSTEM32}/config/SYSTEM",
    "SYSTEM.xz": f"{xp.SYSTEM32}/config/SYSTEM",
    "SAM.xz": f"{xp.SYSTEM32}/config/SAM",
    "NTUSER_XP.DAT.xz": f"{xp.PROFILE}/operator/NTUSER.DAT",
}


@pytest.mark.parametrize("name", HIVES)
def test_a_real_hive_is_no_reason_for_alarm(name: str) -> None:
    data = lzma.decompress((DATA / name).read_bytes())
    report = judge(facts_of(Plant(write={HIVES[name]: data})), only=("clean",))
    loud = [each for each in report.findings if rank(each.severity) >= rank("medium")]
    assert loud == []
