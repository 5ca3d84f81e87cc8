"""Every state of a disk, from snapshots to a chain of differencing images and back."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from builders.mixture import mixture, write_sparse
from builders.qemu import assert_sound, qemu_img, qemu_io
from builders.vm_state import save_vm
from builders.written import write_image
from byre.convert.convert import convert_image, convert_states
from byre.convert.manifest import open_chain
from byre.convert.state_writer import moment_of
from byre.disks.opening import open_disk
from byre.disks.qcow2.snapshot_table import Snapshot
from byre.errors import CorruptImageError, ExistsError, UnsupportedError, UsageError

SIZE = 6 << 20
CHAINS = ["vdi", "vhd", "vhdx", "vmdk"]


def history(folder: Path, *words: str) -> Path:
    """Three snapshots with writes and zeros between them, one of them the same as the one before."""
    raw, image = folder / "seed.raw", folder / "h.qcow2"
    write_sparse(raw, mixture(SIZE, 3))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *words, raw, image)
    qemu_img("snapshot", "-c", "installed", image)
    qemu_io(image, ["write -P 1 1M 700k", "write -P 2 4M 64k", "write -z 2M 512k", "discard 5M 128k"])
    qemu_img("snapshot", "-c", "a/b \\ c: ü", image)
    qemu_img("snapshot", "-c", "same again", image)
    qemu_io(image, ["write -P 3 3000k 100k"])
    return image


def contents(image: Path) -> list[bytes]:
    """What each snapshot holds, and last today's disk."""
    with open_disk(image) as disk:
        found = [disk.open_snapshot(info.id).read(0, SIZE) for info in disk.snapshots()]  # type: ignore[attr-defined]
        return [*found, disk.read(0, disk.size)]


def to_chain(image: Path, folder: Path, format: str) -> Path:
    with open_disk(image) as disk:
        convert_image(disk, folder, format, with_snapshots=True)
    return folder / "manifest.json"


def from_chain(manifest: Path, out: Path, **options: object) -> Path:
    with open_chain(manifest) as (_, states):
        convert_states(states, out, "qcow2", options)
    return out


@pytest.mark.oracle
@pytest.mark.parametrize("format", CHAINS)
@pytest.mark.parametrize("words", [(), ("-c",), ("-o", "cluster_size=4k")])
def test_every_state_survives_the_way_there_and_back(tmp_path: Path, format: str, words: tuple[str, ...]) -> None:
    image = history(tmp_path, *words)
    manifest = to_chain(image, tmp_path / "chain", format)
    back = from_chain(manifest, tmp_path / "back.qcow2")
    assert_sound(back)
    assert contents(back) == contents(image)
    with open_disk(image) as one, open_disk(back) as other:
        assert one.describe().snapshots == other.describe().snapshots
    listed = json.loads(manifest.read_text())
    assert listed["schema"] == "byre/chain/1"
    assert [state["name"] for state in listed["states"]] == ["installed", "a/b \\ c: ü", "same again", None]
    same = manifest.parent / listed["states"][2]["file"]
    assert same.stat().st_blocks * 512 < SIZE // 2, "a state in which nothing changed holds no blocks"


@pytest.mark.oracle
@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_a_chain_becomes_one_compressed_image_that_shares_its_clusters(tmp_path: Path, compression: str) -> None:
    image = history(tmp_path)
    manifest = to_chain(image, tmp_path / "chain", "vdi")
    back = from_chain(manifest, tmp_path / "back.qcow2", compress=True, compression=compression)
    assert_sound(back)
    assert contents(back) == contents(image)
    assert back.stat().st_size < image.stat().st_size
    for entry in ("1", "2", "3"):
        qemu_img("convert", "-l", f"snapshot.id={entry}", "-O", "raw", back, tmp_path / "flat.raw")
    assert (tmp_path / "flat.raw").read_bytes() == contents(image)[2]


@pytest.mark.parametrize("format", ["vdi", "vhd"])
def test_unchanged_parts_of_a_childs_large_blocks_are_shared(tmp_path: Path, format: str) -> None:
    data = bytearray(mixture(SIZE, 7))
    write_image(tmp_path / f"base.{format}", format, bytes(data))
    data[SIZE // 2 : SIZE // 2 + 512] = b"x" * 512
    block = 2 << 20
    low = (SIZE // 2) // block * block
    write_image(
        tmp_path / f"new.{format}",
        format,
        {low: bytes(data[low : low + block])},
        SIZE,
        backing_file=f"base.{format}",
        block_size=block,
    )
    out = tmp_path / "out.qcow2"
    with open_disk(tmp_path / f"new.{format}") as disk:
        done = convert_image(disk, out, "qcow2", with_snapshots=True)
        assert disk.read(0, SIZE) == data
    assert done.snapshots == 1
    with open_disk(out) as disk:
        assert [info.name for info in disk.describe().snapshots] == ["base"]
        assert disk.read(0, SIZE) == data
    assert contents(out)[0] != contents(out)[1]
    with open_disk(tmp_path / f"base.{format}") as disk:
        convert_image(disk, tmp_path / "alone.qcow2", "qcow2")
    assert out.stat().st_size <= (tmp_path / "alone.qcow2").stat().st_size + 8 * (64 << 10)


@pytest.mark.oracle
def test_an_overlay_chain_of_qcow2_files_becomes_snapshots(tmp_path: Path) -> None:
    write_sparse(tmp_path / "seed.raw", mixture(SIZE, 4))
    base = tmp_path / "base.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", tmp_path / "seed.raw", base)
    top = tmp_path / "top.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", top, "8M")
    qemu_io(top, ["write -P 9 5M 2M", "write -z 1M 1M"])
    with open_disk(top) as disk:
        convert_image(disk, tmp_path / "out.qcow2", "qcow2", with_snapshots=True)
    assert_sound(tmp_path / "out.qcow2")
    qemu_img("compare", top, tmp_path / "out.qcow2")
    with open_disk(f"{tmp_path}/out.qcow2@base") as old, open_disk(base) as was:
        assert old.read(0, old.size) == was.read(0, was.size)


@pytest.mark.oracle
def test_the_machine_state_goes_into_a_file_and_comes_back(tmp_path: Path) -> None:
    image = save_vm(tmp_path)
    with open_disk(image) as disk:
        (info,) = disk.snapshots()  # type: ignore[attr-defined]
        state = disk.read_vm_state(info.id, 0, info.vm_state_size)  # type: ignore[attr-defined]
    assert len(state) > 1 << 16
    manifest = to_chain(image, tmp_path / "chain", "vhdx")
    listed = json.loads(manifest.read_text())["states"][0]
    assert (manifest.parent / listed["vm_state"]["file"]).read_bytes() == state
    back = from_chain(manifest, tmp_path / "back.qcow2")
    with open_disk(back) as disk:
        assert disk.snapshots() == (info,)  # type: ignore[attr-defined]
        assert disk.read_vm_state(info.id, 0, len(state)) == state  # type: ignore[attr-defined]


@pytest.mark.oracle
def test_states_of_different_size_are_refused_by_name(tmp_path: Path) -> None:
    image = history(tmp_path)
    qemu_img("resize", "-q", image, "8M")
    with open_disk(image) as disk, pytest.raises(UnsupportedError) as caught:
        convert_image(disk, tmp_path / "chain", "vdi", with_snapshots=True)
    assert "'installed'" in caught.value.what
    assert (caught.value.found, caught.value.expected) == (SIZE, 8 << 20)
    assert not (tmp_path / "chain").exists()


@pytest.mark.oracle
def test_a_bitmap_is_refused_by_name(tmp_path: Path) -> None:
    image = history(tmp_path)
    qemu_img("bitmap", "--add", image, "changed")
    with open_disk(image) as disk, pytest.raises(UnsupportedError, match="'changed'") as refused:
        convert_image(disk, tmp_path / "chain", "vdi", with_snapshots=True)
    assert refused.value.hint == "Take each out of a copy first: qemu-img bitmap --remove COPY NAME."
    qemu_img("bitmap", "--remove", image, "changed")  # and the hint helps
    with open_disk(image) as disk:
        assert convert_image(disk, tmp_path / "chain", "vdi", with_snapshots=True).snapshots


def test_an_image_that_is_one_state_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "one.vdi", "vdi", b"x" * SIZE)
    with open_disk(tmp_path / "one.vdi") as disk, pytest.raises(UsageError, match="several states"):
        convert_image(disk, tmp_path / "out.qcow2", "qcow2", with_snapshots=True)
    assert not (tmp_path / "out.qcow2").exists()


@pytest.mark.oracle
def test_an_existing_folder_and_an_error_half_way_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = history(tmp_path)
    (tmp_path / "there").mkdir()
    with open_disk(image) as disk, pytest.raises(ExistsError):
        convert_image(disk, tmp_path / "there", "vdi", with_snapshots=True)
    calls = iter(range(100))
    with open_disk(image) as disk, pytest.raises(BaseException, match="cancelled"):
        convert_image(
            disk, tmp_path / "chain", "vdi", with_snapshots=True, cancelled=lambda: next(calls) > 1, threads=1
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h.qcow2", "seed.raw", "there"]


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "../h.qcow2"),
        ("file", "/etc/passwd"),
        ("file", ""),
        ("file", 7),
        ("name", None),
        ("id", "x" * 200),
        ("vm_state", {"file": "../../etc/passwd", "size": 1}),
        ("vm_state", "x"),
        ("vm_clock_ns", -1),
        ("icount", True),
        ("active", True),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path: Path, field: str, value: object) -> None:
    manifest = to_chain(history(tmp_path), tmp_path / "chain", "vdi")
    content = json.loads(manifest.read_text())
    content["states"][0][field] = value
    manifest.write_text(json.dumps(content))
    with pytest.raises(CorruptImageError), open_chain(manifest):
        pass


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"schema": "byre/chain/1", "states": [1, 2]}'])
def test_what_is_no_manifest_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CorruptImageError), open_chain(tmp_path / "manifest.json"):
        pass


@pytest.mark.oracle
def test_the_chain_is_one_for_other_readers_too(tmp_path: Path) -> None:
    from oracles import require_tool

    image = history(tmp_path)
    manifest = to_chain(image, tmp_path / "chain", "vhdx")
    newest = manifest.parent / "04-active.vhdx"
    require_tool("vhdiinfo")
    said = subprocess.run(["vhdiinfo", newest], capture_output=True, text=True, check=True).stdout
    assert "Differential" in said


@pytest.mark.parametrize("nanoseconds", [0, 436_000, 1_000_000, 999_999_999])
def test_a_snapshots_time_is_told_the_same_after_a_round_trip(nanoseconds: int) -> None:
    entry = Snapshot(0, 0, b"1", b"one", date_sec=1_700_000_000, date_nsec=nanoseconds)
    seconds, rest = moment_of(entry.info.created)
    again = replace(entry, date_sec=seconds, date_nsec=rest)
    assert again.info.created == entry.info.created
