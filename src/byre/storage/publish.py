"""A new image under a temporary name, published whole or not at all.

    with Publication("xp.qcow2") as target:
        ...write target.storage...

Leaving the block brings every file to stable storage and renames it, the image itself last. An error, Ctrl-C
or SIGTERM removes what was made; a killed process leaves ``.NAME.byre-….part`` files, which say whose they are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from byre.errors import (
    ByreError,
    ExistsError,
    InterruptedByUserError,
    LockedError,
    MissingError,
    StorageError,
    UnsupportedError,
    UsageError,
)
from byre.storage import locks
from byre.storage.base import Storage
from byre.storage.device import DeviceFile, open_device
from byre.storage.local import LocalFile

_NAME_BYTES = 200
"""File names may have 255 bytes; the rest is left to what is added to them."""

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Part:
    """One file on its way: where it is written, under which name it will stand."""

    file: LocalFile
    temporary: Path
    final: Path


class Publication:
    """Implements ``disks.writer.Target``. Mutable: it collects the files of the image.

    ``force`` allows an existing target to be replaced, ``keep_off`` are the storages that must never be the
    target: the source and its chain. Raises ExistsError, LockedError, UsageError, MissingError, StorageError.
    """

    storage: Storage

    def __init__(
        self, path: str | os.PathLike[str], *, force: bool = False, keep_off: Iterable[Storage] = ()
    ) -> None:
        self.name = os.fspath(path)
        self._force = force
        self._forbidden = _identities(keep_off)
        self._parts: list[_Part] = []
        self._device: DeviceFile | None = None
        self._old_handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        final = self.path
        self.check()
        self._catch_signals()
        try:
            if final.exists() and stat.S_ISBLK(final.stat().st_mode):
                self._device = open_device(final, name=self.name)
                self.storage = self._device
            else:
                self.storage = self._begin(final, self.name)
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.commit()
        except BaseException:
            self.discard()
            raise

    def check(self) -> None:
        """Raise what beginning would raise for a target that may not be written; makes nothing."""
        self._check(self.path, self.name)

    @property
    def path(self) -> Path:
        """The resolved path that the image will have."""
        return Path(os.path.realpath(self.name))

    def extra(self, name: str) -> Storage:
        """Another file of the same image, beside it, published together with it."""
        if not name or name in (".", "..") or "/" in name or "\0" in name or Path(name).name != name:
            raise UsageError(f"{name!r} is not a plain file name", path=self.name)
        if self._device is not None:
            raise UsageError("an image of several files can't be written to a block device", path=self.name)
        final = self.path.parent / name
        if any(part.final == final for part in self._parts):
            raise UsageError(f"the image would write {name!r} twice", path=self.name)
        final = Path(os.path.realpath(final))
        self._check(final, str(final))
        return self._begin(final, str(final))

    def flush(self) -> int:
        """Bring every file of the image to stable storage; returns the bytes that they take there together."""
        files = [self._device] if self._device is not None else [part.file for part in self._parts]
        for file in files:
            file.flush()
        return sum(file.allocated for file in files)

    @contextlib.contextmanager
    def staged(self) -> Iterator[Path]:
        """The image's path in a folder where all its files stand under their final names, to be looked at before
        they are published; the folder is gone afterwards.

        Raises UnsupportedError on a device, and for several files where the file system has no hard links.
        """
        if self._device is not None:
            raise UnsupportedError("an image on a device can't be looked at before it is published", path=self.name)
        if len(self._parts) == 1:
            yield self._parts[0].temporary
            return
        folder = temporary_path(self.path)
        try:
            folder.mkdir()
            for part in self._parts:
                os.link(part.temporary, folder / part.final.name)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise UnsupportedError(
                f"an image of several files can't be verified here before it is published: {error.strerror}",
                path=self.name,
                hint="Write it where there are hard links, or without --for: 'byre check --for' judges it then.",
            ) from error
        try:
            yield folder / self._parts[0].final.name
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self) -> None:
        """Bring everything to stable storage and publish it: the other files first, the image last."""
        if self._device is not None:
            self._device.flush()
            self._device.close()
            self._release_signals()
            return
        for part in self._parts:
            part.file.flush()
            self._check(part.final, str(part.final))  # it may have appeared, or been started, meanwhile
        with _deaf():
            for part in self._parts:
                part.file.close()
            for part in (*self._parts[1:], self._parts[0]):
                _put(part, force=self._force)
                self._parts = [left for left in self._parts if left is not part]
            sync_folder(self.path.parent)
        self._release_signals()

    def discard(self) -> None:
        """Remove what was made. Does nothing after ``commit``."""
        with _deaf():
            for part in self._parts:
                part.file.close()
                with contextlib.suppress(OSError):
                    part.temporary.unlink()
            self._parts = []
            if self._device is not None:
                self._device.close()
        self._release_signals()

    def _begin(self, final: Path, shown: str) -> LocalFile:
        temporary = temporary_path(final)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            fd = os.open(temporary, flags, 0o666)
        except FileNotFoundError as error:
            raise MissingError("there is no such folder", path=shown, expected=final.parent) from error
        except OSError as error:
            raise StorageError(f"can't be created: {error.strerror}", path=shown) from error
        file = LocalFile(fd, name=shown, path=temporary, writable=True)
        self._parts.append(_Part(file, temporary, final))
        if final.exists():
            _take_over_mode(fd, final)
        with contextlib.suppress(LockedError):
            file.locked = locks.lock(fd, name=shown, writable=True)
        return file

    def _check(self, final: Path, shown: str) -> None:
        try:
            status = final.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"can't be looked at: {error.strerror}", path=shown) from error
        if (status.st_dev, status.st_ino) in self._forbidden:
            raise UsageError(
                "the target is the source itself, or part of its chain",
                path=shown,
                hint="Write to another name; rename it afterwards if it should replace the source.",
            )
        if stat.S_ISDIR(status.st_mode):
            raise ExistsError("the target is a folder", path=shown)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
            raise UsageError("the target is neither a file nor a block device", path=shown)
        if not self._force:
            what = "is a block device" if stat.S_ISBLK(status.st_mode) else "exists already"
            raise ExistsError(what, path=shown, hint="To write over it: --force.")
        if locks.in_use(final):
            raise LockedError("another program has the target open", path=shown, hint="Shut the machine down first.")

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                self._old_handlers[number] = signal.signal(number, _interrupted)

    def _release_signals(self) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers = {}


def temporary_path(final: Path) -> Path:
    """A fresh name beside ``final`` for what will be renamed to it; ``stale_parts`` knows it again."""
    return final.parent / f"{_temporary_prefix(final)}{os.getpid()}-{os.urandom(4).hex()}.part"


def stale_parts(path: str | os.PathLike[str]) -> list[Path]:
    """Temporary files and folders that a killed run left beside this target: ours by name, locked by nobody.

    Where locks can't be asked for, nothing is: it might be in the making.
    """
    final = Path(os.path.realpath(path))
    prefix = _temporary_prefix(final)
    try:
        entries = sorted(final.parent.iterdir())
    except OSError:
        return []
    return [
        entry
        for entry in entries
        if entry.name.startswith(prefix) and entry.name.endswith(".part") and locks.in_use(entry) is False
    ]


def _temporary_prefix(final: Path) -> str:
    # os.fsencode: a name need not be UTF-8. What of it can't be text is left out.
    stem = os.fsencode(final.name)[:_NAME_BYTES].decode("utf-8", "ignore")
    return f".{stem}.byre-"


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise InterruptedByUserError(f"stopped by {signal.Signals(number).name}; nothing half-made was left behind")


@contextlib.contextmanager
def signals_as_errors() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP are an InterruptedByUserError, so that what was begun is cleaned up."""
    old: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                old[number] = signal.signal(number, _interrupted)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """No signal's exception in the middle of renaming or cleaning up: both take milliseconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    pending: list[tuple[int, FrameType | None]] = []
    remember: Callable[[int, FrameType | None], None] = lambda number, frame: pending.append((number, frame))  # noqa: E731
    old = {number: signal.signal(number, remember) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _put(part: _Part, *, force: bool) -> None:
    try:
        if force:
            part.temporary.replace(part.final)
            return
        try:
            os.link(part.temporary, part.final)  # unlike a rename it never replaces what came meanwhile
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if part.final.exists():
                raise FileExistsError from None
            part.temporary.rename(part.final)
            return
        part.temporary.unlink()
    except FileExistsError as error:
        raise ExistsError(
            "appeared while it was being made", path=part.final, hint="To write over it: --force."
        ) from error
    except OSError as error:
        raise StorageError(f"can't be put in its place: {error.strerror}", path=part.final) from error


def sync_folder(folder: Path) -> None:
    """Make the renames survive a power cut, where folders can be synced at all."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def _take_over_mode(fd: int, old: Path) -> None:
    status = old.stat()
    with contextlib.suppress(OSError, AttributeError):
        os.fchown(fd, status.st_uid, status.st_gid)
    with contextlib.suppress(OSError, AttributeError):
        os.fchmod(fd, stat.S_IMODE(status.st_mode))


def _identities(storages: Iterable[Storage]) -> frozenset[Identity]:
    found = set()
    for storage in storages:
        fd = storage.fileno()
        try:
            status = os.fstat(fd) if fd is not None else None if storage.path is None else storage.path.stat()
        except (OSError, ByreError):
            continue
        if status is not None:
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)
