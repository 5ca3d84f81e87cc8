"""Second readers of a changed disk: asked beside the rest of the proof, since each is a program of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from byre.disks.disk import Disk
from byre.disks.writer import Int64Array
from byre.errors import CorruptImageError, UnsupportedError
from byre.filesystems.fat.filesystem import FatFileSystem
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.opening import OpenVolume
from byre.lite import fat_reader, second_reader
from byre.lite.fat_reader import compare_fat, count_fat
from byre.lite.second_reader import compare_ntfs, list_ntfs
from byre.ranges import touched

SWITCH = 0.0005
"""Seconds after which the thread that answers a reader's many small questions gets its turn beside our own reading:
with Python's usual 0.005 a proof took a tenth longer."""


@dataclass(frozen=True, slots=True)
class Witness:
    """What a second reader said of one partition: ``reader`` had the same ``names``, with the same sizes; or nobody
    could be asked, and ``note`` says why."""

    partition: int
    type: str
    reader: str | None
    names: int = 0
    note: str | None = None


class Asking:
    """Questions that are being answered. Mutable: it owns a thread for as long as its ``with`` block."""

    def __init__(self, volumes: Sequence[OpenVolume], changed: Collection[int]) -> None:
        self.volumes = volumes
        self.changed = changed
        self.questions: dict[int, Future[Any]] = {}
        self._over = False
        self._end: Callable[[], None] | None = None

    def started(self, end: Callable[[], None]) -> None:
        """The program that is asked now ends by ``end``."""
        self._end = end
        if self._over:
            end()

    def give_up(self) -> None:
        """Wait for no answer that nobody took: the proof has failed by then, or was stopped."""
        self._over = True
        if self._end is not None:
            self._end()

    def answers(self) -> tuple[Witness, ...]:
        """Hold what was found against our own reading. Raises CorruptImageError for the first difference, or where
        a volume that was changed isn't taken."""
        return tuple(self._answer(each) for each in self.volumes if each.filesystem is not None)

    def _answer(self, volume: OpenVolume) -> Witness:
        index, files = volume.partition.index, volume.filesystem
        assert files is not None
        question = self.questions.get(index)
        if question is None:
            return Witness(index, files.type, None, note=f"no second reader for {files.type} here")
        try:
            answer = question.result()
        except UnsupportedError as error:
            if index in self.changed and "isn't installed" not in error.what and isinstance(files, NtfsFileSystem):
                raise CorruptImageError(f"the proof failed: {error.what}", path=files.volume.name) from error
            return Witness(index, files.type, None, note=f"no second reader: {error.what}")
        if isinstance(files, NtfsFileSystem):
            return Witness(index, files.type, second_reader.READER, compare_ntfs(files, answer))
        assert isinstance(files, FatFileSystem)
        return Witness(index, files.type, fat_reader.READER, compare_fat(files, answer))


@contextmanager
def asking(
    disk: Disk, volumes: Sequence[OpenVolume], apart: Int64Array, changed: Collection[int]
) -> Iterator[Asking]:
    """Have the volumes read that differ from the image's anywhere (``apart``); ``changed``: the partitions that were
    meant to. The disk must not change before the block ends."""
    starts, stops = (np.array([getattr(each.partition, field) for each in volumes]) for field in ("start", "stop"))
    differ = [each for each, hit in zip(volumes, touched(apart, starts, stops), strict=True) if hit]
    asked = Asking(differ, changed)
    with ThreadPoolExecutor(1, "second reader") as pool:
        for each in differ:
            index, files = each.partition.index, each.filesystem
            if isinstance(files, NtfsFileSystem):
                asked.questions[index] = pool.submit(list_ntfs, disk, each.partition, started=asked.started)
            elif isinstance(files, FatFileSystem):
                asked.questions[index] = pool.submit(count_fat, files)
        patience = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        try:
            yield asked
        finally:
            sys.setswitchinterval(patience)
            pool.shutdown(wait=False, cancel_futures=True)
            asked.give_up()
