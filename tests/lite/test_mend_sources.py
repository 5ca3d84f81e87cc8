"""Where a missing file is taken from: what the owner gave is read, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import xp
from builders.memory_files import MemoryFiles
from byre.errors import UsageError
from byre.lite.mending import sources
from byre.lite.mending.sources import GuestSources


@pytest.mark.parametrize(("limit", "name"), [("MAX_FILE", "atapi.sys"), ("MAX_INF", "mshdc.inf")])
def test_a_file_of_the_owner_that_is_too_large_is_said_and_not_passed_over(
    limit: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, limit, 100)
    (tmp_path / name).write_bytes(bytes(101))
    given = GuestSources(MemoryFiles({}), xp.ROOT, tmp_path)
    with pytest.raises(UsageError) as caught:
        given.find(name) if limit == "MAX_FILE" else list(given.descriptions())
    assert (caught.value.what, caught.value.path) == ("is too large", str(tmp_path / name))
    assert caught.value.expected == "at most 100 bytes"


def test_what_the_owner_gave_comes_first(tmp_path: Path) -> None:
    (tmp_path / "Atapi.sys").write_bytes(b"theirs")
    files = MemoryFiles({f"{xp.ROOT}/system32/dllcache/atapi.sys": b"the guest's"})
    assert GuestSources(files, xp.ROOT, tmp_path).find("atapi.sys") == (b"theirs", str(tmp_path / "Atapi.sys"))
    found = GuestSources(files, xp.ROOT).find("atapi.sys")
    assert found is not None and found[0] == b"the guest's"
