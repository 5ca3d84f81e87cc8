"""Plans and does what can be mended safely: refcounts, COPIED flags, the dirty and the corrupt flag.

What would need a guess about guest data (two owners of one cluster, entries that point nowhere) is refused, and so
is every change of refcounts while something unreadable may hold references that nobody counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from byre.disks.disk import Problem
from byre.disks.findings import CORRUPTION, LEAK
from byre.disks.qcow2.copied_flags import rebuild_flags
from byre.disks.qcow2.entries import U8Array, U64Array
from byre.disks.qcow2.header import CORRUPT, DIRTY
from byre.disks.qcow2.rebuild import rebuild_refcounts
from byre.disks.qcow2.survey import Survey, count_all
from byre.errors import UnsupportedError, UsageError
from byre.units import ceil_div

LEAKS, ALL = "leaks", "all"
UNCOUNTED = frozenset(
    f"qcow2.{code}"
    for code in (
        "l1-flag-alone",
        "l1-outside",
        "l1-reserved-bits",
        "l2-table-misaligned",
        "l2-table-outside",
        "metadata-outside",
        "snapshot-table",
        "bitmap-directory",
        "bitmap-table",
        "metadata-overlap",
    )
)
"""Where one of these is found, references may exist that the survey couldn't count, or tables may be overwritten."""
_FLAGS = frozenset(("qcow2.copied-flag-wrong", "qcow2.copied-flag-missing", "qcow2.compressed-copied"))
_REFCOUNTS = frozenset(("qcow2.refcount-too-low",))
_STRUCTURES = frozenset(
    (
        "qcow2.refcount-table-reserved-bits",
        "qcow2.refcount-block-misaligned",
        "qcow2.refcount-block-outside",
        "qcow2.refcount-block-shared",
    )
)


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What a repair would do (``actions``, in order), and what it leaves (``refusals``, with the reason)."""

    mode: str
    actions: tuple[str, ...]
    refusals: tuple[str, ...]
    leaks: bool = False
    refcounts: bool = False
    structures: bool = False
    flags: bool = False
    dirty: bool = False
    corrupt: bool = False


def plan_repair(found: Survey, mode: str) -> RepairPlan:
    """The plan for ``leaks`` or ``all``. Pure: the survey has all that is needed."""
    if mode not in (LEAKS, ALL):
        raise UsageError(f"there is no repair called {mode!r}", expected="leaks or all")
    problems = {problem.code: problem for problem in found.findings.problems}
    uncounted = [problem for problem in problems.values() if problem.code in UNCOUNTED]
    corruptions = [problem for problem in problems.values() if problem.kind == CORRUPTION]
    mendable = _FLAGS | _REFCOUNTS | _STRUCTURES
    refusals = [_refusal(problem) for problem in corruptions if problem.code not in mendable]
    leaks = found.findings.total(LEAK)
    refcounts = any(problem.code in _REFCOUNTS for problem in corruptions)
    structures = any(problem.code in _STRUCTURES for problem in corruptions) or _blocks_missing(found, refcounts)
    flags = any(problem.code in _FLAGS for problem in corruptions)
    if uncounted and (leaks or refcounts or structures or flags):
        refusals.append("refcounts and flags stay as they are: what can't be read may hold references of its own")
        leaks, refcounts, structures, flags = 0, False, False, False
    if found.most_references > found.stored.maximum:
        refusals.append(
            f"a cluster has {found.most_references} references, which its refcount can't hold: convert the image"
        )
        refcounts, structures, flags = False, False, False
    if mode == LEAKS:
        if refcounts or structures:
            refusals += [
                _refusal(problem, "needs --repair all") for problem in corruptions if problem.code in mendable
            ]
        refcounts = structures = flags = False
    every = mode == ALL and not refusals
    plan = RepairPlan(
        mode,
        (),
        tuple(refusals),
        leaks=leaks > 0,
        refcounts=refcounts,
        structures=structures,
        flags=flags,
        dirty=every and bool(found.header.incompatible & DIRTY),
        corrupt=every and bool(found.header.incompatible & CORRUPT),
    )
    return replace(plan, actions=tuple(_actions(plan, found, problems)))


def apply_repair(found: Survey, plan: RepairPlan) -> None:
    """Do what the plan says. Every cut leaves the image no worse than it was."""
    active = found.roots.active
    if plan.refcounts or plan.structures or plan.flags:
        rebuild_flags(found, active, clear_only=True, single_source=_counted_once)
        found.storage.flush()
    if plan.structures:
        spare = found.file_clusters // 8
        rebuild_refcounts(found, lambda: _counted(found), spare_clusters=spare)
    elif plan.refcounts or plan.leaks:
        if plan.refcounts:
            _settle(found, lower=False)
            found.storage.flush()
        _settle(found, lower=True)
        found.storage.flush()
    trusted = plan.refcounts or plan.structures or not found.findings.has("refcount-too-low")
    if trusted and (plan.refcounts or plan.structures or plan.flags or plan.leaks):
        rebuild_flags(found, active)  # also where a refcount fell to 1, which lets the flag be set
        found.storage.flush()
    if plan.dirty or plan.corrupt:
        _clear_bits(found, (DIRTY if plan.dirty else 0) | (CORRUPT if plan.corrupt else 0))


def rebuild_dirty(found: Survey) -> None:
    """Make the refcounts of an image with the dirty flag right, and clear the flag.

    Raises UnsupportedError where that can't be done safely.
    """
    plan = plan_repair(found, ALL)
    if plan.refusals:
        raise UnsupportedError(
            f"is marked dirty and can't be mended safely: {plan.refusals[0]}",
            path=found.storage.name,
            hint=f"See 'byre check {found.storage.name}'.",
        )
    apply_repair(found, plan)


def _refusal(problem: Problem, why: str = "not mended: that would be a guess") -> str:
    return f"{problem.message} ({problem.count} times, code {problem.code}): {why}"


def _blocks_missing(found: Survey, refcounts: bool) -> bool:
    """Whether some cluster in use has no refcount block."""
    if not refcounts:
        return False
    stored = found.stored
    for window in found.windows:
        counts = count_all(found, window).counts
        used = np.flatnonzero(np.add.reduceat(counts != 0, np.arange(0, len(counts), stored.per_block)))
        indices = window[0] // stored.per_block + used
        if (indices >= len(stored.blocks)).any() or (stored.blocks[indices] == 0).any():
            return True
    return False


def _actions(plan: RepairPlan, found: Survey, problems: dict[str, Problem]) -> Iterator[str]:
    def count(*codes: str) -> int:
        return sum(problems[code].count for code in codes if code in problems)

    if plan.structures:
        yield "write a new refcount table and new refcount blocks, and switch to them"
    elif plan.refcounts:
        yield f"raise the refcounts of {count('qcow2.refcount-too-low')} clusters"
    if plan.leaks and not plan.structures:
        yield f"lower the refcounts of {found.findings.total(LEAK)} clusters, and give back those that are free"
    if plan.flags:
        yield f"set {count(*_FLAGS)} COPIED flags right"
    if plan.dirty:
        yield "clear the dirty flag"
    if plan.corrupt:
        yield "clear the corrupt flag"


def _counted(found: Survey) -> Iterator[tuple[int, U64Array]]:
    """What is referred to, as refcounts, whole blocks at a time."""
    per_block = found.stored.per_block
    step = max(1, (1 << 19) // per_block) * per_block
    for window in found.windows:
        counts = count_all(found, window).counts
        for start in range(0, len(counts), step):
            piece = counts[start : start + step].astype(np.uint64)
            _require_fit(found, int(piece.max(initial=np.uint64(0))))
            whole = np.zeros(ceil_div(len(piece), per_block) * per_block, dtype=np.uint64)
            whole[: len(piece)] = piece
            yield window[0] + start, whole


def _counted_once(found: Survey, window: tuple[int, int]) -> U8Array:
    once: U8Array = (count_all(found, window).counts == 1).astype(np.uint8)
    return once


def _settle(found: Survey, *, lower: bool) -> None:
    """Set stored refcounts to what was counted, where they are too low, or also where they are too high."""
    stored = found.stored
    for window in found.windows:
        counts = count_all(found, window).counts
        for first, old in stored.slices(*window):
            piece = counts[first - window[0] : first - window[0] + len(old)].astype(np.uint64)
            wanted = old.copy()  # behind the end of the file nothing was counted
            wanted[: len(piece)] = (np.minimum if lower else np.maximum)(old[: len(piece)], piece)
            changed = (wanted != old).reshape(-1, stored.per_block).any(axis=1)
            if not changed.any():
                continue
            _require_fit(found, int(wanted.max()))
            stored.write_blocks(first // stored.per_block, wanted, changed)
            if lower:
                found.give_back(first + np.flatnonzero((wanted == 0) & (old != 0)))


def _require_fit(found: Survey, highest: int) -> None:
    if highest > found.stored.maximum:
        raise UnsupportedError(
            "a cluster has more references than a refcount can hold",
            path=found.storage.name,
            found=highest,
            expected=f"at most {found.stored.maximum}",
        )


def _clear_bits(found: Survey, bits: int) -> None:
    found.header = replace(found.header, incompatible=found.header.incompatible & ~bits)
    found.storage.write(72, found.header.incompatible.to_bytes(8, "big"))
    found.storage.flush()
