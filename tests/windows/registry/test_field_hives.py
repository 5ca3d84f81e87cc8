"""Real hives of the field data: read there, never copied."""

from __future__ import annotations

import lzma
import os
import re
from pathlib import Path

import pytest

from byre.windows.bcd import read_bcd
from byre.windows.registry import open_hive

DATA = Path(os.environ.get("BYRE_FIELD_DATA", Path(__file__).parents[4] / "shared" / "data"))

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no field data in {DATA} ($BYRE_FIELD_DATA)"),
]


def load(name: str) -> bytes:
    return lzma.decompress((DATA / f"{name}.xz").read_bytes())


def test_windows_7_system_hive_is_read_whole() -> None:
    hive = open_hive(load("SYSTEM"), path="SYSTEM")
    keys = values = 0
    for _, key in hive.walk():
        keys += 1
        values += len(key.values())
    assert (keys, values) == (30756, 73456)
    assert hive.problems == []
    database = hive.key(r"ControlSet001\Control\CriticalDeviceDatabase")
    assert database is not None and len(database.subkeys()) == 2548


def test_dirty_hive_is_replayed_from_both_logs() -> None:
    logs = [(f"SYSTEM_B.{name}", load(f"SYSTEM_B.{name}")) for name in ("LOG1", "LOG2")]
    hive = open_hive(load("SYSTEM_B"), path="SYSTEM_B", logs=logs)
    assert hive.replayed is not None
    assert hive.replayed.applied == 24 and hive.replayed.log_names == ("SYSTEM_B.LOG1", "SYSTEM_B.LOG2")
    assert hive.base.clean and hive.problems == []
    assert sum(1 for _ in hive.walk()) == 35595


def test_dirty_hive_without_its_logs_says_so() -> None:
    hive = open_hive(load("SYSTEM_B"), path="SYSTEM_B")
    assert "dirty" in hive.problems[0].what


def test_damaged_hive_gives_the_subkeys_whose_cells_are_left() -> None:
    hive = open_hive(load("corrupted_system_hive"), path="SYSTEM")
    database = hive.key(r"ControlSet001\Control\CriticalDeviceDatabase")
    assert database is not None
    assert database.subkey_count == 52
    found = {key.name.lower() for key in database.subkeys()}
    # Whole pages of the bin are zeros: of 52 cells this many are left, at whatever alignment one looks for them.
    bins = load("corrupted_system_hive")[4096:]
    marks = [match.start() for match in re.finditer(b"nk", bins)]
    left = [at for at in marks if bins[at + 16 : at + 20] == database.cell.to_bytes(4, "little")]
    assert len(found) == len(left) == 25
    assert {"gendisk", "pci#ven_104b&dev_1040", "secondary_ide_channel"} <= found
    assert any("CriticalDeviceDatabase" in problem.what for problem in hive.problems)


def test_xp_user_hive_is_sound() -> None:
    hive = open_hive(load("NTUSER_XP.DAT"), path="NTUSER.DAT")
    assert hive.key(r"Software\Microsoft\Windows\CurrentVersion\Explorer") is not None
    assert sum(1 for _ in hive.walk()) == 1127 and hive.problems == []


def test_bcd_is_a_hive() -> None:
    hive = open_hive(load("BCD"), path="BCD")
    assert hive.key(r"Objects\{9dea862c-5cdd-4e70-acc1-f32b344d4795}") is not None
    bcd = read_bcd(hive)
    assert bcd is not None and bcd.timeout == 30 and bcd.chosen is not None
    assert bcd.chosen.title == "Windows 10" and bcd.chosen.folder == r"\Windows"
