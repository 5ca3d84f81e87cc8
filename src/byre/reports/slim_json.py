"""What ``byre slim`` says as JSON, and what its page is made of. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from byre.lite.proof import Proof
from byre.lite.slim_plan import Part, Reason, SlimPlan, worth


def slim_list_payload(image: str, parts: tuple[Part, ...]) -> dict[str, Any]:
    """What ``byre slim --list`` says, of schema ``byre/slim/1``."""
    return {"image": image, "components": [_part(part) for part in parts], "profiles": dict(worth(parts))}


def slim_payload(
    image: str, profile: str | None, plan: SlimPlan, parts: tuple[Part, ...], *, dry_run: bool
) -> dict[str, Any]:
    """A plan before it is carried out, of schema ``byre/slim/1``; bytes. Carrying it out fills in the rest."""
    return {
        "image": image,
        "profile": profile,
        "dry_run": dry_run,
        "refused": bool(plan.reasons),
        "parts": [_part(part) for part in plan.parts],
        "allocated": plan.allocated,
        "files": len(plan.files),
        "removed": list(plan.removed),
        "services": list(plan.services),
        "classes": list(plan.classes),
        "reasons": [_reason(each) for each in plan.reasons],
        "kept": [_reason(each) for each in plan.kept],
        "profiles": dict(worth(parts)),
        "before": None,
        "after": None,
        "proof": None,
        "boot": None,
        "output": None,
        "snapshot": None,
        "give_back": None,
        "advice": None,
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "id": part.component.id,
        "title": part.component.title,
        "profile": part.component.profile,
        "allocated": part.allocated,
        "files": len(part.files),
        "dependents": list(part.dependents),
        "consequence": part.component.consequence,
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {"component": reason.part, "path": reason.path, "chain": list(reason.chain)}


def proof_payload(proof: Proof) -> dict[str, Any]:
    """The field ``proof`` of ``byre/slim/1``."""
    return {
        **asdict(proof.files),
        "readers": [asdict(each) for each in proof.readers],
        "audit": [{"question": row[0], "before": row[1], "after": row[2]} for row in proof.grades],
    }
