"""A folder with one differencing image for each state of a disk, and a manifest that says which is which."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence

from byre.convert.manifest import FILE_NAME, Entry, Manifest
from byre.convert.pipeline import Copied, copy_disk
from byre.convert.states import State
from byre.disks.formats import Format
from byre.disks.writer import Target
from byre.errors import UnsupportedError, UsageError
from byre.storage.publish import Publication
from byre.storage.publish_folder import new_folder

CHAIN_FORMATS = ("vdi", "vhd", "vhdx", "vmdk")
_STEP = 1 << 20
_REFUSED = ("uuid", "keep_uuid", "disk_guid", "data_guid", "cid", "parent_cid", "parent_uuid", "parent_guid")
"""Each file of a chain has an identity of its own."""


def write_chain(
    states: Sequence[State],
    path: str | os.PathLike[str],
    entry: Format,
    options: Mapping[str, object],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Copied, int]:
    """Write the folder ``path``; returns what was copied and the bytes that all its files take.

    The oldest state is a whole disk, every other holds the blocks that differ from the one before. Machine
    states become files of their own. Raises UnsupportedError where the states differ in size: a child has its
    parent's.
    """
    if entry.name not in CHAIN_FORMATS:
        raise UsageError(f"{entry.title} images can't be a chain", path=path, expected=", ".join(CHAIN_FORMATS))
    _check(states, path, entry, options)
    total = Copied(0, 0, 0)
    taken = 0
    with new_folder(path) as folder:
        entries: list[Entry] = []
        for number, state in enumerate(states, 1):
            newest = number == len(states)
            stem = f"{number:02d}-{'active' if newest else _plain(state.name)}"
            file = f"{stem}.{entry.name}"
            below = {"backing_file": entries[-1].file} if entries else {}
            chosen = {**options, **below, **_kind(entry, options, child=bool(entries))}
            with Publication(folder / file) as target:
                writer = entry.load().create(target, state.disk.size, chosen)
                done = copy_disk(
                    state.disk,
                    writer,
                    keep_backing=bool(entries),
                    threads=threads,
                    advance=advance,
                    cancelled=cancelled,
                )
                target.storage.flush()
                taken += target.storage.allocated
            total = Copied(total.read + done.read, total.written + done.written, total.zeros + done.zeros)
            machine = None
            if state.read_vm_state is not None and state.vm_state_size:
                machine = f"{stem}.vmstate"
                with Publication(folder / machine) as target:
                    _dump(state, target)
            entries.append(
                Entry(
                    file,
                    state.id,
                    state.name,
                    state.created,
                    newest,
                    machine,
                    state.vm_state_size,
                    state.vm_clock_ns,
                    state.icount,
                )
            )
        manifest = Manifest(entry.name, states[-1].disk.size, tuple(entries))
        with Publication(folder / FILE_NAME) as target:
            target.storage.write(0, manifest.encode())
    return total, taken


def _check(
    states: Sequence[State], path: str | os.PathLike[str], entry: Format, options: Mapping[str, object]
) -> None:
    for name in _REFUSED:
        if options.get(name) is not None:
            raise UsageError(f"every file of a chain needs an identity of its own: no {name}", path=path)
    size = states[-1].disk.size
    for state in states:
        if state.disk.size != size:
            raise UnsupportedError(
                f"{state.name!r} has a disk of another size than today's, and a child {entry.title} has its parent's",
                path=state.disk.files[0].name,
                found=state.disk.size,
                expected=size,
                hint="Convert that state on its own (IMAGE@SNAPSHOT), or delete the snapshot from a copy.",
            )
    bitmaps = states[-1].disk.describe().bitmaps
    if bitmaps:
        raise UnsupportedError(
            f"has the dirty bitmap {bitmaps[0].name!r}, which no {entry.title} can hold",
            path=states[-1].disk.files[0].name,
            found=f"{len(bitmaps)} bitmaps",
            hint="Convert it to qcow2 with --with-snapshots first: that leaves bitmaps behind.",
        )


def _kind(entry: Format, options: Mapping[str, object], *, child: bool) -> dict[str, object]:
    """The children's subformat: whatever was asked for the base, they are differencing ones."""
    if not child or entry.name == "vmdk":
        return {}
    return {"subformat": "differencing"} if "subformat" in options else {}


def _plain(name: str) -> str:
    """A file name from a snapshot's: letters, digits and - . _ only, not too long."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60].strip("._") or "state"


def _dump(state: State, target: Target) -> None:
    assert state.read_vm_state is not None
    for at in range(0, state.vm_state_size, _STEP):
        target.storage.write(at, state.read_vm_state(at, min(_STEP, state.vm_state_size - at)))
