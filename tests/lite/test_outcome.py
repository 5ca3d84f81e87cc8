"""What was changed is held against what was asked: each way in which it can differ is an error, nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builders.ntfs_volumes import mkntfs, need
from byre.disks.opening import open_disk
from byre.disks.scratch import ScratchDisk, open_scratch
from byre.errors import CorruptImageError
from byre.filesystems.opening import OpenVolume, open_volumes
from byre.lite.applying import apply_changes
from byre.lite.changes import Change, Content, MakeFolder, Move, Overwrite, Put, Remove
from byre.lite.outcome import prove_outcome

pytestmark = pytest.mark.oracle

FILE = bytes(range(256)) * 40
DONE: list[Change] = [
    MakeFolder("/Folder"),
    Put("/Folder/file.bin", Content.of(FILE)),
    Put("/gone.txt", Content.of(b"x")),
]
Apply = Callable[[list[Change]], tuple[ScratchDisk, OpenVolume]]


@pytest.fixture
def applied(tmp_path: Path) -> Iterator[Apply]:
    """Makes changes on a volume that is empty but for ``DONE``."""
    need("mkntfs")
    image = mkntfs(tmp_path / "volume.img", 8 << 20)
    with open_disk(image, format="raw") as disk, open_scratch(disk, tmp_path) as work:
        apply_changes(work, open_volumes(work)[0], DONE)

        def apply(changes: list[Change]) -> tuple[ScratchDisk, OpenVolume]:
            volume = open_volumes(work)[0]
            apply_changes(work, volume, changes)
            return work, volume

        yield apply


@pytest.mark.parametrize(
    "changes",
    [
        [Remove("/gone.txt"), Put("/gone.txt", Content.of(b"again"))],
        [Overwrite("/Folder/file.bin", FILE[::-1]), Remove("/gone.txt")],
        [Put("/FOLDER/FILE.BIN", Content.of(b"shorter")), MakeFolder("/folder")],
        [Move("/folder/FILE.bin", "/FOLDER/other.bin")],
        [Remove("/Folder")],
    ],
)
def test_what_was_done_is_done(changes: list[Change], applied: Apply) -> None:
    work, volume = applied(changes)
    prove_outcome(work, [(volume, changes)])


@pytest.mark.parametrize(
    "asked",
    [
        Remove("/gone.txt"),
        MakeFolder("/other"),
        MakeFolder("/gone.txt"),
        Put("/other.txt", Content.of(b"x")),
        Put("/gone.txt", Content.of(b"y")),
        Put("/gone.txt", Content.of(b"xx")),
        Put("/Folder", Content.of(b"x")),
        Overwrite("/Folder/file.bin", FILE[::-1]),
        Move("/gone.txt", "/moved.txt"),
        Move("/nothing.txt", "/moved.txt"),
    ],
    ids=lambda asked: f"{type(asked).__name__} {asked.path}",
)
def test_what_was_not_done_is_told(asked: Change, applied: Apply) -> None:
    work, volume = applied([Put("/new.txt", Content.of(b"new"))])
    with pytest.raises(CorruptImageError, match="isn't what it was to be"):
        prove_outcome(work, [(volume, [asked])])


def test_a_volume_that_is_damaged_by_a_change_is_told(applied: Apply) -> None:
    changes: list[Change] = [Put("/new.txt", Content.of(b"new"))]
    work, volume = applied(changes)
    files = open_volumes(work)[0].filesystem
    assert files is not None
    work.write(int(files.extents(files.lookup("/$Bitmap"))["disk"][0]), bytes(512))
    with pytest.raises(CorruptImageError, match="partition 0 is damaged"):
        prove_outcome(work, [(volume, changes)])
