"""Mutated metadata: nothing but Byre's own errors comes out of check, repair, snapshots and compact."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.qcow2_images import RECIPES, make
from byre.disks.qcow2.check import check_image
from byre.disks.qcow2.compact import compact_image, plan_compact
from byre.disks.qcow2.repair import apply_repair, plan_repair
from byre.disks.qcow2.snapshot_tree import snapshot_tree
from byre.disks.qcow2.snapshots import create_snapshot, delete_snapshot, revert_to_snapshot
from byre.disks.qcow2.survey import survey
from byre.errors import ByreError
from byre.storage.base import Storage
from fuzzing import SmallStorage, fuzz

NAMES = ("v2", "cluster-512", "refcount-2", "zlib", "extended-backing", "data-file")


def _repair(mode: str) -> Callable[[Storage], object]:
    def run(storage: Storage) -> None:
        found = survey(storage)
        apply_repair(found, plan_repair(found, mode))

    return run


OPERATIONS: tuple[Callable[[Storage], object], ...] = (
    check_image,
    _repair("all"),
    _repair("leaks"),
    lambda storage: create_snapshot(storage, "new"),
    lambda storage: delete_snapshot(storage, "1"),
    lambda storage: revert_to_snapshot(storage, "1"),
    plan_compact,
    compact_image,
    snapshot_tree,
)


@pytest.mark.fuzz
@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_mutated_images_raise_only_byre_errors(name: str, tmp_path: Path) -> None:
    base = make(next(recipe for recipe in RECIPES if recipe.name == name), tmp_path).path.read_bytes()
    used = [at for at in range(8, len(base), 8) if base[at] and at % 512 < 64]

    def case(rng: random.Random) -> None:
        state = bytearray(base)
        for _ in range(rng.choice((1, 2, 4, 20))):
            at = rng.randrange(8, 112) if rng.random() < 0.2 else rng.choice(used)
            state[at] = rng.choice((0, 255, state[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
        if rng.random() < 0.1:
            del state[rng.randrange(100, len(state)) :]
        for operation in OPERATIONS:
            try:
                operation(SmallStorage(state))
            except ByreError as error:
                assert error.exit_code >= 64

    fuzz(f"qcow2 offline {name}", 30, case)
