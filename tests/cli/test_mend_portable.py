"""``byre mend portable`` and ``hal`` on Vista's and 7's, ReactOS' and the owner's drivers, through the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import byre as package
from builders import xp
from builders.hive import Node, build_hive
from builders.pe import PeSpec, build_pe
from builders.small_guests import fat_guest, volume_of
from oracles import require_tool, run_tool
from programs import byre, byre_json

pytestmark = pytest.mark.oracle
SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
CDD = r"HKLM\SYSTEM\CurrentControlSet\Control\CriticalDeviceDatabase"
SERVICES = r"HKLM\SYSTEM\CurrentControlSet\Services"
STORE = "/WINDOWS/system32/DriverStore/FileRepository/mshdc.inf_x86_neutral_a69a58a4286f0b22"
IDE = "{4D36E96A-E325-11CE-BFC1-08002BE10318}"
SCSI = "{4D36E97B-E325-11CE-BFC1-08002BE10318}"
VIOSTOR = r"""
[Version]
Signature="$WINDOWS NT$"
Class=SCSIAdapter
ClassGUID={4D36E97B-E325-11CE-BFC1-08002BE10318}
[Manufacturer]
%Maker% = Acme, NTx86.5.1, NTamd64.6.1
[Acme.NTx86.5.1]
%Name% = disk_install, PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00, PCI\VEN_1AF4&DEV_1001
[Acme.NTamd64.6.1]
%Name% = other_install, PCI\VEN_1AF4&DEV_9999
[disk_install.Services]
AddService = acmestor, 2, service, log
[service]
DisplayName = %Name%
ServiceType = 1
StartType = 0
ErrorControl = 1
ServiceBinary = %12%\acmestor.sys
LoadOrderGroup = SCSI miniport
AddReg = parameters
[parameters]
HKR, "Parameters\PnpInterface", "5", %REG_DWORD%, 0x00000001
HKR, "Parameters", "BusType", %REG_DWORD%, 0x0000000A
HKR, "..\..\Lsa", "x", %REG_DWORD%, 1
[Strings]
Maker = "Acme"
Name = "Acme's disk"
REG_DWORD = 0x00010001
"""


def driver(name: str, machine: int = 0x14C, **imports: list[str]) -> bytes:
    wanted = {key.replace("_", "."): value for key, value in imports.items()} or {"ntoskrnl.exe": ["KeBugCheckEx"]}
    return build_pe(PeSpec(name=name, machine=machine, imports=wanted, subsystem=1))


def _values(image: Path, key: str) -> dict[str, object]:
    return {row["name"]: row["data"] for row in byre_json("reg", image, key)["values"]}


def _mend(image: Path, *words: str | Path, status: int = 0) -> dict[str, Any]:
    document = byre_json("mend", image, *words, status=status)
    row: dict[str, Any] = document["mends"][0]
    return row


def _guest(path: Path, version: str, system: Node, files: dict[str, bytes], remove: tuple[str, ...] = ()) -> Path:
    software = xp.software_hive()
    software.at(r"Microsoft\Windows NT\CurrentVersion").values["CurrentVersion"] = version
    config = f"{xp.ROOT}/system32/config"
    own = {f"{config}/SYSTEM": build_hive(system), f"{config}/SOFTWARE": build_hive(software)}
    whole = {name: data for name, data in xp.clean_files().items() if name.lower() not in remove}
    return fat_guest(path, {**whole, **own, **files})


def _service(system: Node, name: str, start: int, file: str) -> None:
    node = system.at(rf"ControlSet001\Services\{name}")
    node.values = {"Type": 1, "Start": start, "ErrorControl": 3, "ImagePath": rf"system32\drivers\{file}"}


def test_windows_7_starts_on_ahci_and_every_ide_controller(tmp_path: Path) -> None:
    system = xp.system_hive()
    system.at("ControlSet001").at("Control").keys.pop("CriticalDeviceDatabase")
    for name in ("intelide", "PCIIde", "IntelIde"):
        system.at(r"ControlSet001\Services").keys.pop(name, None)
    for name in ("msahci", "intelide", "pciide", "iaStorV"):
        _service(system, name, 3, f"{name.lower()}.sys")
    drivers = f"{xp.ROOT}/system32/drivers"
    files = {
        f"{drivers}/ataport.sys": driver("ataport.sys"),
        f"{drivers}/iastorv.sys": driver("iastorv.sys"),
        f"{STORE}/msahci.sys": driver("msahci.sys", ataport_sys=["Entry"]),
    }
    files[f"{drivers}/ataport.sys"] = build_pe(PeSpec(name="ataport.sys", exports={"Entry": None}, subsystem=1))
    image = _guest(tmp_path / "seven.img", "6.1", system, files)
    out = tmp_path / "out.qcow2"
    row = _mend(image, "portable", "-o", out)
    assert row["refused"] == []
    assert byre("ls", out, r"C:\WINDOWS\system32\drivers\msahci.sys").returncode == 0
    assert _values(out, rf"{CDD}\pci#cc_0106") == {"Service": "msahci", "ClassGUID": IDE}
    assert _values(out, rf"{CDD}\pci#ven_8086&dev_7010")["Service"] == "intelide"
    for name in ("msahci", "intelide", "pciide", "iaStorV"):
        assert _values(out, rf"{SERVICES}\{name}")["Start"] == 0
    raw = tmp_path / "out.img"
    byre("convert", out, raw)
    run_tool("fsck.fat", "-n", volume_of(raw, tmp_path / "volume"))
    assert "nothing to mend" in byre("mend", out, "portable", "--dry-run").stdout
    assert "every target with ACPI" in byre("mend", out, "hal", "--dry-run").stdout


def test_windows_8_is_refused_with_the_reason(tmp_path: Path) -> None:
    image = _guest(tmp_path / "eight.img", "6.2", xp.system_hive(), {})
    (refused,) = _mend(image, "portable", "--dry-run", status=1)["refused"]
    assert "DriverDatabase" in refused["reason"]


@pytest.mark.parametrize("older", [True, False])
def test_reactos_gets_back_the_entries_of_its_own_setup(older: bool, tmp_path: Path) -> None:
    system = xp.system_hive()
    system.at(r"ControlSet001\Control").keys.pop("CriticalDeviceDatabase")
    services = system.at(r"ControlSet001\Services")
    drivers = "/reactos/system32/drivers"
    files = {name.replace("/WINDOWS/", "/reactos/"): data for name, data in xp.clean_files().items()}
    if older:
        for name in ("atapi", "PCIIde", "IntelIde"):
            services.keys.pop(name, None)
        services.at("UniATA").values = {"Type": 1, "Start": 3, "ErrorControl": 1}
        files[f"{drivers}/uniata.sys"] = driver("uniata.sys")
    software = xp.software_hive()
    software.at(r"Microsoft\Windows NT\CurrentVersion").values["ProductName"] = "ReactOS"
    files["/reactos/system32/config/SOFTWARE"] = build_hive(software)
    files["/reactos/system32/config/SYSTEM"] = build_hive(system)
    image = fat_guest(tmp_path / "ros.img", files)
    out = tmp_path / "out.qcow2"
    assert _mend(image, "portable", "-o", out)["refused"] == []
    assert _values(out, rf"{CDD}\pci#cc_0101")["Service"] == ("uniata" if older else "pciide")
    assert _values(out, rf"{CDD}\*pnp0600")["Service"] == ("uniata" if older else "atapi")
    if older:
        assert _values(out, rf"{SERVICES}\UniATA")["Start"] == 0


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "acmestor.inf").write_text(VIOSTOR)
    (folder / "acmestor.sys").write_bytes(driver("acmestor.sys"))
    return folder


def test_a_driver_is_entered_as_its_own_inf_says(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.qcow2"
    row = _mend(SPECIMEN, "portable", "--drivers", given, "-o", out)
    assert row["refused"] == []
    ids = ("pci#ven_1af4&dev_1001&subsys_00021af4&rev_00", "pci#ven_1af4&dev_1001")
    for each in ids:
        assert _values(out, rf"{CDD}\{each}") == {"Service": "acmestor", "ClassGUID": SCSI}
    assert _values(out, rf"{SERVICES}\acmestor") == {
        "Start": 0,
        "Type": 1,
        "ErrorControl": 1,
        "Group": "SCSI miniport",
        "ImagePath": r"system32\drivers\acmestor.sys",
    }
    assert _values(out, rf"{SERVICES}\acmestor\Parameters\PnpInterface") == {"5": 1}
    assert _values(out, rf"{SERVICES}\acmestor\Parameters") == {"BusType": 10}
    assert not any("Lsa" in step or "9999" in step for step in row["steps"])
    folder = tmp_path / "hive"
    folder.mkdir()
    byre("cp", out, r"C:\WINDOWS\system32\config\SYSTEM", folder)
    require_tool("hivexregedit")
    said = run_tool("hivexregedit", "--export", folder / "SYSTEM", r"\ControlSet001\Services\acmestor")
    assert '"Start"=dword:00000000' in said


@pytest.mark.parametrize(
    ("inf", "reason"),
    [
        (VIOSTOR.replace("NTx86.5.1", "NTx86.6.0"), "names no controller"),
        (VIOSTOR.replace("NTx86.5.1", "NTamd64.5.2"), "names no controller"),
    ],
)
def test_an_inf_for_another_windows_is_refused(inf: str, reason: str, given: Path) -> None:
    (given / "acmestor.inf").write_text(inf)
    (refused,) = _mend(SPECIMEN, "portable", "--drivers", given, "--dry-run", status=1)["refused"]
    assert reason in refused["reason"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (driver("acmestor.sys", 0x8664), "another processor"),
        (driver("acmestor.sys", ntoskrnl_exe=["KeOfALaterWindows"]), "doesn't export KeOfALaterWindows"),
        (driver("acmestor.sys", storport_sys=["StorPortInitialize"]), "storport.sys"),
        (b"MZ" + bytes(600), "no program"),
    ],
)
def test_a_driver_that_this_kernel_can_t_load_is_refused(data: bytes, reason: str, given: Path) -> None:
    (given / "acmestor.sys").write_bytes(data)
    row = _mend(SPECIMEN, "portable", "--drivers", given, "--dry-run", status=1)
    assert reason in row["refused"][0]["reason"]
    assert not any("acmestor" in step for step in row["steps"])


def test_a_folder_of_no_use_is_told_with_those_below_it(given: Path, tmp_path: Path) -> None:
    row = _mend(SPECIMEN, "portable", "--drivers", tmp_path, "--dry-run")
    assert "nothing was taken from" in row["notes"][-1] and row["notes"][-1].endswith(f".inf files lie in {given}")
    (given / "acmestor.inf").unlink()
    row = _mend(SPECIMEN, "boot", "--drivers", given, "--dry-run")
    assert row["notes"][-1].endswith("nothing else was missing")
    byre("mend", SPECIMEN, "intelppm", "--drivers", given, "--dry-run", status=64)


def test_what_a_driver_imports_is_brought_along(given: Path, tmp_path: Path) -> None:
    (given / "acmestor.sys").write_bytes(driver("acmestor.sys", storport_sys=["StorPortInitialize"]))
    port = build_pe(PeSpec(name="storport.sys", exports={"StorPortInitialize": None}, subsystem=1))
    (given / "storport.sys").write_bytes(port)
    out = tmp_path / "out.qcow2"
    _mend(SPECIMEN, "portable", "--drivers", given, "-o", out)
    assert byre("stat", out, r"C:\WINDOWS\system32\drivers\storport.sys").returncode == 0


def test_a_hal_that_does_not_suit_is_told_by_name(tmp_path: Path) -> None:
    hal = build_pe(PeSpec(name="hal.dll", dll=True, strings={"OriginalFilename": "halmps.dll"}))
    image = _guest(tmp_path / "mps.img", "5.1", xp.system_hive(), {f"{xp.ROOT}/system32/hal.dll": hal})
    row = _mend(image, "hal", status=1)
    assert "MPS multiprocessor" in row["notes"][0]
    assert any("exchanges no HAL" in each["reason"] for each in row["refused"])
    (listed,) = [each for each in byre_json("mend", image)["mends"] if each["name"] == "hal"]
    assert listed["notes"] == row["notes"]


def test_every_mend_on_fat_and_the_json_has_the_fields_that_are_promised(tmp_path: Path) -> None:
    image = _guest(tmp_path / "fat.img", "5.1", xp.system_hive(), {})
    out = tmp_path / "out.qcow2"
    before = byre_json("mend", image)
    after = byre_json("mend", image, "all", "-o", out, status=None)
    fields = {"schema", "image", "dry_run", "mends", "refused", "obstacle", "left"}
    assert set(before) == fields
    assert set(after) == fields | {"output", "snapshot", "removed", "written", "freed", "confined"}
    for document in (before, after):
        for row in document["mends"]:
            assert set(row) == {"name", "title", "rules", "findings", "steps", "notes", "refused"}
    assert [row["steps"] for row in before["mends"]] == [row["steps"] for row in after["mends"]]
    assert all(not row["steps"] for row in byre_json("mend", out)["mends"])
    raw = tmp_path / "out.img"
    byre("convert", out, raw)
    run_tool("fsck.fat", "-n", volume_of(raw, tmp_path / "volume"))
