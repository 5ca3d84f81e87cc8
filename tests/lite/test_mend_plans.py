"""The plans themselves, from facts and bytes in memory."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import xp
from builders.audited import Plant, facts_of
from builders.cabinets import build_cabinet
from builders.hive import Node
from builders.memory_disks import memory_disk
from builders.memory_files import MemoryFiles
from byre.errors import ByreError
from byre.lite.changes import Put
from byre.lite.hive_editor import SetValue
from byre.lite.mending import boot_files, portable, sources
from byre.lite.mending.autostart import plan as plan_autostart
from byre.lite.mending.boot_code import MASTER_CODE
from byre.lite.mending.boot_sector import mended_fields
from byre.lite.mending.disk import plan_code, plan_disk
from byre.lite.mending.plan import Options, Patient, WriteSector
from byre.lite.mending.sources import GuestSources
from byre.lite.mending.table import MENDS, NAMES, chosen
from byre.windows.boot_ini import parse_boot_ini


def _patient(plant: Plant | None = None, **options: object) -> Patient:
    facts = facts_of(plant or Plant())
    files = MemoryFiles(dict(xp.clean_files()))
    return Patient(facts, files, files, xp.ROOT, GuestSources(files, xp.ROOT), Options(**options))  # type: ignore[arg-type]


def test_every_mend_finds_nothing_to_do_in_what_it_is_not_for() -> None:
    facts = replace(_patient().facts, kind="unknown")
    patient = replace(_patient(), facts=facts)
    refused = portable.plan(patient).refusals
    assert [each.what for each in refused] == ["boot controllers"]
    assert boot_files.plan(patient).steps == ()


def test_the_table_has_each_mend_once_and_all_leaves_out_what_must_be_asked_for() -> None:
    assert len(set(NAMES)) == len(MENDS)
    assert [mend.name for mend in chosen(("all",))] == ["boot", "hives", "portable", "hal", "intelppm"]
    assert [mend.name for mend in chosen(("autostart",))] == ["autostart"]


def test_a_maker_s_own_driver_that_starts_at_boot_keeps_its_id() -> None:
    def own(root: Node) -> None:
        root.at(r"ControlSet001\Control\CriticalDeviceDatabase\pci#ven_1106&dev_0571").values = {"Service": "Disk"}
        root.at(r"ControlSet001\Control\CriticalDeviceDatabase\pci#cc_0101").values = {"Service": "nothere"}

    steps = portable.plan(_patient(Plant(system=own))).steps
    keys = {step.action.key.rpartition("\\")[2] for step in steps if isinstance(step.action, SetValue)}
    assert "pci#ven_1106&dev_0571" not in keys
    assert "pci#cc_0101" in keys


def test_a_service_that_is_gone_is_written_whole_with_group_and_tag() -> None:
    def gone(root: Node) -> None:
        del root.at(r"ControlSet001\Services").keys["IntelIde"]

    steps = portable.plan(_patient(Plant(system=gone))).steps
    wrote = {
        step.action.name: step.action.data
        for step in steps
        if isinstance(step.action, SetValue) and step.action.key.endswith(r"Services\intelide")
    }
    assert {name: wrote[name] for name in ("Start", "Type", "Tag")} == {
        "Start": bytes(4),
        "Type": b"\1\0\0\0",
        "Tag": b"\4\0\0\0",
    }
    assert wrote["Group"].decode("utf-16-le") == "System Bus Extender\0"


@pytest.mark.parametrize("name", ["service:atapi", "service:rpcss", "winlogon:Userinit", "nobody", "service:nobody"])
def test_what_the_start_goes_through_is_not_disabled(name: str) -> None:
    plan = plan_autostart(_patient(autostarts=(name,)))
    assert plan.steps == ()
    assert [each.what.lower() for each in plan.refusals] == [name.lower()]


def test_a_service_keeps_its_old_start_beside() -> None:
    plan = plan_autostart(_patient(autostarts=("service:wuauserv",)))
    wrote = {step.action.key: step.action.data for step in plan.steps if isinstance(step.action, SetValue)}
    assert wrote == {
        r"HKLM\SYSTEM\CurrentControlSet\Byre-disabled\Services\wuauserv": b"\2\0\0\0",
        r"HKLM\SYSTEM\CurrentControlSet\Services\wuauserv": b"\4\0\0\0",
    }


def test_only_the_default_entry_s_path_changes_in_boot_ini() -> None:
    head = b"[boot loader]\r\ndefault=multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS\r\n[operating systems]\r\n"
    rows = b'multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS="A" /sos\r\n'
    other = b'multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS.0="B"\r\n'
    data = head + rows + other
    mended = boot_files.mended_boot_ini(data, parse_boot_ini(data), 2, "WINDOWS")
    assert mended is not None
    assert mended.count(b"partition(2)\\WINDOWS") == 2
    assert mended.endswith(other)
    assert boot_files.mended_boot_ini(mended, parse_boot_ini(mended), 2, "WINDOWS") == mended
    assert boot_files.mended_boot_ini(b"", parse_boot_ini(b""), 1, "WINDOWS") is None


def test_a_missing_boot_ini_is_made_and_says_where_the_system_is() -> None:
    patient = _patient()
    gone = replace(patient.facts.loader["/boot.ini"], state="missing")
    facts = replace(patient.facts, loader={**patient.facts.loader, "/boot.ini": gone})
    (step,) = boot_files.plan(replace(patient, facts=facts)).steps
    assert isinstance(step.action, Put)
    chosen_entry = parse_boot_ini(step.action.content.read(0, step.action.content.size)).chosen
    assert chosen_entry is not None
    assert chosen_entry.path == "multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS"


@pytest.mark.parametrize(("size", "heads"), [(1 << 30, 0x40), (3 << 30, 0x80), (40 << 30, 0xFF)])
def test_heads_follow_the_disk_s_size_and_other_boot_sectors_are_left_alone(size: int, heads: int) -> None:
    sector = bytearray(512)
    sector[3:11] = b"NTFS    "
    mended, said = mended_fields(bytes(sector), 63, size)
    assert struct.unpack_from("<HHI", mended, 0x18) == (63, heads, 63)
    assert len(said) == 3
    assert mended_fields(bytes(512), 63, size) == (bytes(512), ())


def test_boot_code_that_is_there_stays_unless_asked() -> None:
    other = (b"\xfa" + bytes(range(1, 200))).ljust(510, b"\0") + b"\x55\xaa"
    assert plan_code(other).steps == ()
    (step,) = plan_code(other, new=True).steps
    assert isinstance(step.action, WriteSector)
    assert step.action.data == MASTER_CODE + other[440:]
    assert plan_code(step.action.data, new=True).steps == ()


@given(st.binary(min_size=512, max_size=512), st.booleans(), st.booleans())
def test_any_first_sector_is_planned_or_refused(sector: bytes, signed: bool, new: bool) -> None:
    data = (sector[:510] + b"\x55\xaa" if signed else sector) + bytes(1 << 16)
    try:
        plan = plan_disk(memory_disk(data), Options(new_mbr=new))
    except ByreError:
        return
    for step in plan.steps:
        assert isinstance(step.action, WriteSector)
        assert len(step.action.data) == 512
        assert step.action.offset + 512 <= len(data)


def test_cabinets_beyond_what_is_kept_open_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile image has a dozen places for cabinets, each of which could be as large as memory is."""
    places = [f"/WINDOWS/Driver Cache/i386/{name}.cab" for name in ("sp3", "driver")]
    cabinets = {
        path: build_cabinet({"a.sys": bytes(1000), f"of{index}.sys": b"MZ"}) for index, path in enumerate(places)
    }
    files = MemoryFiles(cabinets)
    both = GuestSources(files, "/WINDOWS")
    assert [both.find(f"of{index}.sys") is not None for index in range(2)] == [True, True]
    monkeypatch.setattr(sources, "MAX_CABINETS", len(cabinets[places[0]]) + 10)
    first = GuestSources(files, "/WINDOWS")
    assert [first.find(f"of{index}.sys") is not None for index in range(2)] == [True, False]
