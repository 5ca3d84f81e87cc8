"""Paths as people type them."""

from __future__ import annotations

import pytest

from byre.errors import UsageError
from byre.filesystems.paths import split_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("C:\\WINDOWS\\system32", ("WINDOWS", "system32")),
        ("/WINDOWS//x/", ("WINDOWS", "x")),
        ("./a\\b", ("a", "b")),
        ("c:", ()),
        ("/", ()),
        ("", ()),
    ],
)
def test_drives_and_both_separators_are_understood(text: str, names: tuple[str, ...]) -> None:
    assert split_path(text) == names


def test_parents_and_endless_paths_are_refused() -> None:
    for text in ("/a/../b", "x" * 40_000):
        with pytest.raises(UsageError):
            split_path(text)
