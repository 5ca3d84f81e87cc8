"""The log: replayed in memory for a reader, for good for a writer."""

from __future__ import annotations

import random
import struct
import subprocess
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest

from builders.qemu import qemu_img
from builders.vhdx import BAT_AT, FULLY, LOG_GUID, MIB, ZERO, Vhdx, log_entry
from byre.disks.opening import open_disk
from byre.disks.vhdx.overlay import OverlayStorage, Patch, flatten
from byre.errors import CorruptImageError, StorageError
from byre.storage.memory import MemoryStorage
from oracles import require_tool


def bat_page(made: Vhdx, *entries: int) -> bytes:
    """The first 4096 bytes of the BAT."""
    return b"".join(struct.pack("<Q", entry) for entry in entries).ljust(4096, b"\0")


def dirty(tail: int = 0, *, entries: int = 1) -> Vhdx:
    """A disk of four blocks whose BAT in the file is empty; the log holds the real one."""
    made = Vhdx(4 * MIB, log_guid=LOG_GUID)
    first, second = made.block(0, b"one" * 9), made.block(1, b"two" * 9)
    made.bat.clear()
    size = 16 * MIB
    writes = [(BAT_AT, bat_page(made, first | FULLY, second | FULLY))]
    made.log[tail] = log_entry(LOG_GUID, 5, tail, writes, flushed=4 * MIB, last=size)
    if entries > 1:
        writes = [(BAT_AT, bat_page(made, second | FULLY, ZERO))]
        made.log[tail + 8192] = log_entry(LOG_GUID, 6, tail, writes, flushed=4 * MIB, last=size)
    return made


def put(path: Path, made: Vhdx) -> Path:
    path.write_bytes(made.build())
    return path


def test_dirty_log_is_replayed_without_touching_the_file(tmp_path: Path) -> None:
    path = put(tmp_path / "a.vhdx", dirty())
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    with open_disk(path) as disk:
        assert disk.read(0, 3) == b"one"
        assert disk.read(MIB, 3) == b"two"
        details = disk.describe().details
        assert (details["log"], details["log_entries"]) == ("replayed in memory", 1)
        assert disk.files[0].size == 16 * MIB
        report = disk.check()  # type: ignore[attr-defined]
        assert "vhdx.log-dirty" in [problem.code for problem in report.problems]
        assert report.corruptions == 0
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == stamp


def test_later_entry_wins(tmp_path: Path) -> None:
    with open_disk(put(tmp_path / "a.vhdx", dirty(entries=2))) as disk:
        assert disk.read(0, 3) == b"two"
        assert disk.read(MIB, 3) == bytes(3)
        assert disk.describe().details["log_entries"] == 2


def test_writable_open_replays_for_good(tmp_path: Path) -> None:
    path = put(tmp_path / "a.vhdx", dirty(entries=2))
    with open_disk(path, writable=True) as disk:
        assert disk.read(0, 3) == b"two"
    assert path.stat().st_size == 16 * MIB
    with open_disk(path) as disk:
        assert disk.describe().details["log"] == "clean"
        assert disk.read(0, 3) == b"two"


def test_entry_that_wraps_around_the_log(tmp_path: Path) -> None:
    made = dirty()
    entry = made.log.pop(0)
    where = MIB - 4096
    data = (BAT_AT, bat_page(made, 5 * MIB | FULLY))
    entry = log_entry(LOG_GUID, 9, where, [data], flushed=4 * MIB, last=16 * MIB)
    made.log[where], made.log[0] = entry[:4096], entry[4096:]
    with open_disk(put(tmp_path / "a.vhdx", made)) as disk:
        assert disk.read(0, 3) == b"two"


def test_newest_of_several_sequences_counts(tmp_path: Path) -> None:
    made = dirty()
    old = log_entry(LOG_GUID, 2, 65536, [(BAT_AT, bytes(4096))], flushed=4 * MIB, last=16 * MIB)
    made.log[65536] = old
    with open_disk(put(tmp_path / "a.vhdx", made)) as disk:
        assert disk.read(0, 3) == b"one"


def test_entries_of_another_log_are_stale(tmp_path: Path) -> None:
    made = dirty()
    other = log_entry(UUID(int=3), 99, 65536, [(BAT_AT, bytes(4096))], flushed=4 * MIB, last=16 * MIB)
    made.log[65536] = other
    with open_disk(put(tmp_path / "a.vhdx", made)) as disk:
        assert disk.read(0, 3) == b"one"


def test_zero_descriptor_makes_zeros(tmp_path: Path) -> None:
    made = Vhdx(4 * MIB, log_guid=LOG_GUID)
    made.block(0, b"gone" * 9)
    made.log[0] = log_entry(LOG_GUID, 1, 0, [(BAT_AT, 8192)], flushed=4 * MIB, last=8 * MIB)
    path = put(tmp_path / "a.vhdx", made)
    with open_disk(path) as disk:
        assert disk.read(0, 4) == bytes(4)
    with open_disk(path, writable=True) as disk:
        assert disk.read(0, 4) == bytes(4)
    assert path.read_bytes()[BAT_AT : BAT_AT + 8] == bytes(8)


def test_torn_second_entry_is_left_out(tmp_path: Path) -> None:
    made = dirty(entries=2)
    torn = bytearray(made.log[8192])
    torn[5000] ^= 1
    made.log[8192] = bytes(torn)
    with open_disk(put(tmp_path / "a.vhdx", made)) as disk:
        assert disk.read(0, 3) == b"one"


def test_first_entry_that_was_torn_in_writing_counts_for_nothing(tmp_path: Path) -> None:
    made = dirty()
    made.log[0] = made.log[0][:4096]
    with open_disk(put(tmp_path / "a.vhdx", made)) as disk:
        assert disk.read(0, 3) == bytes(3)


def test_log_whose_only_entry_is_damaged_is_corrupt(tmp_path: Path) -> None:
    made = dirty()
    torn = bytearray(made.log[0])
    torn[5000] ^= 1
    made.log[0] = bytes(torn)
    with pytest.raises(CorruptImageError) as caught:
        open_disk(put(tmp_path / "a.vhdx", made))
    assert caught.value.offset == MIB
    assert str(LOG_GUID) in str(caught.value.expected)


def test_log_that_was_named_but_never_begun_is_clean(tmp_path: Path) -> None:
    made = Vhdx(4 * MIB, log_guid=LOG_GUID)
    made.block(0, b"here")
    path = put(tmp_path / "a.vhdx", made)
    with open_disk(path) as disk:
        assert disk.read(0, 4) == b"here"
        assert disk.check().problems[0].code == "vhdx.log-dirty"  # type: ignore[attr-defined]


def test_file_shorter_than_its_log_says_is_corrupt(tmp_path: Path) -> None:
    made = dirty()
    writes = [(BAT_AT, bat_page(made))]
    made.log[0] = log_entry(LOG_GUID, 5, 0, writes, flushed=64 * MIB, last=64 * MIB)
    with pytest.raises(CorruptImageError, match="truncated") as caught:
        open_disk(put(tmp_path / "a.vhdx", made))
    assert caught.value.expected == f"at least {64 * MIB}"


def test_writing_zeros_of_absurd_length_ends_soon(tmp_path: Path) -> None:
    made = dirty()
    made.log[0] = log_entry(LOG_GUID, 5, 0, [(8 * MIB, 1 << 61)], flushed=4 * MIB, last=16 * MIB)
    with open_disk(put(tmp_path / "a.vhdx", made)) as disk:
        assert disk.read(0, 3) == bytes(3)
    with pytest.raises(StorageError):
        open_disk(tmp_path / "a.vhdx", writable=True)


@pytest.mark.oracle
def test_image_of_a_killed_qemu_reads_as_qemu_repairs_it(tmp_path: Path) -> None:
    """qemu-io is killed at the n-th write of one of its threads, which leaves every kind of half-written log. Which
    thread writes what is chance: it goes on until a log was there to be replayed."""
    require_tool("qemu-io")
    require_tool("strace")
    seen = set()
    first = (2, 4, 6, 7, 9, 11, 12, 17)
    for count, number in enumerate(first * 10):
        if count >= len(first) and "replayed in memory" in seen:
            break
        image = tmp_path / f"{number}.vhdx"
        qemu_img("create", "-q", "-f", "vhdx", "-o", "block_size=1M", image, "24M")
        inject = f"inject=pwrite64,pwritev:signal=KILL:when={number}"
        commands = ("write -P 5 1M 3M", "write -P 6 20M 1M", "write -P 7 9M 9M")
        traced = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64,pwritev", "-e", inject]
        script = [word for command in commands for word in ("-c", command)]
        subprocess.run([*traced, "qemu-io", "-f", "vhdx", *script, str(image)], capture_output=True)
        before = image.read_bytes()
        with open_disk(image) as disk:
            ours = disk.read(0, disk.size)
            seen.add(disk.describe().details["log"])
            assert disk.check().corruptions == 0  # type: ignore[attr-defined]
        assert image.read_bytes() == before
        with open_disk(image, writable=True) as disk:
            disk.write(5 * MIB, b"more")  # type: ignore[attr-defined]
        qemu_img("check", "-f", "vhdx", image)
        qemu_img("convert", "-f", "vhdx", "-O", "raw", image, tmp_path / "ours.raw")
        expected = bytearray(ours)
        expected[5 * MIB : 5 * MIB + 4] = b"more"
        assert (tmp_path / "ours.raw").read_bytes() == expected
        image.write_bytes(before)
        qemu_img("check", "-r", "all", "-f", "vhdx", image)
        qemu_img("convert", "-f", "vhdx", "-O", "raw", image, tmp_path / "theirs.raw")
        assert (tmp_path / "theirs.raw").read_bytes() == ours
    assert "replayed in memory" in seen


def test_patches_flatten_to_what_painting_them_gives() -> None:
    rng = random.Random(7)
    for _ in range(200):
        patches, picture = [], [None] * 64
        for number in range(rng.randrange(12)):
            start = rng.randrange(60)
            stop = min(64, start + rng.randrange(1, 12))
            data = bytes([number + 1]) * (stop - start) if rng.random() < 0.7 else None
            patches.append(Patch(start, stop, data))
            picture[start:stop] = [data[0] if data else 0] * (stop - start)  # type: ignore[list-item]
        overlay = OverlayStorage(MemoryStorage(b"\xff" * 50), patches, 64)
        expected = bytes((255 if at < 50 else 0) if seen is None else seen for at, seen in enumerate(picture))
        assert overlay.read(0, 64) == expected
        flat = flatten(patches)
        assert all(left.stop <= right.start for left, right in pairwise(flat))
        for begin, end in ((3, 17), (0, 1), (49, 51)):
            assert overlay.read(begin, end - begin) == expected[begin:end]
