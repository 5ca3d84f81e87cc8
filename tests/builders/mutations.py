"""The mutation suite: what a mutation is, and where all of them are gathered. Tests and tools/measure_accuracy.py
share it. A module of mutations offers ``MUTATIONS`` and ``HEALTHY``; a row in ``MODULES`` brings it in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from builders.audited import Plant

MODULES = ("builders.defects",)
"""Modules with ``MUTATIONS`` (single defects) and ``HEALTHY`` (systems on which the audit stays silent at medium and
above, by name). One line each, so that two branches can add theirs."""


@dataclass(frozen=True)
class Mutation:
    """One defect in a copy of the specimen.

    ``fires`` are all rules of medium severity and above that may speak, no more and no fewer; ``notes`` those of low
    severity that must. ``says`` is in the prediction for ``target``; None: it would start.
    """

    name: str
    plant: Plant
    fires: frozenset[str] = frozenset()
    says: str | None = None
    notes: frozenset[str] = frozenset()
    target: str = "qemu"


def mutation(
    name: str, plant: Plant, fires: str = "", says: str | None = None, notes: str = "", target: str = "qemu"
) -> Mutation:
    """A mutation with its rules as words in a text."""
    return Mutation(name, plant, frozenset(fires.split()), says, frozenset(notes.split()), target)


@cache
def all_mutations() -> tuple[Mutation, ...]:
    """Every module's, in the order of ``MODULES``."""
    return tuple(each for module in MODULES for each in import_module(module).MUTATIONS)


@cache
def all_healthy() -> dict[str, Plant]:
    """Every module's healthy systems; a name that two of them use is an error."""
    found: dict[str, Plant] = {}
    for module in MODULES:
        own: Iterable[tuple[str, Plant]] = import_module(module).HEALTHY.items()
        for name, plant in own:
            assert name not in found, f"two healthy systems are called {name!r}"
            found[name] = plant
    return found
