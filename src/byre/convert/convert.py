"""Convert a disk into a new image file: checks, backing names, pipeline, publication."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from byre.convert.effort import Effort
from byre.convert.padding import PaddedDisk
from byre.convert.pipeline import Copied, copy_disk
from byre.disks.disk import Disk
from byre.disks.formats import Format, format_named
from byre.disks.layers import layers_of
from byre.disks.left_out import LeftOutDisk
from byre.disks.writer import Int64Array
from byre.errors import MissingError, RefusedReferenceError, UnsupportedError, UsageError
from byre.storage.base import Storage
from byre.storage.publish import Publication

if TYPE_CHECKING:  # most conversions need neither states nor targets, whose imports take 0.02 s
    from byre.convert.states import State
    from byre.convert.target_rules import Target as DeliveryTarget
    from byre.convert.targets import TargetReport


@dataclass(frozen=True, slots=True)
class Converted:
    """A finished conversion. Sizes in bytes; ``actual_size`` is what the new image takes on its file system."""

    path: str
    format: str
    virtual_size: int
    actual_size: int
    copied: Copied
    snapshots: int = 0
    report: TargetReport | None = None
    """The target's verdict, where the image was made for one."""


def convert_image(
    source: Disk,
    path: str | os.PathLike[str],
    format: str | Format,
    options: Mapping[str, object] | None = None,
    *,
    force: bool = False,
    keep_backing: bool = False,
    with_snapshots: bool = False,
    keep_uuid: bool = False,
    for_target: DeliveryTarget | None = None,
    left_out: Sequence[Int64Array] = (),
    allow_paths: Sequence[Path] = (),
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Converted:
    """Write ``source`` as a new image at ``path``.

    Nothing appears under that name before all of it is on stable storage. ``keep_backing`` writes only what
    the source's top image holds, over the same backing image. ``with_snapshots`` keeps every state of the disk,
    of internal snapshots or of a chain (``convert_states``). ``for_target`` pads the disk as that target wants it,
    fills holes in the file where it must have none, and refuses a result that breaks one of its rules. ``left_out``
    are guest ranges (start, stop) that become zeros: one table for the disk, or one for each state with snapshots,
    today's first. A kept backing image lies beneath the new image's folder or one of ``allow_paths``: elsewhere the
    new image couldn't be opened. Raises any ByreError; the source is never written to.
    """
    entry = format_named(format) if isinstance(format, str) else format
    effort = Effort(threads, advance, cancelled)
    if left_out and keep_backing:
        raise UsageError("an overlay can't leave out what lies below it", path=path)
    if keep_backing:
        _refuse_far_backing(source, path, allow_paths)
    chosen = _chosen_options(source, path, entry, options or {}, keep_backing=keep_backing, keep_uuid=keep_uuid)
    if with_snapshots and not _copies_clusters(source, entry, keep_backing=keep_backing):
        from byre.convert.states import states_of

        _refuse_with_chain(path, keep_backing=keep_backing, left_out=left_out)
        return _convert_states(states_of(source), path, entry, chosen, force, for_target, effort)
    _keep_sectors(source, entry, chosen)
    if for_target is not None:
        source = _padded(source, for_target, with_snapshots=with_snapshots)
    how = _Copying(keep_backing, left_out, effort)
    copy = _copy_snapshots if with_snapshots else _copy_one
    with Publication(path, force=force, keep_off=source.files) as target:
        copied, count, files = copy(source, target, entry, chosen, how)
        report = None
        if for_target is not None:
            from byre.convert.delivery import made_for

            report = made_for(for_target, target, files, entry)
        actual = target.flush()
    return Converted(os.fspath(path), entry.name, source.size, actual, copied, count, report)


@dataclass(frozen=True, slots=True)
class _Copying:
    """How one image is filled: what ``convert_image`` was asked for."""

    keep_backing: bool
    left_out: Sequence[Int64Array]
    effort: Effort


def _copy_one(
    source: Disk, target: Publication, entry: Format, options: Mapping[str, object], how: _Copying
) -> tuple[Copied, int, tuple[Storage, ...]]:
    """One state of the disk: what was copied, no snapshots, the files of the new image."""
    disk = LeftOutDisk(source, how.left_out[0]) if how.left_out else source
    writer = entry.load().create(target, source.size, options)
    copied = copy_disk(disk, writer, keep_backing=how.keep_backing, effort=how.effort)
    return copied, 0, writer.files


def _copy_snapshots(
    source: Disk, target: Publication, entry: Format, options: Mapping[str, object], how: _Copying
) -> tuple[Copied, int, tuple[Storage, ...]]:
    """All states of a qcow2 image, cluster by cluster: what was copied, how many snapshots, the new image's file."""
    from byre.convert.snapshots import copy_with_snapshots

    copied, count = copy_with_snapshots(
        source,
        target,
        options,
        keep_backing=how.keep_backing,
        left_out=how.left_out,
        effort=how.effort,
    )
    return copied, count, (target.storage,)


def _refuse_with_chain(path: str | os.PathLike[str], *, keep_backing: bool, left_out: Sequence[Int64Array]) -> None:
    """What the states of a chain can't be converted with."""
    if keep_backing:
        raise UsageError("--keep-backing and a chain's snapshots exclude each other", path=path)
    if left_out:
        raise UnsupportedError(
            "what the guest doesn't need is left out of one image, not of a chain",
            path=path,
            hint="Convert the chain to a qcow2 with snapshots first: then 'byre compact --drop-free -o OUT'.",
        )


def _keep_sectors(source: Disk, entry: Format, options: dict[str, object]) -> None:
    """The source's sector size for the new image, where its format can say one and the caller said none."""
    if source.sector_size != 512 and "sector_size" in entry.options:
        options.setdefault("sector_size", source.sector_size)


def _padded(source: Disk, wanted: DeliveryTarget, *, with_snapshots: bool) -> Disk:
    """The disk, with zeros up to the size that the target wants."""
    size = wanted.round_size(source.size)
    if size == source.size:
        return source
    if with_snapshots:
        raise UnsupportedError(
            f"{wanted.title} wants a longer disk, and an image that keeps its snapshots as they are has one size",
            path=source.files[0].name,
            found=source.size,
            expected=size,
            hint=f"Grow a copy first: 'byre resize COPY {size}'.",
        )
    return PaddedDisk(source, size)


def _chosen_options(
    source: Disk,
    path: str | os.PathLike[str],
    entry: Format,
    options: Mapping[str, object],
    *,
    keep_backing: bool,
    keep_uuid: bool,
) -> dict[str, object]:
    """The caller's options, checked against the format, with what the source's backing image and UUID add."""
    if not entry.writes:
        raise UnsupportedError(f"Byre doesn't write {entry.title} images", path=path)
    chosen = dict(options)
    unknown = next((name for name in chosen if name not in entry.options), None)
    if unknown is not None:
        raise UsageError(
            f"{entry.title} images have no option {unknown!r}",
            path=path,
            expected=f"one of {', '.join(entry.options)}" if entry.options else "no options",
        )
    if keep_backing:
        backing = backing_options(source, path, entry)
        # What the image states counts; the caller may say what it doesn't.
        chosen |= {name: value for name, value in backing.items() if value is not None}
    else:
        _refuse_parent(chosen, path)
    if keep_uuid:
        from byre.convert.delivery import uuid_options

        chosen |= uuid_options(entry, source.describe().details, path)
    elif _keeps_uuid(chosen):
        own = source.describe().details.get("uuid")
        if own is not None:
            chosen.setdefault("uuid", own)
    return chosen


def convert_states(
    states: Sequence[State],
    path: str | os.PathLike[str],
    format: str | Format,
    options: Mapping[str, object] | None = None,
    *,
    force: bool = False,
    for_target: DeliveryTarget | None = None,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Converted:
    """Write all states of a disk, oldest first: as one qcow2 image with internal snapshots, or, in any other
    format, as a folder with a chain of differencing images and a manifest. ``for_target`` as in ``convert_image``,
    for every file of the chain. Raises any ByreError."""
    entry = format_named(format) if isinstance(format, str) else format
    return _convert_states(states, path, entry, options or {}, force, for_target, Effort(threads, advance, cancelled))


def _convert_states(
    states: Sequence[State],
    path: str | os.PathLike[str],
    entry: Format,
    options: Mapping[str, object],
    force: bool,
    for_target: DeliveryTarget | None,
    effort: Effort,
) -> Converted:
    chosen = dict(options)
    _keep_sectors(states[-1].disk, entry, chosen)
    if for_target is not None:
        states = [replace(state, disk=_padded(state.disk, for_target, with_snapshots=False)) for state in states]
    newest = states[-1].disk
    report: TargetReport | None = None
    if entry.name == "qcow2":
        from byre.convert.state_writer import write_states

        with Publication(path, force=force, keep_off=newest.files) as target:
            copied = write_states(states, target, chosen, effort=effort)
            if for_target is not None:
                from byre.convert.delivery import made_for

                report = made_for(for_target, target, (target.storage,), entry)
            actual = target.flush()
    else:
        from byre.convert.chain_writer import write_chain

        copied, actual, report = write_chain(states, path, entry, chosen, for_target=for_target, effort=effort)
    return Converted(os.fspath(path), entry.name, newest.size, actual, copied, len(states) - 1, report)


def _copies_clusters(source: Disk, entry: Format, *, keep_backing: bool) -> bool:
    """Whether qcow2 goes to qcow2 cluster by cluster, which keeps more than the states' contents."""
    if entry.name != "qcow2" or source.format != "qcow2":
        return False
    return keep_backing or len(layers_of(source)) == 1 or bool(source.describe().snapshots)


def _refuse_parent(options: Mapping[str, object], path: str | os.PathLike[str]) -> None:
    """A whole disk over a parent: its zeros aren't written, and the parent's bytes would show through them."""
    named = next((name for name in ("backing_file", "parent_uuid") if options.get(name) is not None), None)
    if named is not None:
        raise UsageError(
            f"the option {named!r} puts a whole disk over another one, whose bytes would show in place of its zeros",
            path=path,
            hint="--keep-backing keeps the source's own backing image; 'byre create' makes an empty overlay.",
        )


def _refuse_far_backing(source: Disk, path: str | os.PathLike[str], allow_paths: Sequence[Path]) -> None:
    """Before anything is written: a backing image that the new one, where it will stand, may not name."""
    backing = source.describe().backing
    if backing is None or backing.resolved is None:
        return
    below = Path(os.path.realpath(backing.resolved))
    folder = Path(os.path.realpath(path)).parent
    if any(below.is_relative_to(Path(os.path.realpath(root))) for root in (folder, *allow_paths)):
        return
    raise RefusedReferenceError(
        "the backing image to keep lies outside the new image's folder, so the new image couldn't be opened",
        path=path,
        found=below,
        expected=f"a file beneath {folder}",
        hint=f"Write it into {below.parent}, or, if whoever opens it will allow that folder too: "
        f"--allow-path {below.parent}",
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
