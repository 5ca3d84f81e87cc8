"""The container's facts: images below, free clusters that it holds, the order of its clusters."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from byre.audit.container import check_chain, read_layout
from byre.audit.facts import Facts
from byre.audit.gathering import gather
from byre.disks.opening import open_disk
from byre.filesystems.opening import open_volumes
from oracles import run_tool
from programs import byre, byre_json

SPECIMEN = Path(__file__).parents[2] / "src" / "byre" / "samples" / "specimen.qcow2"
MIB = 1 << 20


def facts_of_image(path: Path) -> Facts:
    with open_disk(path) as disk:
        return gather(disk, name=str(path))


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    """Three images, each on the one before: base, middle, top."""
    paths = [tmp_path / name for name in ("base.qcow2", "middle.qcow2", "top.qcow2")]
    byre("convert", "-O", "qcow2", SPECIMEN, paths[0])
    for below, above in pairwise(paths):
        run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", below.name, "-F", "qcow2", above)
    return paths


@pytest.mark.oracle
def test_every_image_of_a_chain_is_checked(chain: list[Path]) -> None:
    with open_disk(chain[-1]) as disk:
        found = check_chain(disk)
    assert [Path(name).name for name, _ in found] == ["middle.qcow2", "base.qcow2"]
    assert all(fact.value is not None and fact.value.corruptions == 0 for _, fact in found)


@pytest.mark.oracle
def test_damage_in_a_base_is_found_through_its_overlay(chain: list[Path]) -> None:
    """A reference count of zero for a cluster in use: qemu-img calls it corrupt too."""
    data = bytearray(chain[0].read_bytes())
    table = int.from_bytes(data[48:56], "big")
    block = int.from_bytes(data[table : table + 8], "big")
    data[block : block + 16] = bytes(16)
    chain[0].write_bytes(data)
    run_tool("qemu-img", "check", chain[0], status=2)
    rows = byre_json("audit", chain[-1], "--no-cache", status=2)["findings"]
    assert isinstance(rows, list)
    assert [row["where"].rpartition("/")[2] for row in rows if row["rule"] == "SOUND-013"] == ["base.qcow2"]


def test_an_image_without_a_parent_has_no_chain() -> None:
    with open_disk(f"{SPECIMEN}@clean") as disk:
        assert check_chain(disk) == ()


@pytest.mark.oracle
def test_free_clusters_that_the_image_holds_are_counted(tmp_path: Path) -> None:
    """Free space filled with noise: as large as qemu-img says that the file grew, give or take the metadata."""
    byre("convert", "-O", "raw", f"{SPECIMEN}@clean", tmp_path / "x.img")
    path = tmp_path / "x.img"
    before = facts_of_image(path).layout.value
    assert before is not None
    with open_disk(path) as disk:
        volume = next(each for each in open_volumes(disk) if each.filesystem)
        assert volume.filesystem is not None
        table = next(iter(volume.filesystem.free_extents()))
        row = max(table.tolist(), key=lambda each: each[1])
    with path.open("r+b") as file:
        file.seek(row[0])
        file.write(random.Random(3).randbytes(8 * MIB))
    run_tool("qemu-img", "convert", "-O", "qcow2", path, tmp_path / "x.qcow2")
    found = facts_of_image(tmp_path / "x.qcow2").layout.value
    assert found is not None
    assert found.free == before.free
    assert 8 * MIB <= found.held < 10 * MIB  # whole clusters of 64 KiB, of which files have a part
    rules = {row["rule"] for row in _findings(tmp_path / "x.qcow2")}
    assert "LEAN-003" in rules


def _findings(path: Path) -> list[dict[str, str]]:
    rows = byre_json("audit", path, "--no-cache", "--only", "lean")["findings"]
    assert isinstance(rows, list)
    return rows


@pytest.mark.oracle
def test_clusters_written_in_random_order_are_out_of_order(tmp_path: Path) -> None:
    path = tmp_path / "x.qcow2"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", path, "16M")
    places = list(range(256))
    random.Random(5).shuffle(places)
    commands = [item for place in places for item in ("-c", f"write -P {place % 255 + 1} {place * 65536} 65536")]
    run_tool("qemu-io", "-f", "qcow2", *commands, path)
    with open_disk(path) as disk:
        scattered = read_layout(disk, [], {})
    byre("convert", "-O", "qcow2", path, tmp_path / "y.qcow2")
    with open_disk(tmp_path / "y.qcow2") as disk:
        ordered = read_layout(disk, [], {})
    assert scattered.clusters == ordered.clusters == 256
    assert scattered.out_of_order > 240
    assert ordered.out_of_order <= 1
