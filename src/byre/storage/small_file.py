"""A file that is no image: a list, a recipe, a key, a machine's description. It is read whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from byre.errors import MissingError, StorageError, UsageError


def read_small_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """All bytes of a file of this host; never more than ``limit`` are held, however large it is or becomes.

    Raises MissingError where there is no such file, UsageError where it is larger, StorageError where the system
    doesn't let it be read.
    """
    try:
        # A name from a file may hold what no name can: open says ValueError to a NUL.
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise MissingError("there is no such file", path=path) from error
    except OSError as error:
        raise StorageError(f"can't be read: {error.strerror}", path=path) from error
    if len(data) > limit:
        raise UsageError("is too large", path=path, expected=f"at most {limit} bytes")
    return data
