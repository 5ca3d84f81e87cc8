"""The parent of a differencing VHD: by the names that the image gives, by its UUID in any case."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from byre.disks.blockmap import ParentNotOpened
from byre.disks.context import OpenContext
from byre.disks.disk import Backing, Disk, Problem
from byre.disks.parents import find_parent, folder_above_has, open_parent, read_ends
from byre.disks.vhd.footer import (
    COOKIE,
    EPOCH,
    FOOTER_BYTES,
    MAX_LOCATOR_BYTES,
    DynamicHeader,
    Footer,
    decode_name,
    find_footer,
)
from byre.errors import ByreError, CorruptImageError, MissingError, RefusedReferenceError
from byre.storage.base import Storage


def identity(path: Path) -> tuple[UUID, int] | None:
    """(UUID, timestamp) of a VHD, from its footer or the copy in front; None where the file is none."""
    head, tail = read_ends(path, FOOTER_BYTES, FOOTER_BYTES)
    data = find_footer(tail) or (head if len(head) == FOOTER_BYTES and head.startswith(COOKIE) else None)
    if data is None:
        return None
    return UUID(bytes=data[68:84]), int.from_bytes(data[24:28], "big")


def open_vhd_parent(
    storage: Storage, footer: Footer, header: DynamicHeader, context: OpenContext
) -> tuple[Disk, Backing, Problem | None]:
    """The parent's disk, what ``info`` says of it, and a note where it seems to have changed since."""
    if header.parent_uuid.int == 0 or header.parent_uuid == footer.uuid:
        raise CorruptImageError(
            "is a differencing VHD that names no parent but itself",
            path=storage.name,
            offset=footer.data_offset + 40,
            found=header.parent_uuid,
        )
    names = list(dict.fromkeys(_names(storage, header)))
    shown = names[0] if names else str(header.parent_uuid)
    path, problem = _find(storage, header, context, names)
    if path is None:
        assert problem is not None
        if context.options.with_backing:
            raise problem
        return ParentNotOpened(footer.size, problem), Backing(shown, "vhd", None, problem.what), None
    backing = Backing(shown, "vhd", str(path))
    note = _timestamp_note(header, path)
    if not context.options.with_backing:
        unopened = MissingError(
            f"the parent {shown!r} was left closed, and this read needs it", path=storage.name, expected=path
        )
        return ParentNotOpened(footer.size, unopened), backing, note
    return open_parent(context, path, image=storage.name, format="vhd"), backing, note


def _names(storage: Storage, header: DynamicHeader) -> Iterator[str]:
    """What the parent may be called, seen from the image: relative names first, of absolute ones the last part,
    for a path of another machine means nothing here. Backslashes become slashes."""
    absolute = []
    for locator in sorted(header.locators, key=lambda entry: entry.platform != b"W2ru"):
        if not 0 < locator.length <= MAX_LOCATOR_BYTES or locator.offset + locator.length > storage.size:
            continue
        data = storage.read(locator.offset, locator.length)
        if locator.platform in (b"W2ru", b"W2ku"):
            name = decode_name(data, "utf-16-be" if data[:1] == b"\0" else "utf-16-le")
        elif locator.platform in (b"Wi2r", b"Wi2k", b"MacX"):
            name = data.split(b"\0")[0].decode("utf-8", "replace").removeprefix("file://")
        else:
            continue
        plain = name.replace("\\", "/")
        if plain.startswith("/") or plain[1:2] == ":" or locator.platform in (b"W2ku", b"Wi2k"):
            absolute.append(plain)
        elif plain:
            yield plain.removeprefix("./")
    for name in (*absolute, header.parent_name.replace("\\", "/")):
        last = name.rpartition("/")[2]
        if last and last not in (".", ".."):
            yield last


def _find(
    storage: Storage, header: DynamicHeader, context: OpenContext, names: list[str]
) -> tuple[Path | None, ByreError | None]:
    """By name, if the file of that name has the right UUID; else whatever VHD nearby has it."""
    refused: ByreError | None = None
    others: list[Path] = []
    for name in names:
        try:
            path = context.resolve(name, "parent", image=storage.name)
        except RefusedReferenceError as error:
            refused = refused or error
            continue
        except ByreError:
            continue
        found = identity(path) if path.is_file() else None
        if found is not None and found[0] == header.parent_uuid:
            return path, None
        others.append(path)

    def rank(path: Path) -> int:
        found = identity(path)
        return 2 if found is not None and found[0] == header.parent_uuid else 0

    path_by_uuid = find_parent(context, rank)
    if path_by_uuid is not None:
        return path_by_uuid, None
    if refused is not None:
        return None, refused
    above = folder_above_has(context, rank)
    named = repr(names[0]) if names else "without a name"
    hint = f"It may be {above}: --parent {above}" if above else "Say where it is: --parent FILE or --parent FOLDER"
    problem = MissingError(
        f"the parent of this differencing VHD, {named}, UUID {header.parent_uuid}, is not beside it",
        path=storage.name,
        found=f"{others[0]}, which is another image" if others else None,
        expected=f"a VHD with UUID {header.parent_uuid}",
        hint=hint,
    )
    return None, problem


def _timestamp_note(header: DynamicHeader, path: Path) -> Problem | None:
    """Writers keep either the parent file's time of change or its footer's time here; neither fitting means that
    the parent may have been written to since, or only that it was copied: a note, never a refusal."""
    found = identity(path)
    stamp = header.parent_timestamp
    if found is None or stamp == 0 or found[1] == stamp:
        return None
    try:
        changed = int(path.stat().st_mtime) - EPOCH
    except OSError:
        return None
    if abs(changed - stamp) <= 2:  # FAT keeps even seconds
        return None
    return Problem(
        "note",
        "vhd.parent-timestamp",
        "the parent's time of change is not the one recorded: it was copied or changed since this image was made",
    )
