"""A run has a private folder and a name of its own; what the dead left is removed, what lives is never touched."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from byre.errors import MissingError, StorageError
from byre.machine.runs import GRACE_SECONDS, claim, clean, find, private_folder, runs, scratch_folder, start_of


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return private_folder(tmp_path / "runs")


def test_two_runs_of_one_name_get_two_folders(base: Path) -> None:
    one, two = claim("xp", base=base), claim("xp", base=base)
    assert (one.run.name, two.run.name) == ("xp", "xp-2")
    assert [run.name for run in runs(base=base)] == ["xp", "xp-2"]
    assert one.run.folder.stat().st_mode & 0o777 == 0o700
    one.release()
    two.release()
    assert list(base.iterdir()) == []


def test_a_machine_is_found_by_name_and_by_its_image(base: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    image.touch()
    taken = claim("xp", base=base)
    taken.record(image=str(image), pid=os.getpid(), begun=start_of(os.getpid()))
    assert find("xp", base=base).image == find(str(image), base=base).image == str(image)
    with pytest.raises(MissingError) as caught:
        find("w2k", base=base)
    assert "xp" in str(caught.value.found)
    taken.release()


def crashed(base: Path, *, overlay: Path, pid: int = 0, begun: int = 0) -> None:
    """A run whose owner was killed without a chance to clear up."""
    script = f"""
import os, signal
from pathlib import Path
from byre.machine.runs import claim
taken = claim("xp", base=Path({str(base)!r}))
taken.record(pid={pid}, begun={begun}, leftovers=({str(overlay)!r},))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL


def test_an_overlay_left_by_a_crash_vanishes_at_the_next_start(base: Path) -> None:
    overlay = scratch_folder() / "xp.overlay.qcow2"
    overlay.write_bytes(b"x")
    crashed(base, overlay=overlay, pid=999_999_999, begun=5)
    assert runs(base=base) == ()
    taken = claim("xp", base=base)
    assert taken.run.name == "xp", "the dead run's name is free again"
    assert not overlay.exists()
    taken.release()


def test_a_machine_that_outlived_its_owner_is_left_alone(base: Path) -> None:
    overlay = scratch_folder() / "xp.overlay.qcow2"
    overlay.write_bytes(b"x")
    crashed(base, overlay=overlay, pid=os.getpid(), begun=start_of(os.getpid()))
    (orphan,) = runs(base=base)
    assert orphan.state == "orphaned"
    assert clean(base=base) == () and overlay.exists()


def test_a_record_cannot_name_files_elsewhere_for_removal(base: Path, tmp_path: Path) -> None:
    victim = tmp_path / "xp.important"
    victim.write_bytes(b"x")
    crashed(base, overlay=victim, pid=999_999_999, begun=5)
    assert clean(base=base) == ("xp",)
    assert victim.exists()


def test_a_recycled_process_number_is_not_taken_for_the_machine(base: Path) -> None:
    crashed(base, overlay=base / "none", pid=os.getpid(), begun=start_of(os.getpid()) + 1)
    assert runs(base=base) == ()


def test_a_machine_is_starting_until_its_owner_says_that_it_has_started(base: Path) -> None:
    """QEMU's number is written down before that, so that whoever finds its owner dead can end it."""
    taken = claim("xp", base=base)
    states = []
    for known in ({}, {"pid": os.getpid(), "begun": start_of(os.getpid())}, {"started": 1.0}):
        taken.record(**known)
        states.append(find("xp", base=base).state)
    assert states == ["starting", "starting", "running"]
    taken.release()


def test_two_who_look_at_once_see_that_a_run_is_dead(base: Path) -> None:
    crashed(base, overlay=base / "none", pid=999_999_999, begun=5)
    with (base / "xp" / "owner.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as the other one does, for a moment
        assert runs(base=base) == ()


def test_a_folder_that_has_no_lock_yet_is_another_starts(base: Path) -> None:
    (base / "xp").mkdir()
    assert clean(base=base) == ()
    old = time.time() - 2 * GRACE_SECONDS
    os.utime(base / "xp", (old, old))
    assert clean(base=base) == ("xp",)


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError):
        private_folder(tmp_path / "link")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"leftovers": 3}', '{"pid": "x", "folder": "/"}'])
def test_a_damaged_record_harms_nobody(base: Path, text: str) -> None:
    taken = claim("xp", base=base)
    (taken.run.folder / "run.json").write_text(text)
    (run,) = runs(base=base)
    assert run.folder == taken.run.folder
    taken.release()
