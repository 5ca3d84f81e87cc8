"""fsck.fat as a second reader of FAT volumes: it counts what Byre counts, and what it doesn't like fails a proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from builders.fat_volumes import make_fat
from byre.disks.disk import Disk
from byre.disks.opening import open_disk
from byre.disks.scratch import ScratchDisk, open_scratch
from byre.errors import CorruptImageError, UnsupportedError
from byre.filesystems.fat.filesystem import FatFileSystem
from byre.filesystems.opening import open_volumes
from byre.lite import fat_reader
from byre.lite.applying import apply_changes
from byre.lite.changes import MakeFolder, Remove
from byre.lite.fat_reader import compare_fat, count_fat
from byre.lite.witnesses import asking
from oracles import run_tool

pytestmark = pytest.mark.oracle

SIZES = {12: 4 << 20, 16: 20 << 20, 32: 40 << 20}


@contextmanager
def scratch(folder: Path, bits: int = 16) -> Iterator[ScratchDisk]:
    image = folder / "volume.img"
    make_fat(image, bits, SIZES[bits], folder, *(("-s", "1") if bits == 32 else ()))
    with open_disk(image, format="raw") as disk:
        work = open_scratch(disk, folder)
        try:
            yield work
        finally:
            work.close()


def files_of(disk: Disk) -> FatFileSystem:
    files = open_volumes(disk)[0].filesystem
    assert isinstance(files, FatFileSystem)
    return files


@pytest.mark.parametrize("bits", [16, 32])
def test_a_volume_without_a_label_is_counted_too(bits: int, tmp_path: Path) -> None:
    image = tmp_path / "bare.img"
    with image.open("wb") as file:
        file.truncate(SIZES[bits])
    run_tool("mkfs.fat", "-F", str(bits), *(("-s", "1") if bits == 32 else ()), image)
    run_tool("mmd", "-i", image, "::/folder")
    with open_disk(image, format="raw") as disk:
        assert compare_fat(files_of(disk), count_fat(files_of(disk))) == 1


@pytest.mark.parametrize("bits", SIZES)
def test_both_readers_count_the_same_names_and_clusters(bits: int, tmp_path: Path) -> None:
    with scratch(tmp_path, bits) as work:
        assert compare_fat(files_of(work), count_fat(files_of(work))) > 10
        apply_changes(work, open_volumes(work)[0], [Remove("/Sub Directory"), MakeFolder("/a new, long name")])
        after = files_of(work)
        assert compare_fat(after, count_fat(after)) > 10


def test_a_name_or_a_cluster_more_is_a_difference(tmp_path: Path) -> None:
    with scratch(tmp_path) as work:
        files = files_of(work)
        names, used = count_fat(files)
        for wrong in ((names + 1, used), (names, used - 1)):
            with pytest.raises(CorruptImageError, match="two readers disagree"):
                compare_fat(files, wrong)


def test_what_the_other_reader_would_mend_fails_the_proof(tmp_path: Path) -> None:
    """The two copies of the table differ."""
    with scratch(tmp_path) as work:
        boot = files_of(work).boot
        work.write(boot.fat_offset + boot.fat_size + 100, b"\x55\x55")
        volume = open_volumes(work)[0]
        where = np.array([[0, work.size]], dtype=np.int64)
        with asking(work, [volume], where, [0]) as asked, pytest.raises(CorruptImageError, match="something to mend"):
            asked.answers()


def test_without_it_nobody_is_asked_and_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fat_reader, "_PLACES", str(tmp_path))
    with scratch(tmp_path) as work:
        with pytest.raises(UnsupportedError, match="isn't installed"):
            count_fat(files_of(work))
        volume = open_volumes(work)[0]
        with asking(work, [volume], np.array([[0, work.size]], dtype=np.int64), [0]) as asked:
            (said,) = asked.answers()
        assert (said.reader, said.note) == (None, "no second reader: fsck.fat isn't installed")
