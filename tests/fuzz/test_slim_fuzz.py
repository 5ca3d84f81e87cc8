"""slim and mend on damaged copies of the specimen: refused with one of Byre's errors, or a result that the second
tools take; the damaged image stays as it was."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import byre as package
from byre.disks.opening import open_disk
from byre.extents import Kind
from byre.filesystems.opening import open_volumes
from crash.cut_verbs import Cutter, cutter
from fuzzing import case_count
from oracles import run_tool

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
REFUSALS = {1, 65, 66, 69}
pytestmark = [pytest.mark.fuzz, pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def verbs() -> Iterator[Cutter]:
    with cutter() as found:
        yield found


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("specimen") / "specimen.raw"
    copy = file.with_suffix(".qcow2")
    shutil.copyfile(SPECIMEN, copy)
    run_tool("qemu-img", "snapshot", "-a", "clean", copy)
    run_tool("qemu-img", "convert", "-O", "raw", copy, file)
    return file


@pytest.fixture(scope="module")
def places(raw: Path) -> list[tuple[int, int]]:
    """The partition table, the boot sector, MFT records and indexes, and the hives: (offset, length)."""
    with open_disk(raw, format="raw") as disk:
        volume = open_volumes(disk)[0]
        assert volume.filesystem is not None
        found = [(0, 512), (volume.partition.start, 512)]
        for entry in volume.filesystem.walk(system=True):
            if entry.name in ("$MFT", "$Bitmap") or "/config/" in entry.path:
                rows = volume.filesystem.extents(entry)
                weight = 30 if entry.name == "$MFT" else 3
                found += [
                    (int(row["disk"]), min(int(row["length"]), 1 << 18)) for row in rows[rows["kind"] == Kind.DATA]
                ] * weight
    return found


def _digest(image: Path) -> str:
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ntfsfix(image: Path, folder: Path) -> bool:
    """Whether the volume is sound to ntfsfix."""
    with open_disk(image) as disk:
        parts = open_volumes(disk)
        volume = folder / "volume.ntfs"
        with volume.open("wb") as file:
            file.truncate(parts[0].partition.length)
            for table in disk.extents(parts[0].partition.start, parts[0].partition.stop):
                for row in table[table["kind"] != Kind.ZERO]:
                    file.seek(int(row["start"]) - parts[0].partition.start)
                    file.write(disk.read(int(row["start"]), int(row["length"])))
    return "completed successfully" in run_tool("ntfsfix", "-n", volume, status=None)


def test_fuzz_damaged_guests_are_refused_or_soundly_slimmed(
    verbs: Cutter, raw: Path, places: list[tuple[int, int]], tmp_path: Path
) -> None:
    done = 0
    for number in range(min(case_count(4), 2000)):
        rng = random.Random(f"slim {number}")
        image, out = tmp_path / "damaged.raw", tmp_path / "out.qcow2"
        run_tool("cp", "--sparse=always", raw, image)
        with image.open("r+b") as file:
            for _ in range(rng.choice([1, 1, 3, 20])):
                start, length = rng.choice(places)
                file.seek(start + rng.randrange(length))
                file.write(rng.choice([b"\0", b"\xff", rng.randbytes(1), rng.randbytes(4), bytes(64)]))
        before = _digest(image)
        words = rng.choice([("slim", image, "--profile", "lite", "--keep-needed"), ("mend", image, "all")])
        ended = verbs.run(*words, "-o", out, "--json")
        assert _digest(image) == before
        said = ended.error or ended.out
        if ended.status == 0 and out.exists():
            run_tool("qemu-img", "check", out)
            assert _ntfsfix(out, tmp_path) or not _ntfsfix(image, tmp_path), f"case {number}"
            out.unlink()
            done += 1
        else:
            assert ended.status in REFUSALS | {0} and not out.exists(), f"case {number}: {ended.status} {said}"
        assert "Traceback" not in said, f"case {number}: {said}"
        assert [each.name for each in tmp_path.iterdir() if ".byre" in each.name] == []
    assert done
