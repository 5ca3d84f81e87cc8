from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from byre.errors import ExistsError, LockedError, MissingError, StorageError, UsageError
from byre.storage.device import DeviceFile
from byre.storage.local import open_file
from byre.storage.publish import Publication, stale_parts
from byre.storage.publish_folder import new_folder


def test_nothing_stands_under_the_final_name_before_the_end(tmp_path: Path) -> None:
    final = tmp_path / "new.img"
    with Publication(final) as target:
        target.storage.write(0, b"data")
        assert not final.exists()
    assert final.read_bytes() == b"data"
    assert [entry.name for entry in tmp_path.iterdir()] == ["new.img"]


def test_an_error_leaves_the_old_target_and_no_temporary_file(tmp_path: Path) -> None:
    final = tmp_path / "old.img"
    final.write_bytes(b"old")
    with pytest.raises(StorageError), Publication(final, force=True) as target:
        target.storage.write(0, b"new")
        target.extra("old-s001.img").write(0, b"more")
        raise StorageError("no more")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"old.img": b"old"}


def test_an_existing_target_is_kept_unless_forced(tmp_path: Path) -> None:
    final = tmp_path / "old.img"
    final.write_bytes(b"old")
    final.chmod(0o640)
    with pytest.raises(ExistsError), Publication(final):
        pass
    with Publication(final, force=True) as target:
        target.storage.write(0, b"new")
    assert final.read_bytes() == b"new"
    assert final.stat().st_mode & 0o777 == 0o640


def test_a_target_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    final = tmp_path / "new.img"
    with pytest.raises(ExistsError), Publication(final):
        final.write_bytes(b"somebody else's")
    assert final.read_bytes() == b"somebody else's"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_source_is_never_the_target_under_any_name(tmp_path: Path) -> None:
    source = tmp_path / "source.img"
    source.write_bytes(b"data")
    os.link(source, tmp_path / "hard.img")
    (tmp_path / "soft.img").symlink_to(source)
    with open_file(source) as file:
        for name in ("source.img", "hard.img", "soft.img"):
            with pytest.raises(UsageError), Publication(tmp_path / name, force=True, keep_off=[file]):
                pass
    assert source.read_bytes() == b"data"


def test_a_target_in_use_is_refused_even_with_force(tmp_path: Path) -> None:
    final = tmp_path / "busy.img"
    final.write_bytes(b"data")
    with open_file(final), pytest.raises(LockedError), Publication(final, force=True):
        pass


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.img"
    link.symlink_to(tmp_path / "folder" / "real.img")
    with Publication(link) as target:
        target.storage.write(0, b"data")
    assert link.is_symlink() and (tmp_path / "folder" / "real.img").read_bytes() == b"data"


def test_several_files_appear_together(tmp_path: Path) -> None:
    with Publication(tmp_path / "disk.vmdk") as target:
        target.storage.write(0, b"descriptor")
        target.extra("disk-flat.vmdk").write(0, b"extent")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["disk-flat.vmdk", "disk.vmdk"]
    with pytest.raises(ExistsError), Publication(tmp_path / "other.vmdk") as target:
        target.extra("disk-flat.vmdk")
    assert not (tmp_path / "other.vmdk").exists()


@pytest.mark.parametrize("name", ["", "..", "../escape", "/etc/x", "a\0b"])
def test_an_extra_file_stays_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError), Publication(tmp_path / "new.img") as target:
        target.extra(name)


def test_a_missing_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError), Publication(tmp_path / "none" / "new.img"):
        pass


_HANG = """
import sys, time
from byre.storage.publish import Publication
from byre.errors import InterruptedByUserError
try:
    with Publication(sys.argv[1]) as target:
        target.storage.write(0, b"x")
        print("ready", flush=True)
        time.sleep(600)
except (InterruptedByUserError, KeyboardInterrupt):
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_what_was_half_made(tmp_path: Path, number: signal.Signals) -> None:
    assert _stopped_by(tmp_path / "new.img", number) == 130
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_leaves_is_recognised(tmp_path: Path) -> None:
    _stopped_by(tmp_path / "new.img", signal.SIGKILL)
    left = stale_parts(tmp_path / "new.img")
    assert len(left) == 1 and left[0].name.startswith(".new.img.byre-")
    with Publication(tmp_path / "new.img"):
        assert stale_parts(tmp_path / "new.img") == left  # not the one that is being written


_HANG_FOLDER = """
import sys, time
from pathlib import Path
from byre.storage.publish_folder import new_folder
with new_folder(sys.argv[1]) as folder:
    (folder / "01-base.vdi").write_bytes(b"x")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_folder_is_stale_only_after_its_writer_is_gone(tmp_path: Path) -> None:
    name = tmp_path / ("ä" * 90)
    with new_folder(name):
        assert stale_parts(name) == []
    other = tmp_path / ("ö" * 90)
    assert _stopped_by(other, signal.SIGKILL, _HANG_FOLDER) == -signal.SIGKILL
    (left,) = stale_parts(other)
    assert [path.name for path in left.iterdir()] == ["01-base.vdi"]


def _stopped_by(path: Path, number: signal.Signals, script: str = _HANG) -> int:
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        return process.wait(120)


def test_a_device_has_zeros_where_nothing_was_written(tmp_path: Path) -> None:
    # A file full of noise stands in for a device: the class only needs something with a fixed capacity.
    path = tmp_path / "device"
    path.write_bytes(b"\xaa" * (1 << 20))
    fd = os.open(path, os.O_RDWR)
    with DeviceFile(fd, name="device", path=path) as device:
        device.truncate(1 << 19)
        device.write(100_000, b"x" * 5000)
        device.write_vector(50_000, [b"y" * 10, b"z" * 10])
        device.write(600_000, b"w")
        device.flush()
        with pytest.raises(StorageError):
            device.write((1 << 20) - 1, b"xx")
    data = path.read_bytes()
    expected = bytearray(600_001)
    expected[100_000:105_000] = b"x" * 5000
    expected[50_000:50_020] = b"y" * 10 + b"z" * 10
    expected[600_000] = ord("w")
    assert data[:600_001] == expected
    assert data[600_001:] == b"\xaa" * ((1 << 20) - 600_001)
