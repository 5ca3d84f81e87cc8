"""Kinds of waste by path, and free clusters against what an image stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import byre as package
from byre.disks.opening import open_disk
from byre.extents import Kind
from byre.filesystems.base import FREE_EXTENT, FreeExtents
from byre.windows.inspection import Inspection
from byre.windows.space import free_space
from byre.windows.waste import KINDS, WasteFinder

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/pagefile.sys", "pagefile"),
        ("/WINDOWS/MEMORY.DMP", "dumps"),
        ("/Documents and Settings/me/Local Settings/Temp/a/b.tmp", "temporary"),
        ("/Documents and Settings/me/Local Settings/Temporary Internet Files/Content.IE5/x.htm", "browser-cache"),
        ("/WINDOWS/$NtUninstallKB958644$/netapi32.dll", "update-uninstall"),
        ("/WINDOWS/SoftwareDistribution/Download/abc/x.cab", "update-downloads"),
        ("/WINDOWS/SoftwareDistribution/DataStore/DataStore.edb", "update-database"),
        ("/System Volume Information/_restore{1}/RP1/A1.exe", "restore-points"),
        (
            "/System Volume Information/{3808876b-c176-4e48-b7ae-04046e6cc752}{3808876b-c176-4e48-b7ae-04046e6cc752}",
            "restore-points",
        ),
        ("/RECYCLER/S-1-5-21/Dc1.txt", "recycle-bin"),
        ("/WINDOWS/system32/dllcache/notepad.exe", "dllcache"),
        ("/FOUND.000/FILE0000.CHK", "lost-clusters"),
        ("/FILE0001.CHK", "lost-clusters"),
        ("/WINDOWS/setupapi.log", "logs"),
        ("/WINDOWS/system32/notepad.exe", None),
        ("/Data/pagefile.sys", None),
        ("/WINDOWS", None),
    ],
)
def test_a_path_is_the_waste_that_it_is(path: str, kind: str | None) -> None:
    found = WasteFinder("/WINDOWS").kind(path)
    assert (found.kind if found else None) == kind


def test_the_windows_folder_may_have_any_name() -> None:
    finder = WasteFinder("/WIN(1)")
    assert finder.kind("/win(1)/Prefetch/X.pf") is not None
    assert finder.kind("/WINDOWS/Prefetch/X.pf") is None


def test_every_kind_says_what_it_is_and_what_removing_it_costs() -> None:
    assert len({kind.kind for kind in KINDS}) == len(KINDS)
    assert all(kind.what and kind.cost and kind.patterns for kind in KINDS)


def test_free_but_stored_is_what_counting_byte_by_byte_gives() -> None:
    with open_disk(str(SPECIMEN), snapshot="infected") as disk:
        files = Inspection(disk, name="x").files_for("/")[1]
        free = np.zeros(disk.size // 512, dtype=bool)
        for table in files.free_extents():
            for start, length in table.tolist():
                free[start // 512 : (start + length) // 512] = True
        held = np.zeros(disk.size // 512, dtype=bool)
        for extents in disk.extents():
            for start, length, kind, *_ in extents.tolist():
                held[start // 512 : (start + length) // 512] = kind in (Kind.DATA, Kind.COMPRESSED)
        found = free_space(disk, files)
    assert found.free == int(free.sum()) * 512
    assert found.stored == int((free & held).sum()) * 512
    assert 0 < found.taken < found.stored


def test_free_space_outside_the_disk_counts_for_nothing() -> None:
    class Files:
        def free_extents(self) -> Iterator[FreeExtents]:
            yield np.array([(1 << 50, 4096)], dtype=FREE_EXTENT)
            yield np.zeros(0, dtype=FREE_EXTENT)

    with open_disk(str(SPECIMEN)) as disk:
        assert free_space(disk, Files()).stored == 0  # type: ignore[arg-type]
