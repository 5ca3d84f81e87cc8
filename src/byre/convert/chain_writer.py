"""A folder with one differencing image for each state of a disk, and a manifest that says which is which."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from byre.convert.delivery import refuse_failures, verify_file, worst_of
from byre.convert.effort import Effort
from byre.convert.manifest import FILE_NAME, Entry, Manifest
from byre.convert.padding import fill_holes
from byre.convert.pipeline import Copied, copy_disk
from byre.convert.states import State
from byre.convert.target_rules import Target as DeliveryTarget
from byre.convert.targets import TargetReport
from byre.disks.formats import Format
from byre.errors import UnsupportedError, UsageError
from byre.storage.publish import Publication
from byre.storage.publish_folder import new_folder

CHAIN_FORMATS = ("vdi", "vhd", "vhdx", "vmdk")
_STEP = 1 << 20
_REFUSED = ("uuid", "keep_uuid", "disk_guid", "data_guid", "cid", "parent_cid", "parent_uuid", "parent_guid")
"""Each file of a chain has an identity of its own."""
_CHILDLESS = ("streamOptimized", "monolithicFlat")


def write_chain(
    states: Sequence[State],
    path: str | os.PathLike[str],
    entry: Format,
    options: Mapping[str, object],
    *,
    for_target: DeliveryTarget | None = None,
    effort: Effort,
) -> tuple[Copied, int, TargetReport | None]:
    """Write the folder ``path``; returns what was copied, the bytes that all its files take, and the verdict of
    ``for_target`` on them.

    The oldest state is a whole disk, every other holds the blocks that differ from the one before. Machine
    states become files of their own. Raises UnsupportedError where the states differ in size: a child has its
    parent's; and where a file breaks one of the target's rules.
    """
    if entry.name not in CHAIN_FORMATS:
        raise UsageError(f"{entry.title} images can't be a chain", path=path, expected=", ".join(CHAIN_FORMATS))
    _check(states, path, entry, options)
    with new_folder(path) as folder:
        chain = _Chain(folder, entry, options, for_target)
        for state in states:
            chain.add(state, newest=state is states[-1], effort=effort)
        manifest = Manifest(entry.name, states[-1].disk.size, tuple(chain.entries))
        with Publication(folder / FILE_NAME) as target:
            target.storage.write(0, manifest.encode())
    report = worst_of(chain.reports, os.fspath(path)) if chain.reports else None
    return chain.copied, chain.taken, report


class _Chain:
    """The folder as it fills, state by state. Mutable: that is what it is for."""

    def __init__(
        self, folder: Path, entry: Format, options: Mapping[str, object], wanted: DeliveryTarget | None
    ) -> None:
        self._folder = folder
        self._entry = entry
        self._options = options
        self._wanted = wanted
        self.entries: list[Entry] = []
        self.reports: list[TargetReport] = []
        self.copied = Copied(0, 0, 0)
        self.taken = 0

    def add(
        self,
        state: State,
        *,
        newest: bool,
        effort: Effort,
    ) -> None:
        """Write one state over the one before, have it judged, and note it down."""
        stem = f"{len(self.entries) + 1:02d}-{'active' if newest else _plain(state.name)}"
        file = f"{stem}.{self._entry.name}"
        child = bool(self.entries)
        below = {"backing_file": self.entries[-1].file} if child else {}
        chosen = {**self._options, **below, **_kind(self._entry, self._options, child=child)}
        with Publication(self._folder / file) as target:
            writer = self._entry.load().create(target, state.disk.size, chosen)
            self.copied += copy_disk(state.disk, writer, keep_backing=child, effort=effort)
            if self._wanted is not None and not self._wanted.sparse:
                for storage in writer.files:
                    fill_holes(storage)
            self.taken += target.flush()
        if self._wanted is not None:
            self._judge(self._wanted, file)
        machine = self._dump(state, f"{stem}.vmstate")
        self.entries.append(
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

    def _judge(self, wanted: DeliveryTarget, file: str) -> None:
        """The files stand in the folder under their own names, and the folder under none as yet."""
        before = [self._folder / entry.file for entry in self.entries]
        report = verify_file(self._folder / file, file, self._entry, wanted, delivered=before)
        refuse_failures(report)
        self.reports.append(report)

    def _dump(self, state: State, name: str) -> str | None:
        """The machine state as a file; its name, None where there is none."""
        if state.read_vm_state is None or not state.vm_state_size:
            return None
        with Publication(self._folder / name) as target:
            for at in range(0, state.vm_state_size, _STEP):
                target.storage.write(at, state.read_vm_state(at, min(_STEP, state.vm_state_size - at)))
        return name


def _check(
    states: Sequence[State], path: str | os.PathLike[str], entry: Format, options: Mapping[str, object]
) -> None:
    for name in _REFUSED:
        if options.get(name) is not None:
            raise UsageError(f"every file of a chain needs an identity of its own: no {name}", path=path)
    if options.get("subformat") in _CHILDLESS:
        raise UsageError(
            f"a {options['subformat']} VMDK can't have a parent, so there is no chain of them",
            path=path,
            hint="Convert one state (IMAGE@SNAPSHOT), or choose another subformat.",
        )
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
            found=", ".join(repr(bitmap.name) for bitmap in bitmaps[:8]),
            hint="Take each out of a copy first: qemu-img bitmap --remove COPY NAME.",
        )


def _kind(entry: Format, options: Mapping[str, object], *, child: bool) -> dict[str, object]:
    """The children's subformat: whatever was asked for the base, they are differencing ones."""
    if not child or entry.name == "vmdk":
        return {}
    return {"subformat": "differencing"} if "subformat" in options else {}


def _plain(name: str) -> str:
    """A file name from a snapshot's: letters, digits and - . _ only, not too long."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60].strip("._") or "state"
