"""Images of several files and chains of states, made for a place: judged file by file before they appear."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from builders.mixture import mixture, write_sparse
from builders.written import write_image
from byre.cli.main import main
from byre.convert.targets import verify_for_target
from byre.disks.opening import open_disk
from programs import PEAK

MIB = 1 << 20
SIZE = 21 * MIB + 3 * 512


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sparse(tmp_path_factory.mktemp("raw") / "disk.raw", mixture(SIZE, 71))


@pytest.fixture
def states(tmp_path: Path, raw: Path) -> Path:
    """A qcow2 with one snapshot and a change after it."""
    image = tmp_path / "states.qcow2"
    assert main(["convert", str(raw), str(image)]) == 0
    assert main(["snapshot", "create", str(image), "clean"]) == 0
    with open_disk(image, writable=True) as disk:
        disk.write(7 * MIB, b"after the snapshot")  # type: ignore[attr-defined]
    return image


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse"])
@pytest.mark.parametrize("place", ["vmware", "virtualbox"])
def test_a_vmdk_of_several_files_is_verified_and_published(
    raw: Path, tmp_path: Path, place: str, subformat: str
) -> None:
    out = tmp_path / "disk.vmdk"
    assert main(["convert", str(raw), str(out), "--for", place, "-o", f"subformat={subformat}"]) == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert verify_for_target(out, place).passed
    with open_disk(out) as disk:
        assert disk.read(0, SIZE) == raw.read_bytes()


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_vmdk_of_several_files_that_breaks_a_rule_leaves_nothing(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], force: list[str]
) -> None:
    out = tmp_path / "disk.vmdk"
    options = ["-o", "subformat=monolithicFlat", *force]
    assert main(["convert", str(raw), str(out), "--for", "proxmox", *options]) == 69
    assert "proxmox.whole" in (said := capsys.readouterr().err) and "disk-flat.vmdk" in said
    assert not list(tmp_path.iterdir())


def test_an_old_image_of_several_files_outlives_a_refused_one(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "disk.vmdk"
    write_image(tmp_path / "old.raw", "raw", b"old" * 4096)
    flat = ["-o", "subformat=monolithicFlat"]
    assert main(["convert", str(tmp_path / "old.raw"), str(out), *flat]) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["convert", str(raw), str(out), "--for", "proxmox", "--force", *flat]) == 69
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("place", "suffix"), [("virtualbox", "vdi"), ("vmware", "vmdk"), ("hyperv", "vhdx")], ids=lambda each: each
)
def test_every_file_of_a_chain_keeps_the_rules_of_its_place(
    states: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, suffix: str
) -> None:
    capsys.readouterr()
    folder = tmp_path / "chain"
    assert main(["convert", str(states), str(folder), "--with-snapshots", "--for", place, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["for"]["passed"] and said["snapshots"] == 1
    old, new = folder / f"01-clean.{suffix}", folder / f"02-active.{suffix}"
    assert verify_for_target(old, place).passed
    assert [each.rule.id.split(".")[1] for each in verify_for_target(new, place).having("fail")] in (
        ["whole"],
        ["parent"],
    )  # alone, the child would leave its parent behind
    for path, address in ((old, f"{states}@clean"), (new, str(states))):
        with open_disk(path) as made, open_disk(address) as source:
            assert made.read(0, SIZE) == source.read(0, SIZE)
            assert not any(made.read(SIZE, made.size - SIZE))
        if place == "hyperv":
            assert made.size % MIB == 0 and path.stat().st_blocks * 512 >= path.stat().st_size


@pytest.mark.parametrize(("place", "status"), [("azure", 69), ("esxi", 64), ("aws", 64)])
def test_a_place_without_differencing_disks_gets_no_chain(
    states: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, status: int
) -> None:
    folder = tmp_path / "chain"
    assert main(["convert", str(states), str(folder), "--with-snapshots", "--for", place]) == status
    assert ("azure.fixed" if place == "azure" else "streamOptimized") in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["states.qcow2"]


@pytest.mark.parametrize("place", ["qemu", "proxmox", "utm", "kubevirt"])
def test_snapshots_inside_one_file_are_verified_too(
    states: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    assert main(["convert", str(states), str(tmp_path / "chain"), "-O", "vdi", "--with-snapshots"]) == 0
    for source in (states, tmp_path / "chain" / "manifest.json", tmp_path / "chain" / "02-active.vdi"):
        out = tmp_path / f"{source.name}.qcow2"
        capsys.readouterr()
        assert main(["convert", str(source), str(out), "--with-snapshots", "--for", place, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["snapshots"] == 1 and said["for"]["passed"]


@pytest.mark.parametrize("subformat", ["monolithicFlat", "streamOptimized"])
def test_a_chain_of_a_kind_without_parents_is_refused_by_the_folders_name(
    states: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], subformat: str
) -> None:
    options = ["-O", "vmdk", "--with-snapshots", "-o", f"subformat={subformat}"]
    assert main(["convert", str(states), str(tmp_path / "chain"), *options]) == 64
    assert f"{tmp_path / 'chain'}: a {subformat} VMDK can't have a parent" in capsys.readouterr().err


@pytest.mark.oracle
def test_bitmaps_are_said_to_be_lost_only_where_they_are(
    states: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["qemu-img", "bitmap", "--add", states, "mark"], check=True)
    for number, (options, lost) in enumerate([([], True), (["--with-snapshots"], False)]):
        capsys.readouterr()
        out = tmp_path / f"out{number}.qcow2"
        assert main(["convert", str(states), str(out), *options]) == 0
        assert ("dirty bitmap" in capsys.readouterr().err) == lost
        with open_disk(out) as disk:
            assert bool(disk.describe().bitmaps) != lost


def test_a_chain_keeps_sectors_of_4096_bytes(tmp_path: Path) -> None:
    write_image(tmp_path / "base.vhdx", "vhdx", b"x" * (4 * MIB), sector_size=4096)
    child = tmp_path / "child.vhdx"
    assert main(["create", str(child), "-b", "base.vhdx", "-F", "vhdx"]) == 0
    assert main(["convert", str(child), str(tmp_path / "chain"), "-O", "vhdx", "--with-snapshots"]) == 0
    for path in (tmp_path / "chain").glob("*.vhdx"):
        with open_disk(path) as disk:
            assert disk.sector_size == 4096


def test_differencing_blocks_of_256_mib_stay_within_the_memory_limit(tmp_path: Path) -> None:
    """400 MB is the aim for every conversion. Measured in a process of its own, as a peak never falls."""
    import sys

    image = tmp_path / "disk.qcow2"
    assert main(["create", str(image), "512M"]) == 0
    assert main(["snapshot", "create", str(image), "clean"]) == 0
    with open_disk(image, writable=True) as disk:
        for block in range(2):
            disk.write(block * 256 * MIB + 77, b"one change in each block")  # type: ignore[attr-defined]
    code = f"import sys; from byre.cli.main import main; status = main(sys.argv[1:]); print(status, {PEAK})"
    chain, back = tmp_path / "chain", tmp_path / "back.qcow2"
    for arguments in (
        ["convert", str(image), str(chain), "-O", "vhdx", "-o", "block_size=256M", "--with-snapshots", "--json"],
        ["convert", str(chain / "02-active.vhdx"), str(back), "--json"],
    ):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        status, peak = map(int, done.stdout.splitlines()[-1].split())
        assert status == 0 and peak < 400_000_000
