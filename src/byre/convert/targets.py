"""The places that a disk file goes to: how to make one for each, and what each demands of it.

``verify_for_target`` is for any file; ``Target.format`` and ``Target.options`` are what ``convert --for`` makes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from byre.convert.target_profiles import TARGETS
from byre.convert.target_rules import HEAD_BYTES, TAIL_BYTES, FileFacts, Rule, Target
from byre.disks.disk import Disk
from byre.errors import UsageError
from byre.storage.base import Storage


@dataclass(frozen=True, slots=True)
class RuleResult:
    """``verdict``: pass, fail or unknown."""

    rule: Rule
    verdict: str
    found: str


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What a target would make of a file."""

    target: Target
    path: str
    results: tuple[RuleResult, ...]

    def having(self, verdict: str) -> tuple[RuleResult, ...]:
        return tuple(result for result in self.results if result.verdict == verdict)

    @property
    def passed(self) -> bool:
        """Every rule holds; an unknown one doesn't."""
        return all(result.verdict == "pass" for result in self.results)

    @property
    def exit_status(self) -> int:
        """0 every rule holds, 2 one is broken, 1 none is broken but something couldn't be told."""
        return 2 if self.having("fail") else 1 if self.having("unknown") else 0

    def as_json(self) -> dict[str, object]:
        return {
            "target": self.target.name,
            "path": self.path,
            "passed": self.passed,
            "rules": [
                {**rule_json(result.rule), "verdict": result.verdict, "found": result.found}
                for result in self.results
            ],
        }


def rule_json(rule: Rule) -> dict[str, object]:
    """A rule without its function."""
    return {
        "id": rule.id,
        "says": rule.says,
        "reason": rule.reason,
        "source": rule.source,
        "checked": rule.checked,
    }


def target_named(name: str) -> Target:
    """The target of this name; UsageError where there is none."""
    for target in TARGETS:
        if target.name == name.lower():
            return target
    raise UsageError(
        f"there is no target called {name!r}",
        expected=", ".join(target.name for target in TARGETS),
        hint="'byre targets' lists them with their rules.",
    )


def gather(disk: Disk, path: str) -> FileFacts:
    """The facts of an image's own files, opened without its parents; ``path`` is what it is, or will be, called."""
    description = disk.describe()
    storage = disk.files[0]
    size = storage.size
    tail = min(TAIL_BYTES, size)
    return FileFacts(
        name=path,
        format=description.format,
        subformat=description.subformat,
        virtual_size=description.virtual_size,
        sector_size=description.sector_size,
        file_size=size,
        has_holes=_have_holes(disk.files),
        backing=description.backing.name if description.backing else None,
        data_file=description.data_file,
        encrypted=description.encryption is not None,
        snapshots=len(description.snapshots),
        head=storage.read(0, min(HEAD_BYTES, size)),
        tail=storage.read(size - tail, tail),
        extents=() if description.data_file else tuple(PurePath(each.name).name for each in disk.files[1:]),
    )


def _have_holes(files: Sequence[Storage]) -> bool | None:
    """Whether any of the files has holes; None where there is none found and one can't be asked."""
    found = [_has_holes(storage) for storage in files]
    return True if True in found else None if None in found else False


def _has_holes(storage: Storage) -> bool | None:
    """Whether the first range of data isn't the whole file; None where there is no file to ask."""
    if storage.fileno() is None:
        return None
    first = next(iter(storage.data_ranges(0, storage.size)), (0, 0))
    return first != (0, storage.size)


def verify(facts: FileFacts, target: Target) -> TargetReport:
    """Every rule of the target over the facts of one file. Pure."""
    results = []
    for rule in target.rules:
        verdict = rule.check(facts)
        word = "unknown" if verdict.holds is None else "pass" if verdict.holds else "fail"
        results.append(RuleResult(rule, word, verdict.found))
    return TargetReport(target, facts.name, tuple(results))


def verify_for_target(path: str | os.PathLike[str], name: str, *, format: str | None = None) -> TargetReport:
    """Would the target called ``name`` take this file as it is? Opens it read-only, without its parents."""
    from byre.disks.opening import open_disk

    target = target_named(name)
    with open_disk(path, format=format, with_backing=False, force_share=True) as disk:
        return verify(gather(disk, os.fspath(path)), target)
