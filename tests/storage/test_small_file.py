from __future__ import annotations

from pathlib import Path

import pytest

from byre.errors import ByreError, MissingError, StorageError, UsageError
from byre.storage.small_file import read_small_file


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_file_up_to_the_limit_is_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * size)
    assert read_small_file(path, 100) == b"x" * size


def test_a_larger_file_is_refused_with_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 101)
    with pytest.raises(UsageError) as caught:
        read_small_file(path, 100)
    assert caught.value.path == str(path)
    assert caught.value.expected == "at most 100 bytes"


def test_an_endless_file_is_refused_too() -> None:
    with pytest.raises(UsageError):
        read_small_file("/dev/zero", 1000)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gone", MissingError), ("file/below", MissingError), ("nul\0", MissingError), ("folder", StorageError)],
)
def test_what_cannot_be_read_is_told_by_kind(tmp_path: Path, name: str, kind: type[ByreError]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(kind) as caught:
        read_small_file(tmp_path / name, 100)
    assert caught.value.path == str(tmp_path / name)
