"""A guest chooses names; the host's folder must hold all that is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from byre.errors import CorruptImageError, ExistsError
from byre.filesystems.base import Entry, Reparse, Stream
from byre.filesystems.copying import CopyReport, copy_out
from byre.filesystems.selection import host_name

HOSTILE = (
    "..",
    ".",
    "../../escaped",
    r"..\..\escaped",
    "a/b",
    "/etc/passwd",
    "C:\\WINDOWS",
    "CON",
    "nul.txt",
    "COM1",
    "LPT¹.log",
    "with\nline end",
    "with\0nul",
    "\x1b[31mred",
    "right\u202eexe.txt",
    "ends with dots...",
    "ends with space ",
    "stream:name",
    'what?*<>|"',
    "lone \ud800 surrogate",
    "x" * 400,
    "é" * 200,
)


def entry(path: str, name: str, *, folder: bool = False, size: int = 4, **more: Any) -> Entry:
    return Entry(path, name, 1, folder, size, size, 0, None, 10**18, None, None, **more)


@dataclass
class FakeFiles:
    """Only what copying uses of a file system."""

    rows: list[Entry]
    broken: set[str] = field(default_factory=set)

    def walk(self, where: Entry) -> Iterator[Entry]:
        return iter(self.rows)

    def chunks(self, wanted: Entry, stream: str = "", size: int = 1 << 20) -> Iterator[bytes]:
        yield b"da"
        if wanted.name in self.broken:
            raise CorruptImageError("a cluster is gone", path="image")
        yield b"ta"


ROOT = entry("/", "", folder=True)


def copy(files: FakeFiles, target: Path, **options: Any) -> CopyReport:
    return copy_out(files, [ROOT], target, **options)  # type: ignore[arg-type]


def everything(folder: Path) -> set[Path]:
    return {Path(base, name) for base, folders, names in os.walk(folder) for name in (*folders, *names)}


def test_no_name_leads_outside_the_target(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "mine.txt").write_bytes(b"untouched")
    rows = [entry(f"/{name}", name) for name in HOSTILE]
    rows.append(entry("/..", "..", folder=True))
    rows.append(entry("/../inner", "inner"))
    report = copy(FakeFiles(rows), outer / "target")
    assert report.failed == []
    assert report.files == len(HOSTILE) + 1
    inside = everything(outer / "target")
    assert everything(tmp_path) - inside == {outer, outer / "mine.txt", outer / "target"}
    assert len(inside) == len(HOSTILE) + 2, "no two became one"
    assert all(path.is_file() and not path.stat().st_mode & 0o111 for path in inside if not path.is_dir())
    assert (outer / "mine.txt").read_bytes() == b"untouched"
    renamed = dict(report.renamed)
    assert renamed["/CON"] == "_CON"
    assert renamed["/a/b"] == "a_b"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_safe_name_is_one_plain_name_on_every_host(name: str) -> None:
    safe = host_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set('/\\:*?"<>|\0\n')
    assert len(safe.encode()) <= 255
    assert safe == safe.rstrip(". ")
    assert host_name(safe) == safe


def test_names_that_become_the_same_stay_two_files(tmp_path: Path) -> None:
    rows = [entry("/a:b", "a:b"), entry("/a_b", "a_b"), entry("/A_B", "A_B")]
    report = copy(FakeFiles(rows), tmp_path)
    assert report.files == 3
    assert {path.name for path in everything(tmp_path)} == {"a_b", "a_b~2", "A_B~3"}


def test_links_are_told_and_not_made(tmp_path: Path) -> None:
    link = entry("/link", "link", reparse=Reparse(0xA000000C, "symlink", "/etc/passwd"))
    below = entry("/mount", "mount", folder=True, reparse=Reparse(0xA0000003, "junction", "C:\\"))
    report = copy(FakeFiles([link, below]), tmp_path)
    assert [path for path, _ in report.failed] == ["/link", "/mount"]
    assert everything(tmp_path) == set()
    assert copy_out(FakeFiles([]), [link], tmp_path).failed == report.failed[:1]  # type: ignore[arg-type]


def test_a_link_inside_the_target_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "folder").symlink_to(outside)
    (target / "file").symlink_to(outside / "new")
    with pytest.raises(ExistsError):
        copy(FakeFiles([entry("/folder", "folder", folder=True)]), target)
    with pytest.raises(ExistsError):
        copy(FakeFiles([entry("/file", "file")]), target)
    copy(FakeFiles([entry("/file", "file")]), target, force=True)
    assert (target / "file").read_bytes() == b"data"
    assert not (target / "file").is_symlink()
    assert everything(outside) == set()


def test_the_target_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    copy(FakeFiles([entry("/file", "file")]), tmp_path / "link")
    assert (tmp_path / "real" / "file").read_bytes() == b"data"


def test_a_broken_file_does_not_stop_the_rest_and_leaves_no_half(tmp_path: Path) -> None:
    report = copy(FakeFiles([entry("/bad", "bad"), entry("/good", "good")], {"bad"}), tmp_path)
    assert [path for path, _ in report.failed] == ["/bad"]
    assert {path.name for path in everything(tmp_path)} == {"good"}


def test_a_file_larger_than_the_host_is_refused_without_writing(tmp_path: Path) -> None:
    report = copy(FakeFiles([entry("/huge", "huge", size=1 << 63), entry("/good", "good")]), tmp_path)
    assert [path for path, _ in report.failed] == ["/huge"]
    assert {path.name for path in everything(tmp_path)} == {"good"}


def test_paths_too_long_for_the_host_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows, path = [], ""
    for _ in range(30):
        path += "/" + "d" * 250
        rows.append(entry(path, "d" * 250, folder=True))
    rows.append(entry("/good", "good"))
    report = copy(FakeFiles(rows), tmp_path)
    assert "too long" in report.failed[0][1]
    assert (tmp_path / "good").exists()


def test_streams_lie_beside_their_file(tmp_path: Path) -> None:
    row = entry("/a.exe", "a.exe", streams=(Stream("Zone.Identifier", 4, 0), Stream("../../x", 4, 0)))
    copy(FakeFiles([row]), tmp_path, streams=True)
    assert {path.name for path in everything(tmp_path)} == {
        "a.exe",
        "a.exe..Zone.Identifier",
        "a.exe...._.._x",
    }
