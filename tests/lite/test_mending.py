"""``byre mend`` on the specimen with defects planted: the audit's rules fire before and don't afterwards."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.cabinets import build_cabinet
from builders.pe import PeSpec, build_pe
from builders.planted import SPECIMEN, planted
from byre.audit.gathering import gather
from byre.audit.judging import judge
from byre.audit.platforms import PLATFORMS
from byre.cli.main import main
from byre.disks.opening import open_disk
from byre.disks.scratch import ScratchDisk
from byre.filesystems.opening import open_partition
from byre.lite.changes import Content, MakeFolder, Overwrite, Put, Remove
from byre.lite.hive_editor import DeleteKey, SetValue
from byre.lite.mending.boot_code import MASTER_CODE
from byre.windows.inspection import Inspection
from byre.windows.reg_paths import Registry
from byre.windows.registry.layout import base_block_checksum
from oracles import require_tool, run_tool

pytestmark = pytest.mark.oracle

_CDD = r"HKLM\SYSTEM\CurrentControlSet\Control\CriticalDeviceDatabase"
_SERVICES = r"HKLM\SYSTEM\CurrentControlSet\Services"
_RUN = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run"
_DRIVERS = "/WINDOWS/system32/drivers"
_CACHE = "/WINDOWS/Driver Cache"
_IDS = ("pci#ven_8086&dev_7010", "pci#ven_8086&dev_7111", "pci#cc_0101", "primary_ide_channel")

_WALK = """
import hivex, sys
hive = hivex.Hivex(sys.argv[1])
def walk(node):
    for value in hive.node_values(node):
        hive.value_value(value)
    for child in hive.node_children(node):
        walk(child)
walk(hive.root())
print("read")
"""


def _driver(name: str, machine: int = 0x14C) -> bytes:
    return build_pe(PeSpec(name=name, machine=machine, imports={"ntoskrnl.exe": ["KeBugCheckEx"]}))


def byre(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main(["mend", *map(str, words), "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, document


def _row(document: dict[str, Any], name: str) -> dict[str, Any]:
    row: dict[str, Any] = next(each for each in document["mends"] if each["name"] == name)
    return row


def _rules(image: Path, target: str = "qemu") -> set[str]:
    platforms = [each for each in PLATFORMS if each.name == target]
    with open_disk(image) as disk:
        return {each.rule.id for each in judge(gather(disk, name=str(image)), platforms).findings}


def _value(image: Path, key: str, name: str) -> object:
    with open_disk(image) as disk:
        volume, root = Inspection(disk, name=str(image)).roots[0]
        assert volume.filesystem is not None
        value = Registry(volume.filesystem, root).locate(key).key.value(name)
    return None if value is None else value.number if value.number is not None else value.text


def _holds(image: Path, path: str) -> bytes:
    with open_disk(image) as disk:
        files = Inspection(disk, name=str(image)).volumes[0].filesystem
        assert files is not None
        return files.read(files.lookup(path))


def _others_are_content(image: Path, folder: Path) -> None:
    """ntfsfix has nothing against the volume, hivex reads SYSTEM to its last key."""
    volume, hive = folder / "volume.img", folder / "SYSTEM"
    with open_disk(image) as disk:
        part = open_partition(disk, 1)
        with volume.open("wb") as file:
            for at in range(0, part.size, 1 << 20):
                file.write(part.read(at, min(1 << 20, part.size - at)))
    require_tool("ntfsfix")
    assert "processed successfully" in run_tool("ntfsfix", "-n", volume)
    hive.write_bytes(_holds(image, "/WINDOWS/system32/config/SYSTEM"))
    python = require_tool("python3:hivex")
    assert run_tool(python, "-c", _WALK, hive).strip() == "read"


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No IDE controller known, IntelIde off, two drivers only in the guest's own driver.cab."""
    cabinet = build_cabinet({"pciide.sys": _driver("pciide.sys"), "intelide.sys": _driver("intelide.sys")}, "lzx")
    changes = [
        Remove(f"{_DRIVERS}/pciide.sys"),
        Remove(f"{_DRIVERS}/intelide.sys"),
        MakeFolder(_CACHE),
        MakeFolder(f"{_CACHE}/i386"),
        Put(f"{_CACHE}/i386/driver.cab", Content.of(cabinet)),
    ]
    edits = [DeleteKey(f"{_CDD}\\{each}") for each in _IDS]
    off = SetValue(rf"{_SERVICES}\IntelIde", "Start", 4, (4).to_bytes(4, "little"))
    return planted(tmp_path_factory.mktemp("stuck") / "stuck.qcow2", changes, [*edits, off])


def test_a_guest_that_knows_no_ide_controller_is_portable_afterwards(
    stuck: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = stuck.read_bytes(), tmp_path / "out.qcow2"
    assert "PORT-001" in _rules(stuck)
    status, told = byre(capsys, stuck, "portable", "-o", out)
    assert (status, told["schema"], told["left"]) == (0, "byre/mend/1", [])
    assert {each["rule"] for each in _row(told, "portable")["findings"]} == {"PORT-001"}
    for target in ("qemu", "virtualbox", "vmware:ide", "hyperv"):
        assert not {"PORT-001", "PORT-002", "PORT-003", "PORT-004"} & _rules(out, target)
    assert _holds(out, f"{_DRIVERS}/pciide.sys") == _driver("pciide.sys")
    assert _value(out, rf"{_SERVICES}\IntelIde", "Start") == 0
    assert _value(out, rf"{_CDD}\pci#cc_0101", "Service") == "pciide"
    assert stuck.read_bytes() == before
    _others_are_content(out, tmp_path)
    assert _row(byre(capsys, out, "portable", "--dry-run")[1], "portable")["steps"] == []


def test_a_driver_that_nobody_has_is_refused_and_what_needs_it_is_not_written(
    stuck: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare, out = tmp_path / "bare.qcow2", tmp_path / "out.qcow2"
    planted(bare, [Remove(f"{_DRIVERS}/pciide.sys")], [DeleteKey(rf"{_CDD}\pci#cc_0101")])
    status, told = byre(capsys, bare, "portable", "-o", out)
    refused = _row(told, "portable")["refused"]
    assert status == 1
    assert [each["what"] for each in refused] == ["controllers that need pciide"]
    assert "--drivers" in refused[0]["remedy"]
    assert not any("pciide" in each for each in _row(told, "portable")["steps"])


def test_drivers_come_compressed_from_the_owner_s_folder_and_those_for_other_processors_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = planted(tmp_path / "bare.qcow2", [Remove(f"{_DRIVERS}/pciide.sys")], [])
    media = tmp_path / "media" / "I386"
    media.mkdir(parents=True)
    (media / "PCIIDE.SY_").write_bytes(build_cabinet({"pciide.sys": _driver("pciide.sys")}))
    (media / "viostor.sys").write_bytes(_driver("viostor.sys"))
    out = tmp_path / "out.qcow2"
    status, _ = byre(capsys, bare, "portable", "--drivers", media.parent, "-o", out)
    assert status == 0
    assert _holds(out, f"{_DRIVERS}/pciide.sys") == _driver("pciide.sys")
    assert _value(out, rf"{_CDD}\pci#ven_1af4&dev_1001", "Service") == "viostor"
    (media / "PCIIDE.SY_").write_bytes(_driver("pciide.sys", 0x8664))
    _, told = byre(capsys, bare, "portable", "--drivers", media.parent, "--dry-run")
    assert "another processor" in _row(told, "portable")["refused"][0]["reason"]


def test_intelppm_is_off_in_place_and_the_snapshot_leads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "x.qcow2"
    image.write_bytes(SPECIMEN.read_bytes())
    assert "PORT-006" in _rules(image)
    status, told = byre(capsys, image, "intelppm", "--in-place", "--keep-as", "before")
    assert (status, told["snapshot"], told["left"]) == (0, "before", [])
    assert "PORT-006" not in _rules(image)
    assert main(["snapshot", "revert", str(image), "before"]) == 0
    assert "PORT-006" in _rules(image)


def _ruin(work: ScratchDisk) -> None:
    """No boot code, no active partition, no geometry in the boot sector and its copy."""
    sector = bytearray(work.read(0, 512))
    (start, count) = struct.unpack_from("<II", sector, 0x1BE + 8)
    sector[:440] = bytes(440)
    sector[0x1BE] = 0
    work.write(0, sector)
    for at in (start * 512, (start + count - 1) * 512):
        boot = bytearray(work.read(at, 512))
        boot[0x1A:0x20] = bytes(6)
        work.write(at, boot)


def test_what_the_machine_needs_before_the_kernel_is_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ini = (
        b"[boot loader]\r\ntimeout=5\r\ndefault=multi(0)disk(0)rdisk(0)partition(2)\\WINNT\r\n[operating systems]\r\n"
    )
    ini += b'multi(0)disk(0)rdisk(0)partition(2)\\WINNT="Mine" /fastdetect /sos\r\n'
    sources = "/WINDOWS/ServicePackFiles"
    loader = bytes(range(256)) * 100
    changes = [
        Put("/boot.ini", Content.of(ini)),
        Remove("/ntldr"),
        MakeFolder(sources),
        MakeFolder(f"{sources}/i386"),
        Put(f"{sources}/i386/ntldr", Content.of(loader)),
    ]
    image, out = planted(tmp_path / "x.qcow2", changes, sectors=_ruin), tmp_path / "out.qcow2"
    assert {"BOOT-001", "BOOT-002", "BOOT-006", "BOOT-008"} <= _rules(image)
    status, told = byre(capsys, image, "boot", "-o", out)
    assert told["left"] == []
    assert _row(told, "boot")["refused"] == []
    assert status == 0
    assert not {rule for rule in _rules(out) if rule.startswith("BOOT-0")}
    mended = _holds(out, "/boot.ini")
    assert mended == ini.replace(b"partition(2)\\WINNT", b"partition(1)\\WINDOWS")
    assert _holds(out, "/NTLDR") == loader
    with open_disk(out) as disk:
        sector, boot = disk.read(0, 512), disk.read(63 * 512, 512)
        copy = disk.read(63 * 512 + struct.unpack_from("<I", sector, 0x1BE + 12)[0] * 512 - 512, 512)
    assert (sector[:440], sector[0x1B8:0x1BE]) == (MASTER_CODE, struct.pack("<IH", 0xB47E0001, 0))
    assert copy == boot
    assert struct.unpack_from("<HHI", boot, 0x18) == (63, 0x40, 63)
    _others_are_content(out, tmp_path)


def test_a_table_without_its_signature_is_found_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = planted(tmp_path / "x.qcow2", sectors=lambda work: work.write(510, b"\0\0"))
    out = tmp_path / "out.qcow2"
    _, told = byre(capsys, image, "boot", "-o", out)
    assert _row(told, "boot")["steps"][0] == "sector 0: 55 AA at its end"
    with open_disk(out) as mended, open_disk(SPECIMEN) as good:
        assert mended.read(440, 72) == good.read(440, 72)


def test_an_autostart_is_kept_where_nothing_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.qcow2"
    words = ("autostart", "--autostart", "ctfmon", "--autostart", "service:Schedule", "--autostart", "Shell")
    status, told = byre(capsys, SPECIMEN, *words, "-o", out)
    kept = r"HKLM\SOFTWARE\Byre-disabled\Microsoft\Windows\CurrentVersion\Run"
    assert _value(out, _RUN, "CTFMON") is None
    assert _value(out, kept, "CTFMON") == _value(SPECIMEN, _RUN, "CTFMON")
    refused = {each["what"] for each in _row(told, "autostart")["refused"]}
    assert status == 1
    assert "winlogon:Shell" in refused


def test_a_session_is_given_up_only_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sleeping = Put("/hiberfil.sys", Content.of(b"hibr" + bytes(range(256)) * 64))
    image, out = planted(tmp_path / "x.qcow2", [sleeping]), tmp_path / "out.qcow2"
    assert "SOUND-007" in _rules(image)
    status, told = byre(capsys, image, "hibernation", "--dry-run")
    assert (status, _row(told, "hibernation")["steps"]) == (1, [])
    assert byre(capsys, image, "hibernation", "--discard-session", "-o", out)[0] == 0
    assert "SOUND-007" not in _rules(out)
    both = tmp_path / "both.qcow2"
    assert byre(capsys, image, "hibernation", "intelppm", "--discard-session", "-o", both)[0] == 0
    assert not {"SOUND-007", "PORT-006"} & _rules(both)
    status, error = byre(capsys, image, "intelppm", "-o", tmp_path / "no.qcow2")
    assert (status, error["error"]) == (69, "unsupported")
    assert not (tmp_path / "no.qcow2").exists()


def test_a_disk_without_a_system_says_so_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(1 << 20))
    status, told = byre(capsys, empty, "all", "-o", tmp_path / "out.qcow2")
    assert (status, [each["what"] for each in told["refused"]]) == (1, ["the system"])
    assert not (tmp_path / "out.qcow2").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("nothing", "--dry-run"),
        ("portable",),
        ("-o", "x.qcow2"),
        ("portable", "autostart", "--dry-run"),
        ("portable", "--autostart", "x", "--dry-run"),
        ("portable", "--discard-session", "--dry-run"),
        ("portable", "--new-mbr", "--dry-run"),
    ],
)
def test_what_does_not_go_together_is_said_before_any_work(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert byre(capsys, SPECIMEN, *words)[0] == 64


def _unfinished(hive: bytes, done: bytes) -> tuple[bytes, bytes]:
    """(hive, log) as Windows XP leaves them when the machine goes off between log and hive: ``done`` is what the log
    makes of the hive."""
    assert len(hive) == len(done)
    before = bytearray(hive)
    (sequence,) = struct.unpack_from("<I", before, 4)
    struct.pack_into("<I", before, 4, sequence + 1)
    struct.pack_into("<I", before, 508, base_block_checksum(before))
    base = bytearray(done[:512])
    struct.pack_into("<II", base, 4, sequence + 1, sequence + 1)
    struct.pack_into("<I", base, 28, 1)
    struct.pack_into("<I", base, 508, base_block_checksum(base))
    sectors = range(4096, len(done), 512)
    dirty = [done[at : at + 512] != hive[at : at + 512] for at in sectors]
    octets = [dirty[at : at + 8] for at in range(0, len(dirty), 8)]
    bits = b"DIRT" + bytes(sum(bit << place for place, bit in enumerate(octet)) for octet in octets)
    pages = b"".join(done[at : at + 512] for at, bit in zip(sectors, dirty, strict=True) if bit)
    return bytes(before), bytes(base) + bits.ljust(-(-len(bits) // 512) * 512, b"\0") + pages


def test_a_log_is_written_into_its_hive_together_with_other_edits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/WINDOWS/system32/config/SYSTEM"
    started = SetValue(rf"{_SERVICES}\Beep", "Start", 4, (2).to_bytes(4, "little"))
    edited = planted(tmp_path / "edited.qcow2", [], [started])
    hive, log = _unfinished(_holds(SPECIMEN, path), _holds(edited, path))
    image = planted(tmp_path / "x.qcow2", [Overwrite(path, hive), Put(f"{path}.LOG", Content.of(log))])
    assert "SOUND-009" in _rules(image)
    for words in (("hives",), ("hives", "intelppm")):
        out = tmp_path / f"{len(words)}.qcow2"
        status, told = byre(capsys, image, *words, "-o", out)
        assert (status, told["left"]) == (0, [])
        assert "SOUND-009" not in _rules(out)
        assert _value(out, rf"{_SERVICES}\Beep", "Start") == 2
        assert [each for each in told["removed"] if each.endswith(".LOG")] == [f"{path}.LOG"]
    assert _value(out, rf"{_SERVICES}\intelppm", "Start") == 4
    _others_are_content(out, tmp_path)


def test_a_user_s_hive_gets_its_log_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, key = "/Documents and Settings/operator/NTUSER.DAT", r"HKU\operator\Control Panel\Desktop"
    edited = planted(tmp_path / "edited.qcow2", [], [SetValue(key, "SCRNSAVE.EXE", 1, b"a\0\0\0")])
    hive, log = _unfinished(_holds(SPECIMEN, path), _holds(edited, path))
    changes = [Overwrite(path, hive), Put(path + ".LOG", Content.of(log))]
    image, out = planted(tmp_path / "x.qcow2", changes), tmp_path / "out.qcow2"
    status, told = byre(capsys, image, "hives", "-o", out)
    assert (status, told["removed"]) == (0, [path + ".LOG"])
    assert _value(out, key, "SCRNSAVE.EXE") == "a"
    assert byre(capsys, out, "hives", "--dry-run")[1]["mends"][0]["steps"] == []


def test_a_dirty_volume_is_left_to_its_own_autochk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def unclean(work: ScratchDisk) -> None:
        sector = bytearray(work.read(0, 512))
        sector[:440] = bytes(440)
        work.write(0, sector)
        data = next(_flags_of_volume(work))
        work.write(data, (int.from_bytes(work.read(data, 2), "little") | 1).to_bytes(2, "little"))

    image, out = planted(tmp_path / "x.qcow2", sectors=unclean), tmp_path / "out.qcow2"
    status, told = byre(capsys, image, "intelppm", "--dry-run")
    assert status == 1
    assert "dirty" in told["obstacle"]
    assert byre(capsys, image, "intelppm", "-o", out)[0] == 69
    assert byre(capsys, image, "boot", "-o", out)[1]["left"] == []  # sector 0 isn't the volume's
    with open_disk(out) as disk:
        assert disk.read(0, 440) == MASTER_CODE


def _flags_of_volume(work: ScratchDisk) -> Iterator[int]:
    """Where the flags of $VOLUME_INFORMATION lie on the disk: in record 3 of the MFT."""
    boot = work.read(63 * 512, 512)
    cluster = boot[13] * 512
    (mft,) = struct.unpack_from("<Q", boot, 0x30)
    record = 63 * 512 + mft * cluster + 3 * 1024
    data, at = work.read(record, 1024), 0
    (at,) = struct.unpack_from("<H", data, 20)
    while (kind := int.from_bytes(data[at : at + 4], "little")) != 0xFFFFFFFF:
        if kind == 0x70:
            yield record + at + int.from_bytes(data[at + 20 : at + 22], "little") + 10
        at += int.from_bytes(data[at + 4 : at + 8], "little")
