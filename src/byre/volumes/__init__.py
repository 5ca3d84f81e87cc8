"""Partition tables: MBR, GPT, none; and one partition seen as a disk."""

from __future__ import annotations

from byre.volumes.partition import Partition, PartitionTable, VolumeDisk, whole
from byre.volumes.problems import Problems
from byre.volumes.reading import read_table

__all__ = ["Partition", "PartitionTable", "Problems", "VolumeDisk", "read_table", "whole"]
