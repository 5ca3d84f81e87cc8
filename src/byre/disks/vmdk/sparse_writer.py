"""Writing hosted sparse extents: tables in front, in two copies that agree, then the grains in their order."""

from __future__ import annotations

import numpy as np

from byre.disks.vmdk import layout
from byre.disks.vmdk.descriptor import Descriptor, serialise_descriptor
from byre.disks.vmdk.layout import SparseHeader, SparseLayout, plan_layout
from byre.disks.vmdk.tables import EntryArray
from byre.disks.writer import BoolArray, Encoder, Int64Array, Placement
from byre.errors import UnsupportedError
from byre.storage.base import Storage
from byre.units import SECTOR

DESCRIPTOR_SECTORS = 20
"""What VMware and QEMU reserve for an embedded descriptor."""
MAX_SECTOR = (1 << 32) - 1
_TABLES_AT_ONCE = 64


class PieceWriter:
    """One hosted sparse extent; with a descriptor inside it is a monolithicSparse image by itself.

    Mutable: grain table entries by groups of 64 tables (2 GiB), made when their first grain comes.
    """

    encode: Encoder | None = None

    def __init__(
        self, storage: Storage, size: int, grain_bytes: int, descriptor: Descriptor | None, *, has_parent: bool
    ) -> None:
        self.files: tuple[Storage, ...] = (storage,)
        self.size = size
        self.block_size = grain_bytes
        self._storage = storage
        self._descriptor = descriptor
        self._has_parent = has_parent
        self._grain_sectors = grain_bytes // SECTOR
        self._layout = plan_layout(
            size // SECTOR, self._grain_sectors, DESCRIPTOR_SECTORS if descriptor is not None else 0
        )
        self._next = self._layout.overhead
        self._groups: dict[int, EntryArray] = {}
        self._zeroed = False

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        sectors = self._next + np.arange(len(blocks), dtype=np.int64) * self._grain_sectors
        self._next += len(blocks) * self._grain_sectors
        if self._next > MAX_SECTOR:
            raise UnsupportedError(
                "a sparse VMDK file can't be larger than 2 TiB",
                path=self._storage.name,
                hint="Use subformat=twoGbMaxExtentSparse or monolithicFlat.",
            )
        self._enter(blocks, sectors)
        return Placement(file=np.zeros(len(blocks), dtype=np.int64), host=sectors * SECTOR)

    def place_zero(self, blocks: Int64Array) -> None:
        if not self._has_parent:
            return
        self._zeroed = True
        self._enter(blocks, np.full(len(blocks), layout.GTE_ZEROED, dtype=np.int64))

    def _enter(self, blocks: Int64Array, values: Int64Array) -> None:
        per_group = _TABLES_AT_ONCE * layout.GTES_PER_GT
        groups = blocks // per_group
        for group in np.unique(groups).tolist():
            mine = groups == group
            entries = self._groups.get(group)
            if entries is None:
                tables = min(_TABLES_AT_ONCE, self._layout.tables - group * _TABLES_AT_ONCE)
                entries = self._groups[group] = np.zeros(tables * layout.GTES_PER_GT, dtype="<u4")
            entries[blocks[mine] - group * per_group] = values[mine]

    def finish(self) -> None:
        plan, storage = self._layout, self._storage
        for directory, first in (
            (plan.rgd_offset, plan.first_redundant_table),
            (plan.gd_offset, plan.first_table),
        ):
            pointers = first + np.arange(plan.tables, dtype=np.int64) * plan.table_sectors
            storage.write(directory * SECTOR, pointers.astype("<u4").tobytes())
            for group, entries in self._groups.items():
                at = first + group * _TABLES_AT_ONCE * plan.table_sectors
                storage.write(at * SECTOR, entries.tobytes())
        if self._descriptor is not None:
            storage.write(SECTOR, serialise_descriptor(self._descriptor).ljust(DESCRIPTOR_SECTORS * SECTOR, b"\0"))
        storage.write(0, new_header(self.size // SECTOR, self._grain_sectors, plan, self._flags()).pack())
        # The last grain may be a part of one, and tables may end in a hole: the file's length is still whole.
        if storage.size < self._next * SECTOR:
            storage.truncate(self._next * SECTOR)

    def _flags(self) -> int:
        flags = layout.FLAG_NEWLINE_TEST | layout.FLAG_REDUNDANT_TABLES
        return flags | (layout.FLAG_ZEROED_GRAINS if self._zeroed or self._has_parent else 0)


def new_header(capacity: int, grain_sectors: int, plan: SparseLayout, flags: int) -> SparseHeader:
    """The header of a new sparse extent; capacity and grains in sectors. It holds the descriptor only where the plan
    leaves room for one."""
    embedded = plan.rgd_offset > 1
    return SparseHeader(
        version=2 if flags & layout.FLAG_ZEROED_GRAINS else 1,
        flags=flags,
        capacity=capacity,
        grain_size=grain_sectors,
        descriptor_offset=1 if embedded else 0,
        descriptor_size=DESCRIPTOR_SECTORS if embedded else 0,
        gtes_per_gt=layout.GTES_PER_GT,
        rgd_offset=plan.rgd_offset,
        gd_offset=plan.gd_offset,
        overhead=plan.overhead,
        unclean_shutdown=False,
        newline_test=layout.NEWLINE_TEST,
        compression=0,
    )


class SplitWriter:
    """Several hosted sparse extents and the text that lines them up."""

    encode: Encoder | None = None

    def __init__(
        self,
        text: Storage,
        size: int,
        piece_bytes: int,
        pieces: tuple[PieceWriter, ...],
        descriptor: Descriptor,
    ) -> None:
        self.files: tuple[Storage, ...] = tuple(piece.files[0] for piece in pieces)
        self.size = size
        self.block_size = pieces[0].block_size
        self._text = text
        self._pieces = pieces
        self._per_piece = piece_bytes // self.block_size
        self._descriptor = descriptor

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        file = blocks // self._per_piece
        host = np.empty(len(blocks), dtype=np.int64)
        for index in np.unique(file).tolist():
            mine = file == index
            local = blocks[mine] - index * self._per_piece
            host[mine] = self._pieces[index].place(local, stored[mine], compressed[mine]).host
        return Placement(file=file, host=host)

    def place_zero(self, blocks: Int64Array) -> None:
        file = blocks // self._per_piece
        for index in np.unique(file).tolist():
            self._pieces[index].place_zero(blocks[file == index] - index * self._per_piece)

    def finish(self) -> None:
        for piece in self._pieces:
            piece.finish()
        self._text.write(0, serialise_descriptor(self._descriptor))
