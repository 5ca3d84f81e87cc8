"""Finds the parent of a differencing VHDX: by its parent locator, among ``--parent``, or by its GUID alone.

A file counts as the parent only if its DataWriteGuid is the one that the child was made over (section
2.6.2.6.3): a parent that was written to since then would give back other bytes than the child was made for.
"""

from __future__ import annotations

import ntpath
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from byre.disks.context import OpenContext
from byre.disks.disk import Backing, Disk
from byre.disks.parents import files_in
from byre.disks.vhdx.structures import read_headers
from byre.errors import ByreError, CorruptImageError, MissingError, RefusedReferenceError

ROLE = "parent"
_PATH_KEYS = ("relative_path", "volume_path", "absolute_win32_path")


def linkages(locator: Mapping[str, str], *, path: str) -> tuple[UUID, ...]:
    """The DataWriteGuids that the parent may have: ``parent_linkage``, then ``parent_linkage2``."""
    found = []
    for key in ("parent_linkage", "parent_linkage2"):
        if key in locator:
            try:
                found.append(UUID(locator[key].strip()))
            except ValueError as error:
                raise CorruptImageError(
                    f"the parent locator's {key} is not a GUID", path=path, found=locator[key][:80]
                ) from error
    if not found:
        raise CorruptImageError("the parent locator has no parent_linkage", path=path)
    return tuple(found)


def parent_name(locator: Mapping[str, str]) -> str:
    """The parent as the locator calls it, the relative path first."""
    return next((locator[key] for key in _PATH_KEYS if locator.get(key)), "(unnamed)")


def _candidates(locator: Mapping[str, str], context: OpenContext) -> list[tuple[str, OpenContext]]:
    """What may be the parent, best first, each with the context in which it may be opened."""
    wanted = [locator[key] for key in _PATH_KEYS if locator.get(key)]
    names = list(dict.fromkeys(ntpath.basename(name) for name in wanted if ntpath.basename(name)))
    found: list[tuple[str, OpenContext]] = []
    for given in context.options.parents:
        # What the user gave may be opened wherever it lies; what it names in turn may not.
        for path in [given / name for name in names] if given.is_dir() else [given]:
            allowed = replace(context.options, allow_paths=(*context.options.allow_paths, path))
            found.append((str(path), replace(context, options=allowed)))
    if locator.get("relative_path"):
        found.append((locator["relative_path"].replace("\\", "/"), context))
    found.extend((name, context) for name in names)
    return found


def _data_write_guid(name: str, context: OpenContext, image: str) -> UUID:
    path = context.resolve(name, ROLE, image=image)
    with context.open_storage(path, replace(context.options, writable=False)) as storage:  # type: ignore[attr-defined]
        headers, current = read_headers(storage)
    header = headers[current]
    assert header is not None
    return header.data_write_guid


def _locate(locator: Mapping[str, str], context: OpenContext, image: str) -> tuple[str, OpenContext]:
    """The first candidate that is the parent. Raises the most telling error of those that aren't."""
    wanted = linkages(locator, path=image)
    changed: ByreError | None = None
    refused: ByreError | None = None
    for name, where in _candidates(locator, context):
        try:
            found = _data_write_guid(name, where, image)
        except RefusedReferenceError as error:
            refused = refused or error
            continue
        except MissingError:
            continue
        except CorruptImageError as error:
            changed = changed or error
            continue
        if found in wanted:
            return name, where
        changed = CorruptImageError(
            f"its parent {name!r} is not the disk that it was made over, or was written to since",
            path=image,
            found=f"DataWriteGuid {found}",
            expected=" or ".join(map(str, wanted)),
            hint="Name the right parent with --parent.",
        )
    renamed = _by_guid(wanted, context, image)
    if renamed is not None:
        return renamed
    if changed or refused:
        raise changed or refused  # type: ignore[misc]
    raise MissingError(
        f"its parent {parent_name(locator)!r} is missing",
        path=image,
        expected=f"a VHDX with DataWriteGuid {wanted[0]}",
        hint="Put it beside the image or name it with --parent.",
    )


def _by_guid(wanted: tuple[UUID, ...], context: OpenContext, image: str) -> tuple[str, OpenContext] | None:
    """A parent that was renamed: any VHDX beside the image or in the user's folders that has the right GUID."""
    for folder in (context.folder, *context.options.parents):
        if folder is None or not folder.is_dir():
            continue
        allowed = replace(context.options, allow_paths=(*context.options.allow_paths, folder))
        where = context if folder == context.folder else replace(context, options=allowed)
        for path in files_in(folder):
            if path.suffix.lower() not in (".vhdx", ".avhdx"):
                continue
            with suppress(ByreError, OSError):
                status = path.stat()
                if (status.st_dev, status.st_ino) in context.chain:
                    continue  # no disk is its own parent
                if _data_write_guid(str(path), where, image) in wanted:
                    return str(path), where
    return None


def open_parent(locator: Mapping[str, str], context: OpenContext, *, image: str) -> Disk:
    """The parent, opened read-only with its own chain. Raises MissingError, RefusedReferenceError and what the
    parent's own opening raises."""
    name, where = _locate(locator, context, image)
    # Stated, never probed: what a guest wrote into a parent must not decide how it is read.
    return where.open_reference(name, ROLE, image=image, format="vhdx")


def describe_parent(locator: Mapping[str, str], context: OpenContext, *, image: str) -> Backing:
    """What ``info`` says of the parent: where it is, or why it can't be opened. Raises nothing."""
    try:
        name, where = _locate(locator, context, image)
        resolved: Path = where.resolve(name, ROLE, image=image)
    except ByreError as error:
        return Backing(name=parent_name(locator), format="vhdx", reason=error.what)
    return Backing(name=parent_name(locator), format="vhdx", resolved=str(resolved))
