"""Planning for what the loader reads from the root: from the guest's own sources, or refused with what would help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import xp
from builders.audited import Plant, facts_of
from builders.memory_files import MemoryFiles
from byre.filesystems.base import COMPRESSED, Entry
from byre.lite.changes import Put, Remove
from byre.lite.mending import boot_files
from byre.lite.mending.plan import Patient
from byre.lite.mending.sources import GuestSources
from byre.windows.boot_ini import parse_boot_ini

I386 = f"{xp.ROOT}/ServicePackFiles/i386"


class _Packed(MemoryFiles):
    """Every file is compressed."""

    def lookup(self, path: str) -> Entry:
        return super().lookup(path)._replace(attributes=COMPRESSED)


def _patient(plant: Plant, kind: type[MemoryFiles] = MemoryFiles) -> Patient:
    files = dict(xp.clean_files()) | dict(plant.write)
    files |= {path: edit(files[path]) for path, edit in plant.edit.items()}
    memory = kind({path: data for path, data in files.items() if path not in plant.remove})
    return Patient(facts_of(plant), memory, memory, xp.ROOT, GuestSources(memory, xp.ROOT))


def test_a_missing_loader_that_nobody_has_is_refused_with_what_would_help() -> None:
    plan = boot_files.plan(_patient(Plant(remove=("/NTLDR", "/NTDETECT.COM"))))
    assert plan.steps == ()
    assert [each.what for each in plan.refusals] == ["/NTLDR", "/NTDETECT.COM"]
    assert all("--drivers" in each.remedy for each in plan.refusals)


def test_missing_files_come_from_the_guest_s_sources_but_not_a_stub() -> None:
    write = {f"{I386}/ntldr": b"L" * boot_files.MIN_LOADER, f"{I386}/ntdetect.com": b"short"}
    plan = boot_files.plan(_patient(Plant(remove=("/NTLDR", "/NTDETECT.COM"), write=write)))
    (step,) = plan.steps
    assert isinstance(step.action, Put)
    assert (step.loader, step.action.path, step.action.content.size) == (True, "/NTLDR", boot_files.MIN_LOADER)
    assert [each.what for each in plan.refusals] == ["/NTDETECT.COM"]


def test_an_empty_loader_counts_as_missing() -> None:
    write = {"/NTLDR": b"", f"{I386}/ntldr": b"L" * boot_files.MIN_LOADER}
    (step,) = boot_files.plan(_patient(Plant(write=write))).steps
    assert step.said == f"/NTLDR, from {I386}/ntldr"


def test_a_compressed_loader_is_removed_and_put_back() -> None:
    plan = boot_files.plan(_patient(Plant(), _Packed))
    assert [type(step.action) for step in plan.steps] == [Remove, Put]
    assert plan.said == (
        "/NTLDR: not compressed any more, since no boot sector reads it then ('NTLDR is compressed')",
    )


def test_a_boot_ini_that_names_no_system_is_written_anew() -> None:
    (step,) = boot_files.plan(_patient(Plant(write={"/boot.ini": b"[boot loader]\r\ntimeout=3\r\n"}))).steps
    assert isinstance(step.action, Put)
    chosen = parse_boot_ini(step.action.content.read(0, step.action.content.size)).chosen
    assert chosen is not None and chosen.path == r"multi(0)disk(0)rdisk(0)partition(1)\WINDOWS"


def test_what_can_not_be_read_is_left_alone() -> None:
    patient = _patient(Plant())
    unread = {path: replace(file, state="unread") for path, file in patient.facts.loader.items()}
    assert boot_files.plan(replace(patient, facts=replace(patient.facts, loader=unread))).steps == ()
    assert boot_files.plan(replace(patient, facts=replace(patient.facts, guest=None))).steps == ()


@pytest.mark.parametrize(
    "disk",
    [
        b"multi(0)disk(0)rdisk(1)",
        b"multi(1)disk(0)rdisk(0)",
        b"SCSI(0)disk(1)rdisk(0)",
        b"signature(1)disk(0)rdisk(0)",
    ],
)
def test_a_path_to_another_disk_leads_to_the_one_that_starts(disk: bytes) -> None:
    usual = b"multi(0)disk(0)rdisk(0)"
    patient = _patient(Plant(edit={"/boot.ini": lambda data: data.replace(usual, disk)}))
    (step,) = boot_files.plan(patient).steps
    assert isinstance(step.action, Put)
    assert step.said == "/boot.ini: multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS"
    assert step.action.content.read(0, step.action.content.size) == xp.clean_files()["/boot.ini"]


@pytest.mark.parametrize("disk", [b"scsi(0)disk(0)rdisk(0)", b"signature(B47E0001)disk(0)rdisk(0)"])
def test_a_path_that_leads_there_stays(disk: bytes) -> None:
    write = {"/NTBOOTDD.SYS": b"a driver"} if disk.startswith(b"scsi") else {}
    usual = b"multi(0)disk(0)rdisk(0)"
    patient = _patient(Plant(write=write, edit={"/boot.ini": lambda data: data.replace(usual, disk)}))
    assert boot_files.plan(patient).steps == ()
