"""What differs as rows of texts: the one form behind the terminal and the page."""

from __future__ import annotations

from typing import Any

import pytest

from byre.differences.compare import RangeChange
from byre.differences.facts import FactChange
from byre.differences.registry import ValueChange
from byre.reports.diff_rows import fact_row, file_row, key_rows, range_row


def file(**more: Any) -> dict[str, Any]:
    row = {"kind": "changed", "type": "file", "path": "/a.txt", "from": None, "what": ("content", "size")}
    return {**row, "before": {"size": 27}, "after": {"size": 84}, **more}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (file(), ["changed", "27 -> 84", "/a.txt", "content, size"]),
        (file(after={"size": 27}, what=("content",)), ["changed", "27", "/a.txt", "content"]),
        (file(kind="added", before=None, what=()), ["added", "84", "/a.txt", ""]),
        (file(kind="removed", after=None, what=()), ["removed", "27", "/a.txt", ""]),
        (file(kind="renamed", **{"from": "/b.txt"}, what=()), ["renamed", "27 -> 84", "/b.txt -> /a.txt", ""]),
        (file(type="directory", what=()), ["changed", "", "/a.txt", ""]),
    ],
)
def test_a_file_is_its_kind_sizes_path_and_what_changed(row: dict[str, Any], told: list[str]) -> None:
    assert file_row(row) == told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            FactChange("services", "changed", "wscsvc", {"start": 2, "x": 1}, {"start": 4, "x": 1}, ("start",)),
            "start 2 -> 4",
        ),
        (FactChange("system", "changed", "build", {"value": "2600"}, {"value": None}, ("value",)), "2600 -> none"),
        (
            FactChange("autostarts", "changed", "x", {"run_as": ()}, {"run_as": ("a", "b")}, ("run_as",)),
            "run as none -> a, b",
        ),
        (FactChange("users", "added", "support$", None, {"administrator": True, "rid": 1004}), "administrator"),
        (FactChange("users", "removed", "guest", {"administrator": False}, None), ""),
        (FactChange("programs", "added", "x", None, {"version": "1.0", "publisher": "Acme"}), "1.0, Acme"),
    ],
)
def test_a_fact_is_told_by_what_differs_or_by_what_it_is(change: FactChange, told: str) -> None:
    assert fact_row(change) == [change.kind, change.name, told]


def test_a_key_is_followed_by_its_values() -> None:
    values = [ValueChange("added", "", "REG_SZ", None, "x"), ValueChange("changed", "Start", "REG_DWORD", "2", "4")]
    rows = key_rows({"kind": "changed", "key": r"HKLM\X", "security": True, "values": values})
    assert rows == [
        ["changed", r"HKLM\X", "permissions"],
        ["  added", "  (default)", "x"],
        ["  changed", "  Start", "2 -> 4"],
    ]
    assert key_rows({"kind": "added", "key": r"HKLM\X", "security": False, "values": []})[0][2] == ""


def test_a_range_is_told_by_offset_size_and_place() -> None:
    assert range_row(RangeChange("boot code", 512, 4096)) == ["differs", "0x200", "4 KiB", "boot code"]
