"""The container: its own check, those of the images below it, and how it holds the disk."""

from __future__ import annotations

import numpy as np

from byre.audit.facts import Layout
from byre.disks.disk import CheckedDisk, CheckReport, Disk
from byre.disks.layers import layers_of
from byre.errors import ByreError
from byre.extents import Kind
from byre.filesystems.opening import OpenVolume
from byre.windows.fact import Fact, absent, attempt
from byre.windows.space import free_space


def check_container(disk: Disk) -> Fact[CheckReport]:
    """What the check of an image's own file said; absent where its format has none."""
    if disk.format == "qcow2" and disk.files:
        from byre.disks.qcow2.check import check_image

        return attempt(lambda: check_image(disk.files[0]))
    if isinstance(disk, CheckedDisk):
        return attempt(disk.check)
    return absent()


def check_chain(disk: Disk) -> tuple[tuple[str, Fact[CheckReport]], ...]:
    """The same of every image below, nearest first. A snapshot's disk has none of its own: it shares the file."""
    own = disk.files[0].name if disk.files else ""
    found = []
    for layer in layers_of(disk)[1:]:
        if layer.files and layer.files[0].name != own:
            found.append((layer.files[0].name, check_container(layer)))
    return tuple(found)


def read_layout(disk: Disk, volumes: list[OpenVolume], reports: dict[int, Fact[CheckReport]]) -> Layout:
    """How the disk lies in its files. Raises what reading the tables raises. ``reports``: what the check of each
    partition's file system said, since free space of a damaged one isn't free."""
    clusters, breaks = _order(disk)
    free = held = taken = 0
    distrust = None
    for volume in volumes:
        if volume.filesystem is None or volume.filesystem.type == "iso9660":
            continue
        reason = _distrust(volume, reports.get(volume.partition.index))
        if reason is not None:
            distrust = f"partition {volume.partition.index}: {reason}"
            continue
        space = free_space(disk, volume.filesystem)
        free, held, taken = free + space.free, held + space.stored, taken + space.taken
    return Layout(clusters, breaks, free, held, taken, distrust)


def _order(disk: Disk) -> tuple[int, int]:
    """(clusters of data, those that don't lie behind the one before in the same file)."""
    clusters = breaks = 0
    last_stop = last_host = last_file = -1
    unit = max(1, disk.block_size)
    for table in disk.extents():
        rows = table[table["kind"] == Kind.DATA]
        if not len(rows):
            continue
        clusters += int((-(-rows["length"] // unit)).sum())
        starts, hosts, files = rows["start"], rows["host"], rows["file"]
        stops, ends = starts + rows["length"], hosts + rows["length"]
        before_stop = np.concatenate(([last_stop], stops[:-1]))
        before_end = np.concatenate(([last_host], ends[:-1]))
        before_file = np.concatenate(([last_file], files[:-1]))
        follows = (starts == before_stop) & (files == before_file)
        breaks += int((follows & (hosts != before_end)).sum())
        last_stop, last_host, last_file = int(stops[-1]), int(ends[-1]), int(files[-1])
    return clusters, breaks


def _distrust(volume: OpenVolume, report: Fact[CheckReport] | None) -> str | None:
    assert volume.filesystem is not None
    try:
        facts = volume.filesystem.facts()
    except ByreError as error:
        return error.what
    if facts.dirty:
        return "the volume is marked dirty"
    if facts.hibernated:
        return "a hibernated session lies on it"
    if report is not None and report.value is not None and report.value.corruptions:
        return "its structures are damaged"
    return None
