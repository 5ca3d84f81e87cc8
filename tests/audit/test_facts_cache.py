"""Facts kept from the last audit: the same as gathered anew, and never those of an image that has changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import byre
from byre.audit import facts_cache
from byre.audit.facts import Facts
from byre.audit.facts_cache import FactsCache, user_cache
from byre.audit.gathering import gather
from byre.audit.judging import Report
from byre.audit.running import Request, audit_address
from byre.audit.scanners import Scanners
from byre.disks.disk import Disk
from programs import byre as run_byre

SPECIMEN = Path(byre.__file__).parent / "samples" / "specimen.qcow2"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A copy that was last changed long enough ago: mtime can be set, so ctime must be waited for, or believed."""
    shutil.copyfile(SPECIMEN, tmp_path / "x.qcow2")
    return tmp_path / "x.qcow2"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FactsCache:
    monkeypatch.setattr(facts_cache, "RACY_NS", 0)
    return FactsCache(tmp_path / "cache")


def audited(image: str | Path, cache: FactsCache | None, **options: object) -> tuple[Report, list[str]]:
    stages: list[str] = []
    request = Request(cache=cache, **options)  # type: ignore[arg-type]
    return audit_address(str(image), request, stages.append), stages


RECALLED = "facts from the last audit"


def test_the_second_audit_is_the_first_without_gathering(image: Path, cache: FactsCache) -> None:
    first, gathered = audited(image, cache)
    second, recalled = audited(image, cache)
    assert second == first
    assert RECALLED not in gathered
    assert recalled == [RECALLED, "rules"]


@pytest.mark.parametrize("snapshot", ["clean", "infected"])
def test_facts_are_the_same_after_a_round_trip(snapshot: str) -> None:
    with byre.open_disk(f"{SPECIMEN}@{snapshot}") as disk:
        facts = gather(disk, name="", scanners=Scanners())
    packed = facts_cache._pack(facts)
    assert packed is not None
    assert facts_cache._unpack(packed) == facts


def test_another_snapshot_has_facts_of_its_own(image: Path, cache: FactsCache) -> None:
    clean, _ = audited(f"{image}@clean", cache)
    infected, stages = audited(f"{image}@infected", cache)
    assert RECALLED not in stages
    assert infected.profile != clean.profile
    assert audited(f"{image}@infected", cache)[0] == infected


def test_a_change_of_one_byte_is_seen_though_size_and_mtime_are_put_back(image: Path, cache: FactsCache) -> None:
    audited(image, cache)
    before = image.stat()
    with image.open("r+b") as file:
        file.seek(before.st_size // 3 + 17)  # in none of the samples
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert RECALLED not in audited(image, cache)[1]


def test_another_file_under_the_same_name_is_seen(image: Path, cache: FactsCache) -> None:
    audited(image, cache)
    other = image.with_name("other.qcow2")
    shutil.copy2(image, other)
    other.replace(image)
    assert RECALLED not in audited(image, cache)[1]


def test_what_was_changed_a_moment_ago_is_not_kept(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_cache, "RACY_NS", 3600 * 10**9)  # a moment on any machine, however busy
    cache = FactsCache(tmp_path / "cache")
    audited(image, cache)
    assert RECALLED not in audited(image, cache)[1]
    assert not cache.folder.exists()


def test_an_image_that_changes_while_it_is_read_is_not_kept(image: Path, cache: FactsCache) -> None:
    def change(stage: str) -> None:
        os.utime(image)

    audit_address(str(image), Request(cache=cache), change)
    assert not cache.folder.exists()


def test_an_overlay_is_looked_up_with_its_backing_image(image: Path, cache: FactsCache) -> None:
    overlay = image.with_name("overlay.qcow2")
    run_byre("create", overlay, "-b", image, "--backing-format", "qcow2")
    first, _ = audited(overlay, cache)
    assert audited(overlay, cache)[1][0] == RECALLED
    os.utime(image)
    assert RECALLED not in audited(overlay, cache)[1]
    assert audited(overlay, cache)[0] == first


def test_an_image_whose_descriptor_the_disk_does_not_tell_of_is_not_kept(image: Path, cache: FactsCache) -> None:
    flat = image.with_name("x.vmdk")
    run_byre("convert", "-O", "vmdk", "-o", "subformat=monolithicFlat", image, flat)
    audited(flat, cache)
    assert not cache.folder.exists()


@pytest.mark.parametrize("format", ["raw", "vdi", "vpc", "vhdx"])
def test_images_of_one_file_are_kept(image: Path, cache: FactsCache, format: str) -> None:
    other = image.with_name(f"x.{format}")
    run_byre("convert", "-O", format, image, other)
    audited(other, cache)
    assert audited(other, cache)[1][0] == RECALLED


def test_what_other_data_decides_is_not_kept(
    image: Path, cache: FactsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.yar").write_text("rule nothing { condition: false }")
    audited(image, cache, scanners=Scanners(rules=tmp_path))
    assert not cache.folder.exists()
    monkeypatch.setattr("byre.audit.known_hashes.default_path", lambda: tmp_path / "own.yar")
    monkeypatch.setattr("byre.audit.running.gather", gather_without_scanners)
    audited(image, cache)
    assert not cache.folder.exists()


def gather_without_scanners(disk: Disk, **options: Any) -> Facts:
    return gather(disk, **{**options, "scanners": None})


@pytest.mark.parametrize("damage", [b"", b"x", b"\0" * 5000, None])
def test_a_damaged_entry_is_ignored_and_replaced(image: Path, cache: FactsCache, damage: bytes | None) -> None:
    first, _ = audited(image, cache)
    (entry,) = cache.folder.iterdir()
    data = entry.read_bytes()
    entry.write_bytes(data[:40] + bytes([data[40] ^ 255]) + data[41:] if damage is None else damage)
    second, stages = audited(image, cache)
    assert RECALLED not in stages
    assert second == first
    assert audited(image, cache)[1][0] == RECALLED


def test_an_entry_that_says_it_is_huge_is_not_unpacked(tmp_path: Path) -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(4 << 20))
    assert facts_cache._unpack(bytes(32) + bomb) is None
    frame = bytearray(bomb)
    frame[4:12] = b"\xe0" + (1 << 60).to_bytes(8, "little")[:7]
    assert facts_cache._unpack(bytes(32) + bytes(frame)) is None


def test_the_oldest_entries_go_when_there_are_too_many(
    image: Path, cache: FactsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    audited(f"{image}@clean", cache)
    (old,) = cache.folder.iterdir()
    os.utime(old, (1, 1))
    monkeypatch.setattr(facts_cache, "MAX_BYTES", old.stat().st_size * 3 // 2)
    audited(f"{image}@infected", cache)
    assert [entry != old for entry in cache.folder.iterdir()] == [True]


def test_a_folder_that_cannot_be_written_changes_nothing(image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    report, _ = audited(image, FactsCache(tmp_path / "file"))
    assert report.grade


def test_the_cache_is_the_users_alone(image: Path, cache: FactsCache) -> None:
    audited(image, cache)
    (entry,) = cache.folder.iterdir()
    assert entry.stat().st_mode & 0o077 == 0
    assert cache.folder.stat().st_mode & 0o077 == 0


def test_the_folder_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == FactsCache(tmp_path / "byre" / "facts")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache() == FactsCache(tmp_path / "home" / ".cache" / "byre" / "facts")


def test_the_library_keeps_nothing(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    byre.audit(image)
    assert not (tmp_path / "home").exists()
