from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from byre.extents import (
    EXTENT,
    ExtentTable,
    Kind,
    clip,
    empty_table,
    make_table,
    merge,
    merged_slices,
    one_extent,
    zero_runs,
)


@st.composite
def tables(draw: st.DrawFn) -> ExtentTable:
    """Any valid table: sorted, no gaps; often with rows that follow on from each other."""
    start = draw(st.integers(0, 4)) * 512
    rows = []
    host = 0
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(list(Kind)))
        length = draw(st.integers(1, 4)) * 512
        if draw(st.integers(0, 2)) == 0:
            host = draw(st.integers(0, 8)) * 512
        held = kind in (Kind.DATA, Kind.COMPRESSED)
        stored = length if kind == Kind.DATA else 100 if kind == Kind.COMPRESSED else 0
        depth = -1 if kind == Kind.UNALLOCATED else draw(st.integers(0, 1))
        rows.append((start, length, kind, host if held else -1, stored, 0 if held else -1, depth))
        start += length
        host += length
    return np.array(rows, dtype=EXTENT)


def sectors(table: ExtentTable) -> list[tuple[int, ...]]:
    """What a table says of each 512-byte sector; a compressed stream counts as itself for all of its sectors."""
    told = []
    for row in table.tolist():
        start, length, kind, host, stored, file, depth = row
        for step in range(0, length, 512):
            plain = kind == Kind.DATA
            told.append((start + step, kind, host + step if plain else host, -1 if plain else stored, file, depth))
    return told


def pieces(table: ExtentTable, cuts: list[int]) -> Iterator[ExtentTable]:
    bounds = [0, *sorted(cut % (len(table) + 1) for cut in cuts), len(table)]
    for begin, end in itertools.pairwise(bounds):
        yield table[begin:end]


@given(tables())
def test_merge_says_the_same_of_every_sector_in_the_fewest_rows(table: ExtentTable) -> None:
    merged = merge(table)
    assert sectors(merged) == sectors(table)
    assert len(merge(merged)) == len(merged) <= len(table)


@given(tables(), st.integers(-3, 20), st.integers(-3, 20))
def test_clip_keeps_exactly_the_sectors_inside(table: ExtentTable, first: int, last: int) -> None:
    start, stop = first * 512, last * 512
    before = table.copy()
    inside = [told for told in sectors(table) if start <= told[0] < stop]
    assert sectors(clip(table, start, stop)) == inside
    assert (table == before).all()


@given(tables(), st.lists(st.integers(0, 20), max_size=5))
def test_merging_slices_is_merging_the_whole(table: ExtentTable, cuts: list[int]) -> None:
    joined = list(merged_slices(pieces(table, cuts)))
    whole = merge(table)
    rows = np.concatenate(joined) if joined else empty_table()
    assert rows.tolist() == whole.tolist()
    assert all(len(piece) for piece in joined)


def test_data_joins_only_where_the_host_follows_on() -> None:
    follows = make_table([0, 512], 512, Kind.DATA, host=[4096, 4608], file=0, depth=0)
    apart = make_table([0, 512], 512, Kind.DATA, host=[4096, 8192], file=0, depth=0)
    assert merge(follows).tolist() == [(0, 1024, Kind.DATA, 4096, 1024, 0, 0)]
    assert len(merge(apart)) == 2


def test_compressed_rows_never_join() -> None:
    streams = make_table([0, 512], 512, Kind.COMPRESSED, host=[100, 150], stored=50, file=0, depth=0)
    assert len(merge(streams)) == 2


def test_a_cut_stream_keeps_the_whole_of_its_stored_form() -> None:
    stream = one_extent(4096, 4096, Kind.COMPRESSED, host=100, stored=50, file=0, depth=0)
    assert clip(stream, 5000, 6000).tolist() == [(5000, 1000, Kind.COMPRESSED, 100, 50, 0, 0)]


def test_one_extent_of_data_is_stored_as_it_is() -> None:
    assert one_extent(0, 10, Kind.DATA, host=0)["stored"][0] == 10
    assert one_extent(0, 10, Kind.ZERO)["stored"][0] == 0


def test_an_empty_table_stays_empty() -> None:
    assert len(merge(empty_table())) == len(clip(empty_table(), 0, 10)) == 0
    assert list(merged_slices([empty_table(), empty_table()])) == []


@given(tables(), st.integers(0, 12), st.integers(1, 8))
def test_zero_runs_are_what_needs_no_reading_however_it_is_sliced(table: ExtentTable, cut: int, sectors: int) -> None:
    zeros: set[int] = set()
    for start, length, kind, *_ in table.tolist():
        if kind in (Kind.UNALLOCATED, Kind.ZERO):
            zeros.update(range(start // 512, (start + length) // 512))
    expected = []
    for _, group in itertools.groupby(enumerate(sorted(zeros)), key=lambda pair: pair[1] - pair[0]):
        run = [sector for _, sector in group]
        if len(run) >= sectors:
            expected.append((run[0] * 512, (run[-1] + 1) * 512))
    assert list(zero_runs([table[:cut], table[cut:]], sectors * 512)) == expected
