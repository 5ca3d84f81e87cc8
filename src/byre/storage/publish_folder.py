"""A folder of new files that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from byre.errors import ExistsError, LockedError, MissingError, StorageError
from byre.storage import locks
from byre.storage.publish import signals_as_errors, sync_folder, temporary_path


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a folder beside ``path`` to write into; leaving the block renames it to ``path``.

    The files in it must be on stable storage by then. An error or a signal removes it with all that is in it.
    Raises ExistsError, MissingError, StorageError.
    """
    shown = os.fspath(path)
    final = Path(os.path.realpath(path))
    if os.path.lexists(final):
        raise ExistsError("exists already", path=shown, hint="Name a folder that isn't there yet.")
    temporary = temporary_path(final)
    with signals_as_errors(), contextlib.ExitStack() as held:
        try:
            temporary.mkdir()
        except FileNotFoundError as error:
            raise MissingError("there is no such folder", path=shown, expected=final.parent) from error
        except OSError as error:
            raise StorageError(f"can't be created: {error.strerror}", path=shown) from error
        try:
            _hold(temporary, shown, held)
            yield temporary
            sync_folder(temporary)
            if os.path.lexists(final):
                raise ExistsError("appeared while it was being made", path=shown)
            try:
                temporary.rename(final)
            except OSError as error:
                raise StorageError(f"can't be put in its place: {error.strerror}", path=shown) from error
            sync_folder(final.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _hold(folder: Path, shown: str, held: contextlib.ExitStack) -> None:
    """Lock the folder as a file is locked, so that ``stale_parts`` of another run knows that it is being written.

    The lock ends with the process, however that ends. A system that can't open folders has no such lock.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return
    held.callback(os.close, fd)
    with contextlib.suppress(LockedError, StorageError):
        locks.lock(fd, name=shown, writable=True)
