"""Which snapshot grew out of which: a guess from dates and shared clusters, for qcow2 records no parent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from byre.disks.disk import SnapshotInfo
from byre.disks.qcow2.entries import COPIED, OFFSET_MASK, U64Array
from byre.disks.qcow2.header import Header, read_header
from byre.disks.qcow2.l2_walk import read_clusters, read_table
from byre.disks.qcow2.snapshot_table import Snapshot, read_snapshot_table
from byre.storage.base import Storage

MAX_TABLE_READS = 20_000
"""L2 tables that one tree may read (1.3 GB at 64 KiB); beyond it only evenly spread guest ranges are compared."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A snapshot, or the active disk (``snapshot`` None). ``parent`` is the index of the node it seems to come
    from; ``shared`` the guest clusters that both hold in the same place."""

    snapshot: SnapshotInfo | None
    parent: int | None
    shared: int


def snapshot_tree(storage: Storage) -> tuple[TreeNode, ...]:
    """One node for each snapshot by age, the active disk last. Each one's parent is the older one with which it
    shares the most clusters (of equals the youngest), None where it shares nothing."""
    header = read_header(storage)
    snapshots = sorted(read_snapshot_table(storage, header), key=_age)
    l1s = [
        *(_disk_tables(storage, entry, header) for entry in snapshots),
        read_table(storage, header.l1_table_offset, header.l1_size)[: header.geometry.l1_entries_for(header.size)],
    ]
    sharing = _Sharing(storage, header, l1s)
    nodes = []
    for index in range(len(l1s)):
        parent, most = None, 0
        for older in range(index):
            shared = sharing.between(index, older)
            if shared >= max(most, 1):
                parent, most = older, shared
        info = snapshots[index].info if index < len(snapshots) else None
        nodes.append(TreeNode(info, parent, most))
    return tuple(nodes)


def _age(snapshot: Snapshot) -> tuple[int, int, int]:
    digits = snapshot.id.decode("ascii", "replace")
    return snapshot.date_sec, snapshot.date_nsec, int(digits) if digits.isdecimal() else 0


def _disk_tables(storage: Storage, snapshot: Snapshot, header: Header) -> U64Array:
    size = header.size if snapshot.disk_size is None else snapshot.disk_size
    return read_table(storage, snapshot.l1_table_offset, snapshot.l1_size)[: header.geometry.l1_entries_for(size)]


class _Sharing:
    """Counts what two disks share. Mutable: it keeps how many clusters each L2 table holds."""

    def __init__(self, storage: Storage, header: Header, l1s: list[U64Array]) -> None:
        self.storage = storage
        self.geometry = header.geometry
        self.l1s = [(l1 & OFFSET_MASK).astype(np.int64) for l1 in l1s]
        self.aligned = header.cluster_size - 1
        pairs = max(1, len(l1s) * (len(l1s) - 1) // 2)
        longest = max((len(l1) for l1 in l1s), default=0)
        self.stride = max(1, -(-2 * pairs * longest // MAX_TABLE_READS))
        self._held: dict[int, int] = {}

    def between(self, one: int, other: int) -> int:
        """Guest clusters that both disks hold in the same host place, in the ranges that are compared."""
        length = min(len(self.l1s[one]), len(self.l1s[other]))
        first = self.l1s[one][: length : self.stride]
        second = self.l1s[other][: length : self.stride]
        usable = (first != 0) & (second != 0) & ((first | second) & self.aligned == 0)
        total = 0
        for left, right in zip(first[usable].tolist(), second[usable].tolist(), strict=True):
            if left == right:
                if left not in self._held:
                    self._held[left] = int(np.count_nonzero(self._entries(left)))
                total += self._held[left]
            else:
                mine, theirs = self._entries(left), self._entries(right)
                total += int(np.count_nonzero((mine == theirs) & (mine != 0)))
        return total

    def _entries(self, offset: int) -> U64Array:
        data = read_clusters(self.storage, np.array([offset], dtype=np.int64), self.geometry.cluster_size)
        words = np.frombuffer(data, dtype=">u8").astype(np.uint64)
        entries: U64Array = (words[::2] if self.geometry.extended_l2 else words) & ~COPIED
        return entries
