"""A look at all of an image's metadata: what is in use, what the image says is in use, and where they differ.

Everything that changes metadata offline starts from here, so that it never builds on a broken image and never
hands out a cluster that something uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from byre.disks.findings import CORRUPTION, LEAK, Findings
from byre.disks.qcow2.census import (
    Fragmentation,
    Int32Array,
    Reached,
    WindowCounts,
    count_batch,
    count_data_file,
    count_fragments,
    judge_entries,
    note_spans,
    reach,
    unflagged_in_data_file,
    windows,
    wrong_copied,
)
from byre.disks.qcow2.entries import COPIED, OFFSET_MASK, BoolArray, I64Array, U8Array, U64Array
from byre.disks.qcow2.header import Header, read_header
from byre.disks.qcow2.l2_walk import Batch, L2Walk
from byre.disks.qcow2.regions import Roots, load_roots
from byre.disks.qcow2.stored_refcounts import StoredRefcounts, load_stored
from byre.errors import CorruptImageError, UnsupportedError
from byre.storage.base import Storage

MAX_CLUSTERS = (1 << 31) - 1
"""QEMU's own check stops at as many host clusters."""
MAX_FREE_RUNS = 4096
"""Free space that is remembered for new metadata; the rest is found by whoever compacts."""


@dataclass(slots=True)
class Survey:
    """What was found. Mutable: allocating takes from ``free_runs``; ``header`` follows what is written."""

    storage: Storage
    header: Header
    stored: StoredRefcounts
    roots: Roots
    walk: L2Walk
    findings: Findings
    fragmentation: Fragmentation
    file_clusters: int
    """Host clusters of the file, the last perhaps not whole."""
    end_cluster: int
    """One past the last host cluster that is in use or said to be."""
    used_clusters: int
    """Host clusters that something refers to."""
    free_runs: list[tuple[int, int]]
    """(first cluster, clusters) that have a refcount block, a refcount of 0 and no reference, ascending."""

    most_references: int = 0
    """The most references that any cluster has."""

    @property
    def windows(self) -> list[tuple[int, int]]:
        return windows(self.file_clusters, self.stored.per_block)

    def give_back(self, clusters: I64Array) -> None:
        """Remember that nothing uses these clusters any more, and give their space back."""
        edges = np.flatnonzero(np.diff(clusters) != 1) + 1
        for run in np.split(clusters, edges) if len(clusters) else []:
            first, length = int(run[0]), len(run)
            self.free_runs.append((first, length))
            self.storage.punch(first << self.header.cluster_bits, length << self.header.cluster_bits)

    def require_sound(self, what: str) -> None:
        """Raise CorruptImageError unless the image is fit to be changed; leaks and missing COPIED flags are."""
        broken = self.findings.corruptions_besides("copied-flag-missing")
        if broken:
            first = broken[0]
            raise CorruptImageError(
                f"{what} needs a sound image: {first.message}",
                path=self.storage.name,
                offset=first.offset,
                found=f"{sum(problem.count for problem in broken)} corruptions",
                hint=f"See 'byre check {self.storage.name}'; 'byre check --repair all' mends what can be mended.",
            )


def survey(storage: Storage) -> Survey:
    """Look at everything. Reads metadata only; raises CorruptImageError and UnsupportedError where the header or
    the tables can't be followed at all."""
    header = read_header(storage)
    findings = Findings("qcow2")
    file_clusters = -(-storage.size // header.cluster_size)
    if file_clusters > MAX_CLUSTERS:
        raise UnsupportedError(
            "the file has too many clusters to count",
            path=storage.name,
            found=file_clusters,
            expected=f"at most {MAX_CLUSTERS}",
        )
    stored = load_stored(storage, header, findings)
    roots = load_roots(storage, header, stored, findings)
    walk = L2Walk(storage, header.geometry, roots.tables)
    result = Survey(storage, header, stored, roots, walk, findings, Fragmentation(), file_clusters, 0, 0, [])
    _Surveyor(result).run()
    return result


def count_all(found: Survey, window: tuple[int, int]) -> WindowCounts:
    """Every reference to the clusters of the window, as the survey counted them."""
    into = WindowCounts(window)
    tables = found.roots.tables
    for clusters, counts in (
        found.roots.metadata_counts(),
        (tables.offsets >> found.header.cluster_bits, tables.weights),
    ):
        inside = (clusters >= window[0]) & (clusters < window[1])
        into.counts[clusters[inside] - window[0]] += counts[inside].astype(np.int32)
    for batch in found.walk.batches(window):
        count_batch(
            reach(batch, found.walk.geometry, found.file_clusters), tables.weights[batch.first : batch.stop], into
        )
    return into


class _Surveyor:
    """The passes of a survey. Mutable: it fills the survey in."""

    def __init__(self, result: Survey) -> None:
        self.result = result
        self.active = np.isin(result.roots.tables.offsets, result.roots.active_tables.offsets)
        self.metadata, self.metadata_counts = result.roots.metadata_counts()
        bits = result.header.cluster_bits
        self.table_clusters = result.roots.tables.offsets >> bits
        self.overlaps = int(np.isin(self.table_clusters, self.metadata, assume_unique=True).sum())

    def run(self) -> None:
        for number, window in enumerate(self.result.windows):
            single = self._single(window)
            self._check_l1_flags(window, single)
            counts = self._count(window, single, first=number == 0)
            self.result.most_references = max(self.result.most_references, int(counts.counts.max(initial=0)))
            self._compare(window, counts)
        self._report_overlaps()

    def _single(self, window: tuple[int, int]) -> U8Array:
        single = np.zeros(window[1] - window[0], dtype=np.uint8)
        for first, values in self.result.stored.slices(*window):
            start = first - window[0]
            stop = min(start + len(values), len(single))
            single[start:stop] = values[: stop - start] == 1
        return single

    def _count(self, window: tuple[int, int], single: U8Array, *, first: bool) -> WindowCounts:
        result = self.result
        into = WindowCounts(window)
        expected = self._add_metadata(into)
        weights = result.roots.tables.weights
        for batch in result.walk.batches(window):
            reached = reach(batch, result.walk.geometry, result.file_clusters)
            active = self.active[batch.first : batch.stop]
            if first:
                note_spans(result.walk, batch, reached)
                judge_entries(batch, result.walk, result.file_clusters, result.findings)
                if active.any():
                    self._count_active(batch, reached, active)
            count_batch(reached, weights[batch.first : batch.stop], into)
            if active.any() and not result.walk.geometry.data_file:
                wrong = wrong_copied(batch, reached, single, window)
                if wrong is not None:
                    self._report_flags(batch, active, *wrong)
        clusters, wanted = expected
        self.overlaps += int((into.counts[clusters - window[0]] != wanted).sum())
        return into

    def _count_active(self, batch: Batch, reached: Reached, active: BoolArray) -> None:
        result = self.result
        if not result.walk.geometry.data_file:
            count_fragments(reached, active, result.fragmentation)
            return
        count_data_file(batch, active, result.walk.geometry, result.fragmentation)
        missing = unflagged_in_data_file(batch)
        if missing.any():
            self._report_flags(batch, active, np.zeros_like(missing), missing)

    def _add_metadata(self, into: WindowCounts) -> tuple[I64Array, I64Array]:
        """Count metadata and L2 tables; returns the clusters in the window and what each count is now."""
        pairs = (
            (self.metadata, self.metadata_counts),
            (self.table_clusters, self.result.roots.tables.weights),
        )
        seen = []
        for clusters, counts in pairs:
            inside = (clusters >= into.start) & (clusters < into.stop)
            chosen = clusters[inside]
            into.counts[chosen - into.start] += counts[inside].astype(np.int32)
            seen.append(chosen)
        all_clusters = np.concatenate(seen)
        return all_clusters, into.counts[all_clusters - into.start].astype(np.int64)

    def _check_l1_flags(self, window: tuple[int, int], single: U8Array) -> None:
        l1 = self.result.roots.active
        clusters = ((l1 & OFFSET_MASK) >> np.uint64(self.result.header.cluster_bits)).astype(np.int64)
        inside = (clusters != 0) & (clusters >= window[0]) & (clusters < window[1])
        expected = single[clusters[inside] - window[0]] != 0
        actual = (l1[inside] & COPIED) != 0
        table = self.result.header.l1_table_offset
        places = np.flatnonzero(inside)
        self._flags("L1", table + 8 * places[actual & ~expected], table + 8 * places[expected & ~actual])

    def _report_flags(self, batch: Batch, active: BoolArray, wrong: BoolArray, missing: BoolArray) -> None:
        offsets = self.result.roots.tables.offsets[batch.first : batch.stop]
        size = self.result.walk.geometry.l2_entry_size

        def places(mask: BoolArray) -> I64Array:
            rows, columns = np.nonzero(mask & active[:, None])
            return offsets[rows] + columns * size

        self._flags("L2", places(wrong), places(missing))

    def _flags(self, level: str, wrong: I64Array, missing: I64Array) -> None:
        for places, code, message in (
            (wrong, "copied-flag-wrong", f"the COPIED flag of an {level} entry is set, but its cluster is shared"),
            (missing, "copied-flag-missing", f"the COPIED flag of an {level} entry is not set, but could be"),
        ):
            if len(places):
                self.result.findings.add(
                    CORRUPTION, code, message, offset=int(places[0]), count=len(places), repairable=True
                )

    def _compare(self, window: tuple[int, int], counts: WindowCounts) -> None:
        stored = self.result.stored
        seen_until = window[0]
        for first, values in stored.slices(*window):
            start = first - window[0]
            stop = min(start + len(values), window[1] - window[0])
            self._compare_slice(first, values[: stop - start], counts.counts[start:stop])
            seen_until = first + stop - start
        rest = counts.counts[seen_until - window[0] :]
        if len(rest) and rest.any():
            self._too_low(seen_until, rest != 0)
            self._note_used(seen_until, rest != 0)

    def _compare_slice(self, first: int, values: U64Array, counts: Int32Array) -> None:
        wanted = counts.astype(np.uint64)
        if np.array_equal(values, wanted):
            used = values != 0
        else:
            self._too_low(first, values < wanted)
            high = values > wanted
            if high.any():
                self.result.findings.add(
                    LEAK,
                    "leaked-cluster",
                    "a cluster's refcount is higher than the references to it",
                    offset=(first + int(np.flatnonzero(high)[0])) << self.result.header.cluster_bits,
                    count=int(high.sum()),
                    repairable=True,
                )
            used = (values != 0) | (wanted != 0)
        self._note_used(first, used)
        self.result.used_clusters += int(np.count_nonzero(wanted))
        if not used.all():
            self._note_free(first, ~used)

    def _too_low(self, first: int, low: BoolArray) -> None:
        if low.any():
            self.result.findings.add(
                CORRUPTION,
                "refcount-too-low",
                "a cluster's refcount is lower than the references to it",
                offset=(first + int(np.flatnonzero(low)[0])) << self.result.header.cluster_bits,
                count=int(low.sum()),
                repairable=True,
            )

    def _note_used(self, first: int, used: BoolArray) -> None:
        if used.any():
            last = len(used) - 1 - int(np.argmax(used[::-1]))
            self.result.end_cluster = max(self.result.end_cluster, first + last + 1)

    def _note_free(self, first: int, free: BoolArray) -> None:
        stored = self.result.stored
        if len(self.result.free_runs) >= MAX_FREE_RUNS:
            return
        blocks = stored.blocks[first // stored.per_block :][: -(-len(free) // stored.per_block)] != 0
        free = free & np.repeat(blocks, stored.per_block)[: len(free)]
        edges = np.flatnonzero(np.diff(np.concatenate(([False], free, [False]))))
        for start, stop in edges.reshape(-1, 2)[:MAX_FREE_RUNS].tolist():
            runs = self.result.free_runs
            if runs and sum(runs[-1]) == first + start:
                runs[-1] = (runs[-1][0], runs[-1][1] + stop - start)
            else:
                runs.append((first + start, stop - start))

    def _report_overlaps(self) -> None:
        doubled = self._doubled_metadata()
        if self.overlaps or doubled:
            self.result.findings.add(
                CORRUPTION,
                "metadata-overlap",
                "a cluster of metadata is used for something else as well",
                count=self.overlaps + doubled,
            )

    def _doubled_metadata(self) -> int:
        return int((self.metadata_counts > 1).sum())
