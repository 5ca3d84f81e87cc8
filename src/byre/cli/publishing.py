"""Texts that a verb writes as files of their own: whole, and never over another file."""

from __future__ import annotations

import os
from pathlib import Path

from byre.errors import ExistsError, MissingError, StorageError


def refuse_taken(path: Path) -> None:
    """ExistsError or MissingError where nothing new can be written under that name: before the work, not after it."""
    if path.exists() or path.is_symlink():
        raise ExistsError("it is there already", path=path, hint="Choose another name or remove it.")
    if not path.parent.is_dir():
        raise MissingError("there is no such folder", path=path.parent)


def publish(path: Path, text: str) -> None:
    """The text under its name at once and whole, and never over another file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        _name(part, path)
    except FileExistsError as error:
        raise ExistsError("it is there already", path=path) from error
    except OSError as error:
        raise StorageError(f"the report can't be written: {error.strerror}", path=path) from error
    finally:
        part.unlink(missing_ok=True)


def _name(part: Path, path: Path) -> None:
    try:
        os.link(part, path)  # unlike a rename it never replaces what came meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError from None
        part.rename(path)
