"""Which machines run: one private folder each, with its sockets and a record; what the dead left is cleaned.

A run's folder is made under its name, so two runs never share one. Its owner, the ``byre run`` in the foreground,
holds a lock on it for as long as it lives: a crash of whatever kind frees the lock, and the next start clears up.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from byre.errors import LockedError, MissingError, StorageError, UsageError

try:
    import fcntl
except ImportError:  # Windows, where machines aren't run
    fcntl = None  # type: ignore[assignment]

RECORD = "run.json"
LOCK = "owner.lock"
MAX_RECORD = 1 << 16
MAX_SAME_NAME = 100
MAX_SOCKET_PATH = 100
"""Of 108 bytes that the system takes, with room for the longest name of a socket."""
GRACE_SECONDS = 60
"""How old a folder without a lock must be to count as left behind: its owner takes the lock right after making it,
but on a loaded host other processes may come between."""


@dataclass(frozen=True, slots=True)
class Run:
    """One machine. ``started`` is seconds since 1970; ``state`` is ``running``, ``orphaned`` (QEMU runs, its owner
    has died) or ``starting``: it has no ``started`` yet. ``begun`` is the kernel's start time of QEMU's process,
    which tells it from a later one of the same number."""

    name: str
    folder: Path
    image: str = ""
    snapshot: str | None = None
    pid: int = 0
    begun: int = 0
    started: float = 0.0
    accelerator: str = ""
    network: str = ""
    keep: bool = False
    disk: str = ""
    """The block node that internal snapshots are made in; empty where there can't be any."""
    acpi: bool = True
    leftovers: tuple[str, ...] = ()
    """Files outside the folder to be removed when it is over: overlays, discs."""
    state: str = "running"


class Claim:
    """A name taken for a run that begins. Mutable: it holds the lock, and writes the record."""

    def __init__(self, run: Run, lock: int) -> None:
        self.run = run
        self._lock = lock

    def record(self, **changes: Any) -> None:
        """Write down what is known of the run by now."""
        self.run = replace(self.run, **changes)
        kept = {name: value for name, value in asdict(self.run).items() if name not in ("folder", "state")}
        part = self.run.folder / (RECORD + ".part")
        try:
            part.write_text(json.dumps(kept))
            part.replace(self.run.folder / RECORD)
        except OSError as error:
            raise StorageError(f"can't be written: {error.strerror}", path=part) from error

    def release(self) -> None:
        """The run is over: its folder and what it left elsewhere go."""
        _remove(self.run)
        os.close(self._lock)


def runtime_folder() -> Path:
    """The folder of all runs of this user, private; made where it isn't there yet.

    ``$BYRE_RUNTIME_DIR``, else (root) ``/run/byre``, else ``byre`` in ``$XDG_RUNTIME_DIR``, else ``/tmp/byre-UID``.
    StorageError where it belongs to somebody else.
    """
    stated = os.environ.get("BYRE_RUNTIME_DIR")
    session = os.environ.get("XDG_RUNTIME_DIR")
    if stated:
        folder = Path(stated)
    elif os.getuid() == 0 and os.access("/run", os.W_OK):  # QEMU's account may pass through there
        folder = Path("/run/byre")
    elif session and Path(session).is_dir() and os.access(session, os.W_OK):
        folder = Path(session, "byre")
    else:
        folder = Path(f"/tmp/byre-{os.getuid()}")
    return private_folder(folder)


def scratch_folder() -> Path:
    """The folder for overlays: in ``$TMPDIR``, else ``/var/tmp``, which isn't in memory."""
    base = os.environ.get("TMPDIR") or ("/var/tmp" if Path("/var/tmp").is_dir() else "/tmp")
    return private_folder(Path(base, f"byre-{os.getuid()}"))


def private_folder(folder: Path) -> Path:
    """The folder, ours alone. A root process lets others pass through, for QEMU under another account."""
    mode = 0o711 if os.getuid() == 0 else 0o700
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise StorageError(f"can't be made: {error.strerror}", path=folder) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise StorageError("isn't a folder of yours", path=folder, hint="Set BYRE_RUNTIME_DIR to one that is.")
    if stat.S_IMODE(status.st_mode) != mode:
        folder.chmod(mode)
    return folder


def claim(name: str, *, base: Path | None = None) -> Claim:
    """Take the name, or the first free ``name-2``, ``name-3`` ...; what dead runs left is removed first."""
    base = base or runtime_folder()
    clean(base=base)
    for number in range(1, MAX_SAME_NAME + 1):
        candidate = name if number == 1 else f"{name}-{number}"
        folder = base / candidate
        if len(os.fsencode(folder)) > MAX_SOCKET_PATH - 12:
            raise UsageError(
                "the path is too long for sockets", path=folder, hint="Set BYRE_RUNTIME_DIR to a short one."
            )
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageError(f"can't be made: {error.strerror}", path=folder) from error
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return Claim(Run(candidate, folder), lock)
    raise LockedError(f"{MAX_SAME_NAME} machines of this name run already", path=base / name)


def runs(*, base: Path | None = None) -> tuple[Run, ...]:
    """Every machine that runs, by name. Nothing is removed."""
    base = base or runtime_folder()
    return tuple(run for run in _all(base) if run.state != "dead")


def find(name: str, *, base: Path | None = None) -> Run:
    """The running machine of this name, or of this image's path where only one runs it; MissingError otherwise."""
    there = runs(base=base)
    exact = [run for run in there if run.name == name]
    if exact:
        return exact[0]
    path = os.path.realpath(name)
    same = [run for run in there if run.image and os.path.realpath(run.image) == path]
    if len(same) == 1:
        return same[0]
    known = ", ".join(run.name for run in there) or "none"
    why = "several machines run this image" if same else "there is no such machine"
    raise MissingError(f"{why}: {name!r}", found=f"running: {known}", hint="'byre ps' lists them.")


def clean(*, base: Path | None = None) -> tuple[str, ...]:
    """Remove what runs left whose owner and whose QEMU are both dead; the names of those."""
    base = base or runtime_folder()
    gone = [run for run in _all(base) if run.state == "dead"]
    for run in gone:
        _remove(run)
    return tuple(run.name for run in gone)


def start_of(pid: int) -> int:
    """When the process began, in the kernel's ticks; 0 where there is none, or one that has ended and that nobody has
    asked after (in a container perhaps nobody ever does); 1 where the system doesn't say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        words = text.rpartition(")")[2].split()
        return 0 if words[0] in ("Z", "X") else int(words[19])
    except (OSError, ValueError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return 0
    try:
        os.kill(pid, 0)
    except OSError:
        return 0
    return 1


def _all(base: Path) -> Iterator[Run]:
    try:
        folders = sorted(path for path in base.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return
    for folder in folders:
        run = _read(folder)
        if not _is_free(folder / LOCK):
            yield run if run.started else replace(run, state="starting")
        elif run.pid and start_of(run.pid) == run.begun and run.begun:
            yield replace(run, state="orphaned")
        elif time.time() - _made(folder) > GRACE_SECONDS or run.pid:  # it may be about to get its lock
            yield replace(run, state="dead")


def _made(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return time.time()


def _read(folder: Path) -> Run:
    try:
        with (folder / RECORD).open("rb") as stream:
            kept = json.loads(stream.read(MAX_RECORD))
        assert isinstance(kept, Mapping)
        known = {
            name: value for name, value in kept.items() if name in Run.__slots__ and name not in ("folder", "state")
        }
        known["leftovers"] = tuple(str(each) for each in known.get("leftovers", ()))
        return Run(**{**known, "name": folder.name, "folder": folder})
    except (OSError, ValueError, TypeError, AssertionError):
        return Run(folder.name, folder)


def _is_free(lock: Path) -> bool:
    """Whether no owner holds it. Asked with a shared lock, so that two who ask don't take each other for one."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove(run: Run) -> None:
    prefix = f"byre-{os.getuid()}"
    for name in run.leftovers:
        path = Path(name)
        if path.parent.name == prefix and path.name.startswith(run.name + "."):  # what a run makes is so named
            with contextlib.suppress(OSError):
                path.unlink()
    shutil.rmtree(run.folder, ignore_errors=True)
