"""Names in capitals as Windows has them: the $UpCase of mkntfs is the measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.changed_volumes import reading
from builders.ntfs_volumes import mkntfs
from byre.filesystems.capitals import capitals
from byre.filesystems.ntfs.filesystem import NtfsFileSystem


def test_letters_without_a_capital_of_one_letter_stay() -> None:
    assert capitals("straße") == "STRAßE"
    assert capitals("ŉ ﬁ ı ſ µ ς ǅ") == "ŉ ﬁ ı ſ µ ς ǅ"
    assert capitals("äöüÿ жд αβγ") == "ÄÖÜŸ ЖД ΑΒΓ"
    assert capitals("\U00010428") == "\U00010428"


@pytest.mark.oracle
def test_capitals_are_those_that_mkntfs_writes(tmp_path: Path) -> None:
    with reading(mkntfs(tmp_path / "volume.img", 8 << 20)) as files:
        assert isinstance(files, NtfsFileSystem)
        table = files.tree.index.upcase
    ours = [capitals(chr(unit)) for unit in range(0x10000)]
    differ = [unit for unit in range(0x10000) if ours[unit] != table[unit]]
    # Vista's table has a few more: capitals that later Unicode gave phonetic letters, Greek with iota, Glagolitic.
    assert [hex(unit) for unit in differ if unit < 0x1D00] == ["0x250", "0x251", "0x26b", "0x271", "0x27d"]
    assert len(differ) < 300
