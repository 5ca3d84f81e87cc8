"""A boot test's result as values for JSON. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

from byre.machine.watch.observation import BootResult, Stop
from byre.machine.watch.stop_codes import stop_meaning, stop_name


def boot_json(result: BootResult) -> dict[str, Any]:
    """The fields of ``byre/boot/1``. The screenshot isn't among them: it is a file."""
    verdict = result.verdict
    return {
        "image": result.image,
        "target": result.target,
        "machine": result.machine,
        "accelerator": result.accelerator,
        "seconds": round(result.seconds, 1),
        "expected": result.expected,
        "met": result.met,
        "verdict": verdict.kind,
        "stage": verdict.stage,
        "sentence": verdict.sentence,
        "proof": list(verdict.proof),
        "text": verdict.text,
        "degraded": verdict.degraded,
        "stop": _stop(verdict.stop) if verdict.stop is not None else None,
        "timeline": [{**dataclasses.asdict(step), "seconds": round(step.seconds, 1)} for step in result.steps],
        "screen": list(result.screen),
        "serial": list(result.serial),
        "notices": list(result.notices),
    }


def _stop(stop: Stop) -> dict[str, Any]:
    return {
        "code": stop.code,
        "name": stop_name(stop.code),
        "meaning": stop_meaning(stop.code),
        "parameters": list(stop.parameters),
        "driver": stop.driver,
        "text": stop.text,
        "source": stop.source,
    }
