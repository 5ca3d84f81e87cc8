"""Convert a disk into a new image file: checks, backing names, pipeline, publication."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from byre.convert.pipeline import Copied, copy_disk
from byre.disks.disk import Disk
from byre.disks.formats import Format, format_named
from byre.disks.left_out import LeftOutDisk
from byre.disks.writer import Int64Array
from byre.errors import MissingError, UnsupportedError, UsageError
from byre.storage.publish import Publication


@dataclass(frozen=True, slots=True)
class Converted:
    """A finished conversion. Sizes in bytes; ``actual_size`` is what the new image takes on its file system."""

    path: str
    format: str
    virtual_size: int
    actual_size: int
    copied: Copied
    snapshots: int = 0


def convert_image(
    source: Disk,
    path: str | os.PathLike[str],
    format: str | Format,
    options: Mapping[str, object] | None = None,
    *,
    force: bool = False,
    keep_backing: bool = False,
    with_snapshots: bool = False,
    left_out: Sequence[Int64Array] = (),
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Converted:
    """Write ``source`` as a new image at ``path``.

    Nothing appears under that name before all of it is on stable storage. ``keep_backing`` writes only what
    the source's top image holds, over the same backing image (qcow2 only). ``with_snapshots`` keeps every
    internal snapshot (qcow2 to qcow2). ``left_out`` are guest ranges (start, stop) that become zeros: one table for
    the disk, or one for each state with snapshots, today's first. Raises any ByreError; the source is never
    written to.
    """
    entry = format_named(format) if isinstance(format, str) else format
    if not entry.writes:
        raise UnsupportedError(f"Byre doesn't write {entry.title} images", path=path)
    chosen = dict(options or {})
    unknown = next((name for name in chosen if name not in entry.options), None)
    if unknown is not None:
        raise UsageError(
            f"{entry.title} images have no option {unknown!r}",
            path=path,
            expected=f"one of {', '.join(entry.options)}" if entry.options else "no options",
        )
    if left_out and keep_backing:
        raise UsageError("an overlay can't leave out what lies below it", path=path)
    if keep_backing:
        backing = backing_options(source, path, entry)
        # What the image states counts; the caller may say what it doesn't.
        chosen |= {name: value for name, value in backing.items() if value is not None}
    else:
        _refuse_parent(chosen, path)
    if _keeps_uuid(chosen):
        own = source.describe().details.get("uuid")
        if own is not None:
            chosen.setdefault("uuid", own)
    with Publication(path, force=force, keep_off=source.files) as target:
        if with_snapshots:
            from byre.convert.snapshots import copy_with_snapshots

            copied, count = copy_with_snapshots(
                source,
                target,
                chosen,
                keep_backing=keep_backing,
                left_out=left_out,
                threads=threads,
                advance=advance,
                cancelled=cancelled,
            )
        else:
            disk = LeftOutDisk(source, left_out[0]) if left_out else source
            writer = entry.load().create(target, source.size, chosen)
            count = 0
            copied = copy_disk(
                disk, writer, keep_backing=keep_backing, threads=threads, advance=advance, cancelled=cancelled
            )
        target.storage.flush()
        actual = target.storage.allocated
    return Converted(os.fspath(path), entry.name, source.size, actual, copied, count)


def _refuse_parent(options: Mapping[str, object], path: str | os.PathLike[str]) -> None:
    """A whole disk over a parent: its zeros aren't written, and the parent's bytes would show through them."""
    named = next((name for name in ("backing_file", "parent_uuid") if options.get(name) is not None), None)
    if named is not None:
        raise UsageError(
            f"the option {named!r} puts a whole disk over another one, whose bytes would show in place of its zeros",
            path=path,
            hint="--keep-backing keeps the source's own backing image; 'byre create' makes an empty overlay.",
        )


def _keeps_uuid(options: Mapping[str, object]) -> bool:
    return str(options.get("keep_uuid", "")).lower() in ("on", "true", "yes", "1")


def backing_options(source: Disk, path: str | os.PathLike[str], entry: Format) -> dict[str, object]:
    """The options that put the new image over the backing image of the source."""
    if "backing_file" not in entry.options:
        raise UsageError(f"{entry.title} images can't keep a backing image", path=path)
    backing = source.describe().backing
    if backing is None:
        raise MissingError("has no backing image to keep", path=source.files[0].name)
    name = backing.name
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120
    if backing.resolved is not None and not os.path.isabs(name):  # noqa: PTH117
        # The name is read from the image's own folder, and the new one may stand elsewhere.
        name = os.path.relpath(backing.resolved, folder)
    return {"backing_file": name, "backing_format": backing.format}
