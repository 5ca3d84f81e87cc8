"""What ``byre slim`` says as JSON, and what its page is made of. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from byre.filesystems.base import FileSystem
from byre.lite.hive_editor import DeleteKey, DeleteValue, SetValue
from byre.lite.proof import Proof
from byre.lite.slimming.drives import letter_of
from byre.lite.slimming.guest import SlimGuest
from byre.lite.slimming.parts import Dependent, Left, Part, Reason, RegistryStep, SlimPlan
from byre.lite.slimming.plan import worth

MAX_NAMED = 500
"""Dependents of one component that are named; the counts by kind are of all."""
MAX_PATHS = 1000


def slim_list_payload(image: str, parts: tuple[Part, ...], left: tuple[Left, ...]) -> dict[str, Any]:
    """What ``byre slim --list`` says, of schema ``byre/slim/1``."""
    return {
        "image": image,
        "components": [_part(part, ()) for part in parts],
        "left": [_left(each) for each in left],
        "profiles": dict(worth(parts)),
    }


def slim_payload(
    image: str, profile: str | None, plan: SlimPlan, parts: tuple[Part, ...], guest: SlimGuest, *, dry_run: bool
) -> dict[str, Any]:
    """A plan before it is carried out, of schema ``byre/slim/1``; bytes. Carrying it out fills in the rest."""
    return {
        "image": image,
        "profile": profile,
        "dry_run": dry_run,
        "refused": bool(plan.reasons),
        "parts": [_part(part, plan.steps) for part in plan.parts],
        "allocated": plan.allocated,
        "files": len(plan.files),
        "removed": list(plan.removed),
        "drives": _drives(plan, guest),
        "services": list(plan.services),
        "classes": list(plan.classes),
        "edits": [_edit(step) for step in plan.steps if step.part is None],
        "reasons": [_reason(each) for each in plan.reasons],
        "kept": [_reason(each) for each in plan.kept],
        "left": [_left(each) for each in plan.left],
        "notes": list(plan.notes),
        "profiles": dict(worth(parts)),
        "present": [
            {
                "id": each.component.id,
                "profile": each.component.profile,
                "allocated": each.allocated,
                "files": len(each.files),
            }
            for each in parts
        ],
        "before": None,
        "after": None,
        "proof": None,
        "boot": None,
        "output": None,
        "snapshot": None,
        "give_back": None,
        "advice": None,
    }


def _part(part: Part, steps: Iterable[RegistryStep]) -> dict[str, Any]:
    return {
        "id": part.component.id,
        "title": part.component.title,
        "profile": part.component.profile,
        "allocated": part.allocated,
        "files": len(part.files),
        "dependents": list(part.dependents),
        "consequence": part.component.consequence,
        "source": part.component.source,
        "folders": [
            {
                "path": each.path,
                "files": each.files,
                "allocated": each.allocated,
                "whole": each.whole,
                "names": list(each.names),
            }
            for each in part.folders[:MAX_PATHS]
        ],
        "shortcuts": list(part.shortcuts[:MAX_PATHS]),
        "edits": [_edit(step) for step in steps if step.part == part.component.id],
        "needed_by": _needed_by(part.needed_by),
    }


def _needed_by(dependents: Sequence[Dependent]) -> dict[str, Any]:
    """Counts by kind, apart for what goes along and for what asks only later; then the names."""
    groups = {
        "stop": [each for each in dependents if not each.along and not each.later],
        "along": [each for each in dependents if each.along],
        "later": [each for each in dependents if each.later and not each.along],
    }
    return {
        **{name: dict(Counter(each.kind for each in listed)) for name, listed in groups.items()},
        "named": [
            {"kind": each.kind, "name": each.name, "path": each.path, "along": each.along, "later": each.later}
            for each in [*groups["stop"], *groups["later"], *groups["along"]][:MAX_NAMED]
        ],
    }


def _edit(step: RegistryStep) -> dict[str, Any]:
    edit = step.edit
    data = edit.data.hex() if isinstance(edit, SetValue) else None
    name = edit.name if isinstance(edit, (SetValue, DeleteValue)) else None
    action = "delete-key" if isinstance(edit, DeleteKey) else "delete-value" if data is None else "set-value"
    return {
        "kind": step.kind,
        "action": action,
        "key": edit.key,
        "value": name,
        "type": edit.type if isinstance(edit, SetValue) else None,
        "data": data,
        "said": step.said,
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {"component": reason.part, "path": reason.path, "chain": list(reason.chain)}


def _drives(plan: SlimPlan, guest: SlimGuest) -> list[dict[str, Any]]:
    """What goes from each drive of the guest, the system's first."""
    going = {path.lower() for path in plan.files}
    rows: dict[str | None, list[int]] = {letter: [] for letter in (None, *(each.letter for each in guest.drives))}
    for row in guest.rows:
        if row.path.lower() in going and not row.is_dir:
            rows[letter_of(row.path)].append(row.allocated)
    return [
        {
            "drive": f"{letter or guest.paths.drive}:",
            "partition": partition,
            "type": files.type,
            "system": letter is None,
            "files": len(rows[letter]),
            "allocated": sum(rows[letter]),
        }
        for letter, partition, files in _places(guest)
    ]


def _places(guest: SlimGuest) -> list[tuple[str | None, int, FileSystem]]:
    return [
        (None, guest.partition, guest.files),
        *((each.letter, each.partition, each.files) for each in guest.drives),
    ]


def proof_payload(proof: Proof, guest: SlimGuest) -> dict[str, Any]:
    """The field ``proof`` of ``byre/slim/1``."""
    letters = {partition: f"{letter or guest.paths.drive}:" for letter, partition, _ in _places(guest)}
    return {
        **asdict(proof.files),
        "volumes": [
            {"partition": index, "drive": letters.get(index), **asdict(found)}
            for index, found in sorted(proof.volumes.items())
        ],
        "readers": [{**asdict(each), "drive": letters.get(each.partition)} for each in proof.readers],
        "audit": [{"question": row[0], "before": row[1], "after": row[2]} for row in proof.grades],
    }


def _left(left: Left) -> dict[str, Any]:
    return {
        "component": left.part,
        "why": left.why,
        "files": len(left.files),
        "allocated": left.allocated,
        "paths": list(left.files[:MAX_PATHS]),
    }
