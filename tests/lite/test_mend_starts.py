"""An image that starts nowhere, mended by ``byre mend IMAGE boot``, starts its loader under QEMU."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from builders.boot_disks import boot_disk
from builders.boot_loaders import Started, build_loader, start
from builders.ntfs_volumes import mounted, need, set_attributes
from builders.planted import SPECIMEN, planted
from builders.xp import clean_files
from byre.audit.gathering import gather
from byre.cli.main import main
from byre.disks.opening import open_disk
from byre.disks.scratch import ScratchDisk
from byre.filesystems.opening import open_volumes
from byre.lite.changes import Content, MakeFolder, Put, Remove
from oracles import require_tool, run_tool

pytestmark = pytest.mark.oracle

SIZE = 250_048
INI = b"[boot loader]\r\ndefault=multi(0)disk(0)rdisk(0)partition(3)\\WINNT\r\n[operating systems]\r\n"
INI += b'multi(0)disk(0)rdisk(0)partition(3)\\WINNT="The lab\'s" /fastdetect\r\n'


def _start_of(work: ScratchDisk) -> tuple[int, int]:
    """The first partition's first byte and its length."""
    first, count = struct.unpack_from("<II", work.read(0, 512), 0x1BE + 8)
    return first * 512, count * 512


def _without_code(work: ScratchDisk) -> None:
    """No code in the MBR, in the boot sector and in its copy, nobody active, no geometry."""
    begin, length = _start_of(work)
    sector = bytearray(work.read(0, 512))
    sector[:440], sector[0x1BE] = bytes(440), 0
    work.write(0, sector)
    for at in (begin, begin + length - 512):
        boot = bytearray(work.read(at, 512))
        boot[0x18:0x20] = bytes(8)
        boot[0x54:512] = bytes(512 - 0x54)
        work.write(at, boot)


def _without_boot_sector(work: ScratchDisk) -> None:
    """Zeros where the master boot record's code and the whole boot sector were; 55 AA gone too."""
    begin, _ = _start_of(work)
    work.write(0, bytes(440))
    work.write(510, bytes(2))
    work.write(begin, bytes(512))


@pytest.mark.parametrize("ruin", [_without_code, _without_boot_sector])
def test_a_ruined_image_starts_its_loader_after_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ruin: Any
) -> None:
    loader = build_loader(SIZE, tmp_path)
    sources = "/WINDOWS/ServicePackFiles"
    changes = [
        Put("/boot.ini", Content.of(INI)),
        Remove("/NTLDR"),
        MakeFolder(sources),
        MakeFolder(f"{sources}/i386"),
    ]
    changes.append(Put(f"{sources}/i386/ntldr", Content.of(loader)))
    image, out = planted(tmp_path / "x.qcow2", changes, sectors=ruin), tmp_path / "out.qcow2"
    assert isinstance(start(image, form="qcow2", seconds=3), str)
    assert main(["mend", str(image), "boot", "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["left"], [row["refused"] for row in told["mends"]]) == ([], [[]])
    assert start(out, form="qcow2") == Started((0x2000, 0), (0, 0, 0), 0x7C00, 0x80, 63, 0xAA55, 0)
    with open_disk(out) as disk:
        files = open_volumes(disk)[0].filesystem
        assert files is not None
        assert b"partition(1)\\WINDOWS=" in files.read(files.lookup("/boot.ini"))
        facts = gather(disk, name=str(out))
        codes = [facts.mbr.value, facts.volumes[0].boot.value]
        assert all(code is not None and code.boot_code is not None and code.boot_code.known for code in codes)
        volume = tmp_path / "volume.img"
        volume.write_bytes(disk.read(63 * 512, files.facts().size + 512))
    require_tool("ntfsfix")
    assert "processed successfully" in run_tool("ntfsfix", "-n", volume)


def test_all_on_the_specimen_is_done_and_the_snapshot_leads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loader = [Remove("/NTLDR"), Put("/NTLDR", Content.of(build_loader(SIZE, tmp_path)))]
    image = planted(tmp_path / "x.qcow2", loader, sectors=_without_code)
    assert isinstance(start(image, form="qcow2", seconds=3), str)
    assert main(["mend", str(image), "all", "--in-place", "--keep-as", "before"]) == 0
    assert isinstance(start(image, form="qcow2"), Started)
    assert main(["mend", str(image), "boot", "--dry-run"]) == 0
    assert "boot: nothing to mend" in capsys.readouterr().out
    assert main(["snapshot", "revert", str(image), "before"]) == 0
    assert isinstance(start(image, form="qcow2", seconds=3), str)


def test_the_specimen_itself_starts_as_far_as_its_loader(tmp_path: Path) -> None:
    image = shutil.copyfile(SPECIMEN, tmp_path / "specimen.qcow2")
    said = "Byre specimen: nothing to boot here."
    assert start(image, said, form="qcow2") == said


@pytest.mark.parametrize("kind", ["fat16", "fat32"])
def test_a_guest_on_fat_starts_its_loader_too(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    volume, tree, image, out = (tmp_path / name for name in ("volume.img", "tree", "x.img", "out.qcow2"))
    files = clean_files() | {"/NTLDR": build_loader(SIZE, tmp_path), "/boot.ini": INI}
    for path, data in files.items():
        target = tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    with volume.open("wb") as file:
        file.truncate((32 if kind == "fat16" else 64) << 20)
    run_tool("mkfs.fat", "-F", kind[3:], volume)
    run_tool("mcopy", "-s", "-i", volume, *tree.iterdir(), "::")
    boot_disk(image, volume, kind, start=2048)
    with image.open("r+b") as whole, volume.open("rb") as bare:
        whole.write(bytes(440) + b"\x01\x00\x7e\xb4\0\0" + b"\0")
        whole.seek(2048 * 512)
        whole.write(bare.read(512))  # mkfs.fat's own: not bootable, no hidden sectors
    assert isinstance(start(image, seconds=3), str)
    assert main(["mend", str(image), "boot", "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == []
    assert start(out, form="qcow2") == Started((0x2000, 0), (0, 0, 0), 0x7C00, 0x80, 2048, 0xAA55, 0)


def test_a_compressed_loader_is_written_again_without_compression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("ntfs-3g")
    image, volume, out = tmp_path / "x.img", tmp_path / "volume.img", tmp_path / "out.qcow2"
    with open_disk(SPECIMEN) as disk:
        data = disk.read(0, disk.size)
    volume.write_bytes(data[63 * 512 :])
    with mounted(volume) as root:
        (root / "packed").mkdir()
        set_attributes(root / "packed", 0x810)
        (root / "packed" / "NTLDR").write_bytes(build_loader(SIZE, tmp_path))
        (root / "NTLDR").unlink()
        (root / "packed" / "NTLDR").rename(root / "NTLDR")
    image.write_bytes(data[: 63 * 512] + volume.read_bytes())
    assert main(["mend", str(image), "boot", "--new-mbr", "-o", str(out), "--json"]) == 0
    assert any("not compressed any more" in step for step in json.loads(capsys.readouterr().out)["mends"][0]["steps"])
    assert start(out, form="qcow2") == Started((0x2000, 0), (0, 0, 0), 0x7C00, 0x80, 63, 0xAA55, 0)


def test_new_vbr_belongs_to_boot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = planted(tmp_path / "x.qcow2")
    assert main(["mend", str(image), "hives", "--new-vbr", "--dry-run"]) == 64
    assert "--new-vbr belongs to boot" in capsys.readouterr().err
